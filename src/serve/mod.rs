//! Serving one connection: limits, dispatch and answers.

mod settings;

pub use settings::*;
