//! The form of credentials: a scheme and a token, or a token alone.
//!
//! Owns the reading of one field and nothing of what the token says. RFC 6750 section 2.1, RFC 9110 section 11.

use super::denied::{Cause, HeaderFault};

/// The longest token looked at, in bytes.
pub(super) const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// How a token is presented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    /// Whoever holds it may use it (RFC 6750).
    Bearer,
    /// With a proof of possession (RFC 9449 section 7.1).
    Dpop,
}

/// The credentials of one `Authorization` field; `None` for another scheme, which is not this room's to judge. Whether the token is
/// [`well_formed`] is asked only of one that is not known already: a known one is equal to one that was.
pub(super) fn credentials(field: &[u8]) -> Result<Option<(Scheme, &[u8])>, Cause> {
    let end = field.iter().position(|byte| matches!(byte, b' ' | b'\t')).unwrap_or(field.len());
    let (name, rest) = field.split_at(end);
    let scheme = if name.eq_ignore_ascii_case(b"bearer") {
        Scheme::Bearer
    } else if name.eq_ignore_ascii_case(b"dpop") {
        Scheme::Dpop
    } else {
        return Ok(None);
    };
    let token = rest.trim_ascii_start();
    if rest[..rest.len() - token.len()].contains(&b'\t') {
        return Err(Cause::MalformedHeader(HeaderFault::Characters));
    }
    bounded(token).map(|token| Some((scheme, token)))
}

/// A token that is there and not too long to be looked at.
pub(super) fn bounded(token: &[u8]) -> Result<&[u8], Cause> {
    if token.is_empty() {
        return Err(Cause::MalformedHeader(HeaderFault::NoToken));
    }
    if token.len() > MAX_TOKEN_BYTES {
        return Err(Cause::OversizedToken);
    }
    Ok(token)
}

/// One b64token and nothing else.
pub(super) fn well_formed(token: &[u8]) -> Result<&str, Cause> {
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
    use proptest::prelude::*;

    use super::*;

    fn read(field: &[u8]) -> Result<Option<(Scheme, String)>, Cause> {
        let Some((scheme, token)) = credentials(field)? else { return Ok(None) };
        well_formed(token).map(|token| Some((scheme, token.to_owned())))
    }

    #[test]
    fn the_scheme_compares_without_case() {
        for field in ["Bearer a.b.c", "bearer a.b.c", "BEARER   a.b.c"] {
            assert_eq!(read(field.as_bytes()).unwrap().unwrap(), (Scheme::Bearer, "a.b.c".to_owned()));
        }
        assert_eq!(read(b"dPoP a.b.c").unwrap().unwrap(), (Scheme::Dpop, "a.b.c".to_owned()));
    }

    #[test]
    fn other_schemes_are_no_credentials_of_ours() {
        for field in [&b""[..], b"Basic dTpw", b"Bearerx a", b"Token a.b.c", b"a.b.c"] {
            assert_eq!(read(field), Ok(None));
        }
    }

    #[test]
    fn a_malformed_field_says_what_is_wrong() {
        let fault = |field: &[u8]| read(field).unwrap_err();
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
        assert_eq!(bounded("a".repeat(MAX_TOKEN_BYTES).as_bytes()).unwrap().len(), MAX_TOKEN_BYTES);
        assert_eq!(bounded("a".repeat(MAX_TOKEN_BYTES + 1).as_bytes()).unwrap_err(), Cause::OversizedToken);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(!well_formed(&bytes).is_ok_and(str::is_empty));
            prop_assert!(!matches!(credentials(&bytes), Ok(Some((_, b"")))));
        }

        #[test]
        fn what_is_accepted_is_a_b64token(rest in "[ \t]{1,3}[a-zA-Z0-9._~+/= ,\"-]{0,40}") {
            if let Ok(Some((_, token))) = read(format!("Bearer{rest}").as_bytes()) {
                prop_assert!(!token.is_empty() && is_b64token(token.as_bytes()));
            }
        }
    }
}
