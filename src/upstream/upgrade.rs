//! One request that asks for a tunnel: a connection of its own, which becomes the tunnel if the endpoint agrees.
//!
//! Answers for RFC 9110 section 7.8: the tunnel begins after the endpoint's 101 and not before, and its connection is never used for
//! another request. It takes no slot and no permit of the pool: tunnels last for hours, and their number has a bound of its own.
//! Refuses to know what is spoken in the tunnel, and whether the 101 says what it must.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, response};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;

use super::connect::Connection;
use super::endpoint::{Carrier, Endpoint, Leased, Ready};
use super::forward::patiently;
use super::retry::Reason;
use super::stream::Stream;
use super::{Failed, Forwarded, OnBehalf, Upstream, UpstreamFailure, Wire};
use crate::http::RequestBody;
use crate::http::websocket::SwitchError;
use crate::observe::Held;

/// What came of asking for a tunnel.
#[derive(Debug)]
pub enum Upgrade {
    /// The endpoint switched: the head of its 101, still with the fields of the connection, and the tunnel.
    Switched(Box<Switched>),
    /// It answered as it would any request.
    Answered(Box<Forwarded>),
}

/// A tunnel to an endpoint that agreed.
#[derive(Debug)]
pub struct Switched {
    /// The head of the 101, hop-by-hop fields included: they say what was switched to.
    pub head: response::Parts,
    /// The endpoint's end.
    pub stream: TunnelEnd,
    /// The endpoint.
    pub endpoint: Arc<str>,
    /// Time until a connection was ready.
    pub connect: Duration,
    /// Time from then to the 101.
    pub first_byte: Duration,
    /// Whether the head gives its client the cookie of this endpoint.
    pub binds: bool,
}

/// The endpoint's end of a tunnel. The endpoint counts as used until it is dropped.
#[derive(Debug)]
pub struct TunnelEnd {
    stream: Stream,
    /// What came together with the 101.
    early: Bytes,
    leased: Leased,
    _open: Held,
}

impl Switched {
    /// What the endpoint switched to is not what was asked for: that is its failure.
    pub fn refused(self, error: SwitchError) -> Failed {
        let failure = UpstreamFailure::Switch(error);
        if let Some(stage) = failure.stage() {
            self.stream.leased.failed(stage);
        }
        Failed { failure, endpoint: Some(self.endpoint), queued: Duration::ZERO }
    }
}

impl Upstream {
    /// Whether its endpoints can be asked for tunnels: uwsgi has none, HTTP/2 has others, and the gateway itself does not answer so.
    pub fn takes_tunnels(&self) -> bool {
        self.members
            .endpoints()
            .all(|endpoint| endpoint.address().wire == Wire::Http1 && !endpoint.address().is_builtin())
    }

    /// Sends `request`, which asks for an upgrade and has no body, and waits for the answer's head.
    ///
    /// Cancel safe: dropping the future closes the connection it was using.
    pub async fn upgrade(&self, mut request: Request<RequestBody>, behalf: &OnBehalf) -> Result<Upgrade, Failed> {
        let pass = self.admit()?;
        let begun = Instant::now();
        let wish = self.members.wish(&mut request, behalf);
        let mut at = self.members.pick(wish, None);
        let mut endpoint = self.members.at(at);
        let mut dialled = endpoint.dial_tunnel(&self.settings, behalf).await;
        if let Err(failure) = &dialled
            && self.members.len() > 1
            && self.settings.retry.may_try_elsewhere()
        {
            if let Some(stage) = failure.stage() {
                endpoint.meter().failed(stage);
            }
            endpoint.failed(failure, true);
            self.retries.count(Reason::Connect);
            at = self.members.pick(wish, Some(at));
            endpoint = self.members.at(at);
            dialled = endpoint.dial_tunnel(&self.settings, behalf).await;
        }
        let connect = begun.elapsed();
        let asked = match dialled {
            Ok((connection, leased)) => {
                self.ask(endpoint, connection, leased, request, behalf).await.map(|asked| asked.timed(begun, connect))
            }
            Err(failure) => Err(failure),
        };
        let asked = asked.map(|mut asked| {
            let kept = self.members.keep(wish, at, behalf.secure, asked.headers_mut());
            asked.bind(kept);
            asked
        });
        match &asked {
            Ok(asked) => pass.answered(asked.status().as_u16()),
            Err(failure) => pass.failed(failure, true),
        }
        asked.map_err(|failure| {
            endpoint.failed(&failure, true);
            if let Some(stage) = failure.stage() {
                endpoint.meter().failed(stage);
            }
            Failed { failure, endpoint: Some(Arc::clone(endpoint.label())), queued: Duration::ZERO }
        })
    }

    async fn ask(
        &self,
        endpoint: &Endpoint,
        mut connection: Connection,
        leased: Leased,
        request: Request<RequestBody>,
        behalf: &OnBehalf,
    ) -> Result<Upgrade, UpstreamFailure> {
        let watch = request.body().watch();
        let (sender, deadline) = connection.wake();
        let sent = pin!(sender.send_request(request));
        let answered = patiently(sent, deadline, self.settings.response_timeout, Some(&watch)).await;
        deadline.clear();
        let response = answered.ok_or(UpstreamFailure::ResponseTimeout)?.map_err(|error| {
            if error.is_parse() {
                UpstreamFailure::Malformed(Some(error))
            } else {
                UpstreamFailure::Closed(Some(error))
            }
        })?;
        let label = Arc::clone(endpoint.label());
        endpoint.answered(response.status().as_u16());
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let switched =
                timeout(self.settings.response_timeout, switch(response, leased, endpoint.meter().kept())).await;
            let (head, stream) = switched.map_err(|_| UpstreamFailure::ResponseTimeout)??;
            let (connect, first_byte) = Default::default();
            return Ok(Upgrade::Switched(Box::new(Switched {
                head,
                stream,
                endpoint: label,
                connect,
                first_byte,
                binds: false,
            })));
        }
        let ready = Ready { carrier: Carrier::Own(Box::new(connection)), reused: None, queued: Duration::ZERO, leased };
        let response = self.accept(response, ready, endpoint.address().wire, &watch, behalf.trailers)?;
        let (connect, first_byte) = Default::default();
        let queued = Duration::ZERO; // it takes none of the pool's connections
        Ok(Upgrade::Answered(Box::new(Forwarded {
            response,
            endpoint: label,
            queued,
            connect,
            first_byte,
            binds: false,
        })))
    }
}

impl Upgrade {
    fn headers_mut(&mut self) -> &mut HeaderMap {
        match self {
            Self::Switched(switched) => &mut switched.head.headers,
            Self::Answered(forwarded) => forwarded.response.headers_mut(),
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Switched(switched) => switched.head.status,
            Self::Answered(forwarded) => forwarded.response.status(),
        }
    }

    fn bind(&mut self, binds: bool) {
        match self {
            Self::Switched(switched) => switched.binds = binds,
            Self::Answered(forwarded) => forwarded.binds = binds,
        }
    }

    fn timed(mut self, begun: Instant, connected: Duration) -> Self {
        let (connect, first_byte) = match &mut self {
            Self::Switched(switched) => (&mut switched.connect, &mut switched.first_byte),
            Self::Answered(forwarded) => (&mut forwarded.connect, &mut forwarded.first_byte),
        };
        *connect = connected;
        *first_byte = begun.elapsed().saturating_sub(connected);
        self
    }
}

/// Takes the connection out of HTTP's hands.
async fn switch(
    response: Response<Incoming>,
    leased: Leased,
    open: Held,
) -> Result<(response::Parts, TunnelEnd), UpstreamFailure> {
    let (head, body) = response.into_parts();
    drop(body); // a 101 has none
    let mut response = Response::from_parts(head, ());
    let upgraded = hyper::upgrade::on(&mut response).await.map_err(|error| UpstreamFailure::Closed(Some(error)))?;
    let parts = upgraded.downcast::<TokioIo<Stream>>().map_err(|_| UpstreamFailure::Malformed(None))?;
    let early = kept(parts.read_buf);
    let mut stream = parts.io.into_inner();
    stream.forgive_nothing(); // what a client says in a tunnel is not lost without a word
    let stream = TunnelEnd { stream, early, leased, _open: open };
    Ok((response.into_parts().0, stream))
}

/// What is left, without the whole buffer that an empty rest would keep.
fn kept(rest: Bytes) -> Bytes {
    if rest.is_empty() { Bytes::new() } else { rest }
}

impl AsyncRead for TunnelEnd {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.early.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let length = self.early.len().min(buf.remaining());
        buf.put_slice(&self.early.split_to(length));
        self.early = kept(std::mem::take(&mut self.early));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TunnelEnd {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
