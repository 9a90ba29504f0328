//! What a `DoPut` asks for beside its rows: the descriptor names the table, and may carry what must hold for them.
//!
//! A path is `["events"]`; a command is JSON that a person can type:
//! `{"table": "events", "guards": […], "cursors": […], "log_id": "…"}`, all of it optional. A guard is one of
//! `{"entity": "order-1", "expect": "any" | "absent" | "exists"}`, `{"entity": "order-1", "version": 3}` and
//! `{"no_match": [{"types": […], "tags": […]}], "after": 1000}`; a cursor is
//! `{"name": "worker", "position": 5, "expected": 4}`, where `expected` may be left out.
//!
//! Here is found what only JSON can get wrong; names, counts and positions are left to the engine, as everywhere.

use arrow_flight::{FlightDescriptor, flight_descriptor::DescriptorType};
use serde::Deserialize;
use serde_json::Value;

use super::super::convert;
use crate::types::{
    append::{Batch, CursorRecord, Expect, Guard, Query, QueryItem, Violations},
    id::{LogId, Position, Version},
    object::Object,
    text::Text,
};

/// The one table that can be appended to.
const TABLE: &str = "events";
/// Longest command: the most guards and cursors that a batch may have, with names as long as they may be.
const COMMAND_BYTES_MAX: usize = 4 << 20;

const PATH: &str = "descriptor.path";
const COMMAND: &str = "descriptor.cmd";
const GUARD_FORMS: &str = "is none of the forms that a guard has: \
    {\"entity\": \"…\", \"expect\": \"any\" | \"absent\" | \"exists\"}, {\"entity\": \"…\", \"version\": 3}, \
    {\"no_match\": [{\"types\": [\"…\"], \"tags\": [\"…\"]}], \"after\": 1000}";

/// A descriptor, taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Command {
    guards: Vec<Guard>,
    cursors: Vec<CursorRecord>,
    log_id: Option<LogId>,
}

impl Command {
    /// Of the first message of a stream.
    pub(super) fn read(descriptor: Option<&FlightDescriptor>) -> Result<Self, Violations> {
        let missing =
            "is missing: the first message names the table, by the path [\"events\"] or a command";
        let Some(descriptor) = descriptor else {
            return Err(Violations::one("descriptor", missing));
        };
        match DescriptorType::try_from(descriptor.r#type) {
            Ok(DescriptorType::Path) if descriptor.path == [TABLE] => Ok(Self::default()),
            Ok(DescriptorType::Path) => Err(Violations::one(PATH, not_the_table(&descriptor.path))),
            Ok(DescriptorType::Cmd) => Self::parse(&descriptor.cmd),
            Ok(DescriptorType::Unknown) | Err(_) => Err(Violations::one("descriptor", missing)),
        }
    }

    fn parse(text: &[u8]) -> Result<Self, Violations> {
        if text.len() > COMMAND_BYTES_MAX {
            let told = format!("has {} bytes, the most is {COMMAND_BYTES_MAX}", text.len());
            return Err(Violations::one(COMMAND, told));
        }
        let Object(command): Object<CommandJson> = serde_json::from_slice(text)
            .map_err(|e| Violations::one(COMMAND, format!("is not understood: {e}")))?;
        if !command.table.as_ref().is_none_or(is_the_table) {
            let table = command.table.unwrap_or_default();
            return Err(Violations::one("table", not_the_table(&table)));
        }
        let guards = command.guards.into_iter().enumerate();
        let guards = guards.map(|(i, Object(guard))| {
            guard
                .read()
                .ok_or_else(|| Violations::one(format!("guards[{i}]"), GUARD_FORMS))
        });
        let cursors = command
            .cursors
            .into_iter()
            .map(|Object(cursor)| CursorRecord {
                name: cursor.name.into(),
                position: cursor.position,
                expected: cursor.expected,
            });
        let log_id = command.log_id.map(|text| {
            text.parse()
                .map_err(|_| Violations::one("log_id", convert::NO_LOG_ID))
        });
        Ok(Self {
            guards: guards.collect::<Result<_, _>>()?,
            cursors: cursors.collect(),
            log_id: log_id.transpose()?,
        })
    }

    /// Something must hold for the rows, or stands or falls with them: so all of them are one batch.
    pub(super) fn is_conditional(&self) -> bool {
        !(self.guards.is_empty() && self.cursors.is_empty())
    }

    /// For the next batch of those that have only a log in common.
    pub(super) fn batch(&self) -> Batch {
        Batch {
            log_id: self.log_id,
            ..Batch::default()
        }
    }

    /// For the one batch that it is all about.
    pub(super) fn take_batch(&mut self) -> Batch {
        Batch {
            guards: std::mem::take(&mut self.guards),
            cursors: std::mem::take(&mut self.cursors),
            ..self.batch()
        }
    }
}

fn is_the_table(table: &Value) -> bool {
    match table {
        Value::String(name) => name == TABLE,
        Value::Array(path) => matches!(&path[..], [Value::String(name)] if name == TABLE),
        _ => false,
    }
}

fn not_the_table(named: impl serde::Serialize) -> String {
    let named = serde_json::to_string(&named).unwrap_or_default();
    format!("is {named}, and rows are appended to \"{TABLE}\" only, of whatever type they are")
}

#[derive(Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "an object like {\"table\": \"events\", \"guards\": [], \"cursors\": []}"
)]
struct CommandJson {
    table: Option<Value>,
    #[serde(default)]
    guards: Vec<Object<GuardJson>>,
    #[serde(default)]
    cursors: Vec<Object<CursorJson>>,
    log_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "an object like {\"entity\": \"order-1\", \"version\": 3}"
)]
struct GuardJson {
    entity: Option<String>,
    expect: Option<ExpectJson>,
    version: Option<Version>,
    no_match: Option<Vec<Object<ItemJson>>>,
    after: Option<Position>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum ExpectJson {
    Any,
    Absent,
    Exists,
}

#[derive(Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "an object like {\"types\": [\"order.paid\"], \"tags\": [\"vip\"]}"
)]
struct ItemJson {
    #[serde(default)]
    types: Vec<String>,
    #[serde(default)]
    tags: Vec<String>,
}

#[derive(Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "an object like {\"name\": \"worker\", \"position\": 5}"
)]
struct CursorJson {
    name: String,
    position: Position,
    expected: Option<Position>,
}

impl GuardJson {
    fn read(self) -> Option<Guard> {
        match self {
            Self {
                entity: Some(entity),
                expect,
                version,
                no_match: None,
                after: None,
            } => Some(Guard::Entity {
                entity_id: entity.into(),
                expect: match (expect, version) {
                    (Some(ExpectJson::Any), None) => Expect::Any,
                    (Some(ExpectJson::Absent), None) => Expect::Absent,
                    (Some(ExpectJson::Exists), None) => Expect::Exists,
                    (None, Some(version)) => Expect::Version(version),
                    _ => return None,
                },
            }),
            Self {
                entity: None,
                expect: None,
                version: None,
                no_match: Some(items),
                after,
            } => Some(Guard::NoMatch {
                query: Query {
                    items: items.into_iter().map(|Object(item)| item.read()).collect(),
                },
                after: after.unwrap_or(0),
            }),
            _ => None,
        }
    }
}

impl ItemJson {
    fn read(self) -> QueryItem {
        let texts = |texts: Vec<String>| texts.into_iter().map(Text::from).collect();
        QueryItem {
            event_types: texts(self.types),
            tags: texts(self.tags),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(text: &str) -> Result<Command, Violations> {
        Command::read(Some(&FlightDescriptor::new_cmd(text.to_owned())))
    }

    #[test]
    fn a_command_carries_guards_of_every_form() {
        let text = r#"{"table": ["events"], "guards": [
            {"entity": "a", "expect": "any"}, {"entity": "a", "expect": "absent"},
            {"entity": "a", "expect": "exists"}, {"entity": "a", "version": 3},
            {"no_match": [{"types": ["x"]}, {"tags": ["t", "u"]}], "after": 7}, {"no_match": []}],
            "cursors": [{"name": "c", "position": 5, "expected": 4}, {"name": "d", "position": 6}],
            "log_id": "01890a5d-ac96-474b-bcce-b302099a8057"}"#;
        let mut command = command(text).unwrap();
        assert!(command.is_conditional());
        assert!(command.batch().guards.is_empty());
        let batch = command.take_batch();
        let expects = batch.guards.iter().filter_map(|guard| match guard {
            Guard::Entity { expect, .. } => Some(*expect),
            Guard::NoMatch { .. } => None,
        });
        assert_eq!(
            expects.collect::<Vec<_>>(),
            [
                Expect::Any,
                Expect::Absent,
                Expect::Exists,
                Expect::Version(3)
            ]
        );
        let item = |types: &[&str], tags: &[&str]| QueryItem {
            event_types: types.iter().map(|name| Text::from(*name)).collect(),
            tags: tags.iter().map(|name| Text::from(*name)).collect(),
        };
        assert_eq!(
            batch.guards[4],
            Guard::NoMatch {
                query: Query {
                    items: vec![item(&["x"], &[]), item(&[], &["t", "u"])],
                },
                after: 7,
            }
        );
        assert_eq!(batch.cursors[0].expected, Some(4));
        assert_eq!(batch.cursors[1].expected, None);
        assert!(batch.log_id.is_some());
    }

    #[test]
    fn what_is_not_understood_is_told_with_what_would_be() {
        for (text, field, told) in [
            ("", COMMAND, "EOF"),
            ("\u{1}", COMMAND, "is not understood"),
            (
                r#"{"guard": []}"#,
                COMMAND,
                "`table`, `guards`, `cursors`, `log_id`",
            ),
            (
                r#"{"guards": [{"entitty": "a"}]}"#,
                COMMAND,
                "`entity`, `expect`, `version`, `no_match`, `after`",
            ),
            (
                r#"{"cursors": [{"name": "a", "position": 1, "x": 1}]}"#,
                COMMAND,
                "`name`, `position`, `expected`",
            ),
            (
                r#"{"guards": [{"no_match": [{"type": "a"}]}]}"#,
                COMMAND,
                "`types` or `tags`",
            ),
            (
                r#"{"guards": [{"entity": "a", "expect": "none"}]}"#,
                COMMAND,
                "`any`, `absent`, `exists`",
            ),
            (
                r#"{"guards": [{"entity": "a", "version": -1}]}"#,
                COMMAND,
                "`-1`",
            ),
            (r#"{"guards": [{"entity": "a"}]}"#, "guards[0]", "version"),
            (
                r#"{"guards": [{"no_match": []}, {"entity": "a", "version": 1, "expect": "any"}]}"#,
                "guards[1]",
                "version",
            ),
            (
                r#"{"guards": [{"entity": "a", "no_match": []}]}"#,
                "guards[0]",
                "no_match",
            ),
            (r#"{"guards": [{"after": 1}]}"#, "guards[0]", "after"),
            (r#"{"table": "entities"}"#, "table", "\"events\""),
            (r#"{"table": ["types", "x"]}"#, "table", "[\"types\",\"x\"]"),
            (r#"{"log_id": "x"}"#, "log_id", "as the server returned it"),
            (r#"{"log_id": "", "log_id": ""}"#, COMMAND, "duplicate"),
            // Fields in their order are none: what they mean is for names to say.
            (
                r#"["events"]"#,
                COMMAND,
                "expected an object like {\"table\": ",
            ),
            (
                r#"{"guards": [["a", "any"]]}"#,
                COMMAND,
                "expected an object like {\"entity\": ",
            ),
            (
                r#"{"guards": [{"no_match": [[["a"]]]}]}"#,
                COMMAND,
                "expected an object like {\"types\": ",
            ),
            (
                r#"{"cursors": [["a", 1]]}"#,
                COMMAND,
                "expected an object like {\"name\": ",
            ),
        ] {
            let violations = command(text).unwrap_err().0;
            assert_eq!(violations[0].field, field, "{text}");
            let description = &violations[0].description;
            assert!(description.contains(told), "{text}: {description}");
        }
        let long = format!("{{}}{}", " ".repeat(COMMAND_BYTES_MAX));
        assert!(command(&long).is_err());
        assert_eq!(command("{}").unwrap(), Command::default());
    }

    #[test]
    fn a_path_names_the_events() {
        let path = |path: &[&str]| {
            let path = path.iter().map(|name| (*name).to_owned()).collect();
            Command::read(Some(&FlightDescriptor::new_path(path)))
        };
        assert_eq!(path(&["events"]).unwrap(), Command::default());
        for wrong in [&[][..], &["entities"], &["types", "x"], &["events", "x"]] {
            assert_eq!(path(wrong).unwrap_err().0[0].field, PATH);
        }
        assert_eq!(Command::read(None).unwrap_err().0[0].field, "descriptor");
        let unknown = FlightDescriptor::default();
        assert!(Command::read(Some(&unknown)).is_err());
    }
}
