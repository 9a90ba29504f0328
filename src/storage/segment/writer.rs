//! Writes a segment: rows in, a synced file and its summary out.
//!
//! Rows are gathered into a batch of columns, batches into a row group, which is written through as soon as it is full.
//! In memory are one batch, and one row group as it will stand in the file.

use std::{io, path::Path, sync::Arc};

use parquet::{
    arrow::{ArrowWriter, arrow_writer::ArrowWriterOptions},
    errors::ParquetError,
};

use super::{
    SegmentSummary,
    columns::RowColumns,
    content::Content,
    schema::{self, FooterFacts, SCHEMA, SegmentOptions},
    sink::Sink,
};
use crate::{
    storage::{
        disk::{Disk, DiskFile},
        log::row::Row,
    },
    types::id::{LogId, Position},
};

const BATCH_ROWS: usize = 4096;
const BATCH_BYTES: usize = 1 << 20;

/// See the module. After an error the file is of no use; the caller removes it.
pub(crate) struct SegmentWriter {
    writer: ArrowWriter<Sink>,
    batch: RowColumns,
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
            batch: RowColumns::default(),
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
        if self.batch.rows() == BATCH_ROWS || self.batch.bytes() >= BATCH_BYTES {
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
        if self.batch.rows() == 0 {
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
