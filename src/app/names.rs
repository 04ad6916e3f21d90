//! Looks names up, on the control thread, as long as a configuration names them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::shutdown::Tasks;
use crate::upstream::{NameBook, Place, Query, Resolver};

/// Beyond the time that a question has, how much longer the start waits for its answer.
const MARGIN: Duration = Duration::from_millis(500);
/// The start waits no longer in any case: a process that is to take the place of another has 30 seconds to serve.
const LONGEST: Duration = Duration::from_secs(10);

/// The looking up that is under way, and what it has found.
#[derive(Debug, Default)]
pub(super) struct NameDesk {
    book: Arc<NameBook>,
    tasks: Tasks,
    resolver: Option<Arc<Resolver>>,
    asked: HashMap<Query, CancellationToken>,
}

impl NameDesk {
    /// Looks up what `config` names, and waits until there has been an answer about each name, of whatever kind. A name that does not
    /// resolve keeps nobody from starting.
    pub(super) async fn open(config: &Config) -> Self {
        let mut desk = Self::default();
        let all_heard = async {
            while !desk.look_up(&[config]) {
                desk.book.changed().await;
            }
        };
        if timeout(config.names.timeout.min(LONGEST) + MARGIN, all_heard).await.is_err() {
            tracing::warn!("some names have not been answered in time: the start does not wait for them");
        }
        desk
    }

    /// What is known.
    pub(super) fn book(&self) -> &Arc<NameBook> {
        &self.book
    }

    /// From now on looks up what these configurations name, as the last of them says, and nothing else. Whether there has been an answer
    /// about each name, of whatever kind.
    pub(super) fn look_up(&mut self, configs: &[&Config]) -> bool {
        let mut queries: Vec<Query> = Vec::new();
        for address in configs.iter().flat_map(|config| &config.upstreams).flat_map(|upstream| &upstream.endpoints) {
            if let Place::Name(name) = &address.place {
                let query = name.query();
                if !queries.contains(&query) {
                    queries.push(query);
                }
            }
        }
        let heard = self.book.keep(&queries);
        let Some(settings) = configs.last().map(|config| &config.names) else { return heard };
        let resolver = match self.resolver.take() {
            Some(known) if known.settings() == settings => known,
            _ => {
                self.asked.drain().for_each(|(_, stop)| stop.cancel());
                Arc::new(Resolver::new(settings.clone()))
            }
        };
        for (_, stop) in self.asked.extract_if(|query, _| !queries.contains(query)) {
            stop.cancel();
        }
        for query in queries {
            let (book, resolver, asking) = (Arc::clone(&self.book), Arc::clone(&resolver), query.clone());
            self.asked.entry(query).or_insert_with(|| {
                let stop = CancellationToken::new();
                let stopped = stop.clone();
                let asking = keep_asking(book, resolver, asking);
                self.tasks.spawn(async move { stopped.run_until_cancelled(asking).await });
                stop
            });
        }
        self.resolver = Some(resolver);
        heard
    }
}

async fn keep_asking(book: Arc<NameBook>, resolver: Arc<Resolver>, query: Query) {
    loop {
        let came = resolver.ask(&query).await;
        sleep(book.heard(&query, &came, resolver.settings())).await;
    }
}
