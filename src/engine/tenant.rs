//! A tenant, open: what services call.

use std::{slice, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    task::spawn_blocking,
};
use uuid::Uuid;

use super::{
    event::Event,
    ingest::{self, Violated},
    log::{
        Log, RecoveryReport,
        compact::{self, CompactionStats},
        names::NameRows,
        prepared::Prepared,
        read::Reader,
        sequencer::{self, Outcome, Reply, Waiting},
    },
    state::{self, EntityState},
    subscription::{Start, SubscribeRequest, Subscription},
};
use crate::{
    telemetry,
    types::{
        append::{AppendError, Appended, Batch, Violations},
        hash::KeyHasher,
        id::{LogId, Position, TenantId},
        limits::{Limits, PAGE_MAX},
        read::{AsOf, Filter, NameKind, ReadError, ReadRequest},
        slot::Partitions,
        text::Text,
        time::Timestamp,
    },
};

/// Hint for those who find the queue full: about the time to write a tenth of it.
const QUEUE_RETRY: Duration = Duration::from_millis(50);

/// One tenant's events. Cheap to clone.
#[derive(Clone)]
pub struct Tenant {
    pub(super) log: Arc<Log>,
    pub(super) limits: Arc<Limits>,
    pub(super) hasher: KeyHasher,
    pub(super) partitions: Partitions,
    /// Bytes that may wait for the disk, of all tenants.
    pub(super) room: Arc<Semaphore>,
    #[cfg(feature = "sql")]
    pub(super) sql: super::sql::Workers,
}

/// What is known of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantStats {
    /// The last durable position.
    pub head: Position,
    /// The last position removed by retention.
    pub floor: Position,
    /// Number of entities.
    pub entities: u64,
    /// Number of event types.
    pub event_types: u64,
    /// Number of events of each partition, in order.
    pub events_per_partition: Vec<u64>,
    /// Bytes written to the log.
    pub log_bytes: u64,
    /// Files that the log consists of.
    pub log_files: u64,
    /// The last position that stands in a segment.
    pub sealed: Position,
    /// Segments on disk.
    pub segments: u64,
    /// Subscriptions now.
    pub subscribers: u64,
    /// When the last event was recorded.
    pub recorded_at: Option<Timestamp>,
    /// Why appends are refused until a restart.
    pub poisoned: Option<String>,
}

/// What to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListRequest {
    /// Only names that start with this.
    pub prefix: Text,
    /// Only names behind this one.
    pub after: Option<Text>,
    /// At most so many, up to 1,000.
    pub limit: usize,
    /// As of this position; none: the present head.
    pub head: Option<Position>,
}

/// Names in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The names.
    pub names: Vec<NameSummary>,
    /// There are more behind the last one.
    pub more: bool,
    /// The position that the listing was made at.
    pub head: Position,
}

/// An entity or an event type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameSummary {
    /// Its name.
    pub name: Text,
    /// How many events it has.
    pub events: u64,
    /// The first of them.
    pub first_position: Position,
    /// The last of them.
    pub last_position: Position,
}

impl Tenant {
    /// Its name.
    pub fn id(&self) -> &TenantId {
        &self.log.tenant
    }

    /// The incarnation of its log.
    pub fn log_id(&self) -> LogId {
        self.log.log_id
    }

    /// The last durable position.
    pub fn head(&self) -> Position {
        self.log.head()
    }

    /// What opening it found.
    pub fn recovery(&self) -> RecoveryReport {
        self.log.recovery
    }

    /// Appends a batch: all of it or nothing. Returns after it is on disk. A caller that goes away before may have
    /// appended it all the same.
    pub async fn append(&self, batch: Batch) -> Result<Appended, AppendError> {
        self.log.wait_for_seals().await?;
        let bytes = self.room_for(&batch);
        let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(bytes) else {
            return Err(AppendError::QueueFull {
                bytes_max: self.limits.queue_bytes_max,
                retry_after: QUEUE_RETRY,
            });
        };
        let (sender, receiver) = oneshot::channel();
        let waiting = Waiting {
            reply: Reply::Once(sender),
            room: Some(room),
        };
        self.submit(batch, waiting);
        receiver.await.unwrap_or_else(|_| {
            let reason = "the committer ended".to_owned();
            Err(AppendError::OutcomeUnknown {
                reason,
                ids_given: false,
            })
        })
    }

    /// A pipeline of appends: committed and answered in the order they are handed over.
    pub fn append_stream(&self) -> (StreamAppender, StreamAnswers) {
        #[expect(
            clippy::disallowed_methods,
            reason = "what is queued has room of the queue; whoever refuses bounds what it refuses"
        )]
        let (sender, receiver) = mpsc::unbounded_channel();
        let appender = StreamAppender {
            tenant: self.clone(),
            answers: sender,
        };
        (appender, StreamAnswers { answers: receiver })
    }

    fn room_for(&self, batch: &Batch) -> u32 {
        // At least something, so that empty batches are bounded as well; at most all there is.
        let texts: usize = batch.events.iter().map(ingest::row_bytes).sum();
        let bytes = (texts + 256).min(self.limits.queue_bytes_max);
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }

    /// Whether a batch may have so many events: for those who would have to make the events first.
    pub fn check_event_count(&self, events: usize) -> Result<(), AppendError> {
        ingest::check_count(events, &self.limits)
    }

    /// Whether the batch was taken; see [`sequencer::submit`].
    fn submit(&self, batch: Batch, waiting: Waiting) -> bool {
        let room = self.room.available_permits();
        telemetry::queue_bytes(self.limits.queue_bytes_max.saturating_sub(room));
        let prepared = match self.prepare(batch) {
            Ok(prepared) => prepared,
            Err(refused) => {
                sequencer::answer_in_order(&self.log, Err(refused), waiting);
                return false;
            }
        };
        sequencer::submit(&self.log, prepared, waiting)
    }

    fn prepare(&self, batch: Batch) -> Result<Prepared, AppendError> {
        self.log.check_open_for_appends()?;
        if let Some(expected) = batch.log_id.filter(|id| *id != self.log.log_id) {
            return Err(AppendError::OtherLog {
                expected,
                found: self.log.log_id,
            });
        }
        ingest::prepare(batch, &self.limits, self.hasher)
    }

    /// Reads events as of now. Where a time or a version has to be found among sealed events, it looks into the index on
    /// disk; events are read as they are asked for.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a request is made for the call"
    )]
    pub fn read(&self, request: ReadRequest) -> Result<Reader, ReadError> {
        self.check_log(request.log_id)?;
        self.check_filter(&request.filter)?;
        let head = self.log.head();
        let mut through = self.as_of(request.as_of, &request.filter.entity_ids, head)?;
        if request.after > head {
            let field = "filter.after";
            return Err(ReadError::BeyondHead {
                field,
                position: request.after,
                head,
            });
        }
        if let Some(bound) = request.through {
            through = through.min(bound);
        }
        let mut reader =
            self.log
                .reader(&request.filter, request.after, through, self.partitions)?;
        reader.direction = request.direction;
        reader.limit = request.limit.unwrap_or(u64::MAX);
        reader.head = head;
        Ok(reader)
    }

    /// The event at a position.
    pub async fn event(&self, position: Position) -> Result<Event, ReadError> {
        let head = self.log.head();
        if position > head {
            return Err(ReadError::BeyondHead {
                field: "position",
                position,
                head,
            });
        }
        if self.log.is_recent(position) {
            return self.log.event(position);
        }
        let log = Arc::clone(&self.log);
        blocking(move || log.event(position)).await
    }

    /// The event with an id.
    pub async fn event_by_id(&self, id: Uuid) -> Result<Event, ReadError> {
        let log = Arc::clone(&self.log);
        blocking(move || log.event_by_id(id)).await
    }

    /// The merge of an entity's payloads, as of now or of a point in the past.
    pub async fn state(
        &self,
        entity_id: &Text,
        as_of: Option<AsOf>,
    ) -> Result<EntityState, ReadError> {
        check_names(slice::from_ref(entity_id), "entity_id")?;
        let head = self.log.head();
        let (last, _) = self.log.version_position(entity_id, 0, head)?;
        if last == 0 {
            return Err(ReadError::NoSuchEntity(entity_id.clone()));
        }
        let through = self.as_of(as_of, slice::from_ref(entity_id), head)?;
        let filter = Filter {
            entity_ids: vec![entity_id.clone()],
            ..Filter::default()
        };
        let mut reader = self.log.reader(&filter, 0, through, self.partitions)?;
        let mut state = None;
        let mut last = None;
        while let Some(events) = reader.next().await? {
            // What was merged so far goes first, as a payload: memory is bounded by a batch, not by the entity.
            let payloads = state
                .as_deref()
                .into_iter()
                .chain(events.iter().map(Event::payload));
            let merged = state::merge(payloads)
                .expect("payloads were JSON when they were appended, and their checksums hold");
            state = Some(merged);
            last = events.into_iter().next_back().or(last);
        }
        Ok(EntityState {
            version: last.as_ref().map_or(0, Event::version),
            state: state.unwrap_or_else(|| "null".to_owned()),
            position: last.as_ref().map_or(0, Event::position),
            head: through,
            recorded_at: last.as_ref().map(Event::recorded_at),
        })
    }

    /// Entities in the order of their names.
    pub fn list_entities(&self, request: &ListRequest) -> Result<Listing, ReadError> {
        self.list(NameKind::Entity, request)
    }

    /// Event types in the order of their names.
    pub fn list_event_types(&self, request: &ListRequest) -> Result<Listing, ReadError> {
        self.list(NameKind::Type, request)
    }

    fn list(&self, kind: NameKind, request: &ListRequest) -> Result<Listing, ReadError> {
        let now = self.log.head();
        let head = request.head.unwrap_or(now);
        if head > now {
            return Err(ReadError::BeyondHead {
                field: "page_token",
                position: head,
                head: now,
            });
        }
        let limit = request.limit.clamp(1, PAGE_MAX);
        let after = request.after.as_ref().map(Text::as_bytes);
        let pieces = self.log.pieces();
        let mut found = pieces.list(kind, request.prefix.as_bytes(), after, limit + 1, head)?;
        let more = found.len() > limit;
        found.truncate(limit);
        let summary = |name: NameRows| NameSummary {
            name: Text::from(Bytes::from(name.name)),
            events: name.rows,
            first_position: name.first,
            last_position: name.last,
        };
        Ok(Listing {
            names: found.into_iter().map(summary).collect(),
            more,
            head,
        })
    }

    /// Where a cursor stands; 0 if it was never written.
    pub fn cursor(&self, name: &Text) -> Result<Position, ReadError> {
        check_names(slice::from_ref(name), "name")?;
        Ok(self.log.cursor(name).unwrap_or(0))
    }

    /// What is known of the tenant.
    pub fn stats(&self) -> TenantStats {
        self.log.stats(self.partitions)
    }

    /// Starts to compact segments until no two neighbours would fit into one, at full pace. Returns at once; see
    /// [`Tenant::compaction_stats`].
    pub fn compact(&self) -> CompactionStats {
        compact::request(&self.log);
        self.log.compaction_stats()
    }

    /// What is known of the segments and their compaction.
    pub fn compaction_stats(&self) -> CompactionStats {
        self.log.compaction_stats()
    }

    /// Events from a position on, then live.
    pub fn subscribe(&self, request: SubscribeRequest) -> Result<Subscription, ReadError> {
        self.check_log(request.log_id)?;
        self.check_filter(&request.filter)?;
        let head = self.log.head();
        let after = match request.start {
            Start::Head => head,
            Start::After(position) if position <= head => position,
            Start::After(position) => {
                return Err(ReadError::BeyondHead {
                    field: "after",
                    position,
                    head,
                });
            }
        };
        Ok(Subscription::new(
            Arc::clone(&self.log),
            request.filter,
            after,
            self.partitions,
        ))
    }

    pub(crate) fn check_log(&self, log_id: Option<LogId>) -> Result<(), ReadError> {
        match log_id {
            Some(expected) if expected != self.log.log_id => Err(ReadError::OtherLog {
                expected,
                found: self.log.log_id,
            }),
            _ => Ok(()),
        }
    }

    pub(super) fn check_filter(&self, filter: &Filter) -> Result<(), ReadError> {
        let mut violations = Violated::default();
        violations.names(&filter.entity_ids, || "filter.entity_ids".to_owned());
        violations.names(&filter.event_types, || "filter.event_types".to_owned());
        violations.names(&filter.tags, || "filter.tags".to_owned());
        if !filter.event_type_prefix.as_bytes().is_empty() {
            violations.name(&filter.event_type_prefix, || {
                "filter.event_type_prefix".to_owned()
            });
        }
        ingest::check_query(&filter.query, "filter.query", &mut violations);
        let count = self.partitions.count();
        if let Some(wrong) = filter.partitions.iter().find(|p| **p >= count) {
            let what = format!("there is no partition {wrong}: they are 0 to {}", count - 1);
            violations.add("filter.partitions".to_owned(), what);
        }
        violations.into_violations().map_err(ReadError::Invalid)
    }

    /// The position that a point of the past stands for.
    pub(super) fn as_of(
        &self,
        as_of: Option<AsOf>,
        entity_ids: &[Text],
        head: Position,
    ) -> Result<Position, ReadError> {
        match as_of {
            None => Ok(head),
            Some(AsOf::Position(position)) if position <= head => Ok(position),
            Some(AsOf::Position(position)) => Err(ReadError::BeyondHead {
                field: "as_of.position",
                position,
                head,
            }),
            Some(AsOf::RecordedAt(time)) => self.log.position_at(time, head),
            Some(AsOf::Version(version)) => {
                let [entity_id] = entity_ids else {
                    let what = "a version is one entity's: name exactly one";
                    return Err(ReadError::Invalid(Violations::one("as_of.version", what)));
                };
                let (last, position) = self.log.version_position(entity_id, version, head)?;
                position.ok_or_else(|| {
                    let entity_id = entity_id.clone();
                    ReadError::BeyondVersion {
                        entity_id,
                        version,
                        last,
                    }
                })
            }
        }
    }
}

pub(super) fn check_names(names: &[Text], field: &str) -> Result<(), ReadError> {
    let mut violations = Violated::default();
    for name in names {
        violations.name(name, || field.to_owned());
    }
    violations.into_violations().map_err(ReadError::Invalid)
}

/// Works on a thread that may wait for the disk.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    spawn_blocking(work).await.expect("reading does not panic")
}

/// Hands over batches one after the other: see [`Tenant::append_stream`].
pub struct StreamAppender {
    tenant: Tenant,
    answers: mpsc::UnboundedSender<(u64, Outcome)>,
}

impl StreamAppender {
    /// Hands over a batch; waits for room in the queue, not for the answer.
    ///
    /// Returns whether it was taken. One that is refused is answered all the same; who stops then has appended nothing
    /// behind it. A batch that was taken fails only where a write fails, and then so do all behind it.
    pub async fn append(&mut self, request_id: u64, batch: Batch) -> bool {
        if let Err(refused) = self.tenant.log.wait_for_seals().await {
            self.refuse(request_id, refused);
            return false;
        }
        let bytes = self.tenant.room_for(&batch);
        let room = match Arc::clone(&self.tenant.room).try_acquire_many_owned(bytes) {
            Ok(room) => Some(room),
            // It is never closed.
            Err(_) => Arc::clone(&self.tenant.room)
                .acquire_many_owned(bytes)
                .await
                .ok(),
        };
        let reply = Reply::Stream(request_id, self.answers.clone());
        self.tenant.submit(batch, Waiting { reply, room })
    }

    /// Answers, in its turn, a request that is no batch.
    pub fn refuse(&mut self, request_id: u64, error: AppendError) {
        let reply = Reply::Stream(request_id, self.answers.clone());
        let waiting = Waiting { reply, room: None };
        sequencer::answer_in_order(&self.tenant.log, Err(error), waiting);
    }
}

/// The answers to what a [`StreamAppender`] was handed, in that order.
pub struct StreamAnswers {
    answers: mpsc::UnboundedReceiver<(u64, Outcome)>,
}

impl StreamAnswers {
    /// The next answer; `None` once the appender is gone and everything is answered.
    pub async fn recv(&mut self) -> Option<(u64, Result<Appended, AppendError>)> {
        self.answers.recv().await
    }

    /// Waits for an answer and takes those that are there, up to `limit`; 0 once there are no more.
    pub async fn recv_many(
        &mut self,
        into: &mut Vec<(u64, Result<Appended, AppendError>)>,
        limit: usize,
    ) -> usize {
        self.answers.recv_many(into, limit).await
    }
}
