//! The threads that plan and run statements, apart from those that serve connections and append: as many as the machine has
//! cores, begun with the first statement. What they share: functions and rules, memory, and how many run at once.
//!
//! A statement is one task and those that its plan divides into. Rows cross over by a bounded channel. It ends with the
//! receiver, with its time, or with the workers, which the engine ends.

use std::{
    future::pending,
    io,
    sync::{Arc, OnceLock},
    thread::available_parallelism,
    time::Duration,
};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use datafusion::{
    error::DataFusionError,
    execution::{
        SessionState, SessionStateBuilder, SessionStateDefaults,
        disk_manager::{DiskManagerBuilder, DiskManagerMode},
        runtime_env::{RuntimeEnv, RuntimeEnvBuilder},
    },
    prelude::SessionConfig,
};
use parking_lot::Mutex;
use tokio::{
    runtime::{Builder, Handle, Runtime},
    select,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    task::JoinHandle,
    time::sleep_until,
};

use super::{
    Prepared, SqlError, Statement,
    error::is_memory,
    memory::{AllMemory, StatementMemory},
    stop::Stop,
    undivided::Undivided,
};
use crate::types::{
    id::Position,
    limits::{Limits, SQL_BATCHES_AHEAD, SQL_STACK_BYTES},
};

/// Hint for those who find as many statements running as may.
const RETRY: Duration = Duration::from_millis(200);
/// How often threads look for what became ready elsewhere, in polls: one is long here.
const EVENT_INTERVAL: u32 = 7;

/// See the module. Clones share them.
#[derive(Clone)]
pub(in crate::engine) struct Workers(Arc<Inner>);

struct Inner {
    limits: Arc<Limits>,
    /// `None` until the first statement.
    runtime: Mutex<Option<Runtime>>,
    /// What every statement plans with, but for its tables.
    base: OnceLock<SessionState>,
    memory: Arc<AllMemory>,
    room: Arc<Semaphore>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Waits for nothing: whoever drops it may be one of its threads.
        if let Some(runtime) = self.runtime.get_mut().take() {
            runtime.shutdown_background();
        }
    }
}

/// What a statement plans and runs with.
pub(super) struct Means {
    pub(super) base: SessionState,
    pub(super) environment: Arc<RuntimeEnv>,
    pub(super) stop: Arc<Stop>,
}

/// What a statement begins with.
pub(super) struct Begun {
    pub(super) schema: SchemaRef,
    pub(super) head: Position,
}

/// A statement that runs, until this is dropped.
pub(super) struct Running {
    rows: mpsc::Receiver<RecordBatch>,
    task: Task<Result<(), SqlError>>,
    /// How it ended was told.
    ended: bool,
}

impl Workers {
    pub(in crate::engine) fn new(limits: &Arc<Limits>) -> Self {
        Self(Arc::new(Inner {
            limits: Arc::clone(limits),
            runtime: Mutex::default(),
            base: OnceLock::new(),
            memory: AllMemory::new(limits.sql_memory_bytes),
            room: Arc::new(Semaphore::new(
                limits.sql_queries_max.min(Semaphore::MAX_PERMITS),
            )),
        }))
    }

    /// Plans a statement.
    pub(super) async fn plan(&self, statement: Statement) -> Result<Prepared, SqlError> {
        let (means, memory, room) = self.means()?;
        let stop = Arc::clone(&means.stop);
        let planning = async move {
            let _room = room;
            let planned = select! {
                biased;
                error = time_over(&means.stop) => Err(error),
                planned = statement.prepared(&means) => planned,
            };
            planned.map_err(|error| named(error, &memory))
        };
        let mut task = Task::new(&self.handle()?, &stop, planning);
        select! {
            biased;
            planned = &mut task.handle => planned.unwrap_or_else(|e| Err(died(e))),
            error = time_over(&stop) => Err(error),
        }
    }

    /// Runs a statement.
    pub(super) async fn run(&self, statement: Statement) -> Result<(Begun, Running), SqlError> {
        let (means, memory, room) = self.means()?;
        let stop = Arc::clone(&means.stop);
        let (begun, begins) = oneshot::channel();
        let (sender, rows) = mpsc::channel(SQL_BATCHES_AHEAD);
        let running = async move {
            let _room = room;
            let run = select! {
                biased;
                error = time_over(&means.stop) => Err(error),
                run = statement.run(&means, begun, &sender) => run,
            };
            run.map_err(|error| named(error, &memory))
        };
        let task = Task::new(&self.handle()?, &stop, running);
        let mut running = Running {
            rows,
            task,
            ended: false,
        };
        select! {
            biased;
            begun = begins => match begun {
                Ok(begun) => Ok((begun, running)),
                // It ended before.
                Err(_) => Err(match running.end().await {
                    Err(error) => error,
                    Ok(()) => SqlError::Internal("it ended before it began".to_owned()),
                }),
            },
            error = time_over(&stop) => Err(error),
        }
    }

    /// What a statement works with, the memory that it may hold, and its place among those that run.
    fn means(&self) -> Result<(Means, Arc<StatementMemory>, OwnedSemaphorePermit), SqlError> {
        let inner = &*self.0;
        let busy = |_| SqlError::Busy {
            max: inner.limits.sql_queries_max,
            retry_after: RETRY,
        };
        let room = Arc::clone(&inner.room).try_acquire_owned().map_err(busy)?;
        let base = if let Some(base) = inner.base.get() {
            base.clone()
        } else {
            let base = base()?;
            inner.base.get_or_init(|| base).clone()
        };
        let memory = StatementMemory::new(&inner.memory, inner.limits.sql_query_memory_bytes);
        let no_disk = DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled);
        let environment = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::clone(&memory) as _)
            .with_disk_manager_builder(no_disk)
            .build_arc()?;
        let means = Means {
            base,
            environment,
            stop: Stop::after(inner.limits.sql_query_time),
        };
        Ok((means, memory, room))
    }

    fn handle(&self) -> Result<Handle, SqlError> {
        let mut runtime = self.0.runtime.lock();
        if let Some(runtime) = &*runtime {
            return Ok(runtime.handle().clone());
        }
        let failed = |e: io::Error| SqlError::Internal(format!("its threads do not begin: {e}"));
        let begun = Builder::new_multi_thread()
            .worker_threads(threads())
            .thread_name("sql")
            .thread_stack_size(SQL_STACK_BYTES)
            .event_interval(EVENT_INTERVAL)
            .enable_time()
            .build()
            .map_err(failed)?;
        let handle = begun.handle().clone();
        *runtime = Some(begun);
        Ok(handle)
    }
}

impl Running {
    pub(super) async fn next(&mut self) -> Result<Option<RecordBatch>, SqlError> {
        let stop = Arc::clone(&self.task.stop);
        select! {
            biased;
            row = self.rows.recv() => match row {
                Some(rows) => Ok(Some(rows)),
                None => self.end().await.map(|()| None),
            },
            // A statement that does not yield does not see that its time is over; who waits for it does.
            error = time_over(&stop) => {
                self.ended = true;
                self.task.end();
                Err(error)
            }
        }
    }

    /// How it ended; once, then well.
    async fn end(&mut self) -> Result<(), SqlError> {
        if std::mem::replace(&mut self.ended, true) {
            return Ok(());
        }
        let ended = (&mut self.task.handle).await;
        ended.unwrap_or_else(|e| Err(died(e)))
    }
}

/// Ends with its owner.
struct Task<T> {
    handle: JoinHandle<T>,
    stop: Arc<Stop>,
}

impl<T: Send + 'static> Task<T> {
    fn new(
        workers: &Handle,
        stop: &Arc<Stop>,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Self {
        Self {
            handle: workers.spawn(work),
            stop: Arc::clone(stop),
        }
    }
}

impl<T> Task<T> {
    fn end(&self) {
        self.stop.stop();
        self.handle.abort();
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.end();
    }
}

/// Returns when the time of a statement is over.
async fn time_over(stop: &Stop) -> SqlError {
    match stop.until() {
        Some(until) => sleep_until(until.into()).await,
        None => pending().await,
    }
    stop.time_is_over()
}

fn threads() -> usize {
    available_parallelism().map_or(1, usize::from)
}

/// Functions, rules and settings.
fn base() -> Result<SessionState, DataFusionError> {
    let mut config = SessionConfig::new()
        .with_target_partitions(threads())
        .with_information_schema(true)
        .with_create_default_catalog_and_schema(false);
    let options = config.options_mut();
    // Views ship whole buffers that they share.
    options.execution.parquet.schema_force_view_types = false;
    options.sql_parser.map_string_types_to_utf8view = false;
    options.sql_parser.collect_spans = true;
    // Where a plan is shown, it is shown line by line.
    options.explain.physical_plan_only = false;
    let table_functions = SessionStateDefaults::default_table_functions().into_iter();
    let mut state = SessionStateBuilder::new()
        .with_config(config)
        .with_expr_planners(SessionStateDefaults::default_expr_planners())
        .with_scalar_functions(SessionStateDefaults::default_scalar_functions())
        .with_higher_order_functions(SessionStateDefaults::default_higher_order_functions())
        .with_aggregate_functions(SessionStateDefaults::default_aggregate_functions())
        .with_window_functions(SessionStateDefaults::default_window_functions())
        .with_table_functions(
            table_functions
                .map(|function| (function.name().to_owned(), function))
                .collect(),
        )
        .with_physical_optimizer_rule(Arc::new(Undivided))
        .build();
    datafusion_functions_json::register_all(&mut state)?;
    Ok(state)
}

/// With the bound that was reached.
fn named(error: SqlError, memory: &StatementMemory) -> SqlError {
    if is_memory(&error) {
        memory.exhausted()
    } else {
        error
    }
}

/// Of a task that did not end by itself.
fn died(error: tokio::task::JoinError) -> SqlError {
    let told = match error.try_into_panic() {
        Ok(panic) => match panic.downcast::<String>() {
            Ok(told) => *told,
            Err(panic) => panic
                .downcast::<&str>()
                .map_or_else(|_| "it panicked".to_owned(), |told| (*told).to_owned()),
        },
        Err(_) => "the server is shutting down".to_owned(),
    };
    SqlError::Internal(told)
}
