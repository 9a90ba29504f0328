//! Sequential reads of segments: what decodes one goes on where the batch before ended, instead of starting anew.
//!
//! It is left in the room for scans between batches (`room`); who finds no room starts anew.

use std::collections::VecDeque;

use super::{Log, room::Place};
use crate::{
    engine::event::Event,
    storage::segment::{StoredRow, rows::Rows},
    types::{id::Position, limits::READ_BATCH_BYTES, read::ReadError},
};

/// Fewer rows are read by themselves, unless the segment ends with them: a scan decodes whole batches.
const ROWS_MIN: usize = 1_024;

/// See the module. Copies start anew.
#[derive(Default)]
pub(crate) struct Scan {
    left: Option<Place<Open>>,
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
        let left = self.left.take().and_then(Place::take);
        let open = match left.filter(|open| open.next == first) {
            Some(open) => open,
            None => match log.open_scan(first, count)? {
                Some(open) => open,
                None => return Ok(None),
            },
        };
        let (events, open) = open.take(count)?;
        self.left = open.and_then(|open| log.shared.scans.leave(open).ok());
        if events.is_empty() {
            // The segment ended before.
            return self.next(log, wanted);
        }
        Ok(Some(events))
    }
}

impl Open {
    /// At most so many events, at least one; and itself, if there are more.
    fn take(mut self, count: usize) -> Result<(Vec<Event>, Option<Self>), ReadError> {
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
    /// few, or the log holds them.
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
        Ok(Some(Open {
            rows: self.segment(summary)?.scan(position),
            ahead: VecDeque::new(),
            next: position,
        }))
    }
}
