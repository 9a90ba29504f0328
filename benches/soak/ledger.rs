//! What was answered, and whether what is read bears it out. Memory stays bounded however long a run is: content comes
//! from the [`Story`], and an answer is forgotten once the audit has seen its events.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use annals::{
    proto::EventView,
    types::slot::{SLOTS, slot},
};
use parking_lot::Mutex;

use super::story::{Place, Story, mixed};

/// The place of each such position is kept.
pub(crate) const WAYPOINT: u64 = 1_000;
/// Batches answered last, looked at after every restart.
const RECENT: usize = 500;
/// Batches of the whole run, chosen at random.
const SAMPLE: usize = 20_000;

/// Something is not as it was promised.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Fault(pub(crate) String);

impl From<String> for Fault {
    fn from(text: String) -> Self {
        Self(text)
    }
}

/// Returns with a [`Fault`] unless a condition holds.
macro_rules! ensure {
    ($holds:expr, $($what:tt)+) => {
        if !$holds {
            return Err(Fault(format!($($what)+)));
        }
    };
}
pub(crate) use ensure;

/// Where a batch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stands {
    pub(crate) first: u64,
    pub(crate) recorded_at: i64,
}

/// A batch and where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answered {
    pub(crate) writer: usize,
    pub(crate) batch: u64,
    pub(crate) stands: Stands,
}

/// Of one tenant.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) story: Arc<Story>,
    /// Of each writer, the batches that were sent at least once.
    sent: Vec<AtomicU64>,
    /// Of each entity, the last version that was answered.
    versions: Vec<AtomicU64>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Answered, and not seen by the audit yet.
    answered: HashMap<(usize, u64), Stands>,
    /// Seen by the audit, and not answered yet.
    seen: HashMap<(usize, u64), Stands>,
    recent: VecDeque<Answered>,
    sample: Vec<Answered>,
    batches: u64,
    events: u64,
    bytes: u64,
    /// Answered.
    head: u64,
    waypoints: Vec<Place>,
}

impl Ledger {
    pub(crate) fn new(story: Story) -> Self {
        Self {
            sent: (0..story.writers()).map(|_| AtomicU64::new(0)).collect(),
            versions: (0..story.entities()).map(|_| AtomicU64::new(0)).collect(),
            story: Arc::new(story),
            inner: Mutex::default(),
        }
    }

    /// A batch is about to be sent for the first time.
    pub(crate) fn sending(&self, writer: usize, batch: u64) {
        self.sent[writer].store(batch + 1, Ordering::SeqCst);
    }

    /// A batch was answered.
    pub(crate) fn answered(
        &self,
        answered: Answered,
        versions: &[u64],
        bytes: usize,
    ) -> Result<(), Fault> {
        let Answered {
            writer,
            batch,
            stands,
        } = answered;
        for (at, version) in versions.iter().enumerate() {
            let entity = self.story.entity_of(Place { writer, batch, at });
            self.versions[entity].fetch_max(*version, Ordering::SeqCst);
        }
        let mut inner = self.inner.lock();
        inner.batches += 1;
        inner.events += versions.len() as u64;
        inner.bytes += bytes as u64;
        inner.head = inner.head.max(stands.first + versions.len() as u64 - 1);
        inner.recent.push_back(answered);
        if inner.recent.len() > RECENT {
            inner.recent.pop_front();
        }
        if inner.sample.len() < SAMPLE {
            inner.sample.push(answered);
        } else {
            let at = mixed(inner.batches) % inner.batches;
            if let Some(place) = inner.sample.get_mut(at as usize) {
                *place = answered;
            }
        }
        if let Some(seen) = inner.seen.remove(&(writer, batch)) {
            return agree(writer, batch, stands, seen);
        }
        inner.answered.insert((writer, batch), stands);
        Ok(())
    }

    /// The audit saw a batch whole.
    fn seen(&self, writer: usize, batch: u64, stands: Stands) -> Result<(), Fault> {
        let mut inner = self.inner.lock();
        if let Some(answered) = inner.answered.remove(&(writer, batch)) {
            return agree(writer, batch, answered, stands);
        }
        inner.seen.insert((writer, batch), stands);
        Ok(())
    }

    fn passed(&self, position: u64, place: Place) {
        if position.is_multiple_of(WAYPOINT) {
            self.inner.lock().waypoints.push(place);
        }
    }

    /// The last position that was answered.
    pub(crate) fn head(&self) -> u64 {
        self.inner.lock().head
    }

    /// Batches, events, and bytes of their texts, that were answered.
    pub(crate) fn totals(&self) -> (u64, u64, u64) {
        let inner = self.inner.lock();
        (inner.batches, inner.events, inner.bytes)
    }

    /// Batches that the audit and the answers have not both told.
    pub(crate) fn unsettled(&self) -> (usize, usize) {
        let inner = self.inner.lock();
        (inner.answered.len(), inner.seen.len())
    }

    /// The batches answered last.
    pub(crate) fn recent(&self) -> Vec<Answered> {
        self.inner.lock().recent.iter().copied().collect()
    }

    /// Any batch that was answered.
    pub(crate) fn any(&self, draw: u64) -> Option<Answered> {
        let inner = self.inner.lock();
        let from = if draw.is_multiple_of(4) {
            inner
                .recent
                .get((draw >> 2) as usize % inner.recent.len().max(1))
        } else {
            inner
                .sample
                .get((draw >> 2) as usize % inner.sample.len().max(1))
        };
        from.copied()
    }

    /// The last version of an entity that was answered.
    pub(crate) fn version(&self, entity: usize) -> u64 {
        self.versions[entity].load(Ordering::SeqCst)
    }

    /// What an event must be, apart from its position, version and time; returns which it is.
    pub(crate) fn check(&self, event: &EventView<'_>) -> Result<Place, Fault> {
        let position = event.position;
        let Some(place) = self.story.place(event.event_id) else {
            return Err(Fault(format!(
                "position {position}: nobody ever sent event {}",
                event.event_id
            )));
        };
        let sent = self.sent[place.writer].load(Ordering::SeqCst);
        ensure!(
            place.batch < sent,
            "position {position}: {place:?} stands there, and {sent} batches were sent"
        );
        let expected = self.story.event(place);
        let tags = event.tags.clone().map(str::as_bytes);
        let is_same = event.entity_id.as_bytes() == expected.entity_id.as_bytes()
            && event.event_type.as_bytes() == expected.event_type.as_bytes()
            && event.payload.as_bytes() == expected.payload.as_bytes()
            && event.metadata.map(str::as_bytes)
                == expected.metadata.as_ref().map(annals::Text::as_bytes)
            && event.occurred_at == expected.occurred_at.map(annals::Timestamp::as_micros)
            && tags.eq(expected.tags.iter().map(annals::Text::as_bytes));
        ensure!(
            is_same,
            "position {position}: {place:?} is {event:?}, and was sent as {expected:?}"
        );
        if position.is_multiple_of(WAYPOINT) {
            let inner = self.inner.lock();
            let known = inner.waypoints.get((position / WAYPOINT) as usize - 1);
            ensure!(
                known.is_none_or(|known| *known == place),
                "position {position}: {place:?} stands there, and it was {known:?} before"
            );
        }
        Ok(place)
    }
}

fn agree(writer: usize, batch: u64, answered: Stands, seen: Stands) -> Result<(), Fault> {
    ensure!(
        answered == seen,
        "batch {batch} of writer {writer} was answered as {answered:?}, and stands as {seen:?}"
    );
    Ok(())
}

/// Reads a log from its beginning: each position once and in order, each batch whole and once, in its writer's order,
/// each entity's versions without gaps.
#[derive(Debug)]
pub(crate) struct Audit {
    ledger: Arc<Ledger>,
    /// Whether it is the one that answers are compared with.
    settles: bool,
    pub(crate) position: u64,
    recorded_at: i64,
    /// Of each writer, the batch that comes next.
    next: Vec<u64>,
    /// The batch that events are of now: its place and where it begins.
    open: Option<(Place, u64)>,
    versions: Vec<u64>,
    /// Events of each slot.
    pub(crate) slots: Vec<u64>,
}

impl Audit {
    /// The one that answers are compared with: one for each ledger.
    pub(crate) fn of_answers(ledger: Arc<Ledger>) -> Self {
        Self {
            settles: true,
            ..Self::again(ledger)
        }
    }

    /// One that reads a second time.
    pub(crate) fn again(ledger: Arc<Ledger>) -> Self {
        Self {
            settles: false,
            position: 0,
            recorded_at: i64::MIN,
            next: vec![0; ledger.story.writers()],
            open: None,
            versions: vec![0; ledger.story.entities()],
            slots: vec![0; SLOTS],
            ledger,
        }
    }

    /// The next event.
    pub(crate) fn take(&mut self, event: &EventView<'_>) -> Result<Place, Fault> {
        let position = event.position;
        ensure!(
            position == self.position + 1,
            "position {position} came after {}",
            self.position
        );
        let place = self.ledger.check(event)?;
        let expected = self.open.map_or(
            Place {
                batch: self.next[place.writer],
                at: 0,
                ..place
            },
            |(last, _)| Place {
                at: last.at + 1,
                ..last
            },
        );
        ensure!(
            place == expected,
            "position {position}: {place:?} stands there, and {expected:?} should"
        );
        let first = self.open.map_or(position, |(_, first)| first);
        if place.at == 0 {
            ensure!(
                event.recorded_at >= self.recorded_at,
                "position {position} was recorded at {}, the one before at {}",
                event.recorded_at,
                self.recorded_at
            );
            self.recorded_at = event.recorded_at;
        }
        ensure!(
            event.recorded_at == self.recorded_at,
            "position {position} was recorded at {}, its batch at {}",
            event.recorded_at,
            self.recorded_at
        );
        self.open = Some((place, first));
        if place.at + 1 == self.ledger.story.size(place.writer, place.batch) {
            self.open = None;
            self.next[place.writer] += 1;
            if self.settles {
                let stands = Stands {
                    first,
                    recorded_at: event.recorded_at,
                };
                self.ledger.seen(place.writer, place.batch, stands)?;
            }
        }
        let version = &mut self.versions[self.ledger.story.entity_of(place)];
        *version += 1;
        ensure!(
            event.version == *version,
            "position {position}: version {} of {}, and {version} should come",
            event.version,
            event.entity_id
        );
        self.slots[slot(event.entity_id.as_bytes())] += 1;
        self.position = position;
        if self.settles {
            self.ledger.passed(position, place);
        }
        Ok(place)
    }

    /// Every batch that it began is whole.
    pub(crate) fn is_whole(&self) -> bool {
        self.open.is_none()
    }

    /// Entities with events.
    pub(crate) fn entities(&self) -> u64 {
        self.versions.iter().filter(|version| **version > 0).count() as u64
    }
}
