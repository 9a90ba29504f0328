//! `annals verify`: is everything on disk what was written? And what is not, can it be made anew?

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::{
    connect::ConnectArgs,
    error::CliError,
    figures::counted,
    output::{Output, message},
};
use crate::{
    client::Verifying,
    engine::{
        Engine, OpenError,
        upkeep::{
            repair::Repaired,
            verify::{Outcome, Told, Verified},
        },
    },
    types::read::Damage,
};

/// Check every byte on disk: through the server, or of a data directory that no server uses; and repair what can be
#[derive(Debug, Args)]
#[command(after_help = "\
Reads every file, checks every checksum, and compares what the log, the segments and their indexes say of the same events. \
One line for each fault; exit code 1 if there is any. Changes nothing without --repair.

Without --data, the server at --url verifies its tenant --tenant, while it goes on serving. With --data, all tenants of a \
directory are verified that no server uses, or --tenant alone; it may be one that can only be read.

With --repair, indexes are rebuilt from segments, segments are sealed again from log files that still hold their events, \
and the manifest is rebuilt from the other files. Files that were damaged are copied to `damaged/` in the tenant's folder. \
One line for each repair. Exit code 0 only if all is well afterwards and nothing was lost; what is lost is told, and must \
come from a backup.

Examples:
  annals verify
  annals verify --url http://10.0.0.7:4747 --tenant orders
  annals verify --data annals-data --json | jq .path
  annals verify --data annals-data --repair")]
pub(super) struct VerifyArgs {
    /// A data directory that no server uses, in place of the server at --url
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// Make what is damaged or missing anew, where another form of the same events is good; needs --data
    #[arg(long)]
    repair: bool,

    /// JSON lines with path, offset and what; with --repair also `repaired` and `lost`
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    connect: ConnectArgs,
}

impl VerifyArgs {
    /// The directory to work on, if it is not the server that does.
    pub(super) fn directory(&self) -> Option<PathBuf> {
        self.data.clone()
    }
}

/// Verifies, and repairs, a directory that no server uses.
pub(super) fn run_on(dir: &Path, args: &VerifyArgs) -> Result<(), CliError> {
    let mut printer = Printer::new(args.json)?;
    let mut tell = |told| printer.tell(told);
    let tenant = args.connect.tenant.as_ref();
    let done = if args.repair {
        Engine::repair(dir, tenant, &mut tell).map(Done::Repaired)
    } else {
        Engine::verify(dir, tenant, &mut tell).map(Done::Verified)
    };
    printer.finish()?;
    match done.map_err(|error| failed(error, args.repair))? {
        Done::Verified(verified) => verdict(&verified, dir),
        Done::Repaired(repaired) => verdict_of_repair(&repaired, dir),
    }
}

/// Has the server verify a tenant.
pub(super) async fn run(args: VerifyArgs) -> Result<(), CliError> {
    if args.repair {
        return Err(CliError::Usage(
            "what is served is not repaired: stop the server, then run `annals verify --data DIR --repair`".to_owned(),
        ));
    }
    let mut verification = args.connect.client().await?.verify().await?;
    let mut printer = Printer::new(args.json)?;
    let (mut read, mut bytes) = (0, 0);
    let done = loop {
        match verification.next().await {
            Ok(Verifying::Progress { done, total }) => {
                printer.tell(Told::Bytes(total.saturating_sub(bytes)));
                printer.tell(Told::Read(done.saturating_sub(read)));
                (read, bytes) = (done, total);
            }
            Ok(Verifying::Fault(fault)) => printer.tell(Told::Fault(Damage {
                path: fault.path.into(),
                offset: fault.offset,
                what: fault.what,
            })),
            Ok(Verifying::Done(summary)) => break Ok(summary),
            Err(error) => break Err(error),
        }
    };
    printer.finish()?;
    let summary = done?;
    let verified = Verified {
        tenants: 1,
        files: summary.files,
        events: summary.events,
        faults: summary.faults,
    };
    // Where the server has it, it alone knows.
    verdict(&verified, Path::new("DIR"))
}

enum Done {
    Verified(Verified),
    Repaired(Repaired),
}

fn failed(error: OpenError, repair: bool) -> CliError {
    CliError::Failed(match error {
        OpenError::Locked { dir, holder } if repair => format!(
            "{} is in use by process {holder}: stop it first, what is served is not repaired",
            dir.display()
        ),
        OpenError::Locked { dir, holder } => format!(
            "{} is in use by process {holder}: if that is a server, verify through it with `annals verify --url URL`, or stop it",
            dir.display()
        ),
        error @ OpenError::Io {
            doing: "locking", ..
        } if repair => {
            format!(
                "{error}; repair it where it can be written, as the user that the server runs as"
            )
        }
        error => error.to_string(),
    })
}

fn verdict(verified: &Verified, dir: &Path) -> Result<(), CliError> {
    let found = summary(verified);
    if verified.faults == 0 {
        message(&found);
        return Ok(());
    }
    Err(CliError::Failed(format!(
        "{found}; `annals verify --data {} --repair`, while no server uses it, repairs what can be",
        dir.display()
    )))
}

fn verdict_of_repair(repaired: &Repaired, dir: &Path) -> Result<(), CliError> {
    let (found, left) = (&repaired.found, &repaired.left);
    if found.faults == 0 {
        return verdict(found, dir);
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
        "{faults}: {} in {}, {}",
        counted(verified.events, "event"),
        counted(verified.files, "file"),
        counted(verified.tenants, "tenant")
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
            Told::Fault(damage) if damage.offset == 0 => {
                format!("{}: {}", damage.path.display(), damage.what)
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
