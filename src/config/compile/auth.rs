//! `auth` of a route: who may pass, where the token stands, what the upstream is told.

use http::HeaderName;

use super::super::entry::Entry;
use super::super::problem::{Problem, Span};
use super::super::raw;
use super::super::shapes::Auth as RawAuth;
use super::super::values::Action;
use super::context::Context;
use super::place::{guard, places};
use super::route::{Known, any_issuer, reference};
use super::{fields, link, rule, signed};
use crate::auth::{Access, Demand, Forwarding, PolicySettings, RouteAuth, Rule};

/// What may be asked besides having a token, in the words of Django REST framework.
#[derive(Clone, Copy, PartialEq)]
enum Permission {
    Authenticated,
    AuthenticatedOrReadOnly,
    Admin,
}

const PERMISSIONS: [(&str, Permission); 3] = [
    ("authenticated", Permission::Authenticated),
    ("authenticated-or-read-only", Permission::AuthenticatedOrReadOnly),
    ("admin", Permission::Admin),
];

/// No route is open by omission.
pub(super) fn auth(
    context: &mut Context<'_>,
    raw: &raw::Route,
    label: &str,
    span: Span,
    known: &Known<'_>,
) -> Option<RouteAuth> {
    let missing = format!("{label} does not say who may pass: it has no `auth`");
    let remedy = format!(
        "add `auth = \"public\"` to let everybody pass, or `auth = {{ issuer = \"{}\" }}` to demand a token",
        any_issuer(known)
    );
    let (auth, span) = context.demand(&raw.auth, span, &missing, &remedy)?;
    let path = match &raw.path {
        Entry::Given(_, path) => Some(path.as_str()),
        _ => None,
    };
    let whose = &Whose { label, path };
    let (read, write) = match auth {
        RawAuth::Token(table) if !table.read.is_absent() || !table.write.is_absent() => {
            by_method(context, table, whose, span, known)?
        }
        RawAuth::Token(table) => split(context, table, whose, span, known)?,
        RawAuth::Word(word) => {
            let access = word_access(context, "auth", word, span, known)?;
            (access.clone(), access)
        }
    };
    Some(RouteAuth { read, write, forward: Forwarding::default() })
}

/// The route that is read.
struct Whose<'r> {
    /// How messages call it.
    label: &'r str,
    path: Option<&'r str>,
}

fn word_access(context: &mut Context<'_>, key: &str, word: &str, span: Span, known: &Known<'_>) -> Option<Access> {
    if word == "public" {
        return Some(Access::Public);
    }
    if word == "internal" {
        let hint = "write `auth = \"internal\"`: an internal route is for no method";
        context.report(Problem::error(span, format!("`internal` is no value of `{key}`")).hint(hint));
        return None;
    }
    let hint = match known.issuers.iter().find(|name| **name == word) {
        Some(name) => format!("did you mean `{key} = {{ issuer = \"{name}\" }}`?"),
        None => format!(
            "write \"public\" to let everybody pass, or `{{ issuer = \"{}\" }}` to demand a token",
            any_issuer(known)
        ),
    };
    context.report(Problem::error(span, format!("`{word}` is no value of `{key}`")).hint(hint));
    None
}

/// `read` and `write` apart: each says all there is to say, so neither is open by omission.
fn by_method(
    context: &mut Context<'_>,
    raw: &raw::TokenAuth,
    whose: &Whose<'_>,
    span: Span,
    known: &Known<'_>,
) -> Option<(Access, Access)> {
    let hint = "with `read` and `write`, everything else is said inside of them";
    for (key, at) in keys_beside(raw) {
        context.report(Problem::error(at, format!("`{key}` beside `read` and `write`")).hint(hint));
    }
    let mut one = |key: &str, entry| {
        let missing = format!("`auth` of {} does not say who may {key}", whose.label);
        let remedy = format!("add `{key} = \"public\"` or `{key} = {{ issuer = \"{}\" }}`", any_issuer(known));
        let (auth, span) = context.demand(entry, span, &missing, &remedy)?;
        match auth {
            RawAuth::Word(word) => word_access(context, key, word, span, known),
            RawAuth::Token(table) => {
                if let Some(at) = table.read.span().or(table.write.span()) {
                    context.report(Problem::error(at, format!("`read` or `write` inside of `{key}`")).hint(hint));
                    return None;
                }
                let (read, write) = split(context, table, whose, span, known)?;
                if read != write {
                    let message = "this permission tells reading from writing, and so do `read` and `write`";
                    let at = table.permission.span().unwrap_or(span);
                    context.report(Problem::error(at, message).hint("use the one or the other"));
                }
                Some(write)
            }
        }
    };
    let (read, write) = (one("read", &raw.read), one("write", &raw.write));
    Some((read?, write?))
}

fn keys_beside(raw: &raw::TokenAuth) -> impl Iterator<Item = (&'static str, Span)> {
    [
        ("issuer", raw.issuer.span()),
        ("issuers", raw.issuers.span()),
        ("require", raw.require.span()),
        ("scopes", raw.scopes.span()),
        ("scopes_any", raw.scopes_any.span()),
        ("own_path", raw.own_path.span()),
        ("any", raw.any.span()),
        ("all", raw.all.span()),
        ("permission", raw.permission.span()),
        ("optional", raw.optional.span()),
        ("signed_links", raw.signed_links.span()),
        ("token", raw.token.span()),
        ("check_origin", raw.check_origin.span()),
        ("origins", raw.origins.span()),
        ("resource_metadata", raw.resource_metadata.span()),
        ("login_url", raw.login_url.span()),
    ]
    .into_iter()
    .filter_map(|(key, span)| Some((key, span?)))
}

/// One table as what it asks of reads and of writes.
fn split(
    context: &mut Context<'_>,
    raw: &raw::TokenAuth,
    whose: &Whose<'_>,
    span: Span,
    known: &Known<'_>,
) -> Option<(Access, Access)> {
    let links = signed::signed_links(context, &raw.signed_links, whose.label);
    if !raw.signed_links.is_absent() && keys_beside(raw).all(|(key, _)| key == "signed_links") {
        let access = Access::Link(links?);
        return Some((access.clone(), access));
    }
    let permission = context.choice(&raw.permission, "permission", &PERMISSIONS, Permission::Authenticated);
    let mut settings = PolicySettings { links, ..policy(context, raw, whose, span, known)? };
    if permission == Permission::Admin {
        settings.rule = Rule::All(vec![settings.rule, Rule::Claim(Demand::equals("is_staff", true))]);
    }
    if let (Some(permission), Some(at), true) = (raw.permission.span(), raw.optional.span(), settings.optional) {
        let message = "`optional` lets everybody pass whom the `permission` keeps out";
        let problem = Problem::error(at, message).note(permission, "the permission is here");
        context.report(problem.hint("leave the one or the other out"));
    }
    let optional = settings.optional || permission == Permission::AuthenticatedOrReadOnly;
    let read = PolicySettings { optional, ..settings.clone() };
    Some((Access::Token(Box::new(read)), Access::Token(Box::new(settings))))
}

fn policy(
    context: &mut Context<'_>,
    raw: &raw::TokenAuth,
    whose: &Whose<'_>,
    span: Span,
    known: &Known<'_>,
) -> Option<PolicySettings> {
    let named = !raw.issuer.is_absent() || !raw.issuers.is_absent();
    let outer = outer_issuers(context, raw, known);
    let before = context.reported();
    let (rule, issuers) = rule::rule(context, raw, &outer, named, whose.path, known);
    if issuers.is_empty() && (named || context.reported() > before) {
        return None; // what is wrong with the names was said
    }
    if issuers.is_empty() {
        let hint = match known.issuers.as_slice() {
            [] => "add a table [issuer.NAME] and name it in `issuer`".to_owned(),
            [first, ..] => format!("add `issuer = \"{first}\"`"),
        };
        context.report(Problem::error(span, format!("`auth` of {} names no issuer", whose.label)).hint(hint));
        return None;
    }
    let places = places(context, &raw.token);
    Some(PolicySettings {
        issuers,
        rule,
        optional: context.flag(&raw.optional, false),
        links: None,
        guard: guard(context, raw, &places),
        places,
        resource_metadata: link::resource_metadata(context, &raw.resource_metadata),
        login_url: link::login_url(context, &raw.login_url),
    })
}

fn outer_issuers(context: &mut Context<'_>, raw: &raw::TokenAuth, known: &Known<'_>) -> Vec<usize> {
    if let (Some(first), Some(second)) = (raw.issuer.span(), raw.issuers.span()) {
        let problem = Problem::error(second, "`issuers` beside `issuer`").note(first, "`issuer` is here");
        context.report(problem.hint("name them all in `issuers`"));
    }
    let mut named: Vec<(Box<str>, Span)> = context.texts(&raw.issuers, "issuers", "leave the key out, or name some");
    named.extend(context.take(&raw.issuer).map(|(name, span)| (Box::from(name.as_str()), span)));
    named.into_iter().filter_map(|(name, span)| reference(context, &name, span, "issuer", &known.issuers)).collect()
}

/// What the upstream is told; only where there is a token, and an upstream.
pub(super) fn forwarding(
    context: &mut Context<'_>,
    raw: &raw::Route,
    auth: Option<&RouteAuth>,
    action: Option<&Action>,
    known: &Known<'_>,
) -> Forwarding {
    let told = [
        ("forward_claims", raw.forward_claims.span()),
        ("forward_all_claims", raw.forward_all_claims.span()),
        ("forward_token", raw.forward_token.span()),
        ("identity_token", raw.identity_token.span()),
    ];
    for (key, span) in told.into_iter().filter_map(|(key, span)| Some((key, span?))) {
        if auth.is_some_and(RouteAuth::is_public) {
            let problem = Problem::error(span, format!("`{key}` on a public route, which has no token"));
            context.report(problem.hint("remove it, or demand a token with `auth = { issuer = \"...\" }`"));
        } else if auth.is_some_and(|auth| auth.policies().next().is_none()) {
            let problem = Problem::error(span, format!("`{key}` on a route of signed links, which name nobody"));
            context.report(problem.hint("remove it, or take tokens too: add an `issuer` beside `signed_links`"));
        }
        if matches!(action, Some(Action::Files(_) | Action::Redirect { .. } | Action::Publish(_))) {
            let problem = Problem::error(span, format!("`{key}` on a route that forwards nothing"));
            context.report(problem.hint("claims and tokens are forwarded to an `upstream`"));
        }
    }
    let claims = fields::forward_claims(context, &raw.forward_claims);
    let all_claims = all_claims(context, &raw.forward_all_claims, &claims);
    let identity = audience(context, &raw.identity_token, action, known);
    Forwarding { claims, all_claims, token: context.flag(&raw.forward_token, true), identity }
}

/// An identity token is for one upstream, and says so by its name.
fn audience(
    context: &mut Context<'_>,
    entry: &Entry<bool>,
    action: Option<&Action>,
    known: &Known<'_>,
) -> Option<Box<str>> {
    let (true, span) = context.take(entry)? else { return None };
    if !known.identity {
        let problem = Problem::error(span, "there is no key to sign an identity token with");
        context.report(problem.hint("add a table [identity] with `key` and `issuer`"));
    }
    match action {
        Some(Action::Upstream { upstream, .. }) => known.upstreams.get(*upstream).map(|name| Box::from(*name)),
        _ => None,
    }
}

fn all_claims(context: &mut Context<'_>, entry: &Entry<String>, claims: &[crate::auth::Forward]) -> Option<HeaderName> {
    let (text, span) = context.text(entry, "forward_all_claims")?;
    let header = fields::identity_field(context, text, span)?;
    if claims.iter().any(|forward| forward.header == header) {
        let problem = Problem::error(span, format!("`{header}` is also a field of `forward_claims`"));
        context.report(problem.hint("field names compare without case; name another"));
    }
    Some(header)
}
