//! One issuer, compiled: its rules and its admitted keys.
//!
//! Owns which keys are in force now: those of the configuration, or those the issuer publishes. Reads no files and fetches nothing.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use arc_swap::{ArcSwapOption, Guard};

use super::admission::{Admitted, KeyProblem, admit_configured, admit_published};
use super::denied::Cause;
use super::generation::Generation;
use super::jwk::PublicJwk;
use super::keys::KeyRing;
use super::remote::RemoteKeys;
use super::settings::{Algorithm, IssuerSettings};

/// An issuer whose tokens can be verified.
pub struct Issuer {
    settings: IssuerSettings,
    rules: Generation,
    ring: ArcSwapOption<Ring>,
    remote: Option<Arc<RemoteKeys>>,
}

/// The keys an issuer has now, with what they were admitted for.
pub(super) struct Ring {
    pub(super) keys: KeyRing,
    /// The only algorithms accepted.
    pub(super) algorithms: Box<[Algorithm]>,
    /// The hash that keys the token cache; a changed key or rule changes it.
    pub(super) generation: Generation,
    /// Of the published set, where there is one.
    version: Option<u64>,
}

impl Issuer {
    /// Admits the keys. Every problem is reported at once; the issuer comes out only when none is fatal.
    ///
    /// A source an operator wrote by hand (secret, PEM) must be right as a whole; of a key set, the bad members are left out. An issuer
    /// that is asked about its tokens has no keys: nothing that is signed passes for its own.
    pub fn compile(settings: IssuerSettings) -> Result<(Self, Vec<KeyProblem>), Vec<KeyProblem>> {
        let rules = Generation::of_rules(&settings);
        let (ring, problems) = if settings.remote.is_some() || settings.introspection.is_some() {
            (None, Vec::new())
        } else {
            let Admitted { keys, algorithms, problems } = admit_configured(&settings);
            if problems.iter().any(|problem| problem.fatal) {
                return Err(problems);
            }
            let generation = rules.with_keys(&settings.keys, &algorithms);
            (Some(Arc::new(Ring { keys, algorithms, generation, version: None })), problems)
        };
        let mut settings = settings;
        settings.keys = Vec::new();
        settings.typ.iter_mut().for_each(|typ| *typ = normal_typ(typ));
        Ok((Self { settings, rules, ring: ArcSwapOption::new(ring), remote: None }, problems))
    }

    /// The same issuer with the keys it publishes, which `remote` keeps fresh.
    #[must_use]
    pub fn fed_by(self, remote: Arc<RemoteKeys>) -> Self {
        Self { remote: Some(remote), ..self }
    }

    /// The name of its table in the configuration.
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// The only algorithms accepted now.
    pub fn algorithms(&self) -> Vec<Algorithm> {
        self.ring().map_or_else(|_| self.settings.algorithms.clone(), |ring| ring.algorithms.to_vec())
    }

    /// How many keys there are now.
    pub fn key_count(&self) -> usize {
        self.ring().map_or(0, |ring| ring.keys.len())
    }

    /// Its public keys, in order, as a key set lists them; a secret is in no list.
    pub fn public_jwks(&self) -> Vec<PublicJwk> {
        self.ring().map_or_else(|_| Vec::new(), |ring| ring.keys.public().cloned().collect())
    }

    /// The rules; the key sources have been taken out.
    pub(super) fn settings(&self) -> &IssuerSettings {
        &self.settings
    }

    /// The keys that are fetched, where they are.
    pub fn remote(&self) -> Option<&Arc<RemoteKeys>> {
        self.remote.as_ref()
    }

    /// The keys to verify with now. A guard, not a clone: no count is shared between workers.
    pub(super) fn ring(&self) -> Result<Current, Cause> {
        let guard = match &self.remote {
            Some(remote) => self.follow(remote)?,
            None => self.ring.load(),
        };
        Current::of(guard)
    }

    /// Takes up what the issuer publishes, if it has changed. Whoever asks first after a change does it for all; one that was slower
    /// with an older set does not bring that back.
    fn follow(&self, remote: &RemoteKeys) -> Result<Guard<Option<Arc<Ring>>>, Cause> {
        loop {
            let ring = self.ring.load();
            let version = remote.version().ok_or(Cause::KeysUnavailable)?;
            if ring.as_ref().is_some_and(|ring| ring.version == Some(version)) {
                return Ok(ring);
            }
            let published = remote.current().ok_or(Cause::KeysUnavailable)?;
            let Admitted { keys, algorithms, problems } = admit_published(&self.settings, &published.members);
            let generation = self.rules.with_published(published.version, &algorithms);
            let next = Arc::new(Ring { keys, algorithms, generation, version: Some(published.version) });
            let before = self.ring.compare_and_swap(&ring, Some(next));
            if before.as_ref().map(Arc::as_ptr) == ring.as_ref().map(Arc::as_ptr) {
                for problem in problems {
                    tracing::warn!(issuer = %self.settings.name, hint = problem.hint, "{}", problem.message);
                }
            }
        }
    }
}

/// A hold on an issuer's keys.
pub(super) struct Current(Guard<Option<Arc<Ring>>>);

impl Current {
    fn of(guard: Guard<Option<Arc<Ring>>>) -> Result<Self, Cause> {
        let usable = guard.as_ref().is_some_and(|ring| ring.keys.len() > 0);
        if usable { Ok(Self(guard)) } else { Err(Cause::KeysUnavailable) }
    }
}

impl Deref for Current {
    type Target = Ring;

    fn deref(&self) -> &Ring {
        self.0.as_deref().expect("`of` looked")
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer")
            .field("name", &self.settings.name)
            .field("keys", &self.key_count())
            .finish_non_exhaustive()
    }
}

/// `typ` as it is compared: lower case, without the `application/` that RFC 7515 section 4.1.9 lets issuers omit.
pub(super) fn normal_typ(typ: &str) -> Box<str> {
    let lower = typ.to_ascii_lowercase();
    lower.strip_prefix("application/").unwrap_or(&lower).into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::super::UnixSeconds;
    use super::super::fixtures;
    use super::super::settings::Secret;
    use super::super::settings::{Demand, KeySettings, KeySource};
    use super::*;

    fn secret(bytes: usize) -> KeySource {
        KeySource::Secret(Secret::new(vec![7; bytes]))
    }

    fn pem(text: String) -> KeySource {
        KeySource::Pem { bytes: text.into_bytes(), label: "signer.pem".into() }
    }

    fn set(keys: &[serde_json::Value]) -> KeySource {
        KeySource::Jwks { bytes: json!({ "keys": keys }).to_string().into_bytes(), label: "keys.json".into() }
    }

    fn compile(keys: Vec<KeySource>, algorithms: &[Algorithm]) -> Result<(Issuer, Vec<KeyProblem>), Vec<KeyProblem>> {
        let keys = keys.into_iter().map(KeySettings::from).collect();
        Issuer::compile(IssuerSettings { keys, algorithms: algorithms.to_vec(), ..IssuerSettings::named("corp") })
    }

    fn only_fatal(keys: Vec<KeySource>, algorithms: &[Algorithm]) -> KeyProblem {
        let mut problems = compile(keys, algorithms).unwrap_err();
        problems.retain(|problem| problem.fatal);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(!problems[0].hint.is_empty());
        problems.remove(0)
    }

    #[test]
    fn without_a_list_the_keys_say_the_algorithms() {
        let keys = vec![pem(fixtures::ec384().spki_pem()), pem(fixtures::rsa().spki_pem())];
        let (issuer, problems) = compile(keys, &[]).unwrap();
        assert_eq!(issuer.algorithms(), [Algorithm::Rs256, Algorithm::Es384]);
        assert!(problems.is_empty() && issuer.key_count() == 2);
        assert_eq!(compile(vec![secret(64)], &[]).unwrap().0.algorithms(), [Algorithm::Hs256]);
    }

    #[test]
    fn an_issuer_publishes_its_public_keys_and_no_secret() {
        let keys = [fixtures::ec256().jwk("a"), fixtures::rsa().jwk("b")];
        let issuer = compile(vec![set(&keys)], &[Algorithm::Es256, Algorithm::Rs256, Algorithm::Ps256]).unwrap().0;
        let published: Vec<_> = issuer.public_jwks().iter().map(PublicJwk::to_json).collect();
        assert_eq!(published.iter().map(|jwk| jwk["kid"].as_str().unwrap()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(published[0]["alg"], "ES256");
        assert_eq!(published[1].get("alg"), None, "it serves two");
        assert!(compile(vec![secret(32)], &[]).unwrap().0.public_jwks().is_empty());
    }

    #[test]
    fn a_shared_secret_beside_public_keys_is_refused() {
        let both = only_fatal(vec![secret(64), pem(fixtures::rsa().spki_pem())], &[]);
        assert!(both.message.contains("HS256") && both.message.contains("RS256"), "{both}");
        let listed = compile(vec![pem(fixtures::rsa().spki_pem())], &[Algorithm::Hs256, Algorithm::Rs256]).unwrap_err();
        assert!(listed[0].message.contains("one issuer cannot accept both"), "{listed:?}");
    }

    #[test]
    fn a_secret_shorter_than_a_listed_hash_is_refused() {
        assert!(only_fatal(vec![secret(31)], &[]).message.contains("31 bytes; HS256 needs at least 32"));
        let long = only_fatal(vec![secret(50)], &[Algorithm::Hs256, Algorithm::Hs512]);
        assert!(long.message.contains("50 bytes; HS512 needs at least 64"), "{long}");
    }

    #[test]
    fn a_configured_key_that_serves_no_algorithm_is_refused() {
        let problem = only_fatal(vec![pem(fixtures::ec256().spki_pem())], &[Algorithm::Es384]);
        assert_eq!(problem.message, "signer.pem: the EC key on P-256 serves none of the issuer's algorithms (ES384)");
        assert!(problem.hint.contains("add ES256"));
    }

    #[test]
    fn an_issuer_without_a_usable_key_is_refused() {
        assert!(only_fatal(vec![], &[]).message.contains("no usable key"));
        let weak = compile(vec![set(&[json!({"kty": "oct", "k": "c2hvcnQ"})])], &[]).unwrap_err();
        assert!(weak.iter().any(|problem| problem.fatal && problem.message.contains("no usable key")));
        assert!(weak.iter().any(|problem| !problem.fatal && problem.message.contains("5 bytes")));
    }

    #[test]
    fn a_bad_member_of_a_set_is_left_out_with_a_warning() {
        let mut twin = fixtures::ec256().jwk("a");
        twin["alg"] = json!("ES256");
        let keys = [fixtures::ec256().jwk("a"), twin, fixtures::rsa().jwk("a"), json!({"kty": "EC"})];
        let (issuer, problems) = compile(vec![set(&keys)], &[]).unwrap();
        assert_eq!(issuer.key_count(), 2, "one kid may name keys of two types");
        assert!(problems.iter().all(|problem| !problem.fatal));
        assert!(problems.iter().any(|problem| problem.message.contains("a second EC key on P-256 has the `kid` `a`")));
    }

    #[test]
    fn an_accepted_algorithm_without_key_is_a_warning() {
        let (_, problems) =
            compile(vec![pem(fixtures::rsa().spki_pem())], &[Algorithm::Rs256, Algorithm::Es256]).unwrap();
        assert_eq!(problems[0].message, "ES256 is accepted, but no key can verify it");
    }

    #[test]
    fn the_generation_changes_with_any_rule_or_key() {
        let base = || IssuerSettings { keys: vec![secret(32).into()], ..IssuerSettings::named("corp") };
        let generation = |settings| Issuer::compile(settings).unwrap().0.ring().ok().unwrap().generation;
        let before = generation(base());
        assert!(before == generation(base()));
        for changed in [
            IssuerSettings { keys: vec![secret(33).into()], ..base() },
            IssuerSettings { keys: vec![secret(32).into(), secret(32).into()], ..base() },
            IssuerSettings { issuer: Some("".into()), ..base() },
            IssuerSettings { audiences: vec!["a".into()], ..base() },
            IssuerSettings {
                algorithms: vec![Algorithm::Hs256, Algorithm::Hs384],
                keys: vec![secret(48).into()],
                ..base()
            },
            IssuerSettings { leeway_secs: 1, ..base() },
            IssuerSettings { require_exp: false, ..base() },
            IssuerSettings { required_claims: vec!["jti".into()], ..base() },
            IssuerSettings { require: vec![Demand::present("a")], ..base() },
            IssuerSettings { typ: vec!["jwt".into()], ..base() },
            IssuerSettings { name: "other".into(), ..base() },
            IssuerSettings {
                keys: vec![KeySettings { not_after: Some(UnixSeconds::from_secs(9)), ..secret(32).into() }],
                ..base()
            },
            IssuerSettings {
                keys: vec![KeySettings { not_before: Some(UnixSeconds::from_secs(9)), ..secret(32).into() }],
                ..base()
            },
        ] {
            assert!(before != generation(changed.clone()), "{changed:?}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let (issuer, _) =
            compile(vec![KeySource::Secret(Secret::new(*b"correct horse battery staple 123"))], &[]).unwrap();
        assert!(!format!("{issuer:?}{:?}", issuer.rules).contains("horse"));
    }
}
