//! Cross-origin requests: which origins a browser may show answers to, and what it may send (the CORS protocol of the Fetch standard,
//! section 3.3).
//!
//! Owns the fields of the protocol, made once from what is configured. An answer does not depend on what a preflight asks for: it
//! says what is allowed, and the browser compares. Refuses to know routes, and whether anybody may pass: CORS keeps answers from
//! scripts, never requests from a server.

use std::fmt;

use http::Method;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::field::own_value;

const ANY: HeaderValue = HeaderValue::from_static("*");
const TRUE: HeaderValue = HeaderValue::from_static("true");
const BY_ORIGIN: HeaderValue = HeaderValue::from_static("Origin");
const BY_METHOD: HeaderValue = HeaderValue::from_static("Access-Control-Request-Method");
/// What all fields of an answer that belong to the protocol begin with.
const PREFIX: &str = "access-control-";

/// What `config::compile` hands over: one route's answer to other origins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorsSettings {
    /// Whom answers may be shown to; `Any` stands alone, and never with credentials.
    pub origins: Vec<OriginPattern>,
    /// Methods that may be used, as a list with commas.
    pub methods: HeaderValue,
    /// Fields that may be sent, likewise; `None` for those that always may.
    pub headers: Option<HeaderValue>,
    /// Fields of an answer that may be read, likewise.
    pub expose: Option<HeaderValue>,
    /// Whether cookies and the like may be sent, and what they are answered with be read.
    pub credentials: bool,
    /// How long a browser may remember the answer to a preflight.
    pub max_age_secs: u32,
}

/// Origins as the configuration names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OriginPattern {
    /// All of them.
    Any,
    /// One, as browsers write it; also the word `null`.
    Exact(Box<str>),
    /// All whose host is one label more than the rest of a name.
    OneLabel {
        /// The scheme with its `://`.
        scheme: Box<str>,
        /// What follows the label, from its dot on; with the port.
        rest: Box<str>,
    },
}

/// One route's answer to other origins, ready to be given.
#[derive(Debug)]
pub struct Cors {
    origins: Vec<OriginPattern>,
    methods: HeaderValue,
    headers: Option<HeaderValue>,
    expose: Option<HeaderValue>,
    credentials: bool,
    max_age: HeaderValue,
}

/// The method that a preflight asks about; `None` for any other request.
///
/// Exactly one `Origin` and one `Access-Control-Request-Method`, as browsers send them: what says more is no preflight, and goes the way of
/// every request.
pub fn preflight_method(method: &Method, headers: &HeaderMap) -> Option<Method> {
    if *method != Method::OPTIONS {
        return None;
    }
    single(headers, &header::ORIGIN)?;
    let asked = single(headers, &header::ACCESS_CONTROL_REQUEST_METHOD)?;
    Method::from_bytes(asked.as_bytes()).ok()
}

impl Cors {
    /// Makes every field that will be sent, in copies of this worker's own.
    pub fn new(settings: &CorsSettings) -> Self {
        Self {
            origins: settings.origins.clone(),
            methods: own_value(&settings.methods),
            headers: settings.headers.as_ref().map(own_value),
            expose: settings.expose.as_ref().map(own_value),
            credentials: settings.credentials,
            max_age: settings.max_age_secs.into(),
        }
    }

    /// Whom the answer to a request may be shown to: its own origin if that is allowed, or everybody.
    pub fn admitted(&self, asked: &HeaderMap) -> Option<HeaderValue> {
        if self.is_for_any() {
            return Some(ANY);
        }
        let origin = single(asked, &header::ORIGIN)?;
        self.origins.iter().any(|pattern| pattern.matches(origin.as_bytes())).then(|| origin.clone())
    }

    /// Says what may be asked, in the answer to a preflight whose origin is admitted.
    pub fn permit(&self, answer: &mut HeaderMap) {
        answer.insert(header::ACCESS_CONTROL_ALLOW_METHODS, self.methods.clone());
        if let Some(headers) = &self.headers {
            answer.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, headers.clone());
        }
        answer.insert(header::ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
        answer.append(header::VARY, BY_METHOD);
    }

    /// Says in any answer of the route whom it may be shown to. One that is shown to some only differs by `Origin`, whoever asks: a cache
    /// must not give one origin what was meant for another (Fetch standard, section 3.3.8).
    pub fn show(&self, answer: &mut HeaderMap, admitted: Option<&HeaderValue>) {
        if !self.is_for_any() {
            vary_by_origin(answer);
        }
        let Some(admitted) = admitted else { return };
        answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, admitted.clone());
        if self.credentials {
            answer.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE);
        }
        if let Some(expose) = &self.expose {
            answer.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone());
        }
    }

    fn is_for_any(&self) -> bool {
        matches!(self.origins[..], [OriginPattern::Any])
    }
}

/// Removes what an upstream says in the protocol, where the gateway speaks for it: two answers are none to a browser.
pub fn silence(answer: &mut HeaderMap) {
    let said: Vec<HeaderName> = answer.keys().filter(|name| name.as_str().starts_with(PREFIX)).cloned().collect();
    for name in said {
        answer.remove(name);
    }
}

/// Whether a field belongs to the protocol.
pub fn speaks(name: &HeaderName) -> bool {
    name.as_str().starts_with(PREFIX)
}

/// RFC 9110 section 12.5.5: unless it is said already.
fn vary_by_origin(answer: &mut HeaderMap) {
    let says = |name: &[u8]| name == b"*" || name.eq_ignore_ascii_case(b"origin");
    let mut names = answer.get_all(header::VARY).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    if !names.any(|name| says(name.trim_ascii())) {
        answer.append(header::VARY, BY_ORIGIN);
    }
}

/// A field that is there exactly once.
fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() { None } else { Some(value) }
}

impl OriginPattern {
    /// Byte for byte: browsers write origins in one way (RFC 6454 section 6.2).
    fn matches(&self, origin: &[u8]) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => origin == exact.as_bytes(),
            Self::OneLabel { scheme, rest } => {
                let label = origin.strip_prefix(scheme.as_bytes()).and_then(|host| host.strip_suffix(rest.as_bytes()));
                label.is_some_and(|label| !label.is_empty() && label.iter().all(|byte| is_of_label(*byte)))
            }
        }
    }
}

fn is_of_label(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_')
}

impl fmt::Display for OriginPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(origin) => f.write_str(origin),
            Self::OneLabel { scheme, rest } => write!(f, "{scheme}*{rest}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn exact(origin: &str) -> OriginPattern {
        OriginPattern::Exact(origin.into())
    }

    fn below(scheme: &str, rest: &str) -> OriginPattern {
        OriginPattern::OneLabel { scheme: scheme.into(), rest: rest.into() }
    }

    fn cors(origins: &[OriginPattern], credentials: bool) -> Cors {
        Cors::new(&CorsSettings {
            origins: origins.to_vec(),
            methods: HeaderValue::from_static("GET, PUT"),
            headers: Some(HeaderValue::from_static("Authorization")),
            expose: Some(HeaderValue::from_static("X-Total")),
            credentials,
            max_age_secs: 600,
        })
    }

    fn fields(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, text) in lines {
            map.append(HeaderName::from_static(name), HeaderValue::from_str(text).expect("a value"));
        }
        map
    }

    fn admits(origins: &[OriginPattern], origin: &str) -> bool {
        let admitted = cors(origins, true).admitted(&fields(&[("origin", origin)]));
        assert!(admitted.as_ref().is_none_or(|value| value == origin), "{admitted:?}: only what was asked is answered");
        admitted.is_some()
    }

    /// The answer to a request, as lines in order of their names.
    fn shown(cors: &Cors, asked: &HeaderMap, answer: &[(&'static str, &str)]) -> Vec<String> {
        let mut answer = fields(answer);
        cors.show(&mut answer, cors.admitted(asked).as_ref());
        let mut lines: Vec<_> =
            answer.iter().map(|(name, value)| format!("{name}: {}", value.to_str().expect("ASCII"))).collect();
        lines.sort();
        lines
    }

    #[test]
    fn an_origin_is_compared_byte_for_byte() {
        let one = [exact("https://app.example.com")];
        assert!(admits(&one, "https://app.example.com"));
        for origin in [
            "http://app.example.com",
            "https://app.example.com:8443",
            "https://app.example.com/",
            "https://app.example.com.evil.example",
            "https://evil.example/https://app.example.com",
            "https://APP.example.com",
            "https://app.example.com https://evil.example",
            "null",
            "*",
            "",
        ] {
            assert!(!admits(&one, origin), "{origin}");
        }
    }

    #[test]
    fn a_wildcard_stands_for_exactly_one_label() {
        let any = [below("https://", ".example.com"), below("http://", ".local.test:3000")];
        for origin in ["https://a.example.com", "https://a-b_c9.example.com", "http://a.local.test:3000"] {
            assert!(admits(&any, origin), "{origin}");
        }
        for origin in [
            "https://example.com",
            "https://.example.com",
            "https://a.b.example.com",
            "http://a.example.com",
            "https://a.example.com:444",
            "https://evilexample.com",
            "https://evil.test/.example.com",
            "https://evil.test:1.example.com",
            "https://evil.test#.example.com",
            "https://evil@.example.com",
            "https://A.example.com",
            "http://a.local.test",
        ] {
            assert!(!admits(&any, origin), "{origin}");
        }
    }

    #[test]
    fn null_is_admitted_only_by_its_name() {
        assert!(!admits(&[exact("https://a"), below("https://", ".a")], "null"));
        assert!(admits(&[exact("https://a"), exact("null")], "null"));
    }

    #[test]
    fn an_admitted_origin_is_echoed_and_any_other_gets_nothing_but_vary() {
        let cors = cors(&[exact("https://a"), exact("https://b")], true);
        let asked = |origin| fields(&[("origin", origin)]);
        let answer = [
            "access-control-allow-credentials: true",
            "access-control-allow-origin: https://b",
            "access-control-expose-headers: X-Total",
            "vary: Origin",
        ];
        assert_eq!(shown(&cors, &asked("https://b"), &[]), answer);
        assert_eq!(shown(&cors, &asked("https://c"), &[]), ["vary: Origin"]);
        assert_eq!(shown(&cors, &fields(&[]), &[]), ["vary: Origin"]);
        let twice = fields(&[("origin", "https://a"), ("origin", "https://a")]);
        assert_eq!(shown(&cors, &twice, &[]), ["vary: Origin"]);
    }

    #[test]
    fn an_answer_for_everybody_is_the_same_for_everybody() {
        let cors = cors(&[OriginPattern::Any], false);
        let answer = ["access-control-allow-origin: *", "access-control-expose-headers: X-Total"];
        assert_eq!(shown(&cors, &fields(&[("origin", "https://a")]), &[]), answer);
        assert_eq!(shown(&cors, &fields(&[]), &[]), answer);
    }

    #[test]
    fn vary_is_said_once() {
        let cors = cors(&[exact("https://a")], false);
        for (said, added) in [
            (&["Accept"][..], true),
            (&["X-Origin, Origin-X"], true),
            (&["Accept, origin"], false),
            (&["Accept", "Cookie ,ORIGIN"], false),
            (&["*"], false),
        ] {
            let said: Vec<_> = said.iter().map(|value| ("vary", *value)).collect();
            let lines = shown(&cors, &fields(&[]), &said);
            assert_eq!(lines.contains(&"vary: Origin".to_owned()), added, "{said:?}");
            assert_eq!(lines.len(), said.len() + usize::from(added), "{said:?}");
        }
    }

    #[test]
    fn a_preflight_is_an_options_request_with_one_origin_and_one_method() {
        let asked = [("origin", "https://a"), ("access-control-request-method", "PUT")];
        let of = |method: Method, lines: &[(&'static str, &str)]| preflight_method(&method, &fields(lines));
        assert_eq!(of(Method::OPTIONS, &asked), Some(Method::PUT));
        assert_eq!(of(Method::GET, &asked), None);
        assert_eq!(of(Method::OPTIONS, &asked[..1]), None);
        assert_eq!(of(Method::OPTIONS, &asked[1..]), None);
        assert_eq!(of(Method::OPTIONS, &[asked[0], asked[0], asked[1]]), None);
        assert_eq!(of(Method::OPTIONS, &[asked[0], asked[1], asked[1]]), None);
        assert_eq!(of(Method::OPTIONS, &[asked[0], ("access-control-request-method", "P T")]), None);
    }

    #[test]
    fn a_preflight_is_told_what_may_be_asked() {
        let mut answer = HeaderMap::new();
        cors(&[exact("https://a")], false).permit(&mut answer);
        assert_eq!(answer[header::ACCESS_CONTROL_ALLOW_METHODS], "GET, PUT");
        assert_eq!(answer[header::ACCESS_CONTROL_ALLOW_HEADERS], "Authorization");
        assert_eq!(answer[header::ACCESS_CONTROL_MAX_AGE], "600");
    }

    #[test]
    fn what_the_upstream_says_in_the_protocol_is_removed() {
        let mut answer = fields(&[
            ("access-control-allow-origin", "*"),
            ("access-control-allow-origin", "https://evil"),
            ("access-control-allow-private-network", "true"),
            ("x-access-control", "stays"),
        ]);
        silence(&mut answer);
        assert_eq!(answer, fields(&[("x-access-control", "stays")]));
    }

    proptest! {
        #[test]
        fn only_a_name_below_the_rest_is_admitted(origin in "(https://)?[ab.:/@]{0,8}(\\.x\\.y)?(:1)?") {
            let admitted = admits(&[below("https://", ".x.y")], &origin);
            let label = origin.strip_prefix("https://").and_then(|host| host.strip_suffix(".x.y"));
            prop_assert_eq!(admitted, label.is_some_and(|label| !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_lowercase())));
        }
    }
}
