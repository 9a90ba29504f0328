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
    array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch},
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

/// The percentiles that are told.
const PERCENTILES: [i64; 3] = [50, 90, 99];

/// What many numbers of microseconds are like, as columns that [`durations`] reads: of rows of `key` and `micros`, those of
/// each key.
///
/// Not `percentile_cont`: it cuts what it puts between two values to a millionth of the way, seconds of a long one.
fn durations_sql(rows: &str) -> String {
    // The sorted values around each percentile, counted from 1; behind the last one there is none.
    let around = PERCENTILES.map(|percentile| {
        let below = format!("(number - 1) * {percentile} / 100 + 1");
        format!("sorted[{below}], sorted[{below} + 1]")
    });
    format!(
        "select key, number, least, most, mean, {}
         from (
           select key, count(*) as number, min(micros) as least, max(micros) as most, avg(micros) as mean,
             array_sort(array_agg(micros)) as sorted
           from ({rows}) where micros is not null group by key
         )",
        around.join(", ")
    )
}

/// Reads what [`durations_sql`] selects behind the key.
fn durations(rows: &RecordBatch, row: usize) -> Durations {
    let whole = |column: usize| Duration::from_micros(count(longs(rows, column), row));
    let number = longs(rows, 1).value(row);
    let percentile = |nth: usize| {
        let rest = (number - 1) * PERCENTILES.get(nth).unwrap_or(&0) % 100;
        let (below, above) = (longs(rows, 5 + 2 * nth), longs(rows, 6 + 2 * nth));
        let below = below.value(row);
        let above = if above.is_null(row) {
            below
        } else {
            above.value(row)
        };
        between(below, above, rest)
    };
    Durations {
        count: count(longs(rows, 1), row),
        min: whole(2),
        max: whole(3),
        mean: micros(rows.column(4).as_primitive::<Float64Type>().value(row)),
        p50: percentile(0),
        p90: percentile(1),
        p99: percentile(2),
    }
}

/// So many hundredths of the way from one number of microseconds to another, rounded.
fn between(below: i64, above: i64, hundredths: i64) -> Duration {
    let [below, above, hundredths] = [below, above, hundredths].map(i128::from);
    let micros = (below * 100 + (above - below) * hundredths + 50) / 100;
    Duration::from_micros(u64::try_from(micros).unwrap_or_default())
}

/// To the nearest whole one.
#[expect(
    clippy::cast_sign_loss,
    reason = "what is rounded lies between durations, which are not negative"
)]
fn micros(value: f64) -> Duration {
    Duration::from_micros(value.round() as u64)
}
