//! What a large tenant costs: opening, memory, disk, and lookups that have to find little among much.
//!
//! - [`fill`]: the events, and how long it takes until they all have their lasting form.
//! - [`measure`]: lookups, in process and over gRPC.
//! - [`segments`]: looking up what is not there among thousands of segments.
//!
//! `make scale EVENTS=100000000` runs it; without a number it says what it is and ends, so that it may be among the
//! benchmarks.

#![expect(clippy::cast_precision_loss, reason = "figures for people")]

mod fill;
mod measure;
#[path = "../program/mod.rs"]
mod program;
mod segments;

use std::{
    env,
    error::Error,
    fmt::{Display, Write as _},
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use annals::Client;
use indicatif::HumanCount;
use tokio::runtime::Runtime;

use self::program::{Ending, Program, Served, count, free_bytes, resident_bytes};

const HELP: &str = "\
Scale appends so many events of 200-byte payloads, waits until they are sealed, and measures what opening, memory, disk and
lookups cost: make scale EVENTS=100000000. Settings, in the environment:
  SCALE_DATA       a folder for the data, which stays; not there yet [a temporary one]
  SCALE_REPORT     where the table goes, as Markdown [scale-report.md]
  SCALE_KEEP_BYTES bytes of log files that are kept; 0: all lookups are answered from segments [0]
  SCALE_SEGMENTS   segments of the last measurement, which has a log of its own; 0: leave it out [4,000]
  SCALE_SECONDS    how long appends go on before kill -9 [20]
It needs about 160 bytes of disk an event, what is kept, and 4 GB: 20 GB for 100 million.
";
/// On disk, with index and what lasts until it is merged.
const EVENT_DISK_BYTES: u64 = 160;
const DISK_RESERVE_BYTES: u64 = 4 << 30;
/// After a server said that it serves, until its memory is looked at.
const IDLE: Duration = Duration::from_secs(5);

type Failure = Box<dyn Error + Send + Sync>;

/// What was measured: a row for each.
#[derive(Debug, Default)]
pub(crate) struct Table(Vec<(String, String)>);

impl Table {
    pub(crate) fn row(&mut self, what: impl Into<String>, measured: impl Into<String>) {
        let (what, measured) = (what.into(), measured.into());
        say(format_args!("  {what}: {measured}"));
        self.0.push((what, measured));
    }

    fn markdown(&self) -> String {
        let mut text = "| what | measured |\n|---|---|\n".to_owned();
        for (what, measured) in &self.0 {
            writeln!(text, "| {what} | {measured} |").expect("memory can be written");
        }
        text
    }
}

pub(crate) fn say(text: impl Display) {
    // A closed stderr is no reason to end.
    writeln!(std::io::stderr(), "{text}").ok();
}

fn number(name: &str) -> Result<Option<u64>, Failure> {
    let text = env::var(name).unwrap_or_default();
    let digits = text.replace(['_', ','], "");
    if digits.is_empty() {
        return Ok(None);
    }
    let number = digits.parse().map_err(|e| format!("{name}={text}: {e}"))?;
    Ok(Some(number))
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            say(format_args!("scale could not be measured: {e}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let Some(events) = number("SCALE_EVENTS")? else {
        say(HELP);
        return Ok(());
    };
    let temporary = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let data = env::var_os("SCALE_DATA").filter(|dir| !dir.is_empty());
    let data = data.map_or_else(|| temporary.path().join("data"), PathBuf::from);
    if data.exists() {
        return Err(format!(
            "{} is there already: it begins with an empty log",
            data.display()
        )
        .into());
    }
    fs::create_dir_all(&data)?;
    let keep_bytes = number("SCALE_KEEP_BYTES")?.unwrap_or(0);
    let from = match keep_bytes {
        0 => "from segments alone",
        _ => "from log files as far as they are kept",
    };
    let (free, needed) = (
        free_bytes(&data),
        events * EVENT_DISK_BYTES + keep_bytes + DISK_RESERVE_BYTES,
    );
    if free < needed {
        let (free, needed) = (free / 1_000_000, needed / 1_000_000);
        return Err(format!("about {needed} MB of disk are needed, and {free} MB are free").into());
    }
    let mut table = Table::default();
    let runtime = Runtime::new()?;
    let plan = fill::Plan::new(events);
    say(format_args!(
        "scale: {} events in {}",
        HumanCount(plan.events),
        data.display()
    ));

    let filled = runtime.block_on(fill::fill(&data, &plan, keep_bytes))?;
    filled.tell(&plan, &mut table);
    disk(&data, &plan, filled.log_bytes_per_event, &mut table);

    let program = Program::new(&data, vec![format!("limits.keep_bytes={keep_bytes}")])?;
    let mut served = program.start()?;
    opened("a clean stop", &mut served, &mut table)?;
    let client = runtime.block_on(Client::connect(program.url()))?;
    say(format_args!("over gRPC, {from}:"));
    runtime.block_on(measure::over_grpc(&client, &plan, &mut table))?;
    served.end(Ending::Term)?;

    say(format_args!("in process, {from}:"));
    runtime.block_on(measure::in_process(&data, &plan, keep_bytes, &mut table))?;

    let seconds = number("SCALE_SECONDS")?.unwrap_or(20);
    let mut served = program.start()?;
    let client = runtime.block_on(Client::connect(program.url()))?;
    let more = runtime.block_on(fill::append_for(
        &client,
        &plan,
        Duration::from_secs(seconds),
    ))?;
    served.end(Ending::Kill)?;
    let mut served = program.start()?;
    let what = format!("kill -9 while 8 writers appended {} more", HumanCount(more));
    opened(&what, &mut served, &mut table)?;
    served.end(Ending::Term)?;
    let begun = Instant::now();
    let said = program.verify()?;
    table.row(
        "annals verify",
        format!("{:.1} s; {said}", begun.elapsed().as_secs_f64()),
    );

    let segments = number("SCALE_SEGMENTS")?.unwrap_or(4_000);
    if segments > 0 {
        say(format_args!(
            "a log of {} small segments:",
            HumanCount(segments)
        ));
        let dir = temporary.path().join("segments");
        runtime.block_on(segments::measure(&dir, segments, &mut table))?;
    }
    report(&plan, &table)
}

fn report(plan: &fill::Plan, table: &Table) -> Result<(), Failure> {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = info
        .lines()
        .find_map(|line| Some(line.strip_prefix("model name")?.split_once(':')?.1.trim()))
        .unwrap_or(env::consts::ARCH);
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let build = if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    };
    let text = format!(
        "# {} events of {} entities, {build} build, {cores} cores of {cpu}\n\n{}",
        HumanCount(plan.events),
        HumanCount(plan.entities),
        table.markdown()
    );
    let path = env::var_os("SCALE_REPORT").filter(|path| !path.is_empty());
    let path = path.map_or_else(|| PathBuf::from("scale-report.md"), PathBuf::from);
    fs::write(&path, &text)?;
    say(format_args!("{text}\nthe table is in {}", path.display()));
    Ok(())
}

/// How long a server took to open, and its memory once it is idle.
fn opened(after: &str, served: &mut Served, table: &mut Table) -> Result<(), Failure> {
    table.row(
        format!("ready after {after}"),
        format!("{:.2} s", served.recovery.as_secs_f64()),
    );
    // Memory of the opening itself is given back by then.
    thread::sleep(IDLE.saturating_sub(served.started.elapsed()));
    if let Some(status) = served.ended() {
        return Err(format!("the server ended by itself: {status}").into());
    }
    let resident = resident_bytes(served.pid()).unwrap_or(0) as f64 / 1e6;
    table.row(
        format!("resident memory, idle, after {after}"),
        format!("{resident:.0} MB"),
    );
    Ok(())
}

fn disk(data: &Path, plan: &fill::Plan, log_bytes_per_event: f64, table: &mut Table) {
    let per_event = |bytes: u64| bytes as f64 / plan.events as f64;
    table.row(
        "log, bytes an event as it was written",
        format!("{log_bytes_per_event:.1}"),
    );
    for (name, folder) in [
        ("log, what is left", "log"),
        ("Parquet", "segments"),
        ("index", "index"),
    ] {
        let files = count(data, folder);
        let mut text = format!(
            "{:.1} MB in {} files",
            files.bytes as f64 / 1e6,
            files.files
        );
        if folder != "log" {
            let an_event = per_event(files.bytes);
            let share = 100.0 * an_event / log_bytes_per_event.max(1.0);
            write!(
                text,
                ", {an_event:.1} bytes an event, {share:.0} % of the log's"
            )
            .expect("memory can be written");
        }
        table.row(format!("disk: {name}"), text);
    }
}
