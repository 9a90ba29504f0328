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
    let path = dir.join("annals.lock");
    match disk.lock(&path) {
        Ok(file) => {
            // Padded, so that a shorter number leaves nothing of a longer one before it.
            let holder = format!("{:<20}\n", std::process::id());
            file.write_all_at(holder.as_bytes(), 0)
                .map_err(LockError::Io)?;
            Ok(DirLock { _file: file })
        }
        Err(e) if e.kind() == ErrorKind::WouldBlock => {
            let holder = disk
                .open(&path)
                .and_then(|file| file.read_all())
                .unwrap_or_default();
            Err(LockError::Held(
                String::from_utf8_lossy(&holder).trim().to_owned(),
            ))
        }
        Err(e) => Err(LockError::Io(e)),
    }
}
