//! Merges index runs that follow each other, so that even a long log has few of them: as many as the fan-in of about one
//! size become one of the next size.
//!
//! Done on a thread of its own, behind everything else. Invariants: the manifest names the merged run in the place of
//! the others in one step, once it is durable and every byte of it was read back; whoever reads the others goes on. What
//! fails changes nothing, and is tried again after the next seal.

use std::{mem, path::PathBuf, sync::Arc, thread, time::Instant};

use parking_lot::{Condvar, Mutex};
use tracing::{debug, warn};

use super::{Log, cold::run_name};
use crate::{
    storage::{
        index::{
            merge::{MergeError, merge},
            reader::Run,
            writer::RunWriter,
        },
        manifest::Manifest,
    },
    types::{id::Position, limits::RUN_EVENTS_MAX},
};

/// Whether runs of a log are being merged.
#[derive(Default)]
pub(super) struct Merging {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Default)]
struct State {
    running: bool,
    stop: bool,
}

/// Starts merging if there is something to merge and nobody is at it.
pub(super) fn wake(log: &Arc<Log>) {
    if log.next_to_merge().is_none() {
        return;
    }
    let mut state = log.merging.state.lock();
    if state.stop || mem::replace(&mut state.running, true) {
        return;
    }
    let merged_log = Arc::clone(log);
    let thread = thread::Builder::new().name("annals-merge".into());
    if let Err(e) = thread.spawn(move || run(&merged_log)) {
        warn!(tenant = %log.tenant, error = %e, "merging could not be started");
        state.running = false;
    }
}

/// Gives up merging, and waits until nobody is at it any more.
pub(super) fn stop(log: &Log) {
    let mut state = log.merging.state.lock();
    state.stop = true;
    while state.running {
        log.merging.ended.wait(&mut state);
    }
}

/// Whoever waits for a thread that panicked must not wait for ever.
struct Ended<'a>(&'a Merging);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.state.lock().running = false;
            self.0.ended.notify_all();
        }
    }
}

fn run(log: &Log) {
    let _ended = Ended(&log.merging);
    loop {
        let runs = log.next_to_merge();
        let mut state = log.merging.state.lock();
        // Looked at again under the lock: whoever comes later starts another thread.
        let runs = runs.or_else(|| log.next_to_merge());
        let Some(runs) = runs.filter(|_| !state.stop) else {
            state.running = false;
            log.merging.ended.notify_all();
            return;
        };
        drop(state);
        let outcome = merge_once(log, &runs);
        let mut state = log.merging.state.lock();
        match outcome {
            Ok(()) | Err(MergeError::Stopped) => {}
            Err(e) => {
                warn!(tenant = %log.tenant, error = %e, "merging index runs failed: nothing is lost");
                state.running = false;
                log.merging.ended.notify_all();
                return;
            }
        }
    }
}

fn merge_once(log: &Log, runs: &[Arc<Run>]) -> Result<(), MergeError> {
    let _one_at_a_time = log.shared.merge_turn.lock();
    let started = Instant::now();
    let disk = &*log.place.disk;
    let dir = log.place.index_dir();
    let (first, last) = (runs[0].first(), runs[runs.len() - 1].last());
    let path = dir.join(run_name(first, last));
    let new = dir.join(format!("{}.new", run_name(first, last)));
    let stop = || log.merging.state.lock().stop;
    let writer = RunWriter::create(disk, &new, log.log_id, log.index.hasher, first)?;
    let borrowed: Vec<_> = runs.iter().map(|run| &**run).collect();
    let summary = merge(&borrowed, writer, &stop)?;
    log.open_run(&new, &summary)?.verify()?;
    disk.rename(&new, &path)?;
    disk.sync_dir(&dir)?;
    let merged = log.open_run(&path, &summary)?;
    let changed = log.manifest.change(|manifest: &mut Manifest| {
        let listed = &mut manifest.sealed.runs;
        let at = listed.partition_point(|run| run.first < first);
        listed.splice(at..at + runs.len(), [summary]);
    });
    if let Err(e) = changed {
        // The manifest on disk may name either: both stay until the log is opened again.
        log.merging.state.lock().stop = true;
        return Err(e.into());
    }
    log.index.change(|pieces| {
        let at = pieces.runs.partition_point(|run| run.first() < first);
        pieces.runs.splice(at..at + runs.len(), [Arc::new(merged)]);
    });
    debug!(tenant = %log.tenant, first, last, runs = runs.len(), took = ?started.elapsed(), "merged index runs");
    let old: Vec<_> = runs.iter().map(|run| run_path(&dir, run)).collect();
    for path in old {
        // What stays is removed when the log is opened again.
        if let Err(e) = disk.remove(&path) {
            warn!(tenant = %log.tenant, path = %path.display(), error = %e, "removing a merged index run");
        }
    }
    Ok(())
}

fn run_path(dir: &std::path::Path, run: &Run) -> PathBuf {
    dir.join(run_name(run.first(), run.last()))
}

impl Log {
    /// The oldest of the newest runs of one size, if there are as many as the fan-in.
    fn next_to_merge(&self) -> Option<Vec<Arc<Run>>> {
        let limits = &self.shared.limits;
        let pieces = self.pieces();
        let runs = pieces.runs();
        let size = |run: &Run| {
            size(
                run.last() - run.first() + 1,
                limits.seal_events,
                limits.run_fan_in,
            )
        };
        let mut end = runs.len();
        while end > 0 {
            let of_size = size(&runs[end - 1]);
            let same = runs[..end]
                .iter()
                .rev()
                .take_while(|run| size(run) <= of_size);
            let start = end - same.count();
            let merged = &runs[start..end.min(start + limits.run_fan_in)];
            let events = merged.last()?.last() - merged[0].first() + 1;
            if merged.len() == limits.run_fan_in && events <= RUN_EVENTS_MAX {
                return Some(merged.to_vec());
            }
            end = start;
        }
        None
    }
}

/// How often runs of so many events were merged: each time makes them as many times larger as the fan-in.
fn size(events: Position, seal_events: u64, fan_in: usize) -> u32 {
    let seals = events / seal_events.max(1);
    seals.max(1).ilog(fan_in as u64)
}
