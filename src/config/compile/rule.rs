//! What a token must say on a route: the conditions of `auth`, and those within `any` and `all`.
//!
//! Owns also whose tokens they are about: every condition is settled by an issuer named in its table, in one around it, or in one that must be
//! met together with it.

use super::super::entry::{Entry, Named};
use super::super::problem::{Problem, Span};
use super::super::raw;
use super::super::shapes::ClaimValue;
use super::context::{Context, bare};
use super::demand::demands;
use super::path;
use super::route::{Known, any_issuer, reference};
use crate::auth::{OwnPath, Rule};

/// The rule of a route's `auth`, and every issuer it is about; `outer` are those the table itself names, `named` whether it tries to,
/// `path` the route's.
pub(super) fn rule(
    context: &mut Context<'_>,
    raw: &raw::TokenAuth,
    outer: &[usize],
    named: bool,
    path: Option<&str>,
    known: &Known<'_>,
) -> (Rule, Vec<usize>) {
    let conditions = Conditions {
        require: &raw.require,
        scopes: &raw.scopes,
        scopes_any: &raw.scopes_any,
        own_path: &raw.own_path,
        any: &raw.any,
        all: &raw.all,
    };
    let mut rules = Rules { known, path, outer, named: outer.to_vec() };
    let rule = rules.table(context, &conditions, named);
    (rule, rules.named)
}

/// The keys that a table and the tables inside of it share.
struct Conditions<'r> {
    require: &'r Entry<Named<ClaimValue>>,
    scopes: &'r Entry<Vec<Entry<String>>>,
    scopes_any: &'r Entry<Vec<Entry<String>>>,
    own_path: &'r Entry<String>,
    any: &'r Entry<Vec<Entry<raw::RuleTable>>>,
    all: &'r Entry<Vec<Entry<raw::RuleTable>>>,
}

struct Rules<'k> {
    known: &'k Known<'k>,
    /// The route's path.
    path: Option<&'k str>,
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
        rules.extend(own_path(context, raw.own_path, self.path).map(Rule::Own));
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
            own_path: &raw.own_path,
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

/// A template that a request of this route can meet.
fn own_path(context: &mut Context<'_>, entry: &Entry<String>, route: Option<&str>) -> Option<OwnPath> {
    let (text, span) = context.text(entry, "own_path")?;
    let own = match OwnPath::parse(text) {
        Ok(own) => own,
        Err(problem) => {
            let hint = "write a path with a claim in braces, as \"/media/{sub}/\", at most one between two slashes";
            context.report(Problem::error(span, format!("the template `{text}` {problem}")).hint(hint));
            return None;
        }
    };
    if let Err((reason, hint)) = path::check(&own.filled("x")) {
        context.report(Problem::error(span, format!("the template `{text}` {reason}")).hint(hint));
    } else if let Some(route) = route.filter(|route| !own.is_below(route)) {
        let problem =
            Problem::error(span, format!("no request of this route is below `{text}`: its path is `{route}`"));
        context.report(problem.hint("begin the template with the path of the route"));
    }
    Some(own)
}

/// RFC 6749 section 3.3: a scope is printable ASCII without space, quote and backslash.
pub(super) fn scopes(context: &mut Context<'_>, entry: &Entry<Vec<Entry<String>>>, key: &str) -> Vec<Box<str>> {
    let scopes = context.texts(entry, key, "leave the key out to demand none");
    for (scope, span) in &scopes {
        if !scope.bytes().all(|byte| matches!(byte, b'!'..=b'~') && !matches!(byte, b'"' | b'\\')) {
            let hint = "one scope an item: printable ASCII without spaces, quotes and backslashes";
            context.report(Problem::error(*span, format!("`{scope}` is no scope")).hint(hint));
        }
    }
    bare(scopes)
}
