//! Results in types that every client reads: no views, whose buffers are shipped whole, no dictionaries, no union of all
//! that JSON can be.

use std::sync::Arc;

use arrow::{
    array::{RecordBatch, RecordBatchOptions},
    datatypes::{DataType, FieldRef, SchemaRef},
};
use datafusion::{
    common::Column,
    error::Result,
    logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast},
};
use datafusion_functions_json::{JSON_UNION_DATA_TYPE, udfs::json_union_to_text_udf};

/// A plan with the same rows in plain types.
pub(super) fn plain(plan: LogicalPlan) -> Result<LogicalPlan> {
    let is_plain = |field: &FieldRef| plain_type(field.data_type()).is_none();
    if plan.schema().fields().iter().all(is_plain) || !is_query(&plan) {
        return Ok(plan);
    }
    let columns = plan.schema().iter().map(|(qualifier, field)| {
        let column = Expr::Column(Column::from((qualifier, field)));
        let Some(data_type) = plain_type(field.data_type()) else {
            return column;
        };
        let value = if *field.data_type() == *JSON_UNION_DATA_TYPE {
            json_union_to_text_udf().call(vec![column])
        } else {
            column
        };
        cast(value, data_type).alias_qualified(qualifier.cloned(), field.name())
    });
    let columns = columns.collect::<Vec<_>>();
    LogicalPlanBuilder::from(plan).project(columns)?.build()
}

fn is_query(plan: &LogicalPlan) -> bool {
    !matches!(
        plan,
        LogicalPlan::Explain(_) | LogicalPlan::Analyze(_) | LogicalPlan::DescribeTable(_)
    )
}

/// What is sent in the place of a type; `None`: itself.
fn plain_type(of: &DataType) -> Option<DataType> {
    if *of == *JSON_UNION_DATA_TYPE {
        return Some(DataType::Utf8);
    }
    let item = |field: &FieldRef| {
        let plain = plain_type(field.data_type())?;
        Some(Arc::new(field.as_ref().clone().with_data_type(plain)))
    };
    match of {
        DataType::Utf8View => Some(DataType::Utf8),
        DataType::BinaryView => Some(DataType::Binary),
        DataType::Dictionary(_, values) => {
            Some(plain_type(values).unwrap_or_else(|| values.as_ref().clone()))
        }
        DataType::RunEndEncoded(_, values) => {
            Some(plain_type(values.data_type()).unwrap_or_else(|| values.data_type().clone()))
        }
        DataType::List(field) => item(field).map(DataType::List),
        DataType::ListView(field) => Some(DataType::List(
            item(field).unwrap_or_else(|| Arc::clone(field)),
        )),
        DataType::LargeList(field) => item(field).map(DataType::LargeList),
        DataType::LargeListView(field) => Some(DataType::LargeList(
            item(field).unwrap_or_else(|| Arc::clone(field)),
        )),
        DataType::FixedSizeList(field, size) => {
            item(field).map(|field| DataType::FixedSizeList(field, *size))
        }
        DataType::Struct(fields) if fields.iter().any(|field| item(field).is_some()) => {
            let plain = fields
                .iter()
                .map(|field| item(field).unwrap_or_else(|| Arc::clone(field)));
            Some(DataType::Struct(plain.collect()))
        }
        _ => None,
    }
}

/// Rows under the schema that was told, from which that of the running plan may differ in what cannot be null.
pub(super) fn with_schema(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    if rows.schema_ref() == schema {
        return Ok(rows.clone());
    }
    let count = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    let columns = rows.columns().to_vec();
    Ok(RecordBatch::try_new_with_options(
        Arc::clone(schema),
        columns,
        &count,
    )?)
}
