//! One tenant's log: durable appends in one order, and the in-memory index of what has no index on disk.
//!
//! - [`sequencer`]: judges batches and puts them in order, on their callers' threads.
//! - [`prepared`]: a batch that passed its checks.
//! - [`committer`]: makes what is queued durable and shows it, on a thread of its own.
//! - [`names`], [`ids`], [`rows`]: the index; [`set`]: what can be asked of it.
//! - [`recent`]: the newest bytes, in memory.
//! - [`read`]: events by position, filter and direction.
//! - [`head`], [`waiters`]: what is visible, and who waits for more.
//!
//! Not here: what makes a batch valid (`engine/ingest`), what subscriptions say (`engine/subscription`).

pub(crate) mod committer;
pub(crate) mod head;
pub(crate) mod ids;
pub(crate) mod names;
pub(crate) mod prepared;
pub(crate) mod read;
pub(crate) mod recent;
pub(crate) mod rows;
pub(crate) mod sequencer;
pub(crate) mod set;
pub(crate) mod waiters;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use tracing::{info, warn};

use self::{
    head::Head,
    ids::IdIndex,
    names::{NameIndex, row_of, rows_through},
    read::{Reader, Residue},
    recent::{Recent, RecentLog},
    rows::RowTable,
    sequencer::{Sequencer, State},
    set::{Index, NameKind, Set},
    waiters::Waiters,
};
use crate::{
    engine::tenant::TenantStats,
    storage::{
        log::{
            frame::FRAME_HEADER_BYTES,
            recovery::{self, RecoverError, SeenFrame},
            row::{self, Row},
            writer::{LogPlace, LogWriter},
        },
        manifest::Manifest,
    },
    types::{
        append::{AppendError, CursorRecord},
        hash::KeyHasher,
        id::{LogId, Position, TenantId, Version},
        limits::{CLOCK_BEHIND_MAX, Limits},
        read::{Damage, Direction, Filter},
        slot::{Partitions, SLOTS, slot},
        text::Text,
        time::{Clock, Timestamp},
    },
};

/// How often free disk space is asked for while there is too little.
const SPACE_CHECK_EVERY: Duration = Duration::from_millis(200);

/// What a log shares with the others of the process.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) limits: Arc<Limits>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) hasher: KeyHasher,
    pub(crate) recent: Arc<Recent>,
}

/// What opening a log found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Events in the log.
    pub events: u64,
    /// Bytes of torn, unacknowledged writes that were cut off its end.
    pub cut_bytes: u64,
    /// How long it took.
    pub took: Duration,
}

/// See the module.
#[expect(
    clippy::struct_field_names,
    reason = "the id and the bytes of a log are called so everywhere"
)]
pub(crate) struct Log {
    pub(crate) tenant: TenantId,
    pub(crate) log_id: LogId,
    pub(crate) recovery: RecoveryReport,
    limits: Arc<Limits>,
    clock: Arc<dyn Clock>,
    head: Head,
    index: Index,
    ids: IdIndex,
    table: RowTable,
    recent: Arc<RecentLog>,
    recent_budget: Arc<Recent>,
    /// Where cursors stand as of the head.
    cursors: Mutex<HashMap<Text, Position>>,
    slots: Box<[AtomicU64]>,
    /// Time of the newest group, µs.
    recorded_at: AtomicI64,
    log_bytes: AtomicU64,
    sequencer: Mutex<Sequencer>,
    /// Something was queued, or the log closes.
    work: Condvar,
    /// The committer's thread ended.
    idle: Condvar,
    /// Taken by the committer while it runs.
    writer: Mutex<Option<LogWriter>>,
    waiters: Waiters,
    place: LogPlace,
    space: Space,
}

/// Whether there is room on the disk.
#[derive(Default)]
struct Space {
    full: AtomicBool,
    available: AtomicU64,
    checked: Mutex<Option<Instant>>,
}

impl Log {
    /// Opens the log of a tenant that exists: reads all of it, and builds the index.
    pub(crate) fn open(
        tenant: TenantId,
        place: LogPlace,
        manifest: Manifest,
        shared: &Shared,
    ) -> Result<Arc<Self>, RecoverError> {
        let started = Instant::now();
        let mut log = Self::empty(tenant, manifest.log_id, place.clone(), shared);
        let mut next = 1;
        let see = &mut |seen: &SeenFrame<'_>| log.see(seen, &mut next);
        let recovered = recovery::recover(place, manifest, see)?;
        if recovered.cut_bytes > 0 {
            warn!(
                tenant = %log.tenant, bytes = recovered.cut_bytes, offset = recovered.cut_at,
                "cut a torn write that nobody was told of"
            );
        }
        log.recovery = RecoveryReport {
            events: next - 1,
            cut_bytes: recovered.cut_bytes,
            took: started.elapsed(),
        };
        info!(tenant = %log.tenant, head = next - 1, took = ?log.recovery.took, "log opened");
        log.head = Head::new(next - 1);
        *log.sequencer.get_mut() = Sequencer::new(next, log.cursors.lock().clone());
        log.table.enter(recovered.writer.current());
        log.log_bytes = AtomicU64::new(recovered.writer.end());
        *log.writer.get_mut() = Some(recovered.writer);
        log.check_space();
        Ok(Arc::new(log))
    }

    /// A log that was just made.
    pub(crate) fn new(
        tenant: TenantId,
        log_id: LogId,
        place: LogPlace,
        writer: LogWriter,
        shared: &Shared,
    ) -> Arc<Self> {
        let mut log = Self::empty(tenant, log_id, place, shared);
        log.table.enter(writer.current());
        *log.writer.get_mut() = Some(writer);
        log.check_space();
        Arc::new(log)
    }

    fn empty(tenant: TenantId, log_id: LogId, place: LogPlace, shared: &Shared) -> Self {
        Self {
            tenant,
            log_id,
            recovery: RecoveryReport::default(),
            limits: Arc::clone(&shared.limits),
            clock: Arc::clone(&shared.clock),
            head: Head::new(0),
            index: Index::new(shared.hasher),
            ids: IdIndex::new(),
            table: RowTable::new(),
            recent: Arc::new(RecentLog::new()),
            recent_budget: Arc::clone(&shared.recent),
            cursors: Mutex::default(),
            slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
            recorded_at: AtomicI64::new(0),
            log_bytes: AtomicU64::new(0),
            sequencer: Mutex::new(Sequencer::new(1, HashMap::new())),
            work: Condvar::new(),
            idle: Condvar::new(),
            writer: Mutex::new(None),
            waiters: Waiters::new(),
            place,
            space: Space::default(),
        }
    }

    /// Enters a frame that stands in the log into the index.
    fn see(&self, seen: &SeenFrame<'_>, next: &mut Position) -> Result<(), Damage> {
        let SeenFrame { file, start, frame } = seen;
        let rows_at = start + FRAME_HEADER_BYTES as u64;
        let damage = |offset: usize, what: String| Damage {
            path: file.path.clone(),
            offset: rows_at + offset as u64,
            what,
        };
        let rows = Bytes::copy_from_slice(frame.rows());
        let mut offsets = Vec::with_capacity(frame.events() as usize);
        let mut at = 0;
        for _ in 0..frame.events() {
            let row = Row::check(rows.slice(at..), *next).map_err(|e| damage(at, e.to_string()))?;
            let hash = |name| self.index.hasher.hash(name);
            let (entity, event_type) = (row.entity_id(), row.event_type());
            let number = row_of(*next);
            let version = self.index.entities.push(hash(entity), entity, number);
            if version != row.version() {
                let what = format!("an event states version {}, it is {version}", row.version());
                return Err(damage(at, what));
            }
            self.index.types.push(hash(event_type), event_type, number);
            for (i, tag) in row.tags().enumerate() {
                if !row.tags().take(i).any(|earlier| earlier == tag) {
                    self.index.tags.push(hash(tag), tag, number);
                }
            }
            self.ids
                .insert(hash(row::event_id(row.as_bytes()).as_bytes()), *next);
            self.slots[slot(entity)].fetch_add(1, Ordering::Relaxed);
            offsets.push(rows_at + at as u64);
            at += row.as_bytes().len();
            *next += 1;
        }
        if at != rows.len() {
            return Err(damage(at, "a frame has more rows than it says".to_owned()));
        }
        let end = rows_at + at as u64;
        self.table
            .push(file, offsets.into_iter(), end, frame.recorded_at());
        for (name, position) in frame.cursors() {
            self.cursors
                .lock()
                .insert(Text::from(Bytes::copy_from_slice(name)), position);
        }
        self.recorded_at
            .fetch_max(frame.recorded_at(), Ordering::Relaxed);
        let end = file.log_offset(start + frame.as_bytes().len() as u64);
        self.log_bytes.store(end, Ordering::Relaxed);
        Ok(())
    }

    /// The last durable position.
    pub(crate) fn head(&self) -> Position {
        self.head.get()
    }

    pub(crate) fn waiters(&self) -> &Waiters {
        &self.waiters
    }

    pub(crate) fn entities(&self) -> &NameIndex {
        &self.index.entities
    }

    pub(crate) fn types(&self) -> &NameIndex {
        &self.index.types
    }

    /// The events of an entity.
    pub(crate) fn entity(&self, id: &Text) -> Set {
        self.index.name(NameKind::Entity, id.clone())
    }

    /// The first event of a set up to a position.
    pub(crate) fn first_of(&self, set: &Set, through: Position) -> Option<Position> {
        self.index
            .page(set, 1..=through, Direction::Forward, 1)
            .first()
            .map(|&row| row.into())
    }

    /// An entity's last version up to the head, and the position of one of its versions.
    pub(crate) fn version_position(
        &self,
        entity_id: &Text,
        version: Version,
        head: Position,
    ) -> (Version, Option<Position>) {
        let name = entity_id.as_bytes();
        self.index
            .entities
            .with(self.index.hasher.hash(name), name, |rows| {
                let last = rows_through(rows, head);
                let index = usize::try_from(version)
                    .ok()
                    .filter(|version| *version <= last);
                let position =
                    index.map(|version| version.checked_sub(1).map_or(0, |i| rows[i].into()));
                (last as Version, position)
            })
    }

    /// The last position recorded at or before a time.
    pub(crate) fn position_at(&self, time: Timestamp, head: Position) -> Position {
        self.table.position_at(time, head)
    }

    /// The events that a filter lets through, but for partitions and times, as far as names known now tell.
    pub(crate) fn filter_set(&self, filter: &Filter) -> Set {
        self.index.filter(filter, self.head())
    }

    /// A forward read of what a filter lets through after one position and up to another, which is its head.
    pub(crate) fn reader(
        self: &Arc<Self>,
        filter: &Filter,
        after: Position,
        through: Position,
        partitions: Partitions,
    ) -> Reader {
        let before = |time: Timestamp| {
            let just_before = Timestamp::from_micros(time.as_micros() - 1);
            just_before.map_or(0, |time| self.position_at(time, through))
        };
        let after = filter
            .recorded
            .since
            .map_or(after, |since| after.max(before(since)));
        let last = filter.recorded.until.map_or(through, before);
        Reader {
            log: Arc::clone(self),
            set: Arc::new(self.filter_set(filter)),
            residue: Arc::new(Residue {
                partitions: filter.partitions.clone(),
                division: partitions,
                occurred: filter.occurred,
            }),
            range: after + 1..=last,
            direction: Direction::Forward,
            limit: u64::MAX,
            head: through,
            pending: Vec::new(),
        }
    }

    /// Where a cursor stands as of the head.
    pub(crate) fn cursor(&self, name: &Text) -> Option<Position> {
        self.cursors.lock().get(name).copied()
    }

    pub(crate) fn stats(&self, partitions: Partitions) -> TenantStats {
        let head = self.head();
        let mut events_per_partition = vec![0; partitions.count() as usize];
        for (slot, events) in self.slots.iter().enumerate() {
            let partition = partitions.of_slot(slot) as usize;
            events_per_partition[partition] += events.load(Ordering::Relaxed);
        }
        let poisoned = match &self.sequencer.lock().state {
            State::Poisoned(reason) => Some(reason.clone()),
            State::Open | State::Closing => None,
        };
        TenantStats {
            head,
            floor: 0,
            entities: self.index.entities.names(),
            event_types: self.index.types.names(),
            events_per_partition,
            log_bytes: self.log_bytes.load(Ordering::Relaxed),
            log_files: self.table.files(),
            subscribers: self.waiters.count() as u64,
            recorded_at: self.recorded_at(head),
            poisoned,
        }
    }

    /// Refuses appends from now on, what is queued is still written.
    pub(crate) fn refuse_appends(&self) {
        let mut sequencer = self.sequencer.lock();
        if sequencer.state == State::Open {
            sequencer.state = State::Closing;
        }
    }

    /// Refuses appends, writes what is queued, states that all is durable, and lets go of the files.
    pub(crate) fn close(self: &Arc<Self>) {
        committer::close(self);
    }

    /// Refuses an append for which there is no room, or no time.
    pub(crate) fn check_open_for_appends(&self) -> Result<(), AppendError> {
        if self.space.full.load(Ordering::Relaxed) {
            let mut checked = self.space.checked.lock();
            if checked.is_none_or(|at| at.elapsed() >= SPACE_CHECK_EVERY) {
                *checked = Some(Instant::now());
                self.check_space();
            }
            if self.space.full.load(Ordering::Relaxed) {
                return Err(AppendError::DiskFull {
                    available: self.space.available.load(Ordering::Relaxed),
                    reserve: self.limits.disk_reserve_bytes,
                });
            }
        }
        let last = self.recorded_at.load(Ordering::Relaxed);
        let behind = last.saturating_sub(self.clock.now().as_micros());
        let behind = Duration::from_micros(u64::try_from(behind).unwrap_or(0));
        if behind > CLOCK_BEHIND_MAX {
            return Err(AppendError::ClockBehind {
                behind_s: behind.as_secs(),
            });
        }
        Ok(())
    }

    fn check_space(&self) {
        // What cannot be asked is met by the write.
        let available = self.place.available_bytes().unwrap_or(u64::MAX);
        self.space.available.store(available, Ordering::Relaxed);
        let full = available < self.limits.disk_reserve_bytes;
        if self.space.full.swap(full, Ordering::Relaxed) != full {
            if full {
                warn!(tenant = %self.tenant, available, "the disk is full: appends are refused");
            } else {
                info!(tenant = %self.tenant, available, "the disk has room again");
            }
        }
    }

    fn publish_cursors<'a>(&self, records: impl Iterator<Item = &'a CursorRecord>) {
        let mut records = records.peekable();
        if records.peek().is_some() {
            let mut cursors = self.cursors.lock();
            for record in records {
                cursors.insert(record.name.clone(), record.position);
            }
        }
    }
}
