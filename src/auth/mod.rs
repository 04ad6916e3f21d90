//! Authorization: from a bearer token to a [`Permit`], or a typed refusal.
//!
//! Owns signed links, and everything a JWT says about a request: where the token stands (RFC 6750), its form (RFC 7515), the keys that may have
//! signed it (RFC 7517, 7518), its claims (RFC 7519) and what a route asks of them. Knows no status codes and no routes. The judge knows no
//! files, no sockets and no clock either, the time is an argument; what is fetched, asked for or kept on disk comes from `remote`,
//! `introspect` and `revoke`.

mod access;
mod admission;
mod asking;
mod authority;
mod bearer;
mod bounded;
mod cache;
mod claims;
mod demand;
mod denied;
mod dpop;
mod drf;
mod generation;
mod identity;
mod inspect;
mod introspect;
mod issuer;
mod json;
mod jwk;
mod jwks;
mod jws;
mod keys;
mod link;
mod material;
mod mint;
mod number;
mod origin;
mod own;
mod path;
mod pem;
mod permit;
mod place;
mod policy;
mod possession;
mod preset;
mod publish;
mod refusals;
mod remote;
mod revoke;
mod settings;
mod standing;
mod time;
mod turnstile;
mod verify;
mod wanted;
mod words;

#[cfg(test)]
mod attacks;
#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod history;

pub use access::{Access, Forwarding, OriginGuard, Place, PolicySettings, RouteAuth, Rule};
pub use admission::KeyProblem;
pub use asking::Asking;
pub use authority::Authority;
pub use denied::{Cause, Denied, HeaderFault, Holder, JsonFault, Kind, TokenFault};
pub use dpop::{Expectation, NoRandomness, Nonces, Proof, ProofFault, Replay, ReplayWindow, check_proof, the_proof};
pub use drf::{drf_body, drf_throttled};
pub use generation::Generation;
pub use identity::{Identity, IdentityKey, IdentitySettings, Statement, Unsigned};
pub use inspect::{Inspection, Step, explain_link, explain_token, inspect};
pub use introspect::{IntrospectionSettings, explain_introspected, introspection_url};
pub use issuer::Issuer;
pub use jwk::{JwkFault, PublicJwk};
pub use link::{LinkFault, LinkInspection, LinkSettings, inspect_link, sign_link};
pub use mint::{MintError, SigningKey, mint};
pub use own::{OwnPath, OwnPathProblem};
pub use permit::Permit;
pub use policy::Policy;
pub use possession::Possession;
pub use preset::{Preset, UnknownPreset};
pub use publish::{key_set, resource_metadata};
pub use remote::{Finding, Published, RemoteKeys, RemoteSettings, RemoteSource, RemoteStatus, Severity, check_key_set};
pub use revoke::{
    Added, DenyList, Entry, EntryFault, Learned, LineFault, PreparedRevocations, Presented, RevocationSettings,
    RevokeError, Revoked, RevokedCounts, RevokedSummary, check_revocations,
};
pub use settings::*;
pub use standing::{Lapse, Standing};
pub use time::UnixSeconds;
pub use wanted::{Answer, Wanted};
