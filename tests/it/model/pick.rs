//! From plans to requests: names, positions and times that fit what is in the log now.

use uuid::Uuid;

use annals::{
    AsOf, Batch, CursorRecord, Direction, Expect, Filter, Guard, ListRequest, LogId, NewEvent,
    Position, Query, QueryItem, ReadRequest, Text, TimeRange, Timestamp,
    types::slot::{Partitions, slot},
};

use super::{
    names::{
        BAD_JSON, BAD_METADATA, CURSORS, ENTITIES, METADATA, PAYLOADS, START_MICROS, TAGS, TYPES,
        bad_names, occurred,
    },
    plain::{Plain, PlainEvent},
    plan::{
        AsOfPlan, BatchPlan, Change, Conditions, EventPlan, FilterPlan, GuardPlan, ItemPlan,
        ListPlan, NamePlan, PartitionPlan, PositionPlan, ReadPlan, RepeatPlan, TimePlan,
    },
};

/// A log that no log is.
const OTHER_LOG: [u8; 16] = [9; 16];

/// Picks from what the model holds.
pub(super) struct Pick<'a> {
    pub(super) plain: &'a Plain,
    /// Ids that were given to events.
    pub(super) ids: &'a mut u128,
}

fn name(names: &[&str], plan: NamePlan) -> Text {
    if plan >= 200 {
        let bad = bad_names();
        bad[usize::from(plan - 200) % bad.len()].clone()
    } else {
        names[usize::from(plan) % names.len()].into()
    }
}

fn names(names: &[&str], plans: &[NamePlan]) -> Vec<Text> {
    plans.iter().map(|plan| name(names, *plan)).collect()
}

pub(super) fn entity(plan: NamePlan) -> Text {
    name(ENTITIES, plan)
}

pub(super) fn cursor(plan: NamePlan) -> Text {
    name(CURSORS, plan)
}

fn prefix(plan: u8) -> Text {
    let prefixes = ["order", "order.p", "o", "z", "zäh", "none", "注", "$"];
    prefixes[usize::from(plan) % prefixes.len()].into()
}

fn query(items: &[ItemPlan]) -> Query {
    let item = |item: &ItemPlan| QueryItem {
        event_types: names(TYPES, &item.types),
        tags: names(TAGS, &item.tags),
    };
    Query {
        items: items.iter().map(item).collect(),
    }
}

impl Pick<'_> {
    fn id(&mut self) -> Uuid {
        *self.ids += 1;
        Uuid::from_u128(*self.ids)
    }

    pub(super) fn position(&self, plan: PositionPlan) -> Position {
        let head = self.plain.head();
        match plan {
            PositionPlan::At(n) => Position::from(n) % (head + 1),
            PositionPlan::Head => head,
            PositionPlan::Beyond(n) => head + 1 + Position::from(n),
            PositionPlan::Max => Position::MAX,
        }
    }

    pub(super) fn event(&self, n: u16) -> Option<&PlainEvent> {
        let count = self.plain.events.len().max(1);
        self.plain.events.get(usize::from(n) % count)
    }

    fn time(&self, plan: TimePlan) -> Timestamp {
        match plan {
            TimePlan::OfEvent(n, off) => {
                let micros = self
                    .event(n)
                    .map_or(START_MICROS, |event| event.recorded_at.as_micros());
                Timestamp::from_micros(micros + i64::from(off)).expect("not far from now")
            }
            TimePlan::Min => Timestamp::MIN,
            TimePlan::Max => Timestamp::MAX,
        }
    }

    pub(super) fn as_of(&self, plan: AsOfPlan) -> AsOf {
        match plan {
            AsOfPlan::Position(plan) => AsOf::Position(self.position(plan)),
            AsOfPlan::Version(version) => AsOf::Version(version.into()),
            AsOfPlan::Time(plan) => AsOf::RecordedAt(self.time(plan)),
        }
    }

    fn log_id(&self, this: Option<bool>) -> Option<LogId> {
        this.map(|this| {
            if this {
                self.plain.log_id
            } else {
                LogId::from_bytes(OTHER_LOG)
            }
        })
    }

    pub(super) fn batch(&mut self, plan: &BatchPlan) -> Batch {
        let events = plan.events.iter().map(|event| self.new_event(event));
        let batch = Batch::new(events.collect::<Vec<_>>());
        Batch {
            log_id: self.log_id(plan.log_id),
            ..self.with_conditions(batch, &plan.conditions)
        }
    }

    fn with_conditions(&self, batch: Batch, plan: &Conditions) -> Batch {
        let cursor = |plan: &super::plan::CursorPlan| {
            let name = cursor(plan.name);
            let stands = self.plain.cursors.get(&name).copied().unwrap_or(0);
            CursorRecord {
                name,
                position: self.position(plan.position),
                expected: plan
                    .expected
                    .map(|off| stands.saturating_add_signed(off.into())),
            }
        };
        Batch {
            guards: plan.guards.iter().map(|guard| self.guard(guard)).collect(),
            cursors: plan.cursors.iter().map(cursor).collect(),
            ..batch
        }
    }

    fn new_event(&mut self, plan: &EventPlan) -> NewEvent {
        let payload: Text = match plan.payload {
            n @ 1_000.. => format!("\"{}\"", "p".repeat(n.into())).into(),
            n @ 200.. => BAD_JSON[usize::from(n - 200) % BAD_JSON.len()].into(),
            n => PAYLOADS[usize::from(n) % PAYLOADS.len()].into(),
        };
        let metadata = |n: u8| match n {
            200.. => BAD_METADATA[usize::from(n - 200) % BAD_METADATA.len()],
            n => METADATA[usize::from(n) % METADATA.len()],
        };
        NewEvent {
            event_id: plan.has_id.then(|| self.id()),
            entity_id: entity(plan.entity),
            event_type: name(TYPES, plan.event_type),
            payload,
            metadata: plan.metadata.map(metadata).map(Text::from),
            tags: names(TAGS, &plan.tags),
            occurred_at: plan.occurred.map(occurred),
        }
    }

    fn guard(&self, plan: &GuardPlan) -> Guard {
        let about = |plan: NamePlan, expect| Guard::Entity {
            entity_id: entity(plan),
            expect,
        };
        match plan {
            GuardPlan::Any(name) => about(*name, Expect::Any),
            GuardPlan::Absent(name) => about(*name, Expect::Absent),
            GuardPlan::Exists(name) => about(*name, Expect::Exists),
            GuardPlan::Version(name, off) => {
                let version = self.plain.version(&entity(*name));
                let version = version.saturating_add_signed((*off).into());
                about(*name, Expect::Version(version))
            }
            GuardPlan::NoMatch(items, after) => Guard::NoMatch {
                query: query(items),
                after: self.position(*after),
            },
        }
    }

    /// `None` if there is nothing to repeat.
    pub(super) fn repeat(&mut self, plan: &RepeatPlan) -> Option<Batch> {
        let first = self.event(plan.first)?.position;
        let stored = self.plain.events.iter().filter(|e| e.position >= first);
        let stored = stored.take(plan.count.into());
        let mut events: Vec<_> = stored.map(|event| event.new.clone()).collect();
        let count = events.len();
        let index = |n: u8| usize::from(n) % count;
        match plan.change {
            Change::Nothing => {}
            Change::Reversed => events.reverse(),
            Change::LeftOut(n) if events.len() > 1 => drop(events.remove(index(n))),
            Change::LeftOut(_) => {}
            Change::Twice(n) => events.push(events[index(n)].clone()),
            Change::NewBefore => {
                let new = NewEvent::new(ENTITIES[0], TYPES[0], "{}").with_id(self.id());
                events.insert(0, new);
            }
            Change::NewBehind => {
                let new = NewEvent::new(ENTITIES[0], TYPES[0], "{}").with_id(self.id());
                events.push(new);
            }
            Change::WithoutIdBehind => events.push(NewEvent::new(ENTITIES[0], TYPES[0], "{}")),
            Change::OtherPayload(n) => events[index(n)].payload = r#"{"other":1}"#.into(),
            Change::OtherMetadata(n) => events[index(n)].metadata = Some(r#"{"o":1}"#.into()),
            Change::OtherType(n) => events[index(n)].event_type = "other".into(),
            Change::OtherEntity(n) => events[index(n)].entity_id = "other".into(),
            Change::OtherOccurred(n) => events[index(n)].occurred_at = Some(occurred(100)),
            Change::OneMoreTag(n) => events[index(n)].tags.push("other".into()),
            Change::TagsReversed(n) => events[index(n)].tags.reverse(),
        }
        Some(self.with_conditions(Batch::new(events), &plan.conditions))
    }

    pub(super) fn filter(&self, plan: &FilterPlan) -> Filter {
        let division = Partitions::default();
        let partition = |plan: &PartitionPlan| match plan {
            PartitionPlan::OfEntity(plan) => division.of_slot(slot(entity(*plan).as_bytes())),
            PartitionPlan::Number(number) => *number,
        };
        Filter {
            entity_ids: names(ENTITIES, &plan.entities),
            event_types: names(TYPES, &plan.types),
            event_type_prefix: plan.prefix.map(prefix).unwrap_or_default(),
            tags: names(TAGS, &plan.tags),
            partitions: plan.partitions.iter().map(partition).collect(),
            query: query(&plan.items),
            recorded: TimeRange {
                since: plan.recorded.0.map(|plan| self.time(plan)),
                until: plan.recorded.1.map(|plan| self.time(plan)),
            },
            occurred: TimeRange {
                since: plan.occurred.0.map(occurred),
                until: plan.occurred.1.map(occurred),
            },
        }
    }

    pub(super) fn read(&self, plan: &ReadPlan) -> ReadRequest {
        ReadRequest {
            filter: self.filter(&plan.filter),
            after: plan.after.map_or(0, |plan| self.position(plan)),
            through: plan.through.map(|plan| self.position(plan)),
            direction: if plan.backward {
                Direction::Backward
            } else {
                Direction::Forward
            },
            limit: plan.limit.map(u64::from),
            as_of: plan.as_of.map(|plan| self.as_of(plan)),
            log_id: self.log_id(plan.log_id),
        }
    }

    pub(super) fn list(&self, plan: &ListPlan) -> ListRequest {
        ListRequest {
            prefix: plan.prefix.map(prefix).unwrap_or_default(),
            after: None,
            limit: plan.page.into(),
            head: plan.head.map(|plan| self.position(plan)),
        }
    }
}
