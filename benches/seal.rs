//! What it costs to give events their lasting form and to read them from it: processor time of sealing, reads and scans of
//! everything from segments, and how long a log takes to open and how much memory it then holds.
//!
//! Each is done once, with 2 M events: a single run takes long enough to be read off a clock.

mod conditions;
mod events;

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use annals::{Engine, EngineOptions, Limits, ReadRequest, ScanRequest, Tenant, TenantId};
use conditions::{folder, print_conditions};
use events::Source;
use tokio::runtime::Runtime;

/// As the program has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const EVENTS: u32 = 8 * (1 << 18) + 1000;
const ENTITIES: usize = 200_000;
/// Of `/proc/self/stat`.
const TICK: Duration = Duration::from_millis(10);

fn options(seal_events: u64) -> EngineOptions {
    EngineOptions {
        limits: Limits {
            seal_events,
            seal_bytes: u64::MAX,
            keep_bytes: 0,
            // Its work would be counted as sealing's.
            compact_target_bytes: 0,
            ..Limits::default()
        },
        ..EngineOptions::default()
    }
}

fn open(runtime: &Runtime, dir: &Path, seal_events: u64) -> (Engine, Tenant) {
    let engine = Engine::open(dir, options(seal_events)).expect("the folder opens");
    let tenant = runtime.block_on(engine.tenant(&TenantId::default()));
    (engine, tenant.expect("the default tenant opens"))
}

fn append(runtime: &Runtime, tenant: &Tenant) {
    let mut source = Source::new(ENTITIES, 0);
    while tenant.head() < EVENTS.into() {
        let appended = runtime.block_on(tenant.append(source.batch(1000)));
        appended.expect("it is appended");
    }
}

/// Of all threads, in user and kernel.
fn processor_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").expect("it is there");
    let (_, fields) = stat.rsplit_once(") ").expect("it has a name");
    let ticks = fields.split(' ').skip(11).take(2);
    let ticks = ticks.map(|ticks| ticks.parse::<u32>().expect("it is a number"));
    TICK * ticks.sum::<u32>()
}

fn resident_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("it is there");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kib.map_or(0, |kib| kib.parse::<u64>().expect("it is a number") / 1024)
}

fn folder_bytes(dir: &Path) -> u64 {
    let files = fs::read_dir(dir).expect("it is there");
    let bytes = files.map(|file| file.and_then(|file| file.metadata()).map(|m| m.len()));
    bytes.sum::<Result<_, _>>().expect("it can be looked at")
}

#[expect(clippy::print_stdout, reason = "that is what it is for")]
fn row(what: &str, took: Duration, events: u32) {
    println!(
        "{what}: {:.3} µs an event, {:.2} M events/s",
        took.as_secs_f64() * 1e6 / f64::from(events),
        f64::from(events) / took.as_secs_f64() / 1e6
    );
}

#[expect(clippy::print_stdout, reason = "that is what it is for")]
fn main() {
    if std::env::args().any(|arg| arg == "--test") {
        return;
    }
    print_conditions("200-byte payloads that do not compress much, 200,000 entities");
    let runtime = Runtime::new().expect("threads can be started");
    let dir = folder();
    let tenant_dir = dir.path().join("tenants/default");

    let (engine, tenant) = open(&runtime, dir.path(), u64::from(u32::MAX));
    append(&runtime, &tenant);
    let log_bytes = tenant.stats().log_bytes / 1000;
    drop((tenant, engine));

    let started = Instant::now();
    let seal_events = 1 << 18;
    let (engine, tenant) = open(&runtime, dir.path(), seal_events);
    row("open, nothing sealed", started.elapsed(), EVENTS);
    let (started, before, sealed) = (Instant::now(), processor_time(), tenant.stats().sealed);
    while tenant.stats().sealed < u64::from(EVENTS) - seal_events {
        thread::sleep(Duration::from_millis(1));
    }
    let events =
        u32::try_from(tenant.stats().sealed - sealed).expect("it is no more than there are");
    row("seal, elapsed", started.elapsed(), events);
    row(
        "seal, processor",
        processor_time().saturating_sub(before),
        events,
    );
    for folder in ["segments", "index"] {
        let bytes = folder_bytes(&tenant_dir.join(folder));
        println!("{folder}: {} ‰ of the log's bytes", bytes / log_bytes);
    }
    drop((tenant, engine));

    let started = Instant::now();
    let (engine, tenant) = open(&runtime, dir.path(), seal_events);
    println!("open, all but 1,000 sealed: {:?}", started.elapsed());
    println!("resident: {} MiB", resident_mib());
    for what in ["read all, cold", "read all, cold, again"] {
        let (started, before) = (Instant::now(), processor_time());
        let mut reader = tenant.read(ReadRequest::default()).expect("it is valid");
        let mut events = 0u32;
        runtime.block_on(async {
            while let Some(batch) = reader.next().await.expect("it reads") {
                events += u32::try_from(batch.len()).expect("batches are small");
            }
        });
        assert!(events >= EVENTS);
        row(what, started.elapsed(), events);
        row(
            "  processor",
            processor_time().saturating_sub(before),
            events,
        );
    }
    for (what, columns) in [
        ("scan, all columns", &[][..]),
        (
            "scan, three columns",
            &["position", "event_type", "recorded_at"],
        ),
    ] {
        let (started, before) = (Instant::now(), processor_time());
        let request = ScanRequest {
            columns: columns.iter().map(ToString::to_string).collect(),
            ..ScanRequest::default()
        };
        let mut scan = tenant.scan(&request).expect("it is valid");
        let mut events = 0u32;
        runtime.block_on(async {
            while let Some(batch) = scan.next().await.expect("it reads") {
                events += u32::try_from(batch.rows.num_rows()).expect("batches are small");
            }
        });
        assert!(events >= EVENTS);
        row(what, started.elapsed(), events);
        row(
            "  processor",
            processor_time().saturating_sub(before),
            events,
        );
    }
    drop((tenant, engine));
}
