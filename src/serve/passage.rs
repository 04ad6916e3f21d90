//! From an answered request to its tunnel: who runs it, on which stream, and what is told of it afterwards.
//!
//! Over HTTP/1.1 it runs in the task of the client's connection, on the connection's own stream; over HTTP/2 in a task of its own, on one
//! stream of a connection that goes on. The exchange ends when the tunnel does.

use std::time::Duration;

use aws_lc_rs::rand;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::record::Open;
use super::streams::Leash;
use super::tunnel::{self, Terms};
use super::upgrade::Opened;
use crate::auth::{Standing, UnixSeconds};
use crate::observe::{TunnelCause, TunnelMeter};

/// A tunnel that was agreed to on both sides, with the exchange that it ends.
#[derive(Debug)]
pub(super) struct Begun {
    opened: Opened,
    open: Box<Open>,
    meter: TunnelMeter,
}

impl Begun {
    /// The answer that agrees is on its way.
    pub(super) fn new(opened: Opened, mut open: Box<Open>) -> Self {
        open.becomes_tunnel();
        let meter = opened.route.meter.tunnel();
        Self { opened, open, meter }
    }

    /// Hands the tunnel to whoever will run it.
    pub(super) fn hand_over(mut self) {
        let connection = self.open.connection();
        match self.opened.client.take() {
            Some(client) => {
                let leash = Leash::of_this_stream();
                connection.worker.tasks.clone().spawn(async move {
                    match client.await {
                        Ok(stream) => self.run(TokioIo::new(stream), false).await,
                        Err(_) => self.gone(),
                    }
                    drop(leash);
                });
            }
            None => connection.set_tunnel(Box::new(self)),
        }
    }

    /// Runs the tunnel to its end. `hasty` is a client that sent something before it was answered.
    pub(super) async fn run<C: AsyncRead + AsyncWrite + Unpin>(self, client: C, hasty: bool) {
        let Self { opened, mut open, meter } = self;
        let Opened { upstream, route, mut standing, .. } = opened;
        let connection = open.connection();
        let mut mask = [0; 4];
        rand::fill(&mut mask).ok(); // a mask protects what scripts send (RFC 6455 section 10.3); this frame is the gateway's
        let terms = Terms {
            idle: route.tunnels.idle,
            write_timeout: connection.worker.live.current().limits.write_timeout,
            drain: &connection.worker.drain,
            meter: &meter,
            mask,
            hasty,
        };
        let holds = || {
            standing.as_mut().map_or(Ok(Duration::MAX), |standing: &mut Standing| standing.holds(UnixSeconds::now()))
        };
        let ended = tunnel::run(client, upstream, terms, holds).await;
        meter.ended(ended.cause);
        open.tunnel_ended(ended);
    }

    /// The client left before the answer had reached it.
    pub(super) fn gone(self) {
        let Self { mut open, meter, .. } = self;
        meter.ended(TunnelCause::ClientGone);
        open.tunnel_ended(tunnel::Ended { cause: TunnelCause::ClientGone, bytes_in: 0, bytes_out: 0 });
    }
}
