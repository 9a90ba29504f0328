//! Bytes to disk and back: the formats, and the one place that touches files. Synchronous; knows `types` only.
//!
//! The same events have two forms: [`log`], rows as they were appended, and `segment`, columns as they stay.
//!
//! Not here: what events mean, who may write them, when they are visible. Called by `engine`.

pub(crate) mod bytes;
pub mod disk;
pub(crate) mod index;
pub(crate) mod lock;
pub mod log;
pub(crate) mod manifest;
pub(crate) mod segment;
pub(crate) mod ticket_key;
