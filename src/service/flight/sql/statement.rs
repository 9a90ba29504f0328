//! Statements: what they give, a ticket for it, and the rows of one.

use std::{collections::VecDeque, sync::Arc};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use arrow_flight::{FlightDescriptor, FlightInfo};
use futures_util::stream::BoxStream;
use tonic::Status;

use super::{
    super::{
        super::status::Refusal,
        call::Call,
        encode::{self, Message},
        info::endpoint,
        sql_ticket::SqlTicket,
        ticket::{Content, QueryId, Sealed},
    },
    messages::{self, Source},
    parameters,
};
use crate::{
    engine::sql::{SqlRequest, SqlRows},
    types::{append::Violations, id::Position, read::AsOf},
};

/// A statement that was planned, at the position that it is to be read at.
pub(super) struct Planned {
    pub(super) schema: SchemaRef,
    /// Of its parameters, whether values are bound to them or not.
    pub(super) parameters: SchemaRef,
    ticket: SqlTicket,
    head: Position,
}

/// Plans a statement, and finds that the values bound to it are those it asks for.
pub(super) async fn planned(call: &Call, ticket: SqlTicket) -> Result<Planned, Refusal> {
    let tenant = &call.tenant;
    tenant.check_log(ticket.log_id)?;
    let as_of = ticket.as_of.or(call.as_of);
    let plan = async |parameters| {
        let request = SqlRequest {
            statement: ticket.statement.clone(),
            parameters,
            as_of,
        };
        tokio::select! {
            biased;
            () = call.drain.cancelled() => Err(Refusal::shutting_down()),
            planned = tenant.plan_sql(request) => Ok(planned?),
        }
    };
    let mut planned = plan(None).await?;
    let mut bound = None;
    if let Some(parameters) = &ticket.parameters {
        let conforming = parameters::conform(parameters, &planned.parameters)?;
        let first = parameters::rows(&conforming)?.into_iter().next();
        planned = plan(first).await?;
        bound = Some(conforming);
    }
    Ok(Planned {
        schema: planned.schema,
        parameters: planned.parameters,
        ticket: SqlTicket {
            parameters: bound,
            as_of: Some(AsOf::Position(planned.head)),
            log_id: Some(tenant.log_id()),
            ..ticket
        },
        head: planned.head,
    })
}

/// What a statement gives, and a ticket for it.
pub(super) async fn info(
    call: &Call,
    ticket: SqlTicket,
    descriptor: FlightDescriptor,
) -> Result<FlightInfo, Refusal> {
    let planned = planned(call, ticket).await?;
    let missing = planned.parameters.fields().len();
    if planned.ticket.parameters.is_none() && missing > 0 {
        let told = format!(
            "has {missing} parameter(s) without a value: prepare it, bind values, and go on with the handle that binding gives"
        );
        return Err(Refusal::invalid(Violations::one("query", told)));
    }
    let sealed = Sealed::new(Content::Sql(planned.ticket), QueryId::new_v4());
    let told = format!(
        r#"{{"log_id":"{}","head":{}}}"#,
        call.tenant.log_id(),
        planned.head
    );
    Ok(FlightInfo {
        schema: encode::schema(&planned.schema)?,
        flight_descriptor: Some(descriptor),
        endpoint: vec![endpoint(&call.tickets, &sealed)],
        total_records: -1,
        total_bytes: -1,
        ordered: true,
        app_metadata: told.into(),
    })
}

/// The rows of a ticket that is a statement.
pub(in super::super) async fn get(
    call: &Call,
    ticket: SqlTicket,
    query: Option<QueryId>,
) -> Result<BoxStream<'static, Result<Message, Status>>, Refusal> {
    call.tenant.check_log(ticket.log_id)?;
    let query = query.map(|query| call.queries.run(query)).transpose()?;
    let parameters = ticket.parameters.as_ref().map(parameters::rows);
    let mut rest = VecDeque::from(parameters.transpose()?.unwrap_or_default());
    let request = SqlRequest {
        statement: ticket.statement,
        parameters: rest.pop_front(),
        as_of: ticket.as_of.or(call.as_of),
    };
    let cancelled = async {
        match &query {
            Some(query) => query.cancelled().await,
            None => std::future::pending().await,
        }
    };
    let rows = tokio::select! {
        biased;
        () = call.drain.cancelled() => return Err(Refusal::shutting_down()),
        () = cancelled => return Err(Refusal::query_cancelled()),
        rows = call.tenant.sql(request.clone()) => rows?,
    };
    let told = format!(
        r#"{{"head":{},"log_id":"{}"}}"#,
        rows.head(),
        call.tenant.log_id()
    );
    let schema = Arc::clone(rows.schema());
    let runs = Runs {
        request: SqlRequest {
            as_of: Some(AsOf::Position(rows.head())),
            ..request
        },
        call: call.clone(),
        rows,
        rest,
    };
    messages::of(
        &schema,
        Source::Statement(Box::new(runs)),
        told,
        query,
        call,
    )
}

/// A statement that runs once for each row of values that is bound to it.
pub(super) struct Runs {
    call: Call,
    request: SqlRequest,
    rows: SqlRows,
    rest: VecDeque<RecordBatch>,
}

impl Runs {
    pub(super) async fn next(&mut self) -> Result<Option<RecordBatch>, Refusal> {
        loop {
            if let Some(rows) = self.rows.next().await? {
                return Ok(Some(rows));
            }
            let Some(values) = self.rest.pop_front() else {
                return Ok(None);
            };
            self.request.parameters = Some(values);
            self.rows = self.call.tenant.sql(self.request.clone()).await?;
        }
    }
}
