//! A manifest, put together from the files of a tenant.
//!
//! Files that are good are entered as they are. Where there is none, an entry without a sum stands for the file that is
//! to be made. Nothing raises the floor yet, so what must be there begins with position 1. What an older manifest says of
//! what is not there any more, and of cursors, is taken over.

use std::{
    collections::BTreeMap,
    io,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;

use super::{Journal, RepairOptions, Work, aside, rows::LogRows};
use crate::{
    engine::upkeep::verify::Outcome,
    storage::{
        index::{self, RunSummary},
        log::{inspect, writer::LogPlace},
        manifest::{Manifest, Sealed},
        segment::{self, SegmentSummary, reader::Segment},
    },
    types::{
        id::{LogId, Position},
        limits::RUN_EVENTS_MAX,
        read::{Damage, NameKind, ReadError},
        slot::{SLOTS, slot},
        text::Text,
    },
};

/// What a manifest was put together from.
pub(super) struct Assembled {
    /// Segments and runs that cannot be read; some of their names are given to others.
    unreadable: Vec<PathBuf>,
    /// The event that the log begins with, if cursor records stood before it.
    cursors_since: Option<Position>,
    /// The last event that there is.
    last: Position,
    /// It was written.
    pub(super) is_written: bool,
}

impl Assembled {
    /// What only the manifest knew.
    fn unknown(&self) -> String {
        let last = self.last;
        let events = match last {
            0 => "nothing proves any more that there were no events".to_owned(),
            last => format!("nothing proves any more that there were no events after {last}"),
        };
        match self.cursors_since {
            None => format!("{events}: compare with a backup"),
            Some(first) => format!(
                "{events}, and where cursors stood is not known, unless they moved since event {first}: compare with \
                 a backup, and set cursors again"
            ),
        }
    }
}

/// The manifest of a folder and what it is made from, or why there is none. `older`: the one that is there.
pub(super) fn assemble(
    place: &LogPlace,
    options: RepairOptions<'_>,
    older: Option<&Manifest>,
    fault: &mut dyn FnMut(Damage),
) -> io::Result<Result<(Manifest, Assembled), String>> {
    let named = inspect::named_files(place)?;
    let log_id = match older {
        Some(older) => Some(older.log_id),
        None => inspect::log_id(place, &named)?,
    };
    let Some(log_id) = log_id else {
        let what = "no log file can be read, so that nobody knows which events there are; restore the tenant's folder \
                    from a backup";
        return Ok(Err(what.to_owned()));
    };
    let mut unreadable = Vec::new();
    let mut describe = |dir: PathBuf, extension, describe: &Describe<'_>| {
        describe_all(place, &dir, extension, describe, &mut |path, damage| {
            unreadable.push(path);
            fault(damage);
        })
    };
    let mut segments = describe(place.segments_dir(), "parquet", &|path| {
        describe_segment(place, log_id, path).map(Summary::Segment)
    })?;
    let known = older.map_or(&[][..], |older| &older.sealed.segments);
    for segment in known {
        segments.broken.entry(segment.first).or_insert(segment.last);
    }
    let runs = describe(place.index_dir(), "idx", &|path| {
        describe_run(place, log_id, options, path).map(Summary::Run)
    })?;
    let mut sealed = Sealed::default();
    for piece in cover(&segments, 0, options.limits.seal_events) {
        sealed.segments.push(match piece {
            Piece::Found(Summary::Segment(found)) => found.clone(),
            piece => {
                let (first, last) = piece.range();
                let is_it = |known: &&SegmentSummary| (known.first, known.last) == (first, last);
                let unknown = SegmentSummary {
                    first,
                    last,
                    bytes: 0,
                    sha256: [0; 32],
                    tail_at: 0,
                    tail_crc: 0,
                };
                known.iter().find(is_it).cloned().unwrap_or(unknown)
            }
        });
    }
    let through = sealed.through();
    // Without a segment nothing is sealed: the log holds it, or nobody does.
    let runs = if through > 0 {
        runs
    } else {
        Described::default()
    };
    for piece in cover(&runs, through, RUN_EVENTS_MAX) {
        sealed.runs.push(match piece {
            Piece::Found(Summary::Run(found)) => *found,
            piece => RunSummary {
                first: piece.range().0,
                last: piece.range().1,
                bytes: 0,
                sha256: [0; 32],
            },
        });
    }
    let newest_file = named.last().map_or(0, |file| file.base_offset);
    let mut manifest = Manifest {
        log_id,
        floor: 0,
        newest_file,
        durable_offset: older.map_or(newest_file, |older| newest_file.max(older.durable_offset)),
        sealed,
    };
    let log = LogRows::open(place, &manifest, &named)?;
    let before = older.map_or(&[][..], |older| &older.sealed.cursors);
    let (cursors, last) = read_log(&log, before, &mut manifest)?;
    let first = log.first().map_or(1, |file| file.header.first_position);
    let assembled = Assembled {
        unreadable,
        cursors_since: (through > 0 && cursors == Cursors::Some).then_some(first),
        last: last.max(through),
        is_written: false,
    };
    Ok(Ok((manifest, assembled)))
}

/// What a file says of itself.
enum Summary {
    Segment(SegmentSummary),
    Run(RunSummary),
}

impl Summary {
    fn range(&self) -> (Position, Position) {
        match self {
            Self::Segment(segment) => (segment.first, segment.last),
            Self::Run(run) => (run.first, run.last),
        }
    }
}

type Describe<'a> = dyn Fn(&Path) -> Result<Summary, ReadError> + 'a;

/// What the files of a folder hold, and which ranges others should by their names.
#[derive(Default)]
struct Described {
    good: Vec<Summary>,
    broken: BTreeMap<Position, Position>,
}

fn describe_all(
    place: &LogPlace,
    dir: &Path,
    extension: &str,
    describe: &Describe<'_>,
    broken: &mut dyn FnMut(PathBuf, Damage),
) -> io::Result<Described> {
    let mut all = Described::default();
    let mut names = match place.disk.list(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(all),
        names => names?,
    };
    names.sort_unstable();
    for name in names {
        let Some((first, last)) = range_of(&name, extension) else {
            continue;
        };
        let path = dir.join(&name);
        let what = match describe(&path) {
            Ok(found) if found.range() == (first, last) => {
                all.good.push(found);
                continue;
            }
            Ok(_) => "it holds other events than its name says".to_owned(),
            Err(ReadError::Damaged(damage)) => {
                all.broken.insert(first, last);
                broken(path, damage);
                continue;
            }
            Err(ReadError::Io { path, reason, .. }) => {
                return Err(io::Error::other(format!("{}: {reason}", path.display())));
            }
            Err(other) => other.to_string(),
        };
        all.broken.insert(first, last);
        let damage = Damage {
            path: path.clone(),
            offset: 0,
            what,
        };
        broken(path, damage);
    }
    Ok(all)
}

/// The positions that the name of a segment or a run states.
pub(super) fn range_of(name: &str, extension: &str) -> Option<(Position, Position)> {
    let (stem, of) = name.split_once('.')?;
    let (first, last) = stem.split_once('-')?;
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (of == extension && 0 < first && first <= last).then_some((first, last))
}

/// Reads all of it.
pub(super) fn describe_segment(
    place: &LogPlace,
    log_id: LogId,
    path: &Path,
) -> Result<SegmentSummary, ReadError> {
    let file = open(place, path)?;
    let (_, summary) = segment::describe::describe(&file, path)?;
    let segment = Segment::open(file, path, log_id, &summary)?;
    for rows in segment.scan(summary.first) {
        rows?;
    }
    Ok(summary)
}

fn describe_run(
    place: &LogPlace,
    log_id: LogId,
    options: RepairOptions<'_>,
    path: &Path,
) -> Result<RunSummary, ReadError> {
    let file = open(place, path)?;
    let (found, summary) = index::describe::describe(&*file, path, options.hasher)?;
    if found == log_id {
        Ok(summary)
    } else {
        Err(ReadError::OtherLog {
            expected: log_id,
            found,
        })
    }
}

fn open(
    place: &LogPlace,
    path: &Path,
) -> Result<Arc<dyn crate::storage::disk::DiskFile>, ReadError> {
    place.disk.open(path).map_err(|e| ReadError::Io {
        path: path.to_owned(),
        range: 0..0,
        reason: e.to_string(),
    })
}

/// A part of what must be there.
enum Piece<'a> {
    Found(&'a Summary),
    Missing(Position, Position),
}

impl Piece<'_> {
    fn range(&self) -> (Position, Position) {
        match self {
            Self::Found(found) => found.range(),
            Self::Missing(first, last) => (*first, *last),
        }
    }
}

/// Good files that follow each other from position 1 on, through a position at least, the larger ones first; and what is
/// missing between them, cut as the broken files are, and where there are none into pieces of so many events.
fn cover(described: &Described, through: Position, events_max: u64) -> Vec<Piece<'_>> {
    // By first position: how far one gets from there without a gap, and with which file.
    let mut reach: BTreeMap<Position, (Position, Position, &Summary)> = BTreeMap::new();
    let mut good: Vec<_> = described.good.iter().collect();
    // Of runs, those beyond the segments are of no use.
    good.retain(|found| through == 0 || found.range().1 <= through);
    good.sort_unstable_by_key(|found| std::cmp::Reverse(found.range()));
    for found in good {
        let (first, last) = found.range();
        let reached = reach
            .get(&(last + 1))
            .map_or(last, |(reached, ..)| *reached);
        let best = reach
            .get(&first)
            .map(|(reached, last, _)| (*reached, *last));
        if best < Some((reached, last)) {
            reach.insert(first, (reached, last, found));
        }
    }
    let mut pieces = Vec::new();
    let mut at = 1;
    loop {
        if let Some((_, last, found)) = reach.get(&at) {
            pieces.push(Piece::Found(found));
            at = last + 1;
            continue;
        }
        let next = reach.range(at..).next().map(|(first, _)| *first);
        let end = next.unwrap_or(through + 1);
        while at < end {
            let last = missing_through(at..=end - 1, &described.broken, events_max);
            pieces.push(Piece::Missing(at, last));
            at = last + 1;
        }
        if next.is_none() {
            return pieces;
        }
    }
}

fn missing_through(
    gap: RangeInclusive<Position>,
    broken: &BTreeMap<Position, Position>,
    events_max: u64,
) -> Position {
    let (first, last) = gap.into_inner();
    match broken.get(&first) {
        Some(named) if *named <= last => *named,
        _ => {
            let next = broken.range(first + 1..=last.max(first + 1)).next();
            let until = next.map_or(last, |(next, _)| next - 1);
            until.min(last).min(first + events_max.max(1) - 1)
        }
    }
}

/// Which of the cursor records there ever were the log has.
#[derive(PartialEq)]
enum Cursors {
    All,
    Some,
}

/// Enters where cursors stand, and how long the log states to be; also says which is the last event in it. `before`:
/// where cursors stood before.
fn read_log(
    log: &LogRows,
    before: &[(Text, Position)],
    manifest: &mut Manifest,
) -> io::Result<(Cursors, Position)> {
    let before = before.iter();
    let before = before.map(|(name, at)| (Bytes::copy_from_slice(name.as_bytes()), *at));
    let mut cursors: BTreeMap<Bytes, Position> = before.collect();
    let (mut next, mut found, mut last) = (0, Cursors::All, 0);
    let stated = &mut manifest.durable_offset;
    log.frames(&mut |seen| {
        let start = seen.file.log_offset(seen.start);
        if start != next {
            found = Cursors::Some;
        }
        next = start + seen.frame.as_bytes().len() as u64;
        *stated = seen.frame.durable_offset().max(*stated);
        last = seen.frame.first_position() + u64::from(seen.frame.events()) - 1;
        for (name, position) in seen.frame.cursors() {
            cursors.insert(Bytes::copy_from_slice(name), position);
        }
        Ok(())
    })?;
    if !manifest.sealed.segments.is_empty() {
        let cursors = cursors.into_iter();
        manifest.sealed.cursors = cursors.map(|(n, p)| (Text::from(n), p)).collect();
    }
    Ok((found, last))
}

/// Counts what the manifest states of the sealed events, and writes it, if it was put together.
pub(super) fn write_assembled(work: &mut Work, journal: &mut Journal<'_>) -> io::Result<()> {
    let Some(mut assembled) = work.assembled.take() else {
        return Ok(());
    };
    count(work).map_err(io::Error::other)?;
    let place = &work.stored.place;
    let (disk, path) = (&*place.disk, place.dir.join("manifest"));
    if !assembled.is_written {
        for path in &assembled.unreadable {
            let sealed = &work.stored.manifest.sealed;
            let segments = sealed.segments.iter().map(|s| work.stored.segment_path(s));
            let runs = sealed.runs.iter().map(|r| work.stored.run_path(r));
            // Others were replaced, and kept then.
            if !segments.chain(runs).any(|named| named == *path) {
                aside::keep(disk, &place.dir, path)?;
                work.remove(path)?;
            }
        }
        aside::keep(disk, &place.dir, &path)?;
        // Told before it is written: once it is, nobody knows that it was not always there.
        let what = assembled.unknown();
        let path = path.clone();
        journal.lost(Outcome { path, what });
    }
    work.stored.manifest.write(disk, &place.dir)?;
    if !assembled.is_written {
        journal.repaired(&path, "rebuilt from the other files");
    }
    assembled.is_written = true;
    work.assembled = Some(assembled);
    Ok(())
}

/// Counts names and slots, by the runs.
fn count(work: &mut Work) -> Result<(), ReadError> {
    let (mut entities, mut event_types) = (0, 0);
    let mut slots = Vec::new();
    for summary in &work.stored.manifest.sealed.runs {
        slots.resize(SLOTS, 0);
        let run = work
            .stored
            .open_run(summary, &work.stored.run_path(summary))?;
        for found in run.list(NameKind::Entity, b"", None) {
            let found = found?;
            entities += u64::from(found.before == 0);
            slots[slot(found.name())] += found.count;
        }
        for found in run.list(NameKind::Type, b"", None) {
            event_types += u64::from(found?.before == 0);
        }
    }
    let sealed = &mut work.stored.manifest.sealed;
    (sealed.entities, sealed.event_types) = (entities, event_types);
    sealed.events_per_slot = slots;
    Ok(())
}

#[cfg(test)]
mod tests;
