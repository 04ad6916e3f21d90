//! `[issuer.NAME]`: keys are read here and judged by `auth`.

use super::super::entry::{Entry, Name};
use super::super::problem::{Problem, Span};
use super::super::raw;
use super::super::spans::IssuerSpans;
use super::context::{Context, bare};
use super::demand::demands;
use super::keys::{self, Kind};
use super::{fetch, introspection, preset, remote};
use crate::auth::{
    Algorithm, Binding, ClaimPath, Demand, Demanded, Family, IssuerSettings, KeySettings, KeySource, MOST_LEEWAY_SECS,
    Preset, RemoteSettings, RemoteSource,
};

/// Seconds of clock difference forgiven where neither file nor preset says another number.
const LEEWAY_SECS: u64 = 30;
/// More than this is said aloud, and beyond the most is refused.
const USUAL_LEEWAY_SECS: i64 = 60;
const REALM: &str = "portcullis";
pub(super) const REMEDY: &str =
    "check the path (it is relative to this file) and that the gateway's account may read it";

pub(super) fn issuer(context: &mut Context<'_>, name: &Name, raw: &raw::Issuer) -> (IssuerSettings, IssuerSpans) {
    let presets = Preset::ALL.map(|preset| (preset.name(), Some(preset)));
    let preset = context.choice(&raw.preset, "preset", &presets, None);
    let base = base(name, preset);
    let keys = keys::keys(context, name, raw);
    let remote = remote(context, raw, keys::kind(raw));
    fetch::used(context, raw);
    let algorithms = algorithms(context, &raw.algorithms, keys::kind(raw));
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
    let (keys, mut key_spans): (Vec<_>, Vec<_>) = keys.into_iter().unzip();
    key_spans.extend(remote.as_ref().map(|(_, span)| *span));
    let remote = remote.map(|(remote, _)| remote);
    let issuer = context.text(&raw.issuer, "issuer").map(|(text, _)| Box::<str>::from(text));
    let shared = keys.iter().any(|key: &KeySettings| matches!(key.source, KeySource::Secret(_)));
    let settings = IssuerSettings {
        keys,
        require_exp: base.require_exp && raw.introspection.is_absent(),
        introspection: introspection::introspection(context, raw),
        issuer: issuer.or_else(|| discovered(remote.as_ref())).or_else(|| base.issuer.clone()),
        remote,
        binding: binding(context, raw),
        audiences: bare(audiences),
        algorithms: if algorithms.is_empty() { fitting(&base.algorithms, shared) } else { algorithms },
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
fn fitting(algorithms: &[Algorithm], shared: bool) -> Vec<Algorithm> {
    let fit = |one: &&Algorithm| (one.family() == Family::Hmac) == shared;
    algorithms.iter().filter(fit).copied().collect()
}

fn leeway(context: &mut Context<'_>, entry: &Entry<i64>, default: u64) -> u64 {
    let seconds = context.number(entry, "leeway_secs", " seconds", 0..=MOST_LEEWAY_SECS.into(), default);
    if let Entry::Given(span, written) = entry
        && (USUAL_LEEWAY_SECS + 1..=MOST_LEEWAY_SECS.into()).contains(written)
    {
        let problem =
            Problem::warning(*span, format!("every token is good for {written} seconds after it has expired"));
        context.report(
            problem.hint("clocks kept by NTP differ by far less than a second: set them, and forgive 30 at most"),
        );
    }
    seconds
}

/// RFC 8414 section 3.3: the metadata must be of whom they were asked for, so their issuer signs the tokens too.
fn discovered(remote: Option<&RemoteSettings>) -> Option<Box<str>> {
    match &remote?.source {
        RemoteSource::Discovery(location) => Some(location.as_str().into()),
        RemoteSource::KeySet(_) => None,
    }
}

fn remote(context: &mut Context<'_>, raw: &raw::Issuer, kind: Option<Kind>) -> Option<(RemoteSettings, Span)> {
    matches!(kind, Some(Kind::JwksUrl | Kind::Discovery)).then(|| remote::remote(context, raw))?
}

fn binding(context: &mut Context<'_>, raw: &raw::Issuer) -> Binding {
    let words = [
        ("no", Demanded::Nothing),
        ("key", Demanded::Key),
        ("certificate", Demanded::Certificate),
        ("either", Demanded::Either),
    ];
    let demanded = context.choice(&raw.binding, "binding", &words, Demanded::Nothing);
    Binding { demanded, nonce: context.flag(&raw.dpop_nonce, false) }
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
        (Some((hmac, span)), None, Some(Kind::PublicKeys | Kind::JwksUrl | Kind::Discovery)) => {
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
