//! A client that appends at random, remembers every answer it was given, and can tell whether all of them are true of a
//! log: what was acknowledged stands there, what was refused does not, and the reasons given hold.

use annals::{
    AppendError, Appended, Batch, CursorRecord, Engine, EngineOptions, Event, Expect, GuardFailure,
    Limits, NewEvent, OpenError, Position, Query, QueryItem, ReadRequest, Tenant, TenantId, Text,
    Timestamp, types::time::Clock, types::time::SystemClock,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};
use tokio::runtime::{self, Runtime};
use uuid::Uuid;

use crate::{rng::Rng, sim_disk::SimDisk};

/// Where the stores of the tests live on their disks.
pub(crate) const FOLDER: &str = "/srv/annals";

const ENTITIES: [&str; 5] = ["a", "b", "c", "d", "order 42"];
const TYPES: [&str; 3] = ["opened", "changed", "closed"];
const TAGS: [&str; 4] = ["x", "y", "z", "customer:7"];
const CURSORS: [&str; 2] = ["reader", "worker"];

/// Small files, so that they are often full, and nothing in memory, so that every read asks the disk.
pub(crate) fn options() -> EngineOptions {
    EngineOptions {
        limits: Limits {
            recent_bytes_max: 0,
            log_file_bytes: 6 << 10,
            disk_reserve_bytes: 1 << 20,
            ..Limits::default()
        },
        ..EngineOptions::default()
    }
}

/// As [`options`], and what is complete becomes a segment at once, from which it is read.
pub(crate) fn sealing_options() -> EngineOptions {
    let mut options = options();
    options.limits.seal_events = 10;
    options.limits.seal_backlog_max = usize::MAX;
    options.limits.keep_bytes = 0;
    options.limits.run_fan_in = 2;
    // Large enough that row groups are copied; two segments become one, up to about eight.
    options.limits.row_group_events = 8;
    options.limits.compact_fan_in = 2;
    options.limits.compact_target_bytes = 64 << 10;
    options
}

pub(crate) fn open(disk: &SimDisk) -> Result<Engine, OpenError> {
    open_with(disk, Arc::new(SystemClock), options())
}

pub(crate) fn open_with(
    disk: &SimDisk,
    clock: Arc<dyn Clock>,
    options: EngineOptions,
) -> Result<Engine, OpenError> {
    Engine::open_with(Arc::new(disk.clone()), clock, FOLDER, options)
}

pub(crate) fn runtime() -> Runtime {
    runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

pub(crate) fn default_tenant(runtime: &Runtime, engine: &Engine) -> Tenant {
    runtime
        .block_on(engine.tenant(&TenantId::default()))
        .unwrap()
}

/// All events of a log.
pub(crate) fn read_all(tenant: &Tenant) -> Result<Vec<Event>, annals::ReadError> {
    let mut reader = tenant.read(ReadRequest::default())?;
    let mut all = Vec::new();
    while let Some(events) = reader.next_blocking()? {
        all.extend(events);
    }
    Ok(all)
}

/// A batch, known by its ids, and what became of it, however often it was sent.
#[derive(Debug, Clone)]
struct Sent {
    batch: Batch,
    /// The first answer that it stands in the log.
    stands: Option<Appended>,
    /// An answer said that it may.
    may_stand: bool,
}

/// Whether a cursor stands where a batch put it.
#[derive(Debug, Clone, Copy)]
enum Moved {
    Yes,
    /// If the batch stands, which has no events to tell by.
    Perhaps,
    /// If the batch with this number stands.
    With(usize),
}

/// See the module.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) options: EngineOptions,
    rng: Rng,
    sent: Vec<Sent>,
    /// In the order of the log: which cursor, where to.
    moves: Vec<(Text, Position, Moved)>,
    refusals: Vec<(Batch, AppendError)>,
    /// What may stand or not, in the order of the log.
    unknown: Vec<usize>,
    /// The highest position it was told of.
    head: Position,
}

impl Client {
    pub(crate) fn new(seed: u64) -> Self {
        Self::of(options(), seed)
    }

    /// Of stores that work so.
    pub(crate) fn of(options: EngineOptions, seed: u64) -> Self {
        Self {
            options,
            rng: Rng::new(seed),
            sent: Vec::new(),
            moves: Vec::new(),
            refusals: Vec::new(),
            unknown: Vec::new(),
            head: 0,
        }
    }

    pub(crate) fn open(&self, disk: &SimDisk) -> Result<Engine, OpenError> {
        open_with(disk, Arc::new(SystemClock), self.options.clone())
    }

    /// Sends so many bursts of batches; stops at the first that could not be stored.
    pub(crate) fn work(&mut self, runtime: &Runtime, tenant: &Tenant, bursts: usize) -> bool {
        for _ in 0..bursts {
            let most = if self.rng.chance(10) { 12 } else { 4 };
            let count = 1 + self.rng.below(most);
            let mut numbers = Vec::new();
            for _ in 0..count {
                numbers.push(self.next_batch());
            }
            let batches: Vec<_> = numbers.iter().map(|(batch, _)| batch.clone()).collect();
            let mut failed = false;
            for ((batch, number), outcome) in
                numbers.into_iter().zip(send(runtime, tenant, batches))
            {
                failed |= matches!(
                    outcome,
                    Err(AppendError::NotStored { .. } | AppendError::OutcomeUnknown { .. })
                );
                self.learn(batch, number, outcome);
            }
            if failed {
                return false;
            }
        }
        true
    }

    /// What to send next; with the number of what was sent, if the client means to have it stored.
    fn next_batch(&mut self) -> (Batch, Option<usize>) {
        let rng = &mut self.rng;
        if rng.chance(15) && !self.sent.is_empty() {
            let number = rng.below(self.sent.len());
            return (self.sent[number].batch.clone(), Some(number));
        }
        let mut acknowledged = self.sent.iter().filter(|sent| sent.stands.is_some());
        if let Some(old) = acknowledged.next_back().filter(|_| rng.chance(5)) {
            return (forged(rng, &old.batch), None);
        }
        let mut batch = Batch::new((0..rng.below(4)).map(|_| event(rng)).collect::<Vec<_>>());
        if batch.events.is_empty() || rng.chance(20) {
            batch = batch.with_cursor(CursorRecord {
                name: (*rng.pick(&CURSORS)).into(),
                position: rng.below(self.head as usize + 1) as Position,
                expected: rng.chance(10).then(|| rng.below(4) as Position),
            });
        }
        if rng.chance(30) {
            let expect = match rng.below(4) {
                0 => Expect::Absent,
                1 => Expect::Exists,
                2 => Expect::Any,
                _ => Expect::Version(rng.below(6) as u64),
            };
            batch = batch.expecting(*rng.pick(&ENTITIES), expect);
        }
        if rng.chance(15) {
            let after = self.head.saturating_sub(rng.below(6) as u64);
            batch = batch.unless(query(rng), after);
        }
        let number = (!batch.events.is_empty()).then(|| {
            self.sent.push(Sent {
                batch: batch.clone(),
                stands: None,
                may_stand: false,
            });
            self.sent.len() - 1
        });
        (batch, number)
    }

    fn learn(
        &mut self,
        batch: Batch,
        number: Option<usize>,
        outcome: Result<Appended, AppendError>,
    ) {
        let moved = match &outcome {
            Ok(appended) if appended.duplicate => None,
            Ok(_) => Some(Moved::Yes),
            Err(AppendError::OutcomeUnknown { ids_given, .. }) => {
                assert!(*ids_given, "the client gave all ids");
                Some(number.map_or(Moved::Perhaps, Moved::With))
            }
            Err(_) => None,
        };
        let cursors = moved.iter().flat_map(|moved| {
            let placed = |cursor: &CursorRecord| (cursor.name.clone(), cursor.position, *moved);
            batch.cursors.iter().map(placed)
        });
        self.moves.extend(cursors);
        match outcome {
            Ok(appended) => {
                self.head = self.head.max(appended.last_position);
                match number {
                    Some(number) => {
                        let stands = &mut self.sent[number].stands;
                        if let Some(before) = stands {
                            assert!(appended.duplicate, "{appended:?} was stored as {before:?}");
                        }
                        stands.get_or_insert(appended);
                    }
                    None => assert!(batch.events.is_empty(), "a forged repeat was accepted"),
                }
            }
            Err(AppendError::OutcomeUnknown { .. }) => match number {
                Some(number) => {
                    self.sent[number].may_stand = true;
                    self.unknown.push(number);
                }
                None => assert!(batch.events.is_empty(), "a forged repeat was written"),
            },
            Err(refusal) => self.refusals.push((batch, refusal)),
        }
    }

    /// The highest position that it was told of.
    pub(crate) fn head(&self) -> Position {
        self.head
    }

    /// Whether it was told that anything stands in the log.
    pub(crate) fn was_told(&self) -> bool {
        let moved = |(_, _, moved): &(Text, Position, Moved)| matches!(moved, Moved::Yes);
        self.head > 0 || self.moves.iter().any(moved)
    }

    /// Sends again what may stand or not, in order: each is stored, once.
    pub(crate) fn retry(&mut self, runtime: &Runtime, tenant: &Tenant, context: &str) {
        for number in std::mem::take(&mut self.unknown) {
            let sent = &self.sent[number];
            let batch = sent.batch.clone();
            let outcome = runtime.block_on(tenant.append(batch.clone()));
            assert!(outcome.is_ok(), "{context}: a retry got {outcome:?}");
            self.learn(batch, Some(number), outcome);
        }
    }

    /// Asserts that every answer is true of a log, and that the log is sound.
    pub(crate) fn check(&self, tenant: &Tenant, context: &str) {
        let events = read_all(tenant).unwrap_or_else(|e| panic!("{context}: {e}"));
        assert_eq!(events.len() as u64, tenant.head(), "{context}");
        let mut versions = BTreeMap::new();
        let mut by_id = HashMap::new();
        let mut last_time = Timestamp::MIN;
        for (event, position) in events.iter().zip(1..) {
            assert_eq!(event.position(), position, "{context}: a gap");
            let version = versions.entry(event.entity_id()).or_insert(0);
            *version += 1;
            assert_eq!(event.version(), *version, "{context}: a gap, {event:?}");
            let twice = by_id.insert(event.event_id(), position);
            assert_eq!(twice, None, "{context}: twice, {event:?}");
            assert!(event.recorded_at() >= last_time, "{context}: {event:?}");
            last_time = event.recorded_at();
        }
        assert!(self.head <= tenant.head(), "{context}: the head went back");
        let mut known = 0;
        for sent in &self.sent {
            known += check_sent(sent, &events, &by_id, context);
        }
        assert_eq!(known, events.len(), "{context}: events nobody appended");
        for (batch, refusal) in &self.refusals {
            check_refusal(batch, refusal, &events, &by_id, context);
        }
        self.check_cursors(tenant, &by_id, context);
    }

    fn check_cursors(&self, tenant: &Tenant, by_id: &HashMap<Uuid, Position>, context: &str) {
        for name in CURSORS.map(Text::from) {
            let mut possible = BTreeSet::from([0]);
            for (_, position, moved) in self.moves.iter().filter(|(moved, ..)| *moved == name) {
                let certain = match moved {
                    Moved::Yes => true,
                    Moved::Perhaps => false,
                    Moved::With(number) => {
                        let first = self.sent[*number].batch.events[0].event_id.unwrap();
                        if !by_id.contains_key(&first) {
                            continue;
                        }
                        true
                    }
                };
                if certain {
                    possible.clear();
                }
                possible.insert(*position);
            }
            let stands = tenant.cursor(&name).unwrap_or(0);
            assert!(
                possible.contains(&stands),
                "{context}: cursor {name} is {stands}, not of {possible:?}"
            );
        }
    }
}

/// Hands batches over one behind the other, without waiting, and returns their answers.
pub(crate) fn send(
    runtime: &Runtime,
    tenant: &Tenant,
    batches: Vec<Batch>,
) -> Vec<Result<Appended, AppendError>> {
    runtime.block_on(async {
        let (mut appender, mut answers) = tenant.append_stream();
        let count = batches.len() as u64;
        for (id, batch) in (0..).zip(batches) {
            appender.append(id, batch).await;
        }
        let mut outcomes = Vec::new();
        for expected in 0..count {
            let (id, outcome) = answers.recv().await.unwrap();
            assert_eq!(id, expected, "answers come in the order of their requests");
            outcomes.push(outcome);
        }
        outcomes
    })
}

pub(crate) fn new_id(rng: &mut Rng) -> Uuid {
    Uuid::from_u64_pair(rng.next(), rng.next())
}

fn event(rng: &mut Rng) -> NewEvent {
    // Now and then larger than a whole file.
    let words = if rng.chance(3) { 500 } else { 40 };
    let filler = "payload ".repeat(rng.below(words));
    let payload = format!("{{\"n\":{},\"t\":\"{filler}\"}}", rng.next());
    let mut event =
        NewEvent::new(*rng.pick(&ENTITIES), *rng.pick(&TYPES), payload).with_id(new_id(rng));
    if rng.chance(50) {
        let tags: Vec<_> = (0..rng.below(3)).map(|_| *rng.pick(&TAGS)).collect();
        event = event.with_tags(tags);
    }
    if rng.chance(20) {
        event = event.with_metadata(r#"{"correlation_id":"c"}"#);
    }
    if rng.chance(20) {
        event =
            event.with_occurred_at(Timestamp::from_micros(i64::from(rng.next() as u32)).unwrap());
    }
    event
}

fn query(rng: &mut Rng) -> Query {
    let item = QueryItem {
        event_types: vec![(*rng.pick(&TYPES)).into()],
        tags: vec![(*rng.pick(&TAGS)).into()],
    };
    Query { items: vec![item] }
}

/// Uses ids of a batch that stands for something else.
fn forged(rng: &mut Rng, old: &Batch) -> Batch {
    let mut batch = Batch::new(old.events.clone());
    match rng.below(4) {
        0 => batch.events.push(event(rng)),
        1 => batch.events.insert(0, event(rng)),
        2 => batch.events.last_mut().unwrap().payload = "1".into(),
        _ => batch.events[0].tags.push("forged".into()),
    }
    batch
}

fn same(event: &Event, appended: &NewEvent) -> bool {
    event.entity_id_bytes() == appended.entity_id.as_bytes()
        && event.event_type_bytes() == appended.event_type.as_bytes()
        && event.payload_bytes() == appended.payload.as_bytes()
        && event.metadata_bytes() == appended.metadata.as_ref().map(Text::as_bytes)
        && event
            .tags_bytes()
            .eq(appended.tags.iter().map(Text::as_bytes))
        && event.occurred_at() == appended.occurred_at
}

/// Returns how many events of a batch stand in the log.
fn check_sent(
    sent: &Sent,
    events: &[Event],
    by_id: &HashMap<Uuid, Position>,
    context: &str,
) -> usize {
    let ids = sent.batch.events.iter().map(|e| e.event_id.unwrap());
    let found: Vec<_> = ids.map(|id| by_id.get(&id).copied()).collect();
    let Some(first) = found[0] else {
        assert!(
            found.iter().all(Option::is_none),
            "{context}: half, {sent:?}"
        );
        assert_eq!(sent.stands, None, "{context}: lost");
        return 0;
    };
    assert!(
        sent.stands.is_some() || sent.may_stand,
        "{context}: stands, though it was refused: {sent:?}"
    );
    for (i, (position, appended)) in found.iter().zip(&sent.batch.events).enumerate() {
        let expected = first + i as u64;
        assert_eq!(*position, Some(expected), "{context}: {sent:?}");
        let event = &events[expected as usize - 1];
        assert!(same(event, appended), "{context}: {event:?}, {appended:?}");
        if let Some(told) = &sent.stands {
            assert_eq!(told.first_position, first, "{context}");
            assert_eq!(told.versions[i], event.version(), "{context}");
            assert_eq!(told.recorded_at, event.recorded_at(), "{context}");
        }
    }
    found.len()
}

/// Asserts that what a refusal says is so.
fn check_refusal(
    batch: &Batch,
    refusal: &AppendError,
    events: &[Event],
    by_id: &HashMap<Uuid, Position>,
    context: &str,
) {
    match refusal {
        AppendError::IdReused { id, position } => {
            assert_eq!(by_id.get(id), Some(position), "{context}: {refusal}");
        }
        AppendError::Guard(GuardFailure::Entity {
            entity_id, found, ..
        }) => {
            let of_it = |event: &&Event| event.entity_id_bytes() == entity_id.as_bytes();
            let now = events.iter().filter(of_it).count() as u64;
            assert!(now >= *found, "{context}: {refusal}, now {now}");
        }
        AppendError::Guard(GuardFailure::NoMatch { found, index }) => {
            let annals::Guard::NoMatch { query, after } = &batch.guards[*index] else {
                panic!("{context}: {refusal} is about another guard")
            };
            let event = &events[*found as usize - 1];
            let matches = query.items.iter().any(|item| {
                let of_type = item
                    .event_types
                    .iter()
                    .any(|t| t.as_bytes() == event.event_type_bytes());
                let has = |tag: &Text| event.tags_bytes().any(|found| found == tag.as_bytes());
                of_type && item.tags.iter().all(has)
            });
            assert!(matches && found > after, "{context}: {refusal}, {event:?}");
        }
        AppendError::Guard(GuardFailure::Cursor {
            expected, found, ..
        }) => {
            assert_ne!(expected, found, "{context}");
            assert!(*found <= events.len() as u64, "{context}: {refusal}");
        }
        AppendError::NotStored { .. } => {}
        other => panic!("{context}: {other} was not to be expected"),
    }
}
