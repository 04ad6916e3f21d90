//! Listening sockets on their way from a gateway to the one that takes its place.
//!
//! Owns the line between the two processes, a pair of connected sockets: the old one sends its listening sockets over it (`SCM_RIGHTS`,
//! unix(7)), the new one answers with one byte when it serves, and the end of the line tells each that the other is gone. Refuses to know
//! who starts whom, and what is done about a failure.

use std::io::{self, IoSlice, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

/// Sockets in one message; the kernel takes 253.
const BATCH: usize = 64;
/// A byte that comes with sockets.
const SOCKETS: u8 = b's';
/// The byte after the last of them.
const ALL: u8 = b'.';
/// What the new process answers.
const SERVING: u8 = b'!';
/// How long each waits for the other while sockets are on their way; both are busy with nothing else.
const PATIENCE: Duration = Duration::from_secs(5);

/// Sends copies of `sockets`, all of them or none that count.
pub fn hand_over<'a>(line: &UnixStream, sockets: impl Iterator<Item = &'a TcpListener>) -> io::Result<()> {
    line.set_write_timeout(Some(PATIENCE))?;
    let sockets: Vec<BorrowedFd<'_>> = sockets.map(|socket| socket.as_fd()).collect();
    for batch in sockets.chunks(BATCH) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
        let mut rights = SendAncillaryBuffer::new(&mut space);
        if !rights.push(SendAncillaryMessage::ScmRights(batch)) {
            return Err(io::Error::other("more sockets than a message takes"));
        }
        sendmsg(line, &[IoSlice::new(&[SOCKETS])], &mut rights, SendFlags::NOSIGNAL)?;
    }
    (&*line).write_all(&[ALL])
}

/// Receives what [`hand_over`] sends.
pub fn receive(line: &UnixStream) -> io::Result<Vec<TcpListener>> {
    line.set_read_timeout(Some(PATIENCE))?;
    let mut sockets = Vec::new();
    loop {
        let mut byte = [0];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
        let mut rights = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(line, &mut [IoSliceMut::new(&mut byte)], &mut rights, RecvFlags::CMSG_CLOEXEC)?;
        for message in rights.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                sockets.extend(descriptors.map(TcpListener::from));
            }
        }
        if received.flags.contains(ReturnFlags::CTRUNC) {
            return Err(io::Error::other("not all sockets could be received: raise LimitNOFILE (ulimit -n)"));
        }
        match (received.bytes, byte[0]) {
            (1, SOCKETS) => {}
            (1, ALL) => return Ok(sockets),
            (0, _) => return Err(io::ErrorKind::UnexpectedEof.into()),
            _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "the line speaks another language")),
        }
    }
}

/// Tells the old process that this one serves.
pub fn say_serving(mut line: &UnixStream) -> io::Result<()> {
    line.write_all(&[SERVING])
}

/// Whether what was read off the line says that the new process serves.
pub fn is_serving(read: &[u8]) -> bool {
    read.first() == Some(&SERVING)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn bound(count: usize) -> Vec<TcpListener> {
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect()
    }

    #[test]
    fn sockets_arrive_in_order_and_listen_though_the_sender_has_closed_them() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let sockets = bound(BATCH + 3);
        let addresses: Vec<_> = sockets.iter().map(|socket| socket.local_addr().unwrap()).collect();
        hand_over(&ours, sockets.iter()).unwrap();
        let waiting = std::net::TcpStream::connect(addresses[BATCH]).unwrap();
        drop(sockets);
        let received = receive(&theirs).unwrap();
        assert_eq!(received.iter().map(|socket| socket.local_addr().unwrap()).collect::<Vec<_>>(), addresses);
        let (_, peer) = received[BATCH].accept().unwrap();
        assert_eq!(peer, waiting.local_addr().unwrap(), "what was in the queue is in it still");
    }

    #[test]
    fn nothing_to_hand_over_is_no_failure() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        hand_over(&ours, bound(0).iter()).unwrap();
        assert!(receive(&theirs).unwrap().is_empty());
    }

    #[test]
    fn a_line_that_ends_early_or_speaks_otherwise_is_a_failure() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(ours);
        assert_eq!(receive(&theirs).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ours.write_all(b"GET / HTTP/1.1").unwrap();
        assert_eq!(receive(&theirs).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn the_new_process_says_when_it_serves_and_the_line_ends_with_it() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        say_serving(&theirs).unwrap();
        let mut read = [0; 8];
        let count = ours.read(&mut read).unwrap();
        assert!(is_serving(&read[..count]) && !is_serving(b"") && !is_serving(b"s"));
        drop(theirs);
        assert_eq!(ours.read(&mut read).unwrap(), 0);
    }
}
