//! The memory that statements hold: each up to a bound, and all of them up to another.
//!
//! Counted is what operators keep across batches, as DataFusion reports it: hash tables, sorted rows, the smaller side of a
//! join. Not counted: the few batches on their way.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};

use datafusion::{
    error::{DataFusionError, Result},
    execution::memory_pool::{MemoryLimit, MemoryPool, MemoryReservation},
};

use super::SqlError;

/// What all statements of an engine share.
#[derive(Debug)]
pub(super) struct AllMemory {
    held: AtomicUsize,
    bytes_max: usize,
}

/// What one statement holds.
#[derive(Debug)]
pub(super) struct StatementMemory {
    all: Arc<AllMemory>,
    held: AtomicUsize,
    bytes_max: usize,
    /// It was not the bound of the statement that was reached last, but that of all.
    all_was_reached: AtomicBool,
}

impl AllMemory {
    pub(super) fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self {
            held: AtomicUsize::new(0),
            bytes_max,
        })
    }
}

impl StatementMemory {
    pub(super) fn new(all: &Arc<AllMemory>, bytes_max: usize) -> Arc<Self> {
        Arc::new(Self {
            all: Arc::clone(all),
            held: AtomicUsize::new(0),
            bytes_max,
            all_was_reached: AtomicBool::new(false),
        })
    }

    /// Why memory was refused.
    pub(super) fn exhausted(&self) -> SqlError {
        let (setting, bytes_max) = if self.all_was_reached.load(Relaxed) {
            ("limits.sql_memory_bytes", self.all.bytes_max)
        } else {
            ("limits.sql_query_memory_bytes", self.bytes_max)
        };
        SqlError::Memory { setting, bytes_max }
    }
}

/// Whether so many bytes more are within the bound; then they are held.
fn take(held: &AtomicUsize, bytes: usize, bytes_max: usize) -> bool {
    held.fetch_update(Relaxed, Relaxed, |held| {
        held.checked_add(bytes).filter(|held| *held <= bytes_max)
    })
    .is_ok()
}

impl MemoryPool for StatementMemory {
    fn name(&self) -> &'static str {
        "statement"
    }

    fn grow(&self, _: &MemoryReservation, additional: usize) {
        self.held.fetch_add(additional, Relaxed);
        self.all.held.fetch_add(additional, Relaxed);
    }

    fn shrink(&self, _: &MemoryReservation, shrink: usize) {
        self.held.fetch_sub(shrink, Relaxed);
        self.all.held.fetch_sub(shrink, Relaxed);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let refused = |all_was_reached: bool| {
            self.all_was_reached.store(all_was_reached, Relaxed);
            let consumer = reservation.consumer().name();
            let told = format!("{consumer} was refused {additional} bytes");
            Err(DataFusionError::ResourcesExhausted(told))
        };
        if !take(&self.held, additional, self.bytes_max) {
            return refused(false);
        }
        if !take(&self.all.held, additional, self.all.bytes_max) {
            self.held.fetch_sub(additional, Relaxed);
            return refused(true);
        }
        Ok(())
    }

    fn reserved(&self) -> usize {
        self.held.load(Relaxed)
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.bytes_max)
    }
}

impl fmt::Display for StatementMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} bytes", self.reserved(), self.bytes_max)
    }
}
