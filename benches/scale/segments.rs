//! Thousands of segments, which are cheap to make when they are small: looking up what is in none of them.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use annals::{Engine, TenantId};

use crate::{
    Failure, Table,
    fill::{Plan, is_writing, options},
    measure::nobodies,
    program::count,
};

/// Of each segment.
const EVENTS: u64 = 100;

pub(crate) async fn measure(dir: &Path, segments: u64, table: &mut Table) -> Result<(), Failure> {
    let mut options = options(0);
    // A batch is never divided, and a larger one is a segment of its own.
    options.limits.seal_events = EVENTS;
    // They stay as they are.
    options.limits.compact_target_bytes = 1;
    let engine = Engine::open(dir, options)?;
    let tenant = engine.tenant(&TenantId::default()).await?;
    let plan = Plan::new(1_000_000);
    let begun = Instant::now();
    let mut number = 0;
    while tenant.stats().segments < segments {
        let mut batch = plan.batch(number);
        batch.events.truncate(EVENTS as usize);
        tenant.append(batch).await?;
        number += 1;
    }
    let mut runs = 0;
    loop {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let now = count(dir, "index").files;
        if now == runs && !is_writing(dir) {
            break;
        }
        runs = now;
    }
    let stats = tenant.stats();
    let what = format!(
        "in process: never-seen entity among {} segments, {runs} index runs",
        stats.segments
    );
    nobodies(&tenant, &what, table)?;
    table.row("made in", format!("{:.0} s", begun.elapsed().as_secs_f64()));
    engine.close();
    Ok(())
}
