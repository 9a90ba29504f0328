//! `annals frequency`: how many events there were when, as bars or as a table.

use std::{path::PathBuf, sync::Arc, time::Duration};

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray},
    datatypes::{DataType, Field, Schema, TimeUnit},
};
use clap::{Args, ValueEnum, builder::PossibleValue};
use console::measure_text_width;
use indicatif::HumanCount;

use super::{
    connect::ConnectArgs,
    duration::parse_duration,
    error::CliError,
    figures::counted,
    filter::FilterArgs,
    output::{Output, message},
    plot::{self, Bar},
    sql::{
        sink::{Format, Sink},
        table::{Look, printable},
    },
};
use crate::{
    client::Client,
    types::{
        analytics::{EventTime, Frequency, FrequencyRequest, Series, SummaryRequest},
        id::Position,
        read::AsOf,
        time::Timestamp,
    },
};

/// Where it is not known.
const TERMINAL_COLUMNS: usize = 80;
/// Buckets that are aimed at if no width is given.
const BUCKETS_AIMED_AT: u128 = 40;
const SECOND: u64 = 1_000_000;
const DAY: u64 = 86_400 * SECOND;
/// Widths that people think in, in microseconds.
const WIDTHS: [u64; 25] = [
    1,
    10,
    100,
    1_000,
    10_000,
    100_000,
    SECOND,
    5 * SECOND,
    10 * SECOND,
    30 * SECOND,
    60 * SECOND,
    300 * SECOND,
    600 * SECOND,
    1_800 * SECOND,
    3_600 * SECOND,
    3 * 3_600 * SECOND,
    6 * 3_600 * SECOND,
    12 * 3_600 * SECOND,
    DAY,
    7 * DAY,
    28 * DAY,
    91 * DAY,
    365 * DAY,
    3_650 * DAY,
    36_500 * DAY,
];

/// Count events in buckets of time
#[derive(Debug, Args)]
#[command(after_help = "\
Buckets without events are there too. They begin at whole multiples of their width since 1970, in UTC.

Examples:
  annals frequency                                    in about 40 buckets
  annals frequency --bucket 1h --since 2026-01-31T00:00:00Z
  annals frequency --bucket 1d --by type --top 5
  annals frequency --occurred --type order.paid --bucket 7d --format csv")]
pub(super) struct FrequencyArgs {
    /// Width of a bucket, like 250ms, 30s, 15m, 1h, 1d or 2w; without it, one that suits the time that there is
    #[arg(long, value_name = "WIDTH", value_parser = parse_duration)]
    bucket: Option<Duration>,

    /// A series for each event type, or entity
    #[arg(long, value_name = "WHAT", value_delimiter = ',')]
    by: Vec<By>,

    /// Only so many series, those with the most events
    #[arg(long, value_name = "N", requires = "by", value_parser = clap::value_parser!(u32).range(1..))]
    top: Option<u32>,

    /// By the time when events occurred, not when they were recorded
    #[arg(long)]
    occurred: bool,

    #[command(flatten)]
    filter: FilterArgs,

    /// Only positions greater than this
    #[arg(
        long,
        value_name = "POSITION",
        default_value_t = 0,
        hide_default_value = true
    )]
    after: Position,

    /// Only positions up to and including this
    #[arg(long, value_name = "POSITION", value_parser = clap::value_parser!(u64).range(1..))]
    through: Option<Position>,

    /// Count as of then: a position, a time (RFC 3339), or with one --entity a version like v3
    #[arg(long, value_name = "POINT")]
    as_of: Option<AsOf>,

    /// How counts are written
    #[arg(long, value_name = "FORMAT", default_value = "plot")]
    format: PlotOr,

    /// Write to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,

    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    Type,
    Entity,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PlotOr {
    Plot,
    Rows(Format),
}

impl ValueEnum for PlotOr {
    fn value_variants<'a>() -> &'a [Self] {
        const ALL: [PlotOr; 6] = [
            PlotOr::Plot,
            PlotOr::Rows(Format::Table),
            PlotOr::Rows(Format::File(super::table_file::TableFormat::Csv)),
            PlotOr::Rows(Format::File(super::table_file::TableFormat::JsonLines)),
            PlotOr::Rows(Format::File(super::table_file::TableFormat::Arrow)),
            PlotOr::Rows(Format::File(super::table_file::TableFormat::Parquet)),
        ];
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        match self {
            Self::Plot => {
                let help = "A bar for each bucket; with --by, a line of blocks for each series";
                Some(PossibleValue::new("plot").help(help))
            }
            Self::Rows(format) => format.to_possible_value(),
        }
    }
}

pub(super) async fn run(args: FrequencyArgs) -> Result<(), CliError> {
    let path = args.output.clone();
    let format = args.format;
    let client = args.connect.client().await?;
    let Some(frequency) = ask(args, &client).await? else {
        message("no events");
        return Ok(());
    };
    let path = path.as_deref();
    match format {
        PlotOr::Plot => {
            let mut output = Output::open(path)?;
            let columns = Look::of_stdout(output.is_terminal()).columns;
            draw(
                &frequency,
                columns.unwrap_or(TERMINAL_COLUMNS),
                output.buffer(),
            );
            output.finish()?;
        }
        PlotOr::Rows(format) => {
            let rows = rows(&frequency);
            let mut sink = Sink::new(format, path, rows.schema_ref())?;
            sink.write(&rows, path)?;
            sink.finish(path)?;
        }
    }
    if frequency.events_without_time > 0 {
        let events = counted(frequency.events_without_time, "event");
        message(&format!("{events} without such a time left out"));
    }
    let shown: u64 = frequency.series.iter().map(|series| series.events).sum();
    if shown < frequency.events {
        let events = counted(frequency.events - shown, "event");
        message(&format!("{events} of other series left out"));
    }
    Ok(())
}

/// `None` if nothing says how wide buckets are: there are no events.
async fn ask(args: FrequencyArgs, client: &Client) -> Result<Option<Frequency>, CliError> {
    let time = if args.occurred {
        EventTime::Occurred
    } else {
        EventTime::Recorded
    };
    let mut request = FrequencyRequest {
        filter: args.filter.filter(),
        after: args.after,
        through: args.through,
        time,
        by_type: args.by.contains(&By::Type),
        by_entity: args.by.contains(&By::Entity),
        top: args.top,
        as_of: args.as_of,
        ..FrequencyRequest::new(args.bucket.unwrap_or_default())
    };
    if args.bucket.is_none() {
        let summary = SummaryRequest {
            filter: request.filter.clone(),
            after: request.after,
            through: request.through,
            time,
            without_intervals: true,
            as_of: request.as_of,
            ..SummaryRequest::default()
        };
        let summary = client.summary(&summary).await?;
        let range = match time {
            EventTime::Recorded => request.filter.recorded,
            EventTime::Occurred => request.filter.occurred,
        };
        let first = range.since.or(summary.total.first_time);
        let last = range.until.or(summary.total.last_time);
        let (Some(first), Some(last)) = (first, last) else {
            return Ok(None);
        };
        request.bucket = width_for(first, last);
        // What was appended since would be counted in buckets that it does not fit.
        request.as_of = Some(AsOf::Position(summary.head));
    }
    Ok(Some(client.frequency(&request).await?))
}

/// One that people think in.
fn width_for(first: Timestamp, last: Timestamp) -> Duration {
    let span = last.as_micros().saturating_sub(first.as_micros()).max(0);
    let span = u128::from(span.unsigned_abs());
    let fits = |width: &&u64| span / u128::from(**width) < BUCKETS_AIMED_AT;
    let widest = WIDTHS.last().copied().unwrap_or(DAY);
    Duration::from_micros(WIDTHS.iter().find(fits).copied().unwrap_or(widest))
}

/// When each bucket begins, in microseconds.
fn starts(frequency: &Frequency) -> impl Iterator<Item = i64> + Clone {
    let width = i64::try_from(frequency.bucket.as_micros()).unwrap_or(i64::MAX);
    let start = frequency.start.map_or(0, Timestamp::as_micros);
    let count = i64::try_from(frequency.buckets).unwrap_or(i64::MAX);
    (0..count).map(move |nth| start.saturating_add(width.saturating_mul(nth)))
}

fn draw(frequency: &Frequency, columns: usize, out: &mut Vec<u8>) {
    let labels = labels(frequency);
    let divided = frequency
        .series
        .iter()
        .any(|series| series.event_type.is_some() || series.entity_id.is_some());
    if divided {
        draw_series(frequency, &labels, columns, out);
        return;
    }
    let counts = frequency
        .series
        .first()
        .map_or(&[][..], |series| &series.counts);
    let bars: Vec<_> = labels
        .into_iter()
        .zip(counts)
        .map(|(label, count)| Bar {
            label,
            text: HumanCount(*count).to_string(),
            value: Some(length(*count)),
        })
        .collect();
    plot::bars(&bars, columns, out);
}

#[expect(clippy::cast_precision_loss, reason = "the length of a bar")]
fn length(count: u64) -> f64 {
    count as f64
}

/// A line for each: its name, how many events, and a block for each bucket; all as high as the highest count says.
fn draw_series(frequency: &Frequency, labels: &[String], columns: usize, out: &mut Vec<u8>) {
    let names: Vec<_> = frequency.series.iter().map(name).collect();
    let totals: Vec<_> = frequency
        .series
        .iter()
        .map(|series| HumanCount(series.events).to_string())
        .collect();
    let widest = |texts: &[String]| texts.iter().map(|text| measure_text_width(text)).max();
    let name_width = widest(&names).unwrap_or_default().min((columns / 3).max(8));
    let total_width = widest(&totals).unwrap_or_default();
    let room = columns.saturating_sub(name_width + total_width + 4).max(1);
    let highest = frequency
        .series
        .iter()
        .flat_map(|series| &series.counts)
        .copied()
        .max();
    for ((series, name), total) in frequency.series.iter().zip(&names).zip(&totals) {
        let name = console::truncate_str(name, name_width, "…");
        let padding = " ".repeat(name_width.saturating_sub(measure_text_width(&name)));
        let heights = plot::heights(&series.counts, highest.unwrap_or_default(), room);
        let line = format!("{name}{padding}  {total:>total_width$}  {heights}");
        out.extend(line.trim_end().as_bytes());
        out.push(b'\n');
    }
    if let (Some(first), Some(last)) = (labels.first(), labels.last()) {
        let buckets = counted(frequency.buckets, "bucket");
        let indent = " ".repeat(name_width + total_width + 4);
        out.extend(format!("{indent}{first} to {last}, {buckets}\n").as_bytes());
    }
}

fn name(series: &Series) -> String {
    let names = [&series.event_type, &series.entity_id];
    let names: Vec<_> = names
        .into_iter()
        .flatten()
        .map(|name| printable(&name.to_string()))
        .collect();
    names.join("  ")
}

/// When buckets begin, no finer than they do.
fn labels(frequency: &Frequency) -> Vec<String> {
    let starts = starts(frequency);
    let all = |unit: u64| {
        starts
            .clone()
            .all(|start| start.rem_euclid(unit.cast_signed()) == 0)
    };
    let length = if all(DAY) {
        "2026-01-31".len()
    } else if all(60 * SECOND) {
        "2026-01-31T12:00".len()
    } else if all(SECOND) {
        "2026-01-31T12:00:00".len()
    } else {
        "2026-01-31T12:00:00.000000".len()
    };
    let label = |start: i64| {
        let text = Timestamp::from_micros(start)
            .map_or_else(|| start.to_string(), |time| time.to_string());
        text.get(..length).unwrap_or(&text).replace('T', " ")
    };
    starts.clone().map(label).collect()
}

/// A row for each bucket of each series.
fn rows(frequency: &Frequency) -> RecordBatch {
    let series = &frequency.series;
    let times = series.iter().flat_map(|_| starts(frequency));
    let times: TimestampMicrosecondArray = times.map(Some).collect();
    let events = series.iter().flat_map(|series| &series.counts);
    let events: Int64Array = events.map(|count| i64::try_from(*count).ok()).collect();
    let names = |name: fn(&Series) -> Option<String>| -> ArrayRef {
        let buckets = frequency.buckets as usize;
        let names = series
            .iter()
            .flat_map(|series| std::iter::repeat_n(name(series), buckets));
        Arc::new(names.collect::<StringArray>())
    };
    let mut fields = vec![Field::new(
        "bucket",
        DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        false,
    )];
    let mut columns: Vec<ArrayRef> = vec![Arc::new(times.with_timezone("UTC"))];
    if series.iter().any(|series| series.event_type.is_some()) {
        fields.push(Field::new("event_type", DataType::Utf8, false));
        columns.push(names(|series| {
            series.event_type.as_ref().map(ToString::to_string)
        }));
    }
    if series.iter().any(|series| series.entity_id.is_some()) {
        fields.push(Field::new("entity_id", DataType::Utf8, false));
        columns.push(names(|series| {
            series.entity_id.as_ref().map(ToString::to_string)
        }));
    }
    fields.push(Field::new("events", DataType::Int64, false));
    columns.push(Arc::new(events));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
        .expect("columns are as long as each other")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::id::LogId;

    fn frequency(start: &str, width: u64, series: Vec<Series>) -> Frequency {
        Frequency {
            start: Some(start.parse().unwrap()),
            bucket: Duration::from_micros(width),
            buckets: series[0].counts.len() as u64,
            series,
            events: 0,
            events_without_time: 0,
            head: 1,
            log_id: LogId::from_bytes([0; 16]),
        }
    }

    fn series(event_type: Option<&str>, counts: &[u64]) -> Series {
        Series {
            event_type: event_type.map(Into::into),
            entity_id: None,
            events: counts.iter().sum(),
            counts: counts.to_vec(),
        }
    }

    fn drawn(frequency: &Frequency, columns: usize) -> String {
        let mut out = Vec::new();
        draw(frequency, columns, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn buckets_are_drawn_with_times_no_finer_than_they_are() {
        let days = frequency(
            "2026-01-30T00:00:00Z",
            DAY,
            vec![series(None, &[1_200, 0, 600])],
        );
        assert_eq!(
            drawn(&days, 27),
            "2026-01-30  1,200  ████████\n2026-01-31      0\n2026-02-01    600  ████\n"
        );
        let minutes = frequency(
            "2026-01-30T10:00:00Z",
            60 * SECOND,
            vec![series(None, &[1])],
        );
        assert!(drawn(&minutes, 40).starts_with("2026-01-30 10:00  1  █"));
    }

    #[test]
    fn series_are_drawn_side_by_side_to_one_scale() {
        let both = vec![
            series(Some("order.paid"), &[0, 4, 8]),
            series(Some("x"), &[1, 0, 0]),
        ];
        assert_eq!(
            drawn(&frequency("2026-01-30T00:00:00Z", DAY, both), 40),
            "order.paid  12   ▄█\nx            1  ▁\n                2026-01-30 to 2026-02-01, 3 buckets\n"
        );
    }

    #[test]
    fn a_width_is_chosen_that_people_think_in() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        for (first, last, width) in [
            ("2026-01-30T00:00:00Z", "2026-01-30T00:00:00Z", 1),
            (
                "2026-01-30T00:00:00Z",
                "2026-01-30T12:00:00Z",
                1_800 * SECOND,
            ),
            ("2026-01-30T00:00:00Z", "2026-02-20T00:00:00Z", DAY),
            ("0001-01-01T00:00:00Z", "9999-01-01T00:00:00Z", 36_500 * DAY),
        ] {
            assert_eq!(
                width_for(at(first), at(last)),
                Duration::from_micros(width),
                "{first} {last}"
            );
        }
    }
}
