//! Makes columns, as a segment holds them, out of rows of the log: for the writer of a segment, and for who reads as
//! columns what has no segment yet.

use std::{io, mem, str, sync::Arc};

use arrow::{
    array::{
        ArrayRef, Int64Builder, ListBuilder, RecordBatch, StringBuilder,
        TimestampMicrosecondBuilder, new_null_array,
    },
    datatypes::DataType,
};
use uuid::fmt::Hyphenated;

use super::schema::{self, SCHEMA, TIME_ZONE};
use crate::{
    storage::log::row::Row,
    types::{id::Position, time::Timestamp},
};

/// See the module.
pub(crate) struct RowColumns {
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

impl Default for RowColumns {
    fn default() -> Self {
        Self::with_room(0, &[0; 6])
    }
}

impl RowColumns {
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

    /// Rows since the columns were last taken.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes of these rows as the log holds them.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a row, recorded at so many µs since 1970. `InvalidData` if its texts are not UTF-8.
    pub(crate) fn push(
        &mut self,
        position: Position,
        recorded_at: i64,
        row: &Row,
    ) -> io::Result<()> {
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
    pub(crate) fn finish(&mut self) -> io::Result<RecordBatch> {
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
