//! How often events of one type are followed by one of another: a statement gives entity and time of the events of both
//! types, in the order of positions, and passes over these columns, each for some entities, keep what is not followed yet.
//!
//! Memory is what is not followed and the delays of what is, within the bound of a statement of SQL.

use std::{collections::HashMap, sync::Arc, thread::available_parallelism, time::Duration};

use arrow::{
    array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray},
    datatypes::Int64Type,
};
use tokio::{
    sync::mpsc,
    task::{JoinHandle, spawn_blocking},
};

use super::{Question, between, invalid, micros};
use crate::{
    engine::{
        sql::{SqlError, Within},
        tenant::{Tenant, check_names},
    },
    types::{
        analytics::{Correlation, CorrelationRequest, Durations},
        limits::SQL_BATCHES_AHEAD,
        slot::slot,
        text::Text,
    },
};

/// Passes side by side, at most: each looks at every row, and takes its own.
const PASSES_MAX: usize = 4;
/// Bytes of an entity among those not followed, beside its name: the entry of the table, and the allocation of the name.
const ENTITY_BYTES: usize = 96;

impl Tenant {
    /// Counts how often events of one type are followed by one of another, as of one position.
    ///
    /// # Errors
    /// See [`SqlError`].
    pub async fn correlation(&self, request: &CorrelationRequest) -> Result<Correlation, SqlError> {
        for (name, field) in [
            (&request.first_type, "first_type"),
            (&request.then_type, "then_type"),
        ] {
            check_names(std::slice::from_ref(name), field)?;
        }
        let filter = &request.filter;
        if !filter.event_types.is_empty() || !filter.event_type_prefix.as_bytes().is_empty() {
            let what = "has types: they are named by `first_type` and `then_type`";
            return Err(invalid("filter", what));
        }
        let mut within = Within {
            filter: filter.clone(),
            after: request.after,
            through: request.through,
        };
        within.filter.event_types = vec![request.first_type.clone(), request.then_type.clone()];
        within.filter.event_types.dedup();
        let question = Question::new(self, within, request.as_of)?;
        let statement = format!(
            "select entity_id, cast({time} as bigint), event_type = $1, event_type = $2
             from events where {time} is not null order by position",
            time = request.time.column(),
        );
        let parameters = vec![text(&request.first_type), text(&request.then_type)];
        let mut rows = question.ask(statement, parameters).await?;
        let within_micros = request.within.map_or(i64::MAX, |within| {
            i64::try_from(within.as_micros()).unwrap_or(i64::MAX)
        });
        let bytes_max = self.limits.sql_query_memory_bytes;
        let passes = Passes::begin(within_micros, bytes_max);
        while let Some(batch) = rows.next().await? {
            if !passes.take(&batch).await {
                break;
            }
        }
        let pass = passes.end().await.map_err(|Full| SqlError::Memory {
            setting: "limits.sql_query_memory_bytes",
            bytes_max,
        })?;
        let (first_events, then_events) = (pass.first_events, pass.then_events);
        let delays = spawn_blocking(move || pass.durations());
        let delays = delays.await.expect("sorting does not panic");
        Ok(Correlation {
            first_events,
            then_events,
            followed: delays.count,
            share: share(delays.count, first_events),
            delays,
            head: question.head,
            log_id: self.log_id(),
        })
    }
}

fn text(name: &Text) -> ArrayRef {
    Arc::new(StringArray::from(vec![name.to_string()]))
}

#[expect(clippy::cast_precision_loss, reason = "a share is a fraction")]
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    part as f64 / whole as f64
}

/// Passes side by side, each over the events of some entities: where its batches go, and what it ends with.
struct Passes(Vec<(mpsc::Sender<RecordBatch>, Ending)>);

type Ending = JoinHandle<Result<Pass, Full>>;

/// It would hold more memory than it may.
struct Full;

impl Passes {
    fn begin(within: i64, bytes_max: usize) -> Self {
        let count = available_parallelism().map_or(1, usize::from);
        let count = count.min(PASSES_MAX);
        let begin = |part| {
            let (sender, mut batches) = mpsc::channel::<RecordBatch>(SQL_BATCHES_AHEAD);
            let mut pass = Pass::new(within, bytes_max / count);
            // Not on a thread that serves connections. It ends with the call, or before.
            let task = spawn_blocking(move || {
                while let Some(batch) = batches.blocking_recv() {
                    pass.over(&batch, |entity| slot(entity.as_bytes()) % count == part)?;
                }
                Ok(pass)
            });
            (sender, task)
        };
        Self((0..count).map(begin).collect())
    }

    /// False if one of them failed.
    async fn take(&self, batch: &RecordBatch) -> bool {
        for (pass, _) in &self.0 {
            if pass.send(batch.clone()).await.is_err() {
                return false;
            }
        }
        true
    }

    /// What all of them found.
    async fn end(self) -> Result<Pass, Full> {
        let mut all = Pass::new(0, 0);
        for (sender, task) in self.0 {
            drop(sender);
            let pass = task.await.expect("a pass does not panic")?;
            all.first_events += pass.first_events;
            all.then_events += pass.then_events;
            all.delays.extend(pass.delays);
        }
        Ok(all)
    }
}

/// The pass over the events of both types.
struct Pass {
    within: i64,
    /// Its share of what a statement may hold.
    bytes_max: usize,
    first_events: u64,
    then_events: u64,
    /// Of each entity, the times of its events that are not followed yet.
    open: HashMap<Box<str>, Open>,
    open_bytes: usize,
    delays: Vec<i64>,
}

/// Times of the events of an entity that are not followed yet; most have one.
struct Open {
    first: i64,
    more: Vec<i64>,
}

impl Pass {
    fn new(within: i64, bytes_max: usize) -> Self {
        Self {
            within,
            bytes_max,
            first_events: 0,
            then_events: 0,
            open: HashMap::new(),
            open_bytes: 0,
            delays: Vec::new(),
        }
    }

    /// Goes on over rows, those of its entities.
    fn over(&mut self, rows: &RecordBatch, is_mine: impl Fn(&str) -> bool) -> Result<(), Full> {
        let entities = rows.column(0).as_string::<i32>();
        let times: &Int64Array = rows.column(1).as_primitive::<Int64Type>();
        let (is_first, is_then) = (rows.column(2).as_boolean(), rows.column(3).as_boolean());
        for row in 0..rows.num_rows() {
            let (entity, time) = (entities.value(row), times.value(row));
            if !is_mine(entity) {
                continue;
            }
            // First what it follows: an event does not follow itself.
            if is_then.value(row) {
                self.then_events += 1;
                self.close(entity, time);
            }
            if is_first.value(row) {
                self.first_events += 1;
                self.open(entity, time);
            }
        }
        let bytes = self.open_bytes + self.delays.capacity() * size_of::<i64>();
        if bytes > self.bytes_max {
            return Err(Full);
        }
        Ok(())
    }

    fn open(&mut self, entity: &str, time: i64) {
        if let Some(open) = self.open.get_mut(entity) {
            open.more.push(time);
            self.open_bytes += size_of::<i64>();
        } else {
            let more = Vec::new();
            self.open.insert(entity.into(), Open { first: time, more });
            self.open_bytes += entity.len() + ENTITY_BYTES;
        }
    }

    fn close(&mut self, entity: &str, time: i64) {
        let Some(open) = self.open.remove(entity) else {
            return;
        };
        self.open_bytes -= entity.len() + ENTITY_BYTES + open.more.len() * size_of::<i64>();
        let times = std::iter::once(open.first).chain(open.more);
        let delays = times.map(|began| time - began);
        let within = self.within;
        self.delays
            .extend(delays.filter(|delay| (0..=within).contains(delay)));
    }

    fn durations(mut self) -> Durations {
        self.delays.sort_unstable();
        let of = |micros: i64| Duration::from_micros(micros.unsigned_abs());
        let (Some(min), Some(max)) = (self.delays.first(), self.delays.last()) else {
            return Durations::default();
        };
        Durations {
            count: self.delays.len() as u64,
            min: of(*min),
            max: of(*max),
            mean: mean(&self.delays),
            p50: percentile(&self.delays, 50),
            p90: percentile(&self.delays, 90),
            p99: percentile(&self.delays, 99),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a mean is rounded")]
fn mean(delays: &[i64]) -> Duration {
    let sum: i128 = delays.iter().copied().map(i128::from).sum();
    micros(sum as f64 / delays.len() as f64)
}

/// Between two of them in proportion.
fn percentile(sorted: &[i64], hundredths: usize) -> Duration {
    let at = (sorted.len() - 1) * hundredths;
    let value = |at: usize| {
        sorted
            .get(at)
            .or(sorted.last())
            .copied()
            .unwrap_or_default()
    };
    between(
        value(at / 100),
        value(at / 100 + 1),
        (at % 100).cast_signed() as i64,
    )
}
