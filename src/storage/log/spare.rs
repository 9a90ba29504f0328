//! The next log file, written with zeros and synced ahead of need on a thread of its own: syncing a write into blocks
//! that were written before costs a fraction of syncing a file that grows.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
};

use crate::storage::disk::{Disk, DiskFile};

/// A file of zeros under a name that is not a log file's.
pub(crate) struct SpareFile {
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) path: PathBuf,
    pub(crate) capacity: u64,
}

/// At most one spare file, made or being made.
pub(crate) struct Spare {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    making: Option<JoinHandle<io::Result<SpareFile>>>,
}

impl Spare {
    pub(crate) fn new(disk: Arc<dyn Disk>, log_dir: &Path) -> Self {
        Self {
            disk,
            path: log_dir.join("spare.new"),
            making: None,
        }
    }

    /// Starts to make the spare file, unless that was done.
    pub(crate) fn prepare(&mut self, capacity: u64) {
        if self.making.is_none() {
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
    })
}
