//! A rule of the planner: a scan that is read as it is, in one partition.

use std::sync::Arc;

use datafusion::{
    config::ConfigOptions,
    error::Result,
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
        Ok(undivided(&plan)?.unwrap_or(plan))
    }

    fn name(&self) -> &'static str {
        "Undivided"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// `None` if a plan stays as it is.
fn undivided(plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if let Some(scan) = plan.downcast_ref::<ScanPlan>() {
        return Ok(scan.is_divided().then(|| Arc::new(scan.undivided()) as _));
    }
    let [input] = plan.children()[..] else {
        return Ok(None);
    };
    let merges = plan.is::<CoalescePartitionsExec>()
        || plan.is::<SortPreservingMergeExec>()
        || plan.is::<BufferExec>();
    if merges || plan.is::<ProjectionExec>() || plan.is::<AnalyzeExec>() {
        let Some(input) = undivided(input)? else {
            return Ok(None);
        };
        if merges && plan.fetch().is_none() {
            return Ok(Some(input));
        }
        return replace_children_if_necessary(Arc::clone(plan), vec![input]).map(Some);
    }
    Ok(None)
}
