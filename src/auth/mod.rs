//! Authorization: from a bearer token to a [`Permit`], or a typed refusal.

mod settings;

pub use settings::*;
