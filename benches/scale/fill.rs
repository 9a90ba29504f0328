//! The events of a large tenant, each a function of its number, and how they get there.
//!
//! Most are of entities chosen at random. In a hundred batches, evenly spread, some are of [`SCATTERED`] entities, one of
//! each, a hundred of one entity that has no others, and one each of a rare type and with a rare tag.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use annals::{Batch, Client, Engine, EngineOptions, NewEvent, Tenant, TenantId, Text};
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use tokio::task::JoinSet;
use uuid::{Builder, Uuid};

use crate::{Failure, Table, program::count, say};

const BATCH: u64 = 1_000;
const WRITERS: usize = 8;
/// Batches that hold what lookups look for.
pub(crate) const SPECIAL: u64 = 100;
/// Entities with one event in each of those.
pub(crate) const SCATTERED: u64 = 200;
pub(crate) const ENTITY_EVENTS: u64 = 100;
pub(crate) const RARE_TYPE: &str = "fraud.suspected";
pub(crate) const RARE_TAG: &str = "escalated";
const TYPES: u64 = 19;
const WORDS: [&str; 16] = [
    "the",
    "parcel",
    "waits",
    "for",
    "a",
    "signature",
    "at",
    "door",
    "customer",
    "asked",
    "again",
    "about",
    "late",
    "invoice",
    "of",
    "march",
];
/// A log that nothing was sealed of yet tells what an event takes in it, once it has so many.
const LOG_EVENTS: u64 = 200_000;

/// What is appended.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) events: u64,
    pub(crate) entities: u64,
    batches: u64,
}

impl Plan {
    pub(crate) fn new(events: u64) -> Self {
        let batches = events.div_ceil(BATCH).max(2 * SPECIAL);
        let events = batches * BATCH;
        Self {
            events,
            entities: (events / 10).clamp(1, 10_000_000),
            batches,
        }
    }

    pub(crate) fn batch(&self, number: u64) -> Batch {
        Batch::new((number * BATCH..(number + 1) * BATCH).map(|n| self.event(n)))
    }

    fn event(&self, n: u64) -> NewEvent {
        let (batch, at) = (n / BATCH, n % BATCH);
        let stride = self.batches / SPECIAL;
        let special =
            (batch.is_multiple_of(stride) && batch / stride < SPECIAL).then_some(batch / stride);
        let draw = mixed(n);
        let after = SCATTERED + 2;
        let (entity, name, rare) = match special {
            Some(_) if at < SCATTERED => (scattered(at), event_type(draw), false),
            Some(_) if at == SCATTERED => (self.entity(draw), RARE_TYPE.to_owned(), false),
            Some(_) if at == SCATTERED + 1 => (self.entity(draw), event_type(draw), true),
            Some(nth) if at < after + ENTITY_EVENTS => (clustered(nth), event_type(draw), false),
            _ => (self.entity(draw), event_type(draw), false),
        };
        let mut tags = vec![format!("region:{}", (draw >> 24) % 10)];
        if (draw >> 40).is_multiple_of(50) {
            tags.push("priority".to_owned());
        }
        if rare {
            tags.push(RARE_TAG.to_owned());
        }
        NewEvent::new(entity, name, payload(n, draw))
            .with_id(id(n))
            .with_tags(tags)
    }

    fn entity(&self, draw: u64) -> String {
        entity((draw >> 8) % self.entities)
    }

    /// The id of an event that was appended.
    pub(crate) fn some_id(&self, draw: u64) -> Uuid {
        id(draw % self.events)
    }
}

pub(crate) fn entity(number: u64) -> String {
    format!("order-{number:08}")
}

/// With an event in each special batch.
pub(crate) fn scattered(number: u64) -> String {
    format!("scattered-{number:03}")
}

/// With all its events in one batch.
pub(crate) fn clustered(number: u64) -> String {
    format!("clustered-{number:03}")
}

fn event_type(draw: u64) -> String {
    format!("order.step-{:02}", draw % TYPES)
}

/// Like those that clients make: a time, then random bits.
fn id(n: u64) -> Uuid {
    let mut random = [0; 10];
    random[..8].copy_from_slice(&mixed(!n).to_le_bytes());
    random[8..].copy_from_slice(&(n as u16).to_le_bytes());
    Builder::from_unix_timestamp_millis(1_750_000_000_000 + n / 200, &random).into_uuid()
}

/// About 200 bytes, as applications write them.
fn payload(n: u64, draw: u64) -> String {
    let mut random = mixed(draw);
    let mut text = format!(
        r#"{{"number":{n},"amount":{}.{:02},"currency":"EUR","customer":"customer-{:06}","items":[{{"sku":"sku-{:05}","count":{}}}],"note":""#,
        draw % 5000,
        (draw >> 13) % 100,
        (draw >> 20) % 500_000,
        (draw >> 36) % 30_000,
        1 + (draw >> 48) % 9,
    );
    while text.len() < 185 {
        for shift in (0..64).step_by(16) {
            text += WORDS[(random >> shift) as usize % WORDS.len()];
            text.push(' ');
        }
        random = mixed(random);
    }
    text + "\"}"
}

/// SplitMix64 (<https://prng.di.unimi.it/splitmix64.c>).
pub(crate) fn mixed(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// How it went.
#[derive(Debug)]
pub(crate) struct Filled {
    appending: Duration,
    /// After the last append.
    sealing: Duration,
    /// Stand in the log only: too few for a segment.
    not_sealed: u64,
    segments: u64,
    runs: u64,
    pub(crate) log_bytes_per_event: f64,
}

impl Filled {
    pub(crate) fn tell(&self, plan: &Plan, table: &mut Table) {
        let (seconds, rate) = (
            self.appending.as_secs_f64(),
            plan.events as f64 / self.appending.as_secs_f64(),
        );
        table.row(
            "appended in process, sealing on",
            format!("{rate:.0} events/s ({seconds:.0} s)"),
        );
        let (segments, runs) = (self.segments, self.runs);
        let text = format!(
            "{:.1} s; {segments} segments, {runs} index runs, {} events not sealed",
            self.sealing.as_secs_f64(),
            HumanCount(self.not_sealed)
        );
        table.row("until all was sealed and merged", text);
    }
}

/// Log files beyond so many bytes go once they are sealed.
pub(crate) fn options(keep_bytes: u64) -> EngineOptions {
    let mut options = EngineOptions::default();
    options.limits.keep_bytes = keep_bytes;
    options
}

pub(crate) async fn fill(data: &Path, plan: &Plan, keep_bytes: u64) -> Result<Filled, Failure> {
    let engine = Engine::open(data, options(keep_bytes))?;
    let tenant = engine.tenant(&TenantId::default()).await?;
    let (begun, next) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let mut writers: JoinSet<Result<(), Failure>> = JoinSet::new();
    for _ in 0..WRITERS {
        let (tenant, plan, next) = (tenant.clone(), plan.clone(), next.clone());
        writers.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= plan.batches {
                    return Ok(());
                }
                tenant.append(plan.batch(number)).await?;
            }
        });
    }
    let bar = ProgressBar::new(plan.events);
    if let Ok(style) = ProgressStyle::with_template(
        "filling {bar:30} {human_pos}/{human_len} {per_sec}, {eta} left",
    ) {
        bar.set_style(style);
    }
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    let (mut log_bytes_per_event, mut told_at) = (0.0, Instant::now());
    loop {
        tokio::select! {
            ended = writers.join_next() => match ended {
                Some(ended) => ended??,
                None => break,
            },
            _ = ticks.tick() => {}
        }
        let head = tenant.head();
        bar.set_position(head);
        if log_bytes_per_event == 0.0 && head >= LOG_EVENTS {
            log_bytes_per_event = bytes_an_event(&tenant);
        }
        if bar.is_hidden() && told_at.elapsed() >= Duration::from_mins(1) {
            told_at = Instant::now();
            say(format_args!(
                "{} of {} events",
                HumanCount(head),
                HumanCount(plan.events)
            ));
        }
    }
    bar.finish_and_clear();
    let appending = begun.elapsed();
    if log_bytes_per_event == 0.0 {
        log_bytes_per_event = bytes_an_event(&tenant);
    }
    let begun = Instant::now();
    let limits = options(keep_bytes).limits;
    let mut runs_before = 0;
    loop {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let (stats, runs) = (tenant.stats(), count(data, "index").files);
        let not_sealed = stats.head - stats.sealed;
        let is_small = not_sealed < limits.seal_events
            && not_sealed as f64 * log_bytes_per_event < 1.1 * limits.seal_bytes as f64;
        // A merge writes a file beside those that it replaces.
        if is_small && runs == runs_before && !is_writing(data) {
            break;
        }
        runs_before = runs;
    }
    let stats = tenant.stats();
    engine.close();
    Ok(Filled {
        appending,
        sealing: begun.elapsed(),
        not_sealed: stats.head - stats.sealed,
        segments: stats.segments,
        runs: runs_before,
        log_bytes_per_event,
    })
}

/// Whether a segment or an index run is being written.
pub(crate) fn is_writing(data: &Path) -> bool {
    let tenant = data.join("tenants").join(TenantId::DEFAULT);
    let folders = ["segments", "index"].map(|name| fs::read_dir(tenant.join(name)));
    let mut files = folders.into_iter().flatten().flatten().flatten();
    files.any(|file| {
        file.path()
            .extension()
            .is_some_and(|extension| extension == "new")
    })
}

/// As long as nothing was sealed, and no file went, it is exact.
fn bytes_an_event(tenant: &Tenant) -> f64 {
    let stats = tenant.stats();
    stats.log_bytes as f64 / stats.head.max(1) as f64
}

/// Appends over gRPC for a while; how many events.
pub(crate) async fn append_for(
    client: &Client,
    plan: &Plan,
    time: Duration,
) -> Result<u64, Failure> {
    let (until, next) = (
        Instant::now() + time,
        Arc::new(AtomicU64::new(plan.batches)),
    );
    let mut writers: JoinSet<Result<(), Failure>> = JoinSet::new();
    for _ in 0..WRITERS {
        let (client, plan, next) = (client.clone(), plan.clone(), next.clone());
        writers.spawn(async move {
            while Instant::now() < until {
                client
                    .append(&plan.batch(next.fetch_add(1, Ordering::Relaxed)))
                    .await?;
            }
            Ok(())
        });
    }
    while let Some(ended) = writers.join_next().await {
        ended??;
    }
    Ok((next.load(Ordering::Relaxed) - plan.batches) * BATCH)
}

/// Names and ids of what is there and what is not, for lookups.
pub(crate) fn nobody(number: u64) -> Text {
    Text::from(format!("order-{number:08}-nobody"))
}
