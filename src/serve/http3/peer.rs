//! The client's unidirectional streams: read to their end, so that what may not be there ends the connection.

use std::sync::atomic::{AtomicU8, Ordering};

use quinn::{ReadError, RecvStream, VarInt};

use super::close;
use crate::http::http3::{Code, PeerStream, Role};

/// Which of the streams that there may be one of have been opened.
#[derive(Debug, Default)]
pub(super) struct Roles(AtomicU8);

impl Roles {
    /// RFC 9114 section 6.2.1, RFC 9204 section 4.2: one each.
    fn claim(&self, role: Role) -> Result<(), Code> {
        let bit = match role {
            Role::Control => 1,
            Role::Encoder => 2,
            Role::Decoder => 4,
            Role::Unknown => return Ok(()),
        };
        let before = self.0.fetch_or(bit, Ordering::Relaxed);
        if before & bit == 0 { Ok(()) } else { Err(Code::StreamCreation) }
    }
}

/// Reads one stream until it ends or the connection does.
pub(super) async fn listen(mut recv: RecvStream, quic: quinn::Connection, roles: std::sync::Arc<Roles>) {
    if let Err(code) = read(&mut recv, &roles).await {
        close(&quic, code);
    }
}

async fn read(recv: &mut RecvStream, roles: &Roles) -> Result<(), Code> {
    let mut stream = PeerStream::default();
    let mut role = None;
    loop {
        match recv.read_chunk(usize::MAX, true).await {
            Ok(Some(chunk)) => stream.read(&chunk.bytes)?,
            Ok(None) | Err(ReadError::Reset(_)) => return stream.end(),
            Err(_) => return Ok(()), // the connection has ended
        }
        if role.is_none() {
            role = stream.role();
            match role {
                // RFC 9114 section 6.2: what nobody knows is not read, and no error.
                Some(Role::Unknown) => {
                    recv.stop(VarInt::from_u32(Code::StreamCreation.value())).ok(); // or it has ended
                    return Ok(());
                }
                Some(role) => roles.claim(role)?,
                None => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_stream_of_each_kind() {
        let roles = Roles::default();
        for role in [Role::Control, Role::Encoder, Role::Decoder] {
            assert_eq!(roles.claim(role), Ok(()));
            assert_eq!(roles.claim(role), Err(Code::StreamCreation));
        }
        assert_eq!((roles.claim(Role::Unknown), roles.claim(Role::Unknown)), (Ok(()), Ok(())));
    }
}
