//! Reading a header from the bytes that have come so far.
//!
//! Strict: what the specification does not allow is refused, because a peer that must send a header and sends another thing is not the
//! one that was meant. The verdict does not depend on how the bytes arrive, and no byte behind the header is looked at.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{FIXED_BYTES, LINE, SIGNATURE, crc32c};

/// The longest header that is read, in bytes. Version 2 could have 65,551; relays send some hundreds, a certificate included.
pub const LONGEST: usize = 4096;
/// The longest line of version 1, its CRLF included.
const LINE_BYTES: usize = 107;
/// The TLV with the checksum.
const CRC32C: u8 = 3;

/// What a header says of its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announced {
    /// It was made on behalf of somebody else.
    Relayed {
        /// Who that is.
        source: SocketAddr,
        /// Whom they called.
        destination: SocketAddr,
    },
    /// Nothing but what the socket says: the relay speaks for itself (LOCAL, as in its health checks), does not know (UNKNOWN,
    /// unspecified), or was called over a unix socket, which has no address.
    Nothing,
}

/// How far a header has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// All of the bytes belong to it, and it goes on.
    More,
    /// It has come whole.
    Whole {
        /// What it says.
        announced: Announced,
        /// How many of the bytes are its own.
        length: usize,
    },
}

/// Why bytes are no header. Never mended by more bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// They begin like neither version.
    #[error("no PROXY header")]
    Missing,
    /// The line of version 1 is not of its one form.
    #[error("malformed line of PROXY version 1")]
    Line,
    /// Version 2 with an unknown version, command, family or transport.
    #[error("unknown kind of PROXY version 2")]
    Kind,
    /// Longer than a header may be, or too short for what it announces.
    #[error("PROXY header of an impossible length")]
    Length,
    /// The parts behind the addresses do not add up.
    #[error("malformed TLV in a PROXY header")]
    Tlv,
    /// The checksum is another one.
    #[error("checksum of a PROXY header does not match")]
    Checksum,
}

/// Reads the header that `bytes` begin with.
///
/// # Errors
/// When they can't become one, whatever follows.
pub fn read(bytes: &[u8]) -> Result<Progress, HeaderError> {
    if begins(bytes, LINE) {
        read_line(bytes)
    } else if begins(bytes, SIGNATURE) {
        read_binary(bytes)
    } else {
        Err(HeaderError::Missing)
    }
}

/// Whether `bytes` begin with `mark`, as far as they have come.
fn begins(bytes: &[u8], mark: &[u8]) -> bool {
    bytes.iter().zip(mark).all(|(byte, expected)| byte == expected)
}

/// Version 1, section 2.1 of the specification: only a whole line is decoded.
fn read_line(bytes: &[u8]) -> Result<Progress, HeaderError> {
    let within = &bytes[..bytes.len().min(LINE_BYTES)];
    let Some(end) = memchr::memchr(b'\n', within) else {
        return if bytes.len() < LINE_BYTES { Ok(Progress::More) } else { Err(HeaderError::Length) };
    };
    let line = within[..end].strip_suffix(b"\r").filter(|line| !line.contains(&b'\r')).ok_or(HeaderError::Line)?;
    let said = line.strip_prefix(LINE).ok_or(HeaderError::Line)?;
    // What follows UNKNOWN is to be ignored.
    let announced = if said == b"UNKNOWN" || said.starts_with(b"UNKNOWN ") {
        Announced::Nothing
    } else {
        str::from_utf8(said).ok().and_then(relayed_line).ok_or(HeaderError::Line)?
    };
    Ok(Progress::Whole { announced, length: end + 1 })
}

/// `TCP4 source destination port port`, with exactly one space between any two.
fn relayed_line(said: &str) -> Option<Announced> {
    let words: Vec<&str> = said.split(' ').collect();
    let [family, source, destination, source_port, destination_port] = words[..] else { return None };
    let address = |text: &str| match family {
        "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::from),
        "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::from),
        _ => None,
    };
    let source = SocketAddr::new(address(source)?, port(source_port)?);
    let destination = SocketAddr::new(address(destination)?, port(destination_port)?);
    Some(Announced::Relayed { source, destination })
}

/// Digits only, and none that could make it octal.
fn port(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_plain)
}

/// Version 2, section 2.2 of the specification: only a whole block is decoded.
fn read_binary(bytes: &[u8]) -> Result<Progress, HeaderError> {
    let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED_BYTES>() else { return Ok(Progress::More) };
    let kind = Kind::of(fixed[12], fixed[13])?;
    let length = FIXED_BYTES + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if length > LONGEST || length < FIXED_BYTES + kind.address_bytes() {
        return Err(HeaderError::Length);
    }
    let Some(block) = rest.get(..length - FIXED_BYTES) else { return Ok(Progress::More) };
    // Where no addresses are known to end, nothing tells where TLVs would begin; nothing of such a block is used either.
    if kind != Kind::Ignored {
        check_tlvs(&bytes[..length], FIXED_BYTES + kind.address_bytes())?;
    }
    Ok(Progress::Whole { announced: kind.addresses(block), length })
}

/// What stands in the block behind the fixed part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Nothing that counts.
    Ignored,
    Ipv4,
    Ipv6,
    Unix,
}

impl Kind {
    /// From the byte of version and command and the one of family and transport. A client that came by datagrams (QUIC) has an address
    /// all the same.
    fn of(command: u8, family: u8) -> Result<Self, HeaderError> {
        match (command, family >> 4, family & 0x0f) {
            (0x20, _, _) | (0x21, 0, 0..=2) | (0x21, 1..=3, 0) => Ok(Self::Ignored),
            (0x21, 1, 1 | 2) => Ok(Self::Ipv4),
            (0x21, 2, 1 | 2) => Ok(Self::Ipv6),
            (0x21, 3, 1 | 2) => Ok(Self::Unix),
            _ => Err(HeaderError::Kind),
        }
    }

    fn address_bytes(self) -> usize {
        match self {
            Self::Ignored => 0,
            Self::Ipv4 => 2 * (4 + 2),
            Self::Ipv6 => 2 * (16 + 2),
            Self::Unix => 2 * 108,
        }
    }

    /// Source, destination, source port, destination port, in network order; `block` has them whole.
    fn addresses(self, block: &[u8]) -> Announced {
        let relayed = match self {
            Self::Ipv4 => pair::<4>(block),
            Self::Ipv6 => pair::<16>(block),
            Self::Ignored | Self::Unix => None,
        };
        relayed.map_or(Announced::Nothing, |(source, destination)| Announced::Relayed { source, destination })
    }
}

fn pair<const N: usize>(block: &[u8]) -> Option<(SocketAddr, SocketAddr)>
where
    IpAddr: From<[u8; N]>,
{
    let (source, rest) = block.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let (source_port, rest) = rest.split_first_chunk()?;
    let (destination_port, _) = rest.split_first_chunk()?;
    let source = SocketAddr::new(IpAddr::from(*source), u16::from_be_bytes(*source_port));
    Some((source, SocketAddr::new(IpAddr::from(*destination), u16::from_be_bytes(*destination_port))))
}

/// Steps over the TLVs of a whole `header`, which begin `at` a byte of it, and compares the checksum if there is one.
fn check_tlvs(header: &[u8], mut at: usize) -> Result<(), HeaderError> {
    let mut checked = false;
    while at < header.len() {
        let Some(&[kind, high, low]) = header.get(at..at + 3) else { return Err(HeaderError::Tlv) };
        let value = at + 3..at + 3 + usize::from(u16::from_be_bytes([high, low]));
        let told = header.get(value.clone()).ok_or(HeaderError::Tlv)?;
        if kind == CRC32C {
            let told = <[u8; 4]>::try_from(told).ok().filter(|_| !checked).ok_or(HeaderError::Tlv)?;
            // The sender computed it over zeros in its own place.
            if crc32c::of(&[&header[..value.start], &[0; 4], &header[value.end..]]) != u32::from_be_bytes(told) {
                return Err(HeaderError::Checksum);
            }
            checked = true;
        }
        at = value.end;
    }
    Ok(())
}
