//! How a statement ends before its end. A task that is aborted, or whose time is over, ends when it yields; operators of
//! DataFusion yield with their inputs, but joins make many batches of one input, or look through many pairs for one row. So
//! joins are made to yield with every batch that they give, and their filters to look whether they should go on, and to
//! leave the thread's other tasks to another thread when they take long.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use arrow::{
    array::RecordBatch,
    datatypes::{FieldRef, Schema},
};
use datafusion::{
    common::tree_node::{Transformed, TransformedResult, TreeNode},
    error::Result,
    logical_expr::ColumnarValue,
    physical_expr::PhysicalExpr,
    physical_plan::{
        ExecutionPlan,
        coop::CooperativeExec,
        joins::{
            CrossJoinExec, HashJoinExec, NestedLoopJoinExec, NestedLoopJoinExecBuilder,
            utils::JoinFilter,
        },
        unnest::UnnestExec,
    },
};

use tokio::task::block_in_place;

use super::SqlError;

/// How long a join may keep others from running on its thread.
const KEEP_THREAD: Duration = Duration::from_millis(20);
/// How long it pauses then: until another thread has taken over.
const HAND_OVER: Duration = Duration::from_micros(200);

/// Whether a statement goes on.
#[derive(Debug)]
pub(super) struct Stop {
    stopped: AtomicBool,
    begun: Instant,
    until: Option<Instant>,
    /// When a join last left its thread to others, in milliseconds from the beginning.
    left_at: AtomicU64,
    /// How long it may take.
    after: Duration,
}

impl Stop {
    /// After a time; zero: never.
    pub(super) fn after(after: Duration) -> Arc<Self> {
        let begun = Instant::now();
        Arc::new(Self {
            stopped: AtomicBool::new(false),
            begun,
            until: Some(begun + after).filter(|_| !after.is_zero()),
            left_at: AtomicU64::new(0),
            after,
        })
    }

    /// Nobody waits for it any more.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Relaxed);
    }

    /// When its time is over.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// What is told when it is.
    pub(super) fn time_is_over(&self) -> SqlError {
        SqlError::Time { after: self.after }
    }

    fn check(&self) -> Result<(), SqlError> {
        if self.stopped.load(Relaxed) {
            return Err(SqlError::Internal("nobody waits for it".to_owned()));
        }
        match self.until {
            Some(until) if Instant::now() >= until => Err(self.time_is_over()),
            _ => Ok(()),
        }
    }

    /// Lets others run, if it is time to.
    fn leave_thread(&self) {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let now = millis(self.begun.elapsed());
        if now
            >= self
                .left_at
                .load(Relaxed)
                .saturating_add(millis(KEEP_THREAD))
        {
            self.left_at.store(now, Relaxed);
            block_in_place(|| thread::sleep(HAND_OVER));
        }
    }
}

/// A plan whose joins end when they should.
pub(super) fn stoppable(
    plan: Arc<dyn ExecutionPlan>,
    stop: &Arc<Stop>,
) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|plan| {
        let filtered: Option<Arc<dyn ExecutionPlan>> =
            if let Some(join) = plan.downcast_ref::<HashJoinExec>() {
                match join.filter() {
                    Some(filter) => {
                        let filter = Some(looking(filter, stop));
                        Some(join.builder().with_filter(filter).build_exec()?)
                    }
                    None => None,
                }
            } else if let Some(join) = plan.downcast_ref::<NestedLoopJoinExec>() {
                match join.filter() {
                    Some(filter) => {
                        let (left, right) = (Arc::clone(join.left()), Arc::clone(join.right()));
                        let join = NestedLoopJoinExecBuilder::new(left, right, *join.join_type())
                            .with_projection_ref(join.projection().clone())
                            .with_filter(Some(looking(filter, stop)));
                        Some(Arc::new(join.build()?))
                    }
                    None => None,
                }
            } else {
                None
            };
        let plan = filtered.unwrap_or(plan);
        let multiplies = plan.is::<HashJoinExec>()
            || plan.is::<NestedLoopJoinExec>()
            || plan.is::<CrossJoinExec>()
            || plan.is::<UnnestExec>();
        Ok(if multiplies {
            Transformed::yes(Arc::new(CooperativeExec::new(plan)) as _)
        } else {
            Transformed::no(plan)
        })
    })
    .data()
}

fn looking(filter: &JoinFilter, stop: &Arc<Stop>) -> JoinFilter {
    let looking = Looking {
        filter: Arc::clone(filter.expression()),
        stop: Arc::clone(stop),
    };
    JoinFilter::new(
        Arc::new(looking),
        filter.column_indices().to_vec(),
        Arc::clone(filter.schema()),
    )
}

/// A filter that looks whether it should go on.
#[derive(Debug)]
struct Looking {
    filter: Arc<dyn PhysicalExpr>,
    stop: Arc<Stop>,
}

impl PartialEq for Looking {
    fn eq(&self, other: &Self) -> bool {
        self.filter.eq(&other.filter)
    }
}

impl Eq for Looking {}

impl Hash for Looking {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.filter.hash(state);
    }
}

impl fmt::Display for Looking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.filter.fmt(f)
    }
}

impl PhysicalExpr for Looking {
    fn return_field(&self, schema: &Schema) -> Result<FieldRef> {
        self.filter.return_field(schema)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        self.stop.check()?;
        self.stop.leave_thread();
        self.filter.evaluate(batch)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.filter]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        let filter = children.into_iter().next();
        Ok(Arc::new(Self {
            filter: filter.unwrap_or_else(|| Arc::clone(&self.filter)),
            stop: Arc::clone(&self.stop),
        }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.filter.fmt_sql(f)
    }
}
