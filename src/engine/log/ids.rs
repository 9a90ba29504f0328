//! Ids of the events of a part, by their hashes: what repeats are found with. Only the hash of an id is kept; a hit is
//! confirmed by the event itself. Ids of sealed events stand in index runs.

use std::{
    array,
    collections::{HashMap, hash_map},
    hash::{Hash, Hasher},
};

use super::names::{BuildIdentity, Row};

/// Maps that an id may be in: one grows at a time, so that nobody waits for all of them.
const SHARDS: usize = 64;

/// See the module.
pub(crate) struct IdMap([HashMap<IdHash, Row, BuildIdentity>; SHARDS]);

/// A hash in halves: an entry takes 12 bytes instead of 16.
#[derive(PartialEq, Eq)]
struct IdHash([u32; 2]);

impl IdHash {
    fn new(hash: u64) -> Self {
        Self([hash as u32, (hash >> 32) as u32])
    }
}

impl Hash for IdHash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [low, high] = self.0;
        state.write_u64(u64::from(high) << 32 | u64::from(low));
    }
}

impl IdMap {
    pub(crate) fn new() -> Self {
        Self(array::from_fn(|_| HashMap::default()))
    }

    /// Adds the id of an event. Two ids of one hash share it by open addressing: the second is kept under the hash plus
    /// one, and so on. Nothing is ever removed.
    pub(crate) fn insert(&mut self, hash: u64, row: Row) {
        let mut key = hash;
        loop {
            match self.0[shard(key)].entry(IdHash::new(key)) {
                hash_map::Entry::Vacant(vacant) => {
                    vacant.insert(row);
                    return;
                }
                hash_map::Entry::Occupied(_) => key = key.wrapping_add(1),
            }
        }
    }

    /// The events whose id may have this hash; the caller confirms them.
    pub(crate) fn rows(&self, hash: u64) -> impl Iterator<Item = Row> {
        let mut key = hash;
        std::iter::from_fn(move || {
            let row = self.0[shard(key)].get(&IdHash::new(key)).copied();
            key = key.wrapping_add(1);
            row
        })
    }
}

/// By bits that the maps make little use of.
fn shard(key: u64) -> usize {
    (key >> 32) as usize % SHARDS
}
