//! How many events there were in each span of time: a statement for where the buckets begin and end, and one that counts.

use std::time::Duration;

use arrow::array::{AsArray, RecordBatch, StringArray};

use super::{Question, count, invalid, longs, number, time};
use crate::{
    engine::{
        sql::{SqlError, Within},
        tenant::Tenant,
    },
    types::{
        analytics::{EventTime, Frequency, FrequencyRequest, Series},
        limits::{
            FREQUENCY_BUCKET_MAX, FREQUENCY_BUCKETS_MAX, FREQUENCY_COUNTS_MAX, FREQUENCY_SERIES_MAX,
        },
        text::Text,
        time::Timestamp,
    },
};

impl Tenant {
    /// Counts events in buckets of time, as of one position.
    ///
    /// # Errors
    /// See [`SqlError`]; `Invalid` for buckets that there would be too many of.
    pub async fn frequency(&self, request: &FrequencyRequest) -> Result<Frequency, SqlError> {
        let width = width_of(request.bucket)?;
        let within = Within {
            filter: request.filter.clone(),
            after: request.after,
            through: request.through,
        };
        let question = Question::new(self, within, request.as_of)?;
        let seen = question.seen(request.time).await?;
        let mut answer = Frequency {
            start: None,
            bucket: request.bucket,
            buckets: 0,
            series: Vec::new(),
            events: seen.with_time,
            events_without_time: seen.all - seen.with_time,
            head: question.head,
            log_id: self.log_id(),
        };
        let Some(buckets) = Buckets::of(request, width, &seen)? else {
            return Ok(answer);
        };
        answer.start = Some(buckets.start);
        answer.buckets = buckets.count;
        answer.series = question.series(request, &buckets).await?;
        Ok(answer)
    }
}

fn width_of(bucket: Duration) -> Result<i64, SqlError> {
    if bucket.is_zero() {
        return Err(invalid("bucket", "must be more than 0"));
    }
    if !bucket.subsec_nanos().is_multiple_of(1_000) {
        let what = "must be whole microseconds, which is what times are kept to";
        return Err(invalid("bucket", what));
    }
    if bucket > FREQUENCY_BUCKET_MAX {
        let days = FREQUENCY_BUCKET_MAX.as_secs() / 86_400;
        return Err(invalid("bucket", format!("is more than {days} days")));
    }
    Ok(i64::try_from(bucket.as_micros()).unwrap_or(i64::MAX))
}

/// What is known before events are counted.
struct Seen {
    all: u64,
    with_time: u64,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
}

/// Where buckets begin, and how many there are.
struct Buckets {
    start: Timestamp,
    width: i64,
    count: u64,
}

impl Buckets {
    /// `None` if there is no time to divide.
    fn of(request: &FrequencyRequest, width: i64, seen: &Seen) -> Result<Option<Self>, SqlError> {
        let range = match request.time {
            EventTime::Recorded => request.filter.recorded,
            EventTime::Occurred => request.filter.occurred,
        };
        let first = range.since.or(seen.first).map(Timestamp::as_micros);
        let last = range.until.map(|until| until.as_micros() - 1);
        let last = last.or(seen.last.map(Timestamp::as_micros));
        let (Some(first), Some(last)) = (first, last) else {
            return Ok(None);
        };
        if last < first {
            return Ok(None);
        }
        let start = first - (first - request.origin.as_micros()).rem_euclid(width);
        let count = (last - start).cast_unsigned() / width.cast_unsigned() + 1;
        if count > FREQUENCY_BUCKETS_MAX {
            let needed = (last - first)
                .cast_unsigned()
                .div_ceil(FREQUENCY_BUCKETS_MAX - 1);
            let needed = Duration::from_micros(needed);
            let what = format!(
                "of {:?} divides the time from {} to {} into {count} buckets, the most is {FREQUENCY_BUCKETS_MAX}: ask for \
                 buckets of at least {needed:?}, or for less time",
                request.bucket,
                told(first),
                told(last)
            );
            return Err(invalid("bucket", what));
        }
        let Some(start) = Timestamp::from_micros(start) else {
            let what = "makes the first bucket begin before the year 1: choose another, or narrower buckets";
            return Err(invalid("origin", what));
        };
        Ok(Some(Self {
            start,
            width,
            count,
        }))
    }

    /// How many series there may be.
    fn series_max(&self) -> u64 {
        FREQUENCY_SERIES_MAX.min(FREQUENCY_COUNTS_MAX / self.count)
    }
}

fn told(micros: i64) -> String {
    Timestamp::from_micros(micros).map_or_else(String::new, |time| time.to_string())
}

impl Question<'_> {
    async fn seen(&self, by: EventTime) -> Result<Seen, SqlError> {
        let statement = format!(
            "select count(*), count(at), min(at), max(at) from (select cast({} as bigint) as at from events)",
            by.column()
        );
        let rows = self.ask_few(statement, Vec::new()).await?;
        let row = rows.first().expect("aggregates without groups give a row");
        Ok(Seen {
            all: count(longs(row, 0), 0),
            with_time: count(longs(row, 1), 0),
            first: time(longs(row, 2), 0),
            last: time(longs(row, 3), 0),
        })
    }

    async fn series(
        &self,
        request: &FrequencyRequest,
        buckets: &Buckets,
    ) -> Result<Vec<Series>, SqlError> {
        let most = buckets.series_max();
        let wanted = request.top.map_or(most + 1, u64::from).max(1);
        if request.top.is_some() && wanted > most {
            return Err(too_many_series("top", buckets));
        }
        let is_divided = request.by_type || request.by_entity;
        let statement = if is_divided {
            divided_sql(request, wanted)
        } else {
            undivided_sql(request.time)
        };
        let parameters = vec![number(buckets.start.as_micros()), number(buckets.width)];
        let mut rows = self.ask(statement, parameters).await?;
        let mut series = Vec::<Series>::new();
        if !is_divided {
            series.push(Series::empty(None, None, buckets));
        }
        while let Some(batch) = rows.next().await? {
            let (types, entities) = (text(&batch, 0), text(&batch, 1));
            let (numbers, events) = (longs(&batch, 2), longs(&batch, 3));
            for row in 0..batch.num_rows() {
                let event_type = request.by_type.then(|| types.value(row));
                let entity_id = request.by_entity.then(|| entities.value(row));
                // Rows of a series come one after the other.
                let is_next = series
                    .last()
                    .is_none_or(|last| !last.is_of(event_type, entity_id));
                if is_next {
                    if series.len() as u64 >= most {
                        let field = if request.by_entity {
                            "by_entity"
                        } else {
                            "by_type"
                        };
                        return Err(too_many_series(field, buckets));
                    }
                    series.push(Series::empty(event_type, entity_id, buckets));
                }
                let (Some(last), bucket) = (series.last_mut(), count(numbers, row)) else {
                    continue;
                };
                let counted = count(events, row);
                last.events += counted;
                if let Some(at) = last.counts.get_mut(bucket as usize) {
                    *at += counted;
                }
            }
        }
        Ok(series)
    }
}

/// In which bucket an event is: `$1` is when the first begins, `$2` how wide they are.
fn bucket_sql(time: EventTime) -> String {
    format!("(cast({} as bigint) - $1) / $2", time.column())
}

fn undivided_sql(time: EventTime) -> String {
    format!(
        "select '' as event_type, '' as entity_id, bucket, count(*)
         from (select {} as bucket from events where {} is not null)
         group by bucket",
        bucket_sql(time),
        time.column()
    )
}

/// Counts of the series with the most events, one series after the other.
fn divided_sql(request: &FrequencyRequest, most: u64) -> String {
    let all = [
        ("event_type", request.by_type),
        ("entity_id", request.by_entity),
    ];
    let keys = all.iter().filter(|(_, is_key)| *is_key);
    let keys: Vec<_> = keys.map(|(name, _)| *name).collect();
    let told = all.map(|(name, is_key)| {
        if is_key {
            format!("chosen.{name}")
        } else {
            format!("'' as {name}")
        }
    });
    let same = keys
        .iter()
        .map(|key| format!("chosen.{key} = counted.{key}"));
    let same: Vec<_> = same.collect();
    let order: Vec<_> = keys.iter().map(|key| format!("chosen.{key}")).collect();
    let keys = keys.join(", ");
    format!(
        "with counted as (
           select {keys}, bucket, count(*) as events
           from (select {keys}, {bucket} as bucket from events where {time} is not null)
           group by {keys}, bucket
         ), chosen as (
           select {keys}, sum(events) as events from counted
           group by {keys} order by events desc, {keys} limit {most}
         )
         select {told}, counted.bucket, counted.events
         from chosen join counted on {same}
         order by chosen.events desc, {order}",
        bucket = bucket_sql(request.time),
        time = request.time.column(),
        told = told.join(", "),
        same = same.join(" and "),
        order = order.join(", "),
    )
}

fn too_many_series(field: &str, buckets: &Buckets) -> SqlError {
    let most = buckets.series_max();
    let what = format!(
        "gives more than {most} series, the most there may be of {} buckets: ask for the `top` {most} or fewer, for wider \
         buckets, or for fewer events",
        buckets.count
    );
    invalid(field, what)
}

fn text(rows: &RecordBatch, column: usize) -> &StringArray {
    rows.column(column).as_string()
}

impl Series {
    fn empty(event_type: Option<&str>, entity_id: Option<&str>, buckets: &Buckets) -> Self {
        Self {
            event_type: event_type.map(Text::from),
            entity_id: entity_id.map(Text::from),
            events: 0,
            counts: vec![0; buckets.count as usize],
        }
    }

    fn is_of(&self, event_type: Option<&str>, entity_id: Option<&str>) -> bool {
        self.event_type.as_ref().map(Text::as_bytes) == event_type.map(str::as_bytes)
            && self.entity_id.as_ref().map(Text::as_bytes) == entity_id.map(str::as_bytes)
    }
}
