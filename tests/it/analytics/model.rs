//! What the calls answer, in plain Rust: one event after the other, without columns and without SQL.

#![expect(
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "counts and times of a test are small"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use annals::{
    Correlation, CorrelationRequest, Durations, Event, EventTime, Filter, Frequency,
    FrequencyRequest, LogId, Position, Series, Summaries, Summary, SummaryRequest, TimeRange,
    Timestamp,
};

/// A log as of a position.
pub(super) struct Model<'a> {
    pub(super) events: &'a [Event],
    pub(super) head: Position,
    pub(super) log_id: LogId,
}

fn time_of(event: &Event, time: EventTime) -> Option<i64> {
    let time = match time {
        EventTime::Recorded => Some(event.recorded_at()),
        EventTime::Occurred => event.occurred_at(),
    };
    time.map(Timestamp::as_micros)
}

fn is_in(range: TimeRange, time: Option<Timestamp>) -> bool {
    range.is_all() || time.is_some_and(|time| range.contains(time))
}

fn lets_through(filter: &Filter, event: &Event) -> bool {
    let any = |names: &[annals::Text], name: &[u8]| {
        names.is_empty() || names.iter().any(|one| one.as_bytes() == name)
    };
    let has = |tag: &annals::Text| event.tags().any(|mine| mine.as_bytes() == tag.as_bytes());
    let item = |item: &annals::QueryItem| {
        any(&item.event_types, event.event_type_bytes()) && item.tags.iter().all(has)
    };
    any(&filter.entity_ids, event.entity_id_bytes())
        && any(&filter.event_types, event.event_type_bytes())
        && event
            .event_type_bytes()
            .starts_with(filter.event_type_prefix.as_bytes())
        && filter.tags.iter().all(has)
        && (filter.query.items.is_empty() || filter.query.items.iter().any(item))
        && is_in(filter.recorded, Some(event.recorded_at()))
        && is_in(filter.occurred, event.occurred_at())
}

/// Between two values in proportion, as `percentile_cont` of PostgreSQL.
fn percentile(sorted: &[i64], hundredths: usize) -> Duration {
    let at = (sorted.len() - 1) * hundredths;
    let (below, rest) = (at / 100, (at % 100) as i64);
    let above = (below + 1).min(sorted.len() - 1);
    let value = sorted[below] * (100 - rest) + sorted[above] * rest;
    Duration::from_micros(((value + 50) / 100) as u64)
}

fn durations(mut micros: Vec<i64>) -> Durations {
    micros.sort_unstable();
    let (Some(min), Some(max)) = (micros.first(), micros.last()) else {
        return Durations::default();
    };
    let mean = micros.iter().sum::<i64>() as f64 / micros.len() as f64;
    Durations {
        count: micros.len() as u64,
        min: Duration::from_micros(*min as u64),
        max: Duration::from_micros(*max as u64),
        mean: Duration::from_micros(mean.round() as u64),
        p50: percentile(&micros, 50),
        p90: percentile(&micros, 90),
        p99: percentile(&micros, 99),
    }
}

impl Model<'_> {
    fn matching(&self, filter: &Filter, after: Position, through: Option<Position>) -> Vec<&Event> {
        let through = through.unwrap_or(u64::MAX).min(self.head);
        self.events
            .iter()
            .filter(|event| (after + 1..=through).contains(&event.position()))
            .filter(|event| lets_through(filter, event))
            .collect()
    }

    pub(super) fn frequency(&self, request: &FrequencyRequest) -> Frequency {
        let events = self.matching(&request.filter, request.after, request.through);
        let timed: Vec<(i64, &Event)> = events
            .iter()
            .filter_map(|event| Some((time_of(event, request.time)?, *event)))
            .collect();
        let range = match request.time {
            EventTime::Recorded => request.filter.recorded,
            EventTime::Occurred => request.filter.occurred,
        };
        let moments = || timed.iter().map(|(time, _)| *time);
        let first = range.since.map(Timestamp::as_micros).or(moments().min());
        let last = range.until.map(|time| time.as_micros() - 1);
        let last = last.or(moments().max());
        let mut answer = Frequency {
            start: None,
            bucket: request.bucket,
            buckets: 0,
            series: Vec::new(),
            events: timed.len() as u64,
            events_without_time: (events.len() - timed.len()) as u64,
            head: self.head,
            log_id: self.log_id,
        };
        let (Some(first), Some(last)) = (first, last) else {
            return answer;
        };
        if last < first {
            return answer;
        }
        let width = request.bucket.as_micros() as i64;
        // Walks from bucket to bucket, where the server computes.
        let mut start = request.origin.as_micros();
        while start > first {
            start -= width;
        }
        while start + width <= first {
            start += width;
        }
        let mut buckets = 1;
        while start + width * buckets <= last {
            buckets += 1;
        }
        answer.start = Timestamp::from_micros(start);
        answer.buckets = buckets as u64;
        let mut counts = BTreeMap::new();
        if !request.by_type && !request.by_entity {
            counts.insert((None, None), vec![0; buckets as usize]);
        }
        for (time, event) in &timed {
            let event_type = request.by_type.then(|| event.event_type().to_owned());
            let entity_id = request.by_entity.then(|| event.entity_id().to_owned());
            let series = counts
                .entry((event_type, entity_id))
                .or_insert_with(|| vec![0; buckets as usize]);
            let bucket =
                (0..buckets).find(|n| (start + n * width..start + (n + 1) * width).contains(time));
            series[bucket.unwrap() as usize] += 1;
        }
        answer.series = counts
            .into_iter()
            .map(|((event_type, entity_id), counts)| Series {
                event_type: event_type.map(Into::into),
                entity_id: entity_id.map(Into::into),
                events: counts.iter().sum(),
                counts,
            })
            .collect();
        // Stable: the names of those of as many events stay in order.
        answer.series.sort_by_key(|series| u64::MAX - series.events);
        answer
            .series
            .truncate(request.top.map_or(usize::MAX, |top| top as usize));
        answer
    }

    pub(super) fn summaries(&self, request: &SummaryRequest) -> Summaries {
        let events = self.matching(&request.filter, request.after, request.through);
        let mut types = Vec::new();
        if request.by_type {
            let names: BTreeSet<_> = events.iter().map(|event| event.event_type()).collect();
            for name in names {
                let of_type = events.iter().filter(|event| event.event_type() == name);
                let of_type: Vec<_> = of_type.copied().collect();
                let mut summary = summary(&of_type, request);
                summary.event_type = Some(name.into());
                types.push(summary);
            }
            types.sort_by_key(|summary| u64::MAX - summary.events);
        }
        Summaries {
            total: summary(&events, request),
            types,
            head: self.head,
            log_id: self.log_id,
        }
    }

    /// Looks at every pair.
    pub(super) fn correlation(&self, request: &CorrelationRequest) -> Correlation {
        let events = self.matching(&request.filter, request.after, request.through);
        let of_type = |name: &annals::Text| -> Vec<_> {
            let mine = events
                .iter()
                .filter(|event| event.event_type_bytes() == name.as_bytes());
            mine.filter_map(|event| Some((time_of(event, request.time)?, *event)))
                .collect()
        };
        let (firsts, thens) = (of_type(&request.first_type), of_type(&request.then_type));
        let mut delays = Vec::new();
        for (began, first) in &firsts {
            let next = thens.iter().find(|(_, then)| {
                then.entity_id() == first.entity_id() && then.position() > first.position()
            });
            let Some((ended, _)) = next else { continue };
            let within = request
                .within
                .map_or(i64::MAX, |within| within.as_micros() as i64);
            if (0..=within).contains(&(ended - began)) {
                delays.push(ended - began);
            }
        }
        let followed = delays.len() as u64;
        Correlation {
            first_events: firsts.len() as u64,
            then_events: thens.len() as u64,
            followed,
            share: if firsts.is_empty() {
                0.0
            } else {
                followed as f64 / firsts.len() as f64
            },
            delays: durations(delays),
            head: self.head,
            log_id: self.log_id,
        }
    }
}

fn summary(events: &[&Event], request: &SummaryRequest) -> Summary {
    let mut timed: Vec<_> = events
        .iter()
        .filter_map(|event| Some((time_of(event, request.time)?, *event)))
        .collect();
    timed.sort_by_key(|(time, event)| (*time, event.position()));
    let mut last_of = BTreeMap::new();
    let (mut intervals, mut entity_intervals) = (Vec::new(), Vec::new());
    for (n, (time, event)) in timed.iter().enumerate() {
        if n > 0 {
            intervals.push(time - timed[n - 1].0);
        }
        if let Some(last) = last_of.insert(event.entity_id(), *time) {
            entity_intervals.push(time - last);
        }
    }
    if request.without_intervals {
        (intervals, entity_intervals) = (Vec::new(), Vec::new());
    }
    let names = |name: fn(&Event) -> &str| {
        let names: BTreeSet<_> = events.iter().map(|event| name(event).to_owned()).collect();
        names.len() as u64
    };
    let time = |of: Option<&(i64, &Event)>| of.and_then(|(time, _)| Timestamp::from_micros(*time));
    Summary {
        event_type: None,
        events: events.len() as u64,
        entities: names(Event::entity_id),
        event_types: names(Event::event_type),
        first_position: events.first().map_or(0, |event| event.position()),
        last_position: events.last().map_or(0, |event| event.position()),
        first_time: time(timed.first()),
        last_time: time(timed.last()),
        events_without_time: (events.len() - timed.len()) as u64,
        intervals: durations(intervals),
        entity_intervals: durations(entity_intervals),
    }
}
