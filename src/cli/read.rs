//! `annals read`: events as JSON lines.

use clap::Args;

use super::{
    connect::ConnectArgs, error::CliError, filter::FilterArgs, json::EventWriter, output::Output,
};
use crate::types::{
    id::Position,
    read::{AsOf, Direction, ReadRequest},
};

/// Print events as JSON lines, in the order of the log
#[derive(Debug, Args)]
#[command(after_help = "\
A line has position, entity_id, version, event_type, event_id, recorded_at, payload, and where the event has them \
occurred_at, metadata and tags.

Examples:
  annals read --entity order-42
  annals read --type order.paid --since 2026-01-31T00:00:00Z | jq .payload.amount
  annals read --backward --limit 10
  annals read --as-of 1200            the log as it was after position 1200
  annals read --entity order-42 --as-of v3")]
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

    #[command(flatten)]
    connect: ConnectArgs,
}

pub(super) async fn run(args: ReadArgs) -> Result<(), CliError> {
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
    let mut output = Output::stdout()?;
    let mut writer = EventWriter::default();
    loop {
        // What arrived before an error is printed before it is told.
        let batch = match events.next().await {
            Ok(Some(batch)) => batch,
            Ok(None) => return output.flush(),
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
