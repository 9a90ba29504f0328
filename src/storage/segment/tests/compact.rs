//! Several segments become one that holds the same, and says the same of it, or none at all.

use std::{
    collections::HashMap,
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use parquet::{
    bloom_filter::Sbbf,
    file::{
        metadata::{ParquetMetaData, RowGroupMetaData},
        page_index::column_index::ColumnIndexMetaData,
    },
};
use proptest::{collection::vec, prelude::*};

use super::material::{MemoryFile, Parts, TINY, Written, log_id, noise, parts, scan, usual_rows};
use crate::{
    storage::{
        disk::{Disk, DiskFile},
        segment::{
            SegmentSummary, StoredRow,
            compact::{CompactError, Source, Target, bytes_to_read, compact},
            reader::Segment,
            schema::SegmentOptions,
        },
    },
    types::read::ReadError,
};

const PATH: &str = "segments/new.parquet";

/// A disk that files are made on only.
#[derive(Default)]
struct MemoryDisk {
    files: Mutex<HashMap<String, Arc<MemoryFile>>>,
    /// Of each file; none: no bound.
    room: Option<usize>,
    /// A byte of each file, of which a bit flips once it is synced.
    flips: Option<usize>,
}

struct FlippingFile {
    file: Arc<MemoryFile>,
    byte: usize,
}

impl DiskFile for FlippingFile {
    fn bytes(&self) -> io::Result<u64> {
        self.file.bytes()
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.file.write_at(buf, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.file.flip(self.byte, self.byte % 8);
        Ok(())
    }
}

impl MemoryDisk {
    fn made(&self) -> Arc<MemoryFile> {
        self.files.lock()[PATH].clone()
    }
}

impl Disk for MemoryDisk {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn list(&self, _: &Path) -> io::Result<Vec<String>> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = MemoryFile::with_room(self.room.unwrap_or(usize::MAX));
        let name = path.to_str().unwrap().to_owned();
        self.files.lock().insert(name, Arc::clone(&file));
        Ok(match self.flips {
            Some(byte) => Arc::new(FlippingFile { file, byte }),
            None => file,
        })
    }
    fn open(&self, _: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn remove(&self, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn available_bytes(&self, _: &Path) -> io::Result<u64> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn lock(&self, _: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Segments of so many rows each.
fn segments(rows: &[StoredRow], cuts: &[usize], options: SegmentOptions) -> Vec<Written> {
    let mut rest = rows;
    let mut written = Vec::new();
    for &cut in cuts {
        let (now, later) = rest.split_at(cut.min(rest.len()));
        if !now.is_empty() {
            written.push(Written::new(now, options));
        }
        rest = later;
    }
    if !rest.is_empty() {
        written.push(Written::new(rest, options));
    }
    written
}

fn sources(written: &[Written]) -> Vec<Source> {
    let sources = written.iter().enumerate().map(|(number, written)| Source {
        file: written.file.clone(),
        path: format!("segments/{number}.parquet").into(),
        summary: written.summary.clone(),
    });
    sources.collect()
}

fn target(options: SegmentOptions) -> Target<'static> {
    Target {
        path: Path::new(PATH),
        log_id: log_id(),
        options,
    }
}

fn compacted(
    written: &[Written],
    options: SegmentOptions,
) -> (Arc<MemoryFile>, SegmentSummary, Segment) {
    let disk = MemoryDisk::default();
    let summary = compact(&disk, &sources(written), &target(options), &|_| true).unwrap();
    let file = disk.made();
    let segment = Segment::open(file.clone(), PATH, log_id(), &summary).unwrap();
    (file, summary, segment)
}

fn groups(segment: &Segment) -> Vec<u64> {
    let groups = segment.metadata.metadata().row_groups().iter();
    let rows = groups.map(|group| group.num_rows().cast_unsigned());
    rows.collect()
}

/// That copies: its row groups are no larger than those of the sources.
const COPIED: SegmentOptions = TINY;
/// That writes anew.
const LARGER: SegmentOptions = SegmentOptions {
    group_rows_max: 1 << 10,
    ..TINY
};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn all_rows_come_back_to_the_byte(
        parts in vec(parts(), 2..60),
        cuts in vec(1usize..30, 1..6),
        copied: bool,
        chosen: prop::sample::Index,
    ) {
        let rows: Vec<_> = parts.iter().zip(5..).map(|(parts, at)| parts.at(at)).collect();
        let written = segments(&rows, &cuts, TINY);
        let (_, summary, segment) = compacted(&written, if copied { COPIED } else { LARGER });
        prop_assert_eq!((summary.first, summary.last), (5, 4 + rows.len() as u64));
        prop_assert_eq!(&scan(&segment, 5).unwrap(), &rows);
        let row = &rows[chosen.index(rows.len())];
        let read = segment.read(&[row.position]).unwrap();
        prop_assert_eq!(read.iter().collect::<Vec<_>>(), [row]);
    }
}

#[test]
fn large_row_groups_stay_as_they_are_and_small_ones_grow() {
    let rows = usual_rows(1..50);
    let written = segments(&rows, &[14, 14, 7], TINY);
    let (_, _, copied) = compacted(&written, COPIED);
    assert_eq!(groups(&copied), [7; 7]);
    let (_, _, anew) = compacted(&written, LARGER);
    assert_eq!(groups(&anew), [49]);
    // A small rest here and there is no reason.
    let written = segments(&rows, &[15, 8], TINY);
    let (_, _, copied) = compacted(&written, COPIED);
    assert_eq!(groups(&copied), [7, 7, 1, 7, 1, 7, 7, 7, 5]);
}

/// A bit for each row group and column: whether its Bloom filter lets an entity through.
fn bloom_filters(segment: &Segment, described: &ParquetMetaData, entity: &str) -> Vec<bool> {
    let chunks = super::super::blocks::Chunks::new(segment.blocks.clone());
    let columns = described.row_groups().iter();
    let columns = columns.flat_map(RowGroupMetaData::columns);
    let filters =
        columns.filter_map(|column| Sbbf::read_from_column_chunk(column, &chunks).unwrap());
    filters.map(|filter| filter.check(entity)).collect()
}

/// Statistics, page indexes, sizes and Bloom filters are those of a segment that was written at once, of which each
/// row group has the same rows.
#[test]
fn a_copy_says_of_its_rows_what_a_segment_written_at_once_says() {
    let rows = usual_rows(1..71);
    let written = segments(&rows, &[14, 21, 7], TINY);
    let (file, summary, copy) = compacted(&written, COPIED);
    let at_once = Written::new(&rows, TINY);
    assert_eq!(scan(&copy, 1).unwrap(), rows);
    let told = copy.describe(&summary).unwrap();
    let opened = at_once.open().unwrap();
    let expected = opened.describe(&at_once.summary).unwrap();
    // The same places as well, and so the whole of it.
    assert_eq!(told.row_groups(), expected.row_groups());
    assert_eq!(told.column_index(), expected.column_index());
    assert_eq!(told.offset_index(), expected.offset_index());
    assert_eq!(
        told.file_metadata().schema(),
        expected.file_metadata().schema()
    );
    // Its data is the same to the byte. Its footer lacks the older form of statistics, which is written beside the
    // present one and read by nobody.
    assert_eq!(summary.tail_at, at_once.summary.tail_at);
    let data = ..summary.tail_at as usize;
    assert_eq!(file.content()[data], at_once.file.content()[data]);

    // None of it is empty.
    let columns = || told.row_groups().iter().flat_map(RowGroupMetaData::columns);
    assert!(columns().any(|column| column.bloom_filter_length().is_some()));
    assert!(columns().any(|column| column.statistics().is_some()));
    assert!(columns().any(|column| column.page_encoding_stats().is_some()));
    assert!(columns().any(|column| column.unencoded_byte_array_data_bytes().is_some()));
    let mut indexes = told.column_index().unwrap().iter().flatten();
    assert!(indexes.any(|index| !matches!(index, ColumnIndexMetaData::NONE)));
    for entity in ["order-0", "order-4", "order-9"] {
        let filters = bloom_filters(&copy, &told, entity);
        assert_eq!(filters.len(), 10);
        assert_eq!(filters, bloom_filters(&opened, &expected, entity));
    }
    assert!(bloom_filters(&copy, &told, "order-0").contains(&true));
    assert!(bloom_filters(&copy, &told, "nobody").contains(&false));
}

/// Of several blocks.
fn large() -> (Vec<StoredRow>, Vec<Written>) {
    let parts = |number: u64| Parts {
        payload: noise(number, 4_000),
        ..Parts::usual(number)
    };
    let rows: Vec<_> = (1..120).map(|at| parts(at).at(at)).collect();
    let written = segments(&rows, &[35, 35], TINY);
    (rows, written)
}

#[test]
fn copies_can_be_compacted_again() {
    let (rows, written) = large();
    for options in [COPIED, LARGER] {
        let (file, summary, _) = compacted(&written[..2], options);
        let mut both = sources(&written[2..]);
        let path = "segments/0-1.parquet".into();
        both.insert(
            0,
            Source {
                file,
                path,
                summary,
            },
        );
        let disk = MemoryDisk::default();
        let summary = compact(&disk, &both, &target(options), &|_| true).unwrap();
        let segment = Segment::open(disk.made(), PATH, log_id(), &summary).unwrap();
        assert_eq!(scan(&segment, 1).unwrap(), rows);
    }
}

#[test]
fn a_flipped_bit_anywhere_in_a_source_is_told_with_its_file() {
    let (_, written) = large();
    let source = &written[1];
    let path = Path::new("segments/1.parquet");
    for options in [COPIED, LARGER] {
        let disk = MemoryDisk::default();
        for byte in (0..source.summary.bytes as usize).step_by(997) {
            source.file.flip(byte, byte % 8);
            let error = compact(&disk, &sources(&written), &target(options), &|_| true);
            match error.unwrap_err() {
                CompactError::Read(ReadError::Damaged(damage)) => assert_eq!(damage.path, path),
                other => panic!("{other}"),
            }
            source.file.flip(byte, byte % 8);
        }
    }
}

#[test]
fn a_source_that_cannot_be_read_and_a_full_disk_are_told() {
    let (_, written) = large();
    for options in [COPIED, LARGER] {
        for room in [0, 100_000, 300_000] {
            let disk = MemoryDisk {
                room: Some(room),
                ..MemoryDisk::default()
            };
            let error = compact(&disk, &sources(&written), &target(options), &|_| true);
            match error.unwrap_err() {
                CompactError::Io { path, error } => {
                    assert_eq!(path, Path::new(PATH));
                    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
                }
                other => panic!("{other}"),
            }
        }
        let seen = AtomicU64::new(0);
        let fail = |bytes: u64| {
            if seen.fetch_add(bytes, Ordering::Relaxed) > 100_000 {
                written[1].file.fails_reads.store(true, Ordering::Relaxed);
            }
            true
        };
        let disk = MemoryDisk::default();
        let error = compact(&disk, &sources(&written), &target(options), &fail);
        let told = error.unwrap_err().to_string();
        assert!(told.contains("segments/1.parquet"), "{told}");
        written[1].file.fails_reads.store(false, Ordering::Relaxed);
    }
}

#[test]
fn bytes_are_told_as_they_are_read_and_compacting_stops_when_it_is_told_to() {
    let (_, written) = large();
    let summaries: Vec<_> = written.iter().map(|w| w.summary.clone()).collect();
    let expected = bytes_to_read(&summaries);
    for options in [COPIED, LARGER] {
        let (seen, calls) = (AtomicU64::new(0), AtomicU64::new(0));
        let see = |bytes: u64| {
            calls.fetch_add(1, Ordering::Relaxed);
            seen.fetch_add(bytes, Ordering::Relaxed);
            true
        };
        let disk = MemoryDisk::default();
        compact(&disk, &sources(&written), &target(options), &see).unwrap();
        let (seen, calls) = (seen.into_inner(), calls.into_inner());
        assert!(
            seen.abs_diff(expected) < expected / 20,
            "{seen} of {expected}"
        );
        for stop_after in [0, calls / 2, calls - 1] {
            let calls = AtomicU64::new(0);
            let see = |_: u64| calls.fetch_add(1, Ordering::Relaxed) < stop_after;
            let error = compact(&disk, &sources(&written), &target(options), &see);
            assert!(
                matches!(error.unwrap_err(), CompactError::Stopped),
                "{stop_after}"
            );
        }
    }
}

/// Whatever happens to the new file between its write and its read.
#[test]
fn a_new_file_that_was_damaged_is_told() {
    let (_, written) = large();
    for options in [COPIED, LARGER] {
        let (_, made, _) = compacted(&written, options);
        for byte in (0..made.bytes as usize).step_by(19_997) {
            let disk = MemoryDisk {
                flips: Some(byte),
                ..MemoryDisk::default()
            };
            let error = compact(&disk, &sources(&written), &target(options), &|_| true);
            match error.unwrap_err() {
                CompactError::Read(ReadError::Damaged(damage)) => {
                    assert_eq!(damage.path, Path::new(PATH));
                }
                other => panic!("{other}"),
            }
        }
    }
}
