//! Puts batches in order: judges each against everything before it, in the log or on its way there, and gives its events
//! their positions and versions. Done by the callers themselves, one at a time; the committer takes what is queued.
//!
//! Invariants: what is judged sees every batch queued before, readers never do. An answer is given only when the newest
//! group that it was judged against is durable; if that group fails, so does the answer.
//! Lock order: the sequencer, then shards of the index. Never held across a sync.

use std::{
    collections::{HashMap, VecDeque},
    mem,
    sync::Arc,
};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use uuid::Uuid;

use super::{
    Log,
    names::row_of,
    prepared::{Prepared, PreparedEvent},
    set::Set,
};
use crate::{
    engine::event::Event,
    storage::log::{
        frame::{FRAME_HEADER_BYTES, FrameDraft},
        row::{self, event_id, same_content},
    },
    types::{
        append::{AppendError, Appended, CursorRecord, Expect, Guard, GuardFailure},
        id::{Position, Version},
        read::{Direction, ReadError},
        text::Text,
        time::Timestamp,
    },
};

/// What becomes of a batch.
pub(crate) type Outcome = Result<Appended, AppendError>;

/// Where an answer goes.
pub(crate) enum Reply {
    Once(oneshot::Sender<Outcome>),
    /// One of a stream's, with its number.
    Stream(u64, mpsc::UnboundedSender<(u64, Outcome)>),
}

impl Reply {
    /// Nobody may be there any more; the batch stands all the same.
    fn send(self, outcome: Outcome) {
        match self {
            Self::Once(sender) => drop(sender.send(outcome)),
            Self::Stream(id, sender) => drop(sender.send((id, outcome))),
        }
    }
}

/// Whoever waits for a batch, and the room it takes in the queue.
pub(crate) struct Waiting {
    pub(crate) reply: Reply,
    pub(crate) room: Option<OwnedSemaphorePermit>,
}

impl Waiting {
    /// Gives the room back first: whoever has the answer finds as much again.
    pub(crate) fn answer(self, outcome: Outcome) {
        drop(self.room);
        self.reply.send(outcome);
    }
}

/// A batch that has its place and is on its way to the disk.
pub(crate) struct PlacedBatch {
    pub(crate) first_position: Position,
    pub(crate) frame: FrameDraft,
    pub(crate) events: Vec<PreparedEvent>,
    pub(crate) versions: Vec<Version>,
    pub(crate) cursors: Vec<CursorRecord>,
    pub(crate) made_ids: Vec<Uuid>,
    pub(crate) ids_given: bool,
}

/// Something the committer has to do.
pub(crate) enum Queued {
    Batch(Arc<PlacedBatch>, Waiting),
    /// An answer that waits only for what is before it.
    Answer(Outcome, Waiting),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    Open,
    /// Appends are refused, what is queued is still written.
    Closing,
    /// A write failed: appends are refused until the log is opened again.
    Poisoned(String),
}

/// See the module.
pub(crate) struct Sequencer {
    pub(crate) state: State,
    /// The position of the next event.
    pub(crate) next: Position,
    pub(crate) queue: VecDeque<Queued>,
    /// The committer has taken a group that it has not answered.
    pub(crate) answering: bool,
    /// Batches that readers don't see yet, in order.
    pub(crate) unpublished: VecDeque<Arc<PlacedBatch>>,
    /// Where cursors stand once everything queued is written.
    pub(crate) cursors: HashMap<Text, Position>,
    /// A committer's thread is running.
    pub(crate) committing: bool,
}

/// What was found out about a batch's guards before its turn.
pub(crate) struct Prejudged {
    /// The head that the guards were judged at.
    head: Position,
    no_match: Vec<Option<(Set, Option<Position>)>>,
}

/// A repeat that has to be compared with what stands in the log.
struct Repeat {
    /// Where the first of the batch's ids that was found stands.
    position: Position,
    /// Its index in the batch.
    index: usize,
}

impl Sequencer {
    pub(crate) fn new(next: Position, cursors: HashMap<Text, Position>) -> Self {
        Self {
            state: State::Open,
            next,
            queue: VecDeque::new(),
            answering: false,
            unpublished: VecDeque::new(),
            cursors,
            committing: false,
        }
    }

    fn check_state(&self) -> Result<(), AppendError> {
        match &self.state {
            State::Open => Ok(()),
            State::Closing => Err(AppendError::ShuttingDown),
            State::Poisoned(reason) => Err(AppendError::NotStored {
                reason: reason.clone(),
            }),
        }
    }
}

/// Judges the guards that need the index as of the head, off the commit path.
pub(crate) fn prejudge(log: &Log, guards: &[Guard]) -> Prejudged {
    let head = log.head.get();
    let judge = |guard: &Guard| match guard {
        Guard::Entity { .. } => None,
        Guard::NoMatch { query, after } => {
            let set = log.index.query(query);
            let found = first_match(log, &set, *after, head);
            Some((set, found))
        }
    };
    Prejudged {
        head,
        no_match: guards.iter().map(judge).collect(),
    }
}

/// Judges a batch and queues it, or its refusal.
pub(crate) fn submit(log: &Arc<Log>, prepared: Prepared, prejudged: &Prejudged, waiting: Waiting) {
    let mut sequencer = log.sequencer.lock();
    if let Err(refused) = sequencer.check_state() {
        drop(sequencer);
        return waiting.answer(Err(refused));
    }
    let queued = match find_repeat(log, &sequencer, &prepared.events) {
        Err(e) => Queued::Answer(Err(e), waiting),
        Ok(Some(repeat)) => {
            // What was found does not change any more: compare without holding others up.
            drop(sequencer);
            let outcome = compare_repeat(log, &prepared, &repeat);
            sequencer = log.sequencer.lock();
            if let State::Poisoned(reason) = &sequencer.state {
                let refused = AppendError::NotStored {
                    reason: reason.clone(),
                };
                drop(sequencer);
                return waiting.answer(Err(refused));
            }
            Queued::Answer(outcome, waiting)
        }
        Ok(None) => match judge(log, &sequencer, &prepared, prejudged) {
            Err(e) => Queued::Answer(Err(e), waiting),
            Ok(()) => Queued::Batch(place(log, &mut sequencer, prepared), waiting),
        },
    };
    queue(log, &mut sequencer, queued);
}

/// Queues an answer behind everything that came before it.
pub(crate) fn answer_in_order(log: &Arc<Log>, outcome: Outcome, waiting: Waiting) {
    let mut sequencer = log.sequencer.lock();
    if matches!(sequencer.state, State::Open | State::Closing) {
        queue(log, &mut sequencer, Queued::Answer(outcome, waiting));
    } else {
        drop(sequencer);
        waiting.answer(outcome);
    }
}

fn queue(log: &Arc<Log>, sequencer: &mut Sequencer, queued: Queued) {
    let queued = match queued {
        // Everything that it was judged against is durable, and what came before it was answered.
        Queued::Answer(outcome, waiting) if sequencer.queue.is_empty() && !sequencer.answering => {
            return waiting.answer(super::committer::complete(log, outcome));
        }
        queued => queued,
    };
    sequencer.queue.push_back(queued);
    if mem::replace(&mut sequencer.committing, true) {
        // It looks at the queue whenever it is done with a group; only an idle one has to be woken.
        if sequencer.queue.len() == 1 {
            log.work.notify_one();
        }
    } else {
        super::committer::start(log, sequencer);
    }
}

/// The first of a batch's ids that stands in the log already.
fn find_repeat(
    log: &Log,
    sequencer: &Sequencer,
    events: &[PreparedEvent],
) -> Result<Option<Repeat>, AppendError> {
    for (index, event) in events
        .iter()
        .enumerate()
        .filter(|(_, event)| event.id_given)
    {
        let is_it = |position| stored_id(log, sequencer, position).map(|id| id == event.id);
        if let Some(position) = log.ids.find(event.id_hash, is_it)? {
            return Ok(Some(Repeat { position, index }));
        }
    }
    Ok(None)
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
fn compare_repeat(log: &Log, prepared: &Prepared, repeat: &Repeat) -> Outcome {
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

fn unreadable(error: ReadError) -> AppendError {
    match error {
        ReadError::Damaged(damage) => damage.into(),
        other => AppendError::NotStored {
            reason: other.to_string(),
        },
    }
}

fn judge(
    log: &Log,
    sequencer: &Sequencer,
    prepared: &Prepared,
    prejudged: &Prejudged,
) -> Result<(), AppendError> {
    let last = sequencer.next - 1;
    for (index, guard) in prepared.guards.iter().enumerate() {
        match guard {
            Guard::Entity { entity_id, expect } => judge_entity(log, index, entity_id, *expect)?,
            Guard::NoMatch { after, .. } => {
                if *after > last {
                    let field = format!("guards[{index}].no_match.after");
                    return Err(AppendError::BeyondHead {
                        field,
                        position: *after,
                        head: last,
                    });
                }
                let Some((set, found)) = &prejudged.no_match[index] else {
                    continue;
                };
                let found =
                    found.or_else(|| first_match(log, set, prejudged.head.max(*after), last));
                if let Some(found) = found {
                    return Err(AppendError::Guard(GuardFailure::NoMatch { index, found }));
                }
            }
        }
    }
    for (index, cursor) in prepared.cursors.iter().enumerate() {
        if cursor.position > last {
            let field = format!("cursors[{index}].position");
            return Err(AppendError::BeyondHead {
                field,
                position: cursor.position,
                head: last,
            });
        }
        let found = sequencer.cursors.get(&cursor.name).copied().unwrap_or(0);
        if let Some(expected) = cursor.expected.filter(|expected| *expected != found) {
            let name = cursor.name.clone();
            let failure = GuardFailure::Cursor {
                index,
                name,
                expected,
                found,
            };
            return Err(AppendError::Guard(failure));
        }
    }
    Ok(())
}

fn judge_entity(log: &Log, index: usize, id: &Text, expect: Expect) -> Result<(), AppendError> {
    let hash = log.index.hasher.hash(id.as_bytes());
    let found = log.index.entities.count(hash, id.as_bytes(), Position::MAX);
    if expect.holds(found) {
        return Ok(());
    }
    Err(AppendError::Guard(GuardFailure::Entity {
        index,
        entity_id: id.clone(),
        expected: expect,
        found,
    }))
}

/// The first member of a set after one position and up to another.
fn first_match(log: &Log, set: &Set, after: Position, through: Position) -> Option<Position> {
    let range = after.checked_add(1)?..=through;
    let page = log.index.page(set, range, Direction::Forward, 1);
    page.first().map(|&row| Position::from(row))
}

/// Gives a batch its place, and enters its events into the index.
fn place(log: &Log, sequencer: &mut Sequencer, prepared: Prepared) -> Arc<PlacedBatch> {
    let first_position = sequencer.next;
    let Prepared {
        events,
        cursors,
        mut rows,
        made_ids,
        ids_given,
        ..
    } = prepared;
    let mut versions = Vec::with_capacity(events.len());
    for (position, event) in (first_position..).zip(&events) {
        let row = row_of(position);
        let (hash, name) = &event.entity;
        let version = log.index.entities.push(*hash, name.as_bytes(), row);
        let (hash, name) = &event.event_type;
        log.index.types.push(*hash, name.as_bytes(), row);
        for (i, (hash, name)) in event.tags.iter().enumerate() {
            // A tag that an event has twice is one tag.
            if !event.tags[..i].iter().any(|(_, earlier)| earlier == name) {
                log.index.tags.push(*hash, name.as_bytes(), row);
            }
        }
        log.ids.insert(event.id_hash, position);
        row::seal(
            &mut rows[FRAME_HEADER_BYTES + event.row_start as usize..],
            version,
            position,
        );
        versions.push(version);
    }
    for cursor in &cursors {
        sequencer
            .cursors
            .insert(cursor.name.clone(), cursor.position);
    }
    let records = cursors.iter().map(|c| (c.name.as_bytes(), c.position));
    let frame = FrameDraft::batch(rows, events.len(), records);
    sequencer.next += events.len() as u64;
    let placed = Arc::new(PlacedBatch {
        first_position,
        frame,
        events,
        versions,
        cursors,
        made_ids,
        ids_given,
    });
    sequencer.unpublished.push_back(Arc::clone(&placed));
    placed
}
