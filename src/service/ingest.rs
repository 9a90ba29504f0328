//! The door for writes: `annals.v1.IngestService`.
//!
//! `AppendStream` is two halves. A task reads requests in order and hands them to the engine, waiting where its queue is
//! full, so that HTTP/2's flow control reaches the client; the response stream takes answers as they come, in the same
//! order, many at a time. Nothing is spawned and nothing is kept per request.

use std::sync::Arc;

use futures_util::stream::{self, BoxStream};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::{
    convert,
    gate::Gate,
    status::{Refusal, from_outside},
    task::AbortOnDrop,
};
use crate::{
    engine::tenant::{StreamAnswers, StreamAppender},
    proto::{
        AppendRequest, AppendResponse, AppendStreamRequest, AppendStreamResponse,
        append_stream_response::Outcome, ingest_service_server::IngestService,
    },
    types::append::{AppendError, Appended, Violations},
};

/// Answers that are taken from the engine at once.
const ANSWERS_MAX: usize = 256;
/// Requests of a stream whose answers the client has not taken. Beyond, no more are read: answers must not pile up for a
/// client that only writes. Far more than fit into the time of a sync.
const UNANSWERED_MAX: usize = 16_384;

/// The service; `drain` ends its streams when the server shuts down.
#[derive(Clone)]
pub(crate) struct Ingest {
    pub(crate) gate: Gate,
    pub(crate) drain: CancellationToken,
}

#[tonic::async_trait]
impl IngestService for Ingest {
    async fn append(
        &self,
        request: Request<AppendRequest>,
    ) -> Result<Response<AppendResponse>, Status> {
        let tenant = self.gate.tenant_for_append(request.metadata()).await?;
        let batch = convert::batch(request.into_inner())
            .map_err(AppendError::Invalid)
            .map_err(Refusal::from)?;
        let appended = tenant.append(batch).await.map_err(Refusal::from)?;
        Ok(Response::new(convert::append_response(appended)))
    }

    type AppendStreamStream = BoxStream<'static, Result<AppendStreamResponse, Status>>;

    async fn append_stream(
        &self,
        request: Request<Streaming<AppendStreamRequest>>,
    ) -> Result<Response<Self::AppendStreamStream>, Status> {
        let tenant = self.gate.tenant_for_append(request.metadata()).await?;
        let (appender, coming) = tenant.append_stream();
        let unanswered = Arc::new(Semaphore::new(UNANSWERED_MAX));
        // A token of its own: they are behind locks, and this one is looked at with every message.
        let reader = read_requests(
            request.into_inner(),
            appender,
            Arc::clone(&unanswered),
            self.drain.child_token(),
        );
        let answers = Answers {
            coming,
            unanswered,
            taken: Vec::with_capacity(ANSWERS_MAX),
            reader: Some(AbortOnDrop::spawn(reader)),
        };
        Ok(Response::new(Box::pin(stream::unfold(
            answers,
            next_answer,
        ))))
    }
}

/// Hands requests to the engine until the client ends or the server drains; says how it ended.
async fn read_requests(
    mut requests: Streaming<AppendStreamRequest>,
    mut appender: StreamAppender,
    unanswered: Arc<Semaphore>,
    drain: CancellationToken,
) -> Result<(), Status> {
    // One future for the whole stream: registering again for each message would show.
    let drained = drain.cancelled();
    tokio::pin!(drained);
    loop {
        let request = tokio::select! {
            biased;
            () = &mut drained => return Err(Refusal::shutting_down().into_status()),
            request = next_request(&mut requests, &unanswered) => request,
        };
        match request {
            Ok(Some(AppendStreamRequest { request_id, append })) => {
                let batch = append
                    .ok_or_else(|| {
                        Violations::one("append", "is missing: give the batch to append")
                    })
                    .and_then(convert::batch);
                match batch {
                    // A refused one does not end the stream.
                    Ok(batch) => {
                        appender.append(request_id, batch).await;
                    }
                    Err(violations) => {
                        appender.refuse(request_id, AppendError::Invalid(violations));
                    }
                }
            }
            Ok(None) => return Ok(()),
            // What does not decode has no request id to answer with, and what follows it has no known beginning.
            Err(status) => return Err(from_outside(&status).map_or(status, Refusal::into_status)),
        }
    }
}

async fn next_request(
    requests: &mut Streaming<AppendStreamRequest>,
    unanswered: &Semaphore,
) -> Result<Option<AppendStreamRequest>, Status> {
    // The semaphore is never closed. The permit comes back with the answer.
    let permit = unanswered.acquire().await.ok();
    let request = requests.message().await?;
    if request.is_some() {
        permit.into_iter().for_each(SemaphorePermit::forget);
    }
    Ok(request)
}

struct Answers {
    coming: StreamAnswers,
    unanswered: Arc<Semaphore>,
    /// Those that came at once, the next one last.
    taken: Vec<(u64, Result<Appended, AppendError>)>,
    /// `None` once how it ended was told.
    reader: Option<AbortOnDrop<Result<(), Status>>>,
}

async fn next_answer(
    mut state: Answers,
) -> Option<(Result<AppendStreamResponse, Status>, Answers)> {
    if state.taken.is_empty() {
        let Answers {
            coming,
            taken,
            unanswered,
            ..
        } = &mut state;
        if coming.recv_many(taken, ANSWERS_MAX).await == 0 {
            // All that was read is answered; the last word is why no more was read.
            let ended = state.reader.take()?;
            return ended.join().await.err().map(|status| (Err(status), state));
        }
        unanswered.add_permits(taken.len());
        taken.reverse();
    }
    let (request_id, outcome) = state.taken.pop()?;
    let outcome = match outcome {
        Ok(appended) => Outcome::Result(convert::append_response(appended)),
        Err(error) => Outcome::Status(Refusal::from(error).into_rpc()),
    };
    Some((
        Ok(AppendStreamResponse {
            request_id,
            outcome: Some(outcome),
        }),
        state,
    ))
}
