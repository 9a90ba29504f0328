//! Reads every file of a store that nobody serves, checks every checksum, and compares what its forms say of the same
//! events: rows of the log, segments, index runs. Changes nothing.
//!
//! Forms are compared by sums of hashes, one for each segment and each run, so that memory does not grow with the
//! number of events. Where a file cannot be read, what it should agree with is not blamed.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::Xxh3;

use crate::{
    engine::log::cold::{run_name, segment_name},
    storage::{
        disk::Disk,
        index::{RunSummary, cache::BlockCache, reader::Run},
        log::{
            frame::FRAME_HEADER_BYTES, inspect, recovery::SeenFrame, row::Row, writer::LogPlace,
        },
        manifest::{Manifest, ManifestError},
        segment::{SegmentSummary, reader::Segment},
    },
    types::{
        hash::KeyHasher,
        id::Position,
        read::{Damage, Direction, NameKind, ReadError},
    },
};

/// Blocks of index runs that are kept while one is read.
const CACHE_BYTES: usize = 4 << 20;
const READ_BYTES: usize = 1 << 20;
const PAGE_ROWS: usize = 8_192;
const KINDS: [NameKind; 3] = [NameKind::Entity, NameKind::Type, NameKind::Tag];

/// What verifying has to say on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// So many bytes of files will be read.
    Bytes(u64),
    /// So many more of them were.
    Read(u64),
    /// Something is wrong.
    Fault(Damage),
}

/// What was verified.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verified {
    /// Tenants looked at.
    pub tenants: u64,
    /// Files read.
    pub files: u64,
    /// Events found, in whichever form.
    pub events: u64,
    /// Things that are wrong.
    pub faults: u64,
}

/// Verifies the tenants whose folders are in `tenants_dir`. Index runs are those of `hasher`.
pub(crate) fn verify(
    disk: &Arc<dyn Disk>,
    tenants_dir: &Path,
    hasher: KeyHasher,
    tell: &mut dyn FnMut(Told),
) -> io::Result<Verified> {
    let mut report = Report {
        verified: Verified::default(),
        tell,
    };
    let mut tenants = Vec::new();
    let mut names = disk.list(tenants_dir)?;
    names.sort_unstable();
    for name in names {
        let dir = tenants_dir.join(name);
        if let Some(manifest) = report.manifest(&**disk, &dir)? {
            let place = LogPlace::new(Arc::clone(disk), &dir, 0);
            tenants.push(Tenant {
                place,
                manifest,
                hasher,
            });
        }
    }
    let mut bytes = 0;
    for tenant in &tenants {
        bytes += tenant.bytes()?;
    }
    (report.tell)(Told::Bytes(bytes));
    for tenant in &tenants {
        report.verified.tenants += 1;
        tenant.verify(&mut report)?;
    }
    Ok(report.verified)
}

struct Report<'a> {
    verified: Verified,
    tell: &'a mut dyn FnMut(Told),
}

impl Report<'_> {
    fn fault(&mut self, damage: Damage) {
        self.verified.faults += 1;
        (self.tell)(Told::Fault(damage));
    }

    fn fault_in(&mut self, path: &Path, what: impl Into<String>) {
        self.fault(Damage {
            path: path.to_owned(),
            offset: 0,
            what: what.into(),
        });
    }

    /// Tells why a file cannot be read; what is no damage of it ends everything.
    fn unread(&mut self, path: &Path, error: ReadError) -> io::Result<()> {
        match error {
            ReadError::Damaged(damage) => self.fault(damage),
            ReadError::Io { path, reason, .. } => {
                return Err(io::Error::other(format!("{}: {reason}", path.display())));
            }
            other => self.fault_in(path, other.to_string()),
        }
        Ok(())
    }

    fn read_file(&mut self, bytes: u64) {
        self.verified.files += 1;
        (self.tell)(Told::Read(bytes));
    }

    /// The manifest of a tenant's folder, if it has one that can be read.
    fn manifest(&mut self, disk: &dyn Disk, dir: &Path) -> io::Result<Option<Manifest>> {
        let path = dir.join("manifest");
        match Manifest::read(disk, dir) {
            Ok(found) => {
                if found.is_none() {
                    self.without_manifest(disk, dir, &path)?;
                }
                return Ok(found);
            }
            Err(ManifestError::Damaged(damage)) => self.fault(damage),
            Err(ManifestError::TooNew(what)) => {
                self.fault_in(&path, format!("a newer version wrote it: {what}"));
            }
            Err(ManifestError::Io(error)) => return Err(error),
        }
        Ok(None)
    }

    fn without_manifest(&mut self, disk: &dyn Disk, dir: &Path, path: &Path) -> io::Result<()> {
        for folder in ["log", "segments"] {
            let names = match disk.list(&dir.join(folder)) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                names => names?,
            };
            if !names.is_empty() {
                self.fault_in(path, format!("it is gone, but there are files in {folder}"));
                return Ok(());
            }
        }
        Ok(())
    }
}

/// A sum that does not depend on the order in which things are added, and how many there were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sum {
    hashes: u128,
    count: u64,
}

impl Sum {
    fn add(&mut self, parts: &[&[u8]]) {
        let mut hash = Xxh3::new();
        for part in parts {
            hash.update(part);
        }
        self.hashes = self.hashes.wrapping_add(hash.digest128());
        self.count += 1;
    }
}

/// What a run says of its events, or what they say themselves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct RunSums {
    /// When each was recorded and how many bytes its row has.
    rows: Sum,
    ids: Sum,
    names: [Sum; 3],
}

impl RunSums {
    fn add_row(&mut self, position: Position, recorded_at: i64, bytes: u32) {
        self.rows.add(&[
            &position.to_le_bytes(),
            &recorded_at.to_le_bytes(),
            &bytes.to_le_bytes(),
        ]);
    }

    fn add_id(&mut self, hash: u64, position: Position) {
        self.ids
            .add(&[&hash.to_le_bytes(), &position.to_le_bytes()]);
    }

    /// `number`: which of the events that carry the name it is; only of entities, whose versions it is.
    fn add_name(&mut self, kind: NameKind, name: &[u8], position: Position, number: u64) {
        let number = if kind == NameKind::Entity { number } else { 0 };
        let place = KINDS.iter().position(|of| *of == kind).unwrap_or_default();
        self.names[place].add(&[&position.to_le_bytes(), &number.to_le_bytes(), name]);
    }

    fn add_event(&mut self, position: Position, recorded_at: i64, row: &Row, hasher: KeyHasher) {
        self.add_row(position, recorded_at, row.as_bytes().len() as u32);
        self.add_id(hasher.hash(row.event_id().as_bytes()), position);
        self.add_name(NameKind::Entity, row.entity_id(), position, row.version());
        self.add_name(NameKind::Type, row.event_type(), position, 0);
        for (i, tag) in row.tags().enumerate() {
            if !row.tags().take(i).any(|earlier| earlier == tag) {
                self.add_name(NameKind::Tag, tag, position, 0);
            }
        }
    }
}

struct Tenant {
    place: LogPlace,
    manifest: Manifest,
    hasher: KeyHasher,
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

impl Tenant {
    fn files(&self) -> io::Result<Vec<PathBuf>> {
        let sealed = &self.manifest.sealed;
        let log = self.place.disk.list(&self.place.log_dir)?;
        let log = log.iter().filter(|name| name.ends_with(".log"));
        let log = log.map(|name| self.place.log_dir.join(name));
        let segments = sealed.segments.iter().map(|s| self.segment_path(s));
        let runs = sealed.runs.iter().map(|r| self.run_path(r));
        Ok(log.chain(segments).chain(runs).collect())
    }

    /// Bytes that are read.
    fn bytes(&self) -> io::Result<u64> {
        let mut sum = 0;
        for path in self.files()? {
            // What is missing is told later.
            sum += self.place.disk.open(&path).map_or(Ok(0), |f| f.bytes())?;
        }
        Ok(sum)
    }

    fn segment_path(&self, segment: &SegmentSummary) -> PathBuf {
        let dir = self.place.segments_dir();
        dir.join(segment_name(segment.first, segment.last))
    }

    fn run_path(&self, run: &RunSummary) -> PathBuf {
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

    fn verify(&self, report: &mut Report<'_>) -> io::Result<()> {
        let sealed = &self.manifest.sealed;
        report.verified.events += sealed.through() - self.manifest.floor;
        let log = self.verify_log(report)?;
        let mut runs = vec![Some(RunSums::default()); sealed.runs.len()];
        for (index, segment) in sealed.segments.iter().enumerate() {
            let path = self.segment_path(segment);
            let in_log = log.as_ref().map(|log| (log.first, log.segments[index]));
            match self.verify_segment(segment, &path, in_log, &mut runs) {
                Ok(true) => {}
                Ok(false) => report.fault_in(&path, "it holds other events than the log does"),
                Err(error) => {
                    runs[self.run_of(segment.first)..=self.run_of(segment.last)].fill(None);
                    report.unread(&path, error)?;
                }
            }
            report.read_file(segment.bytes);
        }
        for (index, summary) in sealed.runs.iter().enumerate() {
            let path = self.run_path(summary);
            let in_log = log.as_ref().map(|log| (log.first, log.runs[index]));
            match self.verify_run(summary, &path, in_log, runs[index]) {
                Ok(None) => {}
                Ok(Some(what)) => report.fault_in(&path, what),
                Err(error) => report.unread(&path, error)?,
            }
            report.read_file(summary.bytes);
        }
        Ok(())
    }

    /// Reads all log files; `None` if what they say is not whole.
    fn verify_log(&self, report: &mut Report<'_>) -> io::Result<Option<LogSums>> {
        let sealed = &self.manifest.sealed;
        let mut sums = LogSums {
            first: Position::MAX,
            segments: vec![Sum::default(); sealed.segments.len()],
            runs: vec![Sum::default(); sealed.runs.len()],
        };
        let mut unsealed = 0;
        let mut see = |seen: &SeenFrame<'_>| {
            let (file, frame) = (seen.file, seen.frame);
            let rows_at = seen.start + FRAME_HEADER_BYTES as u64;
            let rows = bytes::Bytes::copy_from_slice(frame.rows());
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
        let mut faults = Vec::new();
        let mut read = Vec::new();
        inspect::inspect(
            &self.place,
            &self.manifest,
            &mut see,
            &mut |bytes| read.push(bytes),
            &mut |damage| faults.push(damage),
        )?;
        report.verified.events += unsealed;
        for bytes in read {
            report.read_file(bytes);
        }
        let whole = faults.is_empty();
        for damage in faults {
            report.fault(damage);
        }
        Ok(whole.then_some(sums))
    }

    /// Reads a segment and adds its events to the sums of their runs; false if the log says otherwise.
    fn verify_segment(
        &self,
        summary: &SegmentSummary,
        path: &Path,
        in_log: Option<(Position, Sum)>,
        runs: &mut [Option<RunSums>],
    ) -> Result<bool, ReadError> {
        let failed = |e: io::Error| unreadable(path, summary.bytes, &e);
        let file = self.place.disk.open(path).map_err(failed)?;
        let segment = Segment::open(Arc::clone(&file), path, self.manifest.log_id, summary)?;
        let mut sum = Sum::default();
        for rows in segment.scan(summary.first) {
            for stored in rows? {
                let (position, row) = (stored.position, &stored.row);
                if in_log.is_some_and(|(first, _)| position >= first) {
                    let recorded_at = stored.recorded_at.to_le_bytes();
                    sum.add(&[&position.to_le_bytes(), &recorded_at, row.as_bytes()]);
                }
                if let Some(run) = &mut runs[self.run_of(position)] {
                    run.add_event(position, stored.recorded_at, row, self.hasher);
                }
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

    /// Reads a run; says what does not agree with the segments or the log.
    fn verify_run(
        &self,
        summary: &RunSummary,
        path: &Path,
        in_log: Option<(Position, Sum)>,
        expected: Option<RunSums>,
    ) -> Result<Option<&'static str>, ReadError> {
        let failed = |e: io::Error| unreadable(path, summary.bytes, &e);
        let file = self.place.disk.open(path).map_err(failed)?;
        let cache = Arc::new(BlockCache::new(CACHE_BYTES));
        let log_id = self.manifest.log_id;
        let run = Run::open(file, path.to_owned(), log_id, self.hasher, summary, cache)?;
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

fn unreadable(path: &Path, bytes: u64, error: &io::Error) -> ReadError {
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

#[cfg(test)]
mod tests;
