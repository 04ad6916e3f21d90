//! The queue by itself, and then between an upstream that hints at any moment and hyper, which knows nothing of it.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::{Context, Poll};

use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::yield_now;

use super::*;
use crate::serve::activity::Activity;
use crate::serve::guarded::Guarded;
use crate::upstream::OnInterim;

fn hint(link: &str) -> Interim {
    let mut headers = HeaderMap::new();
    headers.insert(header::LINK, HeaderValue::from_str(link).unwrap());
    Interim { code: 103, headers }
}

#[test]
fn a_head_is_written_as_it_stands_on_the_wire() {
    let mut interim = hint("<a>");
    interim.headers.append(header::LINK, HeaderValue::from_static("<b>"));
    assert_eq!(head(&interim), b"HTTP/1.1 103 Early Hints\r\nlink: <a>\r\nlink: <b>\r\n\r\n");
    assert_eq!(head(&Interim { code: 199, headers: HeaderMap::new() }), b"HTTP/1.1 199 \r\n\r\n");
}

#[test]
fn only_the_exchange_that_is_open_has_any() {
    let interims = Interims::default();
    assert!(!interims.leave(0, &hint("<a>")), "nothing is open");
    interims.open(1);
    assert!(interims.leave(1, &hint("<a>")) && !interims.leave(2, &hint("<b>")) && !interims.leave(0, &hint("<c>")));
    assert_eq!(interims.take(), head(&hint("<a>")));
    assert!(interims.take().is_empty());
    interims.close(true);
    assert!(!interims.leave(1, &hint("<a>")), "it was answered");
}

#[test]
fn what_waits_at_the_answer_goes_before_it_or_nowhere() {
    for place in [true, false] {
        let interims = Interims::default();
        interims.open(1);
        interims.leave(1, &hint("<a>"));
        interims.close(place);
        assert_eq!(!interims.take().is_empty(), place);
    }
}

#[test]
fn too_many_or_too_large_ones_are_dropped() {
    let interims = Interims::default();
    interims.open(1);
    let left = (0..100).filter(|_| interims.leave(1, &hint("<a>")) && !interims.take().is_empty()).count();
    assert_eq!(left, 16, "taken or not");
    interims.open(2);
    let large = hint(&"x".repeat(9000));
    assert!(interims.leave(2, &large) && !interims.leave(2, &large) && interims.leave(2, &hint("<a>")));
}

/// One exchange.
#[derive(Debug, Clone, Copy)]
struct Plan {
    /// Hints before its answer.
    hints: usize,
    /// Hints that come when it was told to answer, and so mostly too late.
    late: usize,
    /// The bytes of its body, and whether they are known before.
    length: usize,
    known: bool,
}

/// How bytes get to the client.
#[derive(Debug, Clone, Copy)]
struct Way {
    /// As many fit on the way.
    room: usize,
    /// As many are read at a time.
    read: usize,
    /// Whether hyper writes its buffers as they are, or copies all into one.
    vectored: bool,
}

/// A body that comes in pieces, with pauses.
struct Pieces {
    plan: Plan,
    sent: usize,
    paused: bool,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.paused = !self.paused;
        if self.paused {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let length = (self.plan.length - self.sent).min(700);
        self.sent += length;
        Poll::Ready((length > 0).then(|| Ok(Frame::data(Bytes::from(vec![b'x'; length])))))
    }

    fn size_hint(&self) -> http_body::SizeHint {
        let left = (self.plan.length - self.sent) as u64;
        if self.plan.known { http_body::SizeHint::with_exact(left) } else { http_body::SizeHint::default() }
    }
}

/// An exchange that has begun: where its hints go, and who waits until they are told.
struct Call {
    plan: Plan,
    number: usize,
    hints: OnInterim,
    told: oneshot::Sender<()>,
}

/// hyper answers one request after the other over a stream with little room, while somebody else tells of hints. What the client gets,
/// which has asked for all at once and reads a little at a time.
async fn talk(plans: Vec<Plan>, way: Way) -> Vec<u8> {
    let (ours, client) = tokio::io::duplex(way.room);
    let activity = Arc::new(Activity::default());
    let stream =
        TokioIo::new(Guarded::new(ours, true, Arc::clone(&activity), crate::serve::Limits::default().taking()));
    let (called, calls) = mpsc::channel(1);
    let requests = "GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(plans.len() - 1);
    let requests = format!("{requests}GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let begun = AtomicUsize::new(0);
    let of_connection = Arc::clone(&activity);
    let service = service_fn(move |_: Request<Incoming>| {
        let number = begun.fetch_add(1, Ordering::Relaxed);
        let (plan, activity, called) = (plans[number], Arc::clone(&of_connection), called.clone());
        let answering = activity.begin();
        async move {
            let (told, all_told) = oneshot::channel();
            let call = Call { plan, number, hints: activity.pass_interims(), told };
            assert!(called.send(call).await.is_ok());
            all_told.await.expect("somebody tells");
            activity.answered();
            drop(answering);
            Ok::<_, Infallible>(Response::new(Pieces { plan, sent: 0, paused: false }))
        }
    });
    let serving = async {
        let mut settings = http1::Builder::new();
        let connection = settings.writev(way.vectored).serve_connection(stream, service);
        let mut connection = pin!(connection); // dropped with the last request
        poll_fn(|cx| {
            activity.driven_by(cx.waker());
            connection.as_mut().poll(cx)
        })
        .await
    };
    let (served, (), seen) = tokio::join!(serving, tell(calls), ask(client, requests, way.read));
    served.expect("served to the end");
    seen
}

async fn tell(mut calls: mpsc::Receiver<Call>) {
    while let Some(call) = calls.recv().await {
        let mut told = Some(call.told);
        for which in 0..call.plan.hints + call.plan.late {
            if which == call.plan.hints {
                told.take().map(|told| told.send(()));
                yield_now().await;
            }
            call.hints.tell(hint(&format!("<{}-{which}>", call.number)));
            yield_now().await;
        }
        told.map(|told| told.send(()));
    }
}

async fn ask(client: DuplexStream, requests: String, read: usize) -> Vec<u8> {
    let (mut reading, mut writing) = tokio::io::split(client);
    let asking = async { writing.write_all(requests.as_bytes()).await.expect("an open stream") };
    let listening = async {
        let (mut seen, mut piece) = (Vec::new(), vec![0; read]);
        loop {
            match reading.read(&mut piece).await.expect("bytes") {
                0 => return seen,
                length => seen.extend_from_slice(&piece[..length]),
            }
            yield_now().await;
        }
    };
    tokio::join!(asking, listening).1
}

/// Reads what came by the letter; how many hints were in it.
fn count_hints(plans: &[Plan], mut rest: &[u8]) -> usize {
    let mut hints = 0;
    for (number, plan) in plans.iter().enumerate() {
        let mut least = 0;
        loop {
            let end = rest.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
            let head = str::from_utf8(&rest[..end]).expect("a head");
            rest = &rest[end..];
            let Some(link) = head.strip_prefix("HTTP/1.1 103 Early Hints\r\nlink: <") else {
                assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head:?}");
                break;
            };
            let (of, which) = link.strip_suffix(">\r\n\r\n").expect("one field").split_once('-').expect("two numbers");
            let which: usize = which.parse().expect("a number");
            assert!(of == number.to_string() && which >= least && which < plan.hints + plan.late, "{head:?}");
            least = which + 1;
            hints += 1;
        }
        let mut body = 0;
        if plan.known {
            (body, rest) = (plan.length, &rest[plan.length..]);
        } else {
            loop {
                let end = rest.windows(2).position(|window| window == b"\r\n").expect("a chunk line");
                let size = usize::from_str_radix(str::from_utf8(&rest[..end]).expect("a size"), 16).expect("a size");
                let chunk = &rest[end + 2..end + 2 + size];
                assert!(chunk.iter().all(|byte| *byte == b'x') && rest[end + 2 + size..].starts_with(b"\r\n"));
                rest = &rest[end + 2 + size + 2..];
                body += size;
                if size == 0 {
                    break;
                }
            }
        }
        assert_eq!(body, plan.length);
    }
    assert_eq!(rest, b"");
    hints
}

fn run(plans: &[Plan], way: Way) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    count_hints(plans, &runtime.block_on(talk(plans.to_vec(), way)))
}

#[test]
fn a_client_that_takes_all_at_once_gets_every_hint() {
    let plan = Plan { hints: 3, late: 2, length: 5000, known: true };
    let way = Way { room: 1 << 20, read: 1 << 16, vectored: true };
    assert_eq!(run(&[plan, Plan { known: false, ..plan }, plan], way), 9);
}

proptest! {
    /// Hints stand before the answers of their own exchanges, whole and in order, or nowhere; whatever is stuck when they come.
    #[test]
    fn hints_never_stand_inside_of_a_message(
        plans in prop::collection::vec(
            (0usize..5, 0usize..3, prop_oneof![Just(0), 0usize..4000], any::<bool>())
                .prop_map(|(hints, late, length, known)| Plan { hints, late, length, known }),
            1..6,
        ),
        room in prop_oneof![1usize..100, 1usize..3000], read in 1usize..3000, vectored: bool,
    ) {
        run(&plans, Way { room, read, vectored });
    }
}
