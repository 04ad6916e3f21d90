//! Where an endpoint is and which wire it speaks: the scheme of its address says both.
//!
//! Pure: nothing is looked up and nothing is dialled here.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use super::names::{Name, Records};

/// One endpoint: a place, and what is spoken there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// What is spoken.
    pub wire: Wire,
    /// Whether TLS is below it.
    pub tls: bool,
    /// Where.
    pub place: Place,
}

/// What is spoken with an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Wire {
    /// HTTP/1.1 (RFC 9112): one request at a time on a connection, which is pooled.
    Http1,
    /// HTTP/2 (RFC 9113), known beforehand or agreed on by ALPN: many requests share a connection.
    Http2,
    /// The uwsgi protocol: one request a connection, answered in HTTP.
    Uwsgi,
}

/// Where an endpoint listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Place {
    /// A host name or address, the latter in brackets if it is IPv6, and a port.
    #[allow(missing_docs)]
    Tcp { host: Box<str>, port: u16 },
    /// A name that stands for many endpoints: it is none itself, and can't be dialled.
    Name(Name),
    /// One of those endpoints.
    #[allow(missing_docs)]
    Found { of: Name, at: SocketAddr },
    /// A socket in the file system.
    Unix(PathBuf),
    /// The gateway itself answers with what an upstream would have received.
    Whoami,
}

/// Why a string names no endpoint.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum AddressError {
    #[error(
        "`{0}` is not a scheme an endpoint can have: use http, https, h2c, h2 or uwsgi with //HOST:PORT, unix, h2c+unix or \
         uwsgi+unix with :/PATH, or builtin:whoami"
    )]
    UnknownScheme(String),
    #[error("an endpoint is HOST:PORT only, without path, query or user")]
    NotAnAuthority,
    #[error("a uwsgi endpoint needs a port: there is no usual one")]
    NoPort,
    #[error("the socket's path must be absolute")]
    RelativeSocket,
    #[error("`builtin:{0}` does not exist: the only built-in endpoint is builtin:whoami")]
    UnknownBuiltin(String),
}

/// Each scheme of a network address: what it means, and the port it leaves out, if there is a usual one.
const SCHEMES: [(&str, Wire, bool, Option<u16>); 5] = [
    ("http", Wire::Http1, false, Some(80)),
    ("https", Wire::Http1, true, Some(443)),
    ("h2c", Wire::Http2, false, Some(80)),
    ("h2", Wire::Http2, true, Some(443)),
    ("uwsgi", Wire::Uwsgi, false, None),
];
const SOCKET_SCHEMES: [(&str, Wire); 3] =
    [("unix", Wire::Http1), ("h2c+unix", Wire::Http2), ("uwsgi+unix", Wire::Uwsgi)];

impl Address {
    /// Whether the gateway itself is the endpoint.
    pub fn is_builtin(&self) -> bool {
        self.place == Place::Whoami
    }

    fn scheme(&self) -> &'static str {
        let mut known = SCHEMES.iter().filter(|(_, wire, tls, _)| (*wire, *tls) == (self.wire, self.tls));
        known.next().map_or("tcp", |(scheme, ..)| scheme)
    }

    /// Whether it is a name that stands for many endpoints.
    pub fn is_name(&self) -> bool {
        matches!(self.place, Place::Name(_))
    }

    /// The name it was found by, if it is an endpoint that was found.
    pub fn found_by(&self) -> Option<Self> {
        match &self.place {
            Place::Found { of, .. } => Some(Self { place: Place::Name(of.clone()), ..self.clone() }),
            _ => None,
        }
    }

    /// What it is called in metrics: what stands in the configuration, whatever addresses there are.
    pub fn label(&self) -> String {
        self.found_by().as_ref().unwrap_or(self).to_string()
    }

    /// The same, with its host for a name whose `records` are endpoints. `None` if it has no host, or an address for one.
    pub fn as_name(&self, services: bool) -> Option<Self> {
        let Place::Tcp { host, port } = &self.place else { return None };
        let is_address = host.starts_with('[') || host.parse::<std::net::IpAddr>().is_ok();
        let records = if services { Records::Services } else { Records::Addresses { port: *port } };
        (!is_address).then(|| Self { place: Place::Name(Name::new(host, records)), ..self.clone() })
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = text.split_once(':').ok_or_else(|| AddressError::UnknownScheme(text.to_owned()))?;
        if scheme == "builtin" {
            return builtin(rest);
        }
        if let Some((_, wire)) = SOCKET_SCHEMES.iter().find(|(known, _)| *known == scheme) {
            let place = rest.starts_with('/').then(|| Place::Unix(PathBuf::from(rest)));
            return Ok(Self { wire: *wire, tls: false, place: place.ok_or(AddressError::RelativeSocket)? });
        }
        let known = SCHEMES.iter().find(|(known, ..)| *known == scheme);
        let (_, wire, tls, port) = known.ok_or_else(|| AddressError::UnknownScheme(scheme.to_owned()))?;
        let place = tcp(rest.strip_prefix("//").ok_or(AddressError::NotAnAuthority)?, *port)?;
        Ok(Self { wire: *wire, tls: *tls, place })
    }
}

fn builtin(name: &str) -> Result<Address, AddressError> {
    match name {
        "whoami" => Ok(Address { wire: Wire::Http1, tls: false, place: Place::Whoami }),
        other => Err(AddressError::UnknownBuiltin(other.to_owned())),
    }
}

fn tcp(text: &str, usual_port: Option<u16>) -> Result<Place, AddressError> {
    let text = text.strip_suffix('/').unwrap_or(text);
    let authority: http::uri::Authority = text.parse().map_err(|_| AddressError::NotAnAuthority)?;
    if authority.as_str().contains('@') || authority.host().is_empty() {
        return Err(AddressError::NotAnAuthority);
    }
    // `port_u16` answers `None` for `http://app:abc` too, which must not come to mean the usual port.
    let port = match authority.as_str()[authority.host().len()..].strip_prefix(':') {
        Some(port) => port.parse().map_err(|_| AddressError::NotAnAuthority)?,
        None => usual_port.ok_or(AddressError::NoPort)?,
    };
    Ok(Place::Tcp { host: authority.host().into(), port })
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Tcp { host, port } => {
                write!(f, "{}://{host}:{port}", self.scheme())
            }
            Place::Name(name) => write!(f, "{}://{name}", self.scheme()),
            Place::Found { at, .. } => write!(f, "{}://{at}", self.scheme()),
            Place::Unix(path) => {
                let mut known = SOCKET_SCHEMES.iter().filter(|(_, wire)| *wire == self.wire);
                write!(f, "{}:{}", known.next().map_or("unix", |(scheme, _)| scheme), path.display())
            }
            Place::Whoami => f.write_str("builtin:whoami"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_round_trips_through_its_text() {
        for text in [
            "http://127.0.0.1:8000",
            "https://app.internal:8443",
            "h2c://127.0.0.1:50051",
            "h2://grpc.internal:443",
            "uwsgi://127.0.0.1:3031",
            "http://[::1]:80",
            "unix:/run/app.sock",
            "h2c+unix:/run/grpc.sock",
            "uwsgi+unix:/run/uwsgi.sock",
            "builtin:whoami",
        ] {
            assert_eq!(text.parse::<Address>().map(|address| address.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn a_scheme_says_what_is_spoken_and_which_port_is_left_out() {
        for (text, wire, tls, usual) in [
            ("http://app", Wire::Http1, false, 80),
            ("https://app", Wire::Http1, true, 443),
            ("h2c://app", Wire::Http2, false, 80),
            ("h2://app/", Wire::Http2, true, 443),
        ] {
            let place = Place::Tcp { host: "app".into(), port: usual };
            assert_eq!(text.parse(), Ok(Address { wire, tls, place }), "{text}");
        }
        assert_eq!("uwsgi://app".parse::<Address>(), Err(AddressError::NoPort));
    }

    #[test]
    fn what_is_not_an_endpoint_is_refused() {
        for text in [
            "127.0.0.1:8000",
            "ftp://a:1",
            "http:a",
            "http://a:1/x",
            "https://u@a:1",
            "unix:run.sock",
            "uwsgi+unix:run.sock",
            "https+unix:/run/a.sock",
            "builtin:echo",
            "http://",
            "http://a:abc",
            "h2c://a:99999",
            "http://a:",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }
}
