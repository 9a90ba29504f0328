//! Events by position, filter and direction, a bounded batch at a time.
//!
//! Which events is settled by the index alone; then their rows are read, those close together in one read, from memory
//! where they are recent. Invariant: nothing past the head that the reader was made with is returned.

use std::{mem, ops::RangeInclusive, sync::Arc};

use bytes::Bytes;
use tokio::task::spawn_blocking;
use uuid::Uuid;

use super::{
    Log,
    kept::EndedFile,
    rows::{FileRows, Located},
    scan::Scan,
    set::Set,
};
use crate::{
    engine::event::Event,
    storage::log::{
        row::{Row, row_bytes},
        writer::LogFile,
    },
    types::{
        id::Position,
        limits::{READ_BATCH_BYTES, READ_BATCH_EVENTS, READ_GAP_BYTES},
        read::{Damage, Direction, ReadError, TimeRange},
        slot::{Partitions, slot},
        time::Timestamp,
    },
};

/// Rows that the index is asked for at once.
const PAGE_ROWS: usize = READ_BATCH_EVENTS;

/// A read on its way: events of one snapshot, batch by batch.
#[derive(Clone)]
pub struct Reader {
    pub(crate) log: Arc<Log>,
    pub(crate) set: Arc<Set>,
    pub(crate) residue: Arc<Residue>,
    /// Positions still to be looked at.
    pub(crate) range: RangeInclusive<Position>,
    pub(crate) direction: Direction,
    /// Events still wanted.
    pub(crate) limit: u64,
    pub(crate) head: Position,
    /// Rows that the index gave and that are still to be read, the next one last.
    pub(crate) pending: Vec<Position>,
    /// What reads segments from end to end.
    pub(crate) scan: Scan,
}

/// Events, and where they stand.
pub(super) struct Fetched {
    pub(super) file: Arc<LogFile>,
    pub(super) located: Vec<Located>,
    pub(super) events: Vec<Event>,
}

/// What a filter asks that the index does not tell.
pub(crate) struct Residue {
    /// Empty: all.
    pub(crate) partitions: Vec<u32>,
    pub(crate) division: Partitions,
    pub(crate) occurred: TimeRange,
}

impl Residue {
    fn lets_through(&self, event: &Event) -> bool {
        let partition = || self.division.of_slot(slot(event.entity_id_bytes()));
        (self.partitions.is_empty() || self.partitions.contains(&partition()))
            && (self.occurred.is_all()
                || event
                    .occurred_at()
                    .is_some_and(|time| self.occurred.contains(time)))
    }
}

impl Reader {
    /// The position that the read sees the log at.
    pub fn head(&self) -> Position {
        self.head
    }

    /// The next events, about 1 MiB of them; `None` after the last. May be empty: nothing matched so far, call again.
    pub async fn next(&mut self) -> Result<Option<Vec<Event>>, ReadError> {
        if self.is_recent() {
            return self.next_blocking();
        }
        // A copy works, so that nothing is lost if the caller goes away.
        let scan = mem::take(&mut self.scan);
        let mut copy = Self {
            scan,
            ..self.clone()
        };
        let (copy, read) = spawn_blocking(move || {
            let read = copy.next_blocking();
            (copy, read)
        })
        .await
        .expect("reading does not panic");
        *self = copy;
        read
    }

    /// How far a forward read has looked: what is wanted up to here was returned.
    pub(crate) fn scanned(&self) -> Position {
        match self.pending.last() {
            Some(&next) => next - 1,
            None => *self.range.start() - 1,
        }
    }

    /// [`Reader::next`] on a thread that may wait for the disk.
    pub fn next_blocking(&mut self) -> Result<Option<Vec<Event>>, ReadError> {
        if self.limit == 0 {
            return Ok(None);
        }
        if self.pending.is_empty() && !self.fill()? {
            return Ok(None);
        }
        let wanted = usize::try_from(self.limit)
            .unwrap_or(usize::MAX)
            .min(self.pending.len());
        let next: Vec<_> = self.pending.iter().rev().take(wanted).copied().collect();
        let (mut events, mut bytes, mut rest) = (Vec::new(), 0, next.as_slice());
        // Rows that stand in many files are one batch all the same.
        while bytes < READ_BATCH_BYTES && !rest.is_empty() {
            let (more, read) = match self.read_first(rest, READ_BATCH_BYTES - bytes) {
                Ok(read) => read,
                Err(error) if events.is_empty() => return Err(error),
                // It comes again, behind what was read before it.
                Err(_) => break,
            };
            rest = &rest[read..];
            self.pending.truncate(self.pending.len() - read);
            bytes += more.iter().map(Event::encoded_bytes).sum::<usize>();
            events.extend(
                more.into_iter()
                    .filter(|event| self.residue.lets_through(event)),
            );
        }
        self.limit -= events.len() as u64;
        Ok(Some(events))
    }

    /// Reads the first of some rows; how many were read.
    fn read_first(
        &mut self,
        rows: &[Position],
        bytes_max: usize,
    ) -> Result<(Vec<Event>, usize), ReadError> {
        match self.scan.next(&self.log, rows)? {
            Some(events) => {
                let read = events.len();
                Ok((events, read))
            }
            None => self.log.fetch(rows, bytes_max as u64),
        }
    }

    /// Gets the next rows from the index; false if there are none.
    fn fill(&mut self) -> Result<bool, ReadError> {
        let max = usize::try_from(self.limit)
            .unwrap_or(usize::MAX)
            .min(PAGE_ROWS);
        let pieces = self.log.pieces();
        let mut rows = pieces.page(&self.set, self.range.clone(), self.direction, max)?;
        let Some(&last) = rows.last() else {
            return Ok(false);
        };
        let (from, to) = (*self.range.start(), *self.range.end());
        self.range = match self.direction {
            Direction::Forward => last + 1..=to,
            Direction::Backward => from..=last - 1,
        };
        rows.reverse();
        self.pending = rows;
        Ok(true)
    }

    /// Whether what comes next is in memory, so that reading it does not wait.
    fn is_recent(&self) -> bool {
        let lowest = match (self.direction, self.pending.last()) {
            (Direction::Forward, Some(&next)) => next,
            (Direction::Forward, None) => *self.range.start(),
            // The others are below.
            (Direction::Backward, _) => {
                self.pending.first().copied().unwrap_or(*self.range.start())
            }
        };
        self.log.is_recent(lowest)
    }
}

impl Log {
    /// Whether an event, and all after it, are probably in memory.
    pub(crate) fn is_recent(&self, position: Position) -> bool {
        if position > self.head.get() {
            return true;
        }
        if position <= self.pieces().sealed_through() {
            return false;
        }
        self.locate(&[position], u64::MAX)
            .is_some_and(|(file, located, _)| {
                self.recent
                    .likely_has(file.file.log_offset(located[0].bytes.start))
            })
    }

    /// The event at a position up to the head.
    pub(crate) fn event(&self, position: Position) -> Result<Event, ReadError> {
        let missing = || ReadError::NoSuchEvent(format!("at position {position}"));
        if position == 0 || position > self.head.get() {
            return Err(missing());
        }
        let (events, _) = self.fetch(&[position], u64::MAX)?;
        events.into_iter().next().ok_or_else(missing)
    }

    /// Some of the events from a position on, at least the first and at most `count`.
    pub(crate) fn events_from(
        &self,
        position: Position,
        count: u64,
    ) -> Result<Vec<Event>, ReadError> {
        let through = self
            .head
            .get()
            .min(position + count.clamp(1, PAGE_ROWS as u64) - 1);
        let rows: Vec<_> = (position..=through).collect();
        Ok(self.fetch(&rows, READ_BATCH_BYTES as u64)?.0)
    }

    /// The newest event with an id.
    pub(crate) fn event_by_id(&self, id: Uuid) -> Result<Event, ReadError> {
        let head = self.head.get();
        let hash = self.index.hasher.hash(id.as_bytes());
        for piece in self.pieces().newest_first() {
            let positions = piece.ids(hash)?.into_iter().rev();
            for position in positions.filter(|position| *position <= head) {
                let event = self.event(position)?;
                if event.event_id() == id {
                    return Ok(event);
                }
            }
        }
        Err(ReadError::NoSuchEvent(format!("with id {id}")))
    }

    /// When an event was recorded; `None` if there is no such event.
    pub(crate) fn recorded_at(&self, position: Position) -> Result<Option<Timestamp>, ReadError> {
        if position == 0 || position > self.head.get() {
            return Ok(None);
        }
        let micros = loop {
            let pieces = self.pieces();
            if position <= pieces.sealed_through() {
                break pieces.sealed_at(position).0.place(position)?.recorded_at;
            }
            if let Some((_, located, _)) = self.locate(&[position], u64::MAX) {
                break located[0].recorded_at;
            }
        };
        Ok(Timestamp::from_micros(micros))
    }

    fn locate(
        &self,
        rows: &[Position],
        bytes_max: u64,
    ) -> Option<(Arc<FileRows>, Vec<Located>, usize)> {
        let file = self.table.file_of(*rows.first()?)?;
        let mut located = Vec::with_capacity(rows.len());
        let count = file.locate(rows, &mut 0, bytes_max, &mut located);
        (count > 0).then_some((file, located, count))
    }

    /// Reads the first of `rows`, which go up or down and not past the head, until they make up `bytes_max` bytes or
    /// their file ends; returns how many were read.
    pub(crate) fn fetch(
        &self,
        rows: &[Position],
        bytes_max: u64,
    ) -> Result<(Vec<Event>, usize), ReadError> {
        let Some(&first) = rows.first() else {
            return Ok((Vec::new(), 0));
        };
        loop {
            let pieces = self.pieces();
            if first <= pieces.sealed_through() {
                let events = self.fetch_sealed(&pieces, rows, bytes_max)?;
                let count = events.len();
                return Ok((events, count));
            }
            // If there is no such place it was sealed just now.
            if let Some((file, located, count)) = self.locate(rows, bytes_max) {
                return Ok((self.fetch_located(&file.file, &located)?, count));
            }
        }
    }

    /// As [`Log::fetch`], of events that are not sealed while this is called, and where they stand.
    pub(super) fn fetch_unsealed(
        &self,
        rows: &[Position],
        bytes_max: u64,
    ) -> Result<Fetched, ReadError> {
        let (file, located, _) = self
            .locate(rows, bytes_max)
            .expect("what is not sealed has its place in the table");
        let events = self.fetch_located(&file.file, &located)?;
        let file = Arc::clone(&file.file);
        Ok(Fetched {
            file,
            located,
            events,
        })
    }

    /// Reads rows of one file, which go up or down: from memory if they are there, else from disk.
    pub(super) fn fetch_located(
        &self,
        file: &LogFile,
        located: &[Located],
    ) -> Result<Vec<Event>, ReadError> {
        let descending = located.len() > 1 && located[0].position > located[1].position;
        let reversed: Vec<_>;
        let ascending = if descending {
            reversed = located.iter().rev().cloned().collect();
            &reversed[..]
        } else {
            located
        };
        let mut events = Vec::with_capacity(located.len());
        let first_offset = file.log_offset(ascending[0].bytes.start);
        if !self.recent.likely_has(first_offset)
            || !self.fetch_recent(file, ascending, &mut events)?
        {
            events.clear();
            fetch_from_disk(file, ascending, &mut events)?;
        }
        if descending {
            events.reverse();
        }
        Ok(events)
    }

    /// From memory; false if not all of them are there any more.
    fn fetch_recent(
        &self,
        file: &LogFile,
        located: &[Located],
        events: &mut Vec<Event>,
    ) -> Result<bool, ReadError> {
        let mut view = self.recent.view();
        for at in located {
            let len = (at.bytes.end - at.bytes.start) as usize;
            let offset = file.log_offset(at.bytes.start);
            let Some(bytes) = view.get(offset, len) else {
                return Ok(false);
            };
            events.push(event(file, at, bytes)?);
        }
        Ok(true)
    }

    /// The log file that a log offset is in, if it is there.
    pub(super) fn file_at(&self, log_offset: u64) -> Option<EndedFile> {
        self.kept
            .at(log_offset)
            .or_else(|| self.table.at(log_offset))
    }
}

/// Ascending rows of one file, those close together in one read.
fn fetch_from_disk(
    file: &LogFile,
    located: &[Located],
    events: &mut Vec<Event>,
) -> Result<(), ReadError> {
    let mut rest = located;
    while let Some(first) = rest.first() {
        let start = first.bytes.start;
        let mut end = first.bytes.end;
        let mut run = 1;
        for at in &rest[1..] {
            let far = at.bytes.start > end + READ_GAP_BYTES;
            if far || at.bytes.end - start > 2 * READ_BATCH_BYTES as u64 {
                break;
            }
            end = at.bytes.end;
            run += 1;
        }
        let mut buffer = vec![0; (end - start) as usize];
        file.file
            .read_exact_at(&mut buffer, start)
            .map_err(|e| ReadError::Io {
                path: file.path.clone(),
                range: start..end,
                reason: e.to_string(),
            })?;
        let bytes = Bytes::from(buffer);
        let (now, later) = rest.split_at(run);
        for at in now {
            let from = (at.bytes.start - start) as usize;
            events.push(event(
                file,
                at,
                bytes.slice(from..(at.bytes.end - start) as usize),
            )?);
        }
        rest = later;
    }
    Ok(())
}

fn event(file: &LogFile, at: &Located, bytes: Bytes) -> Result<Event, ReadError> {
    debug_assert!(row_bytes(&bytes).is_some());
    let row = Row::check(bytes, at.position).map_err(|e| Damage {
        path: file.path.clone(),
        offset: at.bytes.start,
        what: e.to_string(),
    })?;
    Ok(Event {
        position: at.position,
        recorded_at: at.recorded_at,
        row,
    })
}
