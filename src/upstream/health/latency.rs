//! Which endpoint is slow beside the others: the time from a connection that is ready to the first byte of the answer.
//!
//! Owns how these times are counted, one relaxed add a request on a worker's own cell, and the rule that finds one too slow. The middle of an
//! endpoint's times counts, not their mean: a few requests that take long, whoever sent them, do not make a server slow. Pure but
//! for the counts; whoever looks says how long ago it looked before.

use std::array;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::settings::LatencySettings;
use crate::upstream::tally::CELLS;

/// Endpoints that there must be beside one that is found slow: of two, nobody knows which is the odd one.
pub(super) const OTHERS: usize = 2;

/// Steps for each doubling: a time is known to within a fifth.
const STEPS: u32 = 4;
/// Times below 2 to this power, in microseconds, are one.
const SHORTEST_POWER: u32 = 6;
/// So are those above 67 seconds.
const LONGEST_POWER: u32 = 26;
const STEP_COUNT: usize = ((LONGEST_POWER - SHORTEST_POWER) * STEPS) as usize + 1;

/// How many requests took how long, since the endpoint was first watched.
#[derive(Debug, Default)]
pub(super) struct Took {
    cells: [Cell; CELLS],
}

#[derive(Debug)]
#[repr(align(128))]
struct Cell([AtomicU32; STEP_COUNT]);

impl Default for Cell {
    fn default() -> Self {
        Self(array::from_fn(|_| AtomicU32::new(0)))
    }
}

/// The counts of one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts([u32; STEP_COUNT]);

impl Took {
    pub(super) fn add(&self, cell: usize, time: Duration) {
        self.cells[cell].0[step(time)].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn counts(&self) -> Counts {
        let of = |at: usize| {
            let counts = self.cells.iter().map(|cell| cell.0[at].load(Ordering::Relaxed));
            counts.fold(0, u32::wrapping_add)
        };
        Counts(array::from_fn(of))
    }
}

impl Counts {
    #[cfg(test)]
    pub(super) const NONE: Self = Self([0; STEP_COUNT]);

    /// The middle of the times that were counted since `before`, if they are as many as it takes.
    pub(super) fn median_since(&self, before: &Self, least: u64) -> Option<Duration> {
        let since = || self.0.iter().zip(&before.0).map(|(now, before)| u64::from(now.wrapping_sub(*before)));
        let all: u64 = since().sum();
        if all < least.max(1) {
            return None;
        }
        let half = all.div_ceil(2);
        let mut seen = 0;
        let at = since().position(|count| {
            seen += count;
            seen >= half
        });
        at.map(time)
    }
}

/// The places of the endpoints that are too slow beside the others, the slowest first. `medians` has one for each endpoint that is in use and
/// had requests enough.
pub(super) fn too_slow(medians: &[Option<Duration>], settings: &LatencySettings) -> Vec<usize> {
    let is_slow = |at: usize, median: Duration| {
        let others = medians.iter().enumerate().filter(|(other, _)| *other != at).filter_map(|(_, median)| *median);
        let mut others: Vec<Duration> = others.collect();
        others.sort_unstable();
        // Of an even number, the longer one of the two in the middle.
        let usual = others.get(others.len() / 2).filter(|_| others.len() >= OTHERS);
        median >= settings.least && usual.is_some_and(|usual| median > usual.mul_f64(settings.factor))
    };
    let known = medians.iter().enumerate().filter_map(|(at, median)| Some((at, (*median)?)));
    let mut slow: Vec<(usize, Duration)> = known.filter(|(at, median)| is_slow(*at, *median)).collect();
    slow.sort_by_key(|(_, median)| std::cmp::Reverse(*median));
    slow.into_iter().map(|(at, _)| at).collect()
}

/// The step that a time belongs to.
fn step(time: Duration) -> usize {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1);
    let power = micros.ilog2();
    if power < SHORTEST_POWER {
        return 0;
    }
    // The two bits below the highest: the quarters of a doubling.
    let quarter = (micros >> (power - 2)) & 3;
    let at = u64::from((power - SHORTEST_POWER) * STEPS) + quarter + 1;
    usize::try_from(at).unwrap_or(STEP_COUNT).min(STEP_COUNT - 1)
}

/// The longest time of a step.
fn time(step: usize) -> Duration {
    let step = u32::try_from(step).unwrap_or(0);
    let (power, quarters) = (SHORTEST_POWER + step / STEPS, 4 + u64::from(step % STEPS));
    Duration::from_micros((quarters << power) / 4)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SETTINGS: LatencySettings = LatencySettings { factor: 3.0, least: Duration::from_millis(50) };

    fn slow(millis: &[u64]) -> Vec<usize> {
        // 0 stands for too few requests.
        let median = |millis: &u64| (*millis > 0).then(|| Duration::from_millis(*millis));
        too_slow(&millis.iter().map(median).collect::<Vec<_>>(), &SETTINGS)
    }

    #[test]
    fn one_that_takes_so_many_times_as_long_as_the_others_is_slow() {
        assert_eq!(slow(&[20, 100, 25]), [1]);
        assert_eq!(slow(&[20, 60, 25]), [0; 0], "not three times");
        assert_eq!(slow(&[1, 40, 1]), [0; 0], "below what is worth it");
        assert_eq!(slow(&[400, 20, 20, 20, 900]), [4, 0], "the slowest first");
    }

    #[test]
    fn when_all_are_slow_nobody_is() {
        assert_eq!(slow(&[900, 1000, 1100]), [0; 0]);
        assert_eq!(slow(&[20, 900, 900]), [0; 0], "most of the others are");
    }

    #[test]
    fn beside_fewer_than_two_others_nobody_is_judged() {
        assert_eq!(slow(&[20, 900]), [0; 0]);
        assert_eq!(slow(&[20, 900, 0]), [0; 0], "one has too few requests");
        assert_eq!(slow(&[900]), [0; 0]);
    }

    #[test]
    fn the_middle_of_a_window_counts_and_not_what_was_before_nor_a_few_that_take_long() {
        let took = Took::default();
        (0..1000).for_each(|_| took.add(0, Duration::from_secs(9)));
        let before = took.counts();
        assert_eq!(took.counts().median_since(&before, 1), None, "nothing has come");
        (0..60).for_each(|cell| took.add(cell % CELLS, Duration::from_millis(10)));
        (0..40).for_each(|cell| took.add(cell % CELLS, Duration::from_mins(1)));
        assert_eq!(took.counts().median_since(&before, 101), None, "too few");
        let median = took.counts().median_since(&before, 100).unwrap();
        assert!((10..=12).contains(&median.as_millis()), "{median:?}");
    }

    proptest! {
        #[test]
        fn a_time_is_known_to_within_a_quarter(micros in 64u64..67_000_000) {
            let time = time(step(Duration::from_micros(micros)));
            let known = u64::try_from(time.as_micros()).unwrap();
            prop_assert!(known >= micros && known <= micros + micros / 4 + 1, "{micros} {known}");
        }

        #[test]
        fn any_time_has_a_step_and_a_longer_one_no_lower_one(first: u64, second: u64) {
            let (first, second) = (first.min(second), first.max(second));
            let (low, high) = (step(Duration::from_micros(first)), step(Duration::from_micros(second)));
            prop_assert!(low <= high && high < STEP_COUNT);
        }

        #[test]
        fn never_are_most_of_them_slow(millis in proptest::collection::vec(0u64..10_000, 0..12)) {
            let known = millis.iter().filter(|millis| **millis > 0).count();
            prop_assert!(2 * slow(&millis).len() <= known);
        }
    }
}
