//! Requests that two programs could read in two ways: what reaches the origin's socket is nothing, or exactly one unambiguous request
//! for each that was sent, byte for byte. The plain forms of the same faults, and their answers, are in `framing`.

use std::fmt::Write as _;

use crate::support::client::Client;
use crate::support::gateway::{Gateway, Setup};
use crate::support::origin::Origin;
use crate::support::within;

/// A request that stands behind each row on its connection. Whoever loses count takes part of a row for a request, or this for a body.
const NEXT: &[u8] = b"GET /next HTTP/1.1\r\nHost: site.test\r\nConnection: close\r\n\r\n";

/// What a row is called, and what is sent.
type Row = (&'static str, Vec<u8>);
/// A row that passes: with what the origin is to see of it, as `METHOD target body`.
type Passing = (&'static str, Vec<u8>, String);

fn post(fields: impl AsRef<[u8]>, body: impl AsRef<[u8]>) -> Vec<u8> {
    let fields = fields.as_ref();
    [b"POST /row HTTP/1.1\r\nHost: site.test\r\n", fields, b"\r\n\r\n", body.as_ref()].concat()
}

fn chunked(body: impl AsRef<[u8]>) -> Vec<u8> {
    post("Transfer-Encoding: chunked", body)
}

fn line(line: impl AsRef<[u8]>) -> Vec<u8> {
    [line.as_ref(), b"\r\nHost: site.test\r\n\r\n"].concat()
}

struct Stage {
    origin: Origin,
    gateway: Gateway,
}

impl Stage {
    async fn set() -> Self {
        let origin = Origin::hello().await;
        let gateway = Setup::before(&origin).start().await;
        Self { origin, gateway }
    }

    /// Sends bytes on a connection of their own. The statuses that are answered until its end, and what the origin has seen by then.
    async fn send(&self, name: &str, bytes: &[u8]) -> (Vec<u16>, String) {
        let before = self.origin.bytes().len();
        let mut client = Client::plain(self.gateway.http).await;
        client.send(bytes).await;
        let mut statuses = Vec::new();
        while let Ok(answer) = within(name, client.wire.response(false)).await {
            statuses.push(answer.status());
        }
        client.until_end().await;
        // A good request behind everything: what was still on its way to the origin would stand before it.
        assert_eq!(Client::plain(self.gateway.http).await.get("/fence").await.status(), 200, "{name}");
        let seen = strictly(&self.origin.bytes()[before..]);
        let seen = seen.unwrap_or_else(|fault| panic!("{name}: the origin was sent {fault}"));
        (statuses, seen.strip_suffix("GET /fence \n").unwrap_or_else(|| panic!("{name}: no fence: {seen}")).to_owned())
    }

    async fn refuses(&self, rows: Vec<Row>) {
        for (name, bytes) in rows {
            let (statuses, seen) = self.send(name, &[&bytes, NEXT].concat()).await;
            assert_eq!(seen, "", "{name} reached the origin");
            assert!(matches!(statuses[..], [400 | 413]), "{name}: answered {statuses:?}");
        }
    }

    async fn passes(&self, rows: Vec<Passing>) {
        for (name, bytes, expected) in rows {
            let (statuses, seen) = self.send(name, &[&bytes, NEXT].concat()).await;
            assert_eq!(seen, format!("{expected}\nGET /next \n"), "{name}");
            assert_eq!(statuses, [200, 200], "{name}");
        }
    }
}

/// Reads bytes as a whole number of requests of the one canonical form, and says of each `METHOD target body`.
fn strictly(bytes: &[u8]) -> Result<String, String> {
    let mut said = String::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let end = rest.windows(4).position(|window| window == b"\r\n\r\n").ok_or("half a head")?;
        let head = str::from_utf8(&rest[..end]).map_err(|_| "a head in no UTF-8")?;
        rest = &rest[end + 4..];
        let (method, target, fields) = head_of(head)?;
        let all =
            |name: &str| fields.iter().filter(|(field, _)| field == name).map(|(_, value)| *value).collect::<Vec<_>>();
        let body = match (&all("content-length")[..], &all("transfer-encoding")[..]) {
            ([], []) => Vec::new(),
            ([length], []) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
                let length: usize = length.parse().map_err(|_| "a length beyond all bounds")?;
                let body = rest.get(..length).ok_or("half a body")?.to_vec();
                rest = &rest[length..];
                body
            }
            ([], ["chunked"]) => chunks_of(&mut rest)?,
            framing => return Err(format!("framing {framing:?}")),
        };
        if all("host").len() != 1 {
            return Err(format!("hosts {:?}", all("host")));
        }
        writeln!(said, "{method} {target} {}", body.escape_ascii()).unwrap();
    }
    Ok(said)
}

/// Method, target and fields, names in lower case.
type Head<'a> = (&'a str, &'a str, Vec<(String, &'a str)>);

fn head_of(head: &str) -> Result<Head<'_>, String> {
    let mut lines = head.split("\r\n");
    let start = lines.next().unwrap_or_default();
    let [method, target, "HTTP/1.1"] = start.split(' ').collect::<Vec<_>>()[..] else {
        return Err(format!("the line {start:?}"));
    };
    let is_method = !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_uppercase());
    let is_target = target.starts_with('/') && target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if !is_method || !is_target {
        return Err(format!("the line {start:?}"));
    }
    let field = |line: &str| {
        let (name, value) = line.split_once(": ").ok_or_else(|| format!("the field {line:?}"))?;
        let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let is_value = value.trim() == value && !value.contains(char::is_control);
        if is_name && is_value { Ok(()) } else { Err(format!("the field {line:?}")) }
    };
    let mut fields = Vec::new();
    for line in lines {
        field(line)?;
        let (name, value) = line.split_once(": ").expect("checked");
        fields.push((name.to_ascii_lowercase(), value));
    }
    Ok((method, target, fields))
}

fn chunks_of(rest: &mut &[u8]) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|window| window == b"\r\n").ok_or("half a chunk line")?;
        let digits = str::from_utf8(&rest[..end]).map_err(|_| "a chunk line in no UTF-8")?;
        let is_size = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let size = usize::from_str_radix(digits, 16).ok().filter(|_| is_size);
        let size = size.ok_or_else(|| format!("the chunk line {digits:?}"))?;
        let chunk = rest.get(end + 2..end + 2 + size + 2).ok_or("half a chunk")?;
        *rest = &rest[end + 2 + size + 2..];
        let data = chunk.strip_suffix(b"\r\n").ok_or("a chunk without its end, or a trailer")?;
        if size == 0 {
            return Ok(body);
        }
        body.extend_from_slice(data);
    }
}

#[tokio::test]
async fn a_coding_in_disguise_is_refused() {
    let both = |fields: &[u8]| post([fields, b"\r\nContent-Length: 5"].concat(), "0\r\n\r\n");
    let coded = |fields: &[u8]| post(fields, "0\r\n\r\n");
    Stage::set()
        .await
        .refuses(vec![
            ("chunked and identity", coded(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity")),
            ("identity and chunked", coded(b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked")),
            ("two spellings of the name", coded(b"tRANSFER-eNCODING: chunked\r\nTransfer-Encoding: x")),
            ("a parameter", coded(b"Transfer-Encoding: chunked;q=1")),
            ("brackets", coded(b"Transfer-Encoding: [chunked]")),
            ("single quotes", coded(b"Transfer-Encoding: 'chunked'")),
            ("a comma before it", coded(b"Transfer-Encoding: , chunked")),
            ("the sign of Kelvin for a k", coded("Transfer-Encoding: chun\u{212a}ed".as_bytes())),
            ("a space that does not break", coded(b"Transfer-Encoding: \xa0chunked")),
            ("a control character after it", coded(b"Transfer-Encoding: chunked\x1f")),
            ("deflate", coded(b"Transfer-Encoding: deflate")),
            ("trailers", coded(b"Transfer-Encoding: trailers")),
            ("folded away", coded(b"Transfer-Encoding: x\r\n\tchunked")),
            ("a folded length behind it", coded(b"Transfer-Encoding: chunked\r\n Content-Length: 5")),
            ("a coding that is none, and a length", both(b"Transfer-Encoding: xchunked")),
            ("a vertical tab in the name", both(b"Transfer-Encoding\x0b: chunked")),
            ("NUL in the name", both(b"Transfer-Encoding\0: chunked")),
            ("NUL before the name", both(b"\0Transfer-Encoding: chunked")),
            ("LF in the name", both(b"Transfer-Encoding\n: chunked")),
            ("behind an LF", both(b"X: y\nTransfer-Encoding: chunked")),
            ("behind a CR", both(b"X: y\rTransfer-Encoding: chunked")),
            ("a space in the name", both(b"Transfer Encoding: chunked")),
            ("a space before the colon", both(b"Transfer-Encoding : chunked")),
            ("no colon", both(b"Transfer-Encoding chunked")),
            ("a length that is named twice", both(b"Transfer-Encoding: chunked\r\nContent-Length: 5")),
        ])
        .await;
}

#[tokio::test]
async fn a_length_in_disguise_is_refused() {
    let said = |length: &[u8]| post([b"Content-Length: ", length].concat(), "abcd");
    Stage::set()
        .await
        .refuses(vec![
            ("one value in two spellings", said(b"4\r\nContent-Length: 04")),
            ("a space before the second colon", said(b"4\r\nContent-Length : 5")),
            ("a semicolon", said(b"4;")),
            ("a comma after it", said(b"4,")),
            ("a comma before it", said(b",4")),
            ("two in one, one in another spelling", said(b"04, 4")),
            ("a vertical tab before it", said(b"\x0b4")),
            ("a form feed after it", said(b"4\x0c")),
            ("NUL after it", said(b"4\0")),
            ("a tab in it", said(b"4\t4")),
            ("folded", said(b"4\r\n\t5")),
            ("an Arabic digit", said("\u{0664}".as_bytes())),
            ("an exponent", said(b"4e0")),
            ("an underscore", said(b"0_4")),
            ("binary", said(b"0b100")),
            ("octal", said(b"0o4")),
            ("in quotes", said(b"\"4\"")),
            ("a word", said(b"four")),
            ("beyond what is counted", said(b"9999999999999999999")),
            ("more than anybody may send", said(b"999999999999999999")),
            ("a tab before the colon", post("Content-Length\t: 4", "abcd")),
            (
                "two on a GET",
                b"GET /row HTTP/1.1\r\nHost: site.test\r\nContent-Length: 0\r\nContent-Length: 59\r\n\r\n".to_vec(),
            ),
        ])
        .await;
}

#[tokio::test]
async fn chunks_of_another_form_are_refused() {
    Stage::set()
        .await
        .refuses(vec![
            ("a space before the size", chunked(" 4\r\nabcd\r\n0\r\n\r\n")),
            ("a word behind the size", chunked("4 x\r\nabcd\r\n0\r\n\r\n")),
            ("a comma behind the size", chunked("4,4\r\nabcd\r\n0\r\n\r\n")),
            ("a vertical tab behind the size", chunked("4\x0b\r\nabcd\r\n0\r\n\r\n")),
            ("a size in wide digits", chunked("\u{ff14}\r\nabcd\r\n0\r\n\r\n")),
            ("a size that begins with zeros without end", chunked("00000000000000004\r\nabcd\r\n0\r\n\r\n")),
            ("a negative end", chunked("4\r\nabcd\r\n-0\r\n\r\n")),
            ("a CR in an extension", chunked("4;a\rb\r\nabcd\r\n0\r\n\r\n")),
            ("a size line that ends in CR CR LF", chunked("4\r\r\nabcd\r\n0\r\n\r\n")),
            ("a size line that ends in CR", chunked("4\rabcd\r\n0\r\n\r\n")),
            ("data that ends in LF", chunked("4\r\nabcd\n0\r\n\r\n")),
            ("data that ends in CR", chunked("4\r\nabcd\r0\r\n\r\n")),
            ("an empty line between chunks", chunked("4\r\nabcd\r\n\r\n0\r\n\r\n")),
            ("data shorter than its size", chunked("6\r\nabcd\r\n0\r\n\r\n")),
            ("a request for a trailer", chunked("4\r\nabcd\r\n0\r\nGET /hidden HTTP/1.1\r\nHost: site.test\r\n\r\n")),
            ("a trailer without a colon", chunked("0\r\nX\r\n\r\n")),
            ("a trailer that ends in LF", chunked("0\r\nX: a\nY: b\r\n\r\n")),
            ("a folded trailer", chunked("0\r\nX: a\r\n b\r\n\r\n")),
            ("a space before a trailer's colon", chunked("0\r\nX : a\r\n\r\n")),
            ("NUL in a trailer", chunked("0\r\nX: a\0b\r\n\r\n")),
        ])
        .await;
}

#[tokio::test]
async fn a_request_line_of_another_form_is_refused() {
    Stage::set()
        .await
        .refuses(vec![
            ("HTTP/0.9", b"GET /row\r\n".to_vec()),
            ("HTTP/0.9 by name", line("GET /row HTTP/0.9")),
            ("a version in small letters", line("GET /row http/1.1")),
            ("HTTP/1.2", line("GET /row HTTP/1.2")),
            ("HTTP/2.0", line("GET /row HTTP/2.0")),
            ("HTTP/1.10", line("GET /row HTTP/1.10")),
            ("HTTP/01.1", line("GET /row HTTP/01.1")),
            ("HTTP/1,1", line("GET /row HTTP/1,1")),
            ("HTTP/1", line("GET /row HTTP/1")),
            ("a space behind the version", line("GET /row HTTP/1.1 ")),
            ("two versions", line("GET /row HTTP/1.1 HTTP/1.1")),
            ("tabs for spaces", line("GET\t/row\tHTTP/1.1")),
            ("a space before the method", line(" GET /row HTTP/1.1")),
            ("a method alone", line("GET")),
            ("no method", line("/row HTTP/1.1")),
            ("no target", line("GET HTTP/1.1")),
            ("a query alone", line("GET ?row HTTP/1.1")),
            ("a byte beyond ASCII", line(b"GET /\xff HTTP/1.1")),
            ("DEL", line(b"GET /\x7f HTTP/1.1")),
            ("a vertical tab", line(b"GET /a\x0bb HTTP/1.1")),
        ])
        .await;
}

#[tokio::test]
async fn a_method_target_or_host_of_another_form_is_refused() {
    let host = |host: &str| format!("GET /row HTTP/1.1\r\n{host}\r\n\r\n").into_bytes();
    let stage = Stage::set().await;
    for (name, bytes) in [
        ("a method in small letters", line("delete /row HTTP/1.1")),
        ("a method in mixed letters", line("Delete /row HTTP/1.1")),
        ("an asterisk", line("OPTIONS * HTTP/1.1")),
        ("https without TLS", line("GET https://site.test/row HTTP/1.1")),
        ("another scheme", line("GET ftp://site.test/row HTTP/1.1")),
        ("a script for a scheme", line("GET javascript://site.test/row HTTP/1.1")),
        ("a host and a path", line("GET site.test/row HTTP/1.1")),
        ("two slashes", line("GET //site.test/row HTTP/1.1")),
        ("one slash behind the scheme", line("GET http:/row HTTP/1.1")),
        ("no host", line("GET http:///row HTTP/1.1")),
        ("a port alone", line("GET http://:80/row HTTP/1.1")),
        ("port 0", line("GET http://site.test:0/row HTTP/1.1")),
        ("a port beyond 16 bits", line("GET http://site.test:65616/row HTTP/1.1")),
        ("a user", line("GET http://user@site.test/row HTTP/1.1")),
        ("a backslash before a user", line("GET http://site.test\\@evil.test/row HTTP/1.1")),
        ("an encoded host", line("GET http://site%2etest/row HTTP/1.1")),
        ("a second Host with a space before its colon", host("Host: site.test\r\nHost : evil.test")),
        ("a vertical tab behind the host", host("Host: site.test\x0b")),
        ("two ports", host("Host: site.test:80:80")),
        ("a zone", host("Host: [::1%25lo]")),
        ("a scheme", host("Host: http://site.test")),
        ("a folded host", host("Host:\r\n site.test")),
    ] {
        let (statuses, seen) = stage.send(name, &[&bytes, NEXT].concat()).await;
        assert!(seen.is_empty() || seen == "GET /next \n", "{name} reached the origin: {seen}");
        assert!(matches!(statuses[0], 400 | 405), "{name}: answered {statuses:?}");
        assert_eq!(statuses.len() == 2, !seen.is_empty(), "{name}: what is served behind it is answered: {statuses:?}");
    }
}

/// A request in a body, and how the origin's body is told.
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: site.test\r\n\r\n";
const HIDDEN_TOLD: &str = "GET /hidden HTTP/1.1\\r\\nHost: site.test\\r\\n\\r\\n";

#[tokio::test]
async fn an_odd_length_or_coding_that_means_one_thing_passes_as_exactly_that() {
    let settings = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__";
    let lengths = [
        ("a length that begins with zeros", "Content-Length: 0004".to_owned()),
        ("tabs and spaces around it", "Content-Length: \t 4 \t".to_owned()),
        ("no space behind the colon", "content-length:4".to_owned()),
        ("a coding of another name", "Transfer_Encoding: chunked\r\nContent-Length: 4".to_owned()),
        ("an encoding of the content", "Content-Encoding: chunked\r\nContent-Length: 4".to_owned()),
        ("a length of another name", "X-Content-Length: 9\r\nContent-Length: 4".to_owned()),
        ("Connection names it", "Connection: content-length\r\nContent-Length: 4".to_owned()),
        ("an upgrade to HTTP/2", format!("{settings}\r\nContent-Length: 4")),
        ("a body that is not waited for", "Expect: 100-continue\r\nContent-Length: 4".to_owned()),
        ("another expectation", "Expect: a-miracle\r\nContent-Length: 4".to_owned()),
    ];
    let codings = [
        ("a tab before the coding", "Transfer-Encoding:\tchunked"),
        ("capital letters", "TRANSFER-ENCODING: CHUNKED"),
        ("spaces behind it", "Transfer-Encoding: chunked \t "),
        ("a length of another name", "Content_Length: 9\r\nTransfer-Encoding: chunked"),
        ("Connection names it", "Connection: transfer-encoding, host\r\nTransfer-Encoding: chunked"),
    ];
    let lengths = lengths.iter().map(|(name, fields)| (*name, post(fields, "abcd"), "POST /row abcd".to_owned()));
    let codings = codings
        .iter()
        .map(|(name, fields)| (*name, post(fields, "4\r\nabcd\r\n0\r\n\r\n"), "POST /row abcd".to_owned()));
    Stage::set().await.passes(lengths.chain(codings).collect()).await;
}

#[tokio::test]
async fn an_odd_body_that_ends_in_one_place_passes_as_exactly_that() {
    let length = HIDDEN.len();
    let mut rows: Vec<Passing> = Vec::new();
    for method in ["GET", "DELETE", "OPTIONS", "PROPFIND"] {
        let bytes = format!("{method} /row HTTP/1.1\r\nHost: site.test\r\nContent-Length: {length}\r\n\r\n{HIDDEN}");
        rows.push(("a body that is a request", bytes.into_bytes(), format!("{method} /row {HIDDEN_TOLD}")));
    }
    for (name, body, told) in [
        ("a chunk that is a request", format!("{length:x}\r\n{HIDDEN}\r\n0\r\n\r\n"), HIDDEN_TOLD),
        (
            "sizes in both cases, with zeros",
            "0a\r\n0123456789\r\n00A\r\n0123456789\r\n000\r\n\r\n".to_owned(),
            "01234567890123456789",
        ),
        ("extensions", "4;a=b;c=\"d;\\\"e\"\r\nabcd\r\n0;last\r\n\r\n".to_owned(), "abcd"),
        (
            "trailers that would frame",
            "4\r\nabcd\r\n0\r\nContent-Length: 9\r\nTransfer-Encoding: x\r\nHost: evil.test\r\n\r\n".to_owned(),
            "abcd",
        ),
    ] {
        rows.push((name, chunked(body), format!("POST /row {told}")));
    }
    Stage::set().await.passes(rows).await;
}

#[tokio::test]
async fn an_odd_head_that_means_one_thing_passes_as_exactly_that() {
    let rows = [
        ("empty lines before it", "\r\n\r\nGET /row HTTP/1.1\r\nHost: site.test\r\n\r\n", "GET /row "),
        ("a tab before the host", "GET /row HTTP/1.1\r\nHost:\tsite.test\r\n\r\n", "GET /row "),
        ("no path", "GET http://site.test HTTP/1.1\r\nHost: site.test\r\n\r\n", "GET / "),
        ("a query alone", "GET http://site.test?row HTTP/1.1\r\nHost: site.test\r\n\r\n", "GET /?row "),
        ("capital letters", "GET HTTP://SITE.TEST/row HTTP/1.1\r\nHost: other.test\r\n\r\n", "GET /row "),
        ("a fragment, which no request has", "GET /row#/hidden HTTP/1.1\r\nHost: site.test\r\n\r\n", "GET /row "),
        ("a method nobody knows", "SMUGGLE /row HTTP/1.1\r\nHost: site.test\r\n\r\n", "SMUGGLE /row "),
    ];
    let rows = rows.into_iter().map(|(name, bytes, told)| (name, bytes.as_bytes().to_vec(), told.to_owned()));
    Stage::set().await.passes(rows.collect()).await;
}

#[tokio::test]
async fn the_second_opinion_is_strict() {
    for bytes in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.0\r\nhost: a\r\n\r\n",
        "GET  / HTTP/1.1\r\nhost: a\r\n\r\n",
        "get / HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET / HTTP/1.1\nhost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx : y\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx_y: z\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0;x\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: y\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\na",
        "GET / HTTP/1.1\r\nhost: a\r\ncontent-length: +1\r\n\r\na",
        "GET / HTTP/1.1\r\nhost: a\r\n\r\nrest",
    ] {
        assert!(strictly(bytes.as_bytes()).is_err(), "{bytes:?}");
    }
    let good = "GET /a HTTP/1.1\r\nhost: a\r\n\r\nPOST /b HTTP/1.1\r\nHost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n";
    assert_eq!(strictly(good.as_bytes()).as_deref(), Ok("GET /a \nPOST /b x\n"));
}
