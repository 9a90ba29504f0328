//! What a caller should do about an error. Every error of the crate answers `kind()`; `service/status.rs` is the one
//! place that turns kinds into gRPC codes.

/// The class of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The request is malformed: change it.
    Invalid,
    /// There is no such thing.
    NotFound,
    /// It is there already, and different.
    AlreadyExists,
    /// A condition did not hold: read again, then retry.
    Conflict,
    /// The state of the system refuses it: retrying does not help.
    Refused,
    /// Beyond the head or below the floor.
    OutOfRange,
    /// A bound is reached: retry later, or ask for less.
    Exhausted,
    /// It was not done, and may be retried.
    Unavailable,
    /// It may or may not have been done.
    Unknown,
    /// Bytes on disk are not what was written.
    Corrupt,
    /// A bug, or a failing machine.
    Internal,
}
