//! Drives a connection to its end, and lets it end well when the drain begins.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};

use super::guarded::Activity;
use crate::shutdown::Drain;

/// Polls `connection` to its end. When the drain begins, its stream stops waiting for idle clients and `on_drain` is called.
pub(super) async fn until_drained<C: Future + Unpin>(
    mut connection: C,
    on_drain: impl FnOnce(&mut C),
    drain: &Drain,
    activity: &Activity,
) -> C::Output {
    let mut begun = pin!(drain.begun());
    let mut on_drain = Some(on_drain);
    let mut registered = false;
    poll_fn(|cx| {
        // The waker of this task never changes, so waiting for the signal costs its lock once, not at every wake-up.
        if on_drain.is_some() && (!registered || drain.started()) {
            registered = true;
            if begun.as_mut().poll(cx).is_ready() {
                activity.drain();
                if let Some(on_drain) = on_drain.take() {
                    on_drain(&mut connection);
                }
            }
        }
        Pin::new(&mut connection).poll(cx)
    })
    .await
}
