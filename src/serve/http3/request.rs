//! One request stream: the head within its deadline, the stack, the answer.
//!
//! Owns what becomes of a stream whatever happens on it: answered, refused with a code, or given up because its client left. Refuses to
//! know what the answer is.

use std::pin::pin;
use std::sync::Arc;

use http::header::EXPECT;
use http::{Method, Request, request};
use quinn::{RecvStream, SendStream};
use tokio::time::timeout;
use tower::Service as _;

use super::answer::{Answer, Unsent};
use super::body::{StreamBody, Trouble};
use super::{Limits, PARSE_REASON, Place, close};
use crate::http::ClientBody;
use crate::http::http3::{Code, Fault, HeadProblem, request_head};
use crate::observe::Chain;
use crate::serve::connection::stack;
use crate::serve::context::Connection;
use crate::serve::respond;

/// What a request stream needs besides its bytes.
pub(super) struct Stream {
    pub(super) quic: quinn::Connection,
    pub(super) connection: Arc<Connection>,
    pub(super) limits: Limits,
    pub(super) place: Place,
}

/// What the client sent in place of a request.
enum Refused {
    /// It left, or was told already.
    Silently,
    /// The stream is of no use.
    With(Code),
    /// It is told so.
    TooLarge,
}

impl Stream {
    /// Serves one request. Dropping the future resets the stream and ends the exchange.
    pub(super) async fn serve(self, send: SendStream, recv: RecvStream) {
        let mut answer = Answer::new(send, self.limits.taking());
        let mut body = StreamBody::new(recv, self.quic.clone(), self.limits.header_bytes);
        match self.head(&mut body).await {
            Ok(head) => self.exchange(head, body, answer).await,
            Err(Refused::Silently) => {
                answer.reset_with(Code::RequestCancelled);
                self.place.abandoned();
            }
            Err(Refused::With(code)) => {
                body.stop(code);
                answer.reset_with(code);
                self.place.abandoned();
            }
            Err(Refused::TooLarge) => {
                self.connection.worker.meter.malformed(PARSE_REASON);
                if answer.send(respond::head_too_large()).await.is_ok() {
                    timeout(self.limits.write_timeout, answer.over()).await.ok(); // or it never arrives
                }
            }
        }
    }

    async fn head(&self, body: &mut StreamBody) -> Result<request::Parts, Refused> {
        let Ok(section) = timeout(self.limits.header_timeout, body.head()).await else {
            return Err(Refused::With(Code::RequestIncomplete));
        };
        let section = section.map_err(|trouble| self.refused(&trouble))?;
        let head = request_head(&section, self.limits.header_bytes);
        let (head, length) = head.map_err(|problem| self.malformed(problem))?;
        body.expect(length).await.map_err(|trouble| self.refused(&trouble))?;
        Ok(head)
    }

    fn refused(&self, trouble: &Trouble) -> Refused {
        let Trouble::Fault(fault) = trouble else { return Refused::Silently };
        match fault {
            Fault::Stream(Code::ExcessiveLoad) => return Refused::TooLarge,
            Fault::Stream(Code::RequestIncomplete) => {} // the client thought better of it
            _ => self.connection.worker.meter.malformed(PARSE_REASON),
        }
        match fault {
            Fault::Stream(code) => Refused::With(*code),
            Fault::Connection(_) => Refused::Silently, // it is closed
        }
    }

    fn malformed(&self, problem: HeadProblem) -> Refused {
        tracing::debug!(peer = %self.connection.peer, %problem, "malformed request");
        if problem == HeadProblem::TooLarge {
            return Refused::TooLarge;
        }
        self.connection.worker.meter.malformed(PARSE_REASON);
        match problem {
            HeadProblem::Compression => {
                close(&self.quic, Code::DecompressionFailed);
                Refused::Silently
            }
            HeadProblem::TooLarge | HeadProblem::Malformed(_) => Refused::With(Code::MessageError),
        }
    }

    /// The request goes through the stack, and its answer to the client, unless the client leaves first.
    async fn exchange(self, head: request::Parts, mut body: StreamBody, mut answer: Answer) {
        let mut over = Box::pin(answer.over());
        if head.method == Method::HEAD {
            answer.answers_head();
        }
        let is_wanted = head.headers.contains_key(EXPECT).then(|| body.tell_when_wanted());
        let request = Request::from_parts(head, ClientBody::streamed(body));
        let mut stack = stack(Arc::clone(&self.connection));
        let answered = async {
            let mut answering = pin!(stack.call(request));
            if let Some(is_wanted) = is_wanted {
                tokio::select! {
                    biased;
                    response = answering.as_mut() => return answer.send(infallible(response)).await,
                    Ok(()) = is_wanted => answer.interim(&respond::go_on()).await?,
                }
            }
            answer.send(infallible(answering.await)).await
        };
        let sent = tokio::select! {
            biased;
            sent = answered => sent,
            () = &mut over => {
                answer.reset_with(Code::RequestCancelled);
                self.place.abandoned();
                return;
            }
        };
        match sent {
            Ok(()) => {
                self.place.answered();
                timeout(self.limits.write_timeout, over).await.ok(); // or it never arrives
            }
            Err(Unsent::Gone(_)) => self.place.abandoned(),
            Err(unsent) => {
                if matches!(unsent, Unsent::TooSlow) {
                    answer.reset_with(Code::RequestCancelled);
                }
                tracing::debug!(peer = %self.connection.peer, error = %Chain(&unsent), "an answer was not sent whole");
            }
        }
    }
}

fn infallible<T>(result: Result<T, std::convert::Infallible>) -> T {
    result.unwrap_or_else(|never| match never {})
}
