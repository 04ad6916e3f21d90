//! The bound on expensive checks between two looks at a worker's sockets.
//!
//! A token that is not remembered costs a signature check of up to a hundred microseconds, and anybody can make up tokens. Here such
//! checks queue, first come first served, and after a few of them everybody else on the worker is served before the next: a flood of
//! forged tokens lengthens nobody's wait by more than one such turn. The queue is as long as there are requests under way, which
//! `[limits]` bounds.

use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tokio::task::yield_now;

/// Time spent checking after which others have their turn.
const BUDGET: Duration = Duration::from_micros(250);
/// Checks after which others have their turn, however quick they were: each also costs a request's reading and answering.
const CHECKS: u32 = 8;

/// One worker's turnstile.
#[derive(Debug, Default)]
pub(super) struct Turnstile(Mutex<Turn>);

/// What was done since others were last served.
#[derive(Debug, Default)]
struct Turn {
    spent: Duration,
    checks: u32,
}

impl Turnstile {
    /// Runs `check` when it is its turn.
    pub(super) async fn pass<T>(&self, check: impl FnOnce() -> T) -> T {
        let mut turn = self.0.lock().await;
        if turn.spent >= BUDGET || turn.checks >= CHECKS {
            yield_now().await;
            *turn = Turn::default();
        }
        let begun = Instant::now();
        let outcome = check();
        turn.spent += begun.elapsed();
        turn.checks += 1;
        outcome
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    #[test]
    fn others_are_served_between_the_checks_of_a_flood() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let order = Rc::new(RefCell::new(Vec::new()));
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async {
            let turnstile = Rc::new(Turnstile::default());
            let flood: Vec<_> = (0..64)
                .map(|_| {
                    let (turnstile, order) = (Rc::clone(&turnstile), Rc::clone(&order));
                    tokio::task::spawn_local(async move { turnstile.pass(|| order.borrow_mut().push("forged")).await })
                })
                .collect();
            let seen = Rc::clone(&order);
            let honest = tokio::task::spawn_local(async move {
                for _ in 0..4 {
                    seen.borrow_mut().push("honest");
                    yield_now().await;
                }
            });
            honest.await.unwrap();
            for one in flood {
                one.await.unwrap();
            }
        });
        let order = order.borrow();
        assert_eq!(order.iter().filter(|who| **who == "forged").count(), 64);
        let last_honest = order.iter().rposition(|who| *who == "honest").unwrap();
        let before = order[..last_honest].iter().filter(|who| **who == "forged").count();
        assert!(before <= 5 * usize::try_from(CHECKS).unwrap(), "{before} checks before the last honest turn");
    }
}
