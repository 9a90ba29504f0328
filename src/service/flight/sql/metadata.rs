//! Commands that ask what there is: each has a schema of its own, which drivers compare with theirs, and is its own ticket,
//! since what it asks for is all in it.

use std::sync::Arc;

use arrow::{array::RecordBatch, datatypes::SchemaRef, error::ArrowError};
use arrow_flight::{FlightDescriptor, FlightEndpoint, FlightInfo, Ticket, error::FlightError};
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use tonic::Status;

use super::{
    super::{
        super::status::Refusal,
        any::Command,
        call::Call,
        encode::{self, Message},
    },
    keys,
    messages::{self, Source},
    misplaced, server_info, tables, type_info,
};
use crate::types::{append::Violations, kind::Kind};

/// Longest command: what is answered has it twice, and generated clients stop at 4 MiB.
const COMMAND_BYTES_MAX: usize = 1 << 20;

/// Rows as they come.
pub(super) type Batches = BoxStream<'static, Result<RecordBatch, Refusal>>;

/// Whether a command asks what there is.
pub(super) fn is(command: &Command) -> bool {
    schema(command).is_ok()
}

/// The schema of what a command gives.
pub(super) fn schema(command: &Command) -> Result<SchemaRef, Refusal> {
    Ok(match command {
        Command::CommandGetCatalogs(asked) => asked.into_builder().schema(),
        Command::CommandGetDbSchemas(asked) => asked.clone().into_builder().schema(),
        Command::CommandGetTables(asked) => asked.clone().into_builder().schema(),
        Command::CommandGetTableTypes(asked) => asked.into_builder().schema(),
        Command::CommandGetSqlInfo(_) => server_info::schema(),
        Command::CommandGetXdbcTypeInfo(_) => type_info::schema(),
        Command::CommandGetPrimaryKeys(_) => keys::primary_schema(),
        Command::CommandGetExportedKeys(_)
        | Command::CommandGetImportedKeys(_)
        | Command::CommandGetCrossReference(_) => keys::foreign_schema(),
        other => return Err(misplaced(other)),
    })
}

/// What a command gives, and the ticket for it: the command itself.
pub(super) fn info(command: &Command, descriptor: FlightDescriptor) -> Result<FlightInfo, Refusal> {
    let bytes = descriptor.cmd.len();
    if bytes > COMMAND_BYTES_MAX {
        let told = format!("has {bytes} bytes, the most is {COMMAND_BYTES_MAX}");
        return Err(Refusal::invalid(Violations::one("command", told)));
    }
    let endpoint = FlightEndpoint {
        ticket: Some(Ticket::new(descriptor.cmd.clone())),
        ..FlightEndpoint::default()
    };
    Ok(FlightInfo {
        schema: encode::schema(&*schema(command)?)?,
        flight_descriptor: Some(descriptor),
        endpoint: vec![endpoint],
        total_records: -1,
        total_bytes: -1,
        ordered: true,
        ..FlightInfo::default()
    })
}

/// The rows that a command gives.
pub(super) fn get(
    call: &Call,
    command: &Command,
) -> Result<BoxStream<'static, Result<Message, Status>>, Refusal> {
    let tenant = &call.tenant;
    let rows = match command {
        Command::CommandGetCatalogs(asked) => one(tables::catalogs(tenant, *asked)?),
        Command::CommandGetDbSchemas(asked) => one(tables::schemas(tenant, asked.clone())?),
        Command::CommandGetTables(asked) => tables::tables(call, asked)?,
        Command::CommandGetTableTypes(asked) => one(tables::types(*asked)?),
        Command::CommandGetSqlInfo(asked) => one(server_info::rows(asked)?),
        Command::CommandGetXdbcTypeInfo(asked) => one(type_info::rows(*asked)?),
        Command::CommandGetPrimaryKeys(asked) => one(keys::primary(tenant, asked)?),
        Command::CommandGetExportedKeys(asked) => one(keys::exported(tenant, asked)?),
        Command::CommandGetImportedKeys(asked) => one(keys::imported(tenant, asked)?),
        Command::CommandGetCrossReference(asked) => one(keys::crossing(tenant, asked)?),
        other => return Err(misplaced(other)),
    };
    let schema = schema(command)?;
    messages::of(&schema, Source::Batches(rows), String::new(), None, call)
}

fn one(rows: RecordBatch) -> Batches {
    stream::iter([Ok(rows)]).boxed()
}

/// Columns of ours that do not fit their own schema.
pub(super) fn unfitting(error: &ArrowError) -> Refusal {
    let told = format!("metadata could not be put into columns: {error}");
    Refusal::new(Kind::Internal, "ENCODING_FAILED", told)
}

/// As [`unfitting`], where a builder says it.
pub(super) fn unbuilt(error: &FlightError) -> Refusal {
    let told = format!("metadata could not be put into columns: {error}");
    Refusal::new(Kind::Internal, "ENCODING_FAILED", told)
}

/// A schema that is made once.
pub(super) fn shared(schema: &SchemaRef) -> SchemaRef {
    Arc::clone(schema)
}
