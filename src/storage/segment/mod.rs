//! Segments: the lasting form of the log, columnar, one Parquet file each, sorted by position.
//!
//! ```text
//! segments/<first>-<last>.parquet     magic │ row group │ … │ row group ║ page index │ footer
//!                                     blocks of 16 KiB, CRC-32C each    ║ tail, one CRC-32C
//! ```
//! - [`schema`]: columns, encodings, and what the footer says beside them.
//! - [`columns`]: rows to columns; [`writer`]: these to a file; [`sink`]: where its bytes go, summed up on the way.
//! - [`compact`]: several files to one.
//! - [`reader`]: opens a file; [`batches`]: reads columns out of it; [`rows`]: makes rows of them; [`blocks`]: checks
//!   every byte that is touched.
//! - [`content`]: what columns hold, summed up, to compare what was written with what is read.
//! - [`describe`]: what is known of a file whose summary was lost.
//!
//! The format has no checksum that its readers verify, so there is one for every block of the data, kept in the footer.
//! The footer cannot hold its own: the caller keeps that of the tail, together with what else [`SegmentSummary`] says,
//! and gives it back to open the file. Nothing is decoded before its checksum was verified.
//!
//! A file is made once and never changed. Not here: its name and the sync of its folder, which files are live, which
//! rows a query needs (the index).

pub(crate) mod batches;
mod blocks;
pub(crate) mod columns;
pub(crate) mod compact;
pub(crate) mod content;
pub(crate) mod describe;
pub(crate) mod reader;
pub(crate) mod rows;
pub(crate) mod schema;
mod sink;
#[cfg(test)]
mod tests;
pub(crate) mod writer;

use crate::{storage::log::row::Row, types::id::Position};

/// Data is summed up in blocks of so many bytes; the last one is shorter. About as long as a compressed page: what a read
/// of one row takes from the disk for each column.
pub(crate) const BLOCK_BYTES: usize = 16 << 10;

/// What must be known of a segment to open it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentSummary {
    /// Position of its first row.
    pub(crate) first: Position,
    /// Position of its last row; every one between is there.
    pub(crate) last: Position,
    /// Length of the file.
    pub(crate) bytes: u64,
    /// Of the whole file.
    pub(crate) sha256: [u8; 32],
    /// Where the data ends, and what describes it starts.
    pub(crate) tail_at: u64,
    /// CRC-32C from there to the end of the file.
    pub(crate) tail_crc: u32,
}

/// A row, and what the log keeps beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredRow {
    pub(crate) position: Position,
    /// µs since 1970, UTC.
    pub(crate) recorded_at: i64,
    /// The bytes that were written. They share one allocation with the other rows of their batch.
    pub(crate) row: Row,
}
