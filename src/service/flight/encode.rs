//! Record batches → Flight's messages, in Arrow's stream format without compression: the schema first, then rows.
//!
//! Batches are cut where they are larger than a message should be. A cut copies nothing, and the format takes of each
//! column what the cut holds; a message keeps the columns where they are, and they are copied once, onto the wire
//! (`codec`).

use arrow::{
    array::{Array, AsArray, RecordBatch},
    buffer::Buffer,
    datatypes::Schema,
    error::ArrowError,
    ipc::writer::{IpcWriteOptions, StreamEncoder},
};
use arrow_flight::{FlightData, IpcMessage, SchemaAsIpc};
use bytes::Bytes;

use super::super::status::Refusal;
use crate::types::{kind::Kind, limits::FLIGHT_ROWS_BYTES};

/// A schema as `GetSchema` and `GetFlightInfo` give it.
pub(super) fn schema(schema: &Schema) -> Result<Bytes, Refusal> {
    let options = IpcWriteOptions::default();
    let message = IpcMessage::try_from(SchemaAsIpc::new(schema, &options));
    message.map(|message| message.0).map_err(|e| failed(&e))
}

/// A message of a stream: `arrow.flight.protocol.FlightData` with its body in pieces.
pub(crate) struct Message {
    /// The schema, or how the rows lie in the body.
    pub(super) header: Bytes,
    /// What is told of the rows.
    pub(super) told: Bytes,
    /// The columns.
    pub(super) body: Vec<Buffer>,
}

/// Encodes the messages of one stream.
pub(super) struct Encoder(StreamEncoder);

impl Encoder {
    /// And the first message.
    pub(super) fn new(given: &Schema) -> Result<(Self, Message), Refusal> {
        let message = Message {
            header: FlightData::from(SchemaAsIpc::new(given, &IpcWriteOptions::default()))
                .data_header,
            told: Bytes::new(),
            body: Vec::new(),
        };
        let mut encoder = StreamEncoder::try_new(given).map_err(|e| failed(&e))?;
        // It begins with the schema in its own framing, which Flight does without.
        let nothing = RecordBatch::new_empty(given.clone().into());
        encoder.encode(&nothing).map_err(|e| failed(&e))?;
        Ok((Self(encoder), message))
    }

    /// Rows, with what is told of them.
    pub(super) fn rows(&mut self, rows: &RecordBatch, told: String) -> Result<Message, Refusal> {
        let mut parts = self.0.encode(rows).map_err(|e| failed(&e))?.into_iter();
        // Four bytes that say that it goes on, and how long the header is that follows.
        let framing = parts.next().unwrap_or_default();
        let header_bytes = framing.get(4..8).and_then(|bytes| bytes.try_into().ok());
        let header_bytes = header_bytes.map_or(0, u32::from_le_bytes) as usize;
        let mut header = Vec::with_capacity(header_bytes);
        while header.len() < header_bytes {
            header.extend_from_slice(&parts.next().unwrap_or_default());
        }
        Ok(Message {
            header: header.into(),
            told: told.into(),
            body: parts.collect(),
        })
    }
}

/// How many of the rows, from the first on, make up a message: at least one.
pub(super) fn rows_of_a_message(rows: &RecordBatch) -> Result<usize, Refusal> {
    let fits = |count: usize| {
        let columns = rows.columns().iter();
        let sizes = columns.map(|column| bytes(&*column.slice(0, count)));
        let bytes = sizes.sum::<Result<usize, _>>().map_err(|e| failed(&e))?;
        Ok::<_, Refusal>(bytes <= FLIGHT_ROWS_BYTES)
    };
    let (mut fitting, mut all) = (1, rows.num_rows());
    if fits(all)? {
        return Ok(all);
    }
    // More than `fitting` rows may fit, `all` of them do not.
    while all - fitting > 1 {
        let half = usize::midpoint(fitting, all);
        if fits(half)? {
            fitting = half;
        } else {
            all = half;
        }
    }
    Ok(fitting)
}

/// Of the rows of a column that is a cut of another. Arrow counts all values of lists, those outside of the cut as well.
fn bytes(column: &dyn Array) -> Result<usize, ArrowError> {
    let Some(list) = column.as_list_opt::<i32>() else {
        return column.to_data().get_slice_memory_size();
    };
    let offsets = list.value_offsets();
    let ends = offsets.first().zip(offsets.last());
    let values = ends.map_or(0..0, |(first, last)| {
        first.cast_unsigned() as usize..last.cast_unsigned() as usize
    });
    let values = list.values().slice(values.start, values.len());
    Ok(size_of_val(offsets) + list.len().div_ceil(8) + bytes(&*values)?)
}

/// Columns of ours that their own format does not take.
fn failed(error: &ArrowError) -> Refusal {
    let told = format!("rows could not be encoded: {error}");
    Refusal::new(Kind::Internal, "ENCODING_FAILED", told)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use arrow::array::{ArrayRef, ListBuilder, StringArray, StringBuilder};

    fn text(rows: impl IntoIterator<Item = usize>) -> ArrayRef {
        let texts = rows.into_iter().map(|bytes| "x".repeat(bytes));
        Arc::new(StringArray::from_iter_values(texts))
    }

    fn messages(rows: &RecordBatch) -> Vec<(usize, usize)> {
        let (mut encoder, _) = Encoder::new(&rows.schema()).unwrap();
        let mut from = 0;
        let mut messages = Vec::new();
        while from < rows.num_rows() {
            let rest = rows.slice(from, rows.num_rows() - from);
            let count = rows_of_a_message(&rest).unwrap();
            let message = encoder.rows(&rest.slice(0, count), "{}".into()).unwrap();
            messages.push((count, message.encoded_len()));
            from += count;
        }
        messages
    }

    #[test]
    fn messages_are_full_and_not_too_large() {
        let sizes = (0..3_000).map(|row| row % 7 * 500);
        let mut tags = ListBuilder::new(StringBuilder::new());
        for row in 0..3_000 {
            let values = (0..row % 5).map(|tag| Some(format!("tag-{tag}-{}", "y".repeat(300))));
            tags.append_value(values);
        }
        let tags: ArrayRef = Arc::new(tags.finish());
        let rows = RecordBatch::try_from_iter([("a", text(sizes)), ("b", tags)]).unwrap();
        let messages = messages(&rows);
        let rows: usize = messages.iter().map(|(rows, _)| rows).sum();
        assert_eq!(rows, 3_000);
        let limits = FLIGHT_ROWS_BYTES - 4_096..FLIGHT_ROWS_BYTES + 4_096;
        let (last, full) = messages.split_last().unwrap();
        assert!(full.len() > 2 && last.1 < limits.end, "{messages:?}");
        assert!(
            full.iter().all(|(_, bytes)| limits.contains(bytes)),
            "{messages:?}"
        );
    }

    #[test]
    fn a_row_that_is_larger_passes_alone() {
        let large = FLIGHT_ROWS_BYTES + 1;
        let rows = RecordBatch::try_from_iter([("a", text([1, large, 1, large, large]))]).unwrap();
        let rows: Vec<_> = messages(&rows).iter().map(|(rows, _)| *rows).collect();
        assert_eq!(rows, [1, 1, 1, 1, 1]);
        let none = RecordBatch::try_from_iter([("a", text([]))]).unwrap();
        assert_eq!(rows_of_a_message(&none).unwrap(), 0);
    }
}
