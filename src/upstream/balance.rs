//! Which of several candidates a request goes to: the rules alone.
//!
//! Pure: chance and load are arguments, candidates are asked for and not kept, so that a choice allocates nothing and locks nothing.
//! Refuses to know what a candidate is, and why one is not eligible.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// The share of its weight that a candidate counts with once it is warm.
pub(super) const WHOLE: u64 = 1000;
/// The share that one begins with: small enough to be spared, large enough to be warmed at all.
const FIRST: u64 = 100;

/// What a rule must know of one candidate now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    /// Whether it may be chosen.
    pub(super) eligible: bool,
    /// Requests it has.
    pub(super) in_flight: u64,
    /// Its share of the requests, beside those of the others; a weight of the configuration times [`WHOLE`] at most.
    pub(super) weight: u64,
    /// The lowest number that has an eligible candidate is used, and no other.
    pub(super) priority: u8,
}

/// The candidates a rule may choose from: those that are eligible and of one priority.
///
/// What is asked may change while a rule is at work, because others change it too: a rule that finds nothing takes what it has.
#[derive(Debug)]
pub(super) struct Field<F> {
    count: usize,
    priority: u8,
    candidate: F,
}

impl<F: Fn(usize) -> Candidate> Field<F> {
    /// The first of `count` candidates' priorities that has an eligible one; `None` if no candidate is eligible.
    pub(super) fn among(count: usize, candidate: F) -> Option<Self> {
        let all = (0..count).map(&candidate).filter(|candidate| candidate.eligible);
        let priority = all.map(|candidate| candidate.priority).min()?;
        Some(Self { count, priority, candidate })
    }

    /// Two candidates are drawn, by their weights, and the one with fewer requests for its weight is chosen. Everybody who always took the
    /// least loaded would take the same one; two are enough to spare the most loaded (Mitzenmacher, "The power of two choices", 2001).
    pub(super) fn least_requests(&self, dice: &Dice) -> Option<usize> {
        let (first, one) = self.draw(dice, None)?;
        let Some((second, other)) = self.draw(dice, Some(first)) else { return Some(first) };
        // one.in_flight / one.weight <= other.in_flight / other.weight, without the division
        let as_free = one.in_flight.saturating_mul(other.weight) <= other.in_flight.saturating_mul(one.weight);
        Some(if as_free { first } else { second })
    }

    /// One by its weight alone.
    pub(super) fn random(&self, dice: &Dice) -> Option<usize> {
        self.draw(dice, None).map(|(at, _)| at)
    }

    /// In turn, each as often as it weighs and as evenly spread as that allows: all gain their weight, the one that has most goes and
    /// pays what all gained. What each has is kept in `credit`, by one thread.
    pub(super) fn round_robin<'c>(&self, credit: impl Fn(usize) -> &'c AtomicI64) -> Option<usize> {
        let mut best: Option<(usize, i64)> = None;
        let mut gained = 0;
        for (at, candidate) in self.members() {
            let weight = signed(candidate.weight);
            let has = credit(at).load(Ordering::Relaxed).saturating_add(weight);
            credit(at).store(has, Ordering::Relaxed);
            gained += weight;
            if best.is_none_or(|(_, most)| has > most) {
                best = Some((at, has));
            }
        }
        let (at, has) = best?;
        credit(at).store(has - gained, Ordering::Relaxed);
        Some(at)
    }

    /// The same one for the same `key` as long as it is there: each candidate has a score for each key, by its own `identity`, and the
    /// best is chosen. When one leaves, only its own keys move, to all others by their weights; one that comes takes only what will be
    /// its own (weighted rendezvous hashing; Thaler and Ravishankar 1998, Schindelhauer and Schomaker 2005).
    ///
    /// With `most_percent` nobody is given more than so many per cent of its share of the requests under way: what is beyond goes to the
    /// next best (Mirrokni, Thorup and Zadimoghaddam, "Consistent hashing with bounded loads", 2016).
    pub(super) fn hashed(&self, key: u64, identity: impl Fn(usize) -> u64, most_percent: Option<u32>) -> Option<usize> {
        let score = |(at, candidate): &(usize, Candidate)| score(key, identity(*at), candidate.weight);
        let best = |left: &(usize, Candidate), right: &(usize, Candidate)| score(left).total_cmp(&score(right));
        if let Some(percent) = most_percent {
            let all = self.members().fold((0, 0), |(busy, weight): (u64, u64), (_, candidate)| {
                (busy.saturating_add(candidate.in_flight), weight.saturating_add(candidate.weight))
            });
            let has_room = |(_, candidate): &(usize, Candidate)| candidate.in_flight < room(*candidate, all, percent);
            if let Some((at, _)) = self.members().filter(has_room).min_by(best) {
                return Some(at);
            }
        }
        self.members().min_by(best).map(|(at, _)| at)
    }

    fn members(&self) -> impl Iterator<Item = (usize, Candidate)> {
        let all = (0..self.count).map(|at| (at, (self.candidate)(at)));
        all.filter(|(_, candidate)| candidate.eligible && candidate.priority == self.priority)
    }

    /// One other than `not`, each as likely as it is heavy.
    fn draw(&self, dice: &Dice, not: Option<usize>) -> Option<(usize, Candidate)> {
        let others = || self.members().filter(|(at, _)| Some(*at) != not);
        let mut left = dice.below(others().map(|(_, candidate)| candidate.weight).sum());
        let mut last = None;
        for (at, candidate) in others() {
            last = Some((at, candidate));
            let Some(rest) = left.checked_sub(candidate.weight) else { break };
            left = rest;
        }
        last
    }
}

/// How many requests a candidate may have: its share of those under way and the new one, times `percent`, and one at the least.
fn room(candidate: Candidate, (busy, weight): (u64, u64), percent: u32) -> u64 {
    let share = u128::from(busy + 1) * u128::from(candidate.weight) * u128::from(percent);
    u64::try_from(share.div_ceil(u128::from(weight.max(1)) * 100)).unwrap_or(u64::MAX).max(1)
}

/// An exponential waiting time with the rate `weight`, the same for the same key and identity; the shortest wins.
#[allow(clippy::cast_precision_loss)] // 53 bits are kept, which is what an `f64` has; a weight has fewer
fn score(key: u64, identity: u64, weight: u64) -> f64 {
    let even = ((mix(key ^ identity) >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    -even.ln() / weight as f64
}

fn signed(weight: u64) -> i64 {
    i64::try_from(weight).unwrap_or(i64::MAX)
}

/// The share of its weight with which a candidate counts that has been there for `age` of the `slow_start` it takes to be warm, both in
/// milliseconds.
pub(super) fn share(age: u64, slow_start: u64) -> u64 {
    if age >= slow_start { WHOLE } else { (age.saturating_mul(WHOLE) / slow_start).max(FIRST) }
}

/// A number for some bytes: the same everywhere and in every version, so that several gateways agree (FNV-1a, mixed).
pub(super) fn hash(bytes: &[u8]) -> u64 {
    let sum = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum: u64, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    mix(sum)
}

/// Spreads what differs in a few bits over all of them (the finaliser of `SplitMix64`).
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Chance, for choices that guard no secret (`SplitMix64`).
#[derive(Debug)]
pub(super) struct Dice(AtomicU64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// A number below `bound`; 0 if there is none.
    fn below(&self, bound: u64) -> u64 {
        let state = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let scaled = (u128::from(mix(state)) * u128::from(bound)) >> 64;
        u64::try_from(scaled).unwrap_or_default()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn idle(weight: u64) -> Candidate {
        Candidate { eligible: true, in_flight: 0, weight: weight * WHOLE, priority: 0 }
    }

    fn field(candidates: &[Candidate]) -> Field<impl Fn(usize) -> Candidate> {
        Field::among(candidates.len(), |at| candidates[at]).unwrap()
    }

    /// How often each is chosen in `rounds`.
    fn tally(count: usize, rounds: u64, mut choose: impl FnMut(u64) -> usize) -> Vec<u64> {
        let mut tally = vec![0; count];
        for round in 0..rounds {
            tally[choose(round)] += 1;
        }
        tally
    }

    fn identity(at: usize) -> u64 {
        hash(format!("http://10.0.0.{at}:8000").as_bytes())
    }

    #[test]
    fn of_two_that_are_drawn_the_one_with_fewer_requests_for_its_weight_is_chosen() {
        let dice = Dice::new(1);
        let busy = |in_flight, weight| Candidate { in_flight, ..idle(weight) };
        for (candidates, chosen) in [
            ([busy(3, 1), busy(2, 1)], 1),
            ([busy(3, 2), busy(2, 1)], 0),
            ([busy(1, 1), busy(0, 1000)], 1),
            ([busy(4, 2), busy(3, 1)], 0),
        ] {
            let field = field(&candidates);
            assert_eq!(tally(2, 100, |_| field.least_requests(&dice).unwrap())[chosen], 100, "{candidates:?}");
        }
    }

    #[test]
    fn idle_candidates_get_requests_by_their_weights() {
        let (dice, candidates) = (Dice::new(2), [idle(1), idle(2), idle(5)]);
        for choose in [Field::least_requests, Field::random] {
            let tally = tally(3, 80_000, |_| choose(&field(&candidates), &dice).unwrap());
            for (got, share) in tally.iter().zip([10_000, 20_000, 50_000]) {
                assert!(got.abs_diff(share) < share / 10, "{tally:?}");
            }
        }
    }

    /// Requests that stay: the fullest of eight has hardly more than its share, where chance alone lets it have far more.
    #[test]
    fn two_choices_keep_the_fullest_near_the_mean() {
        let dice = Dice::new(3);
        let mut candidates = [idle(1); 8];
        for _ in 0..8000 {
            let chosen = field(&candidates).least_requests(&dice).unwrap();
            candidates[chosen].in_flight += 1;
        }
        let fullest = candidates.iter().map(|candidate| candidate.in_flight).max();
        assert!(fullest <= Some(1010), "{fullest:?}");
    }

    #[test]
    fn in_turn_means_evenly_spread_by_weight() {
        let turns = |weights: &[u64]| {
            let candidates: Vec<_> = weights.iter().copied().map(idle).collect();
            let credit: Vec<_> = weights.iter().map(|_| AtomicI64::new(0)).collect();
            let rounds = weights.iter().sum::<u64>() * 2;
            (0..rounds).map(|_| field(&candidates).round_robin(|at| &credit[at]).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(turns(&[1, 1, 1]), [0, 1, 2, 0, 1, 2]);
        assert_eq!(turns(&[5, 1, 1]), [0, 0, 1, 0, 2, 0, 0, 0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn the_lowest_priority_with_an_eligible_candidate_is_used_and_left_when_a_lower_one_returns() {
        let dice = Dice::new(4);
        let mut candidates = [idle(1), idle(1), idle(1)].map(|candidate| Candidate { priority: 1, ..candidate });
        candidates[0].priority = 0;
        candidates[2].priority = 2;
        let chosen = |candidates: &[Candidate]| {
            Field::among(3, |at| candidates[at]).map(|field| field.least_requests(&dice).unwrap())
        };
        assert_eq!(chosen(&candidates), Some(0));
        candidates[0].eligible = false;
        assert_eq!(chosen(&candidates), Some(1));
        candidates[1].eligible = false;
        assert_eq!(chosen(&candidates), Some(2));
        candidates[2].eligible = false;
        assert_eq!(chosen(&candidates), None);
        candidates[0].eligible = true;
        assert_eq!(chosen(&candidates), Some(0));
    }

    #[test]
    fn keys_are_spread_by_weight() {
        let candidates = [idle(1), idle(3), idle(1)];
        let tally = tally(3, 50_000, |key| field(&candidates).hashed(mix(key), identity, None).unwrap());
        for (got, share) in tally.iter().zip([10_000, 30_000, 10_000]) {
            assert!(got.abs_diff(share) < share / 10, "{tally:?}");
        }
    }

    #[test]
    fn a_key_goes_elsewhere_when_its_candidate_has_more_than_it_may() {
        let mut candidates = [idle(1), idle(1), idle(1), idle(1)];
        let key = hash(b"tenant");
        let own = field(&candidates).hashed(key, identity, Some(125)).unwrap();
        for _ in 0..1000 {
            let chosen = field(&candidates).hashed(key, identity, Some(125)).unwrap();
            candidates[chosen].in_flight += 1;
        }
        let most = candidates.iter().map(|candidate| candidate.in_flight).max().unwrap();
        assert_eq!((candidates[own].in_flight, most), (most, 313), "1.25 times a quarter of 1000");
        assert_eq!(field(&candidates).hashed(key, identity, None), Some(own), "without a bound it stays");
    }

    #[test]
    fn a_share_grows_from_a_tenth_to_the_whole() {
        for (age, expected) in [(0, 100), (3_000, 100), (15_000, 500), (29_999, 999), (30_000, 1000), (90_000, 1000)] {
            assert_eq!(share(age, 30_000), expected, "{age}");
        }
        assert_eq!(share(0, 0), WHOLE);
    }

    /// Whoever changes this moves every key of every gateway.
    #[test]
    fn the_hash_of_some_bytes_is_for_ever() {
        assert_eq!((hash(b""), hash(b"tenant")), (0xf52a_15e9_a9b5_e89b, 0xdc12_0423_2a05_f768));
        assert_ne!(hash(b"a"), hash(b"b"));
    }

    fn some_candidates() -> impl Strategy<Value = Vec<Candidate>> {
        let one = (any::<bool>(), 0..1000u64, 1..=1000 * WHOLE, 0..4u8);
        let one =
            one.prop_map(|(eligible, in_flight, weight, priority)| Candidate { eligible, in_flight, weight, priority });
        prop::collection::vec(one, 1..12)
    }

    proptest! {
        #[test]
        fn whatever_the_rule_what_is_chosen_is_eligible_and_of_the_first_priority(
            candidates in some_candidates(), seed: u64, key: u64, percent in prop::option::of(100..300u32)
        ) {
            let eligible = candidates.iter().filter(|candidate| candidate.eligible);
            let first = eligible.map(|candidate| candidate.priority).min();
            let Some(field) = Field::among(candidates.len(), |at| candidates[at]) else {
                prop_assert_eq!(first, None);
                return Ok(());
            };
            let (dice, credit) = (Dice::new(seed), candidates.iter().map(|_| AtomicI64::new(0)).collect::<Vec<_>>());
            for chosen in [
                field.least_requests(&dice),
                field.random(&dice),
                field.round_robin(|at| &credit[at]),
                field.hashed(key, identity, percent),
            ] {
                let chosen = candidates[chosen.unwrap()];
                prop_assert!(chosen.eligible && Some(chosen.priority) == first);
            }
        }

        #[test]
        fn when_one_leaves_no_other_key_moves(count in 2..9usize, gone in 0..9usize, key: u64) {
            let gone = gone % count;
            let mut candidates = vec![idle(1); count];
            let before = field(&candidates).hashed(key, identity, None).unwrap();
            candidates[gone].eligible = false;
            let after = field(&candidates).hashed(key, identity, None).unwrap();
            prop_assert!(after != gone && (before == gone || before == after));
        }

        #[test]
        fn one_that_grows_takes_keys_and_gives_none(count in 2..9usize, key: u64, weight in 2..20u64) {
            let mut candidates = vec![idle(1); count];
            let before = field(&candidates).hashed(key, identity, None).unwrap();
            candidates[0] = idle(weight);
            let after = field(&candidates).hashed(key, identity, None).unwrap();
            prop_assert!(after == before || after == 0);
        }
    }
}
