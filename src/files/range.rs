//! Which bytes of a representation a `Range` header asks for. Pure.
//!
//! Owns: RFC 9110 section 14.1 and 14.2 for the unit `bytes`. Refuses to know: methods, `If-Range`, headers.
//!
//! Several ranges in one header are answered whole: section 14.2 leaves that to the server, and `multipart/byteranges`
//! is asked for by next to nobody but those who want a small request to cost a large answer.

/// A run of bytes that lies within the representation; `len` is zero only for an empty representation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// Offset of the first byte.
    pub(super) start: u64,
    /// How many bytes.
    pub(super) len: u64,
}

/// What a `Range` header comes to for a representation of a given size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ranged {
    /// The header is to be ignored: send everything.
    Whole,
    /// Send this part.
    Part(Span),
    /// The range lies outside.
    Unsatisfiable,
}

/// One `range-spec`, before it meets a size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spec {
    From { first: u64, last: Option<u64> },
    Suffix(u64),
}

/// RFC 9110 section 14.2: a header with an unknown unit or bad syntax is ignored, as if it had not been sent.
pub(super) fn read(value: &[u8], size: u64) -> Ranged {
    match single(value) {
        Some(spec) => spec.within(size),
        None => Ranged::Whole,
    }
}

impl Spec {
    /// RFC 9110 section 14.1.2: a last position beyond the end means the end; a suffix longer than the whole means the
    /// whole.
    fn within(self, size: u64) -> Ranged {
        match self {
            Self::Suffix(0) => Ranged::Unsatisfiable,
            // Satisfiable by the letter, but `Content-Range` has no way to say "no bytes".
            Self::Suffix(_) if size == 0 => Ranged::Whole,
            Self::Suffix(wanted) => {
                let len = wanted.min(size);
                Ranged::Part(Span { start: size - len, len })
            }
            Self::From { first, .. } if first >= size => Ranged::Unsatisfiable,
            Self::From { first, last } => {
                let end = last.map_or(size, |last| last.saturating_add(1).min(size));
                Ranged::Part(Span { start: first, len: end - first })
            }
        }
    }
}

/// The only range of the header; `None` when the header is malformed or holds several.
fn single(value: &[u8]) -> Option<Spec> {
    let text = std::str::from_utf8(value).ok()?;
    let (unit, set) = text.split_once('=')?;
    if !unit.trim_matches(OWS).eq_ignore_ascii_case("bytes") {
        return None;
    }
    // Empty list elements are legal and count for nothing (section 5.6.1.2).
    let mut specs = set.split(',').map(|spec| spec.trim_matches(OWS)).filter(|spec| !spec.is_empty());
    let only = specs.next()?;
    if specs.next().is_some() {
        return None;
    }
    spec(only)
}

const OWS: [char; 2] = [' ', '\t'];

/// `first-pos "-" [ last-pos ]` or `"-" suffix-length`; a last position before the first is bad syntax (section
/// 14.1.1).
fn spec(text: &str) -> Option<Spec> {
    let (first, last) = text.split_once('-')?;
    if first.is_empty() {
        return Some(Spec::Suffix(digits(last)?));
    }
    let first = digits(first)?;
    let last = if last.is_empty() { None } else { Some(digits(last)?) };
    if last.is_some_and(|last| last < first) {
        return None;
    }
    Some(Spec::From { first, last })
}

/// `1*DIGIT`. A number too large for us is larger than any file, and stays so when it is capped.
fn digits(text: &str) -> Option<u64> {
    let numeric = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    numeric.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn part(start: u64, len: u64) -> Ranged {
        Ranged::Part(Span { start, len })
    }

    #[test]
    fn rfc9110_14_1_2_single_ranges_are_cut_to_the_representation() {
        for (value, expected) in [
            ("bytes=0-0", part(0, 1)),
            ("bytes=0-499", part(0, 500)),
            ("bytes=500-999", part(500, 500)),
            ("bytes=500-", part(500, 500)),
            ("bytes=-500", part(500, 500)),
            ("bytes=-5000", part(0, 1000)),
            ("bytes=999-99999", part(999, 1)),
            ("bytes=0-", part(0, 1000)),
            ("BYTES=1-2", part(1, 2)),
            ("bytes= 1-2", part(1, 2)),
            ("bytes=1-2,", part(1, 2)),
            ("bytes=,\t1-2 ,,", part(1, 2)),
            ("bytes=5-18446744073709551615", part(5, 995)),
            ("bytes=5-99999999999999999999999999", part(5, 995)),
            ("bytes=-99999999999999999999999999", part(0, 1000)),
        ] {
            assert_eq!(read(value.as_bytes(), 1000), expected, "{value}");
        }
    }

    #[test]
    fn rfc9110_15_5_17_a_range_outside_is_unsatisfiable() {
        for (value, size) in [
            ("bytes=1000-", 1000),
            ("bytes=1000-1001", 1000),
            ("bytes=-0", 1000),
            ("bytes=0-", 0),
            ("bytes=0-0", 0),
            ("bytes=99999999999999999999999999-", 1000),
        ] {
            assert_eq!(read(value.as_bytes(), size), Ranged::Unsatisfiable, "{value} of {size}");
        }
    }

    #[test]
    fn rfc9110_14_2_unknown_units_and_bad_syntax_are_ignored() {
        for value in [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes=-",
            "bytes=a-b",
            "bytes=1",
            "bytes=2-1",
            "bytes=--1",
            "bytes=1--2",
            "bytes=+1-2",
            "bytes=1-+2",
            "bytes=0x1-2",
            "bytes=1 - 2",
            "lines=1-2",
            "items=0-1",
            "bytes:0-1",
            "=0-1",
            "bytes=1.0-2",
            "bytes=१-२",
        ] {
            assert_eq!(read(value.as_bytes(), 1000), Ranged::Whole, "{value}");
        }
        assert_eq!(read(b"bytes=\xff-1", 1000), Ranged::Whole);
        assert_eq!(read(b"bytes=-1", 0), Ranged::Whole);
    }

    #[test]
    fn rfc9110_14_2_several_ranges_are_answered_whole() {
        for value in ["bytes=0-1,5-6", "bytes=0-,0-,0-,0-", "bytes=5000-,6000-"] {
            assert_eq!(read(value.as_bytes(), 1000), Ranged::Whole, "{value}");
        }
    }

    proptest! {
        #[test]
        fn a_part_always_lies_within_the_representation(value in "bytes=[0-9]{0,21}-[0-9]{0,21}", size in any::<u64>()) {
            if let Ranged::Part(span) = read(value.as_bytes(), size) {
                prop_assert!(span.len > 0);
                prop_assert!(span.start.checked_add(span.len).is_some_and(|end| end <= size));
            }
        }

        #[test]
        fn no_value_panics(value in any::<Vec<u8>>(), size in any::<u64>()) {
            read(&value, size);
        }
    }
}
