//! How long an answer says it is good for (RFC 9111 sections 4.2.1, 5.1 and 5.2.2).
//!
//! Owns the reading of `Cache-Control` and `Age` as a private cache reads them: `s-maxage` is for others. Knows no bounds: the
//! caller decides how much of it to believe.

use std::time::Duration;

use http::HeaderMap;
use http::header::{AGE, CACHE_CONTROL};

/// Anything longer is as good as for ever (RFC 9111 section 1.2.2).
const LONGEST_SECS: u64 = 1 << 31;

/// What is left of `max-age`; zero where the answer must not be kept or contradicts itself; `None` where it says nothing.
pub(super) fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let mut shortest: Option<u64> = None;
    for line in headers.get_all(CACHE_CONTROL) {
        // What cannot be read cannot be trusted to be fresh.
        let Ok(line) = line.to_str() else { return Some(Duration::ZERO) };
        for directive in line.split(',') {
            let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
            let name = name.trim();
            if name.eq_ignore_ascii_case("no-store") || name.eq_ignore_ascii_case("no-cache") {
                return Some(Duration::ZERO);
            }
            if name.eq_ignore_ascii_case("max-age") {
                let secs = seconds(value).unwrap_or(0);
                shortest = Some(shortest.map_or(secs, |other| other.min(secs)));
            }
        }
    }
    let age = headers.get(AGE).and_then(|age| seconds(age.to_str().ok()?)).unwrap_or(0);
    shortest.map(|secs| Duration::from_secs(secs.saturating_sub(age)))
}

/// Digits alone, perhaps in quotes; too many of them mean the longest time there is.
fn seconds(text: &str) -> Option<u64> {
    let digits = text.trim().trim_matches('"');
    let number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    number.then(|| digits.parse().unwrap_or(LONGEST_SECS).min(LONGEST_SECS))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn read(lines: &[(HeaderName, &str)]) -> Option<u64> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name.clone(), HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        max_age(&headers).map(|age| age.as_secs())
    }

    #[test]
    fn what_is_left_is_max_age_less_age() {
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[(CACHE_CONTROL, "public, must-revalidate")]), None);
        assert_eq!(read(&[(CACHE_CONTROL, "public, Max-Age=300"), (AGE, "100")]), Some(200));
        assert_eq!(read(&[(CACHE_CONTROL, "max-age=\"60\"")]), Some(60));
        assert_eq!(read(&[(CACHE_CONTROL, "max-age=300"), (AGE, "9000")]), Some(0));
        assert_eq!(read(&[(CACHE_CONTROL, "max-age=300"), (AGE, "soon")]), Some(300));
        assert_eq!(read(&[(CACHE_CONTROL, "s-maxage=9")]), None);
        assert_eq!(read(&[(CACHE_CONTROL, "max-age=99999999999999999999999")]), Some(LONGEST_SECS));
    }

    #[test]
    fn what_must_not_be_kept_or_contradicts_itself_is_stale_at_once() {
        for line in
            ["no-store", "max-age=60, No-Cache", "no-cache=\"set-cookie\"", "max-age", "max-age=-1", "max-age=x"]
        {
            assert_eq!(read(&[(CACHE_CONTROL, line)]), Some(0), "{line}");
        }
        assert_eq!(read(&[(CACHE_CONTROL, "max-age=300, max-age=20")]), Some(20));
        assert_eq!(read(&[(CACHE_CONTROL, "max-age=300"), (CACHE_CONTROL, "no-store")]), Some(0));
        assert_eq!(read(&[(CACHE_CONTROL, "max-age=300\u{e9}")]), Some(0));
    }
}
