//! A disk in memory that keeps no more than [`Disk`] promises: it forgets what was not synced, in any order, and fails
//! when it is told to.
//!
//! Every change (a write, a sync, anything done to a name) and every read has a number, so that a test can have each of
//! them fail, or be the last one before the power goes. Not here: what is expected of the store then.

mod inode;
mod state;

use std::{
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::Arc,
};

use annals::storage::disk::{Disk, DiskFile};
use parking_lot::{Condvar, Mutex, MutexGuard};

pub(crate) use self::state::{Fault, Lasting};
use self::{
    inode::Inode,
    state::{Fate, Folder, Node, State, split},
};
use crate::rng::Rng;

/// Cheap to clone: clones are the same disk.
#[derive(Clone)]
pub(crate) struct SimDisk {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// The gate opened, or somebody came to it.
    gate: Condvar,
}

impl SimDisk {
    pub(crate) fn new(seed: u64) -> Self {
        let mut state = State::empty(Rng::new(seed));
        state.folders.insert("/".into(), Folder::default());
        Self::of(state)
    }

    fn of(state: State) -> Self {
        let shared = Shared {
            state: Mutex::new(state),
            gate: Condvar::new(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock()
    }

    /// The disk as it may be found after a power loss now; another one every time.
    pub(crate) fn crash(&self) -> Self {
        let mut state = self.state();
        let mut rng = Rng::new(state.rng.next());
        let mut image = State::empty(Rng::new(rng.next()));
        state.image(Path::new("/"), &mut rng, &mut image);
        Self::of(image)
    }

    /// The disk as the next process finds it while the machine stays up, without faults.
    pub(crate) fn restart(&self) -> Self {
        let state = self.state().clone();
        Self::of(State {
            inodes: state.inodes,
            folders: state.folders,
            broken: state.broken,
            ..State::empty(state.rng)
        })
    }

    /// The power goes at this change; everything fails from then on.
    pub(crate) fn crash_at(&self, change: u64) {
        self.state().crash_at = Some(change);
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.state().dead
    }

    /// Changes so far.
    pub(crate) fn changes(&self) -> u64 {
        self.state().changes
    }

    /// Reads so far.
    pub(crate) fn reads(&self) -> u64 {
        self.state().reads
    }

    /// Files of zeros made so far.
    pub(crate) fn zero_files(&self) -> u64 {
        self.state().zero_files
    }

    /// Old log files that became new ones so far.
    pub(crate) fn reused(&self) -> u64 {
        self.state().reused
    }

    /// Log files that gave up their names so far to be used again.
    pub(crate) fn recycled(&self) -> Vec<PathBuf> {
        self.state().recycled.clone()
    }

    pub(crate) fn fail_change(&self, number: u64, fault: Fault, lasting: Lasting) {
        self.state().fault = Some((fault, number, lasting));
    }

    pub(crate) fn fail_read(&self, number: u64) {
        self.state().read_fault = Some(number);
    }

    pub(crate) fn set_available_bytes(&self, bytes: u64) {
        self.state().available_bytes = bytes;
    }

    /// Has syncs of log files wait.
    pub(crate) fn close_gate(&self) {
        self.state().gate.closed = true;
    }

    /// Has reads of files wait; those of others do not wait any more.
    pub(crate) fn hold_reads(&self, paths: &[PathBuf]) {
        self.state().gate.held = paths.to_vec();
        self.shared.gate.notify_all();
    }

    /// Returns once so many syncs and reads of such files wait at the gate.
    pub(crate) fn wait_for_callers(&self, callers: usize, is_such: impl Fn(&Path) -> bool) {
        let mut state = self.state();
        while state
            .gate
            .waiting
            .iter()
            .filter(|path| is_such(path))
            .count()
            < callers
        {
            self.shared.gate.wait(&mut state);
        }
    }

    /// Holds up a caller of a file until something about the gate changes.
    fn wait_at_gate(&self, state: &mut MutexGuard<'_, State>, inode: usize) {
        let path = state.inodes[inode].path.clone();
        state.gate.waiting.push(path.clone());
        self.shared.gate.notify_all();
        self.shared.gate.wait(state);
        let at = state
            .gate
            .waiting
            .iter()
            .position(|waiting| *waiting == path);
        state.gate.waiting.swap_remove(at.unwrap());
    }

    /// Lets syncs through; with `Fault` they fail.
    pub(crate) fn open_gate(&self, fault: Option<Fault>) {
        let mut state = self.state();
        state.gate.closed = false;
        state.gate.fail = fault.is_some();
        self.shared.gate.notify_all();
    }

    /// Nothing was done that must not be: no file whose sync failed was synced again, no log file written over that a power
    /// loss could bring back.
    pub(crate) fn check(&self, context: &str) {
        assert_eq!(self.state().broken, Vec::<String>::new(), "{context}");
    }

    /// All files, by path.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let state = self.state();
        let files = state.folders.iter().flat_map(|(folder, names)| {
            let is_file = |(_, node): &(&String, &Node)| matches!(node, Node::File(_));
            let path = |(name, _): (&String, &Node)| folder.join(name);
            names.names.iter().filter(is_file).map(path)
        });
        files.collect()
    }

    pub(crate) fn content(&self, path: &Path) -> Vec<u8> {
        let state = self.state();
        let inode = state.inode(path).unwrap();
        state.inodes[inode].cached.clone()
    }

    /// Changes what a file holds behind the store's back; makes the file if it is not there.
    pub(crate) fn set_content(&self, path: &Path, bytes: Vec<u8>) {
        let mut state = self.state();
        let inode = match state.inode(path) {
            Ok(inode) => inode,
            Err(_) => state.create(path).unwrap(),
        };
        let broken = Inode::with_content(path.to_owned(), bytes);
        state.inodes[inode] = broken;
    }

    /// Flips a bit behind the store's back.
    pub(crate) fn flip(&self, path: &Path, bit: usize) {
        let mut state = self.state();
        let inode = state.inode(path).unwrap();
        let inode = &mut state.inodes[inode];
        inode.cached[bit / 8] ^= 1 << (bit % 8);
        inode.durable[bit / 8] ^= 1 << (bit % 8);
    }

    /// Removes a file behind the store's back.
    pub(crate) fn lose(&self, path: &Path) {
        let (folder, name) = split(path);
        let mut state = self.state();
        let folder = state.folder(folder).unwrap();
        folder.names.remove(&name).unwrap();
        folder.durable.remove(&name);
    }

    fn file(&self, inode: usize, lock: Option<PathBuf>) -> Arc<dyn DiskFile> {
        let disk = self.clone();
        Arc::new(SimFile { disk, inode, lock })
    }
}

impl Disk for SimDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.state().change_names(|state| {
            let above: Vec<_> = path.ancestors().collect();
            for pair in above.windows(2).rev() {
                let (folder, parent) = (pair[0], pair[1]);
                if !state.folders.contains_key(folder) {
                    let (_, name) = split(folder);
                    state
                        .folder(parent)?
                        .change(vec![(name, Some(Node::Folder))]);
                    state.folders.insert(folder.to_owned(), Folder::default());
                }
            }
            Ok(())
        })
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut state = self.state();
        state.read()?;
        Ok(state.folder(dir)?.names.keys().cloned().collect())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        state.change_names(|state| state.create(path).map(drop))?;
        let inode = state.inode(path)?;
        drop(state);
        Ok(self.file(inode, None))
    }

    fn create_zeros(&self, path: &Path, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        self.state().zero_files += 1;
        let file = self.create(path)?;
        file.write_zeros(0, bytes)?;
        file.sync_data()?;
        Ok(file)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        state.read()?;
        let inode = state.inode(path)?;
        drop(state);
        Ok(self.file(inode, None))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.state().change_names(|state| {
            let inode = state.inode(from)?;
            let ((folder, old), (to_folder, new)) = (split(from), split(to));
            assert_eq!(folder, to_folder, "a rename between folders is not atomic");
            state.note_rename(from, to);
            state.inodes[inode].path = to.to_owned();
            state
                .folder(folder)?
                .change(vec![(old, None), (new, Some(Node::File(inode)))]);
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.state().change_names(|state| {
            state.inode(path)?;
            let (folder, name) = split(path);
            state.folder(folder)?.change(vec![(name, None)]);
            Ok(())
        })
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.state().change_names(|state| {
            let folder = state.folder(dir)?;
            folder.durable.clone_from(&folder.names);
            folder.unsynced.clear();
            Ok(())
        })
    }

    fn available_bytes(&self, _: &Path) -> io::Result<u64> {
        let mut state = self.state();
        state.read()?;
        Ok(state.available_bytes)
    }

    fn lock(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        if state.locked.contains(path) {
            return Err(ErrorKind::WouldBlock.into());
        }
        state.change_names(|state| match state.inode(path) {
            Ok(_) => Ok(()),
            Err(_) => state.create(path).map(drop),
        })?;
        let inode = state.inode(path)?;
        state.locked.insert(path.to_owned());
        drop(state);
        Ok(self.file(inode, Some(path.to_owned())))
    }
}

struct SimFile {
    disk: SimDisk,
    inode: usize,
    lock: Option<PathBuf>,
}

impl DiskFile for SimFile {
    fn bytes(&self) -> io::Result<u64> {
        let mut state = self.disk.state();
        state.read()?;
        Ok(state.inodes[self.inode].cached.len() as u64)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.state();
        while state.gate.held.contains(&state.inodes[self.inode].path) {
            self.disk.wait_at_gate(&mut state, self.inode);
        }
        state.read()?;
        Ok(state.inodes[self.inode].read(buf, offset as usize))
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.state();
        let fate = state.change()?;
        if state.has_older_name(self.inode) {
            let path = state.inodes[self.inode].path.display().to_string();
            let what = format!("{path} was written to before its old name was gone");
            state.broken.push(what);
        }
        let part = match &fate {
            Fate::Done => buf.len(),
            Fate::Short => 1 + state.rng.below(buf.len()),
            Fate::Failed(..) => state.rng.below(buf.len() + 1),
        };
        state.inodes[self.inode].write(&buf[..part], offset as usize);
        match fate {
            Fate::Failed(kind, _) => Err(kind.into()),
            Fate::Done | Fate::Short => Ok(part),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        if state.inodes[self.inode].path.extension() == Some("log".as_ref()) {
            while state.gate.closed {
                self.disk.wait_at_gate(&mut state, self.inode);
            }
        }
        let state = &mut *state;
        let fate = if state.gate.fail {
            Fate::Failed(ErrorKind::Other, false)
        } else {
            state.change()?
        };
        let inode = &mut state.inodes[self.inode];
        if inode.sync_failed {
            let what = format!("{} was synced after a failed sync", inode.path.display());
            state.broken.push(what);
        }
        match fate {
            Fate::Done | Fate::Short => {
                inode.sync();
                Ok(())
            }
            Fate::Failed(kind, done) => {
                if state.dead && done {
                    inode.sync();
                } else if !state.dead {
                    inode.fail_sync(&mut state.rng);
                }
                Err(kind.into())
            }
        }
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        if let Some(path) = &self.lock {
            self.disk.state().locked.remove(path);
        }
    }
}
