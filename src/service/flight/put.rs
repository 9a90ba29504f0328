//! `DoPut`: a table is uploaded, each of its record batches one append. Of a bulk ingestion of Flight SQL, whose record
//! batches are of whatever size, one that is larger than a batch may be is several appends.
//!
//! A task does both halves: it reads messages, makes batches of them and hands these to the engine without waiting for
//! its answers; and it takes the answers as they come, in the same order. What the client sends faster than it is stored
//! waits in HTTP/2's flow control. What it does not take of its results waits here: clients write a whole table before
//! they look at the first result, so that a small bound would have both wait for each other.
//!
//! Invariants: a result is given for every batch up to the first one that fails, and nothing behind that one is stored.
//! With guards or cursors all rows are one batch, handed over only once it is known that no other follows.
//! What waits to be stored is bounded in number and in the bytes it keeps in memory, which may be more than its texts.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow_flight::{FlightData, PutResult};
use futures_util::stream::{self, BoxStream};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::{
    super::{
        status::{Refusal, from_outside},
        task::AbortOnDrop,
    },
    put_columns,
    put_command::Command,
    put_decode::{DecodedBatch, Decoder, guarded},
    put_schema,
};
use crate::{
    engine::tenant::{StreamAnswers, StreamAppender, Tenant},
    types::{
        append::{AppendError, Batch, Violations},
        event::NewEvent,
        id::{LogId, Position},
    },
};

/// Batches of a stream that the engine has not answered. Beyond, no more are read.
const UNANSWERED_MAX: usize = 256;
/// Bytes of memory that these keep. More than fits into the time of a sync; a larger batch goes alone.
const UNANSWERED_BYTES_MAX: u32 = 64 << 20;
/// Results of a stream that the client has not taken, of some 30 bytes each. Beyond, no more batches are read.
const UNTAKEN_MAX: usize = 1 << 18;

/// An upload, of which the first message was looked at.
pub(super) struct Upload {
    pub(super) tenant: Tenant,
    /// `None`: there is no message.
    pub(super) first: Option<FlightData>,
    pub(super) messages: Streaming<FlightData>,
    pub(super) drain: CancellationToken,
    pub(super) message_bytes_max: usize,
}

/// Appends what the messages hold; what comes out are the results, in order.
pub(super) fn put(upload: Upload) -> BoxStream<'static, Result<PutResult, Status>> {
    let results = begin(upload, None);
    Box::pin(stream::unfold(results, next_result))
}

/// Appends what the messages hold; what comes out is the number of events, at the end.
#[cfg(feature = "sql")]
pub(super) fn ingest(upload: Upload) -> BoxStream<'static, Result<PutResult, Status>> {
    let mut results = begin(upload, Some(Command::default()));
    Box::pin(stream::once(async move {
        let mut events = 0;
        while let Some(stored) = results.untaken.recv().await {
            events += stored.last + 1 - stored.first;
        }
        if let Some(upload) = results.upload.take() {
            upload.join().await?;
        }
        let result = arrow_flight::sql::DoPutUpdateResult {
            record_count: events.cast_signed(),
        };
        Ok(PutResult {
            app_metadata: prost::Message::encode_to_vec(&result).into(),
        })
    }))
}

/// Without a command, the first message has one, and batches are as they come; with one, they are divided.
fn begin(upload: Upload, command: Option<Command>) -> Results {
    let Upload {
        tenant,
        first,
        messages,
        drain,
        message_bytes_max,
    } = upload;
    let log_id = tenant.log_id();
    let (appender, coming) = tenant.append_stream();
    let (handed, waiting) = mpsc::channel(UNANSWERED_MAX);
    let (stored, untaken) = mpsc::channel(UNTAKEN_MAX);
    let reader = Reader {
        tenant,
        first,
        messages,
        appender,
        handed,
        room: Arc::new(Semaphore::new(UNANSWERED_BYTES_MAX as usize)),
        decoder: Decoder::new(message_bytes_max, put_schema::check),
        divides: command.is_some(),
        command,
        batches: 0,
        held: None,
    };
    let answers = Answers {
        coming,
        waiting,
        stored,
    };
    Results {
        untaken,
        log_id,
        upload: Some(AbortOnDrop::spawn(both(reader, answers, drain))),
    }
}

/// Reads and answers until both have come to their end; says how the stream ends.
async fn both(reader: Reader, answers: Answers, drain: CancellationToken) -> Result<(), Status> {
    let mut reading = Box::pin(reader.read(drain));
    let mut answering = Box::pin(answers.pass_on());
    tokio::select! {
        // The first batch that fails is the last that is told of, whatever was read behind it.
        failed = &mut answering => failed,
        // All that was handed over is answered; the last word is why no more was.
        ended = &mut reading => {
            // What it hands over with goes, so that the answers come to an end.
            drop(reading);
            answering.await.and(ended)
        }
    }
}

/// What a batch in flight keeps in memory. The semaphore is never closed, so it is always there.
type Room = Option<OwnedSemaphorePermit>;

struct Reader {
    tenant: Tenant,
    /// Goes before those of the stream.
    first: Option<FlightData>,
    messages: Streaming<FlightData>,
    appender: StreamAppender,
    /// The room of each batch that was handed to the engine, in that order.
    handed: mpsc::Sender<Room>,
    room: Arc<Semaphore>,
    decoder: Decoder,
    /// `None` until the first message.
    command: Option<Command>,
    /// A record batch may be several appends.
    divides: bool,
    /// How many there were.
    batches: u64,
    /// The one that is handed over at the end of the stream.
    held: Option<(Batch, Room)>,
}

/// Why no more is read.
enum End {
    /// There is no more, or the engine refused a batch and answers so.
    Told,
    Refused(Refusal),
    /// As the transport says it.
    Failed(Status),
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Reader {
    /// Hands batches to the engine until the client ends or the server drains; says how it ended.
    async fn read(mut self, drain: CancellationToken) -> Result<(), Status> {
        let drained = drain.cancelled();
        tokio::pin!(drained);
        loop {
            // What is given up here has not been handed over.
            let step = tokio::select! {
                biased;
                () = &mut drained => Err(Refusal::shutting_down().into()),
                step = self.step() => step,
            };
            match step {
                Ok(()) => {}
                Err(End::Told) => return Ok(()),
                Err(End::Refused(refusal)) => return Err(refusal.into_status()),
                Err(End::Failed(status)) => return Err(status),
            }
        }
    }

    /// Takes the next message.
    async fn step(&mut self) -> Result<(), End> {
        let message = match self.first.take() {
            Some(first) => Some(first),
            None => self.messages.message().await.map_err(|status| {
                from_outside(&status).map_or(End::Failed(status), End::Refused)
            })?,
        };
        let Some(message) = message else {
            return self.finish().await;
        };
        let command = match &mut self.command {
            Some(command) => command,
            none => none.insert(
                Command::read(message.flight_descriptor.as_ref())
                    .map_err(AppendError::Invalid)
                    .map_err(Refusal::from)?,
            ),
        };
        // Metadata alone: rows that belong to it may follow, and it means nothing here.
        if message.data_header.is_empty() {
            return Ok(());
        }
        let number = self.batches + 1;
        let in_batch = |refusal: Refusal| refusal.in_batch(number);
        let decoded = self.decoder.decode(&message.data_header, message.data_body);
        let Some(DecodedBatch { rows, bytes }) = decoded.map_err(in_batch)? else {
            return Ok(());
        };
        if command.is_conditional() && number > 1 && rows.num_rows() > 0 {
            return Err(not_one_batch().into());
        }
        if self.divides {
            self.batches = number;
            return self.divide(&rows, bytes).await;
        }
        // Before any is made: columns may say that they have many with few bytes.
        self.tenant
            .check_event_count(rows.num_rows())
            .map_err(|e| in_batch(e.into()))?;
        let events = guarded(|| put_columns::events(&rows))
            .and_then(|events| Ok(events.map_err(AppendError::Invalid)?))
            .map_err(in_batch)?;
        // Nothing to append, and nothing to answer: filters of tables leave such batches.
        if events.is_empty() {
            return Ok(());
        }
        self.batches = number;
        let mut batch = command.batch();
        batch.events = events;
        // Texts keep the message; the columns, some of which were copied, have done their work.
        drop(rows);
        let room = room_for(&self.room, bytes).await;
        if command.is_conditional() {
            self.held = Some((batch, room));
            return Ok(());
        }
        self.hand_over(batch, room).await
    }

    /// Hands rows over in as many batches as it takes; the last of them gives the room back.
    async fn divide(&mut self, rows: &RecordBatch, bytes: usize) -> Result<(), End> {
        let number = self.batches;
        let in_batch = |refusal: Refusal| refusal.in_batch(number);
        let room = room_for(&self.room, bytes).await;
        let mut last: Option<Vec<NewEvent>> = None;
        let mut from = 0;
        while from < rows.num_rows() {
            let count = self.tenant.batch_events_max().min(rows.num_rows() - from);
            let some = rows.slice(from, count);
            let events = guarded(|| put_columns::events(&some))
                .and_then(|events| Ok(events.map_err(AppendError::Invalid)?))
                .map_err(in_batch)?;
            for events in self.tenant.divide(events) {
                if let Some(before) = last.replace(events) {
                    self.hand_over(of_events(before), None).await?;
                }
            }
            from += count;
        }
        match last {
            Some(events) => self.hand_over(of_events(events), room).await,
            None => Ok(()),
        }
    }

    /// The client has sent all there is.
    async fn finish(&mut self) -> Result<(), End> {
        let Some(command) = &mut self.command else {
            let missing = Command::read(None).err().map(AppendError::Invalid);
            return Err(missing.map_or(End::Told, |e| End::Refused(e.into())));
        };
        if !command.is_conditional() {
            return Err(End::Told);
        }
        let mut batch = command.take_batch();
        let room = match self.held.take() {
            Some((held, room)) => {
                batch.events = held.events;
                room
            }
            // Cursors alone; that guards alone are nothing to append says the engine.
            None => room_for(&self.room, 0).await,
        };
        self.hand_over(batch, room).await?;
        Err(End::Told)
    }

    async fn hand_over(&mut self, batch: Batch, room: Room) -> Result<(), End> {
        // It fails once a batch has failed, and then nothing is handed over any more.
        self.handed.send(room).await.map_err(|_| End::Told)?;
        if self.appender.append(self.batches, batch).await {
            Ok(())
        } else {
            Err(End::Told)
        }
    }
}

fn of_events(events: Vec<NewEvent>) -> Batch {
    Batch {
        events,
        ..Batch::default()
    }
}

/// Waits until so many bytes may wait as well; never for ever, however many they are.
async fn room_for(room: &Arc<Semaphore>, bytes: usize) -> Room {
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
    let bytes = bytes.clamp(1, UNANSWERED_BYTES_MAX);
    Arc::clone(room).acquire_many_owned(bytes).await.ok()
}

fn not_one_batch() -> Refusal {
    let told = "the stream has a second record batch, and guards and cursors are about a single one: nothing was \
        stored; make one batch of the table (`combine_chunks()`), and see that it is not divided on the way";
    AppendError::Invalid(Violations::one(Batch::EVENTS, told)).into()
}

/// The engine's half.
struct Answers {
    coming: StreamAnswers,
    /// The room of what is not answered.
    waiting: mpsc::Receiver<Room>,
    stored: mpsc::Sender<Stored>,
}

impl Answers {
    /// Passes on what was stored, until something was not.
    async fn pass_on(mut self) -> Result<(), Status> {
        while let Some((number, answer)) = self.coming.recv().await {
            // The answer gives the room back.
            drop(self.waiting.try_recv());
            let appended =
                answer.map_err(|error| Refusal::from(error).in_batch(number).into_status())?;
            let stored = Stored {
                first: appended.first_position,
                last: appended.last_position,
                duplicate: appended.duplicate,
            };
            if self.stored.send(stored).await.is_err() {
                break;
            }
        }
        Ok(())
    }
}

/// What became of a batch, as small as it can wait to be taken.
struct Stored {
    first: Position,
    last: Position,
    duplicate: bool,
}

struct Results {
    untaken: mpsc::Receiver<Stored>,
    log_id: LogId,
    /// `None` once how it ended was told.
    upload: Option<AbortOnDrop<Result<(), Status>>>,
}

async fn next_result(mut state: Results) -> Option<(Result<PutResult, Status>, Results)> {
    if let Some(stored) = state.untaken.recv().await {
        return Some((Ok(result(&stored, state.log_id)), state));
    }
    let ended = state.upload.take()?.join().await;
    ended.err().map(|status| (Err(status), state))
}

/// What the metadata of a result says, as JSON.
#[derive(Serialize)]
struct Metadata {
    first: Option<Position>,
    last: Option<Position>,
    duplicate: bool,
    log_id: String,
}

fn result(stored: &Stored, log_id: LogId) -> PutResult {
    // A batch of cursors alone has no positions.
    let position = |position: Position| (position > 0).then_some(position);
    let metadata = Metadata {
        first: position(stored.first),
        last: position(stored.last),
        duplicate: stored.duplicate,
        log_id: log_id.to_string(),
    };
    PutResult {
        app_metadata: serde_json::to_vec(&metadata).unwrap_or_default().into(),
    }
}
