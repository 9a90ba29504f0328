//! What the process tells about itself: log lines through `tracing`, and one named function per metric.
//!
//! The functions may be called from anywhere and cost a load and an add; where nobody asked for metrics (the engine in
//! another program) they cost the load. Not here: who decides what is worth telling.

#![expect(
    clippy::cast_precision_loss,
    reason = "metrics are floating point; what is above 2^53 may lose its last digits"
)]

use std::{
    array, fs,
    io::{self, IsTerminal as _},
    net::SocketAddr,
    sync::OnceLock,
    time::Duration,
};

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tracing_subscriber::EnvFilter;

use crate::types::id::{Position, TenantId};

/// Sends log lines to stderr, for people: `RUST_LOG` says which, `info` without it. Only the first call of a process that
/// says where lines go has an effect.
pub(crate) fn log_as_text() {
    // A second subscriber would be an error; the first one stays.
    drop(
        tracing_subscriber::fmt()
            .with_env_filter(lines())
            .with_writer(io::stderr)
            .with_ansi(io::stderr().is_terminal())
            .with_target(false)
            .try_init(),
    );
}

/// Like [`log_as_text`], one JSON object a line.
pub(crate) fn log_as_json() {
    drop(
        tracing_subscriber::fmt()
            .with_env_filter(lines())
            .with_writer(io::stderr)
            .json()
            .flatten_event(true)
            .try_init(),
    );
}

fn lines() -> EnvFilter {
    EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"))
}

/// The calls that are counted by name, by their place in [`call`]'s counters.
const METHODS: [&str; 24] = [
    "Append",
    "AppendStream",
    "ReadEvents",
    "GetEvent",
    "GetEntityState",
    "ListEntities",
    "ListEventTypes",
    "GetCursor",
    "GetStats",
    "Subscribe",
    "TriggerCompaction",
    "GetCompactionStats",
    "VerifyIntegrity",
    "Handshake",
    "ListFlights",
    "GetFlightInfo",
    "PollFlightInfo",
    "GetSchema",
    "DoGet",
    "DoPut",
    "DoExchange",
    "DoAction",
    "ListActions",
    // Health, reflection and what does not exist: a client must not be able to make up label values.
    "other",
];
/// The gRPC codes, by number.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

struct Metrics {
    appends: Counter,
    events: Counter,
    bytes: Counter,
    group_batches: Histogram,
    group_bytes: Histogram,
    sync_seconds: Histogram,
    queue_bytes: Gauge,
    subscribers: Gauge,
    sealed_events: Counter,
    seal_seconds: Histogram,
    seal_failures: Counter,
    compacted_segments: Counter,
    compacted_bytes: Counter,
    compact_seconds: Histogram,
    compact_failures: Counter,
    table_rows_segment: Counter,
    table_rows_log: Counter,
    tail_rows_converted: Counter,
    calls: [[OnceLock<Counter>; CODES.len()]; METHODS.len()],
    handle: PrometheusHandle,
}

/// Where the rows of a scan stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    Segment,
    Log,
}

/// Empty until somebody wants metrics.
static METRICS: OnceLock<Metrics> = OnceLock::new();

/// A batch was appended and is durable.
pub(crate) fn appended(events: u64, bytes: u64) {
    if let Some(metrics) = METRICS.get() {
        metrics.appends.increment(1);
        metrics.events.increment(events);
        metrics.bytes.increment(bytes);
    }
}

/// A group of batches was made durable by one sync.
pub(crate) fn group_synced(batches: usize, bytes: usize, sync: Duration) {
    if let Some(metrics) = METRICS.get() {
        metrics.group_batches.record(batches as f64);
        metrics.group_bytes.record(bytes as f64);
        metrics.sync_seconds.record(sync);
    }
}

/// So many bytes of batches wait for the disk.
pub(crate) fn queue_bytes(bytes: usize) {
    if let Some(metrics) = METRICS.get() {
        metrics.queue_bytes.set(bytes as f64);
    }
}

/// The head of a tenant moved.
pub(crate) fn head(tenant: &TenantId, head: Position) {
    if METRICS.get().is_some() {
        gauge!("annals_head", "tenant" => tenant.to_string()).set(head as f64);
    }
}

/// Events got their lasting form.
pub(crate) fn sealed(events: u64, took: Duration) {
    if let Some(metrics) = METRICS.get() {
        metrics.sealed_events.increment(events);
        metrics.seal_seconds.record(took);
    }
}

/// Events did not get their lasting form; it is tried again.
pub(crate) fn seal_failed() {
    if let Some(metrics) = METRICS.get() {
        metrics.seal_failures.increment(1);
    }
}

/// Segments became one, of so many bytes.
pub(crate) fn compacted(segments: u64, bytes: u64, took: Duration) {
    if let Some(metrics) = METRICS.get() {
        metrics.compacted_segments.increment(segments);
        metrics.compacted_bytes.increment(bytes);
        metrics.compact_seconds.record(took);
    }
}

/// Segments did not become one; it is tried again.
pub(crate) fn compact_failed() {
    if let Some(metrics) = METRICS.get() {
        metrics.compact_failures.increment(1);
    }
}

/// Subscribers came or went.
pub(crate) fn subscribers_changed(delta: i64) {
    if let Some(metrics) = METRICS.get() {
        metrics.subscribers.increment(delta as f64);
    }
}

/// Rows of events that are not sealed were converted into columns.
pub(crate) fn tail_rows_converted(rows: usize) {
    if let Some(metrics) = METRICS.get() {
        metrics.tail_rows_converted.increment(rows as u64);
    }
}

/// Rows were scanned as columns: those of segments as they stand in them, those of the log after a conversion.
pub(crate) fn table_rows(origin: Origin, rows: usize) {
    if let Some(metrics) = METRICS.get() {
        match origin {
            Origin::Segment => metrics.table_rows_segment.increment(rows as u64),
            Origin::Log => metrics.table_rows_log.increment(rows as u64),
        }
    }
}

/// A request was refused.
pub(crate) fn refused(reason: &'static str) {
    if METRICS.get().is_some() {
        counter!("annals_refused_total", "reason" => reason).increment(1);
    }
}

/// The number that [`call`] counts a method under.
pub(crate) fn method_index(method: &str) -> usize {
    let other = METHODS.len() - 1;
    METHODS
        .iter()
        .position(|known| *known == method)
        .unwrap_or(other)
}

/// A call ended with a gRPC code.
pub(crate) fn call(method_index: usize, code: i32) {
    let Some(metrics) = METRICS.get() else { return };
    let Ok(code) = usize::try_from(code) else {
        return;
    };
    let counter = metrics
        .calls
        .get(method_index)
        .and_then(|codes| codes.get(code));
    if let (Some(counter), Some(method), Some(code)) =
        (counter, METHODS.get(method_index), CODES.get(code))
    {
        counter
            .get_or_init(|| counter!("annals_calls_total", "method" => *method, "code" => *code))
            .increment(1);
    }
}

/// Starts to keep metrics. Call it before the engine opens, so that nothing is missed.
///
/// # Errors
/// Another recorder was installed in this process.
pub(crate) fn keep_metrics() -> Result<(), String> {
    static INSTALLED: OnceLock<Result<(), String>> = OnceLock::new();
    INSTALLED.get_or_init(install).clone()
}

fn install() -> Result<(), String> {
    let powers = |base: f64, count: i32| (0..count).map(|n| base.powi(n)).collect::<Vec<_>>();
    let seconds: Vec<f64> = powers(2.0, 18).iter().map(|n| n * 20e-6).collect();
    let minutes: Vec<f64> = powers(2.0, 18).iter().map(|n| n * 1e-3).collect();
    let bytes: Vec<f64> = powers(4.0, 10).iter().map(|n| n * 256.0).collect();
    let full = |name: &str| Matcher::Full(name.to_owned());
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(full("annals_sync_seconds"), &seconds)
        .and_then(|b| b.set_buckets_for_metric(full("annals_seal_seconds"), &seconds))
        .and_then(|b| b.set_buckets_for_metric(full("annals_compact_seconds"), &minutes))
        .and_then(|b| b.set_buckets_for_metric(full("annals_group_bytes"), &bytes))
        .and_then(|b| b.set_buckets_for_metric(full("annals_group_batches"), &powers(2.0, 14)))
        .and_then(PrometheusBuilder::install_recorder)
        .map_err(|e| e.to_string())?;
    describe();
    let metrics = Metrics {
        appends: counter!("annals_appends_total"),
        events: counter!("annals_events_total"),
        bytes: counter!("annals_bytes_total"),
        group_batches: histogram!("annals_group_batches"),
        group_bytes: histogram!("annals_group_bytes"),
        sync_seconds: histogram!("annals_sync_seconds"),
        queue_bytes: gauge!("annals_queue_bytes"),
        subscribers: gauge!("annals_subscribers"),
        sealed_events: counter!("annals_sealed_events_total"),
        seal_seconds: histogram!("annals_seal_seconds"),
        seal_failures: counter!("annals_seal_failures_total"),
        compacted_segments: counter!("annals_compacted_segments_total"),
        compacted_bytes: counter!("annals_compacted_bytes_total"),
        compact_seconds: histogram!("annals_compact_seconds"),
        compact_failures: counter!("annals_compact_failures_total"),
        table_rows_segment: counter!("annals_table_rows_total", "origin" => "segment"),
        table_rows_log: counter!("annals_table_rows_total", "origin" => "log"),
        tail_rows_converted: counter!("annals_tail_rows_converted_total"),
        calls: array::from_fn(|_| array::from_fn(|_| OnceLock::new())),
        handle,
    };
    METRICS
        .set(metrics)
        .map_err(|_| "metrics are kept already".to_owned())
}

fn describe() {
    describe_counter!("annals_appends_total", "Batches made durable");
    describe_counter!("annals_sealed_events_total", "Events written to segments");
    describe_histogram!(
        "annals_seal_seconds",
        Unit::Seconds,
        "Time to write a segment and its index"
    );
    describe_counter!(
        "annals_seal_failures_total",
        "Segments that could not be written at once"
    );
    describe_counter!(
        "annals_compacted_segments_total",
        "Segments that fewer ones were made of"
    );
    describe_counter!(
        "annals_compacted_bytes_total",
        Unit::Bytes,
        "Bytes of the segments made of smaller ones"
    );
    describe_histogram!(
        "annals_compact_seconds",
        Unit::Seconds,
        "Time to make a segment of smaller ones"
    );
    describe_counter!(
        "annals_compact_failures_total",
        "Segments that could not be made of smaller ones"
    );
    describe_counter!(
        "annals_table_rows_total",
        "Rows that scans of tables read, by where they stand"
    );
    describe_counter!(
        "annals_tail_rows_converted_total",
        "Rows of events not sealed that were converted into columns, for one scan or for many"
    );
    describe_counter!("annals_events_total", "Events made durable");
    describe_counter!(
        "annals_bytes_total",
        Unit::Bytes,
        "Bytes of the batches made durable, as the log stores them"
    );
    describe_histogram!("annals_group_batches", "Batches made durable by one sync");
    describe_histogram!(
        "annals_group_bytes",
        Unit::Bytes,
        "Bytes made durable by one sync"
    );
    describe_histogram!(
        "annals_sync_seconds",
        Unit::Seconds,
        "How long a sync of the log took"
    );
    describe_gauge!(
        "annals_queue_bytes",
        Unit::Bytes,
        "Bytes of batches that wait for the disk"
    );
    describe_gauge!("annals_head", "The last durable position of a tenant's log");
    describe_gauge!("annals_subscribers", "Subscriptions that are open");
    describe_counter!(
        "annals_refused_total",
        "Requests refused, by the reason in their status"
    );
    describe_counter!("annals_calls_total", "Calls ended, by method and gRPC code");
}

/// The Prometheus page, on a listener of its own so that it can stay on a private address.
#[derive(Debug)]
pub(crate) struct MetricsPage {
    listener: TcpListener,
}

/// Longest request for the page that is read.
const PAGE_REQUEST_BYTES_MAX: usize = 8 << 10;
/// How long a client may take to ask for the page and to take it.
const PAGE_TIME_MAX: Duration = Duration::from_secs(10);
/// How often what histograms gathered is folded, whether anybody looks or not: this bounds their memory.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

impl MetricsPage {
    /// Binds the listener.
    pub(crate) async fn bind(addr: SocketAddr) -> io::Result<Self> {
        Ok(Self {
            listener: TcpListener::bind(addr).await?,
        })
    }

    /// The address that was bound.
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves the page until the future is dropped, one client at a time: a scraper comes every few seconds.
    pub(crate) async fn serve(self) {
        let mut upkeep = tokio::time::interval(UPKEEP_EVERY);
        loop {
            tokio::select! {
                accepted = self.listener.accept() => {
                    if let Ok((stream, _)) = accepted {
                        // A client that goes away or dawdles is its own loss.
                        drop(tokio::time::timeout(PAGE_TIME_MAX, answer_page(stream)).await);
                    }
                }
                _ = upkeep.tick() => {
                    if let Some(metrics) = METRICS.get() {
                        metrics.handle.run_upkeep();
                    }
                }
            }
        }
    }
}

async fn answer_page(mut stream: TcpStream) -> io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let room = PAGE_REQUEST_BYTES_MAX.saturating_sub(request.len());
        if room == 0
            || (&mut stream)
                .take(room as u64)
                .read_buf(&mut request)
                .await?
                == 0
        {
            return Ok(());
        }
    }
    let (status, body) = if request.starts_with(b"GET /metrics ") || request.starts_with(b"GET / ")
    {
        (
            "200 OK",
            METRICS.get().map(|m| m.handle.render()).unwrap_or_default(),
        )
    } else {
        ("404 Not Found", "the metrics are at /metrics\n".to_owned())
    };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

/// Memory of this process that is resident, or 0 where `/proc` does not tell.
pub(crate) fn resident_bytes() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_known_here() {
        assert!(resident_bytes() > 1 << 20);
    }

    #[tokio::test]
    async fn the_page_names_every_metric_that_was_told() {
        keep_metrics().unwrap();
        appended(3, 300);
        group_synced(1, 300, Duration::from_micros(80));
        head(&TenantId::default(), 3);
        refused("TEST");
        call(method_index("Append"), 0);
        call(method_index("Nonsense"), 12);
        queue_bytes(0);
        subscribers_changed(1);

        let page = MetricsPage::bind("127.0.0.1:0".parse().unwrap())
            .await
            .unwrap();
        let addr = page.local_addr().unwrap();
        tokio::spawn(page.serve());
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();

        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
        for line in [
            "annals_appends_total",
            "annals_events_total",
            "annals_bytes_total",
            "annals_group_batches_bucket",
            "annals_group_bytes_bucket",
            "annals_sync_seconds_bucket",
            "annals_queue_bytes",
            r#"annals_head{tenant="default"} 3"#,
            "annals_subscribers",
            r#"annals_refused_total{reason="TEST"}"#,
            r#"annals_calls_total{method="Append",code="OK"}"#,
            r#"annals_calls_total{method="other",code="UNIMPLEMENTED"}"#,
            "# HELP annals_sync_seconds How long a sync of the log took",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }
}
