//! Gives events their lasting form: a part of the log that is complete and durable becomes a segment and an index run.
//!
//! Done on a thread of its own, started when there is something to do, one part of the process at a time. Invariants:
//! the manifest names a segment and a run only when both are durable, every byte of them was read back, and the segment
//! was found to hold what the log does; only then is the part's memory given up. A seal that fails changes nothing, is tried again, and
//! never stops appends.

use std::{
    io, mem,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tracing::{debug, warn};

use super::{
    Log,
    cold::{run_name, segment_name},
    compact, merge,
    part::Part,
    rows::Located,
    sequencer::State,
};
use crate::{
    engine::event::Event,
    storage::{
        index::{RowPlace, RunSummary, writer::RunWriter},
        manifest::Manifest,
        segment::{SegmentSummary, content::Content, reader::Segment, writer::SegmentWriter},
    },
    telemetry,
    types::{
        append::AppendError,
        id::Position,
        limits::READ_BATCH_BYTES,
        read::{NameKind, ReadError},
        slot::{SLOTS, slot},
    },
};

/// After a failure, the first wait; each further one doubles it.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_mins(1);

/// Whether a log is being sealed.
#[derive(Default)]
pub(super) struct Sealing {
    pub(super) running: bool,
    /// No more parts are to be sealed, and the one on its way is to be given up.
    pub(super) stop: bool,
    pub(super) failing: bool,
}

/// Why a part was not sealed.
#[derive(Debug, thiserror::Error)]
enum SealError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("{}: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("{}: what was written is not what the log holds", .0.display())]
    Differs(PathBuf),
    #[error("the log closes")]
    Stopped,
}

/// Starts sealing if there is something to seal and nobody is at it.
pub(super) fn wake(log: &Arc<Log>) {
    if log.next_to_seal().is_none() {
        return;
    }
    let mut sealing = log.sealing.lock();
    if sealing.stop || mem::replace(&mut sealing.running, true) {
        return;
    }
    let thread = thread::Builder::new().name("annals-seal".into());
    let sealed_log = Arc::clone(log);
    if let Err(e) = thread.spawn(move || run(&sealed_log)) {
        warn!(tenant = %log.tenant, error = %e, "sealing could not be started");
        sealing.running = false;
    }
}

/// Gives up sealing, and waits until nobody is at it any more.
pub(super) fn stop(log: &Log) {
    let mut sealing = log.sealing.lock();
    sealing.stop = true;
    log.seal_changed.notify_all();
    while sealing.running {
        log.seal_changed.wait(&mut sealing);
    }
}

/// Whoever waits for a thread that panicked must not wait for ever.
struct Ended<'a>(&'a Log);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let mut sealing = self.0.sealing.lock();
            sealing.running = false;
            sealing.failing = true;
            self.0.seal_changed.notify_all();
            self.0.shared.unsealed.changed.notify_waiters();
        }
    }
}

fn run(log: &Arc<Log>) {
    let _ended = Ended(log);
    let mut retry = RETRY_FIRST;
    // What the manifest could not be made to name.
    let mut made: Option<Made> = None;
    loop {
        let part = log.next_to_seal();
        let mut sealing = log.sealing.lock();
        // Looked at again under the lock: whoever comes later starts another thread.
        let part = part.or_else(|| log.next_to_seal());
        let Some((part, last)) = part.filter(|_| !sealing.stop) else {
            sealing.running = false;
            log.seal_changed.notify_all();
            return;
        };
        drop(sealing);
        let started = Instant::now();
        let outcome = match &made {
            Some(made) => enter(log, &part, made),
            None => make(log, &part, last).and_then(|new| enter(log, &part, made.insert(new))),
        };
        match outcome {
            Ok(()) => {
                made = None;
                retry = RETRY_FIRST;
                let took = started.elapsed();
                telemetry::sealed(last - part.first + 1, took);
                let blocks = &log.shared.blocks;
                debug!(
                    tenant = %log.tenant, first = part.first, last, ?took,
                    block_hits = blocks.hits(), block_misses = blocks.misses(), "sealed"
                );
                log.sealing.lock().failing = false;
                log.shared.unsealed.changed.notify_waiters();
                merge::wake(log);
                compact::wake(log);
            }
            Err(SealError::Stopped) => {}
            Err(e) => {
                warn!(
                    tenant = %log.tenant, first = part.first, last, error = %e, retry_in = ?retry,
                    "sealing failed: nothing is lost, it is tried again"
                );
                telemetry::seal_failed();
                let mut sealing = log.sealing.lock();
                sealing.failing = true;
                log.shared.unsealed.changed.notify_waiters();
                if !sealing.stop {
                    let _ = log.seal_changed.wait_for(&mut sealing, retry);
                }
                retry = (retry * 2).min(RETRY_MAX);
            }
        }
    }
}

impl Log {
    /// The oldest part, if it is complete and durable, and its last position.
    pub(super) fn next_to_seal(&self) -> Option<(Arc<Part>, Position)> {
        let pieces = self.pieces();
        let part = pieces.parts().first()?;
        let last = *part.last.get()?;
        (last <= self.head()).then(|| (Arc::clone(part), last))
    }

    /// Whether more waits to be sealed than memory is meant for.
    fn seals_behind(&self) -> bool {
        // The part that grows is always there, and does not wait.
        self.pieces().parts().len() > self.shared.limits.seal_backlog_max.max(1)
            || self.shared.unsealed.is_full()
    }

    /// Waits while sealing is too far behind; refuses if it does not get on.
    pub(crate) async fn wait_for_seals(&self) -> Result<(), AppendError> {
        while self.seals_behind() {
            let changed = self.shared.unsealed.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let open = self.sequencer.lock().state == State::Open;
            if !open || !self.seals_behind() {
                break;
            }
            // Another log may hold the room that is needed here.
            let all = &self.shared.unsealed;
            if self.sealing.lock().failing || all.is_full() && all.is_any_failing() {
                return Err(AppendError::SealBehind);
            }
            changed.await;
        }
        Ok(())
    }
}

/// A file that is written under another name first.
struct NewFile {
    new: PathBuf,
    path: PathBuf,
}

impl NewFile {
    fn in_dir(dir: &Path, name: &str) -> Self {
        Self {
            new: dir.join(format!("{name}.new")),
            path: dir.join(name),
        }
    }

    fn failed(&self) -> impl Fn(io::Error) -> SealError + '_ {
        |error| SealError::Io {
            path: self.path.clone(),
            error,
        }
    }
}

/// Durable files that the manifest does not name yet.
struct Made {
    first: Position,
    last: Position,
    written: Written,
}

/// Writes a part's files and makes them durable. Nothing names them yet, so a further attempt may write over them.
fn make(log: &Log, part: &Part, last: Position) -> Result<Made, SealError> {
    let _one_at_a_time = log.shared.seal_turn.lock();
    let disk = &*log.place.disk;
    let (segments_dir, index_dir) = (log.place.segments_dir(), log.place.index_dir());
    let segment_file = NewFile::in_dir(&segments_dir, &segment_name(part.first, last));
    let run_file = NewFile::in_dir(&index_dir, &run_name(part.first, last));
    for (dir, file) in [(&segments_dir, &segment_file), (&index_dir, &run_file)] {
        disk.make_dir(dir).map_err(file.failed())?;
    }
    let written = write(log, part, last, &segment_file, &run_file)?;
    read_back(log, &segment_file.new, &written)?;
    log.open_run(&run_file.new, &written.run)?.verify()?;
    for (dir, file) in [(&segments_dir, &segment_file), (&index_dir, &run_file)] {
        disk.rename(&file.new, &file.path).map_err(file.failed())?;
        disk.sync_dir(dir).map_err(file.failed())?;
    }
    Ok(Made {
        first: part.first,
        last,
        written,
    })
}

/// Names the files in the manifest, and puts them in the part's place. Once this was tried they must not be written over:
/// the manifest on disk may name them although it failed.
fn enter(log: &Log, part: &Part, made: &Made) -> Result<(), SealError> {
    let Made {
        first,
        last,
        written,
    } = made;
    let run_path = log.place.index_dir().join(run_name(*first, *last));
    let run = log.open_run(&run_path, &written.run)?;
    let cursors: Vec<_> = log.cursors.lock().clone().into_iter().collect();
    let change = |manifest: &mut Manifest| {
        let sealed = &mut manifest.sealed;
        sealed.segments.push(written.segment.clone());
        sealed.runs.push(written.run);
        sealed.entities += part.names(NameKind::Entity).new_names();
        sealed.event_types += part.names(NameKind::Type).new_names();
        sealed.events_per_slot.resize(SLOTS, 0);
        let events = sealed.events_per_slot.iter_mut();
        for (events, more) in events.zip(&written.events_per_slot) {
            *events += more;
        }
        sealed.cursors = cursors;
    };
    let changed = log.manifest.change(change);
    changed.map_err(|error| SealError::Io {
        path: log.place.dir.clone(),
        error,
    })?;
    log.index.seal(part, run, written.segment.clone());
    log.unsealed.sealed(last - first + 1);
    log.kept.add(log.table.release(*last));
    log.drop_surplus_files();
    Ok(())
}

/// What was written, not published yet.
struct Written {
    segment: SegmentSummary,
    run: RunSummary,
    events_per_slot: Vec<u64>,
    /// Of the segment's columns.
    content: u128,
}

fn write(
    log: &Log,
    part: &Part,
    last: Position,
    segment_file: &NewFile,
    run_file: &NewFile,
) -> Result<Written, SealError> {
    let disk = &*log.place.disk;
    let hasher = log.index.hasher;
    let (segment_failed, run_failed) = (segment_file.failed(), run_file.failed());
    let options = log.segment_options();
    let mut segment = SegmentWriter::create(disk, &segment_file.new, log.log_id, options)
        .map_err(&segment_failed)?;
    let mut run = RunWriter::create(disk, &run_file.new, log.log_id, hasher, part.first)
        .map_err(&run_failed)?;
    let mut ids = Vec::with_capacity((last - part.first + 1) as usize);
    let mut events_per_slot = vec![0; SLOTS];
    let mut next = part.first;
    while next <= last {
        if log.sealing.lock().stop {
            return Err(SealError::Stopped);
        }
        let positions: Vec<_> = (next..=last.min(next + 4_095)).collect();
        let fetched = log.fetch_unsealed(&positions, READ_BATCH_BYTES as u64)?;
        for (at, event) in fetched.located.iter().zip(&fetched.events) {
            let Located { bytes, .. } = at;
            let Event {
                position,
                recorded_at,
                row,
            } = event;
            segment
                .push(*position, *recorded_at, row)
                .map_err(&segment_failed)?;
            let place = RowPlace {
                log_offset: fetched.file.log_offset(bytes.start),
                bytes: row.as_bytes().len() as u32,
                recorded_at: *recorded_at,
            };
            run.row(place).map_err(&run_failed)?;
            ids.push((hasher.hash(row.event_id().as_bytes()), *position));
            events_per_slot[slot(row.entity_id())] += 1;
            next = position + 1;
        }
    }
    run.ids(ids).map_err(&run_failed)?;
    for kind in [NameKind::Entity, NameKind::Type, NameKind::Tag] {
        part.each_name(kind, |name, before, positions| {
            if log.sealing.lock().stop {
                return Err(SealError::Stopped);
            }
            run.name(kind, name, before, positions).map_err(&run_failed)
        })?;
    }
    let content = segment.content().map_err(&segment_failed)?;
    Ok(Written {
        segment: segment.finish().map_err(&segment_failed)?,
        run: run.finish().map_err(&run_failed)?,
        events_per_slot,
        content,
    })
}

/// Reads a segment and compares it with what it was made from.
fn read_back(log: &Log, path: &Path, written: &Written) -> Result<(), SealError> {
    let opened = log.place.disk.open(path).map_err(|error| SealError::Io {
        path: path.to_owned(),
        error,
    })?;
    let summary = &written.segment;
    let segment = Segment::open(opened, path.to_owned(), log.log_id, summary)?;
    let mut content = Content::default();
    let differs = || SealError::Differs(path.to_owned());
    for batch in segment.columns() {
        content.add(&batch?.columns).map_err(|_| differs())?;
        if log.sealing.lock().stop {
            return Err(SealError::Stopped);
        }
    }
    if content.digest() == written.content {
        Ok(())
    } else {
        Err(differs())
    }
}
