//! How many tunnels one route may have, over all workers.
//!
//! Owns the count. Refuses to know what a tunnel is.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The places of one route. Clones, and those of the next generation that are made from them, share one count.
#[derive(Debug, Clone, Default)]
pub struct Places {
    taken: Arc<AtomicUsize>,
    most: usize,
}

/// One place, given back on drop.
#[derive(Debug)]
#[must_use = "the place is given back when this is dropped"]
pub(super) struct Place(Arc<AtomicUsize>);

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoPlace {
    #[error("this route has no tunnels")]
    Never,
    #[error("the route has all the tunnels it may have")]
    Full,
    #[error("the process drains")]
    Draining,
}

impl Places {
    /// The same count under another bound; what is taken stays so.
    #[must_use]
    pub fn at_most(&self, most: usize) -> Self {
        Self { taken: Arc::clone(&self.taken), most }
    }

    /// Takes a place.
    pub(super) fn take(&self) -> Result<Place, NoPlace> {
        if self.most == 0 {
            return Err(NoPlace::Never);
        }
        let more = |taken: usize| (taken < self.most).then_some(taken + 1);
        let taken = self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.map(|_| Place(Arc::clone(&self.taken))).map_err(|_| NoPlace::Full)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_back_and_outlive_a_change_of_their_number() {
        let places = Places::default().at_most(2);
        let held = (places.take().expect("the first"), places.take().expect("the second"));
        assert_eq!(places.take().expect_err("two are taken"), NoPlace::Full);
        let fewer = places.at_most(1);
        drop(held.0);
        assert_eq!(fewer.take().expect_err("one is still taken"), NoPlace::Full);
        drop(held.1);
        let _held = fewer.take().expect("all were given back");
        assert_eq!(fewer.at_most(0).take().expect_err("there are none"), NoPlace::Never);
    }
}
