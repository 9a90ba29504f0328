//! Statements that are planned before they run, and given values: in process.

use std::sync::Arc;

use annals::{AsOf, SqlRequest, Tenant};
use arrow::{
    array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray},
    datatypes::Int64Type,
};

use super::stubs::{EVENTS, server};

async fn positions(tenant: &Tenant, statement: &str, row: RecordBatch) -> Vec<i64> {
    let request = SqlRequest {
        parameters: Some(row),
        ..statement.into()
    };
    let mut rows = tenant.sql(request).await.unwrap();
    let mut found = Vec::new();
    while let Some(batch) = rows.next().await.unwrap() {
        found.extend(batch.column(0).as_primitive::<Int64Type>().values());
    }
    found
}

fn row(columns: &[(&str, ArrayRef)]) -> RecordBatch {
    RecordBatch::try_from_iter(columns.iter().cloned()).unwrap()
}

fn text(value: &str) -> ArrayRef {
    Arc::new(StringArray::from(vec![value]))
}

fn number(value: i64) -> ArrayRef {
    Arc::new(Int64Array::from(vec![value]))
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_are_numbered_or_named_or_marked() {
    let (server, tenant, _) = server().await;
    for (statement, columns) in [
        (
            "select position from events where entity_id = $1 and position > $2 order by 1",
            ["$1", "$2"],
        ),
        (
            "select position from events where entity_id = ? and position > ? order by 1",
            ["", "?"],
        ),
        (
            "select position from events where position > $2 and payload ? 'n' and entity_id = $1 order by 1",
            ["1", "2"],
        ),
        (
            "select position from events where position > $least and entity_id = $who order by 1",
            ["who", "$least"],
        ),
    ] {
        let row = row(&[(columns[0], text("entity-3")), (columns[1], number(150))]);
        let found = positions(&tenant, statement, row).await;
        assert_eq!(found, [157, 164, 171, 178, 185, 192, 199], "{statement}");
    }
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_is_planned_without_running() {
    let (server, tenant, _) = server().await;
    let statement = "select position, payload ->> 'n' as n, count(*) over () from events \
         where entity_id = $1 and position > $2 and recorded_at < $3";
    let prepared = tenant.prepare_sql(statement, None).await.unwrap();
    assert_eq!(prepared.head, EVENTS);
    let parameters: Vec<_> = prepared
        .parameters
        .fields()
        .iter()
        .map(|field| format!("{} {}", field.name(), field.data_type()))
        .collect();
    assert_eq!(parameters[..2], ["$1 Utf8", "$2 Int64"], "{parameters:?}");
    assert!(parameters[2].starts_with("$3 Timestamp"), "{parameters:?}");

    let past = tenant
        .prepare_sql("select 1", Some(AsOf::Position(7)))
        .await
        .unwrap();
    assert_eq!(past.head, 7);
    for statement in [
        "select * from events",
        "select * from entities where entity_id > 'a'",
        "select event_type, count(*), max(recorded_at) as last, payload -> 'n' from events group by 1, 4",
        "select arrow_cast(entity_id, 'Utf8View') as x, sum(position) from types.\"order.paid\" group by 1",
        "select a.*, b.payload from events a left join events b on a.position = b.position + 1",
        "explain select 1",
        "explain analyze select 1",
        "show tables",
        "describe events",
        "values (1, 'a'), (2, null)",
        "select 1 as a union all select position from events",
    ] {
        let prepared = tenant.prepare_sql(statement, None).await.unwrap();
        let mut rows = tenant.sql(statement).await.unwrap();
        assert_eq!(rows.schema(), &prepared.schema, "{statement}");
        let mut count = 0;
        while let Some(batch) = rows.next().await.unwrap() {
            assert_eq!(batch.schema(), prepared.schema, "{statement}");
            count += batch.num_rows();
        }
        assert!(count > 0, "{statement}");
        assert!(rows.next().await.unwrap().is_none());
    }
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_do_not_fit_are_refused() {
    let (server, tenant, _) = server().await;
    let two =
        RecordBatch::try_from_iter([("$1", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef)])
            .unwrap();
    for (statement, parameters) in [
        ("select position from events where position > $1", Some(two)),
        ("select position from events where position > $1", None),
        (
            "select position from events where position > $2",
            Some(row(&[("$1", number(1))])),
        ),
        (
            "select position from events where position > $a",
            Some(row(&[("b", number(1))])),
        ),
    ] {
        let request = SqlRequest {
            parameters,
            ..statement.into()
        };
        let refused = tenant.sql(request).await.err().expect(statement);
        assert_eq!(refused.reason(), "INVALID_SQL", "{statement}: {refused}");
    }
    server.server.shutdown().await;
}
