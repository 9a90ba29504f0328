//! A segment, sealed again from log files that still hold its events.

use std::{io, ops::RangeInclusive, path::Path};

use super::{ReplaceError, Work, failed, rows::LogRows};
use crate::{
    engine::log::cold::segment_name,
    storage::segment::{
        SegmentSummary, content::Content, reader::Segment, schema::SegmentOptions,
        writer::SegmentWriter,
    },
    types::id::Position,
};

/// Writes the segment of a range, all rows of which the log holds, reads it back and gives it its name.
pub(super) fn seal(
    work: &Work,
    log: &LogRows,
    range: &RangeInclusive<Position>,
    options: SegmentOptions,
) -> Result<SegmentSummary, ReplaceError> {
    let disk = &*work.stored.place.disk;
    let dir = work.stored.place.segments_dir();
    let name = segment_name(*range.start(), *range.end());
    let new = dir.join(format!("{name}.new"));
    disk.make_dir(&dir)?;
    let log_id = work.stored.manifest.log_id;
    let mut writer = SegmentWriter::create(disk, &new, log_id, options)?;
    log.rows(range, &mut |found| {
        writer.push(found.position, found.recorded_at, &found.row)
    })?;
    let content = writer.content()?;
    let summary = writer.finish()?;
    if (summary.first, summary.last) != (*range.start(), *range.end()) {
        return Err(failed(&new, "the log does not hold it any more"));
    }
    read_back(work, &new, &summary, content)?;
    work.replace(&new, &dir.join(name))?;
    Ok(summary)
}

fn read_back(
    work: &Work,
    path: &Path,
    summary: &SegmentSummary,
    written: u128,
) -> Result<(), ReplaceError> {
    let file = work.stored.place.disk.open(path)?;
    let segment = Segment::open(file, path, work.stored.manifest.log_id, summary)?;
    let mut content = Content::default();
    for batch in segment.columns() {
        content.add(&batch?.columns).map_err(io::Error::other)?;
    }
    if content.digest() == written {
        Ok(())
    } else {
        Err(io::Error::other("what was written is not what the log holds").into())
    }
}
