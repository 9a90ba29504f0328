//! Flight SQL: what ADBC, JDBC and ODBC drivers ask for, over the statements of `engine/sql`.
//!
//! - [`statement`]: ad-hoc and prepared statements → what they give, and tickets for it.
//! - [`prepared`]: prepared statements, and the values that are bound to them ([`parameters`]).
//! - [`metadata`]: catalogs, schemas, tables ([`tables`]), keys ([`keys`]), what the server can do ([`server_info`]) and its
//!   types ([`type_info`]).
//! - [`ingest`]: bulk ingestion, which goes the way of every upload (`put`).
//! - [`messages`]: rows onto the wire. [`actions`]: what actions there are.
//!
//! Invariants: the server keeps nothing between calls. A handle of a prepared statement holds the statement and the values
//! bound to it, a ticket also the position that it is read at, both under a seal. The schema of a statement is the one that
//! `engine/sql` tells, wherever it is told; that of a table is what `SELECT *` gives.
//!
//! Not here: which messages are of Flight SQL (`any`), what a statement may say and how it runs (`engine/sql`).

mod actions;
mod ingest;
mod keys;
mod messages;
mod metadata;
mod parameters;
mod prepared;
mod server_info;
mod statement;
mod tables;
mod type_info;

use arrow_flight::{FlightData, FlightDescriptor, FlightInfo, PutResult};
use bytes::Bytes;
use futures_util::stream::BoxStream;
use prost::Message as _;
use tonic::{Status, Streaming, metadata::MetadataMap};

pub(super) use self::{
    actions::{TYPES as ACTIONS, act},
    ingest::check as check_ingest,
    statement::get,
};
use super::{
    super::status::Refusal,
    any::Command,
    call::Call,
    encode::{self, Message},
    sql_ticket::SqlTicket,
    ticket::Content,
};
use crate::types::{append::Violations, kind::Kind, read::AsOf};

/// The request metadata that says as of which point of the past statements read: a position, or a time as in RFC 3339.
const AS_OF_KEY: &str = "annals-as-of";

/// What a command asks to read.
enum Asked {
    Statement(SqlTicket),
    Metadata(Command),
}

/// What a command gives, and the ticket for it.
pub(super) async fn info(
    call: &Call,
    command: Command,
    descriptor: FlightDescriptor,
) -> Result<FlightInfo, Refusal> {
    match asked(call, command)? {
        Asked::Statement(ticket) => statement::info(call, ticket, descriptor).await,
        Asked::Metadata(command) => metadata::info(&command, descriptor),
    }
}

/// The schema of what a command gives.
pub(super) async fn schema(call: &Call, command: Command) -> Result<Bytes, Refusal> {
    match asked(call, command)? {
        Asked::Statement(ticket) => {
            let planned = statement::planned(call, ticket).await?;
            encode::schema(&planned.schema)
        }
        Asked::Metadata(command) => encode::schema(&*metadata::schema(&command)?),
    }
}

/// The rows of a ticket that is a message of Flight SQL: metadata, or a statement's ticket in an envelope.
pub(super) async fn get_command(
    call: &Call,
    command: Command,
) -> Result<BoxStream<'static, Result<Message, Status>>, Refusal> {
    if let Command::TicketStatementQuery(ticket) = command {
        let ticket = call
            .tickets
            .open(&ticket.statement_handle, call.tenant.log_id())?;
        return match ticket.content {
            Content::Sql(sql) => get(call, sql, ticket.query).await,
            Content::Scan(_) => Err(invalid_ticket("the handle of the ticket is a scan")),
        };
    }
    match asked(call, command)? {
        Asked::Statement(_) => Err(invalid_ticket(
            "the ticket is a command: ask GetFlightInfo for a ticket",
        )),
        Asked::Metadata(command) => metadata::get(call, &command),
    }
}

/// What an upload that begins with a command is answered, but for bulk ingestion.
pub(super) async fn put(
    call: &Call,
    command: Command,
    first: FlightData,
    messages: Streaming<FlightData>,
) -> Result<PutResult, Refusal> {
    match command {
        Command::CommandPreparedStatementQuery(query) => {
            let handle = &query.prepared_statement_handle;
            let bound = prepared::bind(call, handle, first, messages).await?;
            Ok(PutResult {
                app_metadata: bound.encode_to_vec().into(),
            })
        }
        Command::CommandStatementUpdate(_) | Command::CommandPreparedStatementUpdate(_) => {
            Err(Refusal::unsupported(
                "statements only read here: run it as a query, and append with bulk ingestion (`adbc_ingest` into \"events\")",
            ))
        }
        Command::CommandStatementSubstraitPlan(_) => Err(no_substrait()),
        other => Err(misplaced(&other)),
    }
}

fn asked(call: &Call, command: Command) -> Result<Asked, Refusal> {
    match command {
        Command::CommandStatementQuery(query) => {
            no_transaction(query.transaction_id.as_ref())?;
            Ok(Asked::Statement(SqlTicket::new(query.query)))
        }
        Command::CommandPreparedStatementQuery(query) => {
            prepared::open(call, &query.prepared_statement_handle).map(Asked::Statement)
        }
        Command::CommandStatementSubstraitPlan(_) => Err(no_substrait()),
        other if metadata::is(&other) => Ok(Asked::Metadata(other)),
        other => Err(misplaced(&other)),
    }
}

/// The point of the past that a call's metadata names, if it does.
pub(super) fn as_of(metadata: &MetadataMap) -> Result<Option<AsOf>, Refusal> {
    let mut named = metadata.get_all(AS_OF_KEY).iter();
    let Some(text) = named.next() else {
        return Ok(None);
    };
    let invalid = |told: String| Refusal::invalid(Violations::one(AS_OF_KEY, told));
    if named.next().is_some() {
        return Err(invalid("is given twice: name one point".to_owned()));
    }
    let text = text.to_str().unwrap_or_default();
    let as_of = text.parse().map_err(|e| invalid(format!("{e}")))?;
    Ok(Some(as_of))
}

fn no_transaction(id: Option<&Bytes>) -> Result<(), Refusal> {
    if id.is_none_or(Bytes::is_empty) {
        return Ok(());
    }
    Err(no_transactions())
}

fn no_transactions() -> Refusal {
    Refusal::unsupported(
        "there are no transactions: a statement reads one cut of the log, an append is all or nothing",
    )
}

fn no_substrait() -> Refusal {
    Refusal::unsupported("there are no Substrait plans: send the statement as SQL")
}

/// A message of Flight SQL, without what all their types begin with.
fn name(command: &Command) -> &str {
    let url = command.type_url();
    url.rsplit_once('.').map_or(url, |(_, name)| name)
}

fn misplaced(command: &Command) -> Refusal {
    let told = format!("`{}` is nothing that this call answers", name(command));
    Refusal::invalid(Violations::one("command", told))
}

fn invalid_ticket(told: &str) -> Refusal {
    Refusal::new(Kind::Invalid, "INVALID_TICKET", told)
}
