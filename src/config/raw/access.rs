//! The tables of who may pass.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Auth, ClaimValue, Entry, Named, SecretSource};

/// Whose tokens pass, and what they must say; or `read` and `write` apart.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct TokenAuth {
    /// Name of the `[issuer.NAME]` whose tokens pass. Required, unless `issuers`, or every table of `any`, names some.
    pub(in crate::config) issuer: Entry<String>,
    /// Names of several issuers whose tokens pass; a token's `iss` says whose it is. At most one may be without `issuer`, the
    /// claim's value.
    pub(in crate::config) issuers: Entry<Vec<Entry<String>>>,
    /// Claims a token must hold on this route, besides the issuer's; each value as in `issuer.NAME.require`. Default: none.
    pub(in crate::config) require: Entry<Named<ClaimValue>>,
    /// Scopes a token must hold, all of them. Default: none.
    pub(in crate::config) scopes: Entry<Vec<Entry<String>>>,
    /// Scopes of which a token must hold one. Default: none.
    pub(in crate::config) scopes_any: Entry<Vec<Entry<String>>>,
    /// Template of the only path that a token opens, and all below it, as "/media/{sub}/": each `{claim}` is a text or a whole number of the
    /// token that fills one segment, or a part of it. Default: none, every path of the route.
    pub(in crate::config) own_path: Entry<String>,
    /// Alternatives, one of which a token must meet besides the rest of this table. Default: none.
    pub(in crate::config) any: Entry<Vec<Entry<RuleTable>>>,
    /// Conditions that a token must meet besides the rest of this table; made for use inside `any`. Default: none.
    pub(in crate::config) all: Entry<Vec<Entry<RuleTable>>>,
    /// As the permission classes of Django REST framework: "authenticated", "authenticated-or-read-only" (GET, HEAD and OPTIONS
    /// pass without a token) or "admin" (`is_staff` must be true). Default: "authenticated".
    #[schemars(extend("enum" = ["authenticated", "authenticated-or-read-only", "admin"]))]
    pub(in crate::config) permission: Entry<String>,
    /// Whether a request without a token passes as nobody; one with a bad token never does. Default: false.
    pub(in crate::config) optional: Entry<bool>,
    /// Who may read (GET, HEAD, OPTIONS): "public" or a table like this one. Together with `write`, instead of every other key.
    pub(in crate::config) read: Entry<Auth>,
    /// Who may do anything else: "public" or a table like this one. Together with `read`, instead of every other key.
    pub(in crate::config) write: Entry<Auth>,
    /// Signed links that expire, which pass alone or, with `issuer` beside them, in the place of a token; by GET and HEAD. Default: none.
    pub(in crate::config) signed_links: Entry<SignedLinks>,
    /// Where the token may stand. Default: in `Authorization` alone. Tokens in two places are refused.
    pub(in crate::config) token: Entry<TokenPlaces>,
    /// Whether a cookie's token is refused for other methods than GET, HEAD and OPTIONS, and for tunnels, unless the browser says
    /// that this site or one of `origins` sent the request. Default: true. Off, any site can act for your users.
    pub(in crate::config) check_origin: Entry<bool>,
    /// Other sites that may send a cookie's token, as `["https://app.example.com"]`. Default: none.
    pub(in crate::config) origins: Entry<Vec<Entry<String>>>,
    /// URL of the protected resource's metadata (RFC 9728), told in challenges. Default: none.
    pub(in crate::config) resource_metadata: Entry<String>,
    /// Where a browser that asks for a page is sent to log in, instead of a 401: a path or an https URL, in which `{url}` stands for
    /// the page. Default: none.
    pub(in crate::config) login_url: Entry<String>,
}

/// One condition on a token, or several that belong together.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct RuleTable {
    /// Name of the `[issuer.NAME]` whose tokens this is about. Default: those of the table around.
    pub(in crate::config) issuer: Entry<String>,
    /// Claims the token must hold; each value as in `issuer.NAME.require`.
    pub(in crate::config) require: Entry<Named<ClaimValue>>,
    /// Scopes the token must hold, all of them.
    pub(in crate::config) scopes: Entry<Vec<Entry<String>>>,
    /// Scopes of which the token must hold one.
    pub(in crate::config) scopes_any: Entry<Vec<Entry<String>>>,
    /// Template of the path that the request's must be, or be below.
    pub(in crate::config) own_path: Entry<String>,
    /// Alternatives, one of which must be met as well.
    pub(in crate::config) any: Entry<Vec<Entry<RuleTable>>>,
    /// Conditions that must be met as well.
    pub(in crate::config) all: Entry<Vec<Entry<RuleTable>>>,
}

/// Links that whoever has them may read by, for a while. Exactly one of `secret` and `secrets`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct SignedLinks {
    /// What the links are signed with, at least 32 bytes: `{ env = "NAME" }` or `{ file = "PATH" }`.
    pub(in crate::config) secret: Entry<SecretSource>,
    /// Several secrets that take turns, at most 4: the first signs, links of all of them pass.
    pub(in crate::config) secrets: Entry<Vec<Entry<SecretSource>>>,
    /// The most seconds that a link may still be good for, 60 to 31536000. Default: 604800. One that expires later is refused.
    pub(in crate::config) max_age_secs: Entry<i64>,
}

/// Where a token may stand.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct TokenPlaces {
    /// In `Authorization: Bearer TOKEN` or `DPoP TOKEN`. Default: true.
    pub(in crate::config) authorization: Entry<bool>,
    /// In the cookie of this name; see `check_origin`. Default: none.
    pub(in crate::config) cookie: Entry<String>,
    /// Alone in the header field of this name. Default: none.
    pub(in crate::config) header: Entry<String>,
    /// In the query parameter of this name, as "`access_token`": a URL ends up in logs and histories, so only where nothing else
    /// can be sent. It is hidden in our logs and not sent on; the answer is marked private. Default: none.
    pub(in crate::config) query: Entry<String>,
    /// As the protocol after "bearer" in `Sec-WebSocket-Protocol`, which is all a browser lets a page set. Default: false.
    pub(in crate::config) websocket_protocol: Entry<bool>,
}
