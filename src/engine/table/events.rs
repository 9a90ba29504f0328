//! A scan of events, up to a head.

use std::{collections::VecDeque, mem, ops::Range, sync::Arc};

use arrow::{
    array::{AsArray, BooleanArray, RecordBatch, UInt64Array},
    compute::{and, concat_batches, filter_record_batch, take_record_batch},
    datatypes::{Int64Type, SchemaRef, TimestampMicrosecondType},
    error::ArrowError,
};

use super::rows::RowsRead;
use crate::{
    engine::{
        log::{Log, read::Residue, room::Place, set::Set, tail::chunk_end},
        tenant::Tenant,
    },
    storage::segment::{
        batches::{Batches, take_rows, take_until},
        schema::{ENTITY_ID, OCCURRED_AT, POSITION, fixed_width},
    },
    telemetry::{self, Origin},
    types::{
        id::Position,
        limits::{READ_BATCH_BYTES, SCAN_BATCH_ROWS},
        read::{Damage, Direction, ReadError},
        scan::ScanRequest,
        slot::slot,
        time::Timestamp,
    },
};

/// Rows that the index is asked for at once.
const PAGE_ROWS: usize = 64 << 10;
/// Smaller batches are gathered into one.
const GATHER_ROWS: usize = 1_024;
/// Rows that are looked at for one batch, if the filter lets none of them through: then the caller is told how far it is,
/// and may end it.
const LOOK_ROWS: usize = 1 << 18;
/// Rows of a chunk of the tail that are read by themselves: where more are wanted they are converted for all.
const SPARSE_ROWS: usize = 256;

/// See the module.
pub(super) struct Events {
    log: Arc<Log>,
    set: Set,
    residue: Residue,
    /// What is given.
    schema: SchemaRef,
    /// The columns that are read for it.
    columns: Vec<String>,
    batch_rows: usize,
    /// Positions that the index was not asked for yet.
    range: Range<Position>,
    /// Rows still wanted.
    limit: u64,
    head: Position,
    /// Rows that the index gave and that are still to be read, in order.
    pending: VecDeque<Range<Position>>,
    /// A segment that is being read.
    open: Option<Batches>,
    /// It, between two batches.
    left: Option<Place<Batches>>,
    /// The rows that it has still to give.
    rest: VecDeque<Range<Position>>,
    /// All wanted up to here was given.
    position: Position,
    /// The position that was given last.
    told: Option<Position>,
    /// Rows that were read for the batch that is being made.
    looked_rows: usize,
    /// Rows that were read at all.
    pub(super) rows_read: RowsRead,
    /// Why nothing comes any more.
    failed: Option<ReadError>,
}

impl Events {
    /// The wanted events after one position and up to another, the head.
    pub(super) fn new(
        tenant: &Tenant,
        request: &ScanRequest,
        (after, head): (Position, Position),
        limit: u64,
        schema: SchemaRef,
    ) -> Result<Self, ReadError> {
        let filter = &request.filter;
        let recorded = tenant.log.recorded_in(filter.recorded, after, head)?;
        let residue = Residue {
            partitions: filter.partitions.clone(),
            division: tenant.partitions,
            occurred: filter.occurred,
        };
        let mut columns: Vec<_> = schema.fields().iter().map(|f| f.name().clone()).collect();
        let needed = [
            // Where a limit ends the scan.
            (POSITION, limit < u64::MAX),
            (ENTITY_ID, !residue.partitions.is_empty()),
            (OCCURRED_AT, !residue.occurred.is_all()),
        ];
        for (name, needed) in needed {
            if needed && !columns.iter().any(|column| column == name) {
                columns.push(name.to_owned());
            }
        }
        let widths = columns.iter().map(|name| fixed_width(name));
        let batch_rows = READ_BATCH_BYTES / widths.sum::<usize>().max(1);
        Ok(Self {
            set: tenant.scan_set(request),
            log: Arc::clone(&tenant.log),
            residue,
            schema,
            columns,
            batch_rows: batch_rows.min(SCAN_BATCH_ROWS),
            range: recorded,
            limit,
            head,
            pending: VecDeque::new(),
            open: None,
            left: None,
            rest: VecDeque::new(),
            position: after,
            told: None,
            looked_rows: 0,
            rows_read: RowsRead::default(),
            failed: None,
        })
    }

    /// The next rows, and the position up to which all was given. Without rows where none were found among very many. The
    /// last batch is at the head, unless the limit ends it. An error comes again with every further call.
    pub(super) fn next(&mut self) -> Result<Option<(RecordBatch, Position)>, ReadError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.open = self.left.take().and_then(Place::take);
        if self.open.is_none() {
            self.close();
        }
        let next = self.gather();
        if let Some(open) = self.open.take() {
            match self.log.shared.scans.leave(open) {
                Ok(place) => self.left = Some(place),
                Err(_) => self.close(),
            }
        }
        next
    }

    /// What is left of the segment that was open is read anew.
    fn close(&mut self) {
        self.rest.append(&mut self.pending);
        mem::swap(&mut self.rest, &mut self.pending);
    }

    fn gather(&mut self) -> Result<Option<(RecordBatch, Position)>, ReadError> {
        let mut gathered: Vec<RecordBatch> = Vec::new();
        let (mut rows, mut bytes) = (0, 0);
        self.looked_rows = 0;
        while self.limit > 0 && rows < GATHER_ROWS && bytes < READ_BATCH_BYTES {
            let batch = match self.next_batch() {
                Ok(Some(batch)) => batch,
                Ok(None) => break,
                Err(error) => {
                    self.open = None;
                    self.failed = Some(error.clone());
                    if gathered.is_empty() {
                        return Err(error);
                    }
                    break;
                }
            };
            rows += batch.num_rows();
            bytes += batch.get_array_memory_size();
            self.limit -= batch.num_rows() as u64;
            gathered.push(batch);
        }
        let batch = match gathered.len() {
            0 => {
                // Where it ends is told once.
                if self.limit == 0 || self.told.is_some_and(|told| told >= self.head) {
                    return Ok(None);
                }
                self.position = self.position.max(self.looked_at());
                RecordBatch::new_empty(Arc::clone(&self.schema))
            }
            1 => gathered.remove(0),
            _ => concat_batches(&self.schema, &gathered).map_err(|e| self.undecodable(&e))?,
        };
        self.told = Some(self.position);
        Ok(Some((batch, self.position)))
    }

    /// The next rows, at least one; `None` if there are none, or none among so many that the caller should be heard.
    fn next_batch(&mut self) -> Result<Option<RecordBatch>, ReadError> {
        while self.looked_rows < LOOK_ROWS {
            let Some((columns, origin)) = self.read()? else {
                return Ok(None);
            };
            telemetry::table_rows(origin, columns.num_rows());
            self.rows_read.count(origin, columns.num_rows());
            self.looked_rows += columns.num_rows();
            let mut wanted = self.wanted(columns).map_err(|e| self.undecodable(&e))?;
            let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
            let mut position = self.looked_at();
            if limit < wanted.num_rows() {
                wanted = wanted.slice(0, limit);
                position = last_position(&wanted).unwrap_or(position);
            }
            if wanted.num_rows() > 0 {
                let given = self.given(&wanted).map_err(|e| self.undecodable(&e))?;
                self.position = position;
                return Ok(Some(given));
            }
            self.position = position;
        }
        Ok(None)
    }

    /// Up to here everything was read.
    fn looked_at(&self) -> Position {
        match self.rest.front().or_else(|| self.pending.front()) {
            Some(next) => next.start - 1,
            None if self.range.is_empty() => self.position.max(self.head),
            None => self.range.start - 1,
        }
    }

    /// The columns of the next rows of the index.
    fn read(&mut self) -> Result<Option<(RecordBatch, Origin)>, ReadError> {
        loop {
            if let Some(columns) = self.read_open()? {
                return Ok(Some((columns, Origin::Segment)));
            }
            if self.pending.is_empty() && !self.fill()? {
                return Ok(None);
            }
            let first = self.pending[0].start;
            let pieces = self.log.pieces();
            if first > pieces.sealed_through() {
                return Ok(Some((self.read_tail(first)?, Origin::Log)));
            }
            let (_, summary) = pieces.sealed_at(first);
            let segment = self.log.segment(summary)?;
            let columns: Vec<_> = self.columns.iter().map(String::as_str).collect();
            self.rest = take_until(&mut self.pending, segment.positions().end);
            self.open = Some(segment.batches_of(&columns, self.batch_rows, self.rest.clone()));
        }
    }

    /// The next rows of the segment that is open, if one is.
    fn read_open(&mut self) -> Result<Option<RecordBatch>, ReadError> {
        let Some(open) = &mut self.open else {
            return Ok(None);
        };
        let Some(batch) = open.next().transpose()? else {
            self.open = None;
            return Ok(None);
        };
        take_rows(&mut self.rest, batch.columns.num_rows());
        Ok(Some(batch.columns))
    }

    /// Gets the next rows from the index; false if there are none.
    fn fill(&mut self) -> Result<bool, ReadError> {
        if self.range.is_empty() {
            return Ok(false);
        }
        if let Set::All = self.set {
            self.pending.push_back(self.range.clone());
            self.range.start = self.range.end;
            return Ok(true);
        }
        let range = self.range.start..=self.range.end - 1;
        let pieces = self.log.pieces();
        let rows = pieces.page(&self.set, range, Direction::Forward, PAGE_ROWS)?;
        self.range.start = match rows.last() {
            Some(last) if rows.len() == PAGE_ROWS => last + 1,
            Some(_) | None => self.range.end,
        };
        let runs = rows.chunk_by(|a, b| a + 1 == *b);
        self.pending
            .extend(runs.map(|run| run[0]..run[0] + run.len() as u64));
        Ok(!self.pending.is_empty())
    }

    /// The next rows, the first of which is not sealed.
    fn read_tail(&mut self, first: Position) -> Result<RecordBatch, ReadError> {
        let chunk = if let Some(chunk) = self.log.kept_chunk(first) {
            chunk
        } else {
            let few = self.few_until(chunk_end(first));
            if !few.is_empty() {
                let (columns, count) = self.log.rows_as_columns(&few)?;
                take_rows(&mut self.pending, count);
                return Ok(columns);
            }
            self.log.tail_chunk(first)?
        };
        let wanted = take_until(&mut self.pending, chunk.last + 1);
        let schema = chunk.columns.schema_ref();
        let asked = self.columns.iter().map(|name| schema.index_of(name));
        let asked: Result<Vec<_>, _> = asked.collect();
        let columns = asked.and_then(|asked| chunk.columns.project(&asked));
        let columns = columns.map_err(|e| self.undecodable(&e))?;
        let row = |position| (position - chunk.first) as usize;
        if let ([run], []) = wanted.as_slices() {
            return Ok(columns.slice(row(run.start), row(run.end) - row(run.start)));
        }
        let rows: UInt64Array = wanted
            .into_iter()
            .flatten()
            .map(|p| Some(row(p) as u64))
            .collect();
        take_record_batch(&columns, &rows).map_err(|e| self.undecodable(&e))
    }

    /// The next rows before a position, if they are few. Who wants all there are shares them with those who do too.
    fn few_until(&self, end: Position) -> Vec<Position> {
        if matches!(self.set, Set::All) && self.pending[0].end >= end.min(self.head + 1) {
            return Vec::new();
        }
        let positions = self.pending.iter().cloned().flatten();
        let before = positions.take_while(|position| *position < end);
        let few: Vec<_> = before.take(SPARSE_ROWS + 1).collect();
        if few.len() > SPARSE_ROWS {
            Vec::new()
        } else {
            few
        }
    }

    /// What the filter lets through of some rows.
    fn wanted(&self, columns: RecordBatch) -> Result<RecordBatch, ArrowError> {
        match self.residue_of(&columns) {
            Some(keep) => filter_record_batch(&columns, &keep),
            None => Ok(columns),
        }
    }

    /// The columns of the schema.
    fn given(&self, columns: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let given = self.schema.fields().iter();
        let given = given.map(|field| {
            let column = columns.column_by_name(field.name()).cloned();
            column.ok_or_else(|| {
                ArrowError::SchemaError(format!("there is no column `{}`", field.name()))
            })
        });
        RecordBatch::try_new(Arc::clone(&self.schema), given.collect::<Result<_, _>>()?)
    }

    /// Which rows the part of the filter lets through that the index does not tell; `None`: all.
    fn residue_of(&self, columns: &RecordBatch) -> Option<BooleanArray> {
        let Residue {
            partitions,
            division,
            occurred,
        } = &self.residue;
        let mut keep = None;
        if !partitions.is_empty() {
            let entities = columns.column_by_name(ENTITY_ID)?.as_string_opt::<i32>()?;
            let partition = |entity: Option<&str>| {
                division.of_slot(slot(entity.unwrap_or_default().as_bytes()))
            };
            let inside = entities
                .iter()
                .map(|entity| Some(partitions.contains(&partition(entity))));
            keep = Some(inside.collect::<BooleanArray>());
        }
        if !occurred.is_all() {
            let times = columns.column_by_name(OCCURRED_AT)?;
            let times = times.as_primitive_opt::<TimestampMicrosecondType>()?;
            let inside =
                |micros: i64| Timestamp::from_micros(micros).is_some_and(|t| occurred.contains(t));
            let inside: BooleanArray = times
                .iter()
                .map(|time| Some(time.is_some_and(inside)))
                .collect();
            keep = Some(match keep {
                Some(keep) => and(&keep, &inside).ok()?,
                None => inside,
            });
        }
        keep
    }

    fn undecodable(&self, error: &ArrowError) -> ReadError {
        ReadError::Damaged(Damage {
            path: self.log.segments_dir(),
            offset: 0,
            what: format!("columns of its events do not fit: {error}"),
        })
    }
}

/// The position of the last row, if the column is there.
fn last_position(rows: &RecordBatch) -> Option<Position> {
    let positions = rows.column_by_name(POSITION)?;
    let positions = positions.as_primitive_opt::<Int64Type>()?;
    positions.values().last().map(|last| last.cast_unsigned())
}
