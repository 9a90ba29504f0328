//! One event of the log.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | bytes of the row, this field included |
//! | 4 | 4 | CRC-32C of bytes 16 to the end, then of version, position and length |
//! | 8 | 8 | version |
//! | 16 | 16 | event id |
//! | 32 | 8 | occurred at, µs; the smallest number if there is none |
//! | 40 | 4 | bytes of the payload |
//! | 44 | 4 | bytes of the metadata; the largest number if there is none |
//! | 48 | 2 | bytes of the entity id |
//! | 50 | 2 | bytes of the event type |
//! | 52 | 2 | number of tags |
//! | 54 | 2 | flags, 0; an unknown one refuses the row |
//! | 56 | | entity id, event type, payload, metadata, then for each tag its length (2) and bytes |
//!
//! A row has a checksum of its own, besides the frame's, so that one event can be read without its whole batch. Version
//! and position come last in it: they are assigned in the commit path, where only these few bytes are summed up.

use std::{fmt, str};

use bytes::Bytes;
use uuid::Uuid;

use crate::{
    storage::bytes::{get_u16, get_u32, get_u64, put_u16, put_u32, put_u64},
    types::{
        id::{Position, Version},
        time::Timestamp,
    },
};

const CRC_AT: usize = 4;
const VERSION_AT: usize = 8;
const EVENT_ID_AT: usize = 16;
const OCCURRED_AT_AT: usize = EVENT_ID_AT + 16;
const PAYLOAD_BYTES_AT: usize = OCCURRED_AT_AT + 8;
const METADATA_BYTES_AT: usize = PAYLOAD_BYTES_AT + 4;
const ENTITY_BYTES_AT: usize = METADATA_BYTES_AT + 4;
const TYPE_BYTES_AT: usize = ENTITY_BYTES_AT + 2;
const TAGS_AT: usize = TYPE_BYTES_AT + 2;
const FLAGS_AT: usize = TAGS_AT + 2;
/// Bytes before the texts of a row.
pub const ROW_HEADER_BYTES: usize = FLAGS_AT + 2;
const NO_TIME: i64 = i64::MIN;
const NO_METADATA: u32 = u32::MAX;

/// What a row is made from. Texts are checked before.
#[derive(Debug, Clone, Copy)]
pub struct RowParts<'a, T> {
    /// The idempotency key.
    pub event_id: Uuid,
    /// Whom it is about.
    pub entity_id: &'a [u8],
    /// What happened.
    pub event_type: &'a [u8],
    /// JSON text.
    pub payload: &'a [u8],
    /// JSON object text.
    pub metadata: Option<&'a [u8]>,
    /// In order.
    pub tags: T,
    /// The client's own time.
    pub occurred_at: Option<Timestamp>,
}

impl<'a, T: Iterator<Item = &'a [u8]>> RowParts<'a, T> {
    /// Appends the row to `out`, version and checksum still open: see [`seal`]. The lengths fit their fields, since
    /// limits are far below.
    pub fn write(self, out: &mut Vec<u8>) {
        let start = out.len();
        out.resize(start + ROW_HEADER_BYTES, 0);
        out.extend_from_slice(self.entity_id);
        out.extend_from_slice(self.event_type);
        out.extend_from_slice(self.payload);
        out.extend_from_slice(self.metadata.unwrap_or_default());
        let mut tags = 0;
        for tag in self.tags {
            out.extend_from_slice(&(tag.len() as u16).to_le_bytes());
            out.extend_from_slice(tag);
            tags += 1;
        }
        let row = &mut out[start..];
        let row_bytes = row.len();
        put_u32(row, 0, row_bytes as u32);
        row[EVENT_ID_AT..OCCURRED_AT_AT].copy_from_slice(self.event_id.as_bytes());
        let occurred_at = self.occurred_at.map_or(NO_TIME, Timestamp::as_micros);
        put_u64(row, OCCURRED_AT_AT, occurred_at.cast_unsigned());
        put_u32(row, PAYLOAD_BYTES_AT, self.payload.len() as u32);
        put_u32(
            row,
            METADATA_BYTES_AT,
            self.metadata.map_or(NO_METADATA, |m| m.len() as u32),
        );
        put_u16(row, ENTITY_BYTES_AT, self.entity_id.len() as u16);
        put_u16(row, TYPE_BYTES_AT, self.event_type.len() as u16);
        put_u16(row, TAGS_AT, tags);
        let content = crc32c::crc32c(&row[EVENT_ID_AT..]);
        put_u32(row, CRC_AT, content);
    }
}

/// Gives a written row its place. `row` starts with the row and may go on behind it.
pub fn seal(row: &mut [u8], version: Version, position: Position) {
    let content = get_u32(row, CRC_AT);
    put_u64(row, VERSION_AT, version);
    let row_bytes = get_u32(row, 0);
    put_u32(
        row,
        CRC_AT,
        placed_crc(content, version, position, row_bytes),
    );
}

fn placed_crc(content: u32, version: Version, position: Position, row_bytes: u32) -> u32 {
    let mut place = [0; 20];
    put_u64(&mut place, 0, version);
    put_u64(&mut place, 8, position);
    put_u32(&mut place, 16, row_bytes);
    crc32c::crc32c_append(content, &place)
}

/// The bytes of the row that `bytes` starts with, as it says itself; unchecked.
pub fn row_bytes(bytes: &[u8]) -> Option<usize> {
    (bytes.len() >= ROW_HEADER_BYTES).then(|| get_u32(bytes, 0) as usize)
}

/// The id of the row that `bytes` starts with.
pub(crate) fn event_id(bytes: &[u8]) -> Uuid {
    let mut id = [0; 16];
    id.copy_from_slice(&bytes[EVENT_ID_AT..OCCURRED_AT_AT]);
    Uuid::from_bytes(id)
}

/// The version of the placed row that `bytes` starts with.
pub(crate) fn version(bytes: &[u8]) -> Version {
    get_u64(bytes, VERSION_AT)
}

/// Whether two rows, placed or not, are the same event: everything but version and position.
pub(crate) fn same_content(a: &[u8], b: &[u8]) -> bool {
    a[EVENT_ID_AT..] == b[EVENT_ID_AT..]
}

/// A row whose checksum and lengths were checked.
#[derive(Clone, PartialEq, Eq)]
pub struct Row(Bytes);

impl Row {
    /// Checks the row that stands at `position` and starts `bytes`; whatever is behind it is left out.
    pub fn check(bytes: Bytes, position: Position) -> Result<Self, InvalidRow> {
        let row_bytes = row_bytes(&bytes).ok_or(InvalidRow::Length)?;
        if row_bytes < ROW_HEADER_BYTES || row_bytes > bytes.len() {
            return Err(InvalidRow::Length);
        }
        let row = if row_bytes == bytes.len() {
            bytes
        } else {
            bytes.slice(..row_bytes)
        };
        let content = crc32c::crc32c(&row[EVENT_ID_AT..]);
        let sum = placed_crc(
            content,
            get_u64(&row, VERSION_AT),
            position,
            row_bytes as u32,
        );
        if sum != get_u32(&row, CRC_AT) {
            return Err(InvalidRow::Checksum);
        }
        let row = Self(row);
        if get_u16(&row.0, FLAGS_AT) != 0 {
            return Err(InvalidRow::Flags);
        }
        // What was written adds up; a reader relies on it.
        let mut end = row.metadata_start() + row.metadata_bytes_len();
        for _ in 0..get_u16(&row.0, TAGS_AT) {
            if end + 2 > row_bytes {
                return Err(InvalidRow::Length);
            }
            end += 2 + usize::from(get_u16(&row.0, end));
        }
        if end == row_bytes {
            Ok(row)
        } else {
            Err(InvalidRow::Length)
        }
    }

    /// All its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// All its bytes, shared.
    pub(crate) fn to_bytes(&self) -> Bytes {
        self.0.clone()
    }

    /// Place in the entity's stream.
    pub fn version(&self) -> Version {
        get_u64(&self.0, VERSION_AT)
    }

    /// The idempotency key.
    pub fn event_id(&self) -> Uuid {
        event_id(&self.0)
    }

    /// The client's own time.
    pub fn occurred_at(&self) -> Option<Timestamp> {
        Timestamp::from_micros(get_u64(&self.0, OCCURRED_AT_AT).cast_signed())
    }

    /// Whom it is about.
    pub fn entity_id(&self) -> &[u8] {
        &self.0[ROW_HEADER_BYTES..self.type_start()]
    }

    /// What happened.
    pub fn event_type(&self) -> &[u8] {
        &self.0[self.type_start()..self.payload_start()]
    }

    /// JSON text.
    pub fn payload(&self) -> &[u8] {
        &self.0[self.payload_start()..self.metadata_start()]
    }

    /// JSON object text.
    pub fn metadata(&self) -> Option<&[u8]> {
        let start = self.metadata_start();
        (get_u32(&self.0, METADATA_BYTES_AT) != NO_METADATA)
            .then(|| &self.0[start..start + self.metadata_bytes_len()])
    }

    /// The tags, in order.
    pub fn tags(&self) -> RowTags<'_> {
        RowTags {
            rest: &self.0[self.metadata_start() + self.metadata_bytes_len()..],
        }
    }

    fn type_start(&self) -> usize {
        ROW_HEADER_BYTES + usize::from(get_u16(&self.0, ENTITY_BYTES_AT))
    }

    fn payload_start(&self) -> usize {
        self.type_start() + usize::from(get_u16(&self.0, TYPE_BYTES_AT))
    }

    fn metadata_start(&self) -> usize {
        self.payload_start() + get_u32(&self.0, PAYLOAD_BYTES_AT) as usize
    }

    fn metadata_bytes_len(&self) -> usize {
        match get_u32(&self.0, METADATA_BYTES_AT) {
            NO_METADATA => 0,
            len => len as usize,
        }
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It prints what stands there, whatever that is.
        let text = String::from_utf8_lossy;
        f.debug_struct("Row")
            .field("version", &self.version())
            .field("event_id", &self.event_id())
            .field("entity_id", &text(self.entity_id()))
            .field("event_type", &text(self.event_type()))
            .field("payload", &text(self.payload()))
            .finish_non_exhaustive()
    }
}

/// Text of a checked row. It was UTF-8 when it was written and its checksum holds.
pub(crate) fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes)
        .expect("a row whose checksum holds is UTF-8, as it was when it was written")
}

/// Iterator over the tags of a row.
#[derive(Debug, Clone)]
pub struct RowTags<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for RowTags<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let end = 2 + usize::from(get_u16(self.rest, 0));
        let (tag, rest) = self.rest.split_at(end);
        self.rest = rest;
        Some(&tag[2..])
    }
}

/// The bytes are no row of this position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRow {
    /// Its lengths do not add up.
    #[error("the lengths of a row do not add up")]
    Length,
    /// Its checksum does not match.
    #[error("the checksum of a row does not match")]
    Checksum,
    /// It uses what this version does not know.
    #[error("a row has flags that this version does not know")]
    Flags,
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, option, prelude::*};

    use super::*;

    fn sample() -> Vec<u8> {
        let mut row = Vec::new();
        RowParts {
            event_id: Uuid::from_u128(7),
            entity_id: b"order-42",
            event_type: b"order.paid",
            payload: br#"{"a":1}"#,
            metadata: Some(b"{}"),
            tags: [b"x".as_slice(), b"yy"].into_iter(),
            occurred_at: Timestamp::from_micros(-5),
        }
        .write(&mut row);
        seal(&mut row, 3, 9);
        row
    }

    proptest! {
        #[test]
        fn rows_round_trip(
            id: u128, entity in vec(any::<u8>(), 1..40), kind in vec(any::<u8>(), 1..40),
            payload in vec(any::<u8>(), 0..300), metadata in option::of(vec(any::<u8>(), 0..50)),
            tags in vec(vec(any::<u8>(), 1..20), 0..5), time in option::of(-1_000_000i64..1_000_000),
            version: u64, position: u64, behind in vec(any::<u8>(), 0..9),
        ) {
            let mut bytes = Vec::new();
            RowParts {
                event_id: Uuid::from_u128(id),
                entity_id: &entity,
                event_type: &kind,
                payload: &payload,
                metadata: metadata.as_deref(),
                tags: tags.iter().map(Vec::as_slice),
                occurred_at: time.and_then(Timestamp::from_micros),
            }
            .write(&mut bytes);
            seal(&mut bytes, version, position);
            bytes.extend_from_slice(&behind);
            let row = Row::check(bytes.into(), position).unwrap();
            prop_assert_eq!(row.version(), version);
            prop_assert_eq!(row.event_id().as_u128(), id);
            prop_assert_eq!(row.entity_id(), &entity);
            prop_assert_eq!(row.event_type(), &kind);
            prop_assert_eq!(row.payload(), &payload);
            prop_assert_eq!(row.metadata(), metadata.as_deref());
            prop_assert_eq!(row.tags().collect::<Vec<_>>(), tags);
            prop_assert_eq!(row.occurred_at().map(Timestamp::as_micros), time);
        }

        #[test]
        fn arbitrary_bytes_are_no_row(bytes in vec(any::<u8>(), 0..200)) {
            prop_assert!(Row::check(bytes.into(), 1).is_err());
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let row = sample();
        assert!(Row::check(row.clone().into(), 9).is_ok());
        for bit in 0..row.len() * 8 {
            let mut flipped = row.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Row::check(flipped.into(), 9).is_err(), "bit {bit}");
        }
    }

    /// A mutated row with a valid checksum panicked where it should have been printed.
    #[test]
    fn rows_that_are_no_text_are_printed() {
        let mut bytes = Vec::new();
        RowParts {
            event_id: Uuid::nil(),
            entity_id: b"\xff",
            event_type: b"x",
            payload: b"\xfe",
            metadata: None,
            tags: [].into_iter(),
            occurred_at: None,
        }
        .write(&mut bytes);
        seal(&mut bytes, 1, 1);
        let row = Row::check(bytes.into(), 1).unwrap();
        assert!(format!("{row:?}").contains('\u{fffd}'));
    }

    #[test]
    fn a_row_is_bound_to_its_position() {
        assert_eq!(Row::check(sample().into(), 10), Err(InvalidRow::Checksum));
    }
}
