//! Which columns rows are appended in, and of which types: judged on the schema as it arrived.
//!
//! Invariant: what passes is what arrow's own conversion takes without a panic, and of the types that `put_columns` reads.
//! That a required column is missing is judged there, since a stream without rows needs none.

use arrow::ipc::{Endianness, Field, Schema, TimeUnit, Type};

use super::super::status::Refusal;
use crate::types::append::{AppendError, Violation, Violations};

/// Violations after which a schema is not looked at further.
const VIOLATIONS_MAX: usize = 20;
const UUID_BYTES: i32 = 16;

const TEXT: &str = "text: utf8, large_utf8, utf8_view or a dictionary of one of these";

/// What a column holds.
#[derive(Clone, Copy)]
enum Holds {
    Text,
    Id,
    Time,
    Texts,
}

/// The columns of a row that is appended.
const COLUMNS: [(&str, Holds); 7] = [
    ("entity_id", Holds::Text),
    ("event_type", Holds::Text),
    ("payload", Holds::Text),
    ("event_id", Holds::Id),
    ("occurred_at", Holds::Time),
    ("metadata", Holds::Text),
    ("tags", Holds::Texts),
];
/// Those of the table that the server fills.
const ASSIGNED: [&str; 4] = ["position", "version", "recorded_at", "schema_id"];

/// Judges the columns of a schema.
pub(super) fn check(schema: Schema<'_>) -> Result<(), Refusal> {
    if schema.endianness() != Endianness::Little {
        let told = "the schema is of a big-endian machine: send little-endian buffers";
        return Err(Refusal::malformed(told));
    }
    let Some(fields) = schema.fields() else {
        return Err(Refusal::malformed("the schema has no list of columns"));
    };
    let mut violations = Vec::new();
    let mut seen = Vec::with_capacity(COLUMNS.len());
    for field in fields {
        let name = field.name().unwrap_or_default();
        let wrong = if seen.contains(&name) {
            Some("is there twice".to_owned())
        } else {
            judge(name, field)
        };
        if let Some(description) = wrong {
            violations.push(Violation {
                field: name.to_owned(),
                description,
            });
        } else {
            seen.push(name);
        }
        if violations.len() == VIOLATIONS_MAX {
            break;
        }
    }
    if violations.is_empty() {
        return Ok(());
    }
    Err(AppendError::Invalid(Violations(violations)).into())
}

/// What is wrong with a column.
fn judge(name: &str, field: Field<'_>) -> Option<String> {
    let Some((_, holds)) = COLUMNS.iter().find(|(column, _)| *column == name) else {
        return Some(if ASSIGNED.contains(&name) {
            "is assigned by the server: leave the column out".to_owned()
        } else {
            let [required @ .., _, _, _, _] = COLUMNS.map(|(column, _)| column);
            let [_, _, _, optional @ ..] = COLUMNS.map(|(column, _)| column);
            format!(
                "is no column of an event: there are {}, and optionally {}",
                required.join(", "),
                optional.join(", ")
            )
        });
    };
    let (fits, expected) = match holds {
        Holds::Text => (is_text(field), TEXT),
        Holds::Id => (
            is_text(field) || is_uuid(field),
            "fixed_size_binary(16), or text in the canonical form of UUIDs",
        ),
        Holds::Time => (
            is_time(field),
            "a timestamp of any unit, in UTC if it has no zone",
        ),
        Holds::Texts => (is_texts(field), "a list (or large, or view) of text"),
    };
    (!fits).then(|| format!("is {}; it has to be {expected}", told(field)))
}

fn told(field: Field<'_>) -> String {
    // As arrow's format spells it, where it knows the type.
    let name = field.type_type().variant_name().unwrap_or("unknown");
    let name = name.trim_end_matches('_').to_lowercase();
    let inside = field.children().filter(|children| !children.is_empty());
    let inside = inside.and_then(|children| children.get(0).type_type().variant_name());
    let of = inside.map_or_else(String::new, |inside| {
        format!(" of {}", inside.to_lowercase())
    });
    if field.dictionary().is_some() {
        format!("a dictionary of {name}{of}")
    } else {
        format!("{name}{of}")
    }
}

/// Text, or nothing at all: a column without a single value has no other type in some programs.
fn is_text(field: Field<'_>) -> bool {
    match field.type_type() {
        Type::Utf8 | Type::LargeUtf8 | Type::Utf8View => {
            field.dictionary().is_none_or(|encoding| {
                let width = encoding.indexType().map(|index| index.bitWidth());
                width.is_some_and(|width| [8, 16, 32, 64].contains(&width))
            })
        }
        Type::Null => field.dictionary().is_none(),
        _ => false,
    }
}

fn is_uuid(field: Field<'_>) -> bool {
    let width = field.type_as_fixed_size_binary().map(|t| t.byteWidth());
    width == Some(UUID_BYTES) && field.dictionary().is_none()
}

fn is_time(field: Field<'_>) -> bool {
    let unit = field.type_as_timestamp().map(|t| t.unit());
    let known = unit.is_some_and(|unit| {
        [
            TimeUnit::SECOND,
            TimeUnit::MILLISECOND,
            TimeUnit::MICROSECOND,
            TimeUnit::NANOSECOND,
        ]
        .contains(&unit)
    });
    (known || field.type_type() == Type::Null) && field.dictionary().is_none()
}

fn is_texts(field: Field<'_>) -> bool {
    if field.dictionary().is_some() {
        return false;
    }
    match field.type_type() {
        Type::List | Type::LargeList | Type::ListView | Type::LargeListView => field
            .children()
            .is_some_and(|children| children.len() == 1 && is_text(children.get(0))),
        Type::Null => true,
        _ => false,
    }
}
