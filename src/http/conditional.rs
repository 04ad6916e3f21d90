//! Whether the preconditions of a request hold for the representation as it is now. Pure.
//!
//! Owns: RFC 9110 section 8.8 (validators), 13.1 (the headers) and 13.2.2 (their order). Refuses to know: where
//! validators come from, status codes, methods: who asks answers GET and HEAD only, for which a false `If-None-Match` or
//! `If-Modified-Since` is always "not modified".

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// What identifies the current representation to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validators {
    /// A strong entity tag, quotes included.
    pub etag: HeaderValue,
    /// When it was last modified, in whole seconds since the Unix epoch; `None` when the file system knows no such
    /// time.
    pub modified_secs: Option<u64>,
    /// Whether the modification lies far enough back that no second one can share its time stamp. Only then is a date
    /// as strong as a tag (RFC 9110 section 8.8.2.2).
    pub settled: bool,
}

/// What the preconditions come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Answer as if there were no conditions.
    Proceed,
    /// The client has this representation already.
    NotModified,
    /// The client asked for something this is not.
    Failed,
}

/// RFC 9110 section 13.2.2, steps 1 to 4 in their order. An entity tag makes the date of its kind void.
pub fn evaluate(headers: &HeaderMap, current: &Validators) -> Verdict {
    if !if_match_holds(headers, current) {
        return Verdict::Failed;
    }
    if if_none_match_holds(headers, current) { Verdict::Proceed } else { Verdict::NotModified }
}

/// Step 5, `If-Range` (section 13.1.5): whether `Range` still speaks of this representation. The comparison is strong,
/// so a weak tag never does, nor a date that another modification could share, nor a header that came twice.
pub fn range_applies(headers: &HeaderMap, current: &Validators) -> bool {
    if !headers.contains_key(header::IF_RANGE) {
        return true;
    }
    let Some(value) = only(headers, &header::IF_RANGE) else { return false };
    if value.as_bytes().first() == Some(&b'"') {
        return *value == current.etag;
    }
    let date = date(value);
    current.settled && date.is_some() && date == current.modified_secs
}

/// Steps 1 and 2: `If-Match` (section 13.1.1, strong comparison), or in its absence `If-Unmodified-Since` (section
/// 13.1.4).
fn if_match_holds(headers: &HeaderMap, current: &Validators) -> bool {
    if headers.contains_key(header::IF_MATCH) {
        return any_tag(headers, &header::IF_MATCH, |tag| !tag.weak && tag.quoted == current.etag.as_bytes());
    }
    match (single_date(headers, &header::IF_UNMODIFIED_SINCE), current.modified_secs) {
        (Some(since), Some(modified)) => modified <= since,
        _ => true,
    }
}

/// Steps 3 and 4: `If-None-Match` (section 13.1.2, weak comparison), or in its absence `If-Modified-Since` (section
/// 13.1.3).
fn if_none_match_holds(headers: &HeaderMap, current: &Validators) -> bool {
    if headers.contains_key(header::IF_NONE_MATCH) {
        return !any_tag(headers, &header::IF_NONE_MATCH, |tag| tag.quoted == current.etag.as_bytes());
    }
    match (single_date(headers, &header::IF_MODIFIED_SINCE), current.modified_secs) {
        (Some(since), Some(modified)) => modified > since,
        _ => true,
    }
}

/// One `entity-tag`: `quoted` keeps its quotes.
#[derive(Debug, PartialEq, Eq)]
struct Tag<'v> {
    weak: bool,
    quoted: &'v [u8],
}

/// Whether `*` stands alone or any listed tag passes `test`. What follows a syntax error is not read: an `If-Match`
/// that cannot be understood fails, an `If-None-Match` that cannot be understood costs the client a whole answer; both
/// are the safe side.
fn any_tag(headers: &HeaderMap, name: &HeaderName, test: impl Fn(&Tag<'_>) -> bool) -> bool {
    headers.get_all(name).iter().any(|value| {
        let mut rest = value.as_bytes().trim_ascii();
        if rest == b"*" {
            return true;
        }
        while let Some((tag, after)) = next_tag(rest) {
            if test(&tag) {
                return true;
            }
            rest = after;
        }
        false
    })
}

/// Splits `[ "W/" ] DQUOTE *etagc DQUOTE` and the comma after it off a list (section 8.8.3). A tag may itself hold
/// commas.
fn next_tag(list: &[u8]) -> Option<(Tag<'_>, &[u8])> {
    let list = skip_empty_elements(list);
    let weak = list.starts_with(b"W/");
    let list = if weak { &list[2..] } else { list };
    let close = 1 + list.strip_prefix(b"\"")?.iter().position(|byte| *byte == b'"')?;
    let (quoted, after) = list.split_at(close + 1);
    if !quoted[1..close].iter().all(|byte| matches!(byte, 0x21 | 0x23..=0x7e | 0x80..)) {
        return None;
    }
    let after = after.trim_ascii_start();
    (after.is_empty() || after[0] == b',').then_some((Tag { weak, quoted }, after))
}

fn skip_empty_elements(list: &[u8]) -> &[u8] {
    let start = list.iter().position(|byte| !matches!(byte, b',' | b' ' | b'\t')).unwrap_or(list.len());
    &list[start..]
}

/// Sections 13.1.3 and 13.1.4: a date that is no valid HTTP date, or that came twice, is ignored.
fn single_date(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    only(headers, name).and_then(date)
}

fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    values.next().is_none().then_some(first)
}

fn date(value: &HeaderValue) -> Option<u64> {
    let time = httpdate::parse_http_date(value.to_str().ok()?).ok()?;
    time.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
}

/// `Last-Modified` for a time in seconds. Times no HTTP date can express give `None`.
pub fn http_date(secs: u64) -> Option<HeaderValue> {
    const END_OF_YEAR_9999: u64 = 253_402_300_800;
    let time: SystemTime = UNIX_EPOCH.checked_add(Duration::from_secs(secs)).filter(|_| secs < END_OF_YEAR_9999)?;
    HeaderValue::try_from(httpdate::fmt_http_date(time)).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    fn current() -> Validators {
        Validators { etag: HeaderValue::from_static("\"a-1\""), modified_secs: Some(784_111_777), settled: true }
    }

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    fn check(lines: &[(&'static str, &str)], expected: Verdict) {
        assert_eq!(evaluate(&headers(lines), &current()), expected, "{lines:?}");
    }

    #[test]
    fn no_conditions_always_hold() {
        check(&[], Verdict::Proceed);
        check(&[("accept", "*/*")], Verdict::Proceed);
    }

    #[test]
    fn rfc9110_13_1_1_if_match_compares_strongly() {
        check(&[("if-match", "*")], Verdict::Proceed);
        check(&[("if-match", "\"a-1\"")], Verdict::Proceed);
        check(&[("if-match", "\"x\", \"a-1\"")], Verdict::Proceed);
        check(&[("if-match", "\"x\""), ("if-match", "\"a-1\"")], Verdict::Proceed);
        check(&[("if-match", "W/\"a-1\"")], Verdict::Failed);
        check(&[("if-match", "\"x\"")], Verdict::Failed);
        for malformed in ["a-1", "\"a-1", "w/\"a-1\"", "\"x\" \"a-1\"", "", "\"a b\", \"a-1\""] {
            check(&[("if-match", malformed)], Verdict::Failed);
        }
    }

    #[test]
    fn rfc9110_13_1_2_if_none_match_compares_weakly() {
        for same in ["*", "\"a-1\"", "W/\"a-1\"", "\"x\", W/\"a-1\"", ",,\"x,y\" ,\t\"a-1\",", "\"\", \"a-1\""] {
            check(&[("if-none-match", same)], Verdict::NotModified);
        }
        for other in ["\"x\"", "\"A-1\"", "a-1", "\"a-1", "\"x\"; \"a-1\"", "**", "*, \"x\""] {
            check(&[("if-none-match", other)], Verdict::Proceed);
        }
    }

    #[test]
    fn rfc9110_13_1_3_if_modified_since_compares_seconds() {
        check(&[("if-modified-since", NOW)], Verdict::NotModified);
        check(&[("if-modified-since", LATER)], Verdict::NotModified);
        check(&[("if-modified-since", EARLIER)], Verdict::Proceed);
        check(&[("if-modified-since", "Sunday, 06-Nov-94 08:49:37 GMT")], Verdict::NotModified);
        check(&[("if-modified-since", "Sun Nov  6 08:49:37 1994")], Verdict::NotModified);
        check(&[("if-modified-since", "yesterday")], Verdict::Proceed);
        check(&[("if-modified-since", NOW), ("if-modified-since", LATER)], Verdict::Proceed);
    }

    #[test]
    fn rfc9110_13_1_4_if_unmodified_since_fails_after_a_change() {
        check(&[("if-unmodified-since", NOW)], Verdict::Proceed);
        check(&[("if-unmodified-since", EARLIER)], Verdict::Failed);
        check(&[("if-unmodified-since", "soon")], Verdict::Proceed);
    }

    #[test]
    fn rfc9110_13_2_2_conditions_are_evaluated_in_order() {
        check(&[("if-match", "\"x\""), ("if-none-match", "\"a-1\"")], Verdict::Failed);
        check(&[("if-match", "\"a-1\""), ("if-none-match", "\"a-1\"")], Verdict::NotModified);
        check(&[("if-match", "\"a-1\""), ("if-unmodified-since", EARLIER)], Verdict::Proceed);
        check(&[("if-unmodified-since", EARLIER), ("if-none-match", "\"a-1\"")], Verdict::Failed);
        check(&[("if-none-match", "\"x\""), ("if-modified-since", NOW)], Verdict::Proceed);
        check(&[("if-none-match", "\"a-1\""), ("if-modified-since", EARLIER)], Verdict::NotModified);
    }

    #[test]
    fn rfc9110_13_1_dates_are_ignored_when_the_file_has_none() {
        let undated = Validators { modified_secs: None, ..current() };
        for name in ["if-modified-since", "if-unmodified-since"] {
            assert_eq!(evaluate(&headers(&[(name, EARLIER)]), &undated), Verdict::Proceed);
        }
        assert!(!range_applies(&headers(&[("if-range", NOW)]), &undated));
    }

    #[test]
    fn rfc9110_13_1_5_if_range_compares_strongly_and_exactly() {
        let holds = |value: &str| range_applies(&headers(&[("if-range", value)]), &current());
        assert!(range_applies(&HeaderMap::new(), &current()));
        assert!(holds("\"a-1\""));
        assert!(holds(NOW));
        for other in ["W/\"a-1\"", "\"x\"", EARLIER, LATER, "*", "a-1", ""] {
            assert!(!holds(other), "{other}");
        }
        assert!(!range_applies(&headers(&[("if-range", "\"a-1\""), ("if-range", "\"a-1\"")]), &current()));
    }

    #[test]
    fn rfc9110_8_8_2_2_a_recent_date_is_too_weak_for_if_range() {
        let fresh = Validators { settled: false, ..current() };
        assert!(!range_applies(&headers(&[("if-range", NOW)]), &fresh));
        assert!(range_applies(&headers(&[("if-range", "\"a-1\"")]), &fresh));
    }

    #[test]
    fn rfc9110_5_6_7_dates_are_written_as_imf_fixdate() {
        assert_eq!(http_date(784_111_777).unwrap(), NOW);
        assert!(http_date(253_402_300_799).is_some());
        assert!(http_date(253_402_300_800).is_none());
        assert!(http_date(u64::MAX).is_none());
    }

    proptest! {
        #[test]
        fn no_header_panics_and_no_strange_list_matches(value in "[ !-~\\t\\x80-\\xff]{0,40}") {
            prop_assume!(!value.contains("\"a-1\"") && value.trim() != "*");
            let verdict = |name| {
                let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
                evaluate(&HeaderMap::from_iter([(HeaderName::from_static(name), value)]), &current())
            };
            prop_assert_eq!(verdict("if-match"), Verdict::Failed);
            prop_assert_eq!(verdict("if-none-match"), Verdict::Proceed);
            verdict("if-modified-since");
            verdict("if-unmodified-since");
        }

        #[test]
        fn only_the_tag_or_the_date_keeps_a_range(value in "(W/)?\"?[ !-~]{0,30}\"?") {
            let kept = range_applies(&headers(&[("if-range", &value)]), &current());
            prop_assert!(!kept || value == "\"a-1\"" || value == NOW);
        }

        #[test]
        fn a_list_that_holds_the_tag_is_not_modified(before in proptest::collection::vec("(W/)?\"[!#-~]{0,6}\"", 0..4)) {
            let list = before.into_iter().chain(["\"a-1\"".to_owned()]).collect::<Vec<_>>().join(", ");
            check(&[("if-none-match", &list)], Verdict::NotModified);
        }
    }
}
