//! What a run holds, in plain maps, with answers found by looking at everything.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use tempfile::TempDir;

use super::super::{
    RowPlace, RunSummary, cache::BlockCache, layout::Header, names::RunName, names::place_of,
    reader::Run, writer::RunWriter,
};
use crate::{
    storage::disk::{Disk, RealDisk},
    types::{
        hash::KeyHasher,
        id::{LogId, Position},
        read::{Direction, NameKind, ReadError},
    },
};

pub(super) const KINDS: [NameKind; 3] = [NameKind::Entity, NameKind::Type, NameKind::Tag];

pub(super) fn log_id() -> LogId {
    LogId::from_bytes([9; 16])
}

/// A number that looks random and is not.
pub(super) fn scatter(seed: u64, i: u64) -> u64 {
    KeyHasher::default().hash(&[seed.to_le_bytes(), i.to_le_bytes()].concat())
}

/// A name's events before the run, and its positions in it.
pub(super) type Carriers = (u64, Vec<Position>);

#[derive(Debug, Clone)]
pub(super) struct Plain {
    pub(super) first: Position,
    pub(super) places: Vec<RowPlace>,
    pub(super) ids: Vec<(u64, Position)>,
    pub(super) names: [BTreeMap<Vec<u8>, Carriers>; 3],
}

/// A line of a listing, for comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    name: Vec<u8>,
    before: u64,
    count: u64,
    first: Position,
    last: Position,
}

impl Line {
    pub(super) fn of(found: &RunName) -> Self {
        Self {
            name: found.name().to_vec(),
            before: found.before,
            count: found.count,
            first: found.first,
            last: found.last,
        }
    }
}

impl Plain {
    /// So many rows, without ids and names. Several in a row have the same time.
    pub(super) fn of_rows(first: Position, rows: u64) -> Self {
        let place = |row: u64| RowPlace {
            log_offset: scatter(1, row),
            bytes: scatter(2, row) as u32,
            recorded_at: -500 + (row / 7 * 10).cast_signed(),
        };
        Self {
            first,
            places: (0..rows).map(place).collect(),
            ids: Vec::new(),
            names: Default::default(),
        }
    }

    pub(super) fn last(&self) -> Position {
        self.first + self.places.len() as u64 - 1
    }

    pub(super) fn add_ids(&mut self, hasher: KeyHasher) {
        let positions = self.first..=self.last();
        self.ids = positions
            .map(|position| (hasher.hash(&position.to_le_bytes()), position))
            .collect();
    }

    /// Adds a name; of a thousand events about so many carry it, at least one.
    pub(super) fn add_name(&mut self, kind: NameKind, name: &[u8], seed: u64, of_1000: u64) {
        let carries = |position: &Position| scatter(seed, *position) % 1000 < of_1000;
        let mut rows: Vec<_> = (self.first..=self.last()).filter(carries).collect();
        if rows.is_empty() {
            rows.push(self.first + seed % self.places.len() as u64);
        }
        let before = scatter(seed, 0) >> (seed % 64);
        self.names[place_of(kind)].insert(name.to_vec(), (before, rows));
    }

    /// Writes the run, with a random salt if none is given.
    pub(super) fn write(&self, path: &Path, hasher: KeyHasher, salt: Option<u64>) -> RunSummary {
        let (log_id, first) = (log_id(), self.first);
        let writer = match salt {
            None => RunWriter::create(&RealDisk, path, log_id, hasher, first),
            Some(salt) => RunWriter::with_header(
                &RealDisk,
                path,
                Header {
                    log_id,
                    salt,
                    first,
                    hasher,
                },
            ),
        };
        let mut writer = writer.unwrap();
        for place in &self.places {
            writer.row(*place).unwrap();
        }
        let mut ids = self.ids.clone();
        ids.sort_by_key(|(_, position)| scatter(3, *position));
        writer.ids(ids).unwrap();
        for kind in KINDS {
            for (name, (before, rows)) in &self.names[place_of(kind)] {
                let rows = rows.iter().copied();
                writer.name(kind, name, *before, rows).unwrap();
            }
        }
        writer.finish().unwrap()
    }

    /// Writes and opens the run.
    pub(super) fn open(&self, hasher: KeyHasher, cache_bytes: usize) -> Open {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.idx");
        let summary = self.write(&path, hasher, None);
        let cache = Arc::new(BlockCache::new(cache_bytes));
        let file = RealDisk.open(&path).unwrap();
        let shared = Arc::clone(&cache);
        let run = Run::open(file, path, log_id(), hasher, &summary, shared).unwrap();
        Open {
            run,
            cache,
            hasher,
            _folder: folder,
        }
    }

    pub(super) fn position_at(&self, recorded_at: i64) -> Option<Position> {
        let place = |place: &RowPlace| place.recorded_at <= recorded_at;
        let row = self.places.iter().rposition(place)?;
        Some(self.first + row as u64)
    }

    pub(super) fn ids(&self, hash: u64) -> Vec<Position> {
        let found = self.ids.iter().filter(|(found, _)| *found == hash);
        found.map(|(_, position)| *position).collect()
    }

    pub(super) fn list(&self, kind: NameKind, prefix: &[u8], after: Option<&[u8]>) -> Vec<Line> {
        let names = self.names[place_of(kind)].iter();
        let names = names.filter(|(name, _)| {
            name.starts_with(prefix) && after.is_none_or(|after| name.as_slice() > after)
        });
        names.map(|(name, carriers)| line(name, carriers)).collect()
    }

    pub(super) fn name(&self, kind: NameKind, name: &[u8]) -> Option<Line> {
        let carriers = self.names[place_of(kind)].get(name)?;
        Some(line(name, carriers))
    }
}

fn line(name: &[u8], (before, rows): &Carriers) -> Line {
    Line {
        name: name.to_vec(),
        before: *before,
        count: rows.len() as u64,
        first: rows[0],
        last: rows[rows.len() - 1],
    }
}

pub(super) fn page(
    rows: &[Position],
    range: std::ops::RangeInclusive<Position>,
    direction: Direction,
    max: usize,
) -> Vec<Position> {
    let wanted = rows.iter().copied().filter(|row| range.contains(row));
    match direction {
        Direction::Forward => wanted.take(max).collect(),
        Direction::Backward => wanted.rev().take(max).collect(),
    }
}

/// A run that is open.
pub(super) struct Open {
    pub(super) run: Run,
    pub(super) cache: Arc<BlockCache>,
    hasher: KeyHasher,
    _folder: TempDir,
}

impl Open {
    pub(super) fn name(&self, kind: NameKind, name: &[u8]) -> Option<RunName> {
        let hash = self.hasher.hash(name);
        self.run.name(kind, hash, name).unwrap()
    }

    pub(super) fn list(&self, kind: NameKind, prefix: &[u8], after: Option<&[u8]>) -> Vec<Line> {
        let lines = self.run.list(kind, prefix, after);
        let lines: Result<_, ReadError> = lines.map(|name| Ok(Line::of(&name?))).collect();
        lines.unwrap()
    }
}
