//! What two forms of the same events say, each in a few bytes.

use xxhash_rust::xxh3::Xxh3;

use crate::{
    storage::log::row::Row,
    types::{hash::KeyHasher, id::Position, read::NameKind},
};

pub(super) const KINDS: [NameKind; 3] = [NameKind::Entity, NameKind::Type, NameKind::Tag];

/// A sum that does not depend on the order in which things are added, and how many there were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sum {
    hashes: u128,
    count: u64,
}

impl Sum {
    /// How many things were added.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn add(&mut self, parts: &[&[u8]]) {
        let mut hash = Xxh3::new();
        for part in parts {
            hash.update(part);
        }
        self.hashes = self.hashes.wrapping_add(hash.digest128());
        self.count += 1;
    }
}

/// What a run says of its events, or what they say themselves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct RunSums {
    /// When each was recorded and how many bytes its row has.
    rows: Sum,
    ids: Sum,
    names: [Sum; 3],
}

impl RunSums {
    pub(super) fn add_row(&mut self, position: Position, recorded_at: i64, bytes: u32) {
        self.rows.add(&[
            &position.to_le_bytes(),
            &recorded_at.to_le_bytes(),
            &bytes.to_le_bytes(),
        ]);
    }

    pub(super) fn add_id(&mut self, hash: u64, position: Position) {
        self.ids
            .add(&[&hash.to_le_bytes(), &position.to_le_bytes()]);
    }

    /// `number`: which of the events that carry the name it is; only of entities, whose versions it is.
    pub(super) fn add_name(
        &mut self,
        kind: NameKind,
        name: &[u8],
        position: Position,
        number: u64,
    ) {
        let number = if kind == NameKind::Entity { number } else { 0 };
        let place = KINDS.iter().position(|of| *of == kind).unwrap_or_default();
        self.names[place].add(&[&position.to_le_bytes(), &number.to_le_bytes(), name]);
    }

    pub(super) fn add_event(
        &mut self,
        position: Position,
        recorded_at: i64,
        row: &Row,
        hasher: KeyHasher,
    ) {
        self.add_row(position, recorded_at, row.as_bytes().len() as u32);
        self.add_id(hasher.hash(row.event_id().as_bytes()), position);
        self.add_name(NameKind::Entity, row.entity_id(), position, row.version());
        self.add_name(NameKind::Type, row.event_type(), position, 0);
        for (i, tag) in row.tags().enumerate() {
            if !row.tags().take(i).any(|earlier| earlier == tag) {
                self.add_name(NameKind::Tag, tag, position, 0);
            }
        }
    }
}
