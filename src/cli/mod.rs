//! The command line: arguments → calls. One file for each command.
//!
//! What a program may read goes to stdout; progress and messages go to stderr. Exit code 0: done, 1: refused or failed,
//! 2: wrong usage. An error is one line that says what to do.

mod append;
mod bench;
mod compact;
mod completions;
mod connect;
mod csv;
mod duration;
mod error;
mod figures;
mod filter;
mod follow;
mod frequency;
mod json;
mod output;
mod plot;
mod read;
pub mod serve;
mod sql;
mod state;
mod stats;
mod table_file;
mod values;
mod verify;

use std::{future::Future, process::ExitCode};

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use self::{error::CliError, output::message};

/// An event store whose history is at every moment a columnar table.
#[derive(Debug, Parser)]
#[command(
    name = "annals",
    version,
    max_term_width = 100,
    arg_required_else_help = true,
    after_help = "\
Exit codes: 0 done, 1 refused or failed, 2 wrong usage.
Commands but `serve` and `verify --data` talk to the server at --url (ANNALS_URL), as --tenant (ANNALS_TENANT), with \
--token (ANNALS_TOKEN)."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::ServeArgs),
    Append(append::AppendArgs),
    Read(read::ReadArgs),
    Follow(follow::FollowArgs),
    State(state::StateArgs),
    Sql(sql::SqlArgs),
    Frequency(frequency::FrequencyArgs),
    Stats(stats::StatsArgs),
    Compact(compact::CompactArgs),
    Verify(verify::VerifyArgs),
    Bench(bench::BenchArgs),
    Completions(completions::CompletionsArgs),
}

/// Runs what the arguments of this process say.
pub fn main() -> ExitCode {
    // Clap prints what is wrong, and ends with 2.
    let cli = Cli::parse();
    let done = match cli.command {
        Command::Serve(args) => serve::run(args).map_err(CliError::Serve),
        Command::Append(args) => client_command(None, append::run(args)),
        Command::Read(args) => client_command(None, read::run(args)),
        Command::Follow(args) => client_command(None, follow::run(args)),
        Command::State(args) => client_command(None, state::run(args)),
        Command::Sql(args) => client_command(None, sql::run(args)),
        Command::Frequency(args) => client_command(None, frequency::run(args)),
        Command::Stats(args) => client_command(None, stats::run(args)),
        Command::Compact(args) => client_command(None, compact::run(args)),
        Command::Verify(args) => match args.directory() {
            Some(dir) => verify::run_on(&dir, &args),
            None => client_command(None, verify::run(args)),
        },
        Command::Bench(args) => client_command(Some(args.threads()), bench::run(args)),
        Command::Completions(args) => completions::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Whoever reads our output has seen enough: `annals read | head`.
            if error.is_closed_pipe() {
                return ExitCode::SUCCESS;
            }
            message(&format!("annals: {error}"));
            error.exit_code()
        }
    }
}

/// Runs a command that talks to a server, on so many threads; `None`: one for each core.
fn client_command(
    threads: Option<usize>,
    command: impl Future<Output = Result<(), CliError>>,
) -> Result<(), CliError> {
    // What the client warns about, such as a lost subscription, belongs on stderr too.
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(
            EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("annals=warn")),
        )
        .with_target(false)
        .without_time()
        .init();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = threads {
        runtime.worker_threads(threads);
    }
    let runtime = runtime.enable_all().build().map_err(CliError::Runtime)?;
    let done = runtime.block_on(command);
    // A thread that waits for standard input would hold up the end.
    runtime.shutdown_background();
    done
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }
}
