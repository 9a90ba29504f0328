//! Where every event stands in the log, and when it was recorded: entries of fixed size, found by computing.
//!
//! | offset in an entry | bytes | field |
//! |---|---|---|
//! | 0 | 8 | log offset of the event's row |
//! | 8 | 4 | bytes of the row |
//! | 12 | 8 | time that it was recorded at, µs; never before that of the entry before |
//!
//! 204 entries a block, none across two.

use std::{io, sync::Arc};

use super::{
    RowPlace,
    block::{Block, BlockWriter, CONTENT_BYTES},
    reader::Run,
};
use crate::{
    storage::bytes::{get_u32, get_u64},
    types::{id::Position, read::ReadError},
};

/// The block that the section begins with.
pub(super) const FIRST_BLOCK: u64 = 1;
const ENTRY_BYTES: usize = 20;
const ROWS_PER_BLOCK: u64 = (CONTENT_BYTES / ENTRY_BYTES) as u64;

/// Blocks that so many rows take.
pub(super) fn blocks(rows: u64) -> u64 {
    rows.div_ceil(ROWS_PER_BLOCK)
}

/// Writes the section.
#[derive(Default)]
pub(super) struct RowsWriter {
    content: Vec<u8>,
    pub(super) rows: u64,
    pub(super) first_recorded_at: i64,
    pub(super) last_recorded_at: i64,
}

impl RowsWriter {
    pub(super) fn push(&mut self, blocks: &mut BlockWriter, place: RowPlace) -> io::Result<()> {
        if self.rows == 0 {
            self.first_recorded_at = place.recorded_at;
        } else {
            assert!(place.recorded_at >= self.last_recorded_at, "time goes on");
        }
        self.last_recorded_at = place.recorded_at;
        self.rows += 1;
        self.content.extend(place.log_offset.to_le_bytes());
        self.content.extend(place.bytes.to_le_bytes());
        self.content.extend(place.recorded_at.to_le_bytes());
        if self.content.len() + ENTRY_BYTES > CONTENT_BYTES {
            self.finish(blocks)?;
        }
        Ok(())
    }

    /// Writes what does not fill a block.
    pub(super) fn finish(&mut self, blocks: &mut BlockWriter) -> io::Result<()> {
        if !self.content.is_empty() {
            blocks.append(&self.content)?;
            self.content.clear();
        }
        Ok(())
    }
}

fn entry(block: &Block, row: u64) -> RowPlace {
    let at = (row % ROWS_PER_BLOCK) as usize * ENTRY_BYTES;
    RowPlace {
        log_offset: get_u64(block, at),
        bytes: get_u32(block, at + 8),
        recorded_at: get_u64(block, at + 12).cast_signed(),
    }
}

impl Run {
    fn rows_block(&self, row: u64) -> Result<Arc<Block>, ReadError> {
        self.block(FIRST_BLOCK + row / ROWS_PER_BLOCK)
    }

    /// Where the event at a position of the run stands.
    pub(crate) fn place(&self, position: Position) -> Result<RowPlace, ReadError> {
        let row = self.row(position).expect("the caller knows the range");
        Ok(entry(&*self.rows_block(row.into())?, row.into()))
    }

    /// Where several stand, ascending or descending.
    pub(crate) fn places(&self, positions: &[Position]) -> Result<Vec<RowPlace>, ReadError> {
        let mut places = Vec::with_capacity(positions.len());
        let mut current: Option<(u64, Arc<Block>)> = None;
        for &position in positions {
            let row = u64::from(self.row(position).expect("the caller knows the range"));
            let wanted = row / ROWS_PER_BLOCK;
            let block = match current.take() {
                Some((number, block)) if number == wanted => block,
                _ => self.rows_block(row)?,
            };
            places.push(entry(&block, row));
            current = Some((wanted, block));
        }
        Ok(places)
    }

    /// The last position recorded at or before a time, in µs; `None` if the first one was recorded after it.
    pub(crate) fn position_at(&self, recorded_at: i64) -> Result<Option<Position>, ReadError> {
        if recorded_at < self.footer().first_recorded_at {
            return Ok(None);
        }
        if recorded_at >= self.footer().last_recorded_at {
            return Ok(Some(self.last()));
        }
        // The row at `low` was recorded in time, the one at `high` was not.
        let (mut low, mut high) = (0, self.rows() - 1);
        while low + 1 < high {
            let row = low + (high - low) / 2;
            if entry(&*self.rows_block(row)?, row).recorded_at <= recorded_at {
                low = row;
            } else {
                high = row;
            }
        }
        Ok(Some(self.first() + low))
    }
}
