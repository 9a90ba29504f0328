//! The Rust client: the engine's vocabulary over gRPC.
//!
//! A call whose answer is lost is tried again, bounded, and harmlessly: every event gets its id before the first try, so
//! that the server recognises a repeat. What the server refuses is returned as it said it, decoded ([`ClientError`]).
//!
//! Used by `cli` and by programs. It knows `types` and `proto`, nothing of the engine.

mod append;
mod compact;
mod error;
mod event_ids;
mod events;
mod ingest;
mod ingest_encode;
mod retry;
mod scan;
mod scan_progress;
mod stats;
mod subscribe;
mod verify;
mod wire;

use std::{fmt, sync::Arc, time::Duration};

use arrow_flight::flight_service_client::FlightServiceClient;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use uuid::Uuid;

pub(crate) use self::event_ids::new_event_id;
use self::retry::Retry;
pub use self::{
    append::{AppendAnswers, AppendSender},
    compact::CompactionStats,
    error::{ClientError, Refusal},
    events::Events,
    ingest::{IngestOptions, Ingested, Ingesting},
    scan::{Scan, Scanned},
    stats::{Stats, TenantStats},
    subscribe::{Subscribed, Subscription},
    verify::{IntegrityFault, IntegritySummary, Verification, Verifying},
};
use crate::{
    proto::{
        self, admin_service_client::AdminServiceClient, get_event_request::Key,
        ingest_service_client::IngestServiceClient, query_service_client::QueryServiceClient,
    },
    types::{
        append::Violations,
        id::{Position, TenantId, Version},
        read::AsOf,
        text::Text,
        time::Timestamp,
    },
};

/// Bytes that the server may send ahead of what was read: enough to keep a fast link or a loopback busy.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;
/// Larger HTTP/2 frames than the smallest allowed cost fewer wake-ups.
const FRAME_BYTES: u32 = 256 << 10;
/// An event may have 1 MiB, a message more than one; and operators may raise the limits.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// A dead connection is noticed within these.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

type Service = InterceptedService<Channel, Credentials>;

/// A connection to a server, as one tenant. Clones share it and are cheap.
///
/// ```
/// use annals::{Batch, Client, Expect, NewEvent, ReadRequest};
/// # use annals::{config::Config, server::Server};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let mut config = Config { data: dir.path().into(), ..Config::default() };
/// # config.listen.set_port(0);
/// # let server = Server::start(&config).await?;
/// # let url = format!("http://{}", server.local_addr());
/// let client = Client::connect(url).await?;
///
/// let paid = NewEvent::new("order-42", "order.paid", r#"{"amount": 12.5}"#);
/// let appended = client.append(&Batch::new([paid]).expecting("order-42", Expect::Absent)).await?;
/// assert_eq!((appended.first_position, appended.last_position), (1, 1));
///
/// let mut events = client.read(&ReadRequest::default()).await?;
/// while let Some(batch) = events.next().await? {
///     for event in &batch {
///         let event = event?;
///         println!("{}: {} {}", event.position, event.event_type, event.payload);
///     }
/// }
/// # server.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    ingest: IngestServiceClient<Service>,
    query: QueryServiceClient<Service>,
    admin: AdminServiceClient<Service>,
    flight: FlightServiceClient<Service>,
    channel: Channel,
    options: Arc<ClientOptions>,
}

/// How to connect. The default: tenant `default`, no credentials.
#[derive(Clone)]
pub struct ClientOptions {
    /// Whose log.
    pub tenant: Option<TenantId>,
    /// Sent as `authorization: Bearer …`.
    pub token: Option<String>,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// How often a call is tried again whose outcome is unknown or that came at a bad moment.
    pub retries: u32,
    /// For how long a subscription or a scan tries to come back, each time that it is lost.
    pub resume_for: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            tenant: None,
            token: None,
            connect_timeout: Duration::from_secs(5),
            retries: 5,
            resume_for: Duration::from_mins(5),
        }
    }
}

impl fmt::Debug for ClientOptions {
    // The token stays out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientOptions")
            .field("tenant", &self.tenant)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("connect_timeout", &self.connect_timeout)
            .field("retries", &self.retries)
            .field("resume_for", &self.resume_for)
            .finish()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// The state of an entity: the RFC 7396 merge of its payloads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntityState {
    /// Of the last event merged; 0 before the first.
    pub version: Version,
    /// JSON text; `null` before the first event.
    pub state: String,
    /// Of the last event merged; 0 before the first.
    pub position: Position,
    /// The position that the state was read at.
    pub head: Position,
    /// When the last event merged was recorded.
    pub recorded_at: Option<Timestamp>,
}

/// Part of a listing. Every page of it shows the log at the head of the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamePage {
    /// In the order of their bytes.
    pub names: Vec<NameSummary>,
    /// Ask with this for what follows; `None` after the last page.
    pub next_page: Option<String>,
    /// The position that the listing was read at.
    pub head: Position,
}

/// An entity or event type, and its events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameSummary {
    /// Of the entity or event type.
    pub name: Text,
    /// How many events it has; an entity's version.
    pub events: u64,
    /// Its first event.
    pub first_position: Position,
    /// Its last event.
    pub last_position: Position,
}

/// Which names to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PageRequest {
    /// Names that start with this.
    pub prefix: String,
    /// 1 to 1,000; `None`: the server's choice.
    pub page_size: Option<u32>,
    /// From the page before.
    pub page: Option<String>,
}

/// Where a subscription starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The first event delivered has a greater position.
    After(Position),
    /// Only what is appended from now on.
    Head,
}

impl Client {
    /// Connects as tenant `default`. `url` is like `http://127.0.0.1:4747`.
    pub async fn connect(url: impl AsRef<str>) -> Result<Self, ClientError> {
        Self::connect_with(url, ClientOptions::default()).await
    }

    /// Connects.
    pub async fn connect_with(
        url: impl AsRef<str>,
        options: ClientOptions,
    ) -> Result<Self, ClientError> {
        let url = url.as_ref();
        let credentials = Credentials::new(&options)?;
        let channel = endpoint(url, &options)?
            .connect()
            .await
            .map_err(|e| ClientError::no_server(url, e))?;
        let service = InterceptedService::new(channel.clone(), credentials);
        Ok(Self {
            ingest: IngestServiceClient::new(service.clone())
                .max_encoding_message_size(MESSAGE_BYTES_MAX)
                .max_decoding_message_size(MESSAGE_BYTES_MAX),
            query: QueryServiceClient::new(service.clone())
                .max_encoding_message_size(MESSAGE_BYTES_MAX)
                .max_decoding_message_size(MESSAGE_BYTES_MAX),
            admin: AdminServiceClient::new(service.clone()),
            flight: FlightServiceClient::new(service)
                .max_encoding_message_size(MESSAGE_BYTES_MAX)
                .max_decoding_message_size(MESSAGE_BYTES_MAX),
            channel,
            options: Arc::new(options),
        })
    }

    /// The event at a position.
    pub async fn event(&self, position: Position) -> Result<proto::Event, ClientError> {
        self.get_event(Key::Position(position)).await
    }

    /// The event with an id.
    pub async fn event_by_id(&self, id: Uuid) -> Result<proto::Event, ClientError> {
        self.get_event(Key::EventId(id.to_string())).await
    }

    async fn get_event(&self, key: Key) -> Result<proto::Event, ClientError> {
        let request = proto::GetEventRequest { key: Some(key) };
        let mut retry = Retry::of(&self.options);
        loop {
            match self.query.clone().get_event(request.clone()).await {
                Ok(answer) => {
                    let event = answer.into_inner().event;
                    return event.ok_or(ClientError::Answer("it has no event"));
                }
                Err(status) => retry.after(status.into()).await?,
            }
        }
    }

    /// The state of an entity, now or as of a point of the past.
    pub async fn state(
        &self,
        entity_id: impl Into<String>,
        as_of: Option<AsOf>,
    ) -> Result<EntityState, ClientError> {
        let request = proto::GetEntityStateRequest {
            entity_id: entity_id.into(),
            as_of: as_of.map(wire::as_of),
        };
        let mut retry = Retry::of(&self.options);
        loop {
            match self.query.clone().get_entity_state(request.clone()).await {
                Ok(answer) => return wire::entity_state(answer.into_inner()),
                Err(status) => retry.after(status.into()).await?,
            }
        }
    }

    /// Entities, in the order of their names.
    pub async fn entities(&self, request: &PageRequest) -> Result<NamePage, ClientError> {
        let request = proto::ListEntitiesRequest {
            prefix: request.prefix.clone(),
            page_size: request.page_size.unwrap_or_default(),
            page_token: request.page.clone().unwrap_or_default(),
        };
        let mut retry = Retry::of(&self.options);
        loop {
            match self.query.clone().list_entities(request.clone()).await {
                Ok(answer) => return Ok(wire::entity_page(answer.into_inner())),
                Err(status) => retry.after(status.into()).await?,
            }
        }
    }

    /// Event types, in the order of their names.
    pub async fn event_types(&self, request: &PageRequest) -> Result<NamePage, ClientError> {
        let request = proto::ListEventTypesRequest {
            prefix: request.prefix.clone(),
            page_size: request.page_size.unwrap_or_default(),
            page_token: request.page.clone().unwrap_or_default(),
        };
        let mut retry = Retry::of(&self.options);
        loop {
            match self.query.clone().list_event_types(request.clone()).await {
                Ok(answer) => return Ok(wire::event_type_page(answer.into_inner())),
                Err(status) => retry.after(status.into()).await?,
            }
        }
    }

    /// Where a cursor stands that was committed with a batch.
    pub async fn cursor(&self, name: impl Into<String>) -> Result<Position, ClientError> {
        let request = proto::GetCursorRequest { name: name.into() };
        let mut retry = Retry::of(&self.options);
        loop {
            match self.query.clone().get_cursor(request.clone()).await {
                Ok(answer) => return Ok(answer.into_inner().position),
                Err(status) => retry.after(status.into()).await?,
            }
        }
    }

    /// Whether the server says that it serves (`grpc.health.v1`): the emptiest call there is.
    pub async fn is_serving(&self) -> Result<bool, ClientError> {
        let request = HealthCheckRequest::default();
        let answer = HealthClient::new(self.channel.clone())
            .check(request)
            .await?;
        Ok(answer.into_inner().status() == ServingStatus::Serving)
    }
}

fn endpoint(url: &str, options: &ClientOptions) -> Result<Endpoint, ClientError> {
    let wrong = |reason| ClientError::Address {
        url: url.to_owned(),
        reason,
    };
    let scheme = url.split_once("://").map(|(scheme, _)| scheme);
    match scheme {
        Some("http") => {}
        Some("https") => return Err(wrong("this client speaks no TLS yet, use http://")),
        _ => return Err(wrong("it is written like http://127.0.0.1:4747")),
    }
    let endpoint = Endpoint::from_shared(url.to_owned())
        .map_err(|_| wrong("it is written like http://127.0.0.1:4747"))?;
    Ok(endpoint
        .connect_timeout(options.connect_timeout)
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .http2_keep_alive_interval(KEEP_ALIVE_EVERY)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true))
}

/// What every call carries in its metadata.
#[derive(Clone, Debug)]
struct Credentials {
    tenant: Option<MetadataValue<Ascii>>,
    bearer: Option<MetadataValue<Ascii>>,
}

impl Credentials {
    fn new(options: &ClientOptions) -> Result<Self, ClientError> {
        let tenant = options.tenant.as_ref().map(|t| t.as_str().parse());
        let bearer = options
            .token
            .as_ref()
            .map(|token| format!("Bearer {token}").parse());
        let mut bearer: Option<MetadataValue<Ascii>> = bearer.transpose().map_err(|_| {
            ClientError::Invalid(Violations::one("token", "must be visible ASCII text"))
        })?;
        if let Some(bearer) = &mut bearer {
            bearer.set_sensitive(true);
        }
        Ok(Self {
            // A tenant's name is plain ASCII by its type.
            tenant: tenant.and_then(Result::ok),
            bearer,
        })
    }
}

impl Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(tenant) = &self.tenant {
            request
                .metadata_mut()
                .insert("annals-tenant", tenant.clone());
        }
        if let Some(bearer) = &self.bearer {
            request
                .metadata_mut()
                .insert("authorization", bearer.clone());
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_that_is_none_is_told_before_anything_is_sent() {
        for url in [
            "",
            "127.0.0.1:4747",
            "https://localhost:4747",
            "ftp://a",
            "http://",
        ] {
            let error = Client::connect(url).await.unwrap_err();
            assert_eq!(error.reason(), "INVALID_ADDRESS", "{url}: {error}");
        }
    }

    #[tokio::test]
    async fn a_refused_connection_is_no_server() {
        let free = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let error = Client::connect(format!("http://{free}")).await.unwrap_err();
        assert!(
            matches!(error, ClientError::NoServer { refused: true, .. }),
            "{error:?}"
        );
    }

    #[test]
    fn options_do_not_print_the_token() {
        let options = ClientOptions {
            token: Some("secret".into()),
            ..ClientOptions::default()
        };
        assert!(!format!("{options:?}").contains("secret"));
    }
}
