//! Whether who brings a token is who it was issued to.
//!
//! Owns the meaning of `cnf` (RFC 7800): a token bound to a key comes with a proof made with it (RFC 9449), one bound to a certificate over
//! a connection that showed it (RFC 8705). A token bound to something unknown is refused: it was not meant for whoever finds it.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value as Json;

use super::asking::Asking;
use super::bearer::{self, Scheme};
use super::claims::Claims;
use super::denied::{Cause, Holder};
use super::dpop::{Expectation, NoRandomness, Nonces, Proof, ReplayWindow, check_proof, the_proof};
use super::place::Found;
use super::settings::{Algorithm, Binding, Demanded};

/// What a token is bound to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Confirmation {
    /// The thumbprint of a key.
    key: Option<[u8; 32]>,
    /// The SHA-256 of a certificate.
    certificate: Option<[u8; 32]>,
}

impl Confirmation {
    /// Reads `cnf`. One that names nothing known, or something known that cannot be read, comes out empty, and nobody can prove to hold
    /// it: what is bound twice is not half bound because one of both is malformed.
    pub(super) fn of(claims: &Claims) -> Option<Box<Self>> {
        let cnf: Json = serde_json::from_str(claims.find("cnf")?.as_json()).unwrap_or_default();
        let digest = |name: &str| cnf.get(name).filter(|member| !member.is_null()).map(read_digest).transpose();
        let both = || Ok::<_, Cause>(Self { key: digest("jkt")?, certificate: digest("x5t#S256")? });
        Some(Box::new(both().unwrap_or_default()))
    }

    /// Whether a holder could prove to be one, and prove what is demanded.
    pub(super) fn can_meet(&self, demanded: Demanded) -> Result<(), Cause> {
        match (demanded, &self.key, &self.certificate) {
            (_, None, None) => Err(Cause::BoundToken(Holder::Unknown)),
            (Demanded::Key, None, _) | (Demanded::Certificate, _, None) => Err(Cause::UnboundToken),
            _ => Ok(()),
        }
    }
}

/// What the whole process remembers of proofs.
#[derive(Debug)]
pub struct Possession {
    window_secs: u64,
    replay: ReplayWindow,
    nonces: Nonces,
}

impl Possession {
    /// Takes proofs for `window_secs` seconds after they were made, each once.
    pub fn new(window_secs: u64) -> Result<Self, NoRandomness> {
        let replay = ReplayWindow::new(ReplayWindow::DEFAULT_ENTRIES, window_secs);
        Ok(Self { window_secs, replay, nonces: Nonces::new(window_secs)? })
    }

    /// A nonce for the next proof.
    pub(super) fn nonce(&self, asking: &Asking<'_>) -> String {
        self.nonces.issue(asking.now)
    }

    /// Whether the request proves to come from the token's holder. A proof comes out, to be used up when all else is in order.
    pub(super) fn check(
        &self,
        binding: Binding,
        bound_to: Option<&Confirmation>,
        found: &Found<'_>,
        asking: &Asking<'_>,
    ) -> Result<Option<Proof>, Cause> {
        let Some(bound_to) = bound_to else {
            let bearer = binding.demanded == Demanded::Nothing && found.scheme == Scheme::Bearer;
            return if bearer { Ok(None) } else { Err(Cause::UnboundToken) };
        };
        bound_to.can_meet(binding.demanded)?;
        if let Some(certificate) = &bound_to.certificate {
            let shown = asking.client_certificate.is_some_and(|shown| is_same(shown, certificate));
            if !shown {
                return Err(Cause::BoundToken(Holder::Certificate));
            }
        }
        match (&bound_to.key, found.scheme) {
            (Some(key), Scheme::Dpop) => self.prove(binding, key, found, asking).map(Some),
            (Some(_), Scheme::Bearer) => Err(Cause::BoundToken(Holder::Key)),
            (None, Scheme::Dpop) => Err(Cause::UnboundToken),
            (None, Scheme::Bearer) => Ok(None),
        }
    }

    fn prove(&self, binding: Binding, key: &[u8; 32], found: &Found<'_>, asking: &Asking<'_>) -> Result<Proof, Cause> {
        let expected = Expectation {
            method: asking.method.as_str(),
            scheme: asking.scheme(),
            authority: asking.target.authority(),
            path: asking.target.raw_path(),
            access_token: bearer::well_formed(found.token)?,
            now: asking.now,
            window_secs: self.window_secs,
            algorithms: &Algorithm::ALL,
        };
        let proof = the_proof(asking.headers).and_then(|proof| check_proof(proof, &expected));
        let proof = proof.map_err(|fault| Cause::Proof(Box::new(fault)))?;
        if !is_same(&proof.thumbprint, key) {
            return Err(Cause::BoundToken(Holder::Key));
        }
        let ours = |nonce: &str| self.nonces.accepts(nonce, asking.now);
        if binding.nonce && !proof.nonce.as_deref().is_some_and(ours) {
            return Err(Cause::NonceNeeded);
        }
        Ok(proof)
    }

    /// Notes that a proof was used; the second time it is refused.
    pub(super) fn use_up(&self, proof: &Proof, asking: &Asking<'_>) -> Result<(), Cause> {
        self.replay.first_use(proof.jti_digest, proof.issued_at, asking.now).map_err(Cause::Replay)
    }
}

fn read_digest(member: &Json) -> Result<[u8; 32], Cause> {
    let bytes = member.as_str().and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or(Cause::BoundToken(Holder::Unknown))
}

fn is_same(one: &[u8; 32], other: &[u8; 32]) -> bool {
    verify_slices_are_equal(one, other).is_ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_binding_that_cannot_be_read_makes_none_of_the_other() {
        let good = URL_SAFE_NO_PAD.encode([7; 32]);
        let meets = |cnf: &str| {
            let claims = Claims::parse(format!("{{\"cnf\":{cnf}}}").into_bytes()).unwrap();
            Confirmation::of(&claims).unwrap().can_meet(Demanded::Nothing)
        };
        assert_eq!(meets(&format!(r#"{{"x5t#S256":"{good}"}}"#)), Ok(()));
        assert_eq!(meets(&format!(r#"{{"jkt":"{good}","x5t#S256":"{good}","kid":"a"}}"#)), Ok(()));
        assert_eq!(meets(&format!(r#"{{"jkt":null,"x5t#S256":"{good}"}}"#)), Ok(()));
        for unreadable in ["\"c2hvcnQ\"", "\"\"", "7", "\"a=\""] {
            for (bad, other) in [("jkt", "x5t#S256"), ("x5t#S256", "jkt")] {
                let cnf = format!(r#"{{"{bad}":{unreadable},"{other}":"{good}"}}"#);
                assert_eq!(meets(&cnf), Err(Cause::BoundToken(Holder::Unknown)), "{cnf}");
            }
        }
    }
}
