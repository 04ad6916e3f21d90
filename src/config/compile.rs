//! From the file as typed to the configuration as meant: pure, and all problems at once.
//!
//! One submodule a group of tables; each fills in the settings struct of the stage it belongs to. Nothing here stops at the
//! first problem: a value that is wrong is reported and replaced by something harmless, and whatever was compiled is thrown
//! away at the end if one problem was an error.

mod action;
mod auth;
mod balance;
mod compress;
mod context;
mod cors;
mod demand;
mod dns;
mod error_pages;
mod fetch;
mod fields;
mod files;
mod health;
mod hedge;
mod hosts;
mod hsts;
mod identity;
mod internal;
mod introspection;
mod issuer;
mod keys;
mod link;
mod listen;
mod network;
mod overlap;
mod path;
mod place;
mod preset;
mod publish;
mod queue;
mod rate_limit;
mod redis;
mod remote;
mod revocation;
mod route;
mod rule;
mod secret;
mod security;
mod server;
mod signed;
mod tunnel;
mod upstream;
mod upstream_tls;
mod whole;

use std::path::{Path, PathBuf};

use super::entry::{Entry, Name, Named};
use super::problem::{Problem, Severity};
use super::raw;
use super::sources::Sources;
use super::spans::Spans;
use super::values::Config;
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
    let (limits, guard, body_bytes) = server::limits(&mut context, &raw.limits, &server.trusted_proxies);
    let log = server::log(&mut context, &raw.log);
    let admin = listen::admin(&mut context, &raw.admin);
    let (listeners, listener_spans) = listen::listeners(&mut context, &raw.listen, admin, server.development);
    let (issuers, issuer_spans) =
        named(&mut context, &raw.issuer, |context, name, table| Some(issuer::issuer(context, name, table)));
    let (redis, redis_span) = redis::redis(&mut context, &raw.redis).unzip();
    let revocation = revocation::revocation(&mut context, &raw.revocation, &names(&raw.issuer));
    let (identity, identity_spans) = identity::identity(&mut context, &raw.identity).unzip();
    let dns = dns::dns(&mut context, &raw.dns);
    let (upstreams, upstream_spans) =
        named(&mut context, &raw.upstream, |context, name, table| Some(upstream::upstream(context, name, table)));
    let (rate_limits, rate_limit_spans) = named(&mut context, &raw.rate_limit, rate_limit::rate_limit);
    redis::unused(&mut context, redis_span, &rate_limits, revocation.as_ref());
    let known = route::Known {
        issuers: names(&raw.issuer),
        upstreams: names(&raw.upstream),
        rate_limits: names(&raw.rate_limit),
        limits: &rate_limits,
        identity: !raw.identity.is_absent(),
        body_bytes,
        error_pages: server.error_pages.clone(),
    };
    let route::Routes { taken: routes, spans: route_spans, internal, internal_spans } =
        route::routes(&mut context, &raw.route, &known);
    server::hosts_to_refuse(&mut context, &raw.server, &raw.route);

    let config = Config {
        server,
        limits,
        guard,
        listeners,
        admin: admin.map(|(address, _)| address),
        log,
        revocation,
        redis,
        identity,
        issuers,
        rate_limits,
        names: dns,
        upstreams,
        routes,
        internal,
        files_read: context.files_read(),
    };
    let spans = Spans {
        listeners: listener_spans,
        admin: admin.map(|(_, span)| span),
        identity: identity_spans,
        issuers: issuer_spans,
        rate_limits: rate_limit_spans,
        upstreams: upstream_spans,
        routes: route_spans,
        internal: internal_spans,
    };
    let mut problems = context.into_problems();
    problems.extend(clashes(raw, &config, &spans));
    if problems.iter().any(|problem| problem.severity == Severity::Error) {
        return Err(problems);
    }
    let warnings = [problems, whole::warnings(&config, &spans)].concat();
    Ok(Compiled { config, spans, warnings })
}

/// What is wrong with tables that are right by themselves.
fn clashes(raw: &raw::File, config: &Config, spans: &Spans) -> Vec<Problem> {
    let mut problems = whole::errors(config, spans);
    problems.extend(identity::clashes(config, spans));
    problems.extend(balance::clashes(config, spans));
    if raw.identity.is_absent() == config.identity.is_none() {
        problems.extend(publish::empty(config, spans)); // what is wrong with [identity] was said
    }
    problems
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

/// The path of a file named in `file`.
fn beside(file: &Path, path: &str) -> PathBuf {
    file.parent().unwrap_or_else(|| Path::new("")).join(path)
}
