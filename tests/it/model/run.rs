//! Does a sequence of operations to an engine and to the model, and compares every answer.

use std::{
    fmt::Debug,
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use tempfile::TempDir;
use tokio::time::timeout;
use uuid::Uuid;

use annals::{
    AppendError, Batch, Delivery, Engine, EngineOptions, EntityState, Event, Limits, ListRequest,
    ReadError, ReadRequest, Reader, Start, SubscribeRequest, Subscription, Tenant, TenantId,
    Timestamp, Violations,
    storage::disk::Disk,
    types::{hash::KeyHasher, time::Clock},
};

use super::{
    super::{compaction::compact, unsynced_disk::UnsyncedDisk},
    names::START_MICROS,
    pick::{self, Pick},
    plain::{Plain, PlainEvent, Verdict},
    plan::{Operation, Reopen, Sequence},
    reads::PlainState,
};

/// Far more than an answer takes on a busy machine.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(20);

/// What kind of engine is checked.
#[derive(Clone)]
pub(super) struct Setup {
    pub(super) hasher: KeyHasher,
    pub(super) recent_bytes_max: usize,
    pub(super) disk: Arc<dyn Disk>,
    /// Events that are sealed at once.
    pub(super) seal_events: u64,
    /// Of a row group: segments of less than a quarter of it are compacted by writing them anew.
    pub(super) row_group_events: usize,
    /// Bytes of sealed log files that are kept.
    pub(super) keep_bytes: u64,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            hasher: KeyHasher::default(),
            recent_bytes_max: 1 << 20,
            disk: Arc::new(UnsyncedDisk::default()),
            seal_events: u64::MAX,
            row_group_events: 4,
            keep_bytes: u64::MAX,
        }
    }
}

/// Stands still until it is moved.
struct StillClock(AtomicI64);

impl Clock for StillClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::Relaxed)).expect("not far from 2026")
    }
}

/// Both sides.
pub(super) struct Run {
    dir: TempDir,
    disk: Arc<dyn Disk>,
    options: EngineOptions,
    clock: Arc<StillClock>,
    pub(super) plain: Plain,
    /// None only between two of them.
    engine: Option<Engine>,
    pub(super) tenant: Tenant,
    following: Vec<Following>,
    ids: u128,
}

/// A subscription that goes on, and how much it has delivered.
struct Following {
    subscription: Subscription,
    request: SubscribeRequest,
    delivered: Vec<PlainEvent>,
}

pub(super) async fn run(sequence: &Sequence, setup: &Setup) {
    let limits = Limits {
        batch_events_max: 40,
        batch_bytes_max: 16 << 10,
        event_bytes_max: 4 << 10,
        recent_bytes_max: setup.recent_bytes_max,
        log_file_bytes: sequence.file_bytes,
        disk_reserve_bytes: 0,
        seal_events: setup.seal_events,
        seal_backlog_max: 2,
        row_group_events: setup.row_group_events,
        run_fan_in: 3,
        compact_fan_in: 3,
        compact_target_bytes: 40 << 10,
        keep_bytes: setup.keep_bytes,
        ..Limits::default()
    };
    let options = EngineOptions {
        limits: limits.clone(),
        hasher: setup.hasher,
        ..EngineOptions::default()
    };
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(StillClock(AtomicI64::new(START_MICROS)));
    let (engine, tenant) = open(&setup.disk, dir.path(), &clock, &options).await;
    let plain = Plain {
        log_id: tenant.log_id(),
        limits,
        events: Vec::new(),
        cursors: std::collections::BTreeMap::new(),
        last_micros: 0,
    };
    let mut run = Run {
        dir,
        disk: Arc::clone(&setup.disk),
        options,
        clock,
        plain,
        engine: Some(engine),
        tenant,
        following: Vec::new(),
        ids: 0,
    };
    for operation in &sequence.operations {
        run.step(operation).await;
    }
    run.reopen(Reopen::Close).await;
    run.read(&ReadRequest::default()).await;
}

async fn open(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    clock: &Arc<StillClock>,
    options: &EngineOptions,
) -> (Engine, Tenant) {
    let (disk, clock) = (Arc::clone(disk), Arc::clone(clock));
    let engine = Engine::open_with(disk, clock, dir, options.clone()).unwrap();
    let tenant = engine.tenant(&TenantId::default()).await.unwrap();
    (engine, tenant)
}

impl Run {
    fn pick(&mut self) -> Pick<'_> {
        Pick {
            plain: &self.plain,
            ids: &mut self.ids,
        }
    }

    async fn step(&mut self, operation: &Operation) {
        match operation {
            Operation::Append(plan) => {
                let batch = self.pick().batch(plan);
                self.append(batch).await;
            }
            Operation::Repeat(plan) => {
                if let Some(batch) = self.pick().repeat(plan) {
                    self.append(batch).await;
                }
            }
            Operation::Read(plan) => {
                let request = self.pick().read(plan);
                self.read(&request).await;
                self.scan(&request).await;
            }
            Operation::Event(plan) => {
                let position = self.pick().position(*plan);
                let found = self.tenant.event(position).await;
                same_event(&found, &self.plain.event(position), &position);
            }
            Operation::EventById(plan) => {
                let event = plan.and_then(|n| self.pick().event(n).map(|event| event.id));
                let id = event.unwrap_or(Uuid::max());
                let found = self.tenant.event_by_id(id).await;
                same_event(&found, &self.plain.event_by_id(id), &id);
            }
            Operation::State(name, as_of) => {
                let entity_id = pick::entity(*name);
                let as_of = as_of.map(|plan| self.pick().as_of(plan));
                let found = self.tenant.state(&entity_id, as_of).await;
                let found = found
                    .as_ref()
                    .map(plain_state)
                    .map_err(|e| bare_read(e.clone()));
                let expected = self.plain.state(&entity_id, as_of);
                assert_eq!(found, expected, "state of {entity_id:?} as of {as_of:?}");
            }
            Operation::List(plan) => {
                let request = self.pick().list(plan);
                self.list(&request, plan.types);
                let head = request.head.unwrap_or(self.plain.head());
                self.scan_entities(head.min(self.plain.head())).await;
            }
            Operation::Cursor(name) => {
                let name = pick::cursor(*name);
                let found = self.tenant.cursor(&name).map_err(bare_read);
                assert_eq!(found, self.plain.cursor(&name), "cursor {name:?}");
            }
            Operation::Stats => self.stats(),
            Operation::Subscribe(filter, start) => {
                let request = SubscribeRequest {
                    filter: self.pick().filter(filter),
                    start: start
                        .map_or(Start::Head, |plan| Start::After(self.pick().position(plan))),
                    log_id: None,
                };
                self.catch_up(request).await;
            }
            Operation::Follow(filter, start) => {
                let request = SubscribeRequest {
                    filter: self.pick().filter(filter),
                    start: Start::After(self.pick().position(*start)),
                    log_id: None,
                };
                if let Ok(subscription) = self.tenant.subscribe(request.clone()) {
                    self.following.push(Following {
                        subscription,
                        request,
                        delivered: Vec::new(),
                    });
                }
            }
            Operation::Reopen(how) => self.reopen(*how).await,
            Operation::Compact => {
                assert_eq!(compact(&self.tenant).last_error, None);
            }
            Operation::Clock(micros) => {
                self.clock.0.fetch_add(*micros, Ordering::Relaxed);
            }
        }
    }

    async fn append(&mut self, batch: Batch) {
        let now = self.clock.0.load(Ordering::Relaxed);
        let verdict = self.plain.judge(&batch, now);
        let found = timeout(ANSWER_TIME_MAX, self.tenant.append(batch.clone())).await;
        let found = found.unwrap_or_else(|_| panic!("no answer to {batch:#?}"));
        let (found, expected) = match (found, verdict) {
            (found, Ok(Verdict::Repeat(expected))) => (found, Ok(expected)),
            (Ok(appended), Ok(Verdict::New)) => {
                let ids = ids(&batch, &appended.event_ids);
                let expected = self.plain.append(&batch, &ids, now);
                (Ok(appended), Ok(expected))
            }
            (Err(refused), Ok(Verdict::New)) => panic!("refused: {refused}; {batch:#?}"),
            (found, Err(expected)) => (found.map_err(bare_append), Err(expected)),
        };
        assert_eq!(found, expected, "{batch:#?}");
        assert_eq!(self.tenant.head(), self.plain.head());
        self.follow().await;
    }

    /// Every subscription delivers what it wants of the new events.
    async fn follow(&mut self) {
        for following in &mut self.following {
            let after = following.delivered.last().map(|event| event.position);
            let after = after.unwrap_or(match following.request.start {
                Start::After(position) => position,
                Start::Head => unreachable!("it started behind a position"),
            });
            let wanted = self.plain.filtered(&following.request.filter, after);
            let mut delivered = Vec::new();
            while delivered.len() < wanted.len() {
                let next = timeout(ANSWER_TIME_MAX, following.subscription.next()).await;
                let next = next.unwrap_or_else(|_| panic!("{:?} hangs", following.request));
                if let Delivery::Events(events) = next.unwrap() {
                    delivered.extend(events.iter().map(PlainEvent::from));
                }
            }
            assert_eq!(delivered, wanted, "{:?}", following.request);
            following.delivered.extend(delivered);
        }
    }

    async fn catch_up(&mut self, request: SubscribeRequest) {
        let subscription = self.tenant.subscribe(request.clone()).map_err(bare_read);
        let start = self.plain.subscribe(&request);
        assert_eq!(subscription.as_ref().err(), start.as_ref().err());
        let (Ok(mut subscription), Ok(start)) = (subscription, start) else {
            return;
        };
        let mut delivered = Vec::new();
        let caught_up = loop {
            let next = timeout(ANSWER_TIME_MAX, subscription.next()).await;
            match next
                .unwrap_or_else(|_| panic!("{request:?} hangs"))
                .unwrap()
            {
                Delivery::Events(events) => delivered.extend(events.iter().map(PlainEvent::from)),
                Delivery::Checkpoint(position) => assert!(position <= self.plain.head()),
                Delivery::CaughtUp(position) => break position,
            }
        };
        let wanted = self.plain.filtered(&request.filter, start);
        assert_eq!(delivered, wanted, "{request:?}");
        assert_eq!(caught_up, self.plain.head(), "{request:?}");
    }

    async fn read(&mut self, request: &ReadRequest) {
        let found = match self.tenant.read(request.clone()) {
            Ok(reader) => {
                assert_eq!(reader.head(), self.plain.head());
                Ok(all(reader).await)
            }
            Err(e) => Err(bare_read(e)),
        };
        assert_eq!(found, self.plain.read(request), "{request:?}");
    }

    /// Goes through all pages.
    fn list(&mut self, request: &ListRequest, types: bool) {
        let (found, expected) = if types {
            let names = |request: &_| self.tenant.list_event_types(request);
            let expected = self.plain.list(request, |event| &event.new.event_type);
            (pages(request, names), expected)
        } else {
            let names = |request: &_| self.tenant.list_entities(request);
            let expected = self.plain.list(request, |event| &event.new.entity_id);
            (pages(request, names), expected)
        };
        assert_eq!(found, expected, "{request:?}");
    }

    fn stats(&mut self) {
        let stats = self.tenant.stats();
        let plain = &self.plain;
        assert_eq!(stats.head, plain.head());
        assert_eq!(stats.floor, 0);
        assert_eq!(stats.entities, plain.count_of(|event| &event.new.entity_id));
        assert_eq!(
            stats.event_types,
            plain.count_of(|event| &event.new.event_type)
        );
        assert_eq!(stats.events_per_partition, plain.events_per_partition());
        assert_eq!(stats.subscribers, self.following.len() as u64);
        let last = plain.events.last().map(|event| event.recorded_at);
        assert_eq!(stats.recorded_at, last);
        assert_eq!(stats.poisoned, None);
    }

    async fn reopen(&mut self, how: Reopen) {
        self.following.clear();
        match how {
            Reopen::Close => {
                self.engine.iter().for_each(Engine::close);
                let batch = Batch::new([annals::NewEvent::new("late", "late", "{}")]);
                let refused = self.tenant.append(batch).await;
                assert!(matches!(
                    refused,
                    Err(AppendError::ShuttingDown | AppendError::ClockBehind { .. })
                ));
            }
            Reopen::Drop => {
                // In flight while the engine goes away, and never waited for.
                let repeats = self.plain.events.iter().take(3);
                for event in repeats {
                    let append = self.tenant.append(Batch::new([event.new.clone()]));
                    drop(timeout(Duration::ZERO, append).await);
                }
            }
        }
        self.engine = None;
        let (engine, tenant) = open(&self.disk, self.dir.path(), &self.clock, &self.options).await;
        self.engine = Some(engine);
        self.tenant = tenant;
        let recovery = self.tenant.recovery();
        assert_eq!(recovery.events, self.plain.head());
        assert_eq!(recovery.cut_bytes, 0);
        assert_eq!(self.tenant.log_id(), self.plain.log_id);
        let log = self.dir.path().join("tenants/default/log");
        let names = fs::read_dir(log).unwrap();
        let paths = names.map(|entry| entry.unwrap().path());
        let is_log = |path: &std::path::PathBuf| path.extension() == Some("log".as_ref());
        let files = paths.filter(is_log).count() as u64;
        assert_eq!(self.tenant.stats().log_files, files);
    }
}

/// The ids that a batch's events have in the end.
fn ids(batch: &Batch, made: &[Uuid]) -> Vec<Uuid> {
    let all_given = batch.events.iter().all(|event| event.event_id.is_some());
    assert_eq!(made.is_empty(), all_given, "{made:?}");
    let ids = batch.events.iter().enumerate().map(|(i, event)| {
        if let (Some(given), Some(stored)) = (event.event_id, made.get(i)) {
            assert_eq!(given, *stored);
        }
        event.event_id.unwrap_or_else(|| made[i])
    });
    ids.collect()
}

async fn all(mut reader: Reader) -> Vec<PlainEvent> {
    let mut events = Vec::new();
    while let Some(batch) = reader.next().await.unwrap() {
        events.extend(batch.iter().map(PlainEvent::from));
    }
    events
}

fn pages(
    request: &ListRequest,
    list: impl Fn(&ListRequest) -> Result<annals::Listing, ReadError>,
) -> Result<(Vec<annals::NameSummary>, annals::Position), ReadError> {
    let mut request = request.clone();
    let mut names: Vec<annals::NameSummary> = Vec::new();
    loop {
        let page = list(&request)?;
        assert!(page.names.len() <= request.limit.max(1));
        assert!(!page.more || page.names.len() == request.limit.max(1));
        names.extend(page.names);
        if !page.more {
            return Ok((names, page.head));
        }
        request.after = names.last().map(|last| last.name.clone());
    }
}

fn same_event(
    found: &Result<Event, ReadError>,
    expected: &Result<PlainEvent, ReadError>,
    asked: &impl Debug,
) {
    let found = found.as_ref().map(PlainEvent::from).map_err(Clone::clone);
    assert_eq!(found, *expected, "{asked:?}");
}

fn plain_state(state: &EntityState) -> PlainState {
    PlainState {
        version: state.version,
        state: serde_json::from_str(&state.state).unwrap(),
        position: state.position,
        head: state.head,
        recorded_at: state.recorded_at,
    }
}

/// Violations without their descriptions, which are for people.
fn bare(mut violations: Violations) -> Violations {
    for violation in &mut violations.0 {
        assert!(!violation.description.is_empty());
        violation.description.clear();
    }
    violations
}

fn bare_append(error: AppendError) -> AppendError {
    match error {
        AppendError::Invalid(violations) => AppendError::Invalid(bare(violations)),
        other => other,
    }
}

pub(super) fn bare_read(error: ReadError) -> ReadError {
    match error {
        ReadError::Invalid(violations) => ReadError::Invalid(bare(violations)),
        other => other,
    }
}
