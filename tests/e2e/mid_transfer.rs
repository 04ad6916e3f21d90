//! Files that change while they are sent to a client that reads slowly. An answer that began is finished with the bytes it promised,
//! or is seen to be broken off: never padded, never a mixture (RFC 9112 section 8, RFC 9113 section 8.1.1).

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

use tokio::net::TcpSocket;

use crate::support::client::{Client, get};
use crate::support::frames::{self, DATA, END_HEADERS, END_STREAM, HEADERS, RST_STREAM, frame, literal, window_update};
use crate::support::gateway::{Gateway, Setup};
use crate::support::{place, within};

/// More than the sockets between hold, so that a good part of it is still on the disk when the client has read the head.
const LEN: usize = 8 << 20;

const ROUTE: &str = "[[route]]\nname = \"files\"\npath = \"/files/\"\nauth = \"public\"\nfiles = { root = \"root\" }\n";

/// Bytes that say where they stand, of one of two kinds.
fn pattern(kind: u32, len: usize) -> Vec<u8> {
    (0..u32::try_from(len / 4).unwrap()).flat_map(|at| (at ^ kind).to_le_bytes()).collect()
}

const OLD: u32 = 0;
const NEW: u32 = 0x8080_8080;

async fn gateway() -> Gateway {
    let home = tempfile::tempdir().unwrap();
    place(home.path(), "root/large.bin", pattern(OLD, LEN));
    Setup::endpoints(["http://127.0.0.1:9".to_owned()]).only(ROUTE).start_in(home).await
}

fn writable(path: &Path) -> fs::File {
    OpenOptions::new().write(true).open(path).unwrap()
}

/// What may become of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// All of the old contents.
    Whole,
    /// Fewer bytes than were promised, all of the old contents.
    Broken,
}

/// What is done to the file meanwhile, and how the transfer ends.
type Change = (&'static str, fn(&Path), End);

const CHANGES: [Change; 11] = [
    ("it is left alone", |_| {}, End::Whole),
    ("it is cut to nothing", |path| writable(path).set_len(0).unwrap(), End::Broken),
    ("it is cut in the middle", |path| writable(path).set_len(LEN as u64 / 2).unwrap(), End::Broken),
    ("it loses its last byte", |path| writable(path).set_len(LEN as u64 - 1).unwrap(), End::Broken),
    (
        "it is cut and filled up with zeros",
        |path| {
            writable(path).set_len(0).unwrap();
            writable(path).set_len(LEN as u64).unwrap();
        },
        End::Broken,
    ),
    (
        "it is appended to",
        |path| OpenOptions::new().append(true).open(path).unwrap().write_all(&[0xff; 70_000]).unwrap(),
        End::Whole,
    ),
    (
        "it is replaced",
        |path| {
            let draft = path.with_extension("next");
            fs::write(&draft, pattern(NEW, LEN)).unwrap();
            fs::rename(draft, path).unwrap();
        },
        End::Whole,
    ),
    ("it is removed", |path| fs::remove_file(path).unwrap(), End::Whole),
    ("it is overwritten", |path| writable(path).write_all_at(&pattern(NEW, LEN), 0).unwrap(), End::Broken),
    (
        "one byte near its end is overwritten",
        |path| writable(path).write_all_at(b"!", LEN as u64 - 9).unwrap(),
        End::Broken,
    ),
    ("it is written anew, and longer", |path| fs::write(path, pattern(NEW, LEN + 40_000)).unwrap(), End::Broken),
];

/// `received` must be the beginning of what was promised, and as much of it as `end` says.
fn judge(what: &str, received: &[u8], end: End) {
    assert!(received.len() <= LEN, "{what}: more came than was promised");
    assert!(*received == pattern(OLD, LEN)[..received.len()], "{what}: what came is not what was promised");
    match end {
        End::Whole => assert_eq!(received.len(), LEN, "{what}: it broke off"),
        End::Broken => assert!(received.len() < LEN, "{what}: the change was not seen"),
    }
}

/// A client whose side holds little, so that what it does not read stays where it is.
async fn slow_client(gateway: &Gateway) -> Client {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(64 * 1024).unwrap();
    Client::over(within("connecting", socket.connect(gateway.http)).await.unwrap())
}

#[tokio::test]
async fn over_http1_a_file_that_changes_is_sent_as_promised_or_the_connection_breaks() {
    for (what, change, end) in CHANGES {
        let gateway = gateway().await;
        let mut client = slow_client(&gateway).await;
        client.send(get("/files/large.bin")).await;
        let head = within("a head", client.wire.head()).await.unwrap().unwrap();
        assert_eq!((head.status(), head.field("content-length")), (200, Some(LEN.to_string().as_str())), "{what}");
        change(&gateway.home().join("root/large.bin"));
        let mut received = client.wire.rest();
        while received.len() < LEN {
            match within("more of it", client.wire.fill()).await {
                Ok(read) if read > 0 => received.extend(client.wire.rest()),
                _ => break,
            }
        }
        judge(what, &received, end);
        if end == End::Whole {
            let next = client.ask("GET /files/none HTTP/1.1\r\nHost: site.test\r\n\r\n").await;
            assert_eq!(next.status(), 404, "{what}: the connection goes on");
        }
    }
}

#[tokio::test]
async fn over_http2_a_file_that_changes_is_sent_as_promised_or_the_stream_is_reset() {
    for (what, change, end) in CHANGES {
        let gateway = gateway().await;
        let (mut sender, mut receiver) = frames::open(&gateway, &[]).await;
        sender.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &request("/files/large.bin"))).await;
        // The first window is all that comes until more is granted.
        let mut got = Vec::new();
        while got.len() < 65_535 {
            let more = receiver.until("a first part", |frame| frame.kind == DATA).await.expect("data");
            got.extend(more.payload);
        }
        change(&gateway.home().join("root/large.bin"));
        let granted = u32::try_from(2 * LEN).unwrap();
        sender.send(&[window_update(0, granted), window_update(1, granted)].concat()).await;
        let reset = loop {
            let next = receiver.until("its end", |frame| frame.stream == 1).await.expect("the connection lasts");
            match next.kind {
                DATA => got.extend(&next.payload),
                RST_STREAM => break true,
                kind => panic!("{what}: a frame of kind {kind}"),
            }
            if next.flags & END_STREAM != 0 {
                break false;
            }
        };
        judge(what, &got, end);
        assert_eq!(reset, end == End::Broken, "{what}");
        sender.send(&frame(HEADERS, END_STREAM | END_HEADERS, 3, &request("/files/none"))).await;
        let next = receiver.until("the next answer", |frame| frame.kind == HEADERS && frame.stream == 3).await;
        assert!(next.is_some(), "{what}: the connection goes on");
    }
}

fn request(path: &str) -> Vec<u8> {
    literal(&[(":method", "GET"), (":scheme", "https"), (":authority", "site.test"), (":path", path)])
}

#[tokio::test]
async fn a_range_of_a_file_that_changes_is_sent_as_promised_or_broken_off() {
    for (what, change, end) in CHANGES {
        let gateway = gateway().await;
        let mut client = slow_client(&gateway).await;
        let (first, len) = (1_000_001, LEN - 1_000_001);
        client.send(format!("GET /files/large.bin HTTP/1.1\r\nHost: site.test\r\nRange: bytes={first}-\r\n\r\n")).await;
        let head = within("a head", client.wire.head()).await.unwrap().unwrap();
        assert_eq!((head.status(), head.field("content-length")), (206, Some(len.to_string().as_str())), "{what}");
        change(&gateway.home().join("root/large.bin"));
        let received = match within("all of it, or its end", client.wire.exactly(len)).await {
            Ok(whole) => whole,
            Err(_) => client.wire.rest(),
        };
        assert!(received == pattern(OLD, LEN)[first..first + received.len()], "{what}: not what was promised");
        assert_eq!(received.len() == len, end == End::Whole, "{what}");
    }
}
