//! QUIC as an edge speaks it (RFC 9000): what is bounded, and by how much.

use std::time::Duration;

use quinn::{IdleTimeout, TransportConfig, VarInt};

use crate::serve::{CONNECTION_WINDOW_BYTES, Limits, WINDOW_BYTES};

/// A client needs three unidirectional streams (RFC 9114 section 6.2); the rest is for those that try whether unknown ones are tolerated.
const UNIDIRECTIONAL_STREAMS: u32 = 8;
/// Longer than the limit that QUIC is silent, so that an idle client is bidden farewell and not just forgotten by both sides.
const FAREWELL: Duration = Duration::from_secs(2);

/// The transport of connections that are accepted under these limits.
pub fn transport(limits: &Limits) -> TransportConfig {
    let silence = limits.idle_timeout.saturating_add(FAREWELL);
    let silence = IdleTimeout::try_from(silence).unwrap_or(VarInt::MAX.into()); // some hundred million years
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(limits.http2_streams))
        .max_concurrent_uni_streams(VarInt::from_u32(UNIDIRECTIONAL_STREAMS))
        .stream_receive_window(VarInt::from_u32(WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        // What is sent and not acknowledged is held until it is, of all streams together.
        .send_window(u64::from(CONNECTION_WINDOW_BYTES))
        .max_idle_timeout(Some(silence))
        .datagram_receive_buffer_size(None)
        .allow_spin(false);
    transport
}
