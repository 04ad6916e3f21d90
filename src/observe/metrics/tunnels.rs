//! What is counted of tunnels: how many are open, why they ended, and what went through them.

use std::sync::Arc;

use super::cells::{Held, RouteCells};
use super::sheet::Sheet;
use super::{TUNNEL_BYTES, TUNNELS_ENDED, TUNNELS_OPEN};

/// Why a tunnel ended: the `cause` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TunnelCause {
    /// One side said goodbye with a close frame.
    Closed,
    /// The client left without one.
    ClientGone,
    /// The upstream left without one.
    UpstreamGone,
    /// Nothing came from either side for too long.
    Idle,
    /// The client took nothing of what was written to it for too long.
    ClientStalled,
    /// The upstream took nothing of what was written to it for too long.
    UpstreamStalled,
    /// The token it was permitted by expired.
    TokenExpired,
    /// The token it was permitted by was revoked.
    TokenRevoked,
    /// The process drains.
    Drain,
    /// What the client sent is no WebSocket.
    ClientProtocol,
    /// What the upstream sent is no WebSocket.
    UpstreamProtocol,
    /// The grace of the drain was over, or the task failed.
    Cut,
}

impl TunnelCause {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Closed,
        Self::ClientGone,
        Self::UpstreamGone,
        Self::Idle,
        Self::ClientStalled,
        Self::UpstreamStalled,
        Self::TokenExpired,
        Self::TokenRevoked,
        Self::Drain,
        Self::ClientProtocol,
        Self::UpstreamProtocol,
        Self::Cut,
    ];

    /// The label value.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::ClientGone => "client_gone",
            Self::UpstreamGone => "upstream_gone",
            Self::Idle => "idle",
            Self::ClientStalled => "client_stalled",
            Self::UpstreamStalled => "upstream_stalled",
            Self::TokenExpired => "token_expired",
            Self::TokenRevoked => "token_revoked",
            Self::Drain => "drain",
            Self::ClientProtocol => "client_protocol",
            Self::UpstreamProtocol => "upstream_protocol",
            Self::Cut => "cut",
        }
    }
}

/// Counts one open tunnel: it is open until it is told how it ended, or dropped, which is a cut.
#[derive(Debug)]
pub struct TunnelMeter {
    cells: Arc<RouteCells>,
    end: TunnelCause,
    _open: Held,
}

impl TunnelMeter {
    pub(super) fn open(cells: &Arc<RouteCells>) -> Self {
        Self { cells: Arc::clone(cells), end: TunnelCause::Cut, _open: Held::take(&cells.tunnels.open) }
    }

    /// So many bytes more went through, from the client and to it.
    pub fn moved(&self, bytes_in: u64, bytes_out: u64) {
        self.cells.tunnels.bytes_in.add(bytes_in);
        self.cells.tunnels.bytes_out.add(bytes_out);
    }

    /// It has ended.
    pub fn ended(mut self, end: TunnelCause) {
        self.end = end;
    }
}

impl Drop for TunnelMeter {
    fn drop(&mut self) {
        self.cells.tunnels.ended[self.end as usize].add(1);
    }
}

/// The families of one route; a route that never had a tunnel has none of them.
pub(super) fn read(sheet: &mut Sheet, route: &str, shards: &[&RouteCells]) {
    let shards = || shards.iter().map(|shard| &shard.tunnels);
    let ended = |end: TunnelCause| shards().map(|tunnels| tunnels.ended[end as usize].value()).sum::<u64>();
    let open = shards().map(|tunnels| tunnels.open.value()).sum::<i64>();
    if open == 0 && TunnelCause::ALL.into_iter().all(|end| ended(end) == 0) {
        return;
    }
    sheet.put(&TUNNELS_OPEN, &[route], open);
    for end in TunnelCause::ALL {
        sheet.put(&TUNNELS_ENDED, &[route, end.label()], ended(end));
    }
    sheet.put(&TUNNEL_BYTES, &[route, "in"], shards().map(|tunnels| tunnels.bytes_in.value()).sum::<u64>());
    sheet.put(&TUNNEL_BYTES, &[route, "out"], shards().map(|tunnels| tunnels.bytes_out.value()).sum::<u64>());
}
