//! The model: a list of events, where cursors stand, and the rules for appends. No indexes, no files.

use std::collections::BTreeMap;

use uuid::Uuid;

use annals::{
    AppendError, Appended, Batch, Event, Expect, Guard, GuardFailure, Limits, LogId, NewEvent,
    Position, Query, QueryItem, Text, Timestamp, Version, Violation, Violations,
};

/// An event as the model keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PlainEvent {
    pub(super) position: Position,
    pub(super) version: Version,
    pub(super) recorded_at: Timestamp,
    pub(super) id: Uuid,
    pub(super) new: NewEvent,
}

impl From<&Event> for PlainEvent {
    fn from(event: &Event) -> Self {
        Self {
            position: event.position(),
            version: event.version(),
            recorded_at: event.recorded_at(),
            id: event.event_id(),
            new: NewEvent {
                event_id: Some(event.event_id()),
                entity_id: event.entity_id().into(),
                event_type: event.event_type().into(),
                payload: event.payload().into(),
                metadata: event.metadata().map(Text::from),
                tags: event.tags().map(Text::from).collect(),
                occurred_at: event.occurred_at(),
            },
        }
    }
}

/// See the module.
pub(super) struct Plain {
    pub(super) log_id: LogId,
    pub(super) limits: Limits,
    /// The event at position n stands at n - 1.
    pub(super) events: Vec<PlainEvent>,
    pub(super) cursors: BTreeMap<Text, Position>,
    /// When the last group was recorded, µs.
    pub(super) last_micros: i64,
}

/// What becomes of a batch that is not refused.
pub(super) enum Verdict {
    /// It stands in the log already.
    Repeat(Appended),
    /// It is new.
    New,
}

impl Plain {
    pub(super) fn head(&self) -> Position {
        self.events.len() as Position
    }

    pub(super) fn version(&self, entity_id: &Text) -> Version {
        self.of_entity(entity_id).count() as Version
    }

    pub(super) fn of_entity(&self, entity_id: &Text) -> impl Iterator<Item = &PlainEvent> {
        self.events
            .iter()
            .filter(move |event| event.new.entity_id == *entity_id)
    }

    pub(super) fn at(&self, position: Position) -> Option<&PlainEvent> {
        self.events.iter().find(|event| event.position == position)
    }

    pub(super) fn with_id(&self, id: Uuid) -> Option<&PlainEvent> {
        self.events.iter().find(|event| event.id == id)
    }

    /// What the engine has to say to a batch at a time of its clock.
    pub(super) fn judge(&self, batch: &Batch, now_micros: i64) -> Result<Verdict, AppendError> {
        let behind = self.last_micros - now_micros;
        if behind > 5 * 60 * 1_000_000 {
            return Err(AppendError::ClockBehind {
                behind_s: behind.unsigned_abs() / 1_000_000,
            });
        }
        if let Some(expected) = batch.log_id.filter(|id| *id != self.log_id) {
            return Err(AppendError::OtherLog {
                expected,
                found: self.log_id,
            });
        }
        self.check(batch)?;
        if let Some(repeat) = self.repeat(batch)? {
            return Ok(Verdict::Repeat(repeat));
        }
        for (index, guard) in batch.guards.iter().enumerate() {
            self.judge_guard(index, guard)?;
        }
        for (index, cursor) in batch.cursors.iter().enumerate() {
            if cursor.position > self.head() {
                return Err(AppendError::BeyondHead {
                    field: format!("cursors[{index}].position"),
                    position: cursor.position,
                    head: self.head(),
                });
            }
            let found = self.cursors.get(&cursor.name).copied().unwrap_or(0);
            if let Some(expected) = cursor.expected.filter(|expected| *expected != found) {
                return Err(AppendError::Guard(GuardFailure::Cursor {
                    index,
                    name: cursor.name.clone(),
                    expected,
                    found,
                }));
            }
        }
        Ok(Verdict::New)
    }

    fn judge_guard(&self, index: usize, guard: &Guard) -> Result<(), AppendError> {
        match guard {
            Guard::Entity { entity_id, expect } => {
                let found = self.version(entity_id);
                let holds = match expect {
                    Expect::Any => true,
                    Expect::Absent => found == 0,
                    Expect::Exists => found != 0,
                    Expect::Version(version) => found == *version,
                };
                if holds {
                    return Ok(());
                }
                Err(AppendError::Guard(GuardFailure::Entity {
                    index,
                    entity_id: entity_id.clone(),
                    expected: *expect,
                    found,
                }))
            }
            Guard::NoMatch { query, after } => {
                if *after > self.head() {
                    return Err(AppendError::BeyondHead {
                        field: format!("guards[{index}].no_match.after"),
                        position: *after,
                        head: self.head(),
                    });
                }
                let found = self
                    .events
                    .iter()
                    .find(|event| event.position > *after && matches(query, &event.new));
                match found {
                    None => Ok(()),
                    Some(event) => Err(AppendError::Guard(GuardFailure::NoMatch {
                        index,
                        found: event.position,
                    })),
                }
            }
        }
    }

    /// The original of a batch that repeats one; an error if it shares ids with the log, but is no repeat.
    fn repeat(&self, batch: &Batch) -> Result<Option<Appended>, AppendError> {
        let found = batch.events.iter().enumerate().find_map(|(index, event)| {
            let stored = self.with_id(event.event_id?)?;
            Some((index, stored))
        });
        let Some((index, stored)) = found else {
            return Ok(None);
        };
        let (first, first_id) = (stored.position, stored.id);
        let reused = |id, position| Err(AppendError::IdReused { id, position });
        if index != 0 {
            return reused(first_id, first);
        }
        let mut versions = Vec::new();
        let mut last = stored;
        for (position, event) in (first..).zip(&batch.events) {
            match self.at(position) {
                Some(stored) if stored.new == *event => {
                    versions.push(stored.version);
                    last = stored;
                }
                // The id that is named stands at the position that is named.
                Some(stored) if Some(stored.id) == event.event_id => {
                    return reused(stored.id, position);
                }
                _ => return reused(first_id, first),
            }
        }
        Ok(Some(Appended {
            first_position: first,
            last_position: last.position,
            recorded_at: last.recorded_at,
            duplicate: true,
            versions,
            event_ids: Vec::new(),
            log_id: self.log_id,
        }))
    }

    /// Appends a batch that was judged to be new; `ids` are those that its events have in the end.
    pub(super) fn append(&mut self, batch: &Batch, ids: &[Uuid], now_micros: i64) -> Appended {
        self.last_micros = now_micros.max(self.last_micros + 1);
        let recorded_at = Timestamp::from_micros(self.last_micros).expect("not far from now");
        let before = self.head();
        let mut versions = Vec::new();
        for (event, id) in batch.events.iter().zip(ids) {
            let version = self.version(&event.entity_id) + 1;
            versions.push(version);
            self.events.push(PlainEvent {
                position: self.head() + 1,
                version,
                recorded_at,
                id: *id,
                new: NewEvent {
                    event_id: Some(*id),
                    ..event.clone()
                },
            });
        }
        for cursor in &batch.cursors {
            self.cursors.insert(cursor.name.clone(), cursor.position);
        }
        let made = batch.events.iter().any(|event| event.event_id.is_none());
        let some = !batch.events.is_empty();
        Appended {
            first_position: if some { before + 1 } else { 0 },
            last_position: if some { self.head() } else { 0 },
            recorded_at,
            duplicate: false,
            versions,
            event_ids: if made { ids.to_vec() } else { Vec::new() },
            log_id: self.log_id,
        }
    }

    /// What is wrong with a batch in itself. Violations have no description here.
    fn check(&self, batch: &Batch) -> Result<(), AppendError> {
        let limits = &self.limits;
        if batch.events.is_empty() && batch.cursors.is_empty() {
            return Err(AppendError::Invalid(Violations::one("events", "")));
        }
        let limit = |field: &str, what, size, limit| {
            if size > limit {
                let field = field.to_owned();
                Err(AppendError::TooLarge {
                    field,
                    what,
                    size,
                    limit,
                })
            } else {
                Ok(())
            }
        };
        let what = "the number of events of the batch";
        limit("events", what, batch.events.len(), limits.batch_events_max)?;
        let mut fields = Vec::new();
        for (i, guard) in batch.guards.iter().enumerate() {
            match guard {
                Guard::Entity { entity_id, .. } => {
                    name(
                        &mut fields,
                        entity_id,
                        format!("guards[{i}].entity.entity_id"),
                    );
                }
                Guard::NoMatch { query, .. } => {
                    let field = format!("guards[{i}].no_match.query");
                    if query.items.is_empty() {
                        fields.push(format!("{field}.items"));
                    }
                    check_query(&mut fields, query, &field);
                }
            }
        }
        for (i, cursor) in batch.cursors.iter().enumerate() {
            let field = format!("cursors[{i}].name");
            name(&mut fields, &cursor.name, field.clone());
            if batch.cursors[..i].iter().any(|c| c.name == cursor.name) {
                fields.push(field);
            }
        }
        let bytes = batch.events.iter().map(stored_bytes).sum();
        limit(
            "events",
            "the size of the batch in bytes",
            bytes,
            limits.batch_bytes_max,
        )?;
        for (i, event) in batch.events.iter().enumerate() {
            let what = "the size of the event in bytes";
            let field = format!("events[{i}]");
            limit(&field, what, stored_bytes(event), limits.event_bytes_max)?;
            name(
                &mut fields,
                &event.entity_id,
                format!("events[{i}].entity_id"),
            );
            name(
                &mut fields,
                &event.event_type,
                format!("events[{i}].event_type"),
            );
            if is_one_of(super::names::BAD_JSON, &event.payload) {
                fields.push(format!("events[{i}].payload"));
            }
            let metadata = event.metadata.as_ref();
            if metadata.is_some_and(|text| is_one_of(super::names::BAD_METADATA, text)) {
                fields.push(format!("events[{i}].metadata"));
            }
            for (t, tag) in event.tags.iter().enumerate() {
                name(&mut fields, tag, format!("events[{i}].tags[{t}]"));
            }
        }
        invalid(fields).map_err(AppendError::Invalid)?;
        let mut ids: Vec<Uuid> = Vec::new();
        for id in batch.events.iter().filter_map(|event| event.event_id) {
            if ids.contains(&id) {
                return Err(AppendError::IdTwice(id));
            }
            ids.push(id);
        }
        Ok(())
    }
}

fn is_one_of(texts: &[&str], text: &Text) -> bool {
    texts.iter().any(|bad| bad.as_bytes() == text.as_bytes())
}

/// Bytes that the log stores an event in: see `storage/log/row.rs`.
fn stored_bytes(event: &NewEvent) -> usize {
    let texts = [&event.entity_id, &event.event_type, &event.payload];
    let texts = texts.into_iter().chain(&event.metadata);
    let texts: usize = texts.map(|text| text.as_bytes().len()).sum();
    let tags = event.tags.iter().map(|tag| 2 + tag.as_bytes().len());
    56 + texts + tags.sum::<usize>()
}

/// Whether an event matches one of the items.
pub(super) fn matches(query: &Query, event: &NewEvent) -> bool {
    query.items.iter().any(|item| matches_item(item, event))
}

fn matches_item(item: &QueryItem, event: &NewEvent) -> bool {
    (item.event_types.is_empty() || item.event_types.contains(&event.event_type))
        && item.tags.iter().all(|tag| event.tags.contains(tag))
}

pub(super) fn check_query(fields: &mut Vec<String>, query: &Query, field: &str) {
    for (n, item) in query.items.iter().enumerate() {
        let field = format!("{field}.items[{n}]");
        if item.event_types.is_empty() && item.tags.is_empty() {
            fields.push(field.clone());
        }
        for (i, event_type) in item.event_types.iter().enumerate() {
            name(fields, event_type, format!("{field}.event_types[{i}]"));
        }
        for (i, tag) in item.tags.iter().enumerate() {
            name(fields, tag, format!("{field}.tags[{i}]"));
        }
    }
}

/// Notes the field of a name that is against the rules.
pub(super) fn name(fields: &mut Vec<String>, name: &Text, field: String) {
    if super::names::bad_names().contains(name) {
        fields.push(field);
    }
}

pub(super) fn invalid(fields: Vec<String>) -> Result<(), Violations> {
    if fields.is_empty() {
        return Ok(());
    }
    let violation = |field| Violation {
        field,
        description: String::new(),
    };
    // The engine stops counting there.
    Err(Violations(
        fields.into_iter().take(20).map(violation).collect(),
    ))
}
