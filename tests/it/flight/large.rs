//! A log of more events than a scan looks at at once: what the index gives page by page, what matches nothing for long,
//! what is ended meanwhile.

use annals::{NewEvent, Position, Timestamp};
use arrow_flight::{Action, CancelFlightInfoRequest, FlightInfo};
use prost::Message;
use serde_json::{Value, json};
use tonic::Code;

use super::stubs::{
    Part, Reading, Stub, command, fill, get, numbers, path, refusal, sealing, stub, tenant, typed,
    until,
};
use crate::{
    rng::{Rng, seeds},
    wire::TestServer,
};

/// More than a scan looks at before it is heard (262,144), and a few pages of the index (65,536 rows each).
const EVENTS: u64 = 300_000;

/// Most are of one type, a few of another; tags and entities are of different frequency.
fn event(position: Position) -> NewEvent {
    let event_type = if is_rare(position) { "rare" } else { "common" };
    let mut event = NewEvent::new(format!("entity-{}", position % 5), event_type, "{}");
    event.tags = vec![format!("thousand:{}", position / 1_000).as_str().into()];
    if position.is_multiple_of(2) {
        event.tags.push("even".into());
    }
    event.occurred_at = Timestamp::from_micros(position.cast_signed());
    event
}

fn is_rare(position: Position) -> bool {
    position % 30_000 == 17
}

/// A random ticket, and which positions it is for.
fn ticket(rng: &mut Rng) -> (Value, Box<dyn Fn(Position) -> bool>) {
    let mut scan = json!({"columns": ["position"]});
    let mut wanted: Vec<Box<dyn Fn(Position) -> bool>> = Vec::new();
    if rng.below(2) == 0 {
        scan["tags"] = json!(["even"]);
        wanted.push(Box::new(|n| n % 2 == 0));
    }
    match rng.below(4) {
        0 => {
            scan["types"] = json!(["common"]);
            wanted.push(Box::new(|n| !is_rare(n)));
        }
        1 => {
            scan["type_prefix"] = json!("ra");
            wanted.push(Box::new(is_rare));
        }
        _ => {}
    }
    if rng.below(3) == 0 {
        scan["entities"] = json!(["entity-1", "entity-3"]);
        wanted.push(Box::new(|n| matches!(n % 5, 1 | 3)));
    }
    if rng.below(3) == 0 {
        let (after, through) = (rng.below(EVENTS as usize), rng.below(EVENTS as usize));
        let (after, through) = (after.min(through) as u64, after.max(through) as u64);
        scan["after"] = json!(after);
        scan["through"] = json!(through);
        wanted.push(Box::new(move |n| after < n && n <= through));
    }
    (
        scan,
        Box::new(move |n| wanted.iter().all(|wanted| wanted(n))),
    )
}

/// Occurred when nothing did.
fn matchless() -> Value {
    json!({"columns": ["position"], "occurred": {"since": "2500-01-01T00:00:00Z"}})
}

async fn cancel(stub: &Stub, info: &FlightInfo) {
    let request = CancelFlightInfoRequest {
        info: Some(info.clone()),
    };
    let action = Action::new("CancelFlightInfo", request.encode_to_vec());
    let answer = stub.clone().do_action(action).await.unwrap();
    assert!(answer.into_inner().message().await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_many_pages_is_scanned_in_bounded_steps() {
    let server = TestServer::start_with(|config| {
        sealing(config, 100_000);
        config.limits.row_group_events = 50_000;
    })
    .await;
    let tenant = tenant(&server.server).await;
    fill(&tenant, EVENTS, 2_000, event).await;
    until("all but the newest part is sealed", || {
        tenant.stats().sealed >= 200_000
    })
    .await;
    let stub = stub(&server).await;

    for seed in seeds(10) {
        let mut rng = Rng::new(seed);
        let (mut scan, wanted) = ticket(&mut rng);
        let expected: Vec<_> = (1..=EVENTS).filter(|n| wanted(*n)).collect();
        let parts = get(&stub, typed(&scan)).await.unwrap();
        assert_eq!(numbers(&parts, "position"), expected, "{scan}");
        let info = stub.clone().get_flight_info(command(&scan)).await.unwrap();
        let info = info.into_inner();
        let records = info.total_records;
        assert!(
            records == -1 || records == expected.len().cast_signed() as i64,
            "{scan}: {records}"
        );
        let mut joined = Vec::new();
        for endpoint in info.endpoint {
            let parts = get(&stub, endpoint.ticket.unwrap().ticket).await.unwrap();
            joined.extend(numbers(&parts, "position"));
        }
        assert_eq!(joined, expected, "{scan}");
        let limit = rng.below(2 * expected.len() + 1);
        scan["limit"] = json!(limit);
        let parts = get(&stub, typed(&scan)).await.unwrap();
        let limited = &expected[..limit.min(expected.len())];
        assert_eq!(numbers(&parts, "position"), limited, "{scan}");
    }

    // Few rows are one endpoint, wherever they are; how many is known.
    let rare = command(&json!({"types": ["rare"]}));
    let info = stub
        .clone()
        .get_flight_info(rare)
        .await
        .unwrap()
        .into_inner();
    assert_eq!((info.total_records, info.endpoint.len()), (10, 1));

    // An endpoint says what its ticket asks for: who lost its stream goes on behind what it has.
    let info = stub.clone().get_flight_info(path(&["events"])).await;
    let info = info.unwrap().into_inner();
    for endpoint in info.endpoint {
        let ticket = endpoint.ticket.unwrap().ticket;
        let whole = numbers(&get(&stub, ticket.clone()).await.unwrap(), "position");
        let lost = Reading::begin(&stub, ticket).await.unwrap().next().await;
        let got = lost.unwrap().unwrap().position.unwrap();
        let mut rest: Value = serde_json::from_slice(&endpoint.app_metadata).unwrap();
        rest["after"] = json!(got);
        let rest = numbers(&get(&stub, typed(&rest)).await.unwrap(), "position");
        let got = whole.iter().filter(|n| **n <= got).copied();
        assert_eq!(got.chain(rest).collect::<Vec<_>>(), whole);
    }

    // How far it is is told on the way, and its end.
    let parts = get(&stub, typed(&matchless())).await.unwrap();
    let told: Vec<_> = parts.iter().map(|part| part.position.unwrap()).collect();
    assert!(parts.iter().all(|part| part.rows.num_rows() == 0));
    assert!(told.len() > 1 && told.is_sorted(), "{told:?}");
    assert_eq!(told.last(), Some(&EVENTS));

    // A query that is cancelled ends while it finds nothing.
    let info = stub.clone().get_flight_info(command(&matchless())).await;
    let info = info.unwrap().into_inner();
    let first = info.endpoint[0].ticket.clone().unwrap().ticket;
    let mut reading = Reading::begin(&stub, first).await.unwrap();
    cancel(&stub, &info).await;
    let ended = loop {
        match reading.next().await {
            Ok(Some(part)) => assert_eq!(part.rows.num_rows(), 0),
            Ok(None) => panic!("it ended as if it was whole"),
            Err(ended) => break ended,
        }
    };
    assert_eq!(
        refusal(&ended),
        (Code::FailedPrecondition, "QUERY_CANCELLED".to_owned())
    );

    // Streams that are dropped while the server works leave nothing that keeps it from closing.
    for _ in 0..20 {
        drop(Reading::begin(&stub, typed(&matchless())).await.unwrap());
    }
    assert!(server.server.shutdown().await, "nobody held it up");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_what_does_not_come_hears_how_far_the_log_is() {
    let server = TestServer::start_with(|config| sealing(config, 500)).await;
    let tenant = tenant(&server.server).await;
    fill(&tenant, 2_000, 100, event).await;
    let stub = stub(&server).await;
    let mut scan = matchless();
    scan["follow"] = json!(true);
    let mut reading = Reading::begin(&stub, typed(&scan)).await.unwrap();
    let mut next = async || -> Part { reading.next().await.unwrap().expect("it goes on") };
    for head in [2_000, 2_500, 3_000] {
        until("they are appended", || tenant.head() >= head).await;
        while next().await.position < Some(head) {}
        fill(&tenant, 500, 7, event).await;
    }
    server.server.shutdown().await;
}
