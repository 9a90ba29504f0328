//! The last durable position, as readers see it.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::types::id::Position;

/// Stored with release by the committer after the index holds every event up to it; loaded with acquire by readers, who
/// therefore find all of them.
pub(crate) struct Head(AtomicU64);

impl Head {
    pub(crate) fn new(position: Position) -> Self {
        Self(AtomicU64::new(position))
    }

    pub(crate) fn get(&self) -> Position {
        self.0.load(Ordering::Acquire)
    }

    /// Moves it by so many events; only the committer does.
    pub(super) fn advance(&self, events: u64) -> Position {
        self.0.fetch_add(events, Ordering::Release) + events
    }
}
