//! The form of a token: JWS compact serialization, read strictly.
//!
//! Owns the three parts and the protected header. Verifies nothing: no key and no claim is known here. `jku`, `x5u`, `jwk` and
//! `x5c` are never looked at: a token does not say where its key is. RFC 7515 sections 3 to 5, RFC 7797, RFC 8725 section 3.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::bearer::MAX_TOKEN_BYTES;
use super::claims::Claims;
use super::denied::{Cause, TokenFault};
use super::json::{Object, Value};

/// The longest `kid` looked up, in bytes.
pub(super) const MAX_KID_BYTES: usize = 256;

/// A token taken apart; nothing of it is proved yet.
#[derive(Debug)]
pub(super) struct Jws<'t> {
    pub(super) header: Header,
    /// `header.payload`, the bytes that were signed.
    pub(super) signing_input: &'t [u8],
    pub(super) payload: Vec<u8>,
    pub(super) signature: Vec<u8>,
}

/// The members of the protected header this gateway acts on.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) object: Object,
    pub(super) alg: Box<str>,
    pub(super) kid: Option<Box<str>>,
    pub(super) typ: Option<Box<str>>,
}

impl<'t> Jws<'t> {
    /// Takes a token apart: exactly three parts, each strict base64url, an unambiguous header that asks for no extension.
    pub(super) fn parse(token: &'t str) -> Result<Self, Cause> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Cause::OversizedToken);
        }
        let (signing_input, signature) = token.rsplit_once('.').ok_or(TokenFault::Parts)?;
        let (header, payload) = signing_input.split_once('.').ok_or(TokenFault::Parts)?;
        if payload.contains('.') {
            return Err(TokenFault::Parts.into());
        }
        Ok(Self {
            header: Header::parse(decode(header)?)?,
            signing_input: signing_input.as_bytes(),
            payload: decode(payload)?,
            signature: decode(signature)?,
        })
    }
}

impl Jws<'_> {
    /// The claims, of which nothing is proved: good for choosing whose keys to try, and for nothing else.
    pub(super) fn claims(&self) -> Result<Claims, Cause> {
        Claims::parse(self.payload.clone())
    }
}

impl Header {
    fn parse(bytes: Vec<u8>) -> Result<Self, Cause> {
        let object = Object::parse(bytes).map_err(TokenFault::Header)?;
        refuse_extensions(&object)?;
        let alg = text(&object, "alg")?.ok_or(TokenFault::HeaderMember("alg"))?;
        let kid = text(&object, "kid")?;
        if kid.as_ref().is_some_and(|kid| kid.len() > MAX_KID_BYTES) {
            return Err(TokenFault::HeaderMember("kid").into());
        }
        let typ = text(&object, "typ")?;
        Ok(Self { object, alg, kid, typ })
    }
}

/// No extension is understood here, so any `crit` must be refused (RFC 7515 section 4.1.11); an unencoded payload and a compressed
/// one would make the signed bytes and the claims differ.
fn refuse_extensions(header: &Object) -> Result<(), Cause> {
    if header.find("crit").is_some() {
        return Err(Cause::UnsupportedHeader("crit"));
    }
    if header.find("b64").is_some_and(|value| value.as_json() != "true") {
        return Err(Cause::UnsupportedHeader("b64"));
    }
    if header.find("zip").is_some() {
        return Err(Cause::UnsupportedHeader("zip"));
    }
    Ok(())
}

/// A header member that must be a string where it is present.
fn text(header: &Object, name: &'static str) -> Result<Option<Box<str>>, Cause> {
    let read = |value: Value<'_>| value.as_str().map(|text| text.into_owned().into_boxed_str());
    header.find(name).map(|value| read(value).ok_or(TokenFault::HeaderMember(name).into())).transpose()
}

/// This engine refuses padding, whitespace and stray trailing bits, so one token has one spelling.
fn decode(part: &str) -> Result<Vec<u8>, Cause> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenFault::Base64.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn with_header(header: &str) -> Result<Header, Cause> {
        let token = format!("{}.e30.AA", URL_SAFE_NO_PAD.encode(header));
        Jws::parse(&token).map(|jws| jws.header)
    }

    #[test]
    fn three_parts_exactly() {
        for token in ["", ".", "e30", "e30.e30", "eyJhbGciOiJIUzI1NiJ9.e30.AA.AA", "eyJhbGciOiJIUzI1NiJ9.e30.AA."] {
            assert_eq!(Jws::parse(token).unwrap_err(), TokenFault::Parts.into(), "{token}");
        }
        Jws::parse("eyJhbGciOiJIUzI1NiJ9.e30.AA").unwrap();
    }

    #[test]
    fn a_part_has_one_spelling() {
        for signature in ["AA==", "AB", " AA", "A A", "A+", "A/", "A", "AA\n"] {
            let token = format!("eyJhbGciOiJIUzI1NiJ9.e30.{signature}");
            assert_eq!(Jws::parse(&token).unwrap_err(), TokenFault::Base64.into(), "{signature:?}");
        }
    }

    #[test]
    fn header_members_must_be_strings_and_alg_present() {
        for (header, member) in [
            ("{}", "alg"),
            (r#"{"alg":null}"#, "alg"),
            (r#"{"alg":["HS256"]}"#, "alg"),
            (r#"{"alg":"HS256","kid":7}"#, "kid"),
            (r#"{"alg":"HS256","typ":{}}"#, "typ"),
        ] {
            assert_eq!(with_header(header).unwrap_err(), TokenFault::HeaderMember(member).into(), "{header}");
        }
    }

    #[test]
    fn a_kid_is_capped() {
        let kid = |len: usize| format!(r#"{{"alg":"HS256","kid":"{}"}}"#, "k".repeat(len));
        assert_eq!(with_header(&kid(MAX_KID_BYTES)).unwrap().kid.unwrap().len(), MAX_KID_BYTES);
        assert_eq!(with_header(&kid(MAX_KID_BYTES + 1)).unwrap_err(), TokenFault::HeaderMember("kid").into());
    }

    proptest! {
        #[test]
        fn no_text_panics(token in "[a-zA-Z0-9_.=-]{0,120}") {
            prop_assert!(Jws::parse(&token).is_err() || token.matches('.').count() == 2);
        }
    }
}
