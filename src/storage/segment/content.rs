//! What the columns of a segment hold, summed up: equal if, and only if, the rows are, in whatever batches they come.

use arrow::{
    array::{Array, AsArray, RecordBatch, StringArray},
    datatypes::{
        ArrowNativeType, DataType, Int32Type, Int64Type, TimestampMicrosecondType, ToByteSlice,
    },
};
use xxhash_rust::xxh3::Xxh3;

use super::schema::COLUMNS;

/// The length of a text that is null.
const NULL: u32 = u32::MAX;

/// See the module.
#[derive(Default)]
pub(crate) struct Content {
    columns: [Column; COLUMNS.len()],
    scratch: Vec<u8>,
}

/// Lengths (of texts and lists) and whether there is a value are apart from the values.
#[derive(Default)]
struct Column {
    shape: Xxh3,
    values: Xxh3,
    /// Of the members, if it is a list.
    members: Option<Box<Column>>,
}

impl Content {
    /// Adds rows of all columns. The error says that they are not those of a segment.
    pub(crate) fn add(&mut self, batch: &RecordBatch) -> Result<(), String> {
        for (column, array) in self.columns.iter_mut().zip(batch.columns()) {
            column.add(&**array, &mut self.scratch)?;
        }
        Ok(())
    }

    /// Of all rows so far.
    pub(crate) fn digest(&self) -> u128 {
        let mut all = Xxh3::new();
        for column in &self.columns {
            column.add_to(&mut all);
        }
        all.digest128()
    }
}

impl Column {
    fn add(&mut self, array: &dyn Array, scratch: &mut Vec<u8>) -> Result<(), String> {
        match array.data_type() {
            DataType::Utf8 => self.add_texts(array.as_string(), scratch),
            DataType::Int64 => {
                self.add_numbers(array, array.as_primitive::<Int64Type>().values(), scratch);
            }
            DataType::Int32 => {
                self.add_numbers(array, array.as_primitive::<Int32Type>().values(), scratch);
            }
            DataType::Timestamp(..) => {
                let times = array
                    .as_primitive_opt::<TimestampMicrosecondType>()
                    .ok_or("times are not in µs")?;
                self.add_numbers(array, times.values(), scratch);
            }
            DataType::List(_) => {
                let lists = array.as_list::<i32>();
                let offsets = lists.value_offsets();
                self.add_shape(lengths(offsets), scratch);
                let first = offsets[0].cast_unsigned() as usize;
                let end = offsets[lists.len()].cast_unsigned() as usize;
                let members = lists.values().slice(first, end - first);
                self.members
                    .get_or_insert_default()
                    .add(&*members, scratch)?;
            }
            other => return Err(format!("a column has the type {other}")),
        }
        Ok(())
    }

    fn add_texts(&mut self, texts: &StringArray, scratch: &mut Vec<u8>) {
        let offsets = texts.value_offsets();
        match texts.nulls() {
            None => self.add_shape(lengths(offsets), scratch),
            Some(nulls) => {
                let lengths = lengths(offsets).zip(nulls);
                let lengths = lengths.map(|(length, valid)| if valid { length } else { NULL });
                self.add_shape(lengths, scratch);
            }
        }
        // Nothing is between texts, and a null has none.
        let bytes =
            offsets[0].cast_unsigned() as usize..offsets[texts.len()].cast_unsigned() as usize;
        self.values.update(&texts.value_data()[bytes]);
    }

    fn add_numbers<N: ArrowNativeType>(
        &mut self,
        array: &dyn Array,
        numbers: &[N],
        scratch: &mut Vec<u8>,
    ) {
        match array.nulls() {
            None => self.values.update(numbers.to_byte_slice()),
            Some(nulls) => {
                scratch.clear();
                for (number, _) in numbers.iter().zip(nulls).filter(|(_, valid)| *valid) {
                    scratch.extend_from_slice(number.to_byte_slice());
                }
                self.values.update(scratch);
            }
        }
        let valid = |index| u32::from(array.is_valid(index));
        self.add_shape((0..array.len()).map(valid), scratch);
    }

    fn add_shape(&mut self, numbers: impl Iterator<Item = u32>, scratch: &mut Vec<u8>) {
        scratch.clear();
        scratch.extend(numbers.flat_map(u32::to_le_bytes));
        self.shape.update(scratch);
    }

    fn add_to(&self, all: &mut Xxh3) {
        all.update(&self.shape.digest128().to_le_bytes());
        all.update(&self.values.digest128().to_le_bytes());
        if let Some(members) = &self.members {
            members.add_to(all);
        }
    }
}

/// Of texts or lists with these offsets.
fn lengths(offsets: &[i32]) -> impl Iterator<Item = u32> + '_ {
    let pairs = offsets.windows(2);
    pairs.map(|pair| (pair[1] - pair[0]).cast_unsigned())
}
