//! What a reload carries over, as questions about settings, so that the plan of one foretells what it does.
//!
//! The listeners' are asked by the reload itself, and that about connections by the upstream that takes them over. What a limit keeps it
//! decides by itself; a test of the plan holds the answer to what it does.

use crate::config::Listener;
use crate::limit::LimitSettings;
use crate::upstream::UpstreamSettings;

/// Listeners of `new` whose sockets are to be opened: nobody listens there as they want it.
pub(super) fn opened<'a>(old: &'a [Listener], new: &'a [Listener]) -> impl Iterator<Item = &'a Listener> {
    new.iter().filter(|listener| old.iter().all(|known| known.listen != listener.listen))
}

/// Listeners of `old` whose sockets are to be closed.
pub(super) fn closed<'a>(old: &'a [Listener], new: &'a [Listener]) -> impl Iterator<Item = &'a Listener> {
    opened(new, old)
}

/// Whether endpoints that stay keep their connections; they keep their health in any case.
pub(super) fn keeps_connections(old: &UpstreamSettings, new: &UpstreamSettings) -> bool {
    new.connects_like(old)
}

/// Whether a limit goes on with what it has counted.
pub(super) fn goes_on_counting(old: &LimitSettings, new: &LimitSettings) -> bool {
    let counted = |of: &LimitSettings| (of.name.clone(), of.by.clone(), of.quota, of.entries);
    counted(old) == counted(new)
}
