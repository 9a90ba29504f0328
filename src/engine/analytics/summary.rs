//! How many events there are, of what, and the times between them: a statement that counts, and two for the times.

use std::collections::HashMap;

use arrow::array::{AsArray, RecordBatch};

use super::{Question, count, durations, durations_sql, invalid, longs, time};
use crate::{
    engine::{
        sql::{SqlError, Within},
        tenant::Tenant,
    },
    storage::segment::schema::POSITION,
    types::{
        analytics::{Durations, EventTime, Summaries, Summary, SummaryRequest},
        limits::SUMMARY_TYPES_MAX,
        text::Text,
    },
};

/// Of what summaries are made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Each {
    All,
    Type,
}

impl Each {
    /// What rows are grouped by: the same value for all, or the type.
    fn key(self) -> &'static str {
        match self {
            Self::All => "''",
            Self::Type => "event_type",
        }
    }
}

impl Tenant {
    /// Summarises events, as of one position.
    ///
    /// # Errors
    /// See [`SqlError`]; `Invalid` for a summary of each of too many types.
    pub async fn summary(&self, request: &SummaryRequest) -> Result<Summaries, SqlError> {
        let within = Within {
            filter: request.filter.clone(),
            after: request.after,
            through: request.through,
        };
        let question = Question::new(self, within, request.as_of)?;
        let total = question.summaries(request, Each::All).await?;
        let types = if request.by_type {
            question.summaries(request, Each::Type).await?
        } else {
            Vec::new()
        };
        Ok(Summaries {
            total: total.into_iter().next().unwrap_or_default(),
            types,
            head: question.head,
            log_id: self.log_id(),
        })
    }
}

impl Question<'_> {
    async fn summaries(
        &self,
        request: &SummaryRequest,
        each: Each,
    ) -> Result<Vec<Summary>, SqlError> {
        let mut summaries = self.counts(request.time, each).await?;
        if request.without_intervals {
            return Ok(summaries);
        }
        let mut intervals = self.intervals(request.time, each, false).await?;
        let mut of_entities = self.intervals(request.time, each, true).await?;
        for summary in &mut summaries {
            let key = key_of(summary.event_type.as_ref());
            summary.intervals = intervals.remove(&key).unwrap_or_default();
            summary.entity_intervals = of_entities.remove(&key).unwrap_or_default();
        }
        Ok(summaries)
    }

    async fn counts(&self, by: EventTime, each: Each) -> Result<Vec<Summary>, SqlError> {
        let statement = format!(
            "select {key} as key, count(*) as events, count(distinct entity_id), count(distinct event_type),
               min(position), max(position), count(at), min(at), max(at)
             from (select event_type, entity_id, position, cast({time} as bigint) as at from events)
             group by key order by events desc, key limit {}",
            SUMMARY_TYPES_MAX + 1,
            key = each.key(),
            time = by.column(),
        );
        let rows = self.ask_few(statement, Vec::new()).await?;
        let summaries: Vec<_> = rows
            .iter()
            .flat_map(|batch| (0..batch.num_rows()).map(|row| summary(batch, row, each)))
            .collect();
        if summaries.len() > SUMMARY_TYPES_MAX {
            let what = format!(
                "gives more than {SUMMARY_TYPES_MAX} summaries, the most there may be: narrow the filter"
            );
            return Err(invalid("by_type", what));
        }
        Ok(summaries)
    }

    /// The times between events; those of each entity, or of all that come one after the other.
    async fn intervals(
        &self,
        by: EventTime,
        each: Each,
        of_entities: bool,
    ) -> Result<HashMap<String, Durations>, SqlError> {
        let mut divided = Vec::new();
        if each == Each::Type {
            divided.push("event_type");
        }
        if of_entities {
            divided.push("entity_id");
        }
        // Events of one time may come in any order: the times between them are the same.
        let order = match by {
            // The order that they are read in: nothing is sorted.
            EventTime::Recorded if divided.is_empty() => POSITION,
            _ => "at",
        };
        let divided = if divided.is_empty() {
            String::new()
        } else {
            format!("partition by {}", divided.join(", "))
        };
        let waited = format!(
            "select {key} as key, at - lag(at) over ({divided} order by {order}) as micros
             from (
               select event_type, entity_id, position, cast({time} as bigint) as at
               from events where {time} is not null
             )",
            key = each.key(),
            time = by.column(),
        );
        let statement = durations_sql(&waited);
        let rows = self.ask_few(statement, Vec::new()).await?;
        let of_row = |batch: &RecordBatch, row| {
            let key = batch.column(0).as_string::<i32>().value(row).to_owned();
            (key, durations(batch, row))
        };
        Ok(rows
            .iter()
            .flat_map(|batch| (0..batch.num_rows()).map(move |row| of_row(batch, row)))
            .collect())
    }
}

fn summary(batch: &RecordBatch, row: usize, each: Each) -> Summary {
    let number = |column: usize| count(longs(batch, column), row);
    let key = batch.column(0).as_string::<i32>().value(row);
    let events = number(1);
    Summary {
        event_type: (each == Each::Type).then(|| Text::from(key)),
        events,
        entities: number(2),
        event_types: number(3),
        first_position: number(4),
        last_position: number(5),
        first_time: time(longs(batch, 7), row),
        last_time: time(longs(batch, 8), row),
        events_without_time: events - number(6),
        ..Summary::default()
    }
}

fn key_of(event_type: Option<&Text>) -> String {
    event_type.map(Text::to_string).unwrap_or_default()
}
