//! The file as typed: one struct a table, one field a key, nothing judged.
//!
//! Owns the names of the language; their doc comments are the descriptions in the JSON Schema. Every field says its unit,
//! its default and why one would set it. This is the only file that derives `Deserialize` for `gateway.toml`; what a value
//! must be is `compile`'s to say. Ranges, references and "exactly one of" are therefore not here.

mod access;
mod actions;
mod browsers;
mod compress;
mod dns;
mod health;
mod hedge;
mod limit;
mod redis;
mod upstream;

use schemars::JsonSchema;
use serde::Deserialize;

use super::entry::{Entry, Named};
use super::shapes::{Auth, Balance, ClaimValue, Compress, Endpoint, Publish, Seconds, SecretSource, Workers};
pub(super) use access::{RuleTable, SignedLinks, TokenAuth, TokenPlaces};
pub(super) use actions::{Files, PublishTable, Redirect, ResourceMetadata};
pub(super) use browsers::{Cors, Hsts};
pub(super) use compress::CompressTable;
pub(super) use dns::Dns;
pub(super) use health::{Breaker, Eject, Probe, Retry};
pub(super) use hedge::Hedge;
pub(super) use limit::RateLimit;
pub(super) use redis::Redis;
pub(super) use upstream::{BalanceTable, ConcurrencyTable, EndpointTable, Sticky, Upstream, UpstreamTls};

/// The configuration of a Portcullis gateway. Relative paths are relative to the directory of this file.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    /// The process as a whole.
    pub(super) server: Entry<Server>,
    /// How long a client may take and how much it may send. Every wait and every buffer has a bound.
    pub(super) limits: Entry<Limits>,
    /// What is logged, where and how.
    pub(super) log: Entry<Log>,
    /// Where clients connect: one table `[listen.NAME]` an address.
    pub(super) listen: Entry<Named<Listen>>,
    /// The operators' listener: `/metrics`, `/healthz`, `/readyz` and the status page. Without this table there is none.
    pub(super) admin: Entry<Admin>,
    /// Who signs the tokens: one table `[issuer.NAME]` an issuer.
    pub(super) issuer: Entry<Named<Issuer>>,
    /// Tokens that must not pass although they are good. Without this table none is revoked.
    pub(super) revocation: Entry<Revocation>,
    /// How the gateway signs in its own name who sent a request. Without this table it does not.
    pub(super) identity: Entry<Identity>,
    /// Where several gateways share what says `shared`. Without this table each gateway counts alone.
    pub(super) redis: Entry<Redis>,
    /// How often routes may be used: one table `[rate_limit.NAME]` a limit, which routes name.
    pub(super) rate_limit: Entry<Named<RateLimit>>,
    /// How names are looked up that stand for endpoints.
    pub(super) dns: Entry<Dns>,
    /// The application servers: one table `[upstream.NAME]` a group of equal servers.
    pub(super) upstream: Entry<Named<Upstream>>,
    /// What is answered how: one `[[route]]` a rule. Exact host before any host, then the longest path prefix; order does
    /// not matter.
    pub(super) route: Entry<Vec<Entry<Route>>>,
}

/// The process as a whole.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Server {
    /// Worker threads, 1 to 1024, or "auto": one a processor. Default: "auto". Set it when other processes share the
    /// machine.
    pub(super) workers: Entry<Workers>,
    /// Seconds that requests under way may take to end after SIGTERM, 0 to 3600. Default: 30. Keep it below the patience of
    /// systemd or Kubernetes.
    pub(super) drain_secs: Entry<Seconds>,
    /// Whether development material (self-made certificate and signing key) may be used. Default: false. If true, every
    /// address must be loopback.
    pub(super) development: Entry<bool>,
    /// Networks (CIDR) of the proxies in front of this one, whose `trusted_fields` and X-Request-Id are believed. Default: `[]`,
    /// nobody: the fields are overwritten.
    pub(super) trusted_proxies: Entry<Vec<Entry<String>>>,
    /// Which fields those proxies write: "x-forwarded" (X-Forwarded-For and X-Forwarded-Proto) or "forwarded" (Forwarded, RFC 7239).
    /// Default: "x-forwarded". The others are never believed: a proxy passes on what it does not write, whoever wrote it.
    #[schemars(extend("enum" = ["x-forwarded", "forwarded"]))]
    pub(super) trusted_fields: Entry<String>,
    /// Verified tokens remembered by each worker, 0 to 16777216. Default: 32768. Time claims are checked again on every
    /// hit; 0 verifies every signature anew.
    pub(super) token_cache_entries: Entry<i64>,
    /// Seconds for which a `DPoP` proof is good after it was made, 5 to 600. Default: 60. Each can be used once; a restart is needed to
    /// change it.
    pub(super) dpop_window_secs: Entry<i64>,
    /// What a host gets that no route names in `hosts`: the routes without `hosts` ("route") or 421 ("refuse"). Default: "route".
    #[schemars(extend("enum" = ["route", "refuse"]))]
    pub(super) unknown_host: Entry<String>,
    /// `error_pages` of requests that no route matched, and of every route for statuses that its own do not name. Default: none.
    pub(super) error_pages: Entry<Named<String>>,
}

/// How long a client may take and how much it may send.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Limits {
    /// Bytes of request line and header fields together, 8192 to 1048576. Default: 16384. More is answered 431.
    pub(super) header_bytes: Entry<i64>,
    /// Header fields in one request, 8 to 1000. Default: 100. More is answered 431. Gunicorn takes 100, the gateway's own
    /// included.
    pub(super) header_fields: Entry<i64>,
    /// Bytes of the request target, 256 to 65536 and at most `header_bytes`. Default: 8192. More is answered 414.
    pub(super) target_bytes: Entry<i64>,
    /// Bytes of a request body, 0 to 1099511627776. Default: 10485760. More is answered 413; a route may say otherwise.
    pub(super) body_bytes: Entry<i64>,
    /// Seconds from the first byte of a request to the end of its head, 0.1 to 3600. Default: 10. Ends slow-header attacks.
    pub(super) header_timeout_secs: Entry<Seconds>,
    /// Seconds a kept-alive connection may idle between requests, and before the first, 0.1 to 86400. Default: 75. Longer saves
    /// handshakes; an idle connection holds little but its TLS state.
    pub(super) idle_timeout_secs: Entry<Seconds>,
    /// Seconds between two reads of a request body, 0.1 to 3600; in all it may take four times that and the time that
    /// `min_body_bytes_per_sec` gives it. Default: 30. Then 408. Ends slow-body attacks.
    pub(super) body_timeout_secs: Entry<Seconds>,
    /// Bytes a second that a request body comes at least, beyond the first four `body_timeout_secs`, 0 to 1073741824; 0 asks for none.
    /// Default: 500. Then 408. Ends slow-body attacks that send a byte now and then.
    pub(super) min_body_bytes_per_sec: Entry<i64>,
    /// Seconds for the client to take any of what is written to it, over HTTP/2 and HTTP/3 for each stream by itself, 0.1 to
    /// 3600. Default: 30. Ends slow-read attacks.
    pub(super) write_timeout_secs: Entry<Seconds>,
    /// Bytes a second that a client takes at least of a response that waits for it, but for four `write_timeout_secs`, 0 to 1073741824;
    /// 0 asks for none. Default: 500. Time in which there is nothing to take does not count. Ends slow-read attacks that take a little
    /// now and then.
    pub(super) min_write_bytes_per_sec: Entry<i64>,
    /// Streams of HTTP/2 or HTTP/3 open at once on one connection, 1 to 10000. Default: 100.
    pub(super) http2_streams: Entry<i64>,
    /// Client connections for the whole process, 1 to 10000000. Default: 20000. More wait in the listener's backlog; each
    /// takes a file descriptor.
    pub(super) connections: Entry<i64>,
    /// Connections of one IPv4 address, or one IPv6 network of 64 bits, 0 to 10000000; 0 is no bound. Default: 2048. More are closed at
    /// once. Behind a relay its client counts; `trusted_proxies` have no bound.
    pub(super) connections_per_address: Entry<i64>,
    /// TLS handshakes a second of all clients together, 0 to 1000000, in one moment as many as in a second; 0 is no bound. Default: 0.
    /// Connections that come when it is spent are closed before the handshake.
    pub(super) handshakes_per_sec: Entry<i64>,
    /// The same for each address, as in `connections_per_address`. Default: 0. Set it to keep one client from taking the processors.
    pub(super) handshakes_per_address_sec: Entry<i64>,
}

/// What is logged, where and how.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Log {
    /// Least severe level shown: "error", "warn", "info", "debug" or "trace". Default: "info".
    #[schemars(extend("enum" = ["error", "warn", "info", "debug", "trace"]))]
    pub(super) level: Entry<String>,
    /// How lines look: "auto" (text on a terminal, JSON elsewhere), "json" or "text". Default: "auto".
    #[schemars(extend("enum" = ["auto", "json", "text"]))]
    pub(super) format: Entry<String>,
    /// Whether each request leaves a line. Default: true.
    pub(super) access: Entry<bool>,
    /// File that access lines are appended to. Default: none, they go to standard output.
    pub(super) access_file: Entry<String>,
}

/// Where clients connect.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["address"]))]
pub(super) struct Listen {
    /// Address and port to bind, as in "0.0.0.0:8443" or "[::]:8443". Required.
    pub(super) address: Entry<String>,
    /// Certificates with their keys; the server name (SNI) picks one, the first is the default. Default: none, plain HTTP.
    /// The files are watched.
    pub(super) certificates: Entry<Vec<Entry<Certificate>>>,
    /// What a server name that no certificate covers gets: the first certificate ("default") or no handshake ("refuse").
    /// Default: "default".
    #[schemars(extend("enum" = ["default", "refuse"]))]
    pub(super) unknown_name: Entry<String>,
    /// Oldest TLS version accepted, "1.2" or "1.3". Default: "1.2".
    #[schemars(extend("enum" = ["1.2", "1.3"]))]
    pub(super) min_tls: Entry<String>,
    /// Whether HTTP/2 is offered beside HTTP/1.1. Default: true.
    pub(super) http2: Entry<bool>,
    /// Whether HTTP/3 is spoken at the same address and port over UDP, and offered to clients by an Alt-Svc field. Default: false. It
    /// saves a round trip on a new connection, and a lost packet holds up one request and not all; the UDP port must be let through.
    pub(super) http3: Entry<bool>,
    /// Port at which clients find HTTP/3, 1 to 65535, where it is not the one in `address`: behind a published container port, say.
    /// Default: that of `address`.
    pub(super) http3_port: Entry<i64>,
    /// Seconds a TLS handshake may take in all, 0.1 to 300. Default: 10.
    pub(super) handshake_timeout_secs: Entry<Seconds>,
    /// PEM file of the authorities whose client certificates are accepted; watched. Default: none, clients are asked for no
    /// certificate.
    pub(super) client_ca: Entry<String>,
    /// Whether a client must have a certificate of `client_ca`: "required" (no handshake without) or "optional" (one that is
    /// shown must be good). Default: "required" with `client_ca`.
    #[schemars(extend("enum" = ["required", "optional"]))]
    pub(super) client_certificates: Entry<String>,
    /// Whether every request here is answered with a redirect to the https listener (the one on port 443, else the first in
    /// the file). Default: false.
    pub(super) redirect_to_https: Entry<bool>,
    /// What browsers are told to do with every host of this listener from now on: speak https alone (RFC 6797). Default: nothing.
    pub(super) hsts: Entry<Hsts>,
    /// Networks (CIDR) of relays, whose connections must begin with a PROXY header (version 1 or 2) that says whose connection they
    /// pass on. Default: `[]`, nobody: no header is read, and none is believed. Set it behind a TCP load balancer that sends one.
    pub(super) proxy_protocol: Entry<Vec<Entry<String>>>,
    /// Connections waiting to be accepted, by each worker, 1 to 65535. Default: 4096. The kernel's somaxconn caps it.
    pub(super) backlog: Entry<i64>,
}

/// One certificate chain and its key.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["cert", "key"]))]
pub(super) struct Certificate {
    /// PEM file of the chain, leaf first. Required.
    pub(super) cert: Entry<String>,
    /// PEM file of the private key (PKCS#8, PKCS#1 or SEC1). Required.
    pub(super) key: Entry<String>,
}

/// The operators' listener.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["address"]))]
pub(super) struct Admin {
    /// Address and port to bind, as in "127.0.0.1:9180". Required. There is no login: keep it from the public.
    pub(super) address: Entry<String>,
}

/// Tokens that must not pass although they are good. At least one of `file` and `journal`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Revocation {
    /// File of revocations, one a line, that the gateway watches and never writes. Default: none.
    pub(super) file: Entry<String>,
    /// File in which the gateway keeps what was revoked by `/revocations` of the admin listener; made if it is missing. Default:
    /// none, nothing can be revoked there.
    pub(super) journal: Entry<String>,
    /// Whether what is revoked at one gateway is revoked at all that name the same `[redis]`. Default: false. What a gateway has learned it keeps,
    /// whatever becomes of Redis; with a `journal`, over a restart too.
    pub(super) shared: Entry<bool>,
    /// Revocations held at once, of both files, 1 to 10000000. Default: 1000000. More are refused.
    pub(super) entries: Entry<i64>,
}

/// Who signs tokens, with which keys, and what every token must say. Exactly one of `secret`, `public_keys`, `keys`,
/// `jwks_file`, `jwks_url`, `discovery` and `introspection`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[allow(clippy::struct_field_names)] // `issuer.issuer` is the claim `iss`, named as RFC 7519 names it
pub(super) struct Issuer {
    /// Defaults for a well-known issuer: "simplejwt" (HS256, `token_type` = "access", `jti` and `user_id` present, leeway 0,
    /// refusals worded as Django REST framework does), "keycloak", "auth0", "cognito", "entra", "google" (ID tokens) or "rfc9068"
    /// (`typ` at+jwt and its claims). Some need `issuer` or `audiences` beside them. Default: none. Keys written beside it win.
    #[schemars(extend("enum" = ["simplejwt", "keycloak", "auth0", "cognito", "entra", "google", "rfc9068"]))]
    pub(super) preset: Entry<String>,
    /// The HMAC secret: `{ env = "NAME" }` or `{ file = "PATH" }`. One newline at the end of the file is not part of it.
    pub(super) secret: Entry<SecretSource>,
    /// PEM files of public keys or certificates, tried in this order.
    pub(super) public_keys: Entry<Vec<Entry<String>>>,
    /// File of a JSON Web Key Set (RFC 7517); watched.
    pub(super) jwks_file: Entry<String>,
    /// Where the issuer is asked about tokens that only it can read (RFC 7662). What it answers is judged as claims are; `exp` is
    /// demanded only if `required_claims` names it.
    pub(super) introspection: Entry<Introspection>,
    /// URL of the issuer's JSON Web Key Set; fetched and kept fresh in the background.
    pub(super) jwks_url: Entry<String>,
    /// The issuer's identifier, as `"https://id.example.com/"`: its metadata (`OpenID` Connect Discovery or RFC 8414) says where the
    /// keys are. It is also the default of `issuer`.
    pub(super) discovery: Entry<String>,
    /// Several keys in order, each with the time in which it may be used: for the rotation of keys without `kid`.
    pub(super) keys: Entry<Vec<Entry<TimedKey>>>,
    /// PEM file of the only authorities trusted for `jwks_url`, `discovery` and `introspection`; watched. Default: those of the
    /// operating system.
    pub(super) ca_file: Entry<String>,
    /// Whether an `http://` URL may stand in `jwks_url`, `discovery` and `introspection`. Default: false. Whoever is on the way can
    /// then read and forge what is said: for a server on this machine alone.
    pub(super) plain_http: Entry<bool>,
    /// Seconds that one exchange for `jwks_url`, `discovery` and `introspection` may take in all, 0.1 to 60. Default: 5.
    pub(super) fetch_timeout_secs: Entry<Seconds>,
    /// Least seconds between two fetches that no token asks for, 1 to 86400. Default: 60. Within these bounds the issuer's
    /// Cache-Control decides.
    pub(super) refresh_min_secs: Entry<Seconds>,
    /// Most seconds, likewise, 1 to 604800. Default: 3600. A key that the issuer withdraws is accepted no longer than that.
    pub(super) refresh_max_secs: Entry<Seconds>,
    /// Least seconds between the end of a fetch and the next that a token with an unknown key causes, 1 to 3600. Default: 10.
    pub(super) refetch_cooldown_secs: Entry<Seconds>,
    /// Seconds for which the last good keys serve while the issuer is down, 60 to 2592000. Default: 86400. Then 503.
    pub(super) max_stale_secs: Entry<Seconds>,
    /// File in which the last good keys are kept, so that a start while the issuer is down can serve. Default: none.
    pub(super) last_good_file: Entry<String>,
    /// How every token must be bound to its holder: to a "key" (`DPoP`), a "certificate" (mutual TLS) or "either". Default: "no"; a
    /// token that is bound must come with its proof all the same.
    #[schemars(extend("enum" = ["no", "key", "certificate", "either"]))]
    pub(super) binding: Entry<String>,
    /// Whether a `DPoP` proof must hold a nonce that this gateway issued. Default: false. It ends the use of proofs made in advance.
    pub(super) dpop_nonce: Entry<bool>,
    /// The `iss` a token must carry, byte for byte. Default: not looked at; that of `discovery`, and Google's under the
    /// preset "google".
    pub(super) issuer: Entry<String>,
    /// A token's `aud` must hold one of these. Default: not looked at, with a warning.
    pub(super) audiences: Entry<Vec<Entry<String>>>,
    /// The only algorithms accepted, of HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384
    /// and `EdDSA`.
    /// Default: what the keys themselves say; a secret means HS256, and the presets of products with public keys RS256.
    pub(super) algorithms: Entry<Vec<Entry<String>>>,
    /// Seconds of clock difference forgiven in `exp` and `nbf`, 0 to 300. Default: 30; 0 under the preset "simplejwt".
    pub(super) leeway_secs: Entry<i64>,
    /// Claims every token must hold: a value, an array (one of these), or a table of tests: `present`, `equals`, `one_of`,
    /// `contains`, `contains_any`, `contains_all`, `prefix`, `min`, `max`. A nested claim is named in quotes, as in
    /// "`realm_access.roles`". Default: none. Demands of the preset stay unless the same claim is named here.
    pub(super) require: Entry<Named<ClaimValue>>,
    /// Claims that must be present, whatever their value. Default: none; `jti` and the subject claim under the preset
    /// "simplejwt", `sub`, `client_id`, `iat` and `jti` under "rfc9068". `exp` is always demanded, but for `introspection`.
    pub(super) required_claims: Entry<Vec<Entry<String>>>,
    /// Accepted `typ` header values, compared without case and with or without `application/`. Default: not looked at;
    /// `["at+jwt"]` under the preset "rfc9068".
    pub(super) token_types: Entry<Vec<Entry<String>>>,
    /// The claim that names the subject in logs. Default: "sub"; `"user_id"` under the preset "simplejwt", `"oid"` under
    /// "entra".
    pub(super) subject_claim: Entry<String>,
    /// The `realm` of a challenge. Default: "portcullis"; "api" under the preset "simplejwt".
    pub(super) realm: Entry<String>,
}

/// A key, and when it may be used. Exactly one of `secret` and `public_key`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TimedKey {
    /// The HMAC secret: `{ env = "NAME" }` or `{ file = "PATH" }`.
    pub(super) secret: Entry<SecretSource>,
    /// PEM file of a public key or certificate.
    pub(super) public_key: Entry<String>,
    /// From when on it may be used, as in "2026-12-01T00:00:00Z". Default: always.
    pub(super) not_before: Entry<String>,
    /// Until when it may be used, likewise. Default: for ever.
    pub(super) not_after: Entry<String>,
}

/// Where and how an issuer is asked about a token.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["url", "client_id", "client_secret"]))]
pub(super) struct Introspection {
    /// The introspection endpoint, `https://HOST/PATH`. Required. Redirects are not followed.
    pub(super) url: Entry<String>,
    /// Who asks, as the issuer knows this gateway; sent by HTTP Basic. Required.
    pub(super) client_id: Entry<String>,
    /// What proves it: `{ env = "NAME" }` or `{ file = "PATH" }`. Required.
    pub(super) client_secret: Entry<SecretSource>,
    /// The most seconds an answer is kept, 0 to 3600; it is never kept past the token's own `exp`, and one that the token is not active
    /// for 5 at most. Default: 60. So long a token that was revoked at the issuer may still pass; 0 asks for each request.
    pub(super) cache_secs: Entry<i64>,
}

/// How the gateway signs in its own name who sent a request, so that an application that is reached around it can tell.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["key", "issuer"]))]
pub(super) struct Identity {
    /// PEM file of the Ed25519 private key (PKCS#8) that signs; watched. Required.
    pub(super) key: Entry<String>,
    /// The claim `iss` of the tokens, as in `"https://gateway.example.com"`. Required.
    pub(super) issuer: Entry<String>,
    /// Seconds for which a token is good, 1 to 300. Default: 30. Waiting for a connection to the upstream is included.
    pub(super) lifetime_secs: Entry<i64>,
    /// Field that carries the token. Default: "X-Portcullis-Identity". It is removed from every client's request first, on every route.
    pub(super) header: Entry<String>,
}

/// One rule: which requests, who may pass, what is done. Exactly one of `upstream`, `files`, `redirect` and `publish`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["name", "path", "auth"]))]
pub(super) struct Route {
    /// What metrics and logs call it. Required, unique.
    pub(super) name: Entry<String>,
    /// Host names, without port; "*.example.com" stands for every name with exactly one label before. Default: any host.
    pub(super) hosts: Entry<Vec<Entry<String>>>,
    /// Path prefix, matched segment by segment: "/api" covers /api and /api/x, never /apiary. Required.
    pub(super) path: Entry<String>,
    /// Methods, as in `["GET", "HEAD"]`. Default: any method.
    pub(super) methods: Entry<Vec<Entry<String>>>,
    /// Who may pass: "public", a table that names the issuer, or "internal" with `files`: nobody, and an `upstream` may hand the files out.
    /// Required: no route is open by omission.
    pub(super) auth: Entry<Auth>,
    /// Claims handed to the upstream: `{ "X-User-Id" = "sub" }` puts the claim `sub` into that field; nested claims are named as
    /// in `require`. Default: none. The fields are removed from every client's request first.
    pub(super) forward_claims: Entry<Named<String>>,
    /// Field in which the upstream gets all claims, as base64url of their JSON. Default: none. It is removed from every client's
    /// request first.
    pub(super) forward_all_claims: Entry<String>,
    /// Whether the upstream gets the token. Default: true, as `Authorization: Bearer TOKEN` wherever it stood.
    pub(super) forward_token: Entry<bool>,
    /// Whether the upstream gets a token that the gateway itself signs for each request, as `[identity]` says. Default: false. Nobody's
    /// request on a route where a token is optional carries none.
    pub(super) identity_token: Entry<bool>,
    /// Name of the `[upstream.NAME]` the request goes to.
    pub(super) upstream: Entry<String>,
    /// Files below a directory.
    pub(super) files: Entry<Files>,
    /// Names of the upstreams that may hand out the files of this internal route, by `X-Accel-Redirect` or `X-Sendfile`. Default: every
    /// upstream of this file.
    pub(super) handed_out_by: Entry<Vec<Entry<String>>>,
    /// An answer that sends the client elsewhere.
    pub(super) redirect: Entry<Redirect>,
    /// A document of the gateway's own: "jwks" (the public keys of all issuers that have `public_keys` or `jwks_file`, and the
    /// gateway's), "identity" (the gateway's alone) or `{ resource_metadata = { .. } }`.
    pub(super) publish: Entry<Publish>,
    /// What the upstream sees in place of `path`, as in "/". Default: the path as it came.
    pub(super) replace_prefix: Entry<String>,
    /// Fields set on every answer of this route, as in `{ "X-Frame-Options" = "DENY" }`. Default: none.
    pub(super) response_headers: Entry<Named<String>>,
    /// Fields set on every answer that has not got them: "standard" (nosniff, no frames, a short referrer and so on). Default: none.
    #[schemars(extend("enum" = ["standard"]))]
    pub(super) security_headers: Entry<String>,
    /// Files sent in place of the gateway's own failures, by status from 400 to 599, as in `{ 404 = "404.html", 503 = "maintenance.html" }`:
    /// `.html`, `.txt` or `.json`, up to 262144 bytes each; watched. Default: none. Only clients whose Accept names text/html get them;
    /// what an upstream answers stays.
    pub(super) error_pages: Entry<Named<String>>,
    /// What scripts of other origins may do. Default: the gateway says nothing of it, the upstream may.
    pub(super) cors: Entry<Cors>,
    /// Whether answers are compressed: `true`, or a table that says which and how. Default: false. An upstream that compresses itself wins.
    pub(super) compress: Entry<Compress>,
    /// Names of the `[rate_limit.NAME]` that every request must pass, at most 8. Default: none.
    pub(super) rate_limits: Entry<Vec<Entry<String>>>,
    /// Bytes of a request body on this route, 0 to 1099511627776. Default: `body_bytes` of `[limits]`.
    pub(super) body_bytes: Entry<i64>,
    /// Tunnels (WebSockets) through this route open at once, for the whole process, 0 to 1000000. Default: 10000. More are answered
    /// 503; with 0 every request for one is answered 403. Each takes two file descriptors.
    pub(super) max_tunnels: Entry<i64>,
    /// Seconds for which nothing may come from either side of a tunnel or a gRPC call, 1 to 86400. Default: 300. Longer than the pings of
    /// client or upstream, or quiet tunnels are ended.
    pub(super) tunnel_idle_secs: Entry<Seconds>,
    /// Whether tunnels, gRPC calls and `text/event-stream` answers end when the token that permitted them expires. Default: true. A revocation ends
    /// them whatever this says.
    pub(super) end_with_token: Entry<bool>,
}

/// The variable or file a secret is read from.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SecretTable {
    /// Name of the environment variable that holds the secret.
    pub(super) env: Entry<String>,
    /// File that holds the secret; watched. One newline at its end is not part of it.
    pub(super) file: Entry<String>,
}
