//! What was written is what is read, to the byte, and little else is touched for it.

use std::{collections::BTreeSet, io, sync::atomic::Ordering};

use bytes::Bytes;
use parquet::{
    arrow::arrow_reader::ParquetRecordBatchReaderBuilder,
    basic::{Compression, Encoding},
    file::metadata::{PageIndexPolicy, ParquetMetaDataReader, RowGroupMetaData},
};
use proptest::{collection::vec, prelude::*, sample::subsequence};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::material::{
    MemoryFile, Parts, TINY, Written, content, log_id, noise, options, parts, scan, usual_rows,
    write,
};
use crate::{
    storage::{
        disk::{Disk, RealDisk},
        log::row::{Row, RowParts, seal},
        segment::{
            BLOCK_BYTES, SegmentSummary, StoredRow,
            reader::Segment,
            schema::{SCHEMA, SegmentOptions},
            writer::SegmentWriter,
        },
    },
    types::{
        id::Position,
        limits::{READ_BATCH_BYTES, READ_BATCH_EVENTS},
        time::Timestamp,
    },
};

fn placed(parts: &[Parts], first: Position) -> Vec<StoredRow> {
    let positions = first..;
    parts
        .iter()
        .zip(positions)
        .map(|(p, at)| p.at(at))
        .collect()
}

proptest! {
    #[test]
    fn rows_come_back_to_the_byte(
        (parts, chosen) in vec(parts(), 1..40).prop_flat_map(|parts| {
            let all: Vec<usize> = (0..parts.len()).collect();
            (Just(parts), subsequence(all.clone(), 0..=all.len()))
        }),
        options in options(),
        first in prop_oneof![1u64..100, (i64::MAX as u64 - 100)..(i64::MAX as u64 - 50)],
        from: prop::sample::Index,
    ) {
        let rows = placed(&parts, first);
        let written = Written::new(&rows, options);
        let segment = written.open().unwrap();
        prop_assert_eq!(segment.positions(), first..first + rows.len() as u64);
        prop_assert_eq!(content(&segment).unwrap(), written.content);

        let from = from.index(rows.len());
        prop_assert_eq!(&scan(&segment, first + from as u64).unwrap(), &rows[from..]);

        let positions: Vec<_> = chosen.iter().map(|&at| first + at as u64).collect();
        let expected: Vec<_> = chosen.iter().map(|&at| rows[at].clone()).collect();
        prop_assert_eq!(segment.read(&positions).unwrap(), expected);
    }
}

/// So that what was read back can be compared.
#[test]
fn content_differs_if_anything_of_a_row_does() {
    let usual = || -> Vec<_> { (1..60).map(Parts::usual).collect() };
    let changes: [fn(&mut Parts); 12] = [
        |parts| parts.event_id += 1,
        |parts| parts.entity_id.push('0'),
        |parts| parts.event_type.insert(0, 'x'),
        |parts| parts.payload = parts.payload.replace('a', "b"),
        |parts| parts.metadata = Some("{}".to_owned()),
        |parts| parts.metadata = Some(String::new()),
        |parts| parts.tags.clear(),
        |parts| parts.tags.push(String::new()),
        |parts| parts.occurred_at = None,
        |parts| parts.occurred_at = Some(Timestamp::MAX),
        |parts| parts.version += 1,
        |parts| parts.recorded_at += 1,
    ];
    let of = |parts: &[Parts]| Written::new(&placed(parts, 1), TINY).content;
    let mut seen = BTreeSet::from([of(&usual())]);
    for change in changes {
        let mut rows = usual();
        // It has a tag, and no metadata.
        change(&mut rows[30]);
        assert!(seen.insert(of(&rows)));
    }
    // What stands in two rows is moved from one to the other.
    let mut moved = usual();
    moved[0].payload.push('{');
    moved[1].payload.remove(0);
    assert!(seen.insert(of(&moved)));
    let at_others = Written::new(&placed(&usual(), 2), TINY).content;
    assert!(seen.insert(at_others));
}

#[test]
fn every_row_can_be_read_by_itself() {
    let rows = usual_rows(1..60);
    let segment = Written::new(&rows, TINY).open().unwrap();
    for row in &rows {
        let read = segment.read(&[row.position]).unwrap();
        assert_eq!(read.iter().collect::<Vec<_>>(), [row]);
    }
    assert_eq!(segment.read(&[]).unwrap(), []);
}

#[test]
fn many_rows_in_the_usual_sizes_come_back() {
    let rows = usual_rows(1..20_000);
    let segment = Written::new(&rows, SegmentOptions::default())
        .open()
        .unwrap();
    assert!(scan(&segment, 1).unwrap() == rows);
    let every_third: Vec<_> = rows.iter().step_by(3).cloned().collect();
    let positions: Vec<_> = every_third.iter().map(|row| row.position).collect();
    assert!(segment.read(&positions).unwrap() == every_third);
    assert!(segment.memory_bytes() > 1_000);
}

#[test]
fn a_segment_lives_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new.parquet");
    let rows = usual_rows(5..30);
    let mut writer = SegmentWriter::create(&RealDisk, &path, log_id(), TINY).unwrap();
    for row in &rows {
        writer
            .push(row.position, row.recorded_at, &row.row)
            .unwrap();
    }
    let summary = writer.finish().unwrap();
    assert_eq!((summary.first, summary.last), (5, 29));
    let file = RealDisk.open(&path).unwrap();
    let segment = Segment::open(file, &path, log_id(), &summary).unwrap();
    assert_eq!(scan(&segment, 5).unwrap(), rows);
}

#[test]
fn the_summary_describes_the_file_which_follows_from_its_rows() {
    let written = Written::new(&usual_rows(1..50), TINY);
    let again = Written::new(&usual_rows(1..50), TINY);
    assert_eq!(written.summary, again.summary);
    let (content, summary) = (written.file.content(), &written.summary);
    assert_eq!(summary.bytes, content.len() as u64);
    assert_eq!(summary.sha256, <[u8; 32]>::from(Sha256::digest(&content)));
    let tail = &content[summary.tail_at as usize..];
    assert_eq!(summary.tail_crc, crc32c::crc32c(tail));
}

/// Other readers see what the table in `schema.rs` says.
#[test]
fn the_file_is_plain_parquet_with_the_documented_columns() {
    let rows = usual_rows(1..50);
    let content = Bytes::from(Written::new(&rows, TINY).file.content());
    let reader = ParquetRecordBatchReaderBuilder::try_new(content.clone()).unwrap();
    assert_eq!(reader.schema().fields(), SCHEMA.fields());
    let metadata = ParquetMetaDataReader::new()
        .with_page_index_policy(PageIndexPolicy::Required)
        .parse_and_finish(&content)
        .unwrap();
    assert_eq!(metadata.num_row_groups(), 7);
    let group = metadata.row_group(0);
    assert_eq!(group.num_rows(), 7);
    for column in group.columns() {
        let name = column.column_path().parts()[0].as_str();
        let is_compressed = matches!(name, "entity_id" | "event_id" | "payload" | "metadata");
        let compression = column.compression();
        assert_eq!(
            matches!(compression, Compression::ZSTD(_)),
            is_compressed,
            "{name}"
        );
        let encodings: Vec<_> = column.encodings().collect();
        let expected = match name {
            "entity_id" | "event_type" | "tags" => Encoding::RLE_DICTIONARY,
            "event_id" => Encoding::DELTA_BYTE_ARRAY,
            "payload" | "metadata" => Encoding::PLAIN,
            _ => Encoding::DELTA_BINARY_PACKED,
        };
        assert!(encodings.contains(&expected), "{name}: {encodings:?}");
        let has_dictionary = column.dictionary_page_offset().is_some();
        assert_eq!(
            has_dictionary,
            expected == Encoding::RLE_DICTIONARY,
            "{name}"
        );
        let has_filter = column.bloom_filter_offset().is_some();
        assert_eq!(has_filter, name == "entity_id", "{name}");
        let has_statistics = !matches!(name, "payload" | "metadata" | "tags");
        assert_eq!(column.statistics().is_some(), has_statistics, "{name}");
        assert_eq!(
            column.column_index_offset().is_some(),
            has_statistics,
            "{name}"
        );
        assert!(column.offset_index_offset().is_some(), "{name}");
    }
    assert_eq!(
        metadata.offset_index().unwrap()[0][0]
            .page_locations()
            .len(),
        3
    );
}

#[test]
fn row_groups_are_bounded_in_bytes() {
    let parts = |number: u64| Parts {
        payload: noise(number, 20_000),
        ..Parts::usual(number)
    };
    let rows: Vec<_> = (1..300).map(|p| parts(p).at(p)).collect();
    let options = SegmentOptions {
        group_bytes: 1_500_000,
        ..SegmentOptions::default()
    };
    let written = Written::new(&rows, options);
    let segment = written.open().unwrap();
    let groups = segment.metadata.metadata().row_groups();
    let sizes: Vec<_> = groups
        .iter()
        .map(RowGroupMetaData::compressed_size)
        .collect();
    let most = 1_500_000 + (1 << 20);
    assert!(
        sizes.len() > 2 && sizes.iter().all(|size| *size < most),
        "{sizes:?}"
    );
    assert!(scan(&segment, 1).unwrap() == rows);
}

/// Segments that were written once can be read for ever.
#[test]
fn the_golden_file_is_read() {
    let content = include_bytes!("golden.parquet");
    let summary = SegmentSummary {
        first: 1,
        last: 9,
        bytes: content.len() as u64,
        sha256: Sha256::digest(content).into(),
        tail_at: 2_148,
        tail_crc: 884_207_782,
    };
    let file = MemoryFile::of(content.to_vec());
    let segment = Segment::open(file, "golden.parquet", log_id(), &summary).unwrap();
    assert_eq!(scan(&segment, 1).unwrap(), usual_rows(1..10));
}

#[test]
fn a_scattered_read_touches_little_and_no_block_twice() {
    let parts = |number: u64| Parts {
        payload: noise(number + 1, 500),
        ..Parts::usual(number)
    };
    let rows: Vec<_> = (1..8_000).map(|p| parts(p).at(p)).collect();
    let written = Written::new(&rows, SegmentOptions::default());
    let segment = written.open().unwrap();
    let bytes_read = || written.file.bytes_read.swap(0, Ordering::Relaxed);
    bytes_read();
    assert!(scan(&segment, 1).unwrap() == rows);
    assert!(bytes_read() <= written.summary.tail_at);

    assert_eq!(segment.read(&[4_000, 4_001]).unwrap(), rows[3_999..4_001]);
    // Two to four blocks for each of nine columns, far from the whole of it.
    assert!(bytes_read() <= 18 * BLOCK_BYTES as u64);
    assert!(written.summary.tail_at > 160 * BLOCK_BYTES as u64);
}

#[test]
fn batches_are_bounded_in_bytes_and_events() {
    let parts = |number: u64| Parts {
        payload: "x".repeat(if number.is_multiple_of(50) {
            300_000
        } else {
            10
        }),
        metadata: number.is_multiple_of(40).then(|| "y".repeat(500_000)),
        tags: vec!["z".repeat(500); if number.is_multiple_of(30) { 256 } else { 0 }],
        ..Parts::usual(number)
    };
    let rows: Vec<_> = (1..600).map(|p| parts(p).at(p)).collect();
    let segment = Written::new(&rows, SegmentOptions::default())
        .open()
        .unwrap();
    let mut read = Vec::new();
    for batch in segment.scan(1) {
        let batch = batch.unwrap();
        let bytes: usize = batch.iter().map(|row| row.row.as_bytes().len()).sum();
        assert!(
            bytes <= 4 * READ_BATCH_BYTES,
            "{bytes} bytes in {} rows",
            batch.len()
        );
        read.extend(batch);
    }
    assert!(read == rows);

    let rows = usual_rows(1..READ_BATCH_EVENTS as u64 * 2);
    let segment = Written::new(&rows, SegmentOptions::default())
        .open()
        .unwrap();
    let sizes: Vec<_> = segment.scan(1).map(|batch| batch.unwrap().len()).collect();
    assert_eq!(sizes, [READ_BATCH_EVENTS, READ_BATCH_EVENTS - 1]);
}

#[test]
fn a_full_disk_is_told_as_such() {
    let rows = usual_rows(1..1_000);
    let whole = Written::new(&rows, TINY).summary.bytes as usize;
    for room in [0, 4, whole / 2, whole - 1] {
        let error = write(MemoryFile::with_room(room), &rows, TINY).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{room}");
    }
}

#[test]
fn rows_that_are_no_text_are_refused() {
    let mut bytes = Vec::new();
    RowParts {
        event_id: Uuid::nil(),
        entity_id: b"order-42",
        event_type: b"order.paid",
        payload: b"\xff",
        metadata: None,
        tags: [].into_iter(),
        occurred_at: None,
    }
    .write(&mut bytes);
    seal(&mut bytes, 1, 1);
    let row = Row::check(bytes.into(), 1).unwrap();
    let file = MemoryFile::with_room(usize::MAX);
    let mut writer = SegmentWriter::new(file, log_id(), TINY).unwrap();
    let error = writer.push(1, 0, &row).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
}
