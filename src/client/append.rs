//! Appends: one by one with retries, or many in flight over one stream.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Streaming};

use super::{Client, ClientError, event_ids::IdTexts, retry::Retry, wire};
use crate::{
    proto::{self, append_stream_response::Outcome},
    types::append::{Appended, Batch},
};

/// Batches handed over and not yet taken by the connection. More would only be more memory: the connection takes what
/// fits into its window.
const BATCHES_QUEUED_MAX: usize = 256;

impl Client {
    /// Appends a batch, all of it or nothing; answered after it is on the server's disk.
    ///
    /// Events without an id get one, so that a try whose answer was lost can be repeated: the server then answers with
    /// the positions of the first one. It looks for repeats at least in the last 1,000,000 events of the tenant.
    pub async fn append(&self, batch: &Batch) -> Result<Appended, ClientError> {
        let ids = IdTexts::of(&batch.events);
        let mut retry = Retry::of(&self.options);
        loop {
            // Made again for every try: a copy kept in case of a second one would cost more, and texts are shared.
            let request = wire::append_request(batch, &ids)?;
            match self.ingest.clone().append(request).await {
                Ok(answer) => return wire::appended(answer.into_inner(), &ids),
                Err(status) => retry.after(status.into()).await?,
            }
        }
    }

    /// Opens a stream of appends: batches are sent without waiting for the answers to those before, committed in the
    /// order they were sent and answered in that order. A refused batch does not end the stream.
    ///
    /// Answers must be received while batches are sent, or the sender stands still in the end. There are no retries:
    /// after a lost stream, send what was not answered over a new one. Repeats are recognised by the ids of the events,
    /// so give them ids: those that are made here for events without one are not told.
    ///
    /// Must be called on a tokio runtime.
    ///
    /// ```no_run
    /// # async fn example(client: annals::Client) -> Result<(), annals::ClientError> {
    /// use annals::{Batch, NewEvent};
    ///
    /// let (mut sender, mut answers) = client.append_stream();
    /// let sending = tokio::spawn(async move {
    ///     for n in 0..1_000 {
    ///         sender.send(&Batch::new([NewEvent::new(format!("cart-{n}"), "cart.opened", "{}")])).await?;
    ///     }
    ///     Ok::<_, annals::ClientError>(())
    /// });
    /// while let Some((request_id, outcome)) = answers.recv().await? {
    ///     println!("{request_id}: {}", outcome?.first_position);
    /// }
    /// # sending.await.expect("the task does not panic")
    /// # }
    /// ```
    pub fn append_stream(&self) -> (AppendSender, AppendAnswers) {
        let (requests, queued) = mpsc::channel(BATCHES_QUEUED_MAX);
        let mut ingest = self.ingest.clone();
        // The server may answer only once it has seen a request, so that waiting for it here would wait for ever.
        let opening =
            tokio::spawn(async move { ingest.append_stream(ReceiverStream::new(queued)).await });
        let sender = AppendSender {
            requests,
            next_request_id: 0,
        };
        let answers = AppendAnswers {
            stream: AnswerStream::Opening(opening),
        };
        (sender, answers)
    }
}

/// Sends the batches of a stream. Dropping it ends the stream once all is answered.
#[derive(Debug)]
pub struct AppendSender {
    requests: mpsc::Sender<proto::AppendStreamRequest>,
    next_request_id: u64,
}

impl AppendSender {
    /// Sends a batch, waiting for room. Returns the number that its answer will carry: 0, 1, 2, …
    ///
    /// An error of kind `Unavailable` means that the stream is gone; why is told by the answers.
    pub async fn send(&mut self, batch: &Batch) -> Result<u64, ClientError> {
        let append = wire::append_request(batch, &IdTexts::of(&batch.events))?;
        let request_id = self.next_request_id;
        let request = proto::AppendStreamRequest {
            request_id,
            append: Some(append),
        };
        self.requests
            .send(request)
            .await
            .map_err(|_| ClientError::Ended)?;
        self.next_request_id += 1;
        Ok(request_id)
    }
}

/// Receives the answers of a stream.
#[derive(Debug)]
pub struct AppendAnswers {
    stream: AnswerStream,
}

#[derive(Debug)]
enum AnswerStream {
    Opening(
        tokio::task::JoinHandle<
            Result<Response<Streaming<proto::AppendStreamResponse>>, tonic::Status>,
        >,
    ),
    Open(Box<Streaming<proto::AppendStreamResponse>>),
    Ended,
}

impl AppendAnswers {
    /// The next answer, in the order the batches were sent: the number of the batch, and what became of it. `None` once
    /// the sender is dropped and all is answered. An error ends the stream: what was not answered may or may not be
    /// stored.
    pub async fn recv(
        &mut self,
    ) -> Result<Option<(u64, Result<Appended, ClientError>)>, ClientError> {
        let answer = match self.next_message().await {
            Ok(Some(answer)) => answer,
            ended => {
                self.stream = AnswerStream::Ended;
                return ended.map(|_| None);
            }
        };
        let outcome = match answer.outcome {
            Some(Outcome::Result(result)) => wire::appended(result, &IdTexts::of(&[])),
            Some(Outcome::Status(status)) => Err(status.into()),
            None => Err(ClientError::Answer("it has no outcome")),
        };
        Ok(Some((answer.request_id, outcome)))
    }

    async fn next_message(&mut self) -> Result<Option<proto::AppendStreamResponse>, ClientError> {
        loop {
            match &mut self.stream {
                AnswerStream::Opening(opening) => {
                    let opened = opening
                        .await
                        .map_err(|_| ClientError::Answer("the call was aborted"))?;
                    self.stream = AnswerStream::Open(Box::new(opened?.into_inner()));
                }
                AnswerStream::Open(stream) => return Ok(stream.message().await?),
                AnswerStream::Ended => return Ok(None),
            }
        }
    }
}

impl Drop for AppendAnswers {
    fn drop(&mut self) {
        if let AnswerStream::Opening(opening) = &self.stream {
            opening.abort();
        }
    }
}
