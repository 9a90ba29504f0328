//! `annals verify`: is everything on disk what was written? And what is not, can it be made anew?

use std::{path::PathBuf, time::Duration};

use clap::Args;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use serde_json::json;

use super::{
    error::CliError,
    output::{Output, message},
};
use crate::engine::{
    Engine, OpenError,
    upkeep::{
        repair::Repaired,
        verify::{Outcome, Told, Verified},
    },
};

/// Check every byte of a data directory, and repair what can be
#[derive(Debug, Args)]
#[command(after_help = "\
Reads every file, checks every checksum, and compares what the log, the segments and their indexes say of the same events.
One line for each fault; exit code 1 if there is any. Changes nothing without --repair.

With --repair, which needs the server to be stopped, indexes are rebuilt from segments, segments are sealed again from log
files that still hold their events, and the manifest is rebuilt from the other files. Files that were damaged are copied to
`damaged/` in the tenant's folder. One line for each repair. Exit code 0 only if all is well afterwards and nothing was
lost; what is lost is told, and must come from a backup.

Examples:
  annals verify --data annals-data
  annals verify --data annals-data --json | jq .path
  annals verify --data annals-data --repair")]
pub(super) struct VerifyArgs {
    /// The data directory
    #[arg(long, value_name = "DIR", default_value = "annals-data")]
    data: PathBuf,

    /// Make what is damaged or missing anew, where another form of the same events is good
    #[arg(long)]
    repair: bool,

    /// JSON lines with path, offset and what; with --repair also `repaired` and `lost`
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &VerifyArgs) -> Result<(), CliError> {
    let mut printer = Printer::new(args.json)?;
    let mut tell = |told| printer.tell(told);
    let done = if args.repair {
        Engine::repair(&args.data, &mut tell).map(Done::Repaired)
    } else {
        Engine::verify(&args.data, &mut tell).map(Done::Verified)
    };
    printer.finish()?;
    match done.map_err(failed)? {
        Done::Verified(verified) => verdict(&verified),
        Done::Repaired(repaired) => verdict_of_repair(&repaired),
    }
}

enum Done {
    Verified(Verified),
    Repaired(Repaired),
}

fn failed(error: OpenError) -> CliError {
    CliError::Failed(error.to_string())
}

fn verdict(verified: &Verified) -> Result<(), CliError> {
    let found = summary(verified);
    if verified.faults == 0 {
        message(&found);
        return Ok(());
    }
    Err(CliError::Failed(format!(
        "{found}; stop the server and run `annals verify --repair`, or restore what is damaged from a copy"
    )))
}

fn verdict_of_repair(repaired: &Repaired) -> Result<(), CliError> {
    let (found, left) = (&repaired.found, &repaired.left);
    if found.faults == 0 {
        return verdict(found);
    }
    let found = format!(
        "{} found, {} repaired, {} lost; now {}",
        found.faults,
        repaired.repairs,
        repaired.lost,
        summary(left)
    );
    if left.faults == 0 && repaired.lost == 0 {
        message(&found);
        return Ok(());
    }
    Err(CliError::Failed(found))
}

fn summary(verified: &Verified) -> String {
    let faults = match verified.faults {
        0 => "all is well".to_owned(),
        1 => "1 fault".to_owned(),
        faults => format!("{faults} faults"),
    };
    format!(
        "{faults}: {} events in {} files, tenants: {}",
        HumanCount(verified.events),
        HumanCount(verified.files),
        verified.tenants
    )
}

/// Lines to stdout, and a progress bar beside them.
struct Printer {
    bar: ProgressBar,
    output: Output,
    json: bool,
    printed: Result<(), CliError>,
}

impl Printer {
    fn new(json: bool) -> Result<Self, CliError> {
        let style = ProgressStyle::with_template(
            "{bytes} of {total_bytes} {wide_bar} {bytes_per_sec}, {eta} left",
        );
        let bar = ProgressBar::new(0).with_style(style.expect("the template is right"));
        bar.enable_steady_tick(Duration::from_millis(200));
        Ok(Self {
            bar,
            output: Output::stdout()?,
            json,
            printed: Ok(()),
        })
    }

    fn tell(&mut self, told: Told) {
        let line = match told {
            Told::Bytes(bytes) => return self.bar.inc_length(bytes),
            Told::Read(bytes) => return self.bar.inc(bytes),
            Told::Fault(damage) if self.json => {
                json!({"path": damage.path, "offset": damage.offset, "what": damage.what})
                    .to_string()
            }
            Told::Fault(damage) => format!(
                "{}, byte {}: {}",
                damage.path.display(),
                damage.offset,
                damage.what
            ),
            Told::Repaired(outcome) => self.outcome("repaired", &outcome),
            Told::Lost(outcome) => self.outcome("lost", &outcome),
        };
        self.output.buffer().extend_from_slice(line.as_bytes());
        self.output.buffer().push(b'\n');
        let output = &mut self.output;
        let flushed = self.bar.suspend(|| output.flush());
        if self.printed.is_ok() {
            self.printed = flushed;
        }
    }

    fn outcome(&self, became: &str, Outcome { path, what }: &Outcome) -> String {
        if self.json {
            json!({became: path, "what": what}).to_string()
        } else {
            format!("{became}: {}: {what}", path.display())
        }
    }

    /// Removes the bar; fails if a line could not be printed.
    fn finish(self) -> Result<(), CliError> {
        self.bar.finish_and_clear();
        self.printed
    }
}
