//! gRPC calls through the gateway: streams in both directions, deadlines, and failures in the words of the protocol.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use hyper::client::conn::http2::SendRequest;
use serde_json::json;
use tokio::task::JoinSet;

use crate::support::client::Client;
use crate::support::gateway::{Gateway, Setup, route};
use crate::support::grpc::{self, End, Server, begin};
use crate::support::h2::{Pieces, connect, whole};
use crate::support::origin::Origin;
use crate::support::port::Port;
use crate::support::{eventually, token};

/// Calls of `/t/` are anybody's, those of `/p/` need a token.
async fn gateway(server: &Server, keys: &str) -> Gateway {
    let tables = [route("t", "\"public\"", keys), route("p", "{ issuer = \"site\" }", keys)].concat();
    Setup::endpoints([server.endpoint()]).tables(&tables).start().await
}

async fn client(gateway: &Gateway) -> SendRequest<Pieces> {
    connect(gateway).await
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// A call that says one thing and nothing else, and its end.
async fn end_of(sender: &SendRequest<Pieces>, path: &str, fields: &[(&str, &str)]) -> End {
    let mut call = begin(sender, path, fields, &["hello"]).await;
    assert_eq!(call.head.status, StatusCode::OK);
    call.say = None;
    call.end().await
}

#[tokio::test]
async fn messages_flow_both_ways_at_once_and_trailers_pass() {
    let server = Server::start().await;
    let gateway = gateway(&server, "").await;
    let sender = client(&gateway).await;
    let good = bearer(&token::good());
    let mut call = begin(&sender, "/p/Echo", &[("authorization", &good), ("x-custom", "a")], &["1"]).await;
    assert_eq!(call.head.headers["content-type"], "application/grpc");
    assert_eq!(call.head.headers["x-initial"], "kept");
    // Each is answered before the next is said, so nothing waits for the end of anything.
    assert_eq!(call.message().await, "1");
    for text in ["2", "", &"long ".repeat(40_000), "4"] {
        call.say(text).await;
        assert_eq!(call.message().await, text);
    }
    call.say = None;
    let end = call.end().await;
    assert_eq!((end.code, &end.fields["x-trailer"]), (0, &"kept".parse().unwrap()));
    let head = server.heads().pop().unwrap();
    assert_eq!(head.headers["content-type"], "application/grpc+proto");
    assert_eq!((&head.headers["te"], &head.headers["x-custom"]), (&"trailers".parse().unwrap(), &"a".parse().unwrap()));
    assert_eq!(head.headers["x-forwarded-proto"], "https");
    let line = gateway.access_line("/p/Echo").await;
    assert!(line.contains("grpc=OK") && line.contains(" 200 "), "{line}");
    gateway.until_metric("portcullis_grpc_calls_total", &["route=\"p\"", "code=\"OK\""], 1).await;
}

#[tokio::test]
async fn an_answer_that_is_nothing_but_an_outcome_passes() {
    let server = Server::start().await;
    let gateway = gateway(&server, "").await;
    let end = end_of(&client(&gateway).await, "/t/Refuse", &[]).await;
    assert_eq!((end.code, &*end.message), (9, "not%20now"));
    gateway.until_metric("portcullis_grpc_calls_total", &["code=\"FAILED_PRECONDITION\""], 1).await;
}

#[tokio::test]
async fn what_the_gateway_refuses_is_told_as_an_outcome() {
    let server = Server::start().await;
    let strict = format!("{}methods = [\"GET\"]\n", route("get", "\"public\"", ""));
    let small = route("small", "\"public\"", "body_bytes = 10");
    let scoped = route("scoped", "{ issuer = \"site\", scopes = [\"write\"] }", "");
    let tables = [strict, small, scoped, route("p", "{ issuer = \"site\" }", "")].concat();
    let gateway = Setup::endpoints([server.endpoint()]).tables(&tables).start().await;
    let sender = client(&gateway).await;
    let (good, forged) = (bearer(&token::good()), bearer("a.b.c"));
    let many: String = "x".repeat(9000);
    for (path, fields, code, challenge) in [
        ("/p/Echo", &[][..], 16, "Bearer realm=\"portcullis\""),
        ("/p/Echo", &[("authorization", &*forged)], 16, "Bearer realm=\"portcullis\", error=\"invalid_token\""),
        ("/p/Echo", &[("authorization", "Bearer")], 16, "Bearer realm=\"portcullis\", error=\"invalid_request\""),
        (
            "/scoped/Echo",
            &[("authorization", &*good)],
            7,
            "Bearer realm=\"portcullis\", error=\"insufficient_scope\", scope=\"write\"",
        ),
        ("/get/Echo", &[], 12, ""),
        ("/small/Echo", &[("content-length", "11")], 8, ""),
        ("/t//Echo", &[], 13, ""),
        ("/p/Echo", &[("authorization", &*good), ("grpc-timeout", "1s")], 13, ""),
        (&*format!("/{many}"), &[], 8, ""),
    ] {
        let mut call = begin(&sender, path, fields, &["hello"]).await;
        let head = &call.head;
        assert_eq!(head.status, StatusCode::OK, "{path}");
        assert_eq!(head.headers["content-type"], "application/grpc", "{path}");
        let told = head.headers.get("www-authenticate").map_or("", |value| value.to_str().unwrap());
        assert_eq!(told, challenge, "{path} {fields:?}");
        assert!(head.headers.contains_key("x-request-id"));
        let end = call.end().await;
        assert_eq!(end.code, code, "{path} {fields:?}: {end:?}");
        assert!(!end.message.is_empty());
    }
    assert!(server.heads().is_empty());
    let line = gateway.access_line("/get/Echo").await;
    assert!(line.contains("grpc=UNIMPLEMENTED") && line.contains("outcome=method_not_allowed"), "{line}");
}

#[tokio::test]
async fn others_are_told_what_they_always_were() {
    let server = Server::start().await;
    let gateway = gateway(&server, "").await;
    let mut sender = connect::<Full<Bytes>>(&gateway).await;
    for kind in ["application/json", "application/grpc-web+proto", "application/grpcx"] {
        let request =
            Request::post("https://site.test/p/Echo").header("content-type", kind).body(Full::default()).unwrap();
        assert_eq!(whole(sender.send_request(request).await.unwrap()).await.0, 401, "{kind}");
    }
    // The protocol is one of HTTP/2: whoever sends its media type over HTTP/1.1 looks at the status.
    let mut old = Client::plain(gateway.http).await;
    assert_eq!(old.by("POST", "/p/Echo", "Content-Type: application/grpc\r\n").await.status(), 401);
}

#[tokio::test]
async fn an_upstream_that_is_not_there_is_unavailable() {
    let port = Port::reserve();
    let gateway = Setup::endpoints([format!("h2c://{}", port.address)]).start().await;
    let end = end_of(&client(&gateway).await, "/t/Echo", &[]).await;
    assert_eq!(end.code, 14, "{end:?}");
    gateway.until_metric("portcullis_upstream_errors_total", &["stage=\"refused\""], 1).await;
}

#[tokio::test]
async fn a_calls_deadline_bounds_the_wait_for_an_answer_and_ends_the_call_at_the_upstream() {
    let server = Server::start().await;
    let gateway = gateway(&server, "").await;
    let sender = client(&gateway).await;
    let end = end_of(&sender, "/t/Hang", &[("grpc-timeout", "200m")]).await;
    assert_eq!((end.code, &*end.message), (4, "the call's deadline has passed"));
    eventually("the end of the call", || async { (server.running() == 0).then_some(()) }).await;
    assert_eq!(server.heads()[0].headers["grpc-timeout"], "200m");
    assert_eq!(end_of(&sender, "/t/Echo", &[("grpc-timeout", "0n")]).await.code, 4, "no time at all");
    assert_eq!(end_of(&sender, "/t/Echo", &[("grpc-timeout", "99999999H")]).await.code, 0);
    gateway.until_metric("portcullis_upstream_leases", &[], 0).await;
    let line = gateway.access_line("/t/Hang").await;
    assert!(line.contains("grpc=DEADLINE_EXCEEDED") && line.contains("outcome=call_timeout"), "{line}");
}

#[tokio::test]
async fn a_calls_deadline_ends_a_stream_that_has_begun() {
    let server = Server::start().await;
    let gateway = gateway(&server, "").await;
    let sender = client(&gateway).await;
    for method in ["/t/Stall", "/t/Tick"] {
        let mut call = begin(&sender, method, &[("grpc-timeout", "450m")], &[]).await;
        call.message().await;
        let end = call.end().await;
        assert_eq!(end.code, 4, "{method}: {end:?}");
        eventually("the end of the call", || async { (server.running() == 0).then_some(()) }).await;
    }
    gateway.until_metric("portcullis_requests_in_flight", &[], 0).await;
}

#[tokio::test]
async fn an_upstream_that_breaks_off_is_told_in_trailers() {
    let mut server = Some(Server::start().await);
    let gateway = gateway(server.as_ref().unwrap(), "").await;
    let sender = client(&gateway).await;
    let mut call = begin(&sender, "/t/Stall", &[], &[]).await;
    assert_eq!(call.message().await, "first");
    server.take();
    let end = call.end().await;
    assert_eq!(end.code, 14, "{end:?}");
    let line = gateway.access_line("/t/Stall").await;
    assert!(line.contains("grpc=UNAVAILABLE") && line.contains("outcome=upstream_truncated"), "{line}");
}

#[tokio::test]
async fn a_call_that_its_client_cancels_ends_at_the_upstream_too() {
    let server = Server::start().await;
    let gateway = gateway(&server, "").await;
    let sender = client(&gateway).await;
    let mut calls = Vec::new();
    for method in ["/t/Stall", "/t/Tick"] {
        calls.push(begin(&sender, method, &[], &["hello"]).await);
    }
    let hanging = tokio::spawn({
        let sender = sender.clone();
        async move { begin(&sender, "/t/Hang", &[], &["hello"]).await.head.status }
    });
    eventually("all calls", || async { (server.running() == 3).then_some(()) }).await;
    drop(calls);
    hanging.abort();
    eventually("their end", || async { (server.running() == 0).then_some(()) }).await;
    gateway.until_metric("portcullis_requests_in_flight", &[], 0).await;
    gateway.until_metric("portcullis_upstream_leases", &[], 0).await;
    gateway.until_metric("portcullis_grpc_calls_total", &["code=\"CANCELLED\""], 3).await;
}

#[tokio::test]
async fn a_stream_that_is_silent_is_kept_while_timeouts_of_requests_pass() {
    let server = Server::start().await;
    let limits = "body_timeout_secs = 0.2\nwrite_timeout_secs = 0.2";
    let upstream = "response_timeout_secs = 0.2\nread_timeout_secs = 0.2";
    let gateway = Setup::endpoints([server.endpoint()]).limits(limits).upstream(upstream).start().await;
    let sender = client(&gateway).await;
    let mut call = begin(&sender, "/t/Echo", &[], &["1"]).await;
    assert_eq!(call.message().await, "1");
    tokio::time::sleep(Duration::from_millis(900)).await; // the silence is what is tested
    call.say("2").await;
    assert_eq!(call.message().await, "2");
    call.say = None;
    assert_eq!(call.end().await.code, 0);
}

#[tokio::test]
async fn a_call_in_which_neither_side_speaks_is_ended_and_one_of_them_is_enough() {
    let server = Server::start().await;
    let gateway = gateway(&server, "tunnel_idle_secs = 1").await;
    let sender = client(&gateway).await;
    // The client of the first goes on listening to a server that speaks; of the second, neither says anything more.
    let mut ticking = begin(&sender, "/t/Tick", &[], &[]).await;
    let mut stalled = begin(&sender, "/t/Stall", &[], &[]).await;
    let end = stalled.end().await;
    assert_eq!(end.code, 14, "{end:?}");
    for _ in 0..15 {
        assert_eq!(ticking.message().await, "tick");
    }
    let mut hanging = begin(&sender, "/t/Hang", &[], &["hello"]).await;
    assert_eq!(hanging.end().await.code, 14);
    drop(ticking);
    eventually("the end of all calls", || async { (server.running() == 0).then_some(()) }).await;
    gateway.until_metric("portcullis_upstream_leases", &[], 0).await;
}

#[tokio::test]
async fn a_call_ends_with_its_token_if_its_route_does_not_say_otherwise() {
    let server = Server::start().await;
    let lasting = route("lasting", "{ issuer = \"site\" }", "end_with_token = false");
    let tables = [route("p", "{ issuer = \"site\" }", ""), lasting].concat();
    let gateway = Setup::endpoints([server.endpoint()]).tables(&tables).start().await;
    let sender = client(&gateway).await;
    let brief = bearer(&token::with(&json!({ "exp": token::now() + 2 })));
    let mut kept = begin(&sender, "/lasting/Tick", &[("authorization", &brief)], &[]).await;
    let mut call = begin(&sender, "/p/Tick", &[("authorization", &brief)], &[]).await;
    let end = call.end().await;
    assert_eq!(end.code, 16, "{end:?}");
    assert_eq!(kept.message().await, "tick");
    let line = gateway.access_line("/p/Tick").await;
    assert!(line.contains("grpc=UNAUTHENTICATED") && line.contains("outcome=token_expired"), "{line}");
    eventually("the end of the call", || async { (server.running() == 1).then_some(()) }).await;
}

#[tokio::test]
async fn before_an_upstream_with_a_connection_for_each_request_a_silent_call_is_a_slow_upload() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).limits("body_timeout_secs = 0.2").start().await;
    let sender = client(&gateway).await;
    let mut call = begin(&sender, "/t/Echo", &[], &["1"]).await;
    assert_eq!(call.end().await.code, 14);
    assert_eq!(origin.accepted(), 0, "it never held a connection");
    let line = gateway.access_line("/t/Echo").await;
    assert!(line.contains("outcome=body_too_slow"), "{line}");
}

#[tokio::test]
async fn the_bytes_of_all_messages_of_a_call_count_against_the_routes_limit() {
    let server = Server::start().await;
    let gateway = gateway(&server, "body_bytes = 100").await;
    let sender = client(&gateway).await;
    let mut call = begin(&sender, "/t/Echo", &[], &["1"]).await;
    assert_eq!(call.message().await, "1");
    for _ in 0..10 {
        call.say("sixteen bytes...").await;
    }
    let end = call.end().await;
    assert_eq!(end.code, 8, "the answer had begun: {end:?}");
    assert_eq!(end_of(&sender, "/t/Echo", &[]).await.code, 0, "the limit is one for each call");
}

#[tokio::test]
async fn fifty_calls_share_one_connection() {
    let server = Server::start().await;
    let gateway = gateway(&server, "").await;
    let sender = client(&gateway).await;
    let mut calls = JoinSet::new();
    for number in 0..50 {
        let sender = sender.clone();
        calls.spawn(async move {
            let mut call = begin(&sender, "/t/Echo", &[], &[]).await;
            for round in 0..10 {
                let text = format!("{number}-{round}");
                call.say(&text).await;
                assert_eq!(call.message().await, text);
            }
            call.say = None;
            assert_eq!(call.end().await.code, 0);
            let mut counting = begin(&sender, "/t/Count", &[], &[]).await;
            for number in 0..5 {
                assert_eq!(counting.message().await, number.to_string());
            }
            assert_eq!(counting.end().await.code, 0);
        });
    }
    calls.join_all().await;
    let scrape = gateway.scrape().await;
    assert_eq!(scrape.count("portcullis_connections_accepted_total", &["listener=\"https\""]), 1);
    assert_eq!(scrape.count("portcullis_upstream_connections_opened_total", &[]), 1);
    gateway.until_metric("portcullis_grpc_calls_total", &["code=\"OK\""], 100).await;
    assert_eq!(grpc::message("ab"), &b"\0\0\0\0\x02ab"[..]);
}
