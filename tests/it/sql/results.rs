//! What statements give: the rows of scans, in types that every client reads, in messages that it takes.

use std::collections::BTreeMap;

use arrow::datatypes::DataType;
use serde_json::json;

use super::stubs::{EVENTS, ask, column, noted, rows, server, texts, value};
use crate::flight::stubs::{Reading, fill, get, sealing, stub, tenant, typed};
use crate::wire::TestServer;

#[tokio::test(flavor = "multi_thread")]
async fn tables_have_the_rows_and_the_schema_of_scans() {
    let (server, tenant, stub) = server().await;
    for (statement, scan) in [
        ("select * from events", json!({})),
        (
            "select * from annals.events order by position",
            json!({"table": "events"}),
        ),
        ("select * from \"default\".annals.events", json!({})),
        (
            "select entity_id, events, first_position, last_position from entities order by entity_id",
            json!({"table": "entities"}),
        ),
        (
            "select * from types.\"order.paid\"",
            json!({"table": ["types", "order.paid"]}),
        ),
        (
            "select tags, payload, position from events where entity_id = 'entity-2' and position <= 100",
            json!({"columns": ["tags", "payload", "position"], "entities": ["entity-2"], "through": 100}),
        ),
        (
            "select position from events where array_has(tags, 'ten')",
            json!({"columns": ["position"], "tags": ["ten"]}),
        ),
    ] {
        let expected = get(&stub, typed(&scan)).await.unwrap();
        let found = ask(&stub, statement).await.unwrap();
        assert_eq!(texts(&found), texts(&expected), "{statement}");
        let schema = found[0].rows.schema();
        assert_eq!(schema, expected[0].rows.schema(), "{statement}");
        for part in &found {
            assert_eq!((part.head, part.position), (EVENTS, None));
            assert_eq!(part.log_id, tenant.log_id().to_string());
        }
    }
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn entities_have_times_and_types() {
    let (server, _, stub) = server().await;
    let all = rows(&stub, "select * from entities order by entity_id").await;
    assert_eq!(all.len(), 7);
    let counted = "select entity_id, count(*), min(position), max(position), min(recorded_at), max(recorded_at), \
         count(*) filter (where event_type = 'case.noted') from events group by 1 order by 1";
    for (found, expected) in all.iter().zip(rows(&stub, counted).await) {
        assert_eq!(found[..6], expected[..6]);
        assert!(
            found[6].contains(&format!("case.noted: {}", expected[6])),
            "{found:?}"
        );
    }
    let one = "select types['order.paid'] from entities where entity_id = 'entity-3'";
    let plan = super::stubs::analyzed(&stub, one).await;
    assert_eq!(super::stubs::counted(&plan, "rows_read"), 29, "{plan}");
    assert_eq!(value(&stub, one).await, "10");
    assert_eq!(
        value(
            &stub,
            "select count(*) from entities where first_recorded_at < now()"
        )
        .await,
        "7"
    );
    let none = "select * from entities where entity_id = 'none'";
    assert!(rows(&stub, none).await.is_empty());
    let names = "select entity_id from entities where entity_id > 'entity-3' limit 2";
    let plan = super::stubs::analyzed(&stub, names).await;
    assert!(plan.contains("table=entities"), "{plan}");
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_appended_just_now_is_there() {
    let (server, tenant, stub) = server().await;
    for n in 1..=20 {
        fill(&tenant, 1, 1, noted).await;
        let last = "select position from events order by position desc limit 1";
        assert_eq!(value(&stub, last).await, (EVENTS + n).to_string());
        let count = value(&stub, "select count(*) from events").await;
        assert_eq!(count, (EVENTS + n).to_string());
    }
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn payloads_are_asked_with_json_operators() {
    let (server, _, stub) = server().await;
    for (statement, expected) in [
        (
            "select payload ->> 'n' from events where position = 42",
            "42",
        ),
        (
            "select payload -> 'n' from events where position = 42",
            "42",
        ),
        (
            "select (payload -> 'n')::bigint + 1 from events where position = 42",
            "43",
        ),
        (
            "select payload ->> 'text' from events where position = 42",
            "it's \"42\"",
        ),
        (
            "select payload -> 'text' from events where position = 42",
            r#""it's \"42\"""#,
        ),
        (
            "select payload -> 'deep' -> 'a' ->> 1 from events where position = 42",
            "2",
        ),
        (
            "select payload -> 'deep' from events where position = 42",
            r#"{"a":[1,2]}"#,
        ),
        (
            "select payload ->> 'none' from events where position = 42",
            "null",
        ),
        ("select count(*) from events where payload ? 'deep'", "200"),
        ("select count(*) from events where payload ? 'none'", "0"),
        (
            "select count(*) from events where payload ->> 'n' > '9'",
            "10",
        ),
        ("select sum((payload ->> 'n')::bigint) from events", "20100"),
        (
            "select sum(json_get_int(payload, 'n')) from events",
            "20100",
        ),
        (
            "select json_length(payload -> 'deep', 'a') from events limit 1",
            "2",
        ),
        (
            "select count(*) from events where metadata ->> 'x' is null",
            "200",
        ),
    ] {
        assert_eq!(value(&stub, statement).await, expected, "{statement}");
    }
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_is_whole() {
    let (server, _, stub) = server().await;
    for (statement, expected) in [
        ("select 1", "1"),
        ("values (1), (2)", "1 2"),
        (
            "select count(*) from events a join events b on a.position = b.position + 1",
            "199",
        ),
        (
            "select count(*) from entities e join events v on v.position = e.last_position and v.entity_id = e.entity_id",
            "7",
        ),
        (
            "with recursive n(i) as (select 1 union all select i + 1 from n where i < 10) select sum(i) from n",
            "55",
        ),
        (
            "select max(c) from (select count(*) as c from events group by entity_id)",
            "29",
        ),
        (
            "select sum(gap) from (select position - lag(position) over (partition by entity_id order by position) as gap from events)",
            "1351",
        ),
        (
            "select string_agg(event_type, ',' order by position) from events where position <= 3",
            "order.shipped,case.noted,order.paid",
        ),
        (
            "select count(*) from events where position in (select last_position from entities)",
            "7",
        ),
        (
            "select count(distinct date_trunc('year', occurred_at)) from events",
            "1",
        ),
        (
            "select upper(substr(entity_id, 1, 6)) from events limit 1",
            "ENTITY",
        ),
        (
            "select regexp_replace(event_type, '^(.*)\\.(.*)$', '\\2') from events where position = 3",
            "paid",
        ),
        (
            "select cardinality(tags) from events where position = 10",
            "2",
        ),
        (
            "select t from (select unnest(tags) as t from events where position = 10) order by 1",
            "five ten",
        ),
        (
            "select round(sqrt(position), 2) from events where position = 2",
            "1.41",
        ),
        (
            "select to_char(occurred_at, '%Y-%m-%d') from events where position = 40",
            "2020-02-10",
        ),
        (
            "select count(*) filter (where position > 100) from events",
            "100",
        ),
        (
            "(select position from events limit 1) union all (select 7) order by 1",
            "1 7",
        ),
        ("select approx_distinct(entity_id) from events", "7"),
        (
            "select case when position > 1 then 'b' else 'a' end from events limit 2",
            "a b",
        ),
        ("select e.position from events e limit 1; ", "1"),
        ("-- a comment\nselect /* another */ 1", "1"),
    ] {
        let found = column(&stub, statement).await.join(" ");
        assert_eq!(found, expected, "{statement}");
    }
    let counted = rows(
        &stub,
        "select event_type, count(*) from events group by 1 order by 1",
    )
    .await;
    let mut expected = BTreeMap::new();
    for position in 1..=EVENTS {
        *expected
            .entry(noted(position).event_type.to_string())
            .or_insert(0) += 1;
    }
    let expected = expected
        .into_iter()
        .map(|(name, count)| [name, count.to_string()]);
    assert_eq!(counted, expected.collect::<Vec<_>>());
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_listed_and_described() {
    let (server, _, stub) = server().await;
    let listed = rows(&stub, "show tables").await;
    let names: Vec<_> = listed
        .iter()
        .filter(|row| row[1] != "information_schema")
        .map(|row| row[..3].join("."))
        .collect();
    assert_eq!(
        names,
        [
            "default.annals.events",
            "default.annals.entities",
            "default.types.case.noted",
            "default.types.order.paid",
            "default.types.order.shipped"
        ]
    );
    let columns = "select column_name from information_schema.columns where table_name = 'events'";
    let told = column(&stub, columns).await;
    let described = rows(&stub, "describe events").await;
    let shown = rows(&stub, "show columns from events").await;
    assert_eq!(told.len(), 11);
    assert!(told.iter().eq(described.iter().map(|row| &row[0])));
    assert!(told.iter().eq(shown.iter().map(|row| &row[3])));
    let explained = rows(&stub, "explain select * from events where position > 5").await;
    assert!(
        explained.concat().join(" ").contains("AnnalsScan"),
        "{explained:?}"
    );
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn results_have_types_that_every_client_reads() {
    let (server, _, stub) = server().await;
    let statement = "select arrow_cast(entity_id, 'Utf8View') as view, \
         arrow_cast(entity_id, 'Dictionary(Int32, Utf8)') as dictionary, \
         payload ->> 'n' as text, payload -> 'n' as json, arrow_cast(payload, 'BinaryView') as bytes, \
         [arrow_cast('x', 'Utf8View')] as list, named_struct('a', arrow_cast('x', 'Utf8View')) as struct, \
         lower(entity_id) as lower, position + 1 as n from events limit 2";
    let parts = ask(&stub, statement).await.unwrap();
    let schema = parts[0].rows.schema();
    let types: Vec<_> = schema
        .fields()
        .iter()
        .map(|field| field.data_type().to_string())
        .collect();
    for name in ["View", "Dictionary", "Union"] {
        assert!(types.iter().all(|of| !of.contains(name)), "{types:?}");
    }
    assert_eq!(schema.field(0).data_type(), &DataType::Utf8);
    assert_eq!(texts(&parts)[0][..4], ["entity-1", "entity-1", "1", "1"]);
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_without_rows_tells_its_schema_and_head() {
    let (server, _, stub) = server().await;
    for statement in [
        "select * from events where position > 1000",
        "select payload from events where entity_id = 'none'",
        "select 1 where false",
    ] {
        let parts = ask(&stub, statement).await.unwrap();
        assert_eq!(parts.len(), 1, "{statement}");
        assert_eq!((parts[0].rows.num_rows(), parts[0].head), (0, EVENTS));
        assert!(parts[0].rows.num_columns() > 0);
    }
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_results_come_in_messages_that_clients_take() {
    let server = TestServer::start_with(|config| sealing(config, 20)).await;
    let tenant = tenant(&server.server).await;
    fill(&tenant, 64, 8, |n| {
        annals::NewEvent::new(
            "e",
            "t",
            format!(r#"{{"n":{n},"x":"{}"}}"#, "x".repeat(300_000)),
        )
    })
    .await;
    let stub = stub(&server).await;
    for statement in [
        "select payload, position from events",
        "select payload, position from events order by position desc",
        "select payload, position from events order by payload",
        "select array_agg(payload) from events where position <= 8 group by position",
    ] {
        let ticket = json!({"sql": statement}).to_string();
        let parts = Reading::begin(&stub, ticket)
            .await
            .unwrap()
            .rest()
            .await
            .unwrap();
        let rows: usize = parts.iter().map(|part| part.rows.num_rows()).sum();
        assert!(rows == 64 || rows == 8, "{rows}");
        assert!(parts.iter().all(|part| part.bytes < 4 << 20), "{statement}");
    }
    let backward = "select position from events where length(payload) > 5 order by position desc";
    let found = column(&stub, backward).await;
    assert!(
        found
            .iter()
            .map(|n| n.parse::<u64>().unwrap())
            .eq((1..=64).rev())
    );
    server.server.shutdown().await;
}
