//! An origin whose every answer is a throw of dice: it refuses to talk, lies, stalls, dies. The dice are thrown by the number of the
//! request, so that its client knows what is coming.

use std::net::SocketAddr;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::Dice;
use super::wire::{Message, Wire};

/// What one request meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Honest,
    /// The body comes in small pieces, with pauses.
    Dribbling,
    /// The head comes in two pieces.
    SlowHead,
    /// An interim response comes first.
    Interim,
    /// `Connection: close`.
    Last,
    /// 403 before the body was read, which never is.
    Early,
    /// The connection is reset when the request has come.
    Reset,
    /// It is closed then.
    Closed,
    /// It is closed in the middle of the head.
    HalfHead,
    /// What comes is no HTTP.
    Garbage,
    /// Two lengths, which differ.
    TwoLengths,
    /// More bytes than the length says.
    TooLong,
    /// Fewer, and the end of the connection.
    TooShort,
    /// A chunked body without its end.
    NoEnd,
    /// A chunk of no size.
    BadChunk,
    /// Nothing comes.
    Stalled,
    /// Half of the body comes.
    StalledBody,
}

/// What a client may be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// This status, with the whole body or so many bytes of it.
    Answer(u16, usize),
    /// A failure of the gateway's own telling.
    Failure(u16),
    /// An answer that breaks off.
    Cut,
}

/// The body of the request and of the response with this number.
pub fn body(number: u64) -> Vec<u8> {
    let length = usize::try_from(1 + number.wrapping_mul(7919) % 30_000).unwrap();
    format!("{number}.").into_bytes().into_iter().cycle().take(length).collect()
}

impl Mood {
    pub fn of(seed: u64, number: u64) -> Self {
        match Dice::new(seed.wrapping_mul(1_000_003).wrapping_add(number)).below(32) {
            0..14 => Self::Honest,
            14 | 15 => Self::Dribbling,
            16 => Self::SlowHead,
            17 => Self::Interim,
            18 => Self::Last,
            19 | 20 => Self::Early,
            21 => Self::Reset,
            22 => Self::Closed,
            23 => Self::HalfHead,
            24 => Self::Garbage,
            25 => Self::TwoLengths,
            26 => Self::TooLong,
            27 => Self::TooShort,
            28 => Self::NoEnd,
            29 => Self::BadChunk,
            30 => Self::Stalled,
            _ => Self::StalledBody,
        }
    }

    pub fn due(self, number: u64) -> Due {
        let whole = body(number).len();
        match self {
            Self::Honest | Self::Dribbling | Self::SlowHead | Self::Interim | Self::Last => Due::Answer(200, whole),
            Self::Early => Due::Answer(403, whole),
            Self::TooLong => Due::Answer(200, whole / 2),
            Self::Reset | Self::Closed | Self::HalfHead | Self::Garbage | Self::TwoLengths => Due::Failure(502),
            Self::Stalled => Due::Failure(504),
            Self::TooShort | Self::NoEnd | Self::BadChunk | Self::StalledBody => Due::Cut,
        }
    }
}

/// The origin; it ends with the test.
pub struct Moody {
    pub address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Moody {
    pub async fn start(seed: u64) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepting = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            for number in 0.. {
                let Ok((stream, _)) = listener.accept().await else { continue };
                connections.spawn(serve(stream, seed, Dice::new(seed ^ number)));
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, accepting }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Moody {
    fn drop(&mut self) {
        self.accepting.abort(); // and with it all connections
    }
}

/// Serves one connection until it is fed up with it: half of them are closed when they were idle for some milliseconds.
async fn serve(stream: TcpStream, seed: u64, mut dice: Dice) {
    stream.set_nodelay(true).unwrap();
    let stream = stream.into_std().unwrap();
    let twin = stream.try_clone().unwrap();
    let mut wire = Wire::new(TcpStream::from_std(stream).unwrap(), None);
    let patient = dice.below(2) == 0;
    loop {
        let idle = if patient { Duration::from_mins(1) } else { dice.millis(1..60) };
        let Ok(Ok(Some(mut request))) = timeout(idle, wire.head()).await else { return };
        let Ok(number) = request.target().trim_start_matches('/').parse() else { return };
        let mood = Mood::of(seed, number);
        if mood != Mood::Early {
            if wire.request_body(&mut request).await.is_err() {
                return;
            }
            if request.method() == "POST" && request.body != body(number) {
                wire.send(b"HTTP/1.1 500 Another Body\r\nContent-Length: 0\r\n\r\n").await.ok();
                return;
            }
        }
        if mood == Mood::Reset {
            SockRef::from(&twin).set_linger(Some(Duration::ZERO)).unwrap();
            return;
        }
        if !answer(&mut wire, mood, number, &mut dice).await {
            return;
        }
    }
}

/// Whether the connection may be used again.
async fn answer(wire: &mut Wire, mood: Mood, number: u64, dice: &mut Dice) -> bool {
    let body = body(number);
    let (length, half) = (body.len(), &body[..body.len() / 2]);
    let head = |status: &str, fields: &str, length: usize| {
        format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {length}\r\n\r\n").into_bytes()
    };
    let good = head("200 OK", "", length);
    let chunk = [format!("{:x}\r\n", body.len()).as_bytes(), &body, b"\r\n"].concat();
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".as_slice();
    let bytes = match mood {
        Mood::Honest => [good, body].concat(),
        Mood::Interim => [b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", &*good, &body].concat(),
        Mood::Last => [head("200 OK", "Connection: close\r\n", length), body].concat(),
        Mood::Early => [head("403 Forbidden", "Connection: close\r\n", length), body].concat(),
        Mood::HalfHead => good[..good.len() / 2].to_vec(),
        Mood::Garbage => b"220 mail.test ESMTP ready\r\n".to_vec(),
        Mood::TwoLengths => [head("200 OK", "Content-Length: 1\r\n", length), body].concat(),
        Mood::TooLong => [head("200 OK", "", half.len()), body].concat(),
        Mood::TooShort | Mood::StalledBody => [&*good, half].concat(),
        Mood::NoEnd => [chunked, &chunk].concat(),
        Mood::BadChunk => [chunked, &chunk, b"what\r\n\r\n"].concat(),
        Mood::Reset | Mood::Closed | Mood::Stalled => Vec::new(),
        Mood::Dribbling | Mood::SlowHead => {
            let pieces = if mood == Mood::Dribbling { 8 } else { 2 };
            let whole = [good, body].concat();
            for piece in whole.chunks(whole.len().div_ceil(pieces)) {
                sleep(dice.millis(0..6)).await;
                if wire.send(piece).await.is_err() {
                    return false;
                }
            }
            return true;
        }
    };
    let sent = wire.send(&bytes).await.is_ok();
    if matches!(mood, Mood::Stalled | Mood::StalledBody | Mood::Early) {
        until_closed(wire).await;
    }
    sent && matches!(mood, Mood::Honest | Mood::Interim | Mood::TooLong)
}

async fn until_closed(wire: &mut Wire) {
    while matches!(wire.fill().await, Ok(read) if read > 0) {
        wire.rest();
    }
}

/// Whether `answer` is what was due; else what is wrong with it.
pub fn judge(due: Due, number: u64, answer: &Message) -> Result<(), String> {
    match due {
        Due::Answer(status, length) if answer.status() == status => {
            if answer.body == body(number)[..length] {
                Ok(())
            } else {
                Err("another body".to_owned())
            }
        }
        Due::Failure(status) if answer.status() == status => {
            let own = answer.field("content-type") == Some("application/problem+json");
            if own && answer.json()["status"] == status {
                Ok(())
            } else {
                Err("no failure of the gateway's".to_owned())
            }
        }
        // What breaks off before anything of it was passed on may be told as a failure.
        Due::Cut if answer.status() == 502 => Ok(()),
        _ => Err(format!("status {}", answer.status())),
    }
}
