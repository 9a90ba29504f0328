//! Record batches → Flight's messages, one for each batch, whatever its size: a batch is an append and must not be
//! divided. Dictionaries go before the batch that needs them.

use std::{iter, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, FixedSizeBinaryArray, RecordBatch},
    datatypes::{DataType, Field, Schema, SchemaRef},
    error::ArrowError,
    ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions},
};
use arrow_flight::{FlightData, FlightDescriptor};

use super::{ClientError, event_ids::new_event_id};
use crate::types::append::Violations;

const EVENT_ID: &str = "event_id";
const UUID_BYTES: i32 = 16;

/// Encodes the batches of one stream.
pub(super) struct Encoder {
    /// Sent with the first message.
    descriptor: Option<FlightDescriptor>,
    schema: Option<SchemaRef>,
    dictionaries: DictionaryTracker,
    options: IpcWriteOptions,
    context: IpcWriteContext,
}

impl Encoder {
    pub(super) fn new(descriptor: FlightDescriptor) -> Self {
        Self {
            descriptor: Some(descriptor),
            schema: None,
            dictionaries: DictionaryTracker::new(false),
            options: IpcWriteOptions::default(),
            context: IpcWriteContext::default(),
        }
    }

    /// The messages of a batch, before the first one the schema.
    pub(super) fn encode(&mut self, batch: &RecordBatch) -> Result<Vec<FlightData>, ClientError> {
        let schema = match &self.schema {
            Some(schema) if **schema == *batch.schema() => None,
            Some(_) => return Err(invalid("are not those of the batches before")),
            None => Some(self.start(batch.schema())),
        };
        let encoded = IpcDataGenerator {}.encode(
            batch,
            &mut self.dictionaries,
            &self.options,
            &mut self.context,
        );
        let (dictionaries, rows) = encoded.map_err(|e| unencodable(&e))?;
        let rows = dictionaries.into_iter().chain(iter::once(rows));
        Ok(schema
            .into_iter()
            .chain(rows.map(FlightData::from))
            .collect())
    }

    /// The schema of no columns, if there was no batch at all: something has to carry the descriptor.
    pub(super) fn finish(&mut self) -> Option<FlightData> {
        match self.schema {
            Some(_) => None,
            None => Some(self.start(Arc::new(Schema::empty()))),
        }
    }

    fn start(&mut self, schema: SchemaRef) -> FlightData {
        let encoded = IpcDataGenerator {}.schema_to_bytes_with_dictionary_tracker(
            &schema,
            &mut self.dictionaries,
            &self.options,
        );
        self.schema = Some(schema);
        FlightData {
            flight_descriptor: self.descriptor.take(),
            ..FlightData::from(encoded)
        }
    }
}

/// The batch, with an id for each row: what has none cannot be sent again.
pub(super) fn with_ids(batch: RecordBatch) -> Result<RecordBatch, ClientError> {
    match batch.column_by_name(EVENT_ID) {
        Some(ids) if ids.null_count() == 0 => return Ok(batch),
        Some(_) => {
            let told = "has nulls: give every row an id, or leave the column out and they are made";
            return Err(ClientError::Invalid(Violations::one(EVENT_ID, told)));
        }
        None => {}
    }
    let ids = (0..batch.num_rows()).map(|_| new_event_id().into_bytes());
    let ids: Vec<u8> = ids.flatten().collect();
    let ids =
        FixedSizeBinaryArray::try_new(UUID_BYTES, ids.into(), None).map_err(|e| unencodable(&e))?;
    let field = Field::new(EVENT_ID, DataType::FixedSizeBinary(UUID_BYTES), false);
    let schema = batch.schema();
    let fields = schema.fields().iter().cloned();
    let fields: Vec<_> = fields.chain([Arc::new(field)]).collect();
    let columns = batch.columns().iter().cloned();
    let columns = columns.chain([Arc::new(ids) as ArrayRef]).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(|e| unencodable(&e))
}

fn unencodable(error: &ArrowError) -> ClientError {
    invalid(&format!("cannot be encoded: {error}"))
}

fn invalid(told: &str) -> ClientError {
    ClientError::Invalid(Violations::one("columns", told))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use arrow::array::{AsArray, Int32Array, StringArray};

    use super::*;

    fn batch(columns: &[(&str, ArrayRef)]) -> RecordBatch {
        RecordBatch::try_from_iter(columns.iter().cloned()).unwrap()
    }

    #[test]
    fn rows_get_ids_only_where_they_have_none() {
        let column: ArrayRef = Arc::new(Int32Array::from(vec![0; 1_000]));
        let made = with_ids(batch(&[("a", Arc::clone(&column))])).unwrap();
        let ids = made.column_by_name(EVENT_ID).unwrap();
        let ids = ids.as_fixed_size_binary();
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 1_000);

        let given: ArrayRef = Arc::new(StringArray::from(vec!["x"; 1_000]));
        let given = batch(&[("a", column), (EVENT_ID, given)]);
        assert_eq!(with_ids(given.clone()).unwrap(), given);
        let some: ArrayRef = Arc::new(StringArray::from(vec![Some("x"), None]));
        let error = with_ids(batch(&[(EVENT_ID, some)])).unwrap_err();
        assert_eq!(error.violations()[0].field, EVENT_ID);
    }

    #[test]
    fn the_descriptor_goes_with_the_first_message_even_without_rows() {
        let text: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
        let number: ArrayRef = Arc::new(Int32Array::from(vec![1]));
        let mut encoder = Encoder::new(FlightDescriptor::new_cmd("x"));
        let first = encoder.encode(&batch(&[("a", Arc::clone(&text))])).unwrap();
        assert_eq!(first.len(), 2);
        assert!(first[0].flight_descriptor.is_some() && first[1].flight_descriptor.is_none());
        assert_eq!(encoder.encode(&batch(&[("a", text)])).unwrap().len(), 1);
        assert!(encoder.encode(&batch(&[("a", number)])).is_err());
        assert!(encoder.finish().is_none());

        let mut empty = Encoder::new(FlightDescriptor::new_cmd("x"));
        assert!(empty.finish().unwrap().flight_descriptor.is_some());
        assert!(empty.finish().is_none());
    }
}
