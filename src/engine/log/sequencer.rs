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

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use uuid::Uuid;

use super::{
    Log,
    index::{Pieces, SealedCounts},
    prepared::{Prepared, PreparedEvent},
    repeat::{
        Repeat, compare_repeat, find_guarded_repeat, find_repeat, find_sealed_repeat, may_be_repeat,
    },
    set::Set,
};
use crate::{
    storage::log::{
        frame::{FRAME_HEADER_BYTES, FrameDraft},
        row,
    },
    types::{
        append::{AppendError, Appended, CursorRecord, Expect, Guard, GuardFailure},
        id::{Position, Version},
        read::{Direction, NameKind, ReadError},
        text::Text,
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
struct Prejudged {
    /// The head that the guards were judged at.
    head: Position,
    /// How far the log was sealed.
    sealed_through: Position,
    /// How many sealed events carry the names that matter, unless the parts tell.
    counts: SealedCounts,
    no_match: Vec<Option<(Set, Option<Position>)>>,
    /// The first of the batch's ids that is sealed.
    repeat: Option<Repeat>,
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

/// Judges the guards that need the index as of the head, and looks up what is sealed, off the commit path.
fn prejudge(log: &Log, prepared: &Prepared) -> Result<Prejudged, AppendError> {
    let guards = &prepared.guards;
    let head = log.head.get();
    let pieces = log.index.pieces();
    let mut counts = SealedCounts::new();
    if !pieces.runs().is_empty() {
        let mut count = |kind, hash, name| {
            pieces
                .count_sealed(kind, hash, name, &mut counts)
                .map_err(unreadable)
        };
        for event in &prepared.events {
            count(NameKind::Entity, event.entity.0, &event.entity.1)?;
            count(NameKind::Type, event.event_type.0, &event.event_type.1)?;
        }
        for guard in guards {
            if let Guard::Entity { entity_id, .. } = guard {
                let hash = log.index.hasher.hash(entity_id.as_bytes());
                count(NameKind::Entity, hash, entity_id)?;
            }
        }
    }
    let judge = |guard: &Guard| match guard {
        Guard::Entity { .. } => Ok(None),
        Guard::NoMatch { query, after } => {
            let set = log.index.query(query);
            let found = first_match(log, &set, *after, head)?;
            Ok(Some((set, found)))
        }
    };
    let no_match: Result<_, AppendError> = guards.iter().map(judge).collect();
    Ok(Prejudged {
        head,
        sealed_through: pieces.sealed_through(),
        counts,
        no_match: no_match?,
        repeat: find_sealed_repeat(log, &pieces, &prepared.events)?,
    })
}

/// Judges a batch and queues it, or its refusal; says whether it was the batch, or an answer of success. What is queued
/// fails only where a write fails, and then so does everything behind it.
pub(crate) fn submit(log: &Arc<Log>, prepared: Prepared, waiting: Waiting) -> bool {
    // Until nothing is sealed between the look at what is sealed and the batch's turn.
    let (prejudged, pieces, mut sequencer) = loop {
        let prejudged = match prejudge(log, &prepared) {
            Ok(prejudged) => prejudged,
            Err(refused) => {
                answer_in_order(log, Err(refused), waiting);
                return false;
            }
        };
        let sequencer = log.sequencer.lock();
        // Names are counted in these from here on, whatever is sealed meanwhile.
        let pieces = log.index.pieces();
        if pieces.sealed_through() == prejudged.sealed_through {
            break (prejudged, pieces, sequencer);
        }
    };
    let prejudged = &prejudged;
    if let Err(refused) = sequencer.check_state() {
        drop(sequencer);
        waiting.answer(Err(refused));
        return false;
    }
    let sealed = prejudged.repeat;
    let judged = match find_repeat(log, &sequencer, &pieces, &prepared.events, sealed) {
        Err(e) => Err(e),
        Ok(Some(repeat)) => {
            // What was found does not change any more: compare without holding others up.
            drop(sequencer);
            let outcome = compare_repeat(log, &prepared, &repeat);
            let taken = outcome.is_ok();
            answer_judged(log, outcome, waiting);
            return taken;
        }
        Ok(None) => judge(log, &sequencer, &prepared, (prejudged, &pieces)),
    };
    let queued = match judged {
        Ok(()) => Queued::Batch(
            place(log, &mut sequencer, prepared, (prejudged, &pieces)),
            waiting,
        ),
        Err(refused) if may_be_repeat(&prepared, &refused) => {
            drop(sequencer);
            let outcome = find_guarded_repeat(log, &prepared, refused);
            let taken = outcome.is_ok();
            answer_judged(log, outcome, waiting);
            return taken;
        }
        Err(refused) => Queued::Answer(Err(refused), waiting),
    };
    let taken = matches!(queued, Queued::Batch(..));
    queue(log, &mut sequencer, queued);
    drop(sequencer);
    log.shared.unsealed.relieve();
    taken
}

/// Queues what was judged against batches that are on their way; if one of those failed, so does this.
fn answer_judged(log: &Arc<Log>, outcome: Outcome, waiting: Waiting) {
    let mut sequencer = log.sequencer.lock();
    if let State::Poisoned(reason) = &sequencer.state {
        let refused = AppendError::NotStored {
            reason: reason.clone(),
        };
        drop(sequencer);
        return waiting.answer(Err(refused));
    }
    queue(log, &mut sequencer, Queued::Answer(outcome, waiting));
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

pub(super) fn unreadable(error: ReadError) -> AppendError {
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
    (prejudged, pieces): (&Prejudged, &Pieces),
) -> Result<(), AppendError> {
    let last = sequencer.next - 1;
    for (index, guard) in prepared.guards.iter().enumerate() {
        match guard {
            Guard::Entity { entity_id, expect } => {
                let hash = log.index.hasher.hash(entity_id.as_bytes());
                let counts = &prejudged.counts;
                let found = pieces.count(NameKind::Entity, hash, entity_id, counts);
                judge_entity(index, entity_id, *expect, found)?;
            }
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
                let found = match found {
                    Some(found) => Some(*found),
                    None => first_match(log, set, prejudged.head.max(*after), last)?,
                };
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

fn judge_entity(
    index: usize,
    id: &Text,
    expect: Expect,
    found: Version,
) -> Result<(), AppendError> {
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
fn first_match(
    log: &Log,
    set: &Set,
    after: Position,
    through: Position,
) -> Result<Option<Position>, AppendError> {
    if after >= through {
        return Ok(None);
    }
    let pieces = log.index.pieces();
    let page = pieces.page(set, after + 1..=through, Direction::Forward, 1);
    Ok(page.map_err(unreadable)?.first().copied())
}

/// Gives a batch its place, and enters its events into the index.
fn place(
    log: &Log,
    sequencer: &mut Sequencer,
    prepared: Prepared,
    (prejudged, pieces): (&Prejudged, &Arc<Pieces>),
) -> Arc<PlacedBatch> {
    let first_position = sequencer.next;
    let Prepared {
        events,
        cursors,
        mut rows,
        made_ids,
        ids_given,
        ..
    } = prepared;
    let (count, bytes) = (events.len(), rows.len());
    let limits = &log.shared.limits;
    let grew = pieces;
    let pieces = log
        .index
        .for_batch(grew, first_position, count, bytes, limits);
    let counts = &prejudged.counts;
    let newest = pieces.newest();
    log.count_unsealed(grew.newest(), newest, count as u64);
    let mut ids = newest.ids.write();
    let mut versions = Vec::with_capacity(events.len());
    for (position, event) in (first_position..).zip(&events) {
        let push =
            |kind, (hash, name): &(u64, Text)| pieces.push(kind, *hash, name, position, counts);
        let version = push(NameKind::Entity, &event.entity);
        push(NameKind::Type, &event.event_type);
        for (i, tag) in event.tags.iter().enumerate() {
            // A tag that an event has twice is one tag.
            if !event.tags[..i].contains(tag) {
                push(NameKind::Tag, tag);
            }
        }
        ids.insert(event.id_hash, newest.row(position));
        row::seal(
            &mut rows[FRAME_HEADER_BYTES + event.row_start as usize..],
            version,
            position,
        );
        versions.push(version);
    }
    drop(ids);
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
