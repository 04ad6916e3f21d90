//! The trust boundary: what a client says of itself never speaks for the gateway, on any route, in any spelling.

use crate::support::client::Client;
use crate::support::gateway::Setup;
use crate::support::origin::Origin;
use crate::support::token;
use crate::support::wire::Message;

/// Every field that could speak for a proxy, each with the value `spoofed` in it.
const SPOOFED: &str = "X-User-Id: spoofed\r\nx-user-id: spoofed\r\nX_User_Id: spoofed\r\nX-User_Id: spoofed\r\n\
    X-Forwarded-For: spoofed\r\nX-Forwarded-Proto: spoofed\r\nX-Forwarded-Host: spoofed\r\n\
    X-Forwarded-Port: spoofed\r\nX-Forwarded-Prefix: spoofed\r\nX-Forwarded-Ssl: spoofed\r\nX_Forwarded_For: spoofed\r\n\
    Forwarded: for=spoofed\r\nX-Real-IP: spoofed\r\nX-Client-IP: spoofed\r\nTrue-Client-IP: spoofed\r\n\
    X-Original-URL: /spoofed\r\nX-Rewrite-URL: /spoofed\r\nScript-Name: /spoofed\r\nSCRIPT_NAME: /spoofed\r\n\
    Path-Info: /spoofed\r\nPATH_INFO: /spoofed\r\nRemote-User: spoofed\r\nREMOTE_USER: spoofed\r\nRemote-Addr: spoofed\r\n\
    Proxy: http://spoofed/\r\nX-Accel-Redirect: /spoofed\r\nX-Accel-Buffering: spoofed\r\nX-Sendfile: /spoofed\r\n\
    X-Request-Id: spoofed\r\ntraceparent: spoofed\r\ntracestate: spoofed=1\r\n";

fn assert_unspoofed(origin: &Origin, seen: &Message) {
    let bytes = String::from_utf8_lossy(&origin.bytes()).into_owned();
    assert!(!bytes.contains("spoofed"), "{bytes}");
    assert_eq!(seen.field("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.field("x-forwarded-proto"), Some("http"));
    assert_eq!(seen.field("x-forwarded-host"), Some("site.test"));
    assert_eq!(seen.field("host"), Some("site.test"));
}

#[tokio::test]
async fn fields_that_could_speak_for_the_gateway_are_removed_on_public_routes_too() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).start().await;
    let mut client = Client::plain(gateway.http).await;
    assert_eq!(client.get_with("/", &format!("{SPOOFED}Accept: kept\r\n")).await.status(), 200);
    let seen = origin.only();
    assert_unspoofed(&origin, &seen);
    assert_eq!(seen.field("x-user-id"), None);
    assert_eq!(seen.field("accept"), Some("kept"));
}

#[tokio::test]
async fn the_identity_field_is_the_tokens() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).start().await;
    let mut client = Client::plain(gateway.http).await;
    let fields = format!("{SPOOFED}{}", token::bearer(&token::good()));
    assert_eq!(client.get_with("/private/", &fields).await.status(), 200);
    let seen = origin.only();
    assert_unspoofed(&origin, &seen);
    assert_eq!(seen.field("x-user-id"), Some("alice"));
}

#[tokio::test]
async fn a_claim_that_is_missing_leaves_no_identity_field_behind() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).start().await;
    let mut client = Client::plain(gateway.http).await;
    let nobody = token::bearer(&token::with(&serde_json::json!({ "sub": null })));
    assert_eq!(client.get_with("/private/", &format!("X-User-Id: spoofed\r\n{nobody}")).await.status(), 200);
    assert_eq!(origin.only().field("x-user-id"), None);
}

#[tokio::test]
async fn connection_cannot_name_the_gateways_own_fields() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).start().await;
    let mut client = Client::plain(gateway.http).await;
    let named = "Connection: x-user-id, authorization, x-forwarded-for, host, via, x-request-id\r\n";
    let fields = format!("{named}{}", token::bearer(&token::good()));
    assert_eq!(client.get_with("/private/", &fields).await.status(), 200);
    let seen = origin.only();
    assert_eq!(seen.field("x-user-id"), Some("alice"));
    assert_eq!(seen.field("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.field("host"), Some("site.test"));
    assert!(seen.field("authorization").is_some() && seen.field("via").is_some());
    assert!(seen.field("x-request-id").is_some());
}

#[tokio::test]
async fn hop_by_hop_fields_go_no_further() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).start().await;
    let mut client = Client::plain(gateway.http).await;
    let hop = "Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: close\r\n\
        Proxy-Authorization: Basic dTpw\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nTE: gzip\r\n\
        Trailer: X-Later\r\nExpect: 100-continue\r\n";
    assert_eq!(client.get_with("/", hop).await.status(), 200);
    let seen = origin.only();
    for name in [
        "connection",
        "x-hop",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "upgrade",
        "http2-settings",
        "te",
        "trailer",
        "expect",
    ] {
        assert_eq!(seen.field(name), None, "{name}");
    }
    assert_eq!(seen.field("via"), Some("1.1 portcullis"));
}

#[tokio::test]
async fn hop_by_hop_fields_of_a_response_go_no_further() {
    let origin = Origin::always(
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
         Upgrade: h2c\r\nProxy-Authenticate: Basic\r\nX-Kept: yes\r\n\r\nhello",
    )
    .await;
    let gateway = Setup::before(&origin).start().await;
    let answer = Client::plain(gateway.http).await.get("/").await;
    for name in ["connection", "x-hop", "keep-alive", "upgrade", "proxy-authenticate"] {
        assert_eq!(answer.field(name), None, "{name}");
    }
    assert_eq!((answer.field("x-kept"), answer.text().as_str()), (Some("yes"), "hello"));
}

#[tokio::test]
async fn via_is_added_behind_what_was_there() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).start().await;
    Client::plain(gateway.http).await.get_with("/", "Via: 1.0 fred\r\n").await;
    assert_eq!(origin.only().all("via"), ["1.0 fred", "1.1 portcullis"]);
}

#[tokio::test]
async fn te_trailers_is_made_anew_and_response_trailers_reach_who_asked() {
    let origin = Origin::always(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 7\r\n\r\n",
    )
    .await;
    let gateway = Setup::before(&origin).start().await;
    let mut client = Client::plain(gateway.http).await;
    let answer = client.get_with("/", "TE: gzip, trailers\r\nConnection: TE\r\n").await;
    let seen = origin.last();
    assert_eq!((seen.field("te"), seen.field("connection")), (Some("trailers"), Some("te")));
    assert_eq!((answer.text().as_str(), answer.trailers.to_ascii_lowercase().trim()), ("hello", "x-sum: 7"));

    let answer = client.get("/").await;
    assert_eq!(origin.last().field("te"), None);
    assert_eq!((answer.text().as_str(), answer.trailers.as_str()), ("hello", ""));
}

#[tokio::test]
async fn request_trailers_are_dropped() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).start().await;
    let mut client = Client::plain(gateway.http).await;
    let answer = client
        .ask(
            "POST / HTTP/1.1\r\nHost: site.test\r\nTransfer-Encoding: chunked\r\nTrailer: X-User-Id\r\n\r\n\
             3\r\nabc\r\n0\r\nX-User-Id: spoofed\r\nContent-Length: 9\r\n\r\n",
        )
        .await;
    assert_eq!(answer.status(), 200);
    let seen = origin.only();
    assert_eq!((seen.text().as_str(), seen.trailers.as_str(), seen.field("trailer")), ("abc", "", None));
    assert!(!String::from_utf8_lossy(&origin.bytes()).contains("spoofed"));
}

#[tokio::test]
async fn a_trusted_chain_is_walked_from_the_right() {
    let origin = Origin::hello().await;
    let gateway =
        Setup::before(&origin).server("workers = 1\ntrusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"]").start().await;
    let mut client = Client::plain(gateway.http).await;
    for (fields, client_address, scheme) in [
        ("", "127.0.0.1", "http"),
        ("X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https\r\n", "203.0.113.7", "https"),
        ("X-Forwarded-For: 6.6.6.6, 203.0.113.7, 10.0.0.9\r\n", "203.0.113.7", "http"),
        (
            "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 203.0.113.7\r\nX-Forwarded-For: 10.0.0.9\r\n",
            "203.0.113.7",
            "http",
        ),
        ("X-Forwarded-For: 6.6.6.6, nonsense, 10.0.0.9\r\n", "10.0.0.9", "http"),
        ("X-Forwarded-For: 6.6.6.6, , 10.0.0.9\r\n", "10.0.0.9", "http"),
        ("X-Forwarded-For: nonsense\r\nX-Forwarded-Proto: gopher\r\n", "127.0.0.1", "http"),
        ("Forwarded: for=6.6.6.6\r\n", "127.0.0.1", "http"),
    ] {
        assert_eq!(client.get_with("/", fields).await.status(), 200);
        let seen = origin.last();
        assert_eq!(seen.field("x-forwarded-for"), Some(client_address), "{fields}");
        assert_eq!(seen.field("x-forwarded-proto"), Some(scheme), "{fields}");
        assert_eq!(seen.field("forwarded"), None);
    }
}

#[tokio::test]
async fn a_trusted_forwarded_chain_is_walked_from_the_right_and_then_nothing_else_is_believed() {
    let origin = Origin::hello().await;
    let trusting = "workers = 1\ntrusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"]\ntrusted_fields = \"forwarded\"";
    let gateway = Setup::before(&origin).server(trusting).start().await;
    let mut client = Client::plain(gateway.http).await;
    for (fields, client_address, scheme) in [
        ("", "127.0.0.1", "http"),
        ("Forwarded: for=203.0.113.7;proto=https;host=evil.test\r\n", "203.0.113.7", "https"),
        ("Forwarded: for=6.6.6.6, for=\"[2001:db8::7]:80\", for=10.0.0.9;proto=https\r\n", "2001:db8::7", "http"),
        ("Forwarded: for=6.6.6.6;x=\"\r\nForwarded: for=203.0.113.7\r\n", "203.0.113.7", "http"),
        ("Forwarded: for=6.6.6.6, for=unknown;proto=https, for=10.0.0.9\r\n", "10.0.0.9", "https"),
        ("X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\n", "127.0.0.1", "http"),
        ("X-Forwarded-For: 6.6.6.6\r\nForwarded: for=203.0.113.7\r\n", "203.0.113.7", "http"),
    ] {
        assert_eq!(client.get_with("/", fields).await.status(), 200);
        let seen = origin.last();
        assert_eq!(seen.field("x-forwarded-for"), Some(client_address), "{fields}");
        assert_eq!(seen.field("x-forwarded-proto"), Some(scheme), "{fields}");
        assert_eq!((seen.field("forwarded"), seen.field("x-forwarded-host")), (None, Some("site.test")));
    }
}

#[tokio::test]
async fn a_host_in_a_trusted_proxys_fields_is_not_the_requests() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).server("workers = 1\ntrusted_proxies = [\"127.0.0.1\"]").start().await;
    let fields = "X-Forwarded-Host: evil.test\r\nX-Forwarded-Port: 81\r\nForwarded: host=evil.test\r\n";
    assert_eq!(Client::plain(gateway.http).await.get_with("/", fields).await.status(), 200);
    let seen = origin.only();
    assert_eq!((seen.field("host"), seen.field("x-forwarded-host")), (Some("site.test"), Some("site.test")));
    assert!(!String::from_utf8_lossy(&origin.bytes()).contains("evil.test"));
    assert_eq!(seen.field("x-forwarded-port"), None);
}

#[tokio::test]
async fn a_trusted_proxys_word_does_not_make_an_identity() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).server("workers = 1\ntrusted_proxies = [\"127.0.0.1/32\"]").start().await;
    let mut client = Client::plain(gateway.http).await;
    let fields =
        "X-User-Id: spoofed\r\nX_Forwarded_For: 6.6.6.6\r\nRemote-User: spoofed\r\nX-Accel-Redirect: /spoofed\r\n";
    assert_eq!(client.get_with("/", fields).await.status(), 200);
    assert_unspoofed(&origin, &origin.only());
}

#[tokio::test]
async fn a_request_id_is_made_sent_on_and_returned() {
    let origin = Origin::always("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Request-Id: of-the-origin\r\n\r\n").await;
    let gateway = Setup::before(&origin).start().await;
    let mut client = Client::plain(gateway.http).await;
    let mut made = Vec::new();
    for path in ["/", "/", "/private/", "/a//b"] {
        let answer = client.get_with(path, "X-Request-Id: of-the-client\r\n").await;
        made.push(answer.field("x-request-id").expect("every answer has one").to_owned());
    }
    let sent_on: Vec<_> = origin.requests().iter().map(|seen| seen.field("x-request-id").unwrap().to_owned()).collect();
    assert_eq!(sent_on, made[..2]);
    made.sort();
    made.dedup();
    assert_eq!(made.len(), 4);
    assert!(made.iter().all(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())), "{made:?}");
}

#[tokio::test]
async fn a_request_id_is_kept_from_a_trusted_peer_if_it_is_well_formed() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).server("workers = 1\ntrusted_proxies = [\"127.0.0.1\"]").start().await;
    let mut client = Client::plain(gateway.http).await;
    let long = "a".repeat(65);
    for (id, kept) in [("abc-123", true), ("a b", false), ("a\"b", false), ("a_b", false), ("", false), (&long, false)]
    {
        let answer = client.get_with("/", &format!("X-Request-Id: {id}\r\n")).await;
        let returned = answer.field("x-request-id").unwrap().to_owned();
        assert_eq!(returned == id, kept, "{id:?} came back as {returned:?}");
        assert_eq!(origin.last().field("x-request-id"), Some(returned.as_str()));
    }
}

#[tokio::test]
async fn a_traceparent_passes_if_it_is_well_formed() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).start().await;
    let mut client = Client::plain(gateway.http).await;
    let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for (fields, kept) in [
        (format!("traceparent: {good}\r\ntracestate: a=b\r\n"), Some(good)),
        (format!("traceparent: {good}\r\ntraceparent: {good}\r\ntracestate: a=b\r\n"), None),
        ("traceparent: 00-xyz\r\ntracestate: a=b\r\n".to_owned(), None),
    ] {
        client.get_with("/", &fields).await;
        let seen = origin.last();
        assert_eq!(seen.field("traceparent"), kept, "{fields}");
        assert_eq!(seen.field("tracestate").is_some(), kept.is_some(), "{fields}");
    }
}

#[tokio::test]
async fn refusals_say_nothing_of_addresses_or_versions() {
    let port = crate::support::port::Port::reserve();
    let gateway = Setup::endpoints([format!("http://{}", port.address)]).start().await;
    let mut client = Client::plain(gateway.http).await;
    for path in ["/", "/private/", "/a//b", "/../etc/passwd"] {
        let answer = client.get(path).await;
        assert!(answer.status() >= 400);
        assert_eq!(answer.field("server"), None);
        let shown = format!("{answer:?} {}", answer.text()).to_ascii_lowercase();
        for secret in ["127.0.0.1", "hyper", "rust", "0.1.0", "passwd"] {
            assert!(!shown.contains(secret), "{path} shows {secret}: {shown}");
        }
    }
}
