//! The columns of a segment, how they are encoded, and what its footer says beside them.
//!
//! | column | type | encoding |
//! |---|---|---|
//! | `position` | int64 | delta |
//! | `entity_id` | utf8 | dictionary; Bloom filter; zstd |
//! | `version` | int64 | delta |
//! | `event_type` | utf8 | dictionary |
//! | `event_id` | utf8, canonical UUID | delta byte array; zstd |
//! | `recorded_at` | timestamp, µs UTC | delta |
//! | `occurred_at` | timestamp, µs UTC, nullable | delta |
//! | `schema_id` | int32, nullable; always null so far | delta |
//! | `payload` | utf8 | plain; zstd |
//! | `metadata` | utf8, nullable | plain; zstd |
//! | `tags` | list of utf8 | dictionary |
//!
//! Only types that every reader and table format understands today. What deltas and indices into dictionaries leave is not
//! compressed: it would save little, and a read of one row pays for each column. The schema grows by nullable columns
//! only; readers find columns by name.
//!
//! | key in the footer | value |
//! |---|---|
//! | `annals.format` | 1 |
//! | `annals.log_id` | the id of the log |
//! | `annals.first`, `annals.last` | the positions of the first and the last row |
//! | `annals.block_crcs` | base64 of the CRC-32C of each block, 4 bytes each, little-endian |

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use base64::{Engine, engine::general_purpose::STANDARD};
use parquet::{
    basic::{Compression, Encoding, ZstdLevel},
    file::{
        metadata::KeyValue,
        properties::{EnabledStatistics, WriterProperties},
    },
    schema::types::ColumnPath,
};

use crate::types::id::{LogId, Position};

pub(crate) const POSITION: &str = "position";
pub(crate) const ENTITY_ID: &str = "entity_id";
pub(crate) const VERSION: &str = "version";
pub(crate) const EVENT_TYPE: &str = "event_type";
pub(crate) const EVENT_ID: &str = "event_id";
pub(crate) const RECORDED_AT: &str = "recorded_at";
pub(crate) const OCCURRED_AT: &str = "occurred_at";
pub(crate) const SCHEMA_ID: &str = "schema_id";
pub(crate) const PAYLOAD: &str = "payload";
pub(crate) const METADATA: &str = "metadata";
pub(crate) const TAGS: &str = "tags";

/// All of them, in the order of the file.
pub(super) const COLUMNS: [&str; 11] = [
    POSITION,
    ENTITY_ID,
    VERSION,
    EVENT_TYPE,
    EVENT_ID,
    RECORDED_AT,
    OCCURRED_AT,
    SCHEMA_ID,
    PAYLOAD,
    METADATA,
    TAGS,
];

/// What a row is made from. Its position follows from its place.
pub(super) const ROW_COLUMNS: [&str; 9] = [
    ENTITY_ID,
    VERSION,
    EVENT_TYPE,
    EVENT_ID,
    RECORDED_AT,
    OCCURRED_AT,
    PAYLOAD,
    METADATA,
    TAGS,
];

/// Times are UTC; the name is the one that readers give the type.
pub(crate) const TIME_ZONE: &str = "UTC";

const FORMAT: &str = "1";
const FORMAT_KEY: &str = "annals.format";
const LOG_ID_KEY: &str = "annals.log_id";
const FIRST_KEY: &str = "annals.first";
const LAST_KEY: &str = "annals.last";
const BLOCK_CRCS_KEY: &str = "annals.block_crcs";

/// A read of one row decodes the whole dictionary of its row group.
const DICTIONARY_BYTES_MAX: usize = 32 << 10;
/// How often the writer looks whether a page is full, in rows.
const WRITE_BATCH_ROWS: usize = 256;
const BLOOM_FALSE_POSITIVES: f64 = 0.01;

/// Columns in the order of the file.
pub(crate) static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some(TIME_ZONE.into()));
    let tags = DataType::List(Arc::new(tag_field()));
    Arc::new(Schema::new(vec![
        Field::new(POSITION, DataType::Int64, false),
        Field::new(ENTITY_ID, DataType::Utf8, false),
        Field::new(VERSION, DataType::Int64, false),
        Field::new(EVENT_TYPE, DataType::Utf8, false),
        Field::new(EVENT_ID, DataType::Utf8, false),
        Field::new(RECORDED_AT, time.clone(), false),
        Field::new(OCCURRED_AT, time, true),
        Field::new(SCHEMA_ID, DataType::Int32, true),
        Field::new(PAYLOAD, DataType::Utf8, false),
        Field::new(METADATA, DataType::Utf8, true),
        Field::new(TAGS, tags, false),
    ]))
});

/// One tag of the list.
pub(super) fn tag_field() -> Field {
    Field::new("element", DataType::Utf8, false)
}

/// Bytes that each row has in a column of a record batch, whatever it holds: what its texts take comes on top.
pub(crate) fn fixed_width(column: &str) -> usize {
    match column {
        POSITION | VERSION | RECORDED_AT | OCCURRED_AT => size_of::<i64>(),
        TAGS => 2 * size_of::<i32>(),
        _ => size_of::<i32>(),
    }
}

/// The sizes of the parts of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentOptions {
    /// Most rows of a row group.
    pub(crate) group_rows_max: usize,
    /// Bytes of a row group, encoded, after which it is full: at most a batch of the writer, 1 MiB, makes it larger. The
    /// writer holds one in memory.
    pub(crate) group_bytes: usize,
    /// Most rows of a page.
    pub(crate) page_rows_max: usize,
    /// Bytes, before compression, after which a page is full: what a read of one row decodes in each column. Only a
    /// longer value makes a larger page. 32 KiB are 256 payloads of 128 bytes.
    pub(crate) page_bytes: usize,
}

impl Default for SegmentOptions {
    fn default() -> Self {
        Self {
            group_rows_max: 128 << 10,
            group_bytes: 128 << 20,
            page_rows_max: 2048,
            page_bytes: 32 << 10,
        }
    }
}

/// How the columns are written.
pub(super) fn properties(options: SegmentOptions) -> WriterProperties {
    let column = |name: &str| ColumnPath::from(name);
    let tags = ColumnPath::new(vec![TAGS.into(), "list".into(), tag_field().name().clone()]);
    let mut properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(options.group_rows_max))
        .set_max_row_group_bytes(Some(options.group_bytes))
        .set_data_page_row_count_limit(options.page_rows_max)
        .set_data_page_size_limit(options.page_bytes)
        .set_write_batch_size(WRITE_BATCH_ROWS.min(options.page_rows_max))
        .set_dictionary_page_size_limit(DICTIONARY_BYTES_MAX)
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::Page)
        // Measured on ids in the order of time: 11.9 bytes each, 13.2 if plain.
        .set_column_encoding(column(EVENT_ID), Encoding::DELTA_BYTE_ARRAY)
        .set_column_bloom_filter_fpp(column(ENTITY_ID), BLOOM_FALSE_POSITIVES);
    // A page of tags holds indices into the dictionary: many times its bytes come out of it.
    let tags_page_bytes = options.page_bytes.div_ceil(8);
    properties = properties.set_column_data_page_size_limit(tags.clone(), tags_page_bytes);
    for name in [ENTITY_ID, EVENT_ID, PAYLOAD, METADATA] {
        // Level 1: the next ones take longer and save little.
        let zstd = Compression::ZSTD(ZstdLevel::default());
        properties = properties.set_column_compression(column(name), zstd);
    }
    for name in [POSITION, VERSION, RECORDED_AT, OCCURRED_AT, SCHEMA_ID] {
        properties = properties.set_column_encoding(column(name), Encoding::DELTA_BINARY_PACKED);
    }
    for path in [column(ENTITY_ID), column(EVENT_TYPE), tags.clone()] {
        properties = properties.set_column_dictionary_enabled(path, true);
    }
    // The smallest and largest text of a page exclude nothing.
    for path in [column(PAYLOAD), column(METADATA), tags] {
        properties = properties.set_column_statistics_enabled(path, EnabledStatistics::None);
    }
    properties.build()
}

/// What the footer says beside the columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FooterFacts {
    pub(super) log_id: LogId,
    pub(super) first: Position,
    pub(super) last: Position,
    /// CRC-32C of each block of the data.
    pub(super) block_crcs: Vec<u32>,
}

impl FooterFacts {
    pub(super) fn encode(&self) -> [KeyValue; 5] {
        let crcs: Vec<u8> = self
            .block_crcs
            .iter()
            .flat_map(|crc| crc.to_le_bytes())
            .collect();
        let entry = |key: &str, value: String| KeyValue::new(key.to_owned(), value);
        [
            entry(FORMAT_KEY, FORMAT.to_owned()),
            entry(LOG_ID_KEY, self.log_id.to_string()),
            entry(FIRST_KEY, self.first.to_string()),
            entry(LAST_KEY, self.last.to_string()),
            entry(BLOCK_CRCS_KEY, STANDARD.encode(crcs)),
        ]
    }

    /// The error says what is wrong with the footer.
    pub(super) fn decode(entries: &[KeyValue]) -> Result<Self, String> {
        let value = |key: &str| {
            let entry = entries.iter().find(|entry| entry.key == key);
            let value = entry.and_then(|entry| entry.value.as_deref());
            value.ok_or_else(|| format!("its footer does not have `{key}`"))
        };
        let invalid = |key: &str| format!("its footer has no valid `{key}`");
        let position = |key| value(key)?.parse().map_err(|_| invalid(key));
        let format = value(FORMAT_KEY)?;
        if format != FORMAT {
            return Err(format!(
                "it has segment format `{format}`, which this version does not know"
            ));
        }
        let crcs = STANDARD
            .decode(value(BLOCK_CRCS_KEY)?)
            .map_err(|_| invalid(BLOCK_CRCS_KEY))?;
        let (crcs, []) = crcs.as_chunks() else {
            return Err(invalid(BLOCK_CRCS_KEY));
        };
        Ok(Self {
            log_id: value(LOG_ID_KEY)?
                .parse()
                .map_err(|_| invalid(LOG_ID_KEY))?,
            first: position(FIRST_KEY)?,
            last: position(LAST_KEY)?,
            block_crcs: crcs.iter().map(|crc| u32::from_le_bytes(*crc)).collect(),
        })
    }
}
