//! The lookup of a log, in pieces of consecutive positions: index runs on disk for what is sealed, then parts in memory,
//! the newest of which grows.
//!
//! Whoever looks takes the pieces as they are now, and keeps them for as long as it looks: the same names stand in a
//! part and in the run that it becomes.

use std::{
    collections::{BTreeMap, HashMap, btree_map, hash_map::Entry},
    ops::RangeInclusive,
    sync::{Arc, atomic::Ordering},
};

use bytes::Bytes;
use parking_lot::RwLock;

use super::{names::NameRows, part::Part, set::Set};
use crate::{
    storage::{index::reader::Run, manifest::Sealed, segment::SegmentSummary},
    types::{
        hash::KeyHasher,
        id::{Position, Version},
        limits::Limits,
        read::{Direction, NameKind, ReadError},
        text::Text,
    },
};

/// See the module.
pub(crate) struct Index {
    pub(crate) hasher: KeyHasher,
    pieces: RwLock<Arc<Pieces>>,
}

/// The pieces of an index at one moment, in order. There is always a newest part.
#[derive(Clone, Default)]
pub(crate) struct Pieces {
    pub(super) runs: Vec<Arc<Run>>,
    /// They cover the same positions as the runs.
    pub(super) segments: Vec<SegmentSummary>,
    /// Names of the sealed events.
    entities: u64,
    types: u64,
    parts: Vec<Arc<Part>>,
}

/// How many sealed events carry each of some names, as of one moment.
pub(crate) type SealedCounts = HashMap<(NameKind, Text), u64>;

/// A name and its hash.
pub(crate) type Key<'a> = (u64, &'a [u8]);

/// One piece.
#[derive(Clone, Copy)]
pub(crate) enum Piece<'a> {
    Run(&'a Run),
    Part(&'a Part),
}

impl Index {
    pub(crate) fn new(hasher: KeyHasher) -> Self {
        let pieces = Pieces {
            parts: vec![Arc::new(Part::new(1))],
            ..Pieces::default()
        };
        Self {
            hasher,
            pieces: RwLock::new(Arc::new(pieces)),
        }
    }

    /// Begins with what is sealed already.
    pub(crate) fn open(&self, runs: Vec<Arc<Run>>, sealed: &Sealed) {
        *self.pieces.write() = Arc::new(Pieces {
            runs,
            segments: sealed.segments.clone(),
            entities: sealed.entities,
            types: sealed.event_types,
            parts: vec![Arc::new(Part::new(sealed.through() + 1))],
        });
    }

    /// The pieces for entering a batch of so many events and bytes; a part that it would make too large is complete, and
    /// a new one begins. One caller at a time. `pieces` are those that names were counted in; what is sealed meanwhile
    /// stays a part of them, so that nothing is counted as missing.
    pub(crate) fn for_batch(
        &self,
        pieces: &Arc<Pieces>,
        first: Position,
        events: usize,
        bytes: usize,
        limits: &Limits,
    ) -> Arc<Pieces> {
        let newest = pieces.newest();
        let events = first - newest.first + events as u64;
        let total = newest.bytes.load(Ordering::Relaxed) + bytes as u64;
        if first == newest.first || (events <= limits.seal_events && total <= limits.seal_bytes) {
            newest.bytes.store(total, Ordering::Relaxed);
            return Arc::clone(pieces);
        }
        let part = Arc::new(Part::new(first));
        part.bytes.store(bytes as u64, Ordering::Relaxed);
        self.begin(&part);
        Arc::new(pieces.with_part(&part))
    }

    /// The newest part is complete, unless it is empty: a new one begins at a position. Not while a batch is entered.
    pub(super) fn complete(&self, next: Position) -> bool {
        let grew = self.pieces().newest().first != next;
        if grew {
            self.begin(&Arc::new(Part::new(next)));
        }
        grew
    }

    fn begin(&self, part: &Arc<Part>) {
        let mut now = self.pieces.write();
        // The part before is complete once this is set.
        now.newest().last.get_or_init(|| part.first - 1);
        *now = Arc::new(now.with_part(part));
    }

    /// Puts other pieces in the place of those that hold the same.
    pub(super) fn change(&self, change: impl FnOnce(&mut Pieces)) {
        let mut now = self.pieces.write();
        let mut pieces = Pieces::clone(&now);
        change(&mut pieces);
        *now = Arc::new(pieces);
    }

    /// Puts an index run and a segment in the place of the oldest part.
    pub(crate) fn seal(&self, part: &Part, run: Run, segment: SegmentSummary) {
        let mut now = self.pieces.write();
        let mut pieces = Pieces::clone(&now);
        pieces.parts.remove(0);
        pieces.runs.push(Arc::new(run));
        pieces.segments.push(segment);
        pieces.entities += part.names(NameKind::Entity).new_names();
        pieces.types += part.names(NameKind::Type).new_names();
        *now = Arc::new(pieces);
    }

    /// The pieces as they are now.
    pub(crate) fn pieces(&self) -> Arc<Pieces> {
        Arc::clone(&self.pieces.read())
    }
}

impl Pieces {
    fn with_part(&self, part: &Arc<Part>) -> Self {
        let mut pieces = self.clone();
        pieces.parts.push(Arc::clone(part));
        pieces
    }

    /// The last position that is sealed.
    pub(crate) fn sealed_through(&self) -> Position {
        self.segments.last().map_or(0, |segment| segment.last)
    }

    pub(crate) fn runs(&self) -> &[Arc<Run>] {
        &self.runs
    }

    pub(crate) fn segments(&self) -> &[SegmentSummary] {
        &self.segments
    }

    pub(crate) fn parts(&self) -> &[Arc<Part>] {
        &self.parts
    }

    /// The run and the segment of a sealed event.
    pub(crate) fn sealed_at(&self, position: Position) -> (&Run, &SegmentSummary) {
        let run = self.runs.partition_point(|run| run.last() < position);
        let segment = self.segments.partition_point(|s| s.last < position);
        (&self.runs[run], &self.segments[segment])
    }

    /// The last sealed position recorded at or before a time; 0 if there is none.
    pub(crate) fn position_at(&self, micros: i64) -> Result<Position, ReadError> {
        for run in self.runs.iter().rev() {
            if let Some(position) = run.position_at(micros)? {
                return Ok(position);
            }
        }
        Ok(0)
    }

    /// Whether a name is in a part, so that it is counted without a look at a run.
    fn is_in_parts(&self, kind: NameKind, (hash, name): Key<'_>) -> bool {
        let has = |part: &Arc<Part>| part.names(kind).with(hash, name, |found| found.is_some());
        self.parts.iter().rev().any(has)
    }

    /// Finds out how many sealed events carry a name, unless the parts tell.
    pub(crate) fn count_sealed(
        &self,
        kind: NameKind,
        hash: u64,
        name: &Text,
        counts: &mut SealedCounts,
    ) -> Result<(), ReadError> {
        let key = (hash, name.as_bytes());
        if self.runs.is_empty() || self.is_in_parts(kind, key) {
            return Ok(());
        }
        let Entry::Vacant(vacant) = counts.entry((kind, name.clone())) else {
            return Ok(());
        };
        let mut count = 0;
        for run in self.runs.iter().rev() {
            if let Some(found) = run.name(kind, hash, name.as_bytes())? {
                count = found.before + found.count;
                break;
            }
        }
        vacant.insert(count);
        Ok(())
    }

    /// How many events carry a name, what readers don't see yet included; `counts` has it unless the parts tell.
    pub(crate) fn count(
        &self,
        kind: NameKind,
        hash: u64,
        name: &Text,
        counts: &SealedCounts,
    ) -> u64 {
        count_in(&self.parts, kind, hash, name, counts)
    }

    /// The part that new events are entered into.
    pub(crate) fn newest(&self) -> &Part {
        self.parts.last().expect("there is always a newest part")
    }

    /// The pieces that a range reaches into, with what it covers of each, in the order of the direction.
    pub(super) fn in_range(
        &self,
        range: &RangeInclusive<Position>,
        direction: Direction,
    ) -> Vec<(Piece<'_>, RangeInclusive<Position>)> {
        let parts = self.parts.iter().map(|part| Piece::Part(part));
        let from = self.runs.partition_point(|run| run.last() < *range.start());
        let mut pieces: Vec<_> = self.runs[from..]
            .iter()
            .take_while(|run| run.first() <= *range.end())
            .map(|run| Piece::Run(run))
            .chain(parts)
            .filter_map(|piece| {
                let covered = piece.covered(range);
                (!covered.is_empty()).then_some((piece, covered))
            })
            .collect();
        if direction == Direction::Backward {
            pieces.reverse();
        }
        pieces
    }

    /// The pieces up to a position, in order, with what it covers of each.
    pub(crate) fn up_to(&self, position: Position) -> Vec<(Piece<'_>, RangeInclusive<Position>)> {
        self.in_range(&(1..=position), Direction::Forward)
    }

    /// Number of names of a kind, what readers don't see yet included.
    pub(crate) fn names(&self, kind: NameKind) -> u64 {
        let sealed = match kind {
            NameKind::Entity => self.entities,
            NameKind::Type => self.types,
            NameKind::Tag => 0,
        };
        let parts = self.parts.iter();
        sealed + parts.map(|part| part.names(kind).new_names()).sum::<u64>()
    }

    pub(super) fn newest_first(&self) -> impl Iterator<Item = Piece<'_>> {
        let parts = self.parts.iter().rev().map(|part| Piece::Part(part));
        parts.chain(self.runs.iter().rev().map(|run| Piece::Run(run)))
    }

    /// The first `max` members in a range of positions, in the order of the direction. Fewer: there are no more.
    pub(crate) fn page(
        &self,
        set: &Set,
        range: RangeInclusive<Position>,
        direction: Direction,
        max: usize,
    ) -> Result<Vec<Position>, ReadError> {
        if let Set::All = set {
            return Ok(consecutive(range, direction, max));
        }
        let mut found = Vec::new();
        for (piece, covered) in self.in_range(&range, direction) {
            if found.len() == max {
                break;
            }
            found.extend(set.page(piece, covered, direction, max - found.len())?);
        }
        Ok(found)
    }

    /// How many events carry a name up to a position.
    pub(crate) fn count_through(
        &self,
        kind: NameKind,
        key: Key<'_>,
        position: Position,
    ) -> Result<u64, ReadError> {
        // A piece behind the position knows only how many came before itself.
        for piece in self
            .newest_first()
            .filter(|piece| piece.first() <= position)
        {
            if let Some(count) = piece.count_through(kind, key, position)? {
                return Ok(count);
            }
        }
        Ok(0)
    }

    /// The position of the event that is the n-th to carry a name, counted from 1.
    pub(crate) fn nth(
        &self,
        kind: NameKind,
        key: Key<'_>,
        n: u64,
    ) -> Result<Option<Position>, ReadError> {
        for piece in self.newest_first() {
            if let Some(position) = piece.nth(kind, key, n)? {
                return Ok(Some(position));
            }
        }
        Ok(None)
    }

    /// Enters an event's name; returns how many events carry it now. `counts` has those that are sealed, unless the parts
    /// tell.
    pub(crate) fn push(
        &self,
        kind: NameKind,
        hash: u64,
        name: &Text,
        position: Position,
        counts: &SealedCounts,
    ) -> Version {
        let newest = self.newest();
        let earlier = &self.parts[..self.parts.len() - 1];
        let before = || match kind {
            // Nobody asks how many events carry a tag.
            NameKind::Tag => 0,
            NameKind::Entity | NameKind::Type => count_in(earlier, kind, hash, name, counts),
        };
        let row = newest.row(position);
        newest.names(kind).push(hash, name.as_bytes(), row, before)
    }

    /// The first names in order that start with `prefix`, come behind `after`, and have an event up to `head`.
    pub(crate) fn list(
        &self,
        kind: NameKind,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
        head: Position,
    ) -> Result<Vec<NameRows>, ReadError> {
        let mut names = BTreeMap::<Box<[u8]>, NameRows>::new();
        for (piece, _) in self.up_to(head) {
            // One of the first names of all is among the first of each piece that has it.
            for found in piece.list(kind, prefix, after, limit, head)? {
                match names.entry(found.name.clone()) {
                    btree_map::Entry::Vacant(vacant) => {
                        vacant.insert(found);
                    }
                    btree_map::Entry::Occupied(mut known) => {
                        known.get_mut().rows += found.rows;
                        known.get_mut().last = found.last;
                    }
                }
            }
        }
        Ok(names.into_values().take(limit).collect())
    }
}

impl Piece<'_> {
    fn first(&self) -> Position {
        match self {
            Self::Run(run) => run.first(),
            Self::Part(part) => part.first,
        }
    }

    fn covered(&self, range: &RangeInclusive<Position>) -> RangeInclusive<Position> {
        let (first, last) = match self {
            Self::Run(run) => (run.first(), run.last()),
            Self::Part(part) => (
                part.first,
                part.last.get().copied().unwrap_or(Position::MAX),
            ),
        };
        *range.start().max(&first)..=*range.end().min(&last)
    }

    /// Positions of events whose id may have this hash, ascending; the caller confirms them.
    pub(super) fn ids(&self, hash: u64) -> Result<Vec<Position>, ReadError> {
        match self {
            Self::Run(run) => run.ids(hash),
            Self::Part(part) => Ok(part.ids(hash)),
        }
    }

    pub(crate) fn page(
        &self,
        kind: NameKind,
        key: Key<'_>,
        range: &RangeInclusive<Position>,
        direction: Direction,
        max: usize,
    ) -> Result<Vec<Position>, ReadError> {
        match self {
            Self::Run(run) => match run.name(kind, key.0, key.1)? {
                Some(found) => found.page(run, range.clone(), direction, max),
                None => Ok(Vec::new()),
            },
            Self::Part(part) => Ok(part.page(kind, key, range, direction, max)),
        }
    }

    /// How many events of the piece carry a name.
    pub(crate) fn count(&self, kind: NameKind, key: Key<'_>) -> Result<u64, ReadError> {
        match self {
            Self::Run(run) => Ok(run.name(kind, key.0, key.1)?.map_or(0, |found| found.count)),
            Self::Part(part) => Ok(part.count(kind, key)),
        }
    }

    pub(crate) fn retain(
        &self,
        kind: NameKind,
        key: Key<'_>,
        positions: &mut Vec<Position>,
    ) -> Result<(), ReadError> {
        match self {
            Self::Run(run) => match run.name(kind, key.0, key.1)? {
                Some(found) => found.retain(run, positions)?,
                None => positions.clear(),
            },
            Self::Part(part) => part.retain(kind, key, positions),
        }
        Ok(())
    }

    pub(crate) fn list(
        &self,
        kind: NameKind,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
        head: Position,
    ) -> Result<Vec<NameRows>, ReadError> {
        match self {
            Self::Run(run) => list_run(run, kind, prefix, after, limit, head),
            Self::Part(part) => Ok(part.list(kind, prefix, after, limit, head)),
        }
    }

    /// The events whose type starts with `prefix`, by the types that the piece has.
    pub(crate) fn types_with_prefix(
        &self,
        prefix: &Text,
        hasher: KeyHasher,
    ) -> Result<Set, ReadError> {
        let all = usize::MAX >> 1;
        let types = self.list(NameKind::Type, prefix.as_bytes(), None, all, Position::MAX)?;
        let types = types.into_iter().map(|found| Set::Name {
            kind: NameKind::Type,
            hash: hasher.hash(&found.name),
            name: Text::from(Bytes::from(found.name)),
        });
        Ok(Set::Any(types.collect()))
    }

    fn count_through(
        &self,
        kind: NameKind,
        key: Key<'_>,
        position: Position,
    ) -> Result<Option<u64>, ReadError> {
        match self {
            Self::Run(run) => match run.name(kind, key.0, key.1)? {
                Some(found) if position >= found.last => Ok(Some(found.before + found.count)),
                Some(found) => Ok(Some(found.before + found.count_through(run, position)?)),
                None => Ok(None),
            },
            Self::Part(part) => Ok(part.count_through(kind, key, position)),
        }
    }

    fn nth(&self, kind: NameKind, key: Key<'_>, n: u64) -> Result<Option<Position>, ReadError> {
        match self {
            Self::Run(run) => match run.name(kind, key.0, key.1)? {
                Some(found) if n > found.before && n - found.before <= found.count => {
                    found.nth(run, n - found.before - 1).map(Some)
                }
                Some(_) | None => Ok(None),
            },
            Self::Part(part) => Ok(part.nth(kind, key, n)),
        }
    }
}

/// How many events up to the end of some parts carry a name; `counts` has those before them, unless they tell.
fn count_in(
    parts: &[Arc<Part>],
    kind: NameKind,
    hash: u64,
    name: &Text,
    counts: &SealedCounts,
) -> u64 {
    let key = (hash, name.as_bytes());
    let mut newest_first = parts.iter().rev();
    newest_first
        .find_map(|part| part.count_through(kind, key, Position::MAX))
        .or_else(|| counts.get(&(kind, name.clone())).copied())
        .unwrap_or(0)
}

fn list_run(
    run: &Run,
    kind: NameKind,
    prefix: &[u8],
    after: Option<&[u8]>,
    limit: usize,
    head: Position,
) -> Result<Vec<NameRows>, ReadError> {
    let mut names = Vec::new();
    for found in run.list(kind, prefix, after) {
        let found = found?;
        if names.len() == limit {
            break;
        }
        let (rows, last) = if found.last <= head {
            (found.count, found.last)
        } else {
            let rows = found.count_through(run, head)?;
            if rows == 0 {
                continue;
            }
            (rows, found.nth(run, rows - 1)?)
        };
        names.push(NameRows {
            name: found.name().into(),
            rows,
            first: found.first,
            last,
        });
    }
    Ok(names)
}

/// The first `max` positions of a range, in the order of the direction.
pub(super) fn consecutive(
    range: RangeInclusive<Position>,
    direction: Direction,
    max: usize,
) -> Vec<Position> {
    match direction {
        Direction::Forward => range.take(max).collect(),
        Direction::Backward => range.rev().take(max).collect(),
    }
}
