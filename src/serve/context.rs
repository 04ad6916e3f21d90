//! Who takes part in an exchange: the worker, the client's connection, the request, and the notes taken along the way.
//!
//! Nothing here decides anything. The notes are the one thing several stages write to; they end in one access-log line.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderName, HeaderValue, Method, request};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::activity::Activity;
use super::compress::Wanted;
use super::failure::Failure;
use super::ids::RequestIds;
use super::passage::Begun;
use super::throttle::Left;
use super::unread::Unread;
use super::upgrade::Opened;
use super::{ErrorPage, Limits};
use crate::auth::{Asking, Denied, Policy, UnixSeconds};
use crate::http::websocket::{self, Asked};
use crate::http::{BodyWatch, Boundary, Target, TargetError, accept};
use crate::observe::{AccessSink, Held, WorkerMeter};
use crate::shutdown::{Drain, Tasks};
use crate::snapshot::{Live, Route, Snapshot};
use crate::tls::Coverage;

const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
/// What a browser names that has something to show.
const HTML: &str = "text/html";

/// What one worker's connections share.
#[derive(Debug)]
pub struct Worker {
    /// The snapshot served now.
    pub live: Live,
    /// Where this worker's access lines go, if requests are logged.
    pub access: Option<AccessSink>,
    /// Counts what belongs to no route.
    pub meter: WorkerMeter,
    /// Whether new work is still taken.
    pub drain: Drain,
    /// Makes request ids.
    pub ids: RequestIds,
    /// What a drain waits for.
    pub tasks: Tasks,
}

/// One client's connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) worker: Arc<Worker>,
    /// Who called: the socket's other end, or the client of a relay. A trusted proxy may say more, request by request.
    pub(super) peer: SocketAddr,
    /// Whom they called: an address of ours, or of a relay.
    pub(super) local: SocketAddr,
    /// The peer's address as it is sent to upstreams, made once.
    pub(super) peer_value: HeaderValue,
    pub(super) secure: bool,
    /// The SHA-256 of the certificate the client proved to hold.
    pub(super) client_certificate: Option<[u8; 32]>,
    /// Which hosts may be asked for; `None` if all of them may.
    pub(super) coverage: Option<Coverage>,
    /// What every answer says in `Strict-Transport-Security`.
    pub(super) hsts: Option<HeaderValue>,
    /// The port of the TLS listener that a plain listener sends everything to.
    pub(super) to_https: Option<u16>,
    /// Where the client finds HTTP/3, if it does not speak it already.
    pub(super) alt_svc: Option<HeaderValue>,
    pub(super) activity: Arc<Activity>,
    /// What an HTTP/1.1 connection becomes when its parser has said the last word.
    pub(super) tunnel: Mutex<Option<Box<Begun>>>,
}

impl Connection {
    /// The connection is this when its parser is done.
    pub(super) fn set_tunnel(&self, tunnel: Box<Begun>) {
        *self.tunnel.lock().unwrap_or_else(PoisonError::into_inner) = Some(tunnel);
    }

    /// What the connection has become, if it has.
    pub(super) fn take_tunnel(&self) -> Option<Box<Begun>> {
        self.tunnel.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// One request with everything that is known about it.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) connection: Arc<Connection>,
    pub(super) head: request::Parts,
    pub(super) body: Unread,
    /// Whether it is a gRPC call.
    pub(super) grpc: bool,
    pub(super) notes: Notes,
    /// When its head was there, by either clock.
    pub(super) time: SystemTime,
    pub(super) begun: Instant,
    /// How it asks for a tunnel, if it does; known with its target.
    pub(super) asked: Option<Asked>,
}

impl Exchange {
    /// Lets the head pass the trust boundary; to be done before anything reads it.
    pub(super) fn admit(&mut self, snapshot: &Snapshot) -> Client {
        let connection = &self.connection;
        let said = snapshot.boundary.admit(&mut self.head.headers, connection.peer, connection.secure);
        let request_id = said.request_id.unwrap_or_else(|| connection.worker.ids.next());
        let (forwarded_for, port) = if said.address == connection.peer.ip().to_canonical() {
            (connection.peer_value.clone(), connection.peer.port())
        } else {
            (address_value(said.address), 0)
        };
        let socket = SocketAddr::new(said.address, port);
        self.notes.write(|story| {
            story.client = said.address;
            story.request_id = Some(request_id.clone());
        });
        Client { socket, forwarded_for, secure: said.secure, request_id }
    }

    /// Refuses a host that a certificate of the listener covers and this connection's does not (RFC 9110 section 7.4): its client may
    /// ask again over a connection of its own. A trusted proxy has its own mind about names, and keeps one connection for many.
    pub(super) fn check_direction(&self, target: &Target, boundary: &Boundary) -> Result<(), Failure> {
        let connection = &self.connection;
        let misdirects = |coverage: &Coverage| coverage.misdirects(target.host());
        let misdirected = connection.coverage.as_ref().is_some_and(misdirects);
        if misdirected && !boundary.trusts(connection.peer.ip().to_canonical()) {
            return Err(Failure::Misdirected);
        }
        Ok(())
    }

    /// Notes whether the client would be shown a page, where there is one to show: a failure may come when its fields are gone.
    pub(super) fn note_taste(&self, pages: &[ErrorPage]) {
        if pages.is_empty() {
            return;
        }
        self.notes.write(|story| {
            story.takes_page.get_or_insert_with(|| accept::names(&self.head.headers, HTML));
        });
    }

    /// Notes which route the request takes, and whom and how its answer may be shown to.
    pub(super) fn take_route(&self, route: &Arc<Route>) {
        self.note_taste(&route.pages);
        self.notes.write(|story| {
            story.in_flight = Some(route.meter.begin());
            story.shown_to = route.cors.as_ref().and_then(|cors| cors.admitted(&self.head.headers));
            story.wanted = route
                .compress
                .as_ref()
                .map(|settings| Wanted::read(settings, &self.head, self.connection.client_certificate.is_some()));
            story.route = Some(Arc::clone(route));
        });
    }

    /// What the judge is to look at.
    pub(super) fn asking<'r>(&'r self, target: &'r Target, client: &Client) -> Asking<'r> {
        Asking {
            method: &self.head.method,
            headers: &self.head.headers,
            target,
            secure: client.secure,
            client_certificate: self.connection.client_certificate.as_ref(),
            tunnel: self.asked.is_some(),
            now: UnixSeconds::of(self.time),
        }
    }

    /// A refusal, or the way to the login for a browser that shows its user a page. A token in the page's URL is not handed on: it is
    /// nobody else's to see, and coming back with it would fail again.
    pub(super) fn refused(&self, denied: Denied, policy: &Policy, target: &Target, client: &Client) -> Failure {
        let Some(login) = denied.login_url().filter(|_| wants_page(&self.head)) else { return denied.into() };
        let scheme = if client.secure { "https" } else { "http" };
        let query = policy.without_token(&self.head.method, target.query());
        let query = query.map_or_else(String::new, |query| format!("?{query}"));
        let page = format!("{scheme}://{}{}{query}", target.authority(), target.raw_path());
        let page = utf8_percent_encode(&page, NON_ALPHANUMERIC).to_string();
        match HeaderValue::from_str(&login.replacen("{url}", &page, 1)) {
            Ok(location) => Failure::LoginNeeded { denied, location },
            Err(_) => denied.into(),
        }
    }

    /// Who the request is for. Over HTTP/1 the parser has counted the fields already; over HTTP/2 nobody has.
    pub(super) fn target(&mut self, client: &Client, limits: &Limits) -> Result<Target, TargetError> {
        if self.head.headers.len() > limits.header_fields {
            return Err(TargetError::TooManyFields);
        }
        // Either may be what the request's own scheme is about: the way to a trusted proxy, or the way from it.
        let secure = self.connection.secure || client.secure;
        let target = Target::read(&self.head, secure, limits.target_bytes)?;
        // The parser leaves a mark with every request that could become a tunnel, and with hardly any other.
        if !self.head.extensions.is_empty() {
            self.asked = websocket::asked(&self.head);
        }
        if self.asked == Some(Asked::Connect) {
            self.head.method = Method::GET; // what it is to routes, to policies and to the upstream
        }
        Ok(target)
    }
}

/// Whether a browser asks for a page to show, and not a script for data: only a page can lead to a login (Fetch Metadata section 2.2).
fn wants_page(head: &request::Parts) -> bool {
    matches!(head.method, Method::GET | Method::HEAD)
        && accept::names(&head.headers, HTML)
        && head.headers.get(SEC_FETCH_MODE).is_none_or(|mode| mode.as_bytes() == b"navigate")
}

/// What the upstream is told about the client.
#[derive(Debug)]
pub(super) struct Client {
    /// Its address; port 0 if only a proxy knows it.
    pub(super) socket: SocketAddr,
    pub(super) forwarded_for: HeaderValue,
    pub(super) secure: bool,
    pub(super) request_id: HeaderValue,
}

pub(super) fn address_value(address: IpAddr) -> HeaderValue {
    HeaderValue::from_str(&address.to_string()).expect("an address is digits, dots, colons and hex")
}

/// A shared page for the story of one exchange.
#[derive(Debug, Clone)]
pub(super) struct Notes(Arc<Mutex<Story>>);

/// The story of one exchange, as far as it has got.
#[derive(Debug)]
pub(super) struct Story {
    pub(super) client: IpAddr,
    pub(super) request_id: Option<HeaderValue>,
    pub(super) target: Option<Target>,
    pub(super) route: Option<Arc<Route>>,
    pub(super) in_flight: Option<Held>,
    /// The origin whose scripts may see the answer.
    pub(super) shown_to: Option<HeaderValue>,
    /// Whether the client asked for what a browser shows; `None` where there is nothing to show it.
    pub(super) takes_page: Option<bool>,
    /// How the answer may come, on a route that compresses.
    pub(super) wanted: Option<Wanted>,
    /// Whether the answer is in no shared cache, whatever the upstream and the route say.
    pub(super) private: bool,
    /// Whether the answer is in no shared cache unless the upstream or the route says so.
    pub(super) personal: bool,
    pub(super) subject: Option<Box<str>>,
    /// The issuer of the token, where a route takes those of several.
    pub(super) issuer: Option<Box<str>>,
    pub(super) upstream: Option<Arc<str>>,
    pub(super) endpoint: Option<Arc<str>>,
    /// The request's body, once somebody reads it.
    pub(super) body: Option<BodyWatch>,
    pub(super) auth: Option<Duration>,
    pub(super) queue: Option<Duration>,
    pub(super) connect: Option<Duration>,
    pub(super) first_byte: Option<Duration>,
    /// `ok`, or the label of what went wrong.
    pub(super) outcome: &'static str,
    /// The rate limit that refused the request, or would have refused it.
    pub(super) limit: Option<Arc<str>>,
    /// What is left of the rate limits that it was counted by, on a route that tells.
    pub(super) left: Option<Left>,
    /// What the exchange becomes when it is answered.
    pub(super) tunnel: Option<Box<Opened>>,
}

impl Notes {
    pub(super) fn new(client: IpAddr) -> Self {
        Self(Arc::new(Mutex::new(Story {
            client,
            request_id: None,
            target: None,
            route: None,
            in_flight: None,
            shown_to: None,
            takes_page: None,
            wanted: None,
            private: false,
            personal: false,
            subject: None,
            issuer: None,
            upstream: None,
            endpoint: None,
            body: None,
            auth: None,
            queue: None,
            connect: None,
            first_byte: None,
            outcome: "ok",
            limit: None,
            left: None,
            tunnel: None,
        })))
    }

    /// Adds to the story, or reads it.
    pub(super) fn write<R>(&self, note: impl FnOnce(&mut Story) -> R) -> R {
        note(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_page_that_is_to_be_shown_leads_to_a_login() {
        let wants = |method: Method, fields: &[(&str, &str)]| {
            let mut request = http::Request::builder().method(method);
            for (name, value) in fields {
                request = request.header(*name, *value);
            }
            wants_page(&request.body(()).expect("a request").into_parts().0)
        };
        let browser = ("accept", "application/xhtml+xml, text/html;q=0.9, */*;q=0.8");
        assert!(wants(Method::GET, &[browser]) && wants(Method::HEAD, &[browser, ("sec-fetch-mode", "navigate")]));
        assert!(wants(Method::GET, &[("accept", "image/png"), ("accept", "Text/HTML")]));
        assert!(!wants(Method::GET, &[browser, ("sec-fetch-mode", "cors")]));
        assert!(!wants(Method::POST, &[browser]) && !wants(Method::GET, &[]));
        assert!(!wants(Method::GET, &[("accept", "application/json, text/html;q=0")]));
        assert!(!wants(Method::GET, &[("accept", "*/*")]) && !wants(Method::GET, &[("accept", "text/htmlx")]));
    }
}
