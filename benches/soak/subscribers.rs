//! Subscribers that are there for the whole run: the audit of each tenant, and those with filters, whose deliveries are
//! compared with what the audit counted.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use annals::{
    Client, Filter, Text,
    client::{Start, Subscribed},
    proto::{EventBatch, EventView},
    types::slot::{Partitions, slot},
};
use parking_lot::Mutex;
use tokio::time::timeout;

use crate::{
    ledger::{Audit, Fault, Ledger, ensure},
    run::{Run, chain},
    story::{RARE_TYPE, mixed, type_prefix},
};

/// How often filtered subscribers are compared with the audit, in positions.
const COMPARED_EVERY: u64 = 5_000;
/// A subscription that says nothing for so long, while the server is up, is a fault.
const SILENCE: Duration = Duration::from_mins(3);
/// After so many batches a subscriber resumes by its own hand.
const RESUMED_EVERY: u64 = 2_000;

/// Which events a subscriber wants.
#[derive(Debug, Clone)]
pub(crate) enum Wants {
    Partitions(std::ops::Range<u32>),
    Prefix(String),
    Tag(&'static str),
    Type(&'static str),
}

impl Wants {
    /// Those of a busy tenant: four that share its partitions, and some with filters of other kinds.
    pub(crate) fn several() -> Vec<Self> {
        let quarter = Partitions::default().count() / 4;
        let mut several: Vec<_> = (0..4)
            .map(|n| Self::Partitions(n * quarter..(n + 1) * quarter))
            .collect();
        several.extend([
            Self::Prefix(type_prefix(1)),
            Self::Tag("priority"),
            Self::Type(RARE_TYPE),
        ]);
        several
    }

    pub(crate) fn filter(&self) -> Filter {
        let mut filter = Filter::default();
        match self {
            Self::Partitions(partitions) => filter.partitions = partitions.clone().collect(),
            Self::Prefix(prefix) => filter.event_type_prefix = Text::from(prefix.as_str()),
            Self::Tag(tag) => filter.tags = vec![Text::from(*tag)],
            Self::Type(name) => filter.event_types = vec![Text::from(*name)],
        }
        filter
    }

    pub(crate) fn matches(&self, event: &EventView<'_>) -> bool {
        match self {
            Self::Partitions(partitions) => {
                let partition = Partitions::default().of_slot(slot(event.entity_id.as_bytes()));
                partitions.contains(&partition)
            }
            Self::Prefix(prefix) => event.event_type.starts_with(prefix),
            Self::Tag(tag) => event.tags.clone().any(|other| other == *tag),
            Self::Type(name) => event.event_type == *name,
        }
    }
}

/// Positions that were delivered, up to a position.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sum {
    through: u64,
    events: u64,
    hash: u64,
}

impl Sum {
    fn add(&mut self, position: u64) {
        self.events += 1;
        self.hash = mixed(self.hash ^ position);
    }
}

/// What the audit counted for one subscriber, and what that one got, until they are compared.
#[derive(Debug)]
pub(crate) struct Watched {
    wants: Wants,
    sums: Mutex<[VecDeque<Sum>; 2]>,
}

impl Watched {
    pub(crate) fn new(wants: Wants) -> Self {
        Self {
            wants,
            sums: Mutex::default(),
        }
    }

    fn state(&self, side: usize, sum: Sum) -> Result<(), Fault> {
        let mut sums = self.sums.lock();
        sums[side].push_back(sum);
        while let [Some(counted), Some(got)] = [0, 1].map(|side: usize| sums[side].front().copied())
        {
            ensure!(
                counted == got,
                "a subscriber of {:?} got {got:?}, and {counted:?} match",
                self.wants
            );
            for side in sums.iter_mut() {
                side.pop_front();
            }
        }
        Ok(())
    }
}

/// Sums up to each multiple of [`COMPARED_EVERY`].
#[derive(Debug)]
struct Summing {
    watched: Arc<Watched>,
    side: usize,
    sum: Sum,
}

impl Summing {
    fn new(watched: Arc<Watched>, side: usize) -> Self {
        let sum = Sum {
            through: COMPARED_EVERY,
            ..Sum::default()
        };
        Self { watched, side, sum }
    }

    /// Nothing more that matches comes up to this position.
    fn reached(&mut self, position: u64) -> Result<(), Fault> {
        while self.sum.through <= position {
            self.watched.state(self.side, self.sum)?;
            self.sum.through += COMPARED_EVERY;
        }
        Ok(())
    }
}

/// Receives from a subscription, and notices when it is silent or ends.
struct Receiving {
    run: Arc<Run>,
    client: Client,
    filter: Filter,
    subscription: annals::client::Subscription,
    batches: u64,
}

impl Receiving {
    async fn new(run: &Arc<Run>, client: &Client, filter: Filter) -> Result<Self, Fault> {
        let subscription = subscribe(run, client, &filter, Start::After(0), None).await?;
        Ok(Self {
            run: run.clone(),
            client: client.clone(),
            filter,
            subscription,
            batches: 0,
        })
    }

    async fn next(&mut self) -> Result<Subscribed, Fault> {
        self.batches += 1;
        if self.batches.is_multiple_of(RESUMED_EVERY) {
            let (start, log_id) = (
                Start::After(self.subscription.position()),
                self.subscription.log_id(),
            );
            self.subscription =
                subscribe(&self.run, &self.client, &self.filter, start, log_id).await?;
        }
        let mut silent_since = Instant::now();
        loop {
            match timeout(Duration::from_secs(5), self.subscription.next()).await {
                Ok(Ok(delivery)) => return Ok(delivery),
                Ok(Err(e)) => return Err(Fault(format!("a subscription ended: {}", chain(&e)))),
                // Without events there are no checkpoints either.
                Err(_) if !self.run.is_up() || self.run.is_stopping() => {
                    silent_since = Instant::now();
                }
                Err(_) => ensure!(
                    silent_since.elapsed() < SILENCE,
                    "a subscription was silent for {SILENCE:?}"
                ),
            }
        }
    }
}

async fn subscribe(
    run: &Run,
    client: &Client,
    filter: &Filter,
    start: Start,
    log_id: Option<annals::LogId>,
) -> Result<annals::client::Subscription, Fault> {
    run.ask("subscribe", || {
        client.subscribe(filter.clone(), start, log_id)
    })
    .await
}

/// The audit of a tenant, shared with whoever waits for it.
pub(crate) type SharedAudit = Arc<Mutex<Audit>>;

/// Reads all that is appended from the beginning on.
pub(crate) async fn audit(
    run: Arc<Run>,
    client: Client,
    audit: SharedAudit,
    watched: Vec<Arc<Watched>>,
) -> Result<(), Fault> {
    let mut sums: Vec<_> = watched
        .into_iter()
        .map(|watched| Summing::new(watched, 0))
        .collect();
    let mut receiving = Receiving::new(&run, &client, Filter::default()).await?;
    loop {
        match receiving.next().await? {
            Subscribed::Events(batch) => take(&audit, &batch, &mut sums)?,
            Subscribed::CaughtUp(position) | Subscribed::Checkpoint(position) => {
                let seen = audit.lock().position;
                ensure!(
                    seen == position,
                    "a subscription says {position}, and delivered up to {seen}"
                );
            }
        }
    }
}

fn take(audit: &Mutex<Audit>, batch: &EventBatch, sums: &mut [Summing]) -> Result<(), Fault> {
    let mut audit = audit.lock();
    for event in batch {
        let event = event.map_err(|e| Fault(e.to_string()))?;
        audit.take(&event)?;
        for sum in &mut *sums {
            if sum.watched.wants.matches(&event) {
                sum.sum.add(event.position);
            }
            sum.reached(event.position)?;
        }
    }
    Ok(())
}

/// Gets what matches its filter, once and in order.
pub(crate) async fn filtered(
    run: Arc<Run>,
    client: Client,
    ledger: Arc<Ledger>,
    watched: Arc<Watched>,
) -> Result<(), Fault> {
    let mut receiving = Receiving::new(&run, &client, watched.wants.filter()).await?;
    let mut sum = Summing::new(watched.clone(), 1);
    let mut position = 0;
    loop {
        match receiving.next().await? {
            Subscribed::Events(batch) => {
                for event in &batch {
                    let event = event.map_err(|e| Fault(e.to_string()))?;
                    let wants = &watched.wants;
                    ensure!(
                        wants.matches(&event),
                        "a subscriber of {wants:?} got {event:?}"
                    );
                    ensure!(
                        event.position > position,
                        "{} came after {position}",
                        event.position
                    );
                    position = event.position;
                    ledger.check(&event)?;
                    sum.reached(position - 1)?;
                    sum.sum.add(position);
                }
                sum.reached(position)?;
            }
            Subscribed::CaughtUp(at) | Subscribed::Checkpoint(at) => sum.reached(at)?,
        }
    }
}
