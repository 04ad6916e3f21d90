//! What is wrong with a proof.
//!
//! Owns the closed list. A fault never holds anything the client sent, so it can be logged whole.

use super::super::denied::Cause;
use super::super::jwk::JwkFault;

/// Why a proof proves nothing about this request; one variant a rule of RFC 9449 section 4.3.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofFault {
    /// No `DPoP` field.
    #[error("no dpop proof was sent")]
    Missing,
    /// More than one `DPoP` field.
    #[error("more than one dpop proof was sent")]
    Repeated,
    /// Not a JWS in compact form with readable header and claims.
    #[error("the dpop proof is malformed")]
    Malformed(#[source] Cause),
    /// `typ` is not `dpop+jwt`.
    #[error("the dpop proof is another kind of token")]
    WrongType,
    /// `alg` is symmetric, or none of those accepted.
    #[error("the dpop proof's algorithm is not allowed")]
    AlgorithmNotAllowed,
    /// The header holds no `jwk`.
    #[error("the dpop proof holds no key")]
    NoKey,
    /// `jwk` is not a public key fit for the algorithm.
    #[error("the dpop proof's key cannot be used")]
    UnusableKey(#[source] JwkFault),
    /// The signature is not that key's over these bytes.
    #[error("the dpop proof's signature does not verify")]
    BadSignature,
    /// A claim is missing, too long, or of another type.
    #[error("claim `{0}` of the dpop proof is missing or unusable")]
    Claim(&'static str),
    /// `htm` is another method.
    #[error("the dpop proof is for another method")]
    WrongMethod,
    /// `htu` is another address.
    #[error("the dpop proof is for another address")]
    WrongAddress,
    /// `iat` lies before the window.
    #[error("the dpop proof is too old")]
    TooOld,
    /// `iat` lies in the future.
    #[error("the dpop proof is from the future")]
    FromTheFuture,
    /// `ath` is not the hash of the token that was sent.
    #[error("the dpop proof is for another access token")]
    WrongToken,
}

impl ProofFault {
    /// Every value of [`Self::reason`], for metrics to resolve their series once.
    pub const REASONS: [&'static str; 14] = [
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
    ];

    /// The fault as one of [`Self::REASONS`].
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Missing => "proof_missing",
            Self::Repeated => "proof_repeated",
            Self::Malformed(_) => "proof_malformed",
            Self::WrongType => "proof_type",
            Self::AlgorithmNotAllowed => "proof_algorithm",
            Self::NoKey => "proof_no_key",
            Self::UnusableKey(_) => "proof_key",
            Self::BadSignature => "proof_signature",
            Self::Claim(_) => "proof_claim",
            Self::WrongMethod => "proof_method",
            Self::WrongAddress => "proof_address",
            Self::TooOld => "proof_too_old",
            Self::FromTheFuture => "proof_future",
            Self::WrongToken => "proof_token",
        }
    }
}

impl From<JwkFault> for ProofFault {
    fn from(fault: JwkFault) -> Self {
        Self::UnusableKey(fault)
    }
}
