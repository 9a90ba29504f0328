//! Bytes to disk and back: the formats, and the one place that touches files. Synchronous; knows `types` only.
//!
//! Not here: what events mean, who may write them, when they are visible. Called by `engine`.

pub mod disk;
pub(crate) mod lock;
pub mod log;
pub(crate) mod manifest;
