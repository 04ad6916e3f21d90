//! All endpoints of one upstream together: how many may be out of use, and who is told.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::sleep;

use super::eject::{Reason, Seen};
use super::latency::{Counts, OTHERS, too_slow};
use super::question::Probed;
use super::standing::{now, random};
use super::streak::Streak;
use super::{EjectSettings, HealthSettings, LatencySettings, ProbeSettings, Standing};
use crate::upstream::{Address, Presence};

/// How long an ejected endpoint is out in any case. When all fail, they take turns no faster.
const SHORTEST: Duration = Duration::from_secs(1);

/// The counts of endpoints that are gone.
#[derive(Debug, Clone)]
pub(in crate::upstream) struct Gone {
    pub(in crate::upstream) label: Box<str>,
    pub(in crate::upstream) ejections: Vec<(&'static str, u64)>,
    pub(in crate::upstream) probes: Vec<(&'static str, u64)>,
}

impl Gone {
    /// Those of one endpoint more.
    fn add(&mut self, standing: &Standing) {
        let add = |sums: &mut [(&'static str, u64)], counts: Vec<(&'static str, u64)>| {
            sums.iter_mut().zip(counts).for_each(|((_, sum), (_, count))| *sum += count);
        };
        add(&mut self.ejections, standing.ejections());
        add(&mut self.probes, standing.probes());
    }
}

/// The standing of each endpoint of an upstream, in the order of the configuration.
#[derive(Debug)]
pub(in crate::upstream) struct Ward {
    upstream: Box<str>,
    settings: HealthSettings,
    endpoints: Box<[(Address, Arc<Standing>)]>,
    /// What was counted of endpoints that are gone, by the label they had, if others have it.
    gone: Vec<Gone>,
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
        let (endpoints, gone) = (endpoints.collect(), Vec::new());
        Self { upstream: upstream.into(), settings, endpoints, gone, deciding: Mutex::default() }
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
        self.gone = before.map(|before| self.gone_since(before)).unwrap_or_default();
        self
    }

    /// Counts never fall: what endpoints had counted that are gone counts on while others have their label.
    fn gone_since(&self, before: &Self) -> Vec<Gone> {
        let labels: Vec<Box<str>> = self.addresses().map(|address| address.label().into()).collect();
        let mut gone: Vec<Gone> = before.gone.iter().filter(|gone| labels.contains(&gone.label)).cloned().collect();
        for (address, standing) in &before.endpoints {
            let label: Box<str> = address.label().into();
            if self.addresses().any(|kept| kept == address) || !labels.contains(&label) {
                continue;
            }
            match gone.iter_mut().find(|gone| gone.label == label) {
                Some(gone) => gone.add(standing),
                None => gone.push(Gone { label, ejections: standing.ejections(), probes: standing.probes() }),
            }
        }
        gone
    }

    /// What was counted of endpoints that are gone.
    pub(in crate::upstream) fn gone(&self) -> &[Gone] {
        &self.gone
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

    /// What ejects an endpoint that is slow beside the others, if there are enough of them.
    pub(in crate::upstream) fn comparing(&self) -> Option<(&EjectSettings, LatencySettings)> {
        let settings = self.ejecting().filter(|_| self.endpoints.len() > OTHERS)?;
        Some((settings, settings.latency?))
    }

    pub(super) fn probing(&self) -> Option<&ProbeSettings> {
        self.settings.probe.as_ref()
    }

    /// A request to this endpoint failed.
    pub(super) fn failed(&self, at: usize, now: Duration, settings: &EjectSettings) {
        let standing = self.standing(at);
        let consecutive = standing.failed();
        let seen = Seen { now, consecutive, requests: standing.requests() };
        let verdict = standing.history().failed(seen, settings);
        if let Some(reason) = verdict {
            self.eject(at, now, reason, settings);
        }
    }

    /// A window is over: who was slow in it goes. `before` is what was counted at its beginning, and becomes what is now.
    fn compare(&self, now: Duration, before: &mut [Counts]) {
        let Some((settings, latency)) = self.comparing() else { return };
        let median = |(standing, before): (&Arc<Standing>, &mut Counts)| {
            let counts = standing.took().counts();
            let median = counts.median_since(before, settings.min_requests).filter(|_| standing.eligible());
            *before = counts;
            median
        };
        let medians: Vec<Option<Duration>> = self.standings().zip(before).map(median).collect();
        for at in too_slow(&medians, &latency) {
            self.eject(at, now, Reason::Latency, settings);
        }
    }

    /// Takes an endpoint out of use, if that leaves enough.
    fn eject(&self, at: usize, now: Duration, reason: Reason, settings: &EjectSettings) {
        let (address, standing) = &self.endpoints[at];
        let deciding = self.deciding.lock().unwrap_or_else(PoisonError::into_inner);
        if !standing.eligible() {
            return;
        }
        let out = self.endpoints.len() - self.eligible();
        let is_room = out < most_out(self.endpoints.len(), settings.max_share);
        // One that is slow does its work: it takes the place of none that does not.
        let may_displace = !is_room && reason != Reason::Latency;
        let instead = if may_displace { self.out_longest(now) } else { None };
        if !is_room && instead.is_none() {
            return;
        }
        let until = standing.history().eject(now, random(), settings);
        standing.eject(until, reason);
        if let Some((address, instead)) = instead {
            instead.return_early(now);
            tracing::info!(upstream = &*self.upstream, endpoint = %address, "endpoint returns early, for one that fails now");
        }
        drop(deciding);
        let secs = until.saturating_sub(now).as_secs_f64();
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

/// Compares the endpoints at the end of each window, until it is dropped.
pub(in crate::upstream) async fn keep_comparing(ward: Arc<Ward>) {
    let counts = |ward: &Ward| ward.standings().map(|standing| standing.took().counts()).collect::<Vec<_>>();
    let Some(window) = ward.comparing().map(|(settings, _)| settings.window) else { return };
    let mut before = counts(&ward);
    loop {
        sleep(window).await;
        ward.compare(now(), &mut before);
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
            latency: None,
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
    fn the_slow_ones_are_ejected_as_far_as_that_leaves_enough() {
        let latency = Some(LatencySettings { factor: 3.0, least: Duration::from_millis(50) });
        let eject = settings().eject.map(|eject| EjectSettings { latency, min_requests: 10, ..eject });
        assert!(ward(2, HealthSettings { eject: eject.clone(), ..settings() }).comparing().is_none(), "of two");
        let ward = ward(4, HealthSettings { eject, ..settings() });
        let mut before = vec![Counts::NONE; 4];
        let mut window = |millis: [u64; 4]| {
            for (standing, millis) in ward.standings().zip(millis) {
                (0..10).for_each(|cell| standing.took().add(cell, Duration::from_millis(millis)));
            }
            ward.compare(now(), &mut before);
            ward.standings().map(|standing| standing.eligible()).collect::<Vec<_>>()
        };
        assert_eq!(window([20, 20, 30, 50]), [true; 4]);
        assert_eq!(window([20, 20, 30, 500]), [true, true, true, false]);
        assert_eq!(window([20, 20, 200, 500]), [true, true, false, false], "what was ejected is not counted");
        assert_eq!(window([20, 500, 200, 500]), [true, true, false, false], "too few are left to compare");
        assert_eq!(ward.standing(3).ejections(), [("consecutive", 0), ("error_share", 0), ("latency", 1)]);
        assert!(ward.comparing().is_some());
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

    #[test]
    fn what_is_gone_counts_on_while_others_have_its_label() {
        let name = "http://app:80".parse::<Address>().expect("an address").as_name(false).expect("a name");
        let crate::upstream::Place::Name(of) = &name.place else { panic!("it is a name") };
        let found = |last: u8| {
            let place = crate::upstream::Place::Found { of: of.clone(), at: ([10, 0, 0, last], 80).into() };
            Address { place, ..name.clone() }
        };
        let of = |all: &[u8]| {
            let endpoints = all.iter().map(|last| (found(*last), Arc::new(Presence::new(Instant::now()))));
            Ward::new("web", settings(), endpoints)
        };
        let first = of(&[1, 2, 3]);
        fail(&first, 0, 3);
        let ejections = |ward: &Ward| ward.gone().iter().map(|gone| gone.ejections[0].1).collect::<Vec<_>>();
        let second = of(&[2, 3]).continuing(Some(&first));
        assert_eq!(ejections(&second), [1]);
        fail(&second, 0, 3);
        let third = of(&[3, 4]).continuing(Some(&second));
        assert_eq!(ejections(&third), [2]);
        assert!(ward(2, settings()).continuing(Some(&third)).gone().is_empty());
    }
}
