//! Standard output through a large buffer, and messages on standard error.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::AsFd,
};

use super::error::CliError;

/// Written out when so much has gathered: large enough that the system call does not matter.
const BUFFER_BYTES: usize = 256 << 10;

/// Standard output without the line buffering of `std::io::Stdout`.
#[derive(Debug)]
pub(super) struct Output {
    file: File,
    buffer: Vec<u8>,
}

impl Output {
    pub(super) fn stdout() -> Result<Self, CliError> {
        let file = io::stdout()
            .as_fd()
            .try_clone_to_owned()
            .map_err(CliError::Output)?;
        Ok(Self {
            file: file.into(),
            buffer: Vec::with_capacity(BUFFER_BYTES + (64 << 10)),
        })
    }

    /// Where to write; follow it by [`written`](Self::written).
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Hands the buffer on if it is full.
    pub(super) fn written(&mut self) -> Result<(), CliError> {
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush()
        } else {
            Ok(())
        }
    }

    /// Hands everything on.
    pub(super) fn flush(&mut self) -> Result<(), CliError> {
        self.file
            .write_all(&self.buffer)
            .map_err(CliError::Output)?;
        self.buffer.clear();
        Ok(())
    }
}

/// Prints one text to standard output.
pub(super) fn print(text: &str) -> Result<(), CliError> {
    let mut output = Output::stdout()?;
    output.buffer().extend_from_slice(text.as_bytes());
    output.flush()
}

/// Says something to a person. A closed stderr is no reason to fail.
pub(super) fn message(text: &str) {
    writeln!(io::stderr(), "{text}").ok();
}
