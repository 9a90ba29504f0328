//! Values for the parameters of a statement: rows, each for one run of it, in Arrow's stream format, since they travel in
//! handles and tickets.

use std::sync::Arc;

use arrow::{
    array::RecordBatch,
    compute::cast,
    datatypes::{DataType, Schema},
    error::ArrowError,
    ipc::{Field, Schema as WireSchema, Type, reader::StreamReader, writer::StreamWriter},
};
use bytes::Bytes;

use super::super::super::status::Refusal;
use crate::types::{
    append::Violations,
    kind::Kind,
    limits::{SQL_PARAMETER_BYTES_MAX, SQL_PARAMETER_ROWS_MAX},
};

/// Judges the columns of values, as their schema arrives.
pub(super) fn check(schema: WireSchema<'_>) -> Result<(), Refusal> {
    let fields = schema.fields();
    for field in fields.into_iter().flatten() {
        if !is_value(field) {
            let name = field.type_type().variant_name().unwrap_or("unknown");
            let told = format!(
                "is a {}: the value of a parameter is a number, a text, a time or the like",
                name.trim_end_matches('_').to_lowercase()
            );
            let field = field.name().unwrap_or_default();
            return Err(Refusal::invalid(Violations::one(
                format!("parameters.{field}"),
                told,
            )));
        }
    }
    Ok(())
}

fn is_value(field: Field<'_>) -> bool {
    let is_plain = matches!(
        field.type_type(),
        Type::Null
            | Type::Int
            | Type::FloatingPoint
            | Type::Binary
            | Type::Utf8
            | Type::Bool
            | Type::Decimal
            | Type::Date
            | Type::Time
            | Type::Timestamp
            | Type::Interval
            | Type::Duration
            | Type::LargeBinary
            | Type::LargeUtf8
            | Type::BinaryView
            | Type::Utf8View
    );
    let is_known = field.dictionary().is_none_or(|encoding| {
        let width = encoding.indexType().map(|index| index.bitWidth());
        width.is_some_and(|width| [8, 16, 32, 64].contains(&width))
    });
    is_plain && is_known && field.children().is_none_or(|inner| inner.is_empty())
}

/// Rows of values without dictionaries.
pub(super) fn plain(rows: &RecordBatch) -> Result<RecordBatch, Refusal> {
    if rows.num_columns() == 0 {
        return Err(invalid("have no column".to_owned()));
    }
    let columns = rows.schema_ref().fields().iter().zip(rows.columns());
    let columns = columns.map(|(field, column)| {
        let column = match column.data_type() {
            DataType::Dictionary(_, values) => cast(column, values),
            _ => Ok(Arc::clone(column)),
        };
        Ok((field.name(), column.map_err(|e| failed(&e))?))
    });
    let columns = columns.collect::<Result<Vec<_>, Refusal>>()?;
    RecordBatch::try_from_iter_with_nullable(
        columns
            .into_iter()
            .map(|(name, column)| (name, column, true)),
    )
    .map_err(|e| failed(&e))
}

/// Rows of values as bytes.
pub(super) fn to_bytes(schema: &Schema, rows: &[RecordBatch]) -> Result<Bytes, Refusal> {
    let count: usize = rows.iter().map(RecordBatch::num_rows).sum();
    if count == 0 {
        return Err(invalid("have no row: bind at least one".to_owned()));
    }
    if count > SQL_PARAMETER_ROWS_MAX {
        return Err(invalid(format!(
            "have {count} rows, the most is {SQL_PARAMETER_ROWS_MAX}: a statement runs once for each; join a table of \
             VALUES, or bind them in parts"
        )));
    }
    let mut writer = StreamWriter::try_new(Vec::new(), schema).map_err(|e| failed(&e))?;
    for rows in rows {
        writer.write(rows).map_err(|e| failed(&e))?;
    }
    let bytes = writer.into_inner().map_err(|e| failed(&e))?;
    if bytes.len() > SQL_PARAMETER_BYTES_MAX {
        return Err(invalid(format!(
            "have {} bytes, the most is {SQL_PARAMETER_BYTES_MAX}: a ticket holds them",
            bytes.len()
        )));
    }
    Ok(bytes.into())
}

/// The rows of values, one by one.
pub(super) fn rows(bytes: &Bytes) -> Result<Vec<RecordBatch>, Refusal> {
    let batches = read(bytes)?;
    let rows = batches
        .iter()
        .flat_map(|batch| (0..batch.num_rows()).map(|row| batch.slice(row, 1)));
    Ok(rows.collect())
}

/// Values under the names of the parameters that they are for: by name where all of them have one, and by place otherwise.
pub(super) fn conform(bytes: &Bytes, parameters: &Schema) -> Result<Bytes, Refusal> {
    let batches = read(bytes)?;
    let Some(first) = batches.first() else {
        return Ok(Bytes::clone(bytes));
    };
    let (found, expected) = (first.num_columns(), parameters.fields().len());
    if found != expected {
        return Err(invalid(format!(
            "have {found} column(s), and the statement has {expected} parameter(s){}",
            named(parameters)
        )));
    }
    let bound = first.schema();
    let plain = |name: &str| name.trim_start_matches('$').to_owned();
    let place = |name: &str| {
        let name = plain(name);
        let mut fields = bound.fields().iter();
        fields.position(|field| plain(field.name()) == name)
    };
    let places = parameters.fields().iter().map(|field| place(field.name()));
    let places = places.collect::<Option<Vec<_>>>();
    let places = places.unwrap_or_else(|| (0..expected).collect());
    let fields = places.iter().zip(parameters.fields());
    let fields = fields.map(|(at, parameter)| {
        let field = bound.field(*at).clone();
        field.with_name(parameter.name()).with_nullable(true)
    });
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let batches = batches.iter().map(|batch| {
        let columns = places.iter().map(|at| Arc::clone(batch.column(*at)));
        RecordBatch::try_new(Arc::clone(&schema), columns.collect())
    });
    let batches = batches.collect::<Result<Vec<_>, _>>();
    to_bytes(&schema, &batches.map_err(|e| failed(&e))?)
}

fn named(parameters: &Schema) -> String {
    let names: Vec<_> = parameters
        .fields()
        .iter()
        .map(|f| f.name().as_str())
        .collect();
    match names.as_slice() {
        [] => String::new(),
        names => format!(": {}", names.join(", ")),
    }
}

fn read(bytes: &Bytes) -> Result<Vec<RecordBatch>, Refusal> {
    let reader = StreamReader::try_new(&**bytes, None).map_err(|e| failed(&e))?;
    reader.collect::<Result<_, _>>().map_err(|e| failed(&e))
}

fn invalid(told: String) -> Refusal {
    Refusal::invalid(Violations::one("parameters", told))
}

fn failed(error: &ArrowError) -> Refusal {
    let told = format!("values of parameters could not be kept: {error}");
    Refusal::new(Kind::Internal, "ENCODING_FAILED", told)
}
