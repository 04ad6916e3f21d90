//! Proof that a policy was met.
//!
//! Owns what the upstream is told about who was let through. Only this room can make a [`Permit`], so nothing is forwarded without one.
//! Removing what a client sent in the place of identity headers is done before, elsewhere. RFC 9110 section 5.5.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

use super::access::Place;
use super::bearer::{self, Scheme};
use super::denied::Cause;
use super::identity::{Identity, Statement};
use super::issuer::Issuer;
use super::json::Value;
use super::link;
use super::path::ClaimPath;
use super::place::{self, Found};
use super::policy::TokenPolicy;
use super::revoke::{DenyList, digest_of, token_digest};
use super::standing::Standing;
use super::time::UnixSeconds;
use super::verify::Verified;

/// RFC 9449 section 4.1.
const DPOP: HeaderName = HeaderName::from_static("dpop");

/// Proof that a request met its policy.
#[must_use = "a permit is what the action consumes"]
pub struct Permit(Bearer);

/// Who bears it.
enum Bearer {
    /// Nobody was asked for.
    Public,
    /// A token was welcome and none came.
    Nobody,
    /// Whoever has a signed link.
    Link,
    /// The holder of a token.
    Token(Box<Granted>),
}

struct Granted {
    verified: Arc<Verified>,
    policy: Arc<TokenPolicy>,
    /// The position of the token's issuer among the policy's candidates.
    candidate: usize,
    /// The position of the place where the token stood among the policy's places.
    place: usize,
    /// Its scheme and the token, in the canonical form.
    credential: HeaderValue,
    identity: Vec<(HeaderName, HeaderValue)>,
}

impl Permit {
    /// The permit of a public policy: it knows nobody and changes nothing.
    pub(super) fn public() -> Self {
        Self(Bearer::Public)
    }

    /// The permit of a policy that would have taken a token.
    pub(super) fn nobody() -> Self {
        Self(Bearer::Nobody)
    }

    /// The permit of a link: it knows nobody either.
    pub(super) fn link() -> Self {
        Self(Bearer::Link)
    }

    /// Words the claims as header values now, so that what cannot be worded is refused and not cut short later.
    pub(super) fn grant(
        policy: &Arc<TokenPolicy>,
        candidate: usize,
        verified: Arc<Verified>,
        found: &Found<'_>,
        headers: &HeaderMap,
    ) -> Result<Self, Cause> {
        let identity = identity_of(policy, &verified)?;
        let credential = canonical(headers, found);
        let place = policy.places.iter().position(|place| place == found.place).unwrap_or_default();
        let policy = Arc::clone(policy);
        Ok(Self(Bearer::Token(Box::new(Granted { verified, policy, candidate, place, credential, identity }))))
    }

    /// The subject of the token, as its issuer's `subject_claim` names it; a number reads as it was written.
    pub fn subject(&self) -> Option<&str> {
        self.granted()?.verified.subject.as_deref()
    }

    /// The issuer of the token.
    pub fn issuer(&self) -> Option<&Issuer> {
        self.granted().map(Granted::issuer)
    }

    /// Who issued the token, and what its claim at `path` says, if that is a text, a number or a boolean.
    pub fn claim(&self, path: &ClaimPath) -> Option<(&str, Cow<'_, str>)> {
        let granted = self.granted()?;
        Some((granted.issuer().name(), granted.verified.claims.at(path).and_then(text_of)?))
    }

    /// The moment from which the token would be refused, leeway included.
    pub fn expires_at(&self) -> Option<UnixSeconds> {
        let granted = self.granted()?;
        granted.verified.expires_at(granted.issuer())
    }

    /// The protocol to agree to in a WebSocket's handshake where the upstream agrees to none: a client that named its token among the
    /// protocols has to be answered one of them (RFC 6455 section 4.1).
    pub fn websocket_protocol(&self) -> Option<HeaderValue> {
        let named = *self.granted()?.place() == Place::WebSocketProtocol;
        named.then_some(HeaderValue::from_static(place::WEBSOCKET_PROTOCOL))
    }

    /// What is to be judged again while a long exchange goes on; nothing where nobody was asked for a token.
    pub(super) fn standing(&self, revoked: &Arc<DenyList>) -> Option<Standing> {
        let granted = self.granted()?;
        let token = granted.token();
        Some(Standing {
            revoked: Arc::clone(revoked),
            verified: Arc::clone(&granted.verified),
            policy: Arc::clone(&granted.policy),
            candidate: granted.candidate,
            digests: [token_digest(token), digest_of(token)],
            asked: None,
            expires: self.expires_at(),
        })
    }

    /// Whether the answer is for this client alone because its URL held the token (RFC 6750 section 2.3), or was a link.
    pub fn is_private(&self) -> bool {
        matches!(self.0, Bearer::Link)
            || self.granted().is_some_and(|granted| matches!(granted.place(), Place::Query(_)))
    }

    /// Whether the answer is for this client alone and no cache can tell by the request: only for `Authorization` do shared caches keep
    /// off by themselves (RFC 9111 section 3.5).
    pub fn is_personal(&self) -> bool {
        self.granted().is_some_and(|granted| *granted.place() != Place::Authorization)
    }

    /// The query as it is sent on: without the parameter that held the token, and without those of a link.
    pub fn query<'q>(&self, query: Option<&'q str>) -> Option<Cow<'q, str>> {
        let takes_links = self.granted().is_some_and(|granted| granted.policy.links.is_some());
        if takes_links || matches!(self.0, Bearer::Link) {
            let rest = link::without_link(query?)?;
            return Some(Cow::Owned(match self.granted().map(Granted::place) {
                Some(Place::Query(name)) => place::without_parameter(&rest, name)?,
                _ => rest,
            }));
        }
        match (self.granted().map(Granted::place), query) {
            (Some(Place::Query(name)), Some(query)) => place::without_parameter(query, name).map(Cow::Owned),
            (_, query) => query.map(Cow::Borrowed),
        }
    }

    /// Sets the identity headers and the canonical `Authorization: Bearer TOKEN`, or takes the token out where it is not to be sent on.
    /// A claim that is missing or `null` sets none, an array is joined with `,`, numbers and booleans stand as in the token. Under a public
    /// policy nothing is touched.
    pub fn apply(&self, headers: &mut HeaderMap) {
        match &self.0 {
            Bearer::Public => {}
            Bearer::Nobody | Bearer::Link => remove_unverified(headers),
            Bearer::Token(granted) => granted.apply(headers),
        }
    }

    /// What the gateway says of this request in its own name; of nobody it says nothing. `target` is the path and query as they are sent
    /// on.
    pub fn statement<'i>(&self, identity: &'i Identity, method: &Method, target: &str) -> Option<Statement<'i>> {
        let granted = self.granted()?;
        Some(identity.about(self.subject(), granted.issuer().name(), method, target))
    }

    fn granted(&self) -> Option<&Granted> {
        match &self.0 {
            Bearer::Token(granted) => Some(granted),
            Bearer::Public | Bearer::Nobody | Bearer::Link => None,
        }
    }
}

impl Granted {
    fn issuer(&self) -> &Issuer {
        &self.policy.candidates[self.candidate].issuer
    }

    fn place(&self) -> &Place {
        &self.policy.places[self.place]
    }

    fn token(&self) -> &[u8] {
        let credential = self.credential.as_bytes();
        memchr::memchr(b' ', credential).map_or(credential, |scheme| &credential[scheme + 1..])
    }

    fn apply(&self, headers: &mut HeaderMap) {
        if self.policy.forward.token {
            headers.insert(AUTHORIZATION, self.credential.clone());
            if *self.place() == Place::WebSocketProtocol {
                place::remove(self.place(), headers); // it was never a protocol
            }
        } else {
            place::remove(self.place(), headers);
            remove_unverified(headers);
            headers.remove(DPOP);
        }
        for (name, value) in &self.identity {
            headers.insert(name.clone(), value.clone());
        }
    }
}

impl fmt::Debug for Permit {
    /// A permit holds a credential: only its kind shows.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Bearer::Public => "Permit(public)",
            Bearer::Nobody => "Permit(nobody)",
            Bearer::Link => "Permit(link)",
            Bearer::Token(_) => "Permit(token)",
        })
    }
}

/// A token in a field that the policy did not look at proves nothing and must not look as if it did.
fn remove_unverified(headers: &mut HeaderMap) {
    let ours = |value: &HeaderValue| !matches!(bearer::credentials(value.as_bytes()), Ok(None));
    if headers.get_all(AUTHORIZATION).iter().any(ours) {
        headers.remove(AUTHORIZATION);
    }
}

/// `Bearer TOKEN` or `DPoP TOKEN` with the token's exact bytes: the client's own field where it is already so, which costs no copy.
fn canonical(headers: &HeaderMap, found: &Found<'_>) -> HeaderValue {
    let scheme = match found.scheme {
        Scheme::Bearer => "Bearer ",
        Scheme::Dpop => "DPoP ",
    };
    let is_so = |sent: &&HeaderValue| sent.as_bytes().strip_prefix(scheme.as_bytes()) == Some(found.token);
    let sent = headers.get(AUTHORIZATION).filter(|_| *found.place == Place::Authorization).filter(is_so);
    let mut value = sent.cloned().unwrap_or_else(|| {
        HeaderValue::from_bytes(&[scheme.as_bytes(), found.token].concat())
            .expect("a verified token is visible ASCII, as `bearer::well_formed` proved")
    });
    value.set_sensitive(true);
    value
}

/// The identity headers this token gives rise to, in the policy's order.
pub(super) fn identity_of(policy: &TokenPolicy, verified: &Verified) -> Result<Vec<(HeaderName, HeaderValue)>, Cause> {
    let mut identity = Vec::with_capacity(policy.forward.claims.len());
    for forward in &policy.forward.claims {
        let Some(claim) = verified.claims.at(&forward.claim).filter(|claim| !claim.is_null()) else {
            continue;
        };
        let value = header_value(claim).ok_or_else(|| Cause::UnusableClaim(forward.claim.as_str().into()))?;
        identity.push((forward.header.clone(), value));
    }
    if let Some(header) = &policy.forward.all_claims {
        let value = HeaderValue::from_str(&URL_SAFE_NO_PAD.encode(verified.claims.as_json()));
        identity.push((header.clone(), value.expect("base64url is visible ASCII")));
    }
    Ok(identity)
}

fn header_value(claim: Value<'_>) -> Option<HeaderValue> {
    let Some(elements) = claim.as_array() else {
        return legal(&text_of(claim)?);
    };
    let texts = elements.into_iter().map(element).collect::<Option<Vec<_>>>()?;
    legal(&texts.join(","))
}

/// An element that is empty or holds the separator would read as another list.
fn element(value: Value<'_>) -> Option<Cow<'_, str>> {
    text_of(value).filter(|text| !text.is_empty() && !text.contains(',') && is_trimmed(text))
}

fn text_of(value: Value<'_>) -> Option<Cow<'_, str>> {
    value.as_str().or_else(|| value.is_plain().then(|| Cow::Borrowed(value.as_json())))
}

/// A field value arrives without its outer whitespace, so text that has some would arrive as another text. Characters beyond ASCII
/// go out as UTF-8 (`obs-text`); controls, tab included, are refused.
fn legal(text: &str) -> Option<HeaderValue> {
    let clean = is_trimmed(text) && !text.bytes().any(|byte| byte.is_ascii_control());
    if clean { HeaderValue::from_bytes(text.as_bytes()).ok() } else { None }
}

fn is_trimmed(text: &str) -> bool {
    !text.starts_with(' ') && !text.ends_with(' ')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::super::claims::Claims;
    use super::*;

    fn worded(json: &str) -> Option<Vec<u8>> {
        let claims = Claims::parse(format!(r#"{{"c":{json}}}"#).into_bytes()).unwrap();
        header_value(claims.find("c").unwrap()).map(|value| value.as_bytes().to_vec())
    }

    #[test]
    fn values_are_worded_as_documented() {
        for (json, value) in [
            (r#""ann""#, "ann"),
            (r#""a b""#, "a b"),
            (r#""""#, ""),
            (r#""Zo\u00eb""#, "Zoë"),
            ("9007199254740993", "9007199254740993"),
            ("-1.50", "-1.50"),
            ("true", "true"),
            (r#"["a","b",3]"#, "a,b,3"),
            ("[]", ""),
        ] {
            assert_eq!(worded(json).unwrap(), value.as_bytes(), "{json}");
        }
    }

    #[test]
    fn what_cannot_be_worded_one_way_is_refused_not_truncated() {
        for json in [
            r#""a\r\nX-Admin: 1""#,
            r#""a\u0000""#,
            r#""a\tb""#,
            r#""a\u007f""#,
            r#"" a""#,
            r#""a ""#,
            r#"["a,b"]"#,
            r#"["a",""]"#,
            r#"["a"," b"]"#,
            r#"["a",null]"#,
            r#"["a",["b"]]"#,
            r#"{"a":1}"#,
        ] {
            assert_eq!(worded(json), None, "{json}");
        }
    }

    #[test]
    fn the_field_of_a_canonical_request_is_shared_not_copied() {
        let headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static("Bearer a.b.c"))]);
        let found = Found { token: b"a.b.c", place: &Place::Authorization, scheme: Scheme::Bearer };
        let value = canonical(&headers, &found);
        assert_eq!(value.as_bytes().as_ptr(), headers[AUTHORIZATION].as_bytes().as_ptr());
        assert!(value.is_sensitive());
    }

    #[test]
    fn nobody_sends_on_no_token_that_was_not_looked_at() {
        let left = |value: &'static str| {
            let mut headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static(value))]);
            Permit::nobody().apply(&mut headers);
            headers.contains_key(AUTHORIZATION)
        };
        assert!(!left("Bearer a.b.c") && !left("bearer") && !left("DPoP a.b.c"));
        assert!(left("Basic dTpw"));
    }

    #[test]
    fn a_public_permit_touches_nothing() {
        let mut headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static("Basic dTpw"))]);
        let before = headers.clone();
        Permit::public().apply(&mut headers);
        assert_eq!(headers, before);
        assert_eq!(Permit::public().subject(), None);
    }

    proptest! {
        #[test]
        fn a_string_is_forwarded_whole_or_not_at_all(text in any::<String>()) {
            let json = serde_json::to_string(&text).unwrap();
            if let Some(value) = worded(&json) {
                prop_assert_eq!(value, text.as_bytes());
            }
        }
    }
}
