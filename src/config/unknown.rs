//! Unknown keys: found by walking the parsed text beside the JSON Schema of `raw`, reported all at once and removed.
//!
//! The schema is generated from the structs that are filled afterwards, so the two can never list different keys. With the
//! unknown keys gone, `deny_unknown_fields` has nothing left to stop at and the rest of the file is judged in the same run.

use serde_json::{Map, Value};
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::problem::{Problem, Span};
use super::suggest;

/// Keys of other gateways and of the plan, which people will try.
const ELSEWHERE: [(&str, &str); 2] = [
    ("jwks", "a key set is named in `jwks_url`, or in `jwks_file`"),
    ("public_key", "public keys are a list: `public_keys = [\"key.pem\"]`"),
];

const ROLES: &str =
    "roles are a claim: `require = { roles = { contains = \"admin\" } }`, or with Keycloak \"realm_access.roles\"";
const CLAIMS: &str = "claims are demanded in `require`, as `require = { is_staff = true }`";
const AUDIENCE: &str = "the audience is demanded of every token of an issuer: `audiences = [\"...\"]` in [issuer.NAME]";
const PLACE: &str =
    "where the token stands is said in `token`: `token = { cookie = \"access\" }`; `header` and `query` likewise";
const AUTH: &str = "who may pass is said in `auth`: `auth = { issuer = \"NAME\", require = { .. }, scopes = [..] }`";

/// Words for what an issuer demands, that mean nothing there.
const IN_ISSUER: [(&str, &str); 8] = [
    ("role", ROLES),
    ("roles", ROLES),
    ("groups", ROLES),
    ("claim", CLAIMS),
    ("claims", CLAIMS),
    ("scope", "scopes are asked by a route: `auth = { issuer = \"NAME\", scopes = [\"read\"] }`"),
    ("scopes", "scopes are asked by a route: `auth = { issuer = \"NAME\", scopes = [\"read\"] }`"),
    (
        "cookie",
        "where a token stands is said by a route: `auth = { issuer = \"NAME\", token = { cookie = \"access\" } }`",
    ),
];

/// Words for what a token must say or where it stands, as people write them beside `auth`.
const IN_ROUTE: [(&str, &str); 12] = [
    ("issuer", AUTH),
    ("issuers", AUTH),
    ("require", AUTH),
    ("scope", AUTH),
    ("scopes", AUTH),
    ("permission", AUTH),
    ("permissions", AUTH),
    ("role", AUTH),
    ("roles", AUTH),
    ("public", "write `auth = \"public\"`"),
    ("remove_token", "write `forward_token = false`"),
    ("strip_token", "write `forward_token = false`"),
];

/// The same within `auth`, at any depth.
const IN_AUTH: [(&str, &str); 16] = [
    ("audience", AUDIENCE),
    ("audiences", AUDIENCE),
    ("role", ROLES),
    ("roles", ROLES),
    ("groups", ROLES),
    ("permissions", "permissions are a claim: `require = { permissions = { contains = \"orders:read\" } }`"),
    ("claim", CLAIMS),
    ("claims", CLAIMS),
    ("jwt_cookie", PLACE),
    ("cookie", PLACE),
    ("cookies", PLACE),
    ("header", PLACE),
    ("headers", PLACE),
    ("query", PLACE),
    ("method", "tell reading from writing by `read` and `write`, or write a route for each with its own `methods`"),
    ("methods", "tell reading from writing by `read` and `write`, or write a route for each with its own `methods`"),
];

/// Removes every key the schema does not know and reports each.
pub(super) fn prune(table: &mut DeTable<'_>, schema: &Value) -> Vec<Problem> {
    let mut walk = Walk { schema, problems: Vec::new() };
    walk.table(table, schema, &[]);
    walk.problems
}

/// Every key of the language, as in `server.workers`, `listen.NAME.address` and `route.auth.issuer`, in the schema's order.
pub fn keys(schema: &Value) -> Vec<String> {
    let mut found = Vec::new();
    collect(schema, schema, "", &[], &mut found);
    found
}

struct Walk<'s> {
    schema: &'s Value,
    problems: Vec<Problem>,
}

impl Walk<'_> {
    fn value(&mut self, value: &mut DeValue<'_>, schema: &Value, place: &[&str]) {
        match value {
            DeValue::Table(table) => self.table(table, schema, place),
            DeValue::Array(items) => {
                if let Some(item) = resolve(self.schema, schema).get("items") {
                    for value in items.iter_mut() {
                        self.value(value.get_mut(), item, place);
                    }
                }
            }
            _ => {}
        }
    }

    fn table(&mut self, table: &mut DeTable<'_>, schema: &Value, place: &[&str]) {
        let schema = resolve(self.schema, schema);
        if let Some(known) = schema.get("properties").and_then(Value::as_object) {
            let unknown = table.keys().map(|key| key.get_ref().to_string()).filter(|key| !known.contains_key(key));
            for key in unknown.collect::<Vec<_>>() {
                if let Some((key, value)) = table.remove_entry(key.as_str()) {
                    let problem = self.unknown(&key, value.span().into(), known, place);
                    self.problems.push(problem);
                }
            }
            for (key, value) in table {
                self.value(value.get_mut(), &known[key.get_ref().as_ref()], &[place, &[key.get_ref()]].concat());
            }
        } else if let Some(each) = schema.get("additionalProperties").filter(|each| each.is_object()) {
            for (key, value) in table {
                self.value(value.get_mut(), each, &[place, &[key.get_ref()]].concat());
            }
        }
    }

    fn unknown(&self, key: &Spanned<DeString<'_>>, value: Span, known: &Map<String, Value>, place: &[&str]) -> Problem {
        let name = key.get_ref().as_ref();
        let message = match place {
            [] => format!("unknown table or key `{name}`"),
            ["route"] => format!("unknown key `{name}` in [[route]]"),
            place => format!("unknown key `{name}` in [{}]", place.join(".")),
        };
        let problem = Problem::error(Span::from(key.span()), message);
        let problem = match self.advice(name, known, place) {
            Some(hint) => problem.hint(hint),
            None => problem,
        };
        if place.last() == Some(&"secret") || may_be_secret(name) { problem.mask(value) } else { problem }
    }

    fn advice(&self, name: &str, known: &Map<String, Value>, place: &[&str]) -> Option<String> {
        let known = known.keys().map(String::as_str);
        if let Some((_, hint)) = meant(place).iter().find(|(key, _)| *key == name) {
            return Some((*hint).to_owned());
        }
        if let Some(near) = suggest::nearest(name, known.clone()) {
            return Some(format!("did you mean `{near}`?"));
        }
        if let Some((_, hint)) = ELSEWHERE.iter().find(|(key, _)| *key == name) {
            return Some((*hint).to_owned());
        }
        let suffix = format!(".{name}");
        let mut homes = keys(self.schema);
        homes.retain(|key| key.ends_with(&suffix) && !key.contains(".any.") && !key.contains(".all."));
        if homes.is_empty() {
            return suggest::hint(name, known);
        }
        Some(format!("there is `{}`", homes.join("`, `")))
    }
}

/// What people mean by words that are no keys of this table.
fn meant(place: &[&str]) -> &'static [(&'static str, &'static str)] {
    match place {
        ["issuer", _] => &IN_ISSUER,
        ["route"] => &IN_ROUTE,
        ["route", "auth", .., "token"] => &[],
        ["route", "auth", ..] => &IN_AUTH,
        _ => &[],
    }
}

/// A misnamed secret is still a secret.
fn may_be_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    ["secret", "key", "password", "token"].iter().any(|word| key.contains(word))
}

/// Follows `$ref`, and of several forms takes the one that is a table.
fn resolve<'s>(root: &'s Value, schema: &'s Value) -> &'s Value {
    if let Some(name) = schema.get("$ref").and_then(Value::as_str).and_then(|path| path.strip_prefix("#/$defs/")) {
        return resolve(root, &root["$defs"][name]);
    }
    match schema.get("anyOf").and_then(Value::as_array) {
        Some(forms) => {
            forms.iter().map(|form| resolve(root, form)).find(|form| form.get("properties").is_some()).unwrap_or(schema)
        }
        None => schema,
    }
}

/// A table that holds tables like itself (`any` in `any`) is listed once on each way to it.
fn collect<'s>(root: &'s Value, schema: &'s Value, path: &str, above: &[&'s Value], found: &mut Vec<String>) {
    let schema = resolve(root, schema);
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    if let Some(items) = schema.get("items") {
        collect(root, items, path, above, found);
    } else if let Some(known) = schema.get("properties").and_then(Value::as_object) {
        if above.iter().any(|outer| std::ptr::eq(*outer, schema)) {
            return;
        }
        let above = [above, &[schema]].concat();
        for (key, value) in known {
            found.push(below(key));
            collect(root, value, &below(key), &above, found);
        }
    } else if let Some(each) = schema.get("additionalProperties").filter(|each| each.is_object())
        && !resolve(root, each)["properties"].is_null()
    {
        collect(root, each, &below("NAME"), above, found);
    }
}
