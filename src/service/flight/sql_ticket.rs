//! A ticket that is a statement of SQL, in JSON, which a person can type: `{"sql": "select … $1", "parameters": ["order.paid"],
//! "as_of": 1200}`; or in protobuf, sealed (`ticket`). Without the feature `sql` it is recognised all the same, so that it can
//! be refused as what it is.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{
        ArrayRef, BooleanArray, Float64Array, Int64Array, NullArray, RecordBatch, StringArray,
    },
    error::ArrowError,
    ipc::writer::StreamWriter,
};
use bytes::Bytes;
use prost::Message;
use serde::{Deserialize, de::IgnoredAny};

use super::{super::status::Refusal, ticket::check_length};
use crate::types::{append::Violations, id::LogId, id::Position, read::AsOf};

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SqlTicket {
    pub(super) statement: String,
    /// The values of its parameters, as Arrow's stream format has them; each row is a run of the statement.
    pub(super) parameters: Option<Bytes>,
    /// Which point of the past, if any; it goes before that of the request's metadata.
    pub(super) as_of: Option<AsOf>,
    /// Refuse unless the log has this id.
    pub(super) log_id: Option<LogId>,
}

/// What is sealed. Others than the server that made it see bytes.
#[derive(Clone, PartialEq, Message)]
struct Binary {
    #[prost(string, tag = "1")]
    statement: String,
    #[prost(bytes = "bytes", optional, tag = "2")]
    parameters: Option<Bytes>,
    #[prost(string, optional, tag = "3")]
    as_of: Option<String>,
    #[prost(string, optional, tag = "4")]
    log_id: Option<String>,
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
    /// One row in Arrow's stream format; `None` if there are none.
    fn encoded(self) -> Result<Option<Bytes>, ArrowError> {
        let columns: Vec<_> = match self {
            Self::Numbered(values) => {
                let named =
                    |(i, value): (usize, Value)| (format!("${}", i + 1), value.column(), true);
                values.into_iter().enumerate().map(named).collect()
            }
            Self::Named(values) => {
                let named = |(name, value): (String, Value)| (name, value.column(), true);
                values.into_iter().map(named).collect()
            }
        };
        if columns.is_empty() {
            return Ok(None);
        }
        let row = RecordBatch::try_from_iter_with_nullable(columns)?;
        let mut stream = StreamWriter::try_new(Vec::new(), row.schema_ref())?;
        stream.write(&row)?;
        Ok(Some(stream.into_inner()?.into()))
    }
}

impl SqlTicket {
    /// A statement as of now, of whatever log.
    #[cfg(feature = "sql")]
    pub(super) fn new(statement: String) -> Self {
        Self {
            statement,
            parameters: None,
            as_of: None,
            log_id: None,
        }
    }

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
        let parameters = form.parameters.map(ParametersForm::encoded).transpose();
        let parameters = parameters.map_err(|e| invalid("parameters", e.to_string()))?;
        Ok(Some(Self {
            statement: form.sql,
            parameters: parameters.flatten(),
            as_of,
            log_id: log_id.map_err(|e| invalid("log_id", e.to_string()))?,
        }))
    }

    /// As [`Self::from_bytes`] reads it.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        Binary {
            statement: self.statement.clone(),
            parameters: self.parameters.clone(),
            as_of: self.as_of.map(|as_of| as_of.to_string()),
            log_id: self.log_id.map(|log_id| log_id.to_string()),
        }
        .encode_to_vec()
    }

    /// Of bytes whose seal is right.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, Refusal> {
        let other = || Refusal::malformed("what was sealed is of another version of the server");
        let binary = Binary::decode(bytes).map_err(|_| other())?;
        let as_of = binary.as_of.map(|text| text.parse()).transpose();
        let log_id = binary.log_id.map(|text| text.parse()).transpose();
        Ok(Self {
            statement: binary.statement,
            parameters: binary.parameters,
            as_of: as_of.map_err(|_| other())?,
            log_id: log_id.map_err(|_| other())?,
        })
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
        for values in [r#"[null, true, 5, 2.5, "x"]"#, r#"{"a": "x", "b": 1}"#] {
            let json = format!(r#"{{"sql": "select $1", "parameters": {values}}}"#);
            assert!(typed(&json).unwrap().unwrap().parameters.is_some());
        }
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
