//! `annals bench`: load on a running server over gRPC, and what came of it.
//!
//! Events are decoded and their order is checked, as a program would. What the load is made of is made before the clock
//! starts, since the load shares its machine with the server.

mod append;
mod floors;
mod material;
mod meter;
mod read;
mod report;
mod subscribe;

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use self::{
    floors::Floors,
    material::{Material, Spread},
    meter::{Figures, Window},
    report::Report,
};
use super::{connect::ConnectArgs, error::CliError, output::print};
use crate::{client::Client, types::append::Batch};

/// Put load on a server and measure
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Works:
  append         batches by several writers, each waiting for its answer
  stream-append  batches over several streams, without waiting for answers
  read-all       the whole log, again and again
  read-entity    entities of 100 events each, which are appended before if they are not there
  subscribe      catching up with the log, then how long events take from their acknowledgement to a subscriber
  no-match       guarded by `no event has this tag` and unguarded appends in turns

Works that need events append them first (--prepare). It all stays in the log: use a server whose data you can throw away. \
Figures are printed beside floors of the same machine in the same run: an empty gRPC call by as many callers, and \
fdatasync of 4 KiB in a written file in --floor-dir, which must be on the disk of the server's data to mean anything.

Examples:
  annals bench --writers 8 --batch 1000 --seconds 30 --floor-dir DATA
  annals bench --work stream-append --json | jq .events_per_second
  annals bench --idle-subscribers 10000")]
pub(super) struct BenchArgs {
    /// What to do
    #[arg(long, value_enum, default_value_t = Work::Append)]
    work: Work,

    /// Writers, streams, readers or subscribers at once [default: append 8, stream-append 4, others 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    writers: Option<u32>,

    /// Connections that they share [default: one for each, at most 64]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: Option<u32>,

    /// Events in a batch [default: append 1000, others 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    batch: Option<u32>,

    /// Batches of a stream that wait for their answers
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    in_flight: u32,

    /// How long to measure
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,

    /// Before measuring
    #[arg(long, value_name = "S", default_value_t = 1, value_parser = clap::value_parser!(u64).range(0..=3_600))]
    warm_up_seconds: u64,

    /// Entities that events are about
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    entities: u32,

    /// All entities alike, instead of the n-th 1/n as often as the first (Zipf)
    #[arg(long)]
    uniform: bool,

    /// Bytes of a payload, which do not compress
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(8..=1_000_000))]
    payload_bytes: u32,

    /// For read-all, subscribe and no-match: append until the log has so many events
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    prepare: u64,

    /// For subscribe: events a second while latency is measured
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    rate: u32,

    /// For append: measure again while so many subscribers wait for what never comes
    #[arg(long, value_name = "N", default_value_t = 0)]
    idle_subscribers: u32,

    /// Where to measure fdatasync; on the disk of the server's data [default: the system's temporary directory]
    #[arg(long, value_name = "DIR")]
    floor_dir: Option<PathBuf>,

    /// Do not measure the floors
    #[arg(long)]
    no_floors: bool,

    /// Threads of the load
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: u32,

    /// One JSON object
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Work {
    Append,
    StreamAppend,
    ReadAll,
    ReadEntity,
    Subscribe,
    NoMatch,
}

impl Work {
    fn name(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::StreamAppend => "stream-append",
            Self::ReadAll => "read-all",
            Self::ReadEntity => "read-entity",
            Self::Subscribe => "subscribe",
            Self::NoMatch => "no-match",
        }
    }
}

/// A run: its arguments, connections and material.
#[derive(Debug)]
struct Bench {
    args: BenchArgs,
    clients: Vec<Client>,
    material: &'static Material,
    writers: usize,
    batch: usize,
}

/// What a work measured.
#[derive(Debug)]
struct Outcome {
    figures: Figures,
    /// What only this work measures: a name and figures.
    more: Vec<(&'static str, serde_json::Value)>,
}

impl From<Figures> for Outcome {
    fn from(figures: Figures) -> Self {
        Self {
            figures,
            more: Vec::new(),
        }
    }
}

impl BenchArgs {
    /// Of the runtime.
    pub(super) fn threads(&self) -> usize {
        self.threads as usize
    }
}

pub(super) async fn run(args: BenchArgs) -> Result<(), CliError> {
    let bench = Bench::new(args).await?;
    let floors = bench.floors().await?;
    let outcome = match bench.args.work {
        Work::Append => append::append(&bench).await?,
        Work::StreamAppend => append::stream_append(&bench).await?,
        Work::NoMatch => append::no_match(&bench).await?,
        Work::ReadAll => read::read_all(&bench).await?,
        Work::ReadEntity => read::read_entity(&bench).await?,
        Work::Subscribe => subscribe::subscribe(&bench).await?,
    };
    let stats = bench.clients[0].stats().await?;
    let report = Report::new(&bench, outcome, floors, &stats);
    print(&if bench.args.json {
        report.json()
    } else {
        report.text()
    })
}

impl Bench {
    async fn new(args: BenchArgs) -> Result<Self, CliError> {
        let (writers, batch) = match args.work {
            Work::Append => (8, 1000),
            Work::StreamAppend => (4, 1),
            _ => (1, 1),
        };
        let writers = args.writers.unwrap_or(writers);
        let connections = args.connections.unwrap_or(writers.min(64));
        let mut clients = Vec::new();
        for _ in 0..connections {
            clients.push(args.connect.client().await?);
        }
        let spread = if args.uniform {
            Spread::Uniform
        } else {
            Spread::Zipf
        };
        let prefix = if args.work == Work::ReadEntity {
            read::ENTITY_PREFIX
        } else {
            "bench-"
        };
        let material = Material::new(prefix, args.entities, spread, args.payload_bytes as usize);
        Ok(Self {
            writers: writers as usize,
            batch: args.batch.unwrap_or(batch) as usize,
            args,
            clients,
            material,
        })
    }

    /// One for each writer.
    fn clients(&self) -> impl Iterator<Item = (usize, Client)> + '_ {
        self.clients
            .iter()
            .cycle()
            .cloned()
            .enumerate()
            .take(self.writers)
    }

    fn seconds(&self) -> Duration {
        Duration::from_secs(self.args.seconds)
    }

    fn warm_up(&self) -> Duration {
        Duration::from_secs(self.args.warm_up_seconds)
    }

    /// The window of the work, shown on a terminal as it passes.
    fn window(&self) -> Window {
        let window = Window::new(self.warm_up(), self.seconds());
        show_time(self.args.work.name(), window);
        window
    }

    async fn floors(&self) -> Result<Option<Floors>, CliError> {
        if self.args.no_floors {
            return Ok(None);
        }
        let dir = self.floor_dir();
        floors::measure(&self.clients, self.writers, &dir)
            .await
            .map(Some)
    }

    fn floor_dir(&self) -> PathBuf {
        self.args
            .floor_dir
            .clone()
            .unwrap_or_else(std::env::temp_dir)
    }

    /// Appends until the log has as many events as were asked for. Returns the head.
    async fn prepare(&self) -> Result<u64, CliError> {
        const BATCH: u64 = 1000;
        let client = &self.clients[0];
        let stats = client.stats().await?;
        let mut head = stats.tenants.first().map_or(0, |tenant| tenant.head);
        let mut feed = self.material.feed(0, 1);
        let bar = count_bar("preparing", self.args.prepare);
        let mut batch = Batch::default();
        while head < self.args.prepare {
            feed.fill(&mut batch, (self.args.prepare - head).min(BATCH) as usize);
            head = client.append(&batch).await?.last_position;
            bar.set_position(head);
        }
        bar.finish_and_clear();
        if head == 0 {
            let hint = "the log has no events: leave --prepare as it is, or append some";
            return Err(CliError::Usage(hint.into()));
        }
        Ok(head)
    }
}

/// A bar that counts events; hidden unless stderr is a terminal.
fn count_bar(what: &'static str, events: u64) -> ProgressBar {
    let bar = ProgressBar::new(events).with_message(what);
    if let Ok(style) =
        ProgressStyle::with_template("{msg} {bar:30} {human_pos}/{human_len} {per_sec}")
    {
        bar.set_style(style);
    }
    bar
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A bar that follows the clock until the window closes.
fn show_time(what: &'static str, window: Window) {
    const STEP: Duration = Duration::from_millis(250);
    let until = window.until();
    let whole = until.saturating_duration_since(std::time::Instant::now());
    let bar = ProgressBar::new(millis(whole)).with_message(what);
    if bar.is_hidden() {
        return;
    }
    if let Ok(style) = ProgressStyle::with_template("{msg} {bar:30} {elapsed}") {
        bar.set_style(style);
    }
    tokio::spawn(async move {
        loop {
            let left = until.saturating_duration_since(std::time::Instant::now());
            if left.is_zero() {
                return bar.finish_and_clear();
            }
            bar.set_position(millis(whole.saturating_sub(left)));
            tokio::time::sleep(STEP.min(left)).await;
        }
    });
}
