//! Makes rows, as the log holds them, out of the columns of a segment.

use arrow::{
    array::{Array, AsArray, ListArray, PrimitiveArray, RecordBatch, StringArray},
    datatypes::{Int64Type, TimestampMicrosecondType},
};
use bytes::Bytes;
use uuid::Uuid;

use super::{
    StoredRow,
    batches::{Batch, Batches},
    schema::{
        ENTITY_ID, EVENT_ID, EVENT_TYPE, METADATA, OCCURRED_AT, PAYLOAD, RECORDED_AT, TAGS, VERSION,
    },
};
use crate::{
    storage::log::row::{ROW_HEADER_BYTES, Row, RowParts, seal},
    types::{id::Position, read::ReadError, time::Timestamp},
};

/// Batches of rows in position order. Fused: nothing comes after an error.
pub(crate) struct Rows(pub(super) Batches);

impl Iterator for Rows {
    type Item = Result<Vec<StoredRow>, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.0.next()?;
        Some(batch.and_then(|batch| decode(&batch).map_err(|what| self.0.failure(&what))))
    }
}

/// The columns of a batch.
struct Columns<'a> {
    entity_id: &'a StringArray,
    version: &'a PrimitiveArray<Int64Type>,
    event_type: &'a StringArray,
    event_id: &'a StringArray,
    recorded_at: &'a PrimitiveArray<TimestampMicrosecondType>,
    occurred_at: &'a PrimitiveArray<TimestampMicrosecondType>,
    payload: &'a StringArray,
    metadata: &'a StringArray,
    tags: &'a ListArray,
    tag: &'a StringArray,
}

impl<'a> Columns<'a> {
    fn of(batch: &'a RecordBatch) -> Option<Self> {
        let column = |name| batch.column_by_name(name).map(AsRef::as_ref);
        let text = |name| column(name).and_then(<dyn Array>::as_string_opt);
        let time = |name| column(name).and_then(<dyn Array>::as_primitive_opt);
        let tags: &ListArray = column(TAGS)?.as_list_opt()?;
        Some(Self {
            entity_id: text(ENTITY_ID)?,
            version: column(VERSION)?.as_primitive_opt()?,
            event_type: text(EVENT_TYPE)?,
            event_id: text(EVENT_ID)?,
            recorded_at: time(RECORDED_AT)?,
            occurred_at: time(OCCURRED_AT)?,
            payload: text(PAYLOAD)?,
            metadata: text(METADATA)?,
            tags,
            tag: tags.values().as_string_opt()?,
        })
    }

    /// Appends the row at `index` as the log holds it. The error says what it cannot be made from.
    fn write(&self, index: usize, position: Position, out: &mut Vec<u8>) -> Result<(), String> {
        let event_id = Uuid::try_parse(self.event_id.value(index))
            .map_err(|e| format!("the id of event {position}: {e}"))?;
        let occurred_at = self.occurred_at.is_valid(index).then(|| {
            Timestamp::from_micros(self.occurred_at.value(index))
                .ok_or_else(|| format!("event {position} occurred at no time"))
        });
        let offsets = self.tags.value_offsets();
        let offset = |index: usize| offsets[index].cast_unsigned() as usize;
        let tags = offset(index)..offset(index + 1);
        let start = out.len();
        RowParts {
            event_id,
            entity_id: self.entity_id.value(index).as_bytes(),
            event_type: self.event_type.value(index).as_bytes(),
            payload: self.payload.value(index).as_bytes(),
            metadata: self
                .metadata
                .is_valid(index)
                .then(|| self.metadata.value(index).as_bytes()),
            tags: tags.map(|tag| self.tag.value(tag).as_bytes()),
            occurred_at: occurred_at.transpose()?,
        }
        .write(out);
        let version = self.version.value(index).cast_unsigned();
        seal(&mut out[start..], version, position);
        Ok(())
    }

    /// A little more than the rows need.
    fn row_bytes(&self) -> usize {
        let texts = [
            self.entity_id,
            self.event_type,
            self.payload,
            self.metadata,
            self.tag,
        ];
        let texts: usize = texts.iter().map(|text| text.value_data().len()).sum();
        texts + self.version.len() * ROW_HEADER_BYTES + self.tag.len() * size_of::<u16>()
    }
}

/// The rows of a batch. The error says what is wrong with it.
fn decode(batch: &Batch) -> Result<Vec<StoredRow>, String> {
    let columns = Columns::of(&batch.columns).ok_or("its columns have other types")?;
    let count = batch.columns.num_rows();
    let mut bytes = Vec::with_capacity(columns.row_bytes());
    let mut ends = Vec::with_capacity(count);
    let positions = batch.positions.iter().cloned().flatten();
    for (index, position) in positions.enumerate() {
        columns.write(index, position, &mut bytes)?;
        ends.push((position, bytes.len()));
    }
    let bytes = Bytes::from(bytes);
    let mut start = 0;
    let mut rows = Vec::with_capacity(count);
    for (index, (position, end)) in ends.into_iter().enumerate() {
        let row = Row::check(bytes.slice(start..end), position).map_err(|e| e.to_string())?;
        let recorded_at = columns.recorded_at.value(index);
        rows.push(StoredRow {
            position,
            recorded_at,
            row,
        });
        start = end;
    }
    Ok(rows)
}
