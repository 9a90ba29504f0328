//! A part of the log that has no index on disk yet: the names that its events carry, in memory, and their ids. It is sealed
//! whole.

use std::{
    ops::RangeInclusive,
    sync::{OnceLock, atomic::AtomicU64},
};

use parking_lot::RwLock;

use super::{
    ids::IdMap,
    names::{NameIndex, NameRows, Row, Rows, rows_through},
};
use crate::types::{
    id::Position,
    read::{Direction, NameKind},
};

/// See the module.
pub(crate) struct Part {
    /// The position of its first event.
    pub(crate) first: Position,
    /// The position of its last event, known once the next part has begun.
    pub(crate) last: OnceLock<Position>,
    /// Bytes of its frames.
    pub(crate) bytes: AtomicU64,
    entities: NameIndex,
    types: NameIndex,
    tags: NameIndex,
    /// Written by whoever places a batch.
    pub(super) ids: RwLock<IdMap>,
}

impl Part {
    pub(crate) fn new(first: Position) -> Self {
        Self {
            first,
            last: OnceLock::new(),
            bytes: AtomicU64::new(0),
            entities: NameIndex::new(),
            types: NameIndex::new(),
            tags: NameIndex::new(),
            ids: RwLock::new(IdMap::new()),
        }
    }

    pub(crate) fn names(&self, kind: NameKind) -> &NameIndex {
        match kind {
            NameKind::Entity => &self.entities,
            NameKind::Type => &self.types,
            NameKind::Tag => &self.tags,
        }
    }

    pub(crate) fn row(&self, position: Position) -> Row {
        Row::try_from(position - self.first).expect("a part is cut long before")
    }

    fn position(&self, row: Row) -> Position {
        self.first + Position::from(row)
    }

    /// Positions of events whose id may have this hash; the caller confirms them.
    pub(crate) fn ids(&self, hash: u64) -> Vec<Position> {
        let ids = self.ids.read();
        ids.rows(hash).map(|row| self.position(row)).collect()
    }

    /// How many rows of a list are at or before a position.
    fn through(&self, rows: &[Row], position: Position) -> usize {
        match position.checked_sub(self.first) {
            Some(row) => rows_through(rows, row),
            None => 0,
        }
    }

    /// The first `max` events with a name in a range, in the order of the direction.
    pub(crate) fn page(
        &self,
        kind: NameKind,
        (hash, name): (u64, &[u8]),
        range: &RangeInclusive<Position>,
        direction: Direction,
        max: usize,
    ) -> Vec<Position> {
        self.names(kind).with(hash, name, |found| {
            let rows = found.map_or(&[][..], |found| found.rows);
            let from = self.through(rows, range.start().saturating_sub(1));
            let to = self.through(rows, *range.end());
            let rows = &rows[from..to.max(from)];
            let position = |row: &Row| self.position(*row);
            match direction {
                Direction::Forward => rows.iter().take(max).map(position).collect(),
                Direction::Backward => rows.iter().rev().take(max).map(position).collect(),
            }
        })
    }

    /// Shows all names of a kind in order: how many events before the part carry it, and those of the part that do. Ends
    /// with the first error. Once the part is complete.
    pub(crate) fn each_name<E>(
        &self,
        kind: NameKind,
        mut see: impl FnMut(&[u8], u64, &mut dyn Iterator<Item = Position>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.names(kind).each_sorted(|name, found| {
            let mut positions = found.rows.iter().map(|row| self.position(*row));
            see(name, found.before, &mut positions)
        })
    }

    /// How many events of it carry a name.
    pub(crate) fn count(&self, kind: NameKind, (hash, name): (u64, &[u8])) -> u64 {
        self.names(kind).with(hash, name, |found| {
            found.map_or(0, |found| found.rows.len() as u64)
        })
    }

    /// How many events carry a name up to a position, those before the part included; `None` if the part has none such.
    pub(crate) fn count_through(
        &self,
        kind: NameKind,
        (hash, name): (u64, &[u8]),
        position: Position,
    ) -> Option<u64> {
        self.names(kind).with(hash, name, |found| {
            let Rows { before, rows } = found?;
            Some(before + self.through(rows, position) as u64)
        })
    }

    /// The position of the event that is the n-th to carry a name, those before the part included, counted from 1; `None`
    /// if it is not in the part.
    pub(crate) fn nth(
        &self,
        kind: NameKind,
        (hash, name): (u64, &[u8]),
        n: u64,
    ) -> Option<Position> {
        self.names(kind).with(hash, name, |found| {
            let Rows { before, rows } = found?;
            let index = n.checked_sub(before + 1)?;
            rows.get(usize::try_from(index).ok()?)
                .map(|row| self.position(*row))
        })
    }

    /// Keeps the positions whose events carry a name; they are all in the part.
    pub(crate) fn retain(
        &self,
        kind: NameKind,
        (hash, name): (u64, &[u8]),
        positions: &mut Vec<Position>,
    ) {
        self.names(kind).with(hash, name, |found| {
            let rows = found.map_or(&[][..], |found| found.rows);
            positions.retain(|position| rows.binary_search(&self.row(*position)).is_ok());
        });
    }

    /// The first names in order that start with `prefix`, come behind `after`, and have an event up to `head`.
    pub(crate) fn list(
        &self,
        kind: NameKind,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
        head: Position,
    ) -> Vec<NameRows> {
        let visible = |found: &Rows<'_>| {
            let visible = &found.rows[..self.through(found.rows, head)];
            let (first, last) = visible.first().zip(visible.last())?;
            Some((
                visible.len() as u64,
                self.position(*first),
                self.position(*last),
            ))
        };
        self.names(kind).list(prefix, after, limit, visible)
    }
}
