//! Several batches in flight over one stream, and over another one if it is lost.
//!
//! Batches are kept until they are answered; their events have ids, so that those of a lost stream are sent again
//! without being stored twice.

use std::{collections::VecDeque, time::Duration};

use tokio::sync::mpsc;

use super::{Chunk, InputError, Progress, Stop, Tally};
use crate::{
    client::{AppendAnswers, AppendSender, Client, ClientError},
    types::{append::Batch, kind::Kind},
};

/// Enough that neither side waits for the other; each is at most 4 MiB of text.
const IN_FLIGHT_MAX: usize = 8;
/// Lost streams without an answer in between.
const LOSSES_MAX: u32 = 6;
const WAIT_FIRST: Duration = Duration::from_millis(200);

/// Appends all chunks. After a refusal the chunks in flight behind it are still waited for, and counted.
pub(super) async fn append(
    client: &Client,
    mut chunks: mpsc::Receiver<Result<Chunk, InputError>>,
    tally: &mut Tally,
    progress: &Progress,
) -> Result<(), Stop> {
    let mut pipe = Pipe {
        unanswered: VecDeque::new(),
        stop: None,
        input_ended: false,
    };
    let mut losses = 0;
    loop {
        let answered = tally.stored_events();
        let lost = match pipe.run(client, &mut chunks, tally, progress).await {
            Ok(()) => return pipe.stop.map_or(Ok(()), Err),
            Err(lost) => lost,
        };
        losses = if tally.stored_events() > answered {
            0
        } else {
            losses + 1
        };
        if losses > LOSSES_MAX || !is_transient(&lost) {
            let chunk = pipe.unanswered.pop_front().unwrap_or_default();
            return Err(pipe.stop.unwrap_or(Stop::Append(chunk, lost)));
        }
        tokio::time::sleep(WAIT_FIRST * (1 << losses)).await;
    }
}

#[derive(Debug)]
struct Pipe {
    /// Sent or to be sent, in order.
    unanswered: VecDeque<Chunk>,
    /// Nothing more is sent.
    stop: Option<Stop>,
    input_ended: bool,
}

impl Pipe {
    /// Until everything is answered (`Ok`) or the stream is lost (`Err`).
    async fn run(
        &mut self,
        client: &Client,
        chunks: &mut mpsc::Receiver<Result<Chunk, InputError>>,
        tally: &mut Tally,
        progress: &Progress,
    ) -> Result<(), ClientError> {
        let (mut sender, mut answers) = client.append_stream();
        for chunk in &self.unanswered {
            send(&mut sender, &mut answers, &chunk.batch).await?;
        }
        loop {
            let reading = !self.input_ended && self.stop.is_none();
            if self.unanswered.is_empty() && !reading {
                return Ok(());
            }
            tokio::select! {
                answer = answers.recv(), if !self.unanswered.is_empty() => {
                    let Some((_, outcome)) = answer? else { return Err(ClientError::Ended) };
                    let Some(chunk) = self.unanswered.pop_front() else {
                        return Err(ClientError::Answer("there are more answers than batches"));
                    };
                    match outcome {
                        Ok(appended) => tally.add(&chunk, &appended),
                        Err(error) if is_transient(&error) => {
                            // Sent again over the next stream, and all behind it.
                            self.unanswered.push_front(chunk);
                            return Err(error);
                        }
                        Err(error) => {
                            tally.skip(&chunk);
                            self.stop.get_or_insert(Stop::Append(chunk, error));
                        }
                    }
                    progress.show(tally);
                }
                chunk = chunks.recv(), if reading && self.unanswered.len() < IN_FLIGHT_MAX => match chunk {
                    Some(Ok(chunk)) => {
                        // Kept first: what is sent in part must be sent again.
                        self.unanswered.push_back(chunk);
                        if let Some(chunk) = self.unanswered.back() {
                            send(&mut sender, &mut answers, &chunk.batch).await?;
                        }
                    }
                    Some(Err(error)) => self.stop = Some(Stop::Input(error)),
                    None => self.input_ended = true,
                },
            }
        }
    }
}

/// Sends; if the stream is gone, says why. There is always room: fewer batches are in flight than the stream queues.
async fn send(
    sender: &mut AppendSender,
    answers: &mut AppendAnswers,
    batch: &Batch,
) -> Result<(), ClientError> {
    let Err(gone) = sender.send(batch).await else {
        return Ok(());
    };
    match answers.recv().await {
        Err(error) => Err(error),
        Ok(_) => Err(gone),
    }
}

fn is_transient(error: &ClientError) -> bool {
    matches!(error.kind(), Kind::Unavailable | Kind::Unknown)
}
