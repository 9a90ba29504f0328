//! A scan as a part of a plan: of some columns of a table, under the conditions that the index knows of.
//!
//! Events come in the order of positions, and so of times of recording; entities in that of their names. A scan of many
//! events is divided into consecutive ranges of positions, which are read side by side. Where a query wants the last rows
//! first, the scan reads backward, a block at a time, and no further than wanted: DataFusion then sorts nothing.

use std::{fmt, sync::Arc};

use arrow::{
    array::{RecordBatch, RecordBatchOptions, UInt32Array},
    compute::{SortOptions, take_record_batch},
    datatypes::{Schema, SchemaRef},
};
use datafusion::{
    common::{
        ColumnStatistics, ScalarValue, Statistics, stats::Precision, tree_node::TreeNodeRecursion,
    },
    error::{DataFusionError, Result},
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::{EquivalenceProperties, PhysicalExpr, PhysicalSortExpr, expressions::Column},
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
        SortOrderPushdownResult,
        execution_plan::{Boundedness, EmissionType},
        metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet},
        statistics::StatisticsArgs,
        stream::RecordBatchStreamAdapter,
    },
};
use futures_util::stream;
use tokio::task::spawn_blocking;

use super::{SqlError, catalog::Cut, pushdown::Conditions};
use crate::{
    engine::table::{Scan, rows::RowsRead},
    storage::segment::schema::{ENTITY_ID, POSITION, RECORDED_AT},
    types::{
        id::Position,
        limits::{SQL_BLOCK_BYTES, SQL_BLOCK_ROWS, SQL_PARTITION_EVENTS_MIN},
        read::{AsOf, Direction, ReadError},
        scan::{ScanRequest, Table},
    },
};

/// What a query wants of a table.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) cut: Arc<Cut>,
    pub(super) table: Table,
    /// Of the columns that are wanted; there may be none.
    pub(super) schema: SchemaRef,
    /// The conditions that the scan takes, as they are shown.
    pub(super) filters: Vec<String>,
}

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct ScanPlan {
    wanted: Wanted,
    /// The scan of all partitions.
    request: ScanRequest,
    /// What each partition reads: the positions after one and up to another.
    ranges: Vec<(Position, Position)>,
    direction: Direction,
    /// Rows of each partition that are wanted, at most.
    fetch: Option<usize>,
    /// How many rows there are, if that is known.
    rows: Option<u64>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl ScanPlan {
    /// `None` if no row fulfils the conditions.
    pub(super) fn new(
        wanted: Wanted,
        conditions: Conditions,
        partitions: usize,
        limit: Option<usize>,
    ) -> Result<Option<Self>, ReadError> {
        let Some((mut filter, mut after, through)) = conditions.into_filter() else {
            return Ok(None);
        };
        let Cut { tenant, head, .. } = &*wanted.cut;
        let is_entities = wanted.table == Table::Entities;
        let mut through = through.map_or(*head, |through| through.min(*head));
        if !filter.recorded.is_all() && after < through {
            let recorded = tenant.log.recorded_in(filter.recorded, after, through)?;
            (after, through) = (recorded.start - 1, recorded.end.saturating_sub(1));
        }
        filter.recorded = crate::types::read::TimeRange::default();
        if after >= through {
            return Ok(None);
        }
        let mut columns: Vec<_> = wanted
            .schema
            .fields()
            .iter()
            .map(|f| f.name().clone())
            .collect();
        if columns.is_empty() {
            // None named are all of them.
            let narrow = if is_entities { ENTITY_ID } else { POSITION };
            columns.push(narrow.to_owned());
        }
        let mut request = ScanRequest {
            table: wanted.table.clone(),
            columns,
            filter,
            log_id: Some(tenant.log_id()),
            ..ScanRequest::default()
        };
        let rows = if is_entities {
            request.as_of = Some(AsOf::Position(*head));
            None
        } else {
            (request.after, request.through) = (after, Some(through));
            tenant.count_rows(&request)?
        };
        if rows == Some(0) {
            return Ok(None);
        }
        let divided = match limit {
            None if !is_entities => partitions as u64,
            // The first ones are in one of them.
            _ => 1,
        };
        let plan = Self {
            properties: properties(&wanted, Direction::Forward, 1),
            wanted,
            request,
            ranges: divide(after, through, divided),
            direction: Direction::Forward,
            fetch: limit,
            rows,
            metrics: ExecutionPlanMetricsSet::new(),
        };
        Ok(Some(plan.with_properties()))
    }

    fn with_properties(mut self) -> Self {
        self.properties = properties(&self.wanted, self.direction, self.ranges.len());
        self
    }

    /// The direction that a scan has to read in, so that its rows are in some order; `None` if it has no such one.
    fn direction_for(&self, order: &[PhysicalSortExpr]) -> Option<Direction> {
        if self.wanted.table == Table::Entities {
            return None;
        }
        let mut wanted = None;
        for key in order {
            let column = key.expr.downcast_ref::<Column>()?;
            let direction = if key.options.descending {
                Direction::Backward
            } else {
                Direction::Forward
            };
            if *wanted.get_or_insert(direction) != direction {
                return None;
            }
            match column.name() {
                // No two have the same: what comes behind does not matter.
                POSITION => return wanted,
                RECORDED_AT => {}
                _ => return None,
            }
        }
        wanted
    }

    fn statistics(&self, partition: Option<usize>) -> Statistics {
        let mut statistics = Statistics::new_unknown(&self.wanted.schema);
        let (first, last) = match partition {
            None => (self.ranges.first(), self.ranges.last()),
            Some(one) => (self.ranges.get(one), self.ranges.get(one)),
        };
        let (Some((after, _)), Some((_, through))) = (first, last) else {
            return statistics;
        };
        let are_all = self.rows
            == Some(
                self.ranges
                    .iter()
                    .map(|(after, through)| through - after)
                    .sum(),
            );
        let rows = match partition {
            None => self.rows,
            Some(_) if are_all => Some(through - after),
            Some(_) => None,
        };
        if let Some(rows) = rows.and_then(|rows| usize::try_from(rows).ok()) {
            statistics.num_rows = Precision::Exact(rows);
        }
        if self.wanted.table == Table::Entities {
            return statistics;
        }
        let position = |position: Position| {
            let position = ScalarValue::Int64(Some(position.cast_signed()));
            if are_all {
                Precision::Exact(position)
            } else {
                Precision::Inexact(position)
            }
        };
        let fields = self.wanted.schema.fields().iter();
        for (field, column) in fields.zip(&mut statistics.column_statistics) {
            if !field.is_nullable() {
                column.null_count = Precision::Exact(0);
            }
            if field.name() == POSITION {
                *column = ColumnStatistics {
                    min_value: position(after + 1),
                    max_value: position(*through),
                    ..column.clone()
                };
            }
        }
        statistics
    }
}

fn properties(wanted: &Wanted, direction: Direction, partitions: usize) -> Arc<PlanProperties> {
    let schema = &wanted.schema;
    let options = SortOptions {
        descending: direction == Direction::Backward,
        nulls_first: direction == Direction::Backward,
    };
    let names: &[&str] = match wanted.table {
        Table::Entities => &[ENTITY_ID],
        Table::Events | Table::Type(_) => &[POSITION, RECORDED_AT],
    };
    let orders = names.iter().filter_map(|name| {
        let column = Column::new_with_schema(name, schema).ok()?;
        Some([PhysicalSortExpr::new(Arc::new(column), options)])
    });
    Arc::new(PlanProperties::new(
        EquivalenceProperties::new_with_orderings(Arc::clone(schema), orders),
        Partitioning::UnknownPartitioning(partitions),
        EmissionType::Incremental,
        Boundedness::Bounded,
    ))
}

/// Consecutive ranges, no more than `most`, of many positions each.
fn divide(after: Position, through: Position, most: u64) -> Vec<(Position, Position)> {
    let positions = through - after;
    let count = (positions / SQL_PARTITION_EVENTS_MIN).clamp(1, most.max(1));
    let bound = |n: u64| after + positions / count * n + (positions % count) * n / count;
    (0..count).map(|n| (bound(n), bound(n + 1))).collect()
}

impl DisplayAs for ScanPlan {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let schema = self.wanted.schema.fields().iter();
        let columns: Vec<_> = schema.map(|field| field.name().as_str()).collect();
        write!(
            f,
            "AnnalsScan: table={}, columns=[{}]",
            self.wanted.table,
            columns.join(", ")
        )?;
        if self.wanted.table != Table::Entities
            && let (Some((after, _)), Some((_, through))) =
                (self.ranges.first(), self.ranges.last())
        {
            write!(f, ", positions={}..={through}", after + 1)?;
        }
        if !self.wanted.filters.is_empty() {
            write!(f, ", filters=[{}]", self.wanted.filters.join(", "))?;
        }
        write!(f, ", partitions={}", self.ranges.len())?;
        if self.direction == Direction::Backward {
            f.write_str(", backward")?;
        }
        match self.fetch {
            Some(fetch) => write!(f, ", limit={fetch}"),
            None => Ok(()),
        }
    }
}

impl ExecutionPlan for ScanPlan {
    fn name(&self) -> &'static str {
        "AnnalsScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children_and_same_properties(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, partition: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let Some(&(after, through)) = self.ranges.get(partition) else {
            let told = format!("there is no partition {partition} of a scan");
            return Err(DataFusionError::Internal(told));
        };
        let reading = Reading {
            cut: Arc::clone(&self.wanted.cut),
            schema: Arc::clone(&self.wanted.schema),
            request: self.request.clone(),
            after,
            through,
            direction: self.direction,
            left: self.fetch.map_or(u64::MAX, |fetch| fetch as u64),
            scan: None,
            block: Vec::new(),
            block_rows: SQL_BLOCK_ROWS,
            ended: false,
            counts: Counts::new(&self.metrics, partition),
        };
        let batches = stream::try_unfold(reading, |mut reading| async {
            let next = reading.next().await.map_err(SqlError::from)?;
            Ok(next.map(|batch| (batch, reading)))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(
            Arc::clone(&self.wanted.schema),
            batches,
        )))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn statistics_from_inputs(
        &self,
        _: &[Arc<Statistics>],
        args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        let statistics = self.statistics(args.partition());
        Ok(Arc::new(match self.fetch {
            Some(_) => statistics.with_fetch(self.fetch, 0, self.ranges.len())?,
            None => statistics,
        }))
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        let mut plan = self.clone();
        plan.fetch = limit;
        // Few rows are all in one partition.
        if limit.is_some_and(|limit| limit as u64 <= SQL_PARTITION_EVENTS_MIN)
            && let (Some((after, _)), Some((_, through))) =
                (plan.ranges.first(), plan.ranges.last())
        {
            plan.ranges = vec![(*after, *through)];
        }
        Some(Arc::new(plan.with_properties()))
    }

    fn fetch(&self) -> Option<usize> {
        self.fetch
    }

    fn try_pushdown_sort(
        &self,
        order: &[PhysicalSortExpr],
    ) -> Result<SortOrderPushdownResult<Arc<dyn ExecutionPlan>>> {
        // The first ones are others than the last ones.
        if self.fetch.is_some() {
            return Ok(SortOrderPushdownResult::Unsupported);
        }
        Ok(match self.direction_for(order) {
            Some(direction) => {
                let mut plan = self.clone();
                plan.direction = direction;
                SortOrderPushdownResult::Exact {
                    inner: Arc::new(plan.with_properties()),
                }
            }
            None => SortOrderPushdownResult::Unsupported,
        })
    }
}

/// What one partition counts.
struct Counts {
    rows_read: Count,
    from_segments: Count,
    from_log: Count,
    output_rows: Count,
}

impl Counts {
    fn new(metrics: &ExecutionPlanMetricsSet, partition: usize) -> Self {
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

/// A partition that is being read.
struct Reading {
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
    ended: bool,
    counts: Counts,
}

impl Reading {
    /// The next rows, at least one.
    async fn next(&mut self) -> Result<Option<RecordBatch>, ReadError> {
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
        if self.ended || self.left == 0 {
            return Ok(None);
        }
        let mut scan = match self.scan.take() {
            Some(scan) => scan,
            None => self.cut.tenant.scan(&self.range(self.after, self.left))?,
        };
        loop {
            let before = scan.rows_read();
            let next = scan.next().await?;
            let now = scan.rows_read();
            self.counts.add(before, now);
            match next {
                Some(batch) if batch.rows.num_rows() > 0 => {
                    let is_entities = self.request.table == Table::Entities;
                    if is_entities {
                        self.counts.rows_read.add(batch.rows.num_rows());
                    }
                    self.scan = Some(scan);
                    return Ok(Some(batch.rows));
                }
                Some(_) => {}
                None => {
                    self.ended = true;
                    return Ok(None);
                }
            }
        }
    }

    /// A scan of what comes after a position, and up to where this is.
    fn range(&self, after: Position, limit: u64) -> ScanRequest {
        let mut request = self.request.clone();
        if request.table != Table::Entities {
            (request.after, request.through) = (after, Some(self.through));
        }
        request.limit = Some(limit).filter(|limit| *limit < u64::MAX);
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
            let (cut, request) = (Arc::clone(&self.cut), self.range(self.after, u64::MAX));
            let start = spawn_blocking(move || cut.tenant.start_of_last(&request, count)).await;
            let Some(start) = start.expect("reading does not panic")? else {
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
        let mut scan = self.cut.tenant.scan(&self.range(start - 1, u64::MAX))?;
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
