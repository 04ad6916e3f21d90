//! `cors` of a route: the origins whose scripts may use it, and the fields that say how (Fetch standard, section 3.3).

use http::{HeaderName, HeaderValue, Method};

use super::super::entry::{Entry, Named};
use super::super::problem::{Problem, Span};
use super::super::raw;
use super::context::Context;
use super::{place, route};
use crate::auth::{Place, RouteAuth};
use crate::http::cors::{CorsSettings, OriginPattern, speaks};

const MAX_AGE_SECS: u32 = 600;
const ANY: &str = "*";
/// What a browser calls an origin that it can't or won't name: a sandboxed frame, a local file.
const NULL: &str = "null";

pub(super) fn cors(
    context: &mut Context<'_>,
    raw: &raw::Route,
    label: &str,
    methods: &[Method],
    auth: Option<&RouteAuth>,
) -> Option<CorsSettings> {
    let (table, span) = context.take(&raw.cors)?;
    one_voice(context, &raw.response_headers);
    let origins = origins(context, table, label, span);
    let credentials = context.flag(&table.credentials, false);
    if credentials {
        no_strangers(context, table);
    }
    let settings = CorsSettings {
        origins,
        methods: allowed_methods(context, table, label, methods),
        headers: fields(context, &table.headers, "headers", "leave the key out to allow none but those always allowed"),
        expose: fields(context, &table.expose, "expose", "leave the key out to show none but those always shown"),
        credentials,
        max_age_secs: context.number(&table.max_age_secs, "max_age_secs", " seconds", 0..=86_400, MAX_AGE_SECS),
    };
    if let Some(auth) = auth {
        token_can_be_sent(context, auth, table, label, span);
    }
    Some(settings)
}

/// A field of the protocol comes from `cors` or from nowhere.
fn one_voice(context: &mut Context<'_>, response_headers: &Entry<Named<String>>) {
    let Entry::Given(_, table) = response_headers else { return };
    for (name, _) in &table.0 {
        if name.text.parse::<HeaderName>().is_ok_and(|field| speaks(&field)) {
            let problem = Problem::error(name.span, format!("`{}` beside `cors`, which says it", name.text));
            context.report(problem.hint("leave it to `cors`: two answers are none to a browser"));
        }
    }
}

fn origins(context: &mut Context<'_>, table: &raw::Cors, label: &str, span: Span) -> Vec<OriginPattern> {
    let hint = "add `origins = [\"https://app.example.com\"]`, or \"*\" for everybody";
    if table.origins.is_absent() {
        context.report(Problem::error(span, format!("`cors` of {label} has no `origins`")).hint(hint));
    }
    let named = context.texts(&table.origins, "origins", "leave `cors` out to allow none");
    if let Some((_, span)) = named.iter().find(|(origin, _)| **origin == *ANY && named.len() > 1) {
        let problem = Problem::error(*span, "`*` beside other origins");
        context.report(problem.hint("it stands alone, for everybody; or name the origins that may"));
    }
    let mut patterns = Vec::new();
    for (origin, span) in named {
        match pattern(&origin) {
            Ok(pattern) => patterns.push(pattern),
            Err(hint) => context.report(Problem::error(span, format!("`{origin}` is no origin")).hint(hint)),
        }
    }
    patterns
}

fn pattern(origin: &str) -> Result<OriginPattern, &'static str> {
    if origin == ANY {
        return Ok(OriginPattern::Any);
    }
    let below = ["https://", "http://"]
        .iter()
        .find_map(|scheme| Some((*scheme, origin.strip_prefix(scheme)?.strip_prefix('*')?)));
    if let Some((scheme, rest)) = below {
        let whole = rest.starts_with('.') && rest.len() > 1 && !rest[1..].starts_with('.');
        let sound = place::origin_fault(&format!("{scheme}a{rest}")).is_none();
        if !whole || !sound || rest.contains('*') {
            return Err("a wildcard stands for the first label, the whole of it: \"https://*.example.com\"");
        }
        return Ok(OriginPattern::OneLabel { scheme: scheme.into(), rest: rest.into() });
    }
    if origin != NULL && !is_of_an_app(origin) {
        place::origin_fault(origin).map_or(Ok(()), Err)?;
    }
    Ok(OriginPattern::Exact(origin.into()))
}

/// Origins of browser extensions and of pages within an application, as `capacitor://localhost`.
fn is_of_an_app(origin: &str) -> bool {
    let Some((scheme, host)) = origin.split_once("://") else { return false };
    let of_scheme = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.');
    let of_host =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.' | b':' | b'_');
    !matches!(scheme, "http" | "https")
        && scheme.starts_with(|letter: char| letter.is_ascii_lowercase())
        && scheme.bytes().all(of_scheme)
        && !host.is_empty()
        && host.bytes().all(of_host)
}

/// With credentials, browsers take `*` for a name, and any site can make itself `null` by a sandboxed frame.
fn no_strangers(context: &mut Context<'_>, table: &raw::Cors) {
    let lists = [
        ("origins", &table.origins),
        ("methods", &table.methods),
        ("headers", &table.headers),
        ("expose", &table.expose),
    ];
    for (key, list) in lists {
        let Entry::Given(_, items) = list else { continue };
        for item in items {
            let Entry::Given(span, text) = item else { continue };
            let stranger = key == "origins" && text == NULL;
            if text == ANY || stranger {
                let why = if stranger { "any site can be `null`" } else { "with credentials `*` is nobody" };
                let problem = Problem::error(*span, format!("`{text}` in `{key}` beside `credentials`: {why}"));
                context.report(problem.hint("name each, or leave `credentials` out"));
            }
        }
    }
}

fn allowed_methods(context: &mut Context<'_>, table: &raw::Cors, label: &str, own: &[Method]) -> HeaderValue {
    let mut allowed = Vec::new();
    for (name, span) in context.texts(&table.methods, "methods", "leave the key out for those of the route") {
        if *name == *ANY {
            allowed.push(ANY.to_owned());
            continue;
        }
        let Some(method) = route::method(context, &name, span) else { continue };
        if !own.is_empty() && !own.contains(&method) {
            let problem = Problem::error(span, format!("{label} takes no {method}"));
            context.report(problem.hint("add it to the route's `methods`, or take it out here"));
        }
        allowed.push(method.to_string());
    }
    if allowed.is_empty() {
        let usual = [Method::GET, Method::HEAD, Method::POST];
        let own = if own.is_empty() { &usual } else { own };
        allowed = own.iter().map(Method::to_string).collect();
    }
    HeaderValue::try_from(allowed.join(", ")).unwrap_or(HeaderValue::from_static("GET"))
}

fn fields(
    context: &mut Context<'_>,
    entry: &Entry<Vec<Entry<String>>>,
    key: &str,
    without: &str,
) -> Option<HeaderValue> {
    let names = context.texts(entry, key, without);
    for (name, span) in &names {
        if name.parse::<HeaderName>().is_err() {
            let problem = Problem::error(*span, format!("`{name}` is no field name"));
            context.report(problem.hint("use letters, digits and `-`"));
        }
    }
    let names: Vec<_> = names.into_iter().map(|(name, _)| name).collect();
    if names.is_empty() { None } else { HeaderValue::try_from(names.join(", ")).ok() }
}

/// Browsers ask for `Authorization` by its name, and `*` is none. Without it no script's token ever arrives.
fn token_can_be_sent(context: &mut Context<'_>, auth: &RouteAuth, table: &raw::Cors, label: &str, span: Span) {
    let only_there = |place: &Place| matches!(place, Place::Authorization);
    let needed = auth.policies().any(|policy| !policy.optional && policy.places.iter().all(only_there));
    let sendable: &[Entry<String>] = match &table.headers {
        Entry::Given(_, names) => names,
        _ => &[],
    };
    let is_it =
        |name: &Entry<String>| matches!(name, Entry::Given(_, name) if name.eq_ignore_ascii_case("authorization"));
    if needed && !sendable.iter().any(is_it) {
        let message =
            format!("{label} asks for a token in `Authorization`, which no script of another origin may send");
        context.report(Problem::warning(span, message).hint("add \"Authorization\" to `headers` of `cors`"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_written_as_browsers_write_them() {
        for origin in [
            "https://app.example.com",
            "http://localhost:3000",
            "https://[::1]:8443",
            "null",
            "capacitor://localhost",
            "chrome-extension://abcdefghijklmnop",
        ] {
            assert_eq!(pattern(origin), Ok(OriginPattern::Exact(origin.into())));
        }
        let below = |scheme: &str, rest: &str| Ok(OriginPattern::OneLabel { scheme: scheme.into(), rest: rest.into() });
        assert_eq!(pattern("https://*.example.com"), below("https://", ".example.com"));
        assert_eq!(pattern("http://*.local.test:3000"), below("http://", ".local.test:3000"));
        assert_eq!(pattern("*"), Ok(OriginPattern::Any));
    }

    #[test]
    fn what_no_browser_writes_is_refused() {
        for origin in [
            "",
            "app.example.com",
            "https://",
            "https://app.example.com/",
            "https://App.example.com",
            "https://app.example.com:443",
            "http://app.example.com:80",
            "https://user@app.example.com",
            "https://*",
            "https://*.",
            "https://*..example.com",
            "https://*example.com",
            "https://*.*.example.com",
            "https://a.*.example.com",
            "https://*.example.com/",
            "https://*.example.com:443",
            "*.example.com",
            "NULL",
            "capacitor://",
            "1x://a",
            "app://*.a",
            "app://a/b",
        ] {
            assert!(pattern(origin).is_err(), "{origin}");
        }
    }
}
