//! `[issuer.NAME]`: keys are read here and judged by `auth`.

use super::super::entry::{Entry, Name};
use super::super::problem::{Problem, Span};
use super::super::raw;
use super::super::spans::IssuerSpans;
use super::context::{Context, bare};
use super::demand::demands;
use super::secret::secret;
use super::{fetch, introspection};
use crate::auth::{Algorithm, ClaimPath, Demand, Family, IssuerSettings, KeySettings, KeySource, Preset};

/// Seconds of clock difference forgiven where neither file nor preset says another number.
const LEEWAY_SECS: u64 = 30;
const REALM: &str = "portcullis";
pub(super) const REMEDY: &str =
    "check the path (it is relative to this file) and that the gateway's account may read it";

pub(super) fn issuer(context: &mut Context<'_>, name: &Name, raw: &raw::Issuer) -> (IssuerSettings, IssuerSpans) {
    let presets = Preset::ALL.map(|preset| (preset.name(), Some(preset)));
    let preset = context.choice(&raw.preset, "preset", &presets, None);
    let base = base(name, preset);
    let keys = keys(context, name, raw);
    let algorithms = algorithms(context, &raw.algorithms, kind(raw));
    let audiences = context.texts(&raw.audiences, "audiences", "leave the key out to accept any audience");
    if raw.audiences.is_absent() && preset.is_none() {
        context.report(no_audience(name));
    }
    let subject_claim = context.text(&raw.subject_claim, "subject_claim").map(|(text, _)| Box::<str>::from(text));
    let subject_claim = subject_claim.unwrap_or_else(|| base.subject_claim.clone());
    let written = context.texts(&raw.required_claims, "required_claims", "leave the key out to demand none");
    let required_claims = if raw.required_claims.is_absent() { base.required_claims.clone() } else { bare(written) };
    let introspection = introspection::introspection(context, raw);
    fetch::used(context, raw);
    let (keys, key_spans): (Vec<_>, Vec<_>) = keys.into_iter().unzip();
    let settings = IssuerSettings {
        keys: keys.into_iter().map(KeySettings::from).collect(),
        require_exp: base.require_exp && raw.introspection.is_absent(),
        introspection,
        issuer: context.text(&raw.issuer, "issuer").map(|(text, _)| text.into()),
        audiences: bare(audiences),
        algorithms: if algorithms.is_empty() && !raw.secret.is_absent() { base.algorithms.clone() } else { algorithms },
        leeway_secs: context.number(&raw.leeway_secs, "leeway_secs", " seconds", 0..=60, base.leeway_secs),
        required_claims,
        require: merged(demands_of(&base, &subject_claim), demands(context, &raw.require)),
        typ: bare(context.texts(&raw.token_types, "token_types", "leave the key out to accept any type")),
        subject_claim,
        realm: realm(context, &raw.realm, &base.realm),
        ..base
    };
    (settings, IssuerSpans { name: name.span, keys: key_spans })
}

/// What holds where the table is silent.
fn base(name: &Name, preset: Option<Preset>) -> IssuerSettings {
    let named = IssuerSettings::named(name.text.as_str());
    let mut base = IssuerSettings { leeway_secs: LEEWAY_SECS, realm: REALM.into(), ..named };
    if let Some(preset) = preset {
        preset.apply(&mut base);
    }
    base
}

/// The preset's demands; the one on its subject claim follows when the table names another.
fn demands_of(base: &IssuerSettings, subject_claim: &str) -> Vec<Demand> {
    let subject = ClaimPath::top(&base.subject_claim);
    let follow = |demand: &Demand| {
        let claim = if demand.claim == subject { ClaimPath::top(subject_claim) } else { demand.claim.clone() };
        Demand { claim, test: demand.test.clone() }
    };
    base.require.iter().map(follow).collect()
}

fn no_audience(name: &Name) -> Problem {
    let message = format!("the issuer `{}` does not look at `aud`: tokens meant for others pass", name.text);
    Problem::warning(name.span, message)
        .hint("add `audiences = [\"...\"]` with the name the issuer gives this application")
}

/// What the table writes wins over the preset, claim by claim: adding a demand never drops the preset's.
fn merged(preset: Vec<Demand>, mut written: Vec<Demand>) -> Vec<Demand> {
    let silent = |demand: &Demand| written.iter().all(|other| other.claim != demand.claim);
    let mut all: Vec<_> = preset.into_iter().filter(silent).collect();
    all.append(&mut written);
    all
}

/// Which of the keys the table uses.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Secret,
    PublicKeys,
    JwksFile,
    Introspection,
}

fn kind(raw: &raw::Issuer) -> Option<Kind> {
    used(raw).first().map(|(kind, ..)| *kind)
}

/// The ways to give keys that the table uses; exactly one is right.
fn used(raw: &raw::Issuer) -> Vec<(Kind, &'static str, Span)> {
    [
        (Kind::Secret, "secret", raw.secret.span()),
        (Kind::PublicKeys, "public_keys", raw.public_keys.span()),
        (Kind::JwksFile, "jwks_file", raw.jwks_file.span()),
        (Kind::Introspection, "introspection", raw.introspection.span()),
    ]
    .into_iter()
    .filter_map(|(kind, key, span)| Some((kind, key, span?)))
    .collect()
}

fn keys(context: &mut Context<'_>, name: &Name, raw: &raw::Issuer) -> Vec<(KeySource, Span)> {
    let used = used(raw);
    let hint = "give exactly one of `secret = { env = \"NAME\" }`, `public_keys = [\"PATH\"]`, `jwks_file = \"PATH\"` and \
                `introspection = { url = \"https://..\", .. }`";
    let Some(((kind, key, span), others)) = used.split_first() else {
        context.report(Problem::error(name.span, format!("the issuer `{}` has no keys", name.text)).hint(hint));
        return Vec::new();
    };
    for (_, other, at) in others {
        let problem = Problem::error(*at, format!("`{other}` beside `{key}`: an issuer has one kind of keys"));
        context.report(problem.note(*span, format!("`{key}` is here")).hint(hint));
    }
    match kind {
        Kind::Secret => {
            let secret = secret(context, &raw.secret, "secret");
            secret.into_iter().map(|(secret, span)| (KeySource::Secret(secret), span)).collect()
        }
        Kind::PublicKeys => public_keys(context, &raw.public_keys),
        Kind::JwksFile => jwks(context, &raw.jwks_file).into_iter().collect(),
        Kind::Introspection => Vec::new(), // the issuer itself is asked
    }
}

fn public_keys(context: &mut Context<'_>, entry: &Entry<Vec<Entry<String>>>) -> Vec<(KeySource, Span)> {
    context
        .texts(entry, "public_keys", "name at least one PEM file")
        .into_iter()
        .filter_map(|(path, span)| {
            let bytes = context.read(&path, span, REMEDY)?;
            Some((KeySource::Pem { bytes, label: path.into() }, span))
        })
        .collect()
}

fn jwks(context: &mut Context<'_>, entry: &Entry<String>) -> Option<(KeySource, Span)> {
    let (path, span) = context.text(entry, "jwks_file")?;
    let bytes = context.read(path, span, REMEDY)?;
    Some((KeySource::Jwks { bytes, label: path.to_owned() }, span))
}

/// RFC 8725 section 3.1: the algorithms are ours to say, and one kind of key serves one kind of algorithm.
fn algorithms(context: &mut Context<'_>, entry: &Entry<Vec<Entry<String>>>, kind: Option<Kind>) -> Vec<Algorithm> {
    let named = context.texts(entry, "algorithms", "leave the key out to take what the keys say");
    let mut known: Vec<(Algorithm, Span)> = Vec::new();
    for (name, span) in named {
        match name.parse() {
            Ok(algorithm) => known.push((algorithm, span)),
            Err(_) => context.report(unknown_algorithm(&name, span)),
        }
    }
    let hmac = known.iter().find(|(algorithm, _)| algorithm.family() == Family::Hmac).copied();
    let public = known.iter().find(|(algorithm, _)| algorithm.family() != Family::Hmac).copied();
    match (hmac, public, kind) {
        (Some((hmac, first)), Some((public, span)), _) => {
            let message = format!("{hmac} and {public} in one issuer: a public key would also be a secret");
            let problem = Problem::error(span, message).note(first, format!("{hmac} is here"));
            context.report(problem.hint("keep the family the issuer signs with"));
        }
        (None, Some((public, span)), Some(Kind::Secret)) => {
            let problem = Problem::error(span, format!("{public} cannot be verified with a secret"));
            context.report(problem.hint("use HS256, or give the issuer's public key in `public_keys`"));
        }
        (Some((hmac, span)), None, Some(Kind::PublicKeys)) => {
            let message = format!("{hmac} with a public key: whoever knows the public key could sign");
            context.report(
                Problem::error(span, message).hint("use the algorithm of the key pair, such as RS256, ES256 or EdDSA"),
            );
        }
        _ => {}
    }
    known.into_iter().map(|(algorithm, _)| algorithm).collect()
}

fn unknown_algorithm(name: &str, span: Span) -> Problem {
    let problem = Problem::error(span, format!("`{name}` is no algorithm this gateway verifies"));
    if name.eq_ignore_ascii_case("none") {
        return problem
            .hint("unsigned tokens are never accepted; for a route that needs no token write `auth = \"public\"`");
    }
    let names = Algorithm::ALL.map(Algorithm::name);
    match names.iter().find(|known| known.eq_ignore_ascii_case(name)) {
        // Only the case: a name near in letters (ES512, HS512) is far in meaning.
        Some(known) => problem.hint(format!("did you mean `{known}`?")),
        None => problem.hint(format!("known: {}", names.join(", "))),
    }
}

/// RFC 9110 section 11.5: the realm is a quoted string.
fn realm(context: &mut Context<'_>, entry: &Entry<String>, default: &str) -> Box<str> {
    let Some((text, span)) = context.text(entry, "realm") else { return default.into() };
    if !text.bytes().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')) {
        context.report(Problem::error(span, "a realm is printable ASCII without quotes and backslashes"));
    }
    text.into()
}
