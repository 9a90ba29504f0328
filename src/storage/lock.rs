//! `annals.lock`: one process at a time works on a data folder.

use std::{
    io::{self, ErrorKind},
    path::Path,
    sync::Arc,
};

use super::disk::{Disk, DiskFile};

/// Why the folder could not be locked.
#[derive(Debug)]
pub(crate) enum LockError {
    /// Another process holds it; what it wrote about itself.
    Held(String),
    Io(io::Error),
}

/// Held as long as it lives.
pub(crate) struct DirLock {
    _file: Arc<dyn DiskFile>,
}

pub(crate) fn lock(disk: &dyn Disk, dir: &Path) -> Result<DirLock, LockError> {
    let file = locked(disk, dir)?;
    state_holder(&*file).map_err(LockError::Io)?;
    Ok(DirLock { _file: file })
}

/// For who only reads. `None` where there is no lock file and none can be made: whoever served the folder would have made
/// one.
pub(crate) fn lock_to_read(disk: &dyn Disk, dir: &Path) -> Result<Option<DirLock>, LockError> {
    match locked(disk, dir) {
        Ok(file) => {
            // Where it may not be written, nobody learns who it is.
            state_holder(&*file).ok();
            Ok(Some(DirLock { _file: file }))
        }
        Err(LockError::Io(e)) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn locked(disk: &dyn Disk, dir: &Path) -> Result<Arc<dyn DiskFile>, LockError> {
    let path = dir.join("annals.lock");
    disk.lock(&path).map_err(|error| {
        if error.kind() != ErrorKind::WouldBlock {
            return LockError::Io(error);
        }
        let holder = disk.open(&path).and_then(|file| file.read_all());
        let holder = holder.unwrap_or_default();
        LockError::Held(String::from_utf8_lossy(&holder).trim().to_owned())
    })
}

fn state_holder(file: &dyn DiskFile) -> io::Result<()> {
    // Padded, so that a shorter number leaves nothing of a longer one before it.
    let holder = format!("{:<20}\n", std::process::id());
    file.write_all_at(holder.as_bytes(), 0)
}
