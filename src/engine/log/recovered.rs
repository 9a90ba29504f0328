//! Enters what stands in a log that is opened into its index.
//!
//! Versions are those that the rows state: they are compared with the rows before them as far as these are not sealed.

use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::{Log, index::Pieces};
use crate::{
    storage::log::{
        frame::FRAME_HEADER_BYTES,
        recovery::{RecoverError, SeenFrame},
        row::Row,
    },
    types::{
        id::{Position, Version},
        read::{Damage, NameKind, ReadError},
        slot::slot,
        text::Text,
    },
};

impl Log {
    /// Enters a frame that stands in the log into the index. Its first events may be sealed.
    pub(super) fn see(
        &self,
        seen: &SeenFrame<'_>,
        next: &mut Position,
    ) -> Result<(), RecoverError> {
        let SeenFrame { file, start, frame } = seen;
        let rows_at = start + FRAME_HEADER_BYTES as u64;
        let damage = |offset: usize, what: String| Damage {
            path: file.path.clone(),
            offset: rows_at + offset as u64,
            what,
        };
        let rows = Bytes::copy_from_slice(frame.rows());
        let events = frame.events() as usize;
        let mut offsets = Vec::with_capacity(events);
        let first = frame.first_position();
        let is_sealed = first < *next;
        let pieces = if is_sealed {
            self.pieces()
        } else {
            let bytes = frame.as_bytes().len();
            let limits = &self.shared.limits;
            let grew = self.pieces();
            let pieces = self.index.for_batch(&grew, first, events, bytes, limits);
            self.count_unsealed(grew.newest(), pieces.newest(), events as u64);
            pieces
        };
        let mut at = 0;
        for position in (first..).take(events) {
            let row =
                Row::check(rows.slice(at..), position).map_err(|e| damage(at, e.to_string()))?;
            offsets.push(rows_at + at as u64);
            let start = at;
            at += row.as_bytes().len();
            if is_sealed {
                continue;
            }
            let version = self.enter(&pieces, &row, position)?;
            if version != row.version() {
                let what = format!("an event states version {}, it is {version}", row.version());
                return Err(damage(start, what).into());
            }
            let id = self.index.hasher.hash(row.event_id().as_bytes());
            let newest = pieces.newest();
            newest.ids.write().insert(id, newest.row(position));
            self.slots.lock()[slot(row.entity_id())] += 1;
            *next += 1;
        }
        if at != rows.len() {
            let what = "a frame has more rows than it says".to_owned();
            return Err(damage(at, what).into());
        }
        let end = rows_at + at as u64;
        self.table
            .push(file, offsets.into_iter(), end, frame.recorded_at());
        for (name, position) in frame.cursors() {
            self.cursors
                .lock()
                .insert(Text::from(Bytes::copy_from_slice(name)), position);
        }
        self.recorded_at
            .fetch_max(frame.recorded_at(), Ordering::Relaxed);
        let end = file.log_offset(start + frame.as_bytes().len() as u64);
        self.log_bytes.store(end, Ordering::Relaxed);
        Ok(())
    }

    /// Enters the names of an event that is not sealed; returns which version of its entity it is.
    fn enter(&self, pieces: &Pieces, row: &Row, position: Position) -> Result<Version, ReadError> {
        let key = |name| (self.index.hasher.hash(name), name);
        let newest = pieces.newest();
        let at = newest.row(position);

        let entity = key(row.entity_id());
        let before = || {
            let (_, earlier) = pieces.parts().split_last().expect("one grows");
            let mut newest_first = earlier.iter().rev();
            let counted = newest_first
                .find_map(|part| part.count_through(NameKind::Entity, entity, Position::MAX));
            counted.unwrap_or_else(|| match pieces.runs() {
                [] => 0,
                _ => row.version().saturating_sub(1),
            })
        };
        let entities = newest.names(NameKind::Entity);
        let version = entities.push(entity.0, entity.1, at, before);

        let event_type = key(row.event_type());
        let types = newest.names(NameKind::Type);
        let is_known = types.with(event_type.0, event_type.1, |found| found.is_some());
        let before = if is_known {
            0
        } else {
            pieces.count_through(NameKind::Type, event_type, Position::MAX)?
        };
        types.push(event_type.0, event_type.1, at, || before);

        for (i, tag) in row.tags().enumerate() {
            // A tag that an event has twice is one tag.
            if !row.tags().take(i).any(|earlier| earlier == tag) {
                let tag = key(tag);
                newest.names(NameKind::Tag).push(tag.0, tag.1, at, || 0);
            }
        }
        Ok(version)
    }
}
