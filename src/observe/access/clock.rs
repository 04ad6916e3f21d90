//! RFC 3339 times with milliseconds, the second formatted once and kept.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `2026-01-31T23:59:59.999Z`
const LENGTH: usize = 24;

/// 9999-12-31T23:59:59Z, the last second with four digits of year.
const LAST_SECOND: u64 = 253_402_300_799;

#[derive(Debug)]
pub(super) struct Clock {
    second: u64,
    text: [u8; LENGTH],
}

impl Clock {
    /// The time as text, in UTC. Times before 1970 or after 9999, which only a broken clock gives, show as the nearest.
    pub(super) fn format(&mut self, time: SystemTime) -> &[u8] {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let second = since.as_secs().min(LAST_SECOND);
        if second != self.second {
            *self = Self::at(second);
        }
        let [.., hundreds, tens, ones, _] = &mut self.text;
        let millis = since.subsec_millis();
        *hundreds = digit(millis / 100);
        *tens = digit(millis / 10);
        *ones = digit(millis);
        &self.text
    }

    fn at(second: u64) -> Self {
        let formatted = humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_secs(second)).to_string();
        let mut text = [b'0'; LENGTH];
        for (place, byte) in text.iter_mut().zip(formatted.bytes()) {
            *place = byte;
        }
        Self { second, text }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::at(0)
    }
}

fn digit(number: u32) -> u8 {
    b"0123456789"[(number % 10) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(clock: &mut Clock, millis: u64) -> String {
        String::from_utf8(clock.format(UNIX_EPOCH + Duration::from_millis(millis)).to_vec()).unwrap()
    }

    #[test]
    fn times_are_rfc_3339_in_utc_with_milliseconds() {
        let mut clock = Clock::default();
        for (millis, text) in [
            (7, "1970-01-01T00:00:00.007Z"),
            (951_827_696_123, "2000-02-29T12:34:56.123Z"),
            (951_827_696_999, "2000-02-29T12:34:56.999Z"),
            (1_769_903_999_050, "2026-01-31T23:59:59.050Z"),
            (951_827_696_100, "2000-02-29T12:34:56.100Z"),
        ] {
            assert_eq!(format(&mut clock, millis), text);
        }
    }

    #[test]
    fn a_broken_clock_still_gives_a_time() {
        let mut clock = Clock::default();
        assert_eq!(clock.format(UNIX_EPOCH - Duration::from_secs(1)), b"1970-01-01T00:00:00.000Z");
        assert_eq!(&format(&mut clock, u64::MAX)[..19], "9999-12-31T23:59:59");
    }
}
