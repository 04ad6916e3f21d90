//! What a route asks, as configured: whose tokens, where they may stand, what they must say, and what the upstream is told.
//!
//! Owns the shape of the question and nothing of its answer. Issuers are named by their index in the list that the policy is compiled
//! with. Knows nothing of files, TOML or routes.

use std::fmt;

use http::HeaderName;

use super::link::LinkSettings;
use super::own::OwnPath;
use super::settings::{Demand, Forward};

/// Who may pass a route: by safe methods (GET, HEAD, OPTIONS), and by all others.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteAuth {
    /// What is asked of safe methods (RFC 9110 section 9.2.1).
    pub read: Access,
    /// What is asked of every other method.
    pub write: Access,
    /// What the upstream is told about who was let through.
    pub forward: Forwarding,
}

impl RouteAuth {
    /// Everybody may pass.
    pub fn public() -> Self {
        Self { read: Access::Public, write: Access::Public, forward: Forwarding::default() }
    }

    /// Whether no method asks for anything.
    pub fn is_public(&self) -> bool {
        self.read == Access::Public && self.write == Access::Public
    }

    /// The links that reading takes, if it takes any.
    pub fn links(&self) -> Option<&LinkSettings> {
        self.read.links()
    }

    /// The links that any method takes.
    pub fn all_links(&self) -> impl Iterator<Item = &LinkSettings> {
        [&self.read, &self.write].into_iter().filter_map(Access::links)
    }

    /// What is asked of tokens, by one kind of methods or both.
    pub fn policies(&self) -> impl Iterator<Item = &PolicySettings> {
        [&self.read, &self.write].into_iter().filter_map(|access| match access {
            Access::Public | Access::Link(_) => None,
            Access::Token(settings) => Some(&**settings),
        })
    }

    /// The indices of the issuers whose tokens are taken.
    pub fn issuers(&self) -> impl Iterator<Item = usize> {
        self.policies().flat_map(|policy| policy.issuers.iter().copied())
    }

    /// The header fields that speak for the client to the upstream: nobody else may set them.
    pub fn identity_headers(&self) -> impl Iterator<Item = &HeaderName> {
        self.forward.claims.iter().map(|forward| &forward.header).chain(&self.forward.all_claims)
    }
}

/// Who may pass.
#[derive(Debug, Clone, PartialEq)]
pub enum Access {
    /// Everybody, said aloud.
    Public,
    /// Who has a link that was signed with one of these secrets; no token is looked at.
    Link(LinkSettings),
    /// Who bears a token that meets this.
    Token(Box<PolicySettings>),
}

impl Access {
    fn links(&self) -> Option<&LinkSettings> {
        match self {
            Self::Public => None,
            Self::Link(links) => Some(links),
            Self::Token(settings) => settings.links.as_ref(),
        }
    }
}

/// What is asked of a token and of the request that brings it.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicySettings {
    /// Whose tokens are looked at, by index; at least one, and at most one that names no `iss`.
    pub issuers: Vec<usize>,
    /// What the token must say, besides what its issuer demands.
    pub rule: Rule,
    /// Whether a request without a token passes as nobody; one with a bad token never does.
    pub optional: bool,
    /// The links that pass in the place of a token, if any do. Where a token stands, it alone decides.
    pub links: Option<LinkSettings>,
    /// Where a token may stand, at least one place; a request with tokens in two places is refused.
    pub places: Vec<Place>,
    /// How a token in a cookie is kept from being spent by other sites; `None` asks nothing.
    pub guard: Option<OriginGuard>,
    /// The URL of the protected resource's metadata (RFC 9728 section 5.1), told in challenges.
    pub resource_metadata: Option<Box<str>>,
    /// Where browsers are sent to log in, with `{url}` for where they wanted to go.
    pub login_url: Option<Box<str>>,
}

impl PolicySettings {
    /// A token of one issuer in the `Authorization` field, of which nothing more is asked.
    pub fn of_issuer(index: usize) -> Self {
        Self {
            issuers: vec![index],
            rule: Rule::All(Vec::new()),
            optional: false,
            links: None,
            places: vec![Place::Authorization],
            guard: Some(OriginGuard::default()),
            resource_metadata: None,
            login_url: None,
        }
    }
}

/// What a token must say on a route.
#[derive(Debug, Clone, PartialEq)]
pub enum Rule {
    /// Every one of these; none at all is met by any good token.
    All(Vec<Rule>),
    /// One of these; at least one.
    Any(Vec<Rule>),
    /// The token is of the issuer with this index.
    From(usize),
    /// A claim is as demanded.
    Claim(Demand),
    /// The request's path is the one that the token's claims open, or below it.
    Own(OwnPath),
    /// Every one of these scopes was granted.
    Scopes(Vec<Box<str>>),
    /// One of these scopes was granted.
    AnyScope(Vec<Box<str>>),
}

/// Where a token may stand in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// `Authorization: Bearer TOKEN` or `DPoP TOKEN`.
    Authorization,
    /// A cookie of this name.
    Cookie(Box<str>),
    /// A field of this name that holds the token alone.
    Header(HeaderName),
    /// A query parameter of this name.
    Query(Box<str>),
    /// `Sec-WebSocket-Protocol: bearer, TOKEN`, for browsers, which can set no other field of a WebSocket's request.
    WebSocketProtocol,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authorization => f.write_str("`Authorization`"),
            Self::Cookie(name) => write!(f, "the cookie `{name}`"),
            Self::Header(name) => write!(f, "the field `{name}`"),
            Self::Query(name) => write!(f, "the query parameter `{name}`"),
            Self::WebSocketProtocol => f.write_str("`Sec-WebSocket-Protocol`"),
        }
    }
}

/// Which sites may have a browser send a cookie's token by an unsafe method; the request's own always may.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OriginGuard {
    /// Other origins, as `https://app.example.com`, in lower case and without a default port.
    pub origins: Vec<Box<str>>,
}

/// What the upstream is told about who was let through.
#[derive(Debug, Clone, PartialEq)]
pub struct Forwarding {
    /// Claims in fields of their own.
    pub claims: Vec<Forward>,
    /// A field that carries all claims, as base64url of the JSON that was signed.
    pub all_claims: Option<HeaderName>,
    /// Whether the token itself is sent on.
    pub token: bool,
    /// The audience of the gateway's own identity token, where one is sent: the upstream's name.
    pub identity: Option<Box<str>>,
}

impl Default for Forwarding {
    fn default() -> Self {
        Self { claims: Vec::new(), all_claims: None, token: true, identity: None }
    }
}
