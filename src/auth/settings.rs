//! What `config::compile` hands to this room: an issuer as configured, everything already read from disk and environment.
//!
//! Owns the closed list of algorithms. Knows nothing of files, TOML or HTTP.

use std::fmt;
use std::str::FromStr;

pub use super::demand::{Demand, Test};
use super::introspect::IntrospectionSettings;
pub use super::number::Number;
pub use super::path::{ClaimPath, PathProblem};
use super::remote::RemoteSettings;
use super::time::UnixSeconds;

/// A JWS algorithm this gateway verifies (RFC 7518 section 3.1, RFC 8037). The list is closed on purpose: `none` is not on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)] // the names are the specification's
pub enum Algorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
}

/// The kind of key an algorithm needs; a key serves exactly one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// A shared secret.
    Hmac,
    /// An RSA key of at least 2048 bits.
    Rsa,
    /// A key on P-256 or P-384; the curve must be the algorithm's.
    Ec,
    /// An Ed25519 key.
    Ed,
}

impl Algorithm {
    /// Every algorithm, in the order the documentation lists them.
    pub const ALL: [Self; 12] = [
        Self::Hs256,
        Self::Hs384,
        Self::Hs512,
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
    ];

    /// The exact, case-sensitive name of RFC 7518.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }

    /// The key family this algorithm needs.
    pub fn family(self) -> Family {
        match self {
            Self::Hs256 | Self::Hs384 | Self::Hs512 => Family::Hmac,
            Self::Rs256 | Self::Rs384 | Self::Rs512 | Self::Ps256 | Self::Ps384 | Self::Ps512 => Family::Rsa,
            Self::Es256 | Self::Es384 => Family::Ec,
            Self::EdDsa => Family::Ed,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is not one of [`Algorithm::ALL`].
#[derive(Debug, thiserror::Error)]
#[error("unknown algorithm `{0}`")]
pub struct UnknownAlgorithm(pub String);

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    /// Byte-exact: RFC 7515 compares `alg` case-sensitively, so `hs256` names nothing.
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        // RFC 9864 section 2.2 names the curve, too; the keys here are of no other.
        let name_here = if name == "Ed25519" { "EdDSA" } else { name };
        let found = Self::ALL.into_iter().find(|algorithm| algorithm.name() == name_here);
        found.ok_or_else(|| UnknownAlgorithm(name.to_owned()))
    }
}

/// The most that [`IssuerSettings::leeway_secs`] may be. A revocation holds so long after its tokens' `exp`, whatever their issuer forgives.
pub const MOST_LEEWAY_SECS: u32 = 300;

/// One issuer as configured.
#[derive(Debug, Clone, PartialEq)]
pub struct IssuerSettings {
    /// The name of its `[issuer.NAME]` table.
    pub name: Box<str>,
    /// Where its verification keys come from, in the order they are tried for a token without `kid`.
    pub keys: Vec<KeySettings>,
    /// Where the keys are published instead, if they are fetched; `keys` is then empty.
    pub remote: Option<RemoteSettings>,
    /// Whether a token must be bound to its holder, and how that is proved.
    pub binding: Binding,
    /// How it is asked about tokens, instead of `keys`, which are then not looked at.
    pub introspection: Option<IntrospectionSettings>,
    /// The `iss` a token must carry, byte for byte; `None` leaves the claim unread.
    pub issuer: Option<Box<str>>,
    /// A token's `aud` must hold one of these; empty leaves the claim unread.
    pub audiences: Vec<Box<str>>,
    /// The only algorithms accepted; empty means what the keys themselves say (a secret means HS256).
    pub algorithms: Vec<Algorithm>,
    /// Seconds of clock difference forgiven in `exp` and `nbf`.
    pub leeway_secs: u64,
    /// Whether a token without `exp` is refused.
    pub require_exp: bool,
    /// Claims that must be present, whatever their value.
    pub required_claims: Vec<Box<str>>,
    /// Demands every token of this issuer must meet.
    pub require: Vec<Demand>,
    /// Accepted `typ` header values, compared without case and with or without `application/`; empty leaves it unread.
    pub typ: Vec<Box<str>>,
    /// The claim that names the subject in logs and metrics.
    pub subject_claim: Box<str>,
    /// How refusals are worded.
    pub style: Style,
    /// The `realm` of a challenge.
    pub realm: Box<str>,
}

impl IssuerSettings {
    /// Settings without keys, with the strict defaults: `exp` demanded, no leeway, `sub` as subject, the name as realm.
    pub fn named(name: impl Into<Box<str>>) -> Self {
        let name = name.into();
        Self {
            realm: name.clone(),
            name,
            keys: Vec::new(),
            remote: None,
            binding: Binding::default(),
            introspection: None,
            issuer: None,
            audiences: Vec::new(),
            algorithms: Vec::new(),
            leeway_secs: 0,
            require_exp: true,
            required_claims: Vec::new(),
            require: Vec::new(),
            typ: Vec::new(),
            subject_claim: "sub".into(),
            style: Style::Problem,
        }
    }

    /// Whether the configuration itself holds keys that may be published.
    pub fn has_public_keys(&self) -> bool {
        self.keys.iter().any(|key| !matches!(key.source, KeySource::Secret(_)))
    }
}

/// What is asked about who holds a token. A token that is bound must come with its proof whatever stands here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Binding {
    /// Whether every token must be bound.
    pub demanded: Demanded,
    /// Whether a proof must hold a nonce that this gateway issued (RFC 9449 section 9).
    pub nonce: bool,
}

/// How every token of an issuer must be bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Demanded {
    /// It may be a plain bearer token.
    #[default]
    Nothing,
    /// To a key, by `cnf.jkt` (RFC 9449).
    Key,
    /// To a client certificate, by `cnf.x5t#S256` (RFC 8705).
    Certificate,
    /// To one of both.
    Either,
}

/// How a refusal reads to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Style {
    /// RFC 9457 `application/problem+json`.
    #[default]
    Problem,
    /// The bodies of Django REST framework with simplejwt, word for word.
    Drf,
}

/// One source of verification keys, and when it may be used.
#[derive(Debug, Clone, PartialEq)]
pub struct KeySettings {
    /// Where the keys come from.
    pub source: KeySource,
    /// The moment from which they may be used; `None` from the beginning.
    pub not_before: Option<UnixSeconds>,
    /// The moment from which they may no longer be used; `None` for ever.
    pub not_after: Option<UnixSeconds>,
}

impl From<KeySource> for KeySettings {
    fn from(source: KeySource) -> Self {
        Self { source, not_before: None, not_after: None }
    }
}

/// Where verification keys come from; the bytes are already here.
#[derive(Debug, Clone, PartialEq)]
pub enum KeySource {
    /// A shared HMAC secret.
    Secret(Secret),
    /// A PEM public key (SPKI, PKCS#1 or a certificate); `label` names it in messages.
    #[allow(missing_docs)]
    Pem { bytes: Vec<u8>, label: String },
    /// A JSON Web Key Set (RFC 7517 section 5); `label` names it in messages.
    #[allow(missing_docs)]
    Jwks { bytes: Vec<u8>, label: String },
}

/// Secret bytes that never show in `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// Takes ownership of the secret's bytes.
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes, for the cryptographic call that needs them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// One claim handed to the upstream in one header.
#[derive(Debug, Clone, PartialEq)]
pub struct Forward {
    /// The identity header, removed from every client request before it is set here.
    pub header: http::HeaderName,
    /// The claim whose value it carries.
    pub claim: ClaimPath,
}
