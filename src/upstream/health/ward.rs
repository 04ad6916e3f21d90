//! All endpoints of one upstream together: how many may be out of use, and who is told.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::eject::Seen;
use super::question::Probed;
use super::standing::random;
use super::streak::Streak;
use super::{EjectSettings, HealthSettings, ProbeSettings, Standing};
use crate::upstream::{Address, Presence};

/// How long an ejected endpoint is out in any case. When all fail, they take turns no faster.
const SHORTEST: Duration = Duration::from_secs(1);

/// The standing of each endpoint of an upstream, in the order of the configuration.
#[derive(Debug)]
pub(in crate::upstream) struct Ward {
    upstream: Box<str>,
    settings: HealthSettings,
    endpoints: Box<[(Address, Arc<Standing>)]>,
    /// Held while it is decided whether another endpoint may go: two at once could be one too many.
    deciding: Mutex<()>,
}

impl Ward {
    /// All are eligible: nothing is known of them yet.
    pub(in crate::upstream) fn new(
        upstream: &str,
        settings: HealthSettings,
        endpoints: impl Iterator<Item = (Address, Arc<Presence>)>,
    ) -> Self {
        let endpoints = endpoints.map(|(address, presence)| (address, Arc::new(Standing::new(presence))));
        Self { upstream: upstream.into(), settings, endpoints: endpoints.collect(), deciding: Mutex::default() }
    }

    /// What was known of an endpoint is known; one that is new has to be well first, if it is probed.
    pub(in crate::upstream) fn continuing(mut self, before: Option<&Self>) -> Self {
        for (address, standing) in &mut self.endpoints {
            let known = before.and_then(|before| before.endpoints.iter().find(|(known, _)| known == address));
            match known {
                Some((_, known)) => *standing = Arc::clone(known),
                None if self.settings.probe.is_some() => standing.must_be_proven(),
                None => {}
            }
        }
        self
    }

    /// It is live now: what its settings do not ask for keeps no endpoint out of use any more.
    pub(in crate::upstream) fn settle(&self) {
        for (_, standing) in &self.endpoints {
            if self.settings.probe.is_none() {
                standing.set_down(false);
            }
            if self.ejecting().is_none() {
                standing.readmit();
            }
        }
    }

    /// Whether anything here can take an endpoint out of use. Where there is one endpoint nothing does: there is no other.
    pub(in crate::upstream) fn watches(&self) -> bool {
        self.endpoints.len() > 1 && (self.settings.eject.is_some() || self.settings.probe.is_some())
    }

    /// Whether standing counts: enough endpoints are eligible.
    pub(in crate::upstream) fn heeds_standing(&self) -> bool {
        self.watches() && enough(self.eligible(), self.endpoints.len(), self.settings.panic_share)
    }

    /// How many are eligible.
    pub(in crate::upstream) fn eligible(&self) -> usize {
        self.standings().filter(|standing| standing.eligible()).count()
    }

    /// Of each endpoint, in order.
    pub(in crate::upstream) fn standings(&self) -> impl Iterator<Item = &Arc<Standing>> {
        self.endpoints.iter().map(|(_, standing)| standing)
    }

    pub(in crate::upstream) fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.endpoints.iter().map(|(address, _)| address)
    }

    pub(in crate::upstream) fn standing(&self, at: usize) -> &Arc<Standing> {
        &self.endpoints[at].1
    }

    pub(super) fn ejecting(&self) -> Option<&EjectSettings> {
        self.settings.eject.as_ref().filter(|_| self.endpoints.len() > 1)
    }

    pub(super) fn probing(&self) -> Option<&ProbeSettings> {
        self.settings.probe.as_ref()
    }

    /// A request to this endpoint failed.
    pub(super) fn failed(&self, at: usize, now: Duration, settings: &EjectSettings) {
        let (address, standing) = &self.endpoints[at];
        let consecutive = standing.failed();
        let seen = Seen { now, consecutive, requests: standing.requests() };
        let Some(reason) = standing.history().failed(seen, settings) else { return };
        let deciding = self.deciding.lock().unwrap_or_else(PoisonError::into_inner);
        if !standing.eligible() {
            return;
        }
        let out = self.endpoints.len() - self.eligible();
        let is_room = out < most_out(self.endpoints.len(), settings.max_share);
        let instead = if is_room { None } else { self.out_longest(seen.now) };
        if !is_room && instead.is_none() {
            return;
        }
        let until = standing.history().eject(seen.now, random(), settings);
        standing.eject(until, reason);
        if let Some((address, instead)) = instead {
            instead.return_early(seen.now);
            tracing::info!(upstream = &*self.upstream, endpoint = %address, "endpoint returns early, for one that fails now");
        }
        drop(deciding);
        let secs = until.saturating_sub(seen.now).as_secs_f64();
        let (upstream, reason) = (&*self.upstream, reason.label());
        tracing::warn!(upstream, endpoint = %address, reason, secs, "endpoint ejected");
    }

    /// The endpoint that was ejected first, if that is not just now. What is known of it is the oldest.
    fn out_longest(&self, now: Duration) -> Option<&(Address, Arc<Standing>)> {
        let ejected = self.endpoints.iter().filter(|(_, standing)| !standing.is_down() && standing.is_ejected());
        let since = |(_, standing): &&(Address, Arc<Standing>)| standing.history().since();
        ejected.min_by_key(since).filter(|endpoint| now.saturating_sub(since(endpoint)) >= SHORTEST)
    }

    /// A probe of this endpoint said how it is.
    pub(super) fn probed(&self, at: usize, probed: Probed, streak: &mut Streak, settings: &ProbeSettings) {
        let (address, standing) = &self.endpoints[at];
        standing.probed(probed);
        let good = probed == Probed::Ok;
        let Some(up) = streak.heard(good, settings.healthy_after, settings.unhealthy_after) else { return };
        standing.set_down(!up);
        let upstream = &*self.upstream;
        if up {
            tracing::info!(upstream, endpoint = %address, "endpoint is well, its probes say");
        } else {
            tracing::warn!(upstream, endpoint = %address, result = probed.label(), "endpoint is out of use, its probes fail");
        }
    }
}

/// Whether so many eligible endpoints can do the work of all.
#[allow(clippy::cast_precision_loss)] // no upstream has so many endpoints
fn enough(eligible: usize, all: usize, panic_share: f64) -> bool {
    eligible > 0 && eligible as f64 >= panic_share * all as f64
}

/// How many may be out of use before no other is ejected: one in any case, and never all.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a share of a few
fn most_out(all: usize, max_share: f64) -> usize {
    ((max_share * all as f64) as usize).max(1).min(all.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::standing::now;
    use super::*;

    fn ward(endpoints: usize, settings: HealthSettings) -> Ward {
        let address = |at| format!("http://10.0.0.{at}:80").parse().expect("an address");
        let presence = || Arc::new(Presence::new(Instant::now()));
        Ward::new("web", settings, (0..endpoints).map(|at| (address(at), presence())))
    }

    fn settings() -> HealthSettings {
        let eject = EjectSettings {
            consecutive: 3,
            error_share: 1.0,
            min_requests: 1000,
            window: Duration::from_secs(10),
            base: Duration::from_mins(1),
            max: Duration::from_mins(1),
            max_share: 0.5,
            statuses: Box::default(),
        };
        HealthSettings { eject: Some(eject), panic_share: 0.3, probe: None }
    }

    fn fail(ward: &Ward, at: usize, times: usize) {
        let settings = ward.ejecting().expect("ejection").clone();
        (0..times).for_each(|_| ward.failed(at, now(), &settings));
    }

    #[test]
    fn who_fails_when_no_more_may_go_takes_the_place_of_the_first_who_went() {
        let ward = ward(3, settings());
        let settings = ward.ejecting().expect("ejection").clone();
        let fails = |at: usize, secs: u64| {
            (0..3).for_each(|_| ward.failed(at, now() + Duration::from_secs(secs), &settings));
            ward.standings().map(|standing| standing.eligible()).collect::<Vec<_>>()
        };
        assert_eq!(fails(0, 10), [false, true, true]);
        assert_eq!(fails(1, 10), [false, true, true], "at once it does not");
        assert_eq!(fails(1, 12), [true, false, true]);
        assert_eq!(fails(0, 14), [false, true, true], "and back: its failures count again");
        ward.standing(0).set_down(true);
        assert_eq!(fails(1, 20), [false, true, true], "its probes fail: it would not be used");
    }

    #[test]
    fn never_more_than_the_largest_share_is_ejected_but_one_always_may_be() {
        for (all, share, expected) in
            [(2, 0.5, 1), (2, 0.0, 1), (2, 1.0, 1), (3, 0.5, 1), (4, 0.5, 2), (5, 1.0, 4), (10, 0.25, 2), (1, 1.0, 0)]
        {
            assert_eq!(most_out(all, share), expected, "{all} endpoints, {share}");
        }
        let ward = ward(4, settings());
        (0..4).for_each(|at| fail(&ward, at, 10));
        let eligible: Vec<bool> = ward.standings().map(|standing| standing.eligible()).collect();
        assert_eq!(eligible, [false, false, true, true]);
    }

    #[test]
    fn a_success_between_failures_ejects_nothing() {
        let ward = ward(2, settings());
        for _ in 0..10 {
            fail(&ward, 0, 2);
            ward.standing(0).succeeded(0);
        }
        assert_eq!(ward.eligible(), 2);
    }

    #[test]
    fn one_endpoint_alone_is_always_used() {
        let ward = ward(1, settings());
        assert!(ward.ejecting().is_none() && !ward.watches() && !ward.heeds_standing());
    }

    #[test]
    fn when_too_few_are_eligible_standing_counts_for_nothing() {
        for (eligible, all, share, expected) in [
            (2, 2, 0.3, true),
            (1, 2, 0.3, true),
            (0, 2, 0.0, false),
            (1, 3, 0.3, true),
            (1, 4, 0.3, false),
            (1, 4, 0.0, true),
            (3, 4, 1.0, false),
        ] {
            assert_eq!(enough(eligible, all, share), expected, "{eligible} of {all}, {share}");
        }
    }

    #[test]
    fn an_endpoint_that_is_kept_keeps_its_standing_and_a_new_one_has_to_be_proven() {
        let before = ward(2, settings());
        fail(&before, 0, 3);
        let probe = ProbeSettings {
            question: super::super::Question::Tcp,
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            healthy_after: 2,
            unhealthy_after: 3,
        };
        let after = ward(3, HealthSettings { probe: Some(probe), ..settings() }).continuing(Some(&before));
        let eligible = |ward: &Ward| ward.standings().map(|standing| standing.eligible()).collect::<Vec<_>>();
        assert_eq!(eligible(&after), [false, true, false]);
        let unprobed = ward(3, settings()).continuing(Some(&after));
        unprobed.settle();
        assert_eq!(eligible(&unprobed), [false, true, true], "without probes nothing has to be proven");
        let careless = ward(3, HealthSettings { eject: None, ..settings() }).continuing(Some(&unprobed));
        careless.settle();
        assert_eq!(eligible(&careless), [true, true, true]);
    }
}
