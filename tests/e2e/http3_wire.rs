//! HTTP/3 byte by byte: what no well-behaved client sends is refused, and never more than one stream or one connection pays for it.

use std::time::Duration;

use crate::support::gateway::{Gateway, Setup};
use crate::support::h3::{self, Client, Quic, Taken, code, frame, request, section, varint};
use crate::support::malformed::{self, GOOD};
use crate::support::origin::Origin;
use crate::support::{eventually, within};

const DATA: usize = 0x0;
const HEADERS: usize = 0x1;
const GREASE: usize = 0x21;

const POST: [(&str, &str); 4] =
    [(":method", "POST"), (":scheme", "https"), (":authority", "site.test"), (":path", "/")];

const NO_ERROR: u64 = 0x100;
const CLOSED_CRITICAL_STREAM: u64 = 0x104;
const FRAME_UNEXPECTED: u64 = 0x105;
const FRAME_ERROR: u64 = 0x106;
const EXCESSIVE_LOAD: u64 = 0x107;
const REQUEST_INCOMPLETE: u64 = 0x10d;
const MESSAGE_ERROR: u64 = 0x10e;

fn head(fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, &section(fields))
}

async fn stage() -> (Origin, Gateway) {
    let origin = Origin::hello().await;
    let gateway = h3::start(Setup::before(&origin)).await;
    (origin, gateway)
}

async fn connect(gateway: &Gateway) -> (Quic, quinn::SendStream) {
    let quic = Quic::connect(gateway).await.expect("a handshake");
    let control = quic.greet().await;
    (quic, control)
}

#[tokio::test]
async fn fields_of_one_connection_and_other_malformed_requests_are_refused() {
    let (origin, gateway) = stage().await;
    let (quic, _control) = connect(&gateway).await;
    assert!(matches!(quic.taken(&head(&GOOD)).await, Taken::Answered(_)));
    assert_eq!(origin.requests().len(), 1);
    for (what, fields) in malformed::heads().into_iter().chain(malformed::request_lines()) {
        assert_eq!(quic.taken(&head(&fields)).await, Taken::Reset(MESSAGE_ERROR), "{what}");
    }
    let ours_alone = [
        ("another host", [&GOOD[..], &[("host", "other.test")]].concat()),
        ("a tunnel", vec![(":method", "CONNECT"), (":authority", "site.test:443")]),
    ];
    for (what, fields) in malformed::targets().into_iter().chain(ours_alone) {
        quic.taken(&head(&fields)).await; // by 400, 405 or a reset
        assert_eq!(origin.requests().len(), 1, "{what} reached the origin");
    }
    assert!(matches!(quic.taken(&head(&GOOD)).await, Taken::Answered(_)), "the connection has seen worse");
}

#[tokio::test]
async fn a_body_that_breaks_off_is_never_whole() {
    let (origin, gateway) = stage().await;
    let long = "abandoned".repeat(10_000); // more than is read ahead of asking for an upstream
    let announced = [&POST[..], &[("content-length", "90000")]].concat();
    let body = |payload: &str| frame(DATA, payload.as_bytes());

    // Within a frame, by an end that is none: the connection is over.
    let (quic, _control) = connect(&gateway).await;
    let cut = [head(&POST), body(&long)].concat();
    let taken = quic.taken(&cut[..cut.len() - 5]).await;
    assert_eq!(taken, Taken::Closed(FRAME_ERROR));

    // Shorter or longer than announced: the request is over, and the connection goes on.
    let (quic, _control) = connect(&gateway).await;
    for wrong in [&long[..89_000], &long.repeat(2)] {
        let taken = quic.taken(&[head(&announced), body(wrong)].concat()).await;
        assert!(!matches!(&taken, Taken::Closed(_)), "{taken:?}");
    }
    // Reset.
    let (mut send, _recv) = quic.send(&[head(&POST), body(&long)].concat(), false).await;
    let begun = || async { String::from_utf8_lossy(&origin.bytes()).contains("\r\nabandoned").then_some(()) };
    eventually("its beginning", begun).await;
    send.reset(code(0x10c)).unwrap();
    for gauge in ["portcullis_requests_in_flight", "portcullis_upstream_leases"] {
        gateway.until_metric(gauge, &[], 0).await;
    }
    assert!(origin.requests().is_empty(), "none of them was whole: {:?}", origin.targets());
    assert!(matches!(quic.taken(&head(&GOOD)).await, Taken::Answered(_)));
}

#[tokio::test]
async fn empty_and_unknown_frames_mean_nothing() {
    let (origin, gateway) = stage().await;
    let (quic, _control) = connect(&gateway).await;
    let parts = [
        frame(GREASE, &[7; 100]),
        head(&POST),
        frame(DATA, b""),
        frame(DATA, b"one"),
        frame(GREASE, b""),
        frame(DATA, b""),
        frame(DATA, b"two"),
        head(&[("x-trailer", "1")]),
    ];
    assert!(matches!(quic.taken(&parts.concat()).await, Taken::Answered(_)));
    let request = origin.only();
    assert_eq!((request.text().as_str(), request.field("x-trailer")), ("onetwo", None));
}

#[tokio::test]
async fn a_request_whose_end_comes_late_has_no_body_all_the_same() {
    let (origin, gateway) = stage().await;
    let (quic, _control) = connect(&gateway).await;
    let (mut send, mut recv) = quic.send(&head(&GOOD), false).await;
    gateway.until_metric("portcullis_requests_in_flight", &[], 1).await;
    send.finish().unwrap();
    assert!(within("an answer", recv.read_to_end(1 << 16)).await.unwrap().ends_with(b"hello"));
    let request = origin.only();
    assert_eq!((request.field("transfer-encoding"), request.field("content-length")), (None, None));
}

#[tokio::test]
async fn frames_that_may_not_be_there_end_the_connection() {
    let (origin, gateway) = stage().await;
    for (what, stream, expected) in [
        ("content without a head", frame(DATA, b"x"), FRAME_UNEXPECTED),
        ("settings on a request", [head(&GOOD), frame(0x4, b"")].concat(), FRAME_UNEXPECTED),
        ("a frame of HTTP/2", frame(0x6, b""), FRAME_UNEXPECTED),
        ("a head that is no QPACK", frame(HEADERS, b"\x00\x00\x80"), 0x200),
        ("a head cut short", head(&GOOD)[..20].to_vec(), FRAME_ERROR),
    ] {
        let (quic, _control) = connect(&gateway).await;
        assert_eq!(quic.taken(&stream).await, Taken::Closed(expected), "{what}");
    }
    let (quic, _control) = connect(&gateway).await;
    assert_eq!(quic.taken(b"").await, Taken::Reset(REQUEST_INCOMPLETE), "no request at all");
    let reached = origin.requests();
    assert!(reached.is_empty(), "{reached:?}");
}

#[tokio::test]
async fn the_clients_control_streams_are_held_to_their_rules() {
    let (_origin, gateway) = stage().await;
    for (what, streams, expected) in [
        ("no settings first", vec![&[0x0, 0x21, 0x0][..]], 0x10a),
        ("two control streams", vec![&[0x0, 0x4, 0x0], &[0x0, 0x4, 0x0]], 0x103),
        ("a setting of HTTP/2", vec![&[0x0, 0x4, 0x2, 0x3, 0x1]], 0x109),
        ("content on a control stream", vec![&[0x0, 0x4, 0x0, 0x0, 0x0]], FRAME_UNEXPECTED),
        ("a push by a client", vec![&[0x1]], 0x103),
        ("an insertion into no table", vec![&[0x2, 0x80, 0x1]], 0x201),
        ("an acknowledgement of nothing", vec![&[0x3, 0x80]], 0x202),
        ("settings without end", vec![&[0x0, 0x4, 0xbf, 0xff, 0xff, 0xff]], EXCESSIVE_LOAD),
    ] {
        let quic = Quic::connect(&gateway).await.expect("a handshake");
        let mut kept = Vec::new();
        for stream in streams {
            kept.push(quic.say(stream).await);
        }
        assert_eq!(quic.closed_with().await, expected, "{what}");
    }
    let (quic, mut control) = connect(&gateway).await;
    control.finish().unwrap();
    assert_eq!(quic.closed_with().await, CLOSED_CRITICAL_STREAM);

    let (quic, _control) = connect(&gateway).await;
    let unknown = quic.say(&[0x21, 1, 2, 3]).await;
    assert_eq!(within("a refusal", unknown.stopped()).await.unwrap(), Some(code(0x103)));
    assert!(matches!(quic.taken(&head(&GOOD)).await, Taken::Answered(_)), "unknown streams are no error");
}

#[tokio::test]
async fn a_head_over_its_limit_is_answered_and_not_held() {
    let (origin, gateway) = stage().await;
    let (quic, _control) = connect(&gateway).await;
    let large = "x".repeat(17_000);
    let fields = [&GOOD[..], &[("x-large", large.as_str())]].concat();
    let Taken::Answered(answer) = quic.taken(&head(&fields)).await else { panic!("no answer") };
    assert!(String::from_utf8_lossy(&answer).contains("the request head is too large"));

    // One that claims to be endless is answered before it has come.
    let (mut send, mut recv) = quic.send(&[varint(HEADERS), varint(1 << 29), vec![0; 1000]].concat(), false).await;
    let answer = within("an answer", recv.read_to_end(10_000)).await.unwrap();
    assert!(String::from_utf8_lossy(&answer).contains("the request head is too large"));
    let stopped = async { while send.write_all(&[0; 1000]).await.is_ok() {} };
    within("no more of it is wanted", stopped).await;

    let many: Vec<String> = (0..110).map(|number| format!("x-{number}")).collect();
    let many: Vec<_> = many.iter().map(|name| (name.as_str(), "1")).collect();
    let mut client = Client::connect(&gateway).await;
    assert_eq!(client.ask(request("GET", "/", &many)).await.status(), 431);
    assert!(origin.requests().is_empty());
    assert!(matches!(quic.taken(&head(&GOOD)).await, Taken::Answered(_)));
}

#[tokio::test]
async fn a_head_that_never_comes_whole_is_given_up_in_time() {
    let origin = Origin::hello().await;
    let gateway = h3::start(Setup::before(&origin).limits("header_timeout_secs = 0.5")).await;
    let (quic, _control) = connect(&gateway).await;
    let (_send, mut recv) = quic.send(&head(&GOOD)[..30], false).await;
    let ended = within("a reset", recv.read_to_end(10)).await;
    let expected = quinn::ReadToEndError::Read(quinn::ReadError::Reset(code(0x10d)));
    assert_eq!(ended, Err(expected));
    assert!(matches!(quic.taken(&head(&GOOD)).await, Taken::Answered(_)), "the others are not touched");
}

#[tokio::test]
async fn a_flood_of_requests_that_are_given_up_ends_the_connection() {
    let origin = Origin::start(|mut conn| async move {
        while conn.request().await.is_some() {
            tokio::time::sleep(Duration::from_millis(20)).await;
            conn.send(crate::support::origin::HELLO).await;
        }
    })
    .await;
    let gateway = h3::start(Setup::before(&origin)).await;
    let (quic, _control) = connect(&gateway).await;
    let flood = async {
        while let Ok((mut send, mut recv)) = quic.connection.open_bi().await {
            if send.write_all(&head(&POST)).await.is_err() {
                return;
            }
            send.reset(code(0x10c)).ok();
            recv.stop(code(0x10c)).ok();
        }
    };
    within("an end of the flood", flood).await;
    assert_eq!(quic.closed_with().await, EXCESSIVE_LOAD);
    for gauge in ["portcullis_requests_in_flight", "portcullis_upstream_leases", "portcullis_upstream_waiting_requests"]
    {
        gateway.until_metric(gauge, &[], 0).await;
    }
    let mut client = Client::connect(&gateway).await;
    assert_eq!(client.get("/").await.text(), "hello");
}

#[tokio::test]
async fn no_more_streams_are_open_than_are_allowed() {
    let origin = Origin::hello().await;
    let gateway = h3::start(Setup::before(&origin).limits("http2_streams = 2")).await;
    let (quic, _control) = connect(&gateway).await;
    let first = quic.send(&head(&POST), false).await;
    let _second = quic.send(&head(&POST), false).await;
    let third = quic.connection.open_bi();
    assert!(tokio::time::timeout(Duration::from_millis(300), third).await.is_err(), "two are open");
    let (mut send, mut recv) = first;
    send.finish().unwrap();
    assert!(!within("an answer", recv.read_to_end(1 << 16)).await.unwrap().is_empty());
    within("the place of the first", quic.connection.open_bi()).await.unwrap();
}

#[tokio::test]
async fn an_idle_connection_is_bidden_farewell_and_one_at_work_is_not() {
    let origin = Origin::start(|mut conn| async move {
        while conn.request().await.is_some() {
            tokio::time::sleep(Duration::from_millis(2500)).await;
            conn.send(crate::support::origin::HELLO).await;
        }
    })
    .await;
    let gateway = h3::start(Setup::before(&origin).limits("idle_timeout_secs = 1")).await;
    let (quic, _control) = connect(&gateway).await;
    let Taken::Answered(answer) = quic.taken(&head(&GOOD)).await else { panic!("no answer") };
    assert!(answer.ends_with(b"hello"), "silence is no idleness while an answer is made");
    let mut greeting = within("the gateway's control stream", quic.connection.accept_uni()).await.unwrap();
    // GOAWAY for no stream in particular, then for those that were not opened.
    let said = async {
        let mut said = Vec::new();
        while let Ok(Some(chunk)) = greeting.read_chunk(1000, true).await {
            said.extend_from_slice(&chunk.bytes);
        }
        said
    };
    let said = within("what the gateway says", said).await;
    assert!(said.ends_with(&[0x7, 0x8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfc, 0x7, 0x1, 0x4]), "{said:x?}");
    assert_eq!(quic.closed_with().await, NO_ERROR);
}

#[tokio::test]
async fn a_request_behind_the_last_goaway_is_told_that_it_was_not_looked_at() {
    let (origin, gate) = Origin::gated().await;
    let gateway = h3::start(Setup::before(&origin)).await;
    let (quic, _control) = connect(&gateway).await;
    let (_send, mut recv) = quic.send(&head(&GOOD), true).await;
    gateway.until_metric("portcullis_requests_in_flight", &[], 1).await;
    gateway.signal("TERM");
    // On their way when the farewell came, these are still taken; those behind the last word are not.
    let refused = eventually("a request that is refused", || async {
        let (_send, mut recv) = quic.send(&head(&POST), false).await;
        match tokio::time::timeout(Duration::from_millis(100), recv.read_to_end(10)).await {
            Ok(Err(quinn::ReadToEndError::Read(quinn::ReadError::Reset(code)))) => Some(code.into_inner()),
            _ => None,
        }
    })
    .await;
    assert_eq!(refused, 0x10b, "it may be sent again elsewhere");
    gate.add_permits(1);
    assert!(within("an answer", recv.read_to_end(1 << 16)).await.unwrap().ends_with(b"hello"));
}
