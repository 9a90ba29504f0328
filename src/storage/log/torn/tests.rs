//! What stands behind the last frame: stale frames, torn ones, whole ones behind a lost one.

use super::*;
use crate::storage::log::{
    file::HEADER_BYTES,
    frame::{FrameDraft, FramePlace},
};
use crate::types::id::LogId;

const OLD_SALT: u64 = 3;
const SALT: u64 = 4;
/// Of the next event.
const NEXT: Position = 1_000;
/// Log offset where the frames end.
const OFFSET: u64 = 1 << 20;

fn frame(salt: u64, first_position: Position, durable_offset: u64, rows: usize) -> Vec<u8> {
    let mut body = FrameDraft::buffer(rows);
    body.resize(body.len() + rows, b'r');
    let place = FramePlace {
        salt,
        previous_crc: 9,
        durable_offset,
        first_position,
        recorded_at: 5,
    };
    let mut out = Vec::new();
    FrameDraft::batch(body, 1, std::iter::empty()).write(&place, &mut out);
    out
}

/// A file full of frames of its life before.
fn recycled() -> Vec<u8> {
    let mut bytes = vec![7; HEADER_BYTES];
    for position in 0..100 {
        bytes.extend(frame(OLD_SALT, position, position * 100, 300));
    }
    bytes
}

/// Puts bytes into a file, and zeros behind them up to the end of the page.
fn write(bytes: &mut [u8], at: usize, new: &[u8]) {
    let end = at + new.len();
    bytes[at..end].copy_from_slice(new);
    bytes[end..end.next_multiple_of(4096)].fill(0);
}

fn header(salt: u64, recycled: bool) -> FileHeader {
    FileHeader {
        log_id: LogId::from_bytes([7; 16]),
        salt,
        first_position: 1,
        base_offset: 0,
        file_bytes: 1 << 20,
        previous_crc: 9,
        recycled,
    }
}

/// Both answers about a recycled file whose frames end at an offset.
fn asked(bytes: &[u8], end: usize) -> (u64, u64) {
    let torn = torn_bytes(bytes, end, &header(SALT, true), NEXT);
    (torn, stated_behind(&bytes[end..], SALT, OFFSET))
}

#[test]
fn what_a_recycled_file_held_is_neither_torn_nor_a_statement() {
    let bytes = recycled();
    // Wherever frames of the new life end: at the start, or with the zeros of a page behind them.
    assert_eq!(asked(&bytes, HEADER_BYTES), (0, OFFSET));
    for rows in [0, 8, 300, 4096 - 64, 4096, 9_000] {
        let mut bytes = recycled();
        let new = frame(SALT, NEXT - 1, OFFSET, rows);
        write(&mut bytes, HEADER_BYTES, &new);
        assert_eq!(
            asked(&bytes, HEADER_BYTES + new.len()),
            (0, OFFSET),
            "{rows}"
        );
    }
}

/// The luck of salts: the stale frames are as valid as any.
#[test]
fn stale_frames_are_nothing_even_if_the_salt_came_again() {
    let bytes = recycled();
    assert!(Frame::check(&bytes[HEADER_BYTES..], OLD_SALT).is_ok());
    let header = header(OLD_SALT, true);
    assert_eq!(torn_bytes(&bytes, HEADER_BYTES, &header, NEXT), 0);
    let behind = &bytes[HEADER_BYTES..];
    assert_eq!(stated_behind(behind, OLD_SALT, OFFSET), OFFSET);
}

#[test]
fn a_torn_frame_is_told_by_its_header() {
    let new = frame(SALT, NEXT, OFFSET, 2_000);
    // Nothing of it, or only what is not its first sector: what is there may be old.
    for (sectors, told) in [(0..0, 0), (1..4, 0), (0..1, new.len()), (0..4, new.len())] {
        let mut bytes = recycled();
        let part = sectors.start * SECTOR_BYTES..new.len().min(sectors.end * SECTOR_BYTES);
        let at = HEADER_BYTES + part.start;
        bytes[at..at + part.len()].copy_from_slice(&new[part]);
        assert_eq!(
            asked(&bytes, HEADER_BYTES),
            (told as u64, OFFSET),
            "{sectors:?}"
        );
    }
}

#[test]
fn a_torn_frame_is_told_by_what_stands_in_the_sector_of_the_last_one() {
    let (before, new) = (
        frame(SALT, NEXT - 1, OFFSET, 100),
        frame(SALT, NEXT, OFFSET, 2_000),
    );
    let end = HEADER_BYTES + before.len();
    for bit in 0..64 * 8 {
        let mut bytes = recycled();
        write(&mut bytes, HEADER_BYTES, &[&before[..], &new[..]].concat());
        bytes[end + bit / 8] ^= 1 << (bit % 8);
        let (torn, stated) = asked(&bytes, end);
        assert!(torn > 0, "bit {bit}");
        assert_eq!(stated, OFFSET);
    }
}

#[test]
fn whole_frames_behind_a_lost_one_are_torn_and_what_they_state_counts() {
    let lost = frame(SALT, NEXT, OFFSET, 1_000);
    let whole = frame(SALT, NEXT + 1, OFFSET + 24, 1_000);
    let mut bytes = recycled();
    let at = HEADER_BYTES + lost.len();
    write(&mut bytes, at, &whole);
    let torn = (lost.len() + whole.len()) as u64;
    assert_eq!(asked(&bytes, HEADER_BYTES), (torn, OFFSET + 24));
}

/// Behind the frames of a file that was made of zeros every byte that is none was written.
#[test]
fn in_a_file_of_zeros_any_byte_is_torn() {
    let new = frame(SALT, NEXT, OFFSET, 2_000);
    let header = header(SALT, false);
    let zeros = vec![0; HEADER_BYTES + 8_192];
    assert_eq!(torn_bytes(&zeros, HEADER_BYTES, &header, NEXT), 0);
    for lost in (0..new.len()).step_by(SECTOR_BYTES) {
        let mut bytes = zeros.clone();
        bytes[HEADER_BYTES..HEADER_BYTES + new.len()].copy_from_slice(&new);
        bytes[HEADER_BYTES + lost..][..SECTOR_BYTES].fill(0);
        let torn = torn_bytes(&bytes, HEADER_BYTES, &header, NEXT);
        assert!(torn > 0, "without the sector at {lost}");
    }
}
