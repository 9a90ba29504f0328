//! Actions: what can be done to tickets.

use arrow_flight::{
    Action, ActionType, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus,
    RenewFlightEndpointRequest,
};
use bytes::Bytes;
use prost::{DecodeError, Message};

use super::{
    super::status::Refusal,
    info::endpoint,
    queries::Queries,
    ticket::{Sealed, Tickets},
};
use crate::{engine::tenant::Tenant, types::append::Violations};

const CANCEL: &str = "CancelFlightInfo";
const RENEW: &str = "RenewFlightEndpoint";

/// What there is.
pub(super) fn types() -> [ActionType; 2] {
    [
        (
            CANCEL,
            "Ends the streams of all tickets of a FlightInfo, and refuses the tickets from then on",
        ),
        (
            RENEW,
            "Gives an endpoint with a ticket for the same rows that expires later",
        ),
    ]
    .map(|(name, description)| ActionType {
        r#type: name.to_owned(),
        description: description.to_owned(),
    })
}

/// Does one; what is answered is one message.
pub(super) fn act(
    tickets: &Tickets,
    queries: &Queries,
    tenant: &Tenant,
    action: &Action,
) -> Result<Bytes, Refusal> {
    match action.r#type.as_str() {
        CANCEL => cancel(tickets, queries, tenant, &action.body),
        RENEW => renew(tickets, queries, tenant, &action.body),
        other => Err(Refusal::no_such_action(other, &[CANCEL, RENEW])),
    }
}

fn cancel(
    tickets: &Tickets,
    queries: &Queries,
    tenant: &Tenant,
    body: &[u8],
) -> Result<Bytes, Refusal> {
    let request = CancelFlightInfoRequest::decode(body).map_err(|e| malformed(&e))?;
    let endpoints = request.info.unwrap_or_default().endpoint;
    if endpoints.is_empty() {
        let told = "has no endpoint: give back what GetFlightInfo gave";
        return Err(Refusal::invalid(Violations::one("info", told)));
    }
    let open = |endpoint: &arrow_flight::FlightEndpoint| {
        let ticket = endpoint.ticket.as_ref();
        let ticket = ticket.map(|ticket| &*ticket.ticket).unwrap_or_default();
        // An expired one too: its stream may go on.
        tickets.verify(ticket, tenant.log_id())
    };
    let opened: Vec<Sealed> = endpoints.iter().map(open).collect::<Result<_, _>>()?;
    for ticket in opened {
        queries.cancel(ticket.query);
    }
    let result = CancelFlightInfoResult::new(CancelStatus::Cancelled);
    Ok(result.encode_to_vec().into())
}

fn renew(
    tickets: &Tickets,
    queries: &Queries,
    tenant: &Tenant,
    body: &[u8],
) -> Result<Bytes, Refusal> {
    let request = RenewFlightEndpointRequest::decode(body).map_err(|e| malformed(&e))?;
    let old = request.endpoint.unwrap_or_default();
    let ticket = old.ticket.unwrap_or_default().ticket;
    let ticket = tickets.verify(&ticket, tenant.log_id())?;
    ticket.check_time()?;
    queries.check(ticket.query)?;
    let renewed = endpoint(tickets, &Sealed::new(ticket.scan, ticket.query));
    Ok(renewed.encode_to_vec().into())
}

fn malformed(error: &DecodeError) -> Refusal {
    Refusal::malformed(format!("the body of the action is none: {error}"))
}
