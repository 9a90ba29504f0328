//! Rows as a stream of messages, as those of a scan (`get`): made as the client asks for them, and ended with it. Each
//! message with rows of a statement says which head of which log they are read at; without rows, one message without any
//! does.

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{
    super::{
        super::status::Refusal,
        call::Call,
        encode::{Encoder, Message, rows_of_a_message},
        queries::Running,
    },
    statement::Runs,
};

/// Where rows come from.
pub(super) enum Source {
    Statement(Box<Runs>),
    Batches(BoxStream<'static, Result<RecordBatch, Refusal>>),
}

/// Rows as messages, the first of which is the schema.
pub(super) fn of(
    schema: &SchemaRef,
    source: Source,
    told: String,
    query: Option<Running>,
    call: &Call,
) -> Result<BoxStream<'static, Result<Message, Status>>, Refusal> {
    let (encoder, first) = Encoder::new(schema)?;
    let sending = Sending {
        source,
        schema: SchemaRef::clone(schema),
        told,
        encoder,
        next: Next::Message(first),
        some: false,
        query,
        drain: call.drain.clone(),
    };
    Ok(Box::pin(stream::unfold(sending, Sending::next)))
}

/// The rows on their way to the client.
struct Sending {
    source: Source,
    schema: SchemaRef,
    encoder: Encoder,
    /// With each message.
    told: String,
    next: Next,
    /// A message with rows, or with none, was given.
    some: bool,
    /// `None`: nobody can cancel it but by ending the stream.
    query: Option<Running>,
    drain: CancellationToken,
}

/// What comes next.
enum Next {
    Message(Message),
    Batch,
    /// What is left of a batch that is too large for one message.
    Rest(RecordBatch),
    Nothing,
}

impl Sending {
    async fn next(mut self) -> Option<(Result<Message, Status>, Self)> {
        let message = self.message().await.transpose()?;
        if message.is_err() {
            self.next = Next::Nothing;
        }
        Some((message.map_err(Refusal::into_status), self))
    }

    async fn message(&mut self) -> Result<Option<Message>, Refusal> {
        let batch = match std::mem::replace(&mut self.next, Next::Batch) {
            Next::Message(message) => return Ok(Some(message)),
            Next::Rest(batch) => batch,
            Next::Nothing => return Ok(None),
            Next::Batch => match self.batch().await? {
                Some(batch) => batch,
                None if self.some => return Ok(None),
                None => RecordBatch::new_empty(SchemaRef::clone(&self.schema)),
            },
        };
        self.some = true;
        let (all, count) = (batch.num_rows(), rows_of_a_message(&batch)?);
        let message = self
            .encoder
            .rows(&batch.slice(0, count), self.told.clone())?;
        if count < all {
            self.next = Next::Rest(batch.slice(count, all - count));
        }
        Ok(Some(message))
    }

    async fn batch(&mut self) -> Result<Option<RecordBatch>, Refusal> {
        let query = self.query.as_ref();
        let cancelled = async {
            match query {
                Some(query) => query.cancelled().await,
                None => std::future::pending().await,
            }
        };
        let source = &mut self.source;
        let next = async {
            match source {
                Source::Statement(runs) => runs.next().await,
                Source::Batches(batches) => batches.next().await.transpose(),
            }
        };
        tokio::select! {
            biased;
            () = self.drain.cancelled() => Err(Refusal::shutting_down()),
            () = cancelled => Err(Refusal::query_cancelled()),
            batch = next => batch,
        }
    }
}
