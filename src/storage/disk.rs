//! The disk as the store sees it: a few calls whose durability is spelled out, so that a faulty disk can stand in.
//!
//! Contract: what [`DiskFile::sync_data`] returned `Ok` for is durable, as is the length of the file; a created, renamed
//! or removed name is durable only after [`Disk::sync_dir`] of its folder. Everything else may be lost, kept, or kept in
//! part and in any order. After a failed sync the bytes it should have covered count as lost.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
    sync::Arc,
};

use rustix::fs::OFlags;

/// Files are read and written by the kernel in pages of so many bytes; a write of whole ones reads nothing before.
pub const PAGE_BYTES: usize = 4096;
const ZEROS_BYTES: usize = 1 << 20;

/// Folders and files. Paths are absolute or relative to the working folder; folders are synced by the caller.
pub trait Disk: Send + Sync + 'static {
    /// Makes a folder and those above it, if they are not there.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Names of what a folder holds, in no particular order.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Makes an empty file, or empties the one that is there.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// [`Disk::create`] of a file that nobody but its owner may read, where the disk knows owners.
    fn create_private(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.create(path)
    }
    /// Opens a file that is there.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Gives a file another name, replacing what had it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Bytes that can still be written below a folder.
    fn available_bytes(&self, dir: &Path) -> io::Result<u64>;
    /// Locks a file against other processes for as long as the result lives; `WouldBlock` if another holds it.
    fn lock(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Makes a file of so many zeros, written and synced, or overwrites the one that is there.
    fn create_zeros(&self, path: &Path, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.create(path)?;
        file.write_zeros(0, bytes)?;
        file.sync_data()?;
        Ok(file)
    }
}

/// An open file. Positioned calls only, usable by many threads at once.
pub trait DiskFile: Send + Sync + 'static {
    /// Length in bytes.
    fn bytes(&self) -> io::Result<u64>;
    /// Reads at an offset; may read less, 0 only at the end.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes at an offset; may write less.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize>;
    /// Makes what was written durable.
    fn sync_data(&self) -> io::Result<()>;
}

impl dyn Disk {
    /// Makes a folder, and those above it, if they are not there, and their names durable.
    pub fn make_dir(&self, path: &Path) -> io::Result<()> {
        let folders = || path.ancestors().filter(|dir| dir.parent().is_some());
        let is_missing = |dir: &&Path| {
            self.list(dir)
                .is_err_and(|e| e.kind() == ErrorKind::NotFound)
        };
        let missing = folders().take_while(is_missing).count();
        self.create_dir(path)?;
        // Even if it was there: whoever made it may have ended before its name was durable.
        for dir in folders().take(missing.max(1)) {
            let parent = dir.parent().filter(|parent| *parent != Path::new(""));
            self.sync_dir(parent.unwrap_or(Path::new(".")))?;
        }
        Ok(())
    }
}

impl dyn DiskFile {
    /// Reads exactly `buf.len()` bytes, or `UnexpectedEof`.
    pub fn read_exact_at(&self, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buf.is_empty() {
            match self.read_at(buf, offset) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    buf = &mut buf[n..];
                    offset += n as u64;
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Writes all of `buf`.
    pub fn write_all_at(&self, mut buf: &[u8], mut offset: u64) -> io::Result<()> {
        while !buf.is_empty() {
            match self.write_at(buf, offset) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(n) => {
                    buf = &buf[n..];
                    offset += n as u64;
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Writes zeros from one offset to another.
    pub fn write_zeros(&self, mut from: u64, to: u64) -> io::Result<()> {
        let zeros = vec![0; ZEROS_BYTES];
        while from < to {
            let len = (to - from).min(ZEROS_BYTES as u64);
            self.write_all_at(&zeros[..len as usize], from)?;
            from += len;
        }
        Ok(())
    }

    /// Reads the file from its start to its end.
    pub fn read_all(&self) -> io::Result<Vec<u8>> {
        let len = usize::try_from(self.bytes()?).map_err(|_| ErrorKind::OutOfMemory)?;
        let mut bytes = vec![0; len];
        self.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }
}

/// The file system of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        fs::read_dir(dir)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        Ok(Arc::new(options.open(path)?))
    }

    fn create_private(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        Ok(Arc::new(options.mode(0o600).open(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(
            OpenOptions::new().read(true).write(true).open(path)?,
        ))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn available_bytes(&self, dir: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(dir)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn lock(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(path)?;
        file.try_lock()?;
        Ok(Arc::new(file))
    }

    /// Past the page cache where the file system can: the zeros are never read, and copying them would cost as much as
    /// writing the log.
    fn create_zeros(&self, path: &Path, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.create(path)?;
        let whole = bytes - bytes % PAGE_BYTES as u64;
        match write_zeros_directly(path, whole) {
            Ok(()) => file.write_zeros(whole, bytes)?,
            Err(e) if e.kind() == ErrorKind::InvalidInput => file.write_zeros(0, bytes)?,
            Err(e) => return Err(e),
        }
        file.sync_data()?;
        Ok(file)
    }
}

/// Writes whole pages of zeros; `InvalidInput` if the file system has no direct I/O, or none for this file.
fn write_zeros_directly(path: &Path, bytes: u64) -> io::Result<()> {
    let flags = OFlags::DIRECT.bits().cast_signed();
    let file = OpenOptions::new()
        .write(true)
        .custom_flags(flags)
        .open(path)?;
    // Direct I/O wants the memory aligned as well.
    let buffer = vec![0; ZEROS_BYTES + PAGE_BYTES];
    let zeros = &buffer[buffer.as_ptr().align_offset(PAGE_BYTES)..][..ZEROS_BYTES];
    let mut at = 0;
    while at < bytes {
        let len = (bytes - at).min(ZEROS_BYTES as u64);
        FileExt::write_all_at(&file, &zeros[..len as usize], at)?;
        at += len;
    }
    Ok(())
}

impl DiskFile for File {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        FileExt::write_at(self, buf, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        File::sync_data(self)
    }
}

/// The file system of the machine for those who only read, also where nothing may be written: nothing is ever changed,
/// but that the lock file is made if it is not there.
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
