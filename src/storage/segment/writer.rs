//! Writes a segment: rows in, a synced file and its summary out.
//!
//! Rows are gathered into a batch of columns, batches into a row group, which is written through as soon as it is full.
//! In memory are one batch, and one row group as it will stand in the file.

use std::{io, mem, path::Path, str, sync::Arc};

use arrow::{
    array::{
        ArrayRef, Int64Builder, ListBuilder, RecordBatch, StringBuilder,
        TimestampMicrosecondBuilder, new_null_array,
    },
    datatypes::DataType,
};
use parquet::{
    arrow::{ArrowWriter, arrow_writer::ArrowWriterOptions},
    errors::ParquetError,
};
use uuid::fmt::Hyphenated;

use super::{
    SegmentSummary,
    content::Content,
    schema::{self, FooterFacts, SCHEMA, SegmentOptions, TIME_ZONE},
    sink::Sink,
};
use crate::{
    storage::{
        disk::{Disk, DiskFile},
        log::row::Row,
    },
    types::{
        id::{LogId, Position},
        time::Timestamp,
    },
};

const BATCH_ROWS: usize = 4096;
const BATCH_BYTES: usize = 1 << 20;

/// See the module. After an error the file is of no use; the caller removes it.
pub(crate) struct SegmentWriter {
    writer: ArrowWriter<Sink>,
    batch: Batch,
    content: Content,
    log_id: LogId,
    /// Positions of the rows so far.
    range: Option<(Position, Position)>,
}

impl SegmentWriter {
    /// Makes the file, or empties the one that is there.
    pub(crate) fn create(
        disk: &dyn Disk,
        path: &Path,
        log_id: LogId,
        options: SegmentOptions,
    ) -> io::Result<Self> {
        Self::new(disk.create(path)?, log_id, options)
    }

    /// Writes to an empty file.
    pub(super) fn new(
        file: Arc<dyn DiskFile>,
        log_id: LogId,
        options: SegmentOptions,
    ) -> io::Result<Self> {
        // Without the serialized Arrow schema, all readers see the same plain types.
        let options = ArrowWriterOptions::new()
            .with_properties(schema::properties(options))
            .with_skip_arrow_metadata(true);
        let writer = ArrowWriter::try_new_with_options(Sink::new(file), SCHEMA.clone(), options);
        Ok(Self {
            writer: writer.map_err(io_error)?,
            batch: Batch::default(),
            content: Content::default(),
            log_id,
            range: None,
        })
    }

    /// Adds the row at `position`, which is the one after the row before; recorded at so many µs since 1970.
    /// `InvalidData` if its texts are not UTF-8.
    pub(crate) fn push(
        &mut self,
        position: Position,
        recorded_at: i64,
        row: &Row,
    ) -> io::Result<()> {
        let first = match self.range {
            Some((first, last)) => {
                assert_eq!(position, last + 1, "a segment has no gaps");
                first
            }
            None => position,
        };
        self.batch.push(position, recorded_at, row)?;
        self.range = Some((first, position));
        if self.batch.rows == BATCH_ROWS || self.batch.bytes >= BATCH_BYTES {
            self.write_batch()?;
        }
        Ok(())
    }

    /// What the rows so far hold; see [`Content::digest`].
    pub(crate) fn content(&mut self) -> io::Result<u128> {
        self.write_batch()?;
        Ok(self.content.digest())
    }

    /// Completes and syncs the file. Its name is not durable before the caller syncs the folder. At least one row was
    /// added.
    pub(crate) fn finish(mut self) -> io::Result<SegmentSummary> {
        let (first, last) = self.range.expect("a segment has a row");
        self.write_batch()?;
        self.writer.flush().map_err(io_error)?;
        self.writer.sync()?;
        let facts = FooterFacts {
            log_id: self.log_id,
            first,
            last,
            block_crcs: self.writer.inner_mut().end_data()?,
        };
        for entry in facts.encode() {
            self.writer.append_key_value_metadata(entry);
        }
        self.writer.finish().map_err(io_error)?;
        let sums = self.writer.inner_mut().finish()?;
        Ok(sums.of_rows(first, last))
    }

    fn write_batch(&mut self) -> io::Result<()> {
        if self.batch.rows == 0 {
            return Ok(());
        }
        let batch = self.batch.finish()?;
        self.content.add(&batch).map_err(io::Error::other)?;
        self.writer.write(&batch).map_err(io_error)
    }
}

/// The error of the disk, if that is what it was: callers look at its kind.
pub(super) fn io_error(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(cause) => match cause.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(cause) => io::Error::other(cause),
        },
        error => io::Error::other(error),
    }
}

/// The columns of the rows that come next.
struct Batch {
    rows: usize,
    /// Of the rows as the log holds them.
    bytes: usize,
    position: Int64Builder,
    entity_id: StringBuilder,
    version: Int64Builder,
    event_type: StringBuilder,
    event_id: StringBuilder,
    recorded_at: TimestampMicrosecondBuilder,
    occurred_at: TimestampMicrosecondBuilder,
    payload: StringBuilder,
    metadata: StringBuilder,
    tags: ListBuilder<StringBuilder>,
}

impl Default for Batch {
    fn default() -> Self {
        Self::with_room(0, &[0; 6])
    }
}

impl Batch {
    /// For so many rows, and texts of so many bytes in each column of them.
    fn with_room(rows: usize, texts: &[usize; 6]) -> Self {
        let numbers = || Int64Builder::with_capacity(rows);
        let times = || TimestampMicrosecondBuilder::with_capacity(rows).with_timezone(TIME_ZONE);
        let [entity_id, event_type, event_id, payload, metadata, tags] =
            texts.map(|bytes| StringBuilder::with_capacity(rows, bytes));
        Self {
            rows: 0,
            bytes: 0,
            position: numbers(),
            entity_id,
            version: numbers(),
            event_type,
            event_id,
            recorded_at: times(),
            occurred_at: times(),
            payload,
            metadata,
            tags: ListBuilder::with_capacity(tags, rows).with_field(schema::tag_field()),
        }
    }

    fn push(&mut self, position: Position, recorded_at: i64, row: &Row) -> io::Result<()> {
        self.rows += 1;
        self.bytes += row.as_bytes().len();
        self.position.append_value(position.cast_signed());
        self.entity_id.append_value(text(row.entity_id())?);
        self.version.append_value(row.version().cast_signed());
        self.event_type.append_value(text(row.event_type())?);
        let mut id = [0; Hyphenated::LENGTH];
        let id: &str = row.event_id().hyphenated().encode_lower(&mut id);
        self.event_id.append_value(id);
        self.recorded_at.append_value(recorded_at);
        self.occurred_at
            .append_option(row.occurred_at().map(Timestamp::as_micros));
        self.payload.append_value(text(row.payload())?);
        self.metadata
            .append_option(row.metadata().map(text).transpose()?);
        for tag in row.tags() {
            self.tags.values().append_value(text(tag)?);
        }
        self.tags.append(true);
        Ok(())
    }

    /// Takes the columns and starts anew, with as much room: the next rows are probably like these.
    fn finish(&mut self) -> io::Result<RecordBatch> {
        let texts = [
            &self.entity_id,
            &self.event_type,
            &self.event_id,
            &self.payload,
            &self.metadata,
            self.tags.values(),
        ];
        let room = texts.map(|text| text.values_slice().len());
        let next = Self::with_room(self.rows, &room);
        let mut full = mem::replace(self, next);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(full.position.finish()),
            Arc::new(full.entity_id.finish()),
            Arc::new(full.version.finish()),
            Arc::new(full.event_type.finish()),
            Arc::new(full.event_id.finish()),
            Arc::new(full.recorded_at.finish()),
            Arc::new(full.occurred_at.finish()),
            new_null_array(&DataType::Int32, full.rows),
            Arc::new(full.payload.finish()),
            Arc::new(full.metadata.finish()),
            Arc::new(full.tags.finish()),
        ];
        RecordBatch::try_new(SCHEMA.clone(), columns).map_err(io::Error::other)
    }
}

fn text(bytes: &[u8]) -> io::Result<&str> {
    str::from_utf8(bytes).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}
