//! Scans of tables: record batches over Arrow Flight, over connections that may break.
//!
//! Not here: which rows were given and which are left (`scan_progress`).

use std::{
    collections::HashMap,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use arrow::{
    array::RecordBatch,
    buffer::Buffer,
    datatypes::{Schema, SchemaRef},
    ipc::{reader::read_record_batch, root_as_message},
};
use arrow_flight::{FlightData, Ticket};
use futures_util::{
    Stream, StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use tonic::Streaming;

use super::{Client, ClientError, retry::Retry, scan_progress::Progress, wire};
use crate::types::{
    id::{LogId, Position},
    scan::{ScanRequest, Table},
};

impl Client {
    /// Scans a table, as of one head unless it follows. The call returns once the server has opened the scan, and fails
    /// if it refuses.
    ///
    /// A scan that is lost is taken up again where it ended, each row once and of the same cut, for as long as
    /// [`ClientOptions::resume_for`](super::ClientOptions::resume_for) says. To go on in another process, keep
    /// `position` and `log_id` of the last batch and ask `after` it.
    ///
    /// ```no_run
    /// # async fn example(client: annals::Client) -> Result<(), annals::ClientError> {
    /// let request = annals::ScanRequest {
    ///     columns: vec!["position".to_owned(), "payload".to_owned()],
    ///     ..annals::ScanRequest::default()
    /// };
    /// let mut scan = client.scan(&request).await?;
    /// while let Some(batch) = scan.next().await? {
    ///     println!("{} rows, up to position {:?}", batch.rows.num_rows(), batch.position);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// It is a stream too, such as query engines read:
    ///
    /// ```no_run
    /// # async fn example(client: annals::Client) -> Result<(), annals::ClientError> {
    /// use futures_util::TryStreamExt;
    ///
    /// let scan = client.scan(&annals::ScanRequest::default()).await?;
    /// let rows: Vec<_> = scan.map_ok(|batch| batch.rows).try_collect().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn scan(&self, request: &ScanRequest) -> Result<Scan, ClientError> {
        wire::check_texts(&request.filter)?;
        if let Table::Type(event_type) = &request.table {
            wire::string(event_type, "table")?;
        }
        let mut progress = Progress::new(request.clone());
        let mut retry = Retry::of(&self.options);
        let (opened, schema) = loop {
            match open(self, progress.ask()).await {
                Ok(opened) => break opened,
                Err(error) => retry.after(error).await?,
            }
        };
        let schema = Arc::new(schema);
        let reading = Reading {
            client: self.clone(),
            progress,
            schema: Arc::clone(&schema),
            stream: Some(opened),
            retry: None,
        };
        let batches = stream::try_unfold(reading, async |mut reading| {
            let batch = reading.next().await?;
            Ok(batch.map(|batch| (batch, reading)))
        });
        Ok(Scan {
            schema,
            batches: batches.fuse().boxed(),
        })
    }
}

/// A scan on its way: a stream of batches, which ends after an error. Dropping it ends it.
pub struct Scan {
    schema: SchemaRef,
    batches: BoxStream<'static, Result<Scanned, ClientError>>,
}

/// Rows of a scan.
#[derive(Debug, Clone, PartialEq)]
pub struct Scanned {
    /// May be empty: nothing matched up to the position.
    pub rows: RecordBatch,
    /// Everything wanted up to here was given: what follows is a scan `after` it. `None` in a scan of entities.
    pub position: Option<Position>,
    /// The head that the rows were read at.
    pub head: Position,
    /// The log that positions are of.
    pub log_id: LogId,
}

impl Scan {
    /// Of all batches.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The next rows; `None` at the end. One that follows gives an empty batch at least every second. Cancel safe. An
    /// error is final: what could be taken up again was.
    ///
    /// The same as `try_next` of the stream, without a trait to import.
    pub async fn next(&mut self) -> Result<Option<Scanned>, ClientError> {
        self.batches.try_next().await
    }
}

impl Stream for Scan {
    type Item = Result<Scanned, ClientError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.batches.poll_next_unpin(cx)
    }
}

impl fmt::Debug for Scan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scan")
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}

struct Reading {
    client: Client,
    progress: Progress,
    schema: SchemaRef,
    /// `None` once it was lost.
    stream: Option<Streaming<FlightData>>,
    /// Of a scan that is lost, until it gets on.
    retry: Option<Retry>,
}

impl Reading {
    async fn next(&mut self) -> Result<Option<Scanned>, ClientError> {
        loop {
            let lost = match self.receive().await {
                Ok(Some(batch)) => {
                    self.retry = None;
                    return Ok(Some(batch));
                }
                Ok(None) if self.progress.may_end() => return Ok(None),
                Ok(None) => ClientError::Ended,
                // It broke behind the last rows.
                Err(error) if error.is_transient() && self.progress.is_done() => return Ok(None),
                Err(error) => error,
            };
            self.stream = None;
            self.wait(lost).await?;
        }
    }

    /// What was not given before; `None` at the end of the stream.
    async fn receive(&mut self) -> Result<Option<Scanned>, ClientError> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => {
                let (opened, schema) = open(&self.client, self.progress.ask()).await?;
                if schema != *self.schema {
                    let told = "a scan that was taken up again has other columns";
                    return Err(ClientError::Answer(told));
                }
                none.insert(opened)
            }
        };
        while let Some(message) = stream.message().await? {
            let rows = decode(&message, &self.schema)
                .ok_or(ClientError::Answer("a record batch of it does not decode"))?;
            let batch = self.progress.take(rows, &message.app_metadata)?;
            if batch.is_some() {
                return Ok(batch);
            }
        }
        Ok(None)
    }

    /// Waits for the next try; gives the error back if there is none.
    async fn wait(&mut self, lost: ClientError) -> Result<(), ClientError> {
        if self.retry.is_none() && lost.is_transient() {
            let position = self.progress.position();
            tracing::warn!(error = %lost, position, "scan lost, taking it up again");
        }
        let resume_for = self.client.options.resume_for;
        let retry = self.retry.get_or_insert_with(|| Retry::within(resume_for));
        retry.after(lost).await
    }
}

/// Asks the server, and reads the schema, which always comes first.
async fn open(
    client: &Client,
    request: String,
) -> Result<(Streaming<FlightData>, Schema), ClientError> {
    let answer = client.flight.clone().do_get(Ticket::new(request)).await?;
    let mut stream = answer.into_inner();
    let first = stream.message().await?.ok_or(ClientError::Ended)?;
    let schema = Schema::try_from(&first)
        .map_err(|_| ClientError::Answer("it does not begin with a schema"))?;
    Ok((stream, schema))
}

fn decode(message: &FlightData, schema: &SchemaRef) -> Option<RecordBatch> {
    let header = root_as_message(&message.data_header).ok()?;
    let rows = read_record_batch(
        &Buffer::from(message.data_body.clone()),
        header.header_as_record_batch()?,
        Arc::clone(schema),
        &HashMap::new(),
        None,
        &header.version(),
    );
    rows.ok()
}
