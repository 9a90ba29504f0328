//! The memory that all index runs of the process share: checked blocks, the most wanted ones, bounded in bytes.
//!
//! Sharded by `quick_cache`, whose policy keeps a scan of many blocks from driving out those that are asked for again.
//! A block is read once however many ask for it at the same time; no lock is held while it is. Runs never change, so
//! nothing is ever invalidated: blocks of a run that is gone are no longer asked for and make room.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use quick_cache::sync::Cache;

use super::block::{BLOCK_BYTES, Block};

/// Bytes that a cached block costs: itself, its counters, key and slot, and keys that are remembered without a block.
const ENTRY_BYTES: usize = BLOCK_BYTES + 128;

/// See the module.
pub(crate) struct BlockCache {
    /// By the number of the run and that of the block.
    blocks: Cache<(u64, u64), Arc<Block>>,
    runs: Counter,
    hits: Counter,
    misses: Counter,
}

/// Counts; orders nothing.
#[derive(Default)]
struct Counter(AtomicU64);

impl Counter {
    fn increment(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl BlockCache {
    /// Of at most so many bytes, about.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            blocks: Cache::new(bytes_max / ENTRY_BYTES),
            runs: Counter::default(),
            hits: Counter::default(),
            misses: Counter::default(),
        }
    }

    /// Blocks that were asked for and were there.
    pub(crate) fn hits(&self) -> u64 {
        self.hits.get()
    }

    /// Blocks that had to be read.
    pub(crate) fn misses(&self) -> u64 {
        self.misses.get()
    }

    /// A number for a run that is opened, given to no other.
    pub(super) fn next_run(&self) -> u64 {
        self.runs.increment()
    }

    /// A block; `read` reads and checks it if it is not there.
    pub(super) fn get<E>(
        &self,
        run: u64,
        number: u64,
        read: impl FnOnce() -> Result<Block, E>,
    ) -> Result<Arc<Block>, E> {
        let mut was_there = true;
        let block = self.blocks.get_or_insert_with(&(run, number), || {
            was_there = false;
            read().map(Arc::new)
        })?;
        let counter = if was_there { &self.hits } else { &self.misses };
        counter.increment();
        Ok(block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(cache: &BlockCache, number: u64) -> u8 {
        let read = || Ok::<_, ()>([number as u8; BLOCK_BYTES]);
        cache.get(0, number, read).unwrap()[0]
    }

    #[test]
    fn a_full_cache_stays_within_its_bytes_and_answers() {
        for blocks in [0, 1, 10, 100] {
            let cache = BlockCache::new(blocks * ENTRY_BYTES);
            for number in (0..200).chain(0..200) {
                assert_eq!(get(&cache, number), number as u8);
            }
            assert!(cache.blocks.len() <= blocks, "{}", cache.blocks.len());
            assert_eq!(cache.hits() + cache.misses(), 400);
        }
    }

    #[test]
    fn a_block_is_read_once_and_an_error_is_not_kept() {
        let cache = BlockCache::new(100 * ENTRY_BYTES);
        assert_eq!(cache.get(0, 7, || Err("broken")), Err("broken"));
        assert_eq!(get(&cache, 7), 7);
        assert_eq!(get(&cache, 7), 7);
        assert_eq!((cache.hits(), cache.misses()), (1, 1));
    }
}
