//! Ids of the newest events and the positions they stand at: what repeats are found with. Only a hash of the id is kept;
//! a hit is confirmed by the event itself.
//!
//! Two generations: ids are entered into the younger one; once it is full it becomes the older one, and what that held
//! is forgotten. So at least the last `Limits::repeat_window_events` are known, and at most twice as many. Older ids stand in
//! index runs.

use std::{mem, sync::Arc};

use dashmap::DashMap;
use parking_lot::RwLock;

use super::names::{BuildIdentity, SHARDS};
use crate::types::id::Position;

/// See the module.
pub(crate) struct RecentIds {
    /// Events of a full generation.
    window: u64,
    generations: RwLock<Generations>,
}

/// Both generations, to look at or to enter into.
#[derive(Clone)]
pub(crate) struct Generations {
    young: Arc<IdMap>,
    old: Arc<IdMap>,
    /// Events entered into the younger one.
    entered: u64,
}

impl RecentIds {
    pub(crate) fn new(window: u64) -> Self {
        let (young, old) = (Arc::default(), Arc::default());
        Self {
            window,
            generations: RwLock::new(Generations {
                young,
                old,
                entered: 0,
            }),
        }
    }

    pub(crate) fn generations(&self) -> Generations {
        self.generations.read().clone()
    }

    /// The generations to enter so many events into; one caller at a time.
    pub(crate) fn for_events(&self, events: usize) -> Generations {
        let mut generations = self.generations.write();
        if generations.entered >= self.window {
            let full = mem::take(&mut generations.young);
            generations.old = full;
            generations.entered = 0;
        }
        generations.entered += events as u64;
        generations.clone()
    }
}

impl Generations {
    /// Adds the id of an event.
    pub(crate) fn insert(&self, hash: u64, position: Position) {
        self.young.insert(hash, position);
    }

    /// The position whose event `confirm` recognises, if one of the hash's is it.
    pub(crate) fn find<E>(
        &self,
        hash: u64,
        mut confirm: impl FnMut(Position) -> Result<bool, E>,
    ) -> Result<Option<Position>, E> {
        match self.young.find(hash, &mut confirm)? {
            Some(position) => Ok(Some(position)),
            None => self.old.find(hash, &mut confirm),
        }
    }
}

/// Two ids of one hash share it by open addressing: the second is kept under the hash plus one, and so on. Nothing is
/// ever removed.
struct IdMap(DashMap<u64, Position, BuildIdentity>);

impl Default for IdMap {
    fn default() -> Self {
        let hasher = BuildIdentity::default();
        Self(DashMap::with_hasher_and_shard_amount(hasher, SHARDS))
    }
}

impl IdMap {
    fn insert(&self, hash: u64, position: Position) {
        let mut key = hash;
        loop {
            match self.0.entry(key) {
                dashmap::Entry::Vacant(vacant) => {
                    vacant.insert(position);
                    return;
                }
                dashmap::Entry::Occupied(_) => key = key.wrapping_add(1),
            }
        }
    }

    fn find<E>(
        &self,
        hash: u64,
        confirm: &mut impl FnMut(Position) -> Result<bool, E>,
    ) -> Result<Option<Position>, E> {
        let mut key = hash;
        while let Some(position) = self.0.get(&key).map(|position| *position) {
            if confirm(position)? {
                return Ok(Some(position));
            }
            key = key.wrapping_add(1);
        }
        Ok(None)
    }
}
