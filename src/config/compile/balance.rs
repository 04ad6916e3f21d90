//! How an upstream's endpoints are chosen: `balance`, and what one endpoint counts for.

use super::super::entry::Entry;
use super::super::problem::{Problem, Span};
use super::super::raw;
use super::super::shapes;
use super::super::spans::Spans;
use super::super::suggest;
use super::super::values::{Action, Config};
use super::context::Context;
use super::secret;
use crate::auth::{ClaimPath, Place};
use crate::upstream::{Balance, HashOn, Rank, SealSecret, StickySettings};

const WORDS: [(&str, Balance); 3] =
    [("least-requests", Balance::LeastRequests), ("round-robin", Balance::RoundRobin), ("random", Balance::Random)];
const KEYS: &str = "write \"header:NAME\", \"cookie:NAME\", \"claim:PATH\" or \"client\"";
const ONE_OF: &str =
    "write `{ hash = \"client\" }` or `{ sticky = { cookie = \"NAME\", secret = { env = \"NAME\" } } }`";

pub(super) fn balance(context: &mut Context<'_>, entry: &Entry<shapes::Balance>) -> Balance {
    let Some((shape, span)) = context.take(entry) else { return Balance::default() };
    match shape {
        shapes::Balance::Word(word) => {
            if let Some((_, balance)) = WORDS.iter().find(|(known, _)| known == word) {
                return balance.clone();
            }
            let problem = Problem::error(span, format!("`{word}` is no value of `balance`"));
            let hint = match word.as_str() {
                "hash" | "sticky" => Some(ONE_OF.to_owned()),
                word => suggest::hint(word, WORDS.iter().map(|(known, _)| *known)),
            };
            context.report(Problem { hint, ..problem });
            Balance::default()
        }
        shapes::Balance::Table(table) => of_table(context, table, span).unwrap_or_default(),
    }
}

fn of_table(context: &mut Context<'_>, table: &raw::BalanceTable, span: Span) -> Option<Balance> {
    let bound = context.number(&table.most_percent, "most_percent", " per cent", 101..=10_000, 0);
    if let (Some(span), true) = (table.most_percent.span(), table.hash.is_absent()) {
        let problem = Problem::error(span, "`most_percent` without `hash`");
        context.report(problem.hint("it bounds what the keys of an endpoint may bring it"));
    }
    match (table.hash.span(), table.sticky.span()) {
        (Some(_), None) => {
            let on = hash_on(context, &table.hash)?;
            Some(Balance::Hash { on, most_percent: (bound > 0).then_some(bound) })
        }
        (None, Some(_)) => sticky(context, &table.sticky).map(Balance::Sticky),
        (None, None) => {
            context.report(Problem::error(span, "`balance` says neither `hash` nor `sticky`").hint(ONE_OF));
            None
        }
        (Some(first), Some(second)) => {
            let problem = Problem::error(second, "`sticky` beside `hash`").note(first, "`hash` is here");
            context.report(problem.hint("a request can be bound by one of them only"));
            None
        }
    }
}

fn hash_on(context: &mut Context<'_>, entry: &Entry<String>) -> Option<HashOn> {
    let (text, span) = context.text(entry, "hash")?;
    let found = match text.split_once(':') {
        None if text == "client" => Ok(HashOn::Client),
        Some(("header", name)) => {
            name.parse().map(HashOn::Header).map_err(|_| format!("`{name}` is no name of a field"))
        }
        Some(("cookie", name)) if is_token(name) => Ok(HashOn::Cookie(name.into())),
        Some(("cookie", name)) => Err(format!("`{name}` is no name of a cookie")),
        Some(("claim", path)) if ClaimPath::parse(path).is_ok() => Ok(HashOn::Claim(path.into())),
        Some(("claim", path)) => Err(format!("`{path}` is no path of a claim")),
        _ => Err(format!("`{text}` is nothing that requests are told apart by")),
    };
    match found {
        Ok(on) => Some(on),
        Err(message) => {
            context.report(Problem::error(span, message).hint(KEYS));
            None
        }
    }
}

fn sticky(context: &mut Context<'_>, entry: &Entry<raw::Sticky>) -> Option<StickySettings> {
    let (raw, span) = context.take(entry)?;
    let cookie = context.demand(&raw.cookie, span, "`sticky` has no `cookie`", "add `cookie = \"srv\"`");
    if let Some((name, span)) = cookie.filter(|(name, _)| !is_token(name)) {
        let problem = Problem::error(span, format!("`{name}` is no name of a cookie"));
        context.report(problem.hint("use letters, digits, `-`, `_` and `.`"));
    }
    if raw.secret.is_absent() {
        let problem = Problem::error(span, "`sticky` has no `secret`");
        context.report(problem.hint("add `secret = { env = \"NAME\" }`: without one, anybody could make such cookies"));
    }
    let (secret, span) = secret::secret(context, &raw.secret, "secret")?;
    let (least, bytes) = (StickySettings::LEAST_SECRET_BYTES, secret.expose().len());
    if bytes < least {
        let problem = Problem::error(span, format!("this secret has {bytes} bytes: a cookie needs {least} at least"));
        context.report(problem.hint("make one: `openssl rand -base64 48`"));
    }
    let (cookie, _) = cookie?;
    Some(StickySettings { cookie: cookie.as_str().into(), secret: SealSecret::new(secret.expose()) })
}

/// RFC 9110 section 5.6.2, which RFC 6265 section 4.1.1 asks of a cookie's name.
fn is_token(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(legal)
}

/// What one endpoint counts for.
pub(super) fn rank(context: &mut Context<'_>, table: &raw::EndpointTable) -> Rank {
    let usual = Rank::default();
    Rank {
        weight: context.number(&table.weight, "weight", "", 1..=1000, usual.weight),
        priority: context.number(&table.priority, "priority", "", 0..=15, usual.priority),
    }
}

/// A cookie that the gateway takes out of requests is no place for a token that the application is to read.
pub(super) fn clashes(config: &Config, spans: &Spans) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (route, at) in config.routes.iter().zip(&spans.routes) {
        let Action::Upstream { upstream, .. } = &route.action else { continue };
        let Balance::Sticky(sticky) = &config.upstreams[*upstream].balance else { continue };
        let is_ours = |place: &Place| matches!(place, Place::Cookie(name) if *name == sticky.cookie);
        if route.auth.policies().any(|policy| policy.places.iter().any(is_ours)) {
            let message = format!("the route `{}` waits for tokens in the cookie `{}`", route.name, sticky.cookie);
            let problem = Problem::error(at.name, message);
            let span = spans.upstreams[*upstream].name;
            problems.push(problem.note(span, "the upstream binds its clients by it").hint("name another"));
        }
    }
    problems
}

/// A claim is known where a token was verified, and nowhere else.
pub(super) fn doubts(config: &Config, spans: &Spans) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (index, (upstream, at)) in config.upstreams.iter().zip(&spans.upstreams).enumerate() {
        let Balance::Hash { on: HashOn::Claim(claim), .. } = &upstream.balance else { continue };
        let uses = |action: &Action| matches!(action, Action::Upstream { upstream, .. } if *upstream == index);
        let open = config.routes.iter().find(|route| uses(&route.action) && route.auth.issuers().next().is_none());
        if let Some(route) = open {
            let message =
                format!("the route `{}` has no token whose claim `{claim}` could choose an endpoint", route.name);
            let hint =
                format!("its requests to `{}` go to any: ask for a token, or hash on something else", upstream.name);
            problems.push(Problem::warning(at.balance.unwrap_or(at.name), message).hint(hint));
        }
    }
    problems
}
