//! An index run, made again from the segments of its range.
//!
//! In chunks of as many events as a part of the log has, each of which becomes a run as sealing would have made it, and
//! those are merged: in memory is what one chunk needs.

use std::{
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use super::{ReplaceError, Work, failed, rows::LogRows};
use crate::{
    engine::log::{cold::run_name, part::Part},
    storage::{
        index::{NOWHERE, RowPlace, RunSummary, merge, reader::Run, writer::RunWriter},
        segment::{StoredRow, reader::Segment},
    },
    types::{
        id::Position,
        read::{NameKind, ReadError},
    },
};

/// So many runs are merged at once: each is an open file.
const FAN_IN: usize = 16;

/// A part of the run that is being made.
struct Piece {
    /// How often it was merged.
    level: u32,
    run: Run,
    path: PathBuf,
}

/// Makes the run of a range. Every segment of it, and every run before it, is good.
pub(super) fn rebuild(
    work: &Work,
    log: &LogRows,
    range: &RangeInclusive<Position>,
    chunk_events: u64,
) -> Result<RunSummary, ReplaceError> {
    let disk = &*work.stored.place.disk;
    let dir = work.stored.place.index_dir();
    disk.make_dir(&dir)?;
    let name = run_name(*range.start(), *range.end());
    let mut made = 0;
    let mut next_path = || {
        made += 1;
        dir.join(format!("{name}.{made}.new"))
    };
    let earlier = earlier_runs(work, *range.start())?;
    let mut pieces: Vec<Piece> = Vec::new();
    let mut first = *range.start();
    while first <= *range.end() {
        let last = range
            .end()
            .min(&(first + chunk_events.max(1) - 1))
            .to_owned();
        let path = next_path();
        let before: Vec<&Run> = earlier
            .iter()
            .chain(pieces.iter().map(|p| &p.run))
            .collect();
        let summary = write_chunk(work, log, &(first..=last), &path, &before)?;
        let run = work.stored.open_run(&summary, &path)?;
        pieces.push(Piece {
            level: 0,
            run,
            path,
        });
        first = last + 1;
        while let Some(same) = mergeable(&pieces) {
            merge_last(work, &mut pieces, same, next_path())?;
        }
    }
    while pieces.len() > 1 {
        let count = pieces.len().min(FAN_IN);
        merge_last(work, &mut pieces, count, next_path())?;
    }
    let Some(Piece { run, path, .. }) = pieces.pop() else {
        return Err(failed(&dir, "there is nothing to make a run of"));
    };
    run.verify()?;
    let summary = *run.summary();
    work.replace(&path, &dir.join(name))?;
    Ok(summary)
}

fn earlier_runs(work: &Work, before: Position) -> Result<Vec<Run>, ReadError> {
    let runs = work.stored.manifest.sealed.runs.iter();
    let earlier = runs.take_while(|run| run.last < before);
    let open = |run| work.stored.open_run(run, &work.stored.run_path(run));
    earlier.map(open).collect()
}

/// How many of the last pieces are to become one.
fn mergeable(pieces: &[Piece]) -> Option<usize> {
    let level = pieces.last()?.level;
    let same = pieces.iter().rev().take_while(|piece| piece.level == level);
    (same.count() == FAN_IN).then_some(FAN_IN)
}

fn merge_last(
    work: &Work,
    pieces: &mut Vec<Piece>,
    count: usize,
    path: PathBuf,
) -> Result<(), ReplaceError> {
    let disk = &*work.stored.place.disk;
    let merged = pieces.split_off(pieces.len() - count);
    let runs: Vec<&Run> = merged.iter().map(|piece| &piece.run).collect();
    let (log_id, hasher) = (work.stored.manifest.log_id, work.stored.hasher);
    let writer = RunWriter::create(disk, &path, log_id, hasher, runs[0].first())?;
    let summary = merge::merge(&runs, writer, &|| false)?;
    let level = merged.iter().map(|piece| piece.level).max().unwrap_or(0) + 1;
    let run = work.stored.open_run(&summary, &path)?;
    for piece in merged {
        disk.remove(&piece.path)?;
    }
    pieces.push(Piece { level, run, path });
    Ok(())
}

fn write_chunk(
    work: &Work,
    log: &LogRows,
    range: &RangeInclusive<Position>,
    path: &Path,
    before: &[&Run],
) -> Result<RunSummary, ReplaceError> {
    let disk = &*work.stored.place.disk;
    let (log_id, hasher) = (work.stored.manifest.log_id, work.stored.hasher);
    let first = *range.start();
    let mut offsets = vec![NOWHERE; (range.end() - first + 1) as usize];
    log.rows(range, &mut |found| {
        offsets[(found.position - first) as usize] = found.log_offset;
        Ok(())
    })?;
    let mut writer = RunWriter::create(disk, path, log_id, hasher, first)?;
    let part = Part::new(first);
    let mut ids = Vec::with_capacity(offsets.len());
    let mut last_time = i64::MIN;
    segment_rows(work, range, &mut |stored| {
        let StoredRow {
            position,
            recorded_at,
            row,
        } = stored;
        let in_order = *position == first + ids.len() as Position && *recorded_at >= last_time;
        if !in_order {
            return Err(failed(path, "the segments do not hold its events in order"));
        }
        last_time = *recorded_at;
        writer.row(RowPlace {
            log_offset: offsets[(position - first) as usize],
            bytes: row.as_bytes().len() as u32,
            recorded_at: *recorded_at,
        })?;
        ids.push((hasher.hash(row.event_id().as_bytes()), *position));
        let at = part.row(*position);
        let version = row.version();
        let entity = (hasher.hash(row.entity_id()), row.entity_id());
        let names = part.names(NameKind::Entity);
        names.push(entity.0, entity.1, at, || version.saturating_sub(1));
        let event_type = (hasher.hash(row.event_type()), row.event_type());
        let names = part.names(NameKind::Type);
        let known = names.with(event_type.0, event_type.1, |found| found.is_some());
        let count = if known { 0 } else { count(before, event_type)? };
        names.push(event_type.0, event_type.1, at, || count);
        for (i, tag) in row.tags().enumerate() {
            if !row.tags().take(i).any(|earlier| earlier == tag) {
                let names = part.names(NameKind::Tag);
                names.push(hasher.hash(tag), tag, at, || 0);
            }
        }
        Ok(())
    })?;
    if ids.len() != offsets.len() {
        return Err(failed(path, "the segments do not hold its events"));
    }
    writer.ids(ids)?;
    for kind in [NameKind::Entity, NameKind::Type, NameKind::Tag] {
        part.names(kind).each_sorted(|name, found| {
            let positions = found.rows.iter().map(|row| first + Position::from(*row));
            writer.name(kind, name, found.before, positions)
        })?;
    }
    Ok(writer.finish()?)
}

/// How many events carry a type in runs that follow each other.
fn count(runs: &[&Run], (hash, name): (u64, &[u8])) -> Result<u64, ReadError> {
    for run in runs.iter().rev() {
        if let Some(found) = run.name(NameKind::Type, hash, name)? {
            return Ok(found.before + found.count);
        }
    }
    Ok(0)
}

/// Shows the rows of a range, in order.
fn segment_rows(
    work: &Work,
    range: &RangeInclusive<Position>,
    see: &mut dyn FnMut(&StoredRow) -> Result<(), ReplaceError>,
) -> Result<(), ReplaceError> {
    let stored = &work.stored;
    for summary in &stored.manifest.sealed.segments {
        if summary.last < *range.start() || summary.first > *range.end() {
            continue;
        }
        let path = stored.segment_path(summary);
        let file = stored.place.disk.open(&path)?;
        let segment = Segment::open(file, path, stored.manifest.log_id, summary)?;
        'segment: for rows in segment.scan(summary.first.max(*range.start())) {
            for row in &rows? {
                if row.position > *range.end() {
                    break 'segment;
                }
                see(row)?;
            }
        }
    }
    Ok(())
}
