//! What the server looks like every few seconds, and whether that is as it should be.

use std::{path::Path, time::Instant};

use annals::client::{Stats, TenantStats};
use serde::Serialize;

use crate::program::{Files, count, free_bytes, resident_bytes};

/// Part of the second half of a run, in which a server fills its caches: not what grows.
const SETTLING: f64 = 0.25;

/// One look.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Sample {
    /// Since the beginning of the run.
    pub(crate) seconds: f64,
    /// Since the server was started.
    pub(crate) uptime_seconds: f64,
    pub(crate) resident_bytes: u64,
    /// All tenants together.
    pub(crate) events: u64,
    /// Of the tenant with most of them.
    pub(crate) not_sealed: u64,
    pub(crate) log: Files,
    pub(crate) segments: Files,
    pub(crate) index: Files,
    pub(crate) other: Files,
    pub(crate) events_per_second: f64,
    pub(crate) free_bytes: u64,
}

impl Sample {
    pub(crate) fn new(
        begun: Instant,
        started: Instant,
        pid: u32,
        stats: &Stats,
        data: &Path,
    ) -> Self {
        let files = |name| count(data, name);
        let backlog = |tenant: &TenantStats| tenant.head - tenant.sealed;
        Self {
            seconds: begun.elapsed().as_secs_f64(),
            uptime_seconds: started.elapsed().as_secs_f64(),
            resident_bytes: resident_bytes(pid).unwrap_or(stats.resident_bytes),
            events: stats.tenants.iter().map(|tenant| tenant.head).sum(),
            not_sealed: stats.tenants.iter().map(backlog).max().unwrap_or(0),
            log: files("log"),
            segments: files("segments"),
            index: files("index"),
            other: files(""),
            events_per_second: 0.0,
            free_bytes: free_bytes(data),
        }
    }
}

/// Rates between each sample and the one before.
pub(crate) fn with_rates(samples: &mut [Sample]) {
    for n in 1..samples.len() {
        let (before, now) = (&samples[n - 1], &samples[n]);
        let events = now.events.saturating_sub(before.events) as f64;
        samples[n].events_per_second = events / (now.seconds - before.seconds).max(0.001);
    }
    if let [first, second, ..] = samples {
        first.events_per_second = second.events_per_second;
    }
}

/// By how many MB an hour memory grows, by least squares over the second half of a run, without the beginning of that;
/// `None` if too little is left.
pub(crate) fn slope_mb_per_hour(samples: &[Sample]) -> Option<f64> {
    let half = samples.last()?.seconds / 2.0;
    let from = half * (1.0 + SETTLING);
    let points: Vec<_> = samples
        .iter()
        .filter(|sample| sample.seconds >= from)
        .map(|sample| (sample.seconds / 3600.0, sample.resident_bytes as f64 / 1e6))
        .collect();
    let count = points.len() as f64;
    if points.len() < 30 {
        return None;
    }
    let (x, y) = points
        .iter()
        .fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
    let (x, y) = (x / count, y / count);
    let covariance: f64 = points
        .iter()
        .map(|point| (point.0 - x) * (point.1 - y))
        .sum();
    let variance: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    Some(covariance / variance)
}

/// Of some figures.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Spread {
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) max: f64,
}

impl Spread {
    pub(crate) fn of(figures: impl Iterator<Item = f64>) -> Self {
        let mut figures: Vec<_> = figures.collect();
        figures.sort_by(f64::total_cmp);
        let at = |n: usize| figures.get(n).copied().unwrap_or(0.0);
        Self {
            min: at(0),
            median: at(figures.len() / 2),
            max: at(figures.len().saturating_sub(1)),
        }
    }
}
