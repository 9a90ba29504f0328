//! Record batches as CSV (RFC 4180, lines end with `\n`): a header, then a line for each row.
//!
//! No value is an empty field, an empty text `""`. Times are RFC 3339, lists and structs are JSON.

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch},
    datatypes::{
        DataType, FieldRef, Int32Type, Int64Type, Schema, TimeUnit, TimestampMicrosecondType,
    },
};

use super::{
    json::{time_text, write_string},
    values::Values,
};

/// A column's type that no column of ours has.
#[derive(Debug, thiserror::Error)]
#[error("column `{column}` is a {data_type}, which CSV is not written of")]
pub(super) struct NoCsv {
    column: String,
    data_type: DataType,
}

/// Appends the names of the columns.
pub(super) fn write_header(schema: &Schema, out: &mut Vec<u8>) {
    for (i, field) in schema.fields().iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_text(field.name(), out);
    }
    out.push(b'\n');
}

/// Appends the rows.
pub(super) fn write_rows(rows: &RecordBatch, out: &mut Vec<u8>) -> Result<(), NoCsv> {
    let schema = rows.schema();
    let columns = schema.fields().iter().zip(rows.columns());
    let columns = columns.map(|(field, column)| {
        Column::of(field, column).ok_or_else(|| NoCsv {
            column: field.name().clone(),
            data_type: field.data_type().clone(),
        })
    });
    let mut columns = columns.collect::<Result<Vec<_>, _>>()?;
    for row in 0..rows.num_rows() {
        for (i, column) in columns.iter_mut().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            column.write(row, out);
        }
        out.push(b'\n');
    }
    Ok(())
}

/// A column, by what its values are.
enum Column<'a> {
    Long(&'a arrow::array::Int64Array),
    Int(&'a arrow::array::Int32Array),
    Time(&'a arrow::array::TimestampMicrosecondArray),
    Text(&'a arrow::array::StringArray),
    Texts(&'a arrow::array::ListArray),
    Other(Values<'a>),
}

impl<'a> Column<'a> {
    fn of(field: &'a FieldRef, column: &'a ArrayRef) -> Option<Self> {
        Some(match column.data_type() {
            DataType::Int64 => Self::Long(column.as_primitive::<Int64Type>()),
            DataType::Int32 => Self::Int(column.as_primitive::<Int32Type>()),
            DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => {
                Self::Time(column.as_primitive::<TimestampMicrosecondType>())
            }
            DataType::Utf8 => Self::Text(column.as_string()),
            DataType::List(element) if *element.data_type() == DataType::Utf8 => {
                Self::Texts(column.as_list())
            }
            _ => Self::Other(Values::of(field, column)?),
        })
    }

    fn write(&mut self, row: usize, out: &mut Vec<u8>) {
        match self {
            Self::Long(numbers) if numbers.is_valid(row) => {
                out.extend(numbers.value(row).to_string().as_bytes());
            }
            Self::Int(numbers) if numbers.is_valid(row) => {
                out.extend(numbers.value(row).to_string().as_bytes());
            }
            Self::Time(times) if times.is_valid(row) => out.extend(time_text(times.value(row))),
            Self::Text(texts) if texts.is_valid(row) => write_text(texts.value(row), out),
            Self::Texts(lists) if lists.is_valid(row) => {
                let mut json = vec![b'['];
                for (i, text) in lists.value(row).as_string::<i32>().iter().enumerate() {
                    if i > 0 {
                        json.push(b',');
                    }
                    write_string(text.unwrap_or_default(), &mut json);
                }
                json.push(b']');
                // Made of texts, it is one.
                write_text(&String::from_utf8_lossy(&json), out);
            }
            Self::Other(values) if !values.is_null(row) => {
                let mut text = Vec::new();
                values.write(row, &mut text);
                write_text(&String::from_utf8_lossy(&text), out);
            }
            _ => {}
        }
    }
}

/// A text, in quotes where it would else be read as something else.
fn write_text(text: &str, out: &mut Vec<u8>) {
    let needs_quotes = |byte: u8| matches!(byte, b'"' | b',' | b'\n' | b'\r');
    if !text.is_empty() && !text.bytes().any(needs_quotes) {
        out.extend(text.as_bytes());
        return;
    }
    out.push(b'"');
    for byte in text.bytes() {
        if byte == b'"' {
            out.push(b'"');
        }
        out.push(byte);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::{
        array::{
            ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, ListBuilder, StringArray,
            StringBuilder, TimestampMicrosecondArray, TimestampSecondArray, UnionArray,
        },
        datatypes::Field,
    };

    use super::*;

    #[test]
    fn values_stand_in_quotes_where_they_must() {
        let mut tags = ListBuilder::new(StringBuilder::new());
        tags.append_value([Some("a"), Some("b \"c\"")]);
        tags.append_value([None::<&str>; 0]);
        tags.append(false);
        let columns: [(&str, ArrayRef); 5] = [
            ("position", Arc::new(Int64Array::from(vec![1, -2, 3]))),
            (
                "schema_id",
                Arc::new(Int32Array::from(vec![None, Some(7), None])),
            ),
            (
                "at",
                Arc::new(
                    TimestampMicrosecondArray::from(vec![Some(-1), None, Some(0)])
                        .with_timezone("UTC"),
                ),
            ),
            (
                "a,b",
                Arc::new(StringArray::from(vec![
                    Some("x, \"y\""),
                    Some(""),
                    Some(" ü\n"),
                ])),
            ),
            ("tags", Arc::new(tags.finish())),
        ];
        let rows = RecordBatch::try_from_iter_with_nullable(
            columns.map(|(name, column)| (name, column, true)),
        );
        let rows = rows.unwrap();
        let mut out = Vec::new();
        write_header(&rows.schema(), &mut out);
        write_rows(&rows, &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            concat!(
                "position,schema_id,at,\"a,b\",tags\n",
                "1,,1969-12-31T23:59:59.999999Z,\"x, \"\"y\"\"\",\"[\"\"a\"\",\"\"b \\\"\"c\\\"\"\"\"]\"\n",
                "-2,7,,\"\",[]\n",
                "3,,1970-01-01T00:00:00.000000Z,\" ü\n\",\n",
            )
        );
    }

    #[test]
    fn other_types_are_written_as_people_read_them() {
        let columns: [(&str, ArrayRef); 3] = [
            ("yes", Arc::new(BooleanArray::from(vec![Some(true), None]))),
            ("ratio", Arc::new(Float64Array::from(vec![0.5, -2.0]))),
            (
                "at",
                Arc::new(TimestampSecondArray::from(vec![Some(0), None])),
            ),
        ];
        let rows = RecordBatch::try_from_iter_with_nullable(
            columns.map(|(name, column)| (name, column, true)),
        );
        let mut out = Vec::new();
        write_rows(&rows.unwrap(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, "true,0.5,1970-01-01T00:00:00\n,-2.0,\n");
    }

    #[test]
    fn a_type_that_is_not_written_is_named() {
        let fields = [(0, Arc::new(Field::new("b", DataType::Boolean, true)))];
        let bits: ArrayRef = Arc::new(BooleanArray::from(vec![true]));
        let either = UnionArray::try_new(
            fields.into_iter().collect(),
            vec![0].into(),
            None,
            vec![bits],
        );
        let column: ArrayRef = Arc::new(either.unwrap());
        let rows = RecordBatch::try_from_iter([("a", column)]).unwrap();
        let error = write_rows(&rows, &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("`a` is a Union"), "{error}");
    }
}
