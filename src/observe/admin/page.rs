//! The status page: one self-contained HTML document that reads at a glance, without scripts.
//!
//! A pure function of the status, the numbers and the time. Everything that comes from outside is escaped.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::time::{Duration, SystemTime};

use super::status::{CertificateStatus, RouteStatus, Status};
use crate::observe::UpstreamStatus;
use crate::observe::metrics::{EndpointNumbers, NO_ROUTE, RouteNumbers};

const STYLE: &str = include_str!("page.css");

const DAY: u64 = 24 * 60 * 60;

/// Days left at which a certificate shows as a warning, and as an error.
const SOON_DAYS: u64 = 21;
const URGENT_DAYS: u64 = 7;

type Routes = BTreeMap<Box<str>, RouteNumbers>;
type Endpoints = BTreeMap<(Box<str>, Box<str>), EndpointNumbers>;

pub(super) fn render(status: &Status, routes: &Routes, endpoints: &Endpoints, now: SystemTime) -> String {
    let mut page = String::with_capacity(16 * 1024);
    page.push_str("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Portcullis</title>");
    page.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">");
    page.push_str("<meta name=\"color-scheme\" content=\"light dark\"><meta http-equiv=\"refresh\" content=\"5\">");
    page.push_str("<style>");
    page.push_str(STYLE);
    page.push_str("</style></head><body>");
    summary(&mut page, status, now);
    page.push_str("<main>");
    routes_table(&mut page, &status.routes, routes);
    endpoints_table(&mut page, status, endpoints);
    breakers_table(&mut page, &status.upstreams);
    key_sets_table(&mut page, &status.key_sets);
    listeners_table(&mut page, status);
    certificates_table(&mut page, &status.certificates, now);
    page.push_str("</main><footer>Counts since the process started; p50 and p99 are estimates. ");
    page.push_str("<a href=\"/metrics\">metrics</a> <a href=\"/readyz\">readiness</a></footer></body></html>\n");
    page
}

fn summary(page: &mut String, status: &Status, now: SystemTime) {
    let (tone, state) = match (status.draining, status.ready) {
        (true, _) => (Tone::Warning, "draining"),
        (false, true) => (Tone::Good, "ready"),
        (false, false) => (Tone::Bad, "not ready"),
    };
    page.push_str("<header><h1>Portcullis</h1>");
    push(page, format_args!("<strong class=\"{}\">{state}</strong><dl>", tone.class()));
    fact(page, "version", status.version);
    fact(page, "uptime", Span(status.uptime));
    fact(page, "generation", status.generation);
    if let Some(reload) = &status.last_reload {
        let ago = Span(now.duration_since(reload.at).unwrap_or_default());
        let result = if reload.error.is_some() { "refused" } else { "live" };
        fact(page, "last reload", format_args!("{result}, {ago} ago"));
    }
    if let Some(count) = status.revocations {
        fact(page, "revocations", count);
    }
    if let Some(redis) = &status.redis {
        let (tone, state) = if redis.up { (Tone::Good, "there") } else { (Tone::Bad, "away") };
        let (lasting, alone) = (Span(redis.lasting), redis.fallbacks);
        let said = format_args!("<span class=\"{}\">{state}</span> for {lasting}, {alone} decided alone", tone.class());
        fact(page, "redis", said);
    }
    page.push_str("</dl></header>");
    if let Some((redis, error)) = status.redis.as_ref().and_then(|redis| Some((redis, redis.error.as_ref()?)))
        && !redis.up
    {
        push(page, format_args!("<pre role=\"alert\">{}: {}</pre>", Escaped(&redis.place), Escaped(error)));
    }
    if let Some(error) = status.last_reload_error() {
        push(page, format_args!("<pre role=\"alert\">{}</pre>", Escaped(error)));
    }
}

fn fact(page: &mut String, name: &str, value: impl Display) {
    push(page, format_args!("<div><dt>{name}</dt><dd>{value}</dd></div>"));
}

fn routes_table(page: &mut String, routes: &[RouteStatus], numbers: &Routes) {
    open(
        page,
        "Routes",
        &["route", "matches", "who may pass", "action"],
        &["requests", "5xx", "p50", "p99", "in flight"],
    );
    for route in routes {
        row(page, &[&route.name, &route.matches, &route.policy, &route.action], |page| {
            route_numbers(page, numbers.get(&route.name));
        });
    }
    if let Some(unmatched) = numbers.get(NO_ROUTE) {
        row(page, &[NO_ROUTE, "requests that matched no route", "", ""], |page| route_numbers(page, Some(unmatched)));
    }
    close(page);
}

fn route_numbers(page: &mut String, numbers: Option<&RouteNumbers>) {
    let idle = RouteNumbers::default();
    let numbers = numbers.unwrap_or(&idle);
    let tone = if numbers.server_errors > 0 { Tone::Bad } else { Tone::Plain };
    cell(page, Tone::Plain, numbers.requests);
    cell(page, tone, Share { part: numbers.server_errors, whole: numbers.requests });
    cell(page, Tone::Plain, Latency(numbers.p50));
    cell(page, Tone::Plain, Latency(numbers.p99));
    cell(page, Tone::Plain, numbers.in_flight);
}

fn endpoints_table(page: &mut String, status: &Status, numbers: &Endpoints) {
    open(page, "Upstreams", &["upstream", "endpoint", "standing"], &["open", "leased", "slots", "waiting", "errors"]);
    let mut before = None;
    for at in &status.endpoints {
        let numbers = numbers.get(&(at.upstream.clone(), at.label.clone())).copied().unwrap_or_default();
        let standing = if at.drained { "drained" } else { status.health(at).map_or("", |health| health.standing) };
        let named =
            if at.label == at.endpoint { at.endpoint.to_string() } else { format!("{} of {}", at.endpoint, at.label) };
        // What a name stands for is counted together, and shown beside the first.
        let is_counted = before.replace((&at.upstream, &at.label)) == Some((&at.upstream, &at.label));
        row(page, &[&at.upstream, &named, standing], |page| {
            if is_counted {
                return (0..5).for_each(|_| cell(page, Tone::Plain, ""));
            }
            cell(page, Tone::Plain, numbers.open);
            cell(page, Tone::Plain, numbers.leased);
            cell(page, Tone::Plain, at.slots);
            cell(page, if numbers.waiting > 0 { Tone::Warning } else { Tone::Plain }, numbers.waiting);
            cell(page, if numbers.errors > 0 { Tone::Bad } else { Tone::Plain }, numbers.errors);
        });
    }
    close(page);
}

fn breakers_table(page: &mut String, upstreams: &[UpstreamStatus]) {
    let with_one = upstreams.iter().filter_map(|status| Some((&status.upstream, status.breaker?)));
    let breakers: Vec<_> = with_one.collect();
    if breakers.is_empty() {
        return;
    }
    open(page, "Breakers", &["upstream"], &["state", "opened", "rejected"]);
    for (upstream, breaker) in breakers {
        row(page, &[upstream], |page| {
            cell(page, if breaker.state == "closed" { Tone::Good } else { Tone::Bad }, breaker.state);
            cell(page, Tone::Plain, breaker.opened);
            cell(page, Tone::Plain, breaker.rejected);
        });
    }
    close(page);
}

fn listeners_table(page: &mut String, status: &Status) {
    open(page, "Listeners", &["listener", "address", "protocol"], &[]);
    for listener in &status.listeners {
        let protocol = match (listener.tls, listener.http3) {
            (_, true) => "TLS, QUIC",
            (true, false) => "TLS",
            (false, false) => "plain",
        };
        row(page, &[&listener.name, &listener.address.to_string(), protocol], |_| {});
    }
    close(page);
}

fn key_sets_table(page: &mut String, sets: &[crate::observe::KeySetStatus]) {
    if sets.is_empty() {
        return;
    }
    open(page, "Fetched key sets", &["issuer", "last failure"], &["keys", "age in seconds"]);
    for set in sets {
        row(page, &[&set.issuer, set.last_error.as_deref().unwrap_or("none")], |page| {
            cell(page, if set.keys == 0 { Tone::Bad } else { Tone::Good }, set.keys);
            match set.age {
                None => cell(page, Tone::Bad, "never"),
                Some(age) => cell(page, if set.stale { Tone::Warning } else { Tone::Plain }, age.as_secs()),
            }
        });
    }
    close(page);
}

fn certificates_table(page: &mut String, certificates: &[CertificateStatus], now: SystemTime) {
    open(page, "Certificates", &["certificate", "names"], &["days left"]);
    for certificate in certificates {
        row(page, &[&certificate.label, &certificate.names.join(", ")], |page| {
            match days_left(certificate.expires, now) {
                None => cell(page, Tone::Bad, "expired"),
                Some(days @ ..URGENT_DAYS) => cell(page, Tone::Bad, days),
                Some(days @ ..SOON_DAYS) => cell(page, Tone::Warning, days),
                Some(days) => cell(page, Tone::Good, days),
            }
        });
    }
    close(page);
}

/// Whole days until then; `None` when it is past.
fn days_left(expires: SystemTime, now: SystemTime) -> Option<u64> {
    expires.duration_since(now).ok().map(|left| left.as_secs() / DAY)
}

fn open(page: &mut String, title: &str, words: &[&str], numbers: &[&str]) {
    push(page, format_args!("<section><h2>{title}</h2><table><thead><tr>"));
    for heading in words {
        push(page, format_args!("<th scope=\"col\">{heading}</th>"));
    }
    for heading in numbers {
        push(page, format_args!("<th scope=\"col\" class=\"number\">{heading}</th>"));
    }
    page.push_str("</tr></thead><tbody>");
}

fn row(page: &mut String, words: &[&str], numbers: impl FnOnce(&mut String)) {
    page.push_str("<tr>");
    for word in words {
        push(page, format_args!("<td>{}</td>", Escaped(word)));
    }
    numbers(page);
    page.push_str("</tr>");
}

fn cell(page: &mut String, tone: Tone, value: impl Display) {
    push(page, format_args!("<td class=\"number {}\">{value}</td>", tone.class()));
}

fn close(page: &mut String) {
    page.push_str("</tbody></table></section>");
}

fn push(page: &mut String, what: fmt::Arguments<'_>) {
    fmt::Write::write_fmt(page, what).expect("a String takes every write");
}

#[derive(Clone, Copy)]
enum Tone {
    Plain,
    Good,
    Warning,
    Bad,
}

impl Tone {
    const fn class(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Good => "good",
            Self::Warning => "warning",
            Self::Bad => "bad",
        }
    }
}

/// Text as HTML text or an attribute value.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in self.0.split_inclusive(['<', '>', '&', '"', '\'']) {
            let mut text = part.chars();
            match text.next_back() {
                Some('<') => write!(f, "{}&lt;", text.as_str())?,
                Some('>') => write!(f, "{}&gt;", text.as_str())?,
                Some('&') => write!(f, "{}&amp;", text.as_str())?,
                Some('"') => write!(f, "{}&quot;", text.as_str())?,
                Some('\'') => write!(f, "{}&#39;", text.as_str())?,
                _ => f.write_str(part)?,
            }
        }
        Ok(())
    }
}

/// A span of time in its two greatest units.
struct Span(Duration);

impl Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        match seconds {
            0..60 => write!(f, "{seconds} s"),
            60..3600 => write!(f, "{} min {} s", seconds / 60, seconds % 60),
            3600..DAY => write!(f, "{} h {} min", seconds / 3600, seconds / 60 % 60),
            _ => write!(f, "{} d {} h", seconds / DAY, seconds / 3600 % 24),
        }
    }
}

/// A latency with about three digits.
struct Latency(Option<Duration>);

impl Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.map(|latency| latency.as_secs_f64() * 1e3) {
            None => f.write_str("-"),
            Some(millis) if millis < 10.0 => write!(f, "{millis:.2} ms"),
            Some(millis) if millis < 1000.0 => write!(f, "{millis:.0} ms"),
            Some(millis) => write!(f, "{:.1} s", millis / 1e3),
        }
    }
}

/// A part of a whole, in percent.
struct Share {
    part: u64,
    whole: u64,
}

impl Display for Share {
    #[allow(clippy::cast_precision_loss)] // shown with two decimals
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.part, self.whole) {
            (_, 0) => f.write_str("-"),
            (0, _) => f.write_str("0 %"),
            (part, whole) if part * 10_000 < whole => f.write_str("&lt; 0.01 %"),
            (part, whole) => write!(f, "{:.2} %", part as f64 * 100.0 / whole as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::observe::admin::{EndpointStatus, ReloadStatus};

    fn shown(value: impl Display) -> String {
        value.to_string()
    }

    #[test]
    fn text_from_outside_cannot_become_markup() {
        assert_eq!(
            shown(Escaped("<b a=\"1\" b='2'>&amp;</b>")),
            "&lt;b a=&quot;1&quot; b=&#39;2&#39;&gt;&amp;amp;&lt;/b&gt;"
        );
        assert_eq!(shown(Escaped("plain \u{e9}")), "plain \u{e9}");
        let evil = "<script>alert(1)</script>";
        let status = Status {
            last_reload: Some(ReloadStatus { at: UNIX_EPOCH, error: Some(evil.to_string()) }),
            certificates: vec![CertificateStatus { label: evil.into(), names: vec![evil.into()], expires: UNIX_EPOCH }],
            routes: vec![RouteStatus {
                name: evil.into(),
                matches: evil.into(),
                policy: evil.into(),
                action: evil.into(),
            }],
            endpoints: vec![EndpointStatus {
                upstream: evil.into(),
                endpoint: evil.into(),
                label: evil.into(),
                slots: 1,
                drained: true,
            }],
            ..Status::default()
        };
        assert!(!render(&status, &Routes::new(), &Endpoints::new(), UNIX_EPOCH).contains("<script"));
    }

    #[test]
    fn figures_are_short_enough_to_read_at_a_glance() {
        assert_eq!(shown(Span(Duration::from_secs(59))), "59 s");
        assert_eq!(shown(Span(Duration::from_secs(3599))), "59 min 59 s");
        assert_eq!(shown(Span(Duration::from_secs(7322))), "2 h 2 min");
        assert_eq!(shown(Span(Duration::from_secs(3 * DAY + 7200))), "3 d 2 h");
        assert_eq!(shown(Latency(None)), "-");
        assert_eq!(shown(Latency(Some(Duration::from_micros(750)))), "0.75 ms");
        assert_eq!(shown(Latency(Some(Duration::from_millis(42)))), "42 ms");
        assert_eq!(shown(Latency(Some(Duration::from_millis(2500)))), "2.5 s");
        assert_eq!(shown(Share { part: 0, whole: 0 }), "-");
        assert_eq!(shown(Share { part: 1, whole: 8 }), "12.50 %");
        assert_eq!(shown(Share { part: 1, whole: 1_000_000 }), "&lt; 0.01 %");
    }

    #[test]
    fn days_left_count_whole_days() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(days_left(at(DAY * 9 - 1), at(0)), Some(8));
        assert_eq!(days_left(at(5), at(5)), Some(0));
        assert_eq!(days_left(at(5), at(6)), None);
    }

    #[test]
    fn the_page_needs_nothing_from_elsewhere() {
        let page = render(&Status::default(), &Routes::new(), &Endpoints::new(), UNIX_EPOCH);
        for outside in ["http://", "https://", "src=", "<script", "<link", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
    }
}
