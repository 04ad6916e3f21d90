//! What `config::compile` hands to this room: a named group of equal servers and its bounds.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// One `[upstream.NAME]` table.
#[derive(Debug, Clone, PartialEq)]
pub struct UpstreamSettings {
    /// The table's name.
    pub name: Box<str>,
    /// What kind of application server stands there.
    pub kind: Kind,
    /// Its equal servers; never empty.
    pub endpoints: Vec<Address>,
    /// Open connections to one endpoint, for the whole process.
    pub max_connections: usize,
    /// How long a request may wait for a free connection.
    pub queue_timeout: Duration,
    /// How long dialling may take.
    pub connect_timeout: Duration,
    /// From the last progress of the request's body to the response's head.
    pub response_timeout: Duration,
    /// Between two reads of the response's body.
    pub read_timeout: Duration,
    /// How long a connection may idle before it is closed; below the endpoint's own keep-alive. Zero means that none is used twice.
    pub keep_alive: Duration,
}

/// The application servers whose habits are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub enum Kind {
    Gunicorn,
    Uwsgi,
    Daphne,
    #[default]
    Http,
}

impl Kind {
    /// The default of `keep_alive_secs`: below what this server's own default is.
    pub fn keep_alive(self) -> Duration {
        match self {
            Self::Gunicorn => Duration::from_millis(1500), // Gunicorn closes after 2 s
            Self::Uwsgi => Duration::from_secs(3),         // so-keepalive http workers: 4 s
            Self::Daphne | Self::Http => Duration::from_secs(30),
        }
    }

    /// The longest request line and header line this server reads by default, in bytes: what is longer is refused at the edge, where
    /// the answer says why.
    pub fn line_bytes(self) -> Option<(usize, usize)> {
        match self {
            Self::Gunicorn => Some((4094, 8188)), // limit_request_line; limit_request_field_size, 8190 with its CRLF
            Self::Uwsgi | Self::Daphne | Self::Http => None,
        }
    }
}

/// Where an endpoint is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// `http://host:port`.
    #[allow(missing_docs)]
    Tcp { host: Box<str>, port: u16 },
    /// `unix:/path`.
    Unix(PathBuf),
    /// `builtin:whoami`: the gateway itself answers with what an upstream would have received.
    Whoami,
}

/// Why a string names no endpoint.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum AddressError {
    #[error("`{0}` is not a scheme an endpoint can have: use http://HOST:PORT, unix:/PATH or builtin:whoami")]
    UnknownScheme(String),
    #[error("an endpoint is HOST:PORT only, without path, query or user")]
    NotAnAuthority,
    #[error("the socket's path must be absolute")]
    RelativeSocket,
    #[error("`builtin:{0}` does not exist: the only built-in endpoint is builtin:whoami")]
    UnknownBuiltin(String),
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = text.split_once(':').ok_or_else(|| AddressError::UnknownScheme(text.to_owned()))?;
        match scheme {
            "http" => tcp(rest.strip_prefix("//").ok_or(AddressError::NotAnAuthority)?),
            "unix" if rest.starts_with('/') => Ok(Self::Unix(PathBuf::from(rest))),
            "unix" => Err(AddressError::RelativeSocket),
            "builtin" if rest == "whoami" => Ok(Self::Whoami),
            "builtin" => Err(AddressError::UnknownBuiltin(rest.to_owned())),
            other => Err(AddressError::UnknownScheme(other.to_owned())),
        }
    }
}

fn tcp(text: &str) -> Result<Address, AddressError> {
    let text = text.strip_suffix('/').unwrap_or(text);
    let authority: http::uri::Authority = text.parse().map_err(|_| AddressError::NotAnAuthority)?;
    if authority.as_str().contains('@') || authority.host().is_empty() {
        return Err(AddressError::NotAnAuthority);
    }
    // `port_u16` answers `None` for `http://app:abc` too, which must not come to mean port 80.
    let port = match authority.as_str()[authority.host().len()..].strip_prefix(':') {
        Some(port) => port.parse().map_err(|_| AddressError::NotAnAuthority)?,
        None => 80,
    };
    Ok(Address::Tcp { host: authority.host().into(), port })
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(f, "http://{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Whoami => f.write_str("builtin:whoami"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_round_trips_through_its_text() {
        for text in ["http://127.0.0.1:8000", "http://[::1]:80", "unix:/run/app.sock", "builtin:whoami"] {
            assert_eq!(text.parse::<Address>().map(|address| address.to_string()), Ok(text.to_owned()));
        }
        assert_eq!("http://app".parse(), Ok(Address::Tcp { host: "app".into(), port: 80 }));
    }

    #[test]
    fn what_is_not_an_endpoint_is_refused() {
        for text in [
            "127.0.0.1:8000",
            "https://a:1",
            "http:a",
            "http://a:1/x",
            "http://u@a:1",
            "unix:run.sock",
            "builtin:echo",
            "http://",
            "http://a:abc",
            "http://a:99999",
            "http://a:",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }
}
