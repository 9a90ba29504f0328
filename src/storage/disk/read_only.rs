//! The file system of the machine for those who only read, also where nothing may be written: nothing is ever changed,
//! but that the lock file is made if it is not there.

use std::{
    fs::{File, OpenOptions},
    io::{self, ErrorKind},
    path::Path,
    sync::Arc,
};

use super::{Disk, DiskFile, RealDisk};

/// See the module.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ReadOnlyDisk;

fn refuse<T>() -> io::Result<T> {
    Err(ErrorKind::ReadOnlyFilesystem.into())
}

impl Disk for ReadOnlyDisk {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        refuse()
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }

    fn create(&self, _: &Path) -> io::Result<Arc<dyn DiskFile>> {
        refuse()
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(File::open(path)?))
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        refuse()
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        refuse()
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        refuse()
    }

    fn available_bytes(&self, dir: &Path) -> io::Result<u64> {
        RealDisk.available_bytes(dir)
    }

    /// Others who only read may hold it as well. `NotFound` if there is no such file and none can be made.
    fn lock(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = match options.open(path) {
            Err(e) if is_refused(&e) => File::open(path)?,
            opened => opened?,
        };
        file.try_lock_shared()?;
        Ok(Arc::new(file))
    }
}

fn is_refused(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem
    )
}
