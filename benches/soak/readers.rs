//! Reads of all kinds, all the time, at random places: hot, sealed and cold. Each is compared with the story, or with
//! another read that needs no index.

mod listings;

use std::{collections::HashMap, sync::Arc, time::Duration};

use annals::{
    AsOf, Client, Direction, Filter, ReadRequest, Text, TimeRange, Timestamp,
    client::EntityState,
    proto::{Event, EventBatch, EventView},
    types::slot::{Partitions, slot},
};
use serde_json::Value;
use tokio::time::sleep;

use crate::{
    ledger::{Fault, Ledger, Stands, ensure},
    run::Run,
    story::{Place, RARE_TYPE, Story, TYPES, merged, mixed, type_name, type_prefix},
};

/// Positions that a filter is compared over.
const SPAN: u64 = 4_000;
/// Events of an entity that are read at most.
const ENTITY_EVENTS: u64 = 2_000;
const PAUSE: Duration = Duration::from_millis(20);
/// Reads as one tenant.
#[derive(Debug)]
pub(crate) struct Reads {
    run: Arc<Run>,
    ledger: Arc<Ledger>,
    client: Client,
    random: u64,
}

impl Reads {
    pub(crate) fn new(run: &Arc<Run>, ledger: &Arc<Ledger>, client: Client, seed: u64) -> Self {
        Self {
            run: run.clone(),
            ledger: ledger.clone(),
            client,
            random: mixed(seed),
        }
    }

    /// Until the run stops.
    pub(crate) async fn read(mut self) -> Result<(), Fault> {
        while !self.run.is_stopping() {
            sleep(PAUSE).await;
            if self.ledger.head() == 0 {
                continue;
            }
            match self.below(100) {
                0..15 => self.chunk().await?,
                15..30 => self.one_event().await?,
                30..50 => self.entity().await?,
                50..62 => self.state().await?,
                62..85 => self.filtered().await?,
                85..89 => self.rare().await?,
                89..94 => self.entities().await?,
                94..96 => self.types().await?,
                96..98 => self.unknown().await?,
                _ => self.stats().await?,
            }
        }
        Ok(())
    }

    fn story(&self) -> &Story {
        &self.ledger.story
    }

    fn draw(&mut self) -> u64 {
        self.random = mixed(self.random);
        self.random
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound.max(1)
    }

    /// Reads to the end, again if the server goes meanwhile.
    async fn events(
        &self,
        name: &'static str,
        request: &ReadRequest,
    ) -> Result<Vec<EventBatch>, Fault> {
        let batches = self.run.ask(name, || async {
            let mut events = self.client.read(request).await?;
            let mut batches = Vec::new();
            while let Some(batch) = events.next().await? {
                batches.push(batch);
            }
            Ok(batches)
        });
        let batches = batches.await?;
        let count = batches
            .iter()
            .map(|batch| batch.iter().count() as u64)
            .sum();
        self.run.record_events(name, count);
        Ok(batches)
    }

    /// Where a read of all may begin: anywhere, and often near the head.
    fn after(&mut self, span: u64) -> u64 {
        let head = self.ledger.head();
        match self.below(4) {
            0 => head.saturating_sub(self.below(10 * span) + 1),
            _ => self.below(head),
        }
    }

    /// Part of the log, forward or backward: each position, and each batch in one piece.
    async fn chunk(&mut self) -> Result<(), Fault> {
        let after = self.after(SPAN);
        let through = (after + 1 + self.below(SPAN)).min(self.ledger.head());
        let request = ReadRequest {
            after,
            through: Some(through),
            ..ReadRequest::default()
        };
        let forward = self.events("read a chunk", &request).await?;
        let mut last: Option<Place> = None;
        let mut position = after;
        for event in views(&forward) {
            let event = event?;
            position += 1;
            ensure!(
                event.position == position,
                "{} was read where {position} should be",
                event.position
            );
            let place = self.ledger.check(&event)?;
            let is_next = last.is_none_or(|last| {
                if last.at + 1 == self.story().size(last.writer, last.batch) {
                    place.at == 0
                } else {
                    place
                        == Place {
                            at: last.at + 1,
                            ..last
                        }
                }
            });
            ensure!(
                is_next,
                "position {position}: {place:?} came after {last:?}"
            );
            last = Some(place);
        }
        ensure!(
            position == through,
            "read through {through}, and the last event was {position}"
        );
        if self.below(3) == 0 {
            let direction = Direction::Backward;
            let backward = self
                .events(
                    "read a chunk backward",
                    &ReadRequest {
                        direction,
                        ..request
                    },
                )
                .await?;
            let forward: Vec<_> = views(&forward).collect::<Result<_, _>>()?;
            let mut backward: Vec<_> = views(&backward).collect::<Result<_, _>>()?;
            backward.reverse();
            ensure!(
                forward == backward,
                "backward, {after} to {through} has other events"
            );
        }
        Ok(())
    }

    /// An event of a batch that was answered, by its position and by its id.
    async fn one_event(&mut self) -> Result<(), Fault> {
        let draw = self.draw();
        let Some(answered) = self.ledger.any(draw) else {
            return Ok(());
        };
        let (writer, batch) = (answered.writer, answered.batch);
        let at = self.below(self.story().size(writer, batch) as u64) as usize;
        let place = Place { writer, batch, at };
        let position = answered.stands.first + at as u64;
        let event = self
            .run
            .ask("get an event", || self.client.event(position))
            .await?;
        self.is(&event, place, position, answered.stands.recorded_at)?;
        let id = Story::id(place);
        let event = self
            .run
            .ask("get an event by its id", || self.client.event_by_id(id))
            .await?;
        self.is(&event, place, position, answered.stands.recorded_at)
    }

    fn is(
        &self,
        event: &Event,
        place: Place,
        position: u64,
        recorded_at: i64,
    ) -> Result<(), Fault> {
        let expected = self.story().event(place);
        let text = |text: &Text| text.to_string();
        let is_same = event.position == position
            && event.event_id == Story::id(place).to_string()
            && event.entity_id == text(&expected.entity_id)
            && event.event_type == text(&expected.event_type)
            && event.payload == text(&expected.payload)
            && event.metadata == expected.metadata.as_ref().map(text)
            && event
                .tags
                .iter()
                .eq(expected.tags.iter().map(text).collect::<Vec<_>>().iter())
            && event.occurred_at.map(micros) == expected.occurred_at.map(Timestamp::as_micros)
            && event.recorded_at.map(micros) == Some(recorded_at);
        ensure!(
            is_same,
            "{place:?} at {position}, recorded at {recorded_at}, was given as {event:?}"
        );
        Ok(())
    }

    /// An entity that has events, unless none was found.
    fn some_entity(&mut self) -> Option<(usize, u64)> {
        (0..20).find_map(|_| {
            let entity = self.below(self.story().entities() as u64) as usize;
            let version = self.ledger.version(entity);
            (version > 0).then_some((entity, version))
        })
    }

    fn of_entity(&self, entity: usize) -> ReadRequest {
        let mut request = ReadRequest::default();
        request
            .filter
            .entity_ids
            .push(Text::from(self.story().entity(entity)));
        request
    }

    /// The first events of an entity, or the last.
    async fn entity(&mut self) -> Result<(), Fault> {
        let Some((entity, version)) = self.some_entity() else {
            return Ok(());
        };
        let is_backward = self.below(2) == 0;
        let limit = 1 + self.below(ENTITY_EVENTS);
        let request = ReadRequest {
            limit: Some(limit),
            ..self.of_entity(entity)
        };
        let direction = if is_backward {
            Direction::Backward
        } else {
            Direction::Forward
        };
        let batches = self
            .events(
                "read an entity",
                &ReadRequest {
                    direction,
                    ..request
                },
            )
            .await?;
        let mut events: Vec<_> = views(&batches).collect::<Result<_, _>>()?;
        let name = self.story().entity(entity);
        ensure!(
            events.len() as u64 <= limit,
            "{} events of {name} instead of {limit}",
            events.len()
        );
        let enough = events.len() as u64 >= limit.min(version);
        ensure!(
            enough,
            "{} events of {name}, of {version} and up to {limit}",
            events.len()
        );
        if is_backward {
            events.reverse();
            let last = events.last().map_or(0, |event| event.version);
            ensure!(
                last >= version,
                "{name} ends at version {last}, and {version} was answered"
            );
        } else {
            let first = events.first().map_or(0, |event| event.version);
            ensure!(first == 1, "{name} begins at version {first}");
        }
        for pair in events.windows(2) {
            let follows =
                pair[0].version + 1 == pair[1].version && pair[0].position < pair[1].position;
            ensure!(
                follows,
                "in {name}, {:?} comes after {:?}",
                pair[1],
                pair[0]
            );
        }
        for event in &events {
            ensure!(event.entity_id == name, "{event:?} is none of {name}");
            self.ledger.check(event)?;
        }
        Ok(())
    }

    /// The state of an entity, now or as of a version, position or time.
    async fn state(&mut self) -> Result<(), Fault> {
        let Some((entity, version)) = self.some_entity() else {
            return Ok(());
        };
        if version > ENTITY_EVENTS {
            return Ok(());
        }
        let batches = self
            .events("read an entity", &self.of_entity(entity))
            .await?;
        let events: Vec<_> = views(&batches).collect::<Result<_, _>>()?;
        let Some(event) = events.get(self.below(version) as usize) else {
            return Err(Fault(format!(
                "{version} events were answered, {} are there",
                events.len()
            )));
        };
        let name = self.story().entity(entity);
        let as_of = match self.below(4) {
            0 => None,
            1 => Some(AsOf::Version(event.version)),
            2 => Some(AsOf::Position(event.position)),
            _ => Timestamp::from_micros(event.recorded_at).map(AsOf::RecordedAt),
        };
        let state: EntityState = self
            .run
            .ask("state", || self.client.state(name.clone(), as_of))
            .await?;
        let last = match as_of {
            // More may have been appended since.
            None => state.version.max(version),
            Some(AsOf::Version(_) | AsOf::Position(_)) => event.version,
            Some(AsOf::RecordedAt(time)) => {
                events.partition_point(|event| event.recorded_at <= time.as_micros()) as u64
            }
        };
        ensure!(
            state.version == last,
            "{name} as of {as_of:?} is {state:?}, not at version {last}"
        );
        let Some(events) = events.get(..last as usize) else {
            return Ok(());
        };
        let expected = merged(events.iter().map(|event| event.payload));
        let got = serde_json::from_str::<Value>(&state.state).ok();
        ensure!(
            expected == got,
            "{name} as of {as_of:?} is {}, not {expected:?}",
            state.state
        );
        let position = events.last().map_or(0, |event| event.position);
        ensure!(
            state.position == position,
            "{name} as of {as_of:?}: {state:?}, not at {position}"
        );
        Ok(())
    }

    /// A filter over part of the log, and all events of that part.
    async fn filtered(&mut self) -> Result<(), Fault> {
        let after = self.after(SPAN);
        let through = (after + SPAN).min(self.ledger.head());
        let all = ReadRequest {
            after,
            through: Some(through),
            ..ReadRequest::default()
        };
        let batches = self.events("read a chunk", &all).await?;
        let events: Vec<_> = views(&batches).collect::<Result<_, _>>()?;
        let (name, filter) = self.some_filter(&events);
        let is_backward = self.below(4) == 0;
        let limit = (self.below(4) == 0).then(|| 1 + self.below(50));
        let request = ReadRequest {
            filter: filter.clone(),
            limit,
            direction: if is_backward {
                Direction::Backward
            } else {
                Direction::Forward
            },
            ..all
        };
        let batches = self.events(name, &request).await?;
        let got: Vec<_> = views(&batches).collect::<Result<_, _>>()?;
        let mut expected: Vec<_> = events
            .into_iter()
            .filter(|event| matches(&filter, event))
            .collect();
        if is_backward {
            expected.reverse();
        }
        expected.truncate(limit.unwrap_or(u64::MAX) as usize);
        let positions =
            |events: &[EventView<'_>]| events.iter().map(|e| e.position).collect::<Vec<_>>();
        ensure!(
            got == expected,
            "{request:?} gave {:?}, and {:?} match",
            positions(&got),
            positions(&expected)
        );
        Ok(())
    }

    /// A filter, and the name that its reads are counted under.
    fn some_filter(&mut self, events: &[EventView<'_>]) -> (&'static str, Filter) {
        let mut filter = Filter::default();
        let name = match self.below(6) {
            0 => {
                let number = self.below(TYPES as u64) as usize;
                filter.event_types = vec![Text::from(type_name(number))];
                "read by type"
            }
            1 => {
                filter.event_type_prefix = Text::from(type_prefix(self.below(4) as usize));
                "read by a prefix of types"
            }
            2 => {
                filter.tags = vec![Text::from("priority")];
                if self.below(2) == 0 {
                    filter
                        .tags
                        .push(Text::from(format!("region:{}", self.below(10))));
                }
                "read by tags"
            }
            3 => {
                let count = u64::from(Partitions::default().count());
                filter.partitions = (0..=self.below(4))
                    .map(|_| self.below(count) as u32)
                    .collect();
                "read by partitions"
            }
            4 => {
                let some: Vec<_> = (0..=self.below(5))
                    .filter_map(|_| events.get(self.below(events.len() as u64) as usize))
                    .map(|event| Text::from(event.entity_id))
                    .collect();
                filter.entity_ids = some;
                if let Some(event) = events.get(self.below(events.len() as u64) as usize) {
                    filter.event_types = vec![Text::from(event.event_type)];
                }
                "read by entities and type"
            }
            _ => {
                let mut bound = || {
                    let event = events.get(self.below(events.len() as u64) as usize)?;
                    Timestamp::from_micros(event.recorded_at)
                };
                let (a, b) = (bound(), bound());
                filter.recorded = TimeRange {
                    since: a.min(b),
                    until: a.max(b),
                };
                "read by time"
            }
        };
        (name, filter)
    }

    /// What is rare in the whole log, the last of it.
    async fn rare(&mut self) -> Result<(), Fault> {
        let mut request = ReadRequest {
            limit: Some(100),
            direction: Direction::Backward,
            ..ReadRequest::default()
        };
        if self.below(2) == 0 {
            request.filter.event_types = vec![Text::from(RARE_TYPE)];
        } else {
            request.filter.tags = vec![Text::from("disputed")];
        }
        let batches = self.events("read what is rare", &request).await?;
        let mut before = u64::MAX;
        for event in views(&batches) {
            let event = event?;
            ensure!(
                event.position < before,
                "backward, {} came after {before}",
                event.position
            );
            before = event.position;
            ensure!(
                matches(&request.filter, &event),
                "{:?} gave {event:?}",
                request.filter
            );
            self.ledger.check(&event)?;
        }
        Ok(())
    }

    /// Batches that were answered before the server went are where they were.
    pub(crate) async fn answered_before(&self) -> Result<(), Fault> {
        let recent = self.ledger.recent();
        let (Some(after), Some(through)) = (
            recent
                .iter()
                .map(|answered| answered.stands.first - 1)
                .min(),
            recent.iter().map(|answered| answered.stands.first).max(),
        ) else {
            return Ok(());
        };
        let mut missing: HashMap<_, _> = recent.iter().map(|a| ((a.writer, a.batch), *a)).collect();
        let request = ReadRequest {
            after,
            through: Some(through),
            ..ReadRequest::default()
        };
        let batches = self.events("read what was answered", &request).await?;
        for event in views(&batches) {
            let event = event?;
            let place = self.ledger.check(&event)?;
            if place.at > 0 {
                continue;
            }
            if let Some(answered) = missing.remove(&(place.writer, place.batch)) {
                let stands = Stands {
                    first: event.position,
                    recorded_at: event.recorded_at,
                };
                ensure!(
                    stands == answered.stands,
                    "{answered:?} was answered, and it stands at {stands:?}"
                );
            }
        }
        ensure!(
            missing.is_empty(),
            "answered before the server went, and not there after: {missing:?}"
        );
        Ok(())
    }
}

/// The filter in words of its own.
fn matches(filter: &Filter, event: &EventView<'_>) -> bool {
    let is = |names: &[Text], name: &str| {
        names.is_empty() || names.iter().any(|n| n.as_bytes() == name.as_bytes())
    };
    let partition = Partitions::default().of_slot(slot(event.entity_id.as_bytes()));
    is(&filter.entity_ids, event.entity_id)
        && is(&filter.event_types, event.event_type)
        && event
            .event_type
            .as_bytes()
            .starts_with(filter.event_type_prefix.as_bytes())
        && filter
            .tags
            .iter()
            .all(|tag| event.tags.clone().any(|t| t.as_bytes() == tag.as_bytes()))
        && (filter.partitions.is_empty() || filter.partitions.contains(&partition))
        && filter
            .recorded
            .since
            .is_none_or(|since| event.recorded_at >= since.as_micros())
        && filter
            .recorded
            .until
            .is_none_or(|until| event.recorded_at < until.as_micros())
}

fn views(batches: &[EventBatch]) -> impl Iterator<Item = Result<EventView<'_>, Fault>> {
    let events = batches.iter().flat_map(EventBatch::iter);
    events.map(|event| event.map_err(|e| Fault(e.to_string())))
}

fn micros(time: prost_types::Timestamp) -> i64 {
    time.seconds * 1_000_000 + i64::from(time.nanos) / 1_000
}
