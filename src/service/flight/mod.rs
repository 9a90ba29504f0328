//! Arrow Flight: the log as tables of record batches, over the same port.
//!
//! - `DoPut` appends ([`put`]).
//! - `DoGet` scans ([`get`]) and runs statements of SQL (`sql`, their tickets: [`sql_ticket`]), how that gets onto the wire ([`codec`]), what a ticket says ([`ticket`]), which tables there are ([`info`]).
//! - `DoAction` ends scans and renews tickets ([`action`]).
//!
//! Not here: what gRPC appends and reads (`ingest`, `query`), what a scan gives (`engine/table`).

mod action;
mod codec;
mod encode;
mod get;
mod info;
mod put;
mod put_columns;
mod put_command;
mod put_decode;
mod put_schema;
mod queries;
#[cfg(feature = "sql")]
mod sql;
mod sql_ticket;
mod ticket;

use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo,
    HandshakeRequest, HandshakeResponse, PollInfo, PutResult, Result as ActionResult, SchemaResult,
    Ticket, flight_service_server::FlightService,
};
use futures_util::stream::{self, BoxStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

pub(crate) use self::codec::DoGet;
use self::{
    queries::Queries,
    ticket::{Ticket as Asked, Tickets},
};
use super::{
    gate::Gate,
    status::{Refusal, from_outside},
};
use crate::types::append::Violations;

/// How many times larger than a request of gRPC a message of Flight may be: programs that write tables fill them.
pub(crate) const MESSAGE_FACTOR: usize = 4;

type Answers<T> = BoxStream<'static, Result<T, Status>>;

/// The service; `drain` ends its streams when the server shuts down.
#[derive(Clone)]
pub(crate) struct Flight {
    gate: Gate,
    drain: CancellationToken,
    message_bytes_max: usize,
    tickets: Tickets,
    queries: Queries,
}

impl Flight {
    /// `message_bytes_max` is the largest message that is taken, and the most bytes that one decompresses to; tickets are
    /// sealed with the key.
    pub(crate) fn new(
        gate: Gate,
        drain: CancellationToken,
        message_bytes_max: usize,
        ticket_key: &[u8; 32],
    ) -> Self {
        Self {
            gate,
            drain,
            message_bytes_max,
            tickets: Tickets::new(ticket_key),
            queries: Queries::default(),
        }
    }
}

impl Flight {
    async fn get(&self, request: Request<Ticket>) -> Result<Answers<encode::Message>, Status> {
        let tenant = self.gate.tenant(request.metadata()).await?;
        let ticket = self
            .tickets
            .open(&request.get_ref().ticket, tenant.log_id())?;
        let drain = self.drain.child_token();
        match ticket {
            Asked::Scan { scan, query } => {
                let query = query.map(|query| self.queries.run(query)).transpose()?;
                Ok(get::get(tenant, *scan, query, drain).await?)
            }
            #[cfg(feature = "sql")]
            Asked::Sql(ticket) => {
                let as_of = sql::as_of(request.metadata())?;
                Ok(sql::get(&tenant, ticket, as_of, drain).await?)
            }
            #[cfg(not(feature = "sql"))]
            Asked::Sql(_) => Err(Refusal::without_sql().into()),
        }
    }
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
        request: Request<Criteria>,
    ) -> Result<Response<Self::ListFlightsStream>, Status> {
        let tenant = self.gate.tenant(request.metadata()).await?;
        if !request.get_ref().expression.is_empty() {
            let told = "is not empty: tables are listed without criteria";
            return Err(Refusal::invalid(Violations::one("criteria.expression", told)).into());
        }
        Ok(Response::new(info::list(&self.tickets, tenant).await?))
    }

    async fn get_flight_info(
        &self,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let tenant = self.gate.tenant(request.metadata()).await?;
        let info = info::info(&self.tickets, tenant, request.into_inner()).await?;
        Ok(Response::new(info))
    }

    async fn poll_flight_info(
        &self,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<PollInfo>, Status> {
        let tenant = self.gate.tenant(request.metadata()).await?;
        let info = info::poll(&self.tickets, tenant, request.into_inner()).await?;
        Ok(Response::new(info))
    }

    async fn get_schema(
        &self,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<SchemaResult>, Status> {
        let tenant = self.gate.tenant(request.metadata()).await?;
        let schema = info::schema_of(tenant, request.into_inner()).await?;
        Ok(Response::new(SchemaResult { schema }))
    }

    type DoGetStream = Answers<FlightData>;

    /// [`DoGet`] stands in front of it.
    async fn do_get(&self, _: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        Err(Refusal::unimplemented("DoGet without its codec").into())
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
        request: Request<Action>,
    ) -> Result<Response<Self::DoActionStream>, Status> {
        let tenant = self.gate.tenant(request.metadata()).await?;
        let done = action::act(&self.tickets, &self.queries, &tenant, request.get_ref())?;
        Ok(Response::new(Box::pin(stream::iter([Ok(
            ActionResult::new(done),
        )]))))
    }

    type ListActionsStream = Answers<ActionType>;

    async fn list_actions(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<Self::ListActionsStream>, Status> {
        Ok(Response::new(Box::pin(stream::iter(
            action::types().map(Ok),
        ))))
    }
}
