//! A rule of the planner: a scan that is read as it is, in one partition.

use std::sync::Arc;

use datafusion::{
    config::ConfigOptions,
    error::Result,
    physical_expr::expressions::Column,
    physical_optimizer::PhysicalOptimizerRule,
    physical_plan::{
        ExecutionPlan, analyze::AnalyzeExec, buffer::BufferExec,
        coalesce_partitions::CoalescePartitionsExec, execution_plan::replace_children_if_necessary,
        projection::ProjectionExec, sorts::sort_preserving_merge::SortPreservingMergeExec,
    },
};

use super::scan::ScanPlan;

/// Puts a scan that is read as it is into one partition: its rows then come in their order, and none is copied to merge
/// them.
#[derive(Debug)]
pub(super) struct Undivided;

impl PhysicalOptimizerRule for Undivided {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(in_one(&plan)?.unwrap_or(plan))
    }

    fn name(&self) -> &'static str {
        "Undivided"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// A plan that does no more than scan, in one partition; `None` if it does more.
fn in_one(plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if let Some(scan) = plan.downcast_ref::<ScanPlan>() {
        return Ok(Some(Arc::new(scan.undivided())));
    }
    let merges = plan.is::<CoalescePartitionsExec>()
        || plan.is::<SortPreservingMergeExec>()
        || plan.is::<BufferExec>();
    let is_more = !merges && !only_picks(plan) && !plan.is::<AnalyzeExec>();
    let [input] = plan.children()[..] else {
        return Ok(None);
    };
    if is_more {
        return Ok(None);
    }
    let Some(input) = in_one(input)? else {
        return Ok(None);
    };
    // One that merges may end before what it merges does.
    if merges && (plan.fetch().is_none() || plan.fetch() == input.fetch()) {
        return Ok(Some(input));
    }
    replace_children_if_necessary(Arc::clone(plan), vec![input]).map(Some)
}

/// Whether a plan gives columns as they are.
fn only_picks(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let columns = plan.downcast_ref::<ProjectionExec>();
    columns.is_some_and(|columns| {
        columns
            .expr()
            .iter()
            .all(|column| column.expr.is::<Column>())
    })
}
