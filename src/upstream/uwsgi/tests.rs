//! The packet read by the letter, and the stream under every way of writing.

use http_body::Frame;
use http_body_util::{BodyExt, Empty, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;

/// Somebody without a token at 192.0.2.7.
fn client(secure: bool) -> OnBehalf {
    let local = ([192, 0, 2, 1], 443).into();
    OnBehalf {
        client: ([192, 0, 2, 7], 4711).into(),
        secure,
        user: None,
        trailers: false,
        local,
        interim: None,
        affinity: None,
    }
}

type Told = Vec<(String, Vec<u8>)>;

/// What a packet says, read by the letter of the protocol.
fn read(packet: &[u8]) -> Told {
    let two = |at: usize| usize::from(u16::from_le_bytes([packet[at], packet[at + 1]]));
    assert_eq!((packet[0], packet[3], two(1)), (0, 0, packet.len() - 4));
    let (mut at, mut told) = (4, Vec::new());
    let mut next = || {
        let end = at + 2 + two(at);
        let text = packet[at + 2..end].to_vec();
        at = end;
        (text, end == packet.len())
    };
    loop {
        let (name, _) = next();
        let (value, is_last) = next();
        told.push((String::from_utf8(name).unwrap(), value));
        if is_last {
            return told;
        }
    }
}

fn value<'t>(told: &'t Told, name: &str) -> Option<&'t [u8]> {
    let mut all = told.iter().filter(|(known, _)| known == name);
    let found = all.next().map(|(_, value)| value.as_slice());
    assert!(all.next().is_none(), "{name} is there twice");
    found
}

fn asked(request: http::request::Builder, body: &'static str) -> Told {
    read(&packet(&request.body(Full::<Bytes>::from(body)).unwrap(), &client(true), Kind::Uwsgi).unwrap())
}

#[test]
fn a_request_is_told_in_the_variables_of_cgi() {
    let request = Request::post("/caf%C3%A9/x%20y?q=%2F&r")
        .header("host", "site.test:8443")
        .header("content-type", "text/plain")
        .header("user-agent", "browser");
    let text = |told: Told| -> Vec<_> {
        told.into_iter().map(|(name, value)| (name, String::from_utf8(value).unwrap())).collect()
    };
    let told = text(asked(request, "body"));
    let expected = [
        ("REQUEST_METHOD", "POST"),
        ("REQUEST_URI", "/caf%C3%A9/x%20y?q=%2F&r"),
        ("PATH_INFO", "/café/x y"),
        ("QUERY_STRING", "q=%2F&r"),
        ("SCRIPT_NAME", ""),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("SERVER_NAME", "site.test"),
        ("SERVER_PORT", "8443"),
        ("REQUEST_SCHEME", "https"),
        ("HTTPS", "on"),
        ("REMOTE_ADDR", "192.0.2.7"),
        ("REMOTE_PORT", "4711"),
        ("CONTENT_TYPE", "text/plain"),
        ("CONTENT_LENGTH", "4"),
        ("HTTP_HOST", "site.test:8443"),
        ("HTTP_USER_AGENT", "browser"),
    ];
    let pairs: Vec<_> = told.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(pairs, expected);
}

#[test]
fn a_path_is_told_decoded_unless_the_server_decodes_it_itself() {
    let request = Request::get("/a%2541/caf%C3%A9?q=%41").body(Empty::<Bytes>::new()).unwrap();
    let paths = [(Kind::Uwsgi, "/a%41/caf\u{e9}"), (Kind::Gunicorn, "/a%2541/caf%C3%A9")];
    for (kind, path) in paths {
        let told = read(&packet(&request, &client(true), kind).unwrap());
        assert_eq!(value(&told, "PATH_INFO"), Some(path.as_bytes()), "{kind:?}");
        assert_eq!(value(&told, "REQUEST_URI"), Some(&b"/a%2541/caf%C3%A9?q=%41"[..]));
        assert_eq!(value(&told, "QUERY_STRING"), Some(&b"q=%41"[..]));
    }
}

#[test]
fn what_is_not_known_of_a_client_is_not_said() {
    let request = Request::get("/").header("host", "a").body(Empty::<Bytes>::new()).unwrap();
    let behind_a_proxy = OnBehalf { client: "[::1]:0".parse().unwrap(), ..client(false) };
    let told = read(&packet(&request, &behind_a_proxy, Kind::Uwsgi).unwrap());
    for absent in ["HTTPS", "REMOTE_PORT", "REMOTE_USER"] {
        assert_eq!(value(&told, absent), None, "{absent}");
    }
    for (name, expected) in [
        ("REQUEST_SCHEME", "http"),
        ("SERVER_PORT", "80"),
        ("REMOTE_ADDR", "::1"),
        ("QUERY_STRING", ""),
        ("CONTENT_TYPE", ""),
        ("CONTENT_LENGTH", ""),
    ] {
        assert_eq!(value(&told, name), Some(expected.as_bytes()), "{name}");
    }
}

#[test]
fn a_user_is_named_as_the_token_names_them_or_not_at_all() {
    let request = Request::get("/").header("host", "a").body(Empty::<Bytes>::new()).unwrap();
    for (user, said) in [("zoë", Some("zoë")), ("a b", Some("a b")), ("a\nb", None), ("a\0", None), ("", None)] {
        let told = read(&packet(&request, &OnBehalf { user: Some(user.into()), ..client(true) }, Kind::Uwsgi).unwrap());
        assert_eq!(value(&told, "REMOTE_USER"), said.map(str::as_bytes), "{user:?}");
    }
}

#[test]
fn an_address_of_ipv6_keeps_its_brackets_as_the_servers_name() {
    for (host, name, port) in
        [("[::1]", "[::1]", "443"), ("[::1]:81", "[::1]", "81"), ("a:81", "a", "81"), ("a", "a", "443")]
    {
        let told = asked(Request::get("/").header("host", host), "");
        assert_eq!(value(&told, "SERVER_NAME"), Some(name.as_bytes()), "{host}");
        assert_eq!(value(&told, "SERVER_PORT"), Some(port.as_bytes()), "{host}");
    }
}

#[test]
fn fields_that_come_more_than_once_are_one_variable() {
    let request = Request::get("/")
        .header("accept", "text/html")
        .header("cookie", "a=1")
        .header("x-tag", "one")
        .header("accept", "*/*")
        .header("cookie", "b=2")
        .header("x-tag", "two")
        .header("x-tag", "three");
    let told = asked(request, "");
    assert_eq!(value(&told, "HTTP_ACCEPT"), Some(&b"text/html, */*"[..]));
    assert_eq!(value(&told, "HTTP_COOKIE"), Some(&b"a=1; b=2"[..]));
    assert_eq!(value(&told, "HTTP_X_TAG"), Some(&b"one, two, three"[..]));
}

#[test]
fn a_value_is_bytes_and_passes_as_it_is() {
    let latin = HeaderValue::from_bytes(b"caf\xe9").unwrap();
    let told = asked(Request::get("/%FF").header("x-name", latin), "");
    assert_eq!(value(&told, "HTTP_X_NAME"), Some(&b"caf\xe9"[..]));
    assert_eq!(value(&told, "PATH_INFO"), Some(&b"/\xff"[..]));
}

#[test]
fn no_field_takes_the_name_of_another_variable() {
    let request = Request::post("/")
        .header("content-length", "999")
        .header("content-type", "a/b")
        .header("proxy", "http://evil")
        .header("connection", "te")
        .header("te", "trailers")
        .header("transfer-encoding", "chunked")
        .header("upgrade", "h2c")
        .header("https", "on")
        .header("remote-user", "root")
        .header("script-name", "/x");
    let told = asked(request, "four");
    let fields: Vec<_> =
        told.iter().filter(|(name, _)| name.starts_with("HTTP_")).map(|(name, _)| name.as_str()).collect();
    assert_eq!(fields, ["HTTP_HTTPS", "HTTP_REMOTE_USER", "HTTP_SCRIPT_NAME"]);
    assert_eq!(value(&told, "CONTENT_LENGTH"), Some(&b"4"[..]));
    assert_eq!((value(&told, "SCRIPT_NAME"), value(&told, "REMOTE_USER")), (Some(&b""[..]), None));
}

#[test]
fn an_empty_body_has_the_length_that_its_head_says() {
    assert_eq!(value(&asked(Request::post("/").header("content-length", "0"), ""), "CONTENT_LENGTH"), Some(&b"0"[..]));
    assert_eq!(value(&asked(Request::get("/"), ""), "CONTENT_LENGTH"), Some(&b""[..]));
}

#[test]
fn a_packet_that_two_bytes_can_not_count_is_refused() {
    let sized = |bytes: usize| {
        let request = Request::get("/").header("x", "v".repeat(bytes)).body(Empty::<Bytes>::new()).unwrap();
        packet(&request, &client(true), Kind::Uwsgi)
    };
    let others = sized(0).unwrap().len() - HEAD_BYTES;
    let most = sized(MOST_BYTES - others).unwrap();
    assert_eq!((most.len(), &most[1..3]), (HEAD_BYTES + MOST_BYTES, &[0xff, 0xff][..]));
    assert_eq!(value(&read(&most), "HTTP_X").map(<[u8]>::len), Some(MOST_BYTES - others));
    for bytes in [MOST_BYTES - others + 1, 100_000] {
        assert!(matches!(sized(bytes), Err(UpstreamFailure::HeadTooLarge)), "{bytes}");
    }
}

#[test]
fn a_body_of_unknown_length_can_not_be_sent() {
    let request = Request::post("/").body(Unsized).unwrap();
    assert!(matches!(packet(&request, &client(true), Kind::Uwsgi), Err(UpstreamFailure::LengthRequired)));
}

/// A body that does not say how long it is.
struct Unsized;

impl Body for Unsized {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Poll::Ready(None)
    }
}

/// Takes at most `most` bytes at a time, and says it can or can't take several pieces at once.
struct Narrow {
    taken: Vec<u8>,
    most: usize,
    vectored: bool,
    /// Every other write has to wait.
    ready: bool,
}

impl AsyncWrite for Narrow {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.ready = !self.ready;
        if !self.ready {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let some = buf.len().min(self.most);
        self.taken.extend_from_slice(&buf[..some]);
        Poll::Ready(Ok(some))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if !self.vectored {
            let first = bufs.iter().find(|buf| !buf.is_empty()).map_or(&[][..], |buf| &**buf);
            return self.poll_write(cx, first);
        }
        let all: Vec<u8> = bufs.iter().flat_map(|buf| buf.to_vec()).collect();
        self.poll_write(cx, &all)
    }

    fn is_write_vectored(&self) -> bool {
        self.vectored
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn the_packet_takes_the_place_of_the_head_however_it_is_written() {
    let head = b"POST / HTTP/1.1\r\nx: a\r\r\ncontent-length: 13\r\n\r\n";
    let body = b"\r\n\r\nthe body\r\n\r\n";
    let written = [&head[..], body].concat();
    for vectored in [false, true] {
        for most in [1, 3, 1000] {
            for split in 0..=written.len() {
                let narrow = Narrow { taken: Vec::new(), most, vectored, ready: false };
                let mut stream = Uwsgi::new(narrow, Bytes::from_static(b"packet"));
                for part in [&written[..split], &written[split..]] {
                    stream.write_all(part).await.unwrap();
                }
                stream.flush().await.unwrap();
                let expected = [&b"packet"[..], body].concat();
                assert!(stream.stream.taken == expected, "{split} {most}: {:?}", stream.stream.taken);
            }
        }
    }
}

#[tokio::test]
async fn pieces_written_at_once_arrive_in_order() {
    for vectored in [false, true] {
        for most in [1, 2, 7, 1000] {
            let narrow = Narrow { taken: Vec::new(), most, vectored, ready: false };
            let mut stream = Uwsgi::new(narrow, Bytes::from_static(b"packet"));
            let pieces: [&[u8]; 5] = [b"", b"HEAD / HTTP/1.1\r\n\r", b"\nbo", b"", b"dy"];
            let whole = pieces.concat();
            let mut sent = 0;
            while sent < whole.len() {
                let mut skip = sent;
                let left: Vec<_> = pieces
                    .iter()
                    .map(|piece| {
                        let gone = skip.min(piece.len());
                        skip -= gone;
                        IoSlice::new(&piece[gone..])
                    })
                    .collect();
                sent += stream.write_vectored(&left).await.unwrap();
            }
            stream.flush().await.unwrap();
            assert_eq!(stream.stream.taken, b"packetbody");
        }
    }
}

/// Reads one packet and `body` bytes, answers, and closes.
async fn serve(mut stream: DuplexStream, body: usize, answer: &'static str) -> (Told, Vec<u8>) {
    let mut packet = vec![0; HEAD_BYTES];
    stream.read_exact(&mut packet).await.unwrap();
    packet.resize(HEAD_BYTES + usize::from(u16::from_le_bytes([packet[1], packet[2]])), 0);
    stream.read_exact(&mut packet[HEAD_BYTES..]).await.unwrap();
    let mut received = vec![0; body];
    stream.read_exact(&mut received).await.unwrap();
    stream.write_all(answer.as_bytes()).await.unwrap();
    (read(&packet), received)
}

/// One request by hyper's client over the adapter.
async fn exchange<B>(request: Request<B>, answer: &'static str) -> (http::StatusCode, Bytes, Told, Vec<u8>)
where
    B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + Unpin + 'static,
{
    let length = usize::try_from(request.body().size_hint().exact().unwrap()).unwrap();
    let (ours, theirs) = duplex(100);
    let stream = Uwsgi::new(ours, packet(&request, &client(true), Kind::Uwsgi).unwrap());
    let asking = async {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        let answered = async {
            let response = sender.send_request(request).await.unwrap();
            let status = response.status();
            (status, response.into_body().collect().await.unwrap().to_bytes())
        };
        tokio::join!(answered, connection).0
    };
    let ((status, body), (told, received)) = tokio::join!(asking, serve(theirs, length, answer));
    (status, body, told, received)
}

#[tokio::test]
async fn hypers_client_speaks_uwsgi_through_it() {
    let large: Vec<u8> = (0..200_000u32).map(|number| (number % 251) as u8).collect();
    let request = Request::post("/up?load").header("host", "a").body(Full::from(large.clone())).unwrap();
    let (status, body, told, received) = exchange(request, "HTTP/1.1 201 Created\r\nX: y\r\n\r\nto the end").await;
    assert_eq!((status.as_u16(), &body[..]), (201, &b"to the end"[..]));
    assert!(received == large);
    assert_eq!(value(&told, "CONTENT_LENGTH"), Some(&b"200000"[..]));

    let request = Request::get("/").header("host", "a").body(Empty::new()).unwrap();
    let (status, body, ..) = exchange(request, "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!((status.as_u16(), &body[..]), (200, &b"ok"[..]));

    let request = Request::head("/").header("host", "a").body(Empty::new()).unwrap();
    let (status, body, told, _) = exchange(request, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n").await;
    assert_eq!((status.as_u16(), &body[..]), (200, &b""[..]));
    assert_eq!(value(&told, "REQUEST_METHOD"), Some(&b"HEAD"[..]));
}
