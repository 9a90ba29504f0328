//! Subscribers that come and go while others write.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    task::{JoinSet, yield_now},
    time::timeout,
};

use annals::{
    Batch, Delivery, Event, Filter, NewEvent, Position, ReadRequest, Start, SubscribeRequest,
    Subscription, Tenant,
};

use super::{Numbers, open, read};

const WRITERS: u64 = 8;
const BATCHES: u64 = 120;
const SUBSCRIBERS: u64 = 24;

/// What one subscription saw.
struct Seen {
    filter: Filter,
    start: Position,
    positions: Vec<Position>,
    /// It says that it delivered everything up to here.
    through: Position,
}

async fn write(tenant: Tenant, writer: u64) {
    let mut numbers = Numbers(writer + 1);
    for _ in 0..BATCHES {
        let count = 1 + numbers.below(3);
        let events = (0..count).map(|_| {
            let entity_id = format!("entity-{}", numbers.below(20));
            let event_type = format!("type.{}", numbers.below(5));
            let tag = format!("tag-{}", numbers.below(4));
            NewEvent::new(entity_id, event_type, "{}").with_tags([tag])
        });
        let batch = Batch::new(events.collect::<Vec<_>>());
        tenant.append(batch).await.unwrap();
    }
}

fn filter(numbers: &mut Numbers) -> Filter {
    let mut filter = Filter::default();
    let n = numbers.below(6);
    match numbers.below(6) {
        0 => {}
        1 => filter.entity_ids = vec![format!("entity-{n}").into()],
        2 => filter.event_types = vec![format!("type.{n}").into(), "type.0".into()],
        3 => filter.tags = vec![format!("tag-{n}").into()],
        4 => filter.event_type_prefix = format!("type.{n}").into(),
        // Nothing matches.
        _ => filter.tags = vec!["none".into()],
    }
    filter
}

/// Subscribes again and again; gives up waiting, and the subscription, at random.
async fn subscribe(tenant: Tenant, number: u64, done: Arc<AtomicBool>) -> Vec<Seen> {
    let mut numbers = Numbers(1_000 + number);
    let mut all = Vec::new();
    while !done.load(Ordering::Relaxed) {
        let filter = filter(&mut numbers);
        let start = match numbers.below(3) {
            0 => Start::Head,
            _ => Start::After(numbers.below(tenant.head() + 1)),
        };
        let request = SubscribeRequest {
            filter: filter.clone(),
            start,
            log_id: None,
        };
        let mut subscription = tenant.subscribe(request).unwrap();
        let mut seen = Seen {
            filter,
            start: subscription.position(),
            positions: Vec::new(),
            through: 0,
        };
        for _ in 0..numbers.below(20) {
            let patience = Duration::from_micros(numbers.below(3_000));
            match timeout(patience, subscription.next()).await {
                Ok(delivery) => seen.take(&delivery.unwrap()),
                // The future was dropped at some point of its work.
                Err(_) => yield_now().await,
            }
        }
        seen.through = subscription.position();
        all.push(seen);
        yield_now().await;
    }
    all
}

impl Seen {
    fn take(&mut self, delivery: &Delivery) {
        if let Delivery::Events(events) = delivery {
            self.positions.extend(events.iter().map(Event::position));
        }
    }
}

fn matches(filter: &Filter, event: &Event) -> bool {
    let any = |names: &[annals::Text], name: &str| {
        names.is_empty() || names.iter().any(|n| n.as_bytes() == name.as_bytes())
    };
    let prefix = filter.event_type_prefix.as_bytes();
    any(&filter.entity_ids, event.entity_id())
        && any(&filter.event_types, event.event_type())
        && event.event_type().as_bytes().starts_with(prefix)
        && filter
            .tags
            .iter()
            .all(|tag| event.tags().any(|t| t.as_bytes() == tag.as_bytes()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn subscribers_see_every_event_they_want_once_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let (_engine, tenant) = open(dir.path()).await;
    let done = Arc::new(AtomicBool::new(false));
    let mut subscribers = JoinSet::new();
    for number in 0..SUBSCRIBERS {
        subscribers.spawn(subscribe(tenant.clone(), number, Arc::clone(&done)));
    }
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(write(tenant.clone(), writer));
    }
    writers.join_all().await;
    done.store(true, Ordering::Relaxed);
    let all: Vec<Seen> = subscribers.join_all().await.into_iter().flatten().collect();
    let events = read(&tenant, ReadRequest::default()).await;
    let mut delivered = 0;
    for seen in &all {
        let range = seen.start + 1..=seen.through;
        let wanted = events
            .iter()
            .filter(|event| range.contains(&event.position()));
        let wanted = wanted.filter(|event| matches(&seen.filter, event));
        let wanted: Vec<_> = wanted.map(Event::position).collect();
        assert_eq!(seen.positions, wanted, "{:?} {range:?}", seen.filter);
        delivered += wanted.len();
    }
    assert!(delivered > 0, "{} subscriptions saw nothing", all.len());
    assert_eq!(tenant.stats().subscribers, 0);
}

async fn next_events(subscription: &mut Subscription) -> Vec<Event> {
    loop {
        let next = timeout(Duration::from_secs(20), subscription.next()).await;
        if let Delivery::Events(events) = next.expect("a delivery").unwrap() {
            return events;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_event_wakes_those_who_wait_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let (_engine, tenant) = open(dir.path()).await;
    let mut waiting = JoinSet::new();
    for n in 0..200u64 {
        let request = SubscribeRequest {
            filter: Filter {
                entity_ids: vec![format!("entity-{}", n % 50).into()],
                ..Filter::default()
            },
            start: Start::Head,
            log_id: None,
        };
        let mut subscription = tenant.subscribe(request).unwrap();
        waiting.spawn(async move {
            let mut versions = Vec::new();
            while versions.len() < 3 {
                let events = next_events(&mut subscription).await;
                versions.extend(events.iter().map(Event::version));
            }
            assert_eq!(versions, [1, 2, 3]);
        });
    }
    for _ in 0..3 {
        for n in 0..50 {
            let event = NewEvent::new(format!("entity-{n}"), "x", "{}");
            tenant.append(Batch::new([event])).await.unwrap();
        }
    }
    waiting.join_all().await;
}
