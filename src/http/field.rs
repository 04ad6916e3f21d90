//! Fields in bytes of their own.
//!
//! A clone of a name or a value counts references to its bytes. Where these are part of what all workers share, every answer would
//! write to a cache line of all cores; so whoever sends one often takes a copy first.

use http::header::{HeaderName, HeaderValue};

/// The same value in bytes that nobody else holds.
pub fn own_value(value: &HeaderValue) -> HeaderValue {
    HeaderValue::from_bytes(value.as_bytes()).expect("it was a value before")
}

/// The same name, likewise.
pub fn own_name(name: &HeaderName) -> HeaderName {
    HeaderName::from_bytes(name.as_str().as_bytes()).expect("it was a name before")
}
