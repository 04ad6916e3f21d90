//! Drives a connection to its end: the deadlines of a client that sends nothing, and the drain.
//!
//! The deadlines live here and not in the stream, because the parser does not read again when a response ends while a read is
//! already waiting: only whoever polls the connection sees that it has become idle. The parser's own timer starts after the first
//! request and never for a client that sends nothing.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Poll, ready};
use std::time::Duration;

use super::Limits;
use super::activity::{Activity, Wait};
use super::guarded::LINGER;
use crate::deadline::Deadline;
use crate::shutdown::Drain;

/// How long an idle connection may still send a request once the drain has begun.
pub(super) const DRAIN_IDLE: Duration = Duration::from_secs(1);

/// Why a connection is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Farewell {
    /// The drain has begun: what is under way is finished.
    Drain,
    /// The client has sent no request for too long.
    Idle,
}

/// How driving a connection ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended<C: Future> {
    /// By itself.
    Done(C, C::Output),
    /// Its client was waited for too long.
    Cut,
    /// It has been idle for a while with nothing left to write: it can be put aside.
    Idle(C),
}

/// Polls `connection` to its end, until its client has been waited for too long, or, if it may `rest`, until it has been idle for so
/// long. `bid` asks the connection to end by itself.
pub(super) async fn drive<C: Future + Unpin>(
    connection: C,
    mut bid: impl FnMut(&mut C, Farewell),
    drain: &Drain,
    activity: &Activity,
    limits: &Limits,
    rest: Option<Duration>,
) -> Ended<C> {
    let mut connection = Some(connection);
    let mut begun = pin!(drain.begun());
    let (mut registered, mut draining, mut closing, mut resting) = (false, false, false, false);
    let mut waiting = Wait::Nothing;
    let mut deadline = Deadline::default();
    poll_fn(|cx| {
        let Some(serving) = &mut connection else { return Poll::Pending }; // polled after it was ready
        // The waker of this task never changes, so waiting for the signal costs its lock once, not at every wake-up.
        if !draining && (!registered || drain.started()) {
            registered = true;
            activity.driven_by(cx.waker());
            if begun.as_mut().poll(cx).is_ready() {
                draining = true;
                activity.drain();
                bid(serving, Farewell::Drain);
            }
        }
        let mut done = None;
        loop {
            if let Poll::Ready(output) = Pin::new(&mut *serving).poll(cx) {
                done = Some(output);
                break; // with the connection, which is borrowed here
            }
            let wait = activity.wait();
            if !closing && wait != waiting {
                waiting = wait;
                resting = rest.is_some() && matches!(wait, Wait::Idle(_));
                arm(&mut deadline, wait, limits);
                if let Some(rest) = rest.filter(|rest| resting && *rest < limits.idle_timeout) {
                    deadline.set(rest);
                }
            }
            ready!(deadline.poll_passed(cx));
            if closing && wait == Wait::Nothing {
                deadline.set(LINGER); // a request that was on its way when farewell was bidden is finished
                continue;
            }
            if closing || matches!(waiting, Wait::Head(_) | Wait::Window(_)) {
                return Poll::Ready(Ended::Cut);
            }
            if resting {
                resting = false;
                if activity.is_at_rest() {
                    break;
                }
                deadline.set(limits.idle_timeout);
                continue;
            }
            closing = true;
            bid(serving, Farewell::Idle);
            deadline.set(LINGER);
        }
        let Some(connection) = connection.take() else { return Poll::Pending };
        Poll::Ready(match done {
            Some(output) => Ended::Done(connection, output),
            None => Ended::Idle(connection),
        })
    })
    .await
}

fn arm(deadline: &mut Deadline, wait: Wait, limits: &Limits) {
    match wait {
        Wait::Nothing => deadline.clear(),
        Wait::Idle(_) => deadline.set(limits.idle_timeout),
        Wait::DrainIdle(_) => deadline.set(DRAIN_IDLE.min(limits.idle_timeout)),
        Wait::Head(_) => deadline.set(limits.header_timeout),
        Wait::Window(_) => deadline.set(limits.write_timeout),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::Context;

    use tokio::time::Instant;

    use super::*;

    /// A connection that never ends by itself.
    struct Stubborn;

    impl Future for Stubborn {
        type Output = ();

        fn poll(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<()> {
            Poll::Pending
        }
    }

    /// How long the connection was kept, and what it was bidden.
    async fn kept(drain: &Drain, activity: &Activity) -> (Duration, Vec<Farewell>) {
        let start = Instant::now();
        let mut bidden = Vec::new();
        let ended =
            drive(Stubborn, |_, farewell| bidden.push(farewell), drain, activity, &Limits::default(), None).await;
        assert!(matches!(ended, Ended::Cut));
        (start.elapsed(), bidden)
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_nothing_is_bidden_farewell_and_then_cut() {
        let (_trigger, drain) = Drain::new();
        let (elapsed, bidden) = kept(&drain, &Activity::default()).await;
        assert_eq!(elapsed, Limits::default().idle_timeout + LINGER);
        assert_eq!(bidden, [Farewell::Idle]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_partial_head_is_cut_by_the_header_timer() {
        let (_trigger, drain) = Drain::new();
        let activity = Activity::default();
        activity.received(true, false);
        assert_eq!(kept(&drain, &activity).await, (Limits::default().header_timeout, vec![]));
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_ends_soon_once_the_drain_begins() {
        let (trigger, drain) = Drain::new();
        trigger.begin();
        let (elapsed, bidden) = kept(&drain, &Activity::default()).await;
        assert_eq!(elapsed, DRAIN_IDLE + LINGER);
        assert_eq!(bidden, [Farewell::Drain, Farewell::Idle]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_being_answered_is_not_idle_and_the_idle_time_begins_at_its_end() {
        let (_trigger, drain) = Drain::new();
        let activity = Arc::new(Activity::default());
        let mut answering = Some(activity.begin());
        let mut sleep = Box::pin(tokio::time::sleep(Duration::from_hours(1)));
        let answered = poll_fn(move |cx| {
            if sleep.as_mut().poll(cx).is_ready() {
                drop(answering.take());
                sleep.as_mut().reset(Instant::now() + Duration::from_hours(9));
                cx.waker().wake_by_ref();
            }
            Poll::<()>::Pending
        });
        let start = Instant::now();
        let ended = drive(Box::pin(answered), |_, _| (), &drain, &activity, &Limits::default(), None).await;
        assert!(matches!(ended, Ended::Cut));
        assert_eq!(start.elapsed(), Duration::from_hours(1) + Limits::default().idle_timeout + LINGER);
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_put_aside_only_when_nothing_is_left_to_write() {
        let (_trigger, drain) = Drain::new();
        let (limits, rest) = (Limits::default(), Some(Duration::from_millis(250)));
        let activity = Activity::default();
        activity.received(false, true);
        let start = Instant::now();
        assert!(matches!(drive(Stubborn, |_, _| (), &drain, &activity, &limits, rest).await, Ended::Cut));
        assert!(start.elapsed() >= limits.idle_timeout);

        activity.received(false, false);
        let start = Instant::now();
        assert!(matches!(drive(Stubborn, |_, _| (), &drain, &activity, &limits, rest).await, Ended::Idle(_)));
        assert_eq!(Some(start.elapsed()), rest);
    }
}
