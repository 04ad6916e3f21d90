//! From the file as typed to the configuration as meant: pure, and all problems at once.
//!
//! One submodule a group of tables; each fills in the settings struct of the stage it belongs to. Nothing here stops at the
//! first problem: a value that is wrong is reported and replaced by something harmless, and whatever was compiled is thrown
//! away at the end if one problem was an error.

mod action;
mod auth;
mod context;
mod demand;
mod fetch;
mod fields;
mod identity;
mod introspection;
mod issuer;
mod keys;
mod link;
mod listen;
mod overlap;
mod path;
mod place;
mod preset;
mod publish;
mod remote;
mod revocation;
mod route;
mod rule;
mod secret;
mod server;
mod upstream;

use std::path::{Path, PathBuf};

use super::entry::{Entry, Name, Named};
use super::problem::{Problem, Severity, Span};
use super::raw;
use super::sources::Sources;
use super::spans::Spans;
use super::values::Config;
use crate::auth::{IssuerSettings, Place};
use context::Context;

/// A configuration that may run.
#[derive(Debug)]
pub(super) struct Compiled {
    /// What it means.
    pub(super) config: Config,
    /// Where it stands.
    pub(super) spans: Spans,
    /// What is probably not as meant.
    pub(super) warnings: Vec<Problem>,
}

/// Compiles what was typed in `file`. Relative paths are relative to that file's directory.
pub(super) fn compile(raw: &raw::File, file: &Path, sources: &dyn Sources) -> Result<Compiled, Vec<Problem>> {
    let mut context = Context::new(file, sources);
    let server = server::server(&mut context, &raw.server);
    let (limits, body_bytes) = server::limits(&mut context, &raw.limits);
    let log = server::log(&mut context, &raw.log);
    let admin = listen::admin(&mut context, &raw.admin);
    let (listeners, listener_spans) = listen::listeners(&mut context, &raw.listen, admin, server.development);
    let (issuers, issuer_spans) =
        named(&mut context, &raw.issuer, |context, name, table| Some(issuer::issuer(context, name, table)));
    let revocation = revocation::revocation(&mut context, &raw.revocation, &names(&raw.issuer));
    let (identity, identity_spans) = identity::identity(&mut context, &raw.identity).unzip();
    let (upstreams, upstream_spans) =
        named(&mut context, &raw.upstream, |context, name, table| Some(upstream::upstream(context, name, table)));
    let known = route::Known {
        issuers: names(&raw.issuer),
        upstreams: names(&raw.upstream),
        identity: !raw.identity.is_absent(),
        body_bytes,
    };
    let (routes, route_spans) = route::routes(&mut context, &raw.route, &known);

    let config = Config {
        server,
        limits,
        listeners,
        admin: admin.map(|(address, _)| address),
        log,
        revocation,
        identity,
        issuers,
        upstreams,
        routes,
        files_read: context.files_read(),
    };
    let spans = Spans {
        listeners: listener_spans,
        admin: admin.map(|(_, span)| span),
        identity: identity_spans,
        issuers: issuer_spans,
        upstreams: upstream_spans,
        routes: route_spans,
    };
    let mut problems = context.into_problems();
    problems.extend(indistinct(&config, &spans));
    problems.extend(never_arriving(&config, &spans));
    problems.extend(identity::clashes(&config, &spans));
    if raw.identity.is_absent() == config.identity.is_none() {
        problems.extend(publish::empty(&config, &spans)); // what is wrong with [identity] was said
    }
    if problems.iter().any(|problem| problem.severity == Severity::Error) {
        return Err(problems);
    }
    let warnings = [problems, whole(&config, &spans)].concat();
    Ok(Compiled { config, spans, warnings })
}

/// Compiles each table of `[kind.NAME]`; what does not compile was reported and is left out.
fn named<T, V, S>(
    context: &mut Context<'_>,
    tables: &Entry<Named<T>>,
    one: impl Fn(&mut Context<'_>, &Name, &T) -> Option<(V, S)>,
) -> (Vec<V>, Vec<S>) {
    let Some((tables, _)) = context.take(tables) else { return (Vec::new(), Vec::new()) };
    let mut all = Vec::new();
    for (name, table) in &tables.0 {
        context.check_name(&name.text, name.span);
        if let Some((table, _)) = context.take(table) {
            all.extend(one(context, name, table));
        }
    }
    all.into_iter().unzip()
}

fn names<T>(tables: &Entry<Named<T>>) -> Vec<&str> {
    match tables {
        Entry::Given(_, tables) => tables.0.iter().map(|(name, _)| name.text.as_str()).collect(),
        _ => Vec::new(),
    }
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

/// What only the whole shows, and only as a warning.
fn whole(config: &Config, spans: &Spans) -> Vec<Problem> {
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
        config
            .routes
            .iter()
            .any(|route| matches!(route.action, super::values::Action::Upstream { upstream, .. } if upstream == index))
    };
    for (index, (upstream, spans)) in config.upstreams.iter().zip(&spans.upstreams).enumerate() {
        if !used(index) {
            warnings.push(unused("upstream", &upstream.name, spans.name));
        }
    }
    warnings.extend(identity::doubts(config, spans));
    warnings.extend(publish::doubts(config, spans));
    warnings.extend(tokens_in_clear(config, spans));
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

/// The path of a file named in `file`.
fn beside(file: &Path, path: &str) -> PathBuf {
    file.parent().unwrap_or_else(|| Path::new("")).join(path)
}
