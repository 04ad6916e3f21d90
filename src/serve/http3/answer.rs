//! An answer on its way to the client: written as the client takes it, and never ended cleanly unless it is whole.
//!
//! Owns what a response needs to be one of HTTP/3: its date (RFC 9110 section 6.6.1), its length where it is known, no content where
//! there is none (RFC 9110 section 6.4.1). Each wait for the client has a deadline; any progress moves it.

use std::time::SystemTime;

use bytes::{Buf as _, Bytes};
use http::header::{CONTENT_LENGTH, DATE};
use http::{HeaderValue, Response};
use http_body::Body;
use http_body_util::BodyExt as _;
use quinn::{SendStream, VarInt, WriteError};
use tokio::time::timeout;

use crate::http::BodyError;
use crate::http::http3::{Code, data_frame, response_head, trailers};
use crate::serve::account::{Account, Terms};

/// The sending side of a request stream. Dropped before its end it is reset: what a stream's drop would send is a clean end.
#[derive(Debug)]
pub(super) struct Answer {
    send: SendStream,
    terms: Terms,
    account: Account,
    /// What the stream is reset with, unless it has ended.
    reset_with: Option<Code>,
    /// Whether it answers HEAD: what has no content here would have had some.
    to_head: bool,
}

/// Why an answer was not sent whole.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unsent {
    /// The client took nothing in time, or too little over time.
    #[error("the client took nothing in time, or too little")]
    TooSlow,
    /// The client stopped the stream, or the connection has ended.
    #[error("the client left")]
    Gone(#[from] WriteError),
    /// Whoever made the body failed.
    #[error("the answer broke off")]
    Broken(#[source] BodyError),
}

impl Answer {
    pub(super) fn new(send: SendStream, terms: Terms) -> Self {
        Self { send, terms, account: Account::default(), reset_with: Some(Code::InternalError), to_head: false }
    }

    /// The request is one by HEAD.
    pub(super) fn answers_head(&mut self) {
        self.to_head = true;
    }

    /// Resolves when the client wants no more, when the connection has ended, or when all that was sent has arrived.
    pub(super) fn over(&self) -> impl Future<Output = ()> + Send + 'static {
        let stopped = self.send.stopped();
        async { drop(stopped.await) }
    }

    /// The answer that is to come is reset with `code` if it does not.
    pub(super) fn reset_with(&mut self, code: Code) {
        self.reset_with = Some(code);
    }

    /// A response before the response: only its head counts.
    pub(super) async fn interim(&mut self, response: &Response<()>) -> Result<(), Unsent> {
        self.write(&mut [response_head(response)]).await
    }

    /// Sends a response to its end.
    pub(super) async fn send<B>(&mut self, mut response: Response<B>) -> Result<(), Unsent>
    where
        B: Body<Error = BodyError> + Unpin,
    {
        complete(&mut response, self.to_head);
        self.write(&mut [response_head(&response)]).await?;
        let silent = has_no_content(&response);
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            match frame.map_err(Unsent::Broken)?.into_data() {
                Ok(mut data) if data.has_remaining() && !silent => {
                    let data = data.copy_to_bytes(data.remaining());
                    self.write(&mut [data_frame(data.len()), data]).await?;
                }
                Ok(_) => {}
                Err(frame) => {
                    let fields = frame.into_trailers().unwrap_or_default();
                    self.write(&mut [trailers(&fields)]).await?;
                    break;
                }
            }
        }
        self.reset_with = None;
        self.send.finish().ok(); // stopped by the client, who has then all it wants
        Ok(())
    }

    /// Writes all of `chunks`, as fast as the client takes them.
    async fn write(&mut self, chunks: &mut [Bytes]) -> Result<(), Unsent> {
        let mut rest = chunks;
        while !rest.is_empty() {
            let written = timeout(self.account.waits(self.terms), self.send.write_chunks(rest)).await;
            let written = written.map_err(|_| Unsent::TooSlow)??;
            self.account.goes_on(self.terms);
            self.account.took(written.bytes, self.terms);
            rest = &mut rest[written.chunks..];
        }
        Ok(())
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(code) = self.reset_with {
            self.send.reset(VarInt::from_u32(code.value())).ok(); // the connection may have ended
        }
    }
}

/// What hyper adds to answers of the other protocols.
fn complete<B: Body>(response: &mut Response<B>, to_head: bool) {
    let length = response.body().size_hint().exact().filter(|_| !to_head && !has_no_content(response));
    let headers = response.headers_mut();
    headers.entry(DATE).or_insert_with(|| {
        HeaderValue::from_str(&httpdate::fmt_http_date(SystemTime::now())).expect("a date is ASCII")
    });
    if let Some(length) = length {
        headers.entry(CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
    }
}

/// RFC 9110 sections 15.3.5 and 15.4.5. What was asked for by HEAD has been seen to further in.
fn has_no_content<B>(response: &Response<B>) -> bool {
    matches!(response.status().as_u16(), 204 | 304)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Body as OwnBody;

    fn completed(status: u16, length: Option<u64>, body: OwnBody, to_head: bool) -> Response<OwnBody> {
        let mut response = Response::builder().status(status);
        if let Some(length) = length {
            response = response.header(CONTENT_LENGTH, length);
        }
        let mut response = response.body(body).expect("a response");
        complete(&mut response, to_head);
        response
    }

    fn length(response: &Response<OwnBody>) -> Option<&str> {
        response.headers().get(CONTENT_LENGTH).map(|length| length.to_str().expect("digits"))
    }

    #[test]
    fn a_known_length_is_told_and_one_that_was_told_is_kept() {
        assert_eq!(length(&completed(200, None, OwnBody::full("abc"), false)), Some("3"));
        assert_eq!(length(&completed(404, None, OwnBody::empty(), false)), Some("0"));
        assert_eq!(length(&completed(200, Some(17), OwnBody::empty(), true)), Some("17"));
        assert_eq!(length(&completed(200, None, OwnBody::empty(), true)), None, "nobody knows what GET would have");
        assert_eq!(length(&completed(204, None, OwnBody::empty(), false)), None);
        assert_eq!(length(&completed(304, Some(17), OwnBody::empty(), false)), Some("17"));
    }

    #[test]
    fn every_answer_has_a_date_and_one_date() {
        let response = completed(200, None, OwnBody::empty(), false);
        assert!(httpdate::parse_http_date(response.headers()[DATE].to_str().expect("ASCII")).is_ok());
        let mut dated = Response::builder()
            .header(DATE, "Tue, 15 Nov 1994 08:12:31 GMT")
            .body(OwnBody::empty())
            .expect("a response");
        complete(&mut dated, false);
        assert_eq!(dated.headers().get_all(DATE).iter().collect::<Vec<_>>(), ["Tue, 15 Nov 1994 08:12:31 GMT"]);
    }
}
