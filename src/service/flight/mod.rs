//! Arrow Flight: the log as tables of record batches, over the same port.
//!
//! - `DoPut` appends ([`put`]).
//! - Flight SQL is commands in descriptors and tickets ([`any`]), and actions: `sql`. In a build without it `without_sql` says so.
//! - `DoGet` scans ([`get`]) and runs statements of SQL (`sql`, their tickets: [`sql_ticket`]), how that gets onto the wire ([`codec`]), what a ticket says ([`ticket`]), which tables there are ([`info`]).
//! - `DoAction` ends scans and renews tickets ([`action`]), and closes sessions, which there are none of ([`session`]).
//!
//! Not here: what gRPC appends and reads (`ingest`, `query`), what a scan gives (`engine/table`).

mod action;
mod any;
mod call;
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
mod session;
#[cfg(feature = "sql")]
mod sql;
#[cfg(not(feature = "sql"))]
#[path = "without_sql.rs"]
mod sql;
mod sql_ticket;
mod ticket;

use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo,
    HandshakeRequest, HandshakeResponse, PollInfo, PutResult, Result as ActionResult, SchemaResult,
    Ticket, flight_service_server::FlightService,
};
use futures_util::{
    TryStreamExt,
    stream::{self, BoxStream},
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, metadata::MetadataMap};

pub(crate) use self::codec::DoGet;
use self::{
    call::Call,
    put::Upload,
    queries::Queries,
    ticket::{Content, Tickets},
};
use super::{
    gate::Gate,
    status::{Refusal, from_outside},
};
use crate::{engine::tenant::Tenant, types::append::Violations};

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
    /// A call that reads.
    async fn call(&self, metadata: &MetadataMap) -> Result<Call, Refusal> {
        let tenant = self.gate.tenant(metadata).await?;
        self.call_of(tenant, metadata)
    }

    #[cfg_attr(
        not(feature = "sql"),
        expect(
            clippy::unnecessary_wraps,
            unused_variables,
            reason = "only statements read as of the past"
        )
    )]
    fn call_of(&self, tenant: Tenant, metadata: &MetadataMap) -> Result<Call, Refusal> {
        Ok(Call {
            tenant,
            tickets: self.tickets.clone(),
            queries: self.queries.clone(),
            // A token of its own: they are behind locks, and this one is looked at with every message.
            drain: self.drain.child_token(),
            #[cfg(feature = "sql")]
            as_of: sql::as_of(metadata)?,
        })
    }

    async fn info(&self, request: Request<FlightDescriptor>) -> Result<FlightInfo, Status> {
        let call = self.call(request.metadata()).await?;
        let descriptor = request.into_inner();
        Ok(match any::of(&descriptor.cmd)? {
            Some(command) => sql::info(&call, command, descriptor).await?,
            None => info::info(&call.tickets, call.tenant, descriptor).await?,
        })
    }

    async fn get(&self, request: Request<Ticket>) -> Result<Answers<encode::Message>, Status> {
        let call = self.call(request.metadata()).await?;
        let ticket = &request.get_ref().ticket;
        if let Some(command) = any::of(ticket)? {
            return Ok(sql::get_command(&call, command).await?);
        }
        let ticket = call.tickets.open(ticket, call.tenant.log_id())?;
        match ticket.content {
            Content::Scan(scan) => {
                let query = ticket.query.map(|query| call.queries.run(query));
                Ok(get::get(call.tenant, *scan, query.transpose()?, call.drain).await?)
            }
            Content::Sql(sql) => Ok(sql::get(&call, sql, ticket.query).await?),
        }
    }

    /// Looks at the first message of an upload, which says where it goes.
    async fn put(
        self,
        metadata: MetadataMap,
        mut messages: Streaming<FlightData>,
    ) -> Result<Answers<PutResult>, Status> {
        let first = tokio::select! {
            biased;
            () = self.drain.cancelled() => return Err(Refusal::shutting_down().into_status()),
            first = messages.message() => first,
        };
        let first =
            first.map_err(|status| from_outside(&status).map_or(status, Refusal::into_status))?;
        let descriptor = first
            .as_ref()
            .and_then(|first| first.flight_descriptor.as_ref());
        let command = match descriptor {
            Some(descriptor) => any::of(&descriptor.cmd)?,
            None => None,
        };
        let begins = |tenant, first, messages| Upload {
            tenant,
            first,
            messages,
            drain: self.drain.child_token(),
            message_bytes_max: self.message_bytes_max,
        };
        match (command, first) {
            #[cfg(feature = "sql")]
            (Some(any::Command::CommandStatementIngest(ingest)), first) => {
                sql::check_ingest(&ingest, &self.gate.tenant_id(&metadata)?)?;
                let tenant = self.gate.tenant_for_append(&metadata).await?;
                Ok(put::ingest(begins(tenant, first, messages)))
            }
            (Some(command), Some(first)) => {
                let call = self.call(&metadata).await?;
                let result = sql::put(&call, command, first, messages).await?;
                Ok(Box::pin(stream::iter([Ok(result)])))
            }
            (_, first) => {
                let tenant = self.gate.tenant_for_append(&metadata).await?;
                Ok(put::put(begins(tenant, first, messages)))
            }
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
        self.gate.check_for_append(request.metadata()).await?;
        let (metadata, _, messages) = request.into_parts();
        let results = self.clone().put(metadata, messages);
        Ok(Response::new(Box::pin(stream::once(results).try_flatten())))
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
        Ok(Response::new(self.info(request).await?))
    }

    /// As `GetFlightInfo`: there is nothing to wait for.
    async fn poll_flight_info(
        &self,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<PollInfo>, Status> {
        Ok(Response::new(PollInfo {
            info: Some(self.info(request).await?),
            flight_descriptor: None,
            progress: Some(1.0),
            expiration_time: None,
        }))
    }

    async fn get_schema(
        &self,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<SchemaResult>, Status> {
        let call = self.call(request.metadata()).await?;
        let descriptor = request.into_inner();
        let schema = match any::of(&descriptor.cmd)? {
            Some(command) => sql::schema(&call, command).await?,
            None => info::schema_of(call.tenant, descriptor).await?,
        };
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
        let call = self.call(request.metadata()).await?;
        let done = action::act(&call, request.get_ref()).await?;
        let done = done.map(|done| Ok(ActionResult::new(done)));
        Ok(Response::new(Box::pin(stream::iter(done))))
    }

    type ListActionsStream = Answers<ActionType>;

    async fn list_actions(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<Self::ListActionsStream>, Status> {
        Ok(Response::new(Box::pin(stream::iter(
            action::types().into_iter().map(Ok),
        ))))
    }
}
