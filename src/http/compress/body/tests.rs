//! What a client reads of a compressed body, and when.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::HeaderValue;
use http_body_util::BodyExt as _;
use tokio::sync::mpsc;

use super::super::Room;
use super::super::encoder::tests::{decoded, decoded_so_far, prose};
use super::*;

/// A body that comes as a test sends it.
struct Script(mpsc::Receiver<Result<Frame<Bytes>, BodyError>>);

impl http_body::Body for Script {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.0.poll_recv(cx)
    }
}

type Sender = mpsc::Sender<Result<Frame<Bytes>, BodyError>>;

fn scripted() -> (Sender, Body) {
    let (sender, receiver) = mpsc::channel(16);
    (sender, Body::stream(Script(receiver)))
}

fn compressed(inner: Body, coding: Coding) -> Compressed<impl Fn(u64, u64) + Send + Unpin + 'static> {
    Compressed::new(inner, coding, Room::new(1).begin().unwrap(), |_, _| {})
}

fn data(bytes: &[u8]) -> Frame<Bytes> {
    Frame::data(Bytes::copy_from_slice(bytes))
}

/// Everything to the end, frame by frame.
async fn frames<B>(mut body: B) -> Result<Vec<Bytes>, BodyError>
where
    B: http_body::Body<Data = Bytes, Error = BodyError> + Unpin,
{
    let mut all = Vec::new();
    while let Some(frame) = body.frame().await {
        all.extend(frame?.into_data());
    }
    assert!(body.is_end_stream());
    Ok(all)
}

#[tokio::test]
async fn a_body_of_any_size_comes_back_as_it_was_in_frames_of_bounded_size() {
    for coding in Coding::ALL {
        for size in [1, INLINE_BYTES, INLINE_BYTES + 1, BATCH_BYTES, BATCH_BYTES + 1, 1_000_000] {
            let plain = prose(size);
            let frames = frames(compressed(Body::full(plain.clone()), coding)).await.unwrap();
            assert!(frames.iter().all(|frame| !frame.is_empty() && frame.len() <= FRAME_BYTES));
            assert_eq!(decoded(coding, &frames.concat()).unwrap(), plain, "{coding:?} {size}");
        }
    }
}

#[tokio::test]
async fn what_does_not_compress_comes_back_too() {
    let mut state = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()[0]
    })
    .take(700_000)
    .collect();
    for coding in Coding::ALL {
        let frames = frames(compressed(Body::full(noise.clone()), coding)).await.unwrap();
        assert!(frames.iter().all(|frame| frame.len() <= FRAME_BYTES));
        assert_eq!(decoded(coding, &frames.concat()).unwrap(), noise, "{coding:?}");
    }
}

#[tokio::test]
async fn a_client_sees_all_that_came_while_the_rest_does_not() {
    for coding in Coding::ALL {
        for size in [7, BATCH_BYTES - 1, BATCH_BYTES, 3 * BATCH_BYTES + 5] {
            let (sender, inner) = scripted();
            let mut body = compressed(inner, coding);
            let (first, second) = (prose(size), b"data: second\n\n");
            let mut so_far = Vec::new();
            let mut expected = Vec::new();
            for part in [&first[..], second] {
                sender.send(Ok(data(part))).await.unwrap();
                expected.extend_from_slice(part);
                while decoded_so_far(coding, &so_far) != expected {
                    let frame = body.frame().await.unwrap().unwrap(); // never comes if it is held back
                    so_far.extend_from_slice(&frame.into_data().unwrap());
                }
            }
            drop(sender);
            so_far.extend(frames(body).await.unwrap().concat());
            assert_eq!(decoded(coding, &so_far).unwrap(), expected, "{coding:?} {size}");
        }
    }
}

#[tokio::test]
async fn what_comes_in_one_turn_is_flushed_once() {
    for coding in Coding::ALL {
        let (sender, inner) = scripted();
        let mut body = compressed(inner, coding);
        for part in [b"one ", b"two ", b"end "] {
            sender.send(Ok(data(part))).await.unwrap();
        }
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(decoded_so_far(coding, &frame), b"one two end ", "{coding:?}");
        drop(sender);
        frames(body).await.unwrap();
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_within_never_ends_cleanly_without() {
    for coding in Coding::ALL {
        for size in [10, 200_000] {
            let (sender, inner) = scripted();
            let mut body = compressed(inner, coding);
            sender.send(Ok(data(&prose(size)))).await.unwrap();
            sender.send(Err("the upstream broke off".into())).await.unwrap();
            let mut so_far = Vec::new();
            let error = loop {
                match body.frame().await.expect("an error before the end") {
                    Ok(frame) => so_far.extend_from_slice(&frame.into_data().unwrap()),
                    Err(error) => break error,
                }
            };
            assert_eq!(error.to_string(), "the upstream broke off");
            assert!(so_far.is_empty() || decoded(coding, &so_far).is_err(), "{coding:?} {size}");
            assert!(body.frame().await.is_none());
        }
    }
}

#[tokio::test]
async fn trailers_pass_but_for_digests_of_what_was_before() {
    let (sender, inner) = scripted();
    let mut body = compressed(inner, Coding::Gzip);
    let mut trailers = HeaderMap::new();
    trailers.insert("server-timing", HeaderValue::from_static("app;dur=1"));
    for digest in &DIGESTS {
        trailers.insert(digest, HeaderValue::from_static("sha-256=:AA==:"));
    }
    sender.send(Ok(data(b"hello"))).await.unwrap();
    sender.send(Ok(Frame::trailers(trailers))).await.unwrap();
    let (mut packed, mut last) = (Vec::new(), None);
    while let Some(frame) = body.frame().await {
        assert!(last.is_none(), "nothing comes after trailers");
        match frame.unwrap().into_data() {
            Ok(data) => packed.extend_from_slice(&data),
            Err(frame) => last = frame.into_trailers().ok(),
        }
    }
    assert_eq!(decoded(Coding::Gzip, &packed).unwrap(), b"hello");
    let last = last.unwrap();
    assert_eq!((last.len(), last.get("server-timing").unwrap().as_bytes()), (1, &b"app;dur=1"[..]));
    assert!(body.is_end_stream());
}

#[tokio::test]
async fn nothing_more_is_asked_for_while_the_client_takes_nothing() {
    let (sender, inner) = scripted();
    let mut body = compressed(inner, Coding::Gzip);
    for _ in 0..16 {
        sender.send(Ok(data(&prose(BATCH_BYTES)))).await.unwrap();
    }
    body.frame().await.unwrap().unwrap();
    assert!(sender.capacity() <= 4, "at most what one frame needed was taken: {}", sender.capacity());
}

#[tokio::test]
async fn room_is_given_back_with_the_last_of_the_body_and_its_bytes_are_told() {
    let room = Room::new(1);
    let counts: Arc<[AtomicU64; 2]> = Arc::default();
    let told = Arc::clone(&counts);
    let told = move |bytes_in, bytes_out| {
        told[0].fetch_add(bytes_in, Ordering::Relaxed);
        told[1].fetch_add(bytes_out, Ordering::Relaxed);
    };
    let body = Compressed::new(Body::full(prose(500_000)), Coding::Zstd, room.begin().unwrap(), told.clone());
    assert!(room.begin().is_none());
    let out = frames(body).await.unwrap().concat().len() as u64;
    assert_eq!([500_000, out], [0, 1].map(|at: usize| counts[at].load(Ordering::Relaxed)));

    let (sender, inner) = scripted();
    let mut body = Compressed::new(inner, Coding::Zstd, room.begin().expect("it was given back"), told);
    sender.send(Err("broken".into())).await.unwrap();
    assert!(body.frame().await.unwrap().is_err());
    assert!(room.begin().is_some(), "a body that broke off needs none");
}

#[tokio::test]
async fn what_is_large_is_encoded_elsewhere_and_so_is_what_has_become_large() {
    for coding in Coding::ALL {
        let mut body = compressed(Body::stream(scripted().1), coding);
        for _ in 0..3 {
            body.batch = prose(INLINE_BYTES);
            body.encode(None, Step::Flush).unwrap();
            assert!(matches!(body.stage, Stage::Idle(Some(_))), "what was flushed waits no more");
        }
        body.batch = prose(INLINE_BYTES + 1);
        body.encode(None, Step::Flush).unwrap();
        assert!(matches!(body.stage, Stage::Away(_)));

        let mut body = compressed(Body::stream(scripted().1), coding);
        for _ in 0..2 {
            body.batch = prose(INLINE_BYTES / 2);
            body.encode(None, Step::More).unwrap();
        }
        body.batch = prose(1);
        body.encode(None, Step::Finish).unwrap();
        assert!(matches!(body.stage, Stage::Away(_)), "the encoder may have all of it before it");
    }
}

#[test]
fn its_length_is_not_known_and_it_has_not_ended_before_it_began() {
    let body = compressed(Body::full("hello"), Coding::Gzip);
    assert!(!body.is_end_stream());
    assert_eq!((body.size_hint().lower(), body.size_hint().upper()), (0, None));
}
