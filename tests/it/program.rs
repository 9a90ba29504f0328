//! The real program, as a person or a script runs it.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use serde_json::Value;

pub(crate) const PERMITS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/data/building-permits.jsonl.gz"
);

/// The program without what the environment says about servers.
pub(crate) fn annals() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_annals"));
    for name in ["ANNALS_URL", "ANNALS_TENANT", "ANNALS_TOKEN", "RUST_LOG"] {
        command.env_remove(name);
    }
    command
}

/// `annals serve` in a process of its own, killed when dropped.
pub(crate) struct Served {
    process: Child,
    pub(crate) url: String,
}

impl Served {
    /// On a free port.
    pub(crate) fn start(data: &Path) -> Self {
        Self::start_at(data, "127.0.0.1:0")
    }

    pub(crate) fn start_at(data: &Path, listen: &str) -> Self {
        Self::start_with(data, listen, &[])
    }

    /// With settings, like `drain_seconds=5`.
    pub(crate) fn start_with(data: &Path, listen: &str, settings: &[&str]) -> Self {
        let mut process = annals()
            .args(["serve", "--listen", listen, "--data"])
            .arg(data)
            .args(settings.iter().flat_map(|setting| ["--set", setting]))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let mut said = String::new();
        let url = loop {
            let line = lines
                .next()
                .unwrap_or_else(|| panic!("it ended, saying: {said}"))
                .unwrap();
            if let Some(url) = line.trim_start().strip_prefix("url ") {
                break url.trim().to_owned();
            }
            said += &line;
        };
        // Goes on reading, so that the server never waits for room in the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, url }
    }

    /// `HOST:PORT`.
    pub(crate) fn address(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// A command against this server.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = annals();
        command.args(args).env("ANNALS_URL", &self.url);
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Done {
        self.run_with_input(args, b"")
    }

    pub(crate) fn run_with_input(&self, args: &[&str], input: &[u8]) -> Done {
        let mut child = self
            .command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        // It may end before it has read everything.
        let writing = std::thread::spawn(move || stdin.write_all(&input).ok());
        let output = child.wait_with_output().unwrap();
        writing.join().unwrap();
        output.into()
    }

    /// The last position.
    pub(crate) fn head(&self) -> u64 {
        self.run(&["stats", "--json"]).json()["tenants"][0]["head"]
            .as_u64()
            .unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Killed already in some tests.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// What a command said and how it ended.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Done {
    /// Itself, if it ended well and said nothing to people.
    #[track_caller]
    pub(crate) fn well(self) -> Self {
        assert_eq!(
            (self.code, self.stderr.as_str()),
            (Some(0), ""),
            "{}",
            self.stdout
        );
        self
    }

    #[track_caller]
    pub(crate) fn json(self) -> Value {
        serde_json::from_str(&self.well().stdout).unwrap()
    }

    pub(crate) fn lines(&self) -> Vec<Value> {
        self.stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// The line that says why it failed.
    #[track_caller]
    pub(crate) fn failure(&self, code: i32) -> &str {
        assert_eq!(
            (self.code, self.stdout.as_str()),
            (Some(code), ""),
            "{}",
            self.stderr
        );
        let line = self.stderr.strip_suffix('\n').unwrap();
        assert!(!line.contains('\n'), "more than a line: {line}");
        line
    }
}
