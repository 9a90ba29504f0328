//! Between the wire and the engine: decode → one engine call → encode. No policy lives here.
//!
//! [`convert`] is the only place that turns protobuf into engine values and back, [`status`] the only one that turns an
//! error's kind into a gRPC code, [`gate`] the only one that looks at who calls, and [`call`] surrounds every call with
//! what all calls share: the limit, the deadline, the span, the count.
//!
//! Used by `server`. With `server` and `client` the only user of tonic.

mod admin;
#[cfg(feature = "sql")]
mod analytics;
pub(crate) mod call;
mod convert;
mod flight;
pub(crate) mod gate;
mod ingest;
mod query;
mod status;
mod task;
mod token;

pub(crate) use admin::Admin;
pub(crate) use flight::{DoGet, Flight, MESSAGE_FACTOR as FLIGHT_MESSAGE_FACTOR};
pub(crate) use ingest::Ingest;
pub(crate) use query::Query;
