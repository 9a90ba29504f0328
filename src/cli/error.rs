//! Why a command failed, in one line that says what to do, and the exit code for it.

use std::{io, process::ExitCode};

use super::serve::ServeError;
use crate::client::ClientError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    /// The arguments contradict each other or the server's state.
    #[error("{0}")]
    Usage(String),
    /// The call failed.
    #[error("{}", advice(.0))]
    Client(#[from] ClientError),
    /// The command did not do what it was asked for.
    #[error("{0}")]
    Failed(String),
    /// The server did not start, or ended.
    #[error("{}", .0.line())]
    Serve(ServeError),
    /// Nothing can be written to stdout.
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
    /// The machine gives no threads.
    #[error("cannot start: {0}")]
    Runtime(io::Error),
}

impl CliError {
    /// See the command line's module documentation.
    pub(super) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_) => ExitCode::from(2),
            Self::Serve(error) => ExitCode::from(error.exit_code()),
            _ => ExitCode::FAILURE,
        }
    }

    /// The reader of the output has gone.
    pub(super) fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(e) if e.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// The error and what to do about it, in one line.
pub(super) fn advice(error: &ClientError) -> String {
    let text = match error {
        ClientError::NoServer {
            url, refused: true, ..
        } => {
            format!(
                "no server at {url}: start one with `annals serve --data DIR`, or name another with --url"
            )
        }
        ClientError::NoServer { url, .. } => {
            format!("no server answers at {url}: check --url (ANNALS_URL) and the network")
        }
        ClientError::Address { .. } => format!("{error}; check --url (ANNALS_URL)"),
        ClientError::Lost(_) => format!("{error}: check that it still runs, then try again"),
        ClientError::Refused(refusal) if refusal.reason.is_empty() => {
            format!(
                "the server refused: {} ({:?})",
                refusal.message, refusal.code
            )
        }
        _ => error.to_string(),
    };
    // Messages come from anywhere; a line is a line.
    text.replace(['\n', '\r'], " ")
}
