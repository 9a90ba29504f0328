//! Arrow Flight: the log as tables of record batches, over the same port.
//!
//! `DoPut` appends ([`put`]). Not here: what gRPC appends and reads (`ingest`, `query`).

mod put;
mod put_columns;
mod put_command;
mod put_decode;
mod put_schema;

use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo,
    HandshakeRequest, HandshakeResponse, PollInfo, PutResult, Result as ActionResult, SchemaResult,
    Ticket, flight_service_server::FlightService,
};
use futures_util::stream::{self, BoxStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::{
    gate::Gate,
    status::{Refusal, from_outside},
};

/// How many times larger than a request of gRPC a message of Flight may be: programs that write tables fill them.
pub(crate) const MESSAGE_FACTOR: usize = 4;

type Answers<T> = BoxStream<'static, Result<T, Status>>;

/// The service; `drain` ends its streams when the server shuts down.
#[derive(Clone)]
pub(crate) struct Flight {
    pub(crate) gate: Gate,
    pub(crate) drain: CancellationToken,
    /// Largest message that is taken, and most bytes that one decompresses to.
    pub(crate) message_bytes_max: usize,
}

#[tonic::async_trait]
impl FlightService for Flight {
    type HandshakeStream = Answers<HandshakeResponse>;

    /// Nobody is asked for credentials: says yes, and gives back what it was given.
    async fn handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        let mut requests = request.into_inner();
        let first = tokio::select! {
            biased;
            () = self.drain.cancelled() => return Err(Refusal::shutting_down().into_status()),
            first = requests.message() => first,
        };
        let first =
            first.map_err(|status| from_outside(&status).map_or(status, Refusal::into_status))?;
        let answer = first.map(|request| {
            Ok(HandshakeResponse {
                protocol_version: request.protocol_version,
                payload: request.payload,
            })
        });
        Ok(Response::new(Box::pin(stream::iter(answer))))
    }

    type DoPutStream = Answers<PutResult>;

    async fn do_put(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoPutStream>, Status> {
        let tenant = self.gate.tenant_for_append(request.metadata()).await?;
        // A token of its own: they are behind locks, and this one is looked at with every message.
        let drain = self.drain.child_token();
        let messages = request.into_inner();
        let results = put::put(tenant, messages, drain, self.message_bytes_max);
        Ok(Response::new(results))
    }

    type ListFlightsStream = Answers<FlightInfo>;

    async fn list_flights(
        &self,
        _: Request<Criteria>,
    ) -> Result<Response<Self::ListFlightsStream>, Status> {
        Err(Refusal::unimplemented("ListFlights").into())
    }

    async fn get_flight_info(
        &self,
        _: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        Err(Refusal::unimplemented("GetFlightInfo").into())
    }

    async fn poll_flight_info(
        &self,
        _: Request<FlightDescriptor>,
    ) -> Result<Response<PollInfo>, Status> {
        Err(Refusal::unimplemented("PollFlightInfo").into())
    }

    async fn get_schema(
        &self,
        _: Request<FlightDescriptor>,
    ) -> Result<Response<SchemaResult>, Status> {
        Err(Refusal::unimplemented("GetSchema").into())
    }

    type DoGetStream = Answers<FlightData>;

    async fn do_get(&self, _: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        Err(Refusal::unimplemented("DoGet").into())
    }

    type DoExchangeStream = Answers<FlightData>;

    async fn do_exchange(
        &self,
        _: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoExchangeStream>, Status> {
        Err(Refusal::unimplemented("DoExchange").into())
    }

    type DoActionStream = Answers<ActionResult>;

    async fn do_action(
        &self,
        _: Request<Action>,
    ) -> Result<Response<Self::DoActionStream>, Status> {
        Err(Refusal::unimplemented("DoAction").into())
    }

    type ListActionsStream = Answers<ActionType>;

    async fn list_actions(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<Self::ListActionsStream>, Status> {
        Err(Refusal::unimplemented("ListActions").into())
    }
}
