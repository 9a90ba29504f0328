//! The rows of a name: gaps as varints, beside the name if they are few, in blocks of their own if they are many.
//!
//! | offset in a block | bytes | field |
//! |---|---|---|
//! | 0 | 4 | first row: a position less the first of the run |
//! | 4 | 4 | how many rows of the name are in the blocks before |
//! | 8 | 2 | number of rows, n |
//! | 10 | | n - 1 varints: how many rows lie between each row and the one before |
//!
//! The blocks of a name stand one behind the other, and each can be read alone, so that every question is answered by
//! halving over blocks. A name that is dense costs a byte a row, against an eighth of one as a bitmap: few names are,
//! and then the rows that they lead to weigh more.

use std::{io, iter, ops::RangeInclusive, sync::Arc};

use super::{
    block::{Block, BlockWriter, CONTENT_BYTES},
    names::{Postings, RunName},
    reader::{Row, Run},
    varint,
};
use crate::{
    storage::bytes::{get_u16, get_u32, put_u16, put_u32},
    types::{
        id::Position,
        read::{Direction, ReadError},
    },
};

const INDEX_AT: usize = 4;
const LEN_AT: usize = 8;
const GAPS_AT: usize = 10;
const GAP_BYTES_MAX: usize = 5;
/// Most bytes of gaps that stand beside the name. A list that is a little longer leaves most of its block empty; names
/// with much longer ones would fill the leaves of the tree.
const INLINE_BYTES_MAX: usize = 1024;

/// What was written of a list.
pub(super) struct Written<'a> {
    pub(super) rows: u64,
    pub(super) first: Row,
    pub(super) last: Row,
    pub(super) place: WrittenPlace<'a>,
}

pub(super) enum WrittenPlace<'a> {
    /// The gaps, not written anywhere.
    Inline(&'a [u8]),
    Blocks {
        first_block: u64,
        blocks: u64,
    },
}

/// Writes rows, ascending and at least one; `buffer` is room to work in.
pub(super) fn write<'a>(
    rows: impl IntoIterator<Item = Row>,
    buffer: &'a mut Vec<u8>,
    blocks: &mut BlockWriter,
) -> io::Result<Written<'a>> {
    let mut rows = rows.into_iter();
    let first = rows.next().expect("a name is carried by an event");
    let first_block = blocks.next();
    let mut last = first;
    let mut written = 0;
    let mut len = 1;
    begin(buffer, first, written);
    for row in rows {
        assert!(row > last, "rows ascend");
        if buffer.len() + GAP_BYTES_MAX > CONTENT_BYTES {
            put_u16(buffer, LEN_AT, len as u16);
            blocks.append(buffer)?;
            written += len;
            len = 0;
            begin(buffer, row, written);
        } else {
            varint::put(buffer, (row - last - 1).into());
        }
        len += 1;
        last = row;
    }
    let rows = written + len;
    let place = if written == 0 && buffer.len() - GAPS_AT <= INLINE_BYTES_MAX {
        WrittenPlace::Inline(&buffer[GAPS_AT..])
    } else {
        put_u16(buffer, LEN_AT, len as u16);
        blocks.append(buffer)?;
        WrittenPlace::Blocks {
            first_block,
            blocks: blocks.next() - first_block,
        }
    };
    Ok(Written {
        rows,
        first,
        last,
        place,
    })
}

fn begin(buffer: &mut Vec<u8>, first: Row, index: u64) {
    buffer.clear();
    buffer.resize(GAPS_AT, 0);
    put_u32(buffer, 0, first);
    put_u32(buffer, INDEX_AT, index as u32);
}

/// Rows that stand in one block.
struct Chunk {
    number: u64,
    block: Arc<Block>,
    gaps_at: usize,
    first: Row,
    /// Of its first row among those of the name.
    index: u64,
    len: u64,
}

/// Gaps end too early or lead out of the run.
#[derive(Debug, Clone, Copy)]
struct Malformed;

impl Chunk {
    /// The rows, as far as they are well formed.
    fn rows(&self, run: &Run) -> impl Iterator<Item = Result<Row, Malformed>> {
        let end = run.rows();
        let mut gaps = &self.block[self.gaps_at..CONTENT_BYTES];
        let mut next = Some(u64::from(self.first));
        let mut left = self.len;
        iter::from_fn(move || {
            left = left.checked_sub(1)?;
            let Some(row) = next.filter(|row| *row < end) else {
                left = 0;
                return Some(Err(Malformed));
            };
            if left > 0 {
                next = varint::take(&mut gaps).and_then(|gap| row.checked_add(gap)?.checked_add(1));
            }
            Some(Ok(row as Row))
        })
    }

    fn damaged(&self, run: &Run) -> ReadError {
        run.damaged(self.number, "the rows of a name are malformed")
    }
}

impl RunName {
    fn chunks(&self) -> u64 {
        match &self.postings {
            Postings::Inline { .. } => 1,
            Postings::Blocks(blocks) => blocks.end - blocks.start,
        }
    }

    fn chunk(&self, run: &Run, index: u64) -> Result<Chunk, ReadError> {
        match &self.postings {
            Postings::Inline { number, gaps_at } => Ok(Chunk {
                number: *number,
                block: Arc::clone(&self.leaf),
                gaps_at: *gaps_at,
                first: (self.first - run.first()) as Row,
                index: 0,
                len: self.count,
            }),
            Postings::Blocks(blocks) => {
                let number = blocks.start + index;
                let block = run.block(number)?;
                Ok(Chunk {
                    number,
                    first: get_u32(&*block, 0),
                    index: get_u32(&*block, INDEX_AT).into(),
                    len: get_u16(&*block, LEN_AT).into(),
                    gaps_at: GAPS_AT,
                    block,
                })
            }
        }
    }

    /// The last of the chunks from `low` on of which `is_wanted` holds; `low` if it holds of none behind.
    fn find(
        &self,
        run: &Run,
        mut low: u64,
        is_wanted: impl Fn(&Chunk) -> bool,
    ) -> Result<u64, ReadError> {
        let mut high = self.chunks();
        while low + 1 < high {
            let middle = low + (high - low) / 2;
            if is_wanted(&self.chunk(run, middle)?) {
                low = middle;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// The first `max` positions in a range, in the order of the direction. Fewer: there are no more.
    pub(crate) fn page(
        &self,
        run: &Run,
        range: RangeInclusive<Position>,
        direction: Direction,
        max: usize,
    ) -> Result<Vec<Position>, ReadError> {
        let from = self.first.max(*range.start());
        let to = self.last.min(*range.end());
        if from > to || max == 0 {
            return Ok(Vec::new());
        }
        let rows = (from - run.first()) as Row..=(to - run.first()) as Row;
        match direction {
            Direction::Forward => self.page_forward(run, rows, max),
            Direction::Backward => self.page_backward(run, rows, max),
        }
    }

    fn page_forward(
        &self,
        run: &Run,
        rows: RangeInclusive<Row>,
        max: usize,
    ) -> Result<Vec<Position>, ReadError> {
        let mut found = Vec::new();
        let start = self.find(run, 0, |chunk| chunk.first <= *rows.start())?;
        for index in start..self.chunks() {
            let chunk = self.chunk(run, index)?;
            for row in chunk.rows(run) {
                let row = row.map_err(|Malformed| chunk.damaged(run))?;
                if row > *rows.end() {
                    return Ok(found);
                }
                if row >= *rows.start() {
                    found.push(run.first() + u64::from(row));
                    if found.len() == max {
                        return Ok(found);
                    }
                }
            }
        }
        Ok(found)
    }

    fn page_backward(
        &self,
        run: &Run,
        rows: RangeInclusive<Row>,
        max: usize,
    ) -> Result<Vec<Position>, ReadError> {
        let mut found = Vec::new();
        let start = self.find(run, 0, |chunk| chunk.first <= *rows.end())?;
        for index in (0..=start).rev() {
            let chunk = self.chunk(run, index)?;
            let all = chunk.rows(run).collect::<Result<Vec<_>, _>>();
            let all = all.map_err(|Malformed| chunk.damaged(run))?;
            let from = all.partition_point(|row| row < rows.start());
            let to = all.partition_point(|row| row <= rows.end());
            let wanted = all[from..to.max(from)].iter().rev();
            let wanted = wanted.map(|row| run.first() + u64::from(*row));
            found.extend(wanted.take(max - found.len()));
            if found.len() == max || from > 0 {
                break;
            }
        }
        Ok(found)
    }

    /// The position of the n-th event of the run that carries the name, from 0; there are `count`.
    pub(crate) fn nth(&self, run: &Run, n: u64) -> Result<Position, ReadError> {
        assert!(n < self.count, "the caller knows the count");
        let chunk = self.chunk(run, self.find(run, 0, |chunk| chunk.index <= n)?)?;
        let row = n
            .checked_sub(chunk.index)
            .and_then(|n| chunk.rows(run).nth(n as usize));
        match row {
            Some(Ok(row)) => Ok(run.first() + u64::from(row)),
            _ => Err(chunk.damaged(run)),
        }
    }

    /// How many events of the run, up to and including a position, carry the name.
    pub(crate) fn count_through(&self, run: &Run, position: Position) -> Result<u64, ReadError> {
        if position < self.first {
            return Ok(0);
        }
        if position >= self.last {
            return Ok(self.count);
        }
        let through = (position - run.first()) as Row;
        let chunk = self.chunk(run, self.find(run, 0, |chunk| chunk.first <= through)?)?;
        let mut count = chunk.index;
        for row in chunk.rows(run) {
            if row.map_err(|Malformed| chunk.damaged(run))? > through {
                break;
            }
            count += 1;
        }
        Ok(count)
    }

    /// Keeps the positions, ascending or descending, whose event carries the name. After an error they mean nothing.
    pub(crate) fn retain(&self, run: &Run, positions: &mut Vec<Position>) -> Result<(), ReadError> {
        let descend = positions.first() > positions.last();
        if descend {
            positions.reverse();
        }
        let from = positions.partition_point(|position| *position < self.first);
        let to = positions.partition_point(|position| *position <= self.last);
        let mut kept = 0;
        let mut next = from;
        let mut index = 0;
        while next < to {
            let wanted = (positions[next] - run.first()) as Row;
            index = self.find_near(run, index, wanted)?;
            let chunk = self.chunk(run, index)?;
            // Up to here the chunk decides: the next one begins behind.
            let end = if index + 1 < self.chunks() {
                let behind = run.first() + u64::from(self.chunk(run, index + 1)?.first);
                next + positions[next..to].partition_point(|position| *position < behind)
            } else {
                to
            };
            if end <= next {
                return Err(chunk.damaged(run));
            }
            let mut rows = chunk.rows(run).peekable();
            for at in next..end {
                let wanted = (positions[at] - run.first()) as Row;
                while rows
                    .next_if(|row| row.is_ok_and(|row| row < wanted))
                    .is_some()
                {}
                match rows.peek() {
                    Some(Ok(row)) if *row == wanted => {
                        positions[kept] = positions[at];
                        kept += 1;
                    }
                    Some(Err(Malformed)) => return Err(chunk.damaged(run)),
                    _ => {}
                }
            }
            next = end;
        }
        positions.truncate(kept);
        if descend {
            positions.reverse();
        }
        Ok(())
    }

    /// The chunk, from `low` on, that holds a row if any does. Looks first where a walk through all would.
    fn find_near(&self, run: &Run, low: u64, row: Row) -> Result<u64, ReadError> {
        let is_wanted = |chunk: &Chunk| chunk.first <= row;
        let near = (low + 2).min(self.chunks() - 1);
        for index in low + 1..=near {
            if !is_wanted(&self.chunk(run, index)?) {
                return Ok(index - 1);
            }
        }
        self.find(run, near, is_wanted)
    }
}
