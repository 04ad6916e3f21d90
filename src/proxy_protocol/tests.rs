//! Both forms, as the specification has them, and what is nearly one.

use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn relayed(source: &str, destination: &str) -> Announced {
    Announced::Relayed { source: address(source), destination: address(destination) }
}

/// What a header says that comes whole, with a request behind it.
fn said(header: &[u8]) -> Result<Announced, HeaderError> {
    let with_more = [header, b"GET / HTTP/1.1\r\n\r\n"].concat();
    match read(&with_more)? {
        Progress::Whole { announced, length } => {
            assert_eq!(length, header.len(), "{}", header.escape_ascii());
            Ok(announced)
        }
        Progress::More => panic!("{} is not whole", header.escape_ascii()),
    }
}

/// A header of version 2, its length filled in.
fn binary(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).unwrap().to_be_bytes();
    [&SIGNATURE[..], &[command, family], &length, block].concat()
}

const BLOCK_4: &[u8] = &[192, 0, 2, 7, 198, 51, 100, 1, 0x12, 0x34, 0x01, 0xbb];

/// The IPv4 header with these TLVs behind the addresses.
fn with_tlvs(tlvs: &[u8]) -> Vec<u8> {
    binary(0x21, 0x11, &[BLOCK_4, tlvs].concat())
}

/// The same, the checksum in its last four bytes.
fn summed(tlvs: &[u8]) -> Vec<u8> {
    let mut header = with_tlvs(&[tlvs, &[3, 0, 4, 0, 0, 0, 0]].concat());
    let sum = crc32c::of(&[&header]).to_be_bytes();
    let at = header.len() - 4;
    header[at..].copy_from_slice(&sum);
    header
}

#[test]
fn a_line_announces_both_ends() {
    for (line, announced) in [
        ("PROXY TCP4 192.0.2.7 198.51.100.1 4660 443\r\n", relayed("192.0.2.7:4660", "198.51.100.1:443")),
        (
            "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
            relayed("255.255.255.255:65535", "255.255.255.255:65535"),
        ),
        ("PROXY TCP6 2001:db8::7 2001:DB8::1 0 443\r\n", relayed("[2001:db8::7]:0", "[2001:db8::1]:443")),
        ("PROXY TCP6 ::ffff:c000:207 ::1 1 2\r\n", relayed("[::ffff:192.0.2.7]:1", "[::1]:2")),
        ("PROXY UNKNOWN\r\n", Announced::Nothing),
        ("PROXY UNKNOWN whatever stands here\r\n", Announced::Nothing),
    ] {
        assert_eq!(said(line.as_bytes()), Ok(announced), "{line:?}");
    }
    let longest = format!("PROXY UNKNOWN {0} {0} 65535 65535\r\n", ["ffff"; 8].join(":"));
    assert_eq!((longest.len(), said(longest.as_bytes())), (107, Ok(Announced::Nothing)));
}

#[test]
fn a_line_of_another_form_is_refused() {
    for line in [
        "PROXY \r\n",
        "PROXY TCP4\r\n",
        "PROXY TCP5 192.0.2.7 198.51.100.1 1 2\r\n",
        "PROXY tcp4 192.0.2.7 198.51.100.1 1 2\r\n",
        "PROXY UDP4 192.0.2.7 198.51.100.1 1 2\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY  TCP4 192.0.2.7 198.51.100.1 1 2\r\n",
        "PROXY TCP4 192.0.2.7  198.51.100.1 1 2\r\n",
        "PROXY TCP4\t192.0.2.7 198.51.100.1 1 2\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1 2 \r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1 2 3\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1\r\n",
        "PROXY TCP4 192.0.2.07 198.51.100.1 1 2\r\n",
        "PROXY TCP4 192.0.2 198.51.100.1 1 2\r\n",
        "PROXY TCP4 192.0.2.256 198.51.100.1 1 2\r\n",
        "PROXY TCP4 0xc0000207 198.51.100.1 1 2\r\n",
        "PROXY TCP4 ::1 ::1 1 2\r\n",
        "PROXY TCP6 192.0.2.7 198.51.100.1 1 2\r\n",
        "PROXY TCP6 [::1] ::1 1 2\r\n",
        "PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 65536 2\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 +1 2\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 -1 2\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 01 2\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1  2\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1 2\n",
        "PROXY UNKNOWN\n",
        "PROXY UNKNOWN a\rb\r\n",
        "PROXY UNKNOWN\r\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1 \u{0662}\r\n",
    ] {
        assert_eq!(said(line.as_bytes()), Err(HeaderError::Line), "{line:?}");
    }
    let endless = [b"PROXY UNKNOWN ", &[b'x'; 100][..]].concat();
    assert_eq!(read(&endless[..106]), Ok(Progress::More));
    assert_eq!(read(&endless[..107]), Err(HeaderError::Length));
    assert_eq!(read(&[&endless[..106], b"\r\n"].concat()), Err(HeaderError::Length), "one byte too many");
}

#[test]
fn a_block_announces_both_ends() {
    let both = relayed("192.0.2.7:4660", "198.51.100.1:443");
    assert_eq!(said(&binary(0x21, 0x11, BLOCK_4)), Ok(both));
    assert_eq!(said(&binary(0x21, 0x12, BLOCK_4)), Ok(both), "a client that came by datagrams");
    let six = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[7], &[0; 15], &[1], &[0, 1], &[0, 2]].concat();
    assert_eq!(said(&binary(0x21, 0x21, &six)), Ok(relayed("[2001:db8::7]:1", "[::1]:2")));
}

#[test]
fn a_block_that_names_no_client_says_nothing() {
    for header in [
        binary(0x20, 0x00, b""),
        binary(0x20, 0x11, BLOCK_4),
        binary(0x20, 0xff, b"whatever"),
        binary(0x21, 0x00, b""),
        binary(0x21, 0x00, BLOCK_4),
        binary(0x21, 0x10, BLOCK_4),
        binary(0x21, 0x01, b""),
        binary(0x21, 0x31, &[b'/'; 216]),
        binary(0x21, 0x32, &[0; 216]),
    ] {
        assert_eq!(said(&header), Ok(Announced::Nothing), "{}", header.escape_ascii());
    }
}

#[test]
fn a_block_of_another_form_is_refused() {
    for (header, error) in [
        (binary(0x22, 0x11, BLOCK_4), HeaderError::Kind),
        (binary(0x2f, 0x11, BLOCK_4), HeaderError::Kind),
        (binary(0x11, 0x11, BLOCK_4), HeaderError::Kind),
        (binary(0x31, 0x11, BLOCK_4), HeaderError::Kind),
        (binary(0x01, 0x11, BLOCK_4), HeaderError::Kind),
        (binary(0x21, 0x13, BLOCK_4), HeaderError::Kind),
        (binary(0x21, 0x41, BLOCK_4), HeaderError::Kind),
        (binary(0x21, 0x03, BLOCK_4), HeaderError::Kind),
        (binary(0x21, 0x11, &BLOCK_4[1..]), HeaderError::Length),
        (binary(0x21, 0x21, BLOCK_4), HeaderError::Length),
        (binary(0x21, 0x31, &[0; 215]), HeaderError::Length),
        (binary(0x21, 0x11, &[0; 4081]), HeaderError::Length),
        (binary(0x20, 0x00, &vec![0; 0xffff]), HeaderError::Length),
    ] {
        assert_eq!(said(&header), Err(error), "{}", header[..16].escape_ascii());
    }
    assert!(said(&binary(0x20, 0x00, &[0; 4080])).is_ok(), "the longest");
}

#[test]
fn what_begins_like_no_header_is_missing_at_once() {
    for bytes in
        [&b"G"[..], b"GET / HTTP/1.1\r\n", b"\x16\x03\x01", b"PROXX", b"PROXY\t", b"proxy", b"\r\n\r\nG", b"\0", b"PP"]
    {
        assert_eq!(read(bytes), Err(HeaderError::Missing), "{}", bytes.escape_ascii());
    }
    assert_eq!(read(b""), Ok(Progress::More));
}

#[test]
fn tlvs_are_stepped_over_and_must_add_up() {
    let both = Ok(relayed("192.0.2.7:4660", "198.51.100.1:443"));
    assert_eq!(said(&with_tlvs(b"\x02\0\x09site.test\x04\0\0\xee\0\x01x")), both);
    for tlvs in [&b"\x02"[..], b"\x02\0", b"\x02\0\x02a", b"\x04\0\0\x04", b"\x04\xff\xff"] {
        assert_eq!(said(&with_tlvs(tlvs)), Err(HeaderError::Tlv), "{}", tlvs.escape_ascii());
    }
}

#[test]
fn a_checksum_is_compared() {
    assert!(said(&summed(b"")).is_ok() && said(&summed(b"\x02\0\x01a")).is_ok());
    let good = summed(b"\x02\0\x01a");
    for at in 16..good.len() {
        // A bit of an address, a port, the other TLV's value, or the sum. Kinds and lengths have other errors.
        if !(28..31).contains(&at) && !(32..35).contains(&at) {
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            assert_eq!(said(&bad), Err(HeaderError::Checksum), "byte {at}");
        }
    }
    assert_eq!(said(&with_tlvs(b"\x03\0\x03abc")), Err(HeaderError::Tlv), "a sum of three bytes");
    let twice = [&good[16 + BLOCK_4.len()..], b"\x03\0\x04\0\0\0\0"].concat();
    assert!(said(&with_tlvs(&twice)).is_err(), "two sums");
}

#[test]
fn the_written_forms_are_those_of_the_specification() {
    let write = |version, source, destination| write(version, address(source), address(destination));
    assert_eq!(
        write(Version::V1, "192.168.0.1:56324", "192.168.0.11:443"),
        b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n"
    );
    assert_eq!(write(Version::V1, "[2001:db8::1]:1", "[::1]:2"), b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n");
    assert_eq!(
        write(Version::V1, "192.0.2.7:1", "[2001:db8::1]:2"),
        b"PROXY TCP6 ::ffff:c000:207 2001:db8::1 1 2\r\n",
        "two families"
    );
    assert_eq!(
        write(Version::V1, "[::ffff:192.0.2.7]:1", "198.51.100.1:2"),
        b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2\r\n"
    );
    assert_eq!(write(Version::V2, "192.0.2.7:4660", "198.51.100.1:443"), binary(0x21, 0x11, BLOCK_4));
    assert_eq!(write(Version::V2, "192.0.2.7:1", "[::1]:2")[13..16], [0x21, 0, 36]);
}

#[test]
fn a_header_of_ones_own_names_nobody() {
    for version in [Version::V1, Version::V2] {
        let header = write_own(version);
        let own = Progress::Whole { announced: Announced::Nothing, length: header.len() };
        assert_eq!(read(&header), Ok(own), "{}", header.escape_ascii());
    }
}

/// Bytes that are a header, are nearly one, or are none.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        Just(b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2\r\n".to_vec()),
        Just(b"PROXY TCP6 ::1 ::1 1 2\r\n".to_vec()),
        Just(b"PROXY UNKNOWN ".to_vec()),
        Just(SIGNATURE.to_vec()),
        Just(with_tlvs(b"\x02\0\x01a")),
        Just(summed(b"")),
        Just(binary(0x20, 0, b"")),
        Just(b"\r\n".to_vec()),
        Just(b"\x21\x11\0\x0c".to_vec()),
        prop::collection::vec(any::<u8>(), 0..40),
    ];
    let change = (any::<prop::sample::Index>(), any::<u8>());
    (prop::collection::vec(part, 0..5), prop::option::of(change)).prop_map(|(parts, change)| {
        let mut bytes = parts.concat();
        if let Some((at, byte)) = change.filter(|_| !bytes.is_empty()) {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(source: SocketAddr, destination: SocketAddr, tail: Vec<u8>) {
        let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        for version in [Version::V1, Version::V2] {
            let header = write(version, source, destination);
            let Ok(Progress::Whole { announced: Announced::Relayed { source: from, destination: to }, length }) =
                read(&[&header[..], &tail].concat())
            else { panic!("{}", header.escape_ascii()) };
            prop_assert_eq!((canonical(from), canonical(to)), (canonical(source), canonical(destination)));
            prop_assert_eq!(length, header.len());
        }
    }

    /// However the bytes arrive: while they are not enough the answer is "more", and from then on it never changes.
    #[test]
    fn the_verdict_does_not_depend_on_how_bytes_arrive(bytes in nearly()) {
        let whole = read(&bytes);
        let mut decided = None;
        for end in 0..=bytes.len() {
            let verdict = read(&bytes[..end]);
            if let Some(decided) = decided {
                prop_assert_eq!(verdict, decided);
            } else if verdict != Ok(Progress::More) {
                if let Ok(Progress::Whole { length, .. }) = verdict {
                    prop_assert_eq!(length, end, "decided by its own last byte");
                }
                decided = Some(verdict);
            }
        }
        prop_assert_eq!(decided.unwrap_or(Ok(Progress::More)), whole);
    }
}
