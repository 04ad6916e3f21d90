//! Questions of the command line to the admin listener of the running gateway, which is on this machine or near it.
//!
//! HTTP/1.1 (RFC 9112): one request, one connection, one deadline for all of it.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long the gateway may take in all; its own deadline is as long.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of an answer that are read: the plan of a large configuration is long.
const LONGEST_ANSWER: usize = 8 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskFailure {
    #[error("cannot connect to the admin listener at {address}: is the gateway running?")]
    Connect {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("the gateway at {address} does not answer: it is not known whether it heard")]
    Exchange {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
}

/// Asks the gateway whose admin listener is bound to `address`: the status, and the body of the answer.
pub(super) fn ask(address: SocketAddr, method: &str, path: &str, body: &str) -> Result<(u16, String), AskFailure> {
    let address = reachable(address);
    let connect = |source| AskFailure::Connect { address, source };
    let stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(connect)?;
    exchange(stream, address, method, path, body).map_err(|source| AskFailure::Exchange { address, source })
}

/// What is bound to every address is asked at loopback.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

fn exchange(
    mut stream: TcpStream,
    address: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
) -> io::Result<(u16, String)> {
    let latest = Instant::now() + PATIENCE;
    stream.set_write_timeout(Some(PATIENCE))?;
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let left = latest.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => answer.extend_from_slice(&piece[..read]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(io::ErrorKind::TimedOut.into()),
            Err(error) => return Err(error),
        }
        if answer.len() > LONGEST_ANSWER {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer does not end"));
        }
    }
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    let status = status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "this is no gateway"))?;
    Ok((status, body.to_owned()))
}
