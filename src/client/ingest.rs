//! Appends tables: record batches over Arrow Flight, column by column as they are.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use arrow::array::RecordBatch;
use arrow_flight::{FlightData, FlightDescriptor, PutResult};
use futures_util::{
    Stream, StreamExt,
    stream::{BoxStream, Fuse},
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tonic::{Response, Streaming};

use super::{
    Client, ClientError,
    ingest_encode::{Encoder, with_ids},
    retry::Retry,
    wire,
};
use crate::types::{
    append::{CursorRecord, Expect, Guard, QueryItem, Violations},
    id::{LogId, Position, Version},
};

/// Batches that are sent and whose results were not taken; beyond, no more are asked for.
const UNANSWERED_MAX: usize = 64;

/// What must hold for a table to be appended, and what is committed with it. By default nothing.
///
/// With guards or cursors the table is one record batch; the server refuses a second one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IngestOptions {
    /// All must hold.
    pub guards: Vec<Guard>,
    /// Committed with the rows.
    pub cursors: Vec<CursorRecord>,
    /// Refuse unless the log has this id.
    pub log_id: Option<LogId>,
}

/// What became of a record batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ingested {
    /// 0 if there were only cursors.
    pub first_position: Position,
    /// 0 if there were only cursors.
    pub last_position: Position,
    /// The batch already stood in the log.
    pub duplicate: bool,
    /// The log it stands in.
    pub log_id: LogId,
}

impl Client {
    /// Appends record batches, each of them whole or not at all, in their order; they are sent without waiting for the
    /// results of those before. All have the same columns: `entity_id`, `event_type` and `payload`, and optionally
    /// `event_id`, `occurred_at`, `metadata` and `tags`. Without batches only the cursors are committed.
    ///
    /// Rows get ids if they come without the column `event_id`, so that batches whose results were lost can be sent
    /// again: the server then answers with the positions of the first time. It looks for repeats at least in the last
    /// 1,000,000 events of the tenant.
    ///
    /// `batches` is polled by the connection, and must not block.
    ///
    /// ```no_run
    /// # async fn example(client: annals::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// use std::sync::Arc;
    /// use arrow::array::{RecordBatch, StringArray};
    /// use annals::IngestOptions;
    ///
    /// let text = |text: &'static str| Arc::new(StringArray::from_iter_values([text])) as _;
    /// let batch = RecordBatch::try_from_iter([
    ///     ("entity_id", text("order-42")),
    ///     ("event_type", text("order.paid")),
    ///     ("payload", text(r#"{"amount": 12.5}"#)),
    /// ])?;
    /// let mut results = client.ingest(tokio_stream::iter([batch]), &IngestOptions::default())?;
    /// while let Some(ingested) = results.next().await? {
    ///     println!("positions {} to {}", ingested.first_position, ingested.last_position);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn ingest(
        &self,
        batches: impl Stream<Item = RecordBatch> + Send + 'static,
        options: &IngestOptions,
    ) -> Result<Ingesting, ClientError> {
        Ok(Ingesting {
            client: self.clone(),
            descriptor: FlightDescriptor::new_cmd(command(options)?),
            as_one: !(options.guards.is_empty() && options.cursors.is_empty()),
            source: Source::new(Box::pin(batches)),
            owed: !(options.guards.is_empty() && options.cursors.is_empty()),
            results: None,
            retry: Retry::of(&self.options),
            failed: false,
        })
    }
}

/// A table on its way. Dropping it ends the call; what was sent and not answered may be stored or not.
pub struct Ingesting {
    client: Client,
    descriptor: FlightDescriptor,
    as_one: bool,
    source: Source,
    /// The one result is to come that there is even without a batch.
    owed: bool,
    /// `None` before the first try, and after one that was lost.
    results: Option<Streaming<PutResult>>,
    retry: Retry,
    /// An error was told.
    failed: bool,
}

impl Ingesting {
    /// The next result, in the order of the batches; `None` once all are stored. After an error nothing more comes, and
    /// nothing behind the batch that it is about is stored.
    pub async fn next(&mut self) -> Result<Option<Ingested>, ClientError> {
        if self.failed {
            return Ok(None);
        }
        let next = self.next_result().await;
        self.failed = next.is_err();
        next
    }

    async fn next_result(&mut self) -> Result<Option<Ingested>, ClientError> {
        loop {
            let ended = match self.try_next().await {
                Ok(Some(result)) => {
                    self.source.answered();
                    self.owed = false;
                    // It got on: the next loss is another one.
                    self.retry = Retry::of(&self.client.options);
                    return ingested(&result).map(Some);
                }
                Ok(None) => ClientError::Ended,
                Err(error) => error,
            };
            // What was wrong with the batches is not what the server has to say of it.
            if let Some(wrong) = self.source.take_failure() {
                return Err(wrong);
            }
            // However the stream came to its end behind the last result: sent again, guards would fail without rows.
            if ended.is_transient() && !self.owed && self.source.is_answered() {
                return Ok(None);
            }
            self.results = None;
            self.retry.after(ended).await?;
        }
    }

    async fn try_next(&mut self) -> Result<Option<PutResult>, ClientError> {
        let results = match &mut self.results {
            Some(results) => results,
            none => {
                let sending = self.source.send(self.descriptor.clone(), self.as_one);
                let answer = self.client.flight.clone().do_put(sending).await;
                none.insert(answer.map(Response::into_inner)?)
            }
        };
        Ok(results.message().await?)
    }
}

/// The batches, and those that are sent and not answered. Whoever sends takes from here, and so does the next try.
#[derive(Clone)]
struct Source(Arc<Mutex<Batches>>);

struct Batches {
    rest: Fuse<BoxStream<'static, RecordBatch>>,
    /// Sent, or about to be sent again, and not answered.
    unanswered: VecDeque<RecordBatch>,
    /// How many of these this try has sent.
    sent: usize,
    /// Who waits to send more.
    waiting: Option<Waker>,
    /// The number of the try: what is left of an earlier one takes nothing any more.
    attempt: u64,
    failure: Option<ClientError>,
}

impl Source {
    fn new(rest: BoxStream<'static, RecordBatch>) -> Self {
        Self(Arc::new(Mutex::new(Batches {
            rest: rest.fuse(),
            unanswered: VecDeque::new(),
            sent: 0,
            waiting: None,
            attempt: 0,
            failure: None,
        })))
    }

    /// The messages of a new try: first what was not answered, then the rest.
    fn send(&self, descriptor: FlightDescriptor, as_one: bool) -> Sending {
        let mut batches = self.0.lock();
        batches.attempt += 1;
        batches.sent = 0;
        Sending {
            source: self.clone(),
            attempt: batches.attempt,
            encoder: Encoder::new(descriptor),
            as_one,
            held: None,
            ready: VecDeque::new(),
            ended: false,
        }
    }

    fn answered(&self) {
        let mut batches = self.0.lock();
        batches.unanswered.pop_front();
        batches.sent = batches.sent.saturating_sub(1);
        if let Some(waiting) = batches.waiting.take() {
            waiting.wake();
        }
    }

    /// There are no more batches, and all have their results.
    fn is_answered(&self) -> bool {
        let batches = self.0.lock();
        batches.unanswered.is_empty() && batches.rest.is_done()
    }

    fn take_failure(&self) -> Option<ClientError> {
        self.0.lock().failure.take()
    }
}

impl Batches {
    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<RecordBatch, ClientError>>> {
        if let Some(batch) = self.unanswered.get(self.sent) {
            self.sent += 1;
            return Poll::Ready(Some(Ok(batch.clone())));
        }
        if self.unanswered.len() >= UNANSWERED_MAX {
            self.waiting = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let batch = loop {
            match ready!(self.rest.poll_next_unpin(cx)) {
                None => return Poll::Ready(None),
                // Nothing to append, and nothing is answered.
                Some(batch) if batch.num_rows() == 0 => {}
                Some(batch) => break batch,
            }
        };
        Poll::Ready(Some(with_ids(batch).inspect(|batch| {
            self.unanswered.push_back(batch.clone());
            self.sent += 1;
        })))
    }
}

/// The messages of one try. What is wrong with a batch ends them, and is told once all before it is answered.
struct Sending {
    source: Source,
    attempt: u64,
    encoder: Encoder,
    /// Nothing is sent until it is known that there is a single batch.
    as_one: bool,
    held: Option<RecordBatch>,
    ready: VecDeque<FlightData>,
    ended: bool,
}

impl Sending {
    /// What is to be sent next; `None` if this try is over.
    fn poll_encoded(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Vec<FlightData>, ClientError>>> {
        loop {
            let mut batches = self.source.0.lock();
            if batches.attempt != self.attempt {
                return Poll::Ready(None);
            }
            let next = ready!(batches.poll_next(cx));
            drop(batches);
            let encoded = match next {
                Some(Ok(batch)) if self.as_one => {
                    if self.held.replace(batch).is_none() {
                        continue;
                    }
                    Err(not_one_batch())
                }
                Some(Ok(batch)) => self.encoder.encode(&batch),
                Some(Err(wrong)) => Err(wrong),
                None => {
                    self.ended = true;
                    match self.held.take() {
                        Some(batch) => self.encoder.encode(&batch),
                        // Without rows too, the server has to learn what is asked for.
                        None => Ok(self.encoder.finish().into_iter().collect()),
                    }
                }
            };
            return Poll::Ready(Some(encoded));
        }
    }
}

fn not_one_batch() -> ClientError {
    let told = "is a second record batch, and guards and cursors are about a single one: make one of them \
        (`concat_batches`)";
    ClientError::Invalid(Violations::one("batches", told))
}

impl Stream for Sending {
    type Item = FlightData;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<FlightData>> {
        while self.ready.is_empty() && !self.ended {
            match ready!(self.poll_encoded(cx)) {
                Some(Ok(messages)) => self.ready.extend(messages),
                Some(Err(wrong)) => {
                    self.ended = true;
                    self.source.0.lock().failure = Some(wrong);
                }
                None => self.ended = true,
            }
        }
        Poll::Ready(self.ready.pop_front())
    }
}

fn ingested(result: &PutResult) -> Result<Ingested, ClientError> {
    #[derive(Deserialize)]
    struct Stored {
        first: Option<Position>,
        last: Option<Position>,
        duplicate: bool,
        log_id: String,
    }
    let stored: Stored = serde_json::from_slice(&result.app_metadata)
        .map_err(|_| ClientError::Answer("the metadata of its result is not what it should be"))?;
    Ok(Ingested {
        first_position: stored.first.unwrap_or(0),
        last_position: stored.last.unwrap_or(0),
        duplicate: stored.duplicate,
        log_id: wire::log_id(&stored.log_id)?,
    })
}

/// What the descriptor says, as JSON.
fn command(options: &IngestOptions) -> Result<Vec<u8>, ClientError> {
    let guards = options.guards.iter().enumerate();
    let cursors = options.cursors.iter().enumerate();
    let command = CommandJson {
        table: "events",
        guards: guards
            .map(|(i, guard)| guard_json(guard, &format!("guards[{i}]")))
            .collect::<Result<_, _>>()?,
        cursors: cursors
            .map(|(i, cursor)| {
                Ok(CursorJson {
                    name: wire::string(&cursor.name, &format!("cursors[{i}].name"))?,
                    position: cursor.position,
                    expected: cursor.expected,
                })
            })
            .collect::<Result<_, ClientError>>()?,
        log_id: options.log_id.map(|id| id.to_string()),
    };
    serde_json::to_vec(&command)
        .map_err(|e| ClientError::Invalid(Violations::one("options", e.to_string())))
}

#[derive(Serialize)]
struct CommandJson {
    table: &'static str,
    guards: Vec<GuardJson>,
    cursors: Vec<CursorJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    log_id: Option<String>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum GuardJson {
    Expect {
        entity: String,
        expect: &'static str,
    },
    Version {
        entity: String,
        version: Version,
    },
    NoMatch {
        no_match: Vec<ItemJson>,
        after: Position,
    },
}

#[derive(Serialize)]
struct ItemJson {
    types: Vec<String>,
    tags: Vec<String>,
}

#[derive(Serialize)]
struct CursorJson {
    name: String,
    position: Position,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected: Option<Position>,
}

fn guard_json(guard: &Guard, field: &str) -> Result<GuardJson, ClientError> {
    match guard {
        Guard::Entity { entity_id, expect } => {
            let entity = wire::string(entity_id, field)?;
            let expect = match *expect {
                Expect::Any => "any",
                Expect::Absent => "absent",
                Expect::Exists => "exists",
                Expect::Version(version) => return Ok(GuardJson::Version { entity, version }),
            };
            Ok(GuardJson::Expect { entity, expect })
        }
        Guard::NoMatch { query, after } => {
            let item = |item: &QueryItem| {
                Ok(ItemJson {
                    types: wire::strings(&item.event_types, field)?,
                    tags: wire::strings(&item.tags, field)?,
                })
            };
            Ok(GuardJson::NoMatch {
                no_match: query
                    .items
                    .iter()
                    .map(item)
                    .collect::<Result<_, ClientError>>()?,
                after: *after,
            })
        }
    }
}
