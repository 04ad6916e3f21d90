//! How many requests one endpoint is given at once: found out, and not configured.
//!
//! A gradient limit: while answers take as long as they do when the endpoint has little to do, it is given more at once; when they take
//! longer, requests wait there and not here, and it is given fewer. The formula is that of Envoy's adaptive concurrency filter
//! (`limit * gradient + headroom`, the headroom being half the root of the limit here), which is a relative of Gradient2 of Netflix's concurrency-limits and
//! of TCP Vegas (Brakmo and Peterson, 1995). How long answers take when there is little to do is measured anew every [`LOOK_AGAIN`], with half of
//! the limit: one that is learned from the load itself follows the load, and the limit with it. It is measured too when the limit has fallen
//! by half, in case that it is the work which takes longer, and not the wait for it. Pure: time is an argument.

use std::time::Duration;

use super::ConcurrencyBounds;

/// A look at the answers ends after so long, and so many of them.
const WINDOW: Duration = Duration::from_millis(100);
const LEAST_ANSWERS: u32 = 20;
/// How often it is measured what answers take when there is little to do.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// How soon it may be measured again, whatever the limit does.
const LOOK_NO_SOONER: Duration = Duration::from_secs(1);
/// For how long the limit is halved for it. What lasts for longer, as streams do, would never let it be measured.
const LOOK_FOR: Duration = Duration::from_secs(1);
/// Answers may take so many times as long before the limit falls.
const TOLERANCE: f64 = 1.25;
/// In one window the limit falls by no more, and grows by no more but for the headroom.
const LEAST_GRADIENT: f64 = 0.5;
const MOST_GRADIENT: f64 = 2.0;
/// What the limit begins with.
const FIRST: f64 = 8.0;

/// The limit of one endpoint.
#[derive(Debug)]
pub(super) struct Limit {
    bounds: ConcurrencyBounds,
    /// A real number, or small limits would never grow.
    most: f64,
    /// What answers take when there is little to do; `None` before that is known.
    usual: Option<Duration>,
    /// When it was last begun to be measured, and whether it is being measured now.
    looked: Duration,
    looking: bool,
    /// The limit after that.
    looked_at: f64,
    window: Window,
}

#[derive(Debug, Default)]
struct Window {
    began: Duration,
    answers: u32,
    time: Duration,
    /// The most requests that were under way when one of them was answered.
    under_way: usize,
}

impl Limit {
    pub(super) fn new(bounds: ConcurrencyBounds) -> Self {
        let most = FIRST.clamp(real(bounds.min), real(bounds.max));
        Self {
            bounds,
            most,
            usual: None,
            looked: Duration::ZERO,
            looking: true,
            looked_at: most,
            window: Window::default(),
        }
    }

    /// How many requests may be under way now.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // between two bounds, which are counts
    pub(super) fn now(&self) -> usize {
        let share = if self.looking && self.usual.is_some() { 0.5 } else { 1.0 };
        ((self.most * share) as usize).clamp(self.bounds.min, self.bounds.max)
    }

    /// An answer came after `time`, when so many requests were under way, itself included.
    pub(super) fn answered(&mut self, now: Duration, time: Duration, under_way: usize) {
        let window = &mut self.window;
        if window.answers == 0 {
            window.began = now;
        }
        window.answers += 1;
        window.time += time;
        window.under_way = window.under_way.max(under_way);
        if window.answers < LEAST_ANSWERS || now.saturating_sub(window.began) < WINDOW {
            return;
        }
        let (time, under_way) = (window.time / window.answers, window.under_way);
        self.window = Window::default();
        self.look(now, time, under_way);
    }

    /// A window is over, in which answers took so long.
    fn look(&mut self, now: Duration, time: Duration, under_way: usize) {
        if self.looking {
            // What was begun before the limit was halved may still be among them.
            if under_way <= self.now() || self.usual.is_none() {
                self.usual = Some(time);
            } else if now.saturating_sub(self.looked) < LOOK_FOR {
                return;
            }
            (self.looking, self.looked_at) = (false, self.most);
            return;
        }
        let usual = self.usual.unwrap_or(time);
        let gradient =
            (TOLERANCE * usual.as_secs_f64() / time.as_secs_f64().max(1e-6)).clamp(LEAST_GRADIENT, MOST_GRADIENT);
        let limit = self.most * gradient + 0.5 * self.most.sqrt();
        // A limit that nobody comes near is not the reason for anything.
        if limit < self.most || 2 * under_way >= self.now() {
            self.most = limit.clamp(real(self.bounds.min), real(self.bounds.max));
        }
        let since = now.saturating_sub(self.looked);
        if since >= LOOK_AGAIN || since >= LOOK_NO_SOONER && 2.0 * self.most < self.looked_at {
            (self.looking, self.looked) = (true, now);
        }
    }
}

#[allow(clippy::cast_precision_loss)] // requests under way
fn real(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOUNDS: ConcurrencyBounds = ConcurrencyBounds { min: 1, max: 256 };

    /// A server that works on `capacity` requests at once, each for `work`: of more, all wait for one another. It is sent as many as the limit
    /// allows, of `wanted`.
    struct Server {
        capacity: usize,
        work: Duration,
    }

    impl Server {
        /// What the limit is after each second.
        fn run(&self, limit: &mut Limit, now: &mut Duration, secs: usize, wanted: usize) -> Vec<usize> {
            (0..secs)
                .map(|_| {
                    let end = *now + Duration::from_secs(1);
                    while *now < end {
                        let under_way = limit.now().min(wanted).max(1);
                        let time = self.work.mul_f64(real(under_way.max(self.capacity)) / real(self.capacity));
                        *now += time / u32::try_from(under_way).unwrap();
                        limit.answered(*now, time, under_way);
                    }
                    limit.now()
                })
                .collect()
        }
    }

    fn server(capacity: usize) -> Server {
        Server { capacity, work: Duration::from_millis(20) }
    }

    /// In how many of the last seconds the limit was between these.
    fn between(limits: &[usize], low: usize, high: usize) -> usize {
        limits.iter().filter(|limit| (low..=high).contains(*limit)).count()
    }

    #[test]
    fn the_limit_settles_near_what_the_server_can_do() {
        for capacity in [2, 8, 32, 100] {
            let (mut limit, mut now) = (Limit::new(BOUNDS), Duration::ZERO);
            let limits = server(capacity).run(&mut limit, &mut now, 300, 1000);
            // But for the looks, at half of it.
            let settled = between(&limits[200..], capacity, 2 * capacity + 3);
            assert!(settled >= 90, "{capacity}: {:?}", &limits[200..]);
            assert!(limits[200..].iter().all(|limit| 2 * limit >= capacity), "{capacity}: {:?}", &limits[200..]);
        }
    }

    #[test]
    fn it_falls_when_answers_take_longer_and_grows_when_they_do_not() {
        let (mut limit, mut now) = (Limit::new(BOUNDS), Duration::ZERO);
        let before = *server(64).run(&mut limit, &mut now, 10, 1000).last().unwrap();
        assert!(before >= 64, "{before}");
        let less = *server(8).run(&mut limit, &mut now, 10, 1000).last().unwrap();
        assert!(less <= 20, "{less} of {before}");
        let more = *server(64).run(&mut limit, &mut now, 60, 1000).last().unwrap();
        assert!(more >= 64, "{more}");
    }

    #[test]
    fn a_server_whose_work_takes_longer_is_given_as_much_after_a_moment() {
        let (mut limit, mut now) = (Limit::new(BOUNDS), Duration::ZERO);
        server(32).run(&mut limit, &mut now, 40, 1000);
        let slower = Server { capacity: 32, work: Duration::from_millis(80) };
        let limits = slower.run(&mut limit, &mut now, 60, 1000);
        assert!(between(&limits[10..], 32, 70) >= 45, "{limits:?}");
    }

    #[test]
    fn a_limit_that_nobody_comes_near_does_not_grow() {
        let (mut limit, mut now) = (Limit::new(BOUNDS), Duration::ZERO);
        let limits = server(100).run(&mut limit, &mut now, 100, 3);
        assert!(limits.iter().all(|limit| *limit <= 8), "{limits:?}");
    }

    proptest! {
        #[test]
        fn it_stays_within_its_bounds(
            min in 1usize..20,
            more in 0usize..200,
            answers in proptest::collection::vec((0u64..50_000, 0u64..10_000_000, 0usize..500), 0..2000),
        ) {
            let bounds = ConcurrencyBounds { min, max: min + more };
            let (mut limit, mut now) = (Limit::new(bounds), Duration::ZERO);
            for (pause, time, under_way) in answers {
                now += Duration::from_micros(pause);
                limit.answered(now, Duration::from_micros(time), under_way);
                prop_assert!((bounds.min..=bounds.max).contains(&limit.now()));
            }
        }
    }
}
