//! A frame: one batch, or a statement of what is durable. Written whole, checked whole.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | magic |
//! | 4 | 4 | bytes of the frame, padding included; a multiple of 8 |
//! | 8 | 4 | CRC-32C of the file's salt, then of all other bytes of the frame |
//! | 12 | 4 | CRC of the frame before |
//! | 16 | 1 | kind: 1 batch, 2 mark |
//! | 17 | 1 | codec of the rows: 0, as they are |
//! | 18 | 2 | flags, 0 |
//! | 20 | 4 | key id: 0, not encrypted |
//! | 24 | 8 | durable offset: the log offset that everything before was known durable at |
//! | 32 | 8 | first position: of the first event; without events, of the next one |
//! | 40 | 8 | recorded at, µs since 1970; 0 in a mark |
//! | 48 | 4 | number of rows |
//! | 52 | 4 | number of cursor records |
//! | 56 | 4 | bytes of the rows |
//! | 60 | 4 | bytes of the extension |
//! | 64 | | rows; cursor records: position (8), bytes of the name (2), name; extension, skipped by those who do not know it; zeros |
//!
//! The salt and the checksum of the frame before make sure that neither a stale frame nor a payload that looks like one
//! can pass. Should a stale frame of a recycled file have their luck all the same, it still does not continue the log: a
//! file is recycled once all its events are sealed, so every frame in it begins, and states to be durable, less than the
//! first frame of its new life. A frame can also be recognised alone, without the one before: that is how recovery finds
//! what was stated behind a damaged one.

use crate::{
    storage::bytes::{get_u16, get_u32, get_u64, put_u32, put_u64},
    types::id::Position,
};

/// Bytes before the rows.
pub const FRAME_HEADER_BYTES: usize = 64;
/// Frames start at multiples of this.
pub const FRAME_ALIGN: usize = 8;
const MAGIC: u32 = 0x314d_5246;
const FRAME_BYTES_AT: usize = 4;
const CRC_AT: usize = 8;
const PREVIOUS_CRC_AT: usize = 12;
const KIND_AT: usize = 16;
const CODEC_AT: usize = 17;
const FLAGS_AT: usize = 18;
const KEY_ID_AT: usize = 20;
const DURABLE_OFFSET_AT: usize = 24;
const FIRST_POSITION_AT: usize = 32;
const RECORDED_AT_AT: usize = 40;
const EVENTS_AT: usize = 48;
const CURSORS_AT: usize = 52;
const ROWS_BYTES_AT: usize = 56;
const EXTENSION_BYTES_AT: usize = 60;
const KIND_BATCH: u8 = 1;
const KIND_MARK: u8 = 2;

/// A frame before it is placed in a file: its body is complete, its header is still open.
#[derive(Debug)]
pub(crate) struct FrameDraft {
    /// Header, rows, cursor records, padding.
    bytes: Vec<u8>,
    events: u32,
}

/// What is known of a frame only when it is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FramePlace {
    pub(crate) salt: u64,
    pub(crate) previous_crc: u32,
    pub(crate) durable_offset: u64,
    pub(crate) first_position: Position,
    pub(crate) recorded_at: i64,
}

impl FrameDraft {
    /// Room for a header, to which rows are appended.
    pub(crate) fn buffer(capacity: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FRAME_HEADER_BYTES + capacity);
        bytes.resize(FRAME_HEADER_BYTES, 0);
        bytes
    }

    /// Of a [`FrameDraft::buffer`] to which so many rows were appended.
    pub(crate) fn batch<'a>(
        mut bytes: Vec<u8>,
        events: usize,
        cursors: impl Iterator<Item = (&'a [u8], Position)>,
    ) -> Self {
        let rows_bytes = bytes.len() - FRAME_HEADER_BYTES;
        let mut count = 0;
        for (name, position) in cursors {
            bytes.extend_from_slice(&position.to_le_bytes());
            bytes.extend_from_slice(&(name.len() as u16).to_le_bytes());
            bytes.extend_from_slice(name);
            count += 1;
        }
        put_u32(&mut bytes, CURSORS_AT, count);
        put_u32(&mut bytes, EVENTS_AT, events as u32);
        put_u32(&mut bytes, ROWS_BYTES_AT, rows_bytes as u32);
        bytes[KIND_AT] = KIND_BATCH;
        Self::finish(bytes, events as u32)
    }

    /// A statement of the durable offset, and nothing else.
    pub(crate) fn mark() -> Self {
        let mut bytes = Self::buffer(0);
        bytes[KIND_AT] = KIND_MARK;
        Self::finish(bytes, 0)
    }

    fn finish(mut bytes: Vec<u8>, events: u32) -> Self {
        bytes.resize(bytes.len().next_multiple_of(FRAME_ALIGN), 0);
        let frame_bytes = u32::try_from(bytes.len()).expect("batches are limited far below 4 GiB");
        put_u32(&mut bytes, 0, MAGIC);
        put_u32(&mut bytes, FRAME_BYTES_AT, frame_bytes);
        Self { bytes, events }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn events(&self) -> u32 {
        self.events
    }

    /// Its rows, one after the other.
    pub(crate) fn rows(&self) -> &[u8] {
        let end = FRAME_HEADER_BYTES + get_u32(&self.bytes, ROWS_BYTES_AT) as usize;
        &self.bytes[FRAME_HEADER_BYTES..end]
    }

    /// Appends the frame to `out`, closed for its place; returns its checksum.
    pub(crate) fn write(&self, place: &FramePlace, out: &mut Vec<u8>) -> u32 {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        close(&mut out[start..], place)
    }
}

/// Fills in the open fields of a frame's header and its checksum, which is returned.
pub(crate) fn close(frame: &mut [u8], place: &FramePlace) -> u32 {
    put_u64(frame, DURABLE_OFFSET_AT, place.durable_offset);
    put_u64(frame, FIRST_POSITION_AT, place.first_position);
    put_u64(frame, RECORDED_AT_AT, place.recorded_at.cast_unsigned());
    resalt(frame, place.salt, place.previous_crc)
}

/// Closes a checked frame again for a file with another salt.
pub(crate) fn resalt(frame: &mut [u8], salt: u64, previous_crc: u32) -> u32 {
    put_u32(frame, PREVIOUS_CRC_AT, previous_crc);
    let sum = crc(frame, salt);
    put_u32(frame, CRC_AT, sum);
    sum
}

fn crc(frame: &[u8], salt: u64) -> u32 {
    let sum = crc32c::crc32c_append(crc32c::crc32c(&salt.to_le_bytes()), &frame[..CRC_AT]);
    crc32c::crc32c_append(sum, &frame[CRC_AT + 4..])
}

/// What bytes claim that may be a frame: nothing of it was checked, but that it can be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claim {
    pub(crate) frame_bytes: usize,
    pub(crate) durable_offset: u64,
    pub(crate) first_position: Position,
}

impl Claim {
    /// `None` if no frame of a known kind can start here and end within `bytes`.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let frame_bytes = frame_bytes(bytes).ok()?;
        let is_known = matches!(bytes[KIND_AT], KIND_BATCH | KIND_MARK);
        is_known.then(|| Self {
            frame_bytes,
            durable_offset: get_u64(bytes, DURABLE_OFFSET_AT),
            first_position: get_u64(bytes, FIRST_POSITION_AT),
        })
    }
}

/// The length that a frame states, if it can be.
fn frame_bytes(bytes: &[u8]) -> Result<usize, InvalidFrame> {
    if bytes.len() < FRAME_HEADER_BYTES || get_u32(bytes, 0) != MAGIC {
        return Err(InvalidFrame::Magic);
    }
    let frame_bytes = get_u32(bytes, FRAME_BYTES_AT) as usize;
    let inside = (FRAME_HEADER_BYTES..=bytes.len()).contains(&frame_bytes);
    if !inside || !frame_bytes.is_multiple_of(FRAME_ALIGN) {
        return Err(InvalidFrame::Length);
    }
    Ok(frame_bytes)
}

/// A frame whose checksum and lengths were checked.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    bytes: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Checks the frame that `bytes` starts with. The chain to the frame before is for the caller to check.
    pub fn check(bytes: &'a [u8], salt: u64) -> Result<Self, InvalidFrame> {
        let bytes = &bytes[..frame_bytes(bytes)?];
        if crc(bytes, salt) != get_u32(bytes, CRC_AT) {
            return Err(InvalidFrame::Checksum);
        }
        let known = matches!(bytes[KIND_AT], KIND_BATCH | KIND_MARK)
            && bytes[CODEC_AT] == 0
            && get_u16(bytes, FLAGS_AT) == 0
            && get_u32(bytes, KEY_ID_AT) == 0;
        if !known {
            return Err(InvalidFrame::TooNew);
        }
        let frame = Self { bytes };
        if frame.adds_up() {
            Ok(frame)
        } else {
            Err(InvalidFrame::Body)
        }
    }

    fn adds_up(&self) -> bool {
        let rows_end = FRAME_HEADER_BYTES + get_u32(self.bytes, ROWS_BYTES_AT) as usize;
        if rows_end > self.bytes.len() {
            return false;
        }
        let mut end = rows_end;
        for _ in 0..get_u32(self.bytes, CURSORS_AT) {
            if end + 10 > self.bytes.len() {
                return false;
            }
            end += 10 + usize::from(get_u16(self.bytes, end + 8));
        }
        end += get_u32(self.bytes, EXTENSION_BYTES_AT) as usize;
        end.next_multiple_of(FRAME_ALIGN) == self.bytes.len()
    }

    /// All its bytes.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Its checksum.
    pub fn crc(&self) -> u32 {
        get_u32(self.bytes, CRC_AT)
    }

    /// The checksum of the frame before.
    pub fn previous_crc(&self) -> u32 {
        get_u32(self.bytes, PREVIOUS_CRC_AT)
    }

    /// The log offset that everything before was durable at when the frame was written.
    pub fn durable_offset(&self) -> u64 {
        get_u64(self.bytes, DURABLE_OFFSET_AT)
    }

    /// The position of its first event, or of the next one.
    pub fn first_position(&self) -> Position {
        get_u64(self.bytes, FIRST_POSITION_AT)
    }

    /// When its group was written, in µs since 1970.
    pub fn recorded_at(&self) -> i64 {
        get_u64(self.bytes, RECORDED_AT_AT).cast_signed()
    }

    /// How many events it holds.
    pub fn events(&self) -> u32 {
        get_u32(self.bytes, EVENTS_AT)
    }

    /// Its rows, one after the other.
    pub fn rows(&self) -> &'a [u8] {
        &self.bytes[FRAME_HEADER_BYTES..self.rows_end()]
    }

    /// Its cursor records.
    pub fn cursors(&self) -> Cursors<'a> {
        Cursors {
            rest: &self.bytes[self.rows_end()..],
            left: get_u32(self.bytes, CURSORS_AT),
        }
    }

    fn rows_end(&self) -> usize {
        FRAME_HEADER_BYTES + get_u32(self.bytes, ROWS_BYTES_AT) as usize
    }
}

/// Iterator over the cursor records of a frame: name and position.
#[derive(Debug, Clone)]
pub struct Cursors<'a> {
    rest: &'a [u8],
    left: u32,
}

impl<'a> Iterator for Cursors<'a> {
    type Item = (&'a [u8], Position);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let position = get_u64(self.rest, 0);
        let end = 10 + usize::from(get_u16(self.rest, 8));
        let (record, rest) = self.rest.split_at(end);
        self.rest = rest;
        Some((&record[10..], position))
    }
}

/// The bytes are no frame of this file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFrame {
    /// Nothing starts here.
    #[error("no frame starts here")]
    Magic,
    /// Its lengths do not add up.
    #[error("the lengths of a frame do not add up")]
    Length,
    /// Its checksum does not match.
    #[error("the checksum of a frame does not match")]
    Checksum,
    /// Its checksum matches, but what it covers does not add up.
    #[error("the parts of a frame do not add up")]
    Body,
    /// A newer version of the store wrote it.
    #[error("a frame has a kind, codec or key that this version does not know")]
    TooNew,
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    const PLACE: FramePlace = FramePlace {
        salt: 77,
        previous_crc: 5,
        durable_offset: 640,
        first_position: 12,
        recorded_at: 1_000,
    };

    fn sample() -> Vec<u8> {
        let mut bytes = FrameDraft::buffer(0);
        bytes.extend_from_slice(b"three rows, to the frame they are just bytes");
        let cursors = [(b"a".as_slice(), 4), (b"worker-2".as_slice(), u64::MAX)];
        let mut out = Vec::new();
        FrameDraft::batch(bytes, 3, cursors.into_iter()).write(&PLACE, &mut out);
        out
    }

    #[test]
    fn frames_round_trip() {
        let bytes = sample();
        let frame = Frame::check(&bytes, PLACE.salt).unwrap();
        assert_eq!(frame.as_bytes(), bytes);
        assert_eq!(frame.previous_crc(), 5);
        assert_eq!(frame.durable_offset(), 640);
        assert_eq!(frame.first_position(), 12);
        assert_eq!(frame.recorded_at(), 1_000);
        assert_eq!(frame.events(), 3);
        assert_eq!(
            frame.rows(),
            b"three rows, to the frame they are just bytes"
        );
        let cursors: Vec<_> = frame.cursors().collect();
        assert_eq!(
            cursors,
            [(b"a".as_slice(), 4), (b"worker-2".as_slice(), u64::MAX)]
        );
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let bytes = sample();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Frame::check(&flipped, PLACE.salt).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_frame_of_another_salt_is_none() {
        assert_eq!(
            Frame::check(&sample(), 78).unwrap_err(),
            InvalidFrame::Checksum
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_no_frame(mut bytes in vec(any::<u8>(), 0..200)) {
            prop_assert!(Frame::check(&bytes, 1).is_err());
            if bytes.len() >= FRAME_HEADER_BYTES {
                let len = bytes.len();
                put_u32(&mut bytes, 0, MAGIC);
                put_u32(&mut bytes, FRAME_BYTES_AT, (len / 8 * 8) as u32);
                prop_assert!(Frame::check(&bytes, 1).is_err());
            }
        }
    }
}
