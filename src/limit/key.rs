//! What one request is counted under.

use std::net::{IpAddr, Ipv6Addr};

/// What requests have in common that share a count. Keys of two kinds are never equal: a token's claim can't be chosen so that it counts
/// as somebody's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Key<'a> {
    /// Everything.
    All,
    /// An address, or the network below which addresses are one client's.
    Client(IpAddr),
    /// The value of a header field.
    Header(&'a [u8]),
    /// The value of a claim, and the issuer that says so: two issuers may call two users the same.
    Claim {
        /// The issuer's name.
        issuer: &'a str,
        /// The claim's value.
        value: &'a str,
    },
}

impl Key<'_> {
    /// The key of a client. Of an IPv6 address only the first `prefix` bits count; an IPv4 address is one client's.
    pub fn client(address: IpAddr, prefix: u8) -> Self {
        Self::Client(match address.to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => {
                let rest = 128_u32.saturating_sub(prefix.into());
                let network = u128::MAX.checked_shl(rest).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & network))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(address: &str, prefix: u8) -> Key<'static> {
        Key::client(address.parse().unwrap(), prefix)
    }

    #[test]
    fn addresses_of_one_subscriber_are_one_client() {
        assert_eq!(client("2001:db8:1:2::1", 64), client("2001:db8:1:2:ffff:ffff:ffff:ffff", 64));
        assert_ne!(client("2001:db8:1:2::1", 64), client("2001:db8:1:3::1", 64));
        assert_eq!(client("2001:db8:1:2::1", 48), client("2001:db8:1:3::1", 48));
        assert_ne!(client("2001:db8::1", 128), client("2001:db8::2", 128));
        assert_eq!(client("2001:db8::1", 0), client("::1", 0));
    }

    #[test]
    fn every_ipv4_address_is_a_client_however_it_is_written() {
        assert_ne!(client("192.0.2.1", 64), client("192.0.2.2", 64));
        assert_eq!(client("::ffff:192.0.2.1", 64), client("192.0.2.1", 64));
    }

    #[test]
    fn nobody_can_choose_to_count_as_somebody_else() {
        let keys = [
            client("192.0.2.1", 64),
            Key::Header(b"192.0.2.1"),
            Key::Claim { issuer: "", value: "192.0.2.1" },
            Key::Claim { issuer: "a", value: "b" },
            Key::Claim { issuer: "b", value: "b" },
            Key::All,
        ];
        for (one, key) in keys.iter().enumerate() {
            assert!(keys.iter().enumerate().all(|(other, also)| one == other || key != also));
        }
    }
}
