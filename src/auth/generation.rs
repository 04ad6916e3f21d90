//! What identifies the rules and keys a token was judged by.
//!
//! Owns the hash. Two issuers that would judge one token differently never have the same one, so nothing that was found out under the
//! one is believed under the other.

use std::fmt;

use aws_lc_rs::digest;

use super::settings::{Algorithm, Demand, IssuerSettings, KeySettings, KeySource};

/// The content hash of an issuer's rules and keys: equal exactly when every token would be judged alike.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Generation([u8; 16]);

impl Generation {
    /// Every rule goes in, each with its length, so that no two configurations read alike.
    pub(super) fn of_rules(settings: &IssuerSettings) -> Self {
        let mut hash = ContentHash::new();
        hash.part(settings.name.as_bytes());
        hash.list(settings.issuer.iter().map(|text| text.as_bytes()));
        hash.list(settings.audiences.iter().map(|text| text.as_bytes()));
        hash.list(settings.required_claims.iter().map(|text| text.as_bytes()));
        hash.list(settings.typ.iter().map(|text| text.as_bytes()));
        hash.part(settings.subject_claim.as_bytes());
        hash.part(&settings.leeway_secs.to_be_bytes());
        hash.part(&[u8::from(settings.require_exp)]);
        hash.part(format!("{:?}", settings.binding).as_bytes());
        for demand in &settings.require {
            hash.demand(demand);
        }
        hash.finish()
    }

    /// The rules with these keys, verifying these algorithms.
    pub(super) fn with_keys(self, keys: &[KeySettings], algorithms: &[Algorithm]) -> Self {
        let mut hash = ContentHash::new();
        hash.part(&self.0);
        hash.list(algorithms.iter().map(|one| one.name().as_bytes()));
        for key in keys {
            hash.key(key);
        }
        hash.finish()
    }

    /// The rules with a published set of this version, verifying these algorithms.
    pub(super) fn with_published(self, version: u64, algorithms: &[Algorithm]) -> Self {
        let mut hash = ContentHash::new();
        hash.part(&self.0);
        hash.list(algorithms.iter().map(|one| one.name().as_bytes()));
        hash.part(b"published");
        hash.part(&version.to_be_bytes());
        hash.finish()
    }
}

impl fmt::Debug for Generation {
    /// The hash covers secrets; it is compared, never shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Generation(..)")
    }
}

struct ContentHash(digest::Context);

impl ContentHash {
    fn new() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }

    fn finish(self) -> Generation {
        let mut short = [0; 16];
        short.copy_from_slice(&self.0.finish().as_ref()[..16]);
        Generation(short)
    }

    fn part(&mut self, bytes: &[u8]) {
        self.0.update(&bytes.len().to_be_bytes());
        self.0.update(bytes);
    }

    fn list<'a>(&mut self, parts: impl ExactSizeIterator<Item = &'a [u8]>) {
        self.0.update(&parts.len().to_be_bytes());
        parts.for_each(|part| self.part(part));
    }

    fn demand(&mut self, demand: &Demand) {
        self.part(b"demand");
        self.part(demand.canonical().as_bytes());
    }

    fn key(&mut self, key: &KeySettings) {
        for end in [key.not_before, key.not_after] {
            self.part(end.map(|at| at.as_secs().to_string()).unwrap_or_default().as_bytes());
        }
        match &key.source {
            KeySource::Secret(secret) => [b"secret", secret.expose()].into_iter().for_each(|bytes| self.part(bytes)),
            KeySource::Pem { bytes, .. } => [&b"pem"[..], bytes].into_iter().for_each(|bytes| self.part(bytes)),
            KeySource::Jwks { bytes, .. } => [&b"jwks"[..], bytes].into_iter().for_each(|bytes| self.part(bytes)),
        }
    }
}
