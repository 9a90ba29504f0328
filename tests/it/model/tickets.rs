//! Random tickets, as a person types them: what a server streams for them is what the model says of the same read.

use std::{collections::BTreeMap, sync::Arc};

use annals::{
    AsOf, Direction, Limits, Position, ReadError, ReadRequest, Tenant, Text,
    types::{
        kind::Kind,
        slot::{Partitions, slot},
    },
};
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use serde_json::{Map, Value, json};
use tonic::Code;

use super::{
    pick::Pick,
    plain::{Plain, PlainEvent},
    plan,
};
use crate::{
    flight::stubs::{self, Stub, cells, refusal, typed, until},
    rng::{Rng, seeds},
    wire::TestServer,
};

const CONNECTIONS: usize = 4;
const EVENTS: usize = 230;
const COLUMNS: [&str; 11] = [
    "position",
    "entity_id",
    "version",
    "event_type",
    "event_id",
    "recorded_at",
    "occurred_at",
    "schema_id",
    "payload",
    "metadata",
    "tags",
];

/// Where the events of a log stand.
#[derive(Debug, Clone, Copy)]
enum Form {
    /// None is sealed.
    Hot,
    /// Most are sealed, and their log files gone.
    Sealed,
    /// Some are sealed, and stand in log files as well.
    Mixed,
}

/// Plans made by a seed.
fn runner(rng: &mut Rng) -> TestRunner {
    let mut seed = [0; 32];
    for bytes in seed.chunks_mut(8) {
        bytes.copy_from_slice(&rng.next().to_le_bytes());
    }
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    TestRunner::new_with_rng(Config::default(), rng)
}

fn made<S: Strategy>(strategy: &S, runner: &mut TestRunner) -> S::Value {
    strategy.new_tree(runner).unwrap().current()
}

/// A server with events of all kinds, and the model of its log.
async fn filled(form: Form, rng: &mut Rng) -> (TestServer, Plain) {
    let server = TestServer::start_with(|config| {
        stubs::sealing(config, 25);
        config.limits.row_group_events = 10;
        match form {
            Form::Hot => config.limits.seal_events = Limits::default().seal_events,
            Form::Sealed => config.limits.recent_bytes_max = 0,
            Form::Mixed => {
                config.limits.seal_events = 90;
                config.limits.keep_bytes = u64::MAX;
                config.limits.tail_cache_bytes = 0;
            }
        }
    })
    .await;
    let tenant = stubs::tenant(&server.server).await;
    let mut plain = Plain {
        log_id: tenant.log_id(),
        limits: Limits::default(),
        events: Vec::new(),
        cursors: BTreeMap::new(),
        last_micros: 0,
    };
    let (mut runner, batches, mut ids) = (runner(rng), plan::batch(), 0);
    while plain.events.len() < EVENTS {
        let planned = made(&batches, &mut runner);
        let mut batch = Pick {
            plain: &plain,
            ids: &mut ids,
        }
        .batch(&planned);
        batch.guards.clear();
        batch.cursors.clear();
        // Those that are refused are not of interest here.
        if tenant.append(batch).await.is_ok() {
            plain.events = events(&tenant).await;
        }
    }
    let sealed = match form {
        Form::Hot => 0,
        Form::Sealed => 150,
        Form::Mixed => 90,
    };
    until("parts are sealed", || tenant.stats().sealed >= sealed).await;
    (server, plain)
}

async fn events(tenant: &Tenant) -> Vec<PlainEvent> {
    let mut reader = tenant.read(ReadRequest::default()).unwrap();
    let mut all = Vec::new();
    while let Some(events) = reader.next().await.unwrap() {
        all.extend(events.iter().map(PlainEvent::from));
    }
    all
}

/// `None` if JSON cannot say it.
fn text(text: &Text) -> Option<Value> {
    std::str::from_utf8(text.as_bytes()).ok().map(Value::from)
}

fn texts(all: &[Text]) -> Option<Value> {
    all.iter().map(text).collect()
}

/// What of a ticket is there is written, what is not is left out or says the same.
struct Ticket(Map<String, Value>);

impl Ticket {
    fn set(&mut self, key: &str, value: impl Into<Value>, is_default: bool) {
        if !is_default {
            self.0.insert(key.to_owned(), value.into());
        }
    }
}

fn ticket(request: &ReadRequest, rng: &mut Rng) -> Option<Map<String, Value>> {
    let mut ticket = Ticket(Map::new());
    let filter = &request.filter;
    for (key, names) in [
        ("entities", &filter.entity_ids),
        ("types", &filter.event_types),
        ("tags", &filter.tags),
    ] {
        ticket.set(key, texts(names)?, names.is_empty() && rng.chance(80));
    }
    let prefix = &filter.event_type_prefix;
    ticket.set("type_prefix", text(prefix)?, prefix.as_bytes().is_empty());
    ticket.set(
        "partitions",
        filter.partitions.clone(),
        filter.partitions.is_empty(),
    );
    let items =
        filter.query.items.iter().map(|item| {
            Some(json!({"types": texts(&item.event_types)?, "tags": texts(&item.tags)?}))
        });
    let items: Value = items.collect::<Option<_>>()?;
    ticket.set("query", items, filter.query.items.is_empty());
    for (key, range) in [("recorded", filter.recorded), ("occurred", filter.occurred)] {
        let times = [("since", range.since), ("until", range.until)];
        let times = times.into_iter().filter_map(|(end, time)| {
            time.map(|time| (end.to_owned(), Value::from(time.to_string())))
        });
        ticket.set(key, Value::Object(times.collect()), range.is_all());
    }
    ticket.set("after", request.after, request.after == 0 && rng.chance(50));
    ticket.set("through", request.through, request.through.is_none());
    ticket.set("limit", request.limit, request.limit.is_none());
    let as_of = request.as_of.map(|as_of| match as_of {
        AsOf::Position(position) if rng.chance(50) => json!(position),
        other => json!(other.to_string()),
    });
    ticket.set("as_of", as_of.clone(), as_of.is_none());
    let log_id = request.log_id.map(|id| id.to_string());
    ticket.set("log_id", log_id.clone(), log_id.is_none());
    if let [only] = filter.event_types.as_slice()
        && rng.chance(50)
    {
        // A table of one type is a filter of its own.
        ticket
            .0
            .insert("table".to_owned(), json!(["types", text(only)?]));
        ticket.0.remove("types");
    } else if rng.chance(10) {
        ticket.0.insert("table".to_owned(), json!(["events"]));
    }
    Some(ticket.0)
}

fn row(event: &PlainEvent, columns: &[&str]) -> Vec<Value> {
    let new = &event.new;
    let cell = |column: &&str| match *column {
        "position" => json!(event.position),
        "entity_id" => text(&new.entity_id).unwrap(),
        "version" => json!(event.version),
        "event_type" => text(&new.event_type).unwrap(),
        "event_id" => json!(event.id.to_string()),
        "recorded_at" => json!(event.recorded_at.as_micros()),
        "occurred_at" => json!(new.occurred_at.map(annals::Timestamp::as_micros)),
        "schema_id" => Value::Null,
        "payload" => text(&new.payload).unwrap(),
        "metadata" => json!(
            new.metadata
                .as_ref()
                .map(|metadata| text(metadata).unwrap())
        ),
        "tags" => texts(&new.tags).unwrap(),
        other => panic!("{other}"),
    };
    columns.iter().map(cell).collect()
}

fn code(error: &ReadError) -> Code {
    match error.kind() {
        Kind::Invalid => Code::InvalidArgument,
        Kind::OutOfRange => Code::OutOfRange,
        Kind::Refused => Code::FailedPrecondition,
        other => panic!("{other:?}: {error}"),
    }
}

/// What came of the tickets of a kind.
#[derive(Debug, Default)]
struct Tally {
    asked: usize,
    refused: usize,
    rows: usize,
}

/// One ticket for events.
async fn ask_events(
    stub: &Stub,
    plain: &Plain,
    request: &ReadRequest,
    rng: &mut Rng,
    tally: &mut Tally,
) {
    let Some(mut ticket) = ticket(request, rng) else {
        return;
    };
    let mut columns = COLUMNS.to_vec();
    if rng.chance(60) {
        let count = 1 + rng.below(5);
        columns = (0..count)
            .map(|_| columns.remove(rng.below(columns.len())))
            .collect();
        ticket.insert("columns".to_owned(), json!(columns));
    }
    let ticket = Value::Object(ticket);
    tally.asked += 1;
    let got = stubs::get(stub, typed(&ticket)).await;
    let expected = match (plain.read(request), &got) {
        (Err(error), Err(refused)) => {
            let expected = (code(&error), error.reason().to_owned());
            assert_eq!(refusal(refused), expected, "{ticket}: {refused:?}");
            tally.refused += 1;
            return;
        }
        (Ok(events), Ok(_)) => events,
        (expected, got) => panic!("{ticket}: {got:?} instead of {expected:?}"),
    };
    let parts = got.unwrap();
    let rows: Vec<_> = parts.iter().flat_map(|part| cells(&part.rows)).collect();
    let expected_rows: Vec<_> = expected.iter().map(|event| row(event, &columns)).collect();
    assert_eq!(rows, expected_rows, "{ticket}");
    tally.rows += rows.len();
    let mut end = None;
    for part in &parts {
        assert!(end.is_none_or(|end| end < part.position), "{ticket}");
        end = Some(part.position);
        assert_eq!(part.log_id, plain.log_id.to_string());
    }
    match request.limit {
        Some(0) => {}
        Some(limit) if rows.len() as u64 == limit => {
            // Where to go on, whether the rest was looked at or not.
            let all = ReadRequest {
                limit: None,
                ..request.clone()
            };
            let next = plain.read(&all).unwrap().into_iter().nth(rows.len());
            let end = end.flatten().unwrap();
            assert!(
                expected.last().is_none_or(|last| last.position <= end),
                "{ticket}"
            );
            assert!(next.is_none_or(|next| end < next.position), "{ticket}");
        }
        _ => {
            let head = parts.last().expect("where it ends is told").head;
            assert_eq!(end, Some(Some(head.max(request.after))), "{ticket}");
        }
    }
}

/// One ticket for entities.
async fn ask_entities(stub: &Stub, plain: &Plain, rng: &mut Rng, tally: &mut Tally) {
    let mut ticket = json!({"table": "entities"});
    let mut head = plain.head();
    if rng.chance(70) {
        head = rng.below(EVENTS) as Position;
        ticket["as_of"] = json!(head);
    }
    let mut entities: BTreeMap<Text, (u64, Position, Position)> = BTreeMap::new();
    for event in plain.events.iter().filter(|event| event.position <= head) {
        let first = (0, event.position, 0);
        let entity = entities.entry(event.new.entity_id.clone()).or_insert(first);
        *entity = (entity.0 + 1, entity.1, event.position);
    }
    if rng.chance(30) {
        let named = [
            plain.events[rng.below(EVENTS)].new.entity_id.clone(),
            "nobody".into(),
        ];
        ticket["entities"] = texts(&named).unwrap();
        entities.retain(|name, _| named.contains(name));
    }
    if rng.chance(30) {
        let partitions: Vec<u32> = (0..16).map(|n| n * 2 + (rng.next() % 2) as u32).collect();
        ticket["partitions"] = json!(partitions);
        let partition = |name: &Text| Partitions::default().of_slot(slot(name.as_bytes()));
        entities.retain(|name, _| partitions.contains(&partition(name)));
    }
    let mut limit = usize::MAX;
    if rng.chance(30) {
        limit = rng.below(8);
        ticket["limit"] = json!(limit);
    }
    tally.asked += 1;
    let parts = stubs::get(stub, typed(&ticket)).await.unwrap();
    let rows: Vec<_> = parts.iter().flat_map(|part| cells(&part.rows)).collect();
    let expected = entities.iter().take(limit);
    let expected: Vec<_> = expected
        .map(|(name, numbers)| {
            vec![
                text(name).unwrap(),
                json!(numbers.0),
                json!(numbers.1),
                json!(numbers.2),
            ]
        })
        .collect();
    assert_eq!(rows, expected, "{ticket}");
    assert!(
        parts
            .iter()
            .all(|part| (part.position, part.head) == (None, head)),
        "{ticket}"
    );
    tally.rows += rows.len();
}

/// So many tickets, on several connections.
async fn ask(form: Form, tickets: usize, seed: u64) {
    let mut rng = Rng::new(seed);
    let (server, plain) = filled(form, &mut rng).await;
    let plain = Arc::new(plain);
    let mut asking = Vec::new();
    for _ in 0..CONNECTIONS {
        let (stub, plain) = (stubs::stub(&server).await, Arc::clone(&plain));
        let mut rng = Rng::new(rng.next());
        asking.push(tokio::spawn(async move {
            let (mut events, mut entities) = (Tally::default(), Tally::default());
            let (mut runner, reads, mut ids) = (runner(&mut rng), plan::read(), 0);
            while events.asked + entities.asked < tickets / CONNECTIONS {
                if rng.chance(10) {
                    ask_entities(&stub, &plain, &mut rng, &mut entities).await;
                    continue;
                }
                let planned = made(&reads, &mut runner);
                let pick = Pick {
                    plain: &plain,
                    ids: &mut ids,
                };
                let request = ReadRequest {
                    direction: Direction::Forward,
                    ..pick.read(&planned)
                };
                ask_events(&stub, &plain, &request, &mut rng, &mut events).await;
            }
            (events, entities)
        }));
    }
    for asked in asking {
        let (events, entities) = asked.await.unwrap();
        // Neither are most of them refused, nor do most of them find nothing.
        assert!(events.refused * 2 < events.asked, "{events:?}");
        assert!(
            events.rows > events.asked && entities.rows > entities.asked,
            "{events:?} {entities:?}"
        );
    }
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tickets_get_what_the_model_says_of_a_hot_log() {
    for seed in seeds(1) {
        ask(Form::Hot, 5_000, seed).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tickets_get_what_the_model_says_of_a_sealed_log() {
    for seed in seeds(1) {
        ask(Form::Sealed, 2_500, seed).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tickets_get_what_the_model_says_of_a_mixed_log() {
    for seed in seeds(1) {
        ask(Form::Mixed, 2_500, seed).await;
    }
}
