//! What must hold at the end of a run.

use std::{sync::Arc, time::Instant};

use annals::{
    ReadRequest,
    types::slot::{Partitions, SLOTS},
};

use crate::{
    Tenant,
    ledger::{Audit, Fault},
    report::{Check, Report, thousands},
    run::{Run, chain},
    samples::slope_mb_per_hour,
};

/// Sealing works on one part while the limit's default of others wait, and one more is being filled.
const PARTS_NOT_SEALED_MAX: u64 = 8 + 2;
const SEAL_EVENTS: u64 = 1 << 18;
/// Index runs of one size that become one.
const FAN_IN: u64 = 8;
/// Log files beside those that are kept: parts that are not sealed, files made ahead of need, and those to be used again.
const LOG_PARTS_MAX: u64 = 16;
const LOG_FILE_BYTES: u64 = 64 << 20;
/// The share of the largest partition: with skewed entities, some are larger than others.
const BALANCE_MAX: f64 = 3.0;
const RECOVERY_SECONDS_MAX: f64 = 15.0;

/// Of one tenant, once everything was answered: a second reading from the beginning, and the figures.
pub(crate) async fn of_tenant(run: &Arc<Run>, tenant: &Tenant) -> Result<Vec<Check>, Fault> {
    let name = tenant.id.as_str();
    let mut checks = Vec::new();
    let (_, events, _) = tenant.ledger.totals();
    let (unseen, unanswered) = tenant.ledger.unsettled();
    let audited = {
        let audit = tenant.audit.lock();
        (
            audit.position,
            audit.slots.clone(),
            audit.entities(),
            audit.is_whole(),
        )
    };
    let is_well = audited.0 == events && unseen == 0 && unanswered == 0 && audited.3;
    let found = format!(
        "{} answered, {} delivered, {unseen} batches not delivered, {unanswered} not answered",
        thousands(events),
        thousands(audited.0)
    );
    checks.push(Check::new(
        format!("{name}: each event that was answered was delivered once, in order"),
        found,
        is_well,
    ));

    let begun = Instant::now();
    let mut again = Audit::again(tenant.ledger.clone());
    let read = read_all(run, tenant, &mut again).await;
    let what = format!("{name}: read once more from the beginning, it is the same");
    if let Err(fault) = read {
        checks.push(Check::failed(what, &fault));
    } else {
        let is_well = again.position == audited.0 && again.slots == audited.1 && again.is_whole();
        let found = format!(
            "{} events in {:.1} s",
            thousands(again.position),
            begun.elapsed().as_secs_f64()
        );
        checks.push(Check::new(what, found, is_well));
    }

    let stats = run.ask("stats", || tenant.client.stats()).await?;
    let stats = stats
        .tenants
        .first()
        .ok_or_else(|| Fault("no figures about the tenant".to_owned()))?;
    let partitions = Partitions::default();
    let mut counted = vec![0; partitions.count() as usize];
    for slot in 0..SLOTS {
        counted[partitions.of_slot(slot) as usize] += audited.1[slot];
    }
    let is_well = stats.events_per_partition == counted
        && stats.entities == audited.2
        && stats.head == events;
    let found = format!(
        "head {}, {} entities",
        thousands(stats.head),
        thousands(stats.entities)
    );
    checks.push(Check::new(
        format!("{name}: figures of head, entities and partitions are those that were counted"),
        found,
        is_well,
    ));
    if !tenant.watched.is_empty() {
        let largest = counted.iter().max().copied().unwrap_or(0) as f64;
        let mean = events as f64 / counted.len() as f64;
        let found = format!(
            "largest {:.2} times the mean, at most {BALANCE_MAX}",
            largest / mean
        );
        checks.push(Check::new(
            format!("{name}: partitions are balanced"),
            found,
            largest <= BALANCE_MAX * mean,
        ));
    }
    Ok(checks)
}

async fn read_all(run: &Arc<Run>, tenant: &Tenant, audit: &mut Audit) -> Result<(), Fault> {
    let begun = Instant::now();
    let failed = |e: annals::ClientError| Fault(format!("reading everything: {}", chain(&e)));
    let mut events = tenant
        .client
        .read(&ReadRequest::default())
        .await
        .map_err(failed)?;
    while let Some(batch) = events.next().await.map_err(failed)? {
        for event in &batch {
            audit.take(&event.map_err(|e| Fault(e.to_string()))?)?;
        }
    }
    run.record("read everything", begun.elapsed(), audit.position);
    Ok(())
}

/// Of the samples and restarts of a run.
pub(crate) fn of_samples(report: &Report) -> Vec<Check> {
    let samples = &report.samples;
    let settings = &report.settings;
    let max = |figure: fn(&crate::Sample) -> u64| samples.iter().map(figure).max().unwrap_or(0);
    let mut checks = Vec::new();

    let resident = max(|s| s.resident_bytes) as f64 / 1e6;
    let found = format!(
        "at most {resident:.0} MB, allowed {:.0}",
        settings.resident_mb_max
    );
    checks.push(Check::new(
        "resident memory is bounded",
        found,
        resident <= settings.resident_mb_max,
    ));
    match slope_mb_per_hour(samples) {
        Some(slope) if !settings.is_short() => {
            let most = settings.slope_mb_per_hour_max;
            let found = format!("{slope:+.1} MB an hour in the second half, allowed {most:.0}");
            checks.push(Check::new(
                "resident memory does not grow",
                found,
                slope <= most,
            ));
        }
        _ => {
            let found = "not judged: the run is shorter than 25 minutes";
            checks.push(Check::new("resident memory does not grow", found, true));
        }
    }

    let seal_events = if settings.seal_events > 0 {
        settings.seal_events
    } else {
        SEAL_EVENTS
    };
    let (backlog, most) = (max(|s| s.not_sealed), PARTS_NOT_SEALED_MAX * seal_events);
    let found = format!(
        "at most {} events not sealed, allowed {}",
        thousands(backlog),
        thousands(most)
    );
    checks.push(Check::new(
        "the seal backlog is bounded",
        found,
        backlog <= most,
    ));

    let log = max(|s| s.log.bytes);
    let most = settings.keep_bytes + LOG_PARTS_MAX * LOG_FILE_BYTES;
    let found = format!(
        "at most {} MB, allowed {}",
        log / 1_000_000,
        most / 1_000_000
    );
    checks.push(Check::new("log files are removed", found, log <= most));

    let tenants = 4;
    let restarts = report.restarts.len() as u64;
    let segments = max(|s| s.segments.files);
    let most = 2 * (report.events / seal_events + report.events * 400 / LOG_FILE_BYTES)
        + tenants * (2 + restarts);
    let found = format!("at most {segments}, allowed {most}");
    checks.push(Check::new(
        "segments are as many as the log has parts",
        found,
        segments <= most,
    ));
    let index = max(|s| s.index.files);
    let levels = u64::from(most.max(2).ilog(FAN_IN)) + 2;
    let most = tenants * FAN_IN * levels;
    let found = format!("at most {index}, allowed {most}");
    checks.push(Check::new("index runs are merged", found, index <= most));

    let slowest = report
        .restarts
        .iter()
        .map(|r| r.recovery_seconds)
        .fold(0.0, f64::max);
    let found =
        format!("at most {slowest:.2} s in {restarts} restarts, allowed {RECOVERY_SECONDS_MAX:.0}");
    checks.push(Check::new(
        "the server is ready soon after its start",
        found,
        slowest <= RECOVERY_SECONDS_MAX,
    ));
    checks
}
