//! Which bytes of a representation a `Range` header asks for. Pure.
//!
//! Owns: RFC 9110 section 14.1 and 14.2 for the unit `bytes`. Refuses to know: methods, `If-Range`, headers.
//!
//! Several ranges are put together where they meet or nearly do, so that no byte is sent twice, and many of them are answered whole:
//! sections 14.2 and 15.3.7.2 leave both to the server, and a small request must not cost a large answer.

/// A run of bytes that lies within the representation; `len` is zero only for an empty representation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// Offset of the first byte.
    pub(super) start: u64,
    /// How many bytes.
    pub(super) len: u64,
}

impl Span {
    /// The value of `Content-Range` for this part of `size` bytes (section 14.4). It must not be empty.
    pub(super) fn content_range(self, size: u64) -> String {
        format!("bytes {}-{}/{size}", self.start, self.start + self.len - 1)
    }

    fn end(self) -> u64 {
        self.start + self.len
    }
}

/// What a `Range` header comes to for a representation of a given size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ranged {
    /// The header is to be ignored: send everything.
    Whole,
    /// Send this part.
    Part(Span),
    /// Send these, in this order: at least two, none of them near another.
    Parts(Vec<Span>),
    /// All of it lies outside.
    Unsatisfiable,
}

/// One `range-spec`, before it meets a size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spec {
    From { first: u64, last: Option<u64> },
    Suffix(u64),
}

/// More parts than this are answered whole.
const MOST_PARTS: usize = 16;
/// More ranges than this are not even put together.
const MOST_RANGES: usize = 256;
/// A gap is sent if it is shorter than what stands between two parts.
const WORTH_A_PART: u64 = 80;

/// RFC 9110 section 14.2: a header with an unknown unit or bad syntax is ignored, as if it had not been sent.
pub(super) fn read(value: &[u8], size: u64) -> Ranged {
    let Some(mut specs) = std::str::from_utf8(value).ok().and_then(set) else { return Ranged::Whole };
    let Some(first) = specs.next() else { return Ranged::Whole };
    let Some(second) = specs.next() else { return first.map_or(Ranged::Whole, |first| first.within(size)) };
    let mut spans = Vec::new();
    for (number, spec) in [first, second].into_iter().chain(specs).enumerate() {
        match spec.map(|spec| spec.within(size)) {
            Some(Ranged::Part(span)) if number < MOST_RANGES => spans.push(span),
            Some(Ranged::Unsatisfiable) if number < MOST_RANGES => {}
            _ => return Ranged::Whole,
        }
    }
    put_together(spans)
}

/// What overlaps, touches or nearly touches becomes one part, which stands where the first of its ranges stood (section 15.3.7.2).
fn put_together(spans: Vec<Span>) -> Ranged {
    let mut ordered: Vec<(usize, Span)> = spans.into_iter().enumerate().collect();
    ordered.sort_unstable_by_key(|(_, span)| span.start);
    let mut parts: Vec<(usize, Span)> = Vec::new();
    for (number, span) in ordered {
        match parts.last_mut() {
            Some((place, last)) if span.start < last.end().saturating_add(WORTH_A_PART) => {
                *place = number.min(*place);
                last.len = last.end().max(span.end()) - last.start;
            }
            _ => parts.push((number, span)),
        }
    }
    parts.sort_unstable_by_key(|(place, _)| *place);
    match parts.as_slice() {
        [] => Ranged::Unsatisfiable,
        [(_, only)] => Ranged::Part(*only),
        parts if parts.len() > MOST_PARTS => Ranged::Whole,
        parts => Ranged::Parts(parts.iter().map(|(_, span)| *span).collect()),
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

/// The ranges of the header, each `None` if it is malformed; no set at all if the unit is another one.
fn set(text: &str) -> Option<impl Iterator<Item = Option<Spec>>> {
    let (unit, set) = text.split_once('=')?;
    if !unit.trim_matches(OWS).eq_ignore_ascii_case("bytes") {
        return None;
    }
    // Empty list elements are legal and count for nothing (section 5.6.1.2).
    let specs = set.split(',').map(|spec| spec.trim_matches(OWS)).filter(|spec| !spec.is_empty());
    Some(specs.map(spec))
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
    fn rfc9110_15_3_7_2_several_ranges_are_put_together_where_they_meet() {
        let span = |start, len| Span { start, len };
        for (value, expected) in [
            ("bytes=0-9,500-509", Ranged::Parts(vec![span(0, 10), span(500, 10)])),
            ("bytes=500-509,0-9", Ranged::Parts(vec![span(500, 10), span(0, 10)])),
            ("bytes=0-0,-1", Ranged::Parts(vec![span(0, 1), span(999, 1)])),
            ("bytes=0-9,90-99", Ranged::Parts(vec![span(0, 10), span(90, 10)])),
            ("bytes=0-9,89-99", part(0, 100)),
            ("bytes=0-9,10-19", part(0, 20)),
            ("bytes=10-19,0-9", part(0, 20)),
            ("bytes=0-500,100-200", part(0, 501)),
            ("bytes=0-,0-,0-,0-", part(0, 1000)),
            ("bytes=0-9, 900-, 20-29", Ranged::Parts(vec![span(0, 30), span(900, 100)])),
            ("bytes=900-, 20-29, 0-9", Ranged::Parts(vec![span(900, 100), span(0, 30)])),
            ("bytes=0-9,5000-", part(0, 10)),
            ("bytes=5000-,0-9,-0,700-709", Ranged::Parts(vec![span(0, 10), span(700, 10)])),
            ("bytes=5000-,6000-", Ranged::Unsatisfiable),
            ("bytes=-0,1000-", Ranged::Unsatisfiable),
            ("bytes=0-9,x", Ranged::Whole),
            ("bytes=0-9,500-400", Ranged::Whole),
        ] {
            assert_eq!(read(value.as_bytes(), 1000), expected, "{value}");
        }
        assert_eq!(read(b"bytes=0-1,5-6", 0), Ranged::Unsatisfiable);
        assert_eq!(read(b"bytes=0-1,-1", 0), Ranged::Whole);
    }

    #[test]
    fn rfc9110_14_2_many_ranges_are_answered_whole() {
        let value = |many: usize, step: usize| {
            let ranges: Vec<_> = (0..many).map(|at| format!("{0}-{0}", at * step)).collect();
            format!("bytes={}", ranges.join(","))
        };
        assert!(matches!(read(value(16, 1000).as_bytes(), 1 << 20), Ranged::Parts(parts) if parts.len() == 16));
        assert_eq!(read(value(17, 1000).as_bytes(), 1 << 20), Ranged::Whole);
        assert_eq!(read(value(256, 2).as_bytes(), 1 << 20), part(0, 511));
        assert_eq!(read(value(257, 2).as_bytes(), 1 << 20), Ranged::Whole);
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
        fn parts_hold_what_was_asked_for_and_no_byte_twice(
            ranges in proptest::collection::vec((0..3000u64, 0..600u64), 2..20),
            size in 0..2500u64,
        ) {
            let text: Vec<_> = ranges.iter().map(|(first, more)| format!("{first}-{}", first + more)).collect();
            let mut parts = match read(format!("bytes={}", text.join(",")).as_bytes(), size) {
                Ranged::Parts(parts) => parts,
                Ranged::Part(part) => vec![part],
                Ranged::Unsatisfiable => Vec::new(),
                Ranged::Whole => return Ok(()),
            };
            for (first, more) in ranges.iter().filter(|(first, _)| *first < size) {
                let end = (first + more + 1).min(size);
                prop_assert!(parts.iter().any(|part| part.start <= *first && end <= part.end()));
            }
            parts.sort_unstable_by_key(|part| part.start);
            prop_assert!(parts.windows(2).all(|pair| pair[0].end() + WORTH_A_PART <= pair[1].start));
            prop_assert!(parts.iter().all(|part| part.len > 0 && part.end() <= size));
            prop_assert!(parts.len() <= MOST_PARTS);
        }

        #[test]
        fn no_value_panics(value in any::<Vec<u8>>(), size in any::<u64>()) {
            read(&value, size);
        }
    }
}
