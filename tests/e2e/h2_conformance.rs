//! What RFC 9113 demands of a server, section by section: a table of frames that a client must not send, and how each is answered.
//!
//! The sections and cases follow those of the tool h2spec, but the table is our own and smaller: the tool is not part of these tests.
//! An error of a stream may be treated as one of the connection (section 5.4). The parser says `PROTOCOL_ERROR` where the RFC has a more
//! exact code, of frame sizes and compression above all; each row has what it says.

use crate::support::frames::{
    self, ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, GET, GOAWAY, HEADERS,
    PADDED, PING, POST, PRIORITY, PROTOCOL_ERROR, PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE, WITH_PRIORITY,
    frame, get, literal, post, reset, settings, window_update,
};
use crate::support::gateway::{Gateway, Setup};
use crate::support::origin::Origin;

/// How the gateway answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// The request on this stream is answered with 200, the first entry of the static table that can be.
    Response(u32),
    /// It is answered otherwise.
    Refused(u32),
    /// The stream is reset with a code.
    Reset(u32, u32),
    /// GOAWAY with a code, and the end of the connection.
    GoAway(u32),
    /// The same PING comes back.
    Pong,
}
use Answer::{GoAway, Pong, Refused, Reset, Response};

type Row = (&'static str, &'static str, Vec<u8>, Answer);

/// Sends each row on a connection of its own.
async fn judge(rows: Vec<Row>) {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).start().await;
    let mut wrong = Vec::new();
    for (section, what, bytes, expected) in rows {
        let answer = answered(&gateway, &bytes).await;
        if answer != Some(expected) {
            wrong.push(format!("section {section}: {what}: {answer:?}, not {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The first answer that is no part of opening a connection and no `WINDOW_UPDATE`.
async fn answered(gateway: &Gateway, bytes: &[u8]) -> Option<Answer> {
    let (mut sender, mut receiver) = frames::open(gateway, &[]).await;
    assert!(sender.send(bytes).await);
    loop {
        let frame = receiver.next().await?;
        return Some(match frame.kind {
            HEADERS if frame.payload[0] == 0x88 => Response(frame.stream),
            HEADERS => Refused(frame.stream),
            RST_STREAM => Reset(frame.stream, frame.code()),
            PING if frame.is_ack() => Pong,
            GOAWAY => {
                assert_eq!(receiver.until_end().await, None, "the connection ends behind it");
                GoAway(frame.code())
            }
            _ => continue,
        });
    }
}

/// A PING: whoever answers it has read what came before and found nothing wrong with it.
fn ping() -> Vec<u8> {
    frame(PING, 0, 0, b"in order")
}

fn with_fields(more: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, 1, &literal(&[&GET[..], more].concat()))
}

fn head_of(fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, 1, &literal(fields))
}

#[tokio::test]
async fn a_connection_begins_with_the_preface() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).start().await;
    let (mut sender, mut receiver) = frames::silent(&gateway).await;
    assert!(sender.send(&[b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", &settings(&[])[..]].concat()).await);
    let end = receiver.until_end().await;
    assert!(end.is_none_or(|code| code == PROTOCOL_ERROR), "section 3.4: {end:?}");
    assert!(origin.requests().is_empty());
}

#[tokio::test]
async fn frames_are_formed_as_section_4_says() {
    let too_long = vec![0; 16_385];
    let one = literal(&GET);
    judge(vec![
        ("4.1", "a frame of an unknown kind is ignored", [frame(0xfe, 0xff, 0, b"x"), ping()].concat(), Pong),
        ("4.1", "undefined flags are ignored", frame(PING, 0x16, 0, b"flagged!"), Pong),
        ("4.1", "the reserved bit is ignored", frame(PING, 0, 0x8000_0000, b"reserved"), Pong),
        (
            "4.2",
            "DATA over the longest frame",
            [post(1), frame(DATA, 0, 1, &too_long)].concat(),
            GoAway(FRAME_SIZE_ERROR),
        ),
        ("4.2", "HEADERS over it", frame(HEADERS, 5, 1, &too_long), GoAway(FRAME_SIZE_ERROR)),
        ("4.3", "a head that can't be decoded", frame(HEADERS, 5, 1, &[0x40]), GoAway(PROTOCOL_ERROR)),
        (
            "4.3",
            "PRIORITY inside of a head",
            [frame(HEADERS, END_STREAM, 1, &one), frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1])].concat(),
            GoAway(PROTOCOL_ERROR),
        ),
        (
            "4.3",
            "another stream's head inside of a head",
            [frame(HEADERS, END_STREAM, 1, &one), get(3)].concat(),
            GoAway(PROTOCOL_ERROR),
        ),
    ])
    .await;
}

#[tokio::test]
async fn streams_live_as_section_5_says() {
    let fields = literal(&GET);
    let depends_on_itself = [&[0, 0, 0, 1, 16][..], &fields].concat();
    judge(vec![
        ("5.1", "DATA on an idle stream", frame(DATA, 0, 1, b"x"), GoAway(PROTOCOL_ERROR)),
        ("5.1", "RST_STREAM on an idle stream", reset(1, 8), GoAway(PROTOCOL_ERROR)),
        ("5.1", "WINDOW_UPDATE on an idle stream", window_update(1, 1), GoAway(PROTOCOL_ERROR)),
        ("5.1", "CONTINUATION on an idle stream", frame(CONTINUATION, 4, 1, &fields), GoAway(PROTOCOL_ERROR)),
        ("5.1", "PRIORITY on an idle stream is fine", [frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1]), ping()].concat(), Pong),
        ("5.1", "DATA behind the end", [get(1), frame(DATA, 0, 1, b"x")].concat(), GoAway(PROTOCOL_ERROR)),
        ("5.1", "a second head behind the end", [get(1), get(1)].concat(), GoAway(PROTOCOL_ERROR)),
        (
            "5.1",
            "WINDOW_UPDATE behind a reset is ignored",
            [get(1), reset(1, 8), window_update(1, 1), ping()].concat(),
            Pong,
        ),
        ("5.1.1", "an even number", get(2), GoAway(PROTOCOL_ERROR)),
        ("5.1.1", "a smaller number than before", [reset_after(get(5), 5), get(3)].concat(), GoAway(PROTOCOL_ERROR)),
        (
            "5.3.1",
            "a stream that depends on itself",
            frame(HEADERS, 5 | WITH_PRIORITY, 1, &depends_on_itself),
            Reset(1, PROTOCOL_ERROR),
        ),
        ("5.4.1", "an unknown stream's GOAWAY ends nothing yet", [frame(GOAWAY, 0, 0, &[0; 8]), ping()].concat(), Pong),
        (
            "5.5",
            "an extension's frame inside of a head",
            [frame(HEADERS, END_STREAM, 1, &fields), frame(0xfe, 0, 0, b"x")].concat(),
            GoAway(PROTOCOL_ERROR),
        ),
    ])
    .await;
}

fn reset_after(request: Vec<u8>, stream: u32) -> Vec<u8> {
    [request, reset(stream, 8)].concat()
}

#[tokio::test]
async fn data_headers_and_priority_are_as_sections_6_1_to_6_4_say() {
    let fields = literal(&GET);
    judge(vec![
        ("6.1", "DATA of no stream", frame(DATA, 0, 0, b"x"), GoAway(PROTOCOL_ERROR)),
        (
            "6.1",
            "DATA with more padding than there is",
            [post(1), frame(DATA, PADDED | 1, 1, &[6, 0, 0])].concat(),
            GoAway(PROTOCOL_ERROR),
        ),
        (
            "6.1",
            "DATA with padding is fine",
            [post(1), frame(DATA, PADDED | 1, 1, &[2, b'x', 0, 0])].concat(),
            Response(1),
        ),
        ("6.2", "HEADERS of no stream", frame(HEADERS, 5, 0, &fields), GoAway(PROTOCOL_ERROR)),
        (
            "6.2",
            "HEADERS with more padding than there is",
            frame(HEADERS, 5 | PADDED, 1, &[&[255], &fields[..]].concat()),
            GoAway(PROTOCOL_ERROR),
        ),
        (
            "6.2",
            "HEADERS with padding and a priority are fine",
            frame(HEADERS, 5 | PADDED | WITH_PRIORITY, 1, &[&[2, 0, 0, 0, 0, 9], &fields[..], &[0, 0]].concat()),
            Response(1),
        ),
        ("6.3", "PRIORITY of no stream", frame(PRIORITY, 0, 0, &[0, 0, 0, 0, 1]), GoAway(PROTOCOL_ERROR)),
        (
            "6.3",
            "PRIORITY of another length",
            [post(1), frame(PRIORITY, 0, 1, &[0; 4])].concat(),
            GoAway(PROTOCOL_ERROR),
        ),
        ("6.4", "RST_STREAM of no stream", reset(0, 8), GoAway(PROTOCOL_ERROR)),
        (
            "6.4",
            "RST_STREAM of another length",
            [post(1), frame(RST_STREAM, 0, 1, &[0; 3])].concat(),
            GoAway(PROTOCOL_ERROR),
        ),
    ])
    .await;
}

#[tokio::test]
async fn settings_are_as_section_6_5_says() {
    judge(vec![
        ("6.5", "an acknowledgement with a payload", frame(SETTINGS, ACK, 0, &[0; 6]), GoAway(PROTOCOL_ERROR)),
        ("6.5", "SETTINGS of a stream", frame(SETTINGS, 0, 1, &[]), GoAway(PROTOCOL_ERROR)),
        ("6.5", "SETTINGS of another length", frame(SETTINGS, 0, 0, &[0; 5]), GoAway(PROTOCOL_ERROR)),
        ("6.5.2", "ENABLE_PUSH that is no flag", settings(&[(2, 2)]), GoAway(PROTOCOL_ERROR)),
        ("6.5.2", "INITIAL_WINDOW_SIZE over the largest", settings(&[(4, 0x8000_0000)]), GoAway(PROTOCOL_ERROR)),
        ("6.5.2", "MAX_FRAME_SIZE below the smallest", settings(&[(5, 16_383)]), GoAway(PROTOCOL_ERROR)),
        ("6.5.2", "MAX_FRAME_SIZE over the largest", settings(&[(5, 0x100_0000)]), GoAway(PROTOCOL_ERROR)),
        ("6.5.2", "an unknown setting is ignored", [settings(&[(0xff, 1)]), ping()].concat(), Pong),
        (
            "6.5.3",
            "of one setting twice the last counts",
            [settings(&[(4, 0), (4, 65_535)]), get(1)].concat(),
            Response(1),
        ),
        ("6.5.3", "an acknowledgement of nothing", frame(SETTINGS, ACK, 0, &[]), GoAway(PROTOCOL_ERROR)),
    ])
    .await;
}

#[tokio::test]
async fn the_other_frames_are_as_sections_6_6_to_6_10_say() {
    let fields = literal(&GET);
    let head = frame(HEADERS, END_STREAM, 1, &fields[..20]);
    let last = frame(CONTINUATION, END_HEADERS, 1, &fields[20..]);
    judge(vec![
        ("6.6", "a client's PUSH_PROMISE", frame(PUSH_PROMISE, 4, 1, &[0, 0, 0, 2]), GoAway(PROTOCOL_ERROR)),
        ("6.7", "PING", ping(), Pong),
        ("6.7", "PING that answers nothing is ignored", [frame(PING, ACK, 0, &[7; 8]), ping()].concat(), Pong),
        ("6.7", "PING of a stream", frame(PING, 0, 1, &[0; 8]), GoAway(PROTOCOL_ERROR)),
        ("6.7", "PING of another length", frame(PING, 0, 0, &[0; 6]), GoAway(PROTOCOL_ERROR)),
        ("6.8", "GOAWAY of a stream", frame(GOAWAY, 0, 1, &[0; 8]), GoAway(PROTOCOL_ERROR)),
        ("6.9", "WINDOW_UPDATE by nothing", window_update(0, 0), GoAway(PROTOCOL_ERROR)),
        ("6.9", "a stream's WINDOW_UPDATE by nothing", [post(1), window_update(1, 0)].concat(), GoAway(PROTOCOL_ERROR)),
        ("6.9", "WINDOW_UPDATE of another length", frame(WINDOW_UPDATE, 0, 0, &[0; 3]), GoAway(PROTOCOL_ERROR)),
        ("6.9.1", "a window over the largest", window_update(0, 0x7fff_ffff), GoAway(FLOW_CONTROL_ERROR)),
        (
            "6.9.1",
            "a stream's window over the largest",
            [post(1), window_update(1, 0x7fff_ffff)].concat(),
            Reset(1, FLOW_CONTROL_ERROR),
        ),
        (
            "6.9.2",
            "a setting that makes a window overflow",
            [post(1), window_update(1, 0x7fff_0000), settings(&[(4, 0x7fff_ffff)])].concat(),
            GoAway(FLOW_CONTROL_ERROR),
        ),
        ("6.10", "a head in two frames", [head.clone(), last.clone()].concat(), Response(1)),
        (
            "6.10",
            "CONTINUATION of no stream",
            [head.clone(), frame(CONTINUATION, 4, 0, &fields[20..])].concat(),
            GoAway(PROTOCOL_ERROR),
        ),
        (
            "6.10",
            "CONTINUATION of another stream",
            [head, frame(CONTINUATION, 4, 3, &fields[20..])].concat(),
            GoAway(PROTOCOL_ERROR),
        ),
        ("6.10", "CONTINUATION behind a whole head", [post(1), last].concat(), GoAway(PROTOCOL_ERROR)),
    ])
    .await;
}

#[tokio::test]
async fn requests_are_as_section_8_says() {
    let trailers = |fields: &[(&str, &str)], flags| frame(HEADERS, flags, 1, &literal(fields));
    let with_length = |length: &'static str| {
        frame(HEADERS, END_HEADERS, 1, &literal(&[&POST[..], &[("content-length", length)]].concat()))
    };
    let bad = Reset(1, PROTOCOL_ERROR);
    judge(vec![
        (
            "7",
            "an unknown code in GOAWAY is ignored",
            [frame(GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 0xff]), ping()].concat(),
            Pong,
        ),
        ("8.1", "trailers that do not end the stream", [post(1), trailers(&[("x", "y")], END_HEADERS)].concat(), bad),
        ("8.1", "trailers", [post(1), trailers(&[("x", "y")], 5)].concat(), Response(1)),
        (
            "8.1",
            "a pseudo-field in trailers is dropped with them",
            [post(1), trailers(&[(":path", "/")], 5)].concat(),
            Response(1),
        ),
        ("8.1.1", "DATA short of the length", [with_length("2"), frame(DATA, 1, 1, b"x")].concat(), bad),
        (
            "8.1.1",
            "DATA over the length",
            [with_length("1"), frame(DATA, 0, 1, b"x"), frame(DATA, 1, 1, b"y")].concat(),
            bad,
        ),
        ("8.2.1", "a name in capitals", with_fields(&[("X-Capital", "1")]), GoAway(PROTOCOL_ERROR)),
        ("8.2.1", "a line end in a value", with_fields(&[("x", "a\r\nb")]), GoAway(PROTOCOL_ERROR)),
        ("8.2.2", "connection", with_fields(&[("connection", "keep-alive")]), bad),
        ("8.2.2", "transfer-encoding", with_fields(&[("transfer-encoding", "chunked")]), bad),
        ("8.2.2", "te that is not trailers", with_fields(&[("te", "trailers, deflate")]), bad),
        ("8.2.2", "te: trailers", with_fields(&[("te", "trailers")]), Response(1)),
        ("8.3", "an unknown pseudo-field", with_fields(&[(":test", "ok")]), GoAway(PROTOCOL_ERROR)),
        ("8.3", "a pseudo-field of responses", with_fields(&[(":status", "200")]), bad),
        ("8.3", "a pseudo-field behind a field", head_of(&[&GET[..3], &[("x", "y"), (":path", "/")]].concat()), bad),
        ("8.3.1", "an empty path", head_of(&[&GET[..3], &[(":path", "")]].concat()), bad),
        ("8.3.1", "no method", head_of(&GET[1..]), bad),
        ("8.3.1", "no scheme", head_of(&[&GET[..1], &GET[2..]].concat()), bad),
        ("8.3.1", "no path", head_of(&GET[..3]), bad),
        ("8.3.1", "two methods", with_fields(&[(":method", "GET")]), bad),
        ("8.3.1", "two paths", with_fields(&[(":path", "/")]), bad),
    ])
    .await;
}

#[tokio::test]
async fn heads_are_packed_as_rfc_7541_says() {
    let fields = literal(&GET);
    let packed = |more: &[u8]| frame(HEADERS, END_STREAM | END_HEADERS, 1, &[&fields[..], more].concat());
    let bad = GoAway(PROTOCOL_ERROR);
    judge(vec![
        ("2.3.3", "an index beyond the tables", packed(&[0xbf]), bad),
        ("2.3.3", "a name's index beyond them", packed(&[0x7f, 0x10, 1, b'x']), bad),
        ("4.2", "a new table size at the end of a head", packed(&[0x20]), bad),
        ("5.2", "padding of more than seven bits", packed(&[0, 0x81, 0xf9, 0x83, 0xf9, 0xff, 0xff]), bad),
        ("5.2", "padding by zeros", packed(&[0, 1, b'x', 0x81, 0b0001_1000]), bad),
        ("6.1", "index zero", packed(&[0x80]), bad),
        (
            "6.3",
            "a table larger than was allowed",
            frame(HEADERS, 5, 1, &[&[0x3f, 0xe2, 0x1f], &fields[..]].concat()),
            bad,
        ),
    ])
    .await;
}
