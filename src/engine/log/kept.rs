//! Log files of which everything is sealed, kept because one event is read faster from them than from a segment. One
//! budget for the process; each log gives up its oldest ones first: as the next log file, if it is of the size of one and
//! nobody reads from it, else for good.

use std::{
    collections::VecDeque,
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::RwLock;
use tracing::warn;

use super::Log;
use crate::storage::{
    disk::Disk,
    log::{
        spare::{Recycled, recycled_path},
        writer::{LogFile, LogPlace},
    },
};

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

    /// Takes the oldest file out, if files must go. Whoever reads from it goes on.
    fn take_surplus(&self) -> Option<EndedFile> {
        let over = self.budget.bytes.load(Ordering::Relaxed) > self.budget.bytes_max;
        let kept = over.then(|| self.files.write().pop_front())??;
        let bytes = kept.file.header.file_bytes;
        self.budget.bytes.fetch_sub(bytes, Ordering::Relaxed);
        Some(kept)
    }

    /// Takes back what could not be given up.
    fn put_back(&self, kept: EndedFile) {
        let bytes = kept.file.header.file_bytes;
        self.budget.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.files.write().push_front(kept);
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

impl Log {
    /// Gives up kept files beyond the budget, oldest first. What is left on a disk that refuses is tried again with the
    /// next seal. One thread at a time.
    pub(super) fn drop_surplus_files(&self) {
        while let Some(EndedFile { file, end }) = self.kept.take_surplus() {
            let file = match recycle(&self.place, &self.recycled, file) {
                Ok(()) => continue,
                Err(file) => file,
            };
            // In this order on disk as well: a younger one is never missing while an older one is there.
            if let Err(e) = remove(&self.place, &file) {
                warn!(tenant = %self.tenant, path = %file.path.display(), error = %e, "removing a sealed log file");
                self.kept.put_back(EndedFile { file, end });
                return;
            }
        }
    }
}

/// Makes a file that was taken out the next one, if it can be; returns it if it has to be removed.
fn recycle(place: &LogPlace, recycled: &Recycled, file: Arc<LogFile>) -> Result<(), Arc<LogFile>> {
    if file.header.file_bytes != place.file_bytes || !recycled.has_room() {
        return Err(file);
    }
    // Readers would find other events' bytes in it. Nobody can come to it any more.
    let old = Arc::try_unwrap(file)?;
    recycled
        .give(&*place.disk, &place.log_dir, old)
        .map_err(Arc::new)
}

/// Removes a file, under whichever name an attempt to recycle it left it.
fn remove(place: &LogPlace, file: &LogFile) -> io::Result<()> {
    remove_if_there(&*place.disk, &file.path)?;
    remove_if_there(&*place.disk, &recycled_path(&place.log_dir, file))?;
    place.disk.sync_dir(&place.log_dir)
}

fn remove_if_there(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.remove(path) {
        // An attempt that was said to fail removed it.
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

impl Drop for KeptFiles {
    fn drop(&mut self) {
        let files = self.files.get_mut().iter();
        let bytes = files.map(|kept| kept.file.header.file_bytes).sum();
        self.budget.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}
