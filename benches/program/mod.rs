//! The real program in a process of its own, on one port for the whole run, and what it takes of memory and disk.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;

/// How a server ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Ending {
    /// SIGTERM, and what is open is drained.
    Term,
    /// SIGKILL.
    Kill,
}

/// How a server is started.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    pub(crate) data: PathBuf,
    pub(crate) address: String,
    settings: Vec<String>,
}

/// `annals serve`; killed when dropped.
#[derive(Debug)]
pub(crate) struct Served {
    process: Child,
    pub(crate) started: Instant,
    /// From its start to its readiness.
    pub(crate) recovery: Duration,
}

impl Program {
    /// With settings, like `drain_seconds=5`.
    pub(crate) fn new(data: &Path, settings: Vec<String>) -> Result<Self, String> {
        // Free now, and nobody else's when the program takes it: a port asked for like this is not given out again soon.
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = free.map_err(|e| format!("finding a free port: {e}"))?;
        Ok(Self {
            data: data.to_owned(),
            address: address.to_string(),
            settings,
        })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn command(&self, command: &str) -> Command {
        let mut program = Command::new(env!("CARGO_BIN_EXE_annals"));
        program.arg(command).arg("--data").arg(&self.data);
        for name in [
            "ANNALS_URL",
            "ANNALS_TENANT",
            "ANNALS_TOKEN",
            "ANNALS_CONFIG",
        ] {
            program.env_remove(name);
        }
        program
    }

    /// Waits until it serves. Its log goes to a file beside the data.
    pub(crate) fn start(&self) -> Result<Served, String> {
        let failed = |e: std::io::Error| format!("starting the server: {e}");
        let started = Instant::now();
        let mut process = self
            .command("serve")
            .args(["--listen", &self.address])
            .args(self.settings.iter().flat_map(|setting| ["--set", setting]))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let mut log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log())
            .map_err(failed)?;
        let stderr = process.stderr.take().expect("it is piped");
        let mut lines = BufReader::new(stderr).lines();
        let mut said = String::new();
        loop {
            let Some(Ok(line)) = lines.next() else {
                return Err(format!("the server ended, saying: {said}"));
            };
            writeln!(log, "{line}").map_err(failed)?;
            if line.trim_start().starts_with("url ") {
                break;
            }
            said = format!("{said}{line}\n");
        }
        // Goes on reading, so that the server never waits for room in the pipe.
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                writeln!(log, "{line}").ok();
            }
        });
        Ok(Served {
            process,
            started,
            recovery: started.elapsed(),
        })
    }

    /// What the servers said.
    pub(crate) fn log(&self) -> PathBuf {
        self.data.with_extension("server.log")
    }

    /// `annals verify`, of a folder that no server uses. What it said.
    pub(crate) fn verify(&self) -> Result<String, String> {
        let output = self.command("verify").output();
        let output = output.map_err(|e| format!("running annals verify: {e}"))?;
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        if output.status.success() {
            return Ok(said.trim().to_owned());
        }
        Err(format!("annals verify: {said}"))
    }
}

impl Served {
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Why it ended, if it did.
    pub(crate) fn ended(&mut self) -> Option<String> {
        let status = self.process.try_wait().ok()??;
        Some(status.to_string())
    }

    /// Ends it; how long that took.
    pub(crate) fn end(&mut self, how: Ending) -> Result<Duration, String> {
        let begun = Instant::now();
        let failed = |e: std::io::Error| format!("ending the server: {e}");
        match how {
            Ending::Kill => self.process.kill().map_err(failed)?,
            Ending::Term => {
                let pid = i32::try_from(self.process.id())
                    .ok()
                    .and_then(Pid::from_raw);
                let pid = pid.ok_or_else(|| "the server has no process id".to_owned())?;
                kill_process(pid, Signal::TERM).map_err(|e| failed(e.into()))?;
            }
        }
        let status = self.process.wait().map_err(failed)?;
        if how == Ending::Term && !status.success() {
            return Err(format!("asked to end, the server ended with {status}"));
        }
        Ok(begun.elapsed())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Ended already, unless the run was broken off.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Files of one kind.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Files {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

/// Files of all tenants in the folder of a name; with an empty one, those beside the folders.
pub(crate) fn count(data: &Path, name: &str) -> Files {
    let mut sum = Files::default();
    for tenant in fs::read_dir(data.join("tenants"))
        .into_iter()
        .flatten()
        .flatten()
    {
        for entry in fs::read_dir(tenant.path().join(name))
            .into_iter()
            .flatten()
            .flatten()
        {
            // A file may go between its listing and this.
            if let Ok(metadata) = entry.metadata().as_ref()
                && metadata.is_file()
            {
                sum.files += 1;
                sum.bytes += metadata.len();
            }
        }
    }
    sum
}

/// Memory of a process; `None` where `/proc` does not tell.
pub(crate) fn resident_bytes(pid: u32) -> Option<u64> {
    let line = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// Of the disk that a folder is on.
pub(crate) fn free_bytes(dir: &Path) -> u64 {
    rustix::fs::statvfs(dir).map_or(u64::MAX, |disk| disk.f_bavail * disk.f_frsize)
}
