//! The vocabulary: ids, events, batches, filters, limits. Values only; no I/O, no locks, no protobuf.
//!
//! Every other module may use this one; it uses none.

pub mod append;
pub mod event;
pub mod hash;
pub mod id;
pub mod kind;
pub mod limits;
pub(crate) mod object;
pub mod read;
pub mod scan;
pub mod slot;
pub mod text;
pub mod time;
