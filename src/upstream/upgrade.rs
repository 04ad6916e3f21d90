//! A request that asks an upstream for a tunnel, and the stream it gets.
//!
//! Answers for RFC 9110 section 7.8 and RFC 6455 section 4.1: the tunnel begins only after a 101 that answers the request's own key. Its
//! connection is dialled for it alone, outside of pool and slots, and never used for anything else. Refuses to know what is tunnelled.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::endpoint::{Carrier, Endpoint, Leased, Ready};
use super::forward::{ATTEMPTS, judge, patiently};
use super::stream::Stream;
use super::{Failed, Forwarded, OnBehalf, Upstream, UpstreamFailure};
use crate::http::websocket::check_switch;
use crate::http::{Body, RequestBody};
use crate::observe::Held;

/// What an upstream made of a request for a tunnel.
#[derive(Debug)]
pub enum Upgrade {
    /// It switched; these are the fields of its 101, those of the connection included.
    Switched {
        /// The fields.
        headers: HeaderMap,
        /// The tunnel's other side.
        stream: TunnelStream,
    },
    /// It answered as to any request.
    Declined(Response<Body>),
}

/// An upstream's connection as a tunnel, counted as open as long as it lives.
#[derive(Debug)]
pub struct TunnelStream {
    stream: Stream,
    /// What came along with the 101.
    early: Bytes,
    _open: Held,
    _leased: Leased,
}

impl Upstream {
    /// Asks for a WebSocket with `request`, which bears `key` and has no body. Endpoints that speak no HTTP/1.1 get it as a plain request.
    ///
    /// Cancel safe: dropping the future closes the connection.
    pub async fn upgrade(
        &self,
        mut request: Request<RequestBody>,
        behalf: &OnBehalf,
        key: &HeaderValue,
    ) -> Result<Forwarded<Upgrade>, Failed> {
        let mut refused = None;
        for _ in 0..ATTEMPTS {
            let Some(endpoint) = self.pick_for_tunnel(refused) else {
                request.headers_mut().remove(UPGRADE);
                request.headers_mut().remove(CONNECTION);
                return self.forward(request, behalf).await.map(|forwarded| forwarded.map(Upgrade::Declined));
            };
            let begun = Instant::now();
            let ready = match endpoint.fresh(&self.settings).await {
                Ok(ready) => ready,
                Err(failure) if refused.is_none() && self.endpoints.len() > 1 => {
                    failure.stage().into_iter().for_each(|stage| endpoint.meter.failed(stage));
                    endpoint.meter.retried();
                    refused = Some(endpoint);
                    continue;
                }
                Err(failure) => return Err(failed(endpoint, failure)),
            };
            let connect = begun.elapsed();
            let asked = self.ask(endpoint, ready, request, key).await;
            let upgrade = asked.map_err(|failure| failed(endpoint, failure))?;
            return Ok(Forwarded::new(upgrade, Arc::clone(&endpoint.label), connect, begun));
        }
        unreachable!("the second attempt returns")
    }

    async fn ask(
        &self,
        endpoint: &Endpoint,
        mut ready: Ready,
        request: Request<RequestBody>,
        key: &HeaderValue,
    ) -> Result<Upgrade, UpstreamFailure> {
        let watch = request.body().watch();
        let Carrier::Single(connection) = &mut ready.carrier else { return Err(UpstreamFailure::Closed(None)) };
        let (sender, deadline) = connection.wake();
        let sent = pin!(sender.try_send_request(request));
        let answered = patiently(sent, deadline, self.settings.response_timeout, &watch).await;
        deadline.clear();
        let answered = answered.ok_or(UpstreamFailure::ResponseTimeout)?;
        let response = answered.map_err(|error| judge(error.into_error(), &watch))?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return self.accept(response, ready, &watch, false).map(Upgrade::Declined);
        }
        check_switch(response.headers(), key).map_err(UpstreamFailure::Switch)?;
        switch(endpoint, ready, response).await
    }
}

/// Takes the stream back from the parser.
async fn switch(endpoint: &Endpoint, ready: Ready, response: Response<Incoming>) -> Result<Upgrade, UpstreamFailure> {
    let mut response = response;
    let upgraded = hyper::upgrade::on(&mut response).await;
    let upgraded = upgraded.map_err(|error| UpstreamFailure::Closed(Some(error)))?;
    let parts = upgraded.downcast::<TokioIo<Stream>>().expect("`speak` speaks over this type alone");
    let Ready { carrier, leased, .. } = ready;
    drop(carrier); // its task has ended with the switch
    let stream = TunnelStream {
        stream: parts.io.into_inner(),
        early: parts.read_buf,
        _open: endpoint.meter.kept(),
        _leased: leased,
    };
    Ok(Upgrade::Switched { headers: response.into_parts().0.headers, stream })
}

fn failed(endpoint: &Endpoint, failure: UpstreamFailure) -> Failed {
    if let Some(stage) = failure.stage() {
        endpoint.meter.failed(stage);
    }
    Failed { failure, endpoint: Arc::clone(&endpoint.label) }
}

impl AsyncRead for TunnelStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.early.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let length = self.early.len().min(buf.remaining());
        buf.put_slice(&self.early.split_to(length));
        if self.early.is_empty() {
            self.early = Bytes::new(); // an empty rest would keep the buffer it was cut from
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TunnelStream {
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
