//! What is not sealed yet as columns: rows are converted once, for all who scan them.
//!
//! The log is cut into chunks at fixed positions, and where a chunk becomes large. Those that are complete are kept, up to
//! a number of bytes for all logs; the one at the head grows by what was appended, so that those who follow the log share
//! what the first of them converted.

use std::{convert::Infallible, sync::Arc};

use arrow::{array::RecordBatch, compute::concat_batches, error::ArrowError};
use parking_lot::Mutex;
use quick_cache::{Weighter, sync::Cache};

use super::Log;
use crate::{
    engine::event::Event,
    storage::segment::columns::RowColumns,
    telemetry,
    types::{
        id::Position,
        limits::READ_BATCH_BYTES,
        read::{Damage, ReadError},
    },
};

/// Chunks begin at least at each so manieth position.
const CHUNK_ROWS: u64 = 4_096;
/// So many pieces of a growing chunk are joined into one.
const PIECES_MAX: usize = 64;

/// The chunks of all logs.
pub(crate) struct TailChunks {
    complete: Cache<(u64, Position), TailChunk, ByBytes>,
    /// By the number of the log.
    growing: Cache<u64, Arc<Mutex<Growing>>>,
}

/// The columns of consecutive events. Clones share them.
#[derive(Clone)]
pub(crate) struct TailChunk {
    pub(crate) first: Position,
    pub(crate) last: Position,
    /// All columns of a segment.
    pub(crate) columns: RecordBatch,
}

/// What is converted of the chunk at a log's head.
#[derive(Default)]
struct Growing {
    /// Where the chunk begins.
    chunk: Position,
    /// Consecutive, as far as somebody asked.
    pieces: Vec<TailChunk>,
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<(u64, Position), TailChunk> for ByBytes {
    fn weight(&self, _: &(u64, Position), chunk: &TailChunk) -> u64 {
        chunk.bytes() as u64
    }
}

impl TailChunk {
    fn bytes(&self) -> usize {
        self.columns.get_array_memory_size()
    }

    /// Consecutive ones, at least one, as one.
    fn joined(pieces: &[Self]) -> Result<Self, ArrowError> {
        let (first, last) = (&pieces[0], &pieces[pieces.len() - 1]);
        let columns = pieces.iter().map(|piece| &piece.columns);
        Ok(Self {
            first: first.first,
            last: last.last,
            columns: concat_batches(first.columns.schema_ref(), columns)?,
        })
    }
}

impl Growing {
    /// The piece that holds an event, if it is there.
    fn piece(&self, position: Position) -> Option<&TailChunk> {
        let behind = self.pieces.partition_point(|piece| piece.last < position);
        let piece = self.pieces.get(behind)?;
        (piece.first <= position).then_some(piece)
    }

    fn bytes(&self) -> usize {
        self.pieces.iter().map(TailChunk::bytes).sum()
    }
}

impl TailChunks {
    /// A quarter of the bytes is for chunks that grow, which are about as large as a batch when they are complete.
    pub(crate) fn new(bytes_max: usize) -> Self {
        let growing = (bytes_max / 4 / READ_BATCH_BYTES).max(1);
        let complete = bytes_max - bytes_max / 4;
        Self {
            complete: Cache::with_weighter(complete / READ_BATCH_BYTES, complete as u64, ByBytes),
            growing: Cache::new(growing),
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
    /// Converted events with this one among them, if they are kept.
    pub(crate) fn kept_chunk(&self, position: Position) -> Option<TailChunk> {
        let tail = &self.shared.tail;
        let mut first = chunk_start(position);
        while let Some(chunk) = tail.complete.get(&(self.number, first)) {
            if position <= chunk.last {
                return Some(chunk);
            }
            first = chunk.last + 1;
        }
        let growing = tail.growing.get(&self.number)?;
        let growing = growing.lock();
        growing.piece(position).cloned()
    }

    /// Converted events with this one among them, which is visible: its chunk, or a piece of it if it still grows. May go
    /// past the head that the caller reads at.
    pub(crate) fn tail_chunk(&self, position: Position) -> Result<TailChunk, ReadError> {
        let mut first = chunk_start(position);
        loop {
            let chunk = self.chunk_from(first, position)?;
            if position <= chunk.last {
                return Ok(chunk);
            }
            first = chunk.last + 1;
        }
    }

    /// The chunk that begins with `first`, or if it grows the piece of it that holds the position.
    fn chunk_from(&self, first: Position, position: Position) -> Result<TailChunk, ReadError> {
        let tail = &self.shared.tail;
        let key = (self.number, first);
        if let Some(chunk) = tail.complete.get(&key) {
            return Ok(chunk);
        }
        let end = chunk_end(first);
        let grows = self.head() + 1 < end;
        let growing = tail
            .growing
            .get_or_insert_with(&self.number, || Ok::<_, Infallible>(Arc::default()));
        let Ok(growing) = growing;
        let mut growing = growing.lock();
        // Who is behind does not take its place.
        if growing.chunk == first || grows && growing.chunk < first {
            return self.grow(&mut growing, first, position);
        }
        drop(growing);
        // One that asks converts, while the others wait for it.
        tail.complete
            .get_or_insert_with(&key, || self.convert(first, end, READ_BATCH_BYTES))
    }

    /// The piece of a growing chunk that holds a position; converts up to the head what is not there. The whole chunk, if
    /// that made it complete.
    fn grow(
        &self,
        growing: &mut Growing,
        chunk: Position,
        position: Position,
    ) -> Result<TailChunk, ReadError> {
        if growing.chunk != chunk {
            *growing = Growing {
                chunk,
                pieces: Vec::new(),
            };
        }
        if let Some(first) = growing.pieces.first().map(|piece| piece.first)
            && position < first
        {
            // Before what was asked for until now.
            let piece = self.convert(position, first, READ_BATCH_BYTES)?;
            if piece.last + 1 == first {
                growing.pieces.insert(0, piece.clone());
            }
            return Ok(piece);
        }
        loop {
            if let Some(piece) = growing.piece(position) {
                return Ok(piece.clone());
            }
            let next = growing.pieces.last().map_or(position, |last| last.last + 1);
            let end = chunk_end(chunk).min(self.head() + 1);
            let room = READ_BATCH_BYTES.saturating_sub(growing.bytes()).max(1);
            let piece = self.convert(next, end, room)?;
            growing.pieces.push(piece.clone());
            let complete =
                piece.last + 1 == chunk_end(chunk) || growing.bytes() >= READ_BATCH_BYTES;
            if !complete && growing.pieces.len() < PIECES_MAX {
                continue;
            }
            let joined = TailChunk::joined(&growing.pieces).map_err(|e| self.unjoined(&e))?;
            if !complete {
                growing.pieces = vec![joined];
                continue;
            }
            *growing = Growing::default();
            // If its begin is missing, those who want it convert it anew.
            if joined.first == chunk {
                let key = (self.number, chunk);
                self.shared.tail.complete.insert(key, joined.clone());
            }
            if position <= joined.last {
                return Ok(joined);
            }
            return Ok(piece);
        }
    }

    /// The events from `first` to before `end` as columns, or as many of them as make up so many bytes.
    fn convert(
        &self,
        first: Position,
        end: Position,
        bytes_max: usize,
    ) -> Result<TailChunk, ReadError> {
        let mut rows = RowColumns::default();
        let mut next = first;
        while next < end && rows.bytes() < bytes_max {
            let bytes_left = (bytes_max - rows.bytes()) as u64;
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
        telemetry::tail_rows_converted(events.len());
        for event in events {
            rows.push(event.position, event.recorded_at, &event.row)
                .map_err(|e| self.no_columns(event.position, &e))?;
        }
        Ok(())
    }

    fn take_columns(&self, rows: &mut RowColumns) -> Result<RecordBatch, ReadError> {
        rows.finish().map_err(|e| self.no_columns(0, &e))
    }

    fn unjoined(&self, error: &ArrowError) -> ReadError {
        self.no_columns(0, &std::io::Error::other(error.to_string()))
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
