//! One statement, from the server to where its rows go.

use std::{
    future::Future,
    io::{self, IsTerminal},
    path::PathBuf,
    pin::pin,
    time::{Duration, Instant},
};

use super::{
    super::{error::CliError, figures::counted, output::message, table_file::TableFormat},
    mistake,
    sink::{Format, Sink},
};
use crate::{client::Client, types::read::AsOf};

/// How statements run, and where rows go.
pub(super) struct How {
    pub(super) format: Format,
    pub(super) as_of: Option<AsOf>,
    pub(super) output: Option<PathBuf>,
    pub(super) plot: bool,
}

impl How {
    /// Several results may follow each other.
    pub(super) fn is_text(&self) -> bool {
        self.is_table()
            || matches!(
                self.format,
                Format::File(TableFormat::Csv | TableFormat::JsonLines)
            )
    }

    pub(super) fn is_table(&self) -> bool {
        self.plot || self.format == Format::Table
    }
}

/// How far a statement got.
pub(super) enum Ran {
    Whole,
    /// By what it was stopped.
    Stopped(&'static str),
}

/// Runs a statement until its last row is written, or until it is stopped.
pub(super) async fn run_statement(
    client: &Client,
    statement: &str,
    how: &How,
    stopped: impl Future<Output = &'static str>,
) -> Result<Ran, CliError> {
    let begun = Instant::now();
    let path = how.output.as_deref();
    let mut stopped = pin!(stopped);
    let opened = tokio::select! {
        opened = client.sql(statement, how.as_of) => opened,
        name = &mut stopped => return Ok(Ran::Stopped(name)),
    };
    let mut rows = opened.map_err(|e| mistake::told(e, statement))?;
    let mut sink = if how.plot {
        Sink::plot(rows.schema())?
    } else {
        Sink::new(how.format, path, rows.schema())?
    };
    loop {
        let next = tokio::select! {
            next = rows.next() => next,
            name = &mut stopped => {
                sink.give_up(path)?;
                return Ok(Ran::Stopped(name));
            }
        };
        match next {
            Ok(Some(batch)) => sink.write(&batch, path)?,
            Ok(None) => break,
            Err(error) => {
                sink.give_up(path)?;
                return Err(mistake::told(error, statement));
            }
        }
    }
    let count = sink.finish(path)?;
    if io::stderr().is_terminal() {
        let at = rows
            .read_at()
            .map_or_else(String::new, |(head, _)| format!(", at position {head}"));
        message(&format!(
            "{} in {}{at}",
            counted(count, "row"),
            seconds(begun.elapsed())
        ));
    }
    Ok(Ran::Whole)
}

/// Three digits are enough.
fn seconds(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        ..10.0 => format!("{seconds:.3} s"),
        ..100.0 => format!("{seconds:.1} s"),
        _ => format!("{seconds:.0} s"),
    }
}
