//! The bounds of a statement: memory, time, rows, and how many run at once. Whatever is reached, the server goes on.

use std::time::{Duration, Instant};

use serde_json::json;
use tonic::Code;

use super::stubs::{ask, refused, value};
use crate::flight::stubs::{Reading, fill, numbered, stub, tenant};
use crate::wire::TestServer;

/// Goes on for hours, and gives rows all the time.
const LONG: &str = "select a.value from generate_series(1, 1000000) a, generate_series(1, 1000000) b \
     where (a.value + b.value) % 3 = 0";
/// As long, without a row until its end.
const SILENT: &str = "select count(*) from generate_series(1, 1000000) a, generate_series(1, 1000000) b \
     where (a.value * 7919 + b.value) % 1000003 = 5";

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_needs_too_much_memory_is_told_so() {
    let server = TestServer::start_with(|config| {
        config.limits.sql_query_memory_bytes = 4 << 20;
    })
    .await;
    fill(&tenant(&server.server).await, 100, 10, numbered).await;
    let stub = stub(&server).await;
    for statement in [
        "select count(*) from (select distinct value % 2999999 as v from generate_series(1, 3000000))",
        "select value from generate_series(1, 3000000) order by value % 1000, value desc",
        "select count(*) from generate_series(1, 3000000) a join generate_series(1, 3000000) b on a.value = b.value",
        "select array_agg(value) from generate_series(1, 3000000)",
        "select sum(x) from (select row_number() over (order by value desc) as x from generate_series(1, 3000000))",
    ] {
        let (code, reason, message) = refused(&stub, statement).await;
        assert_eq!(
            (code, &*reason),
            (Code::ResourceExhausted, "SQL_MEMORY"),
            "{statement}: {message}"
        );
        assert!(
            message.contains("`limits.sql_query_memory_bytes`"),
            "{message}"
        );
        assert!(message.contains("4194304 bytes"), "{message}");
        assert_eq!(value(&stub, "select count(*) from events").await, "100");
    }
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_statements_together_have_a_bound_of_memory() {
    let server = TestServer::start_with(|config| {
        config.limits.sql_memory_bytes = 4 << 20;
    })
    .await;
    let stub = stub(&server).await;
    let statement = "select count(*) from (select distinct value % 2999999 as v from generate_series(1, 3000000))";
    let (code, reason, message) = refused(&stub, statement).await;
    assert_eq!(
        (code, &*reason),
        (Code::ResourceExhausted, "SQL_MEMORY"),
        "{message}"
    );
    assert!(message.contains("`limits.sql_memory_bytes`"), "{message}");
    // What it held was given back.
    assert_eq!(
        value(
            &stub,
            "select count(distinct value) from generate_series(1, 1000)"
        )
        .await,
        "1000"
    );
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_takes_too_long_ends() {
    let server = TestServer::start_with(|config| {
        config.limits.sql_query_time = Duration::from_secs(1);
        config.limits.sql_queries_max = 1;
    })
    .await;
    let stub = stub(&server).await;
    for statement in [
        LONG,
        SILENT,
        "select sum(a.value * b.value) from generate_series(1, 1000000) a, generate_series(1, 1000000) b",
        "select count(*) from generate_series(1, 1000000) a join generate_series(1, 1000000) b \
         on a.value % 2 = b.value % 2 where a.value * 3 > b.value",
        "select count(*) from generate_series(1, 1000000000000) where value % 7 = 3",
        "with recursive n as (select 1 as i union all select i from n) select count(*) from n",
    ] {
        let begun = Instant::now();
        let (code, reason, message) = refused(&stub, statement).await;
        assert_eq!(
            (code, &*reason),
            (Code::DeadlineExceeded, "SQL_TIME"),
            "{message}"
        );
        assert!(
            message.contains("1 s of `limits.sql_query_seconds`"),
            "{message}"
        );
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "{:?}",
            begun.elapsed()
        );
        wait_for_room(&stub).await;
    }
    // Who takes no rows has no more time.
    let mut reading = Reading::begin(&stub, json!({"sql": LONG}).to_string())
        .await
        .unwrap();
    wait_for_room(&stub).await;
    let ended = loop {
        match reading.next().await {
            Ok(Some(_)) => {}
            ended => break ended,
        }
    };
    assert_eq!(ended.unwrap_err().code(), Code::DeadlineExceeded);
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_has_a_bound_of_rows() {
    let server = TestServer::start_with(|config| {
        config.limits.sql_result_rows_max = 50;
    })
    .await;
    fill(&tenant(&server.server).await, 100, 10, numbered).await;
    let stub = stub(&server).await;
    let (code, reason, message) = refused(&stub, "select * from events").await;
    assert_eq!(
        (code, &*reason),
        (Code::ResourceExhausted, "SQL_ROWS"),
        "{message}"
    );
    assert!(
        message.contains("50 rows of `limits.sql_result_rows_max`"),
        "{message}"
    );
    let parts = ask(&stub, "select * from events limit 50").await.unwrap();
    assert_eq!(
        parts.iter().map(|part| part.rows.num_rows()).sum::<usize>(),
        50
    );
    assert_eq!(value(&stub, "select count(*) from events").await, "100");
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_whose_client_is_gone_ends() {
    let server = TestServer::start_with(|config| config.limits.sql_queries_max = 1).await;
    let tenant = tenant(&server.server).await;
    fill(&tenant, 100, 10, numbered).await;
    let stub = stub(&server).await;
    for statement in [LONG, SILENT] {
        let mut reading = Reading::begin(&stub, json!({"sql": statement}).to_string())
            .await
            .unwrap();
        if statement == LONG {
            assert!(reading.next().await.unwrap().is_some());
        }
        let (code, reason, message) = refused(&stub, "select 1").await;
        assert_eq!(
            (code, &*reason),
            (Code::ResourceExhausted, "SQL_BUSY"),
            "{message}"
        );
        assert!(message.contains("`limits.sql_queries_max`"), "{message}");
        drop(reading);
        wait_for_room(&stub).await;
    }
    // In process, the same.
    let rows = tenant.sql(SILENT).await.unwrap();
    drop(rows);
    wait_for_room(&stub).await;
    server.server.shutdown().await;
}

/// While statements take all that the machine has, appends are taken and connections are served.
#[tokio::test(flavor = "multi_thread")]
async fn appends_go_on_beside_statements_that_take_all_cores() {
    let server = TestServer::start().await;
    let tenant = tenant(&server.server).await;
    let stub = stub(&server).await;
    let mut readings = Vec::new();
    for _ in 0..4 {
        let ticket = json!({"sql": SILENT}).to_string();
        readings.push(Reading::begin(&stub, ticket).await.unwrap());
    }
    let begun = Instant::now();
    fill(&tenant, 50, 1, numbered).await;
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(value(&stub, "select count(*) from events").await, "50");
    drop(readings);
    assert!(server.server.shutdown().await, "it drains");
}

/// Until the one statement that may run has ended.
async fn wait_for_room(stub: &crate::flight::stubs::Stub) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while let Err(status) = ask(stub, "select 1").await {
        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
        assert!(Instant::now() < deadline, "it goes on");
        tokio::task::yield_now().await;
    }
}
