//! HTTP/1 by the letter, beyond framing: old clients, methods and statuses without content, expectations, connections that end
//! (RFC 9110, RFC 9112).

use crate::support::client::{Client, get};
use crate::support::gateway::Setup;
use crate::support::origin::{Conn, HELLO, Origin};
use crate::support::within;

const CHUNKED: &str =
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 7\r\n\r\n";

/// An origin that answers by the path; what it does not know is said hello to.
async fn answering(answers: &'static [(&'static str, &'static str)]) -> Origin {
    Origin::start(move |mut conn: Conn| async move {
        while let Some(request) = conn.request().await {
            let known = answers.iter().find(|(path, _)| *path == request.target());
            conn.send(known.map_or(HELLO, |(_, answer)| answer)).await;
        }
    })
    .await
}

/// Everything that is said until the connection ends, as text.
async fn said(mut client: Client, request: &str) -> String {
    client.send(request).await;
    String::from_utf8(client.until_end().await).unwrap()
}

#[tokio::test]
async fn a_client_of_http10_gets_no_chunks_and_the_end_of_the_body_is_that_of_the_connection() {
    let origin = answering(&[("/chunked", CHUNKED)]).await;
    let gateway = Setup::before(&origin).start().await;
    // Only a body of known length can be followed by anything.
    for fields in ["", "Connection: keep-alive\r\n", "TE: trailers\r\nConnection: TE\r\n"] {
        let request = format!("GET /chunked HTTP/1.0\r\nHost: site.test\r\n{fields}\r\n");
        let answer = said(Client::plain(gateway.http).await, &request).await.to_ascii_lowercase();
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with("http/1.") && head.contains(" 200 "), "{answer}");
        assert!(!head.contains("transfer-encoding") && !head.contains("keep-alive"), "{answer}");
        assert!(head.contains("\r\nconnection: close"), "{answer}");
        assert_eq!(body, "hello");
    }
    assert!(origin.requests().iter().all(|seen| seen.start.ends_with(" HTTP/1.1")), "what is forwarded is HTTP/1.1");
}

#[tokio::test]
async fn a_connection_of_http10_ends_with_its_answer_unless_the_client_asks_to_keep_it() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).start().await;
    let request = "GET /1 HTTP/1.0\r\nHost: site.test\r\n\r\n";
    let answer = said(Client::plain(gateway.http).await, &format!("{request}{}", get("/never"))).await;
    assert!(answer.ends_with("\r\n\r\nhello") && answer.matches("HTTP/1.").count() == 1, "{answer}");

    let mut client = Client::plain(gateway.http).await;
    for path in ["/2", "/3"] {
        let asked = format!("GET {path} HTTP/1.0\r\nHost: site.test\r\nConnection: Keep-Alive\r\n\r\n");
        let answer = client.ask(asked).await;
        assert_eq!((answer.status(), answer.text().as_str()), (200, "hello"));
        assert_eq!(answer.field("connection").map(str::to_ascii_lowercase).as_deref(), Some("keep-alive"));
    }
    client.send(request.replace("/1 ", "/4 ")).await;
    let last = client.answer().await;
    assert_eq!(last.text(), "hello", "{last:?}");
    assert!(client.until_end().await.is_empty());
    assert_eq!(origin.targets(), ["/1", "/2", "/3", "/4"]);
}

#[tokio::test]
async fn a_client_of_http10_is_never_sent_an_interim_response() {
    let origin = answering(&[(
        "/hints",
        "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    )])
    .await;
    let gateway = Setup::before(&origin).start().await;
    for secure in [false, true] {
        for path in ["/", "/hints"] {
            let mut client = if secure { Client::tls(&gateway).await } else { Client::plain(gateway.http).await };
            let fields = "Host: site.test\r\nExpect: 100-continue\r\nContent-Length: 4";
            client.send(format!("POST {path} HTTP/1.0\r\n{fields}\r\n\r\n")).await;
            client.send("body").await;
            let first = within("an answer", client.wire.head()).await.unwrap().unwrap();
            assert_eq!(first.status(), 200, "{path}");
            assert_eq!(origin.last().text(), "body");
        }
    }
}

#[tokio::test]
async fn nothing_behind_a_request_that_ends_its_connection_is_served() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).start().await;
    for fields in ["Connection: close", "Connection: keep-alive, CLOSE", "Connection: close\r\nConnection: keep-alive"]
    {
        let request = format!("GET /last HTTP/1.1\r\nHost: site.test\r\n{fields}\r\n\r\n{}", get("/never"));
        let answer = said(Client::plain(gateway.http).await, &request).await;
        assert!(answer.ends_with("\r\n\r\nhello") && answer.matches("HTTP/1.1 ").count() == 1, "{answer}");
        assert!(answer.to_ascii_lowercase().contains("\r\nconnection: close\r\n"), "{answer}");
    }
    assert_eq!(origin.targets(), ["/last"; 3]);
}

#[tokio::test]
async fn an_answer_without_content_has_no_framing_that_says_otherwise() {
    let origin = answering(&[
        ("/204", "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\nX: 1\r\n\r\n"),
        ("/204-chunked", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("/205", "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n"),
        ("/304", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: \"a\"\r\n\r\n"),
        ("/304-chunked", "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ])
    .await;
    let gateway = Setup::before(&origin).start().await;
    let mut client = Client::plain(gateway.http).await;
    for (path, status, length) in [
        ("/204", 204, None),
        ("/204-chunked", 204, None),
        ("/205", 205, Some("0")),
        ("/304", 304, None), // RFC 9110 section 8.6: it may say the length of what it does not send
        ("/304-chunked", 304, None),
    ] {
        client.send(format!("{}{}", get(path), get("/next"))).await;
        let answer = client.head_answer().await;
        assert_eq!(answer.status(), status, "{path}");
        assert_eq!((answer.field("content-length"), answer.field("transfer-encoding")), (length, None), "{path}");
        assert_eq!(client.answer().await.text(), "hello", "{path}");
    }
}

#[tokio::test]
async fn a_head_is_answered_as_a_get_without_its_content() {
    let origin = answering(&[
        ("/chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: 1\r\n\r\n"),
        ("/known", "HTTP/1.1 200 OK\r\nContent-Length: 123456789\r\n\r\n"),
        ("/unknown", "HTTP/1.1 200 OK\r\nX: 1\r\n\r\n"),
        ("/missing", "HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\n"),
    ])
    .await;
    let gateway = Setup::before(&origin).start().await;
    let mut client = Client::plain(gateway.http).await;
    for (path, status, length) in [
        ("/chunked", 200, None),
        ("/known", 200, Some("123456789")),
        ("/unknown", 200, None),
        ("/missing", 404, Some("9")),
        ("/private/refused", 401, None),
    ] {
        client.send(format!("HEAD {path} HTTP/1.1\r\nHost: site.test\r\n\r\n{}", get("/next"))).await;
        let answer = client.head_answer().await;
        assert_eq!(answer.status(), status, "{path}");
        if status != 401 {
            assert_eq!(answer.field("content-length"), length, "{path}");
        }
        assert_eq!(client.answer().await.text(), "hello", "{path}");
    }
}

#[tokio::test]
async fn no_100_comes_before_an_answer_that_needs_no_body() {
    let origin = Origin::hello().await;
    let elsewhere = "[[route]]\nname = \"gone\"\npath = \"/gone\"\nauth = \"public\"\nredirect = { to = \"/here\" }";
    let gateway = Setup::before(&origin).tables(elsewhere).start().await;
    for (request, status) in [
        ("POST /gone HTTP/1.1\r\nHost: site.test\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n", 308),
        ("POST /gone HTTP/1.1\r\nHost: site.test\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n", 308),
        ("POST / HTTP/1.1\r\nHost: site.test\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n", 200),
        ("GET / HTTP/1.1\r\nHost: site.test\r\nExpect: 100-continue\r\n\r\n", 200),
    ] {
        let mut client = Client::plain(gateway.http).await;
        client.send(request).await;
        let first = within("an answer", client.wire.head()).await.unwrap().unwrap();
        assert_eq!(first.status(), status, "{request}");
    }
}

#[tokio::test]
async fn a_chunked_body_is_asked_for_by_one_100_and_no_more() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).start().await;
    let mut client = Client::plain(gateway.http).await;
    for expectation in ["100-continue", "100-Continue"] {
        let fields = format!("Host: site.test\r\nExpect: {expectation}\r\nTransfer-Encoding: chunked");
        client.send(format!("POST / HTTP/1.1\r\n{fields}\r\n\r\n")).await;
        assert_eq!(within("100", client.wire.head()).await.unwrap().unwrap().status(), 100);
        for piece in ["2\r\nab\r\n", "2\r\ncd\r\n", "0\r\n\r\n"] {
            client.send(piece).await;
        }
        let answer = within("an answer", client.wire.head()).await.unwrap().unwrap();
        assert_eq!(answer.status(), 200, "nothing comes in between");
        assert_eq!(origin.last().text(), "abcd");
        let mut hello = client.wire.rest();
        while hello.len() < 5 {
            within("the body", client.wire.fill()).await.unwrap();
            hello.extend(client.wire.rest());
        }
        assert_eq!(hello, b"hello");
    }
}
