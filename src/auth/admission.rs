//! How keys come in: which may stand in one issuer together, and for which algorithms.
//!
//! Owns the refusals: no shared secret beside public keys, no key that serves no algorithm, no two keys of one type with one `kid`. What
//! single keys must be is `material`'s. RFC 8725 sections 3.1, 3.2 and 3.5.

use super::jwks::{self, Member};
use super::keys::{KeyRing, Validity, VerifyingKey};
use super::material::{BadKey, Material};
use super::pem;
use super::settings::{Algorithm, Family, IssuerSettings, KeySettings, KeySource};

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

/// What came in: the keys, and the only algorithms they may be used with.
pub(super) struct Admitted {
    pub(super) keys: KeyRing,
    pub(super) algorithms: Box<[Algorithm]>,
    pub(super) problems: Vec<KeyProblem>,
}

/// Admits the keys of the settings. A source an operator wrote by hand (secret, PEM) must be right as a whole; of a key set, the bad members
/// are left out.
pub(super) fn admit_configured(settings: &IssuerSettings) -> Admitted {
    let mut admission = Admission::default();
    for (index, key) in settings.keys.iter().enumerate() {
        admission.read(index, key);
    }
    admission.finish(settings)
}

/// Admits the members of a set that the issuer publishes.
pub(super) fn admit_published(settings: &IssuerSettings, members: &[Member]) -> Admitted {
    let mut admission = Admission::default();
    admission.take_members(0, "", Validity::default(), members.iter().cloned());
    admission.finish(settings)
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
                    self.take_members(source, label, validity, members.into_iter());
                }
                Err(bad) => self.report(source, label, bad, true),
            },
        }
    }

    fn take_members(&mut self, source: usize, label: &str, validity: Validity, members: impl Iterator<Item = Member>) {
        self.entries.extend(members.map(|member| Entry {
            source,
            label: label.to_owned(),
            from_set: true,
            validity,
            kid: member.kid,
            alg: member.alg,
            material: member.material,
        }));
    }

    fn finish(mut self, settings: &IssuerSettings) -> Admitted {
        let algorithms = self.algorithms(settings);
        self.refuse_mixed_families(&algorithms);
        let keys = self.bind(&algorithms);
        self.note_unserved(&algorithms, &keys);
        Admitted { keys: KeyRing::new(keys), algorithms: algorithms.into(), problems: self.problems }
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
