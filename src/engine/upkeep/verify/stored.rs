//! What a tenant's folder holds, read and compared.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::{
    Report,
    sums::{KINDS, RunSums, Sum},
};
use crate::{
    engine::{
        log::cold::{run_name, segment_name},
        upkeep::verify::Told,
    },
    storage::{
        index::{RunSummary, cache::BlockCache, reader::Run},
        log::{
            frame::FRAME_HEADER_BYTES,
            inspect::{self, Extent, LogFault, OpenFiles},
            recovery::{RecoverError, SeenFrame},
            row::Row,
            spare::RecycleHold,
            writer::LogPlace,
        },
        manifest::{Manifest, OpenManifest},
        segment::{SegmentSummary, reader::Segment},
    },
    types::{
        hash::KeyHasher,
        id::Position,
        read::{Damage, Direction, ReadError},
    },
};

/// Blocks of index runs that are kept while one is read.
const CACHE_BYTES: usize = 4 << 20;
const READ_BYTES: usize = 1 << 20;
const PAGE_ROWS: usize = 8_192;

/// See the module.
pub(in crate::engine::upkeep) struct Stored {
    pub(in crate::engine::upkeep) place: LogPlace,
    pub(in crate::engine::upkeep) manifest: Manifest,
    pub(in crate::engine::upkeep) hasher: KeyHasher,
    /// While the tenant is open.
    pub(super) open: Option<OpenLog>,
}

/// What is read of a log that others append to.
pub(super) struct OpenLog {
    pub(super) files: OpenFiles,
    /// Of those that could not be opened.
    pub(super) faults: Vec<LogFault>,
    /// Log offset up to which it was durable.
    pub(super) end: u64,
    /// Files that it does not name any more may be gone.
    pub(super) manifest: Arc<OpenManifest>,
    /// None of the files is written over.
    pub(super) _hold: RecycleHold,
}

/// How it is with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine::upkeep) enum Fate {
    Good,
    /// It cannot be read, or is not what was written.
    Broken,
    /// It is what was written, and says something else than another form of the same events that is so, too.
    Differs,
}

/// What was found.
pub(in crate::engine::upkeep) struct Findings {
    pub(in crate::engine::upkeep) log: Vec<LogFault>,
    /// Of each segment and each run that the manifest names.
    pub(in crate::engine::upkeep) segments: Vec<Fate>,
    pub(in crate::engine::upkeep) runs: Vec<Fate>,
}

/// What the log says of sealed events.
struct LogSums {
    /// The first event that the log still holds.
    first: Position,
    /// Of each segment, its events from there on.
    segments: Vec<Sum>,
    /// Of each run, the log offsets of its events from there on.
    runs: Vec<Sum>,
}

impl Stored {
    /// Of a tenant that nobody has open.
    pub(in crate::engine::upkeep) fn closed(
        place: LogPlace,
        manifest: Manifest,
        hasher: KeyHasher,
    ) -> Self {
        Self {
            place,
            manifest,
            hasher,
            open: None,
        }
    }

    fn files(&self) -> io::Result<Vec<PathBuf>> {
        let sealed = &self.manifest.sealed;
        let log: Vec<_> = if let Some(open) = &self.open {
            open.files
                .files
                .iter()
                .map(|file| file.path.clone())
                .collect()
        } else {
            let named = inspect::named_files(&self.place)?.into_iter();
            named
                .map(|file| self.place.log_dir.join(file.name))
                .collect()
        };
        let segments = sealed.segments.iter().map(|s| self.segment_path(s));
        let runs = sealed.runs.iter().map(|r| self.run_path(r));
        Ok(log.into_iter().chain(segments).chain(runs).collect())
    }

    /// Bytes that are read.
    pub(in crate::engine::upkeep) fn bytes(&self) -> io::Result<u64> {
        let mut sum = 0;
        for path in self.files()? {
            // What is missing is told later.
            sum += self.place.disk.open(&path).map_or(Ok(0), |f| f.bytes())?;
        }
        Ok(sum)
    }

    pub(in crate::engine::upkeep) fn segment_path(&self, segment: &SegmentSummary) -> PathBuf {
        let dir = self.place.segments_dir();
        dir.join(segment_name(segment.first, segment.last))
    }

    pub(in crate::engine::upkeep) fn run_path(&self, run: &RunSummary) -> PathBuf {
        self.place.index_dir().join(run_name(run.first, run.last))
    }

    fn segment_of(&self, position: Position) -> usize {
        let segments = &self.manifest.sealed.segments;
        segments.partition_point(|segment| segment.last < position)
    }

    fn run_of(&self, position: Position) -> usize {
        let runs = &self.manifest.sealed.runs;
        runs.partition_point(|run| run.last < position)
    }

    /// Whether a file is none of the tenant's any more, so that nothing is wrong with it.
    fn was_replaced(&self, is_named: impl Fn(&Manifest) -> bool) -> bool {
        self.open
            .as_ref()
            .is_some_and(|open| !is_named(&open.manifest.get()))
    }

    pub(in crate::engine::upkeep) fn verify(
        &self,
        report: &mut Report<'_>,
    ) -> io::Result<Findings> {
        let sealed = &self.manifest.sealed;
        report.verified.tenants += 1;
        let (log_faults, log) = self.verify_log(report)?;
        let mut findings = Findings {
            log: log_faults,
            segments: vec![Fate::Good; sealed.segments.len()],
            runs: vec![Fate::Good; sealed.runs.len()],
        };
        let mut runs = vec![Some(RunSums::default()); sealed.runs.len()];
        for (index, segment) in sealed.segments.iter().enumerate() {
            report.go_on()?;
            let path = self.segment_path(segment);
            let in_log = log.as_ref().map(|log| (log.first, log.segments[index]));
            let mut read = Progress::new(segment.bytes, segment.last - segment.first + 1);
            let checked = self.verify_segment(segment, &path, in_log, &mut runs, |done| {
                report.tell(Told::Read(read.advance(done)));
                report.go_on().is_ok()
            });
            let mut events = segment.last - segment.first + 1;
            report.verified.files += u64::from(checked.is_ok());
            match checked {
                Ok(true) => {}
                Ok(false) => {
                    findings.segments[index] = Fate::Differs;
                    report.fault_in(&path, "it holds other events than the log does");
                }
                Err(error) => {
                    runs[self.run_of(segment.first)..=self.run_of(segment.last)].fill(None);
                    report.go_on()?;
                    let named = |now: &Manifest| now.sealed.segments.contains(segment);
                    if !self.was_replaced(named) {
                        findings.segments[index] = Fate::Broken;
                        // What the log has is there, too.
                        events = in_log.map_or(0, |(_, of_log)| of_log.count());
                        tell_unread(report, &path, error, segment.bytes)?;
                    }
                }
            }
            report.verified.events += events;
            report.tell(Told::Read(read.rest()));
        }
        for (index, summary) in sealed.runs.iter().enumerate() {
            report.go_on()?;
            let path = self.run_path(summary);
            let in_log = log.as_ref().map(|log| (log.first, log.runs[index]));
            let checked = self.verify_run(summary, &path, in_log, runs[index]);
            report.verified.files += u64::from(checked.is_ok());
            match checked {
                Ok(None) => {}
                Ok(Some(what)) => {
                    findings.runs[index] = Fate::Differs;
                    report.fault_in(&path, what);
                }
                Err(error) => {
                    let named = |now: &Manifest| now.sealed.runs.contains(summary);
                    if !self.was_replaced(named) {
                        findings.runs[index] = Fate::Broken;
                        tell_unread(report, &path, error, summary.bytes)?;
                    }
                }
            }
            report.tell(Told::Read(summary.bytes));
        }
        Ok(findings)
    }

    /// Reads all log files; without sums if what they say is not whole.
    fn verify_log(&self, report: &mut Report<'_>) -> io::Result<(Vec<LogFault>, Option<LogSums>)> {
        let sealed = &self.manifest.sealed;
        let mut sums = LogSums {
            first: Position::MAX,
            segments: vec![Sum::default(); sealed.segments.len()],
            runs: vec![Sum::default(); sealed.runs.len()],
        };
        let mut unsealed = 0;
        let stop = report.stop;
        let mut see = |seen: &SeenFrame<'_>| {
            let (file, frame) = (seen.file, seen.frame);
            if stop() {
                return Err(RecoverError::Io {
                    path: file.path.clone(),
                    doing: "reading",
                    error: io::Error::other("it was given up"),
                });
            }
            let rows_at = seen.start + FRAME_HEADER_BYTES as u64;
            let rows = Bytes::copy_from_slice(frame.rows());
            let mut at = 0;
            for position in (frame.first_position()..).take(frame.events() as usize) {
                let row = Row::check(rows.slice(at..), position).map_err(|e| Damage {
                    path: file.path.clone(),
                    offset: rows_at + at as u64,
                    what: e.to_string(),
                })?;
                sums.first = sums.first.min(position);
                if position <= sealed.through() {
                    let recorded_at = frame.recorded_at().to_le_bytes();
                    let number = position.to_le_bytes();
                    let segment = &mut sums.segments[self.segment_of(position)];
                    segment.add(&[&number, &recorded_at, row.as_bytes()]);
                    let offset = file.log_offset(rows_at + at as u64).to_le_bytes();
                    sums.runs[self.run_of(position)].add(&[&number, &offset]);
                } else {
                    unsealed += 1;
                }
                at += row.as_bytes().len();
            }
            Ok(())
        };
        let opened = self.open.as_ref();
        let mut faults = opened.map_or_else(Vec::new, |open| open.faults.clone());
        let mut read = Vec::new();
        let mut read_one = |bytes| read.push(bytes);
        let mut tell = |fault| faults.push(fault);
        match &self.open {
            None => inspect::inspect(
                &self.place,
                &self.manifest,
                &mut see,
                &mut read_one,
                &mut tell,
            )?,
            Some(open) => inspect::inspect_files(
                &open.files,
                &self.manifest,
                Extent::Open(open.end),
                &mut see,
                &mut read_one,
                &mut tell,
            )?,
        }
        report.verified.events += unsealed;
        for bytes in read {
            report.read_file(bytes);
        }
        for fault in &faults {
            report.fault(fault.damage().clone());
        }
        let whole = faults.is_empty();
        Ok((faults, whole.then_some(sums)))
    }

    /// Reads a segment and adds its events to the sums of their runs; false if the log says otherwise. `progress` hears
    /// how many events of it were read, and says whether to go on.
    fn verify_segment(
        &self,
        summary: &SegmentSummary,
        path: &Path,
        in_log: Option<(Position, Sum)>,
        runs: &mut [Option<RunSums>],
        mut progress: impl FnMut(u64) -> bool,
    ) -> Result<bool, ReadError> {
        let failed = |e: io::Error| unreadable(path, summary.bytes, &e);
        let given_up = || failed(io::Error::other("it was given up"));
        let file = self.place.disk.open(path).map_err(failed)?;
        let segment = Segment::open(Arc::clone(&file), path, self.manifest.log_id, summary)?;
        let mut sum = Sum::default();
        for rows in segment.scan(summary.first) {
            let mut last = summary.first;
            for stored in rows? {
                let (position, row) = (stored.position, &stored.row);
                if in_log.is_some_and(|(first, _)| position >= first) {
                    let recorded_at = stored.recorded_at.to_le_bytes();
                    sum.add(&[&position.to_le_bytes(), &recorded_at, row.as_bytes()]);
                }
                if let Some(run) = &mut runs[self.run_of(position)] {
                    run.add_event(position, stored.recorded_at, row, self.hasher);
                }
                last = position;
            }
            if !progress(last - summary.first) {
                return Err(given_up());
            }
        }
        let mut sha256 = Sha256::new();
        let mut buffer = vec![0; READ_BYTES];
        let mut at = 0;
        while at < summary.bytes {
            let read = file.read_at(&mut buffer, at).map_err(failed)?;
            if read == 0 {
                break;
            }
            sha256.update(&buffer[..read]);
            at += read as u64;
        }
        if sha256.finalize() != summary.sha256 {
            return Err(ReadError::Damaged(Damage {
                path: path.to_owned(),
                offset: 0,
                what: "it is another segment than the one that was made".to_owned(),
            }));
        }
        Ok(in_log.is_none_or(|(_, of_log)| of_log == sum))
    }

    /// A run that the manifest names.
    pub(in crate::engine::upkeep) fn open_run(
        &self,
        summary: &RunSummary,
        path: &Path,
    ) -> Result<Run, ReadError> {
        let failed = |e: io::Error| unreadable(path, summary.bytes, &e);
        let file = self.place.disk.open(path).map_err(failed)?;
        let cache = Arc::new(BlockCache::new(CACHE_BYTES));
        let log_id = self.manifest.log_id;
        Run::open(file, path.to_owned(), log_id, self.hasher, summary, cache)
    }

    /// Reads a run; says what does not agree with the segments or the log.
    fn verify_run(
        &self,
        summary: &RunSummary,
        path: &Path,
        in_log: Option<(Position, Sum)>,
        expected: Option<RunSums>,
    ) -> Result<Option<&'static str>, ReadError> {
        let run = self.open_run(summary, path)?;
        run.verify()?;

        let mut sums = RunSums::default();
        let mut offsets = Sum::default();
        let mut positions = summary.first..=summary.last;
        loop {
            let page: Vec<_> = positions.by_ref().take(PAGE_ROWS).collect();
            if page.is_empty() {
                break;
            }
            for (position, place) in page.iter().zip(run.places(&page)?) {
                sums.add_row(*position, place.recorded_at, place.bytes);
                if in_log.is_some_and(|(first, _)| *position >= first) {
                    offsets.add(&[&position.to_le_bytes(), &place.log_offset.to_le_bytes()]);
                }
            }
        }
        for id in run.all_ids() {
            let (hash, position) = id?;
            sums.add_id(hash, position);
        }
        for kind in KINDS {
            for found in run.list(kind, b"", None) {
                let found = found?;
                let mut number = found.before;
                let mut from = found.first;
                while number - found.before < found.count {
                    let range = from..=found.last;
                    let page = found.page(&run, range, Direction::Forward, PAGE_ROWS)?;
                    let Some(last) = page.last() else { break };
                    from = last + 1;
                    for position in page {
                        number += 1;
                        sums.add_name(kind, found.name(), position, number);
                    }
                }
            }
        }
        if in_log.is_some_and(|(_, of_log)| of_log != offsets) {
            return Ok(Some("it says other places of events than the log has"));
        }
        let agrees = expected.is_none_or(|expected| expected == sums);
        Ok((!agrees).then_some("it says other things of events than the segments hold"))
    }
}

/// How much of a file was told to be read.
struct Progress {
    bytes: u64,
    events: u64,
    told: u64,
}

impl Progress {
    fn new(bytes: u64, events: u64) -> Self {
        Self {
            bytes,
            events,
            told: 0,
        }
    }

    /// Bytes that are new once so many events were read, about.
    fn advance(&mut self, events: u64) -> u64 {
        let now = u128::from(self.bytes) * u128::from(events) / u128::from(self.events);
        let now = u64::try_from(now).unwrap_or(self.bytes).min(self.bytes);
        let new = now.saturating_sub(self.told);
        self.told += new;
        new
    }

    fn rest(&self) -> u64 {
        self.bytes - self.told
    }
}

/// Tells why a file cannot be read, unless nobody knows what it should be: then that it is not there was told before.
fn tell_unread(
    report: &mut Report<'_>,
    path: &Path,
    error: ReadError,
    bytes: u64,
) -> io::Result<()> {
    match error {
        ReadError::Damaged(_) | ReadError::OtherLog { .. } if bytes == 0 => Ok(()),
        error => report.unread(path, error),
    }
}

pub(in crate::engine::upkeep) fn unreadable(
    path: &Path,
    bytes: u64,
    error: &io::Error,
) -> ReadError {
    if error.kind() == io::ErrorKind::NotFound {
        return ReadError::Damaged(Damage {
            path: path.to_owned(),
            offset: 0,
            what: "it is missing, and the manifest names it".to_owned(),
        });
    }
    ReadError::Io {
        path: path.to_owned(),
        range: 0..bytes,
        reason: error.to_string(),
    }
}
