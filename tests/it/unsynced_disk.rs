//! Real files that are never synced: for tests that do not crash and would spend their time waiting for the disk. Syncs
//! can be held up, to look at what is written and not durable.

use std::{
    io,
    path::Path,
    sync::{Arc, Condvar, Mutex},
};

use annals::storage::disk::{Disk, DiskFile, RealDisk};

/// The file system of the machine, without its syncs.
#[derive(Default)]
pub(crate) struct UnsyncedDisk {
    gate: Arc<Gate>,
}

/// Whether syncs have to wait.
#[derive(Default)]
struct Gate {
    held: Mutex<bool>,
    released: Condvar,
}

impl UnsyncedDisk {
    /// From now on syncs of files wait.
    pub(crate) fn hold(&self) {
        *self.gate.held.lock().unwrap() = true;
    }

    /// Syncs of files return.
    pub(crate) fn release(&self) {
        *self.gate.held.lock().unwrap() = false;
        self.gate.released.notify_all();
    }

    fn file(&self, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        let gate = Arc::clone(&self.gate);
        Arc::new(UnsyncedFile { file, gate })
    }
}

struct UnsyncedFile {
    file: Arc<dyn DiskFile>,
    gate: Arc<Gate>,
}

impl Disk for UnsyncedDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_dir(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.file(RealDisk.create(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.file(RealDisk.open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        // File systems write a file out that takes the place of another, which is a sync in all but name.
        match RealDisk.remove(to) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => RealDisk.rename(from, to),
        }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn available_bytes(&self, dir: &Path) -> io::Result<u64> {
        RealDisk.available_bytes(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        RealDisk.lock(path)
    }
}

impl DiskFile for UnsyncedFile {
    fn bytes(&self) -> io::Result<u64> {
        self.file.bytes()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.file.write_at(buf, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        let held = self.gate.held.lock().unwrap();
        drop(self.gate.released.wait_while(held, |held| *held).unwrap());
        Ok(())
    }
}
