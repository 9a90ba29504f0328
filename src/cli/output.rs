//! Standard output or a file through a large buffer, and messages on standard error.
//!
//! A file has its name only once it is whole: what is written until then stands beside it, and goes if the command
//! fails or is told to stop.

use std::{
    fmt,
    fs::{self, File},
    io::{self, IsTerminal, Write},
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use super::error::CliError;

/// Written out when so much has gathered: large enough that the system call does not matter.
const BUFFER_BYTES: usize = 256 << 10;

/// Where the output goes, without the line buffering of `std::io::Stdout`.
#[derive(Debug)]
pub(super) struct Output {
    file: File,
    buffer: Vec<u8>,
    /// `None`: standard output.
    name: Option<PathBuf>,
    /// Where the file stands until it is whole.
    partial: Option<PathBuf>,
}

impl Output {
    pub(super) fn stdout() -> Result<Self, CliError> {
        let file = io::stdout()
            .as_fd()
            .try_clone_to_owned()
            .map_err(CliError::Output)?;
        Ok(Self::new(file.into(), None, None))
    }

    /// A file, which replaces the one that is there; standard output if none is named.
    pub(super) fn open(path: Option<&Path>) -> Result<Self, CliError> {
        let Some(path) = path else {
            return Self::stdout();
        };
        let failed = |error: io::Error| write_failed(path, &error);
        // A link stays one; what is there and no file, a pipe or a device, is written to as it is.
        let name = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if fs::metadata(&name).is_ok_and(|there| !there.is_file()) {
            let file = File::options().write(true).open(&name).map_err(failed)?;
            return Ok(Self::new(file, Some(name), None));
        }
        let mut partial = name.clone().into_os_string();
        partial.push(format!(".{}.partial", std::process::id()));
        let file = File::create(&partial).map_err(failed)?;
        Ok(Self::new(file, Some(name), Some(partial.into())))
    }

    fn new(file: File, name: Option<PathBuf>, partial: Option<PathBuf>) -> Self {
        Self {
            file,
            buffer: Vec::with_capacity(BUFFER_BYTES + (64 << 10)),
            name,
            partial,
        }
    }

    /// A person sees it.
    pub(super) fn is_terminal(&self) -> bool {
        self.file.is_terminal()
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
        self.write_out().map_err(|error| match &self.name {
            None => CliError::Output(error),
            Some(name) => write_failed(name, &error),
        })
    }

    /// Hands everything on; a file gets its name.
    pub(super) fn finish(mut self) -> Result<(), CliError> {
        self.flush()?;
        if let (Some(partial), Some(name)) = (&self.partial, &self.name) {
            let named = self
                .file
                .sync_all()
                .and_then(|()| fs::rename(partial, name));
            named.map_err(|error| write_failed(name, &error))?;
            self.partial = None;
        }
        Ok(())
    }

    fn write_out(&mut self) -> io::Result<()> {
        self.file.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

/// What to say if a file cannot be written.
pub(super) fn write_failed(path: &Path, error: &dyn fmt::Display) -> CliError {
    CliError::Failed(format!("cannot write {}: {error}", path.display()))
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER_BYTES {
            self.write_out()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_out()
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some(partial) = &self.partial {
            // What failed was told already.
            fs::remove_file(partial).ok();
        }
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
