//! `annals compact`: fewer and larger segments, now.

use std::{
    fmt::Write,
    time::{Duration, Instant},
};

use clap::Args;
use indicatif::{HumanBytes, HumanCount, HumanDuration, ProgressBar, ProgressStyle};
use serde_json::json;

use super::{connect::ConnectArgs, error::CliError, figures::counted, output::print};
use crate::client::CompactionStats;

/// How often the server is asked how far it is.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// Compact small segments into large ones
#[derive(Debug, Args)]
#[command(after_help = "\
The server does so by itself, a few at a time and at the pace of compact.bytes_per_second. This starts it for all that \
can be compacted, as fast as the disk lets, and waits until it is done. Reads and appends go on; to end the wait ends \
nothing on the server.

Examples:
  annals compact
  annals compact --no-wait
  annals compact --tenant shop --json | jq .segments")]
pub(super) struct CompactArgs {
    /// Start it, and print how things stand
    #[arg(long)]
    no_wait: bool,

    /// One JSON object
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    connect: ConnectArgs,
}

pub(super) async fn run(args: CompactArgs) -> Result<(), CliError> {
    let client = args.connect.client().await?;
    let started = Instant::now();
    let before = client.compaction_stats().await?;
    let mut stats = client.compact().await?;
    if !args.no_wait {
        let style = ProgressStyle::with_template(
            "{msg} {bytes} of {total_bytes} {wide_bar} {bytes_per_sec}",
        );
        let bar = ProgressBar::new(0).with_style(style.expect("the template is right"));
        while stats.running {
            bar.set_message(counted(stats.segments, "segment"));
            bar.set_length(stats.progress_bytes_total);
            bar.set_position(stats.progress_bytes);
            tokio::time::sleep(ASK_EVERY).await;
            stats = client.compaction_stats().await?;
        }
        bar.finish_and_clear();
    }
    print(&if args.json {
        object(&stats).to_string() + "\n"
    } else {
        summary(&before, &stats, started.elapsed())
    })?;
    match &stats.last_error {
        Some(error) if stats.failures > before.failures => Err(CliError::Failed(format!(
            "compacting failed, and the segments stay as they are: {error}"
        ))),
        _ => Ok(()),
    }
}

fn object(stats: &CompactionStats) -> serde_json::Value {
    json!({
        "segments": stats.segments,
        "segment_bytes": stats.segment_bytes,
        "small_segments": stats.small_segments,
        "target_bytes": stats.target_bytes,
        "running": stats.running,
        "progress_bytes": stats.progress_bytes,
        "progress_bytes_total": stats.progress_bytes_total,
        "compactions": stats.compactions,
        "compacted_segments": stats.compacted_segments,
        "written_bytes": stats.written_bytes,
        "failures": stats.failures,
        "last_error": stats.last_error,
        "last_took_seconds": stats.last_took.map(|took| took.as_secs_f64()),
    })
}

fn summary(before: &CompactionStats, stats: &CompactionStats, took: Duration) -> String {
    let segments = counted(stats.segments, "segment");
    let bytes = HumanBytes(stats.segment_bytes);
    let mut line = format!("{segments} of {bytes}");
    let compactions = stats.compactions - before.compactions;
    if compactions > 0 {
        let old = HumanCount(stats.compacted_segments - before.compacted_segments);
        let written = HumanBytes(stats.written_bytes - before.written_bytes);
        let made = HumanCount(compactions);
        let took = HumanDuration(took);
        // Writing to a string does not fail.
        write!(line, "; {old} became {made}, {written} written in {took}").ok();
    }
    if stats.running {
        line += "; compacting";
    } else if compactions == 0 && stats.failures == before.failures {
        line += "; nothing was left to compact";
    }
    line + "\n"
}
