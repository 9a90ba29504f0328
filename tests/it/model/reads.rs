//! What the model says to reads: scans of its list of events.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};
use uuid::Uuid;

use annals::{
    AsOf, Direction, Filter, ListRequest, NameSummary, Position, ReadError, ReadRequest, Start,
    SubscribeRequest, Text, Timestamp, Version, Violations,
    types::slot::{Partitions, slot},
};

use super::plain::{Plain, PlainEvent, check_query, invalid, matches, name};

/// An entity's state, as JSON rather than as its text.
#[derive(Debug, PartialEq)]
pub(super) struct PlainState {
    pub(super) version: Version,
    pub(super) state: Value,
    pub(super) position: Position,
    pub(super) head: Position,
    pub(super) recorded_at: Option<Timestamp>,
}

fn beyond<T>(field: &'static str, position: Position, head: Position) -> Result<T, ReadError> {
    Err(ReadError::BeyondHead {
        field,
        position,
        head,
    })
}

impl Plain {
    pub(super) fn read(&self, request: &ReadRequest) -> Result<Vec<PlainEvent>, ReadError> {
        self.check_log(request.log_id)?;
        check_filter(&request.filter)?;
        let as_of = self.as_of(request.as_of, &request.filter.entity_ids)?;
        if request.after > self.head() {
            return beyond("filter.after", request.after, self.head());
        }
        let through = request.through.map_or(as_of, |through| through.min(as_of));
        let mut events = self.filtered(&request.filter, request.after);
        events.retain(|event| event.position <= through);
        if request.direction == Direction::Backward {
            events.reverse();
        }
        if let Some(limit) = request.limit {
            events.truncate(usize::try_from(limit).unwrap());
        }
        Ok(events)
    }

    /// The position that a subscription starts behind.
    pub(super) fn subscribe(&self, request: &SubscribeRequest) -> Result<Position, ReadError> {
        self.check_log(request.log_id)?;
        check_filter(&request.filter)?;
        match request.start {
            Start::Head => Ok(self.head()),
            Start::After(position) if position > self.head() => {
                beyond("after", position, self.head())
            }
            Start::After(position) => Ok(position),
        }
    }

    /// What a filter lets through behind a position.
    pub(super) fn filtered(&self, filter: &Filter, after: Position) -> Vec<PlainEvent> {
        let events = self.events.iter();
        let wanted = events.filter(|event| event.position > after && lets_through(filter, event));
        wanted.cloned().collect()
    }

    fn check_log(&self, log_id: Option<annals::LogId>) -> Result<(), ReadError> {
        match log_id {
            Some(expected) if expected != self.log_id => Err(ReadError::OtherLog {
                expected,
                found: self.log_id,
            }),
            _ => Ok(()),
        }
    }

    fn as_of(&self, as_of: Option<AsOf>, entity_ids: &[Text]) -> Result<Position, ReadError> {
        match as_of {
            None => Ok(self.head()),
            Some(AsOf::Position(position)) if position > self.head() => {
                beyond("as_of.position", position, self.head())
            }
            Some(AsOf::Position(position)) => Ok(position),
            Some(AsOf::RecordedAt(time)) => {
                let before = self.events.iter().filter(|event| event.recorded_at <= time);
                Ok(before.map(|event| event.position).max().unwrap_or(0))
            }
            Some(AsOf::Version(version)) => {
                let [entity_id] = entity_ids else {
                    return Err(ReadError::Invalid(Violations::one("as_of.version", "")));
                };
                if version == 0 {
                    return Ok(0);
                }
                let mut events = self.of_entity(entity_id);
                match events.find(|event| event.version == version) {
                    Some(event) => Ok(event.position),
                    None => Err(ReadError::BeyondVersion {
                        entity_id: entity_id.clone(),
                        version,
                        last: self.version(entity_id),
                    }),
                }
            }
        }
    }

    pub(super) fn event(&self, position: Position) -> Result<PlainEvent, ReadError> {
        if position > self.head() {
            return beyond("position", position, self.head());
        }
        let event = self.at(position);
        event
            .cloned()
            .ok_or_else(|| ReadError::NoSuchEvent(format!("at position {position}")))
    }

    pub(super) fn event_by_id(&self, id: Uuid) -> Result<PlainEvent, ReadError> {
        let event = self.with_id(id).cloned();
        event.ok_or_else(|| ReadError::NoSuchEvent(format!("with id {id}")))
    }

    pub(super) fn state(
        &self,
        entity_id: &Text,
        as_of: Option<AsOf>,
    ) -> Result<PlainState, ReadError> {
        check_name(entity_id, "entity_id")?;
        if self.version(entity_id) == 0 {
            return Err(ReadError::NoSuchEntity(entity_id.clone()));
        }
        let head = self.as_of(as_of, std::slice::from_ref(entity_id))?;
        let mut merged = PlainState {
            version: 0,
            state: Value::Null,
            position: 0,
            head,
            recorded_at: None,
        };
        for event in self.of_entity(entity_id).filter(|e| e.position <= head) {
            let payload = serde_json::from_slice(event.new.payload.as_bytes()).unwrap();
            merged.state = merge_patch(merged.state, payload);
            merged.version = event.version;
            merged.position = event.position;
            merged.recorded_at = Some(event.recorded_at);
        }
        Ok(merged)
    }

    /// All names that a listing has, on however many pages, and the position it is made at.
    pub(super) fn list(
        &self,
        request: &ListRequest,
        of: impl Fn(&PlainEvent) -> &Text,
    ) -> Result<(Vec<NameSummary>, Position), ReadError> {
        let head = request.head.unwrap_or(self.head());
        if head > self.head() {
            return beyond("page_token", head, self.head());
        }
        let mut names = BTreeMap::<Text, NameSummary>::new();
        for event in self.events.iter().filter(|event| event.position <= head) {
            let summary = names
                .entry(of(event).clone())
                .or_insert_with(|| NameSummary {
                    name: of(event).clone(),
                    events: 0,
                    first_position: event.position,
                    last_position: 0,
                });
            summary.events += 1;
            summary.last_position = event.position;
        }
        let prefix = request.prefix.as_bytes();
        let names = names.into_values();
        let names = names.filter(|summary| summary.name.as_bytes().starts_with(prefix));
        Ok((names.collect(), head))
    }

    pub(super) fn cursor(&self, name: &Text) -> Result<Position, ReadError> {
        check_name(name, "name")?;
        Ok(self.cursors.get(name).copied().unwrap_or(0))
    }

    pub(super) fn count_of(&self, of: impl Fn(&PlainEvent) -> &Text) -> u64 {
        self.events.iter().map(of).collect::<BTreeSet<_>>().len() as u64
    }

    pub(super) fn events_per_partition(&self) -> Vec<u64> {
        let mut counts = vec![0; Partitions::default().count() as usize];
        for event in &self.events {
            counts[partition(event) as usize] += 1;
        }
        counts
    }
}

fn partition(event: &PlainEvent) -> u32 {
    Partitions::default().of_slot(slot(event.new.entity_id.as_bytes()))
}

fn lets_through(filter: &Filter, event: &PlainEvent) -> bool {
    let new = &event.new;
    let any = |names: &[Text], name: &Text| names.is_empty() || names.contains(name);
    let prefix = filter.event_type_prefix.as_bytes();
    let occurred = &filter.occurred;
    any(&filter.entity_ids, &new.entity_id)
        && any(&filter.event_types, &new.event_type)
        && new.event_type.as_bytes().starts_with(prefix)
        && filter.tags.iter().all(|tag| new.tags.contains(tag))
        && (filter.partitions.is_empty() || filter.partitions.contains(&partition(event)))
        && (filter.query.items.is_empty() || matches(&filter.query, new))
        && is_in(
            filter.recorded.since,
            filter.recorded.until,
            event.recorded_at,
        )
        && match new.occurred_at {
            Some(time) => is_in(occurred.since, occurred.until, time),
            None => occurred.since.is_none() && occurred.until.is_none(),
        }
}

fn is_in(since: Option<Timestamp>, until: Option<Timestamp>, time: Timestamp) -> bool {
    since.is_none_or(|since| since <= time) && until.is_none_or(|until| time < until)
}

fn check_name(text: &Text, field: &str) -> Result<(), ReadError> {
    let mut fields = Vec::new();
    name(&mut fields, text, field.to_owned());
    invalid(fields).map_err(ReadError::Invalid)
}

fn check_filter(filter: &Filter) -> Result<(), ReadError> {
    let mut fields = Vec::new();
    for (field, names) in [
        ("entity_ids", &filter.entity_ids),
        ("event_types", &filter.event_types),
        ("tags", &filter.tags),
    ] {
        for (i, text) in names.iter().enumerate() {
            name(&mut fields, text, format!("filter.{field}[{i}]"));
        }
    }
    if filter.event_type_prefix.as_bytes().starts_with(b"$") {
        fields.push("filter.event_type_prefix".to_owned());
    }
    check_query(&mut fields, &filter.query, "filter.query");
    if filter.partitions.iter().any(|partition| *partition >= 32) {
        fields.push("filter.partitions".to_owned());
    }
    invalid(fields).map_err(ReadError::Invalid)
}

/// RFC 7396, section 2, word for word.
fn merge_patch(target: Value, patch: Value) -> Value {
    let Value::Object(patch) = patch else {
        return patch;
    };
    let mut target = match target {
        Value::Object(members) => members,
        _ => Map::new(),
    };
    for (name, value) in patch {
        if value.is_null() {
            target.remove(&name);
        } else {
            let old = target.remove(&name).unwrap_or(Value::Null);
            target.insert(name, merge_patch(old, value));
        }
    }
    Value::Object(target)
}
