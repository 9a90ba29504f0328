//! Counts calls and events inside a window of time, and how long calls took.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::task::JoinSet;

use super::super::{error::CliError, figures::per_second};

/// What takes longer counts as this.
const LATENCY_NANOS_MAX: u64 = 600_000_000_000;

/// When figures count: after the warm-up, and before the end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    from: Instant,
    until: Instant,
}

impl Window {
    /// Opens after `warm_up`.
    pub(super) fn new(warm_up: Duration, time: Duration) -> Self {
        let from = Instant::now() + warm_up;
        Self {
            from,
            until: from + time,
        }
    }

    /// True once the work should stop.
    pub(super) fn is_over(self, now: Instant) -> bool {
        now >= self.until
    }

    pub(super) fn time(self) -> Duration {
        self.until - self.from
    }

    pub(super) fn until(self) -> Instant {
        self.until
    }

    pub(super) fn contains(self, time: Instant) -> bool {
        time >= self.from && time < self.until
    }
}

/// What one writer or reader did, or all of them together.
#[derive(Debug, Clone)]
pub(super) struct Meter {
    window: Window,
    calls: u64,
    events: u64,
    /// Nanoseconds.
    latency: Histogram<u64>,
}

impl Meter {
    pub(super) fn new(window: Window) -> Self {
        let latency = Histogram::new_with_bounds(1, LATENCY_NANOS_MAX, 3);
        let latency = latency.expect("the bounds are valid");
        Self {
            window,
            calls: 0,
            events: 0,
            latency,
        }
    }

    /// A call has ended.
    pub(super) fn record(&mut self, started: Instant, ended: Instant, events: u64) {
        if self.window.contains(ended) {
            self.calls += 1;
            self.record_latency(ended - started, 1);
            self.events += events;
        }
    }

    /// Events have arrived that are no end of a call.
    pub(super) fn record_events(&mut self, at: Instant, events: u64) {
        if self.window.contains(at) {
            self.events += events;
        }
    }

    /// Whether what happens at this time counts.
    pub(super) fn counts(&self, at: Instant) -> bool {
        self.window.contains(at)
    }

    pub(super) fn record_latency(&mut self, latency: Duration, times: u64) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.latency.saturating_record_n(nanos, times);
    }

    fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.events += other.events;
        self.latency
            .add(&other.latency)
            .expect("the bounds are the same");
    }

    pub(super) fn calls_per_second(&self) -> f64 {
        per_second(self.calls, self.window.time())
    }

    pub(super) fn figures(&self) -> Figures {
        Figures {
            events: self.events,
            calls: self.calls,
            events_per_second: per_second(self.events, self.window.time()),
            calls_per_second: self.calls_per_second(),
            latency_us: Latency::of(&self.latency),
        }
    }

    pub(super) fn latency(&self) -> Latency {
        Latency::of(&self.latency)
    }
}

/// Waits for all writers or readers and adds up what they did. The first failure ends all.
pub(super) async fn add_up(
    mut tasks: JoinSet<Result<Meter, CliError>>,
    window: Window,
) -> Result<Meter, CliError> {
    let mut sum = Meter::new(window);
    while let Some(done) = tasks.join_next().await {
        let meter =
            done.map_err(|e| CliError::Failed(format!("a task of the benchmark failed: {e}")))??;
        sum.add(&meter);
    }
    Ok(sum)
}

/// What was measured.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Figures {
    pub(super) events: u64,
    pub(super) calls: u64,
    pub(super) events_per_second: f64,
    pub(super) calls_per_second: f64,
    pub(super) latency_us: Latency,
}

/// Microseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Latency {
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
    pub(super) max: f64,
}

impl Latency {
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    fn of(nanos: &Histogram<u64>) -> Self {
        let us = |nanos: u64| nanos as f64 / 1e3;
        Self {
            p50: us(nanos.value_at_quantile(0.5)),
            p99: us(nanos.value_at_quantile(0.99)),
            p999: us(nanos.value_at_quantile(0.999)),
            max: us(nanos.max()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_ends_inside_the_window_counts() {
        let begun = Instant::now();
        let window = Window::new(Duration::from_secs(1), Duration::from_secs(2));
        let mut meter = Meter::new(window);
        let at = |ms: u64| begun + Duration::from_millis(ms);
        meter.record(at(0), at(999), 10);
        meter.record(at(990), at(1010), 10);
        meter.record(at(2970), at(2990), 10);
        meter.record(at(2990), at(4000), 10);
        let figures = meter.figures();
        assert_eq!((figures.calls, figures.events), (2, 20));
        assert!((figures.events_per_second - 10.0).abs() < 1e-9);
        assert!((figures.latency_us.max / 20_000.0 - 1.0).abs() < 0.01);
    }
}
