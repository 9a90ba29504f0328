//! The report of a run, for people and for programs.

use std::fmt::Write;

use indicatif::{HumanBytes, HumanCount};
use serde::Serialize;
use serde_json::Value;

use super::{
    super::figures::{ratio, rounded},
    Bench, Figures, Floors, Outcome,
    meter::Latency,
};
use crate::client::Stats;

#[derive(Debug, Serialize)]
pub(super) struct Report {
    work: &'static str,
    writers: usize,
    connections: usize,
    batch: usize,
    seconds: u64,
    entities: u32,
    spread: &'static str,
    payload_bytes: u32,
    #[serde(flatten)]
    figures: Figures,
    #[serde(flatten)]
    more: serde_json::Map<String, Value>,
    floors: Option<Floors>,
    floor_dir: String,
    server: Server,
    machine: Machine,
}

#[derive(Debug, Serialize)]
struct Server {
    version: String,
    resident_bytes: u64,
    head: u64,
    log_bytes_per_event: f64,
}

#[derive(Debug, Serialize)]
struct Machine {
    cpu: String,
    cores: usize,
}

impl Report {
    pub(super) fn new(
        bench: &Bench,
        outcome: Outcome,
        floors: Option<Floors>,
        stats: &Stats,
    ) -> Self {
        let args = &bench.args;
        let tenant = stats.tenants.first();
        let head = tenant.map_or(0, |tenant| tenant.head);
        Self {
            work: args.work.name(),
            writers: bench.writers,
            connections: bench.clients.len(),
            batch: bench.batch,
            seconds: args.seconds,
            entities: args.entities,
            spread: if args.uniform { "uniform" } else { "zipf" },
            payload_bytes: args.payload_bytes,
            figures: outcome.figures,
            more: outcome
                .more
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            floors,
            floor_dir: bench.floor_dir().display().to_string(),
            server: Server {
                version: stats.version.clone(),
                resident_bytes: stats.resident_bytes,
                head,
                log_bytes_per_event: ratio(tenant.map_or(0, |tenant| tenant.log_bytes), head),
            },
            machine: Machine::here(),
        }
    }

    pub(super) fn json(&self) -> String {
        // Plain structs of numbers and texts always serialise.
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }

    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a string does not fail.
        self.write_text(&mut out).ok();
        out
    }

    fn write_text(&self, out: &mut String) -> std::fmt::Result {
        let entities = HumanCount(self.entities.into());
        writeln!(
            out,
            "{}: {} at once over {} connections, batches of {}, {entities} entities ({}), payloads of {} bytes, {} s",
            self.work,
            self.writers,
            self.connections,
            self.batch,
            self.spread,
            self.payload_bytes,
            self.seconds
        )?;
        write_figures(&self.figures, out)?;
        for (name, value) in &self.more {
            write_more(name, value, out)?;
        }
        if let Some(floors) = &self.floors {
            writeln!(out, "floors of this machine")?;
            let call = &floors.empty_call;
            let calls = rounded(call.calls_per_second);
            writeln!(
                out,
                "  empty call      {calls} calls/s by {}  {}",
                self.writers,
                latency(&call.latency_us)
            )?;
            let sync = &floors.fdatasync;
            let syncs = rounded(sync.syncs_per_second);
            writeln!(
                out,
                "  fdatasync       {syncs}/s in {}  {}",
                self.floor_dir,
                latency(&sync.latency_us)
            )?;
        }
        let memory = HumanBytes(self.server.resident_bytes);
        let head = HumanCount(self.server.head);
        writeln!(
            out,
            "server {}: {head} events in the log, {memory} resident",
            self.server.version
        )?;
        writeln!(
            out,
            "machine: {}, {} cores",
            self.machine.cpu, self.machine.cores
        )
    }
}

fn write_figures(figures: &Figures, out: &mut String) -> std::fmt::Result {
    writeln!(
        out,
        "  events          {}/s",
        rounded(figures.events_per_second)
    )?;
    writeln!(
        out,
        "  calls           {}/s",
        rounded(figures.calls_per_second)
    )?;
    writeln!(out, "  latency         {}", latency(&figures.latency_us))
}

fn write_more(name: &str, value: &Value, out: &mut String) -> std::fmt::Result {
    let name = name.replace('_', " ");
    match value {
        Value::Object(fields) => {
            writeln!(out, "{name}")?;
            for (field, value) in fields {
                writeln!(out, "  {:<15} {value}", field.replace('_', " "))?;
            }
            Ok(())
        }
        value => writeln!(out, "  {name:<15} {value}"),
    }
}

fn latency(latency: &Latency) -> String {
    let [p50, p99, p999, max] = [latency.p50, latency.p99, latency.p999, latency.max].map(time);
    format!("p50 {p50}  p99 {p99}  p99.9 {p999}  max {max}")
}

fn time(us: f64) -> String {
    match us {
        us if us < 1e3 => format!("{us:.0} µs"),
        us if us < 1e6 => format!("{:.2} ms", us / 1e3),
        us => format!("{:.2} s", us / 1e6),
    }
}

impl Machine {
    fn here() -> Self {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = info.lines().find_map(|line| {
            line.strip_prefix("model name")?
                .split_once(':')
                .map(|(_, name)| name.trim())
        });
        Self {
            cpu: model.unwrap_or(std::env::consts::ARCH).to_owned(),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        }
    }
}
