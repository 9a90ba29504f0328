//! A disk that refuses one kind of work.

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use annals::storage::disk::{Disk, DiskFile};
use parking_lot::Mutex;

use crate::sim_disk::SimDisk;

/// What is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    CreateDir,
    Create,
    Write,
    Sync,
    Rename,
    SyncDir,
    /// Reading back what was written.
    Open,
    /// Removing a file, or taking the name of a log file that is to be used again. It is done all the same.
    Remove,
}

/// A disk that refuses something below folders of a name, until it is mended.
#[derive(Clone)]
pub(crate) struct RefusingDisk {
    pub(crate) disk: SimDisk,
    sick: Arc<Mutex<Option<(Refused, &'static str)>>>,
    refusals: Arc<AtomicU64>,
}

impl RefusingDisk {
    pub(crate) fn new(refused: Refused, below: &'static str) -> Self {
        Self {
            disk: SimDisk::new(1),
            sick: Arc::new(Mutex::new(Some((refused, below)))),
            refusals: Arc::default(),
        }
    }

    pub(crate) fn mend(&self) {
        *self.sick.lock() = None;
    }

    pub(crate) fn refuse(&self, refused: Refused, below: &'static str) {
        *self.sick.lock() = Some((refused, below));
    }

    /// How often something was refused.
    pub(crate) fn refusals(&self) -> u64 {
        self.refusals.load(Ordering::Relaxed)
    }

    fn check(&self, what: Refused, path: &Path) -> io::Result<()> {
        let sick = *self.sick.lock();
        let is_refused = |(refused, below): (Refused, &str)| {
            refused == what && path.components().any(|part| part.as_os_str() == below)
        };
        if sick.is_some_and(is_refused) {
            self.refusals.fetch_add(1, Ordering::Relaxed);
            return Err(io::Error::other("the disk refuses"));
        }
        Ok(())
    }

    fn file(&self, path: &Path, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(RefusingFile {
            disk: self.clone(),
            path: path.into(),
            file,
        })
    }
}

impl Disk for RefusingDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.check(Refused::CreateDir, path)?;
        self.disk.create_dir(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.check(Refused::Create, path)?;
        Ok(self.file(path, self.disk.create(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.check(Refused::Open, path)?;
        Ok(self.file(path, self.disk.open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.check(Refused::Rename, from)?;
        self.disk.rename(from, to)?;
        if to.to_string_lossy().contains("recycled-") {
            self.check(Refused::Remove, from)?;
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)?;
        self.check(Refused::Remove, path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.check(Refused::SyncDir, dir)?;
        self.disk.sync_dir(dir)
    }

    fn available_bytes(&self, dir: &Path) -> io::Result<u64> {
        self.disk.available_bytes(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.lock(path)
    }
}

struct RefusingFile {
    disk: RefusingDisk,
    path: Box<Path>,
    file: Arc<dyn DiskFile>,
}

impl DiskFile for RefusingFile {
    fn bytes(&self) -> io::Result<u64> {
        self.file.bytes()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.disk.check(Refused::Write, &self.path)?;
        self.file.write_at(buf, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.check(Refused::Sync, &self.path)?;
        self.file.sync_data()
    }
}
