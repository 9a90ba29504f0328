//! Reads: a stream of batches.

use tonic::Streaming;

use super::{Client, ClientError, retry::Retry, wire};
use crate::{
    proto::{EventBatch, ReadEventsResponse},
    types::{
        id::{LogId, Position},
        read::ReadRequest,
    },
};

impl Client {
    /// Reads events. The call returns once the server has opened the read; a read that is lost later is not resumed.
    pub async fn read(&self, request: &ReadRequest) -> Result<Events, ClientError> {
        let request = wire::read_request(request)?;
        let mut retry = Retry::of(&self.options);
        loop {
            let opened = async {
                let mut stream = self
                    .query
                    .clone()
                    .read_events(request.clone())
                    .await?
                    .into_inner();
                // The first message always comes, with the head.
                let first = stream.message().await?;
                Ok::<_, ClientError>((stream, first))
            };
            match opened.await {
                Ok((stream, Some(first))) => {
                    return Ok(Events {
                        head: first.head,
                        log_id: wire::log_id(&first.log_id)?,
                        next: first.batch,
                        stream,
                    });
                }
                Ok((_, None)) => return Err(ClientError::Answer("it has no message")),
                Err(error) => retry.after(error).await?,
            }
        }
    }
}

/// The events of a read. Dropping it ends the read.
#[derive(Debug)]
pub struct Events {
    stream: Streaming<ReadEventsResponse>,
    next: Option<EventBatch>,
    head: Position,
    log_id: LogId,
}

impl Events {
    /// The position that the read sees the log at.
    pub fn head(&self) -> Position {
        self.head
    }

    /// The log that positions are of.
    pub fn log_id(&self) -> LogId {
        self.log_id
    }

    /// The next events, at least one; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<EventBatch>, ClientError> {
        loop {
            if let Some(batch) = self.next.take()
                && !batch.is_empty()
            {
                return Ok(Some(batch));
            }
            match self.stream.message().await? {
                Some(message) => self.next = message.batch,
                None => return Ok(None),
            }
        }
    }
}
