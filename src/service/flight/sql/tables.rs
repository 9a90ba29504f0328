//! Catalogs, schemas and tables. The catalog is the tenant. Tables are listed in their order, those of types a page at a
//! time, since there may be many.

use std::collections::VecDeque;

use arrow::array::RecordBatch;
use arrow_flight::sql::{
    CommandGetCatalogs, CommandGetDbSchemas, CommandGetTableTypes, CommandGetTables,
};
use futures_util::{StreamExt, stream};

use super::{
    super::{super::status::Refusal, call::Call},
    metadata::{Batches, unbuilt},
};
use crate::{
    engine::tenant::{ListRequest, Tenant},
    types::{
        append::Violations,
        limits::{NAME_BYTES_MAX, PAGE_MAX},
        read::ReadError,
        scan::Table,
        text::Text,
    },
};

const INFORMATION_SCHEMA: &str = "information_schema";
/// The tables of the information schema, in order.
const INFORMATION: [&str; 7] = [
    "columns",
    "df_settings",
    "parameters",
    "routines",
    "schemata",
    "tables",
    "views",
];
const TABLE: &str = "TABLE";
const VIEW: &str = "VIEW";
/// Longest pattern: each character of a name escaped. It becomes a program, of many times its bytes.
const PATTERN_BYTES_MAX: usize = 2 * NAME_BYTES_MAX;
/// Characters of patterns: any text, any character, and what makes the next one stand for itself.
const WILD: [char; 3] = ['%', '_', '\\'];

pub(super) fn catalogs(tenant: &Tenant, asked: CommandGetCatalogs) -> Result<RecordBatch, Refusal> {
    let mut builder = asked.into_builder();
    builder.append(tenant.id().as_str());
    builder.build().map_err(|e| unbuilt(&e))
}

pub(super) fn schemas(tenant: &Tenant, asked: CommandGetDbSchemas) -> Result<RecordBatch, Refusal> {
    check(asked.db_schema_filter_pattern.as_deref())?;
    let mut builder = asked.into_builder();
    for schema in [Table::SCHEMA, INFORMATION_SCHEMA, Table::TYPES] {
        builder.append(tenant.id().as_str(), schema);
    }
    builder.build().map_err(|e| unbuilt(&e))
}

pub(super) fn types(asked: CommandGetTableTypes) -> Result<RecordBatch, Refusal> {
    let mut builder = asked.into_builder();
    builder.append(TABLE);
    builder.append(VIEW);
    builder.build().map_err(|e| unbuilt(&e))
}

/// The tables that a command asks for, with their schemas if it asks for these.
pub(super) fn tables(call: &Call, asked: &CommandGetTables) -> Result<Batches, Refusal> {
    check(asked.db_schema_filter_pattern.as_deref())?;
    check(asked.table_name_filter_pattern.as_deref())?;
    let mut asked = asked.clone();
    if !asked.table_types.is_empty() {
        // Each is looked for by itself.
        let wanted = std::mem::take(&mut asked.table_types);
        let known = [TABLE, VIEW].into_iter().map(str::to_owned);
        asked.table_types = known.filter(|known| wanted.contains(known)).collect();
        if asked.table_types.is_empty() {
            return Ok(stream::empty().boxed());
        }
    }
    let head = call.tenant.sql_head(call.as_of)?;
    let pattern = asked.table_name_filter_pattern.as_deref().unwrap_or("%");
    let listing = Listing {
        types: ListRequest {
            prefix: literal_start(pattern).into(),
            limit: PAGE_MAX,
            head: Some(head),
            ..ListRequest::default()
        },
        rest: [Part::Annals, Part::Information, Part::Types].into(),
        asked,
        call: call.clone(),
    };
    Ok(stream::unfold(listing, Listing::next).fuse().boxed())
}

/// Tables as they are listed.
struct Listing {
    call: Call,
    asked: CommandGetTables,
    types: ListRequest,
    rest: VecDeque<Part>,
}

enum Part {
    Annals,
    Information,
    /// From where the request says.
    Types,
}

impl Listing {
    async fn next(mut self) -> Option<(Result<RecordBatch, Refusal>, Self)> {
        loop {
            let part = self.rest.pop_front()?;
            match self.part(&part).await {
                Ok(rows) if rows.num_rows() == 0 => {}
                Ok(rows) => return Some((Ok(rows), self)),
                Err(refusal) => {
                    self.rest.clear();
                    return Some((Err(refusal), self));
                }
            }
        }
    }

    async fn part(&mut self, part: &Part) -> Result<RecordBatch, Refusal> {
        let tenant = &self.call.tenant;
        let catalog = tenant.id().as_str();
        let mut builder = self.asked.clone().into_builder();
        match part {
            Part::Annals => {
                for table in [Table::Entities, Table::Events] {
                    let schema = tenant.sql_table_schema(&table);
                    let name = table.to_string();
                    let built = builder.append(catalog, Table::SCHEMA, name, TABLE, &schema);
                    built.map_err(|e| unbuilt(&e))?;
                }
            }
            Part::Information => {
                for name in INFORMATION {
                    let schema = if self.asked.include_schema {
                        let statement = format!("select * from {INFORMATION_SCHEMA}.{name}");
                        let prepared = tenant.prepare_sql(&statement, None).await?;
                        prepared.schema
                    } else {
                        builder.schema()
                    };
                    let built = builder.append(catalog, INFORMATION_SCHEMA, name, VIEW, &schema);
                    built.map_err(|e| unbuilt(&e))?;
                }
            }
            Part::Types => {
                let page = tenant.list_event_types(&self.types)?;
                if page.more {
                    self.types.after = page.names.last().map(|last| last.name.clone());
                    self.rest.push_back(Part::Types);
                }
                for found in page.names {
                    let name = found.name.to_string();
                    let schema = tenant.sql_table_schema(&Table::Type(found.name));
                    let built = builder.append(catalog, Table::TYPES, name, TABLE, &schema);
                    built.map_err(|e| unbuilt(&e))?;
                }
            }
        }
        builder.build().map_err(|e| unbuilt(&e))
    }
}

/// Refuses a pattern that is longer than any that finds something.
fn check(pattern: Option<&str>) -> Result<(), Refusal> {
    let bytes = pattern.map_or(0, str::len);
    if bytes <= PATTERN_BYTES_MAX {
        return Ok(());
    }
    let told = format!("has {bytes} bytes, the most is {PATTERN_BYTES_MAX}");
    Err(Refusal::invalid(Violations::one("pattern", told)))
}

/// Whether an event of a type has occurred.
pub(super) fn has_type(tenant: &Tenant, name: &str) -> Result<bool, ReadError> {
    let request = ListRequest {
        prefix: name.into(),
        limit: 1,
        ..ListRequest::default()
    };
    // Of the names that begin with it, it comes first.
    let found = tenant.list_event_types(&request)?.names;
    Ok(found
        .first()
        .is_some_and(|first| first.name == Text::from(name)))
}

/// What every name that a pattern matches begins with.
fn literal_start(pattern: &str) -> &str {
    let end = pattern.find(WILD).unwrap_or(pattern.len());
    pattern.get(..end).unwrap_or_default()
}
