//! Rows to store, a file in memory, and segments made of both.

use std::{
    io,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use proptest::{collection::vec, option, prelude::*};
use uuid::Uuid;

use crate::{
    storage::{
        disk::DiskFile,
        log::row::{Row, RowParts, seal},
        segment::{
            SegmentSummary, StoredRow, content::Content, reader::Segment, schema::SegmentOptions,
            writer::SegmentWriter,
        },
    },
    types::{
        id::{LogId, Position, Version},
        read::ReadError,
        time::Timestamp,
    },
};

pub(super) const PATH: &str = "segments/1-9.parquet";

pub(super) fn log_id() -> LogId {
    LogId::from_bytes([7; 16])
}

/// A world of tiny sizes.
pub(super) const TINY: SegmentOptions = SegmentOptions {
    group_rows_max: 7,
    group_bytes: 1 << 20,
    page_rows_max: 3,
    page_bytes: 256,
};

/// What a row is made from, owned.
#[derive(Debug, Clone)]
pub(super) struct Parts {
    pub(super) event_id: u128,
    pub(super) entity_id: String,
    pub(super) event_type: String,
    pub(super) payload: String,
    pub(super) metadata: Option<String>,
    pub(super) tags: Vec<String>,
    pub(super) occurred_at: Option<Timestamp>,
    pub(super) version: Version,
    pub(super) recorded_at: i64,
}

impl Parts {
    /// Like what is usual.
    pub(super) fn usual(number: u64) -> Self {
        Self {
            event_id: u128::from(number) << 64 | 0x7000_8000_0000_0000_0000,
            entity_id: format!("order-{}", number % 5),
            event_type: ["order.placed", "order.paid"][number as usize % 2].to_owned(),
            payload: format!(r#"{{"amount":{number}}}"#),
            metadata: number.is_multiple_of(3).then(|| "{}".to_owned()),
            tags: vec![format!("customer:{}", number % 4); number as usize % 3],
            occurred_at: Timestamp::from_micros(number.cast_signed() - 3),
            version: number / 5 + 1,
            recorded_at: 1_700_000_000_000_000 + number.cast_signed(),
        }
    }

    pub(super) fn at(&self, position: Position) -> StoredRow {
        let mut bytes = Vec::new();
        RowParts {
            event_id: Uuid::from_u128(self.event_id),
            entity_id: self.entity_id.as_bytes(),
            event_type: self.event_type.as_bytes(),
            payload: self.payload.as_bytes(),
            metadata: self.metadata.as_deref().map(str::as_bytes),
            tags: self.tags.iter().map(String::as_bytes),
            occurred_at: self.occurred_at,
        }
        .write(&mut bytes);
        seal(&mut bytes, self.version, position);
        StoredRow {
            position,
            recorded_at: self.recorded_at,
            row: Row::check(bytes.into(), position).unwrap(),
        }
    }
}

pub(super) fn usual_rows(positions: Range<Position>) -> Vec<StoredRow> {
    positions.map(|p| Parts::usual(p).at(p)).collect()
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ab]",
        "[a-z.]{1,20}",
        any::<String>().prop_map(|s| format!("ä{s}"))
    ]
}

fn payload() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => "[0-9]",
        8 => r#"\{"a":[0-9]{1,9}\}"#,
        8 => any::<String>().prop_map(|s| format!("\"{s}\"")),
        4 => (10usize..2_000).prop_map(|n| "x".repeat(n)),
        1 => (any::<u64>(), 1usize..100_000).prop_map(|(seed, n)| noise(seed, n)),
    ]
}

fn time() -> impl Strategy<Value = Option<Timestamp>> {
    option::of(prop_oneof![
        Just(Timestamp::MIN),
        Just(Timestamp::MAX),
        (-1_000_000i64..1_000_000).prop_map(|us| Timestamp::from_micros(us).unwrap()),
    ])
}

pub(super) fn parts() -> impl Strategy<Value = Parts> {
    let metadata = option::of(prop_oneof![
        Just("{}".to_owned()),
        Just(String::new()),
        payload()
    ]);
    let texts = (name(), name(), payload(), metadata, vec(name(), 0..5));
    let numbers = (any::<u128>(), time(), any::<u64>(), any::<i64>());
    (texts, numbers).prop_map(|(texts, numbers)| {
        let (entity_id, event_type, payload, metadata, tags) = texts;
        let (event_id, occurred_at, version, recorded_at) = numbers;
        Parts {
            event_id,
            entity_id,
            event_type,
            payload,
            metadata,
            tags,
            occurred_at,
            version,
            recorded_at,
        }
    })
}

pub(super) fn options() -> impl Strategy<Value = SegmentOptions> {
    (1usize..20, 1usize..4_000, 1usize..9, 1usize..600).prop_map(
        |(group_rows_max, group_bytes, page_rows_max, page_bytes)| SegmentOptions {
            group_rows_max,
            group_bytes,
            page_rows_max,
            page_bytes,
        },
    )
}

/// Text that does not compress well.
pub(super) fn noise(seed: u64, bytes: usize) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b' ' + (state >> 32) as u8 % 95)
    };
    (0..bytes).map(|_| next()).collect()
}

/// A file in memory that has room for so many bytes.
pub(super) struct MemoryFile {
    bytes: Mutex<Vec<u8>>,
    room: usize,
    pub(super) fails_reads: AtomicBool,
    pub(super) bytes_read: AtomicU64,
}

impl MemoryFile {
    pub(super) fn with_room(room: usize) -> Arc<Self> {
        Arc::new(Self {
            bytes: Mutex::default(),
            room,
            fails_reads: AtomicBool::new(false),
            bytes_read: AtomicU64::new(0),
        })
    }

    pub(super) fn of(bytes: Vec<u8>) -> Arc<Self> {
        let file = Self::with_room(bytes.len());
        *file.bytes.lock() = bytes;
        file
    }

    pub(super) fn content(&self) -> Vec<u8> {
        self.bytes.lock().clone()
    }

    pub(super) fn truncate(&self, bytes: usize) {
        self.bytes.lock().truncate(bytes);
    }

    pub(super) fn flip(&self, byte: usize, bit: usize) {
        self.bytes.lock()[byte] ^= 1 << bit;
    }
}

impl DiskFile for MemoryFile {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().len() as u64)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        if self.fails_reads.load(Ordering::Relaxed) {
            return Err(io::Error::other("the disk is away"));
        }
        let bytes = self.bytes.lock();
        let rest = bytes.get(offset as usize..).unwrap_or_default();
        let read = rest.len().min(buf.len());
        buf[..read].copy_from_slice(&rest[..read]);
        self.bytes_read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let mut bytes = self.bytes.lock();
        assert_eq!(bytes.len() as u64, offset, "segments are written in order");
        if bytes.len() + buf.len() > self.room {
            return Err(io::ErrorKind::StorageFull.into());
        }
        bytes.extend_from_slice(buf);
        Ok(buf.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
}

/// A written segment.
pub(super) struct Written {
    pub(super) file: Arc<MemoryFile>,
    pub(super) summary: SegmentSummary,
    pub(super) content: u128,
}

impl Written {
    pub(super) fn new(rows: &[StoredRow], options: SegmentOptions) -> Self {
        let file = MemoryFile::with_room(usize::MAX);
        let (summary, content) = write(file.clone(), rows, options).unwrap();
        Self {
            file,
            summary,
            content,
        }
    }

    pub(super) fn open(&self) -> Result<Segment, ReadError> {
        Segment::open(self.file.clone(), PATH, log_id(), &self.summary)
    }
}

pub(super) fn write(
    file: Arc<MemoryFile>,
    rows: &[StoredRow],
    options: SegmentOptions,
) -> io::Result<(SegmentSummary, u128)> {
    let mut writer = SegmentWriter::new(file, log_id(), options)?;
    for row in rows {
        writer.push(row.position, row.recorded_at, &row.row)?;
    }
    let content = writer.content()?;
    Ok((writer.finish()?, content))
}

/// What the columns hold as they are read.
pub(super) fn content(segment: &Segment) -> Result<u128, ReadError> {
    let mut content = Content::default();
    for batch in segment.columns() {
        content.add(&batch?.columns).unwrap();
    }
    Ok(content.digest())
}

/// All rows from a position on, or why they could not be read.
pub(super) fn scan(segment: &Segment, from: Position) -> Result<Vec<StoredRow>, ReadError> {
    let batches: Result<Vec<_>, _> = segment.scan(from).collect();
    Ok(batches?.concat())
}
