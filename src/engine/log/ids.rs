//! Event ids and the positions they stand at. Only a hash of the id is kept; a hit is confirmed by the event itself.
//!
//! Two ids of one hash share it by open addressing: the second is kept under the hash plus one, and so on. Nothing is
//! ever removed.

use dashmap::DashMap;

use super::names::{BuildIdentity, Row, SHARDS, row_of};
use crate::types::id::Position;

/// See the module.
pub(crate) struct IdIndex {
    map: DashMap<u64, Row, BuildIdentity>,
}

impl IdIndex {
    pub(crate) fn new() -> Self {
        Self {
            map: DashMap::with_hasher_and_shard_amount(BuildIdentity::default(), SHARDS),
        }
    }

    /// Adds the id of an event.
    pub(crate) fn insert(&self, hash: u64, position: Position) {
        let mut key = hash;
        loop {
            match self.map.entry(key) {
                dashmap::Entry::Vacant(vacant) => {
                    vacant.insert(row_of(position));
                    return;
                }
                dashmap::Entry::Occupied(_) => key = key.wrapping_add(1),
            }
        }
    }

    /// The position whose event `confirm` recognises, if one of the hash's is it.
    pub(crate) fn find<E>(
        &self,
        hash: u64,
        mut confirm: impl FnMut(Position) -> Result<bool, E>,
    ) -> Result<Option<Position>, E> {
        let mut key = hash;
        while let Some(row) = self.map.get(&key).map(|row| *row) {
            let position = Position::from(row);
            if confirm(position)? {
                return Ok(Some(position));
            }
            key = key.wrapping_add(1);
        }
        Ok(None)
    }
}
