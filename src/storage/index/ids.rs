//! Event ids: pairs of a hash and a row, sorted by hash, then by row.
//!
//! | offset in an entry | bytes | field |
//! |---|---|---|
//! | 0 | 8 | hash of the event id |
//! | 8 | 4 | row: the event's position less the first of the run |
//!
//! 341 entries a block, none across two. Hashes are spread evenly, so a guess by interpolation is at most a few blocks
//! off; what follows it halves, so that hashes of few bits, or worse ones, cost a few steps more and nothing else.

use std::{io, ops::RangeInclusive, sync::Arc};

use super::{
    block::{Block, BlockWriter, CONTENT_BYTES},
    filter::FilterKeys,
    reader::Run,
};
use crate::{
    storage::bytes::{get_u32, get_u64},
    types::{id::Position, read::ReadError},
};

const ENTRY_BYTES: usize = 12;
const ENTRIES_PER_BLOCK: u64 = (CONTENT_BYTES / ENTRY_BYTES) as u64;
/// Steps that guess before the others halve.
const GUESSES: usize = 4;

/// Where the entries stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ids {
    pub(super) first_block: u64,
    pub(super) entries: u64,
}

impl Ids {
    pub(super) fn blocks(self) -> u64 {
        self.entries.div_ceil(ENTRIES_PER_BLOCK)
    }
}

/// Writes the section.
pub(super) struct IdsWriter {
    section: Ids,
    /// First position of the run.
    first: Position,
    content: Vec<u8>,
    last: (u64, Position),
}

impl IdsWriter {
    pub(super) fn new(first: Position, blocks: &BlockWriter) -> Self {
        Self {
            section: Ids {
                first_block: blocks.next(),
                entries: 0,
            },
            first,
            content: Vec::with_capacity(CONTENT_BYTES),
            last: (0, 0),
        }
    }

    /// Adds a pair of hash and position; they ascend.
    pub(super) fn push(&mut self, id: (u64, Position), blocks: &mut BlockWriter) -> io::Result<()> {
        assert!(id > self.last, "ids ascend");
        self.last = id;
        let (hash, position) = id;
        self.content.extend(hash.to_le_bytes());
        self.content
            .extend(((position - self.first) as u32).to_le_bytes());
        self.section.entries += 1;
        if self.section.entries.is_multiple_of(ENTRIES_PER_BLOCK) {
            self.flush(blocks)?;
        }
        Ok(())
    }

    fn flush(&mut self, blocks: &mut BlockWriter) -> io::Result<()> {
        if !self.content.is_empty() {
            blocks.append(&self.content)?;
            self.content.clear();
        }
        Ok(())
    }

    pub(super) fn finish(mut self, blocks: &mut BlockWriter) -> io::Result<Ids> {
        self.flush(blocks)?;
        Ok(self.section)
    }
}

/// A block of entries.
struct Entries {
    number: u64,
    block: Arc<Block>,
    len: usize,
}

impl Entries {
    fn hash(&self, index: usize) -> u64 {
        get_u64(&*self.block, index * ENTRY_BYTES)
    }

    fn first_hash(&self) -> u64 {
        self.hash(0)
    }

    fn last_hash(&self) -> u64 {
        self.hash(self.len - 1)
    }

    /// The first entry whose hash is not smaller.
    fn lower_bound(&self, hash: u64) -> usize {
        let (mut low, mut high) = (0, self.len);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.hash(middle) < hash {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    fn position(&self, index: usize, run: &Run) -> Result<Position, ReadError> {
        let row = get_u32(&*self.block, index * ENTRY_BYTES + 8);
        let inside = u64::from(row) < run.rows();
        inside
            .then(|| run.first() + u64::from(row))
            .ok_or_else(|| run.damaged(self.number, "an event id leads out of the run"))
    }
}

impl Run {
    /// The block of entries with this index in the section.
    fn id_entries(&self, index: u64) -> Result<Entries, ReadError> {
        let ids = self.footer().ids;
        let number = ids.first_block + index;
        let before = index * ENTRIES_PER_BLOCK;
        Ok(Entries {
            number,
            block: self.block(number)?,
            len: (ids.entries - before).min(ENTRIES_PER_BLOCK) as usize,
        })
    }

    /// The indices of those hashes that an event's id may have, in no order: most of the others are left out.
    pub(crate) fn may_hold_ids(&self, hashes: &FilterKeys) -> Result<Vec<usize>, ReadError> {
        self.footer().id_filter.may_hold_some(self, hashes)
    }

    /// Positions of events whose id has this hash, ascending; the caller confirms them.
    pub(crate) fn ids(&self, hash: u64) -> Result<Vec<Position>, ReadError> {
        let mut found = Vec::new();
        if !self.footer().id_filter.may_hold(self, hash)? {
            return Ok(found);
        }
        let blocks = self.footer().ids.blocks();
        for index in self.first_id_block(hash)?..blocks {
            let entries = self.id_entries(index)?;
            for entry in entries.lower_bound(hash)..entries.len {
                if entries.hash(entry) != hash {
                    return Ok(found);
                }
                found.push(entries.position(entry, self)?);
            }
        }
        Ok(found)
    }

    /// The first block with an entry whose hash is not smaller; their number if there is none.
    fn first_id_block(&self, hash: u64) -> Result<u64, ReadError> {
        // It is one of `low..=high`; hashes between them are too.
        let (mut low, mut high) = (0, self.footer().ids.blocks());
        let (mut low_hash, mut high_hash) = (0, u64::MAX);
        let mut guesses = 0..GUESSES;
        while low < high {
            let middle = match guesses.next() {
                Some(_) => low + guess(hash, low_hash..=high_hash, high - low),
                None => low + (high - low) / 2,
            };
            let entries = self.id_entries(middle)?;
            if entries.last_hash() < hash {
                low = middle + 1;
                low_hash = entries.last_hash();
            } else if entries.first_hash() < hash {
                return Ok(middle);
            } else {
                high = middle;
                high_hash = entries.first_hash();
            }
        }
        Ok(low)
    }

    /// All pairs of hash and position, sorted. Ends after an error.
    pub(crate) fn all_ids(&self) -> AllIds<'_> {
        AllIds {
            run: self,
            next_block: 0,
            entries: None,
            next: 0,
        }
    }

    /// Number of ids.
    pub(super) fn id_count(&self) -> u64 {
        self.footer().ids.entries
    }
}

/// See [`Run::all_ids`].
pub(crate) struct AllIds<'a> {
    run: &'a Run,
    next_block: u64,
    entries: Option<Entries>,
    next: usize,
}

impl Iterator for AllIds<'_> {
    type Item = Result<(u64, Position), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entries) = &self.entries
                && self.next < entries.len
            {
                let hash = entries.hash(self.next);
                let position = entries.position(self.next, self.run);
                self.next += 1;
                return Some(position.map(|position| (hash, position)));
            }
            if self.next_block == self.run.footer().ids.blocks() {
                return None;
            }
            match self.run.id_entries(self.next_block) {
                Ok(entries) => {
                    self.entries = Some(entries);
                    self.next = 0;
                    self.next_block += 1;
                }
                Err(e) => {
                    self.entries = None;
                    self.next_block = self.run.footer().ids.blocks();
                    return Some(Err(e));
                }
            }
        }
    }
}

/// Which of so many blocks a hash is in, if hashes are spread evenly between the two.
fn guess(hash: u64, between: RangeInclusive<u64>, blocks: u64) -> u64 {
    let span = u128::from(between.end().saturating_sub(*between.start())) + 1;
    let ahead = u128::from(hash.saturating_sub(*between.start()));
    ((ahead * u128::from(blocks) / span) as u64).min(blocks - 1)
}
