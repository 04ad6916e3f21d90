//! Where the token stands: the one `Authorization` field of a request.
//!
//! Owns the reading of that field and nothing of what the token says. RFC 6750 section 2.1, RFC 9110 section 11.

use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::denied::{Cause, HeaderFault};

/// The longest token looked at, in bytes.
pub(super) const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// The token of a request. Another scheme than Bearer counts as no credentials; two fields are two answers to one question.
pub(super) fn extract(headers: &HeaderMap) -> Result<&str, Cause> {
    let mut fields = headers.get_all(AUTHORIZATION).iter();
    let Some(field) = fields.next() else {
        return Err(Cause::MissingCredentials);
    };
    if fields.next().is_some() {
        return Err(Cause::TwoCredentials);
    }
    token_of(field.as_bytes())
}

fn token_of(field: &[u8]) -> Result<&str, Cause> {
    let end = field.iter().position(|byte| matches!(byte, b' ' | b'\t')).unwrap_or(field.len());
    let (scheme, rest) = field.split_at(end);
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        return Err(Cause::MissingCredentials);
    }
    let token = rest.trim_ascii_start();
    if rest[..rest.len() - token.len()].contains(&b'\t') {
        return Err(Cause::MalformedHeader(HeaderFault::Characters));
    }
    if token.is_empty() {
        return Err(Cause::MalformedHeader(HeaderFault::NoToken));
    }
    if token.len() > MAX_TOKEN_BYTES {
        return Err(Cause::OversizedToken);
    }
    if token.contains(&b' ') || token.contains(&b'\t') {
        return Err(Cause::MalformedHeader(HeaderFault::ExtraParts));
    }
    if !is_b64token(token) {
        return Err(Cause::MalformedHeader(HeaderFault::Characters));
    }
    str::from_utf8(token).map_err(|_| Cause::MalformedHeader(HeaderFault::Characters))
}

/// `b64token = 1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="`
fn is_b64token(token: &[u8]) -> bool {
    let padding = token.iter().rev().take_while(|byte| **byte == b'=').count();
    let body = &token[..token.len() - padding];
    // All bytes are looked at, without an early end: so the loop has no branch and costs a fraction of a nanosecond a byte.
    !body.is_empty() && body.iter().fold(true, |good, byte| good & B64TOKEN[usize::from(*byte)])
}

/// Which bytes a b64token may hold before its padding.
const B64TOKEN: [bool; 256] = {
    let mut allowed = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        #[allow(clippy::cast_possible_truncation)] // the loop's bound
        let character = byte as u8;
        allowed[byte] =
            character.is_ascii_alphanumeric() || matches!(character, b'-' | b'.' | b'_' | b'~' | b'+' | b'/');
        byte += 1;
    }
    allowed
};

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn read(fields: &[&[u8]]) -> Result<String, Cause> {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(AUTHORIZATION, HeaderValue::from_bytes(field).unwrap());
        }
        extract(&headers).map(str::to_owned)
    }

    #[test]
    fn the_scheme_compares_without_case() {
        for field in ["Bearer a.b.c", "bearer a.b.c", "BEARER   a.b.c"] {
            assert_eq!(read(&[field.as_bytes()]).unwrap(), "a.b.c");
        }
    }

    #[test]
    fn no_field_and_other_schemes_are_missing_credentials() {
        for fields in [&[][..], &[&b""[..]], &[b"Basic dTpw"], &[b"Bearerx a"], &[b"Token a.b.c"], &[b"a.b.c"]] {
            assert_eq!(read(fields).unwrap_err(), Cause::MissingCredentials);
        }
    }

    #[test]
    fn two_fields_are_refused_even_when_equal_or_of_another_scheme() {
        assert_eq!(read(&[b"Bearer a", b"Bearer a"]).unwrap_err(), Cause::TwoCredentials);
        assert_eq!(read(&[b"Basic a", b"Bearer a"]).unwrap_err(), Cause::TwoCredentials);
    }

    #[test]
    fn a_malformed_field_says_what_is_wrong() {
        let fault = |field: &[u8]| read(&[field]).unwrap_err();
        assert_eq!(fault(b"Bearer"), Cause::MalformedHeader(HeaderFault::NoToken));
        assert_eq!(fault(b"Bearer "), Cause::MalformedHeader(HeaderFault::NoToken));
        assert_eq!(fault(b"Bearer a b"), Cause::MalformedHeader(HeaderFault::ExtraParts));
        assert_eq!(fault(b"Bearer a "), Cause::MalformedHeader(HeaderFault::ExtraParts));
        for field in [&b"Bearer a,b"[..], b"Bearer \"a\"", b"Bearer a=b", b"Bearer ===", b"Bearer a\xff", b"Bearer\ta"]
        {
            assert_eq!(fault(field), Cause::MalformedHeader(HeaderFault::Characters));
        }
    }

    #[test]
    fn an_oversized_token_is_refused_before_it_is_read() {
        let field = |len| format!("Bearer {}", "a".repeat(len)).into_bytes();
        assert_eq!(read(&[&field(MAX_TOKEN_BYTES)]).unwrap().len(), MAX_TOKEN_BYTES);
        assert_eq!(read(&[&field(MAX_TOKEN_BYTES + 1)]).unwrap_err(), Cause::OversizedToken);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(!token_of(&bytes).is_ok_and(str::is_empty));
        }

        #[test]
        fn what_is_accepted_is_a_b64token(rest in "[ \t]{1,3}[a-zA-Z0-9._~+/= ,\"-]{0,40}") {
            if let Ok(token) = token_of(format!("Bearer{rest}").as_bytes()) {
                prop_assert!(!token.is_empty() && is_b64token(token.as_bytes()));
            }
        }
    }
}
