//! Listening: bound sockets, over TCP and UDP, and accept loops that never end.
//!
//! Owns the sockets, their way to the next process, the bounds on connections for the whole process and for one client, what happens
//! when the kernel can't hand over a connection, and who is behind one that a relay passes on. Refuses to know what is spoken over it.

mod accept;
mod bind;
mod client;
mod datagrams;
mod guard;
mod handover;
mod limit;
mod mark;
mod quic;
mod rate;
mod relay;
mod settings;

pub use accept::{Accepted, Backlog, Incoming, Queue, TcpQueue};
pub use bind::{BindError, Inherited, bind_all};
pub use client::ClientAddr;
pub use datagrams::{QuicSocket, bind_quic};
pub use guard::{Guard, Refusal, Seat, Shaking};
pub use handover::{hand_over, is_serving, receive, say_serving};
pub use limit::{Admission, ConnectionLimit};
pub use quic::{Attempt, Beginning, Decision, QuicIncoming};
pub use relay::{Ends, RelayError, Relays, announced};
pub use settings::*;
