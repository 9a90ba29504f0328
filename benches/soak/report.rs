//! What came of a run, as Markdown and as JSON.

use std::{collections::BTreeMap, fmt::Write, fs};

use serde::Serialize;
use serde_json::json;

use crate::{
    ledger::Fault,
    program::Ending,
    run::{Calls, Settings},
    samples::{Sample, Spread},
};

/// A server that was ended, and the one after it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Restart {
    pub(crate) seconds: f64,
    pub(crate) ending: Ending,
    pub(crate) ending_seconds: f64,
    pub(crate) recovery_seconds: f64,
    /// Until a first read.
    pub(crate) answer_seconds: f64,
}

/// Something that was checked at the end.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Check {
    pub(crate) what: String,
    pub(crate) found: String,
    pub(crate) is_well: bool,
}

impl Check {
    pub(crate) fn new(what: impl Into<String>, found: impl Into<String>, is_well: bool) -> Self {
        Self {
            what: what.into(),
            found: found.into(),
            is_well,
        }
    }

    pub(crate) fn failed(what: impl Into<String>, fault: &Fault) -> Self {
        Self::new(what, fault.0.clone(), false)
    }
}

/// A whole run.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) settings: Settings,
    pub(crate) build: &'static str,
    pub(crate) seconds: f64,
    pub(crate) batches: u64,
    pub(crate) events: u64,
    pub(crate) lost: u64,
    pub(crate) delayed: u64,
    pub(crate) samples: Vec<Sample>,
    pub(crate) restarts: Vec<Restart>,
    pub(crate) calls: BTreeMap<&'static str, Calls>,
    pub(crate) checks: Vec<Check>,
}

impl Report {
    pub(crate) fn is_well(&self) -> bool {
        self.checks.iter().all(|check| check.is_well)
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = String::new();
        self.write(&mut text).expect("memory can be written");
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let verdict = if self.is_well() {
            "all is well"
        } else {
            "FAILED"
        };
        writeln!(out, "# Soak: {verdict}\n")?;
        writeln!(
            out,
            "{} build, {:.1} minutes, {} events in {} batches, {} restarts; {} events/s asked for, seed {}.",
            self.build,
            self.seconds / 60.0,
            thousands(self.events),
            thousands(self.batches),
            self.restarts.len(),
            thousands(self.settings.rate),
            self.settings.seed
        )?;
        writeln!(
            out,
            "{} calls were lost with the server and made again, {} were told to wait.\n",
            thousands(self.lost),
            thousands(self.delayed)
        )?;
        writeln!(out, "| check | found | |\n|---|---|---|")?;
        for check in &self.checks {
            let mark = if check.is_well { "ok" } else { "**FAILED**" };
            // Texts of faults may hold anything.
            let found: String = check
                .found
                .chars()
                .take(600)
                .map(|c| if c == '|' || c == '\n' { ' ' } else { c })
                .collect();
            writeln!(out, "| {} | {found} | {mark} |", check.what)?;
        }
        writeln!(
            out,
            "\n| every 5 s | min | median | max |\n|---|---|---|---|"
        )?;
        for (name, spread) in self.spreads() {
            writeln!(
                out,
                "| {name} | {:.1} | {:.1} | {:.1} |",
                spread.min, spread.median, spread.max
            )?;
        }
        writeln!(
            out,
            "\n| restart at | ended by | ending | ready after | first answer after |\n|---|---|---|---|---|"
        )?;
        for restart in &self.restarts {
            writeln!(
                out,
                "| {:.0} s | {} | {:.2} s | {:.2} s | {:.2} s |",
                restart.seconds,
                match restart.ending {
                    Ending::Term => "SIGTERM",
                    Ending::Kill => "kill -9",
                },
                restart.ending_seconds,
                restart.recovery_seconds,
                restart.answer_seconds
            )?;
        }
        writeln!(
            out,
            "\n| call | calls | events | p50 ms | p99 ms | max ms |\n|---|---|---|---|---|---|"
        )?;
        for (name, calls) in &self.calls {
            let ms = |micros: u64| micros as f64 / 1e3;
            writeln!(
                out,
                "| {name} | {} | {} | {:.2} | {:.2} | {:.1} |",
                thousands(calls.latency.len()),
                thousands(calls.events),
                ms(calls.latency.value_at_quantile(0.5)),
                ms(calls.latency.value_at_quantile(0.99)),
                ms(calls.latency.max())
            )?;
        }
        Ok(())
    }

    fn spreads(&self) -> Vec<(&'static str, Spread)> {
        let of = |figure: fn(&Sample) -> f64| Spread::of(self.samples.iter().map(figure));
        vec![
            ("resident memory, MB", of(|s| s.resident_bytes as f64 / 1e6)),
            ("appended, events/s", of(|s| s.events_per_second)),
            (
                "events not sealed, of one tenant, thousands",
                of(|s| s.not_sealed as f64 / 1e3),
            ),
            ("log files", of(|s| s.log.files as f64)),
            ("log, MB", of(|s| s.log.bytes as f64 / 1e6)),
            ("segments", of(|s| s.segments.files as f64)),
            ("segments, MB", of(|s| s.segments.bytes as f64 / 1e6)),
            ("index runs", of(|s| s.index.files as f64)),
            ("index runs, MB", of(|s| s.index.bytes as f64 / 1e6)),
            ("other files", of(|s| s.other.files as f64)),
        ]
    }

    /// Writes both forms, beside each other.
    pub(crate) fn save(&self) -> Result<(), Fault> {
        let spreads: BTreeMap<_, _> = self.spreads().into_iter().collect();
        let calls: BTreeMap<_, _> = self
            .calls
            .iter()
            .map(|(name, calls)| (*name, figures(calls)))
            .collect();
        let json = json!({
            "well": self.is_well(), "build": self.build, "seconds": self.seconds, "rate": self.settings.rate,
            "seed": self.settings.seed, "events": self.events, "batches": self.batches, "lost": self.lost,
            "delayed": self.delayed, "checks": self.checks, "restarts": self.restarts, "spreads": spreads,
            "calls": calls, "samples": self.samples,
        });
        let path = &self.settings.report;
        let written = fs::write(path, self.markdown())
            .and_then(|()| fs::write(path.with_extension("json"), json.to_string() + "\n"));
        written.map_err(|e| Fault(format!("writing {}: {e}", path.display())))
    }
}

fn figures(calls: &Calls) -> serde_json::Value {
    let us = |quantile| calls.latency.value_at_quantile(quantile);
    json!({
        "calls": calls.latency.len(), "events": calls.events, "p50_us": us(0.5), "p99_us": us(0.99),
        "max_us": calls.latency.max(),
    })
}

/// With commas.
pub(crate) fn thousands(number: u64) -> String {
    indicatif::HumanCount(number).to_string()
}
