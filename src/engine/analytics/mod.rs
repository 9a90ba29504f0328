//! What is computed over many events, as SQL over their columns: frequencies, summaries, correlations.
//!
//! - `frequency`, `summary`: statements that group and count.
//! - `correlation`: a statement that gives the columns of two types, and a pass over these: sorting all of them by entity
//!   would hold them all in memory, the pass holds what is not followed yet.
//!
//! Invariants: all statements of a call are as of one position and see the same events. What a caller names is a filter or
//! a parameter, never a part of a statement's text. The limits of SQL hold for each statement.
//!
//! Not here: how a statement runs (`engine/sql`), what a request looks like on the wire (`service`).

mod correlation;
mod frequency;
mod summary;

use std::{sync::Arc, time::Duration};

use arrow::{
    array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch},
    datatypes::{Float64Type, Int64Type},
};

use super::{
    sql::{SqlError, SqlRequest, SqlRows, Within},
    tenant::Tenant,
};
use crate::{
    storage::segment::schema::{OCCURRED_AT, RECORDED_AT},
    types::{
        analytics::{Durations, EventTime},
        append::Violations,
        id::Position,
        read::{AsOf, ReadError},
        time::Timestamp,
    },
};

/// The events that a call is about.
struct Question<'a> {
    tenant: &'a Tenant,
    head: Position,
    within: Within,
}

impl<'a> Question<'a> {
    fn new(tenant: &'a Tenant, within: Within, as_of: Option<AsOf>) -> Result<Self, SqlError> {
        tenant.check_filter(&within.filter)?;
        let now = tenant.head();
        if within.after > now {
            return Err(SqlError::Read(ReadError::BeyondHead {
                field: "after",
                position: within.after,
                head: now,
            }));
        }
        Ok(Self {
            tenant,
            head: tenant.as_of(as_of, &within.filter.entity_ids, now)?,
            within,
        })
    }

    /// The rows of a statement, whose parameters are numbered from 1.
    async fn ask(&self, statement: String, parameters: Vec<ArrayRef>) -> Result<SqlRows, SqlError> {
        let numbered = parameters.into_iter().enumerate();
        let numbered = numbered.map(|(i, value)| ((i + 1).to_string(), value));
        let parameters: Vec<_> = numbered.collect();
        let parameters = (!parameters.is_empty()).then(|| {
            RecordBatch::try_from_iter(parameters).expect("parameters have one value each")
        });
        let request = SqlRequest {
            statement,
            parameters,
            as_of: Some(AsOf::Position(self.head)),
        };
        self.tenant.sql_within(request, self.within.clone()).await
    }

    /// All rows of a statement that gives few.
    async fn ask_few(
        &self,
        statement: String,
        parameters: Vec<ArrayRef>,
    ) -> Result<Vec<RecordBatch>, SqlError> {
        let mut rows = self.ask(statement, parameters).await?;
        let mut all = Vec::new();
        while let Some(batch) = rows.next().await? {
            all.push(batch);
        }
        Ok(all)
    }
}

impl EventTime {
    /// The column that holds it.
    fn column(self) -> &'static str {
        match self {
            Self::Recorded => RECORDED_AT,
            Self::Occurred => OCCURRED_AT,
        }
    }
}

fn invalid(field: &str, what: impl Into<String>) -> SqlError {
    SqlError::Read(ReadError::Invalid(Violations::one(field, what)))
}

fn number(value: i64) -> ArrayRef {
    Arc::new(Int64Array::from(vec![value]))
}

/// A column of a statement of ours.
fn longs(rows: &RecordBatch, column: usize) -> &Int64Array {
    rows.column(column).as_primitive::<Int64Type>()
}

fn doubles(rows: &RecordBatch, column: usize) -> &Float64Array {
    rows.column(column).as_primitive::<Float64Type>()
}

/// Counts and positions are never negative.
fn count(of: &Int64Array, row: usize) -> u64 {
    if of.is_null(row) {
        return 0;
    }
    u64::try_from(of.value(row)).unwrap_or_default()
}

fn time(of: &Int64Array, row: usize) -> Option<Timestamp> {
    of.is_valid(row)
        .then(|| Timestamp::from_micros(of.value(row)))?
}

/// What many numbers of microseconds are like: the aggregates that [`durations`] reads, over a column.
fn durations_sql(column: &str) -> String {
    let percentile =
        |share: &str| format!("percentile_cont({share}) within group (order by {column})");
    format!(
        "count({column}), min({column}), max({column}), avg({column}), {}, {}, {}",
        percentile("0.5"),
        percentile("0.9"),
        percentile("0.99")
    )
}

/// Reads what [`durations_sql`] selects, from a column on.
fn durations(rows: &RecordBatch, row: usize, column: usize) -> Durations {
    let whole = |nth: usize| Duration::from_micros(count(longs(rows, column + nth), row));
    let rounded = |nth: usize| {
        let values = doubles(rows, column + nth);
        if values.is_null(row) {
            return Duration::ZERO;
        }
        micros(values.value(row))
    };
    Durations {
        count: count(longs(rows, column), row),
        min: whole(1),
        max: whole(2),
        mean: rounded(3),
        p50: rounded(4),
        p90: rounded(5),
        p99: rounded(6),
    }
}

/// To the nearest whole one.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "what is rounded lies between durations of ours, far below 2^63"
)]
fn micros(value: f64) -> Duration {
    Duration::from_micros(value.round() as u64)
}
