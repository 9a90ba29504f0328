//! `annals follow`: events as JSON lines, and then those to come.

use std::time::Duration;

use clap::Args;

use super::{
    connect::ConnectArgs, error::CliError, filter::FilterArgs, json::EventWriter, output::Output,
};
use crate::{
    client::{Client, ClientError, ClientOptions, Start, Subscribed},
    types::id::Position,
};

/// Print events as JSON lines, and go on with those to come
#[derive(Debug, Args)]
#[command(after_help = "\
Begins with the first event of the log unless told otherwise. A lost connection is taken up again where it ended, without \
gap or repeat. Lines are as those of `annals read`.

Examples:
  annals follow --from-head
  annals follow --after 1200 --type order.paid")]
pub(super) struct FollowArgs {
    #[command(flatten)]
    filter: FilterArgs,

    /// Begin after this position
    #[arg(
        long,
        value_name = "POSITION",
        default_value_t = 0,
        hide_default_value = true
    )]
    after: Position,

    /// Begin with what is appended from now on
    #[arg(long, conflicts_with = "after")]
    from_head: bool,

    #[command(flatten)]
    connect: ConnectArgs,
}

pub(super) async fn run(args: FollowArgs) -> Result<(), CliError> {
    let start = if args.from_head {
        Start::Head
    } else {
        Start::After(args.after)
    };
    let options = ClientOptions {
        // Until a person ends it.
        resume_for: Duration::MAX,
        ..args.connect.options()
    };
    let client = Client::connect_with(&args.connect.url, options).await?;
    let mut subscription = client.subscribe(args.filter.filter(), start, None).await?;
    let mut output = Output::stdout()?;
    let mut writer = EventWriter::default();
    loop {
        if let Subscribed::Events(batch) = subscription.next().await? {
            for event in &batch {
                writer.write(&event.map_err(ClientError::from)?, output.buffer());
                output.written()?;
            }
            output.flush()?;
        }
    }
}
