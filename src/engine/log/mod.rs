//! One tenant's log: durable appends in one order, and the in-memory index of what has no index on disk.
//!
//! - [`sequencer`]: judges batches and puts them in order, on their callers' threads.
//! - [`prepared`]: a batch that passed its checks; [`repeat`]: one that was sent before.
//! - [`committer`]: makes what is queued durable and shows it, on a thread of its own.
//! - [`index`]: the lookup, in pieces; [`part`], [`names`] and [`ids`]: a piece in memory; [`set`]: what can be asked of
//!   them.
//! - [`recovered`]: enters what stands in a log that is opened.
//! - [`rows`]: where events stand.
//! - [`seal`]: gives complete parts their lasting form; [`cold`]: reads it; [`kept`]: log files that stay all the same;
//!   [`merge`]: index runs; [`compact`]: segments; [`unsealed`]: what all logs may hold in memory until then.
//! - [`files`]: what of it is on disk, for those who look after that.
//! - [`recent`]: the newest bytes, in memory.
//! - [`read`]: events by position, filter and direction; [`scan`]: all of a segment, one after the other; [`tail`]: what
//!   is not sealed as columns.
//! - [`head`], [`waiters`]: what is visible, and who waits for more.
//!
//! Not here: what makes a batch valid (`engine/ingest`), what subscriptions say (`engine/subscription`).

pub(super) mod cold;
pub(crate) mod committer;
pub(crate) mod compact;
pub(crate) mod files;
pub(crate) mod head;
pub(crate) mod ids;
pub(crate) mod index;
mod kept;
mod merge;
pub(crate) mod names;
pub(crate) mod part;
pub(crate) mod prepared;
pub(crate) mod read;
pub(crate) mod recent;
mod recovered;
mod repeat;
pub(crate) mod room;
pub(crate) mod rows;
mod scan;
mod seal;
pub(crate) mod sequencer;
pub(crate) mod set;
pub(crate) mod tail;
pub(crate) mod unsealed;
pub(crate) mod waiters;

use std::{
    collections::HashMap,
    ops::Range,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use tracing::{info, warn};

use self::{
    cold::OpenSegments,
    compact::Compacting,
    head::Head,
    index::{Index, Key, Pieces},
    kept::{EndedFile, KeepBudget, KeptFiles},
    merge::Merging,
    read::{Reader, Residue},
    recent::{Recent, RecentLog},
    room::ScanRoom,
    rows::RowTable,
    scan::Scan,
    seal::Sealing,
    sequencer::{Sequencer, State},
    set::Set,
    tail::TailChunks,
    unsealed::{Unsealed, UnsealedOfLog},
    waiters::Waiters,
};
use crate::{
    engine::tenant::TenantStats,
    storage::{
        index::cache::BlockCache,
        log::{
            recovery::{self, RecoverError, SeenFrame},
            spare::Recycled,
            writer::{LogPlace, LogWriter},
        },
        manifest::{Manifest, OpenManifest},
    },
    types::{
        append::{AppendError, CursorRecord},
        hash::KeyHasher,
        id::{LogId, Position, TenantId, Version},
        limits::{CLOCK_BEHIND_MAX, Limits, SCANS_MAX},
        read::{Direction, Filter, NameKind, ReadError, TimeRange},
        slot::{Partitions, SLOTS},
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
    recent: Arc<Recent>,
    blocks: Arc<BlockCache>,
    open_segments: Arc<OpenSegments>,
    pub(crate) scans: Arc<ScanRoom>,
    tail: Arc<TailChunks>,
    keep: Arc<KeepBudget>,
    unsealed: Arc<Unsealed>,
    /// Whoever seals a part holds it.
    seal_turn: Arc<Mutex<()>>,
    /// Whoever merges index runs holds it.
    merge_turn: Arc<Mutex<()>>,
    /// Whoever compacts segments holds it.
    compact_turn: Arc<Mutex<()>>,
    logs: Arc<AtomicU64>,
}

impl Shared {
    pub(crate) fn new(limits: &Limits, clock: Arc<dyn Clock>, hasher: KeyHasher) -> Self {
        Self {
            limits: Arc::new(limits.clone()),
            clock,
            hasher,
            recent: Arc::new(Recent::new(limits.recent_bytes_max)),
            blocks: Arc::new(BlockCache::new(limits.index_cache_bytes)),
            open_segments: Arc::new(OpenSegments::new(limits.segment_cache_bytes)),
            scans: Arc::new(ScanRoom::new(SCANS_MAX)),
            tail: Arc::new(TailChunks::new(limits.tail_cache_bytes)),
            keep: Arc::new(KeepBudget::new(limits.keep_bytes)),
            unsealed: Arc::new(Unsealed::new(limits.unsealed_events_max)),
            seal_turn: Arc::default(),
            merge_turn: Arc::default(),
            compact_turn: Arc::default(),
            logs: Arc::default(),
        }
    }
}

/// What opening a log found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Events in the log.
    pub events: u64,
    /// Bytes of a torn, unacknowledged write that were cut off its end, as far as they can be told from what the file held
    /// before it was used again.
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
    /// No other log of the process has it.
    number: u64,
    pub(crate) recovery: RecoveryReport,
    pub(crate) shared: Shared,
    manifest: Arc<OpenManifest>,
    head: Head,
    index: Index,
    table: RowTable,
    kept: KeptFiles,
    unsealed: UnsealedOfLog,
    /// The writer's room for a file that is not kept any more.
    recycled: Arc<Recycled>,
    recent: Arc<RecentLog>,
    /// Where cursors stand as of the head.
    cursors: Mutex<HashMap<Text, Position>>,
    /// Events of each slot up to the head, which moves with them.
    slots: Mutex<Box<[u64]>>,
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
    sealing: Mutex<Sealing>,
    /// The sealing thread ended, or is to end.
    seal_changed: Condvar,
    merging: Merging,
    compacting: Compacting,
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
        let manifest = OpenManifest::new(Arc::clone(&place.disk), place.dir.clone(), manifest);
        let manifest = Arc::new(manifest);
        let mut log = Self::empty(tenant, Arc::clone(&manifest), place.clone(), shared);
        let unnamed = log.open_sealed()?;
        let mut next = manifest.get().sealed.through() + 1;
        let see = &mut |seen: &SeenFrame<'_>| log.see(seen, &mut next);
        let recovered = recovery::recover(place, &manifest, see)?;
        log.remove_leftovers(&unnamed, next - 1)?;
        let kept = recovered.kept.into_iter();
        let kept = kept.map(|(file, end)| EndedFile { file, end });
        log.kept.add(kept.collect());
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
        log.recycled = Arc::clone(recovered.writer.recycled());
        log.log_bytes = AtomicU64::new(recovered.writer.end());
        *log.writer.get_mut() = Some(recovered.writer);
        log.check_space();
        let log = Arc::new(log);
        shared.unsealed.enter(&log);
        shared.unsealed.relieve();
        seal::wake(&log);
        merge::wake(&log);
        compact::wake(&log);
        Ok(log)
    }

    /// A log that was just made.
    pub(crate) fn new(
        tenant: TenantId,
        place: LogPlace,
        writer: LogWriter,
        shared: &Shared,
    ) -> Arc<Self> {
        let mut log = Self::empty(tenant, Arc::clone(writer.manifest()), place, shared);
        log.table.enter(writer.current());
        log.recycled = Arc::clone(writer.recycled());
        *log.writer.get_mut() = Some(writer);
        log.check_space();
        let log = Arc::new(log);
        shared.unsealed.enter(&log);
        log
    }

    fn empty(
        tenant: TenantId,
        manifest: Arc<OpenManifest>,
        place: LogPlace,
        shared: &Shared,
    ) -> Self {
        let log_id = manifest.get().log_id;
        Self {
            tenant,
            log_id,
            number: shared.logs.fetch_add(1, Ordering::Relaxed),
            recovery: RecoveryReport::default(),
            shared: shared.clone(),
            manifest,
            head: Head::new(0),
            index: Index::new(shared.hasher),
            table: RowTable::new(),
            recent: Arc::new(RecentLog::new()),
            kept: KeptFiles::new(Arc::clone(&shared.keep)),
            unsealed: UnsealedOfLog::new(&shared.unsealed),
            recycled: Arc::default(),
            cursors: Mutex::default(),
            slots: Mutex::new(vec![0; SLOTS].into()),
            recorded_at: AtomicI64::new(0),
            log_bytes: AtomicU64::new(0),
            sequencer: Mutex::new(Sequencer::new(1, HashMap::new())),
            work: Condvar::new(),
            idle: Condvar::new(),
            writer: Mutex::new(None),
            waiters: Waiters::new(),
            sealing: Mutex::default(),
            seal_changed: Condvar::new(),
            merging: Merging::default(),
            compacting: Compacting::default(),
            place,
            space: Space::default(),
        }
    }

    /// Where its segments are.
    pub(crate) fn segments_dir(&self) -> PathBuf {
        self.place.segments_dir()
    }

    /// The last durable position.
    pub(crate) fn head(&self) -> Position {
        self.head.get()
    }

    pub(crate) fn waiters(&self) -> &Waiters {
        &self.waiters
    }

    /// The lookup as it is now.
    pub(crate) fn pieces(&self) -> Arc<Pieces> {
        self.index.pieces()
    }

    /// A name and its hash, as the pieces know it.
    pub(crate) fn key<'a>(&self, name: &'a Text) -> Key<'a> {
        let name = name.as_bytes();
        (self.index.hasher.hash(name), name)
    }

    /// An entity's last version up to the head, and the position of one of its versions up to there; 0 is that of
    /// version 0.
    pub(crate) fn version_position(
        &self,
        entity_id: &Text,
        version: Version,
        head: Position,
    ) -> Result<(Version, Option<Position>), ReadError> {
        let key = self.key(entity_id);
        let pieces = self.pieces();
        let last = pieces.count_through(NameKind::Entity, key, head)?;
        let position = match version {
            0 => Some(0),
            _ if version > last => None,
            _ => pieces.nth(NameKind::Entity, key, version)?,
        };
        Ok((last, position))
    }

    /// The last position recorded at or before a time.
    pub(crate) fn position_at(
        &self,
        time: Timestamp,
        head: Position,
    ) -> Result<Position, ReadError> {
        // First the table: what leaves it meanwhile is then in the pieces.
        match self.table.position_at(time, head) {
            0 => Ok(head.min(self.pieces().position_at(time.as_micros())?)),
            position => Ok(position),
        }
    }

    /// The events that a filter lets through, but for partitions and times.
    pub(crate) fn filter_set(&self, filter: &Filter) -> Set {
        self.index.filter(filter)
    }

    /// The positions after one and up to another that were recorded in a time.
    pub(crate) fn recorded_in(
        &self,
        recorded: TimeRange,
        after: Position,
        through: Position,
    ) -> Result<Range<Position>, ReadError> {
        let before = |time: Timestamp| match Timestamp::from_micros(time.as_micros() - 1) {
            Some(just_before) => self.position_at(just_before, through),
            None => Ok(0),
        };
        let after = match recorded.since {
            Some(since) => after.max(before(since)?),
            None => after,
        };
        let last = match recorded.until {
            Some(until) => before(until)?,
            None => through,
        };
        Ok(after + 1..last + 1)
    }

    /// A forward read of what a filter lets through after one position and up to another, which is its head.
    pub(crate) fn reader(
        self: &Arc<Self>,
        filter: &Filter,
        after: Position,
        through: Position,
        partitions: Partitions,
    ) -> Result<Reader, ReadError> {
        let recorded = self.recorded_in(filter.recorded, after, through)?;
        Ok(Reader {
            log: Arc::clone(self),
            set: Arc::new(self.filter_set(filter)),
            residue: Arc::new(Residue {
                partitions: filter.partitions.clone(),
                division: partitions,
                occurred: filter.occurred,
            }),
            range: recorded.start..=recorded.end - 1,
            direction: Direction::Forward,
            limit: u64::MAX,
            head: through,
            pending: Vec::new(),
            scan: Scan::default(),
        })
    }

    /// Where a cursor stands as of the head.
    pub(crate) fn cursor(&self, name: &Text) -> Option<Position> {
        self.cursors.lock().get(name).copied()
    }

    pub(crate) fn stats(&self, partitions: Partitions) -> TenantStats {
        // First the pieces: what they say is sealed is then never beyond the head.
        let pieces = self.pieces();
        let slots = self.slots.lock();
        let head = self.head();
        let mut events_per_partition = vec![0; partitions.count() as usize];
        for (slot, events) in slots.iter().enumerate() {
            events_per_partition[partitions.of_slot(slot) as usize] += events;
        }
        drop(slots);
        let poisoned = match &self.sequencer.lock().state {
            State::Poisoned(reason) => Some(reason.clone()),
            State::Open | State::Closing => None,
        };
        TenantStats {
            head,
            floor: 0,
            entities: pieces.names(NameKind::Entity),
            event_types: pieces.names(NameKind::Type),
            events_per_partition,
            log_bytes: self.log_bytes.load(Ordering::Relaxed),
            log_files: self.table.files() + self.kept.count(),
            sealed: pieces.sealed_through(),
            segments: pieces.segments().len() as u64,
            subscribers: self.waiters.count() as u64,
            recorded_at: self.recorded_at(head).ok().flatten(),
            poisoned,
        }
    }

    /// Refuses appends from now on, what is queued is still written.
    pub(crate) fn refuse_appends(&self) {
        let mut sequencer = self.sequencer.lock();
        if sequencer.state == State::Open {
            sequencer.state = State::Closing;
        }
        self.shared.unsealed.changed.notify_waiters();
    }

    /// Refuses appends, writes what is queued, states that all is durable, and lets go of the files.
    pub(crate) fn close(self: &Arc<Self>) {
        committer::close(self);
        seal::stop(self);
        merge::stop(self);
        compact::stop(self);
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
                    reserve: self.shared.limits.disk_reserve_bytes,
                });
            }
        }
        let last = self.recorded_at.load(Ordering::Relaxed);
        let behind = last.saturating_sub(self.shared.clock.now().as_micros());
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
        let full = available < self.shared.limits.disk_reserve_bytes;
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
