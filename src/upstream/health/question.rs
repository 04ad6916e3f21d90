//! One probe: a connection of its own, a question over it, and whether the answer is good.
//!
//! Answers for gRPC's health checking protocol (`grpc.health.v1`). Whatever is not a good answer is a bad one; nothing is asked twice.

use std::future::{Future, poll_fn};
use std::pin::pin;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, Uri, Version, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;

use super::Question;
use crate::http::grpc;
use crate::shutdown::Tasks;
use crate::upstream::stream::{Stream, open};
use crate::upstream::{Address, Place, TlsClient, Wire};

/// How much of an answer is looked at.
const LOOKED_AT_BYTES: usize = 4 * 1024;
/// The longest head of an answer.
const HEAD_BYTES: usize = 64 * 1024;
const AGENT: &str = "portcullis-probe";
/// The method of the health service.
const CHECK: &str = "/grpc.health.v1.Health/Check";
/// `status: SERVING`: field 1, a number, which is 1.
const SERVING: [u8; 2] = [0x08, 1];

/// What came of a probe: the `result` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Probed {
    /// A good answer.
    Ok,
    /// No connection, or none that TLS could be spoken over.
    Connect,
    /// Nothing in time.
    Timeout,
    /// An answer that is not good, or none.
    Answer,
}

impl Probed {
    pub(super) const ALL: [Self; 4] = [Self::Ok, Self::Connect, Self::Timeout, Self::Answer];

    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Answer => "answer",
        }
    }
}

/// Asks once. Its caller has the deadline.
pub(super) async fn ask(
    question: &Question,
    address: &Address,
    tls: Option<&TlsClient>,
    announcement: &[u8],
    tasks: &Tasks,
) -> Probed {
    let Ok(stream) = open(address, tls, announcement).await else { return Probed::Connect };
    let good = match question {
        Question::Tcp => Some(true),
        Question::Http { path, host, statuses, body } => {
            let request = request(address, path, host.as_deref(), Bytes::new());
            exchange(stream, address.wire, request, tasks, async |response| {
                let asked = statuses.contains(&response.status().as_u16());
                match body {
                    Some(body) if asked => {
                        let (seen, _) = beginning(response).await;
                        seen.windows(body.len()).any(|window| window == body.as_bytes())
                    }
                    _ => asked,
                }
            })
            .await
        }
        Question::Grpc { service, host } => {
            let request = call(address, service, host.as_deref());
            exchange(stream, address.wire, request, tasks, async |response| {
                let (message, trailers) = beginning(response).await;
                trailers.is_some_and(|trailers| grpc::is_success(&trailers)) && says_serving(&message)
            })
            .await
        }
    };
    if good == Some(true) { Probed::Ok } else { Probed::Answer }
}

/// Sends the request over a connection that lives for it alone; `None` if there was no answer.
async fn exchange(
    stream: Stream,
    wire: Wire,
    request: Request<Full<Bytes>>,
    tasks: &Tasks,
    judge: impl AsyncFnOnce(Response<Incoming>) -> bool,
) -> Option<bool> {
    let io = TokioIo::new(stream);
    if wire == Wire::Http2 {
        let builder = http2::Builder::new(Spawning(tasks.clone()));
        let (mut sender, connection) = builder.handshake(io).await.ok()?;
        let asking = async { Some(judge(sender.send_request(request).await.ok()?).await) };
        return beside(connection, asking).await;
    }
    let (mut sender, connection) = http1::Builder::new().max_buf_size(HEAD_BYTES).handshake(io).await.ok()?;
    let asking = async { Some(judge(sender.send_request(request).await.ok()?).await) };
    beside(connection, asking).await
}

/// Drives the connection as long as the exchange over it lasts; what it has heard last may be read when it has ended.
async fn beside<T>(connection: impl Future, exchange: impl Future<Output = T>) -> T {
    let (mut connection, mut exchange) = (pin!(connection), pin!(exchange));
    let mut ended = false;
    poll_fn(|cx| {
        ended = ended || connection.as_mut().poll(cx).is_ready();
        exchange.as_mut().poll(cx)
    })
    .await
}

fn request(address: &Address, path: &str, host: Option<&str>, body: Bytes) -> Request<Full<Bytes>> {
    let host = host.map_or_else(|| own_host(address), str::to_owned);
    let mut request = Request::new(Full::new(body));
    let target = if address.wire == Wire::Http2 {
        *request.version_mut() = Version::HTTP_2;
        format!("{}://{host}{path}", if address.tls { "https" } else { "http" })
    } else {
        path.to_owned()
    };
    // What can't be a target was refused when the file was read; asking for `/` would not be what was meant, and fails nothing else.
    *request.uri_mut() = target.parse().unwrap_or_else(|_| Uri::from_static("/"));
    let headers = request.headers_mut();
    headers.insert(header::USER_AGENT, header::HeaderValue::from_static(AGENT));
    if address.wire != Wire::Http2 {
        if let Ok(host) = host.parse() {
            headers.insert(header::HOST, host);
        }
        headers.insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    }
    request
}

/// A call of the health service: a message of one field, the name of the service, left out if it is empty.
fn call(address: &Address, service: &str, host: Option<&str>) -> Request<Full<Bytes>> {
    let mut message = Vec::new();
    if let Ok(length) = u8::try_from(service.len())
        && length > 0
    {
        message.extend([0x0a, length]);
        message.extend(service.as_bytes());
    }
    let length = u32::try_from(message.len()).unwrap_or_default().to_be_bytes();
    let framed = [&[0][..], &length, &message].concat();
    let mut request = request(address, CHECK, host, framed.into());
    *request.method_mut() = http::Method::POST;
    request.headers_mut().insert(header::CONTENT_TYPE, grpc::MEDIA_TYPE);
    request.headers_mut().insert(header::TE, header::HeaderValue::from_static("trailers"));
    request
}

/// Whether a gRPC answer is one uncompressed message that says SERVING.
fn says_serving(framed: &[u8]) -> bool {
    matches!(framed.split_at_checked(5), Some(([0, 0, 0, 0, 2], message)) if message == SERVING)
}

/// What an answer begins with, and its trailers if it is over by then.
async fn beginning(response: Response<Incoming>) -> (Vec<u8>, Option<HeaderMap>) {
    let (mut body, mut seen) = (response.into_body(), Vec::new());
    while let Some(Ok(frame)) = body.frame().await {
        match frame.into_data() {
            Ok(data) => {
                let left = LOOKED_AT_BYTES - seen.len();
                seen.extend_from_slice(&data[..data.len().min(left)]);
                if data.len() >= left {
                    break;
                }
            }
            Err(frame) => return (seen, frame.into_trailers().ok()),
        }
    }
    (seen, None)
}

/// The host by which an endpoint is asked that is told no other.
fn own_host(address: &Address) -> String {
    match &address.place {
        Place::Tcp { host, port } => format!("{host}:{port}"),
        Place::Name(name) => name.host().to_owned(),
        Place::Found { of, at } => format!("{}:{}", of.vouched(), at.port()),
        Place::Unix(_) | Place::Whoami => "localhost".to_owned(),
    }
}

/// Runs the tasks of a probe's HTTP/2 connection; they end with it.
#[derive(Clone)]
struct Spawning(Tasks);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Spawning {
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_the_endpoint_unless_it_is_told_another_host() {
        let address = |text: &str| text.parse::<Address>().expect("an address");
        let plain = request(&address("http://10.0.0.1:8000"), "/healthz?full", None, Bytes::new());
        assert_eq!(
            (plain.uri().to_string(), &plain.headers()[header::HOST]),
            ("/healthz?full".into(), &"10.0.0.1:8000".parse().expect("a value"))
        );
        let socket = request(&address("unix:/run/app.sock"), "/", Some("www.example.com"), Bytes::new());
        assert_eq!(socket.headers()[header::HOST], "www.example.com");
        let call = call(&address("h2://10.0.0.1"), "shop", None);
        assert_eq!(call.uri(), "https://10.0.0.1:443/grpc.health.v1.Health/Check");
        assert!(!call.headers().contains_key(header::HOST));
    }

    #[test]
    fn only_serving_is_well() {
        assert!(says_serving(&[0, 0, 0, 0, 2, 8, 1]));
        for bad in [&[][..], &[0, 0, 0, 0, 0], &[0, 0, 0, 0, 2, 8, 2], &[0, 0, 0, 0, 2, 8, 0], &[1, 0, 0, 0, 2, 8, 1]] {
            assert!(!says_serving(bad), "{bad:?}");
        }
        assert!(!says_serving(&[0, 0, 0, 0, 2, 8, 1, 8, 1]), "more than one message");
    }
}
