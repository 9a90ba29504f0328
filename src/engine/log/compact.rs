//! Compacts segments that follow each other, so that even a long log has few of them: as many as the fan-in of about one
//! size become one of the next size, up to a target. A segment of half the target or more stays as it is for ever, so
//! that each event is written again as often as sizes are passed on the way there, and no more.
//!
//! Done on a thread of its own, one compaction of the process at a time, at a bounded pace; one that was asked for is
//! not paced, and leaves no two neighbours that would fit into one. Invariants: the manifest names the new segment in
//! the place of the others in one step, once it is durable and was read back; only then are the others removed. What
//! fails changes nothing, and is tried again after the next seal; a segment that is damaged is left alone until the log
//! is opened again or somebody asks.
//!
//! Readers are not disturbed: who has a file open goes on with it, and who comes too late for one finds its events at
//! the same positions in the new one (`cold`).
//!
//! Lock order: the state here before the pieces of the index.

use std::{
    collections::HashSet,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex, MutexGuard};
use tracing::{debug, warn};

use super::{Log, cold::segment_name};
use crate::{
    storage::{
        manifest::Manifest,
        segment::{
            SegmentSummary,
            compact::{CompactError, Source, Target, bytes_to_read, compact},
            schema::SegmentOptions,
        },
    },
    telemetry,
    types::{
        id::Position,
        limits::{COMPACT_SEGMENTS_MAX, Limits, SEGMENT_EVENTS_MAX},
        read::{Damage, ReadError},
    },
};

/// Bytes read between looks at the pace and at whether to stop.
const LOOK_BYTES: u64 = 1 << 20;
/// How often whoever waits for its turn looks at whether to stop.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Whether segments of a log are being compacted.
#[derive(Default)]
pub(super) struct Compacting {
    state: Mutex<State>,
    /// It ended, is to end, or was asked for.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    running: bool,
    stop: bool,
    /// Somebody asked for it.
    requested: bool,
    /// First positions of segments that cannot be read.
    damaged: HashSet<Position>,
    /// Bytes of the present compaction: read, and to be read.
    progress: (u64, u64),
    counts: Counts,
}

/// Since the log was opened.
#[derive(Default, Clone)]
struct Counts {
    compactions: u64,
    segments: u64,
    bytes: u64,
    failures: u64,
    last_error: Option<String>,
    last_took: Option<Duration>,
}

/// What is known of a tenant's segments and their compaction. Counts are since the tenant was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompactionStats {
    /// Segments on disk.
    pub segments: u64,
    /// Bytes of them.
    pub segment_bytes: u64,
    /// Those of less than half the target: they may still be compacted.
    pub small_segments: u64,
    /// Bytes of a segment that smaller ones are compacted into.
    pub target_bytes: u64,
    /// Compaction is at work, or waits for that of another tenant.
    pub running: bool,
    /// Bytes that the present compaction read, of `progress_bytes_total` about; both 0 if there is none.
    pub progress_bytes: u64,
    /// See `progress_bytes`.
    pub progress_bytes_total: u64,
    /// Compactions done.
    pub compactions: u64,
    /// Segments that they made fewer ones of.
    pub compacted_segments: u64,
    /// Bytes that they wrote.
    pub written_bytes: u64,
    /// Compactions that failed; they changed nothing.
    pub failures: u64,
    /// Why the last one of these did.
    pub last_error: Option<String>,
    /// How long the last one that was done took.
    pub last_took: Option<Duration>,
}

/// Why segments were not compacted.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Compact(#[from] CompactError),
    #[error("{}: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error(
        "it needs {needed} bytes beside the {reserve} of limits.disk_reserve_bytes, and {available} are free: make room"
    )]
    NoRoom {
        available: u64,
        needed: u64,
        reserve: u64,
    },
    /// Either form may stand on disk.
    #[error("{}: {error}: no more is compacted until the tenant is opened again", path.display())]
    Manifest { path: PathBuf, error: io::Error },
}

/// Starts compacting if there is something to compact and nobody is at it.
pub(super) fn wake(log: &Arc<Log>) {
    start(log, &mut log.compacting.state.lock());
}

/// Starts compacting whatever can be, at full pace.
pub(crate) fn request(log: &Arc<Log>) {
    let mut state = log.compacting.state.lock();
    state.requested = true;
    state.damaged.clear();
    log.compacting.changed.notify_all();
    start(log, &mut state);
}

fn start(log: &Arc<Log>, state: &mut State) {
    if state.running {
        return;
    }
    if state.stop || log.next_to_compact(state).is_none() {
        state.requested = false;
        return;
    }
    let compacted_log = Arc::clone(log);
    let thread = thread::Builder::new().name("annals-compact".into());
    match thread.spawn(move || run(&compacted_log)) {
        Ok(_) => state.running = true,
        Err(e) => {
            warn!(tenant = %log.tenant, error = %e, "compaction could not be started");
            state.requested = false;
        }
    }
}

/// Gives up compacting, and waits until nobody is at it any more.
pub(super) fn stop(log: &Log) {
    let mut state = log.compacting.state.lock();
    state.stop = true;
    log.compacting.changed.notify_all();
    while state.running {
        log.compacting.changed.wait(&mut state);
    }
}

/// However the thread ends: nobody waits for it for ever.
struct Ended<'a>(&'a Compacting);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            end(self.0, &mut self.0.state.lock());
        }
    }
}

fn end(compacting: &Compacting, state: &mut State) {
    state.running = false;
    state.requested = false;
    state.progress = (0, 0);
    compacting.changed.notify_all();
}

fn run(log: &Log) {
    let compacting = &log.compacting;
    let _ended = Ended(compacting);
    loop {
        let mut state = compacting.state.lock();
        // Under the lock: whoever comes later starts another thread.
        let next = log.next_to_compact(&state).filter(|_| !state.stop);
        let Some(segments) = next else {
            end(compacting, &mut state);
            return;
        };
        state.progress = (0, bytes_to_read(&segments));
        drop(state);
        let started = Instant::now();
        let outcome = compact_once(log, &segments);
        let mut state = compacting.state.lock();
        let more = match outcome {
            Ok(made) => {
                done(log, &mut state, &segments, &made, started.elapsed());
                true
            }
            Err(Failed::Compact(CompactError::Stopped)) => true,
            Err(failed) => give_up(log, &mut state, &segments, &failed),
        };
        if !more {
            end(compacting, &mut state);
            return;
        }
    }
}

fn done(
    log: &Log,
    state: &mut State,
    segments: &[SegmentSummary],
    made: &SegmentSummary,
    took: Duration,
) {
    let (
        SegmentSummary {
            first, last, bytes, ..
        },
        segments,
    ) = (made, segments.len());
    debug!(tenant = %log.tenant, first, last, segments, bytes, ?took, "compacted segments");
    telemetry::compacted(segments as u64, *bytes, took);
    let counts = &mut state.counts;
    counts.compactions += 1;
    counts.segments += segments as u64;
    counts.bytes += bytes;
    counts.last_took = Some(took);
}

/// Whether there may be something else to compact all the same.
fn give_up(log: &Log, state: &mut State, segments: &[SegmentSummary], failed: &Failed) -> bool {
    warn!(tenant = %log.tenant, error = %failed, "compacting segments failed: nothing is lost");
    telemetry::compact_failed();
    state.counts.failures += 1;
    state.counts.last_error = Some(failed.to_string());
    match failed {
        Failed::Compact(CompactError::Read(ReadError::Damaged(damage))) => {
            let is_it = |segment: &&SegmentSummary| log.segment_path(segment) == damage.path;
            let damaged = segments.iter().find(is_it);
            damaged.is_some_and(|segment| state.damaged.insert(segment.first))
        }
        Failed::Manifest { .. } => {
            state.stop = true;
            false
        }
        _ => false,
    }
}

fn compact_once(log: &Log, segments: &[SegmentSummary]) -> Result<SegmentSummary, Failed> {
    let _one_at_a_time = turn(log)?;
    let made = make(log, segments)?;
    enter(log, segments, &made)?;
    let disk = &log.place.disk;
    for old in segments {
        let path = log.segment_path(old);
        // What stays is removed when the log is opened again.
        if let Err(e) = disk.remove(&path) {
            warn!(tenant = %log.tenant, path = %path.display(), error = %e, "removing a compacted segment");
        }
        log.forget_segment(old);
    }
    Ok(made)
}

/// Waits until no other log of the process is being compacted.
fn turn(log: &Log) -> Result<MutexGuard<'_, ()>, Failed> {
    loop {
        if let Some(turn) = log.shared.compact_turn.try_lock_for(LOOK_EVERY) {
            return Ok(turn);
        }
        if log.compacting.state.lock().stop {
            return Err(CompactError::Stopped.into());
        }
    }
}

/// Writes the new segment and makes it and its name durable. If that fails, nothing of it stays, as far as the disk lets.
fn make(log: &Log, segments: &[SegmentSummary]) -> Result<SegmentSummary, Failed> {
    let needed = segments.iter().map(|segment| segment.bytes).sum();
    let reserve = log.shared.limits.disk_reserve_bytes;
    // What cannot be asked is met by the write.
    let available = log.place.available_bytes().unwrap_or(u64::MAX);
    if available.saturating_sub(reserve) < needed {
        return Err(Failed::NoRoom {
            available,
            needed,
            reserve,
        });
    }
    let disk = &*log.place.disk;
    let dir = log.place.segments_dir();
    let name = segment_name(segments[0].first, segments[segments.len() - 1].last);
    let new = dir.join(format!("{name}.new"));
    let path = dir.join(name);
    let failed = |error| Failed::Io {
        path: path.clone(),
        error,
    };
    let made = write(log, segments, &new).and_then(|made| {
        disk.rename(&new, &path).map_err(failed)?;
        disk.sync_dir(&dir).map_err(failed)?;
        Ok(made)
    });
    if made.is_err() {
        for path in [&new, &path] {
            // What stays is removed when the log is opened again.
            disk.remove(path).ok();
        }
    }
    made
}

fn write(log: &Log, segments: &[SegmentSummary], new: &Path) -> Result<SegmentSummary, Failed> {
    let open = |segment: &SegmentSummary| {
        let path = log.segment_path(segment);
        match log.place.disk.open(&path) {
            Ok(file) => Ok(Source {
                file,
                path,
                summary: segment.clone(),
            }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let what = "it is missing, and the manifest names it".to_owned();
                let offset = 0;
                Err(CompactError::Read(Damage { path, offset, what }.into()).into())
            }
            Err(error) => Err(Failed::Io { path, error }),
        }
    };
    let sources: Vec<_> = segments.iter().map(open).collect::<Result<_, Failed>>()?;
    let target = Target {
        path: new,
        log_id: log.log_id,
        options: log.segment_options(),
    };
    let pace = Pace {
        log,
        started: Instant::now(),
        bytes: AtomicU64::new(0),
    };
    let see = |bytes| pace.keep(bytes);
    Ok(compact(&*log.place.disk, &sources, &target, &see)?)
}

/// Names the new segment in the place of the others. Once this was tried, the files of both stay until it is known which
/// the manifest on disk names.
fn enter(log: &Log, segments: &[SegmentSummary], made: &SegmentSummary) -> Result<(), Failed> {
    let replace = |listed: &mut Vec<SegmentSummary>| {
        let at = listed.partition_point(|segment| segment.first < made.first);
        listed.splice(at..at + segments.len(), [made.clone()]);
    };
    let change = |manifest: &mut Manifest| replace(&mut manifest.sealed.segments);
    let changed = log.manifest.change(change);
    changed.map_err(|error| Failed::Manifest {
        path: log.place.dir.clone(),
        error,
    })?;
    log.index.change(|pieces| replace(&mut pieces.segments));
    Ok(())
}

/// How fast a compaction goes.
struct Pace<'a> {
    log: &'a Log,
    started: Instant,
    bytes: AtomicU64,
}

impl Pace<'_> {
    /// Waits until so many more bytes are due; false: stop.
    fn keep(&self, more: u64) -> bool {
        let before = self.bytes.fetch_add(more, Ordering::Relaxed);
        let bytes = before + more;
        if bytes / LOOK_BYTES == before / LOOK_BYTES {
            return true;
        }
        let compacting = &self.log.compacting;
        let rate = self.log.shared.limits.compact_bytes_per_second;
        let mut state = compacting.state.lock();
        state.progress.0 = bytes.min(state.progress.1);
        while !state.stop && !state.requested && rate > 0 {
            let due = Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / rate);
            let timed_out = compacting
                .changed
                .wait_until(&mut state, self.started + due)
                .timed_out();
            if timed_out {
                break;
            }
        }
        !state.stop
    }
}

impl Log {
    pub(super) fn segment_options(&self) -> SegmentOptions {
        SegmentOptions {
            group_rows_max: self.shared.limits.row_group_events,
            ..SegmentOptions::default()
        }
    }

    fn next_to_compact(&self, state: &State) -> Option<Vec<SegmentSummary>> {
        let pieces = self.pieces();
        let limits = &self.shared.limits;
        let (segments, damaged) = (pieces.segments(), &state.damaged);
        next_of_one_size(segments, damaged, limits).or_else(|| {
            let neighbours = || next_that_fit(segments, damaged, limits);
            state.requested.then(neighbours).flatten()
        })
    }

    pub(crate) fn compaction_stats(&self) -> CompactionStats {
        let state = self.compacting.state.lock();
        let pieces = self.pieces();
        let segments = pieces.segments();
        let target_bytes = self.shared.limits.compact_target_bytes;
        let small = segments.iter().filter(|s| !is_full(s, target_bytes));
        let counts = state.counts.clone();
        CompactionStats {
            segments: segments.len() as u64,
            segment_bytes: segments.iter().map(|segment| segment.bytes).sum(),
            small_segments: small.count() as u64,
            target_bytes,
            running: state.running,
            progress_bytes: state.progress.0,
            progress_bytes_total: state.progress.1,
            compactions: counts.compactions,
            compacted_segments: counts.segments,
            written_bytes: counts.bytes,
            failures: counts.failures,
            last_error: counts.last_error,
            last_took: counts.last_took,
        }
    }
}

fn is_full(segment: &SegmentSummary, target_bytes: u64) -> bool {
    segment.bytes >= target_bytes / 2
}

/// The oldest of the newest segments of one size, if there are as many as the fan-in, or as fit into the target.
fn next_of_one_size(
    segments: &[SegmentSummary],
    damaged: &HashSet<Position>,
    limits: &Limits,
) -> Option<Vec<SegmentSummary>> {
    let target = limits.compact_target_bytes;
    let fan_in = limits.compact_fan_in.clamp(2, COMPACT_SEGMENTS_MAX);
    let stays =
        |segment: &SegmentSummary| is_full(segment, target) || damaged.contains(&segment.first);
    // How often segments so small are compacted until they are full.
    let steps = |segment: &SegmentSummary| {
        let parts = target / segment.bytes.max(1);
        parts.max(1).ilog(fan_in as u64)
    };
    let mut end = segments.len();
    while end > 0 {
        if stays(&segments[end - 1]) {
            end -= 1;
            continue;
        }
        let of_size = steps(&segments[end - 1]);
        let same = segments[..end]
            .iter()
            .rev()
            .take_while(|segment| !stays(segment) && steps(segment) >= of_size);
        let start = end - same.count();
        let same = &segments[start..end];
        let fits = that_fit(same, target, fan_in);
        // As many as fit are full, so that none of the others ever joins them.
        if fits > 1 && (fits == fan_in || fits < same.len()) {
            return Some(same[..fits].to_vec());
        }
        end = start;
    }
    None
}

/// The oldest neighbours that fit into one segment, whatever their sizes.
fn next_that_fit(
    segments: &[SegmentSummary],
    damaged: &HashSet<Position>,
    limits: &Limits,
) -> Option<Vec<SegmentSummary>> {
    let target = limits.compact_target_bytes;
    let stays =
        |segment: &SegmentSummary| is_full(segment, target) || damaged.contains(&segment.first);
    let mut groups = segments.split(stays);
    groups.find_map(|group| {
        let fits = that_fit(group, target, COMPACT_SEGMENTS_MAX);
        (fits > 1).then(|| group[..fits].to_vec())
    })
}

/// How many of the first segments, at most `max`, fit into a target.
fn that_fit(segments: &[SegmentSummary], target_bytes: u64, max: usize) -> usize {
    let (mut bytes, mut events) = (0, 0);
    let fit = segments.iter().take(max).take_while(|segment| {
        bytes += segment.bytes;
        events += segment.last - segment.first + 1;
        bytes <= target_bytes && events <= SEGMENT_EVENTS_MAX
    });
    fit.count()
}

#[cfg(test)]
mod tests;
