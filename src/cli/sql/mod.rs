//! `annals sql`: statements of SQL, given as an argument, on standard input, or at a prompt (`prompt`).
//!
//! - `statements`: a text as statements.
//! - `run`: one statement, from the server to where its rows go (`sink`; for people, `table`).
//! - `mistake`: where in a statement an error is.

mod complete;
mod mistake;
mod prompt;
mod run;
pub(super) mod sink;
mod statements;
pub(super) mod table;

use std::{
    io::{self, IsTerminal, Read},
    path::PathBuf,
};

use clap::Args;

use self::{
    run::{How, Ran, run_statement},
    sink::Format,
};
use super::{connect::ConnectArgs, error::CliError, read::stopped};
use crate::types::read::AsOf;

/// Longest input of statements: all of it is held.
const INPUT_BYTES_MAX: u64 = 16 << 20;

/// Query with SQL: one statement, those on standard input, or a prompt
#[derive(Debug, Args)]
#[command(after_help = "\
The tables are events, entities, and one for each event type, like types.\"order.paid\"; `show tables` lists them, and \
`describe events` says what columns there are. Statements only read. All tables of a statement are read at one \
position. JSON is taken apart by ->> and ->, as in payload ->> 'amount'.

Examples:
  annals sql \"select event_type, count(*) from events group by event_type order by 2 desc\"
  annals sql                                            a prompt, if standard input is a terminal
  annals sql < report.sql                               statements that end with ;
  annals sql \"select * from events where event_type = 'order.paid'\" --format parquet --output paid.parquet
  annals sql \"select date_trunc('day', recorded_at), count(*) from events group by 1 order by 1\" --plot
  annals sql \"select count(*) from events\" --as-of 1200   as it was after position 1200

A file appears under its name once it is whole.")]
pub(super) struct SqlArgs {
    /// One statement; without it, standard input is read
    #[arg(value_name = "STATEMENT")]
    statement: Option<String>,

    /// How rows are written
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: Format,

    /// Read the tables as they were then: a position, or a time (RFC 3339)
    #[arg(long, value_name = "POINT")]
    as_of: Option<AsOf>,

    /// Write to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Draw a bar for each row: of one column of numbers, beside one of names
    #[arg(long, conflicts_with_all = ["format", "output"])]
    plot: bool,

    #[command(flatten)]
    connect: ConnectArgs,
}

pub(super) async fn run(args: SqlArgs) -> Result<(), CliError> {
    if let Some(AsOf::Version(_)) = args.as_of {
        let told =
            "--as-of is a position like 1200 or a time here: versions are those of one entity";
        return Err(CliError::Usage(told.to_owned()));
    }
    let client = args.connect.client().await?;
    let how = How {
        format: args.format,
        as_of: args.as_of,
        output: args.output,
        plot: args.plot,
    };
    let text = match args.statement {
        Some(statement) => statement,
        None if io::stdin().is_terminal() => return prompt::run(client, how).await,
        None => tokio::task::spawn_blocking(read_input)
            .await
            .unwrap_or_else(|_| Ok(String::new()))?,
    };
    let statements = statements::split(&text);
    if statements.is_empty() {
        let told = "there is no statement: give one as an argument, or on standard input";
        return Err(CliError::Usage(told.to_owned()));
    }
    if statements.len() > 1 && (how.output.is_some() || !how.is_text()) {
        let told = format!(
            "there are {} statements, and one table: run them one by one",
            statements.len()
        );
        return Err(CliError::Usage(told));
    }
    for (nth, statement) in statements.iter().enumerate() {
        if nth > 0 && how.is_table() {
            super::output::print("\n")?;
        }
        match run_statement(&client, statement, &how, stopped()).await? {
            Ran::Whole => {}
            Ran::Stopped(name) => {
                let file = if how.output.is_some() {
                    ": the file is not written"
                } else {
                    ""
                };
                return Err(CliError::Failed(format!("{name}{file}")));
            }
        }
    }
    Ok(())
}

fn read_input() -> Result<String, CliError> {
    let mut text = String::new();
    let read = io::stdin()
        .lock()
        .take(INPUT_BYTES_MAX + 1)
        .read_to_string(&mut text);
    read.map_err(|e| CliError::Failed(format!("cannot read standard input: {e}")))?;
    if text.len() as u64 > INPUT_BYTES_MAX {
        let told = format!("standard input has more than {INPUT_BYTES_MAX} bytes of statements");
        return Err(CliError::Failed(told));
    }
    Ok(text)
}
