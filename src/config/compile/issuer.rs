//! `[issuer.NAME]`: keys are read here and judged by `auth`.

use super::super::entry::{Entry, Name};
use super::super::problem::{Problem, Span};
use super::super::raw;
use super::super::shapes::SecretSource;
use super::super::spans::IssuerSpans;
use super::context::{Context, bare};
use super::demand::demands;
use super::preset;
use crate::auth::{Algorithm, ClaimPath, Demand, Family, IssuerSettings, KeySettings, KeySource, Preset, Secret};

/// Seconds of clock difference forgiven where neither file nor preset says another number.
const LEEWAY_SECS: u64 = 30;
/// More than this is said aloud, and beyond the most is refused.
const USUAL_LEEWAY_SECS: i64 = 60;
const MOST_LEEWAY_SECS: i64 = 300;
const REALM: &str = "portcullis";
const REMEDY: &str = "check the path (it is relative to this file) and that the gateway's account may read it";

pub(super) fn issuer(context: &mut Context<'_>, name: &Name, raw: &raw::Issuer) -> (IssuerSettings, IssuerSpans) {
    let presets = Preset::ALL.map(|preset| (preset.name(), Some(preset)));
    let preset = context.choice(&raw.preset, "preset", &presets, None);
    let base = base(name, preset);
    let keys = keys(context, name, raw);
    let algorithms = algorithms(context, &raw.algorithms, kind(raw));
    let audiences = context.texts(&raw.audiences, "audiences", "leave the key out to accept any audience");
    match preset {
        Some(preset) => preset::complete(context, raw, preset, &base, name.span),
        None if raw.audiences.is_absent() => context.report(no_audience(name)),
        None => {}
    }
    let subject_claim = context.text(&raw.subject_claim, "subject_claim").map(|(text, _)| Box::<str>::from(text));
    let subject_claim = subject_claim.unwrap_or_else(|| base.subject_claim.clone());
    let written = context.texts(&raw.required_claims, "required_claims", "leave the key out to demand none");
    let required_claims = if raw.required_claims.is_absent() { base.required_claims.clone() } else { bare(written) };
    let token_types = context.texts(&raw.token_types, "token_types", "leave the key out to accept any type");
    let (keys, key_spans): (Vec<_>, Vec<_>) = keys.into_iter().unzip();
    let settings = IssuerSettings {
        keys: keys.into_iter().map(KeySettings::from).collect(),
        issuer: context.text(&raw.issuer, "issuer").map(|(text, _)| text.into()).or_else(|| base.issuer.clone()),
        audiences: bare(audiences),
        algorithms: if algorithms.is_empty() { fitting(&base.algorithms, kind(raw)) } else { algorithms },
        leeway_secs: leeway(context, &raw.leeway_secs, base.leeway_secs),
        required_claims,
        require: merged(demands_of(&base, &subject_claim), demands(context, &raw.require)),
        typ: if raw.token_types.is_absent() { base.typ.clone() } else { bare(token_types) },
        subject_claim,
        realm: realm(context, &raw.realm, &base.realm),
        ..base
    };
    (settings, IssuerSpans { name: name.span, keys: key_spans })
}

/// The preset's algorithms, where the keys are of their kind; else what the keys themselves say.
fn fitting(algorithms: &[Algorithm], kind: Option<Kind>) -> Vec<Algorithm> {
    let shared = kind == Some(Kind::Secret);
    let fit = |one: &&Algorithm| (one.family() == Family::Hmac) == shared;
    algorithms.iter().filter(fit).copied().collect()
}

fn leeway(context: &mut Context<'_>, entry: &Entry<i64>, default: u64) -> u64 {
    let seconds = context.number(entry, "leeway_secs", " seconds", 0..=MOST_LEEWAY_SECS, default);
    if let Entry::Given(span, written) = entry
        && (USUAL_LEEWAY_SECS + 1..=MOST_LEEWAY_SECS).contains(written)
    {
        let problem =
            Problem::warning(*span, format!("every token is good for {written} seconds after it has expired"));
        context.report(
            problem.hint("clocks kept by NTP differ by far less than a second: set them, and forgive 30 at most"),
        );
    }
    seconds
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

/// Which of the three keys the table uses.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Secret,
    PublicKeys,
    JwksFile,
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
    ]
    .into_iter()
    .filter_map(|(kind, key, span)| Some((kind, key, span?)))
    .collect()
}

fn keys(context: &mut Context<'_>, name: &Name, raw: &raw::Issuer) -> Vec<(KeySource, Span)> {
    let used = used(raw);
    let hint =
        "give exactly one of `secret = { env = \"NAME\" }`, `public_keys = [\"PATH\"]` and `jwks_file = \"PATH\"`";
    let Some(((kind, key, span), others)) = used.split_first() else {
        context.report(Problem::error(name.span, format!("the issuer `{}` has no keys", name.text)).hint(hint));
        return Vec::new();
    };
    for (_, other, at) in others {
        let problem = Problem::error(*at, format!("`{other}` beside `{key}`: an issuer has one kind of keys"));
        context.report(problem.note(*span, format!("`{key}` is here")).hint(hint));
    }
    match kind {
        Kind::Secret => secret(context, &raw.secret).into_iter().collect(),
        Kind::PublicKeys => public_keys(context, &raw.public_keys),
        Kind::JwksFile => jwks(context, &raw.jwks_file).into_iter().collect(),
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

fn secret(context: &mut Context<'_>, entry: &Entry<SecretSource>) -> Option<(KeySource, Span)> {
    let hint = "write `secret = { env = \"NAME\" }` or `secret = { file = \"PATH\" }`";
    // Whatever stands there instead of a table may be the secret itself: no message quotes it, no line shows it.
    if let Entry::Wrong(span, _) = entry {
        context.report(Problem::error(*span, "a secret is never written in this file").mask(*span).hint(hint));
        return None;
    }
    let (SecretSource(table), span) = context.take(entry)?;
    match (table.env.span(), table.file.span()) {
        (Some(_), None) => secret_variable(context, &table.env),
        (None, Some(_)) => secret_file(context, &table.file),
        (found, _) => {
            let message = if found.is_some() {
                "`secret` has both `env` and `file`"
            } else {
                "`secret` says neither `env` nor `file`"
            };
            context.report(Problem::error(span, message).hint(hint));
            None
        }
    }
}

fn secret_variable(context: &mut Context<'_>, entry: &Entry<String>) -> Option<(KeySource, Span)> {
    let (name, span) = context.text(entry, "env")?;
    let value = context.variable(name);
    let problem = match &value {
        None => Some(format!("the environment variable `{name}` is not set")),
        Some(value) if value.is_empty() => Some(format!("the environment variable `{name}` is empty")),
        Some(_) => None,
    };
    if let Some(message) = problem {
        context.report(Problem::error(span, message).hint(
            "set it where the gateway is started (systemd: EnvironmentFile=, Kubernetes: secretKeyRef), or use `secret = { file = \"PATH\" }`",
        ));
        return None;
    }
    Some((KeySource::Secret(Secret::new(value?)), span))
}

fn secret_file(context: &mut Context<'_>, entry: &Entry<String>) -> Option<(KeySource, Span)> {
    let (path, span) = context.text(entry, "file")?;
    let mut bytes = context.read(path, span, REMEDY)?;
    // Editors and `echo` end the last line; no issuer signs with that newline.
    if bytes.ends_with(b"\n") {
        bytes.pop();
        if bytes.ends_with(b"\r") {
            bytes.pop();
        }
    }
    if bytes.is_empty() {
        context.report(
            Problem::error(span, format!("the secret file {path} is empty"))
                .hint("put the issuer's signing secret there"),
        );
        return None;
    }
    Some((KeySource::Secret(Secret::new(bytes)), span))
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
