//! gRPC from both ends, with bytes for messages: a server whose methods misbehave on demand, and calls.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, request, response};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::h2::Pieces;
use super::within;

/// One message, as it is framed on the wire: not compressed, its length, itself.
pub fn message(text: &str) -> Bytes {
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(u32::try_from(text.len()).unwrap());
    framed.put_slice(text.as_bytes());
    framed.freeze()
}

/// A server over HTTP/2 with prior knowledge. `/t/METHOD` does as its name says; it ends with the test.
pub struct Server {
    pub address: SocketAddr,
    log: Arc<Log>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct Log {
    heads: Mutex<Vec<request::Parts>>,
    running: AtomicUsize,
}

impl Server {
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::new(Log::default());
        let accepting = tokio::spawn(accept(listener, Arc::clone(&log)));
        Self { address, log, accepting }
    }

    pub fn endpoint(&self) -> String {
        format!("h2c://{}", self.address)
    }

    /// The heads of all calls, in order.
    pub fn heads(&self) -> Vec<request::Parts> {
        self.log.heads.lock().unwrap().clone()
    }

    /// Calls that have not ended on this side.
    pub fn running(&self) -> usize {
        self.log.running.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, log: Arc<Log>) {
    let mut connections = tokio::task::JoinSet::new(); // aborted with the server
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let log = Arc::clone(&log);
        connections.spawn(async move {
            let service = service_fn(|request| {
                let log = Arc::clone(&log);
                async move { Ok::<_, Infallible>(answer(request, log).await) }
            });
            http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await.ok();
        });
    }
}

/// Counts a call until its answer is over, however that comes about.
struct Running(Arc<Log>);

impl Running {
    fn new(log: &Arc<Log>) -> Self {
        log.running.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(log))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn answer(request: Request<Incoming>, log: Arc<Log>) -> Response<Answer> {
    let running = Running::new(&log);
    let (head, mut asked) = request.into_parts();
    log.heads.lock().unwrap().push(head.clone());
    let method = head.uri.path().rsplit('/').next().unwrap_or_default().to_owned();
    if method == "Refuse" {
        let mut refusal = response(Answer(None));
        refusal.headers_mut().extend(outcome(9, "not%20now"));
        return refusal;
    }
    if method == "Hang" {
        while asked.frame().await.is_some_and(|frame| frame.is_ok()) {}
        std::future::pending::<()>().await;
    }
    let (sender, receiver) = mpsc::channel::<Frame<Bytes>>(1);
    tokio::spawn(async move {
        let _running = running;
        let speaking = async {
            match &*method {
                // Each message comes back as it comes; what is left of the call is told at its end.
                "Echo" => {
                    while let Some(Ok(frame)) = asked.frame().await {
                        if let Ok(data) = frame.into_data() {
                            sender.send(Frame::data(data)).await.ok()?;
                        }
                    }
                }
                "Count" => {
                    for number in 0..5 {
                        sender.send(Frame::data(message(&number.to_string()))).await.ok()?;
                    }
                }
                // One message, and then nothing.
                "Stall" => {
                    sender.send(Frame::data(message("first"))).await.ok()?;
                    std::future::pending::<()>().await;
                }
                // One message, and then one every 100 ms although nobody asks.
                "Tick" => loop {
                    sender.send(Frame::data(message("tick"))).await.ok()?;
                    tokio::time::sleep(Duration::from_millis(100)).await;
                },
                other => panic!("no such method: {other}"),
            }
            let mut trailers = outcome(0, "");
            trailers.insert("x-trailer", HeaderValue::from_static("kept"));
            sender.send(Frame::trailers(trailers)).await.ok()
        };
        tokio::select! {
            _ = speaking => {}
            () = sender.closed() => {} // the call was cancelled
        }
    });
    response(Answer(Some(receiver)))
}

/// What a method says; nothing for one that has said all in its head.
struct Answer(Option<mpsc::Receiver<Frame<Bytes>>>);

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(said) = &mut self.0 else { return Poll::Ready(None) };
        said.poll_recv(cx).map(|frame| frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }
}

fn response(body: Answer) -> Response<Answer> {
    Response::builder().header("content-type", "application/grpc").header("x-initial", "kept").body(body).unwrap()
}

fn outcome(code: u16, text: &str) -> HeaderMap {
    let mut fields = HeaderMap::new();
    fields.insert("grpc-status", HeaderValue::from(code));
    fields.insert("grpc-message", HeaderValue::from_str(text).unwrap());
    fields
}

/// A call under way.
pub struct Call {
    /// Says more; dropped, it has said all.
    pub say: Option<mpsc::Sender<Bytes>>,
    pub head: response::Parts,
    body: Incoming,
    heard: BytesMut,
}

/// How a call ended: its code, its message, and all trailers.
#[derive(Debug)]
pub struct End {
    pub code: u16,
    pub message: String,
    pub fields: HeaderMap,
}

impl End {
    fn of(fields: &HeaderMap) -> Option<Self> {
        let text = |name: &str| Some(fields.get(name)?.to_str().unwrap().to_owned());
        let code = text("grpc-status")?.parse().unwrap();
        Some(Self { code, message: text("grpc-message").unwrap_or_default(), fields: fields.clone() })
    }
}

/// The head of a call.
pub fn asking(path: &str, fields: &[(&str, &str)]) -> request::Builder {
    let mut request = Request::post(format!("https://site.test{path}"))
        .header("content-type", "application/grpc+proto")
        .header("te", "trailers");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request
}

/// Begins a call that says `first` and may say more.
pub async fn begin(sender: &SendRequest<Pieces>, path: &str, fields: &[(&str, &str)], first: &[&str]) -> Call {
    let (say, pieces) = mpsc::channel(16);
    for text in first {
        say.send(message(text)).await.unwrap();
    }
    let request = asking(path, fields).body(Pieces(pieces)).unwrap();
    let answer = within("a call's head", sender.clone().send_request(request)).await.expect("an answer");
    let (head, body) = answer.into_parts();
    Call { say: Some(say), head, body, heard: BytesMut::new() }
}

impl Call {
    pub async fn say(&self, text: &str) {
        self.say.as_ref().unwrap().send(message(text)).await.unwrap();
    }

    /// The next message, or how the call ended; `None` for a stream that was reset.
    pub async fn hear(&mut self) -> Option<Result<String, End>> {
        loop {
            if let Some(text) = self.whole_message() {
                return Some(Ok(text));
            }
            if let Some(end) = End::of(&self.head.headers) {
                return Some(Err(end)); // Trailers-Only
            }
            let frame = within("a message or the end", self.body.frame()).await?.ok()?;
            match frame.into_data() {
                Ok(data) => self.heard.extend_from_slice(&data),
                Err(frame) => return Some(Err(End::of(frame.trailers_ref().unwrap()).expect("an outcome"))),
            }
        }
    }

    fn whole_message(&mut self) -> Option<String> {
        let length = usize::try_from(u32::from_be_bytes(self.heard.get(1..5)?.try_into().unwrap())).unwrap();
        if self.heard.len() < 5 + length {
            return None;
        }
        self.heard.advance(5);
        Some(String::from_utf8(self.heard.split_to(length).to_vec()).unwrap())
    }

    /// The next message.
    pub async fn message(&mut self) -> String {
        self.hear().await.expect("no reset").expect("a message")
    }

    /// How the call ends, all messages before it passed over.
    pub async fn end(&mut self) -> End {
        loop {
            if let Err(end) = self.hear().await.expect("an outcome in trailers") {
                return end;
            }
        }
    }
}
