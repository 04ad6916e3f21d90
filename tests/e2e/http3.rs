//! HTTP/3 over QUIC: the same routes, the same policy, the same answers, by clients that are not ours.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::{Request, StatusCode};
use quinn::ConnectionError;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::support::client::Client as OldClient;
use crate::support::gateway::{Gateway, Setup};
use crate::support::h3::{self, Client, ON, Quic, request};
use crate::support::origin::Origin;
use crate::support::port::Port;
use crate::support::{eventually, tls, token, within};

/// Answers with the target, the length of the body, and the body.
async fn echo() -> Origin {
    Origin::start(|mut conn| async move {
        while let Some(request) = conn.request().await {
            let said = format!("{} {} ", request.target(), request.body.len());
            let length = said.len() + request.body.len();
            conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{said}")).await;
            conn.send(&request.body).await;
        }
    })
    .await
}

fn post(path: &str, body: impl Into<Bytes>) -> Request<Bytes> {
    request("POST", path, &[]).map(|_| body.into())
}

/// A gateway whose origin answers nothing before its gate lets it.
async fn gated(limits: &str) -> (Origin, Gateway, Arc<Semaphore>) {
    let (origin, gate) = Origin::gated().await;
    let gateway = h3::start(Setup::before(&origin).limits(limits)).await;
    (origin, gateway, gate)
}

#[tokio::test]
async fn a_client_finds_http3_by_what_tcp_says_of_it() {
    let origin = echo().await;
    let gateway = h3::start(Setup::before(&origin)).await;
    let told = format!("h3=\":{}\"; ma=86400", gateway.https.port());
    let mut old = OldClient::tls(&gateway).await;
    for path in ["/", "/private/"] {
        assert_eq!(old.get(path).await.field("alt-svc"), Some(told.as_str()), "{path}");
    }
    let plain = OldClient::plain(gateway.http).await.get("/").await;
    assert_eq!(plain.field("alt-svc"), None, "the plain listener has none");

    let mut client = Client::connect(&gateway).await;
    let answer = client.get("/over-quic?a=b").await;
    assert_eq!((answer.status(), answer.text()), (StatusCode::OK, "/over-quic?a=b 0 "));
    assert!(answer.field("alt-svc").is_none() && answer.field("date").is_some());
    assert!(answer.field("x-request-id").is_some());
    let forwarded = origin.last();
    assert_eq!(forwarded.field("x-forwarded-proto"), Some("https"));
    assert_eq!(forwarded.field("x-forwarded-for"), Some("127.0.0.2"));
    assert_eq!(forwarded.field("host"), Some("site.test"));

    let line = gateway.access_line("/over-quic").await;
    assert!(line.contains("HTTP/3") && line.contains("127.0.0.2"), "{line}");
    let scrape = gateway.scrape().await;
    assert!(scrape.count("portcullis_quic_attempts_total", &["listener=\"https\"", "outcome=\"accepted\""]) >= 1);
    assert_eq!(scrape.count("portcullis_requests_total", &["route=\"public\"", "status=\"200\""]), 3);
}

#[tokio::test]
async fn another_port_may_be_told_and_without_http3_none_is() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).https(&format!("{ON}\nhttp3_port = 443")).start().await;
    let answer = OldClient::tls(&gateway).await.get("/").await;
    assert_eq!(answer.field("alt-svc"), Some("h3=\":443\"; ma=86400"));

    let gateway = Setup::before(&origin).start().await;
    assert_eq!(OldClient::tls(&gateway).await.get("/").await.field("alt-svc"), None);
    UdpSocket::bind(gateway.https).expect("nobody listens there");
}

#[tokio::test]
async fn bodies_go_both_ways() {
    let origin = echo().await;
    let gateway = h3::start(Setup::before(&origin).limits("body_bytes = 100000000")).await;
    let mut client = Client::connect(&gateway).await;
    assert_eq!(client.ask(post("/small", "what was said")).await.text(), "/small 13 what was said");
    assert_eq!(origin.last().field("content-length"), Some("13"), "it was read ahead, and its end with it");

    let announced = request("POST", "/announced", &[("content-length", "5")]).map(|_| Bytes::from_static(b"12345"));
    assert_eq!(client.ask(announced).await.text(), "/announced 5 12345");
    assert_eq!(origin.last().field("content-length"), Some("5"));
    assert_eq!(client.ask(post("/empty", "")).await.text(), "/empty 0 ");
    assert_eq!(origin.last().field("content-length"), Some("0"));

    let large: Vec<u8> = (0..6_000_000u32).map(|at| u8::try_from(at * 31 % 251).unwrap()).collect();
    let answer = client.ask(post("/large", large.clone())).await;
    assert_eq!(answer.field("content-length"), Some((large.len() + "/large 6000000 ".len()).to_string().as_str()));
    assert!(answer.body["/large 6000000 ".len()..] == large, "the body came back as it went");
    assert_eq!(origin.last().field("transfer-encoding"), Some("chunked"), "no length was announced");
}

#[tokio::test]
async fn many_requests_share_a_connection_and_none_waits_for_another() {
    let origin = echo().await;
    let gateway = h3::start(Setup::before(&origin)).await;
    let client = Client::connect(&gateway).await;
    let mut all = JoinSet::new();
    for number in 0..60 {
        let mut sender = client.sender.clone();
        all.spawn(async move {
            let stream = sender.send_request(request("GET", &format!("/{number}"), &[]).map(|_| ())).await.unwrap();
            let mut exchange = h3::Exchange { stream };
            exchange.finish().await;
            assert_eq!(exchange.answer().await.unwrap().text(), format!("/{number} 0 "));
        });
    }
    within("all answers", all.join_all()).await;
    assert_eq!(gateway.scrape().await.count("portcullis_connections_accepted_total", &["https"]), 1);
}

#[tokio::test]
async fn a_token_is_asked_for_as_it_is_of_everybody() {
    let origin = Origin::hello().await;
    let gateway = h3::start(Setup::before(&origin)).await;
    let mut client = Client::connect(&gateway).await;
    let refused = client.get("/private/").await;
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    assert!(refused.field("www-authenticate").unwrap().starts_with("Bearer realm="));
    let bearer = format!("Bearer {}", token::good());
    let spoofed = [("authorization", bearer.as_str()), ("x-user-id", "mallory"), ("x-forwarded-for", "10.0.0.1")];
    let permitted = client.ask(request("GET", "/private/", &spoofed)).await;
    assert_eq!((permitted.status(), permitted.text()), (StatusCode::OK, "hello"));
    let forwarded = origin.only();
    assert_eq!((forwarded.all("x-user-id"), forwarded.all("x-forwarded-for")), (vec!["alice"], vec!["127.0.0.2"]));

    let cookies = [("authorization", bearer.as_str()), ("cookie", "a=1"), ("cookie", "b=2")];
    client.ask(request("GET", "/private/", &cookies)).await;
    assert_eq!(origin.last().all("cookie"), ["a=1; b=2"], "split for compression, joined before HTTP/1.1");
}

#[tokio::test]
async fn files_come_whole_and_in_part_and_not_at_all() {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join("site")).unwrap();
    let large: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(home.path().join("site/large.bin"), &large).unwrap();
    std::fs::write(home.path().join("site/small.txt"), "0123456789").unwrap();
    let files = "[[route]]\nname = \"files\"\npath = \"/site/\"\nauth = \"public\"\nfiles = { root = \"site\" }\n";
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).https(ON).tables(files).start_in(home).await;
    let mut client = Client::connect(&gateway).await;
    assert!(client.get("/site/large.bin").await.body == large);
    let small = client.get("/site/small.txt").await;
    assert_eq!((small.text(), small.field("content-length")), ("0123456789", Some("10")));
    let head = client.ask(request("HEAD", "/site/small.txt", &[])).await;
    assert_eq!((head.text(), head.field("content-length")), ("", Some("10")));
    let part = client.ask(request("GET", "/site/small.txt", &[("range", "bytes=2-4")])).await;
    assert_eq!((part.status(), part.text()), (StatusCode::PARTIAL_CONTENT, "234"));
    let known = [("if-none-match", small.field("etag").unwrap())];
    let unchanged = client.ask(request("GET", "/site/small.txt", &known)).await;
    assert_eq!((unchanged.status(), unchanged.text()), (StatusCode::NOT_MODIFIED, ""));
    assert_eq!(client.get("/site/none").await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn an_answer_to_head_has_no_content_whoever_made_it() {
    let origin = Origin::once("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").await;
    let gateway = h3::start(Setup::before(&origin)).await;
    let mut client = Client::connect(&gateway).await;
    for (path, status) in [("/private/", 401), ("/a//b", 400), ("/", 200)] {
        let answer = client.ask(request("HEAD", path, &[])).await;
        assert!(answer.field("content-length") != Some("0"), "{path}: the length a GET would have");
        assert_eq!((answer.status().as_u16(), answer.text()), (status, ""), "{path}");
    }
}

#[tokio::test]
async fn no_answer_has_a_field_of_one_connection_and_trailers_come_last() {
    let answer = "HTTP/1.1 200 OK\r\nConnection: close\r\nKeep-Alive: timeout=5\r\nTransfer-Encoding: chunked\r\n\
        Trailer: X-Sum\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 42\r\n\r\n";
    let origin = Origin::once(answer).await;
    let gateway = h3::start(Setup::before(&origin)).await;
    let mut client = Client::connect(&gateway).await;
    let answer = client.ask(request("GET", "/", &[("te", "trailers")])).await;
    for name in ["connection", "keep-alive", "upgrade", "transfer-encoding"] {
        assert!(answer.field(name).is_none(), "{name}");
    }
    assert_eq!(answer.text(), "hello");
    assert_eq!(answer.trailers.expect("trailers")["x-sum"], "42");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_whole() {
    let origin = Origin::once("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n").await;
    let gateway = h3::start(Setup::before(&origin)).await;
    let mut client = Client::connect(&gateway).await;
    let answer = client.try_ask(request("GET", "/broken", &[])).await;
    assert!(answer.is_err(), "{answer:?}");
    assert!(gateway.access_line("/broken").await.contains("HTTP/3"));
}

#[tokio::test]
async fn a_body_over_the_limit_is_answered_while_it_is_sent() {
    let origin = echo().await;
    let gateway = h3::start(Setup::before(&origin).limits("body_bytes = 100000")).await;
    let mut client = Client::connect(&gateway).await;
    let announced = request("POST", "/", &[("content-length", "100001")]).map(|_| ());
    let mut exchange = client.begin(announced).await;
    exchange.send(vec![0; 1000]).await;
    assert_eq!(exchange.answer().await.expect("an answer").status(), StatusCode::PAYLOAD_TOO_LARGE);

    let mut exchange = client.begin(request("POST", "/", &[]).map(|_| ())).await;
    for _ in 0..11 {
        exchange.send(vec![0; 10_000]).await;
    }
    assert_eq!(exchange.answer().await.expect("an answer").status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert!(origin.requests().is_empty());
    assert_eq!(client.ask(post("/next", "x")).await.text(), "/next 1 x");
}

#[tokio::test]
async fn a_body_is_asked_for_when_it_is_wanted() {
    let origin = echo().await;
    let gateway = h3::start(Setup::before(&origin)).await;
    let mut client = Client::connect(&gateway).await;
    let expecting = |path: &str| request("POST", path, &[("expect", "100-continue")]).map(|_| ());
    let mut exchange = client.begin(expecting("/")).await;
    assert_eq!(exchange.head().await.unwrap().status(), StatusCode::CONTINUE);
    exchange.send("body").await;
    exchange.finish().await;
    assert_eq!(exchange.answer().await.expect("an answer").text(), "/ 4 body");

    let mut refused = client.begin(expecting("/private/")).await;
    assert_eq!(refused.head().await.unwrap().status(), StatusCode::UNAUTHORIZED, "and no 100 before it");
}

#[tokio::test]
async fn a_client_that_vanishes_leaves_nothing_behind() {
    let (_origin, gateway, gate) = gated("idle_timeout_secs = 1").await;
    let mut client = Client::connect(&gateway).await;
    let mut exchange = client.begin(request("GET", "/", &[]).map(|_| ())).await;
    exchange.finish().await;
    gateway.until_metric("portcullis_requests_in_flight", &[], 1).await;
    client.quic.endpoint.rebind_abstract(Arc::new(Mute(h3::socket()))).unwrap();
    for gauge in ["portcullis_requests_in_flight", "portcullis_upstream_leases", "portcullis_connections_open"] {
        gateway.until_metric(gauge, &[], 0).await;
    }
    gate.add_permits(10);
    assert_eq!(Client::connect(&gateway).await.get("/").await.text(), "hello");
}

/// A socket of a client that is gone: it says nothing and hears nothing.
#[derive(Debug)]
struct Mute(UdpSocket);

impl quinn::AsyncUdpSocket for Mute {
    fn create_io_poller(self: Arc<Self>) -> std::pin::Pin<Box<dyn quinn::UdpPoller>> {
        #[derive(Debug)]
        struct Always;
        impl quinn::UdpPoller for Always {
            fn poll_writable(
                self: std::pin::Pin<&mut Self>,
                _: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                std::task::Poll::Ready(Ok(()))
            }
        }
        Box::pin(Always)
    }

    fn try_send(&self, _: &quinn::udp::Transmit<'_>) -> std::io::Result<()> {
        Ok(())
    }

    fn poll_recv(
        &self,
        _: &mut std::task::Context<'_>,
        _: &mut [std::io::IoSliceMut<'_>],
        _: &mut [quinn::udp::RecvMeta],
    ) -> std::task::Poll<std::io::Result<usize>> {
        std::task::Poll::Pending
    }

    fn local_addr(&self) -> std::io::Result<std::net::SocketAddr> {
        self.0.local_addr()
    }
}

#[tokio::test]
async fn requests_that_are_given_up_leave_nothing_behind() {
    let (_origin, gateway, gate) = gated("").await;
    let mut client = Client::connect(&gateway).await;
    for _ in 0..20 {
        let mut exchange = client.begin(request("GET", "/", &[]).map(|_| ())).await;
        exchange.finish().await;
        exchange.stream.stop_sending(::h3::error::Code::H3_REQUEST_CANCELLED);
    }
    for gauge in ["portcullis_requests_in_flight", "portcullis_upstream_leases", "portcullis_upstream_waiting_requests"]
    {
        gateway.until_metric(gauge, &[], 0).await;
    }
    gate.add_permits(100);
    assert_eq!(client.get("/").await.text(), "hello");
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_back_the_origin_and_is_given_up() {
    let sent = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&sent);
    let origin = Origin::start(move |mut conn| {
        let counted = Arc::clone(&counted);
        async move {
            while conn.request().await.is_some() {
                conn.send("HTTP/1.1 200 OK\r\nContent-Length: 67108864\r\n\r\n").await;
                let piece = vec![b'x'; 65536];
                while conn.send(&piece).await {
                    counted.fetch_add(65536, Ordering::SeqCst);
                }
            }
        }
    })
    .await;
    let gateway = h3::start(Setup::before(&origin).limits("write_timeout_secs = 2")).await;
    let quic = Quic::connect(&gateway).await.expect("a handshake");
    let _control = quic.greet().await;
    let head =
        h3::section(&[(":method", "GET"), (":scheme", "https"), (":authority", "site.test"), (":path", "/held")]);
    let (_send, mut recv) = quic.send(&h3::frame(1, &head), true).await;
    // Nothing is read: flow control holds the answer, and with it the upstream's connection, until the time is over.
    gateway.until_metric("portcullis_upstream_leases", &[], 1).await;
    gateway.until_metric("portcullis_upstream_leases", &[], 0).await;
    assert!(sent.load(Ordering::SeqCst) < 32 << 20, "the origin was held back");
    assert!(gateway.access_line("/held").await.contains("client_gone"));
    let ended = within("a reset", recv.read_to_end(1 << 30)).await;
    assert_eq!(ended, Err(quinn::ReadToEndError::Read(quinn::ReadError::Reset(h3::code(0x10c)))));
}

#[tokio::test]
async fn a_client_that_changes_its_address_keeps_its_connection_whichever_worker_has_it() {
    let origin = echo().await;
    let gateway = h3::start(Setup::before(&origin).server("workers = 4")).await;
    let mut client = Client::connect(&gateway).await;
    // The kernel deals each new address to one of four workers at random.
    for number in 0..12 {
        client.quic.endpoint.rebind(h3::socket()).unwrap();
        let path = format!("/{number}");
        assert_eq!(client.get(&path).await.text(), format!("{path} 0 "));
    }
    let scrape = gateway.scrape().await;
    assert_eq!(scrape.count("portcullis_connections_accepted_total", &["https"]), 1);
    assert_eq!(origin.last().field("x-forwarded-for"), Some("127.0.0.2"));
}

#[tokio::test]
async fn a_connection_counts_under_the_limit_and_proves_its_address_when_places_are_short() {
    let origin = Origin::hello().await;
    let gateway = h3::start(Setup::before(&origin).limits("connections = 2")).await;
    let attempts = |outcome: &'static str| {
        let gateway = &gateway;
        async move { gateway.scrape().await.count("portcullis_quic_attempts_total", &["https", outcome]) }
    };
    let mut old = OldClient::plain(gateway.http).await;
    assert_eq!(old.get("/").await.status(), 200);
    let mut client = Client::connect(&gateway).await;
    assert_eq!(client.get("/").await.text(), "hello");
    // A client that is not answered at once asks again, so there may be more than one.
    assert!(attempts("retried").await >= 1 && attempts("accepted").await >= 1);

    let refused = Quic::connect(&gateway).await.err();
    assert!(matches!(&refused, Some(ConnectionError::ConnectionClosed(_))), "{refused:?}");
    assert!(attempts("refused").await >= 1);
    drop(old);
    gateway.until_metric("portcullis_connections_open", &["listener=\"http\""], 0).await;
    let mut next = Client::connect(&gateway).await;
    assert_eq!(next.get("/").await.text(), "hello");
}

#[tokio::test]
async fn a_reload_changes_the_certificate_of_the_next_connection_and_keeps_this_one() {
    let origin = Origin::hello().await;
    let gateway = h3::start(Setup::before(&origin)).await;
    let mut client = Client::connect(&gateway).await;
    let before = gateway.generation().await;
    let certificate = tls::certificate(gateway.home(), "site");
    gateway.until_generation(before + 1).await;
    assert_eq!(client.get("/").await.text(), "hello");
    assert!(Quic::connect(&gateway).await.is_err(), "the old certificate is shown no more");
    let mut next = Client::over(Quic::with(&gateway, h3::trusting([certificate])).await.expect("a handshake")).await;
    assert_eq!(next.get("/").await.text(), "hello");
}

#[tokio::test]
async fn a_reload_that_turns_it_off_closes_the_socket_when_the_last_answer_is_sent() {
    let (_origin, gateway, gate) = gated("").await;
    let mut client = Client::connect(&gateway).await;
    let mut exchange = client.begin(request("GET", "/", &[]).map(|_| ())).await;
    exchange.finish().await;
    gateway.until_metric("portcullis_requests_in_flight", &[], 1).await;
    gateway.edit(|text| text.replace("http3 = true", "http3 = false"));
    gateway.until_generation(2).await;
    gate.add_permits(10);
    assert_eq!(exchange.answer().await.expect("an answer").text(), "hello");
    assert_eq!(client.quic.closed_with().await, 0x100);
    let free = || async { UdpSocket::bind(gateway.https).ok() };
    drop(eventually("a closed socket", free).await);
    assert_eq!(OldClient::tls(&gateway).await.get("/").await.field("alt-svc"), None);

    gateway.edit(|text| text.replace("http3 = false", "http3 = true"));
    gateway.until_generation(3).await;
    assert_eq!(Client::connect(&gateway).await.get("/").await.text(), "hello");
}

#[tokio::test]
async fn a_drain_says_so_and_answers_what_was_sent() {
    let (_origin, mut gateway, gate) = gated("").await;
    let mut client = Client::connect(&gateway).await;
    let idle = Client::connect(&gateway).await;
    let mut all = Vec::new();
    for _ in 0..20 {
        let mut exchange = client.begin(request("GET", "/", &[]).map(|_| ())).await;
        exchange.finish().await;
        all.push(exchange);
    }
    gateway.until_metric("portcullis_requests_in_flight", &[], 20).await;
    gateway.signal("TERM");
    assert_eq!(idle.quic.closed_with().await, 0x100, "after one more moment");
    gate.add_permits(20);
    for mut exchange in all {
        assert_eq!(exchange.answer().await.expect("an answer").text(), "hello");
    }
    assert_eq!(client.quic.closed_with().await, 0x100);
    assert_eq!(gateway.exit().await.code(), Some(0));
}

#[tokio::test]
async fn a_drain_tells_those_that_it_cuts() {
    let origin = Origin::start(|mut conn| async move {
        conn.request().await;
        conn.until_closed().await;
    })
    .await;
    let mut gateway = h3::start(Setup::before(&origin).server("workers = 1\ndrain_secs = 2")).await;
    let mut client = Client::connect(&gateway).await;
    let mut exchange = client.begin(request("GET", "/", &[]).map(|_| ())).await;
    exchange.finish().await;
    gateway.until_metric("portcullis_requests_in_flight", &[], 1).await;
    gateway.signal("TERM");
    assert!(exchange.answer().await.is_err());
    assert_eq!(client.quic.closed_with().await, 0x100, "it does not have to find out by itself");
    assert_eq!(gateway.exit().await.code(), Some(0));
}

#[tokio::test]
async fn without_a_route_or_a_host_it_is_as_with_every_protocol() {
    let origin = Origin::hello().await;
    let gateway = h3::start(Setup::before(&origin)).await;
    let mut client = Client::connect(&gateway).await;
    for (path, status) in [("/a/../b", 400), ("/a%2Fb", 400), ("/a//b", 400)] {
        assert_eq!(client.get(path).await.status().as_u16(), status, "{path}");
    }
    assert!(origin.bytes().is_empty());
    let trace = request("TRACE", "/", &[]);
    assert_eq!(client.ask(trace).await.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn a_host_of_another_certificate_is_answered_421_and_every_answer_says_how_long_tls_is_kept_to() {
    let home = tempfile::tempdir().unwrap();
    let shop = tls::certificate_for(home.path(), "shop", &["shop.test"]);
    tls::certificate_for(home.path(), "blog", &["blog.test"]);
    let port = Port::reserve();
    let sites = format!(
        "[listen.sites]\naddress = \"{}\"\n{ON}\nhsts = {{ max_age_secs = 300 }}\n\
         certificates = [{{ cert = \"shop.crt\", key = \"shop.key\" }}, {{ cert = \"blog.crt\", key = \"blog.key\" }}]\n",
        port.address
    );
    let origin = Origin::hello().await;
    let _gateway = Setup::before(&origin).tables(&sites).start_in(home).await;
    let quic = Quic::to("shop.test", port.address, h3::trusting([shop])).await.expect("a handshake");
    let mut client = Client::over(quic).await;
    for (host, status) in [("shop.test", 200), ("blog.test", 421), ("else.test", 200)] {
        let request = Request::get(format!("https://{host}/")).body(Bytes::new()).unwrap();
        let answer = client.ask(request).await;
        assert_eq!(answer.status().as_u16(), status, "{host}");
        assert_eq!(answer.field("strict-transport-security"), Some("max-age=300"), "{host}");
    }
}
