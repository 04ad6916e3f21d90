//! Who of those that wait is served next: the one that waits longest, or under overload the one that came last.
//!
//! Under overload, whoever has waited longest has likely given up, and work that is done for him is lost for those who have not; who came
//! last can still be served in time (B. Maurer, "Fail at Scale", ACM Queue 13.8, 2015: adaptive LIFO). It is overload when somebody has been waiting
//! all the time for longer than [`STANDING`], which is how `CoDel` tells a standing queue from a burst (RFC 8289). Pure: time is an argument.

use std::collections::VecDeque;
use std::time::Duration;

use super::QueueOrder;

/// For so long there may be a queue, as after a burst.
pub(super) const STANDING: Duration = Duration::from_millis(100);

/// Those that wait, in the order in which they came.
#[derive(Debug)]
pub(super) struct Line<T> {
    waiting: VecDeque<(u64, T)>,
    next: u64,
    /// Since when there is always somebody.
    since: Duration,
}

impl<T> Line<T> {
    pub(super) fn new() -> Self {
        Self { waiting: VecDeque::new(), next: 0, since: Duration::ZERO }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// One more waits; its number.
    pub(super) fn join(&mut self, now: Duration, who: T) -> u64 {
        if self.waiting.is_empty() {
            self.since = now;
        }
        let number = self.next;
        self.next += 1;
        self.waiting.push_back((number, who));
        number
    }

    /// Who is served next, and no longer waits.
    pub(super) fn serve(&mut self, now: Duration, order: QueueOrder) -> Option<T> {
        let overload = now.saturating_sub(self.since) > STANDING;
        let served = match order {
            QueueOrder::Adaptive if overload => self.waiting.pop_back(),
            QueueOrder::Adaptive | QueueOrder::Fifo => self.waiting.pop_front(),
        };
        served.map(|(_, who)| who)
    }

    /// The one of this number waits no more; `None` if it was served.
    pub(super) fn leave(&mut self, number: u64) -> Option<T> {
        let at = self.waiting.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        self.waiting.remove(at).map(|(_, who)| who)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn after_a_burst_who_waits_longest_is_next_and_under_overload_who_came_last() {
        for (order, expected) in
            [(QueueOrder::Adaptive, ['a', 'd', 'c', 'b']), (QueueOrder::Fifo, ['a', 'b', 'c', 'd'])]
        {
            let mut line = Line::new();
            for who in ['a', 'b', 'c', 'd'] {
                line.join(millis(1000), who);
            }
            let served = [1100, 1101, 1200, 9000].map(|now| line.serve(millis(now), order).unwrap());
            assert_eq!(served, expected, "{order:?}");
            assert!(line.is_empty() && line.serve(millis(9000), order).is_none());
        }
    }

    #[test]
    fn the_overload_is_over_when_nobody_waited_for_a_moment() {
        let mut line = Line::new();
        line.join(millis(0), 'a');
        line.serve(millis(500), QueueOrder::Adaptive);
        line.join(millis(500), 'b');
        line.join(millis(500), 'c');
        assert_eq!(line.serve(millis(550), QueueOrder::Adaptive), Some('b'));
    }

    #[test]
    fn who_leaves_is_not_served() {
        let mut line = Line::new();
        let numbers = ['a', 'b', 'c'].map(|who| line.join(millis(0), who));
        assert_eq!(line.leave(numbers[1]), Some('b'));
        assert_eq!(line.leave(numbers[1]), None);
        assert_eq!(line.serve(millis(0), QueueOrder::Fifo), Some('a'));
        assert_eq!(line.leave(numbers[0]), None, "it was served");
        assert_eq!(line.serve(millis(0), QueueOrder::Fifo), Some('c'));
    }

    proptest! {
        #[test]
        fn everybody_is_served_or_leaves_and_nobody_twice(steps in proptest::collection::vec((0u8..3, 0u64..200), 0..200)) {
            let (mut line, mut now, mut joined, mut gone) = (Line::new(), 0, 0u64, Vec::new());
            for (what, number) in steps {
                now += number;
                match what {
                    0 => {
                        prop_assert_eq!(line.join(millis(now), joined), joined);
                        joined += 1;
                    }
                    1 => gone.extend(line.serve(millis(now), QueueOrder::Adaptive)),
                    _ => gone.extend(line.leave(number)),
                }
            }
            while let Some(who) = line.serve(millis(now), QueueOrder::Adaptive) {
                gone.push(who);
            }
            gone.sort_unstable();
            prop_assert_eq!(gone, (0..joined).collect::<Vec<_>>());
        }
    }
}
