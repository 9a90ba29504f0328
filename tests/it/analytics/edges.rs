//! No events, one, many at one time, none with a time; what is refused, and with which words.

use std::time::Duration;

use annals::{
    AsOf, Batch, Client, ClientError, CorrelationRequest, Durations, EventTime, FrequencyRequest,
    Kind, NewEvent, Summary, SummaryRequest, TimeRange, Timestamp,
};

use super::client;
use crate::{flight::stubs::tenant, wire::TestServer};

const HOUR: Duration = Duration::from_hours(1);

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn occurred(entity: &str, event_type: &str, time: &str) -> NewEvent {
    NewEvent {
        occurred_at: Some(at(time)),
        ..NewEvent::new(entity, event_type, "{}")
    }
}

fn by_occurrence(bucket: Duration) -> FrequencyRequest {
    FrequencyRequest {
        time: EventTime::Occurred,
        ..FrequencyRequest::new(bucket)
    }
}

async fn refused(client: &Client, request: &FrequencyRequest) -> ClientError {
    let error = client.frequency(request).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid, "{error}");
    error
}

#[tokio::test]
async fn an_empty_log_has_no_buckets_unless_times_are_asked_for() {
    let server = TestServer::start().await;
    let client = client(&server).await;
    let answer = client.frequency(&FrequencyRequest::new(HOUR)).await;
    let answer = answer.unwrap();
    assert_eq!(
        (answer.start, answer.buckets, answer.series.len()),
        (None, 0, 0)
    );

    let mut request = FrequencyRequest::new(HOUR);
    request.filter.recorded = TimeRange {
        since: Some(at("2026-01-01T00:30:00Z")),
        until: Some(at("2026-01-01T03:00:00Z")),
    };
    let answer = client.frequency(&request).await.unwrap();
    assert_eq!(answer.start, Some(at("2026-01-01T00:00:00Z")));
    assert_eq!(answer.series[0].counts, [0, 0, 0]);

    let summary = client.summary(&SummaryRequest::default()).await.unwrap();
    assert_eq!(summary.total, Summary::default());
    let request = CorrelationRequest {
        first_type: "a".into(),
        then_type: "b".into(),
        ..CorrelationRequest::default()
    };
    let answer = client.correlation(&request).await.unwrap();
    assert_eq!((answer.first_events, answer.followed), (0, 0));
    assert_eq!(answer.share.to_bits(), 0);
    server.server.shutdown().await;
}

#[tokio::test]
async fn times_of_one_moment_and_none_at_all_are_counted_as_such() {
    let server = TestServer::start().await;
    let (tenant, client) = (tenant(&server.server).await, client(&server).await);
    let noon = "1969-12-31T12:00:00Z";
    let events = ["x", "x", "y"].map(|entity| occurred(entity, "seen", noon));
    tenant.append(Batch::new(events)).await.unwrap();
    let timeless = NewEvent::new("x", "seen", "{}");
    tenant.append(Batch::new([timeless])).await.unwrap();

    let answer = client.frequency(&by_occurrence(HOUR)).await.unwrap();
    assert_eq!(answer.start, Some(at(noon)));
    assert_eq!((answer.events, answer.events_without_time), (3, 1));
    assert_eq!(answer.series[0].counts, [3]);

    let request = SummaryRequest {
        time: EventTime::Occurred,
        ..SummaryRequest::default()
    };
    let total = client.summary(&request).await.unwrap().total;
    assert_eq!((total.events, total.entities), (4, 2));
    let none = |count| Durations {
        count,
        ..Durations::default()
    };
    assert_eq!(total.intervals, none(2));
    assert_eq!(total.entity_intervals, none(1));

    // An event follows others of its time, and never itself.
    let request = CorrelationRequest {
        first_type: "seen".into(),
        then_type: "seen".into(),
        within: Some(Duration::ZERO),
        ..CorrelationRequest::default()
    };
    let answer = client.correlation(&request).await.unwrap();
    assert_eq!((answer.first_events, answer.followed), (4, 1));
    server.server.shutdown().await;
}

#[tokio::test]
async fn one_event_is_one_bucket_that_begins_where_it_was_asked_to() {
    let server = TestServer::start().await;
    let (tenant, client) = (tenant(&server.server).await, client(&server).await);
    let event = occurred("x", "seen", "2026-03-05T10:20:30.000001Z");
    tenant.append(Batch::new([event])).await.unwrap();
    let request = FrequencyRequest {
        origin: at("2030-01-01T00:07:00Z"),
        ..by_occurrence(HOUR)
    };
    let answer = client.frequency(&request).await.unwrap();
    assert_eq!(answer.start, Some(at("2026-03-05T10:07:00Z")));
    let narrow = by_occurrence(Duration::from_micros(1));
    let answer = client.frequency(&narrow).await.unwrap();
    assert_eq!(answer.start, Some(at("2026-03-05T10:20:30.000001Z")));
    assert_eq!(answer.buckets, 1);
    server.server.shutdown().await;
}

#[tokio::test]
async fn what_would_be_too_much_is_refused_by_its_limit() {
    let server = TestServer::start().await;
    let (tenant, client) = (tenant(&server.server).await, client(&server).await);
    let events = [
        occurred("x", "seen", "0001-01-01T00:00:00Z"),
        occurred("y", "seen", "9999-12-31T23:59:59.999999Z"),
    ];
    tenant.append(Batch::new(events)).await.unwrap();

    let error = refused(&client, &by_occurrence(HOUR)).await;
    let told = error.to_string();
    assert!(
        told.contains("the most is 10000: ask for buckets of at least"),
        "{told}"
    );
    let year = 366 * 24 * HOUR;
    let error = refused(&client, &by_occurrence(year)).await;
    assert_eq!(error.violations()[0].field, "origin");
    let request = FrequencyRequest {
        origin: Timestamp::MIN,
        ..by_occurrence(year)
    };
    let answer = client.frequency(&request).await.unwrap();
    assert_eq!((answer.buckets, answer.series[0].events), (9_979, 2));
    for wrong in [
        Duration::ZERO,
        Duration::from_nanos(1_500),
        Duration::MAX,
        10_001 * year,
    ] {
        let error = refused(&client, &by_occurrence(wrong)).await;
        assert_eq!(error.violations()[0].field, "bucket");
    }

    let entities: Vec<_> = (0..1_001)
        .map(|n| NewEvent::new(format!("e{n}"), format!("t{n}"), "{}"))
        .collect();
    tenant.append(Batch::new(entities)).await.unwrap();
    let request = FrequencyRequest {
        by_entity: true,
        ..FrequencyRequest::new(HOUR)
    };
    let error = refused(&client, &request).await;
    assert!(
        error.to_string().contains("more than 1000 series"),
        "{error}"
    );
    let request = FrequencyRequest {
        top: Some(1_000),
        ..request
    };
    let answer = client.frequency(&request).await.unwrap();
    assert_eq!((answer.series.len(), answer.events), (1_000, 1_003));
    let request = FrequencyRequest {
        top: Some(1_001),
        ..request
    };
    assert_eq!(
        refused(&client, &request).await.violations()[0].field,
        "top"
    );
    let request = SummaryRequest {
        by_type: true,
        ..SummaryRequest::default()
    };
    let error = client.summary(&request).await.unwrap_err();
    assert_eq!(error.violations()[0].field, "by_type");
    server.server.shutdown().await;
}

#[tokio::test]
async fn what_makes_no_sense_is_told_by_its_field() {
    let server = TestServer::start().await;
    let (tenant, client) = (tenant(&server.server).await, client(&server).await);
    let event = NewEvent::new("x", "seen", "{}");
    tenant.append(Batch::new([event])).await.unwrap();

    let correlation = CorrelationRequest {
        first_type: "a".into(),
        then_type: "b".into(),
        ..CorrelationRequest::default()
    };
    let mut typed = correlation.clone();
    typed.filter.event_types = vec!["a".into()];
    let mut nameless = correlation.clone();
    nameless.then_type = "".into();
    for (request, field) in [(typed, "filter"), (nameless, "then_type")] {
        let error = client.correlation(&request).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        assert_eq!(error.violations()[0].field, field);
    }
    let beyond = SummaryRequest {
        as_of: Some(AsOf::Position(2)),
        ..SummaryRequest::default()
    };
    let error = client.summary(&beyond).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.reason()),
        (Kind::OutOfRange, "BEYOND_HEAD")
    );
    let mut version = SummaryRequest {
        as_of: Some(AsOf::Version(1)),
        ..SummaryRequest::default()
    };
    let error = client.summary(&version).await.unwrap_err();
    assert_eq!(error.violations()[0].field, "as_of.version");
    version.filter.entity_ids = vec!["x".into()];
    assert_eq!(client.summary(&version).await.unwrap().head, 1);
    server.server.shutdown().await;
}

#[tokio::test]
async fn memory_and_time_are_bounded_as_those_of_sql() {
    let server = TestServer::start_with(|config| {
        config.limits.sql_query_memory_bytes = 64 << 10;
        config.limits.disk_reserve_bytes = 0;
    })
    .await;
    let (tenant, client) = (tenant(&server.server).await, client(&server).await);
    for batch in 0..3 {
        let events: Vec<_> = (0..5_000)
            .map(|n| NewEvent::new(format!("entity-{batch}-{n}"), "seen", "{}"))
            .collect();
        tenant.append(Batch::new(events)).await.unwrap();
    }
    let summary = client.summary(&SummaryRequest::default()).await;
    let correlation = CorrelationRequest {
        first_type: "seen".into(),
        then_type: "paid".into(),
        ..CorrelationRequest::default()
    };
    let correlation = client.correlation(&correlation).await;
    for error in [summary.unwrap_err(), correlation.unwrap_err()] {
        assert_eq!(
            (error.kind(), error.reason()),
            (Kind::Exhausted, "SQL_MEMORY")
        );
        assert!(
            error.to_string().contains("limits.sql_query_memory_bytes"),
            "{error}"
        );
    }
    server.server.shutdown().await;
}
