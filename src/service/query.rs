//! Reads: `annals.v1.QueryService`. Each call is one decode, one engine call, one encode; the two streams pull, so that a
//! client that is slow costs nothing and one that is gone stops the work.
//!
//! Not here: what matches, and in which order (`engine`).

use futures_util::stream::{self, BoxStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tracing::Instrument;

use super::{
    convert,
    gate::Gate,
    status::Refusal,
    token::{PageToken, Scope},
};
use crate::{
    engine::{
        event::Event,
        log::read::Reader,
        subscription::{Delivery, Subscription},
        tenant::{ListRequest, Listing, Tenant, blocking},
    },
    proto::{
        GetCursorRequest, GetCursorResponse, GetEntityStateRequest, GetEntityStateResponse,
        GetEventRequest, GetEventResponse, GetStatsRequest, GetStatsResponse, ListEntitiesRequest,
        ListEntitiesResponse, ListEventTypesRequest, ListEventTypesResponse, ProcessStats,
        ReadEventsRequest, ReadEventsResponse, SubscribeRequest, SubscribeResponse,
        query_service_server::QueryService, subscribe_response::Message,
    },
    telemetry,
    types::{limits::READ_BATCH_BYTES, read::ReadError, time::Timestamp},
};

/// The service; `drain` ends its streams when the server shuts down.
#[derive(Clone)]
pub(crate) struct Query {
    pub(crate) gate: Gate,
    pub(crate) drain: CancellationToken,
    pub(crate) started_at: Timestamp,
}

#[tonic::async_trait]
impl QueryService for Query {
    type ReadEventsStream = BoxStream<'static, Result<ReadEventsResponse, Status>>;

    async fn read_events(
        &self,
        request: Request<ReadEventsRequest>,
    ) -> Result<Response<Self::ReadEventsStream>, Status> {
        let tenant = self.gate.tenant(request.metadata()).await?;
        let request = convert::read_request(request.into_inner()).map_err(Refusal::invalid)?;
        let log_id = tenant.log_id().to_string();
        let reader = if request.looks_up() {
            blocking(move || tenant.read(request)).await
        } else {
            tenant.read(request)
        };
        let messages = ReadMessages::new(reader.map_err(Refusal::from)?, log_id);
        let state = Read::Here {
            messages: Box::new(messages),
            drain: self.drain.clone(),
        };
        Ok(Response::new(Box::pin(stream::unfold(state, Read::next))))
    }

    async fn get_event(
        &self,
        request: Request<GetEventRequest>,
    ) -> Result<Response<GetEventResponse>, Status> {
        let tenant = self.gate.tenant(request.metadata()).await?;
        let event = match convert::event_key(request.into_inner()).map_err(Refusal::invalid)? {
            convert::EventKey::Position(position) => tenant.event(position).await,
            convert::EventKey::Id(id) => tenant.event_by_id(id).await,
        };
        let event = event.map_err(Refusal::from)?;
        Ok(Response::new(GetEventResponse {
            event: Some(convert::event(&event)),
            head: tenant.head(),
        }))
    }

    async fn get_entity_state(
        &self,
        request: Request<GetEntityStateRequest>,
    ) -> Result<Response<GetEntityStateResponse>, Status> {
        let tenant = self.gate.tenant(request.metadata()).await?;
        let (entity_id, as_of) =
            convert::state_request(request.into_inner()).map_err(Refusal::invalid)?;
        let state = tenant
            .state(&entity_id, as_of)
            .await
            .map_err(Refusal::from)?;
        Ok(Response::new(convert::entity_state(&entity_id, state)))
    }

    async fn list_entities(
        &self,
        request: Request<ListEntitiesRequest>,
    ) -> Result<Response<ListEntitiesResponse>, Status> {
        let tenant = self.gate.tenant(request.metadata()).await?;
        let ListEntitiesRequest {
            prefix,
            page_size,
            page_token,
        } = request.into_inner();
        let page = Page {
            call: "ListEntities",
            prefix,
            size: page_size,
            token: page_token,
        };
        let (listing, next_page_token) = page.list(tenant, Tenant::list_entities).await?;
        Ok(Response::new(ListEntitiesResponse {
            entities: listing.names.iter().map(convert::entity_summary).collect(),
            next_page_token,
            head: listing.head,
        }))
    }

    async fn list_event_types(
        &self,
        request: Request<ListEventTypesRequest>,
    ) -> Result<Response<ListEventTypesResponse>, Status> {
        let tenant = self.gate.tenant(request.metadata()).await?;
        let ListEventTypesRequest {
            prefix,
            page_size,
            page_token,
        } = request.into_inner();
        let page = Page {
            call: "ListEventTypes",
            prefix,
            size: page_size,
            token: page_token,
        };
        let (listing, next_page_token) = page.list(tenant, Tenant::list_event_types).await?;
        Ok(Response::new(ListEventTypesResponse {
            event_types: listing
                .names
                .iter()
                .map(convert::event_type_summary)
                .collect(),
            next_page_token,
            head: listing.head,
        }))
    }

    async fn get_cursor(
        &self,
        request: Request<GetCursorRequest>,
    ) -> Result<Response<GetCursorResponse>, Status> {
        let tenant = self.gate.tenant(request.metadata()).await?;
        let name = request.into_inner().name;
        let position = tenant
            .cursor(&name.as_str().into())
            .map_err(Refusal::from)?;
        Ok(Response::new(GetCursorResponse {
            name,
            position,
            log_id: tenant.log_id().to_string(),
        }))
    }

    async fn get_stats(
        &self,
        request: Request<GetStatsRequest>,
    ) -> Result<Response<GetStatsResponse>, Status> {
        let mut tenants = Vec::new();
        if request.get_ref().all_tenants {
            let engine = self.gate.engine();
            for id in engine.tenants() {
                tenants.push(engine.tenant(&id).await.map_err(Refusal::from)?);
            }
        } else {
            tenants.push(self.gate.tenant(request.metadata()).await?);
        }
        let stats =
            |tenant: &Tenant| convert::tenant_stats(tenant.id(), tenant.log_id(), tenant.stats());
        Ok(Response::new(GetStatsResponse {
            tenants: tenants.iter().map(stats).collect(),
            process: Some(ProcessStats {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                started_at: Some(convert::wire_time(self.started_at)),
                resident_bytes: telemetry::resident_bytes(),
            }),
        }))
    }

    type SubscribeStream = BoxStream<'static, Result<SubscribeResponse, Status>>;

    async fn subscribe(
        &self,
        request: Request<SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let tenant = self.gate.tenant(request.metadata()).await?;
        let request = convert::subscribe_request(request.into_inner()).map_err(Refusal::invalid)?;
        let subscription = tenant.subscribe(request).map_err(Refusal::from)?;
        let state = Following {
            subscription,
            log_id: tenant.log_id().to_string(),
            events: Vec::new().into_iter().peekable(),
            drain: self.drain.clone(),
            ended: Ended::No,
        };
        Ok(Response::new(Box::pin(stream::unfold(
            state,
            Following::next,
        ))))
    }
}

/// One page of a listing, as it is asked for.
struct Page {
    call: &'static str,
    prefix: String,
    size: u32,
    token: String,
}

impl Page {
    async fn list(
        self,
        tenant: Tenant,
        list: impl FnOnce(&Tenant, &ListRequest) -> Result<Listing, ReadError> + Send + 'static,
    ) -> Result<(Listing, String), Refusal> {
        let scope = Scope {
            call: self.call,
            tenant: tenant.id().as_str(),
            prefix: &self.prefix,
            log_id: tenant.log_id(),
        };
        let limit = convert::page_size(self.size).map_err(Refusal::invalid)?;
        let token = match self.token.as_str() {
            "" => None,
            text => Some(PageToken::decode(text, &scope).map_err(Refusal::invalid)?),
        };
        let (head, after) = token.map(|token| (token.head, token.after)).unzip();
        let request = ListRequest {
            prefix: self.prefix.as_str().into(),
            after,
            limit,
            head,
        };
        let looking = tenant.clone();
        let listing = blocking(move || list(&looking, &request)).await?;
        let next = listing.names.last().filter(|_| listing.more).map(|last| {
            PageToken {
                head: listing.head,
                after: last.name.clone(),
            }
            .encode(&scope)
        });
        Ok((listing, next.unwrap_or_default()))
    }
}

type Events = std::iter::Peekable<std::vec::IntoIter<Event>>;

/// The messages of a read, encoded as they are asked for.
struct ReadMessages {
    reader: Reader,
    log_id: String,
    events: Events,
    /// Whether a message was made: the head is told even if nothing matches.
    told: bool,
}

impl ReadMessages {
    fn new(reader: Reader, log_id: String) -> Self {
        Self {
            reader,
            log_id,
            events: Vec::new().into_iter().peekable(),
            told: false,
        }
    }

    async fn next(&mut self) -> Result<Option<ReadEventsResponse>, Status> {
        while self.events.peek().is_none() {
            match self.reader.next().await.map_err(Refusal::from)? {
                Some(events) => self.events = events.into_iter().peekable(),
                None if self.told => return Ok(None),
                None => break,
            }
        }
        self.told = true;
        Ok(Some(ReadEventsResponse {
            batch: Some(convert::event_batch(&mut self.events)),
            head: self.reader.head(),
            log_id: self.log_id.clone(),
        }))
    }
}

/// A read on its way to the client.
enum Read {
    /// Made when the client asks for it: most reads are a single message.
    Here {
        messages: Box<ReadMessages>,
        drain: CancellationToken,
    },
    /// Made by a task that is one message ahead, while the one before is sent.
    Ahead {
        made: mpsc::Receiver<Result<ReadEventsResponse, Status>>,
        drain: CancellationToken,
    },
    Ended,
}

/// A read whose first message is at least so large goes on ahead of the client.
const READ_AHEAD_FROM_BYTES: usize = READ_BATCH_BYTES / 4;

impl Read {
    async fn next(self) -> Option<(Result<ReadEventsResponse, Status>, Self)> {
        match self {
            Self::Here {
                mut messages,
                drain,
            } => {
                let message = tokio::select! {
                    biased;
                    () = drain.cancelled() => Err(Refusal::shutting_down().into_status()),
                    message = messages.next() => message,
                };
                match message.transpose()? {
                    Err(status) => Some((Err(status), Self::Ended)),
                    Ok(message) => {
                        let large = encoded_bytes(&message) >= READ_AHEAD_FROM_BYTES;
                        let rest = if large {
                            Self::ahead(*messages, drain)
                        } else {
                            Self::Here { messages, drain }
                        };
                        Some((Ok(message), rest))
                    }
                }
            }
            Self::Ahead { mut made, drain } => {
                let message = tokio::select! {
                    biased;
                    () = drain.cancelled() => Err(Refusal::shutting_down().into_status()),
                    message = made.recv() => message?,
                };
                let rest = if message.is_ok() {
                    Self::Ahead { made, drain }
                } else {
                    Self::Ended
                };
                Some((message, rest))
            }
            Self::Ended => None,
        }
    }

    fn ahead(mut messages: ReadMessages, drain: CancellationToken) -> Self {
        let (tx, made) = mpsc::channel(1);
        let task = async move {
            loop {
                // A scan that finds nothing for a long time is ended too when the client goes away.
                let message = tokio::select! {
                    biased;
                    () = tx.closed() => return,
                    message = messages.next() => message,
                };
                match message.transpose() {
                    None => return,
                    Some(message) => {
                        let last = message.is_err();
                        if tx.send(message).await.is_err() || last {
                            return;
                        }
                    }
                }
            }
        };
        tokio::spawn(task.in_current_span());
        Self::Ahead { made, drain }
    }
}

fn encoded_bytes(message: &ReadEventsResponse) -> usize {
    message
        .batch
        .as_ref()
        .map_or(0, crate::proto::EventBatch::encoded_bytes)
}

/// A subscription on its way to the client. Between messages it is one waiting future, without a task of its own.
struct Following {
    subscription: Subscription,
    log_id: String,
    events: Events,
    drain: CancellationToken,
    ended: Ended,
}

enum Ended {
    No,
    /// The place to resume from was told, the reason comes next.
    Checkpointed,
    Yes,
}

impl Following {
    async fn next(mut self) -> Option<(Result<SubscribeResponse, Status>, Self)> {
        let message = self.message().await?;
        Some((
            message.map(|message| SubscribeResponse {
                message: Some(message),
            }),
            self,
        ))
    }

    async fn message(&mut self) -> Option<Result<Message, Status>> {
        match self.ended {
            Ended::No => {}
            Ended::Checkpointed => {
                self.ended = Ended::Yes;
                return Some(Err(Refusal::shutting_down().into_status()));
            }
            Ended::Yes => return None,
        }
        if self.events.peek().is_some() {
            // The rest of what was delivered at once goes first: the subscription's position counts it as delivered.
            return Some(Ok(Message::Events(convert::event_batch(&mut self.events))));
        }
        let delivery = tokio::select! {
            biased;
            () = self.drain.cancelled() => {
                self.ended = Ended::Checkpointed;
                let last = convert::checkpoint(self.subscription.position(), &self.log_id);
                return Some(Ok(Message::Checkpoint(last)));
            }
            delivery = self.subscription.next() => delivery,
        };
        Some(match delivery {
            Ok(Delivery::Events(events)) => {
                self.events = events.into_iter().peekable();
                Ok(Message::Events(convert::event_batch(&mut self.events)))
            }
            Ok(Delivery::CaughtUp(position)) => Ok(Message::CaughtUp(convert::checkpoint(
                position,
                &self.log_id,
            ))),
            Ok(Delivery::Checkpoint(position)) => Ok(Message::Checkpoint(convert::checkpoint(
                position,
                &self.log_id,
            ))),
            Err(error) => {
                self.ended = Ended::Yes;
                Err(Refusal::from(error).into_status())
            }
        })
    }
}
