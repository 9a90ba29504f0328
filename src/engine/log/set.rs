//! Sets of events, described by names: what filters and `no_match` guards are made of. A set is evaluated on the index
//! alone, exactly, a piece of the log and a page at a time.

use std::{collections::HashSet, ops::RangeInclusive};

use super::index::{Index, Piece, Pieces, consecutive};
use crate::types::{
    append::{Query, QueryItem},
    hash::KeyHasher,
    id::Position,
    read::{Direction, Filter, NameKind, ReadError},
    text::Text,
};

/// Rows looked at under one lock of a name.
const PAGE_ROWS: usize = 4_096;

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
    /// Events whose type starts so.
    TypePrefix(Text, KeyHasher),
    /// Union; empty if it has no member.
    Any(Vec<Set>),
    /// Intersection of at least one.
    Every(Vec<Set>),
}

/// What an index knows of the size of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Count {
    /// Members, or more.
    pub(crate) at_most: u64,
    /// They are as many.
    pub(crate) exact: bool,
}

impl Count {
    fn exact(rows: u64) -> Self {
        Self {
            at_most: rows,
            exact: true,
        }
    }
}

/// Sets by the names that questions are made of.
impl Index {
    pub(crate) fn name(&self, kind: NameKind, name: Text) -> Set {
        Set::Name {
            kind,
            hash: self.hasher.hash(name.as_bytes()),
            name,
        }
    }

    fn any(&self, kind: NameKind, names: &[Text]) -> Set {
        let names = names.iter().map(|name| self.name(kind, name.clone()));
        Set::Any(names.collect())
    }

    fn tags(&self, tags: &[Text]) -> Vec<Set> {
        let tags = tags.iter();
        tags.map(|tag| self.name(NameKind::Tag, tag.clone()))
            .collect()
    }

    /// The events that a query matches.
    pub(crate) fn query(&self, query: &Query) -> Set {
        Set::Any(query.items.iter().map(|item| self.item(item)).collect())
    }

    fn item(&self, item: &QueryItem) -> Set {
        let mut members = self.tags(&item.tags);
        if !item.event_types.is_empty() {
            members.push(self.any(NameKind::Type, &item.event_types));
        }
        Set::every(members)
    }

    /// The events that a filter lets through, but for partitions and times.
    pub(crate) fn filter(&self, filter: &Filter) -> Set {
        let mut members = self.tags(&filter.tags);
        if !filter.entity_ids.is_empty() {
            members.push(self.any(NameKind::Entity, &filter.entity_ids));
        }
        if !filter.event_types.is_empty() {
            members.push(self.any(NameKind::Type, &filter.event_types));
        }
        if !filter.event_type_prefix.as_bytes().is_empty() {
            members.push(Set::TypePrefix(
                filter.event_type_prefix.clone(),
                self.hasher,
            ));
        }
        if !filter.query.items.is_empty() {
            members.push(self.query(&filter.query));
        }
        Set::every(members)
    }
}

impl Set {
    /// The intersection of all; every event if there are none.
    pub(super) fn every(mut members: Vec<Set>) -> Self {
        match members.len() {
            0 => Self::All,
            1 => members.remove(0),
            _ => Self::Every(members),
        }
    }

    /// The first `max` members in a piece and a range in it, in the order of the direction. Fewer: there are no more.
    pub(super) fn page(
        &self,
        piece: Piece<'_>,
        range: RangeInclusive<Position>,
        direction: Direction,
        max: usize,
    ) -> Result<Vec<Position>, ReadError> {
        if range.is_empty() || max == 0 {
            return Ok(Vec::new());
        }
        match self {
            Self::All => Ok(consecutive(range, direction, max)),
            Self::Name { kind, hash, name } => {
                piece.page(*kind, (*hash, name.as_bytes()), &range, direction, max)
            }
            Self::TypePrefix(prefix, hasher) => piece
                .types_with_prefix(prefix, *hasher)?
                .page(piece, range, direction, max),
            Self::Any(members) => {
                let mut found = Vec::new();
                for member in members {
                    found.extend(member.page(piece, range.clone(), direction, max)?);
                }
                if members.len() > 1 {
                    found.sort_unstable();
                    found.dedup();
                    if direction == Direction::Backward {
                        found.reverse();
                    }
                    found.truncate(max);
                }
                Ok(found)
            }
            Self::Every(members) => page_of_every(members, piece, range, direction, max),
        }
    }

    /// How many members there are after one position and up to another, which is visible.
    pub(crate) fn count(
        &self,
        pieces: &Pieces,
        after: Position,
        through: Position,
    ) -> Result<Count, ReadError> {
        let all = through.saturating_sub(after);
        let bounded = |rows: u64| Count {
            at_most: rows.min(all),
            exact: false,
        };
        match self {
            _ if all == 0 => Ok(Count::exact(0)),
            Self::All => Ok(Count::exact(all)),
            // Of tags the index does not keep how many came before a piece.
            Self::Name {
                kind: NameKind::Tag,
                ..
            } => {
                let pieces = pieces.in_range(&(after + 1..=through), Direction::Forward);
                let counts = pieces.iter().map(|(piece, _)| self.estimate(*piece));
                Ok(bounded(counts.sum::<Result<_, _>>()?))
            }
            Self::Name { kind, hash, name } => {
                let upto =
                    |position| pieces.count_through(*kind, (*hash, name.as_bytes()), position);
                Ok(Count::exact(upto(through)? - upto(after)?))
            }
            Self::TypePrefix(..) => Ok(bounded(all)),
            Self::Any(members) => {
                let mut sum = 0;
                let mut exact = self.is_disjoint();
                for member in members {
                    let count = member.count(pieces, after, through)?;
                    sum += count.at_most;
                    exact &= count.exact;
                }
                Ok(if exact {
                    Count::exact(sum)
                } else {
                    bounded(sum)
                })
            }
            Self::Every(members) => members.iter().try_fold(bounded(all), |least, member| {
                let count = member.count(pieces, after, through)?;
                Ok(bounded(least.at_most.min(count.at_most)))
            }),
        }
    }

    /// Whether no event is in two members of a union, as far as their names tell.
    fn is_disjoint(&self) -> bool {
        let Self::Any(members) = self else {
            return false;
        };
        let mut names = HashSet::new();
        let distinct = members.len() <= 1
            || members.iter().all(|member| match member {
                // An event has one entity and one type, and any number of tags.
                Self::Name { kind, name, .. } => {
                    *kind != NameKind::Tag && names.insert((*kind, name))
                }
                _ => false,
            });
        let kinds: HashSet<_> = names.iter().map(|(kind, _)| kind).collect();
        distinct && kinds.len() <= 1
    }

    /// At most this many events of a piece have to be looked at.
    fn estimate(&self, piece: Piece<'_>) -> Result<u64, ReadError> {
        match self {
            Self::All => Ok(u64::MAX),
            Self::Name { kind, hash, name } => piece.count(*kind, (*hash, name.as_bytes())),
            Self::TypePrefix(prefix, hasher) => {
                piece.types_with_prefix(prefix, *hasher)?.estimate(piece)
            }
            Self::Any(members) => members.iter().try_fold(0_u64, |sum, member| {
                Ok(sum.saturating_add(member.estimate(piece)?))
            }),
            Self::Every(members) => members.iter().try_fold(u64::MAX, |least, member| {
                Ok(least.min(member.estimate(piece)?))
            }),
        }
    }

    /// Keeps the positions that are in the set. They are all in the piece, in ascending or descending order.
    fn retain(&self, piece: Piece<'_>, positions: &mut Vec<Position>) -> Result<(), ReadError> {
        if positions.is_empty() {
            return Ok(());
        }
        match self {
            Self::All => {}
            Self::Name { kind, hash, name } => {
                piece.retain(*kind, (*hash, name.as_bytes()), positions)?;
            }
            Self::TypePrefix(prefix, hasher) => {
                piece
                    .types_with_prefix(prefix, *hasher)?
                    .retain(piece, positions)?;
            }
            Self::Any(members) => {
                let mut kept = Vec::new();
                for member in members {
                    let mut some = positions.clone();
                    member.retain(piece, &mut some)?;
                    kept.extend(some);
                }
                kept.sort_unstable();
                positions.retain(|position| kept.binary_search(position).is_ok());
            }
            Self::Every(members) => {
                for member in members {
                    member.retain(piece, positions)?;
                }
            }
        }
        Ok(())
    }
}

/// Walks the smallest member and keeps what the others have too.
fn page_of_every(
    members: &[Set],
    piece: Piece<'_>,
    range: RangeInclusive<Position>,
    direction: Direction,
    max: usize,
) -> Result<Vec<Position>, ReadError> {
    let mut smallest = (0, u64::MAX);
    for (i, member) in members.iter().enumerate() {
        let estimate = member.estimate(piece)?;
        if estimate == 0 {
            return Ok(Vec::new());
        }
        if estimate < smallest.1 {
            smallest = (i, estimate);
        }
    }
    let (mut from, mut to) = range.into_inner();
    let mut found = Vec::new();
    loop {
        let mut page = members[smallest.0].page(piece, from..=to, direction, PAGE_ROWS)?;
        let exhausted = page.len() < PAGE_ROWS;
        if let Some(&last) = page.last() {
            match direction {
                Direction::Forward => from = last + 1,
                Direction::Backward => to = last - 1,
            }
        }
        for (i, member) in members.iter().enumerate() {
            if i != smallest.0 {
                member.retain(piece, &mut page)?;
            }
        }
        found.extend(page);
        if exhausted || found.len() >= max {
            found.truncate(max);
            return Ok(found);
        }
    }
}
