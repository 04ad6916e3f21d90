//! What `config::compile` hands to this room: where Redis is, who we are there, and how long it may take.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Where things are shared, and within which bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisSettings {
    /// Where it listens.
    pub place: Place,
    /// The number of the database there.
    pub database: u32,
    /// Whom we log in as; `None` is Redis' own `default`.
    pub username: Option<Box<str>>,
    /// What we log in with, if it asks for anything.
    pub password: Option<Password>,
    /// PEM certificates of the authorities that may sign its certificate; `None` are the system's.
    pub ca_pem: Option<Vec<u8>>,
    /// How long a connection may take to be had, and a list to be exchanged.
    pub connect_timeout: Duration,
    /// How long a request may wait for a decision.
    pub timeout: Duration,
    /// What the names of all keys begin with.
    pub prefix: Box<str>,
}

/// Where Redis listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A TCP port, in the clear or under TLS.
    Tcp {
        /// A name or an address, without brackets.
        host: Box<str>,
        /// The port.
        port: u16,
        /// Whether it speaks TLS.
        tls: bool,
    },
    /// A unix socket.
    Unix(PathBuf),
}

/// What `url` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisUrl {
    /// Where it listens.
    pub place: Place,
    /// The number of the database there.
    pub database: u32,
    /// Whom we log in as.
    pub username: Option<Box<str>>,
}

/// What is wrong with a URL. No variant holds any of it: it may have a password in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RedisUrlFault {
    /// Another scheme, or none.
    #[error("it begins with none of `redis://`, `rediss://` and `redis+unix://`")]
    Scheme,
    /// A password in the open.
    #[error("it holds a password")]
    Password,
    /// No host, or no path of a socket.
    #[error("it names no host, and no absolute path of a socket")]
    Nowhere,
    /// Not a port.
    #[error("its port is no number from 1 to 65535")]
    Port,
    /// Not a database.
    #[error("what follows the address is no number of a database")]
    Database,
}

impl RedisUrl {
    const PORT: u16 = 6379;

    /// Reads `redis://[USER@]HOST[:PORT][/DATABASE]`, the same with `rediss://`, or `redis+unix:///PATH[?db=DATABASE]`.
    pub fn parse(url: &str) -> Result<Self, RedisUrlFault> {
        let (scheme, rest) = url.split_once("://").ok_or(RedisUrlFault::Scheme)?;
        if scheme == "redis+unix" {
            return Self::socket(rest);
        }
        let tls = match scheme {
            "redis" => false,
            "rediss" => true,
            _ => return Err(RedisUrlFault::Scheme),
        };
        let (user, rest) = rest.rsplit_once('@').map_or((None, rest), |(user, rest)| (Some(user), rest));
        if user.is_some_and(|user| user.contains(':')) {
            return Err(RedisUrlFault::Password);
        }
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let database = if database.is_empty() { 0 } else { number(database).ok_or(RedisUrlFault::Database)? };
        let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':')),
            None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
        };
        let port = port.map_or(Some(Self::PORT), |port| number(port).filter(|port| *port > 0));
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':');
        if host.is_empty() || !host.bytes().all(legal) {
            return Err(RedisUrlFault::Nowhere);
        }
        let place = Place::Tcp { host: host.into(), port: port.ok_or(RedisUrlFault::Port)?, tls };
        Ok(Self { place, database, username: user.filter(|user| !user.is_empty()).map(Into::into) })
    }

    fn socket(rest: &str) -> Result<Self, RedisUrlFault> {
        let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
        if !path.starts_with('/') {
            return Err(RedisUrlFault::Nowhere);
        }
        let database = match query {
            None => 0,
            Some(query) => query.strip_prefix("db=").and_then(number).ok_or(RedisUrlFault::Database)?,
        };
        Ok(Self { place: Place::Unix(path.into()), database, username: None })
    }
}

/// Digits alone: `parse` would take a sign.
fn number<N: std::str::FromStr>(text: &str) -> Option<N> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port, tls } => {
                let scheme = if *tls { "rediss" } else { "redis" };
                if host.contains(':') {
                    write!(f, "{scheme}://[{host}]:{port}")
                } else {
                    write!(f, "{scheme}://{host}:{port}")
                }
            }
            Self::Unix(path) => write!(f, "redis+unix://{}", path.display()),
        }
    }
}

/// A password that never shows in `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Box<str>);

impl Password {
    /// Takes ownership of it.
    pub fn new(password: impl Into<Box<str>>) -> Self {
        Self(password.into())
    }

    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn tcp(host: &str, port: u16, tls: bool) -> Place {
        Place::Tcp { host: host.into(), port, tls }
    }

    #[test]
    fn a_url_says_where_which_database_and_who() {
        let read = |url| RedisUrl::parse(url).unwrap();
        let at = |place| RedisUrl { place, database: 0, username: None };
        assert_eq!(read("redis://cache"), at(tcp("cache", 6379, false)));
        assert_eq!(read("rediss://cache.example:7000/"), at(tcp("cache.example", 7000, true)));
        assert_eq!(read("redis://[::1]:7000/3"), RedisUrl { database: 3, ..at(tcp("::1", 7000, false)) });
        assert_eq!(
            read("redis://gate@10.0.0.1"),
            RedisUrl { username: Some("gate".into()), ..at(tcp("10.0.0.1", 6379, false)) }
        );
        assert_eq!(
            read("redis+unix:///run/redis.sock?db=2"),
            RedisUrl { database: 2, ..at(Place::Unix("/run/redis.sock".into())) }
        );
    }

    #[test]
    fn a_url_that_says_something_else_is_refused_and_not_quoted() {
        let fault = |url| RedisUrl::parse(url).unwrap_err();
        assert_eq!(fault("cache:6379"), RedisUrlFault::Scheme);
        assert_eq!(fault("http://cache"), RedisUrlFault::Scheme);
        assert_eq!(fault("redis://gate:secret@cache"), RedisUrlFault::Password);
        assert_eq!(fault("redis://:secret@cache"), RedisUrlFault::Password);
        assert_eq!(fault("redis://"), RedisUrlFault::Nowhere);
        assert_eq!(fault("redis://a b"), RedisUrlFault::Nowhere);
        assert_eq!(fault("redis+unix://run/redis.sock"), RedisUrlFault::Nowhere);
        assert_eq!(fault("redis://cache:0"), RedisUrlFault::Port);
        assert_eq!(fault("redis://cache:+1"), RedisUrlFault::Port);
        assert_eq!(fault("redis://cache/all"), RedisUrlFault::Database);
        assert_eq!(fault("redis+unix:///run/redis.sock?database=2"), RedisUrlFault::Database);
    }

    #[test]
    fn a_password_shows_nowhere() {
        assert_eq!(format!("{:?}", Password::new("secret")), "Password(..)");
    }

    #[test]
    fn a_place_is_shown_as_it_is_written() {
        for url in ["redis://cache:6379", "rediss://[::1]:7000", "redis+unix:///run/redis.sock"] {
            assert_eq!(RedisUrl::parse(url).unwrap().place.to_string(), url);
        }
    }
}
