//! A subscription: events from a position on, then live. One code path: read from the cursor to the head, then wait.
//!
//! Nothing is queued for a subscriber: a slow one costs nothing and loses nothing. Invariant: what is delivered has
//! ascending positions, each wanted event once; everything wanted up to `position()` was delivered.

use std::{mem, sync::Arc};

use tokio::{
    select,
    time::{Instant, sleep_until},
};

use super::{
    event::Event,
    log::{Log, read::Reader, waiters::Waiter},
};
use crate::{
    telemetry,
    types::{
        id::{LogId, Position},
        limits::CHECKPOINT_EVERY,
        read::{Filter, ReadError},
        slot::Partitions,
    },
};

/// What to subscribe to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubscribeRequest {
    /// Which events.
    pub filter: Filter,
    /// From where on.
    pub start: Start,
    /// Refuse unless the log has this id.
    pub log_id: Option<LogId>,
}

/// Where a subscription starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Behind this position.
    After(Position),
    /// With what is appended from now on.
    Head,
}

impl Default for Start {
    /// From the beginning.
    fn default() -> Self {
        Self::After(0)
    }
}

/// What a subscription delivers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// The next events, about 1 MiB at most.
    Events(Vec<Event>),
    /// Everything up to here was delivered; what follows is live.
    CaughtUp(Position),
    /// Everything wanted up to here was delivered.
    Checkpoint(Position),
}

/// See the module.
pub struct Subscription {
    log: Arc<Log>,
    filter: Filter,
    partitions: Partitions,
    waiter: Waiter,
    /// There may be wanted events between the position and the head.
    look: bool,
    position: Position,
    /// The read on its way, and how many batches it delivered.
    reader: Option<(Reader, u64)>,
    phase: Phase,
    /// When the position is to be stated, if it has moved.
    due: Instant,
    stated_position: Position,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    New,
    CatchingUp,
    Live,
}

impl Subscription {
    pub(super) fn new(
        log: Arc<Log>,
        filter: Filter,
        after: Position,
        partitions: Partitions,
    ) -> Self {
        let set = log.filter_set(&filter);
        let waiter = log.waiters().register(&set);
        telemetry::subscribers_changed(1);
        Self {
            log,
            filter,
            partitions,
            waiter,
            look: true,
            position: after,
            reader: None,
            phase: Phase::New,
            due: Instant::now() + CHECKPOINT_EVERY,
            stated_position: after,
        }
    }

    /// Everything wanted up to here was delivered.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The next message; waits for one. Nothing is lost if the future is dropped. The first one is a checkpoint.
    pub async fn next(&mut self) -> Result<Delivery, ReadError> {
        if self.phase == Phase::New {
            self.phase = Phase::CatchingUp;
            return Ok(self.state(Delivery::Checkpoint(self.position)));
        }
        loop {
            if self.reader.is_none() && mem::take(&mut self.look) {
                let head = self.log.head();
                if head > self.position {
                    let reader =
                        self.log
                            .reader(&self.filter, self.position, head, self.partitions)?;
                    self.reader = Some((reader, 0));
                }
            }
            if let Some((reader, batches)) = &mut self.reader {
                let head = reader.head();
                if let Some(events) = reader.next().await? {
                    self.position = reader.scanned();
                    if !events.is_empty() {
                        *batches += 1;
                        return Ok(self.state(Delivery::Events(events)));
                    }
                } else {
                    let backlog = *batches > 1;
                    self.reader = None;
                    self.position = head;
                    if backlog {
                        self.phase = Phase::CatchingUp;
                    }
                }
                if self.checkpoint_is_due() {
                    return Ok(self.state(Delivery::Checkpoint(self.position)));
                }
                continue;
            }
            if self.phase == Phase::CatchingUp {
                self.phase = Phase::Live;
                return Ok(self.state(Delivery::CaughtUp(self.position)));
            }
            select! {
                () = self.waiter.woken() => self.look = true,
                () = sleep_until(self.due) => {
                    // How far has the log come without anything for us?
                    let through = self.log.waiters().woken_through();
                    if self.waiter.was_woken() {
                        self.look = true;
                    } else {
                        self.position = self.position.max(through);
                    }
                    if self.position > self.stated_position {
                        return Ok(self.state(Delivery::Checkpoint(self.position)));
                    }
                    self.due = Instant::now() + CHECKPOINT_EVERY;
                }
            }
        }
    }

    fn checkpoint_is_due(&self) -> bool {
        self.position > self.stated_position && Instant::now() >= self.due
    }

    fn state(&mut self, delivery: Delivery) -> Delivery {
        self.due = Instant::now() + CHECKPOINT_EVERY;
        self.stated_position = self.position;
        delivery
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.log.waiters().remove(&self.waiter);
        telemetry::subscribers_changed(-1);
    }
}
