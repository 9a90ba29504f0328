//! The only door for writes: checks a batch against limits and rules, and writes its rows, before anybody waits for it.
//!
//! Everything here happens on the caller's thread and off the commit path. Not here: guards and repeats, which need the
//! log.

use std::{collections::HashSet, str};

use uuid::Uuid;

use crate::{
    storage::log::{
        frame::FrameDraft,
        row::{ROW_HEADER_BYTES, RowParts},
    },
    types::{
        append::{AppendError, Batch, CursorRecord, Guard, Query, Violation, Violations},
        event::NewEvent,
        hash::KeyHasher,
        limits::{CURSORS_MAX, GUARDS_MAX, Limits, NAME_BYTES_MAX, TAGS_MAX},
        slot::slot,
        text::Text,
        time::Timestamp,
    },
};

use super::{
    json,
    log::prepared::{Prepared, PreparedEvent},
};

/// Violations after which a request is not looked at further.
const VIOLATIONS_MAX: usize = 20;

/// Checks a batch and writes its rows.
pub(crate) fn prepare(
    batch: Batch,
    limits: &Limits,
    hasher: KeyHasher,
) -> Result<Prepared, AppendError> {
    if batch.events.is_empty() && batch.cursors.is_empty() {
        let what = "a batch needs an event or a cursor record";
        return Err(AppendError::Invalid(Violations::one(Batch::EVENTS, what)));
    }
    check_count(batch.events.len(), limits)?;
    let mut violations = Violated::default();
    check_guards(&batch.guards, &mut violations);
    check_cursors(&batch.cursors, &mut violations);

    let bytes: usize = batch.events.iter().map(row_bytes).sum();
    limit(
        || Batch::EVENTS.to_owned(),
        "the size of the batch in bytes",
        bytes,
        limits.batch_bytes_max,
    )?;
    let mut rows = FrameDraft::buffer(bytes + 64 * batch.cursors.len());
    let frame_header = rows.len();
    let mut events = Vec::with_capacity(batch.events.len());
    for (i, event) in batch.events.into_iter().enumerate() {
        limit(
            || format!("events[{i}]"),
            "the size of the event in bytes",
            row_bytes(&event),
            limits.event_bytes_max,
        )?;
        check_event(i, &event, &mut violations);
        let row_start = (rows.len() - frame_header) as u32;
        let id = event.event_id.unwrap_or_else(Uuid::now_v7);
        RowParts {
            event_id: id,
            entity_id: event.entity_id.as_bytes(),
            event_type: event.event_type.as_bytes(),
            payload: event.payload.as_bytes(),
            metadata: event.metadata.as_ref().map(Text::as_bytes),
            tags: event.tags.iter().map(Text::as_bytes),
            occurred_at: event.occurred_at,
        }
        .write(&mut rows);
        let key = |text: Text| (hasher.hash(text.as_bytes()), text);
        events.push(PreparedEvent {
            row_start,
            slot: slot(event.entity_id.as_bytes()) as u16,
            id,
            id_given: event.event_id.is_some(),
            id_hash: hasher.hash(id.as_bytes()),
            entity: key(event.entity_id),
            event_type: key(event.event_type),
            tags: event.tags.into_iter().map(key).collect(),
        });
    }
    violations.into_result()?;
    check_ids(&events)?;
    let ids_given = events.iter().all(|event| event.id_given);
    let made_ids = if ids_given {
        Vec::new()
    } else {
        events.iter().map(|e| e.id).collect()
    };
    Ok(Prepared {
        events,
        guards: batch.guards,
        cursors: batch.cursors,
        rows,
        made_ids,
        ids_given,
    })
}

/// Refuses more events than a batch may have: for those who would have to make the events first.
pub(crate) fn check_count(events: usize, limits: &Limits) -> Result<(), AppendError> {
    limit(
        || Batch::EVENTS.to_owned(),
        "the number of events of the batch",
        events,
        limits.batch_events_max,
    )
}

fn limit(
    field: impl FnOnce() -> String,
    what: &'static str,
    size: usize,
    limit: usize,
) -> Result<(), AppendError> {
    if size > limit {
        let field = field();
        Err(AppendError::TooLarge {
            field,
            what,
            size,
            limit,
        })
    } else {
        Ok(())
    }
}

/// Bytes that the log stores an event in.
pub(crate) fn row_bytes(event: &NewEvent) -> usize {
    ROW_HEADER_BYTES
        + event.entity_id.as_bytes().len()
        + event.event_type.as_bytes().len()
        + event.payload.as_bytes().len()
        + event.metadata.as_ref().map_or(0, |m| m.as_bytes().len())
        + event
            .tags
            .iter()
            .map(|tag| 2 + tag.as_bytes().len())
            .sum::<usize>()
}

fn check_ids(events: &[PreparedEvent]) -> Result<(), AppendError> {
    if events.len() < 2 {
        return Ok(());
    }
    let mut seen = HashSet::with_capacity(events.len());
    match events.iter().find(|event| !seen.insert(event.id)) {
        Some(event) => Err(AppendError::IdTwice(event.id)),
        None => Ok(()),
    }
}

fn check_event(i: usize, event: &NewEvent, violations: &mut Violated) {
    let field = |name: &str| format!("events[{i}].{name}");
    violations.name(&event.entity_id, || field("entity_id"));
    violations.name(&event.event_type, || field("event_type"));
    violations.json(&event.payload, false, || field("payload"));
    if let Some(metadata) = &event.metadata {
        violations.json(metadata, true, || field("metadata"));
    }
    if event.tags.len() > TAGS_MAX {
        violations.add(
            field("tags"),
            format!("an event has at most {TAGS_MAX} tags"),
        );
    }
    for (t, tag) in event.tags.iter().enumerate() {
        violations.name(tag, || field(&format!("tags[{t}]")));
    }
    let in_range = |time: Timestamp| (Timestamp::MIN..=Timestamp::MAX).contains(&time);
    if !event.occurred_at.is_none_or(in_range) {
        violations.add(
            field("occurred_at"),
            "it is not in the years 1 to 9999".to_owned(),
        );
    }
}

fn check_guards(guards: &[Guard], violations: &mut Violated) {
    if guards.len() > GUARDS_MAX {
        violations.add(
            "guards".to_owned(),
            format!("a batch has at most {GUARDS_MAX} guards"),
        );
    }
    for (i, guard) in guards.iter().enumerate() {
        match guard {
            Guard::Entity { entity_id, .. } => {
                violations.name(entity_id, || format!("guards[{i}].entity.entity_id"));
            }
            Guard::NoMatch { query, .. } => {
                let field = format!("guards[{i}].no_match.query");
                if query.items.is_empty() {
                    violations.add(format!("{field}.items"), "a query needs an item".to_owned());
                }
                check_query(query, &field, violations);
            }
        }
    }
}

/// Checks the items of a query, of which there may be none.
pub(crate) fn check_query(query: &Query, field: &str, violations: &mut Violated) {
    if query.items.len() > GUARDS_MAX {
        let what = format!("a query has at most {GUARDS_MAX} items");
        violations.add(format!("{field}.items"), what);
    }
    for (n, item) in query.items.iter().enumerate() {
        let item_field = || format!("{field}.items[{n}]");
        if item.event_types.is_empty() && item.tags.is_empty() {
            let what = "an item needs event types or tags";
            violations.add(item_field(), what.to_owned());
        }
        violations.names(&item.event_types, || {
            format!("{}.event_types", item_field())
        });
        violations.names(&item.tags, || format!("{}.tags", item_field()));
    }
}

fn check_cursors(cursors: &[CursorRecord], violations: &mut Violated) {
    if cursors.len() > CURSORS_MAX {
        let what = format!("a batch has at most {CURSORS_MAX} cursor records");
        violations.add("cursors".to_owned(), what);
    }
    let mut seen = HashSet::new();
    for (i, cursor) in cursors.iter().enumerate() {
        violations.name(&cursor.name, || format!("cursors[{i}].name"));
        if !seen.insert(&cursor.name) {
            let what = format!("the cursor `{}` is twice in the batch", cursor.name);
            violations.add(format!("cursors[{i}].name"), what);
        }
    }
}

/// Collects what is wrong with a request.
#[derive(Default)]
pub(crate) struct Violated(Vec<Violation>);

impl Violated {
    pub(crate) fn add(&mut self, field: String, description: String) {
        if self.0.len() < VIOLATIONS_MAX {
            self.0.push(Violation { field, description });
        }
    }

    /// Checks the name of an entity, a type, a tag or a cursor.
    pub(crate) fn name(&mut self, name: &Text, field: impl FnOnce() -> String) {
        if let Err(what) = check_name(name.as_bytes()) {
            self.add(field(), what);
        }
    }

    /// Checks names of a list.
    pub(crate) fn names(&mut self, names: &[Text], field: impl Fn() -> String) {
        if names.len() > GUARDS_MAX {
            self.add(field(), format!("at most {GUARDS_MAX} names are allowed"));
        }
        for (i, name) in names.iter().enumerate().take(GUARDS_MAX) {
            self.name(name, || format!("{}[{i}]", field()));
        }
    }

    fn json(&mut self, text: &Text, object: bool, field: impl FnOnce() -> String) {
        let checked = match str::from_utf8(text.as_bytes()) {
            Ok(text) => json::check(text, object).map_err(|e| format!("it is not valid JSON: {e}")),
            Err(_) => Err("it is not UTF-8".to_owned()),
        };
        if let Err(what) = checked {
            self.add(field(), what);
        }
    }

    pub(crate) fn into_violations(self) -> Result<(), Violations> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Violations(self.0))
        }
    }

    fn into_result(self) -> Result<(), AppendError> {
        self.into_violations().map_err(AppendError::Invalid)
    }
}

/// The rule for names of entities, types, tags and cursors.
/// Whether it may be the name of an entity, a type, a tag or a cursor.
#[cfg(feature = "sql")]
pub(crate) fn is_name(name: &Text) -> bool {
    check_name(name.as_bytes()).is_ok()
}

fn check_name(name: &[u8]) -> Result<(), String> {
    let Ok(text) = str::from_utf8(name) else {
        return Err("it is not UTF-8".to_owned());
    };
    if text.is_empty() {
        return Err("it is empty".to_owned());
    }
    if text.len() > NAME_BYTES_MAX {
        return Err(format!(
            "it has {} bytes, at most {NAME_BYTES_MAX} are allowed",
            text.len()
        ));
    }
    if text.starts_with('$') {
        return Err("names that start with `$` are reserved".to_owned());
    }
    // ASCII is checked bytewise: it is what most names are.
    let control = if text.is_ascii() {
        name.iter().any(u8::is_ascii_control)
    } else {
        text.chars().any(char::is_control)
    };
    if control {
        return Err("it has a control character".to_owned());
    }
    Ok(())
}
