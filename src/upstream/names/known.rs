//! What is known of one name, from answer to answer: the rules alone.
//!
//! Pure: answers and chance are arguments, and what comes out says how long to wait. An address that an answer lacks rests: it gets no new
//! requests, but keeps its connections and what is known of it until the next answer lacks it too. So an address goes out of use at
//! once, and a server of names that gives another part of a set each time closes no connections. What failed changes nothing.

use std::net::SocketAddr;
use std::time::Duration;

use super::NameSettings;

/// Most addresses of one name; others are left out.
const MOST: usize = 64;
/// The longest pause after questions that failed, unless `min_ttl_secs` is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Names are looked up so much later, at the most, than they could be: many gateways do not ask at once.
const JITTER: f64 = 0.1;

/// What a name's records say of one endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Found {
    /// Where it is; the port is 0 where the records say none.
    pub at: SocketAddr,
    /// Its rank among the priorities of the answer, from 0.
    pub priority: u8,
    /// Its weight; 0 where the records say none.
    pub weight: u16,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// One at least, in any order.
    pub found: Vec<Found>,
    /// For how long it is good.
    pub ttl: Duration,
    /// Whether there may be more that could not be learned: what it lacks may still be there.
    pub partial: bool,
}

/// Why nothing came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// There is no such name.
    Missing,
    /// The name has no such records.
    Empty,
    /// The servers could not be asked, or could not say.
    Failed,
    /// Nothing in time.
    Timeout,
}

impl Trouble {
    /// A short stable name, for metrics and logs.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Empty => "empty",
            Self::Failed => "failed",
            Self::Timeout => "timeout",
        }
    }
}

/// One endpoint that a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) found: Found,
    /// Whether the last answer lacks it.
    pub(super) resting: bool,
}

/// What is known of one name.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// In order, so that the order of an answer means nothing.
    spots: Vec<Spot>,
    /// Questions that failed since one did not.
    failures: u32,
    /// Whether there was ever an answer, of whatever kind.
    heard: bool,
    /// Whether the last answer had more addresses than there may be.
    crowded: bool,
}

/// What an answer has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Change {
    /// Whether the endpoints are others, or rest, or do so no more.
    pub(super) endpoints: bool,
    /// Whether this is news: the first answer after failures, or the first failure.
    pub(super) fortune: bool,
    /// Whether there are for the first time more addresses than there may be.
    pub(super) crowded: bool,
    /// When to ask again.
    pub(super) again: Duration,
}

impl Known {
    pub(super) fn spots(&self) -> &[Spot] {
        &self.spots
    }

    /// Whether there was an answer of whatever kind.
    pub(super) fn is_heard(&self) -> bool {
        self.heard
    }

    /// Whether the last question failed.
    pub(super) fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// An answer came. `chance` is from 0 to 1.
    pub(super) fn answered(&mut self, answer: &Answer, settings: &NameSettings, chance: f64) -> Change {
        let mut spots: Vec<Spot> = Vec::new();
        let said = |at: SocketAddr| answer.found.iter().filter(|found| found.at == at).min().copied();
        // Those that are known come first: of more than there may be, always the same ones are used.
        for spot in &self.spots {
            match said(spot.found.at) {
                Some(found) => spots.push(Spot { found, resting: false }),
                None if answer.partial => spots.push(*spot),
                None if !spot.resting => spots.push(Spot { resting: true, ..*spot }),
                None => {}
            }
        }
        let mut new = answer.found.clone();
        new.sort_unstable();
        let before = self.crowded;
        self.crowded = false;
        for found in new {
            if spots.iter().any(|spot| spot.found.at == found.at) {
                continue;
            }
            // One that rests makes room for one that is there.
            if spots.len() == MOST
                && let Some(at) = spots.iter().position(|spot| spot.resting)
            {
                spots.remove(at);
            }
            if spots.len() == MOST {
                self.crowded = true;
                break;
            }
            spots.push(Spot { found, resting: false });
        }
        spots.sort_unstable_by_key(|spot| spot.found.at);
        let endpoints = spots != self.spots;
        let fortune = self.failures > 0 || !self.heard;
        (self.spots, self.failures, self.heard) = (spots, 0, true);
        let (least, most) = settings.ttl;
        let again = answer.ttl.clamp(least, most).mul_f64(1.0 + JITTER * chance);
        Change { endpoints, fortune, crowded: self.crowded && !before, again }
    }

    /// A question failed. What is known stays; the next question comes after a pause that doubles.
    pub(super) fn failed(&mut self, settings: &NameSettings, chance: f64) -> Change {
        let fortune = self.failures == 0;
        let pause = settings.ttl.0.saturating_mul(1 << self.failures.min(16));
        let again = pause.min(LONGEST_PAUSE.max(settings.ttl.0)).mul_f64(1.0 + JITTER * chance);
        self.failures = self.failures.saturating_add(1);
        self.heard = true;
        Change { endpoints: false, fortune, crowded: false, again }
    }
}

#[cfg(test)]
#[allow(clippy::float_cmp)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(last: u8) -> Found {
        Found { at: SocketAddr::from(([10, 0, 0, last], 0)), priority: 0, weight: 0 }
    }

    fn answer(last: &[u8]) -> Answer {
        Answer { found: last.iter().copied().map(found).collect(), ttl: Duration::from_secs(5), partial: false }
    }

    /// The addresses, those that rest as negative numbers.
    fn now(known: &Known) -> Vec<i16> {
        let last = |spot: &Spot| match spot.found.at {
            SocketAddr::V4(at) => i16::from(at.ip().octets()[3]),
            SocketAddr::V6(_) => unreachable!("there are none here"),
        };
        known.spots().iter().map(|spot| if spot.resting { -last(spot) } else { last(spot) }).collect()
    }

    fn hear(known: &mut Known, last: &[u8]) -> bool {
        known.answered(&answer(last), &NameSettings::default(), 0.0).endpoints
    }

    #[test]
    fn the_order_of_an_answer_means_nothing() {
        let mut known = Known::default();
        assert!(hear(&mut known, &[2, 1, 3]));
        assert!(!hear(&mut known, &[3, 1, 2]) && !hear(&mut known, &[1, 1, 2, 3]));
        assert_eq!(now(&known), [1, 2, 3]);
    }

    #[test]
    fn an_address_that_an_answer_lacks_rests_and_one_that_the_next_lacks_too_is_gone() {
        let mut known = Known::default();
        hear(&mut known, &[1, 2]);
        assert!(hear(&mut known, &[1]));
        assert_eq!(now(&known), [1, -2]);
        assert!(hear(&mut known, &[1]));
        assert_eq!(now(&known), [1]);
        hear(&mut known, &[1, 3]);
        hear(&mut known, &[1]);
        assert!(hear(&mut known, &[1, 3]), "it came back");
        assert_eq!(now(&known), [1, 3]);
    }

    #[test]
    fn what_failed_changes_nothing_and_is_news_once() {
        let (mut known, settings) = (Known::default(), NameSettings::default());
        assert!(!known.is_heard() && known.failed(&settings, 0.0).fortune && known.is_heard() && known.is_failing());
        assert!(!known.failed(&settings, 0.0).fortune);
        let change = known.answered(&answer(&[1, 2]), &settings, 0.0);
        assert!(change.endpoints && change.fortune && !known.is_failing());
        assert!(!known.answered(&answer(&[1, 2]), &settings, 0.0).fortune);
        let change = known.failed(&settings, 0.0);
        assert!(change.fortune && !change.endpoints);
        assert_eq!(now(&known), [1, 2]);
    }

    #[test]
    fn a_failure_between_two_answers_makes_nothing_rest_or_go() {
        let mut known = Known::default();
        hear(&mut known, &[1, 2]);
        hear(&mut known, &[1]);
        known.failed(&NameSettings::default(), 0.0);
        assert_eq!(now(&known), [1, -2]);
    }

    #[test]
    fn a_partial_answer_adds_and_takes_nothing_away() {
        let mut known = Known::default();
        hear(&mut known, &[1, 2]);
        let partial = Answer { partial: true, ..answer(&[3]) };
        assert!(known.answered(&partial, &NameSettings::default(), 0.0).endpoints);
        assert_eq!(now(&known), [1, 2, 3]);
    }

    #[test]
    fn a_name_is_asked_again_when_its_time_runs_out_within_bounds() {
        let settings =
            NameSettings { ttl: (Duration::from_secs(2), Duration::from_secs(10)), ..NameSettings::default() };
        for (ttl, chance, expected) in [(5, 0.0, 5.0), (0, 0.0, 2.0), (3600, 0.0, 10.0), (5, 1.0, 5.5)] {
            let answer = Answer { ttl: Duration::from_secs(ttl), ..answer(&[1]) };
            let again = Known::default().answered(&answer, &settings, chance).again;
            assert_eq!(again.as_secs_f64(), expected, "{ttl} s");
        }
    }

    #[test]
    fn questions_that_fail_come_ever_more_rarely_up_to_a_bound() {
        let (mut known, settings) = (Known::default(), NameSettings::default());
        let pauses: Vec<u64> = (0..8).map(|_| known.failed(&settings, 0.0).again.as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30, 30]);
        (0..100).for_each(|_| assert!(known.failed(&settings, 1.0).again <= Duration::from_secs(33)));
        hear(&mut known, &[1]);
        assert_eq!(known.failed(&settings, 0.0).again, Duration::from_secs(1), "an answer begins anew");
    }

    #[test]
    fn of_too_many_addresses_always_the_same_are_used_and_it_is_said_once() {
        let (mut known, settings) = (Known::default(), NameSettings::default());
        let many: Vec<u8> = (1..=100).collect();
        let change = known.answered(&answer(&many), &settings, 0.0);
        assert!(change.crowded);
        let before = now(&known);
        assert_eq!(before.len(), MOST);
        let others: Vec<u8> = (0..=100).rev().collect();
        let change = known.answered(&answer(&others), &settings, 0.0);
        assert!(!change.crowded && !change.endpoints);
        assert_eq!(now(&known), before);
        let others: Vec<u8> = (65..=100).collect();
        hear(&mut known, &others);
        assert_eq!(now(&known).iter().filter(|last| **last > 0).count(), 36, "who rests makes room");
    }

    #[test]
    fn another_rank_is_a_change() {
        let (mut known, settings) = (Known::default(), NameSettings::default());
        let ranked = |weight| Answer { found: vec![Found { weight, ..found(1) }], ..answer(&[]) };
        assert!(known.answered(&ranked(10), &settings, 0.0).endpoints);
        assert!(!known.answered(&ranked(10), &settings, 0.0).endpoints);
        assert!(known.answered(&ranked(20), &settings, 0.0).endpoints);
    }

    proptest! {
        #[test]
        fn whatever_is_heard_there_are_not_too_many_and_the_last_answer_is_in_use(
            answers in prop::collection::vec(prop::option::of(prop::collection::vec(any::<u8>(), 1..200)), 1..12)
        ) {
            let (mut known, settings) = (Known::default(), NameSettings::default());
            for heard in &answers {
                match heard {
                    None => { known.failed(&settings, 0.5); }
                    Some(last) => {
                        hear(&mut known, last);
                        let fresh = known.spots().iter().filter(|spot| !spot.resting);
                        let said = |spot: &Spot| answer(last).found.contains(&spot.found);
                        prop_assert!(fresh.clone().all(said) && fresh.count() > 0);
                    }
                }
                prop_assert!(known.spots().len() <= MOST);
                prop_assert!(known.spots().is_sorted_by_key(|spot| spot.found.at));
            }
        }
    }
}
