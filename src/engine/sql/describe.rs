//! What there is, for those who list tables instead of naming them in a statement.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};

use super::{Prepared, SqlError, SqlRequest, Statement, Within, catalog::Cut, wire};
use crate::{
    engine::tenant::Tenant,
    types::{
        id::Position,
        read::{AsOf, ReadError},
        scan::Table,
    },
};

impl Tenant {
    /// Plans a statement without running it, as [`prepare_sql`](Tenant::prepare_sql) does, with the values of its
    /// parameters: where these decide on the type of a column, the schema says so.
    ///
    /// # Errors
    /// See [`SqlError`].
    pub async fn plan_sql(&self, request: impl Into<SqlRequest>) -> Result<Prepared, SqlError> {
        self.sql.plan(Statement::new(self, request.into())).await
    }

    /// The columns of a table, as `SELECT *` gives them.
    pub fn sql_table_schema(&self, table: &Table) -> SchemaRef {
        let schema = Cut::new(self, self.head(), Within::default())
            .table(table.clone())
            .schema();
        let fields = schema.fields().iter().map(wire::plain_field);
        let fields: Vec<_> = fields.collect();
        Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
    }

    /// The position that a statement reads at, as of now or of a point of the past.
    ///
    /// # Errors
    /// There is no such point, or it is that of an entity.
    pub fn sql_head(&self, as_of: Option<AsOf>) -> Result<Position, ReadError> {
        self.as_of(as_of, &[], self.head())
    }
}
