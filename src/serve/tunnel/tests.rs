//! The tunnel between two streams in memory, with time that passes only when nothing else does.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;

use super::*;
use crate::http::websocket::close_frame;
use crate::observe::{Metrics, Vocabulary};
use crate::shutdown::{DrainTrigger, Tasks};

const IDLE: Duration = Duration::from_mins(5);
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_secs(5);
const MASK: [u8; 4] = [9, 8, 7, 6];
/// "hi", from a client and from a server.
const HI: [u8; 8] = [0x81, 0x82, 0, 0, 0, 0, b'h', b'i'];
const HELLO: [u8; 4] = [0x81, 0x02, b'h', b'i'];

/// Both far ends of a tunnel.
struct Rig {
    client: DuplexStream,
    upstream: DuplexStream,
    trigger: DrainTrigger,
    /// What the permit is worth: 0 holds, 1 has expired, 2 was revoked.
    standing: Arc<AtomicU8>,
    metrics: Arc<Metrics>,
    run: JoinHandle<Ended>,
    begun: Instant,
}

fn rig() -> Rig {
    dug(64 * 1024, false)
}

fn dug(room: usize, hasty: bool) -> Rig {
    let ((client, near), (upstream, far)) = (duplex(room), duplex(room));
    let (trigger, drain) = Drain::new();
    let metrics = Metrics::new(Vocabulary { auth_reasons: &[], malformed_reasons: &[] });
    let meter = metrics.route(0, "live").tunnel();
    let standing = Arc::new(AtomicU8::new(0));
    let asked = Arc::clone(&standing);
    let run = Tasks::new().spawn(async move {
        let terms = Terms { idle: IDLE, write_timeout: WRITE_TIMEOUT, drain: &drain, meter: &meter, mask: MASK, hasty };
        let holds = || match asked.load(Ordering::Relaxed) {
            0 => Ok(LOOK),
            1 => Err(Lapse::Expired),
            _ => Err(Lapse::Revoked),
        };
        let ended = run(near, far, terms, holds).await;
        meter.ended(ended.cause);
        ended
    });
    Rig { client, upstream, trigger, standing, metrics, run, begun: Instant::now() }
}

impl Rig {
    async fn hears(&mut self, bytes: &[u8]) {
        exactly(&mut self.upstream, bytes).await;
    }

    async fn answers(&mut self, bytes: &[u8]) {
        exactly(&mut self.client, bytes).await;
    }

    /// One message each way.
    async fn talk(&mut self) {
        self.client.write_all(&HI).await.unwrap();
        self.hears(&HI).await;
        self.upstream.write_all(&HELLO).await.unwrap();
        self.answers(&HELLO).await;
    }

    /// How it ended, and how long it took.
    async fn end(self) -> (TunnelCause, Duration) {
        let ended = self.run.await.unwrap();
        (ended.cause, self.begun.elapsed())
    }
}

async fn exactly(stream: &mut DuplexStream, bytes: &[u8]) {
    let mut read = vec![0; bytes.len()];
    stream.read_exact(&mut read).await.unwrap();
    assert_eq!(read, bytes);
}

/// All that comes until the end.
async fn rest(stream: &mut DuplexStream) -> Vec<u8> {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    rest
}

fn to_client(code: u16) -> Vec<u8> {
    close_frame(code, None)
}

fn to_upstream(code: u16) -> Vec<u8> {
    close_frame(code, Some(MASK))
}

fn from_client(code: u16) -> Vec<u8> {
    close_frame(code, Some([1, 2, 3, 4]))
}

#[tokio::test(start_paused = true)]
async fn messages_pass_both_ways_and_are_counted() {
    let mut rig = rig();
    rig.talk().await;
    rig.talk().await;
    let metrics = Arc::clone(&rig.metrics);
    assert!(metrics.encode().contains("portcullis_tunnels_open{route=\"live\"} 1"));
    assert!(metrics.encode().contains("portcullis_tunnel_bytes_total{route=\"live\",direction=\"in\"} 16"));
    drop((rig.client, rig.upstream));
    let ended = rig.run.await.unwrap();
    assert_eq!((ended.bytes_in, ended.bytes_out), (16, 8));
    let page = metrics.encode();
    assert!(page.contains("portcullis_tunnels_open{route=\"live\"} 0"), "{page}");
    assert!(page.contains("portcullis_tunnels_ended_total{route=\"live\",cause=\"client_gone\"} 1"), "{page}");
}

#[tokio::test(start_paused = true)]
async fn a_goodbye_of_either_side_is_passed_on_and_answered_by_the_other() {
    for client_first in [true, false] {
        let mut rig = rig();
        rig.talk().await;
        let (up, down) = (from_client(1000), to_client(1000));
        if client_first {
            rig.client.write_all(&up).await.unwrap();
            rig.hears(&up).await;
        }
        rig.upstream.write_all(&down).await.unwrap();
        rig.answers(&down).await;
        if !client_first {
            rig.client.write_all(&up).await.unwrap();
            rig.hears(&up).await;
        }
        rig.upstream.shutdown().await.unwrap();
        assert!(rest(&mut rig.client).await.is_empty());
        assert_eq!(rig.end().await, (TunnelCause::Closed, Duration::ZERO));
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_passes_behind_a_goodbye() {
    let mut rig = rig();
    let goodbye = from_client(1000);
    rig.client.write_all(&[&goodbye[..], &HI].concat()).await.unwrap();
    rig.hears(&goodbye).await;
    rig.client.write_all(&HI).await.unwrap();
    drop(rig.client);
    assert!(rest(&mut rig.upstream).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_goodbye_that_nobody_answers_is_waited_for_within_a_bound() {
    let mut rig = rig();
    rig.client.write_all(&from_client(1000)).await.unwrap();
    rig.hears(&from_client(1000)).await;
    rig.upstream.write_all(&HELLO).await.unwrap();
    rig.answers(&HELLO).await;
    assert_eq!(rig.end().await, (TunnelCause::Closed, CLOSING));
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_in_which_nothing_moves_is_ended_and_both_are_told() {
    let mut rig = rig();
    tokio::time::sleep(IDLE / 2).await;
    rig.talk().await;
    rig.hears(&to_upstream(1001)).await;
    rig.answers(&to_client(1001)).await;
    assert_eq!(rig.begun.elapsed(), IDLE / 2 + IDLE);
    assert_eq!(rig.end().await, (TunnelCause::Idle, IDLE / 2 + IDLE + FAREWELL));
}

#[tokio::test(start_paused = true)]
async fn sides_that_answer_the_gateways_goodbye_are_let_go_at_once() {
    let mut rig = rig();
    rig.trigger.begin();
    rig.hears(&to_upstream(1001)).await;
    rig.answers(&to_client(1012)).await;
    rig.client.write_all(&from_client(1012)).await.unwrap();
    assert!(rest(&mut rig.client).await.is_empty(), "the client is done when it has answered");
    rig.upstream.write_all(&to_client(1001)).await.unwrap();
    rig.upstream.shutdown().await.unwrap();
    assert_eq!(rig.end().await, (TunnelCause::Drain, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_token_that_ends_ends_the_tunnel_when_it_is_asked_again_and_at_traffic() {
    for (standing, cause, quiet) in [
        (1, TunnelCause::TokenExpired, true),
        (1, TunnelCause::TokenExpired, false),
        (2, TunnelCause::TokenRevoked, true),
        (2, TunnelCause::TokenRevoked, false),
    ] {
        let mut rig = rig();
        rig.talk().await;
        rig.standing.store(standing, Ordering::Relaxed);
        if !quiet {
            rig.client.write_all(&HI).await.unwrap();
            rig.hears(&HI).await;
        }
        rig.answers(&to_client(1008)).await;
        rig.hears(&to_upstream(1001)).await;
        let took = rig.begun.elapsed();
        assert!(if quiet { took <= LOOK } else { took.is_zero() }, "{took:?}");
        // What comes meanwhile goes nowhere.
        rig.upstream.write_all(&HELLO).await.unwrap();
        rig.client.write_all(&HI).await.unwrap();
        assert!(rest(&mut rig.client).await.is_empty() && rest(&mut rig.upstream).await.is_empty());
        assert_eq!(rig.end().await.0, cause);
    }
}

#[tokio::test(start_paused = true)]
async fn a_close_frame_waits_for_the_end_of_the_frame_that_is_under_way() {
    let mut rig = rig();
    rig.upstream.write_all(&HELLO[..3]).await.unwrap();
    rig.answers(&HELLO[..3]).await;
    rig.client.write_all(&HI[..1]).await.unwrap();
    rig.hears(&HI[..1]).await;
    rig.trigger.begin();
    tokio::time::sleep(FAREWELL / 2).await;
    rig.upstream.write_all(&[&HELLO[3..], &HELLO].concat()).await.unwrap();
    rig.client.write_all(&[&HI[1..], &HI].concat()).await.unwrap();
    rig.answers(&[&HELLO[3..], &to_client(1012)].concat()).await;
    rig.hears(&[&HI[1..], &to_upstream(1001)].concat()).await;
    assert!(rest(&mut rig.client).await.is_empty());
    assert_eq!(rig.end().await, (TunnelCause::Drain, FAREWELL));
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_does_not_end_is_cut_and_never_followed_by_another() {
    let mut rig = rig();
    rig.upstream.write_all(&HELLO[..3]).await.unwrap();
    rig.answers(&HELLO[..3]).await;
    rig.trigger.begin();
    rig.hears(&to_upstream(1001)).await;
    assert!(rest(&mut rig.client).await.is_empty());
    assert_eq!(rig.end().await, (TunnelCause::Drain, FAREWELL));
}

#[tokio::test(start_paused = true)]
async fn what_is_no_frame_ends_the_tunnel_and_is_not_passed_on() {
    let mut rig = rig();
    rig.client.write_all(&[&HI[..], &HELLO].concat()).await.unwrap(); // unmasked
    rig.answers(&to_client(1002)).await;
    rig.hears(&[&HI[..], &to_upstream(1001)].concat()).await;
    drop(rig.client);
    assert!(rest(&mut rig.upstream).await.is_empty());
    drop(rig.upstream);
    assert_eq!(rig.run.await.unwrap().cause, TunnelCause::ClientProtocol);

    let mut rig = dug(1024, false);
    rig.upstream.write_all(&[&HELLO[..], &HI].concat()).await.unwrap(); // masked
    rig.answers(&[&HELLO[..], &to_client(1011)].concat()).await;
    rig.hears(&to_upstream(1002)).await;
    assert_eq!(rig.end().await.0, TunnelCause::UpstreamProtocol);
}

#[tokio::test(start_paused = true)]
async fn a_bad_frame_whose_beginning_was_passed_on_is_followed_by_nothing() {
    let mut rig = rig();
    rig.client.write_all(&HI[..1]).await.unwrap();
    rig.hears(&HI[..1]).await;
    rig.client.write_all(&[0x02]).await.unwrap();
    rig.answers(&to_client(1002)).await;
    assert!(rest(&mut rig.upstream).await.is_empty());
    assert_eq!(rig.end().await.0, TunnelCause::ClientProtocol);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_could_not_wait_is_told_so() {
    let mut rig = dug(1024, true);
    rig.answers(&to_client(1002)).await;
    rig.hears(&to_upstream(1001)).await;
    assert_eq!(rig.end().await, (TunnelCause::ClientProtocol, FAREWELL));
}

#[tokio::test(start_paused = true)]
async fn when_the_client_vanishes_the_upstream_is_let_go_within_a_second() {
    let mut rig = rig();
    rig.talk().await;
    drop(rig.client);
    assert!(rest(&mut rig.upstream).await.is_empty());
    assert!(rig.begun.elapsed().is_zero(), "it is told at once");
    let ended = rig.run.await.unwrap();
    assert_eq!(ended.cause, TunnelCause::ClientGone);
    assert!(rig.begun.elapsed() <= LAST_WORDS);
}

#[tokio::test(start_paused = true)]
async fn when_the_upstream_vanishes_the_client_gets_what_was_sent_and_an_end_that_is_no_goodbye() {
    let mut rig = rig();
    rig.talk().await;
    rig.upstream.write_all(&HELLO).await.unwrap();
    drop(rig.upstream);
    assert_eq!(rest(&mut rig.client).await, HELLO);
    rig.client.write_all(&HI).await.unwrap(); // a client that is still sending is no reason to lose it
    drop(rig.client);
    assert_eq!(rig.run.await.unwrap().cause, TunnelCause::UpstreamGone);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_has_said_all_still_hears_the_last_words() {
    let mut rig = rig();
    rig.client.write_all(&HI).await.unwrap();
    rig.client.shutdown().await.unwrap();
    assert_eq!(rest(&mut rig.upstream).await, HI);
    rig.upstream.write_all(&HELLO).await.unwrap();
    rig.upstream.shutdown().await.unwrap();
    assert_eq!(rest(&mut rig.client).await, HELLO);
    assert_eq!(rig.end().await, (TunnelCause::ClientGone, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_side_that_takes_nothing_holds_the_other_back_and_is_cut_in_time() {
    for client_is_slow in [true, false] {
        let mut rig = dug(1024, false);
        let message = |masked: bool| {
            let mut bytes = vec![0x82, if masked { 0xff } else { 0x7f }];
            bytes.extend((1u64 << 30).to_be_bytes());
            bytes.extend([0; 4]);
            bytes
        };
        let fast = if client_is_slow { &mut rig.upstream } else { &mut rig.client };
        fast.write_all(&message(!client_is_slow)).await.unwrap();
        let mut taken = 0;
        while let Ok(Ok(())) = tokio::time::timeout(WRITE_TIMEOUT / 2, fast.write_all(&[0; 512])).await {
            taken += 512;
        }
        assert!(taken <= 2 * 1024 + 16 * 1024, "{taken} bytes are held for a side that takes none");
        let stalled = if client_is_slow { TunnelCause::ClientStalled } else { TunnelCause::UpstreamStalled };
        let (client, upstream) = (&mut rig.client, &mut rig.upstream);
        if client_is_slow {
            exactly(upstream, &to_upstream(1001)).await;
        } else {
            exactly(client, &to_client(1011)).await;
        }
        assert_eq!(rig.end().await, (stalled, WRITE_TIMEOUT + FAREWELL));
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_process_does_not_wait_for_sides_that_have_said_goodbye() {
    let mut rig = rig();
    rig.client.write_all(&from_client(1000)).await.unwrap();
    rig.hears(&from_client(1000)).await;
    rig.trigger.begin();
    rig.answers(&to_client(1012)).await;
    assert_eq!(rig.end().await, (TunnelCause::Closed, FAREWELL));
}

/// Numbers that look random (xorshift).
fn dice(seed: &mut u64, below: u64) -> usize {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    usize::try_from(*seed % below).unwrap()
}

/// Many frames of any length, as one side sends them.
fn conversation(seed: u64, masked: bool) -> Vec<u8> {
    let (mut seed, mut bytes) = (seed, Vec::new());
    for _ in 0..200 {
        let length = if dice(&mut seed, 9) == 0 { dice(&mut seed, 70_000) } else { dice(&mut seed, 126) };
        bytes.push(if length % 3 == 0 { 0xc1 } else { 0x82 });
        let mask = if masked { 0x80 } else { 0 };
        match length {
            0..126 => bytes.push(mask | u8::try_from(length).unwrap()),
            126..65536 => bytes.extend([&[mask | 0x7e][..], &u16::try_from(length).unwrap().to_be_bytes()].concat()),
            _ => bytes.extend([&[mask | 0x7f][..], &(length as u64).to_be_bytes()].concat()),
        }
        bytes.extend(vec![0x5a; if masked { 4 } else { 0 }]);
        bytes.extend((0..length).map(|at| u8::try_from(at % 251).unwrap()));
    }
    bytes
}

async fn speak(
    mut half: tokio::io::WriteHalf<DuplexStream>,
    bytes: Vec<u8>,
    mut seed: u64,
) -> tokio::io::WriteHalf<DuplexStream> {
    let mut at = 0;
    while at < bytes.len() {
        let length = (1 + dice(&mut seed, 3000)).min(bytes.len() - at);
        half.write_all(&bytes[at..at + length]).await.unwrap();
        at += length;
        if dice(&mut seed, 4) == 0 {
            tokio::task::yield_now().await;
        }
    }
    half
}

async fn listen(mut half: tokio::io::ReadHalf<DuplexStream>, length: usize, mut seed: u64) -> Vec<u8> {
    let mut heard = Vec::new();
    while heard.len() < length {
        let mut some = vec![0; 1 + dice(&mut seed, 5000)];
        let read = half.read(&mut some).await.unwrap();
        assert!(read > 0, "it ended at {} of {length}", heard.len());
        heard.extend_from_slice(&some[..read]);
    }
    heard
}

#[tokio::test(start_paused = true)]
async fn whatever_is_said_arrives_as_it_was_said_however_it_is_cut() {
    for seed in 1..8 {
        let rig = dug(1 + 300 * usize::try_from(seed).unwrap(), false);
        let (up, down) = (conversation(seed, true), conversation(seed + 100, false));
        let (client_hears, client_speaks) = tokio::io::split(rig.client);
        let (upstream_hears, upstream_speaks) = tokio::io::split(rig.upstream);
        let (spoken, answered, heard_up, heard_down) = tokio::join!(
            speak(client_speaks, up.clone(), seed),
            speak(upstream_speaks, down.clone(), seed + 1),
            listen(upstream_hears, up.len(), seed + 2),
            listen(client_hears, down.len(), seed + 3),
        );
        assert!(heard_up == up && heard_down == down, "seed {seed}");
        drop((spoken, answered));
        let ended = rig.run.await.unwrap();
        assert_eq!((ended.bytes_in, ended.bytes_out), (up.len() as u64, down.len() as u64));
    }
}
