//! The tunnel after the switch: bytes both ways between a client and an upstream, and how it comes to an end.
//!
//! Owns who is told what at the end (RFC 6455 section 7), how long anything may take, and that no close frame of the gateway's stands
//! inside of another frame. Refuses to know how the tunnel was asked for, and what its permit was: it asks whether that still holds.

mod way;

#[cfg(test)]
mod tests;

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use crate::auth::Lapse;
use crate::deadline::Deadline;
use crate::http::websocket::{Side, code};
use crate::observe::{TunnelCause, TunnelMeter};
use crate::shutdown::Drain;
use way::Way;

/// How long an end may take that the gateway decided on: to the end of a frame, the close frame, and the answer to it.
const FAREWELL: Duration = Duration::from_secs(2);
/// How long one side may take to answer the other's close frame.
const CLOSING: Duration = Duration::from_secs(10);
/// How long one side may still speak when the other has left, or when both have said goodbye.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What a tunnel may do.
#[derive(Debug)]
pub(super) struct Terms<'t> {
    /// How long nothing may come from either side.
    pub(super) idle: Duration,
    /// How long a side may take nothing of what is written to it.
    pub(super) write_timeout: Duration,
    pub(super) drain: &'t Drain,
    pub(super) meter: &'t TunnelMeter,
    /// Masks the one frame that the gateway sends to the upstream by itself.
    pub(super) mask: [u8; 4],
    /// Whether the client sent something before it could know that there is a tunnel (RFC 6455 section 4.1).
    pub(super) hasty: bool,
}

/// How it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) cause: TunnelCause,
    /// Bytes of the client's that went on.
    pub(super) bytes_in: u64,
    /// Bytes that went on to the client.
    pub(super) bytes_out: u64,
}

/// Moves bytes until the tunnel ends. `holds` says for how long what permitted it holds, or why it does so no more; it is asked after
/// that time, and whenever something moves.
///
/// Dropping the future cuts the tunnel.
pub(super) async fn run<C, U>(
    mut client: C,
    mut upstream: U,
    terms: Terms<'_>,
    mut holds: impl FnMut() -> Result<Duration, Lapse>,
) -> Ended
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let mut tunnel = Tunnel::new(&terms);
    let mut drain = pin!(terms.drain.begun());
    poll_fn(|cx| tunnel.poll(cx, &mut client, &mut upstream, drain.as_mut(), &mut holds)).await;
    Ended {
        cause: tunnel.cause.unwrap_or(TunnelCause::Cut),
        bytes_in: tunnel.up.moved(),
        bytes_out: tunnel.down.moved(),
    }
}

struct Tunnel<'t> {
    terms: &'t Terms<'t>,
    /// From the client to the upstream.
    up: Way,
    /// From the upstream to the client.
    down: Way,
    /// Why it ends, once it does.
    cause: Option<TunnelCause>,
    /// When what is left of an ending tunnel is cut.
    until: Option<Instant>,
    /// When something moved last, and how much had moved then.
    moved_at: Instant,
    moved: (u64, u64),
    /// When the permit is to be asked again.
    ask_at: Option<Instant>,
    /// Whether the drain will wake the tunnel, and whether it has.
    registered: bool,
    drained: bool,
    timer: Deadline,
}

impl<'t> Tunnel<'t> {
    fn new(terms: &'t Terms<'t>) -> Self {
        let now = Instant::now();
        let mut tunnel = Self {
            terms,
            up: Way::new(Side::Client),
            down: Way::new(Side::Server),
            cause: None,
            until: None,
            moved_at: now,
            moved: (0, 0),
            ask_at: Some(now),
            registered: false,
            drained: false,
            timer: Deadline::default(),
        };
        if terms.hasty {
            tunnel.part(TunnelCause::ClientProtocol, now);
        }
        tunnel
    }

    fn poll<C, U>(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut C,
        upstream: &mut U,
        mut drain: Pin<&mut impl Future<Output = ()>>,
        holds: &mut impl FnMut() -> Result<Duration, Lapse>,
    ) -> Poll<()>
    where
        C: AsyncRead + AsyncWrite + Unpin,
        U: AsyncRead + AsyncWrite + Unpin,
    {
        loop {
            self.poll_ways(cx, client, upstream);
            let now = Instant::now();
            let moved = self.count(now);
            let parts = self.notice(now)
                || (self.cause.is_none() && self.judge(now, moved, holds))
                || self.poll_drain(cx, drain.as_mut(), now);
            if parts {
                continue; // the close frames go out
            }
            if self.is_over() || self.until.is_some_and(|until| until <= now) {
                return Poll::Ready(());
            }
            self.timer.set_at(self.next_look());
            if self.timer.poll_passed(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// What the upstream said comes first: writing to one that has left may lose it.
    fn poll_ways<C, U>(&mut self, cx: &mut Context<'_>, client: &mut C, upstream: &mut U)
    where
        C: AsyncRead + AsyncWrite + Unpin,
        U: AsyncRead + AsyncWrite + Unpin,
    {
        loop {
            let over = self.is_client_over();
            self.down.poll(cx, upstream, client, over);
            let ended = self.down.is_ended();
            self.up.poll(cx, client, upstream, ended);
            if self.is_client_over() == over {
                return;
            }
        }
    }

    /// Whether the client has said goodbye and was told it.
    fn is_client_over(&self) -> bool {
        self.down.is_told() && self.up.is_heard()
    }

    /// Counts what moved since the last look.
    fn count(&mut self, now: Instant) -> bool {
        let (bytes_in, bytes_out) = (self.up.moved(), self.down.moved());
        if (bytes_in, bytes_out) == self.moved {
            return false;
        }
        self.terms.meter.moved(bytes_in - self.moved.0, bytes_out - self.moved.1);
        self.moved = (bytes_in, bytes_out);
        self.moved_at = now;
        true
    }

    /// What the two sides did that ends the tunnel. Whether the gateway has to say something to it.
    fn notice(&mut self, now: Instant) -> bool {
        if self.cause.is_none() {
            if self.up.is_misframed() {
                return self.part(TunnelCause::ClientProtocol, now);
            }
            if self.down.is_misframed() {
                return self.part(TunnelCause::UpstreamProtocol, now);
            }
            self.cause = self.farewell();
            if self.cause.is_some() {
                self.end_within(CLOSING, now);
            }
        }
        let (up, down) = (&self.up, &self.down);
        let both_said = up.has_close() && down.has_close();
        if both_said || up.is_ended() || down.is_ended() || up.is_broken() || down.is_broken() {
            self.end_within(LAST_WORDS, now);
        }
        false
    }

    /// Whether one of the sides has said goodbye, or has left without.
    fn farewell(&self) -> Option<TunnelCause> {
        if self.up.has_close() || self.down.has_close() {
            Some(TunnelCause::Closed)
        } else if self.up.is_ended() || self.down.is_broken() {
            Some(TunnelCause::ClientGone)
        } else if self.down.is_ended() || self.up.is_broken() {
            Some(TunnelCause::UpstreamGone)
        } else {
            None
        }
    }

    /// What time ends, and what no longer holds. Whether it is the end.
    fn judge(&mut self, now: Instant, moved: bool, holds: &mut impl FnMut() -> Result<Duration, Lapse>) -> bool {
        let late = |way: &Way| way.stalled().is_some_and(|since| since + self.terms.write_timeout <= now);
        if late(&self.down) {
            return self.part(TunnelCause::ClientStalled, now);
        }
        if late(&self.up) {
            return self.part(TunnelCause::UpstreamStalled, now);
        }
        if self.moved_at + self.terms.idle <= now {
            return self.part(TunnelCause::Idle, now);
        }
        if moved || self.ask_at.is_some_and(|at| at <= now) {
            match holds() {
                Ok(time) => self.ask_at = now.checked_add(time),
                Err(Lapse::Expired) => return self.part(TunnelCause::TokenExpired, now),
                Err(Lapse::Revoked) => return self.part(TunnelCause::TokenRevoked, now),
            }
        }
        false
    }

    /// The waker of this task never changes, so the signal is polled once to be woken by it, and once when it is given.
    fn poll_drain(&mut self, cx: &mut Context<'_>, drain: Pin<&mut impl Future<Output = ()>>, now: Instant) -> bool {
        if self.drained || (self.registered && !self.terms.drain.started()) {
            return false;
        }
        self.registered = true;
        self.drained = drain.poll(cx).is_ready();
        self.drained && self.part(TunnelCause::Drain, now)
    }

    /// Both sides are told that the tunnel ends.
    fn part(&mut self, cause: TunnelCause, now: Instant) -> bool {
        let (to_client, to_upstream) = codes(cause);
        self.cause.get_or_insert(cause);
        self.down.end(to_client, [0; 4]);
        self.up.end(to_upstream, self.terms.mask);
        self.end_within(FAREWELL, now);
        true
    }

    fn end_within(&mut self, limit: Duration, now: Instant) {
        let until = now + limit;
        self.until = Some(self.until.map_or(until, |already| already.min(until)));
    }

    /// Whether everything was said and told. The upstream closes first (RFC 6455 section 7.1.1).
    fn is_over(&self) -> bool {
        self.down.is_ended() && self.down.is_shut() && self.up.is_heard() && self.up.is_shut()
    }

    fn next_look(&self) -> Instant {
        if let Some(until) = self.until {
            return until;
        }
        let stalled = [self.up.stalled(), self.down.stalled()].into_iter().flatten();
        let late = stalled.map(|since| since + self.terms.write_timeout);
        late.chain(self.ask_at).fold(self.moved_at + self.terms.idle, Instant::min)
    }
}

/// What the client is told, and what the upstream is told.
fn codes(cause: TunnelCause) -> (u16, u16) {
    match cause {
        TunnelCause::ClientProtocol => (code::PROTOCOL_ERROR, code::GOING_AWAY),
        TunnelCause::UpstreamProtocol => (code::INTERNAL_ERROR, code::PROTOCOL_ERROR),
        TunnelCause::UpstreamStalled => (code::INTERNAL_ERROR, code::GOING_AWAY),
        TunnelCause::TokenExpired | TunnelCause::TokenRevoked => (code::POLICY_VIOLATION, code::GOING_AWAY),
        TunnelCause::Drain => (code::SERVICE_RESTART, code::GOING_AWAY),
        TunnelCause::Closed
        | TunnelCause::ClientGone
        | TunnelCause::UpstreamGone
        | TunnelCause::Idle
        | TunnelCause::ClientStalled
        | TunnelCause::Cut => (code::GOING_AWAY, code::GOING_AWAY),
    }
}
