//! Values of any column as text, for formats that people read: times as RFC 3339, lists and structs as JSON.

use std::{io::Write, sync::LazyLock};

use arrow::{
    array::{Array, ArrayRef, AsArray},
    datatypes::{
        DataType, FieldRef, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
        TimestampNanosecondType, TimestampSecondType,
    },
    json::writer::{EncoderOptions, NullableEncoder, make_encoder},
    util::display::{ArrayFormatter, FormatOptions},
};
use chrono::{DateTime, SecondsFormat, Utc};

/// The values of a column.
pub(super) struct Values<'a> {
    column: &'a dyn Array,
    form: Form<'a>,
}

enum Form<'a> {
    Time {
        unit: TimeUnit,
        is_utc: bool,
    },
    Json(NullableEncoder<'a>),
    /// Whatever `Display` of Arrow makes of it.
    Plain(ArrayFormatter<'a>),
}

static JSON: LazyLock<EncoderOptions> =
    LazyLock::new(|| EncoderOptions::default().with_explicit_nulls(true));

impl<'a> Values<'a> {
    /// `None` for a type that is not written.
    pub(super) fn of(field: &'a FieldRef, column: &'a ArrayRef) -> Option<Self> {
        let column: &dyn Array = column;
        let form = match column.data_type() {
            DataType::Timestamp(unit, zone) if zone.as_ref().is_none_or(|zone| is_utc(zone)) => {
                Form::Time {
                    unit: *unit,
                    is_utc: zone.is_some(),
                }
            }
            data_type if data_type.is_nested() => {
                Form::Json(make_encoder(field, column, &JSON).ok()?)
            }
            _ => {
                let options = FormatOptions::default();
                Form::Plain(ArrayFormatter::try_new(column, &options).ok()?)
            }
        };
        Some(Self { column, form })
    }

    pub(super) fn is_null(&self, row: usize) -> bool {
        self.column.is_null(row) || *self.column.data_type() == DataType::Null
    }

    /// Appends a value; nothing for none.
    pub(super) fn write(&mut self, row: usize, out: &mut Vec<u8>) {
        if self.is_null(row) {
            return;
        }
        match &mut self.form {
            Form::Time { unit, is_utc } => {
                let text = time_text(self.column, row, *unit, *is_utc);
                out.extend(text.as_bytes());
            }
            Form::Json(encoder) => encoder.encode(row, out),
            // Writing to memory does not fail; a value that cannot be shown is shown as why.
            Form::Plain(formatter) => write!(out, "{}", formatter.value(row)).unwrap_or_default(),
        }
    }
}

/// Whether values of a type are numbers, which people want on the right.
pub(super) fn is_number(data_type: &DataType) -> bool {
    data_type.is_numeric()
}

fn is_utc(zone: &str) -> bool {
    matches!(zone, "UTC" | "Z" | "+00:00")
}

fn time_text(column: &dyn Array, row: usize, unit: TimeUnit, is_utc: bool) -> String {
    let (value, per_second, digits) = match unit {
        TimeUnit::Second => {
            let value = column.as_primitive::<TimestampSecondType>().value(row);
            (value, 1, SecondsFormat::Secs)
        }
        TimeUnit::Millisecond => {
            let value = column.as_primitive::<TimestampMillisecondType>().value(row);
            (value, 1_000, SecondsFormat::Millis)
        }
        TimeUnit::Microsecond => {
            let value = column.as_primitive::<TimestampMicrosecondType>().value(row);
            (value, 1_000_000, SecondsFormat::Micros)
        }
        TimeUnit::Nanosecond => {
            let value = column.as_primitive::<TimestampNanosecondType>().value(row);
            (value, 1_000_000_000, SecondsFormat::Nanos)
        }
    };
    let nanos = value.rem_euclid(per_second) * (1_000_000_000 / per_second);
    let nanos = u32::try_from(nanos).unwrap_or_default();
    let Some(time) = DateTime::<Utc>::from_timestamp(value.div_euclid(per_second), nanos) else {
        // Beyond what a calendar says.
        return value.to_string();
    };
    let text = time.to_rfc3339_opts(digits, true);
    if is_utc {
        text
    } else {
        text.trim_end_matches('Z').to_owned()
    }
}
