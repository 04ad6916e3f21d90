//! What the control thread does when a name stands for other endpoints: the generation stays, and the upstreams that have the name get
//! other endpoints.

use std::sync::Arc;

use super::Control;
use crate::config::Config;
use crate::shutdown::Tasks;

impl Control {
    /// Whether `config`, which is to replace what runs, names what has not been asked for yet. Requests would fail until there is an
    /// answer, so the reload comes with it.
    pub(super) fn must_wait_for_names(&mut self, config: &Config) -> bool {
        self.awaits_names = !self.names.look_up(&[self.assembly.config(), config]);
        self.awaits_names
    }

    /// An answer has changed what is known of a name.
    pub(super) fn names_changed(&mut self) {
        match self.held.take() {
            Some(request) => self.take(request),
            None if self.awaits_names => drop(self.reload()),
            None => {}
        }
        let tasks: Vec<Tasks> = self.crew.iter().map(|handle| handle.upstream_tasks.clone()).collect();
        match self.assembly.renamed(self.generation, &self.metrics, &tasks) {
            Ok(None) => {}
            Ok(Some(snapshots)) => {
                for (handle, snapshot) in self.crew.iter().zip(snapshots) {
                    handle.worker.live.publish(snapshot);
                }
                self.know_endpoints();
                self.board.endpoints(self.assembly.groups());
            }
            Err(error) => tracing::error!(%error, "cannot give upstreams the endpoints that their names stand for now"),
        }
        self.rest();
    }

    /// Probes, counts and shows the endpoints there are now.
    pub(super) fn know_endpoints(&mut self) {
        self.upkeep.probe(self.assembly.groups());
        self.metrics.upstreams().answered_by(self.assembly.upstreams());
        let book = Arc::clone(self.names.book());
        self.metrics.names().answered_by(move || book.status());
        self.drains.know(self.assembly.endpoints());
        self.rest();
    }

    /// Takes endpoints out of use that the last answer about their name lacks, and puts back those that it has.
    fn rest(&self) {
        let book = self.names.book();
        for (address, presence) in self.assembly.groups().iter().flat_map(|group| group.presences()) {
            presence.set_resting(book.is_resting(address));
        }
    }
}
