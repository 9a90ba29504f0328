//! Record batches → Flight's messages, in Arrow's stream format without compression: the schema first, then rows.
//!
//! Batches are cut where they are larger than a message should be. A cut copies nothing, and the format takes of each
//! column what the cut holds; so rows are copied once, into their message.

use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::Schema,
    error::ArrowError,
    ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions},
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

/// Encodes the messages of one stream.
pub(super) struct Encoder {
    options: IpcWriteOptions,
    dictionaries: DictionaryTracker,
    context: IpcWriteContext,
}

impl Encoder {
    pub(super) fn new() -> Self {
        Self {
            options: IpcWriteOptions::default(),
            dictionaries: DictionaryTracker::new(false),
            context: IpcWriteContext::default(),
        }
    }

    /// The first message.
    pub(super) fn schema(&self, schema: &Schema) -> FlightData {
        SchemaAsIpc::new(schema, &self.options).into()
    }

    /// Rows, with what is told of them.
    pub(super) fn rows(
        &mut self,
        rows: &RecordBatch,
        told: impl Into<Bytes>,
    ) -> Result<FlightData, Refusal> {
        // The next message is probably as large. Behind an empty one nothing may come for long.
        self.context.set_reserve_scratch(rows.num_rows() > 0);
        let encoded = IpcDataGenerator {}.encode(
            rows,
            &mut self.dictionaries,
            &self.options,
            &mut self.context,
        );
        let (_, encoded) = encoded.map_err(|e| failed(&e))?;
        Ok(FlightData::from(encoded).with_app_metadata(told))
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

    use arrow::array::{ArrayRef, ListBuilder, StringArray, StringBuilder};
    use prost::Message;

    use super::*;

    fn text(rows: impl IntoIterator<Item = usize>) -> ArrayRef {
        let texts = rows.into_iter().map(|bytes| "x".repeat(bytes));
        Arc::new(StringArray::from_iter_values(texts))
    }

    fn messages(rows: &RecordBatch) -> Vec<(usize, usize)> {
        let mut encoder = Encoder::new();
        let mut from = 0;
        let mut messages = Vec::new();
        while from < rows.num_rows() {
            let rest = rows.slice(from, rows.num_rows() - from);
            let count = rows_of_a_message(&rest).unwrap();
            let message = encoder.rows(&rest.slice(0, count), "{}").unwrap();
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
