//! Reads and subscriptions that go on step by step while what they read is sealed and its log files are removed.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use annals::{
    AsOf, Batch, Delivery, Direction, EngineOptions, Event, Filter, NewEvent, Position,
    ReadRequest, Reader, Start, SubscribeRequest, Subscription, Tenant, Text,
    types::time::SystemClock,
};
use tokio::{runtime::Runtime, time::timeout};

use crate::{
    compaction::compact,
    rng::{Rng, seeds},
    sim_disk::SimDisk,
    workload::{default_tenant, new_id, open_with, read_all, runtime, sealing_options},
};

const ENTITIES: [&str; 4] = ["a", "b", "c", "d"];
const TYPES: [&str; 3] = ["opened", "changed", "closed"];
const TAGS: [&str; 3] = ["x", "y", "z"];
const WRITERS: usize = 2;
const BATCHES: usize = 120;
/// Far more than an answer takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

fn options() -> EngineOptions {
    let mut options = sealing_options();
    options.limits.seal_events = 7;
    options.limits.index_cache_bytes = 8 << 10;
    options.limits.segment_cache_bytes = 8 << 10;
    options.limits.seal_backlog_max = 4;
    options.limits.compact_target_bytes = 256 << 10;
    options
}

/// Its payload sets a member for its entity, and takes another away.
fn event(rng: &mut Rng) -> NewEvent {
    let (set, removed) = (rng.below(5), rng.below(5));
    let filler = "x".repeat(rng.below(40));
    let payload = if set == removed {
        format!(r#"{{"k{set}":"{filler}"}}"#)
    } else {
        format!(r#"{{"k{set}":"{filler}","k{removed}":null}}"#)
    };
    NewEvent::new(*rng.pick(&ENTITIES), *rng.pick(&TYPES), payload)
        .with_id(new_id(rng))
        .with_tags([*rng.pick(&TAGS)])
}

fn filter(rng: &mut Rng) -> Filter {
    let mut filter = Filter::default();
    match rng.below(5) {
        0 => filter.entity_ids = vec![(*rng.pick(&ENTITIES)).into()],
        1 => filter.event_types = vec![(*rng.pick(&TYPES)).into()],
        2 => filter.tags = vec![(*rng.pick(&TAGS)).into()],
        3 => filter.event_type_prefix = "c".into(),
        _ => {}
    }
    filter
}

fn lets_through(filter: &Filter, event: &Event) -> bool {
    let any = |names: &[Text], name: &str| {
        names.is_empty() || names.iter().any(|n| n.as_bytes() == name.as_bytes())
    };
    any(&filter.entity_ids, event.entity_id())
        && any(&filter.event_types, event.event_type())
        && event
            .event_type_bytes()
            .starts_with(filter.event_type_prefix.as_bytes())
        && filter
            .tags
            .iter()
            .all(|tag| event.tags_bytes().any(|found| found == tag.as_bytes()))
}

/// Something begun, and what it delivered so far.
enum Begun {
    Read(Reader, ReadRequest, Vec<Event>),
    Subscription(Box<Subscription>, SubscribeRequest, Vec<Event>),
}

/// A state that was read: of which entity, at which position, and what it was.
type State = (Text, Position, annals::EntityState);

#[derive(Default)]
struct Seen {
    begun: Vec<Begun>,
    states: Vec<State>,
    by_id: Vec<Event>,
}

fn begin(tenant: &Tenant, rng: &mut Rng) -> Begun {
    let head = tenant.head();
    let filter = filter(rng);
    if rng.chance(40) {
        let request = SubscribeRequest {
            filter,
            start: Start::After(rng.below(head as usize + 1) as Position),
            log_id: None,
        };
        let subscription = tenant.subscribe(request.clone()).unwrap();
        return Begun::Subscription(Box::new(subscription), request, Vec::new());
    }
    let request = ReadRequest {
        filter,
        after: rng.below(head as usize + 1) as Position / 2,
        through: Some(head),
        direction: *rng.pick(&[Direction::Forward, Direction::Backward]),
        ..ReadRequest::default()
    };
    let reader = tenant.read(request.clone()).unwrap();
    Begun::Read(reader, request, Vec::new())
}

/// Takes one step; false if there is nothing more to come, or not now.
fn step(runtime: &Runtime, begun: &mut Begun) -> bool {
    match begun {
        Begun::Read(reader, _, seen) => match reader.next_blocking().unwrap() {
            Some(events) => {
                seen.extend(events);
                true
            }
            None => false,
        },
        Begun::Subscription(subscription, _, seen) => runtime.block_on(async {
            // One that is live may have nothing to say: what it has not said yet it says later.
            let delivered = timeout(Duration::from_millis(1), subscription.next()).await;
            let Ok(delivery) = delivered else {
                return false;
            };
            if let Delivery::Events(events) = delivery.unwrap() {
                seen.extend(events);
            }
            true
        }),
    }
}

fn read(tenant: &Tenant, seed: u64, writing: &AtomicUsize) -> Seen {
    let (runtime, mut rng) = (runtime(), Rng::new(seed));
    let mut all = Seen::default();
    while writing.load(Ordering::Relaxed) > 0 {
        if all.begun.len() < 25 || rng.chance(2) {
            all.begun.push(begin(tenant, &mut rng));
        }
        let number = rng.below(all.begun.len());
        step(&runtime, &mut all.begun[number]);
        let head = tenant.head();
        if head > 0 && rng.chance(20) {
            let position = 1 + rng.below(head as usize) as Position;
            let event = runtime.block_on(tenant.event(position)).unwrap();
            let again = runtime.block_on(tenant.event_by_id(event.event_id()));
            assert_eq!(again.unwrap(), event);
            let entity_id = Text::from(event.entity_id());
            // As of a version, and as of a time that a group was recorded at.
            let version = AsOf::Version(event.version());
            let state = runtime.block_on(tenant.state(&entity_id, Some(version)));
            all.states
                .push((entity_id.clone(), position, state.unwrap()));
            let time = AsOf::RecordedAt(event.recorded_at());
            let state = runtime.block_on(tenant.state(&entity_id, Some(time)));
            let state = state.unwrap();
            assert!(state.head >= position, "{state:?}, {event:?}");
            all.states.push((entity_id, state.head, state));
            all.by_id.push(event);
        }
    }
    go_to_end(&runtime, tenant, &mut all.begun);
    all
}

fn go_to_end(runtime: &Runtime, tenant: &Tenant, all: &mut [Begun]) {
    let head = tenant.head();
    for begun in all {
        match begun {
            Begun::Read(..) => while step(runtime, begun) {},
            Begun::Subscription(subscription, _, seen) => runtime.block_on(async {
                let to_head = async {
                    while subscription.position() < head {
                        if let Delivery::Events(events) = subscription.next().await.unwrap() {
                            seen.extend(events);
                        }
                    }
                };
                let done = timeout(PATIENCE, to_head).await;
                done.expect("a subscription hangs");
            }),
        }
    }
}

/// Of an entity after the event at a position.
fn merged(events: &[Event], entity_id: &Text, through: Position) -> (u64, serde_json::Value) {
    let (mut version, mut members) = (0, BTreeMap::new());
    let of_it = events.iter().take(through as usize);
    for event in of_it.filter(|event| event.entity_id_bytes() == entity_id.as_bytes()) {
        version = event.version();
        let patch: BTreeMap<String, serde_json::Value> =
            serde_json::from_str(event.payload()).unwrap();
        members.extend(patch);
        members.retain(|_, value| !value.is_null());
    }
    (version, serde_json::to_value(members).unwrap())
}

fn check(seen: &Seen, events: &[Event]) {
    let wanted = |filter: &Filter, after: Position, through: Position| {
        let between = events
            .iter()
            .filter(|event| event.position() > after && event.position() <= through);
        let wanted = between.filter(|event| lets_through(filter, event)).cloned();
        wanted.collect::<Vec<_>>()
    };
    for begun in &seen.begun {
        match begun {
            Begun::Read(_, request, seen) => {
                let through = request.through.unwrap();
                let mut wanted = wanted(&request.filter, request.after, through);
                if request.direction == Direction::Backward {
                    wanted.reverse();
                }
                assert_eq!(*seen, wanted, "{request:?}");
            }
            Begun::Subscription(_, request, seen) => {
                let Start::After(after) = request.start else {
                    unreachable!("all start somewhere");
                };
                let wanted = wanted(&request.filter, after, Position::MAX);
                assert_eq!(*seen, wanted, "{request:?}");
            }
        }
    }
    for (entity_id, through, state) in &seen.states {
        let (version, value) = merged(events, entity_id, *through);
        assert_eq!(state.version, version, "{entity_id} at {through}");
        let found: serde_json::Value = serde_json::from_str(&state.state).unwrap();
        assert_eq!(found, value, "{entity_id} at {through}");
    }
    for event in &seen.by_id {
        assert_eq!(*event, events[event.position() as usize - 1]);
    }
}

#[test]
fn readers_see_the_same_log_while_it_is_sealed_and_compacted_and_its_files_are_removed() {
    for seed in seeds(1) {
        let disk = SimDisk::new(seed);
        let engine = open_with(&disk, Arc::new(SystemClock), options()).unwrap();
        let tenant = default_tenant(&runtime(), &engine);
        let writing = AtomicUsize::new(WRITERS);
        let seen = thread::scope(|scope| {
            for writer in 0..WRITERS {
                let (tenant, writing) = (tenant.clone(), &writing);
                scope.spawn(move || {
                    let mut rng = Rng::new(seed ^ (1 + writer as u64));
                    let runtime = runtime();
                    for _ in 0..BATCHES {
                        let count = 1 + rng.below(4);
                        let events = (0..count).map(|_| event(&mut rng));
                        let batch = Batch::new(events.collect::<Vec<_>>());
                        runtime.block_on(tenant.append(batch)).unwrap();
                    }
                    writing.fetch_sub(1, Ordering::Relaxed);
                });
            }
            let readers = [0, 1, 2].map(|reader| {
                let (tenant, writing) = (&tenant, &writing);
                scope.spawn(move || read(tenant, seed ^ (100 + reader), writing))
            });
            let seen = readers.into_iter().map(|reader| reader.join().unwrap());
            seen.collect::<Vec<_>>()
        });
        let events = read_all(&tenant).unwrap();
        assert_eq!(events.len() as Position, tenant.head());
        let stats = tenant.stats();
        println!(
            "{} events, {} sealed, {} log files; {} reads and subscriptions, {} states",
            stats.head,
            stats.sealed,
            stats.log_files,
            seen.iter().map(|seen| seen.begun.len()).sum::<usize>(),
            seen.iter().map(|seen| seen.states.len()).sum::<usize>(),
        );
        assert!(stats.sealed > stats.head / 2);
        let compaction = tenant.compaction_stats();
        println!("{compaction:?}");
        assert!(compaction.compactions > 5 && compaction.failures == 0);
        for seen in &seen {
            check(seen, &events);
        }
    }
}

fn append(runtime: &Runtime, tenant: &Tenant, rng: &mut Rng, count: usize, filler: usize) {
    let filler = "y".repeat(filler);
    let events = (0..count).map(|_| {
        let mut event = event(rng);
        if !filler.is_empty() {
            event.payload = format!(r#"{{"k0":"{filler}"}}"#).into();
        }
        event
    });
    let batch = Batch::new(events.collect::<Vec<_>>());
    runtime.block_on(tenant.append(batch)).unwrap();
}

/// Some did no step yet, others are in the middle.
fn begin_many(runtime: &Runtime, tenant: &Tenant, rng: &mut Rng) -> Vec<Begun> {
    let mut begun = Vec::new();
    for steps in [0, 1, 2] {
        for _ in 0..20 {
            let mut one = begin(tenant, rng);
            for _ in 0..steps {
                step(runtime, &mut one);
            }
            begun.push(one);
        }
    }
    begun
}

/// Each waits with its first step, or in the middle, until what it reads is sealed and its log files are gone.
#[test]
fn reads_begun_before_everything_is_sealed_go_on_after_it() {
    let (disk, runtime) = (SimDisk::new(5), runtime());
    let mut rng = Rng::new(5);
    let mut options = options();
    options.limits.seal_events = 100;
    let engine = open_with(&disk, Arc::new(SystemClock), options).unwrap();
    let tenant = default_tenant(&runtime, &engine);
    let append = |rng: &mut Rng, count, filler| {
        append(&runtime, &tenant, rng, count, filler);
    };
    // Large ones, so that a read takes several steps.
    for _ in 0..90 {
        append(&mut rng, 1, 40_000);
    }
    let mut begun = begin_many(&runtime, &tenant, &mut rng);
    append(&mut rng, 60, 0);
    crate::sealed_log::wait_until_sealed(&tenant, 90);
    // The name of a log file begins with its first position.
    let oldest = || {
        let names = crate::small_log::log_files(&disk).into_iter();
        let names = names.map(|path| path.file_name().unwrap().to_string_lossy().into_owned());
        names
            .map(|name| name[..20].parse::<Position>().unwrap())
            .min()
    };
    let deadline = Instant::now() + PATIENCE;
    while oldest().unwrap() <= 90 {
        assert!(Instant::now() < deadline, "log files stay");
        append(&mut rng, 10, 0);
    }
    go_to_end(&runtime, &tenant, &mut begun);
    let seen = Seen {
        begun,
        ..Seen::default()
    };
    check(&seen, &read_all(&tenant).unwrap());
}

#[test]
fn reads_begun_before_segments_are_compacted_go_on_after_it() {
    let (disk, runtime) = (SimDisk::new(6), runtime());
    let mut rng = Rng::new(6);
    let mut options = options();
    options.limits.compact_fan_in = usize::MAX;
    options.limits.compact_target_bytes = 1 << 30;
    for segment_cache_bytes in [0, 1 << 20] {
        options.limits.segment_cache_bytes = segment_cache_bytes;
        let engine = open_with(&disk, Arc::new(SystemClock), options.clone()).unwrap();
        let tenant = default_tenant(&runtime, &engine);
        for _ in 0..90 {
            append(&runtime, &tenant, &mut rng, 1, 40_000);
        }
        crate::sealed_log::wait_until_sealed(&tenant, tenant.head() - 7);
        assert!(tenant.stats().segments > 9);
        let mut begun = begin_many(&runtime, &tenant, &mut rng);
        assert_eq!(compact(&tenant).segments, 1);
        go_to_end(&runtime, &tenant, &mut begun);
        let seen = Seen {
            begun,
            ..Seen::default()
        };
        check(&seen, &read_all(&tenant).unwrap());
        engine.close();
    }
}
