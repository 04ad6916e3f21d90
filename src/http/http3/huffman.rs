//! The Huffman code of field lines (RFC 7541 section 5.2 and appendix B, which RFC 9204 section 4.1.2 takes over).
//!
//! The code is canonical: of symbols with codes of one length the smaller has the smaller code, and shorter codes come first. So the
//! lengths say everything, and the tables are computed from them when the program is compiled. Only decodes; answers are sent plain.

const SYMBOLS: usize = 256;
const LONGEST: usize = 30;
/// The shortest code there is, as an index and as a number of bits.
const SHORTEST: (usize, u32) = (5, 5);

/// The length of each symbol's code in bits. The end of string, which must not occur, has the last code of 30 bits.
#[rustfmt::skip]
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

/// What is looked up while decoding. Codes stand at the upper end of 32 bits.
struct Tables {
    /// The first code of a length.
    first: [u32; LONGEST + 1],
    /// What is behind the last code of a length: a window below it has a code that is no longer.
    behind: [u32; LONGEST + 1],
    /// Where the symbols of a length begin among the sorted ones.
    offset: [usize; LONGEST + 1],
    /// The symbols by length, then by value.
    sorted: [u8; SYMBOLS],
}

static TABLES: Tables = tables();

#[allow(clippy::cast_possible_truncation)] // a symbol is below 256
const fn tables() -> Tables {
    let mut made =
        Tables { first: [0; LONGEST + 1], behind: [0; LONGEST + 1], offset: [0; LONGEST + 1], sorted: [0; SYMBOLS] };
    let (mut code, mut sorted, mut length) = (0u32, 0, 1);
    while length <= LONGEST {
        code <<= 1;
        made.first[length] = code << (32 - length);
        made.offset[length] = sorted;
        let mut symbol = 0;
        while symbol < SYMBOLS {
            if LENGTHS[symbol] as usize == length {
                made.sorted[sorted] = symbol as u8;
                sorted += 1;
                code += 1;
            }
            symbol += 1;
        }
        made.behind[length] = code << (32 - length);
        length += 1;
    }
    made
}

/// A string that is not in the code: it holds the end of string, or its padding is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotInCode;

/// Appends what `coded` stands for to `plain`: at most eight bytes for each five.
pub(super) fn decode(coded: &[u8], plain: &mut Vec<u8>) -> Result<(), NotInCode> {
    let (mut bits, mut held, mut coded) = (0u64, 0u32, coded.iter());
    loop {
        while held <= 56 {
            let Some(byte) = coded.next() else { break };
            bits |= u64::from(*byte) << (56 - held);
            held += 8;
        }
        let window = u32::try_from(bits >> 32).expect("the upper half of 64 bits");
        match (SHORTEST.0..=LONGEST).zip(SHORTEST.1..).find(|(length, _)| window < TABLES.behind[*length]) {
            Some((length, taken)) if taken <= held => {
                let place = usize::try_from((window - TABLES.first[length]) >> (32 - taken)).map_err(|_| NotInCode)?;
                plain.push(TABLES.sorted[TABLES.offset[length] + place]);
                bits <<= taken;
                held -= taken;
            }
            // RFC 7541 section 5.2: padding is the beginning of the end of string, all ones, and less than a byte of it.
            _ if held < 8 && bits >> (64 - 8) == (0xff << (8 - held)) & 0xff => return Ok(()),
            _ => return Err(NotInCode),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;

    use super::*;

    /// The code of each symbol, from the same lengths, for the way back.
    fn encode(plain: &[u8]) -> Vec<u8> {
        let mut bits = String::new();
        for symbol in plain {
            let length = usize::from(LENGTHS[usize::from(*symbol)]);
            let place = TABLES.sorted[TABLES.offset[length]..].iter().position(|one| one == symbol).expect("a symbol");
            let code = (TABLES.first[length] >> (32 - length)) + u32::try_from(place).expect("a small number");
            write!(bits, "{code:0length$b}").expect("a string takes everything");
        }
        while !bits.len().is_multiple_of(8) {
            bits.push('1');
        }
        let byte = |bits: &[u8]| u8::from_str_radix(std::str::from_utf8(bits).expect("digits"), 2).expect("a byte");
        bits.as_bytes().chunks(8).map(byte).collect()
    }

    fn decoded(coded: &[u8]) -> Option<Vec<u8>> {
        let mut plain = Vec::new();
        decode(coded, &mut plain).ok().map(|()| plain)
    }

    #[test]
    fn the_examples_of_rfc_7541_appendix_c_decode() {
        for (coded, plain) in [
            (&b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff"[..], "www.example.com"),
            (b"\xa8\xeb\x10\x64\x9c\xbf", "no-cache"),
            (b"\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f", "custom-key"),
            (b"\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf", "custom-value"),
            (
                b"\xd0\x7a\xbe\x94\x10\x54\xd4\x44\xa8\x20\x05\x95\x04\x0b\x81\x66\xe0\x82\xa6\x2d\x1b\xff",
                "Mon, 21 Oct 2013 20:13:21 GMT",
            ),
            (b"\x9d\x29\xad\x17\x18\x63\xc7\x8f\x0b\x97\xc8\xe9\xae\x82\xae\x43\xd3", "https://www.example.com"),
            (b"", ""),
        ] {
            assert_eq!(decoded(coded).as_deref(), Some(plain.as_bytes()));
            assert_eq!(encode(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn padding_is_all_ones_and_less_than_a_byte() {
        assert_eq!(decoded(b"\x07"), Some(b"0".to_vec()), "five zeros are `0`, three ones pad it");
        assert_eq!(decoded(b"\x06"), None, "padding with a zero in it");
        assert_eq!(decoded(b"\x00"), None, "padding of zeros");
        assert_eq!(decoded(b"\xff"), None, "a whole byte of padding");
        assert_eq!(decoded(b"\x07\xff"), None, "a byte of padding too many");
        assert_eq!(decoded(b"\xff\xff\xff\xff"), None, "the end of string itself");
        assert_eq!(decoded(b"\xff\xff\xf8"), None, "a code cut short");
    }

    #[test]
    fn the_code_is_complete() {
        let taken: u64 = LENGTHS.iter().map(|length| 1u64 << (LONGEST - usize::from(*length))).sum();
        assert_eq!(taken, (1 << LONGEST) - 1, "every code is somebody's but the end of string");
    }

    proptest! {
        #[test]
        fn every_string_comes_back(plain in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(decoded(&encode(&plain)), Some(plain));
        }

        #[test]
        fn no_bytes_break_the_decoder(coded in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut plain = Vec::new();
            let is_whole = decode(&coded, &mut plain).is_ok();
            prop_assert!(plain.len() * 5 <= coded.len() * 8);
            prop_assert!(!is_whole || encode(&plain) == coded, "one string has one code");
        }
    }
}
