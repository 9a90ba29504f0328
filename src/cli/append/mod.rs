//! `annals append`: JSON lines → events.
//!
//! A thread reads and parses ahead, a few batches at most. Without `--resume` several batches are in flight; with it one,
//! for the sake of order (see `resume`).

mod lines;
mod pipeline;
mod resume;
mod tally;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::mpsc;

use self::{
    lines::{Chunk, Ids, InputError, Lines},
    resume::{IdChain, append_missing},
    tally::Tally,
};
use super::{
    connect::ConnectArgs,
    error::{CliError, advice},
    output::print,
};
use crate::client::{Client, ClientError};

/// Chunks that are parsed ahead.
const CHUNKS_AHEAD: usize = 4;
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// Append events from JSON lines
#[derive(Debug, Args)]
#[command(after_help = "\
Each line is an object with entity_id, event_type and payload (any JSON value, kept as it is written), and optionally
  event_id     UUID that makes a repeat of the event harmless
  metadata     object, for example with correlation_id
  tags         list of strings
  occurred_at  your own time, RFC 3339
Input that is packed with gzip is unpacked.

With --resume event ids follow from the content of the file: run the same command again after it was stopped, and only \
what is missing is appended. The file may have grown; lines already appended must not change. Two files that begin with \
the same lines share them. The server looks for repeats at least in the tenant's last 1,000,000 events.

Examples:
  annals append --file events.jsonl.gz --resume
  echo '{\"entity_id\":\"order-42\",\"event_type\":\"order.paid\",\"payload\":{\"amount\":12.5}}' | annals append")]
pub(super) struct AppendArgs {
    /// JSON lines, plain or gzip; `-` is standard input
    #[arg(long, value_name = "FILE", default_value = "-")]
    file: PathBuf,

    /// Events appended together: all of them or none
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    batch: u32,

    /// Skip what an earlier run with --resume has appended
    #[arg(long)]
    resume: bool,

    /// Print the summary as a JSON object
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    connect: ConnectArgs,
}

/// What ended the work early.
#[derive(Debug)]
enum Stop {
    /// A line that is no event.
    Input(InputError),
    /// A batch that the server does not take, or that could not be brought to it.
    Append(Chunk, ClientError),
}

pub(super) async fn run(args: AppendArgs) -> Result<(), CliError> {
    let client = args.connect.client().await?;
    let ids = if args.resume {
        Ids::Content(IdChain::default())
    } else {
        Ids::New
    };
    let bytes_read = Arc::new(AtomicU64::new(0));
    let lines = Lines::open(&args.file, ids, args.batch as usize, bytes_read.clone())
        .map_err(|e| CliError::Failed(format!("cannot read {}: {e}", args.file.display())))?;
    let name = lines.name().clone();
    let progress = Progress::new(&args, bytes_read);

    let started = Instant::now();
    let mut tally = Tally::default();
    let chunks = parse_ahead(lines);
    let done = if args.resume {
        append_in_order(&client, chunks, &mut tally, &progress).await
    } else {
        pipeline::append(&client, chunks, &mut tally, &progress).await
    };
    progress.bar.finish_and_clear();
    match done {
        Ok(()) => print(&tally.summary(started.elapsed(), args.json)),
        Err(stop) => Err(CliError::Failed(explain(&stop, &name, &tally, args.resume))),
    }
}

fn parse_ahead(mut lines: Lines) -> mpsc::Receiver<Result<Chunk, InputError>> {
    let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
    thread::spawn(move || {
        while let Some(chunk) = lines.next_chunk().transpose() {
            let last = chunk.is_err();
            if sender.blocking_send(chunk).is_err() || last {
                return;
            }
        }
    });
    receiver
}

async fn append_in_order(
    client: &Client,
    mut chunks: mpsc::Receiver<Result<Chunk, InputError>>,
    tally: &mut Tally,
    progress: &Progress,
) -> Result<(), Stop> {
    while let Some(chunk) = chunks.recv().await {
        let chunk = chunk.map_err(Stop::Input)?;
        append_missing(client, chunk, tally)
            .await
            .map_err(|(chunk, error)| Stop::Append(chunk, error))?;
        progress.show(tally);
    }
    Ok(())
}

/// What went wrong, what is in the log, and how to go on: one line.
fn explain(stop: &Stop, name: &str, tally: &Tally, resume: bool) -> String {
    let (place, what) = match stop {
        Stop::Input(error) => (Some(error.line), error.to_string()),
        Stop::Append(chunk, error) => {
            let line = bad_line(chunk, error);
            let place = match (line, chunk.lines.first(), chunk.lines.last()) {
                (Some(line), ..) => format!("{name}:{line}"),
                (None, Some(first), Some(last)) if first != last => {
                    format!("{name}:{first}-{last}")
                }
                (None, Some(first), _) => format!("{name}:{first}"),
                (None, ..) => name.to_owned(),
            };
            (line, format!("{place}: {}", advice(error)))
        }
    };
    let mend = if place.is_some() {
        "mend the line, then "
    } else {
        ""
    };
    let is_too_large = matches!(
        stop,
        Stop::Append(_, ClientError::Refused(refusal)) if refusal.reason == "TOO_LARGE"
    );
    let mend = if is_too_large && mend.is_empty() {
        "with a smaller --batch, "
    } else {
        mend
    };
    let go_on = if resume {
        format!("{mend}run the same command again")
    } else {
        format!("{mend}{}", tally.how_to_go_on())
    };
    format!("{what}; {}; {go_on}", tally.what_is_there())
}

/// The line of the event that the server found something wrong with.
fn bad_line(chunk: &Chunk, error: &ClientError) -> Option<u64> {
    if let [line] = chunk.lines[..] {
        return (!error.violations().is_empty()).then_some(line);
    }
    let index = error.violations().first()?.field.strip_prefix("events[")?;
    let index: usize = index.split(']').next()?.parse().ok()?;
    chunk.lines.get(index).copied()
}

/// A bar on a terminal, nothing elsewhere.
#[derive(Debug)]
struct Progress {
    bar: ProgressBar,
    bytes_read: Arc<AtomicU64>,
}

impl Progress {
    fn new(args: &AppendArgs, bytes_read: Arc<AtomicU64>) -> Self {
        let bytes = std::fs::metadata(&args.file)
            .ok()
            .filter(std::fs::Metadata::is_file)
            .map(|m| m.len());
        let (bar, template) = match bytes {
            Some(bytes) => (
                ProgressBar::new(bytes),
                "{bar:30} {bytes}/{total_bytes} {msg} {eta} left",
            ),
            None => (ProgressBar::new_spinner(), "{spinner} {bytes} {msg}"),
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(PROGRESS_EVERY);
        Self { bar, bytes_read }
    }

    fn show(&self, tally: &Tally) {
        self.bar
            .set_position(self.bytes_read.load(Ordering::Relaxed));
        self.bar.set_message(tally.progress());
    }
}
