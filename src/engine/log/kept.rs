//! Log files of which everything is sealed, kept because one event is read faster from them than from a segment. One
//! budget for the process; each log gives up its oldest ones first.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::RwLock;

use crate::storage::log::writer::LogFile;

/// The budget that all logs share.
pub(crate) struct KeepBudget {
    bytes_max: u64,
    bytes: AtomicU64,
}

impl KeepBudget {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self {
            bytes_max,
            bytes: AtomicU64::new(0),
        }
    }
}

/// A log file, and the log offset behind its last frame.
#[derive(Clone)]
pub(crate) struct EndedFile {
    pub(crate) file: Arc<LogFile>,
    pub(crate) end: u64,
}

/// The kept files of one log, in order.
pub(crate) struct KeptFiles {
    budget: Arc<KeepBudget>,
    files: RwLock<VecDeque<EndedFile>>,
}

impl KeptFiles {
    pub(crate) fn new(budget: Arc<KeepBudget>) -> Self {
        Self {
            budget,
            files: RwLock::default(),
        }
    }

    /// Adds the next ones.
    pub(crate) fn add(&self, files: Vec<EndedFile>) {
        let bytes = files.iter().map(|kept| kept.file.header.file_bytes).sum();
        self.budget.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.files.write().extend(files);
    }

    /// The oldest file, if files must go. It is still here: see [`KeptFiles::forget`].
    pub(crate) fn surplus(&self) -> Option<Arc<LogFile>> {
        let over = self.budget.bytes.load(Ordering::Relaxed) > self.budget.bytes_max;
        let files = self.files.read();
        files
            .front()
            .filter(|_| over)
            .map(|kept| Arc::clone(&kept.file))
    }

    /// Takes the oldest file out. Whoever reads from it goes on.
    pub(crate) fn forget(&self, file: &Arc<LogFile>) {
        let mut files = self.files.write();
        if files
            .front()
            .is_some_and(|oldest| Arc::ptr_eq(&oldest.file, file))
        {
            files.pop_front();
            let bytes = file.header.file_bytes;
            self.budget.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// The file that a log offset is in, if it is here.
    pub(crate) fn at(&self, log_offset: u64) -> Option<EndedFile> {
        let files = self.files.read();
        let after = files.partition_point(|kept| kept.file.header.base_offset <= log_offset);
        let found = files.get(after.checked_sub(1)?)?;
        (log_offset < found.end).then(|| found.clone())
    }

    /// Number of files.
    pub(crate) fn count(&self) -> u64 {
        self.files.read().len() as u64
    }
}

impl Drop for KeptFiles {
    fn drop(&mut self) {
        let files = self.files.get_mut().iter();
        let bytes = files.map(|kept| kept.file.header.file_bytes).sum();
        self.budget.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}
