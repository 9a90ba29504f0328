//! `DoGet`: a scan as a stream of messages.
//!
//! Made when the client asks for the next one, without a task of its own: a slow client costs what one message takes, and
//! one that is gone takes the scan and all that it holds along. Each message with rows says how far it goes, so that who
//! lost the stream asks for what follows.
//!
//! Not here: what a ticket may say (`ticket`), which rows there are (`engine/table`).

use arrow::{
    array::{AsArray, RecordBatch},
    datatypes::{Int64Type, SchemaRef},
    error::ArrowError,
};
use futures_util::stream::{self, BoxStream};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{
    super::status::Refusal,
    encode::{Encoder, Message, rows_of_a_message},
    queries::Running,
};
use crate::{
    engine::{
        table::{Scan, ScanBatch, schema},
        tenant::{Tenant, blocking},
    },
    types::{
        id::{LogId, Position},
        kind::Kind,
        scan::{ScanRequest, Table},
    },
};

/// The column that says where a batch may be cut.
const POSITION: &str = "position";

/// The messages of a scan. `query` is what the stream belongs to, if its ticket was sealed.
pub(super) async fn get(
    tenant: Tenant,
    mut request: ScanRequest,
    query: Option<Running>,
    drain: CancellationToken,
) -> Result<BoxStream<'static, Result<Message, Status>>, Refusal> {
    let given = schema::of(&request.table, &request.columns)?;
    // Read even if it is not given: where a batch becomes several messages, each says how far it goes.
    let has_positions = request.table != Table::Entities;
    if has_positions && given.column_with_name(POSITION).is_none() {
        request.columns.push(POSITION.to_owned());
    }
    let (encoder, schema) = Encoder::new(&given)?;
    let log_id = tenant.log_id();
    let sending = Sending {
        scan: blocking(move || tenant.scan(&request)).await?,
        log_id,
        encoder,
        given,
        next: Next::Message(schema),
        query,
        drain,
    };
    Ok(Box::pin(stream::unfold(sending, Sending::next)))
}

/// A scan on its way to the client.
struct Sending {
    scan: Scan,
    log_id: LogId,
    encoder: Encoder,
    /// The columns that are given: the first ones of those that are scanned.
    given: SchemaRef,
    next: Next,
    query: Option<Running>,
    drain: CancellationToken,
}

/// What comes next.
enum Next {
    Message(Message),
    Batch,
    /// What is left of a batch that is too large for one message.
    Rest(ScanBatch),
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
            Next::Batch => match self.batch().await? {
                Some(batch) => batch,
                None => return Ok(None),
            },
            Next::Nothing => return Ok(None),
        };
        self.encode(batch).map(Some)
    }

    async fn batch(&mut self) -> Result<Option<ScanBatch>, Refusal> {
        let query = self.query.as_ref();
        let cancelled = async {
            match query {
                Some(query) => query.cancelled().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.drain.cancelled() => Err(Refusal::shutting_down()),
            () = cancelled => Err(Refusal::query_cancelled()),
            batch = self.scan.next() => Ok(batch?),
        }
    }

    /// A batch as a message, as far as it fits into one.
    fn encode(&mut self, mut batch: ScanBatch) -> Result<Message, Refusal> {
        let (all, count) = (
            batch.rows.num_rows(),
            rows_of_a_message(&self.given(&batch.rows)?)?,
        );
        let rows = batch.rows.slice(0, count);
        let mut position = batch.position;
        if count < all {
            position = position.map(|at| last_position(&rows).unwrap_or(at));
            batch.rows = batch.rows.slice(count, all - count);
        }
        let told = self.told(position, batch.head);
        let message = self.encoder.rows(&self.given(&rows)?, told)?;
        if count < all {
            self.next = Next::Rest(batch);
        }
        Ok(message)
    }

    fn given(&self, rows: &RecordBatch) -> Result<RecordBatch, Refusal> {
        let columns = self.given.fields().len();
        let given = rows.project(&(0..columns).collect::<Vec<_>>());
        given.map_err(|e| inconsistent(&e))
    }

    fn told(&self, position: Option<Position>, head: Position) -> String {
        let log_id = self.log_id;
        match position {
            Some(position) => {
                format!(r#"{{"position":{position},"head":{head},"log_id":"{log_id}"}}"#)
            }
            None => format!(r#"{{"head":{head},"log_id":"{log_id}"}}"#),
        }
    }
}

fn last_position(rows: &RecordBatch) -> Option<Position> {
    let positions = rows.column_by_name(POSITION)?;
    let positions = positions.as_primitive_opt::<Int64Type>()?;
    Some(positions.values().last()?.cast_unsigned())
}

fn inconsistent(error: &ArrowError) -> Refusal {
    let told = format!("a scan gave other columns than it was asked for: {error}");
    Refusal::new(Kind::Internal, "ENCODING_FAILED", told)
}
