//! The prompt of `annals sql`: lines with history and completion (`complete`), until a statement ends with `;`.
//!
//! Ctrl-C gives up what is typed, or the statement that runs; Ctrl-D ends the prompt.

use std::{env, fs, path::PathBuf};

use rustyline::{CompletionType, Config, Editor, error::ReadlineError, history::FileHistory};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::spawn_blocking,
};

use super::{
    super::{error::CliError, output::message},
    complete::Completion,
    run::{How, Ran, run_statement},
    statements,
};
use crate::client::Client;

const PROMPT: &str = "annals> ";
/// Statements that are remembered.
const HISTORY_MAX: usize = 1_000;

type Lines = Editor<Completion, FileHistory>;

/// Asks for statements and runs them, until the end of input.
pub(super) async fn run(client: Client, how: How) -> Result<(), CliError> {
    if how.output.is_some() || !how.is_text() {
        let told =
            "a prompt has many results, and no place for them: give one statement as an argument";
        return Err(CliError::Usage(told.to_owned()));
    }
    let mut lines = lines(&client).await?;
    // From here on Ctrl-C ends no program. While lines are read it is a key, and no signal.
    let mut interrupts = signal(SignalKind::interrupt())
        .map_err(|e| CliError::Failed(format!("cannot wait for Ctrl-C: {e}")))?;
    let history = history_file();
    if let Some(file) = &history {
        // There is none the first time.
        lines.load_history(file).ok();
    }
    message("Statements end with ; and may take several lines. help tells more, Ctrl-D ends.");
    loop {
        let read = spawn_blocking(move || {
            let line = lines.readline(PROMPT);
            (lines, line)
        });
        let line;
        (lines, line) = read
            .await
            .map_err(|_| CliError::Failed("the prompt ended".to_owned()))?;
        let text = match line {
            Ok(text) => text,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => return Ok(()),
            Err(error) => return Err(unread(&error)),
        };
        let text = text.trim();
        if text.is_empty() {
            continue;
        }
        lines.add_history_entry(text).ok();
        if let Some(file) = &history {
            // A history that cannot be kept is no reason to end.
            lines.append_history(file).ok();
        }
        match command(text) {
            Some(Command::Help) => message(HELP),
            Some(Command::Quit) => return Ok(()),
            None => run_all(&client, text, &how, &mut interrupts).await?,
        }
    }
}

const HELP: &str = "\
  show tables;              which tables there are: events, entities, and one for each event type
  describe events;          the columns of a table
  select … from types.\"order.paid\";
                            names with other characters than a-z, 0-9 and _ stand in \"
  payload ->> 'amount'      a value out of JSON, as text
  Tab completes, Ctrl-R searches what was typed before, Ctrl-C gives up, Ctrl-D or quit ends.";

enum Command {
    Help,
    Quit,
}

/// What is no statement.
fn command(text: &str) -> Option<Command> {
    match text.trim_end_matches(';').trim() {
        "help" | "\\?" | "\\h" => Some(Command::Help),
        "exit" | "quit" | "\\q" => Some(Command::Quit),
        _ => None,
    }
}

/// Whether Enter ends what is typed.
pub(super) fn is_done(text: &str) -> bool {
    command(text).is_some() || statements::is_complete(text)
}

/// Runs one after the other, up to the first that fails or is given up.
async fn run_all(
    client: &Client,
    text: &str,
    how: &How,
    interrupts: &mut Signal,
) -> Result<(), CliError> {
    for statement in statements::split(text) {
        let interrupted = async {
            interrupts.recv().await;
            "given up"
        };
        match run_statement(client, statement, how, interrupted).await {
            Ok(Ran::Whole) => {}
            Ok(Ran::Stopped(told)) => {
                message(told);
                break;
            }
            Err(error) if error.is_closed_pipe() => return Err(error),
            Err(error) => {
                message(&format!("error: {error}"));
                break;
            }
        }
    }
    Ok(())
}

async fn lines(client: &Client) -> Result<Lines, CliError> {
    let config = Config::builder()
        .max_history_size(HISTORY_MAX)
        .and_then(|config| config.history_ignore_dups(true))
        .map(|config| config.completion_type(CompletionType::List).build())
        .map_err(|e| unread(&e))?;
    let mut lines = Lines::with_config(config).map_err(|e| unread(&e))?;
    lines.set_helper(Some(Completion::of(client).await));
    Ok(lines)
}

fn unread(error: &ReadlineError) -> CliError {
    CliError::Failed(format!("cannot read from the terminal: {error}"))
}

/// Where what was typed is kept: among the state of programs, as the XDG base directories have it.
fn history_file() -> Option<PathBuf> {
    let state = match env::var_os("XDG_STATE_HOME").filter(|state| !state.is_empty()) {
        Some(state) => PathBuf::from(state),
        None => PathBuf::from(env::var_os("HOME").filter(|home| !home.is_empty())?)
            .join(".local")
            .join("state"),
    };
    let folder = state.join("annals");
    fs::create_dir_all(&folder).ok()?;
    Some(folder.join("sql_history"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enter_ends_a_statement_at_its_semicolon_and_a_command_at_once() {
        for done in ["quit", "help;", "select 1;", "", "\\q"] {
            assert!(is_done(done), "{done}");
        }
        for open in ["select 1", "select ';", "helpful"] {
            assert!(!is_done(open), "{open}");
        }
    }
}
