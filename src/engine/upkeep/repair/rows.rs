//! Rows of sealed events, from log files that may be damaged: every frame that is right counts, up to the first one of
//! a file that is not.

use std::{io, ops::RangeInclusive, sync::Arc};

use bytes::Bytes;

use crate::{
    storage::{
        log::{
            frame::FRAME_HEADER_BYTES,
            inspect::{self, NamedFile},
            recovery::SeenFrame,
            row::Row,
            scan,
            writer::{LogFile, LogPlace},
        },
        manifest::Manifest,
    },
    types::id::Position,
};

/// The files whose headers can be read, in order.
pub(super) struct LogRows {
    files: Vec<Arc<LogFile>>,
}

/// A row as the log has it.
pub(super) struct LogRow {
    pub(super) position: Position,
    /// In µs since 1970.
    pub(super) recorded_at: i64,
    pub(super) log_offset: u64,
    pub(super) row: Row,
}

impl LogRows {
    pub(super) fn open(
        place: &LogPlace,
        manifest: &Manifest,
        named: &[NamedFile],
    ) -> io::Result<Self> {
        let open = inspect::open_named(place, manifest, named, &mut |_| {})?;
        Ok(Self { files: open.files })
    }

    /// The frames of each file, up to the first that is not right.
    pub(super) fn frames(
        &self,
        see: &mut dyn FnMut(&SeenFrame<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        for (index, file) in self.files.iter().enumerate() {
            scan::valid_frames(file, self.end(index)?, see)?;
        }
        Ok(())
    }

    pub(super) fn first(&self) -> Option<&Arc<LogFile>> {
        self.files.first()
    }

    /// Log offset behind a file's frames.
    fn end(&self, index: usize) -> io::Result<u64> {
        match self.files.get(index + 1) {
            Some(next) => Ok(next.header.base_offset),
            None => Ok(self.files[index].log_offset(self.files[index].file.bytes()?)),
        }
    }

    /// Shows the rows of a range that are there, in order.
    pub(super) fn rows(
        &self,
        range: &RangeInclusive<Position>,
        see: &mut dyn FnMut(LogRow) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut next = *range.start();
        for (index, file) in self.files.iter().enumerate() {
            let behind = self.files.get(index + 1);
            let ends_before =
                behind.is_some_and(|next| next.header.first_position <= *range.start());
            if ends_before || file.header.first_position > *range.end() {
                continue;
            }
            scan::valid_frames(file, self.end(index)?, &mut |seen| {
                let rows_at = seen.start + FRAME_HEADER_BYTES as u64;
                let (first, events) = (seen.frame.first_position(), seen.frame.events());
                if first > *range.end() || first + u64::from(events) <= next {
                    return Ok(());
                }
                let rows = Bytes::copy_from_slice(seen.frame.rows());
                let mut at = 0;
                for position in (first..).take(events as usize) {
                    let Ok(row) = Row::check(rows.slice(at..), position) else {
                        break;
                    };
                    let start = rows_at + at as u64;
                    at += row.as_bytes().len();
                    if range.contains(&position) && position >= next {
                        next = position + 1;
                        see(LogRow {
                            position,
                            recorded_at: seen.frame.recorded_at(),
                            log_offset: file.log_offset(start),
                            row,
                        })?;
                    }
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Whether all rows of a range are there.
    pub(super) fn hold(&self, range: &RangeInclusive<Position>) -> io::Result<bool> {
        let mut rows = 0;
        self.rows(range, &mut |_| {
            rows += 1;
            Ok(())
        })?;
        Ok(rows == range.end() - range.start() + 1)
    }
}
