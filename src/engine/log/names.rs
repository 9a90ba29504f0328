//! Names of one kind (entities, types or tags) and the events of one part of the log that carry them.
//!
//! Whoever places a batch pushes, in position order; anybody reads. What stands beyond the head is there already, so
//! that guards see it; readers cut at their head. Names are looked up by hash and confirmed in full.

use std::{
    hash::{BuildHasherDefault, Hasher},
    sync::atomic::{AtomicU64, Ordering},
};

use dashmap::DashMap;

use crate::types::id::{Position, Version};

/// Shards of a map: few threads write, and a shard that grows holds up only its own names.
pub(super) const SHARDS: usize = 64;

/// A position less that of the part's first event.
pub(crate) type Row = u32;

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
    /// Events before the part that carry the name.
    before: u64,
    /// Ascending.
    rows: Vec<Row>,
    /// Another name of the same hash.
    next: Option<Box<Entry>>,
}

impl Entry {
    fn find(&self, name: &[u8]) -> Option<&Self> {
        let mut entry = self;
        while *entry.name != *name {
            entry = entry.next.as_deref()?;
        }
        Some(entry)
    }

    /// The entry of a name in the chain that starts here.
    fn find_mut(&mut self, name: &[u8]) -> Option<&mut Self> {
        let mut entry = self;
        while *entry.name != *name {
            entry = entry.next.as_deref_mut()?;
        }
        Some(entry)
    }

    fn push(&mut self, row: Row) -> Version {
        self.rows.push(row);
        self.before + self.rows.len() as Version
    }

    fn rows(&self) -> Rows<'_> {
        Rows {
            before: self.before,
            rows: &self.rows,
        }
    }
}

/// The events that carry a name.
pub(crate) struct Rows<'a> {
    /// How many there are before the part.
    pub(crate) before: u64,
    /// Those of the part, ascending.
    pub(crate) rows: &'a [Row],
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
    /// Names that no event before the part carries.
    new_names: AtomicU64,
}

impl NameIndex {
    pub(crate) fn new() -> Self {
        let hasher = BuildIdentity::default();
        Self {
            map: DashMap::with_hasher_and_shard_amount(hasher, SHARDS),
            new_names: AtomicU64::new(0),
        }
    }

    /// Adds an event; returns how many carry the name now, those before the part included. `before` says how many there
    /// are before the part; it is asked if this is the first one in it.
    pub(crate) fn push(
        &self,
        hash: u64,
        name: &[u8],
        row: Row,
        before: impl FnOnce() -> u64,
    ) -> Version {
        let entry = |next| {
            let before = before();
            if before == 0 {
                self.new_names.fetch_add(1, Ordering::Relaxed);
            }
            Entry {
                name: name.into(),
                before,
                rows: vec![row],
                next,
            }
        };
        match self.map.entry(hash) {
            dashmap::Entry::Occupied(mut chain) => {
                if let Some(found) = chain.get_mut().find_mut(name) {
                    return found.push(row);
                }
                let head = chain.get_mut();
                let entry = entry(head.next.take());
                let version = entry.before + 1;
                head.next = Some(Box::new(entry));
                version
            }
            dashmap::Entry::Vacant(vacant) => {
                let entry = entry(None);
                let version = entry.before + 1;
                vacant.insert(entry);
                version
            }
        }
    }

    /// Number of names that no event before the part carries.
    pub(crate) fn new_names(&self) -> u64 {
        self.new_names.load(Ordering::Relaxed)
    }

    /// Shows the events that carry a name, if there are any.
    pub(crate) fn with<R>(
        &self,
        hash: u64,
        name: &[u8],
        see: impl FnOnce(Option<Rows<'_>>) -> R,
    ) -> R {
        let chain = self.map.get(&hash);
        see(chain
            .as_ref()
            .and_then(|chain| chain.find(name))
            .map(Entry::rows))
    }

    /// Shows all names in order, and the events that carry them; ends with the first error. Nobody can enter any
    /// meanwhile.
    pub(crate) fn each_sorted<E>(
        &self,
        mut see: impl FnMut(&[u8], Rows<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let chains: Vec<_> = self.map.iter().collect();
        let mut entries = Vec::with_capacity(chains.len());
        for chain in &chains {
            let mut next = Some(chain.value());
            while let Some(entry) = next {
                entries.push(entry);
                next = entry.next.as_deref();
            }
        }
        let mut common = entries.first().map_or(&[][..], |entry| &entry.name);
        for entry in &entries {
            let same = common.iter().zip(&entry.name).take_while(|(a, b)| a == b);
            common = &common[..same.count()];
        }
        // Most are told apart by a few bytes that stand side by side in memory; names are everywhere.
        let keyed = entries
            .into_iter()
            .map(|entry| (sort_key(&entry.name[common.len()..]), entry));
        let mut keyed: Vec<_> = keyed.collect();
        keyed.sort_unstable_by(|(a_key, a), (b_key, b)| {
            a_key.cmp(b_key).then_with(|| a.name.cmp(&b.name))
        });
        for (_, entry) in keyed {
            see(&entry.name, entry.rows())?;
        }
        Ok(())
    }

    /// The first names in order that start with `prefix`, come behind `after`, and of which `visible` gives a number of
    /// events, the first and the last of them.
    pub(crate) fn list(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
        visible: impl Fn(&Rows<'_>) -> Option<(u64, Position, Position)>,
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
                if let (true, Some((rows, first, last))) = (wanted, visible(&entry.rows())) {
                    smallest.push(NameRows {
                        name: entry.name.clone(),
                        rows,
                        first,
                        last,
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

/// How many rows are at or before one.
pub(crate) fn rows_through(rows: &[Row], through: u64) -> usize {
    rows.partition_point(|&row| u64::from(row) <= through)
}

/// The first bytes as a number: in the order of the bytes, but that it may be the same for different ones.
fn sort_key(bytes: &[u8]) -> u64 {
    let mut first = [0; 8];
    let count = bytes.len().min(first.len());
    first[..count].copy_from_slice(&bytes[..count]);
    u64::from_be_bytes(first)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::btree_set, prelude::*};

    use super::*;

    proptest! {
        #[test]
        fn names_are_shown_in_the_order_of_their_bytes(
            names in btree_set("(order-)?[a\u{1}é\u{0}]{0,12}", 0..40),
        ) {
            let index = NameIndex::new();
            for name in &names {
                // Some share a hash.
                index.push(name.len() as u64, name.as_bytes(), 0, || 0);
            }
            let mut shown = Vec::new();
            let see = |name: &[u8], _: Rows<'_>| {
                shown.push(name.to_vec());
                Ok::<_, ()>(())
            };
            index.each_sorted(see).unwrap();
            let mut expected: Vec<_> = names.into_iter().map(String::into_bytes).collect();
            expected.sort_unstable();
            prop_assert_eq!(shown, expected);
        }
    }
}
