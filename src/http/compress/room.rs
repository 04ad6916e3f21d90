//! How many bodies are compressed at once.
//!
//! An encoder remembers what it has seen, about 2 MiB at most as they are set here, for as long as its client takes. Nobody waits for
//! one: a body that finds no room goes out as it is.

use std::sync::{Arc, LazyLock};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many there may be in the process: half a gigabyte of encoders if every one of them is held up by its client.
pub const MOST_AT_ONCE: usize = 256;

static PROCESS: LazyLock<Room> = LazyLock::new(|| Room::new(MOST_AT_ONCE));

/// Room for encoders.
#[derive(Debug)]
pub struct Room(Arc<Semaphore>);

/// Room for one of them, given back on drop.
#[derive(Debug)]
#[must_use = "the room is given back when this is dropped"]
pub struct Slot(#[allow(dead_code)] OwnedSemaphorePermit); // held, not read

impl Room {
    /// For so many.
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Semaphore::new(most)))
    }

    /// That of the whole process.
    pub fn of_the_process() -> &'static Self {
        &PROCESS
    }

    /// Room for one more, if there is any.
    pub fn begin(&self) -> Option<Slot> {
        Arc::clone(&self.0).try_acquire_owned().ok().map(Slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_so_many_and_again_when_one_has_ended() {
        let room = Room::new(2);
        let (first, second) = (room.begin(), room.begin());
        assert!(first.is_some() && second.is_some() && room.begin().is_none());
        drop(first);
        assert!(room.begin().is_some());
    }
}
