//! A policy in words, for its operator.
//!
//! Owns the telling: one clause a line, what belongs together indented below its head. Decides nothing.

use super::access::{OriginGuard, Place, Rule};
use super::demand;
use super::issuer::Issuer;
use super::policy::{Asked, Candidate, Policy};
use super::settings::Demanded;

impl Policy {
    /// The policy in words, for `explain`: one clause a line, reads and writes apart where they ask different things, no final newline.
    pub fn describe(&self) -> String {
        let (read, write) = (asked(self.read()), asked(self.write()));
        if read == write {
            return read.join("\n");
        }
        let mut lines = vec!["GET, HEAD, OPTIONS:".to_owned()];
        lines.extend(read.iter().map(|line| indented(line)));
        lines.push("other methods:".to_owned());
        lines.extend(write.iter().map(|line| indented(line)));
        lines.join("\n")
    }
}

fn indented(line: &str) -> String {
    format!("  {line}")
}

/// The lines of one item of a list.
fn item(lines: Vec<String>) -> impl Iterator<Item = String> {
    lines.into_iter().enumerate().map(|(index, line)| if index == 0 { format!("- {line}") } else { indented(&line) })
}

fn asked(policy: &Asked) -> Vec<String> {
    let policy = match policy {
        Asked::Nothing => return vec!["public: no token is asked for".to_owned()],
        Asked::Link(_) => return vec!["a signed link, by GET or HEAD".to_owned()],
        Asked::Token(policy) => policy,
    };
    let mut lines = issuers(&policy.candidates);
    rule(&policy.rule, &policy.candidates, &mut lines);
    if policy.links.is_some() {
        lines.push("a signed link passes too, by GET or HEAD and without a token".to_owned());
    }
    if policy.optional {
        lines.push("a request without a token passes too, as nobody".to_owned());
    }
    if *policy.places != [Place::Authorization] {
        let places: Vec<String> = policy.places.iter().map(ToString::to_string).collect();
        lines.push(format!("the token stands in {}", places.join(" or ")));
    }
    if policy.places.iter().any(|place| matches!(place, Place::Cookie(_))) {
        lines.push(guarded(policy.guard.as_ref()));
    }
    if let Some(url) = &policy.challenge.login_url {
        lines.push(format!("browsers that ask for a page are sent to {url} when the token would not do"));
    }
    if let Some(url) = &policy.challenge.resource_metadata {
        lines.push(format!("challenges name {url}"));
    }
    lines
}

fn guarded(guard: Option<&OriginGuard>) -> String {
    match guard {
        None => "any site can have a browser send the cookie".to_owned(),
        Some(guard) if guard.origins.is_empty() => "only this site can spend the cookie on a change".to_owned(),
        Some(guard) => format!("only this site can spend the cookie on a change, and {}", guard.origins.join(", ")),
    }
}

fn issuers(candidates: &[Candidate]) -> Vec<String> {
    if let [only] = candidates {
        let (head, demands) = issuer(&only.issuer);
        return [vec![format!("a token {head}")], demands].concat();
    }
    let mut lines = vec!["a token of one of these kinds, as its `iss` says:".to_owned()];
    for candidate in candidates {
        let (head, demands) = issuer(&candidate.issuer);
        lines.extend(item([vec![head], demands].concat()));
    }
    lines
}

/// What an issuer is called, and what it demands of every token.
fn issuer(issuer: &Issuer) -> (String, Vec<String>) {
    let settings = issuer.settings();
    let names = issuer.algorithms().iter().map(|one| one.name()).collect::<Vec<_>>().join(", ");
    let mut lines = Vec::new();
    if !settings.typ.is_empty() {
        lines.push(format!("header `typ` is one of: {}", settings.typ.join(", ")));
    }
    if let Some(iss) = &settings.issuer {
        lines.push(format!("claim `iss` is \"{iss}\""));
    }
    if !settings.audiences.is_empty() {
        lines.push(format!("claim `aud` holds one of: {}", settings.audiences.join(", ")));
    }
    if settings.require_exp {
        lines.push("claim `exp` is present".to_owned());
    }
    lines.extend(settings.required_claims.iter().map(|name| format!("claim `{name}` is present")));
    lines.extend(settings.require.iter().map(demand::in_words));
    match settings.binding.demanded {
        Demanded::Nothing => {}
        Demanded::Key => lines.push("it is bound to a key, which the request proves to hold (DPoP)".to_owned()),
        Demanded::Certificate => lines.push("it is bound to the client's certificate".to_owned()),
        Demanded::Either => lines.push("it is bound to a key (DPoP) or to the client's certificate".to_owned()),
    }
    if settings.leeway_secs > 0 {
        lines.push(format!("dates are forgiven {} seconds", settings.leeway_secs));
    }
    let head = match &settings.introspection {
        Some(asked) => format!("that issuer `{}` calls active at {}", settings.name, asked.url),
        None => format!("of issuer `{}`, signed with {names}", settings.name),
    };
    (head, lines)
}

fn rule(asked: &Rule, candidates: &[Candidate], lines: &mut Vec<String>) {
    match asked {
        Rule::All(rules) => rules.iter().for_each(|asked| rule(asked, candidates, lines)),
        Rule::Any(rules) => {
            lines.push("one of these:".to_owned());
            for alternative in rules {
                let mut own = Vec::new();
                rule(alternative, candidates, &mut own);
                if own.is_empty() {
                    own.push("nothing more".to_owned());
                }
                lines.extend(item(own));
            }
        }
        Rule::From(index) => {
            let found = candidates.iter().find(|candidate| candidate.index == *index);
            lines.extend(found.map(|candidate| format!("the issuer is `{}`", candidate.issuer.name())));
        }
        Rule::Claim(demand) => lines.push(demand::in_words(demand)),
        Rule::Own(own) => lines.push(format!("the path is {} or below it", own.as_str())),
        Rule::Scopes(scopes) => lines.push(format!("scopes granted: {}", scopes.join(" "))),
        Rule::AnyScope(scopes) => lines.push(format!("one of these scopes granted: {}", scopes.join(" "))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use super::super::access::{Access, Forwarding, PolicySettings, RouteAuth};
    use super::super::fixtures;
    use super::super::settings::{Demand, IssuerSettings};
    use super::*;

    fn scopes(names: &[&str]) -> Rule {
        Rule::Scopes(names.iter().map(|name| Box::from(*name)).collect())
    }

    #[test]
    fn every_condition_has_a_line() {
        let policy = fixtures::policy_with(fixtures::django(), |settings, _| {
            let staff = Rule::Claim(Demand::equals("is_staff", true));
            settings.rule = Rule::All(vec![staff, scopes(&["read"])]);
            settings.places = vec![Place::Authorization, Place::Cookie("access".into())];
            settings.login_url = Some("/login".into());
        });
        let expected = "\
            a token of issuer `django`, signed with HS256\n\
            claim `exp` is present\n\
            claim `jti` is present\n\
            claim `token_type` is \"access\"\n\
            claim `user_id` is present and not null\n\
            claim `is_staff` is true\n\
            scopes granted: read\n\
            the token stands in `Authorization` or the cookie `access`\n\
            only this site can spend the cookie on a change\n\
            browsers that ask for a page are sent to /login when the token would not do";
        assert_eq!(policy.describe(), expected);
        assert_eq!(Policy::public().describe(), "public: no token is asked for");
    }

    #[test]
    fn alternatives_issuers_reads_and_writes_stand_apart() {
        let named = |name: &str, iss: Option<&str>| {
            let settings = IssuerSettings {
                keys: vec![fixtures::ec256().key()],
                issuer: iss.map(Into::into),
                ..IssuerSettings::named(name)
            };
            Arc::new(Issuer::compile(settings).unwrap().0)
        };
        let nested = Rule::Any(vec![scopes(&["b"]), Rule::All(vec![])]);
        let rule =
            Rule::Any(vec![Rule::All(vec![Rule::From(0)]), Rule::All(vec![Rule::From(1), scopes(&["a"]), nested])]);
        let both = PolicySettings { issuers: vec![0, 1], rule, ..PolicySettings::of_issuer(0) };
        let auth =
            RouteAuth { read: Access::Public, write: Access::Token(Box::new(both)), forward: Forwarding::default() };
        let policy = Policy::compile(&auth, &[named("a", Some("https://a/")), named("b", None)]);
        let expected = [
            "GET, HEAD, OPTIONS:",
            "  public: no token is asked for",
            "other methods:",
            "  a token of one of these kinds, as its `iss` says:",
            "  - of issuer `a`, signed with ES256",
            "    claim `iss` is \"https://a/\"",
            "    claim `exp` is present",
            "  - of issuer `b`, signed with ES256",
            "    claim `exp` is present",
            "  one of these:",
            "  - the issuer is `a`",
            "  - the issuer is `b`",
            "    scopes granted: a",
            "    one of these:",
            "    - scopes granted: b",
            "    - nothing more",
        ];
        assert_eq!(policy.describe().lines().collect::<Vec<_>>(), expected);
    }
}
