//! What only the whole configuration shows: tables that don't go together, and tables that nobody uses.

use http::Method;

use super::super::problem::{Problem, Span};
use super::super::spans::Spans;
use super::super::values::{Action, Config, Route};
use super::{balance, hosts, identity, internal, publish};
use crate::auth::{Demanded, IssuerSettings, Place, PolicySettings};
use crate::route::{Router, Rule};
use crate::upstream::{UpstreamSettings, Wire};

/// What may not stand together.
pub(super) fn errors(config: &Config, spans: &Spans) -> Vec<Problem> {
    let shut_out = shut_out(config, spans);
    [indistinct(config, spans), never_arriving(config, spans), shared_copies(config, spans), shut_out].concat()
}

/// A worker keeps an HTTP/2 connection for as long as it has requests: with fewer than there are workers, some would never get one.
fn shut_out(config: &Config, spans: &Spans) -> Vec<Problem> {
    let workers = config.server.workers;
    let shares = |upstream: &UpstreamSettings| upstream.endpoints.iter().any(|address| address.wire == Wire::Http2);
    let few = config.upstreams.iter().zip(&spans.upstreams);
    let few = few.filter(|(upstream, _)| shares(upstream) && upstream.max_connections < workers);
    few.map(|(upstream, at)| {
        let (name, most) = (&upstream.name, upstream.max_connections);
        let message = format!("`max_connections = {most}` of `{name}` is less than the {workers} workers");
        Problem::error(at.name, message).hint(
            "over HTTP/2 each worker needs a connection of its own, which `max_streams` requests share: raise it, or set `workers`",
        )
    })
    .collect()
}

/// A token names its issuer by `iss`; issuers that can't be told apart by it would try each other's tokens. One that is asked about its
/// tokens is told from the others by their form, and from another such one by nothing.
fn indistinct(config: &Config, spans: &Spans) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (route, at) in config.routes.iter().zip(&spans.routes) {
        for policy in route.auth.policies() {
            let mut seen: Vec<&IssuerSettings> = Vec::new();
            for issuer in policy.issuers.iter().filter_map(|index| config.issuers.get(*index)) {
                let asked = issuer.introspection.is_some();
                let same = |other: &&&IssuerSettings| match (asked, other.introspection.is_some()) {
                    (false, false) => other.issuer == issuer.issuer,
                    (asked, other) => asked && other,
                };
                if let Some(other) = seen.iter().find(same) {
                    let (a, b) = (&other.name, &issuer.name);
                    let message = format!("the route `{}` can't tell tokens of `{a}` from tokens of `{b}`", route.name);
                    let hint = if asked {
                        "one issuer with `introspection` is all that a route can take"
                    } else {
                        "give each its own `issuer`, the value of the claim `iss`; one may be without"
                    };
                    problems.push(Problem::error(at.name, message).hint(hint));
                }
                seen.push(issuer);
            }
        }
    }
    problems.dedup();
    problems
}

/// A field that speaks for the client is removed from every request, so no token arrives in it on any route.
fn never_arriving(config: &Config, spans: &Spans) -> Vec<Problem> {
    let identity = |header| config.routes.iter().find(|route| route.auth.identity_headers().any(|one| one == header));
    let mut problems = Vec::new();
    for (route, at) in config.routes.iter().zip(&spans.routes) {
        for place in route.auth.policies().flat_map(|policy| &policy.places) {
            let Place::Header(header) = place else { continue };
            if let Some(other) = identity(header) {
                let (name, other) = (&route.name, &other.name);
                let message = format!("the route `{name}` waits for tokens in `{header}`, where none arrives");
                let hint =
                    format!("the route `{other}` forwards claims in it, so clients may not send it: name another");
                problems.push(Problem::error(at.name, message).hint(hint));
            }
        }
    }
    problems.dedup();
    problems
}

/// Two key sets in one file would take turns at overwriting each other, and neither would be there when it is needed.
fn shared_copies(config: &Config, spans: &Spans) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut seen: Vec<(&IssuerSettings, Span)> = Vec::new();
    for (issuer, at) in config.issuers.iter().zip(&spans.issuers) {
        let Some(remote) = issuer.remote.as_ref().filter(|remote| remote.last_good.is_some()) else { continue };
        let rival = |other: &IssuerSettings| {
            other
                .remote
                .as_ref()
                .is_some_and(|other| other.last_good == remote.last_good && other.source != remote.source)
        };
        if let Some((other, first)) = seen.iter().find(|(other, _)| rival(other)) {
            let message = format!("`{}` and `{}` keep different keys in one `last_good_file`", other.name, issuer.name);
            let problem = Problem::error(at.name, message).note(*first, "the other is here");
            problems.push(problem.hint("give each its own file"));
        }
        seen.push((issuer, at.name));
    }
    problems
}

/// RFC 9449 section 4.2: `htu` names the host a proof was made for. Where every host is taken, or every one below a name, one that was
/// made for another server there, and that this server saw, is as good as one made for us.
fn proofs_for_any_host(config: &Config, spans: &Spans) -> Vec<Problem> {
    let by_key = |index: usize| {
        let demanded = config.issuers.get(index).map(|issuer| issuer.binding.demanded);
        matches!(demanded, Some(Demanded::Key | Demanded::Either))
    };
    let taken = config.routes.iter().zip(&spans.routes).filter(|(route, _)| route.auth.issuers().any(by_key));
    taken
        .filter_map(|(route, at)| {
            let wildcard = route.hosts.iter().find(|host| host.starts_with("*."));
            let (whom, hint) = match wildcard {
                Some(host) => (format!("host of `{host}`"), "name each host: a server"),
                None if route.hosts.is_empty() => ("host".to_owned(), "add `hosts = [\"...\"]`: a server"),
                None => return None,
            };
            let message =
                format!("the route `{}` takes proofs of possession that were made for any {whom}", route.name);
            let hint = format!("{hint} that clients call with the same tokens could send theirs on");
            Some(Problem::warning(at.name, message).hint(hint))
        })
        .collect()
}

/// A login page that itself asks for a login sends the browser round in a circle.
fn login_loops(config: &Config, spans: &Spans) -> Vec<Problem> {
    let rules = config.routes.iter().map(|route| Rule {
        hosts: route.hosts.clone(),
        path: route.path.clone(),
        methods: route.methods.clone(),
        value: route,
    });
    let router = Router::new(rules);
    let login = |route: &Route| route.auth.policies().next().and_then(|policy| policy.login_url.clone());
    let guarded = |policy: &PolicySettings| !policy.optional && policy.login_url.is_some();
    let mut problems = Vec::new();
    for (route, at) in config.routes.iter().zip(&spans.routes) {
        let Some(url) = login(route).filter(|url| url.starts_with('/')) else { continue };
        let path = url.split(['?', '#', '{']).next().unwrap_or_default();
        let host = route.hosts.first().map(|host| hosts::sample(host)).unwrap_or_default();
        let Ok(found) = router.find(&host, path, &Method::GET) else { continue };
        if found.auth.policies().any(guarded) {
            let message = format!("the login page `{path}` asks for a login itself");
            let hint = format!("it is on the route `{}`: add a route for it with `auth = \"public\"`", found.name);
            problems.push(Problem::warning(at.name, message).hint(hint));
        }
    }
    problems
}

/// What is probably not as meant.
pub(super) fn warnings(config: &Config, spans: &Spans) -> Vec<Problem> {
    let mut warnings = Vec::new();
    if config.routes.is_empty() {
        let hint = "add a [[route]]; until then every request is answered 404";
        warnings.push(Problem::warning(None, "there is no route").hint(hint));
    }
    let used = |index| config.routes.iter().any(|route| route.auth.issuers().any(|issuer| issuer == index));
    for (index, (issuer, spans)) in config.issuers.iter().zip(&spans.issuers).enumerate() {
        if !used(index) {
            warnings.push(unused("issuer", &issuer.name, spans.name));
        }
    }
    let used = |index| {
        config.routes.iter().any(|route| matches!(route.action, Action::Upstream { upstream, .. } if upstream == index))
    };
    for (index, (upstream, spans)) in config.upstreams.iter().zip(&spans.upstreams).enumerate() {
        if !used(index) {
            warnings.push(unused("upstream", &upstream.name, spans.name));
        }
    }
    for (index, (limit, span)) in config.rate_limits.iter().zip(&spans.rate_limits).enumerate() {
        if !config.routes.iter().any(|route| route.rate_limits.contains(&index)) {
            warnings.push(unused("rate_limit", &limit.name, *span));
        }
    }
    warnings.extend(identity::doubts(config, spans));
    warnings.extend(publish::doubts(config, spans));
    warnings.extend(login_loops(config, spans));
    warnings.extend(proofs_for_any_host(config, spans));
    warnings.extend(tokens_in_clear(config, spans));
    warnings.extend(internal::doubts(config, spans));
    warnings.extend(balance::doubts(config, spans));
    warnings
}

fn unused(kind: &str, name: &str, span: Span) -> Problem {
    Problem::warning(span, format!("no route uses the {kind} `{name}`")).hint("remove the table, or name it in a route")
}

/// RFC 6750 section 5.3: bearer tokens go over TLS. Behind a proxy that ends TLS, `trusted_proxies` says so.
fn tokens_in_clear(config: &Config, spans: &Spans) -> Vec<Problem> {
    let tokens = config.routes.iter().any(|route| !route.auth.is_public());
    if !tokens || !config.server.trusted_proxies.is_empty() {
        return Vec::new();
    }
    config
        .listeners
        .iter()
        .zip(&spans.listeners)
        .filter(|(listener, _)| {
            let plain = listener.tls.is_none() && listener.redirect_to_https.is_none();
            plain && !listener.listen.address.ip().is_loopback()
        })
        .map(|(listener, spans)| {
            let message = format!("tokens reach the listener `{}` unencrypted", listener.listen.name);
            Problem::warning(spans.address, message).hint(
                "add `certificates` or `redirect_to_https = true`; if a proxy in front ends TLS, name its network in `trusted_proxies`",
            )
        })
        .collect()
}
