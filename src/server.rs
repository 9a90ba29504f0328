//! The composition root: opens the engine, mounts the services, listens, and drains when it is told to end.
//!
//! Invariants: it never listens beyond loopback unless told that this is meant; once it drains no new call is taken,
//! appends in flight are answered, streams end with a place to resume from, and only then the engine closes.
//!
//! Not here: what calls do (`service`), settings (`config`), signals and what a person sees (`cli::serve`).

use std::{io, net::SocketAddr, time::Duration};

use arrow_flight::flight_service_server::FlightServiceServer;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::{
    service::Routes,
    transport::{self, server::TcpIncoming},
};
use tonic_health::{ServingStatus, server::HealthReporter};
use tracing::{info, warn};

use crate::{
    config::Config,
    engine::{Engine, EngineOptions, OpenError},
    proto::{
        FILE_DESCRIPTOR_SET, admin_service_server::AdminServiceServer,
        ingest_service_server::IngestServiceServer, query_service_server::QueryServiceServer,
    },
    service::{
        Admin, DoGet, FLIGHT_MESSAGE_FACTOR, Flight, Ingest, Query, call::Calls, gate::Gate,
    },
    telemetry::{self, MetricsPage},
    types::time::{Clock, SystemClock},
};

/// How often a silent connection is asked whether it is still there, and how long it has to answer.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// What a client may send on one stream, and on a connection, before it has to wait for the server to take it: a few
/// large batches.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// Largest HTTP/2 frame: fewer, larger ones cost less for each byte.
const FRAME_BYTES_MAX: u32 = 256 << 10;

/// Starts servers.
#[derive(Debug)]
pub struct Server;

/// Why a server did not start; the messages say what to do.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the variants are")]
pub enum StartError {
    #[error(
        "{0} can be reached from other machines, and nobody is asked for credentials: listen on 127.0.0.1, or add \
         --insecure if the network is trusted"
    )]
    BeyondLoopback(SocketAddr),
    #[error(
        "{0} is taken: end the other server, or choose another port with --listen (port 0 takes a free one)"
    )]
    AddressTaken(SocketAddr),
    #[error("listening on {addr}")]
    Listen { addr: SocketAddr, source: io::Error },
    #[error("serving metrics on {addr}")]
    Metrics { addr: SocketAddr, source: io::Error },
    #[error("keeping metrics: {0}")]
    Recorder(String),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("the task that opens the data directory failed")]
    Task(#[from] tokio::task::JoinError),
    #[error("serving reflection")]
    Reflection(#[from] tonic_reflection::server::Error),
}

impl Server {
    /// Opens the data directory and serves it, on the runtime it is called on.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(config: &Config) -> Result<RunningServer, StartError> {
        let beyond = |addr: &SocketAddr| !addr.ip().is_loopback() && !config.insecure;
        if let Some(addr) = [Some(config.listen), config.metrics]
            .into_iter()
            .flatten()
            .find(beyond)
        {
            return Err(StartError::BeyondLoopback(addr));
        }
        // Both ports first: whoever cannot have them should not wait for a recovery to learn it.
        let listener = TcpListener::bind(config.listen)
            .await
            .map_err(|e| listen_error(config.listen, e))?;
        let addr = listener
            .local_addr()
            .map_err(|e| listen_error(config.listen, e))?;
        let metrics = match config.metrics {
            Some(addr) => {
                telemetry::keep_metrics().map_err(StartError::Recorder)?;
                Some(metrics_page(addr).await?)
            }
            None => None,
        };

        let options = EngineOptions {
            limits: config.limits.clone(),
            partitions: config.partitions,
            auto_create_tenants: config.tenants_auto_create,
            ..EngineOptions::default()
        };
        let data = config.data.clone();
        let opening = tokio::task::spawn_blocking(move || {
            let engine = Engine::open(data, options)?;
            let ticket_key = engine.ticket_key()?;
            Ok::<_, OpenError>((engine, ticket_key))
        });
        let (engine, ticket_key) = opening.await??;

        let drain = CancellationToken::new();
        let (health, routes) = routes(config, &engine, &ticket_key, &drain).await?;
        let serving = tokio::spawn(serve(config, listener, routes, drain.clone()));
        let (metrics_addr, metrics) = metrics
            .map(|(addr, page)| (addr, tokio::spawn(page.serve())))
            .unzip();
        info!(%addr, data = %config.data.display(), "serving");
        Ok(RunningServer {
            addr,
            metrics_addr,
            metrics,
            engine,
            health,
            drain,
            drain_max: config.drain,
            serving,
        })
    }
}

fn listen_error(addr: SocketAddr, source: io::Error) -> StartError {
    match source.kind() {
        io::ErrorKind::AddrInUse => StartError::AddressTaken(addr),
        _ => StartError::Listen { addr, source },
    }
}

async fn metrics_page(addr: SocketAddr) -> Result<(SocketAddr, MetricsPage), StartError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => StartError::AddressTaken(addr),
        _ => StartError::Metrics { addr, source },
    };
    let page = MetricsPage::bind(addr).await.map_err(failed)?;
    Ok((page.local_addr().map_err(failed)?, page))
}

async fn routes(
    config: &Config,
    engine: &Engine,
    ticket_key: &[u8; 32],
    drain: &CancellationToken,
) -> Result<(HealthReporter, Routes), StartError> {
    let gate = Gate::new(engine.clone());
    let ingest = IngestServiceServer::new(Ingest {
        gate: gate.clone(),
        drain: drain.clone(),
    })
    .max_decoding_message_size(config.message_bytes_max);
    let admin = AdminServiceServer::new(Admin {
        gate: gate.clone(),
        drain: drain.clone(),
    })
    .max_decoding_message_size(config.message_bytes_max);
    let flight_bytes_max = config
        .message_bytes_max
        .saturating_mul(FLIGHT_MESSAGE_FACTOR);
    let flight = Flight::new(gate.clone(), drain.clone(), flight_bytes_max, ticket_key);
    let do_get = DoGet::new(flight.clone());
    let flight = FlightServiceServer::new(flight).max_decoding_message_size(flight_bytes_max);
    let query = QueryServiceServer::new(Query {
        gate,
        drain: drain.clone(),
        started_at: SystemClock.now(),
    })
    .max_decoding_message_size(config.message_bytes_max);
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<IngestServiceServer<Ingest>>().await;
    health.set_serving::<QueryServiceServer<Query>>().await;
    health.set_serving::<AdminServiceServer<Admin>>().await;
    health.set_serving::<FlightServiceServer<Flight>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let routes = Routes::new(ingest)
        .add_service(query)
        .add_service(admin)
        .add_service(flight)
        .add_service(health_service)
        .add_service(reflection);
    let routes = routes.into_axum_router().route_service(DoGet::PATH, do_get);
    Ok((health, Routes::from(routes).prepare()))
}

fn serve(
    config: &Config,
    listener: TcpListener,
    routes: Routes,
    drain: CancellationToken,
) -> impl Future<Output = Result<(), transport::Error>> + Send + 'static {
    transport::Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_EVERY))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_concurrent_streams(config.calls_per_connection_max)
        .layer(Calls::new(config.calls_max, drain.clone()))
        .serve_with_incoming_shutdown(
            routes,
            TcpIncoming::from(listener).with_nodelay(Some(true)),
            drain.cancelled_owned(),
        )
}

/// A server that answers. Dropping it without [`RunningServer::shutdown`] leaves calls as they are.
pub struct RunningServer {
    addr: SocketAddr,
    metrics_addr: Option<SocketAddr>,
    metrics: Option<JoinHandle<()>>,
    engine: Engine,
    health: HealthReporter,
    drain: CancellationToken,
    drain_max: Duration,
    serving: JoinHandle<Result<(), transport::Error>>,
}

impl RunningServer {
    /// Where it listens, with the port that was taken.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where its metrics are served.
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.metrics_addr
    }

    /// What it serves.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Refuses new calls, answers those in flight, ends streams, closes the engine. Returns whether all calls ended in
    /// the time they had.
    pub async fn shutdown(mut self) -> bool {
        for service in [
            "",
            name::<IngestServiceServer<Ingest>>(),
            name::<QueryServiceServer<Query>>(),
            name::<AdminServiceServer<Admin>>(),
            name::<FlightServiceServer<Flight>>(),
        ] {
            self.health
                .set_service_status(service, ServingStatus::NotServing)
                .await;
        }
        self.drain.cancel();
        let ended = tokio::time::timeout(self.drain_max, &mut self.serving).await;
        let drained = ended.is_ok();
        if !drained {
            let seconds = self.drain_max.as_secs();
            warn!(seconds, "calls are still open: closing anyway");
            self.serving.abort();
        }
        let engine = self.engine.clone();
        if tokio::task::spawn_blocking(move || engine.close())
            .await
            .is_err()
        {
            warn!("closing the engine failed: the next start recovers");
        }
        if let Some(metrics) = &self.metrics {
            metrics.abort();
        }
        info!(drained, "shut down");
        drained
    }
}

fn name<S: tonic::server::NamedService>() -> &'static str {
    S::NAME
}
