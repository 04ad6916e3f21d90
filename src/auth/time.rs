//! Seconds since the Unix epoch, the one clock unit of this room.
//!
//! Owns the comparison of a token's dates with the time of a request. Knows nothing of claims. RFC 7519 section 2 (`NumericDate`).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A moment in seconds since 1970-01-01T00:00:00Z, fractions allowed; always finite and not negative.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct UnixSeconds(f64);

impl UnixSeconds {
    /// 9999-12-31T23:59:59Z, the last second Python's `datetime` can hold: a later date is an error or an attack.
    const LATEST: f64 = 253_402_300_799.0;

    /// A moment given in whole seconds.
    pub fn from_secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs).as_secs_f64())
    }

    /// The system clock, read at the edge of the program.
    pub fn now() -> Self {
        Self::of(SystemTime::now())
    }

    /// What the system clock said; a clock before 1970 reads as 1970.
    pub fn of(time: SystemTime) -> Self {
        Self(time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64())
    }

    /// A `NumericDate` in its JSON spelling; `None` for anything that is no number, negative, or past the year 9999.
    pub(super) fn from_json(text: &str) -> Option<Self> {
        if !text.starts_with(|first: char| first.is_ascii_digit()) {
            return None;
        }
        let secs: f64 = text.parse().ok()?;
        (0.0..=Self::LATEST).contains(&secs).then_some(Self(secs))
    }

    /// This moment moved `secs` later.
    pub(super) fn plus(self, secs: u64) -> Self {
        Self(self.0 + Duration::from_secs(secs).as_secs_f64())
    }

    /// How long it is from this moment to a later one; nothing if that has passed.
    pub(super) fn until(self, later: Self) -> Duration {
        Duration::try_from_secs_f64(later.0 - self.0).unwrap_or_default()
    }

    /// Whole seconds, rounded up.
    pub(super) fn ceil(self) -> u64 {
        Self(self.0.ceil()).as_secs()
    }

    /// Whole seconds, rounded down.
    pub fn as_secs(self) -> u64 {
        Duration::try_from_secs_f64(self.0).map_or(u64::MAX, |since| since.as_secs())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn fractions_and_exponents_are_numbers() {
        assert_eq!(UnixSeconds::from_json("1.5").unwrap(), UnixSeconds(1.5));
        assert_eq!(UnixSeconds::from_json("17e8").unwrap(), UnixSeconds::from_secs(1_700_000_000));
    }

    #[test]
    fn what_is_no_usable_date_is_refused_without_panic() {
        for text in
            ["-1", "-0.5", "1e400", "1e12", "99999999999999999999", "\"1\"", "null", "true", "NaN", "inf", "", "[1]"]
        {
            assert_eq!(UnixSeconds::from_json(text), None, "{text}");
        }
    }

    #[test]
    fn whole_seconds_round_down_and_saturate() {
        assert_eq!(UnixSeconds(1.9).as_secs(), 1);
        assert_eq!(UnixSeconds::from_secs(u64::MAX).plus(u64::MAX).as_secs(), u64::MAX);
    }
}
