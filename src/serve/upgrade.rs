//! A request that becomes a tunnel: what is asked of it, what the upstream is asked, and what the client is answered.
//!
//! Answers for RFC 6455 section 4 on both sides, and for RFC 8441 section 5: what comes as an extended CONNECT goes on as an upgrade with a
//! key of the gateway's own. Refuses to know what a tunnel does once it is open.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use http::header::{
    CONTENT_LENGTH, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, TE,
};
use http::{Response, StatusCode};
use hyper::upgrade::OnUpgrade;

use super::act::{Outgoing, arrive, depart, proxy};
use super::context::{Exchange, Notes};
use super::failure::Failure;
use super::places::{NoPlace, Place};
use crate::auth::{Permit, Standing};
use crate::http::websocket::{self, Asked, SwitchError};
use crate::http::{Body, hop};
use crate::snapshot::{Route, Snapshot};
use crate::upstream::{Failed, Forwarded, Switched, TunnelEnd, Upgrade, Upstream, UpstreamFailure};

/// A tunnel that is asked for, and may be.
pub(super) struct Wanted {
    asked: Asked,
    key: HeaderValue,
    /// What is agreed to if the upstream agrees to no protocol.
    protocol: Option<HeaderValue>,
    opening: Opening,
}

/// What a tunnel needs of the request it was asked for by.
#[derive(Debug)]
struct Opening {
    route: Arc<Route>,
    place: Place,
    standing: Option<Standing>,
    /// Where the client's side comes from over HTTP/2; over HTTP/1.1 it is the connection itself.
    client: Option<OnUpgrade>,
}

/// A tunnel whose upstream has switched.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) upstream: TunnelEnd,
    pub(super) route: Arc<Route>,
    pub(super) standing: Option<Standing>,
    pub(super) client: Option<OnUpgrade>,
    pub(super) _place: Place,
}

/// The fields of a 101 and the stream behind it, or what was answered instead.
type Answer = Result<(HeaderMap, TunnelEnd), Response<Body>>;

/// Refuses a CONNECT where nothing could be tunnelled to: any success would tell its client that there is a tunnel.
pub(super) fn refuse(exchange: &Exchange) -> Result<(), NoPlace> {
    if exchange.asked == Some(Asked::Connect) { Err(NoPlace::Never) } else { Ok(()) }
}

/// What an exchange asks for, if it is a tunnel; refuses what may not become one before the upstream hears of it.
pub(super) fn wanted(
    exchange: &mut Exchange,
    route: &Arc<Route>,
    permit: &Permit,
    snapshot: &Snapshot,
) -> Result<Option<Box<Wanted>>, Failure> {
    let Some(asked) = exchange.asked else { return Ok(None) };
    websocket::check(&exchange.head, asked, exchange.body.is_there())?;
    if asked == Asked::Upgrade && exchange.connection.activity.has_more() {
        return Err(Failure::HastyClient);
    }
    if exchange.connection.worker.drain.started() {
        return Err(NoPlace::Draining.into());
    }
    let place = route.tunnels.places.take()?;
    let standing = snapshot.authority.standing(permit);
    let standing = if route.tunnels.end_with_token { standing } else { standing.map(Standing::past_expiry) };
    let key = match exchange.head.headers.get(SEC_WEBSOCKET_KEY) {
        Some(key) if asked == Asked::Upgrade => key.clone(),
        _ => fresh_key(),
    };
    let client = exchange.head.extensions.remove().filter(|_| asked == Asked::Connect);
    let opening = Opening { route: Arc::clone(route), place, standing, client };
    Ok(Some(Box::new(Wanted { asked, key, protocol: permit.websocket_protocol(), opening })))
}

/// A key is random so that nobody mistakes an old answer for one to it; it guards no secret (RFC 6455 section 1.3).
fn fresh_key() -> HeaderValue {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).ok(); // without randomness it is the same key each time
    websocket::key(bytes)
}

impl Wanted {
    /// Asks the upstream. What it answers instead of switching is an answer like any other.
    pub(super) async fn open(
        self,
        upstream: &Upstream,
        mut outgoing: Outgoing<'_>,
        notes: &Notes,
    ) -> Result<Response<Body>, Failure> {
        if !upstream.takes_tunnels() {
            return self.decline(proxy(upstream, outgoing, notes).await?);
        }
        let headers = outgoing.request.headers_mut();
        headers.remove(TE);
        websocket::switch(headers);
        headers.insert(SEC_WEBSOCKET_KEY, self.key.clone());
        headers.insert(SEC_WEBSOCKET_VERSION, websocket::VERSION);
        let (request, behalf) = depart(upstream, outgoing).await?;
        let watch = request.body().watch();
        let asked = upstream.upgrade(request, &behalf).await.and_then(|upgrade| self.judge(upgrade));
        match arrive(asked, &watch, notes)? {
            Ok((headers, stream)) => Ok(self.agree(headers, stream, notes)),
            Err(response) => self.decline(response),
        }
    }

    /// A switch counts only if it answers the key.
    fn judge(&self, upgrade: Upgrade) -> Result<Forwarded<Answer>, Failed> {
        let switched = match upgrade {
            Upgrade::Switched(switched) => switched,
            Upgrade::Answered(forwarded) => return Ok((*forwarded).map(Err)),
        };
        if let Err(error) = websocket::check_switch(&switched.head.headers, &self.key) {
            return Err(switched.refused(error));
        }
        let Switched { head, stream, endpoint, connect, first_byte, binds } = *switched;
        let (response, queued) = (Ok((head.headers, stream)), Duration::ZERO); // it takes none of the pool's connections
        Ok(Forwarded { response, endpoint, queued, connect, first_byte, binds })
    }

    /// An answer like any other, but that to a CONNECT every 2xx would open a tunnel (RFC 8441 section 5).
    fn decline(&self, response: Response<Body>) -> Result<Response<Body>, Failure> {
        if self.asked == Asked::Connect && response.status().is_success() {
            return Err(Failure::Upstream(UpstreamFailure::Switch(SwitchError::Declined)));
        }
        Ok(response)
    }

    fn agree(self, headers: HeaderMap, upstream: TunnelEnd, notes: &Notes) -> Response<Body> {
        let Opening { route, place, standing, client } = self.opening;
        let opened = Opened { upstream, route, standing, client, _place: place };
        notes.write(|story| story.tunnel = Some(Box::new(opened)));
        agree(self.asked, headers, self.protocol)
    }
}

/// The answer that opens the client's side.
fn agree(asked: Asked, mut headers: HeaderMap, protocol: Option<HeaderValue>) -> Response<Body> {
    hop::strip(&mut headers);
    headers.remove(CONTENT_LENGTH);
    if let Some(protocol) = protocol {
        headers.entry(SEC_WEBSOCKET_PROTOCOL).or_insert(protocol);
    }
    let status = match asked {
        Asked::Upgrade => {
            websocket::switch(&mut headers);
            StatusCode::SWITCHING_PROTOCOLS
        }
        Asked::Connect => {
            headers.remove(SEC_WEBSOCKET_ACCEPT);
            StatusCode::OK
        }
    };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

#[cfg(test)]
mod tests {
    use http::HeaderName;
    use http::header::{CONNECTION, UPGRADE};

    use super::*;

    fn agreed(asked: Asked, protocol: Option<&'static str>, fields: &[(&'static str, &'static str)]) -> Response<Body> {
        let fields =
            fields.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        agree(asked, fields.collect(), protocol.map(HeaderValue::from_static))
    }

    const SWITCHED: [(&str, &str); 6] = [
        ("connection", "Upgrade, X-Hop"),
        ("upgrade", "websocket"),
        ("x-hop", "1"),
        ("content-length", "0"),
        ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        ("sec-websocket-extensions", "permessage-deflate"),
    ];

    #[test]
    fn over_http_1_the_answer_switches_the_clients_connection() {
        let response = agreed(Asked::Upgrade, None, &SWITCHED);
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        let headers = response.headers();
        assert_eq!(
            (&headers[CONNECTION], &headers[UPGRADE]),
            (&"upgrade".parse().unwrap(), &websocket::PROTOCOL.parse().unwrap())
        );
        assert!(headers.contains_key(SEC_WEBSOCKET_ACCEPT) && headers.contains_key("sec-websocket-extensions"));
        assert!(!headers.contains_key("x-hop") && !headers.contains_key(CONTENT_LENGTH));
    }

    #[test]
    fn over_http_2_it_is_a_plain_success_without_the_key_s_answer() {
        let response = agreed(Asked::Connect, None, &SWITCHED);
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers().keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["sec-websocket-extensions"]);
    }

    #[test]
    fn a_client_that_named_its_token_among_the_protocols_is_answered_one_of_them() {
        let protocol = |protocol, fields: &[_]| {
            let response = agreed(Asked::Upgrade, protocol, fields);
            response.headers().get(SEC_WEBSOCKET_PROTOCOL).cloned()
        };
        assert_eq!(protocol(Some("bearer"), &SWITCHED).unwrap(), "bearer");
        assert_eq!(protocol(Some("bearer"), &[("sec-websocket-protocol", "chat")]).unwrap(), "chat");
        assert_eq!(protocol(None, &SWITCHED), None);
    }
}
