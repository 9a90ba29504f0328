//! Where every event stands: position → file and offset, and when it was recorded.
//!
//! The committer adds what it made durable before it moves the head; readers ask only up to their head.

use std::{ops::Range, sync::Arc};

use parking_lot::RwLock;

use super::kept::EndedFile;
use crate::{
    storage::log::{recovery::is_sealed, writer::LogFile},
    types::{id::Position, time::Timestamp},
};

/// The rows of a log. Lock order: the list of files, then the rows of one.
pub(crate) struct RowTable {
    files: RwLock<Vec<Arc<FileRows>>>,
}

/// The rows of one file.
pub(crate) struct FileRows {
    pub(crate) file: Arc<LogFile>,
    rows: RwLock<Rows>,
}

#[derive(Default)]
struct Rows {
    /// Offset in the file of each row.
    offsets: Vec<u32>,
    /// Groups made durable together: index of the first row, time in µs.
    groups: Vec<(u32, i64)>,
    /// Offset in the file behind the last row.
    end: u32,
}

impl Rows {
    fn is_in_group(&self, index: usize, group: usize) -> bool {
        let starts_behind = |(first, _): &(u32, i64)| *first as usize > index;
        !self.groups.get(group).is_none_or(starts_behind)
            && self.groups.get(group + 1).is_none_or(starts_behind)
    }
}

/// Where one event stands.
#[derive(Debug, Clone)]
pub(crate) struct Located {
    pub(crate) position: Position,
    pub(crate) recorded_at: i64,
    /// In the file: the row starts at the start and ends at or before the end.
    pub(crate) bytes: Range<u64>,
}

impl RowTable {
    pub(crate) fn new() -> Self {
        Self {
            files: RwLock::default(),
        }
    }

    /// Adds a frame's rows, given the offset of each in the file and where the last one ends.
    pub(crate) fn push(
        &self,
        file: &Arc<LogFile>,
        offsets: impl Iterator<Item = u64>,
        end: u64,
        recorded_at: i64,
    ) {
        let rows = self.file_rows(file);
        let mut rows = rows.rows.write();
        let first = rows.offsets.len() as u32;
        rows.offsets.extend(offsets.map(|offset| offset as u32));
        if rows.offsets.len() as u32 > first {
            if rows
                .groups
                .last()
                .is_none_or(|(_, time)| *time != recorded_at)
            {
                rows.groups.push((first, recorded_at));
            }
            rows.end = end as u32;
        }
    }

    /// Adds a file, of which there may be no rows yet.
    pub(crate) fn enter(&self, file: &Arc<LogFile>) {
        self.file_rows(file);
    }

    fn file_rows(&self, file: &Arc<LogFile>) -> Arc<FileRows> {
        // Nearly always it is the newest.
        let found = self
            .files
            .read()
            .iter()
            .rev()
            .find(|rows| Arc::ptr_eq(&rows.file, file))
            .cloned();
        found.unwrap_or_else(|| {
            let rows = Arc::new(FileRows {
                file: Arc::clone(file),
                rows: RwLock::default(),
            });
            let mut files = self.files.write();
            // A batch that does not fit into an empty file has a larger one made that takes its name.
            let offset = file.header.base_offset;
            if files
                .last()
                .is_some_and(|last| last.file.header.base_offset == offset)
            {
                files.pop();
            }
            files.push(Arc::clone(&rows));
            rows
        })
    }

    /// The file that an event stands in.
    pub(crate) fn file_of(&self, position: Position) -> Option<Arc<FileRows>> {
        let files = self.files.read();
        let after = files.partition_point(|f| f.file.header.first_position <= position);
        // Files without an event start at the same position as the next: the last of them holds it.
        files.get(after.checked_sub(1)?).cloned()
    }

    /// The last position recorded at or before a time, at most `head`.
    pub(crate) fn position_at(&self, time: Timestamp, head: Position) -> Position {
        let files = self.files.read();
        let micros = time.as_micros();
        for file in files.iter().rev() {
            let rows = file.rows.read();
            let groups = rows
                .groups
                .partition_point(|(_, recorded_at)| *recorded_at <= micros);
            if groups > 0 {
                let end = rows
                    .groups
                    .get(groups)
                    .map_or(rows.offsets.len() as u64, |g| g.0.into());
                return head.min(file.file.header.first_position + end - 1);
            }
        }
        0
    }

    /// The file that a log offset is in.
    pub(crate) fn at(&self, log_offset: u64) -> Option<EndedFile> {
        let files = self.files.read();
        let after = files.partition_point(|f| f.file.header.base_offset <= log_offset);
        let found = files.get(after.checked_sub(1)?)?;
        let next = files.get(after).map(|next| next.file.header.base_offset);
        Some(EndedFile {
            file: Arc::clone(&found.file),
            end: next.unwrap_or(u64::MAX),
        })
    }

    /// Takes out the files of which everything is sealed.
    pub(crate) fn release(&self, sealed_through: Position) -> Vec<EndedFile> {
        let mut files = self.files.write();
        let pairs = files.windows(2);
        let sealed = pairs.take_while(|pair| is_sealed(&pair[1].file.header, sealed_through));
        let ended = sealed.map(|pair| EndedFile {
            file: Arc::clone(&pair[0].file),
            end: pair[1].file.header.base_offset,
        });
        let released: Vec<_> = ended.collect();
        files.drain(..released.len());
        released
    }

    /// Number of files.
    pub(crate) fn files(&self) -> u64 {
        self.files.read().len() as u64
    }
}

impl FileRows {
    /// Appends where the first of `rows` stand, as far as they are in this file and until they make up `bytes_max`
    /// bytes together with `bytes`; returns how many. `rows` go up or down.
    pub(crate) fn locate(
        &self,
        rows: &[Position],
        bytes: &mut u64,
        bytes_max: u64,
        out: &mut Vec<Located>,
    ) -> usize {
        let table = self.rows.read();
        let first = self.file.header.first_position;
        let before = out.len();
        let mut group = 0;
        for &position in rows {
            let Some(index) = position.checked_sub(first).map(|index| index as usize) else {
                break;
            };
            let Some(&start) = table.offsets.get(index) else {
                break;
            };
            if !out.is_empty() && *bytes >= bytes_max {
                break;
            }
            let end = table.offsets.get(index + 1).copied().unwrap_or(table.end);
            if !table.is_in_group(index, group) {
                group = table
                    .groups
                    .partition_point(|(first, _)| *first as usize <= index)
                    - 1;
            }
            *bytes += u64::from(end - start);
            out.push(Located {
                position,
                recorded_at: table.groups[group].1,
                bytes: start.into()..end.into(),
            });
        }
        out.len() - before
    }
}
