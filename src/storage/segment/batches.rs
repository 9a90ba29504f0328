//! Reads columns out of a segment: only the pages that hold the rows asked for, in batches of bounded bytes.
//!
//! One row group at a time. How many rows a batch has is decided before, from the sizes in the page index: a column is
//! decoded for a whole batch at once, and a row can be of any size.

use std::{collections::VecDeque, fmt, mem, ops::Range};

use arrow::array::RecordBatch;
use parquet::{
    arrow::{
        ProjectionMask,
        arrow_reader::{
            ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder, RowSelection,
            RowSelectionPolicy,
        },
    },
    basic::Type,
    errors::ParquetError,
};

use super::{blocks::Chunks, reader::Segment};
use crate::types::{id::Position, limits::READ_BATCH_BYTES, read::ReadError};

/// The columns of some rows.
pub(crate) struct Batch {
    pub(crate) columns: RecordBatch,
    /// The positions of the rows, in order.
    pub(crate) positions: VecDeque<Range<Position>>,
}

/// Batches of columns in position order. Fused: nothing comes after an error.
pub(crate) struct Batches {
    segment: Segment,
    chunks: Chunks,
    columns: Columns,
    /// What is still to be read, in order, without overlaps.
    wanted: VecDeque<Range<Position>>,
    /// The next row group, and the position of its first row.
    next_group: usize,
    next_group_first: Position,
    open: Option<OpenGroup>,
}

/// Which columns are read, and how many rows at once.
pub(super) struct Columns {
    mask: ProjectionMask,
    /// The columns of texts among them, as the page index numbers columns.
    texts: Vec<usize>,
    rows_max: usize,
}

impl Columns {
    /// `names` are columns of the segment; at most `rows_max` rows at once.
    pub(super) fn new(segment: &Segment, names: &[&str], rows_max: usize) -> Self {
        let metadata = segment.metadata.metadata();
        let descriptor = metadata.file_metadata().schema_descr();
        let leaves = descriptor.columns().iter().enumerate();
        let texts = leaves.filter(|(_, leaf)| {
            leaf.physical_type() == Type::BYTE_ARRAY
                && leaf
                    .path()
                    .parts()
                    .first()
                    .is_some_and(|name| names.contains(&name.as_str()))
        });
        Self {
            texts: texts.map(|(number, _)| number).collect(),
            mask: ProjectionMask::columns(descriptor, names.iter().copied()),
            rows_max,
        }
    }
}

/// A row group that is being read.
struct OpenGroup {
    reader: ParquetRecordBatchReader,
    /// The positions of the rows that it has still to give.
    positions: VecDeque<Range<Position>>,
    /// Where it starts in the file.
    offset: u64,
}

impl Batches {
    /// `wanted` is in order, without overlaps and inside the segment.
    pub(super) fn new(
        segment: Segment,
        columns: Columns,
        wanted: VecDeque<Range<Position>>,
    ) -> Self {
        let inside = segment.positions();
        let mut at = inside.start;
        for range in &wanted {
            assert!(
                at <= range.start && range.start < range.end && range.end <= inside.end,
                "{range:?} is in order and in {inside:?}"
            );
            at = range.end;
        }
        Self {
            chunks: Chunks::new(segment.blocks.clone()),
            columns,
            next_group: 0,
            next_group_first: segment.first,
            segment,
            wanted,
            open: None,
        }
    }

    /// Why the last batch is of no use. Ends the reading.
    pub(super) fn failure(&mut self, decoder: &dyn fmt::Display) -> ReadError {
        let offset = self.open.take().map_or(0, |group| group.offset);
        self.wanted.clear();
        self.chunks.failure(offset, decoder)
    }

    fn next_batch(&mut self) -> Result<Option<Batch>, ReadError> {
        loop {
            if let Some(group) = &mut self.open {
                if let Some(columns) = group.reader.next() {
                    let columns = columns.map_err(|e| self.chunks.failure(group.offset, &e))?;
                    let positions = take_rows(&mut group.positions, columns.num_rows());
                    let Some(positions) = positions else {
                        let what = "there are more rows than positions";
                        return Err(self.chunks.failure(group.offset, &what));
                    };
                    return Ok(Some(Batch { columns, positions }));
                }
                if !group.positions.is_empty() {
                    let what = "rows are missing";
                    return Err(self.chunks.failure(group.offset, &what));
                }
            }
            self.open = self.open_next_group()?;
            if self.open.is_none() {
                return Ok(None);
            }
        }
    }

    /// Opens the next row group that holds something wanted.
    fn open_next_group(&mut self) -> Result<Option<OpenGroup>, ReadError> {
        while let Some(range) = self.wanted.front() {
            let wanted_first = range.start;
            let metadata = self.segment.metadata.metadata();
            let Some(group) = metadata.row_groups().get(self.next_group) else {
                let what = "its row groups do not hold all of its rows";
                return Err(self.chunks.failure(0, &what));
            };
            let first = self.next_group_first;
            let end = first + group.num_rows().cast_unsigned();
            let number = self.next_group;
            self.next_group += 1;
            self.next_group_first = end;
            if wanted_first < end {
                let offset = group.column(0).byte_range().0;
                let positions = take_until(&mut self.wanted, end);
                let reader = self
                    .read_group(number, first, &positions)
                    .map_err(|e| self.chunks.failure(offset, &e))?;
                return Ok(Some(OpenGroup {
                    reader,
                    positions,
                    offset,
                }));
            }
        }
        Ok(None)
    }

    fn read_group(
        &self,
        number: usize,
        first: Position,
        positions: &VecDeque<Range<Position>>,
    ) -> Result<ParquetRecordBatchReader, ParquetError> {
        let metadata = self.segment.metadata.metadata();
        let group_rows = metadata.row_group(number).num_rows().cast_unsigned() as usize;
        let rows: Vec<Range<usize>> = positions
            .iter()
            .map(|range| (range.start - first) as usize..(range.end - first) as usize)
            .collect();
        let texts = self.columns.texts.iter();
        let batch_rows = texts
            .map(|leaf| rows_of_bounded_bytes(&self.pages(number, group_rows, *leaf), &rows))
            .fold(self.columns.rows_max, usize::min);
        ParquetRecordBatchReaderBuilder::new_with_metadata(
            self.chunks.clone(),
            self.segment.metadata.clone(),
        )
        .with_row_groups(vec![number])
        .with_projection(self.columns.mask.clone())
        .with_batch_size(batch_rows)
        // Masks would decode what lies between the rows as well.
        .with_row_selection_policy(RowSelectionPolicy::Selectors)
        .with_row_selection(RowSelection::from_consecutive_ranges(
            rows.into_iter(),
            group_rows,
        ))
        .build()
    }

    /// The pages of a column of texts in a row group: the row behind each, and the bytes of its texts.
    fn pages(&self, group: usize, group_rows: usize, leaf: usize) -> Vec<(usize, usize)> {
        let index = self.segment.metadata.metadata().offset_index();
        let index = index.and_then(|index| index.get(group)?.get(leaf));
        let Some(index) = index else {
            return vec![(group_rows, usize::MAX)];
        };
        let ends = index.page_locations().iter().skip(1);
        let ends = ends
            .map(|page| page.first_row_index.cast_unsigned() as usize)
            .chain([group_rows]);
        let sizes = index.unencoded_byte_array_data_bytes();
        ends.enumerate()
            .map(|(page, end)| {
                let bytes = sizes.and_then(|sizes| usize::try_from(*sizes.get(page)?).ok());
                (end, bytes.unwrap_or(usize::MAX))
            })
            .collect()
    }
}

impl Iterator for Batches {
    type Item = Result<Batch, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.next_batch().transpose();
        if matches!(batch, Some(Err(_))) {
            self.open = None;
            self.wanted.clear();
        }
        batch
    }
}

/// Takes so many positions off the front; `None` if there are fewer.
pub(crate) fn take_rows(
    positions: &mut VecDeque<Range<Position>>,
    mut rows: usize,
) -> Option<VecDeque<Range<Position>>> {
    let mut taken = VecDeque::new();
    while rows > 0 {
        let front = positions.front_mut()?;
        let end = front.end.min(front.start + rows as u64);
        rows -= (end - front.start) as usize;
        taken.push_back(mem::replace(&mut front.start, end)..end);
        if front.is_empty() {
            positions.pop_front();
        }
    }
    Some(taken)
}

/// Takes what is below `end` off the front.
pub(crate) fn take_until(
    wanted: &mut VecDeque<Range<Position>>,
    end: Position,
) -> VecDeque<Range<Position>> {
    let mut taken = VecDeque::new();
    while let Some(range) = wanted.pop_front() {
        if range.end <= end {
            taken.push_back(range);
            continue;
        }
        if range.start < end {
            taken.push_back(range.start..end);
            wanted.push_front(end..range.end);
        } else {
            wanted.push_front(range);
        }
        break;
    }
    taken
}

/// How many of the wanted `rows`, one after the other and wherever one starts, have at most [`READ_BATCH_BYTES`] in
/// a column with these `pages` (end row, bytes): at least one. A row counts with its whole page, since no more is known.
fn rows_of_bounded_bytes(pages: &[(usize, usize)], rows: &[Range<usize>]) -> usize {
    let mut touched: Vec<(usize, usize)> = Vec::new();
    let (mut start, mut rows) = (0, rows.iter().peekable());
    for &(end, bytes) in pages {
        let mut count = 0;
        while let Some(range) = rows.peek() {
            count += end.min(range.end).saturating_sub(start.max(range.start));
            if range.end > end {
                break;
            }
            rows.next();
        }
        if count > 0 && bytes > READ_BATCH_BYTES {
            return 1;
        }
        if count > 0 {
            touched.push((count, bytes));
        }
        start = end;
    }
    // A run of rows that touches the pages i..=j has at least a row of i, a row of j, and all between.
    let mut fitting = usize::MAX;
    let (mut j, mut bytes, mut between) = (0, 0, 0);
    for i in 0..touched.len() {
        while j < touched.len() && bytes + touched[j].1 <= READ_BATCH_BYTES {
            bytes += touched[j].1;
            between += touched[j].0;
            j += 1;
        }
        if j == touched.len() {
            break;
        }
        // i..j fits, i..=j does not.
        fitting = fitting.min(between - touched[i].0 + 1);
        bytes -= touched[i].1;
        between -= touched[i].0;
    }
    fitting
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::{collection::vec, prelude::*, sample::subsequence};

    use super::*;

    proptest! {
        /// Tried against all runs of all lengths.
        #[test]
        fn as_many_rows_as_fit_wherever_they_start(
            sizes in vec((1usize..5, prop_oneof![0..READ_BATCH_BYTES / 2, 0..READ_BATCH_BYTES * 2]), 1..12),
            wanted in subsequence((0usize..12).collect::<Vec<_>>(), 0..=12),
        ) {
            let mut pages: Vec<(usize, usize)> = Vec::new();
            for (rows, bytes) in sizes {
                pages.push((pages.last().map_or(0, |page| page.0) + rows, bytes));
            }
            let rows = pages[pages.len() - 1].0;
            let wanted: Vec<usize> = wanted.into_iter().filter(|row| *row < rows).collect();
            let page_of = |row: usize| pages.iter().position(|page| row < page.0).unwrap();
            let fits = |run: &[usize]| {
                let touched: BTreeSet<_> = run.iter().map(|row| page_of(*row)).collect();
                touched.iter().map(|page| pages[*page].1).sum::<usize>() <= READ_BATCH_BYTES
            };
            let expected = (2..=wanted.len())
                .take_while(|len| wanted.windows(*len).all(fits))
                .last()
                .unwrap_or(1);
            let ranges: Vec<_> = wanted
                .chunk_by(|a, b| a + 1 == *b)
                .map(|run| run[0]..run[0] + run.len())
                .collect();
            let found = rows_of_bounded_bytes(&pages, &ranges);
            prop_assert_eq!(found.min(wanted.len().max(1)), expected);
        }
    }
}
