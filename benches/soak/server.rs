//! The real program in a process of its own, on one port for the whole run.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{ledger::Fault, run::Settings};

/// How a server ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
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
    pub(crate) fn new(data: &Path, settings: &Settings) -> Result<Self, Fault> {
        // Free now, and nobody else's when the program takes it: a port asked for like this is not given out again soon.
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = free.map_err(|e| Fault(format!("finding a free port: {e}")))?;
        let mut set = vec![
            "tenants.auto_create=true".to_owned(),
            format!("limits.keep_bytes={}", settings.keep_bytes),
        ];
        if settings.seal_events > 0 {
            set.push(format!("limits.seal_events={}", settings.seal_events));
        }
        Ok(Self {
            data: data.to_owned(),
            address: address.to_string(),
            settings: set,
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
    pub(crate) fn start(&self) -> Result<Served, Fault> {
        let failed = |e: std::io::Error| Fault(format!("starting the server: {e}"));
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
                return Err(Fault(format!("the server ended, saying: {said}")));
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
    pub(crate) fn verify(&self) -> Result<String, Fault> {
        let output = self.command("verify").output();
        let output = output.map_err(|e| Fault(format!("running annals verify: {e}")))?;
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        if output.status.success() {
            return Ok(said.trim().to_owned());
        }
        Err(Fault(format!("annals verify: {said}")))
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
    pub(crate) fn end(&mut self, how: Ending) -> Result<Duration, Fault> {
        let begun = Instant::now();
        let failed = |e: std::io::Error| Fault(format!("ending the server: {e}"));
        match how {
            Ending::Kill => self.process.kill().map_err(failed)?,
            Ending::Term => {
                let pid = i32::try_from(self.process.id())
                    .ok()
                    .and_then(Pid::from_raw);
                let pid = pid.ok_or_else(|| Fault("the server has no process id".to_owned()))?;
                kill_process(pid, Signal::TERM).map_err(|e| failed(e.into()))?;
            }
        }
        let status = self.process.wait().map_err(failed)?;
        if how == Ending::Term && !status.success() {
            return Err(Fault(format!(
                "asked to end, the server ended with {status}"
            )));
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
