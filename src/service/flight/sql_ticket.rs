//! A ticket that is a statement of SQL, in JSON, which a person can type: `{"sql": "select … $1", "parameters": ["order.paid"], "as_of": 1200}`. Without the feature `sql` it is recognised all the
//! same, so that it can be refused as what it is.

use std::{collections::BTreeMap, sync::Arc};

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, NullArray, RecordBatch, StringArray,
};
use serde::{Deserialize, de::IgnoredAny};

use super::{super::status::Refusal, ticket::check_length};
use crate::types::{append::Violations, id::LogId, id::Position, read::AsOf};

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SqlTicket {
    pub(super) statement: String,
    /// One row: of `$1`, `$2` in this order, or of `$name` by name.
    pub(super) parameters: Option<RecordBatch>,
    /// Which point of the past, if any; it goes before that of the request's metadata.
    pub(super) as_of: Option<AsOf>,
    /// Refuse unless the log has this id.
    pub(super) log_id: Option<LogId>,
}

#[derive(Deserialize)]
struct Probe {
    sql: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    sql: String,
    #[serde(default)]
    parameters: Option<ParametersForm>,
    #[serde(default)]
    as_of: Option<AsOfForm>,
    #[serde(default)]
    log_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "expected a position like 1200, or a time like \"2026-01-31T12:00:00Z\""
)]
enum AsOfForm {
    Position(Position),
    Text(String),
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "expected values like [\"order.paid\", 5], or by name like {\"type\": \"order.paid\"}: texts, numbers, \
                 booleans and null"
)]
enum ParametersForm {
    Numbered(Vec<Value>),
    Named(BTreeMap<String, Value>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Value {
    Null,
    Boolean(bool),
    Integer(i64),
    Number(f64),
    Text(String),
}

impl Value {
    fn column(self) -> ArrayRef {
        match self {
            Self::Null => Arc::new(NullArray::new(1)),
            Self::Boolean(value) => Arc::new(BooleanArray::from(vec![value])),
            Self::Integer(value) => Arc::new(Int64Array::from(vec![value])),
            Self::Number(value) => Arc::new(Float64Array::from(vec![value])),
            Self::Text(value) => Arc::new(StringArray::from(vec![value])),
        }
    }
}

impl ParametersForm {
    /// `None` if there are none.
    fn row(self) -> Option<RecordBatch> {
        let columns: Vec<_> = match self {
            Self::Numbered(values) => {
                let named = |(i, value): (usize, Value)| (format!("${}", i + 1), value.column());
                values.into_iter().enumerate().map(named).collect()
            }
            Self::Named(values) => values
                .into_iter()
                .map(|(name, value)| (name, value.column()))
                .collect(),
        };
        RecordBatch::try_from_iter_with_nullable(
            columns
                .into_iter()
                .map(|(name, column)| (name, column, true)),
        )
        .ok()
        .filter(|row| row.num_columns() > 0)
    }
}

impl SqlTicket {
    /// `None` if it has no key `sql`: then it is a scan.
    pub(super) fn typed(json: &[u8]) -> Result<Option<Self>, Refusal> {
        check_length(json)?;
        let is_sql = serde_json::from_slice::<Probe>(json).is_ok_and(|probe| probe.sql.is_some());
        if !is_sql {
            return Ok(None);
        }
        let invalid = |field: &str, told: String| Refusal::invalid(Violations::one(field, told));
        let form: Form = serde_json::from_slice(json)
            .map_err(|e| invalid("ticket", format!("is no statement: {e}")))?;
        let as_of = match form.as_of {
            None => None,
            Some(AsOfForm::Position(position)) => Some(AsOf::Position(position)),
            Some(AsOfForm::Text(text)) => {
                let as_of = text.parse().map_err(|e| invalid("as_of", format!("{e}")))?;
                Some(as_of)
            }
        };
        let log_id = form.log_id.map(|text| text.parse::<LogId>()).transpose();
        Ok(Some(Self {
            statement: form.sql,
            parameters: form.parameters.and_then(ParametersForm::row),
            as_of,
            log_id: log_id.map_err(|e| invalid("log_id", e.to_string()))?,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_told_from_a_scan_by_its_key() {
        let typed = |json: &str| SqlTicket::typed(json.as_bytes());
        assert_eq!(typed(r#"{"table": "events"}"#).unwrap(), None);
        assert_eq!(typed(r#"{"sql": "#).unwrap(), None);
        let ticket = typed(r#"{"sql": "select 1", "as_of": 7}"#)
            .unwrap()
            .unwrap();
        assert_eq!(ticket.statement, "select 1");
        assert_eq!(ticket.as_of, Some(AsOf::Position(7)));
        assert_eq!(ticket.parameters, None);
        let ticket = typed(r#"{"sql": "select $1", "parameters": [null, true, 5, 2.5, "x"]}"#)
            .unwrap()
            .unwrap();
        let row = ticket.parameters.unwrap();
        assert_eq!((row.num_rows(), row.num_columns()), (1, 5));
        let ticket = typed(r#"{"sql": "select $a", "parameters": {"a": "x", "b": 1}}"#)
            .unwrap()
            .unwrap();
        let row = ticket.parameters.unwrap();
        assert_eq!(row.schema().field(0).name(), "a");
        for wrong in [
            r#"{"sql": 1}"#,
            r#"{"sql": "select $1", "parameters": 5}"#,
            r#"{"sql": "select $1", "parameters": [[1]]}"#,
            r#"{"sql": "select 1", "as_of": "yesterday"}"#,
            r#"{"sql": "select 1", "table": "events"}"#,
            r#"{"sql": "select 1", "log_id": "x"}"#,
        ] {
            assert!(typed(wrong).is_err(), "{wrong}");
        }
    }
}
