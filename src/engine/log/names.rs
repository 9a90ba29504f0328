//! Names of one kind (entities, types or tags) and the positions of the events that carry them: the concurrent lookup of
//! the log's part that has no index on disk.
//!
//! The committer's caller pushes, in position order; anybody reads. What stands beyond the head is there already, so
//! that guards see it; readers cut at their head. Names are looked up by hash and confirmed in full.

use std::{
    hash::{BuildHasherDefault, Hasher},
    sync::atomic::{AtomicU64, Ordering},
};

use dashmap::DashMap;

use crate::types::id::{Position, Version};

/// Shards of a map: few threads write, and a shard that grows holds up only its own names.
pub(super) const SHARDS: usize = 64;

/// A position as the index keeps it.
pub(crate) type Row = u32;

pub(crate) fn row_of(position: Position) -> Row {
    Row::try_from(position).expect("an index of 4,294,967,295 events does not fit into memory")
}

/// Keys are hashes already.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are numbers")
    }

    fn write_u64(&mut self, hash: u64) {
        // The map takes shard and bucket from different ends of the hash, so a short hash is spread over all of it.
        self.0 = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

pub(super) type BuildIdentity = BuildHasherDefault<Identity>;

struct Entry {
    name: Box<[u8]>,
    /// Ascending.
    rows: Vec<Row>,
    /// Another name of the same hash.
    next: Option<Box<Entry>>,
}

impl Entry {
    fn new(name: &[u8], row: Row) -> Self {
        Self {
            name: name.into(),
            rows: vec![row],
            next: None,
        }
    }

    fn find(&self, name: &[u8]) -> Option<&Self> {
        let mut entry = self;
        while *entry.name != *name {
            entry = entry.next.as_deref()?;
        }
        Some(entry)
    }

    fn push(&mut self, name: &[u8], row: Row) -> Version {
        let mut entry = self;
        while *entry.name != *name {
            entry = entry.next.get_or_insert_with(|| {
                Box::new(Self {
                    name: name.into(),
                    rows: Vec::new(),
                    next: None,
                })
            });
        }
        entry.rows.push(row);
        entry.rows.len() as Version
    }
}

/// One line of a listing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NameRows {
    pub(crate) name: Box<[u8]>,
    pub(crate) rows: u64,
    pub(crate) first: Position,
    pub(crate) last: Position,
}

/// See the module.
pub(crate) struct NameIndex {
    map: DashMap<u64, Entry, BuildIdentity>,
    names: AtomicU64,
}

impl NameIndex {
    pub(crate) fn new() -> Self {
        Self {
            map: DashMap::with_hasher_and_shard_amount(BuildIdentity::default(), SHARDS),
            names: AtomicU64::new(0),
        }
    }

    /// Adds an event; returns how many the name has now.
    pub(crate) fn push(&self, hash: u64, name: &[u8], row: Row) -> Version {
        let mut version = 0;
        self.map
            .entry(hash)
            .and_modify(|entry| version = entry.push(name, row))
            .or_insert_with(|| {
                version = 1;
                Entry::new(name, row)
            });
        if version == 1 {
            self.names.fetch_add(1, Ordering::Relaxed);
        }
        version
    }

    /// Shows the rows of a name, ascending; none if there is no such name.
    pub(crate) fn with<R>(&self, hash: u64, name: &[u8], see: impl FnOnce(&[Row]) -> R) -> R {
        match self.map.get(&hash) {
            Some(entry) => see(entry.find(name).map_or(&[], |entry| &entry.rows)),
            None => see(&[]),
        }
    }

    /// How many events the name has up to a position.
    pub(crate) fn count(&self, hash: u64, name: &[u8], through: Position) -> u64 {
        self.with(hash, name, |rows| rows_through(rows, through) as u64)
    }

    /// Number of names.
    pub(crate) fn names(&self) -> u64 {
        self.names.load(Ordering::Relaxed)
    }

    /// The first names in order that start with `prefix`, come behind `after`, and have an event up to `head`.
    pub(crate) fn list(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
        head: Position,
    ) -> Vec<NameRows> {
        // A heap of the smallest ones so far, the largest of them on top.
        let mut smallest = std::collections::BinaryHeap::new();
        for chain in &self.map {
            let mut next = Some(chain.value());
            while let Some(entry) = next {
                next = entry.next.as_deref();
                let wanted = entry.name.starts_with(prefix)
                    && after.is_none_or(|after| *entry.name > *after)
                    && (smallest.len() < limit
                        || smallest
                            .peek()
                            .is_some_and(|top: &NameRows| entry.name < top.name));
                let visible = &entry.rows[..rows_through(&entry.rows, head)];
                if let (true, Some((first, last))) = (wanted, visible.first().zip(visible.last())) {
                    smallest.push(NameRows {
                        name: entry.name.clone(),
                        rows: visible.len() as u64,
                        first: Position::from(*first),
                        last: Position::from(*last),
                    });
                    if smallest.len() > limit {
                        smallest.pop();
                    }
                }
            }
        }
        smallest.into_sorted_vec()
    }
}

/// How many rows are at or before a position.
pub(crate) fn rows_through(rows: &[Row], through: Position) -> usize {
    rows.partition_point(|&row| Position::from(row) <= through)
}
