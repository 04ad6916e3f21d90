//! Request ids: unique across workers and restarts, cheap, and never taken from an untrusted client.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use http::HeaderValue;

/// Makes ids of 32 hexadecimal digits. Unguessable enough for tracing; they are not secrets.
#[derive(Debug, Default)]
pub struct RequestIds {
    // Two keyed hashes of a counter: the keys are random per worker, so two workers never count through the same ids.
    high: RandomState,
    low: RandomState,
    count: AtomicU64,
}

impl RequestIds {
    /// The next id.
    pub fn next(&self) -> HeaderValue {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let mut text = [0; 32];
        write_hex(&mut text[..16], self.high.hash_one(count));
        write_hex(&mut text[16..], self.low.hash_one(count));
        HeaderValue::from_bytes(&text).expect("hexadecimal digits are legal in a header value")
    }
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

fn write_hex(text: &mut [u8], number: u64) {
    for (pair, byte) in text.chunks_exact_mut(2).zip(number.to_be_bytes()) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_distinct_and_well_formed() {
        let (one, other) = (RequestIds::default(), RequestIds::default());
        let ids: HashSet<_> = (0..1000).flat_map(|_| [one.next(), other.next()]).collect();
        assert_eq!(ids.len(), 2000);
        assert!(ids.iter().all(|id| id.len() == 32 && id.as_bytes().iter().all(u8::is_ascii_hexdigit)));
    }

    #[test]
    fn hexadecimal_is_padded() {
        let mut text = [0; 16];
        write_hex(&mut text, 0xabc);
        assert_eq!(&text, b"0000000000000abc");
    }
}
