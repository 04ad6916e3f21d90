//! One issuer, compiled: its rules and its admitted keys.
//!
//! Owns what may stand in one issuer together: no shared secret beside public keys, no key that serves no algorithm, no two keys of
//! one type with one `kid`. Reads no files; the settings carry the bytes. RFC 8725 sections 3.1, 3.2 and 3.5.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use arc_swap::{ArcSwapOption, Guard};
use aws_lc_rs::digest;

use super::denied::Cause;
use super::jwk::PublicJwk;
use super::jwks;
use super::keys::{KeyRing, Validity, VerifyingKey};
use super::material::{BadKey, Material};
use super::pem;
use super::settings::{Algorithm, Demand, Family, IssuerSettings, KeySettings, KeySource};

/// An issuer whose tokens can be verified.
pub struct Issuer {
    settings: IssuerSettings,
    rules: Generation,
    ring: ArcSwapOption<Ring>,
}

/// The keys an issuer has now, with what they were admitted for.
pub(super) struct Ring {
    pub(super) keys: KeyRing,
    /// The only algorithms accepted.
    pub(super) algorithms: Box<[Algorithm]>,
    /// The hash that keys the token cache; a changed key or rule changes it.
    pub(super) generation: Generation,
}

/// The content hash of an issuer's rules and keys: equal exactly when every token would be judged alike.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Generation([u8; 16]);

/// What is wrong with a key source, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct KeyProblem {
    /// The index into [`IssuerSettings::keys`]; 0 when the problem lies in how the sources go together.
    pub source_index: usize,
    /// What is wrong.
    pub message: String,
    /// The remedy.
    pub hint: String,
    /// Whether the issuer cannot be used with it.
    pub fatal: bool,
}

impl Issuer {
    /// Admits the keys. Every problem is reported at once; the issuer comes out only when none is fatal.
    ///
    /// A source an operator wrote by hand (secret, PEM) must be right as a whole; of a key set, the bad members are left out. An issuer
    /// that is asked about its tokens has no keys: nothing that is signed passes for its own.
    pub fn compile(settings: IssuerSettings) -> Result<(Self, Vec<KeyProblem>), Vec<KeyProblem>> {
        if settings.introspection.is_some() {
            let (rules, settings) = (Generation::of_rules(&settings), IssuerSettings { keys: Vec::new(), ..settings });
            return Ok((Self { settings, rules, ring: ArcSwapOption::empty() }, Vec::new()));
        }
        let mut admission = Admission::default();
        for (index, key) in settings.keys.iter().enumerate() {
            admission.read(index, key);
        }
        let (ring, problems) = admission.finish(&settings);
        if problems.iter().any(|problem| problem.fatal) {
            return Err(problems);
        }
        let rules = Generation::of_rules(&settings);
        let generation = rules.with_keys(&settings.keys, &ring.algorithms);
        let mut settings = settings;
        settings.keys = Vec::new();
        settings.typ.iter_mut().for_each(|typ| *typ = normal_typ(typ));
        let ring = ArcSwapOption::from_pointee(Ring { generation, ..ring });
        Ok((Self { settings, rules, ring }, problems))
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

    /// The keys to verify with now. A guard, not a clone: no count is shared between workers.
    pub(super) fn ring(&self) -> Result<Current, Cause> {
        Current::of(self.ring.load())
    }
}

/// A hold on an issuer's keys.
pub(super) struct Current(Guard<Option<Arc<Ring>>>);

impl Current {
    fn of(guard: Guard<Option<Arc<Ring>>>) -> Result<Self, Cause> {
        if guard.is_some() { Ok(Self(guard)) } else { Err(Cause::KeysUnavailable) }
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

/// A key on its way in.
struct Entry {
    source: usize,
    label: String,
    from_set: bool,
    validity: Validity,
    kid: Option<Box<str>>,
    alg: Option<Algorithm>,
    material: Material,
}

#[derive(Default)]
struct Admission {
    entries: Vec<Entry>,
    problems: Vec<KeyProblem>,
}

impl Admission {
    fn read(&mut self, source: usize, key: &KeySettings) {
        let validity = Validity { not_before: key.not_before, not_after: key.not_after };
        let entry = |label: &str, material| Entry {
            source,
            label: label.to_owned(),
            from_set: false,
            validity,
            kid: None,
            alg: None,
            material,
        };
        match &key.source {
            KeySource::Secret(secret) => match Material::secret(secret.expose()) {
                Ok(material) => self.entries.push(entry("", material)),
                Err(bad) => self.report(source, "", bad, true),
            },
            KeySource::Pem { bytes, label } => match pem::read(bytes) {
                Ok(keys) => self.entries.extend(keys.into_iter().map(|material| entry(label, material))),
                Err(bad) => self.report(source, label, bad, true),
            },
            KeySource::Jwks { bytes, label } => match jwks::read(bytes, jwks::Origin::File) {
                Ok((members, complaints)) => {
                    for bad in complaints {
                        self.report(source, label, bad, false);
                    }
                    self.entries.extend(members.into_iter().map(|member| Entry {
                        from_set: true,
                        kid: member.kid,
                        alg: member.alg,
                        ..entry(label, member.material)
                    }));
                }
                Err(bad) => self.report(source, label, bad, true),
            },
        }
    }

    /// The ring of what was read, and everything that is wrong with it; its generation is the caller's to give.
    fn finish(mut self, settings: &IssuerSettings) -> (Ring, Vec<KeyProblem>) {
        let algorithms = self.algorithms(settings);
        self.refuse_mixed_families(&algorithms);
        let keys = self.bind(&algorithms);
        self.note_unserved(&algorithms, &keys);
        let ring = Ring { keys: KeyRing::new(keys), algorithms: algorithms.into(), generation: Generation([0; 16]) };
        (ring, self.problems)
    }

    /// The configured list, or what the keys themselves say; in the order of [`Algorithm::ALL`], each once.
    fn algorithms(&self, settings: &IssuerSettings) -> Vec<Algorithm> {
        let said_by_keys = || self.entries.iter().map(|key| key.alg.unwrap_or_else(|| key.material.usual_algorithm()));
        let wanted: Vec<Algorithm> =
            if settings.algorithms.is_empty() { said_by_keys().collect() } else { settings.algorithms.clone() };
        Algorithm::ALL.into_iter().filter(|algorithm| wanted.contains(algorithm)).collect()
    }

    /// With both kinds in one issuer, a public key could be offered as an HMAC secret.
    fn refuse_mixed_families(&mut self, algorithms: &[Algorithm]) {
        let (shared, public): (Vec<_>, Vec<_>) =
            algorithms.iter().copied().partition(|one: &Algorithm| one.family() == Family::Hmac);
        if let (Some(shared), Some(public)) = (shared.first(), public.first()) {
            let bad = BadKey::new(
                format!("one issuer cannot accept both {shared} (a shared secret) and {public} (a public key)"),
                "make two issuers, or set `algorithms` to those the tokens really use",
            );
            self.report(0, "", bad, true);
        }
    }

    /// Ties every key to the algorithms it will verify; a key tied to none is left out.
    fn bind(&mut self, algorithms: &[Algorithm]) -> Vec<VerifyingKey> {
        let mut kept: Vec<(Family, VerifyingKey)> = Vec::new();
        for entry in std::mem::take(&mut self.entries) {
            let family = entry.material.family();
            let taken = kept.iter().any(|(other, key)| *other == family && key.kid.is_some() && key.kid == entry.kid);
            let bound = if taken { Err(duplicate_kid(&entry)) } else { algorithms_of(&entry, algorithms) };
            let bound = bound.and_then(|own| VerifyingKey::bind(&entry.material, entry.kid.clone(), &own));
            match bound {
                Ok(key) => kept.push((family, key.valid(entry.validity))),
                Err(bad) => self.report(entry.source, &entry.label, bad, !entry.from_set),
            }
        }
        kept.into_iter().map(|(_, key)| key).collect()
    }

    fn note_unserved(&mut self, algorithms: &[Algorithm], keys: &[VerifyingKey]) {
        if keys.is_empty() {
            if !self.problems.iter().any(|problem| problem.fatal) {
                let bad = BadKey::new(
                    "the issuer has no usable key, so no token could ever pass",
                    "give it a `secret`, `public_keys` or a key set with a signing key of its algorithms",
                );
                self.report(0, "", bad, true);
            }
            return;
        }
        for algorithm in algorithms {
            if !keys.iter().any(|key| key.serves(*algorithm)) {
                let bad = BadKey::new(
                    format!("{algorithm} is accepted, but no key can verify it"),
                    format!("remove {algorithm} from `algorithms`, or add its key"),
                );
                self.report(0, "", bad, false);
            }
        }
    }

    fn report(&mut self, source_index: usize, label: &str, bad: BadKey, fatal: bool) {
        let message = if label.is_empty() { bad.message } else { format!("{label}: {}", bad.message) };
        self.problems.push(KeyProblem { source_index, message, hint: bad.hint, fatal });
    }
}

/// The issuer's algorithms this key will verify: its own where it names one, else every one of its kind.
fn algorithms_of(entry: &Entry, algorithms: &[Algorithm]) -> Result<Box<[Algorithm]>, BadKey> {
    let may = |one: &&Algorithm| entry.alg.is_none_or(|own| own == **one) && entry.material.fits(**one);
    let bound: Box<[Algorithm]> = algorithms.iter().filter(may).copied().collect();
    if bound.is_empty() {
        let names = algorithms.iter().map(|one| one.name()).collect::<Vec<_>>().join(", ");
        let own = entry.alg.unwrap_or_else(|| entry.material.usual_algorithm());
        return Err(BadKey::new(
            format!("the {} serves none of the issuer's algorithms ({names})", entry.material.noun()),
            format!("add {own} to `algorithms` if the issuer signs with it, or remove the key"),
        ));
    }
    bound.iter().try_for_each(|one| entry.material.long_enough_for(*one))?;
    Ok(bound)
}

fn duplicate_kid(entry: &Entry) -> BadKey {
    let kid = entry.kid.as_deref().unwrap_or_default();
    BadKey::new(
        format!(
            "a second {} has the `kid` `{}`; the first one stays in use",
            entry.material.noun(),
            kid.escape_debug()
        ),
        "give every key of one type its own `kid`",
    )
}

impl Generation {
    /// Every rule goes in, each with its length, so that no two configurations read alike.
    fn of_rules(settings: &IssuerSettings) -> Self {
        let mut hash = ContentHash::new();
        hash.part(settings.name.as_bytes());
        hash.list(settings.issuer.iter().map(|text| text.as_bytes()));
        hash.list(settings.audiences.iter().map(|text| text.as_bytes()));
        hash.list(settings.required_claims.iter().map(|text| text.as_bytes()));
        hash.list(settings.typ.iter().map(|text| text.as_bytes()));
        hash.part(settings.subject_claim.as_bytes());
        hash.part(&settings.leeway_secs.to_be_bytes());
        hash.part(&[u8::from(settings.require_exp)]);
        for demand in &settings.require {
            hash.demand(demand);
        }
        hash.finish()
    }

    /// The rules with these keys, verifying these algorithms.
    fn with_keys(self, keys: &[KeySettings], algorithms: &[Algorithm]) -> Self {
        let mut hash = ContentHash::new();
        hash.part(&self.0);
        hash.list(algorithms.iter().map(|one| one.name().as_bytes()));
        for key in keys {
            hash.key(key);
        }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::super::UnixSeconds;
    use super::super::fixtures;
    use super::super::settings::Secret;
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
