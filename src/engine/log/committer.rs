//! Makes what is queued durable: takes all of it as one group, writes and syncs it, shows it to readers, answers.
//!
//! One thread a log, started by the first append and ended when there was nothing to do for a while. While it syncs a
//! group, callers judge and queue the next one. Invariants: readers see a group only after its sync; an answer follows
//! what readers see; after a failed write or sync nothing is written any more.

use std::{
    mem,
    sync::{Arc, atomic::Ordering},
    thread,
    time::Instant,
};

use parking_lot::MutexGuard;
use tracing::{debug, error, warn};

use super::{
    Log,
    sequencer::{Outcome, PlacedBatch, Queued, Sequencer, State, Waiting, unreadable},
};
use crate::{
    storage::log::{
        frame::FRAME_HEADER_BYTES,
        writer::{Chunk, LogWriter, WriteFailed},
    },
    telemetry,
    types::{
        append::{AppendError, Appended},
        limits::{COMMITTER_LINGER, GROUP_BYTES_MAX, QUIET_TIME},
        time::Timestamp,
    },
};

/// Starts the committer's thread. The caller has set `committing`.
pub(super) fn start(log: &Arc<Log>, sequencer: &mut Sequencer) {
    let thread = thread::Builder::new().name("annals-commit".into());
    let run_log = Arc::clone(log);
    if let Err(e) = thread.spawn(move || run(&run_log)) {
        sequencer.committing = false;
        poison(
            log,
            sequencer,
            format!("the committer's thread could not be started: {e}"),
        );
    }
}

fn run(log: &Arc<Log>) {
    let Some(mut writer) = log.writer.lock().take() else {
        return;
    };
    let mut unmarked = true;
    while let Some(group) = next_group(log, &mut writer, &mut unmarked) {
        if commit(log, &mut writer, group).is_err() {
            // The writer goes with the thread: it must not be used again.
            log.sequencer.lock().committing = false;
            log.idle.notify_all();
            return;
        }
        unmarked = true;
    }
    *log.writer.lock() = Some(writer);
    let mut sequencer = log.sequencer.lock();
    sequencer.committing = false;
    log.idle.notify_all();
    // Somebody may have come between the last look at the queue and here.
    if !sequencer.queue.is_empty() {
        sequencer.committing = true;
        start(log, &mut sequencer);
    }
}

/// Waits for work; `None` if the thread should end. Meanwhile states what is durable once it has been quiet.
fn next_group(log: &Arc<Log>, writer: &mut LogWriter, unmarked: &mut bool) -> Option<Vec<Queued>> {
    let mut sequencer = log.sequencer.lock();
    let idle_since = Instant::now();
    loop {
        if !sequencer.queue.is_empty() {
            return Some(take_group(&mut sequencer));
        }
        let closing = sequencer.state != State::Open;
        if *unmarked && (closing || idle_since.elapsed() >= QUIET_TIME) {
            let next = sequencer.next;
            drop(sequencer);
            mark(log, writer, next).ok()?;
            *unmarked = false;
            sequencer = log.sequencer.lock();
        } else if closing || idle_since.elapsed() >= COMMITTER_LINGER {
            return None;
        } else {
            let wait = if *unmarked {
                QUIET_TIME
            } else {
                COMMITTER_LINGER
            };
            let _ = log
                .work
                .wait_for(&mut sequencer, wait.saturating_sub(idle_since.elapsed()));
        }
    }
}

fn take_group(sequencer: &mut MutexGuard<'_, Sequencer>) -> Vec<Queued> {
    sequencer.answering = true;
    let mut bytes = 0;
    let fits = |queued: &Queued| {
        if let Queued::Batch(batch, _) = queued {
            bytes += batch.frame.bytes().len();
        }
        bytes <= GROUP_BYTES_MAX
    };
    // The first one always goes, however large.
    let count = sequencer
        .queue
        .iter()
        .map(fits)
        .take_while(|fits| *fits)
        .count()
        .max(1);
    if count == sequencer.queue.len() {
        return mem::take(&mut sequencer.queue).into();
    }
    sequencer.queue.drain(..count).collect()
}

fn mark(log: &Arc<Log>, writer: &mut LogWriter, next: u64) -> Result<(), ()> {
    match writer.mark(next) {
        Ok(chunks) => {
            enter_files(log, &chunks);
            keep_recent(log, chunks);
            Ok(())
        }
        Err(failed) => {
            let mut sequencer = log.sequencer.lock();
            poison(log, &mut sequencer, describe(&failed));
            Err(())
        }
    }
}

/// Writes a group and answers it.
fn commit(log: &Arc<Log>, writer: &mut LogWriter, group: Vec<Queued>) -> Result<(), ()> {
    let batches = || {
        group.iter().filter_map(|queued| match queued {
            Queued::Batch(batch, _) => Some(batch),
            Queued::Answer(..) => None,
        })
    };
    if let Some(first) = batches().next() {
        let recorded_at = next_time(log);
        let started = Instant::now();
        let frames = batches().map(|batch| &batch.frame);
        let bytes = frames.clone().map(|frame| frame.bytes().len()).sum();
        match writer.append(frames, first.first_position, recorded_at) {
            Ok(chunks) => {
                telemetry::group_synced(batches().count(), bytes, started.elapsed());
                publish(log, batches(), chunks, recorded_at);
            }
            Err(failed) => {
                fail(log, group, &failed);
                return Err(());
            }
        }
        log.check_space();
        for queued in group {
            answer(log, queued, recorded_at);
        }
    } else {
        for queued in group {
            answer(log, queued, Timestamp::default());
        }
    }
    log.sequencer.lock().answering = false;
    Ok(())
}

/// The time of the next group: the clock's, but later than that of the group before.
fn next_time(log: &Log) -> Timestamp {
    let last = log.recorded_at.load(Ordering::Relaxed);
    let time = log.shared.clock.now().as_micros().max(last + 1);
    log.recorded_at.store(time, Ordering::Relaxed);
    Timestamp::from_micros(time).unwrap_or(Timestamp::MAX)
}

/// Shows a durable group to readers.
fn publish<'a>(
    log: &Arc<Log>,
    batches: impl Iterator<Item = &'a Arc<PlacedBatch>> + Clone,
    chunks: Vec<Chunk>,
    recorded_at: Timestamp,
) {
    enter_files(log, &chunks);
    let mut chunk_index = 0;
    let mut start = chunks[0].start;
    let mut events = 0;
    for batch in batches.clone() {
        let mut chunk = &chunks[chunk_index];
        if start == chunk.start + chunk.bytes.len() as u64 {
            chunk_index += 1;
            chunk = &chunks[chunk_index];
            start = chunk.start;
        }
        let rows = start + FRAME_HEADER_BYTES as u64;
        let offsets = batch
            .events
            .iter()
            .map(|event| rows + u64::from(event.row_start));
        let end = rows + batch.frame.rows().len() as u64;
        log.table
            .push(&chunk.file, offsets, end, recorded_at.as_micros());
        events += batch.events.len() as u64;
        start += batch.frame.bytes().len() as u64;
    }
    let bytes = chunks.iter().map(|chunk| chunk.bytes.len() as u64).sum();
    keep_recent(log, chunks);
    log.publish_cursors(batches.clone().flat_map(|batch| &batch.cursors));
    let mut slots = log.slots.lock();
    for event in batches.clone().flat_map(|batch| &batch.events) {
        slots[usize::from(event.slot)] += 1;
    }
    let head = log.head.advance(events);
    drop(slots);
    telemetry::appended(events, bytes);
    telemetry::head(&log.tenant, head);
    let published = batches.clone().count();
    log.sequencer.lock().unpublished.drain(..published);
    log.waiters
        .wake(batches.flat_map(|batch| &batch.events), head);
    super::seal::wake(log);
}

/// Enters the files that a group came to, in order, whether or not they hold rows.
fn enter_files(log: &Arc<Log>, chunks: &[Chunk]) {
    for chunk in chunks {
        log.table.enter(&chunk.file);
    }
}

fn keep_recent(log: &Arc<Log>, chunks: Vec<Chunk>) {
    for chunk in chunks {
        let log_offset = chunk.file.log_offset(chunk.start);
        log.log_bytes
            .store(log_offset + chunk.bytes.len() as u64, Ordering::Relaxed);
        log.shared.recent.push(&log.recent, log_offset, chunk.bytes);
    }
}

fn answer(log: &Log, queued: Queued, recorded_at: Timestamp) {
    match queued {
        Queued::Answer(outcome, waiting) => waiting.answer(complete(log, outcome)),
        Queued::Batch(batch, waiting) => {
            let events = batch.versions.len() as u64;
            let first_position = if events == 0 { 0 } else { batch.first_position };
            waiting.answer(Ok(Appended {
                first_position,
                last_position: (first_position + events).saturating_sub(1),
                recorded_at,
                duplicate: false,
                versions: batch.versions.clone(),
                event_ids: batch.made_ids.clone(),
                log_id: log.log_id,
            }));
        }
    }
}

/// Adds to the answer to a repeat what is known once the original is durable.
pub(super) fn complete(log: &Log, outcome: Outcome) -> Outcome {
    let mut appended = outcome?;
    let recorded_at = log.recorded_at(appended.last_position);
    if let Some(recorded_at) = recorded_at.map_err(unreadable)? {
        appended.recorded_at = recorded_at;
    }
    Ok(appended)
}

/// Answers a group that could not be written, and everything behind it, in order: whoever comes meanwhile waits for the
/// sequencer.
fn fail(log: &Arc<Log>, group: Vec<Queued>, failed: &WriteFailed) {
    let reason = describe(failed);
    let mut sequencer = log.sequencer.lock();
    let mut frame = 0;
    for queued in group {
        match queued {
            Queued::Batch(batch, waiting) => {
                let reason = reason.clone();
                let error = if frame < failed.attempted {
                    AppendError::OutcomeUnknown {
                        reason,
                        ids_given: batch.ids_given,
                    }
                } else {
                    AppendError::NotStored { reason }
                };
                frame += 1;
                waiting.answer(Err(error));
            }
            Queued::Answer(_, waiting) => not_stored(waiting, &reason),
        }
    }
    poison(log, &mut sequencer, reason);
}

/// Refuses appends from now on, and those that are queued.
fn poison(log: &Log, sequencer: &mut Sequencer, reason: String) {
    error!(tenant = %log.tenant, reason, "log poisoned: appends are refused until a restart");
    for queued in mem::take(&mut sequencer.queue) {
        let (Queued::Batch(_, waiting) | Queued::Answer(_, waiting)) = queued;
        not_stored(waiting, &reason);
    }
    sequencer.state = State::Poisoned(reason);
    log.shared.unsealed.changed.notify_waiters();
}

fn not_stored(waiting: Waiting, reason: &str) {
    waiting.answer(Err(AppendError::NotStored {
        reason: reason.to_owned(),
    }));
}

fn describe(failed: &WriteFailed) -> String {
    format!(
        "{} {} failed: {}; reads go on, appends are refused until the cause is mended and the server restarted",
        failed.doing,
        failed.path.display(),
        failed.error
    )
}

/// Refuses appends, has the committer write what is queued, and waits until it has ended.
pub(super) fn close(log: &Arc<Log>) {
    let mut sequencer = log.sequencer.lock();
    if sequencer.state == State::Open {
        sequencer.state = State::Closing;
    }
    log.shared.unsealed.changed.notify_waiters();
    log.work.notify_all();
    while sequencer.committing {
        log.idle.wait(&mut sequencer);
    }
    let poisoned = sequencer.state != State::Closing;
    drop(sequencer);
    if let Some(writer) = log.writer.lock().take()
        && !poisoned
        && let Err(e) = writer.close()
    {
        // Frames state the same: what is lost is the notice of a file that is cut while nobody runs.
        warn!(tenant = %log.tenant, error = %e, "the manifest does not state the end of the log");
    }
    debug!(tenant = %log.tenant, "log closed");
}
