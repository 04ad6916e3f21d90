//! Why a request was not let through.
//!
//! Owns the closed list of reasons and what an answer needs to word them. Knows no status codes and no bodies; never holds a
//! claim's value or a token, so it can be logged whole. RFC 6750 section 3.

use std::fmt;
use std::sync::Arc;

use super::bearer::Scheme;
use super::dpop::{ProofFault, Replay};
pub use super::json::JsonFault;
use super::link::LinkFault;
use super::settings::Style;

/// A refusal: its cause, and how the issuer wants it worded.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{cause}")]
pub struct Denied {
    cause: Cause,
    scheme: Scheme,
    challenge: Arc<Challenge>,
    nonce: Option<Box<str>>,
}

/// What went wrong; one variant a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// No `Authorization` field, or another scheme than Bearer.
    #[error("no bearer token was sent")]
    MissingCredentials,
    /// `Authorization: Bearer` without one well-formed token.
    #[error("the authorization header {0}")]
    MalformedHeader(HeaderFault),
    /// More than one `Authorization` field.
    #[error("more than one authorization header was sent")]
    TwoCredentials,
    /// A token longer than 16 KiB.
    #[error("the token is longer than 16 KiB")]
    OversizedToken,
    /// Not a JWS in compact form with a readable header and claims.
    #[error("the token is malformed: {0}")]
    MalformedToken(TokenFault),
    /// `alg` is none of the issuer's.
    #[error("the token's algorithm is not allowed")]
    AlgorithmNotAllowed,
    /// The header asks for an extension this gateway does not implement.
    #[error("the token's header asks for `{0}`, which is not supported")]
    UnsupportedHeader(&'static str),
    /// The header's `typ` is none of the issuer's.
    #[error("the token's `typ` is not accepted")]
    WrongTyp,
    /// No key of the issuer fits the token's `kid` and `alg`.
    #[error("no key of the issuer fits the token")]
    UnknownKey,
    /// The signature is not one of the issuer's keys over these bytes.
    #[error("the signature does not verify")]
    BadSignature,
    /// A registered claim of the wrong type or out of range.
    #[error("claim `{0}` is not a usable date")]
    MalformedClaim(&'static str),
    /// `exp` has passed.
    #[error("the token has expired")]
    Expired,
    /// `nbf` or `iat` lies in the future.
    #[error("the token is not valid yet (`{0}`)")]
    NotYetValid(&'static str),
    /// `iss` is another.
    #[error("the token is another issuer's")]
    WrongIssuer,
    /// `aud` holds none of the accepted audiences.
    #[error("the token is for another audience")]
    WrongAudience,
    /// A claim the issuer's settings demand is not there.
    #[error("claim `{0}` is missing")]
    MissingClaim(Box<str>),
    /// The claim that tells token kinds apart names another kind, such as a refresh token.
    #[error("claim `{0}` names another kind of token")]
    WrongTokenType(Box<str>),
    /// A claim is not what the issuer's settings demand of every token.
    #[error("claim `{0}` is not what every token of this issuer must say")]
    ClaimRefused(Box<str>),
    /// The token is good, but a claim is missing or is not what this route asks.
    #[error("claim `{0}` does not meet what the route asks")]
    DemandUnmet(Box<str>),
    /// The token is good, but the path is not one that its claims open.
    #[error("the path is not the token's own")]
    NotOwnPath,
    /// The token is good, but lacks a scope this route asks.
    #[error("the token lacks a scope the route asks")]
    InsufficientScope,
    /// A claim that is to be forwarded cannot stand in a header field.
    #[error("claim `{0}` cannot be forwarded in a header")]
    UnusableClaim(Box<str>),
    /// The issuer was asked about the token and does not stand by it.
    #[error("the issuer says that the token is not active")]
    InactiveToken,
    /// The token, or its subject, was revoked.
    #[error("the token was revoked")]
    Revoked,
    /// The token is bound to a key or certificate and came without proof of it.
    #[error("the token is bound to {0}, which the request does not prove to hold")]
    BoundToken(Holder),
    /// The proof of possession does not hold.
    #[error("the proof of possession does not hold")]
    Proof(#[source] Box<ProofFault>),
    /// The proof of possession was used before, or no more can be remembered.
    #[error(transparent)]
    Replay(Replay),
    /// The proof of possession holds no nonce of this gateway, or an old one.
    #[error("the proof of possession needs a fresh nonce")]
    NonceNeeded,
    /// A proof of possession came with a token that is bound to no key, or binding is demanded and there is none.
    #[error("the token is bound to no key")]
    UnboundToken,
    /// A browser sent a cookie's token on behalf of another site.
    #[error("a cookie's token was sent by another site, or by a client that does not say by which")]
    CrossOrigin,
    /// A signed link is needed, or the one there is is not good.
    #[error(transparent)]
    Link(LinkFault),
    /// The issuer's keys are not to be had now.
    #[error("the issuer's keys are not available")]
    KeysUnavailable,
    /// The issuer cannot be asked about the token now, or its answer cannot be understood.
    #[error("the issuer cannot be asked about the token")]
    IntrospectionUnavailable,
}

/// What a token is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Holder {
    /// The holder of a key.
    #[error("a key")]
    Key,
    /// The holder of a client certificate.
    #[error("a client certificate")]
    Certificate,
    /// Something this gateway knows no proof for.
    #[error("something unknown")]
    Unknown,
}

/// What is wrong with a Bearer header field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderFault {
    /// The scheme stands alone.
    #[error("holds no token")]
    NoToken,
    /// More than scheme and token.
    #[error("holds more than a scheme and a token")]
    ExtraParts,
    /// A byte outside the b64token alphabet.
    #[error("holds a character no token has")]
    Characters,
}

/// What is wrong with the form of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// Not three parts.
    #[error("it has not exactly three parts")]
    Parts,
    /// A part is not unpadded, canonical base64url.
    #[error("a part is not strict base64url")]
    Base64,
    /// The header cannot be read one way only.
    #[error("its header cannot be read: {0}")]
    Header(JsonFault),
    /// A header member is missing, too long, or no string.
    #[error("header member `{0}` is missing or unusable")]
    HeaderMember(&'static str),
    /// The claims cannot be read one way only.
    #[error("its claims cannot be read: {0}")]
    Claims(JsonFault),
}

impl From<TokenFault> for Cause {
    fn from(fault: TokenFault) -> Self {
        Self::MalformedToken(fault)
    }
}

/// The ways a refusal is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Nothing was presented: challenge without an error code.
    Missing,
    /// The request itself is wrong: `invalid_request`.
    BadRequest,
    /// The token is not good: `invalid_token`.
    InvalidToken,
    /// The token is good for less: `insufficient_scope` with the scope needed.
    InsufficientScope,
    /// The token is good, its holder may not pass here.
    Forbidden,
    /// The proof of possession is not good: `invalid_dpop_proof` (RFC 9449 section 7.1).
    InvalidProof,
    /// The proof of possession needs a nonce: `use_dpop_nonce` (RFC 9449 section 9).
    NonceNeeded,
    /// There is no signed link, or not one that is good here.
    BadLink,
    /// The signed link was good.
    ExpiredLink,
    /// Another site sent the request: no token would help.
    CrossOrigin,
    /// Nothing can be said of the token now; the client may try again.
    Unavailable,
}

/// How a policy wants its refusals worded; shared by every refusal of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Challenge {
    pub(super) style: Style,
    pub(super) realm: Box<str>,
    pub(super) subject_claim: Box<str>,
    /// The route's scopes, space-delimited as RFC 6750 wants them; empty when it asks none.
    pub(super) scope: Box<str>,
    pub(super) resource_metadata: Option<Box<str>>,
    pub(super) login_url: Option<Box<str>>,
    /// How a token is to be presented where none was.
    pub(super) scheme: Scheme,
}

impl Denied {
    /// Every value of [`Self::reason`], for metrics to resolve their series once.
    pub const REASONS: [&'static str; 51] = [
        "missing_credentials",
        "malformed_header",
        "two_credentials",
        "oversized_token",
        "malformed_token",
        "algorithm_not_allowed",
        "unsupported_header",
        "wrong_token_type",
        "unknown_key",
        "bad_signature",
        "malformed_claim",
        "expired",
        "not_yet_valid",
        "wrong_issuer",
        "wrong_audience",
        "missing_claim",
        "claim_refused",
        "demand_unmet",
        "own_path",
        "insufficient_scope",
        "unusable_claim",
        "inactive_token",
        "revoked",
        "bound_token",
        "unbound_token",
        "cross_origin",
        "keys_unavailable",
        "proof_missing",
        "proof_repeated",
        "proof_malformed",
        "proof_type",
        "proof_algorithm",
        "proof_no_key",
        "proof_key",
        "proof_signature",
        "proof_claim",
        "proof_method",
        "proof_address",
        "proof_too_old",
        "proof_future",
        "proof_token",
        "proof_replayed",
        "proof_memory_full",
        "proof_nonce",
        "introspection_unavailable",
        "link_missing",
        "link_malformed",
        "link_method",
        "link_signature",
        "link_expired",
        "link_lifetime",
    ];

    pub(super) fn new(cause: Cause, scheme: Scheme, challenge: Arc<Challenge>) -> Self {
        let scheme = if cause.is_about_proof() { Scheme::Dpop } else { scheme };
        Self { cause, scheme, challenge, nonce: None }
    }

    /// The same refusal with the nonce to use in the next proof.
    pub(super) fn with_nonce(self, nonce: String) -> Self {
        Self { nonce: Some(nonce.into()), ..self }
    }

    /// The nonce to use in the next proof (RFC 9449 section 9).
    pub fn nonce(&self) -> Option<&str> {
        self.nonce.as_deref()
    }

    /// What went wrong, for logs; its text names claims but never their values.
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// The cause as one of [`Self::REASONS`].
    pub fn reason(&self) -> &'static str {
        self.cause.reason()
    }

    /// How it is to be answered.
    pub fn kind(&self) -> Kind {
        self.cause.kind()
    }

    /// The issuer's style of answering.
    pub fn style(&self) -> Style {
        self.challenge.style
    }

    /// The `realm` of the challenge.
    pub fn realm(&self) -> &str {
        &self.challenge.realm
    }

    /// The scopes the route asks, space-delimited, when lacking them is the cause.
    pub fn scope(&self) -> Option<&str> {
        (self.cause == Cause::InsufficientScope).then_some(&*self.challenge.scope)
    }

    /// The authentication scheme of the challenge: `Bearer` or `DPoP`.
    pub fn scheme(&self) -> &'static str {
        match self.scheme {
            Scheme::Bearer => "Bearer",
            Scheme::Dpop => "DPoP",
        }
    }

    /// The URL of the protected resource's metadata (RFC 9728 section 5.1).
    pub fn resource_metadata(&self) -> Option<&str> {
        self.challenge.resource_metadata.as_deref()
    }

    /// Where a browser is to be sent instead, when logging in would help; `{url}` stands for where it wanted to go.
    pub fn login_url(&self) -> Option<&str> {
        let helps = matches!(self.kind(), Kind::Missing | Kind::InvalidToken);
        self.challenge.login_url.as_deref().filter(|_| helps)
    }

    pub(super) fn subject_claim(&self) -> &str {
        &self.challenge.subject_claim
    }
}

impl Cause {
    /// Whether a proof of possession is what lacks or fails.
    fn is_about_proof(&self) -> bool {
        matches!(self, Self::BoundToken(Holder::Key) | Self::Proof(_) | Self::Replay(_) | Self::NonceNeeded)
    }

    /// The cause as one of [`Denied::REASONS`].
    pub fn reason(&self) -> &'static str {
        match self {
            Self::MissingCredentials => "missing_credentials",
            Self::MalformedHeader(_) => "malformed_header",
            Self::TwoCredentials => "two_credentials",
            Self::OversizedToken => "oversized_token",
            Self::MalformedToken(_) => "malformed_token",
            Self::AlgorithmNotAllowed => "algorithm_not_allowed",
            Self::UnsupportedHeader(_) => "unsupported_header",
            Self::WrongTyp | Self::WrongTokenType(_) => "wrong_token_type",
            Self::UnknownKey => "unknown_key",
            Self::BadSignature => "bad_signature",
            Self::MalformedClaim(_) => "malformed_claim",
            Self::Expired => "expired",
            Self::NotYetValid(_) => "not_yet_valid",
            Self::WrongIssuer => "wrong_issuer",
            Self::WrongAudience => "wrong_audience",
            Self::MissingClaim(_) => "missing_claim",
            Self::ClaimRefused(_) => "claim_refused",
            Self::DemandUnmet(_) => "demand_unmet",
            Self::NotOwnPath => "own_path",
            Self::InsufficientScope => "insufficient_scope",
            Self::UnusableClaim(_) => "unusable_claim",
            Self::InactiveToken => "inactive_token",
            Self::Revoked => "revoked",
            Self::BoundToken(_) => "bound_token",
            Self::Proof(fault) => fault.reason(),
            Self::Replay(replay) => replay.reason(),
            Self::NonceNeeded => "proof_nonce",
            Self::UnboundToken => "unbound_token",
            Self::CrossOrigin => "cross_origin",
            Self::Link(fault) => fault.reason(),
            Self::KeysUnavailable => "keys_unavailable",
            Self::IntrospectionUnavailable => "introspection_unavailable",
        }
    }

    /// How a refusal with this cause is to be answered.
    pub fn kind(&self) -> Kind {
        match self {
            Self::MissingCredentials => Kind::Missing,
            Self::MalformedHeader(_) | Self::TwoCredentials | Self::OversizedToken => Kind::BadRequest,
            Self::MalformedToken(_)
            | Self::AlgorithmNotAllowed
            | Self::UnsupportedHeader(_)
            | Self::WrongTyp
            | Self::UnknownKey
            | Self::BadSignature
            | Self::MalformedClaim(_)
            | Self::Expired
            | Self::NotYetValid(_)
            | Self::WrongIssuer
            | Self::WrongAudience
            | Self::MissingClaim(_)
            | Self::WrongTokenType(_)
            | Self::ClaimRefused(_)
            | Self::InactiveToken
            | Self::Revoked
            | Self::BoundToken(_)
            | Self::UnboundToken => Kind::InvalidToken,
            Self::InsufficientScope => Kind::InsufficientScope,
            Self::DemandUnmet(_) | Self::NotOwnPath | Self::UnusableClaim(_) => Kind::Forbidden,
            Self::CrossOrigin => Kind::CrossOrigin,
            Self::Link(LinkFault::Expired) => Kind::ExpiredLink,
            Self::Link(_) => Kind::BadLink,
            Self::Proof(_) | Self::Replay(Replay::Seen) => Kind::InvalidProof,
            Self::NonceNeeded => Kind::NonceNeeded,
            Self::KeysUnavailable | Self::IntrospectionUnavailable | Self::Replay(Replay::Full) => Kind::Unavailable,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "missing credentials",
            Self::BadRequest => "bad request",
            Self::InvalidToken => "invalid token",
            Self::InsufficientScope => "insufficient scope",
            Self::Forbidden => "forbidden",
            Self::InvalidProof => "invalid proof",
            Self::NonceNeeded => "nonce needed",
            Self::BadLink => "bad link",
            Self::ExpiredLink => "expired link",
            Self::CrossOrigin => "cross-origin",
            Self::Unavailable => "unavailable",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_of_each() -> Vec<Cause> {
        vec![
            Cause::MissingCredentials,
            Cause::MalformedHeader(HeaderFault::NoToken),
            Cause::TwoCredentials,
            Cause::OversizedToken,
            Cause::MalformedToken(TokenFault::Parts),
            Cause::AlgorithmNotAllowed,
            Cause::UnsupportedHeader("crit"),
            Cause::WrongTyp,
            Cause::UnknownKey,
            Cause::BadSignature,
            Cause::MalformedClaim("exp"),
            Cause::Expired,
            Cause::NotYetValid("nbf"),
            Cause::WrongIssuer,
            Cause::WrongAudience,
            Cause::MissingClaim("jti".into()),
            Cause::ClaimRefused("a".into()),
            Cause::DemandUnmet("a".into()),
            Cause::NotOwnPath,
            Cause::InsufficientScope,
            Cause::UnusableClaim("a".into()),
            Cause::InactiveToken,
            Cause::Revoked,
            Cause::BoundToken(Holder::Key),
            Cause::Replay(Replay::Seen),
            Cause::Replay(Replay::Full),
            Cause::NonceNeeded,
            Cause::UnboundToken,
            Cause::CrossOrigin,
            Cause::KeysUnavailable,
            Cause::IntrospectionUnavailable,
        ]
    }

    #[test]
    fn the_list_of_reasons_is_exactly_what_causes_say() {
        let said: Vec<_> =
            one_of_each().iter().map(Cause::reason).chain(ProofFault::REASONS).chain(LinkFault::REASONS).collect();
        let mut listed = Denied::REASONS.to_vec();
        assert!(said.iter().all(|reason| listed.contains(reason)));
        assert!(listed.iter().all(|reason| said.contains(reason)));
        listed.sort_unstable();
        listed.dedup();
        assert_eq!(listed.len(), Denied::REASONS.len());
    }

    #[test]
    fn the_scope_is_told_only_when_it_is_what_lacks() {
        let challenge = Arc::new(Challenge {
            style: Style::Problem,
            realm: "corp".into(),
            subject_claim: "sub".into(),
            scope: "read write".into(),
            resource_metadata: None,
            login_url: Some("https://id.example.com/?next={url}".into()),
            scheme: Scheme::Bearer,
        });
        let denied = |cause| Denied::new(cause, Scheme::Bearer, Arc::clone(&challenge));
        assert_eq!(denied(Cause::InsufficientScope).scope(), Some("read write"));
        assert_eq!(denied(Cause::Expired).scope(), None);
        assert!(denied(Cause::Expired).login_url().is_some() && denied(Cause::InsufficientScope).login_url().is_none());
    }
}
