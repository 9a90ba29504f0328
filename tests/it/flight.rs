//! Tables over Arrow Flight, as a generated client gets them from a real server: what is told of them, tickets, streams.
//!
//! What a scan gives is compared with the model in `model/tickets.rs`; appends are in `flight_put`.

mod follow;
pub(crate) mod front;
mod large;
mod resume;
mod streams;
pub(crate) mod stubs;
mod tables;
mod tickets;
