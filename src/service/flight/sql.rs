//! The rows of a statement of SQL as a stream of messages, as those of a scan (`get`): made as the client asks for them, and
//! ended with it. Each message with rows says which head of which log they are read at; without rows, one message without
//! any does.
//!
//! Not here: what a statement may say and how it runs (`engine/sql`).

use arrow::array::RecordBatch;
use futures_util::stream::{self, BoxStream};
use tokio_util::sync::CancellationToken;
use tonic::{Status, metadata::MetadataMap};

use super::{
    super::status::Refusal,
    encode::{Encoder, Message, rows_of_a_message},
    sql_ticket::SqlTicket,
};
use crate::{
    engine::{
        sql::{SqlRequest, SqlRows},
        tenant::Tenant,
    },
    types::{append::Violations, id::LogId, read::AsOf},
};

/// The request metadata that says as of which point of the past statements read: a position, or a time as in RFC 3339.
pub(super) const AS_OF_KEY: &str = "annals-as-of";

/// The messages of a ticket that is a statement.
pub(super) async fn get(
    tenant: &Tenant,
    ticket: SqlTicket,
    metadata_as_of: Option<AsOf>,
    drain: CancellationToken,
) -> Result<BoxStream<'static, Result<Message, Status>>, Refusal> {
    tenant.check_log(ticket.log_id)?;
    let request = SqlRequest {
        statement: ticket.statement,
        parameters: ticket.parameters,
        as_of: ticket.as_of.or(metadata_as_of),
    };
    let rows = tokio::select! {
        biased;
        () = drain.cancelled() => return Err(Refusal::shutting_down()),
        rows = tenant.sql(request) => rows?,
    };
    messages(rows, tenant.log_id(), drain)
}

/// The point of the past that a call's metadata names, if it does.
pub(super) fn as_of(metadata: &MetadataMap) -> Result<Option<AsOf>, Refusal> {
    let mut named = metadata.get_all(AS_OF_KEY).iter();
    let Some(text) = named.next() else {
        return Ok(None);
    };
    let invalid = |told: String| Refusal::invalid(Violations::one(AS_OF_KEY, told));
    if named.next().is_some() {
        return Err(invalid("is given twice: name one point".to_owned()));
    }
    let text = text.to_str().unwrap_or_default();
    let as_of = text.parse().map_err(|e| invalid(format!("{e}")))?;
    Ok(Some(as_of))
}

/// The rows of a statement as messages, the first of which is the schema.
pub(super) fn messages(
    rows: SqlRows,
    log_id: LogId,
    drain: CancellationToken,
) -> Result<BoxStream<'static, Result<Message, Status>>, Refusal> {
    let (encoder, schema) = Encoder::new(rows.schema())?;
    let sending = Sending {
        told: format!(r#"{{"head":{},"log_id":"{log_id}"}}"#, rows.head()),
        rows,
        encoder,
        next: Next::Message(schema),
        some: false,
        drain,
    };
    Ok(Box::pin(stream::unfold(sending, Sending::next)))
}

/// The rows on their way to the client.
struct Sending {
    rows: SqlRows,
    encoder: Encoder,
    /// With each message.
    told: String,
    next: Next,
    /// A message with rows, or with none, was given.
    some: bool,
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
                None => RecordBatch::new_empty(self.rows.schema().clone()),
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
        tokio::select! {
            biased;
            () = self.drain.cancelled() => Err(Refusal::shutting_down()),
            batch = self.rows.next() => Ok(batch?),
        }
    }
}
