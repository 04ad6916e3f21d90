//! Bytes from outside, made safe for one line of a log: legal inside a JSON string, harmless on a terminal.
//!
//! Quotes, backslashes and every character that could end a line or drive a terminal are escaped as in JSON
//! (RFC 8259, section 7): controls, DEL, the C1 controls, line separators and the marks that turn the direction of text.
//! A byte that is no UTF-8 becomes `\xNN`, its backslash escaped.

const HEX: &[u8; 16] = b"0123456789abcdef";

/// The bytes that stand for themselves.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0x20;
    while byte < 0x7f {
        plain[byte] = byte != b'"' as usize && byte != b'\\' as usize;
        byte += 1;
    }
    plain
};

/// Appends `bytes` without quotes around them.
pub(super) fn push_escaped(out: &mut Vec<u8>, bytes: &[u8]) {
    if bytes.iter().all(|byte| PLAIN[usize::from(*byte)]) {
        out.extend_from_slice(bytes);
        return;
    }
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            push_character(out, character);
        }
        for byte in chunk.invalid() {
            out.extend_from_slice(b"\\\\x");
            push_hex(out, *byte);
        }
    }
}

/// Appends `bytes` as a word of a human-readable line: as it is if it reads as one word, quoted otherwise.
pub(super) fn push_word(out: &mut Vec<u8>, bytes: &[u8]) {
    let one_word = !bytes.is_empty() && bytes.iter().all(|byte| *byte != b' ' && PLAIN[usize::from(*byte)]);
    if one_word {
        out.extend_from_slice(bytes);
    } else {
        push_quoted(out, bytes);
    }
}

/// Appends `bytes` as a JSON string.
pub(super) fn push_quoted(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    push_escaped(out, bytes);
    out.push(b'"');
}

/// Appends a number in decimal.
pub(super) fn push_number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = HEX[(number % 10) as usize];
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[first..]);
}

/// Appends a duration in milliseconds with three decimals.
pub(super) fn push_millis(out: &mut Vec<u8>, duration: std::time::Duration) {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    push_number(out, micros / 1000);
    let rest = micros % 1000;
    out.extend_from_slice(&[b'.', digit(rest / 100), digit(rest / 10), digit(rest)]);
}

fn push_character(out: &mut Vec<u8>, character: char) {
    match character {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        _ if is_hostile(character) => {
            let [_, _, high, low] = u32::from(character).to_be_bytes();
            out.extend_from_slice(b"\\u");
            push_hex(out, high);
            push_hex(out, low);
        }
        _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

/// Whether a character could break a line or mislead its reader. All of these are below U+10000.
fn is_hostile(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

fn push_hex(out: &mut Vec<u8>, byte: u8) {
    out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
}

fn digit(number: u64) -> u8 {
    HEX[(number % 10) as usize]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_could_forge_a_line_or_drive_a_terminal_is_escaped() {
        for (bytes, escaped) in [
            (&b"/orders?page=2"[..], "/orders?page=2"),
            (b"a\"b", r#"a\"b"#),
            (b"a\\b", r"a\\b"),
            (b"one\r\ntwo", r"one\r\ntwo"),
            (b"\x1b[31mred", r"\u001b[31mred"),
            (b"nul\0 del\x7f tab\t", r"nul\u0000 del\u007f tab\t"),
            ("caf\u{e9} \u{1f600}".as_bytes(), "caf\u{e9} \u{1f600}"),
            ("\u{9b}31m \u{85}".as_bytes(), r"\u009b31m \u0085"),
            ("\u{2028}\u{2029}\u{202e}\u{2066}\u{feff}".as_bytes(), r"\u2028\u2029\u202e\u2066\ufeff"),
            (b"\xff\xfe ok \xe2\x82", r"\\xff\\xfe ok \\xe2\\x82"),
        ] {
            assert_eq!(written(|out| push_escaped(out, bytes)), escaped);
        }
    }

    #[test]
    fn a_word_is_quoted_when_it_does_not_read_as_one() {
        for (bytes, word) in [(&b"curl/8.5"[..], "curl/8.5"), (b"", "\"\""), (b"a b", "\"a b\""), (b"a\n", r#""a\n""#)]
        {
            assert_eq!(written(|out| push_word(out, bytes)), word);
        }
    }

    #[test]
    fn numbers_and_milliseconds_keep_every_digit() {
        for number in [0, 9, 10, 65_535, u64::MAX] {
            assert_eq!(written(|out| push_number(out, number)), number.to_string());
        }
        for (micros, text) in [(0, "0.000"), (7, "0.007"), (1_042, "1.042"), (30_000_500, "30000.500")] {
            assert_eq!(written(|out| push_millis(out, Duration::from_micros(micros))), text);
        }
    }
}
