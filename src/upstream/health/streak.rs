//! When probes change their mind about an endpoint: so many in a row that say otherwise.

/// What the probes of one endpoint have said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Streak {
    /// Whether the endpoint is well, as far as is known.
    up: bool,
    /// Whether a probe has ever said so.
    proven: bool,
    /// Probes in a row that say otherwise.
    against: u32,
}

impl Streak {
    /// Of an endpoint that is well, or is not, for now; one that nobody has proven yet is as soon as one probe says so.
    pub(super) fn new(up: bool, proven: bool) -> Self {
        Self { up, proven, against: 0 }
    }

    /// A probe has said whether the endpoint is well; what it is now, if that is news.
    pub(super) fn heard(&mut self, good: bool, healthy_after: u32, unhealthy_after: u32) -> Option<bool> {
        if good == self.up {
            self.against = 0;
            self.proven |= good;
            return None;
        }
        self.against += 1;
        let needed = match (good, self.proven) {
            (true, true) => healthy_after,
            (true, false) => 1,
            (false, _) => unhealthy_after,
        };
        if self.against < needed {
            return None;
        }
        *self = Self { up: good, proven: true, against: 0 };
        Some(good)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(mut streak: Streak, probes: &str) -> String {
        let word = |news| match news {
            None => '.',
            Some(true) => 'U',
            Some(false) => 'D',
        };
        probes.chars().map(|probe| word(streak.heard(probe == '+', 2, 3))).collect()
    }

    #[test]
    fn so_many_in_a_row_change_the_standing_and_others_do_not() {
        for (probes, expected) in [
            ("+++", "..."),
            ("---", "..D"),
            ("--+---", ".....D"),
            ("---+-++", "..D...U"),
            ("---++---", "..D.U..D"),
            ("-+-+-+-+", "........"),
        ] {
            assert_eq!(told(Streak::new(true, true), probes), expected, "{probes}");
        }
    }

    #[test]
    fn one_good_probe_is_enough_for_an_endpoint_that_is_new() {
        assert_eq!(told(Streak::new(false, false), "--+---++"), "..U..D.U");
        assert_eq!(told(Streak::new(false, true), "-++"), "..U", "and not for one that was out before");
    }

    proptest! {
        #[test]
        fn news_comes_only_after_a_whole_streak_and_takes_turns(probes in proptest::collection::vec(any::<bool>(), 0..200)) {
            let (mut streak, mut up, mut run) = (Streak::new(true, true), true, 0);
            for good in probes {
                run = if good == up { 0 } else { run + 1 };
                let needed = if good { 2 } else { 3 };
                let expected = (run == needed).then_some(good);
                prop_assert_eq!(streak.heard(good, 2, 3), expected);
                if expected.is_some() {
                    (up, run) = (good, 0);
                }
            }
        }
    }
}
