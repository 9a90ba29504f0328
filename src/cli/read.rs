//! `annals read`: events as JSON lines, or as a table (`table_file`).

use std::path::PathBuf;

use clap::{Args, ValueEnum, builder::PossibleValue};
use tokio::signal::unix::{SignalKind, signal};

use super::{
    connect::ConnectArgs,
    error::CliError,
    filter::FilterArgs,
    json::EventWriter,
    output::Output,
    table_file::{self, TableFormat},
};
use crate::types::{
    id::Position,
    read::{AsOf, Direction, ReadRequest},
    scan::ScanRequest,
};

/// Print events as JSON lines, in the order of the log, or write them as a table
#[derive(Debug, Args)]
#[command(after_help = "\
A line has position, entity_id, version, event_type, event_id, recorded_at, payload, and where the event has them \
occurred_at, metadata and tags.

Examples:
  annals read --entity order-42
  annals read --type order.paid --since 2026-01-31T00:00:00Z | jq .payload.amount
  annals read --backward --limit 10
  annals read --as-of 1200            the log as it was after position 1200
  annals read --entity order-42 --as-of v3
  annals read --format parquet --output events.parquet
  annals read --type order.paid --format csv --columns position,recorded_at,payload

A table has these and schema_id as its columns. A file appears under its name once it is whole.")]
pub(super) struct ReadArgs {
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

    /// Read the log as it was then: a position, a time (RFC 3339), or with one --entity a version like v3
    #[arg(long, value_name = "POINT")]
    as_of: Option<AsOf>,

    /// At most so many events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,

    /// From high positions to low ones
    #[arg(long)]
    backward: bool,

    /// How events are written
    #[arg(long, value_name = "FORMAT", default_value = "jsonl")]
    format: Format,

    /// Write to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Only these columns of a table, in this order
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    columns: Vec<String>,

    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, Clone, Copy)]
enum Format {
    JsonLines,
    Table(TableFormat),
}

impl ValueEnum for Format {
    fn value_variants<'a>() -> &'a [Self] {
        &[
            Self::JsonLines,
            Self::Table(TableFormat::Arrow),
            Self::Table(TableFormat::Parquet),
            Self::Table(TableFormat::Csv),
        ]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            Self::JsonLines => PossibleValue::new("jsonl").help("One JSON object a line"),
            Self::Table(format) => return format.to_possible_value(),
        })
    }
}

pub(super) async fn run(args: ReadArgs) -> Result<(), CliError> {
    if args.output.is_none() {
        return read(args).await;
    }
    // What was written of a file goes with the future.
    tokio::select! {
        done = read(args) => done,
        name = stopped() => Err(CliError::Failed(format!("{name}: the file is not written"))),
    }
}

/// Waits for SIGINT or SIGTERM; for ever if they cannot be handled.
async fn stopped() -> &'static str {
    let (Ok(mut interrupt), Ok(mut terminate)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
    }
}

async fn read(args: ReadArgs) -> Result<(), CliError> {
    match args.format {
        Format::JsonLines if !args.columns.is_empty() => Err(CliError::Usage(
            "--columns are those of a table: choose --format arrow, parquet or csv".to_owned(),
        )),
        Format::JsonLines => lines(args).await,
        Format::Table(_) if args.backward => Err(CliError::Usage(
            "a table is written in the order of the log: leave out --backward, or choose --format jsonl"
                .to_owned(),
        )),
        Format::Table(format) => table(args, format).await,
    }
}

async fn table(args: ReadArgs, format: TableFormat) -> Result<(), CliError> {
    let request = ScanRequest {
        columns: args.columns,
        filter: args.filter.filter(),
        after: args.after,
        through: args.through,
        as_of: args.as_of,
        limit: args.limit,
        ..ScanRequest::default()
    };
    let client = args.connect.client().await?;
    table_file::write(&client, &request, format, args.output.as_deref()).await
}

async fn lines(args: ReadArgs) -> Result<(), CliError> {
    let request = ReadRequest {
        filter: args.filter.filter(),
        after: args.after,
        through: args.through,
        direction: if args.backward {
            Direction::Backward
        } else {
            Direction::Forward
        },
        limit: args.limit,
        as_of: args.as_of,
        log_id: None,
    };
    let client = args.connect.client().await?;
    let mut events = client.read(&request).await?;
    let mut output = Output::open(args.output.as_deref())?;
    let mut writer = EventWriter::default();
    loop {
        // What arrived before an error is printed before it is told.
        let batch = match events.next().await {
            Ok(Some(batch)) => batch,
            Ok(None) => return output.finish(),
            Err(error) => {
                output.flush()?;
                return Err(error.into());
            }
        };
        for event in &batch {
            let event = event.map_err(crate::client::ClientError::from)?;
            writer.write(&event, output.buffer());
            output.written()?;
        }
    }
}
