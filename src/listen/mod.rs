//! Listening: bound sockets and an accept loop that never ends.
//!
//! Owns the sockets, the bound on connections for the whole process, and what happens when the kernel can't hand over
//! a connection. Refuses to know what is spoken over it.

mod accept;
mod bind;
mod client;
mod limit;
mod settings;

pub use accept::{Accepted, Backlog, Incoming, Queue, TcpQueue};
pub use bind::{BindError, Inherited, bind_all};
pub use client::ClientAddr;
pub use limit::{Admission, ConnectionLimit};
pub use settings::*;
