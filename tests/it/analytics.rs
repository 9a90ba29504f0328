//! Frequencies, summaries and correlations, asked over a socket, against a model in plain Rust.

mod edges;
mod model;

use std::time::Duration;

use annals::{
    AsOf, Batch, Client, CorrelationRequest, Event, EventTime, Filter, FrequencyRequest, NewEvent,
    Position, Query, QueryItem, ReadRequest, SummaryRequest, Tenant, TimeRange, Timestamp,
};

use self::model::Model;
use crate::{
    flight::stubs::{sealing, tenant},
    rng::{Rng, seeds},
    wire::TestServer,
};

const TYPES: [&str; 4] = [
    "placed",
    "paid",
    "order.shipped",
    "it's; \"odd\" -- $1 \\ ?",
];
const TAGS: [&str; 3] = ["vip", "eu", "it's"];
/// 2026-01-01T00:00:00Z.
const DAY: i64 = 1_767_225_600_000_000;

pub(crate) async fn client(server: &TestServer) -> Client {
    let url = format!("http://{}", server.server.local_addr());
    Client::connect(url).await.unwrap()
}

fn event(rng: &mut Rng) -> NewEvent {
    let entity = format!("entity {}", rng.below(6));
    let mut event = NewEvent::new(entity, *rng.pick(&TYPES), "{}");
    event.tags = TAGS
        .iter()
        .filter(|_| rng.chance(40))
        .map(|tag| (*tag).into())
        .collect();
    if rng.chance(80) {
        // Some at the same time, some before 1970, in no order.
        let micros = if rng.chance(30) {
            rng.below(4).cast_signed() as i64 * 500_000
        } else {
            rng.below(20_000_000_000).cast_signed() as i64 - 10_000_000_000
        };
        event.occurred_at = Timestamp::from_micros(DAY + micros);
    }
    event
}

async fn append(tenant: &Tenant, rng: &mut Rng, count: usize) {
    let mut left = count;
    while left > 0 {
        let size = (1 + rng.below(20)).min(left);
        let events: Vec<_> = (0..size).map(|_| event(rng)).collect();
        tenant.append(Batch::new(events)).await.unwrap();
        left -= size;
    }
}

async fn all(tenant: &Tenant) -> Vec<Event> {
    let mut reader = tenant.read(ReadRequest::default()).unwrap();
    let mut all = Vec::new();
    while let Some(events) = reader.next().await.unwrap() {
        all.extend(events);
    }
    all
}

/// What a request narrows: a filter, and positions.
struct Chosen {
    filter: Filter,
    after: Position,
    through: Option<Position>,
}

fn choose(rng: &mut Rng, events: &[Event]) -> Chosen {
    let mut filter = Filter::default();
    if rng.chance(25) {
        filter.entity_ids = vec!["entity 1".into(), "entity 4".into(), "nobody".into()];
    }
    if rng.chance(25) {
        filter.event_types = vec![TYPES[0].into(), TYPES[3].into()];
    }
    if rng.chance(15) {
        filter.event_type_prefix = "p".into();
    }
    if rng.chance(20) {
        filter.tags = vec![(*rng.pick(&TAGS)).into()];
    }
    if rng.chance(15) {
        let item = |event_type: &str, tag: &str| QueryItem {
            event_types: vec![event_type.into()],
            tags: vec![tag.into()],
        };
        filter.query = Query {
            items: vec![item(TYPES[1], TAGS[2]), item(TYPES[2], TAGS[0])],
        };
    }
    if rng.chance(25) {
        filter.recorded = range(rng, events, |event| Some(event.recorded_at()));
    }
    if rng.chance(25) {
        filter.occurred = range(rng, events, Event::occurred_at);
    }
    let after = if rng.chance(20) {
        rng.below(events.len()) as u64
    } else {
        0
    };
    let through = rng.chance(20).then(|| 1 + rng.below(events.len()) as u64);
    Chosen {
        filter,
        after,
        through,
    }
}

fn range(rng: &mut Rng, events: &[Event], time: fn(&Event) -> Option<Timestamp>) -> TimeRange {
    let mut bound = |percent| rng.chance(percent).then(|| time(rng.pick(events)))?;
    TimeRange {
        since: bound(70),
        until: bound(70),
    }
}

fn event_time(rng: &mut Rng) -> EventTime {
    if rng.chance(50) {
        EventTime::Occurred
    } else {
        EventTime::Recorded
    }
}

async fn compare(client: &Client, rng: &mut Rng, events: &[Event], model: &Model<'_>) {
    let as_of = (model.head < events.len() as u64 || rng.chance(20)).then_some(model.head);
    let as_of = as_of.map(AsOf::Position);
    let chosen = choose(rng, events);
    let bucket = *rng.pick(&[1_000_000_000, 3_600_000_000, 700_000_003, 90_000_000_000]);
    let request = FrequencyRequest {
        filter: chosen.filter,
        after: chosen.after.min(model.head),
        through: chosen.through,
        time: event_time(rng),
        origin: Timestamp::from_micros(DAY + rng.below(7_200_000_000).cast_signed() as i64)
            .unwrap(),
        by_type: rng.chance(50),
        by_entity: rng.chance(50),
        top: rng.chance(30).then_some(3),
        as_of,
        ..FrequencyRequest::new(Duration::from_micros(bucket))
    };
    let answer = client.frequency(&request).await.unwrap();
    assert_eq!(answer, model.frequency(&request), "{request:?}");

    let chosen = choose(rng, events);
    let request = SummaryRequest {
        filter: chosen.filter,
        after: chosen.after,
        through: chosen.through,
        time: event_time(rng),
        by_type: rng.chance(50),
        without_intervals: rng.chance(20),
        as_of,
    };
    let answer = client.summary(&request).await.unwrap();
    assert_eq!(answer, model.summaries(&request), "{request:?}");

    let mut chosen = choose(rng, events);
    chosen.filter.event_types = Vec::new();
    chosen.filter.event_type_prefix = "".into();
    let within = [None, Some(0), Some(3_000), Some(4_000_000_000)];
    let request = CorrelationRequest {
        filter: chosen.filter,
        after: chosen.after,
        through: chosen.through,
        first_type: (*rng.pick(&TYPES)).into(),
        then_type: (*rng.pick(&TYPES)).into(),
        within: rng.pick(&within).map(Duration::from_micros),
        time: event_time(rng),
        as_of,
    };
    let answer = client.correlation(&request).await.unwrap();
    assert_eq!(answer, model.correlation(&request), "{request:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_those_of_a_model_hot_sealed_and_in_the_past() {
    for seed in seeds(2) {
        let mut rng = Rng::new(seed);
        let server = TestServer::start_with(|config| sealing(config, 100)).await;
        let (tenant, client) = (tenant(&server.server).await, client(&server).await);
        // All of it hot at first, then most of it sealed.
        for count in [60, 300] {
            append(&tenant, &mut rng, count).await;
            let events = all(&tenant).await;
            for _ in 0..25 {
                let head = events.len() as u64;
                let past = rng.below(events.len() + 1) as u64;
                let head = if rng.chance(60) { head } else { past };
                let model = Model {
                    events: &events,
                    head,
                    log_id: tenant.log_id(),
                };
                compare(&client, &mut rng, &events, &model).await;
            }
        }
        assert!(tenant.stats().segments > 0, "some of it is sealed");
    }
}
