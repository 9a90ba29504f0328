//! An open segment: its footer and page index in memory, its data on disk.

use std::{
    collections::VecDeque,
    iter,
    ops::{Range, RangeInclusive},
    path::PathBuf,
    sync::Arc,
};

use bytes::Bytes;
use parquet::{
    arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions},
    errors::ParquetError,
    file::{
        metadata::{
            ColumnChunkMetaData, PageIndexPolicy, ParquetMetaData, ParquetMetaDataOptions,
            ParquetMetaDataReader, ParquetStatisticsPolicy,
        },
        page_index::offset_index::PageLocation,
    },
};

use super::{
    BLOCK_BYTES, SegmentSummary, StoredRow,
    batches::{Batches, Columns},
    blocks::{Blocks, SegmentFile},
    rows::Rows,
    schema::{COLUMNS, FooterFacts, ROW_COLUMNS, SCHEMA},
};
use crate::{
    storage::disk::DiskFile,
    types::{
        id::{LogId, Position},
        limits::READ_BATCH_EVENTS,
        read::ReadError,
    },
};

/// See the module. Clones share everything.
#[derive(Clone)]
pub(crate) struct Segment {
    pub(super) blocks: Arc<Blocks>,
    pub(super) metadata: ArrowReaderMetadata,
    pub(super) first: Position,
    pub(super) last: Position,
}

impl Segment {
    /// Reads and checks what describes the file: `Damaged` if it is not what `summary` says, `OtherLog` if it is a
    /// segment of another log. The data is checked when it is read.
    pub(crate) fn open(
        file: Arc<dyn DiskFile>,
        path: impl Into<PathBuf>,
        log_id: LogId,
        summary: &SegmentSummary,
    ) -> Result<Self, ReadError> {
        let path = path.into();
        let file = SegmentFile { file, path };
        let tail_at = summary.tail_at;
        let tail = read_tail(&file, summary)?;
        let undecodable = |e: ParquetError| {
            let what = format!("its footer cannot be decoded: {e}");
            file.damaged(tail_at, what)
        };

        let metadata = parse(&tail, summary.bytes).map_err(undecodable)?;
        let entries = metadata.metadata().file_metadata().key_value_metadata();
        let facts = FooterFacts::decode(entries.map_or(&[], Vec::as_slice))
            .map_err(|what| file.damaged(tail_at, what))?;
        if facts.log_id != log_id {
            return Err(ReadError::OtherLog {
                expected: log_id,
                found: facts.log_id,
            });
        }
        if (facts.first, facts.last) != (summary.first, summary.last) {
            let what = format!(
                "it holds the events {} to {}, not {} to {}",
                facts.first, facts.last, summary.first, summary.last
            );
            return Err(file.damaged(tail_at, what));
        }
        let fits = facts.block_crcs.len() as u64 == tail_at.div_ceil(BLOCK_BYTES as u64)
            && has_row_columns(&metadata)
            && last_row(metadata.metadata()) == facts.last.checked_sub(facts.first)
            && pages_are_inside(metadata.metadata(), tail_at);
        if !fits {
            return Err(file.damaged(tail_at, "its footer does not fit its data"));
        }
        Ok(Self {
            blocks: Arc::new(Blocks {
                file,
                bytes: tail_at,
                crcs: facts.block_crcs,
            }),
            metadata,
            first: facts.first,
            last: facts.last,
        })
    }

    /// Reads all that its footer and page index say.
    pub(super) fn describe(&self, summary: &SegmentSummary) -> Result<ParquetMetaData, ReadError> {
        let file = &self.blocks.file;
        let tail = read_tail(file, summary)?;
        let options = ParquetMetaDataOptions::new().with_encoding_stats_as_mask(false);
        let mut reader = ParquetMetaDataReader::new()
            // Columns without statistics have no column index.
            .with_column_index_policy(PageIndexPolicy::Optional)
            .with_offset_index_policy(PageIndexPolicy::Required)
            .with_metadata_options(Some(options));
        let parsed = reader.try_parse_sized(&tail, summary.bytes);
        parsed.and_then(|()| reader.finish()).map_err(|e| {
            let what = format!("its footer cannot be decoded: {e}");
            file.damaged(summary.tail_at, what)
        })
    }

    /// The positions that it holds.
    pub(crate) fn positions(&self) -> Range<Position> {
        self.first..self.last + 1
    }

    /// Bytes that it keeps in memory while it is open.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.metadata.metadata().memory_size() + self.blocks.crcs.len() * size_of::<u32>()
    }

    /// The rows at these positions, which ascend and are all inside. As many bytes in memory as the rows have; where
    /// that is too much, see [`Self::batches`].
    pub(crate) fn read(&self, positions: &[Position]) -> Result<Vec<StoredRow>, ReadError> {
        let mut rows = Vec::with_capacity(positions.len());
        for batch in self.batches(positions) {
            rows.append(&mut batch?);
        }
        Ok(rows)
    }

    /// The rows at these positions, which ascend and are all inside, in batches of bounded bytes and events. Ends
    /// after an error.
    pub(crate) fn batches(&self, positions: &[Position]) -> Rows {
        let runs = positions.chunk_by(|a, b| a + 1 == *b);
        let ranges = runs.map(|run| run[0]..run[0] + run.len() as u64).collect();
        Rows(self.batches_of(&ROW_COLUMNS, READ_BATCH_EVENTS, ranges))
    }

    /// The rows from a position, which is inside, to the end; see [`Self::batches`].
    pub(crate) fn scan(&self, from: Position) -> Rows {
        let range = iter::once(from..self.last + 1).collect();
        Rows(self.batches_of(&ROW_COLUMNS, READ_BATCH_EVENTS, range))
    }

    /// Verifies the checksums of all that holds the rows at some positions.
    pub(crate) fn check(&self, positions: &RangeInclusive<Position>) -> Result<(), ReadError> {
        let mut first = self.first;
        for group in self.metadata.metadata().row_groups() {
            let next = first + group.num_rows().cast_unsigned();
            if first <= *positions.end() && next > *positions.start() {
                for column in group.columns() {
                    let (start, bytes) = column.byte_range();
                    self.blocks.check(start..start + bytes)?;
                }
            }
            first = next;
        }
        Ok(())
    }

    /// All columns of all rows; see [`Self::batches`].
    pub(crate) fn columns(&self) -> Batches {
        let range = iter::once(self.positions()).collect();
        self.batches_of(&COLUMNS, READ_BATCH_EVENTS, range)
    }

    /// Some columns of some rows: at most `rows_max` at once, and about 1 MiB of each column of texts. `wanted` is in
    /// order, without overlaps and inside.
    pub(crate) fn batches_of(
        &self,
        columns: &[&str],
        rows_max: usize,
        wanted: VecDeque<Range<Position>>,
    ) -> Batches {
        let columns = Columns::new(self, columns, rows_max);
        Batches::new(self.clone(), columns, wanted)
    }
}

fn read_tail(file: &SegmentFile, summary: &SegmentSummary) -> Result<Bytes, ReadError> {
    let bytes = file.file.bytes().map_err(|e| file.failed(0, 0, &e))?;
    if bytes != summary.bytes || summary.tail_at > bytes {
        let what = format!("it has {bytes} bytes, not {}", summary.bytes);
        return Err(file.damaged(bytes.min(summary.bytes), what));
    }
    let tail_bytes = (bytes - summary.tail_at) as usize;
    file.read(summary.tail_at, tail_bytes, summary.tail_crc)
}

/// Statistics are left out: positions alone say where a row is.
fn parse(tail: &Bytes, file_bytes: u64) -> Result<ArrowReaderMetadata, ParquetError> {
    let options = ParquetMetaDataOptions::new()
        .with_column_stats_policy(ParquetStatisticsPolicy::SkipAll)
        .with_size_stats_policy(ParquetStatisticsPolicy::SkipAll);
    let mut reader = ParquetMetaDataReader::new()
        .with_offset_index_policy(PageIndexPolicy::Required)
        .with_metadata_options(Some(options));
    reader.try_parse_sized(tail, file_bytes)?;
    ArrowReaderMetadata::try_new(Arc::new(reader.finish()?), ArrowReaderOptions::new())
}

fn has_row_columns(metadata: &ArrowReaderMetadata) -> bool {
    ROW_COLUMNS.iter().all(|name| {
        let (found, expected) = (
            metadata.schema().field_with_name(name),
            SCHEMA.field_with_name(name),
        );
        found.is_ok() && found.ok() == expected.ok()
    })
}

/// The number of the last row, from 0.
fn last_row(metadata: &ParquetMetaData) -> Option<u64> {
    let groups = metadata.row_groups().iter();
    let rows = groups.map(|group| u64::try_from(group.num_rows()).ok());
    let rows = rows.reduce(|sum, rows| sum?.checked_add(rows?));
    rows??.checked_sub(1)
}

/// Whether each page is where the decoder takes it to be: in its column, after the page before, before the tail.
fn pages_are_inside(metadata: &ParquetMetaData, tail_at: u64) -> bool {
    let groups = metadata.row_groups();
    let Some(index) = metadata.offset_index() else {
        return false;
    };
    index.len() == groups.len()
        && groups.iter().zip(index).all(|(group, columns)| {
            let rows = group.num_rows();
            columns.len() == group.num_columns()
                && group.columns().iter().zip(columns).all(|(column, pages)| {
                    column_range(column).is_some_and(|range| {
                        range.end.cast_unsigned() <= tail_at
                            && are_in_order(pages.page_locations(), range, rows)
                    })
                })
        })
}

fn column_range(column: &ColumnChunkMetaData) -> Option<Range<i64>> {
    let data = column.data_page_offset();
    let start = column.dictionary_page_offset().unwrap_or(data);
    let end = start.checked_add(column.compressed_size())?;
    (0 <= start && start <= data && data <= end).then_some(start..end)
}

fn are_in_order(pages: &[PageLocation], range: Range<i64>, rows: i64) -> bool {
    let (mut at, mut row) = (range.start, -1);
    let follow = pages.iter().all(|page| {
        let follows = page.offset >= at
            && page.compressed_page_size >= 0
            && page.first_row_index > row
            && page.first_row_index < rows;
        at = page.offset.saturating_add(page.compressed_page_size.into());
        row = page.first_row_index;
        follows
    });
    let starts = pages.first().is_some_and(|page| page.first_row_index == 0);
    follow && starts && at <= range.end
}
