//! What is not sealed yet as columns: rows are converted once, for all who scan them.
//!
//! The log is cut into chunks at fixed positions, and where a chunk becomes large; those that are complete are kept, up to
//! a number of bytes for all logs.

use arrow::array::RecordBatch;
use quick_cache::{Weighter, sync::Cache};

use super::Log;
use crate::{
    engine::event::Event,
    storage::segment::columns::RowColumns,
    types::{
        id::Position,
        limits::READ_BATCH_BYTES,
        read::{Damage, ReadError},
    },
};

/// Chunks begin at least at each so manieth position.
const CHUNK_ROWS: u64 = 4_096;

/// The chunks of all logs.
pub(crate) struct TailChunks {
    chunks: Cache<(u64, Position), TailChunk, ByBytes>,
}

/// The columns of consecutive events. Clones share them.
#[derive(Clone)]
pub(crate) struct TailChunk {
    pub(crate) first: Position,
    pub(crate) last: Position,
    /// All columns of a segment.
    pub(crate) columns: RecordBatch,
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<(u64, Position), TailChunk> for ByBytes {
    fn weight(&self, _: &(u64, Position), chunk: &TailChunk) -> u64 {
        chunk.columns.get_array_memory_size() as u64
    }
}

impl TailChunks {
    pub(crate) fn new(bytes_max: usize) -> Self {
        let expected = bytes_max / READ_BATCH_BYTES;
        Self {
            chunks: Cache::with_weighter(expected, bytes_max as u64, ByBytes),
        }
    }
}

/// Where the chunk that holds a position ends at the latest.
pub(crate) fn chunk_end(position: Position) -> Position {
    chunk_start(position) + CHUNK_ROWS
}

fn chunk_start(position: Position) -> Position {
    position - (position - 1) % CHUNK_ROWS
}

impl Log {
    /// The chunk that holds an event, if it is complete and kept.
    pub(crate) fn kept_chunk(&self, position: Position) -> Option<TailChunk> {
        let mut first = chunk_start(position);
        loop {
            let chunk = self.shared.tail.chunks.get(&(self.number, first))?;
            if position <= chunk.last {
                return Some(chunk);
            }
            first = chunk.last + 1;
        }
    }

    /// The chunk that holds an event, as far as it goes up to `head`, which is visible.
    pub(crate) fn tail_chunk(
        &self,
        position: Position,
        head: Position,
    ) -> Result<TailChunk, ReadError> {
        let mut first = chunk_start(position);
        loop {
            let chunk = self.chunk_from(first, head)?;
            if position <= chunk.last {
                return Ok(chunk);
            }
            first = chunk.last + 1;
        }
    }

    fn chunk_from(&self, first: Position, head: Position) -> Result<TailChunk, ReadError> {
        let chunks = &self.shared.tail.chunks;
        let key = (self.number, first);
        if let Some(chunk) = chunks.get(&key) {
            return Ok(chunk);
        }
        let chunk = self.convert(first, chunk_end(first).min(head + 1))?;
        // One that ends with the head grows.
        if chunk.last < head {
            chunks.insert(key, chunk.clone());
        }
        Ok(chunk)
    }

    /// The events from `first` to before `end` as columns, or as many of them as make up about 1 MiB.
    fn convert(&self, first: Position, end: Position) -> Result<TailChunk, ReadError> {
        let mut rows = RowColumns::default();
        let mut next = first;
        while next < end && rows.bytes() < READ_BATCH_BYTES {
            let bytes_left = (READ_BATCH_BYTES - rows.bytes()) as u64;
            let wanted: Vec<_> = (next..end).collect();
            let (events, count) = self.fetch(&wanted, bytes_left)?;
            self.push_rows(&events, &mut rows)?;
            next += count as u64;
        }
        Ok(TailChunk {
            first,
            last: next - 1,
            columns: self.take_columns(&mut rows)?,
        })
    }

    /// Some events as columns, which go up and not past the head: the first ones, about 1 MiB; how many they are.
    pub(crate) fn rows_as_columns(
        &self,
        positions: &[Position],
    ) -> Result<(RecordBatch, usize), ReadError> {
        let mut rows = RowColumns::default();
        let (events, count) = self.fetch(positions, READ_BATCH_BYTES as u64)?;
        self.push_rows(&events, &mut rows)?;
        Ok((self.take_columns(&mut rows)?, count))
    }

    fn push_rows(&self, events: &[Event], rows: &mut RowColumns) -> Result<(), ReadError> {
        for event in events {
            rows.push(event.position, event.recorded_at, &event.row)
                .map_err(|e| self.no_columns(event.position, &e))?;
        }
        Ok(())
    }

    fn take_columns(&self, rows: &mut RowColumns) -> Result<RecordBatch, ReadError> {
        rows.finish().map_err(|e| self.no_columns(0, &e))
    }

    /// What was checked when it was appended, and when it was read, is not what it was.
    fn no_columns(&self, position: Position, error: &std::io::Error) -> ReadError {
        ReadError::Damaged(Damage {
            path: self.place.dir.clone(),
            offset: 0,
            what: format!("event {position} has no columns: {error}"),
        })
    }
}
