//! A table, as DataFusion sees it: its columns, the conditions that a scan takes, and the scan.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::{
    catalog::{Session, TableProvider},
    error::Result,
    logical_expr::{Expr, TableProviderFilterPushDown, TableType},
    physical_plan::{ExecutionPlan, empty::EmptyExec},
};

use super::{
    SqlError,
    catalog::Cut,
    entities,
    pushdown::{Conditions, Taken},
    scan::{ScanPlan, Wanted},
};
use crate::{engine::table::schema, types::scan::Table};

/// A table as of a position.
#[derive(Debug)]
pub(super) struct TableAt {
    cut: Arc<Cut>,
    table: Table,
    schema: SchemaRef,
}

impl TableAt {
    pub(super) fn new(cut: &Arc<Cut>, table: Table) -> Self {
        let schema = match table {
            Table::Entities => Arc::clone(&entities::SCHEMA),
            Table::Events | Table::Type(_) => {
                schema::of(&table, &[]).expect("all columns of a table are columns of it")
            }
        };
        Self {
            cut: Arc::clone(cut),
            table,
            schema,
        }
    }

    fn conditions(&self) -> Conditions {
        Conditions::within(&self.table, &self.cut.within)
    }
}

#[async_trait]
impl TableProvider for TableAt {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        let support = |filter: &&Expr| match self.conditions().take(filter) {
            Taken::All => TableProviderFilterPushDown::Exact,
            Taken::Part => TableProviderFilterPushDown::Inexact,
            Taken::Nothing => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(support).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = match projection {
            Some(columns) => Arc::new(self.schema.project(columns)?),
            None => Arc::clone(&self.schema),
        };
        if self.table == Table::Entities && !entities::are_in_index(&schema) {
            return entities::compute(&self.cut, state, &schema, filters, limit).await;
        }
        let mut conditions = self.conditions();
        for filter in filters {
            conditions.take(filter);
        }
        let wanted = Wanted {
            cut: Arc::clone(&self.cut),
            table: self.table.clone(),
            schema: Arc::clone(&schema),
            filters: filters.iter().map(ToString::to_string).collect(),
        };
        let partitions = state.config().target_partitions();
        let plan = ScanPlan::new(wanted, conditions, partitions, limit).map_err(SqlError::from)?;
        Ok(match plan {
            Some(plan) => Arc::new(plan),
            None => Arc::new(EmptyExec::new(schema)),
        })
    }
}
