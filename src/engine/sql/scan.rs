//! A scan as a part of a plan: of some columns of a table, under the conditions that the index knows of.
//!
//! Events come in the order of positions, and so of times of recording; entities in that of their names. A scan of many
//! events is divided into consecutive ranges of positions, which are read side by side, unless nothing but reading is to be
//! done (`undivided`). Where a query wants the last rows first, the scan reads backward, and no further than wanted:
//! DataFusion then sorts nothing.

use std::{fmt, sync::Arc};

use arrow::{compute::SortOptions, datatypes::SchemaRef};
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
        execution_plan::{Boundedness, EmissionType, SchedulingType},
        metrics::{ExecutionPlanMetricsSet, MetricsSet},
        statistics::StatisticsArgs,
        stream::RecordBatchStreamAdapter,
    },
};
use futures_util::stream;

use super::{
    SqlError,
    catalog::Cut,
    pushdown::Conditions,
    reading::{Counts, Reading},
};
use crate::{
    engine::log::set::Count,
    storage::segment::schema::{ENTITY_ID, POSITION, RECORDED_AT},
    types::{
        id::Position,
        limits::SQL_PARTITION_EVENTS_MIN,
        read::{AsOf, Direction, ReadError, TimeRange},
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
    /// How many rows there are, as far as the index tells.
    rows: Option<Count>,
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
        filter.recorded = TimeRange::default();
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
            Some(tenant.scan_count(&request, through)?)
        };
        if rows.is_some_and(|rows| rows.at_most == 0) {
            return Ok(None);
        }
        let divided = match limit {
            // Few are not worth it, wherever they are.
            None => rows.map_or(1, |rows| {
                (rows.at_most / SQL_PARTITION_EVENTS_MIN).min(partitions as u64)
            }),
            // The first ones are in one of them.
            Some(_) => 1,
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

    /// The same in one partition.
    pub(super) fn undivided(&self) -> Self {
        let mut plan = self.clone();
        let ends = self.ranges.first().zip(self.ranges.last());
        plan.ranges = ends
            .map(|((after, _), (_, through))| (*after, *through))
            .into_iter()
            .collect();
        plan.with_properties()
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
        let positions = self.ranges.iter().map(|(after, through)| through - after);
        let positions: u64 = positions.sum();
        let are_all = self
            .rows
            .is_some_and(|rows| rows.exact && rows.at_most == positions);
        let number = |rows: u64| usize::try_from(rows).unwrap_or(usize::MAX);
        statistics.num_rows = match (self.rows, partition) {
            (_, Some(_)) if are_all => Precision::Exact(number(through - after)),
            (Some(rows), None) if rows.exact => Precision::Exact(number(rows.at_most)),
            (Some(rows), None) => Precision::Inexact(number(rows.at_most)),
            (Some(rows), Some(_)) => Precision::Inexact(number(rows.at_most) / self.ranges.len()),
            (None, _) => Precision::Absent,
        };
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
    let properties = PlanProperties::new(
        EquivalenceProperties::new_with_orderings(Arc::clone(schema), orders),
        Partitioning::UnknownPartitioning(partitions),
        EmissionType::Incremental,
        Boundedness::Bounded,
    );
    // Each batch is waited for in a task, which yields.
    Arc::new(properties.with_scheduling_type(SchedulingType::Cooperative))
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
        let reading = Reading::new(
            &self.wanted,
            &self.request,
            (after, through),
            self.direction,
            self.fetch,
            Counts::new(&self.metrics, partition),
        );
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
        // Few rows are all in one partition.
        if limit.is_some_and(|limit| limit as u64 <= SQL_PARTITION_EVENTS_MIN) {
            plan = plan.undivided();
        }
        plan.fetch = limit;
        Some(Arc::new(plan))
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
