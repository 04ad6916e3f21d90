//! What binds a client to an endpoint: a key in its request, or a cookie that the gateway gave it.
//!
//! Answers for RFC 6265: how a cookie is read (section 5.4) and set (section 4.1). A sealed cookie names an endpoint by a code that only
//! the secret makes from its address, so that it tells nobody an address, and nobody can make one; it is taken out of what the
//! upstream sees. Whoever has one may show it: it chooses among equal servers and proves nothing. Refuses to know who is chosen.

use std::net::IpAddr;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{COOKIE, HeaderMap, HeaderValue};

use super::balance::hash;
use super::{HashOn, StickySettings};

/// What a code is about is told by what it begins with: the same secret may serve elsewhere.
const KIND: &[u8] = b"portcullis-sticky-v1\n";
/// Bytes of a code: half of what HMAC with SHA-256 gives (RFC 2104 section 5).
const CODE_BYTES: usize = 16;

/// What an endpoint is chosen by, as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Affinity(u64);

impl Affinity {
    /// Of some bytes; equal bytes are equal everywhere.
    pub fn of(bytes: &[u8]) -> Self {
        Self(hash(bytes))
    }

    /// What a request is hashed on, if it has it. A claim is known to those who read the token: `claim` is what they found.
    pub(super) fn read(on: &HashOn, headers: &HeaderMap, client: IpAddr, claim: Option<Self>) -> Option<Self> {
        let value = match on {
            HashOn::Header(name) => headers.get(name).map(HeaderValue::as_bytes),
            HashOn::Cookie(name) => cookies(headers).find_map(|pair| value_of(pair, name)),
            HashOn::Claim(_) => return claim,
            HashOn::Client => {
                return Some(match client.to_canonical() {
                    IpAddr::V4(address) => Self::of(&address.octets()),
                    IpAddr::V6(address) => Self::of(&address.octets()),
                });
            }
        };
        value.filter(|value| !value.is_empty()).map(Self::of)
    }

    pub(super) fn number(self) -> u64 {
        self.0
    }
}

/// The cookie that binds a client to one endpoint.
#[derive(Debug)]
pub(super) struct Seal {
    code: Box<str>,
    /// `Set-Cookie` for a client whose connection is not secure, and for one whose is.
    fields: [HeaderValue; 2],
}

impl Seal {
    /// Of the endpoint with this address.
    pub(super) fn new(settings: &StickySettings, address: &str) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, settings.secret.expose());
        let code = hmac::sign(&key, &[KIND, address.as_bytes()].concat());
        let code = URL_SAFE_NO_PAD.encode(&code.as_ref()[..CODE_BYTES]);
        let name = &settings.cookie;
        let field = |also: &str| {
            let text = format!("{name}={code}; Path=/; HttpOnly; SameSite=Lax{also}");
            HeaderValue::from_str(&text).expect("`config` takes no cookie name but a token (RFC 6265 section 4.1.1)")
        };
        Self { fields: [field(""), field("; Secure")], code: code.into() }
    }

    /// What gives it to a client.
    pub(super) fn field(&self, secure: bool) -> HeaderValue {
        self.fields[usize::from(secure)].clone()
    }

    /// Whether this is it.
    pub(super) fn is(&self, shown: &[u8]) -> bool {
        verify_slices_are_equal(self.code.as_bytes(), shown).is_ok()
    }
}

/// Takes every cookie of this name out of a request; whose the first is that is anybody's.
pub(super) fn take_cookie(
    headers: &mut HeaderMap,
    name: &str,
    whose: impl FnMut(&[u8]) -> Option<usize>,
) -> Option<usize> {
    let shown = || cookies(headers).filter_map(|pair| value_of(pair, name));
    shown().next()?;
    let found = shown().find_map(whose);
    let kept: Vec<&[u8]> = cookies(headers).filter(|pair| value_of(pair, name).is_none()).collect();
    let kept = (!kept.is_empty()).then(|| HeaderValue::from_bytes(&kept.join(&b"; "[..])));
    headers.remove(COOKIE);
    if let Some(Ok(kept)) = kept {
        headers.insert(COOKIE, kept);
    }
    found
}

/// The pairs of all cookie lines.
fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let pairs = headers.get_all(COOKIE).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    pairs.map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty())
}

fn value_of<'p>(pair: &'p [u8], name: &str) -> Option<&'p [u8]> {
    let at = pair.iter().position(|byte| *byte == b'=')?;
    (pair[..at].trim_ascii() == name.as_bytes()).then(|| pair[at + 1..].trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::super::SealSecret;
    use super::*;

    fn headers(lines: &[&'static str]) -> HeaderMap {
        lines.iter().map(|line| (COOKIE, HeaderValue::from_static(line))).collect()
    }

    fn seal(secret: &[u8], address: &str) -> Seal {
        Seal::new(&StickySettings { cookie: "srv".into(), secret: SealSecret::new(secret) }, address)
    }

    #[test]
    fn a_request_is_hashed_on_what_it_has() {
        let mut headers = headers(&["a=1; tenant=blue", "tenant=red"]);
        headers.insert("x-tenant", HeaderValue::from_static("blue"));
        headers.insert("x-empty", HeaderValue::from_static(""));
        let client = "192.0.2.7".parse().expect("an address");
        let read = |on| Affinity::read(&on, &headers, client, Some(Affinity(7)));
        assert_eq!(read(HashOn::Cookie("tenant".into())), Some(Affinity::of(b"blue")));
        assert_eq!(read(HashOn::Header("x-tenant".parse().expect("a name"))), Some(Affinity::of(b"blue")));
        assert_eq!(read(HashOn::Header("x-empty".parse().expect("a name"))), None);
        assert_eq!(read(HashOn::Cookie("other".into())), None);
        assert_eq!(read(HashOn::Claim("sub".into())), Some(Affinity(7)));
        let mapped = Affinity::read(&HashOn::Client, &headers, "::ffff:192.0.2.7".parse().expect("an address"), None);
        assert_eq!(read(HashOn::Client), mapped, "one client, however it is written");
    }

    #[test]
    fn a_cookie_names_its_endpoint_and_is_taken_out() {
        let seals = [seal(&[1; 32], "http://a:1"), seal(&[1; 32], "http://b:1")];
        let (first, second) = (&seals[0].code, &seals[1].code);
        let own = |cookie: String| {
            let mut headers = HeaderMap::new();
            headers.insert(COOKIE, HeaderValue::from_str(&cookie).expect("a value"));
            let found = take_cookie(&mut headers, "srv", |shown| seals.iter().position(|seal| seal.is(shown)));
            (found, headers.get(COOKIE).map(|left| left.to_str().expect("text").to_owned()))
        };
        assert_eq!(own(format!("srv={second}")), (Some(1), None));
        assert_eq!(own(format!("a=1; srv={first}; b=2")), (Some(0), Some("a=1; b=2".to_owned())));
        assert_eq!(own(format!("srv=x; srv={second}; a=1")), (Some(1), Some("a=1".to_owned())));
        assert_eq!(own("a=1;srv2=3".to_owned()), (None, Some("a=1;srv2=3".to_owned())), "nothing is touched");
    }

    #[test]
    fn what_no_secret_sealed_names_nobody() {
        let seals = [seal(&[1; 32], "http://a:1")];
        let code = &seals[0].code;
        let other = seal(&[2; 32], "http://a:1");
        for forged in [&code[1..], &format!("{code}A"), "", "http://a:1", &other.code, &code.to_ascii_lowercase()] {
            let mut headers = HeaderMap::new();
            headers.insert(COOKIE, HeaderValue::from_str(&format!("srv={forged}")).expect("a value"));
            let found = take_cookie(&mut headers, "srv", |shown| seals.iter().position(|seal| seal.is(shown)));
            assert_eq!(found, None, "{forged}");
            assert!(headers.is_empty(), "it is taken out all the same");
        }
    }

    #[test]
    fn a_cookie_says_what_it_may_and_no_address() {
        let seal = seal(&[1; 32], "http://10.0.0.7:8000");
        let code = &seal.code;
        assert_eq!(seal.field(false), format!("srv={code}; Path=/; HttpOnly; SameSite=Lax"));
        assert_eq!(seal.field(true), format!("srv={code}; Path=/; HttpOnly; SameSite=Lax; Secure"));
        assert_eq!(code.len(), 22);
    }
}
