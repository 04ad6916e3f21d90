//! The same configuration, when names in it stand for other endpoints.
//!
//! Only upstreams that have such a name are made anew, and of these only the endpoints that are new; all else is carried over, so that nothing
//! that could be refused is read again.

use std::sync::Arc;

use super::{AssembleError, Assembly, Bench, Carried, documents, identity_key};
use crate::observe::Metrics;
use crate::shutdown::Tasks;
use crate::snapshot::Snapshot;
use crate::upstream::Group;

impl Assembly {
    /// Gives its upstreams the endpoints that their names stand for now. What each worker is to serve from now on, or nothing if the
    /// endpoints are those there were.
    pub(in crate::app) fn renamed(
        &mut self,
        generation: u64,
        metrics: &Metrics,
        crew: &[Tasks],
    ) -> Result<Option<Vec<Snapshot>>, AssembleError> {
        let groups: Vec<Arc<Group>> = self
            .config
            .upstreams
            .iter()
            .zip(&self.groups)
            .map(|(settings, group)| {
                let settings = self.commons.names.expand(settings);
                if *group.settings() == settings { Arc::clone(group) } else { Arc::new(group.with_endpoints(settings)) }
            })
            .collect();
        if groups.iter().zip(&self.groups).all(|(now, before)| Arc::ptr_eq(now, before)) {
            return Ok(None);
        }
        let documents = documents(&self.config, &self.issuers, identity_key(&self.config)?.as_ref());
        let (mut carried, mut snapshots) = (Vec::new(), Vec::new());
        for (number, (tasks, before)) in crew.iter().zip(&self.crew).enumerate() {
            let bench = Bench {
                config: &self.config,
                issuers: &self.issuers,
                identity: identity_key(&self.config)?.map(Arc::new),
                documents: &documents,
                groups: &groups,
                places: &self.places,
                limiters: &self.limiters,
                manifests: &self.manifests,
                metrics,
                number,
                commons: &self.commons,
            };
            let worker = Carried {
                authority: Arc::clone(&before.authority),
                upstreams: groups.iter().map(|group| bench.upstream(group, Some((self, before)), tasks)).collect(),
                sites: before.sites.clone(),
            };
            snapshots.push(bench.snapshot(generation, &worker));
            carried.push(worker);
        }
        (self.groups, self.crew) = (groups, carried);
        Ok(Some(snapshots))
    }
}
