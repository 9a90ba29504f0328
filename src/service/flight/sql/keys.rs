//! Keys: what identifies the rows of a table, and that events belong to entities. Nothing enforces them but the log itself.

use std::sync::{Arc, LazyLock};

use arrow::{
    array::{ArrayRef, Int32Array, RecordBatch, StringArray, UInt8Array},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use arrow_flight::sql::{
    CommandGetCrossReference, CommandGetExportedKeys, CommandGetImportedKeys,
    CommandGetPrimaryKeys, UpdateDeleteRules,
};

use super::{
    super::super::status::Refusal,
    metadata::{shared, unfitting},
    tables::has_type,
};
use crate::{engine::tenant::Tenant, types::scan::Table};

const ENTITY_ID: &str = "entity_id";
const POSITION: &str = "position";
/// Rows of both tables are made and kept by the log: there is nothing to do when one changes.
const RULE: UpdateDeleteRules = UpdateDeleteRules::NoAction;

static PRIMARY: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("catalog_name", DataType::Utf8, true),
        Field::new("db_schema_name", DataType::Utf8, true),
        Field::new("table_name", DataType::Utf8, false),
        Field::new("column_name", DataType::Utf8, false),
        Field::new("key_name", DataType::Utf8, true),
        Field::new("key_sequence", DataType::Int32, false),
    ]))
});

static FOREIGN: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("pk_catalog_name", DataType::Utf8, true),
        Field::new("pk_db_schema_name", DataType::Utf8, true),
        Field::new("pk_table_name", DataType::Utf8, false),
        Field::new("pk_column_name", DataType::Utf8, false),
        Field::new("fk_catalog_name", DataType::Utf8, true),
        Field::new("fk_db_schema_name", DataType::Utf8, true),
        Field::new("fk_table_name", DataType::Utf8, false),
        Field::new("fk_column_name", DataType::Utf8, false),
        Field::new("key_sequence", DataType::Int32, false),
        Field::new("fk_key_name", DataType::Utf8, true),
        Field::new("pk_key_name", DataType::Utf8, true),
        Field::new("update_rule", DataType::UInt8, false),
        Field::new("delete_rule", DataType::UInt8, false),
    ]))
});

pub(super) fn primary_schema() -> SchemaRef {
    shared(&PRIMARY)
}

pub(super) fn foreign_schema() -> SchemaRef {
    shared(&FOREIGN)
}

/// The column that identifies the rows of a table; no row if there is no such table.
pub(super) fn primary(
    tenant: &Tenant,
    asked: &CommandGetPrimaryKeys,
) -> Result<RecordBatch, Refusal> {
    let named = Named {
        catalog: asked.catalog.as_deref(),
        schema: asked.db_schema.as_deref(),
        table: &asked.table,
    };
    let schemas = [
        (Table::SCHEMA, Table::ENTITIES, ENTITY_ID),
        (Table::SCHEMA, Table::EVENTS, POSITION),
        (Table::TYPES, named.table, POSITION),
    ];
    let rows = schemas
        .into_iter()
        .filter(|(schema, table, _)| named.is(tenant, schema, table));
    let mut rows: Vec<_> = rows.collect();
    if rows.last().is_some_and(|last| last.0 == Table::TYPES) && !has_type(tenant, named.table)? {
        rows.pop();
    }
    let catalog = tenant.id().as_str();
    let columns: Vec<ArrayRef> = vec![
        texts(rows.iter().map(|_| catalog)),
        texts(rows.iter().map(|(schema, _, _)| *schema)),
        texts(rows.iter().map(|(_, table, _)| *table)),
        texts(rows.iter().map(|(_, _, column)| *column)),
        Arc::new(StringArray::new_null(rows.len())),
        Arc::new(Int32Array::from_iter_values(rows.iter().map(|_| 1))),
    ];
    RecordBatch::try_new(primary_schema(), columns).map_err(|e| unfitting(&e))
}

/// The foreign keys that refer to a table.
pub(super) fn exported(
    tenant: &Tenant,
    asked: &CommandGetExportedKeys,
) -> Result<RecordBatch, Refusal> {
    let named = Named {
        catalog: asked.catalog.as_deref(),
        schema: asked.db_schema.as_deref(),
        table: &asked.table,
    };
    foreign(tenant, named.is(tenant, Table::SCHEMA, Table::ENTITIES))
}

/// The foreign keys of a table.
pub(super) fn imported(
    tenant: &Tenant,
    asked: &CommandGetImportedKeys,
) -> Result<RecordBatch, Refusal> {
    let named = Named {
        catalog: asked.catalog.as_deref(),
        schema: asked.db_schema.as_deref(),
        table: &asked.table,
    };
    foreign(tenant, named.is(tenant, Table::SCHEMA, Table::EVENTS))
}

/// The foreign keys of one table that refer to another.
pub(super) fn crossing(
    tenant: &Tenant,
    asked: &CommandGetCrossReference,
) -> Result<RecordBatch, Refusal> {
    let primary = Named {
        catalog: asked.pk_catalog.as_deref(),
        schema: asked.pk_db_schema.as_deref(),
        table: &asked.pk_table,
    };
    let foreign_named = Named {
        catalog: asked.fk_catalog.as_deref(),
        schema: asked.fk_db_schema.as_deref(),
        table: &asked.fk_table,
    };
    let is = primary.is(tenant, Table::SCHEMA, Table::ENTITIES)
        && foreign_named.is(tenant, Table::SCHEMA, Table::EVENTS);
    foreign(tenant, is)
}

/// The one foreign key, that of events to their entity; or none.
fn foreign(tenant: &Tenant, is: bool) -> Result<RecordBatch, Refusal> {
    let count = usize::from(is);
    let text = |text: &str| texts(std::iter::repeat_n(text, count));
    let rule = || -> ArrayRef {
        let rule = u8::try_from(i32::from(RULE)).unwrap_or_default();
        Arc::new(UInt8Array::from_iter_values(std::iter::repeat_n(
            rule, count,
        )))
    };
    let catalog = tenant.id().as_str();
    let columns = vec![
        text(catalog),
        text(Table::SCHEMA),
        text(Table::ENTITIES),
        text(ENTITY_ID),
        text(catalog),
        text(Table::SCHEMA),
        text(Table::EVENTS),
        text(ENTITY_ID),
        Arc::new(Int32Array::from_iter_values(std::iter::repeat_n(1, count))) as ArrayRef,
        Arc::new(StringArray::new_null(count)),
        Arc::new(StringArray::new_null(count)),
        rule(),
        rule(),
    ];
    RecordBatch::try_new(foreign_schema(), columns).map_err(|e| unfitting(&e))
}

/// A table, by exact names; those that are left out are any.
struct Named<'a> {
    catalog: Option<&'a str>,
    schema: Option<&'a str>,
    table: &'a str,
}

impl Named<'_> {
    fn is(&self, tenant: &Tenant, schema: &str, table: &str) -> bool {
        self.catalog.is_none_or(|name| name == tenant.id().as_str())
            && self.schema.is_none_or(|name| name == schema)
            && self.table == table
    }
}

fn texts<'a>(texts: impl Iterator<Item = &'a str>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(texts))
}
