//! What is told of tables: schemas, numbers, endpoints.

use std::collections::BTreeMap;

use annals::NewEvent;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow_flight::{Criteria, FlightInfo, IpcMessage};
use serde_json::{Value, json};
use tokio_stream::StreamExt;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::stubs::{
    Part, Reading, command, fill, get, numbered, numbers, path, refusal, sealing, stub, tenant,
    typed,
};
use crate::{
    rng::{Rng, seeds},
    wire::TestServer,
};

const EVENT_COLUMNS: [&str; 11] = [
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
const ENTITY_COLUMNS: [&str; 4] = ["entity_id", "events", "first_position", "last_position"];

fn schema_of(info: &FlightInfo) -> Schema {
    info.clone().try_decode_schema().unwrap()
}

fn told(info: &FlightInfo) -> Value {
    serde_json::from_slice(&info.app_metadata).unwrap()
}

async fn all_of(stub: &super::stubs::Stub, info: &FlightInfo) -> Vec<Part> {
    let mut parts = Vec::new();
    for endpoint in &info.endpoint {
        assert!(endpoint.location.is_empty() && endpoint.expiration_time.is_some());
        let ticket = endpoint.ticket.clone().unwrap().ticket;
        parts.extend(get(stub, ticket).await.unwrap());
    }
    parts
}

/// Columns in an order of their own, mostly not all of them; now and then none named.
fn columns(rng: &mut Rng, all: &[&str]) -> Vec<String> {
    let mut left = all.to_vec();
    let count = rng.below(all.len() + 1);
    let pick = |_| left.remove(rng.below(left.len())).to_owned();
    (0..count).map(pick).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_is_the_same_wherever_it_is_told() {
    let server = TestServer::start_with(|config| sealing(config, 10)).await;
    fill(&tenant(&server.server).await, 35, 3, numbered).await;
    let stub = stub(&server).await;
    let mut seen = std::collections::BTreeSet::new();
    for seed in seeds(100) {
        let mut rng = Rng::new(seed);
        let (table, known) = match rng.below(4) {
            0 => (json!("entities"), &ENTITY_COLUMNS[..]),
            1 => (json!(["types", "a"]), &EVENT_COLUMNS[..]),
            2 => (json!(["types", "never"]), &EVENT_COLUMNS[..]),
            _ => (json!("events"), &EVENT_COLUMNS[..]),
        };
        let columns = columns(&mut rng, known);
        let scan = json!({"table": table, "columns": columns});
        let answer = stub.clone().get_schema(command(&scan)).await.unwrap();
        let schema: Schema = IpcMessage(answer.into_inner().schema).try_into().unwrap();
        let info = stub.clone().get_flight_info(command(&scan)).await.unwrap();
        let info = info.into_inner();
        assert_eq!(schema_of(&info), schema);
        let polled = stub.clone().poll_flight_info(command(&scan)).await.unwrap();
        let polled = polled.into_inner();
        assert_eq!(
            (polled.flight_descriptor, polled.progress),
            (None, Some(1.0))
        );
        assert_eq!(schema_of(&polled.info.unwrap()), schema);
        let sealed = info.endpoint[0].ticket.clone().unwrap().ticket;
        for ticket in [sealed, typed(&scan)] {
            let reading = Reading::begin(&stub, ticket).await.unwrap();
            assert_eq!(*reading.schema, schema);
            for part in reading.rest().await.unwrap() {
                assert_eq!(*part.rows.schema(), schema);
            }
        }
        let names = schema.fields().iter().map(|field| field.name().clone());
        let expected = if columns.is_empty() {
            known.iter().map(ToString::to_string).collect()
        } else {
            columns
        };
        assert_eq!(names.collect::<Vec<_>>(), expected);
        seen.insert(table.to_string());
    }
    assert!(seen.len() > 1);
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_columns_are_those_that_are_agreed() {
    let server = TestServer::start().await;
    let stub = stub(&server).await;
    let schema = |names: &'static [&'static str]| {
        let mut stub = stub.clone();
        async move {
            let answer = stub.get_schema(path(names)).await.unwrap();
            Schema::try_from(answer.into_inner()).unwrap()
        }
    };
    let events = schema(&["events"]).await;
    assert_eq!(schema(&["types", "x"]).await, events);
    let names: Vec<_> = events.fields().iter().map(|field| field.name()).collect();
    assert_eq!(names, EVENT_COLUMNS);
    let nullable = events.fields().iter().filter(|field| field.is_nullable());
    let nullable: Vec<_> = nullable.map(|field| field.name()).collect();
    assert_eq!(nullable, ["occurred_at", "schema_id", "metadata"]);
    let DataType::List(element) = events.field(10).data_type() else {
        panic!("{events:?}")
    };
    assert_eq!(
        (element.name().as_str(), element.is_nullable()),
        ("element", false)
    );
    let entities = schema(&["entities"]).await;
    let names: Vec<_> = entities.fields().iter().map(|field| field.name()).collect();
    assert_eq!(names, ENTITY_COLUMNS);
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_listed_with_their_numbers() {
    let server = TestServer::start_with(|config| sealing(config, 500)).await;
    // Types enough for several pages of the listing.
    let of_many_types = |n: u64| NewEvent::new("e", format!("t-{:04}", n % 1_200), "{}");
    let tenant = tenant(&server.server).await;
    fill(&tenant, 3_000, 300, of_many_types).await;
    let mut stub = stub(&server).await;
    let answer = stub.list_flights(Criteria::default()).await.unwrap();
    let infos: Vec<_> = answer.into_inner().collect::<Result<_, _>>().await.unwrap();
    let mut listed = BTreeMap::new();
    for info in &infos {
        let path = info.flight_descriptor.clone().unwrap().path;
        assert_eq!(
            told(info),
            json!({"log_id": tenant.log_id().to_string(), "head": 3_000})
        );
        assert!(info.ordered && info.endpoint.len() == 1);
        assert!(schema_of(info).fields().len() >= ENTITY_COLUMNS.len());
        listed.insert(path.join("/"), info.total_records);
    }
    assert_eq!((listed["events"], listed["entities"]), (3_000, -1));
    assert_eq!(listed.len(), 1_202);
    assert_eq!((listed["types/t-0600"], listed["types/t-0601"]), (3, 2));
    let type_of = infos.iter().find(|info| info.total_records == 2).unwrap();
    let rows = all_of(&stub, type_of).await;
    assert_eq!(
        rows.iter().map(|part| part.rows.num_rows()).sum::<usize>(),
        2
    );

    let criteria = Criteria {
        expression: "t-".into(),
    };
    let refused = stub.list_flights(criteria).await.unwrap_err();
    assert_eq!(refusal(&refused).0, Code::InvalidArgument);
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_of_rows_are_exact_where_they_are_told() {
    let server = TestServer::start_with(|config| sealing(config, 10)).await;
    fill(&tenant(&server.server).await, 95, 5, numbered).await;
    let stub = stub(&server).await;
    let mut known = 0;
    for (scan, is_known) in [
        (json!({}), true),
        (json!({"after": 30}), true),
        (json!({"after": 95}), true),
        (json!({"after": 20, "through": 40}), true),
        (json!({"after": 40, "through": 20}), true),
        (json!({"through": 1_000}), true),
        (json!({"as_of": 50}), true),
        (json!({"limit": 7}), true),
        (json!({"limit": 500}), true),
        (json!({"table": ["types", "a"]}), true),
        (
            json!({"table": ["types", "a"], "through": 50, "limit": 20}),
            true,
        ),
        (json!({"table": ["types", "never"]}), true),
        (json!({"table": ["types", "a"], "after": 1}), true),
        (json!({"types": ["a"]}), true),
        (
            json!({"types": ["a", "c"], "after": 31, "through": 90}),
            true,
        ),
        (
            json!({"entities": ["entity-1", "entity-6"], "limit": 9}),
            true,
        ),
        (json!({"types": ["a", "a"]}), false),
        (json!({"types": ["a"], "entities": ["entity-1"]}), false),
        (json!({"types": ["a"], "partitions": [1]}), false),
        (json!({"tags": ["none"]}), false),
        (json!({"table": "entities"}), false),
    ] {
        let info = stub.clone().get_flight_info(command(&scan)).await.unwrap();
        let info = info.into_inner();
        let rows: usize = all_of(&stub, &info)
            .await
            .iter()
            .map(|part| part.rows.num_rows())
            .sum();
        if is_known {
            assert_eq!(info.total_records, rows.cast_signed() as i64, "{scan}");
            known += rows;
        } else {
            assert_eq!(info.total_records, -1, "{scan}");
        }
    }
    assert!(known > 300);
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_table_is_told_with_the_tables() {
    let server = TestServer::start().await;
    fill(&tenant(&server.server).await, 5, 5, numbered).await;
    let stub = stub(&server).await;
    for names in [
        &["event"][..],
        &[],
        &["types"],
        &["types", "a", "b"],
        &["events", "a"],
    ] {
        let refused = stub.clone().get_flight_info(path(names)).await.unwrap_err();
        assert_eq!(
            refusal(&refused),
            (Code::NotFound, "NO_SUCH_TABLE".to_owned())
        );
        assert!(
            refused.message().contains("\"entities\""),
            "{}",
            refused.message()
        );
        let refused = stub.clone().get_schema(path(names)).await.unwrap_err();
        assert_eq!(refused.code(), Code::NotFound);
    }
    for (scan, told) in [
        (json!({"table": "event"}), "\"entities\""),
        (json!({"columns": ["pos"]}), "position"),
        (json!({"colums": []}), "`columns`"),
        (
            json!({"table": "entities", "columns": ["position"]}),
            "first_position",
        ),
        (json!({"table": "entities", "types": ["a"]}), "entities"),
        (json!({"follow": true, "through": 3}), "as_of"),
    ] {
        let refused = stub
            .clone()
            .get_flight_info(command(&scan))
            .await
            .unwrap_err();
        assert_eq!(
            refusal(&refused),
            (Code::InvalidArgument, "INVALID_REQUEST".to_owned())
        );
        assert!(
            refused.message().contains(told),
            "{scan}: {}",
            refused.message()
        );
        let refused = get(&stub, typed(&scan)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{scan}");
    }
    let beyond = get(&stub, typed(&json!({"after": 6}))).await.unwrap_err();
    assert_eq!(
        refusal(&beyond),
        (Code::OutOfRange, "BEYOND_HEAD".to_owned())
    );

    // A type that never occurred is a table without rows.
    let empty = get(&stub, typed(&json!({"table": ["types", "z"]})))
        .await
        .unwrap();
    let [only] = empty.as_slice() else {
        panic!("{empty:?}")
    };
    assert_eq!(
        (only.rows.num_rows(), only.position, only.head),
        (0, Some(5), 5)
    );
    server.server.shutdown().await;
}

/// Enough events for several endpoints.
const MANY: u64 = 600_000;

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_read_side_by_side_are_one_table_while_appends_go_on() {
    let server = TestServer::start_with(|config| config.limits.disk_reserve_bytes = 0).await;
    let tenant = tenant(&server.server).await;
    let small = |n: u64| NewEvent::new(format!("e-{}", n % 100), "t", n.to_string());
    fill(&tenant, MANY, 10_000, small).await;
    let stub = stub(&server).await;
    let scan = json!({"columns": ["position", "version"]});
    let info = stub
        .clone()
        .get_flight_info(command(&scan))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (info.endpoint.len(), info.total_records),
        (2, MANY.cast_signed())
    );
    assert_eq!(told(&info)["head"], MANY);

    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let appending = tokio::spawn(async move {
        while !stopped.is_cancelled() {
            fill(&tenant, 100, 100, small).await;
        }
        tenant.head()
    });
    let whole = {
        let stub = stub.clone();
        let scan = json!({"columns": ["position", "version"], "through": MANY});
        tokio::spawn(async move { get(&stub, typed(&scan)).await.unwrap() })
    };
    let mut reading = Vec::new();
    for endpoint in &info.endpoint {
        let (stub, ticket) = (stub.clone(), endpoint.ticket.clone().unwrap().ticket);
        reading.push(tokio::spawn(
            async move { get(&stub, ticket).await.unwrap() },
        ));
    }
    let mut joined = Vec::new();
    for part in reading {
        joined.extend(part.await.unwrap());
    }
    let whole = whole.await.unwrap();
    stop.cancel();
    assert!(appending.await.unwrap() > MANY);
    let positions = numbers(&joined, "position");
    assert!(positions.iter().copied().eq(1..=MANY));
    assert_eq!(numbers(&joined, "version"), numbers(&whole, "version"));
    assert_eq!(positions, numbers(&whole, "position"));
    assert!(joined.iter().all(|part| part.head <= MANY));
    server.server.shutdown().await;
}

/// Both sides of the connection have the same, also where a client asks for a filter and a limit.
#[tokio::test(flavor = "multi_thread")]
async fn the_rust_client_scans() {
    use annals::{Client, ScanRequest, Table};

    let server = TestServer::start_with(|config| sealing(config, 10)).await;
    let tenant = tenant(&server.server).await;
    fill(&tenant, 45, 5, numbered).await;
    let client = Client::connect(format!("http://{}", server.server.local_addr()))
        .await
        .unwrap();
    let request = ScanRequest {
        table: Table::Type("a".into()),
        columns: vec!["payload".to_owned(), "position".to_owned()],
        after: 9,
        limit: Some(5),
        ..ScanRequest::default()
    };
    let mut scan = client.scan(&request).await.unwrap();
    let schema = SchemaRef::clone(scan.schema());
    assert_eq!(schema.field(0).name(), "payload");
    let mut rows = Vec::new();
    let mut end = None;
    while let Some(batch) = scan.next().await.unwrap() {
        assert_eq!((batch.rows.schema(), batch.head), (schema.clone(), 45));
        assert_eq!(batch.log_id, tenant.log_id());
        end = batch.position;
        rows.extend(super::stubs::cells(&batch.rows));
    }
    let expected = [12, 15, 18, 21, 24].map(|n| vec![json!(format!(r#"{{"n":{n}}}"#)), json!(n)]);
    assert_eq!(rows, expected);
    assert_eq!(end, Some(24));

    let entities = ScanRequest {
        table: Table::Entities,
        ..ScanRequest::default()
    };
    let mut scan = client.scan(&entities).await.unwrap();
    let batch = scan.next().await.unwrap().unwrap();
    assert_eq!(
        (batch.rows.num_rows(), batch.position, batch.head),
        (7, None, 45)
    );

    let wrong = ScanRequest {
        columns: vec!["no".to_owned()],
        ..ScanRequest::default()
    };
    let error = client.scan(&wrong).await.unwrap_err();
    assert_eq!(error.reason(), "INVALID_REQUEST");
    assert_eq!(error.violations()[0].field, "columns");
    let mut wrong = ScanRequest::default();
    wrong.filter.tags = vec![bytes::Bytes::from_static(b"\xff").into()];
    let error = client.scan(&wrong).await.unwrap_err();
    assert_eq!(error.violations()[0].field, "filter.tags");
    server.server.shutdown().await;
}
