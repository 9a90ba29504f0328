//! What a descriptor asks for: guards, cursors, a log; and what repeats and limits are answered with.

use annals::proto::{
    entity_guard::Expect, guard_failure::Failure, query_service_client::QueryServiceClient,
};
use arrow_flight::FlightDescriptor;
use tonic::Code;

use super::upload::{
    batch, command, flight, ids, log_id, messages, no_rows, path, read, rows, send, tags, text,
    with,
};
use crate::wire::TestServer;

async fn cursor(server: &TestServer, name: &str) -> u64 {
    let name = name.to_owned();
    let mut query = QueryServiceClient::new(server.channel().await);
    let request = annals::proto::GetCursorRequest { name };
    query
        .get_cursor(request)
        .await
        .unwrap()
        .into_inner()
        .position
}

#[tokio::test(flavor = "multi_thread")]
async fn every_guard_holds_or_fails_as_with_append() {
    let server = TestServer::start().await;
    let mut client = flight(&server).await;
    let before = with(
        &rows(["order-1", "order-2", "order-1"]),
        "tags",
        tags(&[&["a"], &["a", "b"], &[]]),
    );
    send(&mut client, messages(path(), &[before])).await.is_ok();
    let quiet = batch([
        ("entity_id", text(["other"])),
        ("event_type", text(["quiet"])),
        ("payload", text(["{}"])),
    ]);

    let entity = |entity: &str, expect: Expect, found: u64| {
        Failure::Entity(annals::proto::EntityGuardFailure {
            expected: Some(annals::proto::EntityGuard {
                entity_id: entity.to_owned(),
                expect: Some(expect),
            }),
            found_version: found,
        })
    };
    let matched =
        |found_position| Failure::NoMatch(annals::proto::NoMatchGuardFailure { found_position });
    for (guard, expected, reason) in [
        (
            r#"{"entity":"order-1","expect":"absent"}"#,
            entity("order-1", Expect::Absent(()), 2),
            "VERSION_CONFLICT",
        ),
        (
            r#"{"entity":"order-3","expect":"exists"}"#,
            entity("order-3", Expect::Exists(()), 0),
            "VERSION_CONFLICT",
        ),
        (
            r#"{"entity":"order-1","version":1}"#,
            entity("order-1", Expect::Version(1), 2),
            "VERSION_CONFLICT",
        ),
        (
            r#"{"no_match":[{"types":["case.noted"]}]}"#,
            matched(1),
            "QUERY_MATCHED",
        ),
        (
            r#"{"no_match":[{"types":["x"]},{"tags":["a","b"]}],"after":1}"#,
            matched(2),
            "QUERY_MATCHED",
        ),
    ] {
        let descriptor = command(format!(
            r#"{{"guards":[{{"entity":"x","expect":"any"}},{guard}]}}"#
        ));
        let outcome = send(
            &mut client,
            messages(descriptor, std::slice::from_ref(&quiet)),
        )
        .await;
        outcome.is_refused(Code::Aborted, reason);
        let failure = outcome.guard();
        assert_eq!(
            (failure.index, failure.failure),
            (1, Some(expected)),
            "{guard}"
        );
    }
    let beyond = command(r#"{"guards":[{"no_match":[{"types":["x"]}],"after":99}]}"#);
    let outcome = send(&mut client, messages(beyond, std::slice::from_ref(&quiet))).await;
    outcome.is_refused(Code::OutOfRange, "BEYOND_HEAD");
    let empty = command(r#"{"guards":[{"no_match":[{}]}]}"#);
    let outcome = send(&mut client, messages(empty, std::slice::from_ref(&quiet))).await;
    outcome.is_refused(Code::InvalidArgument, "INVALID_BATCH");
    assert_eq!(
        outcome.violations()[0].0,
        "guards[0].no_match.query.items[0]"
    );
    assert_eq!(read(&server).await.len(), 3);

    for guard in [
        r#"{"entity":"order-1","expect":"any"}"#,
        r#"{"entity":"order-1","expect":"exists"}"#,
        r#"{"entity":"order-1","version":2}"#,
        r#"{"entity":"order-3","expect":"absent"}"#,
        r#"{"entity":"order-3","version":0}"#,
        r#"{"no_match":[{"types":["x"]}]}"#,
        r#"{"no_match":[{"tags":["a"]}],"after":2}"#,
    ] {
        let descriptor = command(format!(r#"{{"table":"events","guards":[{guard}]}}"#));
        let outcome = send(
            &mut client,
            messages(descriptor, std::slice::from_ref(&quiet)),
        )
        .await;
        outcome.is_ok();
        assert_eq!(outcome.results.len(), 1, "{guard}");
    }
    assert_eq!(read(&server).await.len(), 10);
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_under_a_guard_are_one_batch_or_nothing() {
    let server = TestServer::start().await;
    let mut client = flight(&server).await;
    let (one, other) = (rows(["a"]), rows(["b"]));
    for descriptor in [
        r#"{"guards":[{"entity":"a","expect":"absent"}]}"#,
        r#"{"cursors":[{"name":"c","position":0}]}"#,
    ] {
        let two = messages(command(descriptor), &[one.clone(), other.clone()]);
        let outcome = send(&mut client, two).await;
        outcome.is_refused(Code::InvalidArgument, "INVALID_BATCH");
        assert!(
            outcome.message().contains("combine_chunks()"),
            "{}",
            outcome.message()
        );
        assert!(read(&server).await.is_empty());
    }
    // Without conditions each is a batch of its own.
    let two = messages(command(r#"{"guards":[],"cursors":[]}"#), &[one, other]);
    let outcome = send(&mut client, two).await;
    outcome.is_ok();
    assert_eq!(outcome.results.len(), 2);
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cursors_are_committed_with_rows_and_alone() {
    let server = TestServer::start().await;
    let mut client = flight(&server).await;
    let with_rows = command(
        r#"{"cursors":[{"name":"c","position":0,"expected":0},{"name":"d","position":0}]}"#,
    );
    let outcome = send(&mut client, messages(with_rows, &[rows(["a", "b"])])).await;
    outcome.is_ok();
    assert_eq!(outcome.stored(), [(Some(1), Some(2), false)]);

    let alone = |text: &str| no_rows(command(format!(r#"{{"cursors":[{text}]}}"#)));
    let outcome = send(
        &mut client,
        alone(r#"{"name":"c","position":2,"expected":0}"#),
    )
    .await;
    outcome.is_ok();
    assert_eq!(outcome.stored(), [(None, None, false)]);
    assert_eq!(cursor(&server, "c").await, 2);
    let nothing = messages(
        command(r#"{"cursors":[{"name":"c","position":1}]}"#),
        &[rows([])],
    );
    let outcome = send(&mut client, nothing).await;
    outcome.is_ok();
    assert_eq!(outcome.stored(), [(None, None, false)]);

    let outcome = send(
        &mut client,
        alone(r#"{"name":"c","position":2,"expected":7}"#),
    )
    .await;
    outcome.is_refused(Code::Aborted, "CURSOR_CONFLICT");
    let Some(Failure::Cursor(failure)) = outcome.guard().failure else {
        panic!("{outcome:?}")
    };
    assert_eq!((failure.expected, failure.found), (7, 1));
    let outcome = send(&mut client, alone(r#"{"name":"c","position":3}"#)).await;
    outcome.is_refused(Code::OutOfRange, "BEYOND_HEAD");
    let outcome = send(&mut client, alone(r#"{"name":"$c","position":1}"#)).await;
    outcome.is_refused(Code::InvalidArgument, "INVALID_BATCH");
    assert_eq!(cursor(&server, "c").await, 1);

    // Guards alone guard nothing.
    let guards = command(r#"{"guards":[{"entity":"a","expect":"exists"}]}"#);
    let outcome = send(&mut client, no_rows(guards)).await;
    outcome.is_refused(Code::InvalidArgument, "INVALID_BATCH");
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_gives_the_first_positions_and_other_content_is_refused() {
    let server = TestServer::start().await;
    let mut client = flight(&server).await;
    let table = with(&rows(["a", "b"]), "event_id", ids([1, 2]));
    let guarded = || command(r#"{"guards":[{"entity":"a","expect":"absent"}]}"#);
    for duplicate in [false, true] {
        let upload = messages(guarded(), std::slice::from_ref(&table));
        let outcome = send(&mut client, upload).await;
        outcome.is_ok();
        assert_eq!(outcome.stored(), [(Some(1), Some(2), duplicate)]);
    }
    // Repeats and new ones in one stream.
    let new = with(&rows(["a", "b"]), "event_id", ids([3, 4]));
    let both = messages(path(), &[table.clone(), new, table.clone()]);
    let outcome = send(&mut client, both).await;
    outcome.is_ok();
    assert_eq!(
        outcome.stored(),
        [
            (Some(1), Some(2), true),
            (Some(3), Some(4), false),
            (Some(1), Some(2), true)
        ]
    );

    let other = with(&table, "payload", text(["{}", "7"]));
    let outcome = send(&mut client, messages(path(), &[other])).await;
    outcome.is_refused(Code::AlreadyExists, "EVENT_ID_REUSED");
    let outcome = send(
        &mut client,
        messages(path(), &[table.slice(1, 1), table.slice(0, 1)]),
    )
    .await;
    outcome.is_ok();
    let part = with(&rows(["a", "c"]), "event_id", ids([1, 5]));
    let outcome = send(&mut client, messages(path(), &[part])).await;
    outcome.is_refused(Code::AlreadyExists, "EVENT_ID_REUSED");
    let twice = with(&rows(["a", "c"]), "event_id", ids([6, 6]));
    let outcome = send(&mut client, messages(path(), &[twice])).await;
    outcome.is_refused(Code::InvalidArgument, "EVENT_ID_TWICE");
    assert_eq!(read(&server).await.len(), 4);
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_those_of_a_batch() {
    let server = TestServer::start_with(|config| {
        config.limits.batch_events_max = 3;
        config.limits.event_bytes_max = 1_000;
        config.limits.batch_bytes_max = 2_000;
    })
    .await;
    let mut client = flight(&server).await;
    let many = rows(["a", "b", "c", "d"]);
    let outcome = send(&mut client, messages(path(), &[rows(["a"]), many])).await;
    outcome.failed(Code::InvalidArgument, "TOO_LARGE");
    assert_eq!(outcome.stored(), [(Some(1), Some(1), false)]);
    assert_eq!(outcome.violations()[0].0, "events");
    assert!(
        outcome.message().starts_with("batch 2: "),
        "{}",
        outcome.message()
    );

    let long = format!("\"{}\"", "x".repeat(1_000));
    let large = with(&rows(["a", "b"]), "payload", text(["1", &long]));
    let outcome = send(&mut client, messages(path(), &[large])).await;
    outcome.is_refused(Code::InvalidArgument, "TOO_LARGE");
    assert_eq!(outcome.violations()[0].0, "events[1]");
    assert!(
        outcome.message().contains("events[1]"),
        "{}",
        outcome.message()
    );

    let half = format!("\"{}\"", "x".repeat(800));
    let large = with(&rows(["a", "b", "c"]), "payload", text([half.as_str(); 3]));
    let outcome = send(&mut client, messages(path(), &[large])).await;
    outcome.is_refused(Code::InvalidArgument, "TOO_LARGE");
    assert_eq!(outcome.violations()[0].0, "events");
    assert_eq!(read(&server).await.len(), 1);
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn descriptors_that_are_not_understood_are_refused_with_what_would_be() {
    let server = TestServer::start().await;
    let mut client = flight(&server).await;
    let table = rows(["a"]);
    for (descriptor, field, told) in [
        (
            command(r#"{"guard":[]}"#),
            "descriptor.cmd",
            "`table`, `guards`, `cursors`, `log_id`",
        ),
        (command("no json"), "descriptor.cmd", "is not understood"),
        (
            command(r#"{"guards":[{"entity":"a"}]}"#),
            "guards[0]",
            "\"version\"",
        ),
        (command(r#"{"table":"entities"}"#), "table", "\"events\""),
        (
            command(r#"{"log_id":"x"}"#),
            "log_id",
            "as the server returned it",
        ),
        (
            FlightDescriptor::new_path(vec!["types".into(), "case.noted".into()]),
            "descriptor.path",
            "\"events\"",
        ),
        (FlightDescriptor::default(), "descriptor", "[\"events\"]"),
    ] {
        let outcome = send(
            &mut client,
            messages(descriptor, std::slice::from_ref(&table)),
        )
        .await;
        outcome.is_refused(Code::InvalidArgument, "INVALID_BATCH");
        let (found, description) = outcome.violations().remove(0);
        assert_eq!(found, field, "{description}");
        assert!(description.contains(told), "{description}");
    }
    let mut without = messages(path(), std::slice::from_ref(&table));
    without[0].flight_descriptor = None;
    for nothing in [without, Vec::new()] {
        let outcome = send(&mut client, nothing).await;
        outcome.is_refused(Code::InvalidArgument, "INVALID_BATCH");
        assert_eq!(outcome.violations()[0].0, "descriptor");
    }
    assert!(read(&server).await.is_empty());
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_log_is_refused() {
    let server = TestServer::start().await;
    let mut client = flight(&server).await;
    let table = rows(["a"]);
    let of_log = |log_id: &str| command(format!(r#"{{"log_id":"{log_id}"}}"#));
    let other = of_log("11111111-2222-4333-8444-555555555555");
    let outcome = send(&mut client, messages(other, std::slice::from_ref(&table))).await;
    outcome.is_refused(Code::FailedPrecondition, "OTHER_LOG");
    let log_id = log_id(&server).await;
    let both = messages(of_log(&log_id), &[table.clone(), table]);
    let outcome = send(&mut client, both).await;
    outcome.is_ok();
    assert_eq!(outcome.results.len(), 2);
    server.server.shutdown().await;
}
