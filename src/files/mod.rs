//! Static files: nothing outside the root, ever.

mod settings;

pub use settings::*;
