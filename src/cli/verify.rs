//! `annals verify`: is everything on disk what was written?

use std::{path::PathBuf, time::Duration};

use clap::Args;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use serde_json::json;

use super::{
    error::CliError,
    output::{Output, message},
};
use crate::engine::{
    Engine,
    upkeep::verify::{Told, Verified},
};

/// Check every byte of a data directory that no server is using
#[derive(Debug, Args)]
#[command(after_help = "\
Reads every file, checks every checksum, and compares what the log, the segments and their indexes say of the same events.
Changes nothing. One line for each fault; exit code 1 if there is any.

Examples:
  annals verify --data annals-data
  annals verify --data annals-data --json | jq .path")]
pub(super) struct VerifyArgs {
    /// The data directory
    #[arg(long, value_name = "DIR", default_value = "annals-data")]
    data: PathBuf,

    /// Faults as JSON lines with path, offset and what
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &VerifyArgs) -> Result<(), CliError> {
    let style = ProgressStyle::with_template(
        "{bytes} of {total_bytes} {wide_bar} {bytes_per_sec}, {eta} left",
    );
    let bar = ProgressBar::new(0).with_style(style.expect("the template is right"));
    bar.enable_steady_tick(Duration::from_millis(200));
    let mut output = Output::stdout()?;
    let mut printed = Ok(());
    let mut tell = |told: Told| match told {
        Told::Bytes(bytes) => bar.set_length(bytes),
        Told::Read(bytes) => bar.inc(bytes),
        Told::Fault(damage) => {
            let line = if args.json {
                json!({"path": damage.path, "offset": damage.offset, "what": damage.what})
                    .to_string()
            } else {
                format!(
                    "{}, byte {}: {}",
                    damage.path.display(),
                    damage.offset,
                    damage.what
                )
            };
            output.buffer().extend_from_slice(line.as_bytes());
            output.buffer().push(b'\n');
            let flushed = bar.suspend(|| output.flush());
            printed = std::mem::replace(&mut printed, Ok(())).and(flushed);
        }
    };
    let verified = Engine::verify(&args.data, &mut tell);
    bar.finish_and_clear();
    printed?;
    let verified = verified.map_err(|e| CliError::Failed(e.to_string()))?;
    let found = summary(&verified);
    if verified.faults == 0 {
        message(&found);
        return Ok(());
    }
    Err(CliError::Failed(format!(
        "{found}; restore what is damaged from a copy"
    )))
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
