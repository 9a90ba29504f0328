//! Actions: what can be done to tickets, beside those of sessions ([`session`]) and of Flight SQL (`sql`).

use arrow_flight::{
    Action, ActionType, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightInfo,
    RenewFlightEndpointRequest,
};
use bytes::Bytes;
use prost::{DecodeError, Message};

use super::{
    super::status::Refusal, any, call::Call, info::endpoint, session, sql, ticket::Sealed,
};
use crate::types::append::Violations;

const CANCEL: &str = "CancelFlightInfo";
const RENEW: &str = "RenewFlightEndpoint";
const TYPES: [(&str, &str); 2] = [
    (
        CANCEL,
        "Ends the streams of all tickets of a FlightInfo, and refuses the tickets from then on",
    ),
    (
        RENEW,
        "Gives an endpoint with a ticket for the same rows that expires later",
    ),
];

/// What there is.
pub(super) fn types() -> Vec<ActionType> {
    let all = TYPES.iter().chain(&session::TYPES).chain(&sql::ACTIONS);
    all.map(|(name, description)| ActionType {
        r#type: (*name).to_owned(),
        description: (*description).to_owned(),
    })
    .collect()
}

/// Does one; what is answered is one message, or nothing.
pub(super) async fn act(call: &Call, action: &Action) -> Result<Option<Bytes>, Refusal> {
    let (name, body) = (action.r#type.as_str(), &*action.body);
    match name {
        CANCEL => return cancel(call, body).map(Some),
        RENEW => return renew(call, body).map(Some),
        _ => {}
    }
    if let Some(done) = session::act(&call.tenant, name, body)? {
        return Ok(Some(done));
    }
    if let Some(done) = sql::act(call, name, body).await? {
        return Ok(done);
    }
    let known = types();
    let known: Vec<_> = known.iter().map(|known| known.r#type.as_str()).collect();
    Err(Refusal::no_such_action(name, &known))
}

fn cancel(call: &Call, body: &[u8]) -> Result<Bytes, Refusal> {
    let request = CancelFlightInfoRequest::decode(body).map_err(|e| malformed(&e))?;
    let status = if cancelled(call, request.info)? {
        CancelStatus::Cancelled
    } else {
        CancelStatus::NotCancellable
    };
    let result = CancelFlightInfoResult::new(status);
    Ok(result.encode_to_vec().into())
}

/// Cancels the queries of all endpoints; false if one has none, and then nothing is cancelled.
pub(super) fn cancelled(call: &Call, info: Option<FlightInfo>) -> Result<bool, Refusal> {
    let endpoints = info.unwrap_or_default().endpoint;
    if endpoints.is_empty() {
        let told = "has no endpoint: give back what GetFlightInfo gave";
        return Err(Refusal::invalid(Violations::one("info", told)));
    }
    let mut opened = Vec::with_capacity(endpoints.len());
    for endpoint in &endpoints {
        let ticket = endpoint.ticket.as_ref();
        let ticket = ticket.map(|ticket| &*ticket.ticket).unwrap_or_default();
        // What asks only what there is, is over before anybody could cancel it.
        if any::of(ticket)?.is_some() {
            return Ok(false);
        }
        // An expired one too: its stream may go on.
        opened.push(call.tickets.verify(ticket, call.tenant.log_id())?);
    }
    for ticket in opened {
        call.queries.cancel(ticket.query);
    }
    Ok(true)
}

fn renew(call: &Call, body: &[u8]) -> Result<Bytes, Refusal> {
    let request = RenewFlightEndpointRequest::decode(body).map_err(|e| malformed(&e))?;
    let old = request.endpoint.unwrap_or_default();
    let ticket = old.ticket.unwrap_or_default().ticket;
    let ticket = call.tickets.verify(&ticket, call.tenant.log_id())?;
    ticket.check_time()?;
    call.queries.check(ticket.query)?;
    let renewed = endpoint(&call.tickets, &Sealed::new(ticket.content, ticket.query));
    Ok(renewed.encode_to_vec().into())
}

fn malformed(error: &DecodeError) -> Refusal {
    Refusal::malformed(format!("the body of the action is none: {error}"))
}
