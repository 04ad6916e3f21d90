//! Connections that a relay passes on: who is behind it, by the PROXY header that they begin with.
//!
//! Owns who must send a header, how long it may take, and that not a byte behind it is taken: what follows is the client's, TLS
//! or HTTP. Whoever is no relay is never asked for one and never believed: automatic detection would let any client be anybody.

use std::io;
use std::net::SocketAddr;

use ipnet::IpNet;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::client::ClientAddr;
use crate::proxy_protocol::{Announced, HeaderError, LONGEST, Progress, read};

/// The networks whose connections begin with a PROXY header.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Relays(Vec<IpNet>);

impl Relays {
    /// Every peer in one of `networks` is a relay; without any, nobody is.
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// Whether the other end of a connection is one.
    pub fn include(&self, peer: ClientAddr) -> bool {
        self.0.iter().any(|network| network.contains(&peer.ip()))
    }
}

/// The two ends of a connection, as its client sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// Who called.
    pub client: ClientAddr,
    /// Whom they called: an address of ours, or of the relay.
    pub local: SocketAddr,
}

/// Why a relay's connection is of no use.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// It did not send a whole header in time.
    #[error("no whole PROXY header in time")]
    Timeout,
    /// It left before the header was whole.
    #[error("closed before its PROXY header was whole")]
    Closed(#[source] io::Error),
    /// What it sent is none.
    #[error(transparent)]
    Header(#[from] HeaderError),
}

/// Reads the header that a relay's connection begins with, from its first byte to its last and no further. `None` if the relay speaks
/// for itself.
///
/// Not cancel safe: what was read of the header is lost.
pub async fn announced(stream: &mut TcpStream, deadline: Instant) -> Result<Option<Ends>, RelayError> {
    let header = timeout_at(deadline, header(stream)).await.map_err(|_| RelayError::Timeout)??;
    Ok(match header {
        Announced::Relayed { source, destination } => {
            Some(Ends { client: ClientAddr::of_peer(source), local: destination })
        }
        Announced::Nothing => None,
    })
}

/// What has come is looked at before it is taken, so that only the header's own bytes are.
async fn header(stream: &mut TcpStream) -> Result<Announced, RelayError> {
    let mut bytes = vec![0; LONGEST];
    let mut had = 0;
    loop {
        let fresh = stream.peek(&mut bytes[had..]).await.map_err(RelayError::Closed)?;
        if fresh == 0 {
            return Err(RelayError::Closed(io::ErrorKind::UnexpectedEof.into()));
        }
        let progress = read(&bytes[..had + fresh])?;
        let upto = match progress {
            Progress::More => had + fresh,
            Progress::Whole { length, .. } => length,
        };
        stream.read_exact(&mut bytes[had..upto]).await.map_err(RelayError::Closed)?;
        had = upto;
        if let Progress::Whole { announced, .. } = progress {
            return Ok(announced);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;
    use crate::proxy_protocol::{Version, write};

    async fn connected() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let relay = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        relay.set_nodelay(true).unwrap();
        (listener.accept().await.unwrap().0, relay)
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    fn ends(client: &str, local: &str) -> Ends {
        Ends { client: ClientAddr::of_peer(client.parse().unwrap()), local: local.parse().unwrap() }
    }

    async fn rest(mut stream: TcpStream, relay: TcpStream) -> Vec<u8> {
        drop(relay);
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        rest
    }

    #[test]
    fn only_peers_in_the_networks_are_relays() {
        let relays = Relays::new(vec!["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()]);
        let includes = |peer: &str| relays.include(ClientAddr::of_peer(peer.parse().unwrap()));
        assert!(includes("10.1.2.3:4") && includes("[::ffff:10.1.2.3]:4") && includes("[2001:db8::1]:4"));
        assert!(!includes("11.1.2.3:4") && !includes("[2001:db9::1]:4") && !includes("[::a01:203]:4"));
        assert!(!Relays::default().include(ClientAddr::of_peer("10.1.2.3:4".parse().unwrap())));
    }

    #[tokio::test]
    async fn a_header_is_read_exactly_to_its_end() {
        let (source, destination) = ("192.0.2.7:1234".parse().unwrap(), "198.51.100.1:443".parse().unwrap());
        for version in [Version::V1, Version::V2] {
            let (mut stream, mut relay) = connected().await;
            let sent = [&write(version, source, destination)[..], b"\x16\x03\x01 the client's own"].concat();
            relay.write_all(&sent).await.unwrap();
            let found = announced(&mut stream, soon()).await.unwrap();
            assert_eq!(found, Some(ends("192.0.2.7:1234", "198.51.100.1:443")));
            assert_eq!(rest(stream, relay).await, b"\x16\x03\x01 the client's own");
        }
    }

    #[tokio::test]
    async fn a_header_that_comes_a_byte_at_a_time_is_read_to_its_end_too() {
        let (source, destination) = ("[2001:db8::7]:1".parse().unwrap(), "[::1]:2".parse().unwrap());
        for version in [Version::V1, Version::V2] {
            let (mut stream, mut relay) = connected().await;
            let header = write(version, source, destination);
            let sending = async {
                for byte in header.iter().chain(b"and more") {
                    relay.write_all(&[*byte]).await.unwrap();
                    tokio::task::yield_now().await;
                }
            };
            let (found, ()) = tokio::join!(announced(&mut stream, soon()), sending);
            assert_eq!(found.unwrap(), Some(ends("[2001:db8::7]:1", "[::1]:2")));
            assert_eq!(rest(stream, relay).await, b"and more");
        }
    }

    #[tokio::test]
    async fn a_relay_that_speaks_for_itself_says_nothing_of_a_client() {
        for header in [&b"PROXY UNKNOWN\r\n"[..], b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"] {
            let (mut stream, mut relay) = connected().await;
            relay.write_all(&[header, b"GET"].concat()).await.unwrap();
            assert_eq!(announced(&mut stream, soon()).await.unwrap(), None);
            assert_eq!(rest(stream, relay).await, b"GET");
        }
    }

    #[tokio::test]
    async fn what_is_no_header_what_breaks_off_and_what_does_not_come_are_told_apart() {
        let (mut stream, mut relay) = connected().await;
        relay.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        let found = announced(&mut stream, soon()).await;
        assert!(matches!(found, Err(RelayError::Header(HeaderError::Missing))), "{found:?}");

        let (mut stream, mut relay) = connected().await;
        relay.write_all(b"PROXY TCP4 192.0.2.7").await.unwrap();
        drop(relay);
        assert!(matches!(announced(&mut stream, soon()).await, Err(RelayError::Closed(_))));

        let (mut stream, mut relay) = connected().await;
        relay.write_all(b"PROXY TCP4 192.0.2.7").await.unwrap();
        let deadline = Instant::now() + Duration::from_millis(50);
        assert!(matches!(announced(&mut stream, deadline).await, Err(RelayError::Timeout)));
        assert!(Instant::now() >= deadline);
    }
}
