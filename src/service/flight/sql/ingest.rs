//! Bulk ingestion: rows appended to `events`, as by any other upload (`put`), and answered with their number.
//!
//! The table is there already, and nothing replaces it: what is asked for is appending, or appending if it is there.

use arrow_flight::sql::{CommandStatementIngest, TableExistsOption};

use super::{super::super::status::Refusal, no_transaction};
use crate::types::{append::Violations, id::TenantId, scan::Table};

/// Refuses what is not appending to the events of the tenant.
pub(in super::super) fn check(
    ingest: &CommandStatementIngest,
    tenant: &TenantId,
) -> Result<(), Refusal> {
    no_transaction(ingest.transaction_id.as_ref())?;
    if ingest
        .catalog
        .as_deref()
        .is_some_and(|c| c != tenant.as_str())
    {
        let told = format!("is not the catalog \"{tenant}\", which the tenant is");
        return Err(invalid("catalog", told));
    }
    let is_ours = ingest.schema.as_deref().is_none_or(|s| s == Table::SCHEMA);
    if !is_ours || ingest.table != Table::EVENTS {
        let told = format!(
            "is not \"{}\" in the schema \"{}\", and rows are appended to that only, of whatever type they are",
            Table::EVENTS,
            Table::SCHEMA
        );
        return Err(invalid("table", told));
    }
    if ingest.temporary {
        return Err(Refusal::unsupported("there are no temporary tables"));
    }
    let options = ingest.table_definition_options.unwrap_or_default();
    if options.if_exists() != TableExistsOption::Append {
        let told = format!(
            "the table \"{}\" is there, and is neither made anew nor replaced: ingest with the mode `append`",
            Table::EVENTS
        );
        return Err(Refusal::unsupported(told));
    }
    if let Some(option) = ingest.options.keys().min() {
        return Err(invalid(
            "options",
            format!("has `{option}`: there are none"),
        ));
    }
    Ok(())
}

fn invalid(field: &str, told: String) -> Refusal {
    Refusal::invalid(Violations::one(field, told))
}
