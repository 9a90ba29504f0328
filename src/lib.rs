//! Annals, an event store whose history is at every moment also a columnar table.
//!
//! Programs append facts about entities; Annals makes them durable, puts them in one order, and serves them: as streams
//! of entities with optimistic concurrency, as a log to replay and to follow, as tables of Arrow record batches and of SQL.
//! What it is not: a message broker with queues of its own, a database of current state, a cluster.
//!
//! # Map
//!
//! | module | what it is | may use |
//! |---|---|---|
//! | [`types`] | the vocabulary: ids, events, batches, filters, limits | nothing |
//! | [`storage`] | bytes to disk and back; the only place that touches files | `types` |
//! | [`engine`] | behaviour: append, read, follow, scan, SQL; usable in process | `storage`, `types`, `telemetry` |
//! | [`proto`] | the generated gRPC types | nothing |
//! | `service` | gRPC and Arrow Flight to engine and back | `engine`, `proto`, `types`, `telemetry` |
//! | [`server`] | puts it together: opens, listens, drains | all of the above, `config` |
//! | [`client`] | the Rust client over both | `proto`, `types` |
//! | [`config`] | settings | `types`, `engine` |
//! | `telemetry` | logs and metrics | `types` |
//! | [`cli`] | arguments to calls | `client`, `server`, `config`, `telemetry`, `engine`, `proto`, `types` |
//!
//! Data flows from `service` to `engine` to `storage` and comes back by pull. `tests/tidy.rs` enforces the arrows.
//!
//! # Invariants
//!
//! - An append is answered after `fdatasync`; what was answered is never lost, reordered, or shown otherwise.
//! - A batch is one frame of the log: all of it or nothing.
//! - Guards are judged against everything before the batch, by one caller at a time; nothing comes in between.
//! - Readers see a position only once it is durable; every read works on one head and says which.
//! - Events have two forms, rows of the log and columns of a segment, and every read gives the same whichever it is from.
//!   Scans give the columns of segments as they stand there, and convert only what is not sealed.
//!   A segment and its index are named only once they are durable and were read back; only then log files go.
//! - A statement of SQL reads all its tables at one position, writes nothing, and works on threads of its own.
//! - Every byte that is read from disk was checked; what does not match is an error that names file and offset.
//! - Nothing is repaired in place, and a failed sync is never retried on the same file.
//! - Wall clock and randomness come in at the committer alone; everything else follows from the log.
//! - Queues, batches and caches are bounded in bytes, in [`types::limits`].

pub mod cli;
pub mod client;
pub mod config;
pub mod engine;
pub mod proto;
pub mod server;
mod service;
pub mod storage;
mod telemetry;
pub mod types;

pub use client::{Client, ClientError, ClientOptions, IngestOptions, Ingested, Ingesting};
#[cfg(feature = "sql")]
pub use engine::sql::{Prepared, SqlError, SqlRequest, SqlRows};
pub use engine::{
    Engine, EngineOptions, OpenError, TenantError,
    event::Event,
    log::{RecoveryReport, compact::CompactionStats, read::Reader},
    state::EntityState,
    subscription::{Delivery, Start, SubscribeRequest, Subscription},
    table::{Scan, ScanBatch},
    tenant::{
        ListRequest, Listing, NameSummary, StreamAnswers, StreamAppender, Tenant, TenantStats,
    },
};
pub use types::{
    analytics::{
        Correlation, CorrelationRequest, Durations, EventTime, Frequency, FrequencyRequest, Series,
        Summaries, Summary, SummaryRequest,
    },
    append::{
        AppendError, Appended, Batch, CursorRecord, Expect, Guard, GuardFailure, Query, QueryItem,
        Violation, Violations,
    },
    event::NewEvent,
    id::{LogId, Position, TenantId, Version},
    kind::Kind,
    limits::Limits,
    read::{AsOf, Damage, Direction, Filter, InvalidAsOf, ReadError, ReadRequest, TimeRange},
    scan::{ScanRequest, Table},
    text::Text,
    time::Timestamp,
};
