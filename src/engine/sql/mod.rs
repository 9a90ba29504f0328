//! SQL over a tenant's history: DataFusion, reading only, every statement as of one position.
//!
//! - `statement`: text → a statement that only reads; all others are refused by name. `dialect`: how it is written; `size`:
//!   how large it may be.
//! - `catalog`: which tables there are; `provider`: what a table is to DataFusion; `pushdown`: the part of a condition
//!   that a scan takes; `scan`: the scan as a part of a plan; `undivided`: how it is divided; `reading`: how it is read;
//!   `entities`: what of a table of entities is not in the index.
//! - `workers`: the threads that plan and run, and what all statements share; `memory`: what a statement may hold; `stop`:
//!   how it ends before its end.
//! - `wire`: results in types that every client reads.
//! - `error`: why a statement fails.
//!
//! Invariants: the head is taken once for a statement, and every table of it is read as of that. No statement writes, opens
//! a file or a connection, or spills to disk. Planning and running never take a thread that serves connections or appends.
//!
//! Not here: what a scan gives (`engine/table`), tickets and Flight SQL (`service/flight`).

mod catalog;
mod dialect;
mod entities;
mod error;
mod memory;
mod provider;
mod pushdown;
mod reading;
mod scan;
mod size;
mod statement;
mod stop;
mod undivided;
mod wire;
mod workers;

use std::sync::Arc;

use arrow::{
    array::RecordBatch,
    datatypes::{Schema, SchemaRef},
};
use datafusion::{
    common::{ParamValues, ScalarValue, metadata::ScalarAndMetadata},
    execution::SessionState,
    logical_expr::LogicalPlan,
    physical_plan::execute_stream,
};
use futures_util::StreamExt;
use tokio::sync::mpsc;

pub use self::error::SqlError;
pub(super) use self::workers::Workers;
use self::{
    catalog::Cut,
    statement::Parsed,
    stop::stoppable,
    workers::{Begun, Means, Running},
};
use super::tenant::Tenant;
use crate::types::{
    id::Position,
    read::{AsOf, Filter, ReadError},
};

/// A statement to run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SqlRequest {
    /// One statement that reads: `SELECT`, `WITH`, `VALUES`, `EXPLAIN`, `SHOW TABLES`, `SHOW COLUMNS` or `DESCRIBE`.
    pub statement: String,
    /// The values of its parameters, if it has any: one row. The n-th column is `$n` or the n-th `?`; where the statement
    /// names its parameters (`$since`), a column is the one of its name, with or without the `$`.
    pub parameters: Option<RecordBatch>,
    /// Read the tables as they were then: a position, or a time.
    pub as_of: Option<AsOf>,
}

impl<S: Into<String>> From<S> for SqlRequest {
    fn from(statement: S) -> Self {
        Self {
            statement: statement.into(),
            ..Self::default()
        }
    }
}

/// What is known of a statement before it runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Prepared {
    /// Of the rows that it gives. Running it gives the same.
    pub schema: SchemaRef,
    /// Its parameters in their order, named as the statement names them (`$1`, `$since`). `Null` where the statement
    /// leaves the type open; then any does.
    pub parameters: SchemaRef,
    /// The position that it was planned at.
    pub head: Position,
}

/// Rows of a statement, as they come. Dropped, the statement ends.
pub struct SqlRows {
    schema: SchemaRef,
    head: Position,
    running: Running,
}

impl Tenant {
    /// Plans a statement without running it.
    ///
    /// # Errors
    /// See [`SqlError`].
    pub async fn prepare_sql(
        &self,
        statement: &str,
        as_of: Option<AsOf>,
    ) -> Result<Prepared, SqlError> {
        let request = SqlRequest {
            as_of,
            ..statement.into()
        };
        self.sql.plan(Statement::new(self, request)).await
    }

    /// Runs a statement. Returns once it is planned; its rows are made as they are asked for.
    ///
    /// ```
    /// use annals::{Batch, Engine, EngineOptions, NewEvent, TenantId};
    ///
    /// # tokio::runtime::Runtime::new()?.block_on(async {
    /// # let dir = tempfile::tempdir()?;
    /// let engine = Engine::open(dir.path(), EngineOptions::default())?;
    /// let tenant = engine.tenant(&TenantId::default()).await?;
    /// let event = NewEvent::new("order-42", "order.paid", r#"{"amount": 12.5}"#);
    /// tenant.append(Batch::new([event])).await?;
    ///
    /// let mut rows = tenant.sql("select entity_id, payload ->> 'amount' from events").await?;
    /// let batch = rows.next().await?.expect("there is a row");
    /// assert_eq!((batch.num_rows(), rows.head()), (1, 1));
    /// # Ok::<_, Box<dyn std::error::Error>>(()) })?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// See [`SqlError`].
    pub async fn sql(&self, request: impl Into<SqlRequest>) -> Result<SqlRows, SqlError> {
        self.sql_within(request.into(), Within::default()).await
    }

    /// Runs a statement that sees some events only.
    pub(super) async fn sql_within(
        &self,
        request: SqlRequest,
        within: Within,
    ) -> Result<SqlRows, SqlError> {
        let statement = Statement {
            within,
            ..Statement::new(self, request)
        };
        let (begun, running) = self.sql.run(statement).await?;
        Ok(SqlRows {
            schema: begun.schema,
            head: begun.head,
            running,
        })
    }
}

impl SqlRows {
    /// Of all batches.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The position that the tables are read at.
    pub fn head(&self) -> Position {
        self.head
    }

    /// The next rows, at least one; `None` after the last. An error is the last that comes.
    ///
    /// # Errors
    /// See [`SqlError`].
    pub async fn next(&mut self) -> Result<Option<RecordBatch>, SqlError> {
        self.running.next().await
    }
}

/// Which events a statement sees, in every table of events: all, unless they are narrowed by more than its text can say.
#[derive(Debug, Clone, Default)]
pub(super) struct Within {
    pub(super) filter: Filter,
    pub(super) after: Position,
    pub(super) through: Option<Position>,
}

/// A statement of a tenant, on its way to the workers.
struct Statement {
    tenant: Tenant,
    request: SqlRequest,
    within: Within,
}

impl Statement {
    fn new(tenant: &Tenant, request: SqlRequest) -> Self {
        Self {
            tenant: tenant.clone(),
            request,
            within: Within::default(),
        }
    }

    /// The head that it sees.
    fn head(&self) -> Result<Position, ReadError> {
        self.tenant
            .as_of(self.request.as_of, &[], self.tenant.head())
    }

    /// As DataFusion plans it, with results that every client reads, and before parameters are put in.
    async fn logical_plan(&self, state: &SessionState) -> Result<LogicalPlan, SqlError> {
        let Parsed(statement) = statement::parse(&self.request.statement)?;
        let plan = state.statement_to_plan(statement).await?;
        statement::check_plan(&plan)?;
        Ok(wire::plain(plan)?)
    }

    async fn prepared(self, means: &Means) -> Result<Prepared, SqlError> {
        let head = self.head()?;
        let state = Cut::new(&self.tenant, head, self.within.clone()).session(means);
        let plan = self.logical_plan(&state).await?;
        let mut parameters: Vec<_> = plan.get_parameter_fields()?.into_iter().collect();
        parameters.sort_by_cached_key(|(name, _)| (number_of(name), name.clone()));
        let parameters = parameters.into_iter().map(|(name, field)| match field {
            Some(field) => field.as_ref().clone().with_name(name),
            None => arrow::datatypes::Field::new(name, arrow::datatypes::DataType::Null, true),
        });
        Ok(Prepared {
            schema: Arc::clone(plan.schema().inner()),
            parameters: Arc::new(Schema::new(parameters.collect::<Vec<_>>())),
            head,
        })
    }

    /// Runs it: says what it begins with, then gives its rows.
    async fn run(
        self,
        means: &Means,
        begun: tokio::sync::oneshot::Sender<Begun>,
        rows: &mpsc::Sender<RecordBatch>,
    ) -> Result<(), SqlError> {
        let head = self.head()?;
        let state = Cut::new(&self.tenant, head, self.within.clone()).session(means);
        let mut plan = self.logical_plan(&state).await?;
        let schema = Arc::clone(plan.schema().inner());
        if let Some(parameters) = &self.request.parameters {
            plan = plan.with_param_values(values_of(parameters)?)?;
        }
        let mut open: Vec<_> = plan.get_parameter_names()?.into_iter().collect();
        if !open.is_empty() {
            open.sort_unstable();
            let told = format!("no value is given for {}", open.join(", "));
            return Err(SqlError::Invalid(told));
        }
        let plan = state.optimize(&plan)?;
        let plan = state
            .query_planner()
            .create_physical_plan(&plan, &state)
            .await?;
        let plan = stoppable(plan, &means.stop)?;
        let mut stream = execute_stream(plan, state.task_ctx())?;
        if begun
            .send(Begun {
                schema: Arc::clone(&schema),
                head,
            })
            .is_err()
        {
            return Ok(());
        }
        let rows_max = match self.tenant.limits.sql_result_rows_max {
            0 => u64::MAX,
            max => max,
        };
        let mut given = 0;
        while let Some(batch) = stream.next().await.transpose()? {
            if batch.num_rows() == 0 {
                continue;
            }
            given += batch.num_rows() as u64;
            if given > rows_max {
                return Err(SqlError::Rows { max: rows_max });
            }
            let batch = wire::with_schema(&batch, &schema)?;
            if rows.send(batch).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Of a parameter that has one: they are in the order of their numbers.
fn number_of(parameter: &str) -> Option<u32> {
    parameter.trim_start_matches('$').parse().ok()
}

/// One row as the values of parameters.
fn values_of(row: &RecordBatch) -> Result<ParamValues, SqlError> {
    if row.num_rows() != 1 {
        return Err(SqlError::Invalid(format!(
            "parameters are one row, not {}",
            row.num_rows()
        )));
    }
    let value = |column: &arrow::array::ArrayRef| {
        ScalarValue::try_from_array(column, 0).map(ScalarAndMetadata::from)
    };
    let schema = row.schema();
    let names: Vec<_> = schema
        .fields()
        .iter()
        .map(|field| field.name().trim_start_matches('$').to_owned())
        .collect();
    let are_numbered = names
        .iter()
        .all(|name| name.is_empty() || name == "?" || name.parse::<u32>().is_ok());
    let values = row.columns().iter().map(value);
    Ok(if are_numbered {
        ParamValues::List(values.collect::<Result<_, _>>()?)
    } else {
        let values = values.collect::<Result<Vec<_>, _>>()?;
        ParamValues::Map(names.into_iter().zip(values).collect())
    })
}
