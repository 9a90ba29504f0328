//! Sequential reads of segments: what decodes one goes on where the batch before ended, instead of starting anew.
//!
//! It holds a few MiB, so that only so many are kept between batches in the process; who finds no room starts anew.

use std::{collections::VecDeque, sync::Arc};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Log;
use crate::{
    engine::event::Event,
    storage::segment::{StoredRow, rows::Rows},
    types::{
        id::Position,
        limits::{READ_BATCH_BYTES, SCANS_MAX},
        read::ReadError,
    },
};

/// Fewer rows are read by themselves, unless the segment ends with them: a scan decodes whole batches.
const ROWS_MIN: usize = 1_024;

/// Room for the scans of all logs.
pub(crate) struct ScanRoom(Arc<Semaphore>);

impl Default for ScanRoom {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(SCANS_MAX)))
    }
}

impl ScanRoom {
    /// Room for one, while what is returned lives; `None` if there is none.
    pub(crate) fn take(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0).try_acquire_owned().ok()
    }
}

/// See the module. Copies start anew.
#[derive(Default)]
pub(crate) struct Scan {
    open: Option<Box<Open>>,
}

impl Clone for Scan {
    fn clone(&self) -> Self {
        Self::default()
    }
}

struct Open {
    rows: Rows,
    /// Rows that were decoded and come next.
    ahead: VecDeque<StoredRow>,
    /// The position that comes next.
    next: Position,
    _room: OwnedSemaphorePermit,
}

impl Scan {
    /// The first events of `wanted`, about 1 MiB of them, if they are many that follow each other upward in a segment.
    pub(super) fn next(
        &mut self,
        log: &Log,
        wanted: &[Position],
    ) -> Result<Option<Vec<Event>>, ReadError> {
        let first = wanted[0];
        let follow = wanted.windows(2).take_while(|pair| pair[0] + 1 == pair[1]);
        let count = follow.count() + 1;
        let open = match self.open.take().filter(|open| open.next == first) {
            Some(open) => open,
            None => match log.open_scan(first, count)? {
                Some(open) => Box::new(open),
                None => return Ok(None),
            },
        };
        let (events, open) = open.take(count)?;
        self.open = open;
        if events.is_empty() {
            // The segment ended before.
            return self.next(log, wanted);
        }
        Ok(Some(events))
    }
}

impl Open {
    /// At most so many events, at least one; and itself, if there are more.
    fn take(
        mut self: Box<Self>,
        count: usize,
    ) -> Result<(Vec<Event>, Option<Box<Self>>), ReadError> {
        let mut events = Vec::with_capacity(count);
        let mut bytes = 0;
        while events.len() < count && bytes < READ_BATCH_BYTES {
            let Some(stored) = self.ahead.pop_front() else {
                match self.rows.next() {
                    Some(rows) => self.ahead = rows?.into(),
                    None => return Ok((events, None)),
                }
                continue;
            };
            bytes += stored.row.as_bytes().len();
            self.next = stored.position + 1;
            events.push(Event {
                position: stored.position,
                recorded_at: stored.recorded_at,
                row: stored.row,
            });
        }
        Ok((events, Some(self)))
    }
}

impl Log {
    /// Begins to read a segment at a position up to the head, from where so many rows are wanted; `None` if they are too
    /// few, the log holds them, or there is no room.
    fn open_scan(&self, position: Position, count: usize) -> Result<Option<Open>, ReadError> {
        let pieces = self.pieces();
        if position > pieces.sealed_through() {
            return Ok(None);
        }
        let (run, summary) = pieces.sealed_at(position);
        if count < ROWS_MIN && position + (count as u64) <= summary.last {
            return Ok(None);
        }
        if self.file_at(run.place(position)?.log_offset).is_some() {
            return Ok(None);
        }
        let Some(room) = self.shared.scans.take() else {
            return Ok(None);
        };
        Ok(Some(Open {
            rows: self.segment(summary)?.scan(position),
            ahead: VecDeque::new(),
            next: position,
            _room: room,
        }))
    }
}
