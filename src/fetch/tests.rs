//! Exchanges with a real server on loopback.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use http::HeaderValue;

use super::testing::{Reply, Server, ok, status};
use super::*;

fn fetcher(settings: &FetchSettings) -> Fetcher {
    Fetcher::new(settings).unwrap()
}

async fn refused(server: &Server, reply: Reply) -> FetchError {
    server.answer(move |_| reply.clone());
    fetcher(&FetchSettings { max_bytes: 1000, ..server.settings() }).get(&server.at("/")).await.unwrap_err()
}

#[tokio::test]
async fn an_answer_brings_its_body_its_type_and_its_freshness() {
    let server = Server::tls(|asked| {
        assert_eq!(asked.target(), "/keys?v=1");
        ok("Content-Type: application/json\r\nCache-Control: max-age=90\r\nAge: 30\r\n", "{\"keys\":[]}")
    })
    .await;
    let fetched = fetcher(&server.settings()).get(&server.at("/keys?v=1")).await.unwrap();
    assert_eq!((fetched.status, &fetched.body[..]), (200, &b"{\"keys\":[]}"[..]));
    assert_eq!(fetched.max_age, Some(Duration::from_mins(1)));
    assert_eq!(fetched.content_type.as_deref(), Some("application/json"));
}

#[tokio::test]
async fn a_form_carries_its_authorization_and_reuses_the_connection() {
    let server = Server::tls(|asked| {
        assert!(asked.head.starts_with("POST /introspect HTTP/1.1\r\n"), "{}", asked.head);
        assert!(asked.head.contains("authorization: Basic Zm9v\r\n"), "{}", asked.head);
        assert!(asked.head.contains("content-type: application/x-www-form-urlencoded\r\n"), "{}", asked.head);
        ok("", &asked.body)
    })
    .await;
    let fetcher = fetcher(&server.settings());
    for _ in 0..3 {
        let authorization = HeaderValue::from_static("Basic Zm9v");
        let url = server.at("/introspect");
        let answer = fetcher.post_form(&url, Some(authorization), "token=a".to_owned()).await.unwrap();
        assert_eq!(&answer.body[..], b"token=a");
    }
    assert_eq!((server.hits(), server.connections()), (3, 1));
}

#[tokio::test]
async fn a_connection_closed_without_an_answer_is_tried_once_more() {
    let server = Server::plain(|_| Reply::Close(Vec::new())).await;
    let error = fetcher(&server.settings()).get(&server.at("/")).await.unwrap_err();
    assert!(matches!(error, FetchError::Exchange(_)), "{error:?}");
    assert_eq!(server.hits(), 2);
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_another_status_is_named() {
    let server = Server::plain(|_| ok("", "")).await;
    let elsewhere = format!("Location: {}\r\n", server.text("/other"));
    for code in [301, 302, 303, 307, 308] {
        let error = refused(&server, status(code, &elsewhere)).await;
        assert!(matches!(error, FetchError::Redirect { status } if status == code), "{error:?}");
    }
    assert_eq!(server.hits(), 5);
    for code in [201, 204, 206, 401, 404, 500, 503] {
        let error = refused(&server, status(code, "")).await;
        assert!(matches!(error, FetchError::Status { status } if status == code), "{error:?}");
        assert!(error.to_string().contains(&code.to_string()));
    }
}

#[tokio::test]
async fn a_body_over_the_bound_is_refused_whether_announced_or_not() {
    let server = Server::plain(|_| ok("", "")).await;
    let announced = Reply::Stall(b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n".to_vec());
    let chunked = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n{}", "x".repeat(1001));
    let endless = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}", "x".repeat(5000));
    for reply in [announced, Reply::Stall(chunked.into_bytes()), Reply::Stall(endless.into_bytes())] {
        let error = refused(&server, reply).await;
        assert!(matches!(error, FetchError::TooLarge { limit: 1000 }), "{error:?}");
    }
    server.answer(|_| ok("", &"x".repeat(1000)));
    let exact = FetchSettings { max_bytes: 1000, ..server.settings() };
    assert_eq!(fetcher(&exact).get(&server.at("/")).await.unwrap().body.len(), 1000);
}

#[tokio::test]
async fn what_is_not_http_or_breaks_off_is_refused() {
    let server = Server::plain(|_| ok("", "")).await;
    let garbage = Reply::Close(b"SSH-2.0-OpenSSH_9.9\r\n\r\n".to_vec());
    assert!(matches!(refused(&server, garbage).await, FetchError::Exchange(_)));
    let endless = Reply::Stall(format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(100_000)).into_bytes());
    assert!(matches!(refused(&server, endless).await, FetchError::Exchange(_)));
    let short = Reply::Close(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfour".to_vec());
    assert!(matches!(refused(&server, short).await, FetchError::Body(_)));
}

#[tokio::test]
async fn one_deadline_holds_for_head_and_body() {
    let server = Server::plain(|_| ok("", "")).await;
    let settings = FetchSettings { timeout: Duration::from_millis(50), ..server.settings() };
    for bytes in [&b""[..], b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfour"] {
        server.answer(move |_| Reply::Stall(bytes.to_vec()));
        let error = fetcher(&settings).get(&server.at("/")).await.unwrap_err();
        assert!(matches!(error, FetchError::Timeout(_)), "{error:?}");
    }
}

#[tokio::test]
async fn plain_http_is_refused_by_a_fetcher_that_was_not_allowed_it() {
    let server = Server::plain(|_| ok("", "")).await;
    let strict = FetchSettings {
        plain_http: false,
        ca_pem: Server::tls(|_| ok("", "")).await.settings().ca_pem,
        ..server.settings()
    };
    let error = fetcher(&strict).get(&server.at("/")).await.unwrap_err();
    assert!(matches!(error, FetchError::PlainHttp));
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn an_authority_the_operator_did_not_name_is_not_trusted() {
    let (server, other) = (Server::tls(|_| ok("", "")).await, Server::tls(|_| ok("", "")).await);
    let error = fetcher(&other.settings()).get(&server.at("/")).await.unwrap_err();
    assert!(matches!(error, FetchError::Connect(_)), "{error:?}");
    assert_eq!(server.hits(), 0);
}

#[test]
fn a_ca_file_without_a_certificate_is_refused() {
    let broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for pem in [&b""[..], b"no pem", broken] {
        let settings = FetchSettings { ca_pem: Some(pem.to_vec()), ..FetchSettings::default() };
        assert!(matches!(Fetcher::new(&settings), Err(FetchError::CaPem)));
    }
}
