//! The next log file, ready ahead of need: syncing a write into blocks that were written before costs a fraction of
//! syncing a file that grows. In the steady state it is an old one, used again; else it is written with zeros, and
//! synced, on a thread of its own.
//!
//! Invariants: not a byte of an old file is overwritten before its name is durably gone, nor while anybody could still
//! read it by that name or from an open file. What is left in it can never be taken for frames of its new life: the salt
//! is another, and all its positions are lower than any that follows (see `frame`).

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
};

use parking_lot::Mutex;

use super::writer::LogFile;
use crate::storage::disk::{Disk, DiskFile};

/// A file under a name that is not a log file's, durable in its whole length: zeros, or what an old log file held.
pub(crate) struct SpareFile {
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) path: PathBuf,
    pub(crate) capacity: u64,
    /// It holds what an old log file did.
    pub(crate) recycled: bool,
}

/// At most one spare file of zeros, made or being made, and at most one recycled file.
pub(crate) struct Spare {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    making: Option<JoinHandle<io::Result<SpareFile>>>,
    recycled: Arc<Recycled>,
}

impl Spare {
    pub(crate) fn new(disk: Arc<dyn Disk>, log_dir: &Path) -> Self {
        Self {
            disk,
            path: log_dir.join("spare.new"),
            making: None,
            recycled: Arc::default(),
        }
    }

    /// Where old files are handed over.
    pub(crate) fn recycled(&self) -> &Arc<Recycled> {
        &self.recycled
    }

    /// Starts to make the spare file, unless that was done or there is a recycled one.
    pub(crate) fn prepare(&mut self, capacity: u64) {
        if self.making.is_none() && !self.recycled.holds(capacity) {
            let (disk, path) = (Arc::clone(&self.disk), self.path.clone());
            let make = move || make(&*disk, path, capacity);
            // Without a thread it is made when it is needed.
            self.making = thread::Builder::new()
                .name("annals-spare".into())
                .spawn(make)
                .ok();
        }
    }

    /// The spare file, of at least this capacity. What went wrong while it was made ahead is tried again.
    pub(crate) fn take(&mut self, capacity: u64) -> io::Result<SpareFile> {
        if let Some(recycled) = self.recycled.take(capacity) {
            return Ok(recycled);
        }
        match self.making.take().map(JoinHandle::join) {
            Some(Ok(Ok(spare))) if spare.capacity >= capacity => Ok(spare),
            _ => make(&*self.disk, self.path.clone(), capacity),
        }
    }
}

impl Drop for Spare {
    /// Nothing is written to the folder after the log is closed.
    fn drop(&mut self) {
        if let Some(making) = self.making.take() {
            drop(making.join());
        }
    }
}

/// Makes a file of zeros, synced, its name not yet durable.
pub(crate) fn make(disk: &dyn Disk, path: PathBuf, capacity: u64) -> io::Result<SpareFile> {
    Ok(SpareFile {
        file: disk.create_zeros(&path, capacity)?,
        path,
        capacity,
        recycled: false,
    })
}

/// Room for one old file that is to be used again. One thread at a time hands files over.
#[derive(Default)]
pub(crate) struct Recycled {
    file: Mutex<Option<SpareFile>>,
    /// Cloned by those who open log files by name; see [`Recycled::hold`].
    held: Arc<()>,
}

/// While it lives no file is recycled: those beyond what is kept are removed.
pub(crate) struct RecycleHold {
    _held: Arc<()>,
}

impl Recycled {
    /// Whoever opens log files by name, not through the log, takes it before and keeps it as long as it reads them.
    pub(crate) fn hold(&self) -> RecycleHold {
        let _file = self.file.lock();
        RecycleHold {
            _held: Arc::clone(&self.held),
        }
    }

    fn holds(&self, capacity: u64) -> bool {
        let file = self.file.lock();
        file.as_ref().is_some_and(|file| file.capacity >= capacity)
    }

    fn take(&self, capacity: u64) -> Option<SpareFile> {
        self.file.lock().take_if(|file| file.capacity >= capacity)
    }

    /// Whether there is room for a file, and nobody holds files.
    pub(crate) fn has_room(&self) -> bool {
        let file = self.file.lock();
        file.is_none() && Arc::strong_count(&self.held) == 1
    }

    /// Takes the name of a file that nobody else has open from it, and makes it the next spare one. If that cannot be it
    /// is returned, with its old name or [`recycled_path`].
    pub(crate) fn give(
        &self,
        disk: &dyn Disk,
        log_dir: &Path,
        old: LogFile,
    ) -> Result<(), LogFile> {
        let path = recycled_path(log_dir, &old);
        let renamed = disk.rename(&old.path, &path);
        if renamed.and_then(|()| disk.sync_dir(log_dir)).is_err() {
            return Err(old);
        }
        let mut file = self.file.lock();
        // Looked at once the name is gone: whoever holds files from now on cannot open this one.
        if file.is_some() || Arc::strong_count(&self.held) > 1 {
            return Err(old);
        }
        *file = Some(SpareFile {
            file: old.file,
            path,
            capacity: old.header.file_bytes,
            recycled: true,
        });
        Ok(())
    }
}

/// The name of a file between its two lives. Each file has its own: the one before may be about to get its new name.
pub(crate) fn recycled_path(log_dir: &Path, old: &LogFile) -> PathBuf {
    log_dir.join(format!("recycled-{:020}.new", old.header.base_offset))
}
