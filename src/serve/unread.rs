//! A request's body before anybody reads it, and what becomes of it when nobody does.
//!
//! Over HTTP/2 and HTTP/3 a response may be complete before the request is (RFC 9113 section 8.1, RFC 9114 section 4.1). Dropping the
//! body then resets or stops the stream at once, and clients that are still sending (curl 7.88 over HTTP/2 among them) take that for a
//! failure and lose the response. So an unread body is held for a moment, within a bound. Over HTTP/1 the stream lingers instead, see
//! [`super::guarded`].

use std::time::Duration;

use http::Version;
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::activity::Activity;
use crate::http::{ClientBody, Live, Pace, RequestBody};
use crate::shutdown::Tasks;

/// How long an unread body is held for its client to notice the response.
const LINGER: Duration = Duration::from_secs(1);
/// How much of it is read and thrown away meanwhile.
const LINGER_BYTES: usize = super::WINDOW_BYTES as usize;

/// A body that may be taken once.
#[derive(Debug)]
pub(super) struct Unread {
    body: Option<ClientBody>,
    live: Option<Live>,
    /// Where a body nobody took lingers; `None` if it need not.
    tasks: Option<Tasks>,
}

impl Unread {
    pub(super) fn new(body: ClientBody, version: Version, tasks: &Tasks, activity: &Activity) -> Self {
        let is_there = !body.is_end_stream();
        let lingers = version >= Version::HTTP_2 && is_there;
        let live = is_there.then(|| activity.receive());
        Self { body: Some(body), live, tasks: lingers.then(|| tasks.clone()) }
    }

    /// Whether the request has one.
    pub(super) fn is_there(&self) -> bool {
        self.live.is_some()
    }

    /// The body, for somebody who reads it within bounds.
    pub(super) fn take(mut self, limit: u64, pace: Pace) -> RequestBody {
        let body = self.body.take().expect("`take` consumes the only holder");
        RequestBody::new(body, limit, pace, self.live.take())
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        if let (Some(body), Some(tasks)) = (self.body.take(), self.tasks.take()) {
            tasks.spawn(linger(body, self.live.take()));
        }
    }
}

async fn linger(mut body: ClientBody, _live: Option<Live>) {
    let until = Instant::now() + LINGER;
    let mut left = LINGER_BYTES;
    while let Ok(Some(Ok(frame))) = timeout_at(until, body.frame()).await {
        let length = frame.data_ref().map_or(0, bytes::Bytes::len);
        let Some(rest) = left.checked_sub(length) else { return sleep_until(until).await };
        left = rest;
    }
}
