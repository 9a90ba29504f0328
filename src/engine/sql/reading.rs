//! A partition of a scan, as it is read: forward, or backward in blocks of rows that are turned around in memory. Where few
//! rows are wanted, the index tells which they are, and no others are read.

use std::sync::Arc;

use arrow::{
    array::{RecordBatch, RecordBatchOptions, UInt32Array},
    compute::take_record_batch,
    datatypes::{Schema, SchemaRef},
};
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder};
use tokio::task::spawn_blocking;

use super::{catalog::Cut, scan::Wanted};
use crate::{
    engine::table::{Scan, rows::RowsRead},
    types::{
        id::Position,
        limits::{SQL_BLOCK_BYTES, SQL_BLOCK_ROWS},
        read::{Direction, ReadError},
        scan::{ScanRequest, Table},
    },
};

/// See the module.
pub(super) struct Reading {
    cut: Arc<Cut>,
    schema: SchemaRef,
    request: ScanRequest,
    after: Position,
    through: Position,
    direction: Direction,
    /// Rows still wanted.
    left: u64,
    scan: Option<Scan>,
    /// Rows that were read backward: the next ones are last.
    block: Vec<RecordBatch>,
    /// Rows that are read backward at once.
    block_rows: usize,
    counts: Counts,
}

impl Reading {
    /// Reads what a scan has after one position and up to another, in a direction, at most `left` rows.
    pub(super) fn new(
        wanted: &Wanted,
        request: &ScanRequest,
        (after, through): (Position, Position),
        direction: Direction,
        left: Option<usize>,
        counts: Counts,
    ) -> Self {
        Self {
            cut: Arc::clone(&wanted.cut),
            schema: Arc::clone(&wanted.schema),
            request: request.clone(),
            after,
            through,
            direction,
            left: left.map_or(u64::MAX, |left| left as u64),
            scan: None,
            block: Vec::new(),
            block_rows: SQL_BLOCK_ROWS,
            counts,
        }
    }

    /// The next rows, at least one.
    pub(super) async fn next(&mut self) -> Result<Option<RecordBatch>, ReadError> {
        let batch = match self.direction {
            Direction::Forward => self.next_forward().await?,
            Direction::Backward => self.next_backward().await?,
        };
        let Some(batch) = batch else {
            return Ok(None);
        };
        self.left = self.left.saturating_sub(batch.num_rows() as u64);
        self.counts.output_rows.add(batch.num_rows());
        Ok(Some(self.given(batch)))
    }

    async fn next_forward(&mut self) -> Result<Option<RecordBatch>, ReadError> {
        loop {
            let mut scan = match self.scan.take() {
                Some(scan) => scan,
                None => match self.begin().await? {
                    Some(scan) => scan,
                    None => return Ok(None),
                },
            };
            let before = scan.rows_read();
            let next = scan.next().await?;
            self.counts.add(before, scan.rows_read());
            let Some(batch) = next else {
                continue;
            };
            self.scan = Some(scan);
            if batch.rows.num_rows() > 0 {
                return Ok(Some(batch.rows));
            }
        }
    }

    /// Begins to read where this is, which is behind that then. Where few rows are wanted, no others are read.
    async fn begin(&mut self) -> Result<Option<Scan>, ReadError> {
        if self.left == 0 || self.after >= self.through {
            return Ok(None);
        }
        let mut request = self.range(self.after, self.through);
        let mut end = self.through;
        if self.left <= SQL_BLOCK_ROWS as u64 && request.table != Table::Entities {
            match nth_row(&self.cut, &request, self.direction, self.left as usize).await? {
                Some(last) => end = last,
                None => return Ok(None),
            }
            request.through = Some(end);
        }
        request.limit = Some(self.left).filter(|left| *left < u64::MAX);
        self.after = end;
        self.cut.tenant.scan(&request).map(Some)
    }

    /// A scan of what comes after a position and up to another.
    fn range(&self, after: Position, through: Position) -> ScanRequest {
        let mut request = self.request.clone();
        if request.table != Table::Entities {
            (request.after, request.through) = (after, Some(through));
        }
        request
    }

    async fn next_backward(&mut self) -> Result<Option<RecordBatch>, ReadError> {
        while self.block.is_empty() {
            if self.left == 0 || self.through <= self.after {
                return Ok(None);
            }
            self.read_block().await?;
        }
        let Some(batch) = self.block.pop() else {
            return Ok(None);
        };
        let count = u32::try_from(batch.num_rows()).unwrap_or(u32::MAX);
        let backward: UInt32Array = (0..count).rev().map(Some).collect();
        let batch = take_record_batch(&batch, &backward).expect("all rows of a batch are in it");
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        Ok(Some(batch.slice(0, batch.num_rows().min(left))))
    }

    /// Reads the last rows up to where this is; it is before them then.
    async fn read_block(&mut self) -> Result<(), ReadError> {
        loop {
            let left = usize::try_from(self.left).unwrap_or(usize::MAX);
            let count = self.block_rows.min(left);
            let all = self.range(self.after, self.through);
            let Some(start) = nth_row(&self.cut, &all, self.direction, count).await? else {
                self.through = self.after;
                return Ok(());
            };
            if self.read_from(start, count).await? {
                self.through = start - 1;
                return Ok(());
            }
            self.block.clear();
            self.block_rows = count / 4;
        }
    }

    /// Reads the rows from a position on; false if they are too large to be held.
    async fn read_from(&mut self, start: Position, count: usize) -> Result<bool, ReadError> {
        let request = self.range(start - 1, self.through);
        let mut scan = self.cut.tenant.scan(&request)?;
        let mut bytes = 0;
        loop {
            let before = scan.rows_read();
            let next = scan.next().await?;
            self.counts.add(before, scan.rows_read());
            let Some(batch) = next else {
                return Ok(true);
            };
            if batch.rows.num_rows() == 0 {
                continue;
            }
            bytes += batch.rows.get_array_memory_size();
            self.block.push(batch.rows);
            if bytes > SQL_BLOCK_BYTES && count > 4 {
                return Ok(false);
            }
        }
    }

    /// The columns that are wanted.
    fn given(&self, batch: RecordBatch) -> RecordBatch {
        if !self.schema.fields().is_empty() {
            return batch;
        }
        let count = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &count)
            .expect("no columns have any number of rows")
    }
}

/// See [`Tenant::nth_row`](crate::engine::tenant::Tenant::nth_row); looked for where waiting for the disk is allowed.
fn nth_row(
    cut: &Arc<Cut>,
    request: &ScanRequest,
    direction: Direction,
    count: usize,
) -> impl Future<Output = Result<Option<Position>, ReadError>> + use<> {
    let (cut, request) = (Arc::clone(cut), request.clone());
    let looking = move || cut.tenant.nth_row(&request, direction, count);
    async {
        spawn_blocking(looking)
            .await
            .expect("reading does not panic")
    }
}

/// What one partition counts.
pub(super) struct Counts {
    rows_read: Count,
    from_segments: Count,
    from_log: Count,
    output_rows: Count,
}

impl Counts {
    pub(super) fn new(metrics: &ExecutionPlanMetricsSet, partition: usize) -> Self {
        let counter = |name: &'static str| MetricBuilder::new(metrics).counter(name, partition);
        Self {
            rows_read: counter("rows_read"),
            from_segments: counter("rows_from_segments"),
            from_log: counter("rows_from_log"),
            output_rows: MetricBuilder::new(metrics).output_rows(partition),
        }
    }

    fn add(&self, before: RowsRead, now: RowsRead) {
        let (segments, log) = (now.segments - before.segments, now.log - before.log);
        self.from_segments.add(segments);
        self.from_log.add(log);
        self.rows_read.add(segments + log);
    }
}
