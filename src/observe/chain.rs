//! An error with its causes, as an operator reads it.

use std::error::Error;
use std::fmt;

/// Shows an error and all its sources on one line. Errors here print their own level only, so nothing is said twice.
#[derive(Debug)]
pub struct Chain<'a>(pub &'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] std::num::ParseIntError);

    #[test]
    fn every_level_is_shown_once() {
        let error = Outer("x".parse::<u8>().unwrap_err());
        assert_eq!(Chain(&error).to_string(), "outer: invalid digit found in string");
    }
}
