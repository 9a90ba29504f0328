//! The table of entities as SQL has it: with more columns than a scan of entities gives, which are computed from events where
//! a statement asks for one of them. Where it does not, what the index knows is all that is read.
//!
//! | column | type | from |
//! |---|---|---|
//! | `entity_id`, `events`, `first_position`, `last_position` | as in a scan | the index |
//! | `first_recorded_at`, `last_recorded_at` | timestamp, µs UTC | events |
//! | `types` | map of utf8 to int64: how many events of each type | events |

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::{
    catalog::Session,
    common::ScalarValue,
    datasource::provider_as_source,
    error::Result,
    functions::expr_fn::coalesce,
    functions_aggregate::expr_fn::{array_agg, count, max, min, sum},
    functions_nested::map::map_udf,
    logical_expr::{Expr, ExprFunctionExt, LogicalPlanBuilder, ident, lit},
    physical_plan::ExecutionPlan,
};

use super::{catalog::Cut, provider::TableAt};
use crate::{
    engine::table::schema::{self, EVENTS, FIRST_POSITION, LAST_POSITION},
    storage::segment::schema::{ENTITY_ID, EVENT_TYPE, POSITION, RECORDED_AT, TIME_ZONE},
    types::scan::Table,
};

const FIRST_RECORDED_AT: &str = "first_recorded_at";
const LAST_RECORDED_AT: &str = "last_recorded_at";
const TYPES: &str = "types";

/// The columns, those of the index first.
pub(super) static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let index =
        schema::of(&Table::Entities, &[]).expect("all columns of a table are columns of it");
    let time = DataType::Timestamp(
        arrow::datatypes::TimeUnit::Microsecond,
        Some(TIME_ZONE.into()),
    );
    let entry = DataType::Struct(
        vec![
            Field::new("key", DataType::Utf8, false),
            Field::new("value", DataType::Int64, true),
        ]
        .into(),
    );
    let entries = Arc::new(Field::new("entries", entry, false));
    let mut fields = index.fields().to_vec();
    fields.extend([
        Arc::new(Field::new(FIRST_RECORDED_AT, time.clone(), false)),
        Arc::new(Field::new(LAST_RECORDED_AT, time, false)),
        Arc::new(Field::new(TYPES, DataType::Map(entries, false), true)),
    ]);
    Arc::new(Schema::new(fields))
});

/// Whether the index knows all columns of a schema.
pub(super) fn are_in_index(schema: &Schema) -> bool {
    let computed = [FIRST_RECORDED_AT, LAST_RECORDED_AT, TYPES];
    let mut names = schema.fields().iter().map(|field| field.name().as_str());
    names.all(|name| !computed.contains(&name))
}

/// Some columns of the entities that conditions hold for, computed from their events.
pub(super) async fn compute(
    cut: &Arc<Cut>,
    state: &dyn Session,
    schema: &Schema,
    filters: &[Expr],
    limit: Option<usize>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let events = provider_as_source(Arc::new(TableAt::new(cut, Table::Events)));
    let mut plan = LogicalPlanBuilder::scan(Table::EVENTS, events, None)?;
    for filter in filters {
        plan = plan.filter(filter.clone())?;
    }
    let ends = |first: (&str, &str), last: (&str, &str)| {
        [
            min(ident(first.0)).alias(FIRST_POSITION),
            max(ident(last.0)).alias(LAST_POSITION),
            min(ident(first.1)).alias(FIRST_RECORDED_AT),
            max(ident(last.1)).alias(LAST_RECORDED_AT),
        ]
    };
    let counted = count(lit(1)).alias(EVENTS);
    let of_events = ends((POSITION, RECORDED_AT), (POSITION, RECORDED_AT));
    if schema.column_with_name(TYPES).is_some() {
        let by = [ident(ENTITY_ID), ident(EVENT_TYPE)];
        plan = plan.aggregate(by, [counted].into_iter().chain(of_events))?;
        let in_order = |column: &str| {
            let order = vec![ident(EVENT_TYPE).sort(true, false)];
            array_agg(ident(column)).order_by(order).build()
        };
        let mut of_types = vec![
            sum(ident(EVENTS)).alias(EVENTS),
            in_order(EVENT_TYPE)?.alias("names"),
            in_order(EVENTS)?.alias("counts"),
        ];
        let (first, last) = (
            (FIRST_POSITION, FIRST_RECORDED_AT),
            (LAST_POSITION, LAST_RECORDED_AT),
        );
        of_types.extend(ends(first, last));
        plan = plan.aggregate([ident(ENTITY_ID)], of_types)?;
    } else {
        let aggregates = [counted].into_iter().chain(of_events);
        plan = plan.aggregate([ident(ENTITY_ID)], aggregates)?;
    }
    // No entity is without events: what is not null is told so.
    let columns = schema.fields().iter().map(|field| {
        let name = field.name();
        let value = match name.as_str() {
            TYPES => map_udf().call(vec![ident("names"), ident("counts")]),
            ENTITY_ID => return ident(name),
            FIRST_RECORDED_AT | LAST_RECORDED_AT => {
                let never = ScalarValue::TimestampMicrosecond(Some(0), Some(TIME_ZONE.into()));
                coalesce(vec![ident(name), lit(never)])
            }
            _ => coalesce(vec![ident(name), lit(0_i64)]),
        };
        value.alias(name)
    });
    let columns: Vec<_> = columns.collect();
    let plan = plan.project(columns)?.limit(0, limit)?.build()?;
    state.create_physical_plan(&plan).await
}
