//! Statements of SQL: record batches over Arrow Flight.
//!
//! Not here: going on where a connection broke, as scans do: rows of a statement have no position to go on after.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use arrow_flight::FlightData;
use futures_util::{
    Stream, StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tonic::Streaming;

use super::{
    Client, ClientError,
    retry::Retry,
    scan::{decode, open},
    wire,
};
use crate::types::{
    id::{LogId, Position},
    read::AsOf,
};

/// A ticket that is a statement.
#[derive(Serialize)]
struct Ticket<'a> {
    sql: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    as_of: Option<String>,
}

/// What a message tells of its rows.
#[derive(Deserialize)]
struct Told {
    head: Position,
    log_id: String,
}

impl Client {
    /// Runs a statement that reads, now or as of a point of the past: a position, or a time. The call returns once the
    /// server has planned it, and fails if it refuses. Rows are made as they are asked for.
    ///
    /// ```no_run
    /// # async fn example(client: annals::Client) -> Result<(), annals::ClientError> {
    /// let statement = "select event_type, count(*) from events group by event_type";
    /// let mut rows = client.sql(statement, None).await?;
    /// while let Some(batch) = rows.next().await? {
    ///     println!("{} rows", batch.num_rows());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn sql(
        &self,
        statement: impl AsRef<str>,
        as_of: Option<AsOf>,
    ) -> Result<Rows, ClientError> {
        let ticket = Ticket {
            sql: statement.as_ref(),
            as_of: as_of.map(|point| point.to_string()),
        };
        let ticket = serde_json::to_string(&ticket).expect("texts are JSON");
        let mut retry = Retry::of(&self.options);
        let (stream, schema) = loop {
            match open(self, ticket.clone()).await {
                Ok(opened) => break opened,
                Err(error) => retry.after(error).await?,
            }
        };
        let (schema, read_at) = (Arc::new(schema), Arc::new(Mutex::new(None)));
        let reading = Reading {
            stream,
            schema: Arc::clone(&schema),
            read_at: Arc::clone(&read_at),
        };
        let batches = stream::try_unfold(reading, async |mut reading| {
            let batch = reading.next().await?;
            Ok(batch.map(|batch| (batch, reading)))
        });
        Ok(Rows {
            schema,
            read_at,
            batches: batches.fuse().boxed(),
        })
    }
}

/// Rows of a statement on their way: a stream of batches, which ends after an error. Dropping it ends the statement.
pub struct Rows {
    schema: SchemaRef,
    read_at: Arc<Mutex<Option<(Position, LogId)>>>,
    batches: BoxStream<'static, Result<RecordBatch, ClientError>>,
}

impl Rows {
    /// Of all batches.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The position that the tables are read at, and of which log; `None` until the first batch has come, or the end.
    pub fn read_at(&self) -> Option<(Position, LogId)> {
        *self.read_at.lock()
    }

    /// The next rows, at least one; `None` at the end. Cancel safe.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>, ClientError> {
        self.batches.try_next().await
    }
}

impl Stream for Rows {
    type Item = Result<RecordBatch, ClientError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.batches.poll_next_unpin(cx)
    }
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows")
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}

struct Reading {
    stream: Streaming<FlightData>,
    schema: SchemaRef,
    read_at: Arc<Mutex<Option<(Position, LogId)>>>,
}

impl Reading {
    async fn next(&mut self) -> Result<Option<RecordBatch>, ClientError> {
        while let Some(message) = self.stream.message().await? {
            let rows = decode(&message, &self.schema)
                .ok_or(ClientError::Answer("a record batch of it does not decode"))?;
            let told: Told = serde_json::from_slice(&message.app_metadata)
                .map_err(|_| ClientError::Answer("a record batch does not say what it is of"))?;
            *self.read_at.lock() = Some((told.head, wire::log_id(&told.log_id)?));
            // A statement without rows tells its head with none.
            if rows.num_rows() > 0 {
                return Ok(Some(rows));
            }
        }
        Ok(None)
    }
}
