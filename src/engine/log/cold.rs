//! What is sealed: opened when the log is, and read. Where an event stands says an index run; its row comes from the log
//! file as long as that is kept, else from the segment.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
};

use quick_cache::{Weighter, sync::Cache};
use tracing::warn;

use super::{Log, index::Pieces, kept::EndedFile, rows::Located};
use crate::{
    engine::event::Event,
    storage::{
        index::{NOWHERE, RowPlace, RunSummary, reader::Run},
        log::{
            recovery::{self, RecoverError},
            writer::LogFile,
        },
        segment::{SegmentSummary, reader::Segment},
    },
    types::{
        id::Position,
        limits::READ_BATCH_EVENTS,
        read::{Damage, ReadError},
    },
};

/// What describes the segments that were read last, of all logs, bounded in bytes.
pub(crate) struct OpenSegments {
    segments: Cache<SegmentKey, Arc<Segment>, ByMemory>,
}

/// The number of the log, and the segment's first and last position: a compacted one has a first one in common.
type SegmentKey = (u64, Position, Position);

#[derive(Clone)]
struct ByMemory;

impl Weighter<SegmentKey, Arc<Segment>> for ByMemory {
    fn weight(&self, _: &SegmentKey, segment: &Arc<Segment>) -> u64 {
        segment.memory_bytes() as u64
    }
}

/// Why a segment was not opened.
enum NotOpened {
    /// There is no such file.
    Missing(ReadError),
    Failed(ReadError),
}

impl OpenSegments {
    pub(crate) fn new(bytes_max: usize) -> Self {
        let expected = 64;
        Self {
            segments: Cache::with_weighter(expected, bytes_max as u64, ByMemory),
        }
    }
}

impl Log {
    /// Enters what is sealed. Returns the files of segments and runs that the manifest does not name.
    pub(super) fn open_sealed(&self) -> Result<Vec<PathBuf>, RecoverError> {
        let sealed = self.manifest.get().sealed.clone();
        let (segments_dir, index_dir) = (self.place.segments_dir(), self.place.index_dir());
        let segments = sealed.segments.iter();
        let segments: Vec<_> = segments.map(|s| segment_name(s.first, s.last)).collect();
        let runs: Vec<_> = sealed
            .runs
            .iter()
            .map(|r| run_name(r.first, r.last))
            .collect();
        let mut unnamed = Vec::new();
        for (dir, names) in [(&segments_dir, &segments), (&index_dir, &runs)] {
            let files = recovery::unnamed_files(&*self.place.disk, dir, names)?;
            unnamed.extend(files.into_iter().map(|name| dir.join(name)));
        }
        let mut opened = Vec::with_capacity(runs.len());
        for (name, summary) in runs.iter().zip(&sealed.runs) {
            let run = self.open_run(&index_dir.join(name), summary)?;
            opened.push(Arc::new(run));
        }
        if let Some(run) = opened.last() {
            let recorded_at = run.place(run.last())?.recorded_at;
            self.recorded_at.store(recorded_at, Ordering::Relaxed);
        }
        self.index.open(opened, &sealed);
        for (slot, events) in self.slots.lock().iter_mut().zip(&sealed.events_per_slot) {
            *slot = *events;
        }
        self.cursors.lock().extend(sealed.cursors);
        Ok(unnamed)
    }

    /// Removes, of files that the manifest does not name, what is left of attempts to seal, merge and compact: all of
    /// its events stand elsewhere, up to the head. One that holds others is damage: something else is missing.
    pub(super) fn remove_leftovers(
        &self,
        unnamed: &[PathBuf],
        head: Position,
    ) -> Result<(), RecoverError> {
        let mut leftovers = Vec::with_capacity(unnamed.len());
        for path in unnamed {
            match last_in(path) {
                _ if path.extension() == Some("new".as_ref()) => leftovers.push(path),
                Some(last) if last <= head => leftovers.push(path),
                Some(last) => {
                    let what = format!(
                        "it holds events up to position {last}, but log and manifest end at {head}: a newer manifest or log files are missing"
                    );
                    return Err(RecoverError::Damaged(Damage {
                        path: path.clone(),
                        offset: 0,
                        what,
                    }));
                }
                None => {
                    let file = path.display();
                    warn!(tenant = %self.tenant, %file, "left alone: it is none of this store's files");
                }
            }
        }
        for path in leftovers {
            self.place
                .disk
                .remove(path)
                .map_err(|error| RecoverError::Io {
                    path: path.clone(),
                    doing: "removing",
                    error,
                })?;
        }
        Ok(())
    }

    pub(super) fn open_run(&self, path: &Path, summary: &RunSummary) -> Result<Run, ReadError> {
        let file = self.place.disk.open(path).map_err(|e| ReadError::Io {
            path: path.to_owned(),
            range: 0..summary.bytes,
            reason: e.to_string(),
        })?;
        let cache = Arc::clone(&self.shared.blocks);
        let hasher = self.index.hasher;
        Run::open(file, path.to_owned(), self.log_id, hasher, summary, cache)
    }

    /// Opens a segment. One that was compacted since the caller looked is in a larger one, which has the same events at
    /// the same positions.
    pub(crate) fn segment(&self, summary: &SegmentSummary) -> Result<Arc<Segment>, ReadError> {
        let mut summary = summary.clone();
        loop {
            let failed = match self.open_segment(&summary) {
                Err(NotOpened::Missing(failed)) => failed,
                Err(NotOpened::Failed(failed)) => return Err(failed),
                Ok(segment) => return Ok(segment),
            };
            let pieces = self.pieces();
            let (_, now) = pieces.sealed_at(summary.first);
            if *now == summary {
                return Err(failed);
            }
            summary = now.clone();
        }
    }

    fn open_segment(&self, summary: &SegmentSummary) -> Result<Arc<Segment>, NotOpened> {
        let key = (self.number, summary.first, summary.last);
        let segments = &self.shared.open_segments.segments;
        segments.get_or_insert_with(&key, || self.read_segment(summary).map(Arc::new))
    }

    fn read_segment(&self, summary: &SegmentSummary) -> Result<Segment, NotOpened> {
        let path = self.segment_path(summary);
        let file = self.place.disk.open(&path).map_err(|e| {
            let failed = ReadError::Io {
                path: path.clone(),
                range: 0..summary.bytes,
                reason: e.to_string(),
            };
            match e.kind() {
                io::ErrorKind::NotFound => NotOpened::Missing(failed),
                _ => NotOpened::Failed(failed),
            }
        })?;
        Segment::open(file, path, self.log_id, summary).map_err(NotOpened::Failed)
    }

    /// A segment as it is on disk now, whatever is known of it.
    pub(super) fn open_segment_anew(&self, summary: &SegmentSummary) -> Result<Segment, ReadError> {
        self.read_segment(summary)
            .map_err(|(NotOpened::Missing(failed) | NotOpened::Failed(failed))| failed)
    }

    pub(super) fn segment_path(&self, summary: &SegmentSummary) -> PathBuf {
        let name = segment_name(summary.first, summary.last);
        self.place.segments_dir().join(name)
    }

    /// Lets go of the file of a segment that was removed. Readers that have it go on.
    pub(super) fn forget_segment(&self, summary: &SegmentSummary) {
        let key = (self.number, summary.first, summary.last);
        self.shared.open_segments.segments.remove(&key);
    }

    /// Reads the first of `rows`, which are sealed and go up or down, until they make up `bytes_max` bytes or what holds
    /// them ends. A log file that does not hold them as it should is no obstacle.
    pub(super) fn fetch_sealed(
        &self,
        pieces: &Pieces,
        rows: &[Position],
        bytes_max: u64,
    ) -> Result<Vec<Event>, ReadError> {
        let (run, segment) = pieces.sealed_at(rows[0]);
        let both = run.first().max(segment.first)..=run.last().min(segment.last);
        let here = rows.iter().take(READ_BATCH_EVENTS);
        let here = here.take_while(|position| both.contains(position)).count();
        let places = run.places(&rows[..here])?;
        let mut bytes = 0;
        let fits = places.iter().take_while(|place| {
            let fits = bytes == 0 || bytes < bytes_max;
            bytes += u64::from(place.bytes);
            fits
        });
        let count = fits.count();
        let (rows, places) = (&rows[..count], &places[..count]);
        let kept = Some(places[0].log_offset).filter(|offset| *offset != NOWHERE);
        if let Some(EndedFile { file, end }) = kept.and_then(|offset| self.file_at(offset)) {
            let in_file = places
                .iter()
                .take_while(|place| (file.header.base_offset..end).contains(&place.log_offset));
            let count = in_file.count();
            let rows = rows.iter().zip(places).take(count);
            let located: Vec<_> = rows
                .map(|(position, place)| located(*position, place, &file))
                .collect();
            match self.fetch_located(&file, &located) {
                Ok(events) => return Ok(events),
                // It is a copy. Or the rows are those of the next file, which is gone: where one ends is not known then.
                Err(e) => {
                    warn!(tenant = %self.tenant, error = %e, "read from the segment instead");
                }
            }
        }
        let descending = rows.len() > 1 && rows[0] > rows[1];
        let mut ascending = rows.to_vec();
        if descending {
            ascending.reverse();
        }
        let stored = self.segment(segment)?.read(&ascending)?;
        let events = stored.into_iter().map(|stored| Event {
            position: stored.position,
            recorded_at: stored.recorded_at,
            row: stored.row,
        });
        Ok(if descending {
            events.rev().collect()
        } else {
            events.collect()
        })
    }
}

fn located(position: Position, place: &RowPlace, file: &LogFile) -> Located {
    let start = file.in_file(place.log_offset);
    Located {
        position,
        recorded_at: place.recorded_at,
        bytes: start..start + u64::from(place.bytes),
    }
}

pub(crate) fn segment_name(first: Position, last: Position) -> String {
    format!("{first:020}-{last:020}.parquet")
}

/// The last position of a segment or a run, by its name; `None` if it is named otherwise.
fn last_in(path: &Path) -> Option<Position> {
    let name = path.file_name()?.to_str()?;
    let (first, last) = name
        .strip_suffix(".parquet")
        .or_else(|| name.strip_suffix(".idx"))?
        .split_once('-')?;
    let number = |digits: &str| (digits.len() == 20).then(|| digits.parse().ok())?;
    number(first).and(number(last))
}

pub(crate) fn run_name(first: Position, last: Position) -> String {
    format!("{first:020}-{last:020}.idx")
}
