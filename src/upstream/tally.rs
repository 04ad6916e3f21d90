//! A count that all workers add to and that is read seldom: in cells that lie apart, so that workers share as few of them as possible.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// How many cells there are.
pub(super) const CELLS: usize = 16;

/// The count.
#[derive(Debug, Default)]
pub(super) struct Tally {
    cells: [Cell; CELLS],
    next: AtomicUsize,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Cell(AtomicU64);

impl Tally {
    /// The cell that one worker uses.
    pub(super) fn cell(&self) -> usize {
        self.next.fetch_add(1, Ordering::Relaxed) % CELLS
    }

    /// One more.
    pub(super) fn add(&self, cell: usize) {
        self.cells[cell].0.fetch_add(1, Ordering::Relaxed);
    }

    /// How many so far.
    pub(super) fn sum(&self) -> u64 {
        self.cells.iter().map(|cell| cell.0.load(Ordering::Relaxed)).sum()
    }
}
