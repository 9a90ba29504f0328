//! What to read as a table, and its form in JSON, which a person can type.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    append::{Query, QueryItem, Violations},
    id::{LogId, Position},
    object::Object,
    read::{AsOf, Filter, TimeRange},
    text::Text,
    time::Timestamp,
};

/// A scan of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScanRequest {
    /// Of which table.
    pub table: Table,
    /// Which columns, in this order; empty: all, in the order of the table.
    pub columns: Vec<String>,
    /// Which events.
    pub filter: Filter,
    /// Only positions greater than this.
    pub after: Position,
    /// Only positions up to and including this.
    pub through: Option<Position>,
    /// Scan the table as it was then. A version needs exactly one entity in the filter.
    pub as_of: Option<AsOf>,
    /// At most so many rows.
    pub limit: Option<u64>,
    /// Go on with what is appended.
    pub follow: bool,
    /// Refuse unless the log has this id.
    pub log_id: Option<LogId>,
}

/// A table of a tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Table {
    /// A row for each event, in order of position.
    #[default]
    Events,
    /// A row for each entity, in order of its name.
    Entities,
    /// The events of one type.
    Type(Text),
}

impl Table {
    /// The first name of the path of [`Table::Events`].
    pub const EVENTS: &str = "events";
    /// The first name of the path of [`Table::Entities`].
    pub const ENTITIES: &str = "entities";
    /// The first name of the path of [`Table::Type`]; the type is the second.
    pub const TYPES: &str = "types";

    /// The table that a path names; `None` if it names none.
    pub fn from_path<T: AsRef<str>>(path: &[T]) -> Option<Self> {
        match path {
            [name] if name.as_ref() == Self::EVENTS => Some(Self::Events),
            [name] if name.as_ref() == Self::ENTITIES => Some(Self::Entities),
            [name, event_type] if name.as_ref() == Self::TYPES => {
                Some(Self::Type(event_type.as_ref().into()))
            }
            _ => None,
        }
    }

    /// The names that it is found by.
    pub fn path(&self) -> Vec<String> {
        match self {
            Self::Events => vec![Self::EVENTS.to_owned()],
            Self::Entities => vec![Self::ENTITIES.to_owned()],
            Self::Type(event_type) => vec![Self::TYPES.to_owned(), event_type.to_string()],
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path().join("/"))
    }
}

/// What a caller is told whose path or name of a table is none.
pub const TABLES: &str = "the tables are \"events\", \"entities\" and [\"types\", an event type]";

impl ScanRequest {
    /// From JSON: an object whose keys are the fields, all of them optional.
    ///
    /// ```
    /// use annals::ScanRequest;
    ///
    /// let json = br#"{"types": ["order.paid"], "after": 1000, "columns": ["position", "payload"]}"#;
    /// let request = ScanRequest::from_json(json).unwrap();
    /// assert_eq!(request.after, 1000);
    /// assert!(ScanRequest::from_json(br#"{"typo": 1}"#).is_err());
    /// ```
    ///
    /// # Errors
    /// What is wrong, with the place, and for an unknown key those that are known.
    pub fn from_json(json: &[u8]) -> Result<Self, Violations> {
        let Object(form): Object<Form> = serde_json::from_slice(json)
            .map_err(|e| Violations::one("ticket", format!("is no scan: {e}")))?;
        form.into_request()
    }

    /// As JSON that [`ScanRequest::from_json`] reads.
    pub fn to_json(&self) -> String {
        serde_json::to_string(&Form::of(self)).expect("texts and numbers are JSON")
    }
}

/// The object in JSON. Its keys are those of the protocol, in the order that they are listed in to whom uses another.
#[derive(Default, Serialize, Deserialize)]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "an object like {\"types\": [\"order.paid\"], \"after\": 1000}"
)]
struct Form {
    #[serde(skip_serializing_if = "Option::is_none")]
    table: Option<TableForm>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    columns: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    entities: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    types: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    type_prefix: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    partitions: Vec<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    query: Vec<Object<ItemForm>>,
    #[serde(skip_serializing_if = "is_zero")]
    after: Position,
    #[serde(skip_serializing_if = "Option::is_none")]
    through: Option<Position>,
    #[serde(skip_serializing_if = "is_all")]
    recorded: Object<TimesForm>,
    #[serde(skip_serializing_if = "is_all")]
    occurred: Object<TimesForm>,
    #[serde(skip_serializing_if = "Option::is_none")]
    as_of: Option<AsOfForm>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    follow: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    log_id: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected \"events\", \"entities\" or [\"types\", an event type]"
)]
enum TableForm {
    Name(String),
    Path(Vec<String>),
}

#[derive(Default, Serialize, Deserialize)]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "an object like {\"types\": [\"order.paid\"], \"tags\": [\"vip\"]}"
)]
struct ItemForm {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    types: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "an object like {\"since\": \"2026-01-31T12:00:00Z\"}"
)]
struct TimesForm {
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a position like 1200, a version like \"v3\", or a time like \"2026-01-31T12:00:00Z\""
)]
enum AsOfForm {
    Position(Position),
    Text(String),
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn is_all(Object(times): &Object<TimesForm>) -> bool {
    times.since.is_none() && times.until.is_none()
}

fn texts(names: Vec<String>) -> Vec<Text> {
    names.into_iter().map(Text::from).collect()
}

fn strings(texts: &[Text]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

impl TimesForm {
    fn range(self, field: &str) -> Result<TimeRange, Violations> {
        let time = |text: Option<String>, end: &str| {
            let time = text.map(|text| text.parse::<Timestamp>()).transpose();
            time.map_err(|e| Violations::one(format!("{field}.{end}"), e.to_string()))
        };
        Ok(TimeRange {
            since: time(self.since, "since")?,
            until: time(self.until, "until")?,
        })
    }

    fn of(range: TimeRange) -> Self {
        Self {
            since: range.since.map(|time| time.to_string()),
            until: range.until.map(|time| time.to_string()),
        }
    }
}

impl Form {
    fn into_request(self) -> Result<ScanRequest, Violations> {
        let path = match self.table {
            None => vec![Table::EVENTS.to_owned()],
            Some(TableForm::Name(name)) => vec![name],
            Some(TableForm::Path(path)) => path,
        };
        let table = Table::from_path(&path).ok_or_else(|| {
            Violations::one("table", format!("`{}` is none: {TABLES}", path.join("/")))
        })?;
        let as_of = match self.as_of {
            None => None,
            Some(AsOfForm::Position(position)) => Some(AsOf::Position(position)),
            Some(AsOfForm::Text(text)) => Some(
                text.parse::<AsOf>()
                    .map_err(|e| Violations::one("as_of", e.to_string()))?,
            ),
        };
        let log_id = self.log_id.map(|text| text.parse::<LogId>()).transpose();
        let items = self.query.into_iter().map(|Object(item)| QueryItem {
            event_types: texts(item.types),
            tags: texts(item.tags),
        });
        Ok(ScanRequest {
            table,
            columns: self.columns,
            filter: Filter {
                entity_ids: texts(self.entities),
                event_types: texts(self.types),
                event_type_prefix: self.type_prefix.into(),
                tags: texts(self.tags),
                partitions: self.partitions,
                query: Query {
                    items: items.collect(),
                },
                recorded: self.recorded.0.range("recorded")?,
                occurred: self.occurred.0.range("occurred")?,
            },
            after: self.after,
            through: self.through,
            as_of,
            limit: self.limit,
            follow: self.follow,
            log_id: log_id.map_err(|e| Violations::one("log_id", e.to_string()))?,
        })
    }

    fn of(request: &ScanRequest) -> Self {
        let filter = &request.filter;
        let items = filter.query.items.iter().map(|item| {
            Object(ItemForm {
                types: strings(&item.event_types),
                tags: strings(&item.tags),
            })
        });
        let table = match &request.table {
            Table::Events => None,
            table @ Table::Entities => Some(TableForm::Name(table.to_string())),
            table @ Table::Type(_) => Some(TableForm::Path(table.path())),
        };
        Self {
            table,
            columns: request.columns.clone(),
            entities: strings(&filter.entity_ids),
            types: strings(&filter.event_types),
            type_prefix: filter.event_type_prefix.to_string(),
            tags: strings(&filter.tags),
            partitions: filter.partitions.clone(),
            query: items.collect(),
            after: request.after,
            through: request.through,
            recorded: Object(TimesForm::of(filter.recorded)),
            occurred: Object(TimesForm::of(filter.occurred)),
            as_of: request.as_of.map(|as_of| match as_of {
                AsOf::Position(position) => AsOfForm::Position(position),
                other => AsOfForm::Text(other.to_string()),
            }),
            limit: request.limit,
            follow: request.follow,
            log_id: request.log_id.map(|log_id| log_id.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(json: &str) -> String {
        let wrong = ScanRequest::from_json(json.as_bytes());
        wrong.expect_err("it is wrong").to_string()
    }

    #[test]
    fn every_key_is_read_and_written() {
        let json = r#"{"table":["types","order.paid"],"columns":["position","tags"],"entities":["a"],"types":["b"],"type_prefix":"c","tags":["d"],"partitions":[1,2],"query":[{"types":["e"]},{"tags":["f"]}],"after":3,"through":4,"recorded":{"since":"2026-01-31T12:00:00.000000Z"},"occurred":{"until":"2026-01-31T12:00:00.000000Z"},"as_of":"v5","limit":6,"follow":true,"log_id":"6b8e7d5c-1111-4222-8333-944455556666"}"#;
        let request = ScanRequest::from_json(json.as_bytes()).unwrap();
        assert_eq!(request.to_json(), json);
        assert_eq!(request.table, Table::Type("order.paid".into()));
        assert_eq!(ScanRequest::from_json(b"{}"), Ok(ScanRequest::default()));
        assert_eq!(ScanRequest::default().to_json(), "{}");
    }

    #[test]
    fn what_is_wrong_is_told_with_what_would_be_right() {
        let unknown = told(r#"{"colums": []}"#);
        assert!(
            unknown.contains("`colums`") && unknown.contains("`columns`"),
            "{unknown}"
        );
        let unknown = told(r#"{"query": [{"type": "a"}]}"#);
        assert!(unknown.contains("`types`"), "{unknown}");
        for json in [
            r#"{"table": "event"}"#,
            r#"{"table": []}"#,
            r#"{"table": ["types"]}"#,
        ] {
            assert!(told(json).contains("an event type"), "{}", told(json));
        }
        assert!(told(r#"{"table": 1}"#).contains("an event type"));
        assert!(told(r#"{"as_of": "yesterday"}"#).starts_with("as_of"));
        assert!(told(r#"{"recorded": {"since": "x"}}"#).starts_with("recorded.since"));
        assert!(told(r#"{"log_id": "x"}"#).starts_with("log_id"));
        for (array, like) in [
            ("[1]", r#"{"types": ["#),
            (r#"{"query": [[["a"]]]}"#, r#""tags": ["#),
            (r#"{"recorded": ["2026-01-31T12:00:00Z"]}"#, r#"{"since": "#),
        ] {
            let told = told(array);
            assert!(
                told.contains("sequence, expected an object like {"),
                "{told}"
            );
            assert!(told.starts_with("ticket") && told.contains(like), "{told}");
        }
        assert!(told(r#"{"after": -1}"#).contains("ticket"));
    }
}
