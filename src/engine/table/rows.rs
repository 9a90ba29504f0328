//! Which rows a scan of events has, without reading them, and how many rows a scan read.

use crate::telemetry::Origin;
#[cfg(feature = "sql")]
use crate::{
    engine::tenant::Tenant,
    types::{
        id::Position,
        read::{Direction, ReadError},
        scan::ScanRequest,
    },
};

/// Rows that a scan looked at, by where they came from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RowsRead {
    pub(crate) segments: usize,
    pub(crate) log: usize,
}

impl RowsRead {
    pub(super) fn count(&mut self, origin: Origin, rows: usize) {
        match origin {
            Origin::Segment => self.segments += rows,
            Origin::Log => self.log += rows,
        }
    }
}

#[cfg(feature = "sql")]
impl Tenant {
    /// Where the `count`-th event of a scan stands in a direction, or the last of fewer; `None` if it has none. Times of
    /// occurrence and partitions are not looked at. Waits for the disk.
    pub(crate) fn nth_row(
        &self,
        request: &ScanRequest,
        direction: Direction,
        count: usize,
    ) -> Result<Option<Position>, ReadError> {
        let through = request.through.unwrap_or_else(|| self.head());
        if through <= request.after {
            return Ok(None);
        }
        let range = request.after + 1..=through;
        let pieces = self.log.pieces();
        let rows = pieces.page(&self.scan_set(request), range, direction, count)?;
        Ok(rows.last().copied())
    }
}
