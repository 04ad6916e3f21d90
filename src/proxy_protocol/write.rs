//! Writing a header, to say to a server for whom a connection is made.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::{LINE, SIGNATURE};

/// The form of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// A line of text.
    V1,
    /// A binary block.
    V2,
}

/// The header that announces a TCP connection of `source` to `destination`; it is to be sent first, and at once.
///
/// Both addresses of a header are of one family: where they differ, the IPv4 one is written as IPv6.
pub fn write(version: Version, source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let ports = (source.port(), destination.port());
    let ends = (source.ip().to_canonical(), destination.ip().to_canonical());
    match (version, ends) {
        (Version::V1, (IpAddr::V4(source), IpAddr::V4(destination))) => {
            line("TCP4", &source.to_string(), &destination.to_string(), ports)
        }
        (Version::V1, (source, destination)) => line("TCP6", &groups(source), &groups(destination), ports),
        (Version::V2, (IpAddr::V4(source), IpAddr::V4(destination))) => {
            block(0x11, &source.octets(), &destination.octets(), ports)
        }
        (Version::V2, (source, destination)) => {
            block(0x21, &widened(source).octets(), &widened(destination).octets(), ports)
        }
    }
}

/// The header of a connection that is made for nobody else, as a health check's is.
pub fn write_own(version: Version) -> Vec<u8> {
    match version {
        Version::V1 => [LINE, b"UNKNOWN\r\n"].concat(),
        Version::V2 => [&SIGNATURE[..], &[0x20, 0, 0, 0]].concat(),
    }
}

fn line(family: &str, source: &str, destination: &str, (from, to): (u16, u16)) -> Vec<u8> {
    [LINE, format!("{family} {source} {destination} {from} {to}\r\n").as_bytes()].concat()
}

fn block(family: u8, source: &[u8], destination: &[u8], (from, to): (u16, u16)) -> Vec<u8> {
    let length = u16::try_from(source.len() + destination.len() + 4).expect("two addresses are at most 32 bytes");
    let fixed = [0x21, family, length.to_be_bytes()[0], length.to_be_bytes()[1]];
    [&SIGNATURE[..], &fixed, source, destination, &from.to_be_bytes(), &to.to_be_bytes()].concat()
}

fn widened(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// The form of version 1 is groups of hexadecimal digits, a mapped IPv4 address included, which is shown with dots elsewhere.
fn groups(address: IpAddr) -> String {
    let address = widened(address);
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] => format!("::ffff:{high:x}:{low:x}"),
        _ => address.to_string(),
    }
}
