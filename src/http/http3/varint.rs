//! Integers of variable length (RFC 9000 section 16).

/// The longest there is, in bytes.
const LONGEST: usize = 8;

/// An integer that comes byte by byte.
#[derive(Debug, Default)]
pub(super) struct Partial {
    bytes: [u8; LONGEST],
    held: usize,
}

impl Partial {
    /// Takes one more byte; the integer, if it was the last.
    pub(super) fn take(&mut self, byte: u8) -> Option<u64> {
        self.bytes[self.held] = byte;
        self.held += 1;
        let length = 1 << (self.bytes[0] >> 6);
        if self.held < length {
            return None;
        }
        self.held = 0;
        let [first, rest @ ..] = self.bytes;
        let rest = rest[..length - 1].iter();
        Some(rest.fold(u64::from(first & 0x3f), |number, byte| number << 8 | u64::from(*byte)))
    }

    /// Whether an integer has begun and not ended.
    pub(super) fn is_begun(&self) -> bool {
        self.held > 0
    }
}

/// The integers of `bytes`, which must hold whole ones only.
pub(super) fn all(bytes: &[u8]) -> Option<Vec<u64>> {
    let mut partial = Partial::default();
    let numbers = bytes.iter().filter_map(|byte| partial.take(*byte)).collect();
    (!partial.is_begun()).then_some(numbers)
}

/// Appends `number`, which is below 2^62, in its shortest form.
pub(super) fn write(bytes: &mut Vec<u8>, number: u64) {
    let (marked, length) = match number {
        0..0x40 => (number, 1),
        0x40..0x4000 => (number | 1 << 14, 2),
        0x4000..0x4000_0000 => (number | 2 << 30, 4),
        _ => (number | 3 << 62, 8),
    };
    bytes.extend_from_slice(&marked.to_be_bytes()[LONGEST - length..]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_examples_of_rfc_9000_appendix_a1_are_read_and_written() {
        for (bytes, number) in [
            (&b"\xc2\x19\x7c\x5e\xff\x14\xe8\x8c"[..], 151_288_809_941_952_652),
            (b"\x9d\x7f\x3e\x7d", 494_878_333),
            (b"\x7b\xbd", 15_293),
            (b"\x25", 37),
        ] {
            assert_eq!(all(bytes), Some(vec![number]));
            let mut written = Vec::new();
            write(&mut written, number);
            assert_eq!(written, bytes);
        }
        assert_eq!(all(b"\x40\x25"), Some(vec![37]), "longer than need be, and legal");
        assert_eq!(all(b"\x25\x7b"), None, "the second is cut short");
        assert_eq!(all(b""), Some(vec![]));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(numbers in proptest::collection::vec(0u64..1 << 62, 0..10)) {
            let mut bytes = Vec::new();
            for number in &numbers {
                write(&mut bytes, *number);
            }
            prop_assert_eq!(all(&bytes), Some(numbers));
        }
    }
}
