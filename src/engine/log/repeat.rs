//! Batches that were sent before: found by their ids, or by where they passed their guard, and compared with what stands
//! in the log. Content is compared byte by byte.

use std::collections::VecDeque;

use bytes::Bytes;
use uuid::Uuid;

use super::{
    Log,
    index::Pieces,
    prepared::{Prepared, PreparedEvent},
    sequencer::{Outcome, PlacedBatch, Sequencer, unreadable},
};
use crate::{
    engine::event::Event,
    storage::{
        index::filter::FilterKeys,
        log::{
            frame::FRAME_HEADER_BYTES,
            row::{self, event_id, same_content},
        },
    },
    types::{
        append::{AppendError, Appended, Expect, GuardFailure},
        id::{Position, Version},
        text::Text,
        time::Timestamp,
    },
};

/// A repeat that has to be compared with what stands in the log.
#[derive(Clone, Copy)]
pub(super) struct Repeat {
    /// Where the first of the batch's ids that was found stands.
    position: Position,
    /// Its index in the batch.
    index: usize,
}

/// The version that a guard of the batch wanted an entity at which has more by now, if so it was refused.
fn passed_version(refused: &AppendError) -> Option<(&Text, Version)> {
    let AppendError::Guard(GuardFailure::Entity {
        entity_id,
        expected,
        found,
        ..
    }) = refused
    else {
        return None;
    };
    let version = match expected {
        Expect::Version(version) => *version,
        Expect::Absent => 0,
        Expect::Any | Expect::Exists => return None,
    };
    (*found > version).then_some((entity_id, version))
}

/// Whether a refused batch may be one that passed its guard before, too long ago for its ids to be known.
pub(super) fn may_be_repeat(prepared: &Prepared, refused: &AppendError) -> bool {
    prepared.ids_given
        && passed_version(refused)
            .is_some_and(|(id, _)| prepared.events.iter().any(|event| event.entity.1 == *id))
}

/// Looks for a batch where it stands if it passed its `version` guard before; else it is refused as it was.
pub(super) fn find_guarded_repeat(log: &Log, prepared: &Prepared, refused: AppendError) -> Outcome {
    let Some((entity_id, version)) = passed_version(&refused) else {
        return Err(refused);
    };
    let about = |event: &PreparedEvent| event.entity.1 == *entity_id;
    let (_, position) = log
        .version_position(entity_id, version + 1, Position::MAX)
        .map_err(unreadable)?;
    let index = prepared.events.iter().position(about);
    let Some((position, index)) = position.zip(index).filter(|(p, i)| *p > *i as u64) else {
        return Err(refused);
    };
    let repeat = Repeat {
        position: position - index as u64,
        index: 0,
    };
    compare_repeat(log, prepared, &repeat).map_err(|_| refused)
}

/// The last position whose id is known no more, given the last one of all.
fn forgotten(log: &Log, last: Position) -> Position {
    last.saturating_sub(log.shared.limits.repeat_window_events)
}

/// The first of a batch's ids that is sealed already. Done before its turn: it may read from the disk.
pub(super) fn find_sealed_repeat(
    log: &Log,
    pieces: &Pieces,
    events: &[PreparedEvent],
) -> Result<Option<Repeat>, AppendError> {
    let forgotten = forgotten(log, log.head.get());
    let newest_first = pieces.runs().iter().rev();
    let runs: Vec<_> = newest_first
        .take_while(|run| run.last() > forgotten)
        .collect();
    if runs.is_empty() {
        return Ok(None);
    }
    let given = events.iter().enumerate();
    let given = given.filter(|(_, event)| event.id_given);
    let keys = FilterKeys::new(given.map(|(index, event)| (index, event.id_hash)));
    let mut found = Vec::new();
    for (nth, run) in runs.iter().enumerate() {
        let may_be = run.may_hold_ids(&keys).map_err(unreadable)?;
        found.extend(may_be.into_iter().map(|index| (index, nth)));
    }
    found.sort_unstable();
    for (index, nth) in found {
        let event = &events[index];
        let positions = runs[nth].ids(event.id_hash).map_err(unreadable)?;
        for position in positions.into_iter().rev().filter(|p| *p > forgotten) {
            if log.event(position).map_err(unreadable)?.event_id() == event.id {
                return Ok(Some(Repeat { position, index }));
            }
        }
    }
    Ok(None)
}

/// The first of a batch's ids that stands in the log already: `sealed`, or one before it that is not sealed.
pub(super) fn find_repeat(
    log: &Log,
    sequencer: &Sequencer,
    pieces: &Pieces,
    events: &[PreparedEvent],
    sealed: Option<Repeat>,
) -> Result<Option<Repeat>, AppendError> {
    let forgotten = forgotten(log, sequencer.next - 1);
    let until = sealed.map_or(events.len(), |sealed| sealed.index);
    let given = events[..until].iter().enumerate();
    for (index, event) in given.filter(|(_, event)| event.id_given) {
        for part in pieces.parts().iter().rev() {
            for position in part.ids(event.id_hash) {
                if position > forgotten && stored_id(log, sequencer, position)? == event.id {
                    return Ok(Some(Repeat { position, index }));
                }
            }
        }
    }
    Ok(sealed)
}

fn stored_id(log: &Log, sequencer: &Sequencer, position: Position) -> Result<Uuid, AppendError> {
    match unpublished_row(sequencer, position) {
        Some(row) => Ok(event_id(row)),
        None => Ok(log.event(position).map_err(unreadable)?.event_id()),
    }
}

/// The row of an event that readers don't see yet.
fn unpublished_row(sequencer: &Sequencer, position: Position) -> Option<&[u8]> {
    let after = sequencer
        .unpublished
        .partition_point(|b| b.first_position <= position);
    let batch = sequencer.unpublished.get(after.checked_sub(1)?)?;
    batch.row(position)
}

impl PlacedBatch {
    /// The row at a position, if it is in the batch.
    fn row(&self, position: Position) -> Option<&[u8]> {
        let index = (position - self.first_position) as usize;
        let start = self.events.get(index)?.row_start as usize;
        let rows = &self.frame.rows()[start..];
        Some(&rows[..row::row_bytes(rows)?])
    }
}

/// Whether a batch, one of whose ids stands in the log, is the repeat of one that does.
pub(super) fn compare_repeat(log: &Log, prepared: &Prepared, repeat: &Repeat) -> Outcome {
    let reused = |index: usize, position| AppendError::IdReused {
        id: prepared.events[index].id,
        position,
    };
    if repeat.index != 0 {
        return Err(reused(repeat.index, repeat.position));
    }
    let frame_rows = &prepared.rows[FRAME_HEADER_BYTES..];
    let mut versions = Vec::with_capacity(prepared.events.len());
    let count = prepared.events.len() as u64;
    let mut stored = StoredRows {
        log,
        next: repeat.position,
        read: VecDeque::new(),
    };
    for (index, event) in prepared.events.iter().enumerate() {
        let position = repeat.position + index as u64;
        let rows = &frame_rows[event.row_start as usize..];
        let row = &rows[..row::row_bytes(rows).unwrap_or(rows.len())];
        match stored.next(count)? {
            Some(stored) if same_content(&stored, row) => versions.push(row::version(&stored)),
            Some(stored) if event_id(&stored) == event.id => return Err(reused(index, position)),
            // This id may stand nowhere: name one that does.
            _ => return Err(reused(repeat.index, repeat.position)),
        }
    }
    Ok(Appended {
        first_position: repeat.position,
        last_position: repeat.position + count - 1,
        // Filled in when the answer is given: the original may still be on its way.
        recorded_at: Timestamp::default(),
        duplicate: true,
        versions,
        event_ids: Vec::new(),
        log_id: log.log_id,
    })
}

/// Reads rows that stand in the log or are on their way there, one after the other.
struct StoredRows<'a> {
    log: &'a Log,
    next: Position,
    read: VecDeque<Event>,
}

impl StoredRows<'_> {
    /// The row of the next event; `None` behind the last one. `ahead`: so many are likely to be asked for.
    fn next(&mut self, ahead: u64) -> Result<Option<Bytes>, AppendError> {
        let position = self.next;
        self.next += 1;
        if self.read.front().is_none() {
            let sequencer = self.log.sequencer.lock();
            if let Some(row) = unpublished_row(&sequencer, position) {
                return Ok(Some(Bytes::copy_from_slice(row)));
            }
            drop(sequencer);
            if position > self.log.head.get() {
                return Ok(None);
            }
            self.read = self
                .log
                .events_from(position, ahead)
                .map_err(unreadable)?
                .into();
        }
        Ok(self.read.pop_front().map(|event| event.row.to_bytes()))
    }
}
