//! The exchange itself: a request out, a bounded answer back, all under one deadline.

use std::error::Error as _;
use std::fmt;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderValue, Request, Response};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::{FetchError, FetchSettings, Location, freshness, trust};

/// Idle connections kept for each server: introspection asks for every request, key sets once in minutes.
const MAX_IDLE: usize = 4;
/// How long an idle connection is kept; most servers keep theirs longer.
const IDLE: Duration = Duration::from_secs(20);
/// Most bytes of an answer's head.
const HEAD_BYTES: usize = 64 * 1024;

/// Asks servers, within its settings. Clones share their idle connections.
///
/// Idle connections are driven on the runtime that dialled them: give each runtime a `Fetcher` of its own. Their tasks are not
/// counted in a drain, since nothing is lost with them; the exchange itself runs in its caller's task.
#[derive(Clone)]
pub struct Fetcher {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    plain_http: bool,
    timeout: Duration,
    max_bytes: usize,
}

/// An answer with status 200.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// The status; 200, since any other is an error.
    pub status: u16,
    /// The whole body.
    pub body: Bytes,
    /// How long it stays fresh, from `Cache-Control` and `Age`; zero where it must not be kept, `None` where nothing is said.
    pub max_age: Option<Duration>,
    /// `Content-Type` as it was sent, if it is text.
    pub content_type: Option<String>,
}

impl Fetcher {
    /// Reads the authorities; connects to nobody yet.
    pub fn new(settings: &FetchSettings) -> Result<Self, FetchError> {
        let tls = HttpsConnectorBuilder::new().with_tls_config(trust::client(settings)?);
        let tls = if settings.plain_http { tls.https_or_http() } else { tls.https_only() };
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(MAX_IDLE)
            .http1_max_buf_size(HEAD_BYTES)
            .build(tls.enable_http1().wrap_connector(tcp));
        Ok(Self { client, plain_http: settings.plain_http, timeout: settings.timeout, max_bytes: settings.max_bytes })
    }

    /// What `url` answers to a GET. Cancel-safe: dropping it closes the connection.
    pub async fn get(&self, url: &Location) -> Result<Fetched, FetchError> {
        let request = Request::get(url.uri().clone());
        self.exchange(url, request, Bytes::new()).await
    }

    /// What `url` answers to a form. `body` is already encoded (`application/x-www-form-urlencoded`).
    ///
    /// The form may be sent twice when the server closes the connection without an answer, so it must ask and not change.
    pub async fn post_form(
        &self,
        url: &Location,
        authorization: Option<HeaderValue>,
        body: String,
    ) -> Result<Fetched, FetchError> {
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        let mut request = Request::post(url.uri().clone()).header(CONTENT_TYPE, form);
        if let Some(mut authorization) = authorization {
            authorization.set_sensitive(true);
            request = request.header(AUTHORIZATION, authorization);
        }
        self.exchange(url, request, Bytes::from(body)).await
    }

    async fn exchange(
        &self,
        url: &Location,
        request: http::request::Builder,
        body: Bytes,
    ) -> Result<Fetched, FetchError> {
        if url.is_plain() && !self.plain_http {
            return Err(FetchError::PlainHttp);
        }
        let request = request
            .header(ACCEPT, HeaderValue::from_static("application/json"))
            .header(ACCEPT_ENCODING, HeaderValue::from_static("identity"))
            .header(USER_AGENT, HeaderValue::from_static(concat!("portcullis/", env!("CARGO_PKG_VERSION"))))
            .body(Full::new(body))
            .expect("the URI and all fields are already of their types");
        let answered = async { self.read(self.send(request).await?).await };
        tokio::time::timeout(self.timeout, answered).await.map_err(|_| FetchError::Timeout(self.timeout))?
    }

    /// A server may close an idle connection just as the request is written to it, so that is tried once more.
    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, FetchError> {
        let answer = match self.client.request(request.clone()).await {
            Err(error) if closed_without_answer(&error) => self.client.request(request).await,
            answer => answer,
        };
        answer.map_err(
            |error| {
                if error.is_connect() { FetchError::Connect(error) } else { FetchError::Exchange(error) }
            },
        )
    }

    async fn read(&self, response: Response<Incoming>) -> Result<Fetched, FetchError> {
        let (head, body) = response.into_parts();
        let status = head.status.as_u16();
        match status {
            200 => {}
            300..=399 => return Err(FetchError::Redirect { status }),
            _ => return Err(FetchError::Status { status }),
        }
        let body = self.read_body(body).await?;
        let content_type = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Ok(Fetched { status, body, max_age: freshness::max_age(&head.headers), content_type })
    }

    async fn read_body(&self, mut body: Incoming) -> Result<Bytes, FetchError> {
        let too_large = FetchError::TooLarge { limit: self.max_bytes };
        if usize::try_from(body.size_hint().lower()).is_ok_and(|announced| announced > self.max_bytes) {
            return Err(too_large);
        }
        let mut whole = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(FetchError::Body)?.into_data() else { continue };
            if whole.len() + data.len() > self.max_bytes {
                return Err(too_large);
            }
            whole.extend_from_slice(&data);
        }
        Ok(whole.freeze())
    }
}

impl fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetcher").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

fn closed_without_answer(error: &ClientError) -> bool {
    let source = error.source().and_then(|source| source.downcast_ref::<hyper::Error>());
    source.is_some_and(hyper::Error::is_incomplete_message)
}
