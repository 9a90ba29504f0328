//! Statements that are refused: those that would write or reach out, by their name; mistakes, with what is wrong.

use tonic::Code;

use super::stubs::{refused, server, value};

const FORBIDDEN: [(&str, &str); 44] = [
    ("insert into events values (1)", "INSERT"),
    ("insert into events select * from events", "INSERT"),
    ("update events set payload = '{}'", "UPDATE"),
    ("delete from events", "DELETE"),
    ("truncate table events", "TRUNCATE"),
    (
        "merge into events using entities on true when matched then delete",
        "MERGE",
    ),
    ("create table t (a int)", "CREATE TABLE"),
    ("create table t as select 1", "CREATE TABLE"),
    ("create temporary table t as select 1", "CREATE TEMPORARY"),
    ("create or replace view v as select 1", "CREATE OR"),
    ("create view v as select 1", "CREATE VIEW"),
    ("create schema s", "CREATE SCHEMA"),
    ("create database d", "CREATE DATABASE"),
    ("create index i on events (position)", "CREATE INDEX"),
    (
        "create function f() returns int return 1",
        "CREATE FUNCTION",
    ),
    (
        "create external table t stored as csv location '/etc/passwd'",
        "CREATE EXTERNAL TABLE",
    ),
    (
        "create external table t stored as parquet location 's3://bucket/x'",
        "CREATE EXTERNAL TABLE",
    ),
    ("drop table events", "DROP TABLE"),
    ("drop view v", "DROP VIEW"),
    ("drop schema annals", "DROP SCHEMA"),
    ("drop function abs", "DROP FUNCTION"),
    ("alter table events add column x int", "ALTER TABLE"),
    ("copy (select * from events) to '/tmp/out.csv'", "COPY"),
    (
        "copy events to '/tmp/out.parquet' stored as parquet",
        "COPY",
    ),
    ("set datafusion.execution.batch_size = 1", "SET"),
    ("set time zone = 'UTC'", "SET"),
    ("reset datafusion.execution.batch_size", "RESET"),
    ("show all", "SHOW"),
    ("show datafusion.execution.batch_size", "SHOW"),
    ("prepare p as select 1", "PREPARE"),
    ("execute p", "EXECUTE"),
    ("deallocate p", "DEALLOCATE"),
    ("begin", "BEGIN"),
    ("start transaction", "START TRANSACTION"),
    ("commit", "COMMIT"),
    ("rollback", "ROLLBACK"),
    ("use other", "USE"),
    ("grant select on events to public", "GRANT"),
    ("analyze table events", "ANALYZE"),
    ("explain insert into events values (1)", "INSERT"),
    ("explain analyze delete from events", "DELETE"),
    ("explain create table t as select 1", "CREATE TABLE"),
    ("select * into t from events", "SELECT INTO"),
    (
        "with t as (select 1) insert into events select * from t",
        "INSERT",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn what_would_write_or_reach_out_is_refused_by_its_name() {
    let (server, _, stub) = server().await;
    for (statement, what) in FORBIDDEN {
        let (code, reason, message) = refused(&stub, statement).await;
        assert_eq!(
            (code, &*reason),
            (Code::InvalidArgument, "SQL_ONLY_READS"),
            "{statement}: {message}"
        );
        assert!(
            message.starts_with(&format!("{what} is not allowed")),
            "{statement}: {message}"
        );
    }
    assert_eq!(value(&stub, "select count(*) from events").await, "200");
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_and_addresses_are_no_tables() {
    let (server, _, stub) = server().await;
    for name in [
        "'file.parquet'",
        "'/etc/passwd'",
        "\"/etc/passwd\"",
        "'s3://bucket/file.parquet'",
        "'https://example.com/file.csv'",
        "\"file:///etc/passwd\"",
    ] {
        let (code, reason, message) = refused(&stub, &format!("select * from {name}")).await;
        assert_eq!(
            (code, &*reason),
            (Code::NotFound, "NO_SUCH_TABLE"),
            "{name}: {message}"
        );
    }
    for call in [
        "read_csv('/etc/passwd')",
        "read_parquet('x')",
        "parquet_metadata('x')",
    ] {
        let (code, _, message) = refused(&stub, &format!("select * from {call}")).await;
        assert_eq!(code, Code::NotFound, "{call}: {message}");
    }
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_table_is_told_with_those_that_are_known() {
    let (server, _, stub) = server().await;
    for (name, expected) in [
        (
            "event",
            "there is no table `event`: there are events and entities",
        ),
        (
            "types.\"order.never\"",
            "no event of this type has occurred up to position 200",
        ),
        ("types.order.paid", "write types.\"order.paid\""),
        (
            "other.events",
            "there are events and entities in the schema annals",
        ),
        ("other.annals.events", "of the catalog \"default\""),
        ("annals.types", "there are events and entities"),
    ] {
        let (code, reason, message) = refused(&stub, &format!("select * from {name}")).await;
        assert_eq!(
            (code, &*reason),
            (Code::NotFound, "NO_SUCH_TABLE"),
            "{message}"
        );
        assert!(message.contains(expected), "{name}: {message}");
    }
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_is_told_in_one_line_with_its_place() {
    let (server, _, stub) = server().await;
    for (statement, expected) in [
        ("", "there is no statement"),
        ("  -- nothing\n", "there is no statement"),
        ("selec 1", "Line: 1, Column: 1"),
        ("select 1\n  from events where and", "Line: 2"),
        ("select 'open", "Unterminated string literal"),
        ("select 1; select 2", "there are 2 statements"),
        (
            "select nme from events",
            "No field named nme. Valid fields are events.position",
        ),
        ("select\n nme from events", "Line: 2, Column: 2"),
        ("select count(* from events", "Line: 1"),
        ("select nope(1)", "nope"),
        (
            "select position + payload from events where position = 'x' group by 1",
            "",
        ),
        ("select sum(payload) from events", ""),
        ("select entity_id, count(*) from events", "GROUP BY"),
        ("select $1", "$1"),
        ("select * from events where position > ?", "$1"),
    ] {
        let (code, reason, message) = refused(&stub, statement).await;
        assert_eq!(
            (code, &*reason),
            (Code::InvalidArgument, "INVALID_SQL"),
            "{statement}: {message}"
        );
        assert!(message.contains(expected), "{statement}: {message}");
        assert!(
            !message.contains('\n') && message.starts_with("invalid SQL: "),
            "{message}"
        );
    }
    for statement in [
        "select 1 / (position - 5) from events",
        "select (payload -> 'text')::text::bigint from events",
    ] {
        let (code, reason, message) = refused(&stub, statement).await;
        assert_eq!(
            (code, &*reason),
            (Code::InvalidArgument, "SQL_FAILED"),
            "{statement}: {message}"
        );
    }
    server.server.shutdown().await;
}

/// Texts that are made to be hard: none of them ends the server.
#[tokio::test(flavor = "multi_thread")]
async fn deep_and_long_statements_are_answered() {
    let (server, _, stub) = server().await;
    let deep = |n: usize| format!("select {}1{}", "(".repeat(n), ")".repeat(n));
    let chain = |n: usize, op: &str| {
        format!(
            "select count(*) from events where {}",
            vec!["position > 1"; n].join(op)
        )
    };
    let with = |n: usize| {
        let doubled = |i: usize| format!(", a{} as (select x.* from a{i} x, a{i} y)", i + 1);
        let tables: String = (0..n).map(doubled).collect();
        format!("with a0 as (select 1 as one){tables} select count(*) from a{n}")
    };
    let statements = [
        with(5),
        with(40),
        deep(40),
        deep(20_000),
        format!("select {}1", "not ".repeat(20_000)),
        format!("select {}1", "- ".repeat(20_000)),
        chain(5_000, " or "),
        chain(5_000, " and "),
        format!("select {}", vec!["1"; 20_000].join(" + ")),
        format!("select * from {}", "(select * from ".repeat(2_000)),
        format!(
            "select count(*) from events where position in ({})",
            vec!["1"; 20_000].join(",")
        ),
        format!("{} select 1", "with a as (".repeat(1_000)),
        format!("select {}", "x".repeat(200_000)),
        vec!["select 1"; 500].join(" union all "),
        format!(
            "select {}",
            "payload ".to_owned() + &"-> 'a' ".repeat(3_000)
        ),
        format!("select case {} end", "when 1 = 2 then 3 ".repeat(3_000)),
    ];
    for statement in statements {
        let start: String = statement.chars().take(60).collect();
        if let Err(status) = super::stubs::ask(&stub, &statement).await {
            assert!(
                [
                    Code::InvalidArgument,
                    Code::NotFound,
                    Code::ResourceExhausted
                ]
                .contains(&status.code()),
                "{start}: {status:?}"
            );
        }
    }
    assert_eq!(value(&stub, "select 1").await, "1");
    server.server.shutdown().await;
}
