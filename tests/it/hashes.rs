//! Hashes are no identities: with 8 bits of them, every answer about entities, ids, types and tags stays exact.

use std::{collections::BTreeMap, sync::Arc};

use annals::{
    AppendError, Batch, Engine, EngineOptions, Event, Expect, Filter, Guard, GuardFailure, Limits,
    ListRequest, NameSummary, NewEvent, Position, Query, QueryItem, ReadError, ReadRequest, Tenant,
    types::{hash::KeyHasher, time::SystemClock},
};
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::{
    rng::Rng,
    sim_disk::SimDisk,
    workload::{default_tenant, new_id, open_with, runtime},
};

fn open(disk: &SimDisk) -> Engine {
    let options = EngineOptions {
        hasher: KeyHasher::with_bits(8),
        limits: Limits {
            log_file_bytes: 64 << 10,
            ..Limits::default()
        },
        ..EngineOptions::default()
    };
    open_with(disk, Arc::new(SystemClock), options).unwrap()
}

fn read(tenant: &Tenant, filter: Filter) -> Vec<Event> {
    let request = ReadRequest {
        filter,
        ..ReadRequest::default()
    };
    let mut reader = tenant.read(request).unwrap();
    let mut all = Vec::new();
    while let Some(events) = reader.next_blocking().unwrap() {
        all.extend(events);
    }
    all
}

fn positions(tenant: &Tenant, filter: Filter) -> Vec<Position> {
    read(tenant, filter).iter().map(Event::position).collect()
}

/// Name to the positions of the events that carry it.
type Names = BTreeMap<String, Vec<Position>>;

#[derive(Default)]
struct Model {
    entities: Names,
    types: Names,
    tags: Names,
    head: Position,
}

impl Model {
    fn append(&mut self, runtime: &Runtime, tenant: &Tenant, rng: &mut Rng) {
        let mut events = Vec::new();
        let mut versions = Vec::new();
        for _ in 0..250 {
            self.head += 1;
            let entity = format!("entity {}", rng.below(2_000));
            let event_type = format!("type {}", rng.below(700));
            let tags = [rng.below(1_000), rng.below(1_000)].map(|n| format!("tag {n}"));
            let of_entity = self.entities.entry(entity.clone()).or_default();
            of_entity.push(self.head);
            versions.push(of_entity.len() as u64);
            let of_type = self.types.entry(event_type.clone()).or_default();
            of_type.push(self.head);
            for tag in &tags {
                let of_tag = self.tags.entry(tag.clone()).or_default();
                if of_tag.last() != Some(&self.head) {
                    of_tag.push(self.head);
                }
            }
            events.push(NewEvent::new(entity, event_type, "{}").with_tags(tags));
        }
        let appended = runtime.block_on(tenant.append(Batch::new(events))).unwrap();
        assert_eq!(appended.last_position, self.head);
        assert_eq!(appended.versions, versions);
    }

    fn check(&self, runtime: &Runtime, tenant: &Tenant) {
        assert_eq!(tenant.head(), self.head);
        let stats = tenant.stats();
        assert_eq!(stats.entities as usize, self.entities.len());
        assert_eq!(stats.event_types as usize, self.types.len());
        let entities = listed(|request| tenant.list_entities(request));
        assert_eq!(entities, summaries(&self.entities));
        let types = listed(|request| tenant.list_event_types(request));
        assert_eq!(types, summaries(&self.types));

        for n in (0..2_000).step_by(7) {
            let entity = format!("entity {n}");
            let filter = Filter {
                entity_ids: vec![entity.as_str().into()],
                ..Filter::default()
            };
            assert_eq!(positions(tenant, filter), of(&self.entities, &entity));
            self.check_guards(runtime, tenant, &entity, &format!("tag {}", n % 1_300));
        }
        for n in (0..800).step_by(7) {
            let (event_type, tag) = (format!("type {n}"), format!("tag {n}"));
            let filter = Filter {
                event_types: vec![event_type.as_str().into()],
                ..Filter::default()
            };
            assert_eq!(positions(tenant, filter), of(&self.types, &event_type));
            let filter = Filter {
                tags: vec![tag.as_str().into()],
                ..Filter::default()
            };
            assert_eq!(positions(tenant, filter), of(&self.tags, &tag));
        }
    }

    /// Guards that hold are put behind one that does not, so that nothing is appended.
    fn check_guards(&self, runtime: &Runtime, tenant: &Tenant, entity: &str, tag: &str) {
        let version = of(&self.entities, entity).len() as u64;
        let batch = Batch::new([NewEvent::new("guarded", "t", "{}")])
            .expecting(entity, Expect::Version(version))
            .unless(tagged(tag), 0)
            .expecting(entity, Expect::Version(version + 1));
        let failure = match runtime.block_on(tenant.append(batch)) {
            Err(AppendError::Guard(failure)) => failure,
            other => panic!("{other:?}"),
        };
        match (of(&self.tags, tag).first(), failure) {
            (Some(first), GuardFailure::NoMatch { index: 1, found }) => assert_eq!(found, *first),
            (
                None,
                GuardFailure::Entity {
                    index: 2, found, ..
                },
            ) => assert_eq!(found, version),
            other => panic!("{entity}, {tag}: {other:?}"),
        }
    }
}

fn tagged(tag: &str) -> Query {
    let item = QueryItem {
        event_types: Vec::new(),
        tags: vec![tag.into()],
    };
    Query { items: vec![item] }
}

fn of(names: &Names, name: &str) -> Vec<Position> {
    names.get(name).cloned().unwrap_or_default()
}

fn summaries(names: &Names) -> Vec<NameSummary> {
    let summary = |(name, positions): (&String, &Vec<Position>)| NameSummary {
        name: name.as_str().into(),
        events: positions.len() as u64,
        first_position: positions[0],
        last_position: *positions.last().unwrap(),
    };
    names.iter().map(summary).collect()
}

/// All pages of a listing.
fn listed(page: impl Fn(&ListRequest) -> Result<annals::Listing, ReadError>) -> Vec<NameSummary> {
    let mut request = ListRequest {
        limit: 300,
        ..ListRequest::default()
    };
    let mut all = Vec::new();
    loop {
        let listing = page(&request).unwrap();
        all.extend(listing.names);
        if !listing.more {
            return all;
        }
        request.after = all.last().map(|last: &NameSummary| last.name.clone());
    }
}

#[test]
fn names_whose_hashes_collide_are_told_apart() {
    let (disk, runtime, mut rng) = (SimDisk::new(1), runtime(), Rng::new(11));
    let mut model = Model::default();
    for session in 0..2 {
        let engine = open(&disk);
        let tenant = default_tenant(&runtime, &engine);
        model.check(&runtime, &tenant);
        if session == 0 {
            for _ in 0..14 {
                model.append(&runtime, &tenant, &mut rng);
            }
            model.check(&runtime, &tenant);
        }
    }
    assert!(model.entities.len() > 1_500);
}

#[test]
fn ids_whose_hashes_collide_are_told_apart() {
    let (disk, runtime, mut rng) = (SimDisk::new(2), runtime(), Rng::new(12));
    let mut ids = Vec::new();
    let batch = |ids: &[Uuid]| {
        let event = |id: &Uuid| NewEvent::new("a", "t", format!("\"{id}\"")).with_id(*id);
        Batch::new(ids.iter().map(event).collect::<Vec<_>>())
    };
    for session in 0..2 {
        let engine = open(&disk);
        let tenant = default_tenant(&runtime, &engine);
        let append = |ids: &[Uuid]| runtime.block_on(tenant.append(batch(ids)));
        for _ in 0..80 {
            let new: Vec<_> = (0..5).map(|_| new_id(&mut rng)).collect();
            let appended = append(&new).unwrap();
            assert!(!appended.duplicate, "a fresh id was taken for another");
            ids.extend(new);
        }
        for (n, id) in ids.iter().enumerate() {
            let event = runtime.block_on(tenant.event_by_id(*id)).unwrap();
            assert_eq!((event.event_id(), event.position()), (*id, n as u64 + 1));
            let other = runtime.block_on(tenant.event_by_id(new_id(&mut rng)));
            assert!(matches!(other, Err(ReadError::NoSuchEvent(_))), "{other:?}");
        }
        for (n, five) in ids.chunks(5).enumerate().step_by(3) {
            let appended = append(five).unwrap();
            assert!(appended.duplicate, "session {session}");
            assert_eq!(appended.first_position, n as u64 * 5 + 1);
            let swapped = append(&[five[1], five[0]]).unwrap_err();
            let position = n as u64 * 5 + 2;
            let id = five[1];
            assert_eq!(swapped, AppendError::IdReused { id, position });
            // The first one stands, the other id nowhere.
            let partly = append(&[five[4], new_id(&mut rng)]).unwrap_err();
            let (id, position) = (five[4], n as u64 * 5 + 5);
            assert_eq!(partly, AppendError::IdReused { id, position });
        }
        assert_eq!(tenant.head(), ids.len() as u64);
    }
}

#[test]
fn a_guard_on_a_name_never_used_holds_among_thousands_of_its_hash() {
    let (disk, runtime, mut rng) = (SimDisk::new(3), runtime(), Rng::new(13));
    let engine = open(&disk);
    let tenant = default_tenant(&runtime, &engine);
    let mut model = Model::default();
    for _ in 0..4 {
        model.append(&runtime, &tenant, &mut rng);
    }
    for n in 0..300 {
        let (entity, tag) = (format!("new {n}"), format!("new {n}"));
        let event = NewEvent::new(entity.as_str(), "t", "{}").with_tags([tag.as_str()]);
        let batch = Batch::new([event])
            .expecting(entity.as_str(), Expect::Absent)
            .unless(tagged(&tag), 0);
        let appended = runtime.block_on(tenant.append(batch.clone())).unwrap();
        assert_eq!(appended.versions, [1]);
        let again = runtime.block_on(tenant.append(batch));
        let Err(AppendError::Guard(GuardFailure::Entity { index, found, .. })) = again else {
            panic!("{again:?}")
        };
        assert_eq!((index, found), (0, 1));
        let only_query = Batch {
            guards: vec![Guard::NoMatch {
                query: tagged(&tag),
                after: appended.first_position - 1,
            }],
            ..Batch::new([NewEvent::new("a", "t", "{}")])
        };
        let again = runtime.block_on(tenant.append(only_query));
        let Err(AppendError::Guard(GuardFailure::NoMatch { found, .. })) = again else {
            panic!("{again:?}")
        };
        assert_eq!(found, appended.first_position);
    }
}
