//! Subscriptions that come back by themselves.

use tonic::Streaming;

use super::{Client, ClientError, Start, retry::Retry, wire};
use crate::{
    proto::{EventBatch, SubscribeResponse, subscribe_response::Message},
    types::{
        id::{LogId, Position},
        read::Filter,
    },
};

impl Client {
    /// Subscribes: the events after `start`, then what is appended, without gap or repeat.
    ///
    /// A lost subscription is taken up again where it ended, for as long as
    /// [`ClientOptions::resume_for`](super::ClientOptions::resume_for) says. Keep `position` and `log_id` of
    /// [`Subscription`] to go on after a restart of your own; given the `log_id`, the server refuses positions of a
    /// log that is not there any more.
    pub async fn subscribe(
        &self,
        filter: Filter,
        start: Start,
        log_id: Option<LogId>,
    ) -> Result<Subscription, ClientError> {
        // Refusals are told here, not with the first event.
        let mut retry = Retry::of(&self.options);
        let mut subscription = Subscription {
            client: self.clone(),
            filter,
            start,
            log_id,
            stream: None,
        };
        while let Err(error) = subscription.open().await {
            retry.after(error).await?;
        }
        Ok(subscription)
    }
}

/// A subscription. Dropping it ends it.
#[derive(Debug)]
pub struct Subscription {
    client: Client,
    filter: Filter,
    /// Where to take up again: everything before was given out.
    start: Start,
    log_id: Option<LogId>,
    stream: Option<Streaming<SubscribeResponse>>,
}

/// What a subscription delivers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subscribed {
    /// At least one event, in order.
    Events(EventBatch),
    /// Everything up to here was delivered; what follows is live.
    CaughtUp(Position),
    /// Everything up to here that matches was delivered.
    Checkpoint(Position),
}

impl Subscription {
    /// Everything up to here that matches was delivered.
    pub fn position(&self) -> Position {
        match self.start {
            Start::After(position) => position,
            Start::Head => 0,
        }
    }

    /// The log that positions are of.
    pub fn log_id(&self) -> Option<LogId> {
        self.log_id
    }

    /// What comes next; waits for it. Cancel safe. An error is final: what could be taken up again was.
    pub async fn next(&mut self) -> Result<Subscribed, ClientError> {
        loop {
            let error = match self.receive().await {
                Ok(Some(delivery)) => return Ok(delivery),
                Ok(None) => ClientError::Ended,
                Err(error) => error,
            };
            self.stream = None;
            self.resume(error).await?;
        }
    }

    async fn resume(&mut self, lost: ClientError) -> Result<(), ClientError> {
        let mut retry = Retry::within(self.client.options.resume_for);
        let mut error = lost;
        tracing::warn!(%error, position = self.position(), "subscription lost, taking it up again");
        loop {
            retry.after(error).await?;
            match self.open().await {
                Ok(()) => {
                    tracing::warn!(position = self.position(), "subscription taken up again");
                    return Ok(());
                }
                Err(e) => error = e,
            }
        }
    }

    /// Opens the stream and reads its first message, the checkpoint at the start.
    async fn open(&mut self) -> Result<(), ClientError> {
        let request = wire::subscribe_request(&self.filter, self.start, self.log_id)?;
        let mut stream = self
            .client
            .query
            .clone()
            .subscribe(request)
            .await?
            .into_inner();
        let first = stream.message().await?.and_then(|first| first.message);
        let Some(Message::Checkpoint(checkpoint)) = first else {
            return Err(ClientError::Answer("it does not begin with a checkpoint"));
        };
        self.log_id = Some(wire::log_id(&checkpoint.log_id)?);
        self.start = Start::After(checkpoint.position);
        self.stream = Some(stream);
        Ok(())
    }

    async fn receive(&mut self) -> Result<Option<Subscribed>, ClientError> {
        let Some(stream) = &mut self.stream else {
            return Ok(None);
        };
        while let Some(message) = stream.message().await? {
            let (position, delivery) = match message.message {
                Some(Message::Events(batch)) => {
                    let Some(last) = batch.last()? else { continue };
                    (last.position, Subscribed::Events(batch))
                }
                Some(Message::CaughtUp(at)) => (at.position, Subscribed::CaughtUp(at.position)),
                Some(Message::Checkpoint(at)) => (at.position, Subscribed::Checkpoint(at.position)),
                // Of a later version of the protocol.
                None => continue,
            };
            self.start = Start::After(position);
            return Ok(Some(delivery));
        }
        Ok(None)
    }
}
