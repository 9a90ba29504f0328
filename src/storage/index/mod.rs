//! Index runs: immutable lookup files for sealed parts of the log.
//!
//! ```text
//! tenants/<tenant>/index/<first>-<last>.idx
//! one file: header │ rows │ ids │ filter of ids │ leaves, pages and postings of names, mixed │ filter of names │ footer
//! ```
//! A run covers the positions from its first to its last without a gap. It answers what the index in memory answers for
//! the newest part of the log: where an event stands, which positions an event id may have, which positions carry a name.
//!
//! - `block`: 4 KiB, each with a checksum. Nothing is used that was not checked; and what was, is still not trusted to
//!   stay inside its bounds.
//! - `layout`: header and footer.
//! - `rows`, `ids`, `filter`, `names` (of `page`s), `postings`: the sections, each with its writing and reading half.
//! - `cache`: the blocks in memory, of all runs of the process.
//! - `writer`, `reader`: a run; `merge`: one of several; `describe`: one of which nobody knows what it holds.
//!
//! Invariant: a damaged run gives the right answer or [`ReadError::Damaged`](crate::types::read::ReadError::Damaged),
//! never a wrong answer, and never more memory or time than its size explains.
//! Not here: which runs there are (`manifest`), when they are made and merged (`engine`).

mod block;
pub(crate) mod cache;
pub(crate) mod describe;
pub(crate) mod filter;
mod ids;
mod layout;
pub(crate) mod merge;
pub(crate) mod names;
mod page;
mod postings;
pub(crate) mod reader;
mod rows;
#[cfg(test)]
mod tests;
mod varint;
pub(crate) mod writer;

use crate::types::id::Position;

/// The log offset of no row: a frame begins there.
pub(crate) const NOWHERE: u64 = 0;

/// Where an event stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RowPlace {
    /// Log offset of its row; [`NOWHERE`] if no log file holds it any more.
    pub(crate) log_offset: u64,
    /// Bytes of its row.
    pub(crate) bytes: u32,
    /// When it was recorded, in µs since 1970.
    pub(crate) recorded_at: i64,
}

/// What the manifest keeps of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RunSummary {
    pub(crate) first: Position,
    pub(crate) last: Position,
    /// Length of the file.
    pub(crate) bytes: u64,
    /// Of the file.
    pub(crate) sha256: [u8; 32],
}
