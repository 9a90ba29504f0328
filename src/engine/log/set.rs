//! Sets of events, described by names: what filters and `no_match` guards are made of. A set is evaluated on the index
//! alone, exactly, a page at a time.

use std::ops::RangeInclusive;

use super::names::{NameIndex, Row, row_of, rows_through};
use crate::types::{
    append::{Query, QueryItem},
    hash::KeyHasher,
    id::Position,
    read::{Direction, Filter},
    text::Text,
};

/// Rows looked at under one lock of a name.
const PAGE_ROWS: usize = 4_096;

/// The three kinds of names that events carry.
pub(crate) struct Index {
    pub(crate) hasher: KeyHasher,
    pub(crate) entities: NameIndex,
    pub(crate) types: NameIndex,
    pub(crate) tags: NameIndex,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NameKind {
    Entity,
    Type,
    Tag,
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) enum Set {
    /// Every event.
    All,
    /// Events that carry a name.
    Name {
        kind: NameKind,
        hash: u64,
        name: Text,
    },
    /// Union; empty if it has no member.
    Any(Vec<Set>),
    /// Intersection of at least one.
    Every(Vec<Set>),
}

impl Index {
    pub(crate) fn new(hasher: KeyHasher) -> Self {
        Self {
            hasher,
            entities: NameIndex::new(),
            types: NameIndex::new(),
            tags: NameIndex::new(),
        }
    }

    fn names(&self, kind: NameKind) -> &NameIndex {
        match kind {
            NameKind::Entity => &self.entities,
            NameKind::Type => &self.types,
            NameKind::Tag => &self.tags,
        }
    }

    fn any(&self, kind: NameKind, names: &[Text]) -> Set {
        Set::Any(
            names
                .iter()
                .map(|name| self.name(kind, name.clone()))
                .collect(),
        )
    }

    pub(crate) fn name(&self, kind: NameKind, name: Text) -> Set {
        Set::Name {
            kind,
            hash: self.hasher.hash(name.as_bytes()),
            name,
        }
    }

    /// The events that a query matches.
    pub(crate) fn query(&self, query: &Query) -> Set {
        Set::Any(query.items.iter().map(|item| self.item(item)).collect())
    }

    fn item(&self, item: &QueryItem) -> Set {
        let tags = item
            .tags
            .iter()
            .map(|tag| self.name(NameKind::Tag, tag.clone()));
        let mut members: Vec<_> = tags.collect();
        if !item.event_types.is_empty() {
            members.push(self.any(NameKind::Type, &item.event_types));
        }
        every(members)
    }

    /// The events that a filter lets through, but for partitions and times. Types are those known up to `head`.
    pub(crate) fn filter(&self, filter: &Filter, head: Position) -> Set {
        let tags = filter
            .tags
            .iter()
            .map(|tag| self.name(NameKind::Tag, tag.clone()));
        let mut members: Vec<_> = tags.collect();
        if !filter.entity_ids.is_empty() {
            members.push(self.any(NameKind::Entity, &filter.entity_ids));
        }
        if !filter.event_types.is_empty() {
            members.push(self.any(NameKind::Type, &filter.event_types));
        }
        if !filter.event_type_prefix.as_bytes().is_empty() {
            let prefix = filter.event_type_prefix.as_bytes();
            let types = self.types.list(prefix, None, usize::MAX >> 1, head);
            let types = types
                .iter()
                .map(|t| Text::from(bytes::Bytes::copy_from_slice(&t.name)));
            members.push(Set::Any(
                types.map(|t| self.name(NameKind::Type, t)).collect(),
            ));
        }
        if !filter.query.items.is_empty() {
            members.push(self.query(&filter.query));
        }
        every(members)
    }

    /// At most this many events have to be looked at.
    fn estimate(&self, set: &Set) -> u64 {
        match set {
            Set::All => u64::MAX,
            Set::Name { kind, hash, name } => {
                self.names(*kind)
                    .with(*hash, name.as_bytes(), |rows| rows.len() as u64)
            }
            Set::Any(members) => members
                .iter()
                .map(|m| self.estimate(m))
                .fold(0, u64::saturating_add),
            Set::Every(members) => members
                .iter()
                .map(|m| self.estimate(m))
                .min()
                .unwrap_or(u64::MAX),
        }
    }

    /// The first `max` members in a range of positions, in the order of the direction. Fewer: there are no more.
    pub(crate) fn page(
        &self,
        set: &Set,
        range: RangeInclusive<Position>,
        direction: Direction,
        max: usize,
    ) -> Vec<Row> {
        if range.is_empty() || max == 0 {
            return Vec::new();
        }
        match set {
            Set::All => consecutive(&range, direction, max),
            Set::Name { kind, hash, name } => {
                self.names(*kind).with(*hash, name.as_bytes(), |rows| {
                    slice(rows, &range, direction, max)
                })
            }
            Set::Any(members) => {
                let mut rows = Vec::new();
                for member in members {
                    rows.extend(self.page(member, range.clone(), direction, max));
                }
                if members.len() > 1 {
                    rows.sort_unstable();
                    rows.dedup();
                    if direction == Direction::Backward {
                        rows.reverse();
                    }
                    rows.truncate(max);
                }
                rows
            }
            Set::Every(members) => self.page_of_every(members, range, direction, max),
        }
    }

    /// Walks the smallest member and keeps what the others have too.
    fn page_of_every(
        &self,
        members: &[Set],
        range: RangeInclusive<Position>,
        direction: Direction,
        max: usize,
    ) -> Vec<Row> {
        let smallest = (0..members.len()).min_by_key(|&i| self.estimate(&members[i]));
        let Some(smallest) = smallest else {
            return Vec::new();
        };
        let (mut from, mut to) = range.into_inner();
        let mut found = Vec::new();
        loop {
            let mut rows = self.page(&members[smallest], from..=to, direction, PAGE_ROWS);
            let exhausted = rows.len() < PAGE_ROWS;
            if let Some(last) = rows.last().map(|&row| Position::from(row)) {
                match direction {
                    Direction::Forward => from = last + 1,
                    Direction::Backward => to = last - 1,
                }
            }
            for (i, member) in members.iter().enumerate() {
                if i != smallest {
                    self.retain(member, &mut rows);
                }
            }
            found.extend(rows);
            if exhausted || found.len() >= max {
                found.truncate(max);
                return found;
            }
        }
    }

    /// Keeps the rows that are in the set.
    fn retain(&self, set: &Set, rows: &mut Vec<Row>) {
        if rows.is_empty() {
            return;
        }
        match set {
            Set::All => {}
            Set::Name { kind, hash, name } => {
                self.names(*kind).with(*hash, name.as_bytes(), |all| {
                    rows.retain(|row| all.binary_search(row).is_ok());
                });
            }
            Set::Any(members) => {
                let mut kept = Vec::new();
                for member in members {
                    let mut some = rows.clone();
                    self.retain(member, &mut some);
                    kept.extend(some);
                }
                kept.sort_unstable();
                rows.retain(|row| kept.binary_search(row).is_ok());
            }
            Set::Every(members) => members.iter().for_each(|member| self.retain(member, rows)),
        }
    }
}

fn every(mut members: Vec<Set>) -> Set {
    match members.len() {
        0 => Set::All,
        1 => members.remove(0),
        _ => Set::Every(members),
    }
}

fn consecutive(range: &RangeInclusive<Position>, direction: Direction, max: usize) -> Vec<Row> {
    let (from, to) = (*range.start(), *range.end());
    match direction {
        Direction::Forward => {
            let to = to.min(from.saturating_add(max as u64 - 1));
            (row_of(from)..=row_of(to)).collect()
        }
        Direction::Backward => {
            let from = from.max(to.saturating_sub(max as u64 - 1));
            (row_of(from)..=row_of(to)).rev().collect()
        }
    }
}

fn slice(
    rows: &[Row],
    range: &RangeInclusive<Position>,
    direction: Direction,
    max: usize,
) -> Vec<Row> {
    let from = rows_through(rows, range.start().saturating_sub(1));
    let to = rows_through(rows, *range.end());
    let rows = &rows[from..to.max(from)];
    match direction {
        Direction::Forward => rows[..rows.len().min(max)].to_vec(),
        Direction::Backward => rows.iter().rev().take(max).copied().collect(),
    }
}
