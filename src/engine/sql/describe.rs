//! What there is, for those who list tables instead of naming them in a statement.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};

use super::{catalog::Cut, wire};
use crate::{
    engine::tenant::Tenant,
    types::{
        id::Position,
        read::{AsOf, ReadError},
        scan::Table,
    },
};

impl Tenant {
    /// The columns of a table, as `SELECT *` gives them.
    pub fn sql_table_schema(&self, table: &Table) -> SchemaRef {
        let schema = Cut::new(self, self.head()).table(table.clone()).schema();
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
