//! `auth` of a route: who may pass, where the token stands, what the upstream is told.

use http::HeaderName;

use super::super::entry::Entry;
use super::super::problem::{Problem, Span};
use super::super::raw;
use super::super::shapes::Auth as RawAuth;
use super::super::values::Action;
use super::context::{Context, bare};
use super::demand::demands;
use super::place::{guard, places};
use super::route::{Known, reference};
use super::{fields, link};
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
    let (read, write) = match auth {
        RawAuth::Token(table) if !table.read.is_absent() || !table.write.is_absent() => {
            by_method(context, table, label, span, known)?
        }
        RawAuth::Token(table) => split(context, table, label, span, known)?,
        RawAuth::Word(word) => {
            let access = word_access(context, "auth", word, span, known)?;
            (access.clone(), access)
        }
    };
    Some(RouteAuth { read, write, forward: Forwarding::default() })
}

fn any_issuer<'k>(known: &Known<'k>) -> &'k str {
    known.issuers.first().copied().unwrap_or("NAME")
}

fn word_access(context: &mut Context<'_>, key: &str, word: &str, span: Span, known: &Known<'_>) -> Option<Access> {
    if word == "public" {
        return Some(Access::Public);
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
    label: &str,
    span: Span,
    known: &Known<'_>,
) -> Option<(Access, Access)> {
    let hint = "with `read` and `write`, everything else is said inside of them";
    for (key, at) in keys_beside(raw) {
        context.report(Problem::error(at, format!("`{key}` beside `read` and `write`")).hint(hint));
    }
    let mut one = |key: &str, entry| {
        let missing = format!("`auth` of {label} does not say who may {key}");
        let remedy = format!("add `{key} = \"public\"` or `{key} = {{ issuer = \"{}\" }}`", any_issuer(known));
        let (auth, span) = context.demand(entry, span, &missing, &remedy)?;
        match auth {
            RawAuth::Word(word) => word_access(context, key, word, span, known),
            RawAuth::Token(table) => {
                if let Some(at) = table.read.span().or(table.write.span()) {
                    context.report(Problem::error(at, format!("`read` or `write` inside of `{key}`")).hint(hint));
                    return None;
                }
                let (read, write) = split(context, table, label, span, known)?;
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
        ("any", raw.any.span()),
        ("all", raw.all.span()),
        ("permission", raw.permission.span()),
        ("optional", raw.optional.span()),
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
    label: &str,
    span: Span,
    known: &Known<'_>,
) -> Option<(Access, Access)> {
    let permission = context.choice(&raw.permission, "permission", &PERMISSIONS, Permission::Authenticated);
    let mut settings = policy(context, raw, label, span, known)?;
    if permission == Permission::Admin {
        settings.rule = Rule::All(vec![settings.rule, Rule::Claim(Demand::equals("is_staff", true))]);
    }
    let optional = settings.optional || permission == Permission::AuthenticatedOrReadOnly;
    let read = PolicySettings { optional, ..settings.clone() };
    Some((Access::Token(Box::new(read)), Access::Token(Box::new(settings))))
}

fn policy(
    context: &mut Context<'_>,
    raw: &raw::TokenAuth,
    label: &str,
    span: Span,
    known: &Known<'_>,
) -> Option<PolicySettings> {
    let named = !raw.issuer.is_absent() || !raw.issuers.is_absent();
    let outer = outer_issuers(context, raw, known);
    let before = context.reported();
    let mut rules = Rules { known, outer: &outer, named: outer.clone() };
    let rule = rules.table(
        context,
        &Conditions {
            require: &raw.require,
            scopes: &raw.scopes,
            scopes_any: &raw.scopes_any,
            any: &raw.any,
            all: &raw.all,
        },
        named,
    );
    let issuers = rules.named;
    if issuers.is_empty() && (named || context.reported() > before) {
        return None; // what is wrong with the names was said
    }
    if issuers.is_empty() {
        let hint = match known.issuers.as_slice() {
            [] => "add a table [issuer.NAME] and name it in `issuer`".to_owned(),
            [first, ..] => format!("add `issuer = \"{first}\"`"),
        };
        context.report(Problem::error(span, format!("`auth` of {label} names no issuer")).hint(hint));
        return None;
    }
    let places = places(context, &raw.token);
    Some(PolicySettings {
        issuers,
        rule,
        optional: context.flag(&raw.optional, false),
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

/// The keys that a table and the tables inside of it share.
struct Conditions<'r> {
    require: &'r Entry<super::super::entry::Named<super::super::shapes::ClaimValue>>,
    scopes: &'r Entry<Vec<Entry<String>>>,
    scopes_any: &'r Entry<Vec<Entry<String>>>,
    any: &'r Entry<Vec<Entry<raw::RuleTable>>>,
    all: &'r Entry<Vec<Entry<raw::RuleTable>>>,
}

struct Rules<'k> {
    known: &'k Known<'k>,
    /// The issuers the outermost table names.
    outer: &'k [usize],
    /// Every issuer named anywhere.
    named: Vec<usize>,
}

impl Rules<'_> {
    /// `settled`: whether it is clear by now whose tokens this is about. One table of `all` says it for all that must be met with it.
    fn table(&mut self, context: &mut Context<'_>, raw: &Conditions<'_>, settled: bool) -> Rule {
        let mut rules: Vec<Rule> = demands(context, raw.require).into_iter().map(Rule::Claim).collect();
        let needed = scopes(context, raw.scopes, "scopes");
        if !needed.is_empty() {
            rules.push(Rule::Scopes(needed));
        }
        let accepted = scopes(context, raw.scopes_any, "scopes_any");
        if !accepted.is_empty() {
            rules.push(Rule::AnyScope(accepted));
        }
        let together = context.list(raw.all, "all", "leave the key out to ask nothing more");
        let settled = settled || together.iter().any(|(table, _)| !table.issuer.is_absent());
        for (table, span) in together {
            rules.push(self.inner(context, table, span, settled));
        }
        let tables = context.list(raw.any, "any", "leave the key out, or write the alternatives");
        if !tables.is_empty() {
            rules.push(self.any(context, &tables, settled));
        }
        Rule::All(rules)
    }

    fn any(&mut self, context: &mut Context<'_>, tables: &[(&raw::RuleTable, Span)], settled: bool) -> Rule {
        let before = context.reported();
        let alternatives: Vec<Rule> =
            tables.iter().map(|(table, span)| self.inner(context, table, *span, settled)).collect();
        // What is wrong was left out, so that nothing can be said of the rest.
        if context.reported() == before {
            needless(context, &alternatives, tables);
        }
        Rule::Any(alternatives)
    }

    fn inner(&mut self, context: &mut Context<'_>, raw: &raw::RuleTable, span: Span, settled: bool) -> Rule {
        let named = context.take(&raw.issuer);
        let index = named.and_then(|(name, at)| {
            let index = reference(context, name, at, "issuer", &self.known.issuers)?;
            if !self.outer.is_empty() && !self.outer.contains(&index) {
                let problem = Problem::error(at, format!("`{name}` is none of the issuers this route takes"));
                context.report(problem.hint("add it to `issuers` of the table around, or name no issuer there"));
            }
            if !self.named.contains(&index) {
                self.named.push(index);
            }
            Some(index)
        });
        if named.is_none() && !settled && raw.any.is_absent() && raw.all.is_absent() {
            let problem = Problem::error(span, "this condition names no issuer, and no table around it does");
            context.report(problem.hint(format!("add `issuer = \"{}\"`", any_issuer(self.known))));
        }
        let conditions = Conditions {
            require: &raw.require,
            scopes: &raw.scopes,
            scopes_any: &raw.scopes_any,
            any: &raw.any,
            all: &raw.all,
        };
        let Rule::All(mut rules) = self.table(context, &conditions, settled || named.is_some()) else {
            unreachable!("`table` makes an `All`")
        };
        rules.splice(0..0, index.map(Rule::From));
        Rule::All(rules)
    }
}

/// An alternative that asks all that another asks never lets anybody in whom the other would not.
fn needless(context: &mut Context<'_>, alternatives: &[Rule], tables: &[(&raw::RuleTable, Span)]) {
    let asked = |rule: &Rule| match rule {
        Rule::All(rules) => rules.clone(),
        other => vec![other.clone()],
    };
    let asked: Vec<Vec<Rule>> = alternatives.iter().map(asked).collect();
    for (index, this) in asked.iter().enumerate() {
        let less = |(other, rules): &(usize, &Vec<Rule>)| {
            *other != index
                && rules.iter().all(|rule| this.contains(rule))
                && (*other < index || rules.len() < this.len())
        };
        if let Some((other, rules)) = asked.iter().enumerate().find(less) {
            let message = if rules.is_empty() {
                "this alternative is never needed: another asks nothing"
            } else {
                "this alternative is never needed: another asks no more than a part of it"
            };
            let problem = Problem::warning(tables[index].1, message).note(tables[other].1, "the other is here");
            context.report(problem.hint("remove the one or the other"));
        }
    }
}

/// RFC 6749 section 3.3: a scope is printable ASCII without space, quote and backslash.
fn scopes(context: &mut Context<'_>, entry: &Entry<Vec<Entry<String>>>, key: &str) -> Vec<Box<str>> {
    let scopes = context.texts(entry, key, "leave the key out to demand none");
    for (scope, span) in &scopes {
        if !scope.bytes().all(|byte| matches!(byte, b'!'..=b'~') && !matches!(byte, b'"' | b'\\')) {
            let hint = "one scope an item: printable ASCII without spaces, quotes and backslashes";
            context.report(Problem::error(*span, format!("`{scope}` is no scope")).hint(hint));
        }
    }
    bare(scopes)
}

/// What the upstream is told; only where there is a token, and an upstream.
pub(super) fn forwarding(
    context: &mut Context<'_>,
    raw: &raw::Route,
    auth: Option<&RouteAuth>,
    action: Option<&Action>,
) -> Forwarding {
    let told = [
        ("forward_claims", raw.forward_claims.span()),
        ("forward_all_claims", raw.forward_all_claims.span()),
        ("forward_token", raw.forward_token.span()),
    ];
    for (key, span) in told.into_iter().filter_map(|(key, span)| Some((key, span?))) {
        if auth.is_some_and(RouteAuth::is_public) {
            let problem = Problem::error(span, format!("`{key}` on a public route, which has no token"));
            context.report(problem.hint("remove it, or demand a token with `auth = { issuer = \"...\" }`"));
        }
        if matches!(action, Some(Action::Files(_) | Action::Redirect { .. })) {
            let problem = Problem::error(span, format!("`{key}` on a route that forwards nothing"));
            context.report(problem.hint("claims and tokens are forwarded to an `upstream`"));
        }
    }
    let claims = fields::forward_claims(context, &raw.forward_claims);
    let all_claims = all_claims(context, &raw.forward_all_claims, &claims);
    Forwarding { claims, all_claims, token: context.flag(&raw.forward_token, true), identity: None }
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
