//! Scans of tables: record batches over Arrow Flight.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::RecordBatch,
    buffer::Buffer,
    datatypes::{Schema, SchemaRef},
    ipc::{reader::read_record_batch, root_as_message},
};
use arrow_flight::{FlightData, Ticket};
use serde::Deserialize;
use tonic::Streaming;

use super::{Client, ClientError, retry::Retry, wire};
use crate::types::{
    id::{LogId, Position},
    scan::{ScanRequest, Table},
};

impl Client {
    /// Scans a table. The call returns once the server has opened the scan; a scan that is lost later is not resumed, but
    /// each batch says from where to go on.
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
    pub async fn scan(&self, request: &ScanRequest) -> Result<Scan, ClientError> {
        wire::check_texts(&request.filter)?;
        if let Table::Type(event_type) = &request.table {
            wire::string(event_type, "table")?;
        }
        let ticket = Ticket::new(request.to_json());
        let mut retry = Retry::of(&self.options);
        loop {
            let opened = async {
                let answer = self.flight.clone().do_get(ticket.clone()).await?;
                let mut stream = answer.into_inner();
                // The schema always comes first.
                let first = stream.message().await?;
                Ok::<_, ClientError>((stream, first))
            };
            match opened.await {
                Ok((stream, Some(first))) => {
                    let schema = Schema::try_from(&first)
                        .map_err(|_| ClientError::Answer("it does not begin with a schema"))?;
                    return Ok(Scan {
                        stream,
                        schema: Arc::new(schema),
                    });
                }
                Ok((_, None)) => return Err(ClientError::Answer("it has no message")),
                Err(error) => retry.after(error).await?,
            }
        }
    }
}

/// A scan on its way. Dropping it ends it.
#[derive(Debug)]
pub struct Scan {
    stream: Streaming<FlightData>,
    schema: SchemaRef,
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

/// What a message tells of its rows.
#[derive(Deserialize)]
struct Told {
    position: Option<Position>,
    head: Position,
    log_id: String,
}

impl Scan {
    /// Of all batches.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The next rows; `None` at the end. One that follows gives an empty batch at least every second.
    pub async fn next(&mut self) -> Result<Option<Scanned>, ClientError> {
        let Some(message) = self.stream.message().await? else {
            return Ok(None);
        };
        let rows = self
            .decode(&message)
            .ok_or(ClientError::Answer("a record batch of it does not decode"))?;
        let told: Told = serde_json::from_slice(&message.app_metadata)
            .map_err(|_| ClientError::Answer("a record batch does not say how far it goes"))?;
        Ok(Some(Scanned {
            rows,
            position: told.position,
            head: told.head,
            log_id: wire::log_id(&told.log_id)?,
        }))
    }

    fn decode(&self, message: &FlightData) -> Option<RecordBatch> {
        let header = root_as_message(&message.data_header).ok()?;
        let rows = read_record_batch(
            &Buffer::from(message.data_body.clone()),
            header.header_as_record_batch()?,
            Arc::clone(&self.schema),
            &HashMap::new(),
            None,
            &header.version(),
        );
        rows.ok()
    }
}
