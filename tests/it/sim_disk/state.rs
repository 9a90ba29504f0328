//! What the simulated disk holds: folders and files, what of them is durable, and what is to go wrong next.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use super::inode::Inode;
use crate::rng::Rng;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Io,
    NoSpace,
    /// A write that writes less than it was given.
    Short,
}

/// For how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lasting {
    Once,
    FromThenOn,
}

#[derive(Clone)]
pub(super) struct State {
    pub(super) inodes: Vec<Inode>,
    pub(super) folders: BTreeMap<PathBuf, Folder>,
    pub(super) locked: BTreeSet<PathBuf>,
    pub(super) rng: Rng,
    pub(super) changes: u64,
    pub(super) reads: u64,
    /// Files of zeros that were made.
    pub(super) zero_files: u64,
    /// Log files that were given another name to be used again, and how many were.
    pub(super) recycled: Vec<PathBuf>,
    pub(super) reused: u64,
    /// The number of the change at which the power goes.
    pub(super) crash_at: Option<u64>,
    pub(super) dead: bool,
    pub(super) fault: Option<(Fault, u64, Lasting)>,
    /// The number of the read that fails.
    pub(super) read_fault: Option<u64>,
    pub(super) available_bytes: u64,
    pub(super) gate: Gate,
    /// What was done that must not be.
    pub(super) broken: Vec<String>,
}

#[derive(Clone, Default)]
pub(super) struct Gate {
    pub(super) closed: bool,
    /// The files whose syncs and reads wait.
    pub(super) waiting: Vec<PathBuf>,
    pub(super) fail: bool,
    /// Reads of these files wait as well.
    pub(super) held: Vec<PathBuf>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Node {
    File(usize),
    Folder,
}

/// Names to what they stand for; `None`: they are gone.
pub(super) type Change = Vec<(String, Option<Node>)>;

#[derive(Clone, Default)]
pub(super) struct Folder {
    pub(super) names: BTreeMap<String, Node>,
    pub(super) durable: BTreeMap<String, Node>,
    /// Each is atomic.
    pub(super) unsynced: Vec<Change>,
}

impl Folder {
    pub(super) fn change(&mut self, change: Change) {
        apply(&mut self.names, &change);
        self.unsynced.push(change);
    }

    /// What may be found after a power loss: all unsynced changes, those up to one, or any of them.
    pub(super) fn image(&self, rng: &mut Rng) -> BTreeMap<String, Node> {
        let style = rng.below(3);
        let kept = rng.below(self.unsynced.len() + 1);
        let mut names = self.durable.clone();
        for (i, change) in self.unsynced.iter().enumerate() {
            if style == 0 || (style == 1 && i < kept) || (style == 2 && rng.chance(50)) {
                apply(&mut names, change);
            }
        }
        names
    }
}

pub(super) fn apply(names: &mut BTreeMap<String, Node>, change: &Change) {
    for (name, node) in change {
        match node {
            Some(node) => names.insert(name.clone(), *node),
            None => names.remove(name),
        };
    }
}

/// How a change goes.
pub(super) enum Fate {
    Done,
    Short,
    /// It fails, and was done all the same, or not.
    Failed(ErrorKind, bool),
}

impl State {
    pub(super) fn change(&mut self) -> io::Result<Fate> {
        if self.dead {
            return Err(eio());
        }
        let number = self.changes;
        self.changes += 1;
        let done = self.rng.chance(50);
        if self.crash_at == Some(number) {
            self.dead = true;
            return Ok(Fate::Failed(ErrorKind::Other, done));
        }
        let now = self.fault.filter(|(_, at, lasting)| {
            number == *at || (number > *at && *lasting == Lasting::FromThenOn)
        });
        Ok(match now {
            None => Fate::Done,
            Some((Fault::Short, ..)) => Fate::Short,
            Some((Fault::Io, ..)) => Fate::Failed(ErrorKind::Other, done),
            Some((Fault::NoSpace, ..)) => Fate::Failed(ErrorKind::StorageFull, false),
        })
    }

    /// A change of names, which cannot be short.
    pub(super) fn change_names(
        &mut self,
        act: impl FnOnce(&mut Self) -> io::Result<()>,
    ) -> io::Result<()> {
        match self.change()? {
            Fate::Done | Fate::Short => act(self),
            Fate::Failed(kind, done) => {
                if done {
                    act(self)?;
                }
                Err(kind.into())
            }
        }
    }

    /// Whether a file could still be found after a power loss under the name of a log file that it does not have any more.
    pub(super) fn has_older_name(&self, inode: usize) -> bool {
        let (folder, now) = split(&self.inodes[inode].path);
        let is_it = |(name, node): (&String, &Node)| {
            let same = matches!(node, Node::File(durable) if *durable == inode);
            same && *name != now && name.ends_with(".log")
        };
        let folder = self.folders.get(folder);
        folder.is_some_and(|folder| folder.durable.iter().any(is_it))
    }

    /// Counts what becomes of old log files.
    pub(super) fn note_rename(&mut self, from: &Path, to: &Path) {
        let is_recycled = |path| split(path).1.starts_with("recycled-");
        if is_recycled(to) {
            self.recycled.push(from.to_owned());
        }
        self.reused += u64::from(is_recycled(from));
    }

    pub(super) fn read(&mut self) -> io::Result<()> {
        let number = self.reads;
        self.reads += 1;
        if self.dead || self.read_fault == Some(number) {
            return Err(eio());
        }
        Ok(())
    }

    pub(super) fn folder(&mut self, path: &Path) -> io::Result<&mut Folder> {
        self.folders
            .get_mut(path)
            .ok_or_else(|| ErrorKind::NotFound.into())
    }

    pub(super) fn node(&self, path: &Path) -> Option<Node> {
        let (folder, name) = split(path);
        self.folders.get(folder)?.names.get(&name).copied()
    }

    pub(super) fn inode(&self, path: &Path) -> io::Result<usize> {
        match self.node(path) {
            Some(Node::File(inode)) => Ok(inode),
            Some(Node::Folder) => Err(ErrorKind::IsADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn create(&mut self, path: &Path) -> io::Result<usize> {
        let (folder, name) = split(path);
        if let Ok(inode) = self.inode(path) {
            self.inodes[inode].empty();
            return Ok(inode);
        }
        let inode = self.inodes.len();
        self.folder(folder)?
            .change(vec![(name, Some(Node::File(inode)))]);
        self.inodes.push(Inode::new(path.to_owned()));
        Ok(inode)
    }

    /// What may be found below a folder after a power loss.
    pub(super) fn image(&self, path: &Path, rng: &mut Rng, into: &mut State) {
        let mut folder = Folder::default();
        for (name, node) in self.folders[path].image(rng) {
            let inner = path.join(&name);
            let node = match node {
                Node::Folder => {
                    self.image(&inner, rng, into);
                    Node::Folder
                }
                Node::File(inode) => {
                    let bytes = self.inodes[inode].image(rng);
                    into.inodes.push(Inode::with_content(inner, bytes));
                    Node::File(into.inodes.len() - 1)
                }
            };
            folder.names.insert(name, node);
        }
        folder.durable.clone_from(&folder.names);
        into.folders.insert(path.to_owned(), folder);
    }

    pub(super) fn empty(rng: Rng) -> Self {
        Self {
            inodes: Vec::new(),
            folders: BTreeMap::new(),
            locked: BTreeSet::new(),
            rng,
            changes: 0,
            reads: 0,
            zero_files: 0,
            recycled: Vec::new(),
            reused: 0,
            crash_at: None,
            dead: false,
            fault: None,
            read_fault: None,
            available_bytes: u64::MAX,
            gate: Gate::default(),
            broken: Vec::new(),
        }
    }
}

pub(super) fn eio() -> io::Error {
    io::Error::other("the disk is out of order")
}

pub(super) fn split(path: &Path) -> (&Path, String) {
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    (path.parent().unwrap(), name)
}
