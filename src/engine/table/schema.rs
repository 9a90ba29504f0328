//! The columns of each table. Whoever tells a schema, and whoever sends rows, takes it from here.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::{
    storage::segment::schema::{ENTITY_ID, SCHEMA},
    types::{append::Violations, read::ReadError, scan::Table},
};

pub(crate) const EVENTS: &str = "events";
pub(crate) const FIRST_POSITION: &str = "first_position";
pub(crate) const LAST_POSITION: &str = "last_position";

static ENTITIES: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new(ENTITY_ID, DataType::Utf8, false),
        Field::new(EVENTS, DataType::Int64, false),
        Field::new(FIRST_POSITION, DataType::Int64, false),
        Field::new(LAST_POSITION, DataType::Int64, false),
    ]))
});

/// The schema of some columns of a table, in their order; none named: all of them.
///
/// # Errors
/// `Invalid` if the table does not have one of them, or one is named twice.
pub(crate) fn of(table: &Table, columns: &[String]) -> Result<SchemaRef, ReadError> {
    let all = match table {
        Table::Events | Table::Type(_) => &*SCHEMA,
        Table::Entities => &*ENTITIES,
    };
    if columns.is_empty() {
        return Ok(Arc::clone(all));
    }
    let invalid = |what| Err(ReadError::Invalid(Violations::one("columns", what)));
    let mut fields = Vec::with_capacity(columns.len());
    for (i, name) in columns.iter().enumerate() {
        let Some((_, field)) = all.fields().find(name) else {
            let known: Vec<_> = all.fields().iter().map(|f| f.name().as_str()).collect();
            let known = known.join(", ");
            return invalid(format!(
                "{table} has no column `{name}`; its columns are {known}"
            ));
        };
        if columns[..i].contains(name) {
            return invalid(format!("`{name}` is named twice"));
        }
        fields.push(Arc::clone(field));
    }
    Ok(Arc::new(Schema::new(fields)))
}
