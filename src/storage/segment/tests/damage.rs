//! Damage is told, never served.

use std::sync::atomic::Ordering;

use super::material::{MemoryFile, PATH, Parts, TINY, Written, log_id, noise, scan, usual_rows};
use crate::{
    storage::segment::{
        BLOCK_BYTES, SegmentSummary, StoredRow, reader::Segment, schema::SegmentOptions,
    },
    types::{
        id::LogId,
        kind::Kind,
        read::{Damage, ReadError},
    },
};

fn damage(error: ReadError) -> Damage {
    match error {
        ReadError::Damaged(damage) => damage,
        other => panic!("{other} is no damage"),
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    let rows = usual_rows(1..9);
    let written = Written::new(&rows, TINY);
    assert_eq!(scan(&written.open().unwrap(), 1).unwrap(), rows);
    for bit in 0..written.summary.bytes as usize * 8 {
        let byte = bit / 8;
        written.file.flip(byte, bit % 8);
        let read = written.open().and_then(|segment| scan(&segment, 1));
        let damage = damage(read.unwrap_err());
        assert!(damage.offset <= byte as u64, "{damage}");
        assert_eq!(damage.path.to_str(), Some(PATH));
        written.file.flip(byte, bit % 8);
    }
    assert_eq!(scan(&written.open().unwrap(), 1).unwrap(), rows);
}

/// A segment of several blocks whose only large column is the payload.
fn large() -> (Vec<StoredRow>, Written) {
    let parts = |number: u64| Parts {
        payload: noise(number, 4_000),
        ..Parts::usual(number)
    };
    let rows: Vec<_> = (1..100).map(|p| parts(p).at(p)).collect();
    let options = SegmentOptions {
        group_rows_max: 10,
        ..TINY
    };
    let written = Written::new(&rows, options);
    (rows, written)
}

#[test]
fn damage_is_told_where_it_is_and_the_rest_can_be_read() {
    let (rows, written) = large();
    let segment = written.open().unwrap();
    let blocks = written.summary.tail_at.div_ceil(BLOCK_BYTES as u64);
    assert!(blocks > 4);
    for block in 0..blocks {
        let start = block * BLOCK_BYTES as u64;
        let end = (start + BLOCK_BYTES as u64).min(written.summary.tail_at);
        written.file.flip((start + end) as usize / 2, 3);
        let error = scan(&segment, 1).unwrap_err();
        assert_eq!(damage(error).offset, start);
        let read: Vec<_> = rows
            .iter()
            .filter_map(|row| segment.read(&[row.position]).ok())
            .collect();
        assert!(read.len() > rows.len() / 2 && read.len() < rows.len());
        let expected = |read: &Vec<_>| rows.contains(&read[0]);
        assert!(read.iter().all(expected));
        written.file.flip((start + end) as usize / 2, 3);
    }
}

#[test]
fn nothing_comes_after_an_error() {
    let (_, written) = large();
    written.file.flip(3 * BLOCK_BYTES, 0);
    let mut batches = written.open().unwrap().scan(1);
    assert!(batches.by_ref().any(|batch| batch.is_err()));
    assert!(batches.next().is_none());
}

#[test]
fn a_failed_read_is_no_damage() {
    let (_, written) = large();
    let segment = written.open().unwrap();
    written.file.fails_reads.store(true, Ordering::Relaxed);
    for error in [
        scan(&segment, 1).unwrap_err(),
        written.open().err().unwrap(),
    ] {
        assert_eq!(error.kind(), Kind::Unavailable);
        assert!(error.to_string().contains("the disk is away"), "{error}");
    }
    written.file.fails_reads.store(false, Ordering::Relaxed);
    assert!(scan(&segment, 1).is_ok());
}

#[test]
fn every_shortened_file_is_noticed() {
    let written = Written::new(&usual_rows(1..16), TINY);
    let content = written.file.content();
    for len in 0..content.len() {
        let file = MemoryFile::of(content[..len].to_vec());
        let opened = Segment::open(file, PATH, log_id(), &written.summary);
        assert_eq!(damage(opened.err().unwrap()).offset, len as u64);
    }
    let longer = MemoryFile::of([content.as_slice(), b"x"].concat());
    let opened = Segment::open(longer, PATH, log_id(), &written.summary);
    assert_eq!(damage(opened.err().unwrap()).offset, content.len() as u64);
}

#[test]
fn a_file_that_is_cut_while_it_is_open_is_noticed() {
    let (_, written) = large();
    let content = written.file.content();
    let segment = written.open().unwrap();
    written.file.truncate(2 * BLOCK_BYTES + 5);
    let error = scan(&segment, 1).unwrap_err();
    assert_eq!(damage(error).offset, 2 * BLOCK_BYTES as u64);
    assert!(content.len() > 2 * BLOCK_BYTES + 5);
}

#[test]
fn a_segment_of_another_log_or_of_other_events_is_refused() {
    let written = Written::new(&usual_rows(1..16), TINY);
    let open = |log_id, summary: &SegmentSummary| {
        Segment::open(written.file.clone(), PATH, log_id, summary).err()
    };
    let other = LogId::from_bytes([8; 16]);
    let expected = ReadError::OtherLog {
        expected: other,
        found: log_id(),
    };
    assert_eq!(open(other, &written.summary), Some(expected));
    for (first, last) in [(2, 15), (1, 16), (1, 14), (0, 15)] {
        let summary = SegmentSummary {
            first,
            last,
            ..written.summary.clone()
        };
        damage(open(log_id(), &summary).unwrap());
    }
}

/// Checksums that fit are no reason to trust lengths: what was summed up wrong is refused, without a panic.
#[test]
fn what_is_no_segment_is_refused() {
    for content in [
        b"".as_slice(),
        b"PAR1",
        b"PAR1\0\0\0\0PAR1",
        &[0; 4_096],
        &[0xff; 99],
    ] {
        for tail_at in 0..content.len() {
            let summary = SegmentSummary {
                first: 1,
                last: 1,
                bytes: content.len() as u64,
                sha256: [0; 32],
                tail_at: tail_at as u64,
                tail_crc: crc32c::crc32c(&content[tail_at..]),
            };
            let file = MemoryFile::of(content.to_vec());
            let opened = Segment::open(file, PATH, log_id(), &summary);
            damage(opened.err().unwrap());
        }
    }
}

/// Nobody but us sums up a tail. Still, one that was changed and summed up again neither panics nor makes other rows.
#[test]
fn a_tail_that_was_tampered_with_makes_no_other_rows() {
    let rows = usual_rows(1..12);
    let mut written = Written::new(&rows, TINY);
    let (tail_at, bytes) = (
        written.summary.tail_at as usize,
        written.summary.bytes as usize,
    );
    let mut refused = 0;
    for byte in (tail_at..bytes).step_by(2) {
        written.file.flip(byte, byte / 2 % 8);
        written.summary.tail_crc = crc32c::crc32c(&written.file.content()[tail_at..]);
        match written.open().and_then(|segment| scan(&segment, 1)) {
            Ok(read) => assert_eq!(read, rows),
            Err(_) => refused += 1,
        }
        written.file.flip(byte, byte / 2 % 8);
    }
    assert!(refused > (bytes - tail_at) / 10);
}
