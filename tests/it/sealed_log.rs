//! A small log most of which is sealed, to damage; and everything that can be asked of a log, with the right answers.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use arrow::{
    array::{AsArray, RecordBatch},
    compute::concat_batches,
    datatypes::Int64Type,
};

use annals::{
    AppendError, AsOf, Batch, Direction, Engine, EngineOptions, EntityState, Event, Expect, Filter,
    ListRequest, Listing, NewEvent, OpenError, Position, Query, QueryItem, ReadError, ReadRequest,
    ScanRequest, Tenant, Text, Timestamp,
    storage::log::file::{FileHeader, HEADER_BYTES},
};
use tokio::runtime::Runtime;

use crate::{
    rng::Rng,
    sim_disk::SimDisk,
    workload::{default_tenant, new_id, open_with, runtime, sealing_options},
};

/// Events of each batch: ten make up a part.
const BATCHES: [usize; 7] = [2, 1, 1, 2, 1, 1, 2];
const HEAD: Position = 64;
pub(crate) const SEALED: Position = 60;
/// Parts that are sealed.
pub(crate) const PARTS: usize = 6;
const ENTITIES: [&str; 4] = ["order 1", "order 2", "order 3", "order 4"];
const TYPES: [&str; 3] = ["paid", "placed", "sent"];
const TAGS: [&str; 3] = ["x", "y", "rare"];

/// See the module.
pub(crate) struct SealedLog {
    pub(crate) disk: SimDisk,
    pub(crate) options: EngineOptions,
    pub(crate) questions: Vec<Question>,
    pub(crate) answers: Vec<Answer>,
}

/// Something that changes nothing, whatever the answer is.
#[derive(Debug, Clone)]
pub(crate) enum Question {
    Read(ReadRequest),
    Scan(ScanRequest),
    Event(Position),
    EventById(uuid::Uuid),
    State(Text, Option<AsOf>),
    Entities(ListRequest),
    Types(ListRequest),
    /// A batch that is refused, or that stands already.
    Append(Batch),
    Stats,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Answer {
    Events(Vec<Event>),
    Rows(RecordBatch),
    State(EntityState),
    Names(Listing),
    Appended(Result<annals::Appended, AppendError>),
    /// Head, entities, event types, events of each partition, time of the last event.
    Stats(Position, u64, u64, Vec<u64>, Option<Timestamp>),
    Refused(ReadError),
}

impl SealedLog {
    /// `keep_bytes`: of log files of which everything is sealed.
    pub(crate) fn new(keep_bytes: u64) -> Self {
        let mut options = sealing_options();
        options.limits.keep_bytes = keep_bytes;
        options.limits.compact_target_bytes = 1;
        Self::with(options)
    }

    /// Without such log files. All its parts are one segment.
    pub(crate) fn compacted(row_group_events: usize) -> Self {
        let mut options = sealing_options();
        options.limits.row_group_events = row_group_events;
        options.limits.compact_target_bytes = 1 << 20;
        Self::with(options)
    }

    fn with(mut options: EngineOptions) -> Self {
        let (disk, runtime, mut rng) = (SimDisk::new(1), runtime(), Rng::new(1));
        // A run for each part.
        options.limits.run_fan_in = usize::MAX;
        // Every block is read again whenever it is needed.
        options.limits.index_cache_bytes = 0;
        options.limits.segment_cache_bytes = 0;
        let engine = open_sealed(&disk, &options).unwrap();
        let tenant = default_tenant(&runtime, &engine);
        let mut batches = Vec::new();
        for count in BATCHES.into_iter().cycle() {
            let batch = Batch::new((0..count).map(|_| event(&mut rng)).collect::<Vec<_>>());
            runtime.block_on(tenant.append(batch.clone())).unwrap();
            batches.push(batch);
            if tenant.head() == HEAD {
                break;
            }
        }
        wait_until_sealed(&tenant, SEALED);
        crate::compaction::compact(&tenant);
        let events = crate::workload::read_all(&tenant).unwrap();
        let questions = questions(&events, &batches);
        engine.close();
        drop((tenant, engine));

        let mut log = Self {
            disk: disk.restart(),
            options,
            questions,
            answers: Vec::new(),
        };
        let copy = log.disk.restart();
        let engine = open_sealed(&copy, &log.options).unwrap();
        let tenant = default_tenant(&runtime, &engine);
        let ask = |question| ask(&runtime, &tenant, question);
        log.answers = log.questions.iter().map(ask).collect();
        log.check_answers(&events);
        log
    }

    /// What the answers must be, told by the events alone.
    fn check_answers(&self, events: &[Event]) {
        assert_eq!(events.len() as Position, HEAD);
        let (mut duplicates, mut refused) = (0, 0);
        for (question, answer) in self.questions.iter().zip(&self.answers) {
            match (question, answer) {
                (Question::Read(request), Answer::Events(found)) => {
                    let through = through(request, events);
                    let wanted = events.iter().filter(|event| {
                        event.position() <= through && lets_through(&request.filter, event)
                    });
                    let mut wanted: Vec<_> = wanted.cloned().collect();
                    if request.direction == Direction::Backward {
                        wanted.reverse();
                    }
                    assert_eq!(*found, wanted, "{question:?}");
                }
                (Question::Scan(request), Answer::Rows(rows)) => {
                    let wanted = events.iter().filter(|e| lets_through(&request.filter, e));
                    let wanted = wanted.map(|event| event.position().cast_signed());
                    let found = rows.column_by_name("position").unwrap();
                    let found = found.as_primitive::<Int64Type>().values().iter().copied();
                    assert!(found.eq(wanted), "{question:?}");
                }
                (Question::Event(position), Answer::Events(found)) => {
                    assert_eq!(*found, [events[*position as usize - 1].clone()]);
                }
                (Question::EventById(id), Answer::Events(found)) => {
                    assert_eq!(found[0].event_id(), *id);
                }
                (Question::State(name, as_of), Answer::State(state)) => {
                    let request = ReadRequest {
                        filter: of_entity(name.clone()),
                        as_of: *as_of,
                        ..ReadRequest::default()
                    };
                    let through = through(&request, events);
                    let of_it = events.iter().filter(|event| {
                        event.position() <= through && lets_through(&request.filter, event)
                    });
                    assert_eq!(state.version, of_it.count() as u64, "{question:?}");
                }
                (Question::Entities(_), Answer::Names(listing)) => {
                    assert_eq!(listing.names.len(), ENTITIES.len());
                }
                (Question::Types(_), Answer::Names(listing)) => {
                    assert_eq!(listing.names.len(), TYPES.len());
                }
                (Question::Append(_), Answer::Appended(Ok(appended))) => {
                    assert!(appended.duplicate, "{question:?}");
                    duplicates += 1;
                }
                (Question::Append(_), Answer::Appended(Err(AppendError::Guard(_)))) => refused += 1,
                (Question::Stats, Answer::Stats(head, entities, types, ..)) => {
                    assert_eq!((*head, *entities, *types), (HEAD, 4, 3));
                }
                _ => panic!("{answer:?} to {question:?}"),
            }
        }
        assert!(duplicates > 20 && refused >= 3 * ENTITIES.len());
    }

    /// The files below the tenant's folder that have this extension, in order.
    pub(crate) fn files(&self, extension: &str) -> Vec<PathBuf> {
        let mut files = self.disk.files();
        files.retain(|path| path.extension() == Some(extension.as_ref()));
        files
    }

    /// Segments and runs; of those, the files that answers need: the others' events still stand in a log file.
    pub(crate) fn needed(&self, extension: &str) -> Vec<PathBuf> {
        let mut files = self.files(extension);
        if extension == "parquet" {
            let kept = self.kept_files().len();
            let first = self.first_position(&self.files("log")[kept]);
            let starts_before = |path: &PathBuf| {
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                name[..20].parse::<Position>().unwrap() < first
            };
            files.retain(starts_before);
        }
        files
    }

    /// Of a log file.
    fn first_position(&self, path: &Path) -> Position {
        let bytes = self.disk.content(path);
        let header = FileHeader::decode(&bytes[..HEADER_BYTES]).unwrap();
        header.first_position
    }

    pub(crate) fn manifest(&self) -> PathBuf {
        let mut files = self.disk.files();
        files.retain(|path| path.ends_with("manifest"));
        files.pop().unwrap()
    }

    /// The log files of which everything is sealed: the first positions of those behind them tell.
    pub(crate) fn kept_files(&self) -> Vec<PathBuf> {
        let files = self.files("log");
        let next = files.iter().skip(1);
        let pairs = files.iter().zip(next);
        let kept = pairs.filter(|(_, next)| self.first_position(next) <= SEALED);
        kept.map(|(file, _)| file.clone()).collect()
    }

    /// Opens a store one of whose files was damaged and asks what is chosen: each answer is right, or names the file.
    /// Returns how often the damage was told.
    pub(crate) fn ask_damaged(
        &self,
        disk: &SimDisk,
        path: &Path,
        chosen: impl Fn(usize) -> bool,
        context: &str,
    ) -> usize {
        let context = format!("{} {context}", path.display());
        let engine = match open_sealed(disk, &self.options) {
            Ok(engine) => engine,
            Err(OpenError::Damaged(damage)) => {
                assert_eq!(damage.path, path, "{context}: {damage}");
                return 1;
            }
            Err(other) => panic!("{context}: {other}"),
        };
        let runtime = runtime();
        let tenant = default_tenant(&runtime, &engine);
        let mut told = 0;
        let pairs = self.questions.iter().zip(&self.answers).enumerate();
        for (_, (question, right)) in pairs.filter(|(number, _)| chosen(*number)) {
            match ask(&runtime, &tenant, question) {
                answer if answer == *right => {}
                Answer::Refused(ReadError::Damaged(damage))
                | Answer::Appended(Err(AppendError::Damaged(damage))) => {
                    assert_eq!(damage.path, path, "{context}: {damage}, to {question:?}");
                    told += 1;
                }
                wrong => panic!("{context}: {wrong:?} to {question:?}, not {right:?}"),
            }
        }
        told
    }
}

pub(crate) fn open_sealed(disk: &SimDisk, options: &EngineOptions) -> Result<Engine, OpenError> {
    let clock = std::sync::Arc::new(annals::types::time::SystemClock);
    open_with(disk, clock, options.clone())
}

/// Returns once all up to a position is sealed.
pub(crate) fn wait_until_sealed(tenant: &Tenant, through: Position) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while tenant.stats().sealed < through {
        assert!(Instant::now() < deadline, "it is never sealed");
        std::thread::yield_now();
    }
}

fn event(rng: &mut Rng) -> NewEvent {
    let payload = format!(r#"{{"amount":{}}}"#, rng.below(1_000));
    let tags = if rng.chance(10) { "rare" } else { "x" };
    let event = NewEvent::new(*rng.pick(&ENTITIES), *rng.pick(&TYPES), payload)
        .with_id(new_id(rng))
        .with_tags([tags, "y"]);
    if rng.chance(50) {
        event.with_metadata(r#"{"source":"it"}"#)
    } else {
        event
    }
}

fn of_entity(name: impl Into<Text>) -> Filter {
    Filter {
        entity_ids: vec![name.into()],
        ..Filter::default()
    }
}

fn questions(events: &[Event], batches: &[Batch]) -> Vec<Question> {
    let mut filters = vec![Filter::default()];
    filters.extend(ENTITIES.map(of_entity));
    filters.extend(TYPES.map(|name| Filter {
        event_types: vec![name.into()],
        ..Filter::default()
    }));
    filters.extend(TAGS.map(|name| Filter {
        tags: vec![name.into()],
        ..Filter::default()
    }));
    filters.push(Filter {
        event_type_prefix: "p".into(),
        ..Filter::default()
    });
    let mut questions = vec![Question::Stats];
    for filter in filters {
        let scan = Question::Scan(ScanRequest {
            filter: filter.clone(),
            ..ScanRequest::default()
        });
        questions.push(scan);
        for direction in [Direction::Forward, Direction::Backward] {
            questions.push(Question::Read(ReadRequest {
                filter: filter.clone(),
                direction,
                ..ReadRequest::default()
            }));
        }
    }
    for event in events {
        questions.push(Question::Event(event.position()));
        questions.push(Question::EventById(event.event_id()));
        let as_of = AsOf::RecordedAt(event.recorded_at());
        questions.push(Question::Read(ReadRequest {
            as_of: Some(as_of),
            ..ReadRequest::default()
        }));
        let as_of = AsOf::Version(event.version());
        questions.push(Question::State(event.entity_id().into(), Some(as_of)));
    }
    let list = ListRequest {
        limit: 100,
        ..ListRequest::default()
    };
    questions.push(Question::Entities(list.clone()));
    questions.push(Question::Types(list));
    questions.extend(batches.iter().cloned().map(Question::Append));
    let mut rng = Rng::new(2);
    for name in ENTITIES {
        questions.push(Question::State(name.into(), None));
        for expect in [Expect::Absent, Expect::Version(1)] {
            let batch = Batch::new([event(&mut rng)]).expecting(name, expect);
            questions.push(Question::Append(batch));
        }
        let item = QueryItem {
            event_types: Vec::new(),
            tags: vec!["rare".into()],
        };
        let query = Query { items: vec![item] };
        let batch = Batch::new([event(&mut rng)]).unless(query, 0);
        questions.push(Question::Append(batch));
    }
    questions
}

fn ask(runtime: &Runtime, tenant: &Tenant, question: &Question) -> Answer {
    let answered = match question {
        Question::Read(request) => read(tenant, request).map(Answer::Events),
        Question::Scan(request) => runtime.block_on(scan(tenant, request)).map(Answer::Rows),
        Question::Event(position) => runtime
            .block_on(tenant.event(*position))
            .map(|event| Answer::Events(vec![event])),
        Question::EventById(id) => runtime
            .block_on(tenant.event_by_id(*id))
            .map(|event| Answer::Events(vec![event])),
        Question::State(name, as_of) => runtime
            .block_on(tenant.state(name, *as_of))
            .map(Answer::State),
        Question::Entities(request) => tenant.list_entities(request).map(Answer::Names),
        Question::Types(request) => tenant.list_event_types(request).map(Answer::Names),
        Question::Append(batch) => Ok(Answer::Appended(
            runtime.block_on(tenant.append(batch.clone())),
        )),
        Question::Stats => {
            let stats = tenant.stats();
            Ok(Answer::Stats(
                stats.head,
                stats.entities,
                stats.event_types,
                stats.events_per_partition,
                stats.recorded_at,
            ))
        }
    };
    answered.unwrap_or_else(Answer::Refused)
}

fn read(tenant: &Tenant, request: &ReadRequest) -> Result<Vec<Event>, ReadError> {
    let mut reader = tenant.read(request.clone())?;
    let mut all = Vec::new();
    while let Some(events) = reader.next_blocking()? {
        all.extend(events);
    }
    Ok(all)
}

/// All rows, gathered; an error comes again.
async fn scan(tenant: &Tenant, request: &ScanRequest) -> Result<RecordBatch, ReadError> {
    let mut scan = tenant.scan(request)?;
    let mut batches = Vec::new();
    loop {
        match scan.next().await {
            Ok(Some(batch)) => batches.push(batch.rows),
            Ok(None) => return Ok(concat_batches(scan.schema(), &batches).unwrap()),
            Err(error) => {
                assert_eq!(scan.next().await.err().as_ref(), Some(&error));
                return Err(error);
            }
        }
    }
}

/// The position that a request sees the log at.
fn through(request: &ReadRequest, events: &[Event]) -> Position {
    let last = |wanted: &dyn Fn(&Event) -> bool| {
        let found = events.iter().filter(|event| wanted(event));
        found.map(Event::position).max().unwrap()
    };
    match request.as_of {
        None => HEAD,
        Some(AsOf::Position(position)) => position,
        Some(AsOf::RecordedAt(time)) => last(&|event| event.recorded_at() <= time),
        Some(AsOf::Version(version)) => last(&|event| {
            event.entity_id_bytes() == request.filter.entity_ids[0].as_bytes()
                && event.version() == version
        }),
    }
}

fn lets_through(filter: &Filter, event: &Event) -> bool {
    let any = |names: &[Text], name: &[u8]| {
        names.is_empty() || names.iter().any(|n| n.as_bytes() == name)
    };
    let has = |tag: &Text| event.tags_bytes().any(|found| found == tag.as_bytes());
    any(&filter.entity_ids, event.entity_id_bytes())
        && any(&filter.event_types, event.event_type_bytes())
        && event
            .event_type_bytes()
            .starts_with(filter.event_type_prefix.as_bytes())
        && filter.tags.iter().all(has)
}
