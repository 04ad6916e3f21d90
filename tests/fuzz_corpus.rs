//! What the fuzzers throw at the judge and at the door, thrown with random bytes by the stable compiler: every entry point, good tokens with changes.

#![allow(clippy::unwrap_used)]

#[allow(unreachable_pub)] // it is a crate of its own in `fuzz/`
#[path = "../fuzz/src/lib.rs"]
mod entry;

use proptest::prelude::*;

/// A few changes of four bytes each.
fn changes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<[u8; 4]>(), 0..4).prop_map(|changes| changes.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_changed_token_never_passes_and_nothing_panics(kind in any::<u8>(), place in any::<u8>(), changes in changes()) {
        entry::authorize(&[&[kind & !1, place], &changes[..]].concat());
    }

    #[test]
    fn a_changed_proof_never_holds(changes in changes()) {
        entry::dpop(&[&[0], &changes[..]].concat());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        entry::authorize(&bytes);
        entry::jwks(&bytes);
        entry::dpop(&bytes);
        entry::proxy_header(&bytes);
        entry::http3(&bytes);
    }

    #[test]
    fn no_header_panics(
        command in 0x1fu8..0x24, family in any::<u8>(), length in 0u16..260, rest in prop::collection::vec(any::<u8>(), 0..300),
        line in "PROXY (TCP4|TCP6|UNKNOWN) [0-9a-f:. ]{0,60}\r\n",
    ) {
        let fixed = [b"\r\n\r\n\0\r\nQUIT\n", &[command, family][..], &length.to_be_bytes()].concat();
        entry::proxy_header(&[&fixed, &rest[..]].concat());
        entry::proxy_header(&[line.as_bytes(), &rest].concat());
    }

    #[test]
    fn no_stream_of_http3_panics(
        kind in any::<u8>(), frames in prop::collection::vec((0u8..4, prop::collection::vec(any::<u8>(), 0..60)), 0..6), cut in any::<u16>(),
    ) {
        let frame = |(kind, payload): &(u8, Vec<u8>)| {
            [&[*kind, u8::try_from(payload.len()).unwrap()], &payload[..]].concat()
        };
        let stream = frames.iter().map(frame).collect::<Vec<_>>().concat();
        entry::http3(&[&[kind], &stream[..stream.len() - usize::from(cut) % (stream.len() + 1)]].concat());
    }

    #[test]
    fn no_key_set_panics(
        kty in "RSA|EC|OKP|oct|AKP", crv in "P-256|P-384|P-521|Ed25519|x", bytes in prop::collection::vec(any::<u8>(), 0..300),
        other in prop::collection::vec(any::<u8>(), 0..70), cut in any::<u16>(),
    ) {
        use base64::Engine as _;
        let text = |bytes: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
        let key = serde_json::json!({
            "kty": kty, "crv": crv, "kid": "k", "n": text(&bytes), "e": text(&other[..other.len().min(4)]), "k": text(&other),
            "x": text(&bytes[..bytes.len().min(32)]), "y": text(&other[..other.len().min(32)]),
        });
        let set = serde_json::json!({ "keys": [key, key] }).to_string();
        entry::jwks(set.as_bytes());
        entry::jwks(&set.as_bytes()[..usize::from(cut) % set.len()]);
    }
}

#[test]
fn what_is_not_changed_passes_and_holds() {
    let passed = |token: u8| (0..=u8::MAX).filter(|place| entry::authorize(&[token << 2, *place])).count();
    for token in 0..3 {
        assert!(passed(token) > 5, "{} for token {token}", passed(token));
    }
    assert_eq!(passed(3), 0, "bound to a key that nobody shows");
    assert!(entry::dpop(&[0]));
    assert!(entry::proxy_header(b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2\r\nGET"));
    let head = b"\x01\x10\0\0\xd1\xd7\xc1\x50\x09site.test";
    assert!(entry::http3(&[&[0], &head[..]].concat()));
    assert!(entry::http3(&[&[3 << 1 | 1], &head[..], b"\0\x03abc"].concat()));
}
