//! What must hold of a decoder's answer. Checksums are computed here from the description of the format, not with the
//! decoder's code.

use bytes::Bytes;

use annals::storage::log::{
    file::{FileHeader, HEADER_BYTES, InvalidHeader},
    frame::{FRAME_ALIGN, FRAME_HEADER_BYTES, Frame, InvalidFrame},
    row::{InvalidRow, ROW_HEADER_BYTES, Row},
};

use super::input::{Input, Kind};

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// Of the salt, then of all but bytes 8 to 12.
pub(super) fn frame_crc(frame: &[u8], salt: u64) -> u32 {
    let mut summed = salt.to_le_bytes().to_vec();
    summed.extend_from_slice(&frame[..8]);
    summed.extend_from_slice(&frame[12..]);
    crc32c::crc32c(&summed)
}

/// Of bytes 16 to the end, then of version, position and length.
pub(super) fn row_crc(row: &[u8], position: u64) -> u32 {
    let mut summed = row[16..].to_vec();
    summed.extend_from_slice(&row[8..16]);
    summed.extend_from_slice(&position.to_le_bytes());
    summed.extend_from_slice(&row[..4]);
    crc32c::crc32c(&summed)
}

/// Of all but bytes 20 to 24.
pub(super) fn header_crc(block: &[u8]) -> u32 {
    let mut summed = block[..20].to_vec();
    summed.extend_from_slice(&block[24..]);
    crc32c::crc32c(&summed)
}

pub(super) fn check(input: &Input) {
    match input.kind {
        Kind::Frame => check_frame(&input.bytes, input.salt),
        Kind::Row => check_row(&Bytes::copy_from_slice(&input.bytes), input.salt),
        Kind::Header => check_header(&input.bytes),
    }
}

fn check_frame(bytes: &[u8], salt: u64) {
    let length = (bytes.len() >= FRAME_HEADER_BYTES).then(|| u32_at(bytes, 4) as usize);
    let stated = length.and_then(|length| bytes.get(..length));
    let crc_holds = stated.is_some_and(|frame| {
        frame.len() >= FRAME_HEADER_BYTES && frame_crc(frame, salt) == u32_at(frame, 8)
    });
    let frame = match Frame::check(bytes, salt) {
        Ok(frame) => frame,
        Err(e) => {
            assert!(
                e != InvalidFrame::Checksum || !crc_holds,
                "refused a valid checksum"
            );
            return;
        }
    };
    assert!(crc_holds, "accepted a checksum that does not match");
    assert_eq!(Some(frame.as_bytes()), stated);
    assert_eq!(frame.as_bytes().len() % FRAME_ALIGN, 0);
    assert_eq!(frame.crc(), u32_at(bytes, 8));
    assert_eq!(frame.previous_crc(), u32_at(bytes, 12));
    let _ = (frame.durable_offset(), frame.recorded_at());
    let cursors = frame.cursors();
    assert_eq!(cursors.clone().count(), u32_at(bytes, 52) as usize);
    let cursor_bytes: usize = cursors.map(|(name, _)| 10 + name.len()).sum();
    let rows = frame.rows();
    assert!(FRAME_HEADER_BYTES + rows.len() + cursor_bytes <= frame.as_bytes().len());
    let mut rest = Bytes::copy_from_slice(rows);
    for i in 0..u64::from(frame.events()) {
        let position = frame.first_position().wrapping_add(i);
        check_row(&rest, position);
        let Ok(row) = Row::check(rest.clone(), position) else {
            break;
        };
        rest = rest.slice(row.as_bytes().len()..);
    }
}

fn check_row(bytes: &Bytes, position: u64) {
    let length = (bytes.len() >= ROW_HEADER_BYTES).then(|| u32_at(bytes, 0) as usize);
    let stated = length.and_then(|length| bytes.get(..length));
    let crc_holds = stated.is_some_and(|row| {
        row.len() >= ROW_HEADER_BYTES && row_crc(row, position) == u32_at(row, 4)
    });
    let row = match Row::check(bytes.clone(), position) {
        Ok(row) => row,
        Err(e) => {
            assert!(
                e != InvalidRow::Checksum || !crc_holds,
                "refused a valid checksum"
            );
            return;
        }
    };
    assert!(crc_holds, "accepted a checksum that does not match");
    assert_eq!(Some(row.as_bytes()), stated);
    let _ = (row.version(), row.event_id(), row.occurred_at());
    let texts = [row.entity_id(), row.event_type(), row.payload()];
    let texts = texts.into_iter().chain(row.metadata());
    let texts: usize = texts.map(<[u8]>::len).sum();
    let tags: usize = row.tags().map(|tag| 2 + tag.len()).sum();
    assert_eq!(ROW_HEADER_BYTES + texts + tags, row.as_bytes().len());
    assert!(!format!("{row:?}").is_empty());
}

fn check_header(block: &[u8]) {
    let crc_holds = block.len() == HEADER_BYTES && header_crc(block) == u32_at(block, 20);
    match FileHeader::decode(block) {
        Ok(header) => {
            assert!(crc_holds, "accepted a checksum that does not match");
            let again = FileHeader::decode(&header.encode());
            assert_eq!(again, Ok(header));
        }
        Err(e) => assert!(
            e != InvalidHeader::Checksum || !crc_holds,
            "refused a valid checksum"
        ),
    }
}
