//! Blocked Bloom filters: a run that does not hold a key says so after one block.
//!
//! About 10 bits a key. A block holds 63 lines of 64 bytes; a key sets 7 bits, all in one line. One key in a hundred that is
//! not there seems to be. Keys are hashes: the fewer bits they have, the more often they collide, and a collision only
//! makes the filter useless, never wrong. The scheme is that of Putze, Sanders and Singler, "Cache-, Hash- and
//! Space-Efficient Bloom Filters" (2007).

use std::{io, sync::Arc};

use super::{
    block::{Block, BlockWriter},
    reader::Run,
};
use crate::types::read::ReadError;

const BITS_PER_KEY: u64 = 10;
const PROBES: u32 = 7;
const LINE_BYTES: usize = 64;
/// Bits that choose one of a line.
const LINE_BITS: u32 = 9;
const LINES_PER_BLOCK: u64 = 63;
const BLOCK_FILTER_BYTES: usize = LINES_PER_BLOCK as usize * LINE_BYTES;

/// Where a filter stands; without blocks it holds nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Filter {
    pub(super) first_block: u64,
    pub(super) blocks: u64,
}

/// Where the bits of a key are.
struct Place {
    block: u64,
    /// Of the line, in the block.
    byte: usize,
    /// Nine bits for each probe.
    bits: u64,
}

impl Filter {
    fn place(self, key: u64) -> Place {
        self.place_mixed(mix(key))
    }

    fn place_mixed(self, key: u64) -> Place {
        let lines = self.blocks * LINES_PER_BLOCK;
        let line = ((u128::from(key) * u128::from(lines)) >> 64) as u64;
        Place {
            block: line / LINES_PER_BLOCK,
            byte: (line % LINES_PER_BLOCK) as usize * LINE_BYTES,
            bits: mix(key),
        }
    }

    /// False: no such key was written.
    pub(super) fn may_hold(self, run: &Run, key: u64) -> Result<bool, ReadError> {
        if self.blocks == 0 {
            return Ok(false);
        }
        let place = self.place(key);
        let block = run.block(self.first_block + place.block)?;
        Ok(place.is_in(&block))
    }

    /// The indices of those keys that may have been written, in no order. Reads each block once.
    pub(super) fn may_hold_some(
        self,
        run: &Run,
        keys: &FilterKeys,
    ) -> Result<Vec<usize>, ReadError> {
        let mut found = Vec::new();
        if self.blocks == 0 {
            return Ok(found);
        }
        let mut read: Option<(u64, Arc<Block>)> = None;
        for (key, index) in &keys.0 {
            let place = self.place_mixed(*key);
            let block = match read.take() {
                Some((number, block)) if number == place.block => block,
                _ => run.block(self.first_block + place.block)?,
            };
            if place.is_in(&block) {
                found.push(*index);
            }
            read = Some((place.block, block));
        }
        Ok(found)
    }
}

/// Keys, each with an index, in the order of their places in a filter, whatever its size.
pub(crate) struct FilterKeys(Vec<(u64, usize)>);

impl FilterKeys {
    pub(crate) fn new(keys: impl Iterator<Item = (usize, u64)>) -> Self {
        let mut mixed: Vec<_> = keys.map(|(index, key)| (mix(key), index)).collect();
        mixed.sort_unstable();
        Self(mixed)
    }
}

/// Collects the keys of a filter, all of whose bits are held in memory until it is written.
pub(super) struct FilterWriter {
    filter: Filter,
    bytes: Vec<u8>,
}

impl FilterWriter {
    /// For so many keys.
    pub(super) fn new(keys: u64) -> Self {
        let bits_per_block = BLOCK_FILTER_BYTES as u64 * 8;
        let filter = Filter {
            first_block: 0,
            blocks: (keys * BITS_PER_KEY).div_ceil(bits_per_block),
        };
        Self {
            filter,
            bytes: vec![0; filter.blocks as usize * BLOCK_FILTER_BYTES],
        }
    }

    pub(super) fn add(&mut self, key: u64) {
        let place = self.filter.place(key);
        let at = place.block as usize * BLOCK_FILTER_BYTES;
        for (byte, mask) in place.bytes() {
            self.bytes[at + byte] |= mask;
        }
    }

    pub(super) fn finish(mut self, blocks: &mut BlockWriter) -> io::Result<Filter> {
        self.filter.first_block = blocks.next();
        for block in self.bytes.chunks(BLOCK_FILTER_BYTES) {
            blocks.append(block)?;
        }
        Ok(self.filter)
    }
}

impl Place {
    fn is_in(&self, block: &Block) -> bool {
        self.bytes().all(|(byte, mask)| block[byte] & mask != 0)
    }

    /// Each byte, in the block, with the bit that is the key's.
    fn bytes(&self) -> impl Iterator<Item = (usize, u8)> {
        (0..PROBES).map(|probe| {
            let bit = (self.bits >> (probe * LINE_BITS)) as usize % (LINE_BYTES * 8);
            (self.byte + bit / 8, 1 << (bit % 8))
        })
    }
}

/// Spreads a number over all bits: the finalizer of SplitMix64 (Steele, Lea and Flood, 2014).
fn mix(key: u64) -> u64 {
    let key = key.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let key = (key ^ (key >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let key = (key ^ (key >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    key ^ (key >> 31)
}

const _: () = assert!(PROBES * LINE_BITS <= 64 && 1 << LINE_BITS == LINE_BYTES * 8);
const _: () = assert!(BLOCK_FILTER_BYTES <= super::block::CONTENT_BYTES);
