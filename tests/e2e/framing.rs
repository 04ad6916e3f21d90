//! Nothing that isn't canonical HTTP/1.1 ever reaches an origin, and never more requests than were sent (RFC 9112).

use crate::support::client::{Client, get};
use crate::support::gateway::{Gateway, Setup};
use crate::support::origin::Origin;
use crate::support::{token, within};

/// What follows each malformed request on its connection, in case somebody takes its bytes for a request.
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: site.test\r\n\r\n";

/// A name, the bytes sent, and the status answered.
type Row = (&'static str, Vec<u8>, u16);

fn row(name: &'static str, bytes: impl Into<Vec<u8>>, status: u16) -> Row {
    (name, bytes.into(), status)
}

/// Sends each row on a connection of its own, with a request hidden behind it: it gets its one answer, then the connection ends,
/// and nothing of it reaches the origin.
async fn refused_and_closed(rows: Vec<Row>) {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).start().await;
    for (name, mut bytes, status) in rows {
        bytes.extend_from_slice(HIDDEN.as_bytes());
        refuse(&gateway, name, &bytes, status).await;
        assert_eq!(origin.bytes().escape_ascii().to_string(), "", "{name}");
    }
    still_serves(&gateway, &origin).await;
}

async fn refuse(gateway: &Gateway, name: &str, bytes: &[u8], status: u16) {
    let mut client = Client::plain(gateway.http).await;
    client.send(bytes).await;
    let answer = within(name, client.wire.response(false)).await.unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(answer.status(), status, "{name}: {answer:?}");
    let rest = client.until_end().await;
    assert_eq!(rest.escape_ascii().to_string(), "", "{name}: one answer and the end");
}

/// A good request passes, and it is the first thing the origin hears.
async fn still_serves(gateway: &Gateway, origin: &Origin) {
    assert_eq!(Client::plain(gateway.http).await.get("/after").await.status(), 200);
    assert_eq!(origin.targets(), ["/after"]);
}

/// Each row is answered without a word to the origin; the connection may go on, because the request's end was clear.
async fn refused(rows: Vec<Row>) {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).start().await;
    for (name, bytes, status) in rows {
        let mut client = Client::plain(gateway.http).await;
        client.send(&bytes).await;
        let answer = client.try_answer().await.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(answer.status(), status, "{name}: {answer:?}");
        assert_eq!(origin.bytes().escape_ascii().to_string(), "", "{name}");
    }
    still_serves(&gateway, &origin).await;
}

fn with_field(line: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nHost: site.test\r\n{line}\r\n\r\n").into_bytes()
}

fn post_with(lines: &str, body: &str) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\nHost: site.test\r\n{lines}\r\n{body}").into_bytes()
}

#[tokio::test]
async fn a_bare_lf_or_cr_ends_no_line() {
    refused_and_closed(vec![
        row("every line ends in LF", "GET / HTTP/1.1\nHost: site.test\n\n", 400),
        row("the request line ends in LF", "GET / HTTP/1.1\nHost: site.test\r\n\r\n", 400),
        row("a field ends in LF", "GET / HTTP/1.1\r\nHost: site.test\nX: y\r\n\r\n", 400),
        row("the head ends in LF", "GET / HTTP/1.1\r\nHost: site.test\r\n\n", 400),
        row("LF LF in the middle", "GET / HTTP/1.1\r\nHost: site.test\n\nX: y\r\n\r\n", 400),
        row("an LF before the request", "\nGET / HTTP/1.1\r\nHost: site.test\r\n\r\n", 400),
        row("a CR in a value", with_field("X: a\rb"), 400),
        row("a CR before CRLF", with_field("X: a\r"), 400),
        row("a CR in the request line", "GET /\r HTTP/1.1\r\nHost: site.test\r\n\r\n", 400),
        row("lines end in CR", "GET / HTTP/1.1\rHost: site.test\r\r\r\n\r\n", 400),
    ])
    .await;
}

#[tokio::test]
async fn field_lines_are_of_one_form() {
    refused_and_closed(vec![
        row("a folded line", with_field("X: a\r\n b"), 400),
        row("a line folded by a tab", with_field("X: a\r\n\tb"), 400),
        row("a first line that begins with a space", "GET / HTTP/1.1\r\n Host: site.test\r\n\r\n", 400),
        row("a space before the colon", with_field("X : a"), 400),
        row("a tab before the colon", with_field("X\t: a"), 400),
        row("a space before the colon of a length", post_with("Content-Length : 4\r\n", "abcd"), 400),
        row("a space before the colon of a coding", post_with("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"), 400),
        row("a folded coding", post_with("Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n"), 400),
        row("NUL in a value", with_field("X: a\0b"), 400),
        row("NUL in a name", with_field("X\0: a"), 400),
        row("NUL in the target", "GET /a\0b HTTP/1.1\r\nHost: site.test\r\n\r\n", 400),
        row("a control character in a value", with_field("X: a\x01b"), 400),
        row("no colon", with_field("X"), 400),
        row("no name", with_field(": a"), 400),
        row("a bracket in a name", with_field("X(y): a"), 400),
    ])
    .await;
}

#[tokio::test]
async fn the_length_of_a_body_is_said_once() {
    refused_and_closed(vec![
        row("length, then coding", post_with("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 400),
        row("coding, then length", post_with("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"), 400),
        row("coding and no length", post_with("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", "0\r\n\r\n"), 400),
        row("two lengths that differ", post_with("Content-Length: 4\r\nContent-Length: 5\r\n", "abcde"), 400),
        row("two lengths alike", post_with("Content-Length: 4\r\nContent-Length: 4\r\n", "abcd"), 400),
        row("a list of lengths", post_with("Content-Length: 4, 4\r\n", "abcd"), 400),
        row("a signed length", post_with("Content-Length: +4\r\n", "abcd"), 400),
        row("a negative length", post_with("Content-Length: -4\r\n", "abcd"), 400),
        row("a hexadecimal length", post_with("Content-Length: 0x4\r\n", "abcd"), 400),
        row("a length with a fraction", post_with("Content-Length: 4.0\r\n", "abcd"), 400),
        row("a length in two words", post_with("Content-Length: 4 4\r\n", "abcd"), 400),
        row("an empty length", post_with("Content-Length:\r\n", "abcd"), 400),
        row("a length beyond 64 bits", post_with("Content-Length: 18446744073709551620\r\n", "abcd"), 400),
    ])
    .await;
}

#[tokio::test]
async fn the_one_transfer_coding_is_chunked() {
    let coded = |line: &str| post_with(line, "0\r\n\r\n");
    refused_and_closed(vec![
        row("an unknown coding before it", coded("Transfer-Encoding: cow, chunked\r\n"), 400),
        row("gzip before it", coded("Transfer-Encoding: gzip, chunked\r\n"), 400),
        row("a coding after it", coded("Transfer-Encoding: chunked, identity\r\n"), 400),
        row("twice", coded("Transfer-Encoding: chunked, chunked\r\n"), 400),
        row("two lines", coded("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), 400),
        row("two lines, one unknown", coded("Transfer-Encoding: cow\r\nTransfer-Encoding: chunked\r\n"), 400),
        row("a letter more", coded("Transfer-Encoding: xchunked\r\n"), 400),
        row("in quotes", coded("Transfer-Encoding: \"chunked\"\r\n"), 400),
        row("a vertical tab before it", coded("Transfer-Encoding: \x0bchunked\r\n"), 400),
        row("a form feed after it", coded("Transfer-Encoding: chunked\x0c\r\n"), 400),
        row("a comma after it", coded("Transfer-Encoding: chunked,\r\n"), 400),
        row("identity", coded("Transfer-Encoding: identity\r\n"), 400),
        row("empty", coded("Transfer-Encoding:\r\n"), 400),
        row(
            "in HTTP/1.0",
            "POST / HTTP/1.0\r\nHost: site.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
            400,
        ),
    ])
    .await;
}

#[tokio::test]
async fn broken_chunks_are_answered_400_and_never_end_a_request_at_the_origin() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).start().await;
    let long = format!("4;{}\r\nabcd\r\n0\r\n\r\n", "x".repeat(10_000));
    let trailers = format!("4\r\nabcd\r\n0\r\n{}\r\n", "X-Trailer: yes\r\n".repeat(2000));
    for (name, body) in [
        ("a size of 65 bits", "1ffffffffffffffff\r\nabcd\r\n0\r\n\r\n"),
        ("a size that wraps to 4", "10000000000000004\r\nabcd\r\n0\r\n\r\n"),
        ("no size", "\r\nabcd\r\n0\r\n\r\n"),
        ("no number", "zz\r\nabcd\r\n0\r\n\r\n"),
        ("a signed size", "+4\r\nabcd\r\n0\r\n\r\n"),
        ("a prefixed size", "0x4\r\nabcd\r\n0\r\n\r\n"),
        ("a size line that ends in LF", "4\nabcd\r\n0\r\n\r\n"),
        ("an extension with a bare LF", "4;x\ny\r\nabcd\r\n0\r\n\r\n"),
        ("data longer than its size", "3\r\nabcd\r\n0\r\n\r\n"),
        ("data without its CRLF", "4\r\nabcd0\r\n\r\n"),
        ("an end in LF", "4\r\nabcd\r\n0\r\n\n"),
        ("an extension without bound", &long),
        ("trailers without bound", &trailers),
    ] {
        let before = origin.bytes().len();
        let head = "POST /chunks HTTP/1.1\r\nHost: site.test\r\nTransfer-Encoding: chunked\r\n\r\n";
        refuse(&gateway, name, format!("{head}{body}{HIDDEN}").as_bytes(), 400).await;
        let arrived = String::from_utf8_lossy(&origin.bytes()[before..]).into_owned();
        assert!(arrived.matches("HTTP/1.1\r\n").count() <= 1 && !arrived.contains("hidden"), "{name}: {arrived}");
    }
    assert_eq!(Client::plain(gateway.http).await.get("/after").await.status(), 200);
    assert_eq!(origin.targets(), ["/after"], "no broken body was ever completed");
}

#[tokio::test]
async fn there_is_exactly_one_well_formed_host() {
    let hosts = |lines: &str| format!("GET / HTTP/1.1\r\n{lines}\r\n").into_bytes();
    refused(vec![
        row("none", hosts(""), 400),
        row("none in HTTP/1.0", "GET / HTTP/1.0\r\n\r\n", 400),
        row("two alike", hosts("Host: site.test\r\nHost: site.test\r\n"), 400),
        row("two that differ", hosts("Host: site.test\r\nHost: other.test\r\n"), 400),
        row("two, one in other letters", hosts("Host: site.test\r\nhOST: other.test\r\n"), 400),
        row("empty", hosts("Host:\r\n"), 400),
        row("two in one", hosts("Host: site.test, other.test\r\n"), 400),
        row("with a space", hosts("Host: site test\r\n"), 400),
        row("with a user", hosts("Host: me@site.test\r\n"), 400),
        row("with a path", hosts("Host: site.test/x\r\n"), 400),
        row("with port 0", hosts("Host: site.test:0\r\n"), 400),
        row("with a port beyond 16 bits", hosts("Host: site.test:65616\r\n"), 400),
        row("with a port in letters", hosts("Host: site.test:http\r\n"), 400),
        row("an open bracket", hosts("Host: [::1\r\n"), 400),
        row("an absolute target does not replace a missing one", "GET http://site.test/ HTTP/1.1\r\n\r\n", 400),
        row("an absolute target with a user", "GET http://me@site.test/ HTTP/1.1\r\nHost: site.test\r\n\r\n", 400),
    ])
    .await;
}

#[tokio::test]
async fn an_absolute_target_overrides_host() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).start().await;
    let mut client = Client::plain(gateway.http).await;
    let answer = client.ask("GET http://real.test:81/x?y HTTP/1.1\r\nHost: other.test\r\n\r\n").await;
    assert_eq!(answer.status(), 200);
    let seen = origin.only();
    assert_eq!((seen.target(), seen.field("host")), ("/x?y", Some("real.test:81")));
    assert!(!String::from_utf8_lossy(&origin.bytes()).contains("other.test"));
}

#[tokio::test]
async fn connect_and_trace_are_405() {
    refused(vec![
        row("CONNECT", "CONNECT site.test:443 HTTP/1.1\r\nHost: site.test:443\r\n\r\n", 405),
        row("TRACE", "TRACE / HTTP/1.1\r\nHost: site.test\r\n\r\n", 405),
    ])
    .await;
}

#[tokio::test]
async fn a_path_that_two_parsers_read_two_ways_is_400() {
    let mut rows = Vec::new();
    for path in [
        "/a%2Fb",
        "/a%2fb",
        "/private%2Fx",
        "/a%5Cb",
        "/a\\b",
        "/a%00",
        "/a%0d%0aX:%20y",
        "//private/x",
        "/a//b",
        "/./a",
        "/a/../private/x",
        "/a/..",
        "/a/%2e%2e/private/x",
        "/a/.%2E/b",
        "/..;/private/x",
        "/%c0%ae%c0%ae/",
        "/a%ff",
        "/a%",
        "/a%2",
        "/a%zz",
        "a",
    ] {
        rows.push(row(path, get(path), 400));
    }
    refused(rows).await;
}

#[tokio::test]
async fn a_request_line_is_of_one_form() {
    refused_and_closed(vec![
        row("no version", "GET /\r\n\r\n", 400),
        row("two spaces", "GET  / HTTP/1.1\r\nHost: site.test\r\n\r\n", 400),
        row("a space in the target", "GET /a b HTTP/1.1\r\nHost: site.test\r\n\r\n", 400),
        row("a method that is no token", "GE(T / HTTP/1.1\r\nHost: site.test\r\n\r\n", 400),
        row("another protocol", "GET / HTCPCP/1.1\r\nHost: site.test\r\n\r\n", 400),
        row("nonsense", "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n", 400),
    ])
    .await;
}

#[tokio::test]
async fn the_preface_of_http2_is_no_request_on_a_plain_listener() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).start().await;
    let mut client = Client::plain(gateway.http).await;
    client.send(format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{HIDDEN}")).await;
    let said = client.until_end().await;
    assert!(!said.starts_with(b"HTTP/1.1 200"), "{}", said.escape_ascii());
    still_serves(&gateway, &origin).await;
}

#[tokio::test]
async fn a_target_over_its_bound_is_414_and_a_head_over_its_bound_is_431() {
    let long = |length: usize| get(&format!("/{}", "a".repeat(length)));
    refused(vec![
        row("a target of 8193 bytes", long(8192), 414),
        row("a query over the bound", get(&format!("/?{}", "a".repeat(8192))), 414),
    ])
    .await;
    let fields = |count: usize| with_field(&vec!["X: y"; count].join("\r\n"));
    refused_and_closed(vec![
        row("101 fields", fields(100), 431),
        row("1000 fields", fields(1000), 431),
        row("a field of 17 KiB", with_field(&format!("X: {}", "y".repeat(17 * 1024))), 431),
        row("17 KiB of fields", with_field(&vec![format!("X: {}", "y".repeat(1021)); 17].join("\r\n")), 431),
        row("a request line of 17 KiB", long(17 * 1024), 431),
    ])
    .await;
}

#[tokio::test]
async fn a_head_right_at_its_bounds_passes() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).start().await;
    let mut client = Client::plain(gateway.http).await;
    assert_eq!(client.get(&format!("/{}", "a".repeat(8191))).await.status(), 200);
    assert_eq!(client.ask(with_field(&vec!["X: y"; 99].join("\r\n"))).await.status(), 200);
    assert_eq!(client.ask(with_field(&format!("X: {}", "y".repeat(16_000)))).await.status(), 200);
    assert_eq!(origin.requests().len(), 3);
}

#[tokio::test]
async fn good_requests_are_pipelined_and_answered_in_order() {
    let origin = Origin::start(|mut conn| async move {
        while let Some(request) = conn.request().await {
            let body = format!("{} {}", request.target(), request.text());
            conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())).await;
        }
    })
    .await;
    let gateway = Setup::before(&origin).start().await;
    let mut client = Client::plain(gateway.http).await;
    let chunked =
        "POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nab\r\n1\r\nc\r\n0\r\nT: v\r\n\r\n";
    let all = [
        &get("/1"),
        "POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 18\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        chunked,
        "\r\n",
        &get("/4"),
    ];
    client.send(all.concat()).await;
    for expected in ["/1 ", "/2 GET / HTTP/1.1\r\n\r\n", "/3 abc", "/4 "] {
        assert_eq!(client.answer().await.text(), expected);
    }
    assert_eq!(origin.targets(), ["/1", "/2", "/3", "/4"]);
}

/// The attack of the bare LF: what hides behind it was taken for a field by the one and for a request by the other.
#[tokio::test]
async fn a_request_hidden_behind_a_bare_lf_never_reaches_the_origin_unauthorised() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).start().await;
    for hiding in [
        "GET / HTTP/1.1\r\nHost: site.test\r\nX: a\n\nGET /private/secret HTTP/1.1\r\nHost: site.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: site.test\r\nX: a\n\r\nGET /private/secret HTTP/1.1\r\nHost: site.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: site.test\r\nContent-Length: 0\n\r\n\r\nGET /private/secret HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: site.test\r\nX: a\nContent-Length: 60\r\n\r\nGET /private/secret HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: site.test\r\nX: a\rGET /private/secret HTTP/1.1\r\nHost: site.test\r\n\r\n",
    ] {
        let mut client = Client::plain(gateway.http).await;
        client.send(hiding).await;
        assert_eq!(client.answer().await.status(), 400);
        client.until_end().await;
    }
    still_serves(&gateway, &origin).await;
}

#[tokio::test]
async fn a_request_behind_a_body_is_authorised_by_itself() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).start().await;
    let mut client = Client::plain(gateway.http).await;
    let token = token::bearer(&token::good());
    client
        .send(format!(
            "POST /private/1 HTTP/1.1\r\nHost: a\r\n{token}Content-Length: 3\r\n\r\nabc{}GET /private/3 HTTP/1.1\r\nHost: a\r\n{token}\r\n",
            get("/private/2")
        ))
        .await;
    for expected in [200, 401, 200] {
        assert_eq!(client.answer().await.status(), expected);
    }
    assert_eq!(origin.targets(), ["/private/1", "/private/3"]);
}

#[tokio::test]
async fn what_is_forwarded_is_framed_anew() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).start().await;
    let mut client = Client::plain(gateway.http).await;
    for (request, length, coding) in [
        ("POST / HTTP/1.1\r\nHost: a\r\ncOnTeNt-LeNgTh: 003\r\n\r\nabc", Some("3"), None),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: ChUnKeD\r\n\r\n3;a=b\r\nabc\r\n0\r\n\r\n",
            None,
            Some("chunked"),
        ),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", None, None),
    ] {
        assert_eq!(client.ask(request).await.status(), 200);
        let seen = origin.last();
        assert_eq!((seen.field("content-length"), seen.field("transfer-encoding")), (length, coding), "{request}");
        assert_eq!(seen.text(), if request.starts_with("POST") { "abc" } else { "" });
    }
}

#[tokio::test]
async fn malformed_requests_are_counted_by_reason() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).start().await;
    for (bytes, reason) in [
        ("GET / HTTP/1.1\nHost: a\n\n", "line_end"),
        ("GET / HTTP/1.1\r\n\r\n", "host_missing"),
        ("GET /a/../b HTTP/1.1\r\nHost: a\r\n\r\n", "ambiguous_path"),
        ("GE(T / HTTP/1.1\r\nHost: a\r\n\r\n", "unparsable"),
    ] {
        Client::plain(gateway.http).await.ask(bytes).await;
        let label = format!("reason=\"{reason}\"");
        gateway.until_metric("portcullis_malformed_requests_total", &[&label], 1).await;
    }
}
