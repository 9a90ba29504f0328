//! Prepared statements. A handle holds all there is to one, under a seal: it never expires, works after a restart, and
//! closing it does nothing. Values that are bound make a new handle, which is what binding answers; drivers go on with that.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic and version, `ANNALSP1` |
//! | 8 | | the statement, in protobuf (`sql_ticket`), with the id of its log |
//! | behind | 32 | HMAC-SHA256 of all before, with the key of the data folder |

use arrow::{array::RecordBatch, datatypes::Schema};
use arrow_flight::{
    FlightData,
    sql::{
        ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest,
        ActionCreatePreparedStatementResult, DoPutPreparedStatementResult,
    },
};
use bytes::Bytes;
use tonic::Streaming;

use super::{
    super::{
        super::status::{Refusal, from_outside},
        call::Call,
        encode,
        put_decode::{DecodedBatch, Decoder, guarded},
        sql_ticket::SqlTicket,
    },
    no_transaction, parameters, statement,
};
use crate::types::{kind::Kind, limits::SQL_PARAMETER_BYTES_MAX};

const MAGIC: &[u8; 8] = b"ANNALSP1";

/// Prepares a statement.
pub(super) async fn create(
    call: &Call,
    request: ActionCreatePreparedStatementRequest,
) -> Result<ActionCreatePreparedStatementResult, Refusal> {
    no_transaction(request.transaction_id.as_ref())?;
    let mut ticket = SqlTicket::new(request.query);
    let planned = statement::planned(call, ticket.clone()).await?;
    ticket.log_id = Some(call.tenant.log_id());
    Ok(ActionCreatePreparedStatementResult {
        prepared_statement_handle: seal(call, &ticket),
        dataset_schema: encode::schema(&planned.schema)?,
        parameter_schema: encode::schema(&planned.parameters)?,
    })
}

/// There is nothing to close but what is none.
pub(super) fn close(
    call: &Call,
    request: &ActionClosePreparedStatementRequest,
) -> Result<(), Refusal> {
    open(call, &request.prepared_statement_handle).map(|_| ())
}

/// The statement of a handle.
pub(super) fn open(call: &Call, handle: &[u8]) -> Result<SqlTicket, Refusal> {
    let unsealed = handle
        .strip_prefix(MAGIC)
        .and_then(|_| call.tickets.unseal(handle))
        .and_then(|bytes| bytes.strip_prefix(MAGIC));
    let Some(bytes) = unsealed else {
        let told = "the handle is none that CreatePreparedStatement or binding gave, was altered, or is of another data \
            folder: prepare the statement again";
        return Err(Refusal::new(Kind::Invalid, "INVALID_HANDLE", told));
    };
    let ticket = SqlTicket::from_bytes(bytes)?;
    call.tenant.check_log(ticket.log_id)?;
    Ok(ticket)
}

fn seal(call: &Call, ticket: &SqlTicket) -> Bytes {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(ticket.to_bytes());
    call.tickets.seal(bytes).into()
}

/// Binds the rows of an upload to a handle, which becomes another. Values that were bound before are not any more.
pub(super) async fn bind(
    call: &Call,
    handle: &[u8],
    first: FlightData,
    mut messages: Streaming<FlightData>,
) -> Result<DoPutPreparedStatementResult, Refusal> {
    let ticket = open(call, handle)?;
    let mut decoder = Decoder::new(SQL_PARAMETER_BYTES_MAX, parameters::check);
    let (mut rows, mut bytes): (Vec<RecordBatch>, usize) = (Vec::new(), 0);
    let mut next = Some(first);
    while let Some(message) = next {
        if !message.data_header.is_empty() {
            let taken = decoder.decode(&message.data_header, message.data_body)?;
            if let Some(DecodedBatch {
                rows: some,
                bytes: more,
            }) = taken
            {
                bytes += more;
                if bytes > SQL_PARAMETER_BYTES_MAX {
                    return Err(too_large());
                }
                rows.push(guarded(|| parameters::plain(&some))??);
            }
        }
        next = tokio::select! {
            biased;
            () = call.drain.cancelled() => return Err(Refusal::shutting_down()),
            message = messages.message() => message.map_err(|status| {
                from_outside(&status).unwrap_or_else(|| Refusal::malformed(status.message()))
            })?,
        };
    }
    let schema = rows.first().map(RecordBatch::schema);
    let none = Schema::empty();
    let values = parameters::to_bytes(schema.as_deref().unwrap_or(&none), &rows)?;
    let bound = SqlTicket {
        parameters: Some(values),
        ..ticket
    };
    Ok(DoPutPreparedStatementResult {
        prepared_statement_handle: Some(seal(call, &bound)),
    })
}

fn too_large() -> Refusal {
    let told = format!(
        "the values have more than {SQL_PARAMETER_BYTES_MAX} bytes, which a handle does not hold: bind less at once"
    );
    Refusal::new(Kind::Invalid, "MESSAGE_TOO_LARGE", told)
}
