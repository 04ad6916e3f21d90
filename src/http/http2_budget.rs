//! How many frames that do no work an HTTP/2 client may send: a budget that time and useful work fill up again.
//!
//! Answers for RFC 9113 section 10.5. PING, SETTINGS, PRIORITY, `WINDOW_UPDATE` and the like cost their receiver more than their
//! sender, and the protocol's parser takes any number of them. So their headers are counted on the way in: nine bytes a frame are looked
//! at and the payload is skipped. What is written to the client earns: whoever takes an answer has to open windows for it. Answers to
//! control frames earn nothing, or a flood would pay for itself. Pure but for the clock, which is only asked when the budget is spent.

use std::time::Instant;

/// What a client begins with, and what time alone fills the budget up to.
const AT_FIRST: u32 = 1_000;
/// What useful work can fill it up to: windows of 16 MiB, opened again in steps of 4 KiB on the stream and on the connection.
const AT_MOST: u32 = 10_000;
/// What a second adds.
const PER_SECOND: u32 = 100;
/// Bytes written for which one more frame may come: the smallest frame with data in it has ten, and two frames open its windows again.
const BYTES_PER_FRAME: u64 = 4;

/// RFC 9113 section 3.4: what a client sends before its first frame.
const PREFACE_BYTES: u32 = 24;
/// RFC 9113 section 4.1.
const HEADER_BYTES: usize = 9;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;

/// SETTINGS touch every stream of a connection.
const SETTINGS_PRICE: u32 = 10;
/// Length of the frames that answer PING and SETTINGS.
const PONG_BYTES: u64 = 17;
const SETTINGS_ACK_BYTES: u64 = 9;

/// Follows the frames of one connection.
#[derive(Debug)]
pub struct Http2Budget {
    /// Bytes of a preface or a payload that are still to be skipped.
    skip: u32,
    /// The start of a frame's header whose end has not been read yet.
    header: [u8; HEADER_BYTES],
    known: usize,
    left: u32,
    /// Up to when time has been counted.
    filled: Instant,
    /// Bytes that will be written in answer to control frames.
    echo: u64,
    /// Useful bytes that have not made a whole frame yet.
    earned: u64,
    spent: bool,
}

impl Http2Budget {
    /// A connection that is accepted now.
    pub fn new(now: Instant) -> Self {
        Self {
            skip: PREFACE_BYTES,
            header: [0; HEADER_BYTES],
            known: 0,
            left: AT_FIRST,
            filled: now,
            echo: 0,
            earned: 0,
            spent: false,
        }
    }

    /// Takes in bytes just read, in order. Returns how many of them may be used: all, or, once the budget is spent, those up to the
    /// first frame that was not paid for. A frame whose header had begun to be used is let through to its end.
    pub fn admit(&mut self, bytes: &[u8], now: impl Fn() -> Instant) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            if self.skip > 0 {
                let skipped = (self.skip as usize).min(bytes.len() - at);
                at += skipped;
                self.skip -= u32::try_from(skipped).unwrap_or(self.skip);
                continue;
            }
            if self.spent && self.known == 0 {
                return at;
            }
            let begun = at;
            let taken = (HEADER_BYTES - self.known).min(bytes.len() - at);
            let split = self.known > 0;
            self.header[self.known..self.known + taken].copy_from_slice(&bytes[at..at + taken]);
            self.known += taken;
            at += taken;
            if self.known < HEADER_BYTES {
                break;
            }
            self.known = 0;
            if !self.pay(&now) {
                self.spent = true;
                if !split {
                    return begun;
                }
            }
            self.skip = u32::from_be_bytes([0, self.header[0], self.header[1], self.header[2]]);
        }
        at
    }

    /// Bytes were written to the client.
    pub fn sent(&mut self, bytes: usize) {
        let bytes = bytes as u64;
        let echoed = bytes.min(self.echo);
        self.echo -= echoed;
        self.earned += bytes - echoed;
        let frames = self.earned / BYTES_PER_FRAME;
        self.earned %= BYTES_PER_FRAME;
        self.left = self.left.saturating_add(u32::try_from(frames).unwrap_or(AT_MOST)).min(AT_MOST);
    }

    /// Whether nothing may be read any more.
    pub fn is_spent(&self) -> bool {
        self.spent
    }

    /// Charges the frame whose header is known; false if there is nothing left to pay with.
    fn pay(&mut self, now: &impl Fn() -> Instant) -> bool {
        let price = self.price();
        if price > self.left {
            self.refill(now());
        }
        match self.left.checked_sub(price) {
            Some(left) => self.left = left,
            None => return false,
        }
        let flags = self.header[4];
        match self.header[3] {
            PING if flags & ACK == 0 => self.echo += PONG_BYTES,
            SETTINGS if flags & ACK == 0 => self.echo += SETTINGS_ACK_BYTES,
            _ => {}
        }
        true
    }

    fn price(&self) -> u32 {
        let (kind, flags) = (self.header[3], self.header[4]);
        let empty = self.header[..3] == [0; 3];
        match kind {
            DATA if empty && flags & END_STREAM == 0 => 1,
            DATA | HEADERS => 0,
            SETTINGS if flags & ACK == 0 => SETTINGS_PRICE,
            _ => 1,
        }
    }

    /// What time has earned since it was asked last.
    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.filled).as_millis();
        let frames = u32::try_from(elapsed * u128::from(PER_SECOND) / 1000).unwrap_or(AT_FIRST);
        if frames > 0 {
            self.filled = now;
            self.left = self.left.saturating_add(frames).min(AT_FIRST);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const PRIORITY: u8 = 2;
    const RST_STREAM: u8 = 3;
    const WINDOW_UPDATE: u8 = 8;
    const CONTINUATION: u8 = 9;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).expect("a length").to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], &vec![0x55; payload]].concat()
    }

    /// A connection whose preface has been read, at a time that stands still.
    struct Client {
        budget: Http2Budget,
        now: Cell<Instant>,
    }

    impl Client {
        fn new() -> Self {
            let now = Instant::now();
            let mut client = Self { budget: Http2Budget::new(now), now: Cell::new(now) };
            assert!(client.sends(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
            client
        }

        fn sends(&mut self, bytes: &[u8]) -> bool {
            self.budget.admit(bytes, || self.now.get()) == bytes.len()
        }

        /// How many frames of one kind pass before one is refused, or `most`.
        fn passes(&mut self, frame: &[u8], most: u32) -> u32 {
            (0..most).find(|_| !self.sends(frame)).unwrap_or(most)
        }

        fn waits(&self, time: Duration) {
            self.now.set(self.now.get() + time);
        }
    }

    #[test]
    fn frames_that_do_no_work_are_counted_and_the_first_too_many_is_refused() {
        for (kind, payload, passed) in [
            (PING, 8, AT_FIRST),
            (PRIORITY, 5, AT_FIRST),
            (RST_STREAM, 4, AT_FIRST),
            (WINDOW_UPDATE, 4, AT_FIRST),
            (CONTINUATION, 0, AT_FIRST),
            (DATA, 0, AT_FIRST),
            (0xfa, 100, AT_FIRST),
            (SETTINGS, 6, AT_FIRST / SETTINGS_PRICE),
        ] {
            let mut client = Client::new();
            assert_eq!(client.passes(&frame(kind, 0, payload), 2 * AT_FIRST), passed, "kind {kind}");
            assert!(client.budget.is_spent());
            assert!(!client.sends(&frame(HEADERS, 5, 10)), "nothing is read behind it");
        }
    }

    #[test]
    fn requests_and_their_bodies_cost_nothing() {
        for (kind, flags, payload) in [(HEADERS, 4, 30), (DATA, 0, 1), (DATA, 0, 16_384), (DATA, END_STREAM, 0)] {
            let mut client = Client::new();
            assert_eq!(client.passes(&frame(kind, flags, payload), 5_000), 5_000, "kind {kind}");
        }
    }

    #[test]
    fn a_flood_of_pings_is_not_paid_for_by_its_answers() {
        let mut client = Client::new();
        let passed = (0..10_000).take_while(|_| {
            let passed = client.sends(&frame(PING, 0, 8));
            client.budget.sent(17);
            passed
        });
        assert_eq!(passed.count(), AT_FIRST as usize);
    }

    #[test]
    fn whoever_takes_an_answer_may_open_windows_for_it() {
        let mut client = Client::new();
        for _ in 0..100_000 {
            client.budget.sent(10); // a DATA frame of one byte
            assert!(client.sends(&frame(WINDOW_UPDATE, 0, 4)) && client.sends(&frame(WINDOW_UPDATE, 0, 4)));
        }
    }

    #[test]
    fn a_client_that_pings_now_and_then_is_never_refused() {
        let mut client = Client::new();
        for _ in 0..100_000 {
            client.waits(Duration::from_millis(1000 / u64::from(PER_SECOND)));
            assert!(client.sends(&frame(PING, 0, 8)));
            client.budget.sent(17);
        }
    }

    #[test]
    fn time_fills_the_budget_up_to_what_there_was_at_first() {
        let mut client = Client::new();
        assert_eq!(client.passes(&frame(PING, 0, 8), AT_FIRST), AT_FIRST);
        client.waits(Duration::from_secs(100_000));
        assert_eq!(client.passes(&frame(PING, 0, 8), 2 * AT_FIRST), AT_FIRST);
    }

    #[test]
    fn what_is_used_ends_where_a_frame_ends() {
        let mut client = Client::new();
        let ping = frame(PING, 0, 8);
        let flood = ping.repeat(AT_FIRST as usize + 1);
        let used = client.budget.admit(&flood, Instant::now);
        assert_eq!(used, flood.len() - ping.len());

        // The parser has the start of the frame already: it gets the rest, and nothing more.
        let mut client = Client::new();
        assert!(client.sends(&flood[..used + 4]));
        let rest = [&flood[used + 4..], &ping].concat();
        assert_eq!(client.budget.admit(&rest, || client.now.get()), ping.len() - 4);
        assert_eq!(client.budget.admit(&ping, || client.now.get()), 0);
    }

    proptest! {
        #[test]
        fn the_verdict_does_not_depend_on_how_bytes_arrive(
            frames in proptest::collection::vec((0u8..12, 0u8..6, 0usize..40, 1usize..300), 0..12), cut in 1usize..50,
        ) {
            let bytes: Vec<u8> =
                frames.iter().flat_map(|(kind, flags, payload, times)| frame(*kind, *flags, *payload).repeat(*times)).collect();
            let (mut whole, mut pieces) = (Client::new(), Client::new());
            let passed = whole.sends(&bytes);
            let all = bytes.chunks(cut).all(|piece| pieces.sends(piece));
            // In pieces the last frame may be let through to its end.
            prop_assert_eq!(whole.budget.is_spent(), pieces.budget.is_spent());
            prop_assert!(all || !passed);
            prop_assert_eq!(whole.budget.left, pieces.budget.left);
        }

        #[test]
        fn any_bytes_are_taken_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..4000), cut in 1usize..600) {
            let now = Instant::now();
            let mut budget = Http2Budget::new(now);
            for piece in bytes.chunks(cut) {
                prop_assert!(budget.admit(piece, || now) <= piece.len());
                budget.sent(cut);
            }
        }
    }
}
