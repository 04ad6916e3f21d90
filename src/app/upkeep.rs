//! Keeps published key sets fresh and probes endpoints, on the control thread, as long as the live configuration names them.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::auth::{Issuer, RemoteKeys};
use crate::observe::KeySetStatus;
use crate::shutdown::Tasks;
use crate::upstream::{Group, Standing};

/// The refreshing and probing that is under way.
#[derive(Debug, Default)]
pub(super) struct Upkeep {
    tasks: Tasks,
    kept: Vec<(Arc<RemoteKeys>, CancellationToken)>,
    probed: Vec<Probed>,
}

/// An upstream, what probes its endpoints, and what compares them.
#[derive(Debug)]
struct Probed {
    group: Arc<Group>,
    probes: Vec<(Arc<Standing>, CancellationToken)>,
    comparing: Option<CancellationToken>,
}

impl Upkeep {
    /// From now on keeps these fresh, and no others.
    pub(super) fn keep_fresh(&mut self, remotes: &[Arc<RemoteKeys>]) {
        let wanted = |known: &Arc<RemoteKeys>| remotes.iter().any(|remote| Arc::ptr_eq(remote, known));
        for (_, stop) in self.kept.extract_if(.., |(known, _)| !wanted(known)) {
            stop.cancel();
        }
        for remote in remotes {
            if self.kept.iter().any(|(known, _)| Arc::ptr_eq(known, remote)) {
                continue;
            }
            let (stop, working) = (CancellationToken::new(), Arc::clone(remote));
            self.kept.push((Arc::clone(remote), stop.clone()));
            self.tasks.spawn(async move { stop.run_until_cancelled(working.keep_fresh()).await });
        }
    }

    /// Exchanges with other gateways what was revoked, for as long as the process lasts, if anything is to be; and keeps nothing yet.
    pub(super) fn sharing(exchange: Option<impl Future<Output = ()> + Send + 'static>) -> Self {
        let upkeep = Self::default();
        exchange.map(|exchange| upkeep.tasks.spawn(exchange));
        upkeep
    }

    /// From now on probes and compares the endpoints of these upstreams, and no others. An endpoint that is asked as it was is not disturbed, whatever
    /// becomes of others.
    pub(super) fn probe(&mut self, groups: &[Arc<Group>]) {
        let mut before = std::mem::take(&mut self.probed);
        for group in groups {
            if let Some(at) = before.iter().position(|known| Arc::ptr_eq(&known.group, group)) {
                self.probed.push(before.swap_remove(at));
                continue;
            }
            let mut like = before.iter_mut().find(|known| group.probes_like(&known.group));
            let mut probes = Vec::new();
            for (standing, probing) in group.watch(&self.tasks) {
                let same = like.as_mut().and_then(|known| {
                    let at = known.probes.iter().position(|(of, _)| Arc::ptr_eq(of, &standing))?;
                    Some(known.probes.swap_remove(at))
                });
                probes.push(same.unwrap_or_else(|| (standing, self.begin(probing))));
            }
            let comparing = group.compare().map(|comparing| self.begin(comparing));
            self.probed.push(Probed { group: Arc::clone(group), probes, comparing });
        }
        for known in before {
            let probes = known.probes.into_iter().map(|(_, stop)| stop);
            probes.chain(known.comparing).for_each(|stop| stop.cancel());
        }
    }

    /// Runs until it is told to stop.
    fn begin(&self, work: impl Future<Output = ()> + Send + 'static) -> CancellationToken {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        self.tasks.spawn(async move { stopped.run_until_cancelled(work).await });
        stop
    }
}

/// How the key sets of these issuers are doing, whenever it is called.
pub(super) fn reports(issuers: &[Arc<Issuer>]) -> impl Fn() -> Vec<KeySetStatus> + Send + Sync + 'static {
    let issuers: Vec<_> = issuers.iter().filter(|issuer| issuer.remote().is_some()).cloned().collect();
    move || issuers.iter().filter_map(|issuer| Some(report(issuer, issuer.remote()?))).collect()
}

fn report(issuer: &Issuer, remote: &RemoteKeys) -> KeySetStatus {
    let status = remote.status();
    KeySetStatus {
        issuer: issuer.name().into(),
        keys: issuer.key_count(),
        age: status.age,
        fetches_ok: status.fetches_ok,
        fetches_failed: status.fetches_failed,
        last_error: status.last_error,
        stale: status.stale,
    }
}
