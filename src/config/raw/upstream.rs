//! The tables of an upstream.

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::shapes::{Concurrency, Eject};
use super::{Balance, Breaker, Endpoint, Entry, Hedge, Probe, Retry, Seconds, SecretSource};

/// A group of equal application servers.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["endpoints"]))]
pub(in crate::config) struct Upstream {
    /// What stands there: "gunicorn", "uwsgi", "daphne", "uvicorn" or "http". Default: "http". Sets the defaults below; what
    /// "gunicorn" would refuse for its length, a request line over 4094 bytes or a field over 8188, is answered 414 or 431 here. All but
    /// "http" are told the length of every body. A uwsgi endpoint is "uwsgi" or "gunicorn": they read the path in different ways.
    #[schemars(extend("enum" = ["gunicorn", "uwsgi", "daphne", "uvicorn", "http"]))]
    pub(in crate::config) kind: Entry<String>,
    /// The servers, each with what is spoken there: `"http://HOST:PORT"`, `"https://HOST:PORT"`, `"h2c://HOST:PORT"` (HTTP/2 known
    /// beforehand), `"h2://HOST:PORT"` (HTTP/2 over TLS), `"uwsgi://HOST:PORT"`, `"unix:/PATH"`, `"h2c+unix:/PATH"`,
    /// `"uwsgi+unix:/PATH"` or `"builtin:whoami"`; or a table with `url`, `weight`, `priority` and `resolve`. Required.
    pub(in crate::config) endpoints: Entry<Vec<Entry<Endpoint>>>,
    /// How an endpoint is chosen: "least-requests" (of two drawn at random, the one with fewer requests), "round-robin", "random", or a
    /// table with `hash` or `sticky`. Default: "least-requests".
    pub(in crate::config) balance: Entry<Balance>,
    /// Seconds in which an endpoint that was added, or came back, grows into its share of the requests, 0 to 3600. Default: 0, at once.
    /// For servers that are slow until they are warm.
    pub(in crate::config) slow_start_secs: Entry<Seconds>,
    /// How `https` and `h2` endpoints are recognised. Default: by the operating system's authorities and the endpoint's host.
    pub(in crate::config) tls: Entry<UpstreamTls>,
    /// Form of the PROXY header by which each connection says whose it is, "v1" or "v2". Default: none is sent. Such a connection
    /// carries one request; only for endpoints that speak HTTP/1.1.
    #[schemars(extend("enum" = ["v1", "v2"]))]
    pub(in crate::config) proxy_protocol: Entry<String>,
    /// Requests that share one HTTP/2 connection, 1 to 10000. Default: 100. Fewer if the endpoint says so; another connection is
    /// opened when all are full.
    pub(in crate::config) max_streams: Entry<i64>,
    /// Open connections to one endpoint, for the whole process, 1 to 65536. Default: 64; 256 for kind "http". What the
    /// server behind can work on at once.
    pub(in crate::config) max_connections: Entry<i64>,
    /// Seconds a request may wait for a free connection, 0.001 to 3600. Default: 5. Then 503.
    pub(in crate::config) queue_timeout_secs: Entry<Seconds>,
    /// Requests that may wait for one at a time, for the whole process, 1 to 1000000. Default: 1024. More are answered 503 at once.
    pub(in crate::config) queue: Entry<i64>,
    /// Who of those that wait is served next: "fifo" (who waits longest) or "adaptive" (the same, but who came last once somebody has been
    /// waiting all the time for 100 milliseconds). Default: "fifo". A client that waits long gives up, and is served for nothing.
    #[schemars(extend("enum" = ["fifo", "adaptive"]))]
    pub(in crate::config) queue_order: Entry<String>,
    /// How many requests one endpoint is given at once, over all connections: "adaptive" finds it out by what answers take, and so does a
    /// table with bounds. Default: as many as `max_connections` allows.
    pub(in crate::config) concurrency: Entry<Concurrency>,
    /// Seconds that dialling may take, 0.001 to 3600. Default: 3. Then 504.
    pub(in crate::config) connect_timeout_secs: Entry<Seconds>,
    /// Seconds from the last progress of the request's body to the response's head, 0.001 to 86400. Default: 60. Then 504.
    pub(in crate::config) response_timeout_secs: Entry<Seconds>,
    /// Seconds between two reads of the response's body, 0.001 to 86400. Default: 60.
    pub(in crate::config) read_timeout_secs: Entry<Seconds>,
    /// Seconds a connection may idle before it is closed, 0 to 3600. Default: below what the kind closes after itself
    /// (gunicorn 1.5, uwsgi 3, uvicorn 4, daphne and http 30). Raise it together with the server's own keep-alive; 0 uses no connection
    /// twice.
    pub(in crate::config) keep_alive_secs: Entry<Seconds>,
    /// Whether every request body is read whole before a connection is used, so that a slow upload holds no worker of the server. Default:
    /// true for "gunicorn" and "uwsgi", whose workers serve one request at a time, else false. A body of at most 64 KiB always is.
    pub(in crate::config) buffer_requests: Entry<bool>,
    /// Bytes of a request body that are kept in memory when it is read whole, 0 to 16777216. Default: 65536. What is beyond goes to a
    /// file without a name. Without `buffer_requests` too a body of unknown length is read whole, for every kind but "http": the
    /// application must be told the length beforehand.
    pub(in crate::config) spool_memory_bytes: Entry<i64>,
    /// Bytes that all such files together may have, for the whole process, 0 to 1099511627776. Default: 1073741824. Then 503.
    pub(in crate::config) spool_bytes: Entry<i64>,
    /// Directory of these files, and of those of `response_disk_bytes`. Default: the system's temporary directory, which on some systems
    /// is memory.
    pub(in crate::config) spool_dir: Entry<String>,
    /// Whether a response is read on when its client is slow to take it, so that a slow reader holds no worker of the server. Default:
    /// true for "gunicorn" and "uwsgi", else false. Events, gRPC, tunnels and responses with `X-Accel-Buffering: no` never are.
    pub(in crate::config) buffer_responses: Entry<bool>,
    /// Bytes of one response that are kept in memory for a slow client, 0 to 16777216. Default: 262144. What is beyond goes to a file
    /// without a name.
    pub(in crate::config) response_memory_bytes: Entry<i64>,
    /// Bytes that all such files together may have, for the whole process, 0 to 1099511627776. Default: 1073741824. Then a response is
    /// read as fast as its client takes it; 0 makes no files.
    pub(in crate::config) response_disk_bytes: Entry<i64>,
    /// Whether requests that fail take an endpoint out of use for a while: `true`, `false` or a table that says when and for how long.
    /// Default: true where there is more than one endpoint; one alone is always used.
    pub(in crate::config) eject: Entry<Eject>,
    /// Share of the endpoints below which it counts for nothing which of them are eligible, 0 to 1. Default: 0.3. All are used then, as
    /// they are when none is eligible.
    pub(in crate::config) panic_share: Entry<Seconds>,
    /// How endpoints are asked whether they are well. Default: they are not.
    pub(in crate::config) probe: Entry<Probe>,
    /// When the whole upstream is left alone for a while, because requests to it fail. Default: never.
    pub(in crate::config) breaker: Entry<Breaker>,
    /// When a request is tried again. Default: as the keys of this table say.
    pub(in crate::config) retry: Entry<Retry>,
    /// When a read is sent to a second endpoint because the first takes long. Default: never.
    pub(in crate::config) hedge: Entry<Hedge>,
    /// Whether the upstream is told in `X-Request-Start` when a request came, as `t=` and microseconds since 1970. Default: false.
    pub(in crate::config) request_start: Entry<bool>,
}

/// One of the servers.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["url"]))]
pub(in crate::config) struct EndpointTable {
    /// Its address, as it could stand in the place of the table. Required.
    pub(in crate::config) url: Entry<String>,
    /// Its share of the requests, beside the weights of the others, 1 to 1000. Default: 1.
    pub(in crate::config) weight: Entry<i64>,
    /// Which endpoints are used first, 0 to 15. Default: 0. The endpoints of the lowest number are used, and others only when none of
    /// those can be.
    pub(in crate::config) priority: Entry<i64>,
    /// What of its host's name is an endpoint: "addresses" (each A and AAAA record, with the port of `url`) or "srv" (each SRV record, with
    /// its own port, weight and priority; `url` has no port). Default: the name is one endpoint, looked up for each connection. The
    /// endpoints follow the records.
    #[schemars(extend("enum" = ["addresses", "srv"]))]
    pub(in crate::config) resolve: Entry<String>,
}

/// Bounds of what is found out.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct ConcurrencyTable {
    /// Requests that an endpoint is given in any case, 1 to 65536. Default: 1.
    pub(in crate::config) min: Entry<i64>,
    /// Requests that it is given at most, `min` to what its connections carry. Default: all of that, which is `max_connections`, times
    /// `max_streams` over HTTP/2.
    pub(in crate::config) max: Entry<i64>,
}

/// What binds requests to endpoints. Exactly one of `hash` and `sticky`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct BalanceTable {
    /// What requests are told apart by: "header:NAME", "cookie:NAME", "claim:PATH" (of the token) or "client" (the address). Equal keys
    /// go to one endpoint; requests without a key go as with "least-requests".
    pub(in crate::config) hash: Entry<String>,
    /// Requests that an endpoint may have at once for its keys, in per cent of its share, 101 to 10000. Default: no bound. What is
    /// beyond goes to the key's next endpoint.
    pub(in crate::config) most_percent: Entry<i64>,
    /// A cookie that keeps a client at the endpoint it came to first. Default: none.
    pub(in crate::config) sticky: Entry<Sticky>,
}

/// The cookie that keeps a client at one endpoint.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["cookie", "secret"]))]
pub(in crate::config) struct Sticky {
    /// Its name. The upstream does not see it. Required.
    pub(in crate::config) cookie: Entry<String>,
    /// What seals it, 32 bytes at least: it tells no address, and nobody else can make one. Required.
    pub(in crate::config) secret: Entry<SecretSource>,
}

/// How endpoints that speak TLS are recognised, and how the gateway is by them.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct UpstreamTls {
    /// PEM file of the only authorities trusted; watched. Default: those of the operating system.
    pub(in crate::config) ca_file: Entry<String>,
    /// Name that the endpoint's certificate must cover, sent as SNI. Default: the endpoint's host.
    pub(in crate::config) server_name: Entry<String>,
    /// PEM file of the gateway's own certificate chain, leaf first, for endpoints that ask for one; watched. Default: none.
    pub(in crate::config) cert: Entry<String>,
    /// PEM file of its private key; watched. Required with `cert`.
    pub(in crate::config) key: Entry<String>,
    /// Public keys of which the endpoint's must be one, as `["sha256/BASE64"]`: the digest of the key with its algorithm. Default:
    /// any key that a trusted certificate vouches for.
    pub(in crate::config) pins: Entry<Vec<Entry<String>>>,
    /// Whether the endpoint's certificate must verify. Default: true. Off, and without `pins`, whoever is on the way can read and
    /// forge everything.
    pub(in crate::config) verify: Entry<bool>,
}
