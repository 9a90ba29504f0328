//! What is known of the rows of a scan of events without reading them, and how many rows a scan read.

use super::ScanRequest;
use crate::telemetry::Origin;
#[cfg(feature = "sql")]
use crate::{
    engine::{log::set::Set, tenant::Tenant},
    types::{
        id::Position,
        read::{Direction, NameKind, ReadError},
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
    /// How many events a scan gives between its `after` and its `through`, if the index tells without going through them.
    /// Waits for the disk.
    pub(crate) fn count_rows(&self, request: &ScanRequest) -> Result<Option<u64>, ReadError> {
        let filter = &request.filter;
        let Some(through) = request.through else {
            return Ok(None);
        };
        if !filter.partitions.is_empty() || !filter.occurred.is_all() || !filter.recorded.is_all() {
            return Ok(None);
        }
        self.count_of(&self.scan_set(request), request.after, through)
    }

    fn count_of(
        &self,
        set: &Set,
        after: Position,
        through: Position,
    ) -> Result<Option<u64>, ReadError> {
        match set {
            Set::All => Ok(Some(through.saturating_sub(after))),
            // What came before is known of entities and types alone.
            Set::Name {
                kind: NameKind::Tag,
                ..
            } => Ok(None),
            Set::Name { kind, hash, name } => {
                let pieces = self.log.pieces();
                let up_to =
                    |position| pieces.count_through(*kind, (*hash, name.as_bytes()), position);
                Ok(Some(up_to(through)?.saturating_sub(up_to(after)?)))
            }
            // No event has two of them.
            Set::Any(members) if members.len() == 1 || members.iter().all(is_single) => {
                let mut sum = 0;
                for member in members {
                    match self.count_of(member, after, through)? {
                        Some(count) => sum += count,
                        None => return Ok(None),
                    }
                }
                Ok(Some(sum))
            }
            Set::Any(_) | Set::Every(_) | Set::TypePrefix(..) => Ok(None),
        }
    }

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

/// Whether an event has at most one name of the kind.
#[cfg(feature = "sql")]
fn is_single(set: &Set) -> bool {
    matches!(
        set,
        Set::Name {
            kind: NameKind::Entity | NameKind::Type,
            ..
        }
    )
}
