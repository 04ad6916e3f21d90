//! Field sections as QPACK writes them (RFC 9204), without the dynamic table.
//!
//! The gateway announces a table of no bytes, so every section stands for itself: nothing is remembered between requests, no stream
//! waits for another, and a request can't be made dear by what came before it. Refuses to know what the fields mean.

use super::huffman;
use super::table::{self, ENTRIES, Place};

/// RFC 9114 section 4.2.2: what a field counts beside its name and its value.
const FIELD_OVERHEAD: usize = 32;
/// No length and no index of a section is as large as this.
const LARGEST_NUMBER: u64 = 1 << 32;

/// Why a field section can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum QpackError {
    /// It is not QPACK, or refers to a table that is not there: the connection is over (RFC 9204 section 2.2.3).
    #[error("field section can't be decompressed")]
    Broken,
    /// It is larger than was announced.
    #[error("field section is over its limit")]
    TooLarge,
}

/// Shows each field line of `section` to `field`, in order, as long as they are at most `most_bytes` together.
pub(super) fn decode(section: &[u8], most_bytes: usize, mut field: impl FnMut(&[u8], &[u8])) -> Result<(), QpackError> {
    let mut reader = Reader { rest: section };
    // RFC 9204 section 4.5.1: a required insert count of zero, and then any base.
    if reader.number(8)?.1 != 0 {
        return Err(QpackError::Broken);
    }
    reader.number(7)?;
    let (mut name, mut value, mut left) = (Vec::new(), Vec::new(), most_bytes);
    while let Some(&first) = reader.rest.first() {
        value.clear();
        let name: &[u8] = match first {
            // Section 4.5.2: an indexed field line, of the static table.
            0b1100_0000.. => {
                let (name, plain) = *reader.entry(6)?;
                value.extend_from_slice(plain.as_bytes());
                name.as_bytes()
            }
            // Section 4.5.4: a literal with the name of a static one.
            0b0101_0000..=0b0101_1111 | 0b0111_0000..=0b0111_1111 => {
                let (name, _) = *reader.entry(4)?;
                reader.string(7, &mut value)?;
                name.as_bytes()
            }
            // Section 4.5.6: a literal with a name of its own.
            0b0010_0000..=0b0011_1111 => {
                name.clear();
                reader.string(3, &mut name)?;
                reader.string(7, &mut value)?;
                &name
            }
            // What is left refers to the dynamic table.
            _ => return Err(QpackError::Broken),
        };
        let counted = name.len() + value.len() + FIELD_OVERHEAD;
        left = left.checked_sub(counted).ok_or(QpackError::TooLarge)?;
        field(name, &value);
    }
    Ok(())
}

struct Reader<'s> {
    rest: &'s [u8],
}

impl Reader<'_> {
    fn byte(&mut self) -> Result<u8, QpackError> {
        let (first, rest) = self.rest.split_first().ok_or(QpackError::Broken)?;
        self.rest = rest;
        Ok(*first)
    }

    /// RFC 7541 section 5.1: a number that begins in the last `bits` of a byte, and what stands before it there.
    fn number(&mut self, bits: u32) -> Result<(u8, u64), QpackError> {
        let first = self.byte()?;
        let mask = u8::MAX >> (8 - bits);
        let flags = first & !mask;
        let mut number = u64::from(first & mask);
        if number < u64::from(mask) {
            return Ok((flags, number));
        }
        for shift in (0..).step_by(7) {
            let byte = self.byte()?;
            number += u64::from(byte & 0x7f) << shift;
            if number > LARGEST_NUMBER {
                return Err(QpackError::Broken);
            }
            if byte & 0x80 == 0 {
                return Ok((flags, number));
            }
            if shift > 28 {
                break; // zeros without end
            }
        }
        Err(QpackError::Broken)
    }

    /// The entry of the static table whose index begins in the last `bits` of a byte.
    fn entry(&mut self, bits: u32) -> Result<&'static (&'static str, &'static str), QpackError> {
        let index = usize::try_from(self.number(bits)?.1).map_err(|_| QpackError::Broken)?;
        ENTRIES.get(index).ok_or(QpackError::Broken)
    }

    /// RFC 9204 section 4.1.2: a string whose length begins in the last `bits` of a byte, with a bit before it that says how it is coded.
    fn string(&mut self, bits: u32, into: &mut Vec<u8>) -> Result<(), QpackError> {
        let (flags, length) = self.number(bits)?;
        let length = usize::try_from(length).map_err(|_| QpackError::Broken)?;
        let (string, rest) = self.rest.split_at_checked(length).ok_or(QpackError::Broken)?;
        self.rest = rest;
        if flags & (1 << bits) == 0 {
            into.extend_from_slice(string);
            return Ok(());
        }
        huffman::decode(string, into).map_err(|_| QpackError::Broken)
    }
}

/// Begins a section.
pub(super) fn begin(section: &mut Vec<u8>) {
    section.extend_from_slice(&[0, 0]);
}

/// Appends a field line. Strings are sent plain: the few bytes saved by Huffman's code cost more time than they are worth.
pub(super) fn encode(section: &mut Vec<u8>, name: &str, value: &[u8]) {
    match table::find(name, value) {
        Place::Whole(index) => number(section, 0b1100_0000, 6, index),
        Place::Name(index) => {
            number(section, 0b0101_0000, 4, index);
            string(section, 0, 7, value);
        }
        Place::Nowhere => {
            string(section, 0b0010_0000, 3, name.as_bytes());
            string(section, 0, 7, value);
        }
    }
}

fn string(section: &mut Vec<u8>, flags: u8, bits: u32, string: &[u8]) {
    number(section, flags, bits, string.len());
    section.extend_from_slice(string);
}

fn number(section: &mut Vec<u8>, flags: u8, bits: u32, number: usize) {
    let mask = u8::MAX >> (8 - bits);
    let low = |number: usize| u8::try_from(number & 0x7f).expect("seven bits");
    match u8::try_from(number) {
        Ok(small) if small < mask => section.push(flags | small),
        _ => {
            section.push(flags | mask);
            let mut rest = number - usize::from(mask);
            while rest > 0x7f {
                section.push(0x80 | low(rest));
                rest >>= 7;
            }
            section.push(low(rest));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Fields = Vec<(String, Vec<u8>)>;

    fn decoded(section: &[u8], most: usize) -> Result<Fields, QpackError> {
        let mut fields = Vec::new();
        decode(section, most, |name, value| {
            fields.push((String::from_utf8_lossy(name).into_owned(), value.to_vec()));
        })?;
        Ok(fields)
    }

    fn encoded(fields: &[(&str, &str)]) -> Vec<u8> {
        let mut section = Vec::new();
        begin(&mut section);
        for (name, value) in fields {
            encode(&mut section, name, value.as_bytes());
        }
        section
    }

    #[test]
    fn the_example_of_rfc_9204_appendix_b1_decodes() {
        let section = b"\x00\x00\x51\x0b/index.html";
        assert_eq!(decoded(section, 1000), Ok(vec![(":path".to_owned(), b"/index.html".to_vec())]));
        assert_eq!(encoded(&[(":path", "/index.html")]), section);
    }

    #[test]
    fn each_kind_of_line_is_read_and_written() {
        let fields =
            [(":status", "200"), ("content-type", "text/x"), ("x-own", "1"), ("x-frame-options", "deny"), ("x", "")];
        let section = encoded(&fields);
        let back = decoded(&section, 1000).expect("a section");
        assert_eq!(
            back.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect::<Vec<_>>(),
            fields.map(|(name, value)| (name, value.as_bytes()))
        );
        // A literal whose name and value are coded: custom-key: custom-value (RFC 7541 appendix C.4.3).
        let coded = b"\x00\x00\x2f\x01\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f\x89\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf";
        assert_eq!(decoded(coded, 1000), Ok(vec![("custom-key".to_owned(), b"custom-value".to_vec())]));
        let never_indexed = b"\x00\x00\x71\x01/\x31a\x01b";
        assert_eq!(decoded(never_indexed, 1000).map(|fields| fields.len()), Ok(2));
    }

    #[test]
    fn what_needs_a_dynamic_table_is_refused() {
        for (what, section) in [
            ("a required insert count", &b"\x02\x00\xd1"[..]),
            ("a dynamic index", b"\x00\x00\x80"),
            ("an index behind the base", b"\x00\x00\x10"),
            ("a dynamic name", b"\x00\x00\x40\x01a"),
            ("a dynamic name behind the base", b"\x00\x00\x00\x01a"),
            ("an index beyond the table", b"\x00\x00\xff\x24"),
            ("nothing at all", b""),
            ("half a prefix", b"\x00"),
            ("a string cut short", b"\x00\x00\x51\x0b/in"),
            ("a number without end", b"\x00\x00\xff\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80"),
            ("a number too large", b"\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f"),
            ("a string that is not in the code", b"\x00\x00\x51\x81\x00"),
        ] {
            assert_eq!(decoded(section, 1000), Err(QpackError::Broken), "{what}");
        }
    }

    #[test]
    fn a_section_counts_names_values_and_32_for_each_field() {
        let section = encoded(&[("x-own", "1"), (":status", "200")]);
        let counted = 5 + 1 + 32 + 7 + 3 + 32;
        assert!(decoded(&section, counted).is_ok());
        assert_eq!(decoded(&section, counted - 1), Err(QpackError::TooLarge));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            fields in proptest::collection::vec(("[a-z0-9-]{1,40}", proptest::collection::vec(any::<u8>(), 0..300)), 0..20)
        ) {
            let mut section = Vec::new();
            begin(&mut section);
            for (name, value) in &fields {
                encode(&mut section, name, value);
            }
            prop_assert_eq!(decoded(&section, usize::MAX), Ok(fields));
        }

        #[test]
        fn no_bytes_break_the_decoder(section in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = 0;
            decode(&section, 500, |name, value| bytes += name.len() + value.len()).ok();
            prop_assert!(bytes <= 500);
        }
    }
}
