//! The newest bytes of all logs, kept in memory as they were written: what subscribers and readers of recent events are
//! served from. One budget for the process; the oldest bytes of any log go first.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock, RwLockReadGuard};

/// The budget that all logs share. Lock order: this queue, then the chunks of one log.
pub(crate) struct Recent {
    bytes_max: usize,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    bytes: usize,
    /// Whose chunk, and its bytes; the oldest first.
    chunks: VecDeque<(Arc<RecentLog>, usize)>,
}

/// The newest bytes of one log, without gaps.
pub(crate) struct RecentLog {
    /// Log offset and bytes, ascending.
    chunks: RwLock<VecDeque<(u64, Bytes)>>,
    /// The log offset from which on bytes are here.
    start: AtomicU64,
}

impl Recent {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            queue: Mutex::default(),
        }
    }

    /// Adds what was written to a log.
    pub(crate) fn push(&self, log: &Arc<RecentLog>, log_offset: u64, bytes: Bytes) {
        let mut queue = self.queue.lock();
        queue.bytes += bytes.len();
        queue.chunks.push_back((Arc::clone(log), bytes.len()));
        log.push(log_offset, bytes);
        while queue.bytes > self.bytes_max {
            let Some((oldest, bytes)) = queue.chunks.pop_front() else {
                return;
            };
            queue.bytes -= bytes;
            oldest.pop();
        }
    }
}

impl RecentLog {
    pub(crate) fn new() -> Self {
        Self {
            chunks: RwLock::default(),
            start: AtomicU64::new(u64::MAX),
        }
    }

    fn push(&self, log_offset: u64, bytes: Bytes) {
        let mut chunks = self.chunks.write();
        if chunks.is_empty() {
            self.start.store(log_offset, Ordering::Relaxed);
        }
        chunks.push_back((log_offset, bytes));
    }

    fn pop(&self) {
        let mut chunks = self.chunks.write();
        chunks.pop_front();
        let start = chunks.front().map_or(u64::MAX, |(offset, _)| *offset);
        self.start.store(start, Ordering::Relaxed);
    }

    /// Whether what stands at a log offset is probably here: it may be dropped any time.
    pub(crate) fn likely_has(&self, log_offset: u64) -> bool {
        log_offset >= self.start.load(Ordering::Relaxed)
    }

    /// For looking up several rows.
    pub(crate) fn view(&self) -> RecentView<'_> {
        RecentView {
            chunks: self.chunks.read(),
            last: 0,
        }
    }
}

/// The bytes that are here while it lives; keep it short, it holds up the writer.
pub(crate) struct RecentView<'a> {
    chunks: RwLockReadGuard<'a, VecDeque<(u64, Bytes)>>,
    /// The chunk of the last hit: the next row is probably in it, too.
    last: usize,
}

impl RecentView<'_> {
    /// The bytes from a log offset on, at most `len`.
    pub(crate) fn get(&mut self, log_offset: u64, len: usize) -> Option<Bytes> {
        if !self.holds(self.last, log_offset) {
            let after = self
                .chunks
                .partition_point(|(start, _)| *start <= log_offset);
            self.last = after.checked_sub(1)?;
            if !self.holds(self.last, log_offset) {
                return None;
            }
        }
        let (start, bytes) = &self.chunks[self.last];
        let from = (log_offset - start) as usize;
        Some(bytes.slice(from..bytes.len().min(from + len)))
    }

    fn holds(&self, chunk: usize, log_offset: u64) -> bool {
        self.chunks.get(chunk).is_some_and(|(start, bytes)| {
            log_offset >= *start && log_offset - start < bytes.len() as u64
        })
    }
}
