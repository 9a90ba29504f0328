//! Tests of the module around.

use bytes::Bytes;

use super::*;

fn fields(violations: Violations) -> Vec<String> {
    violations
        .0
        .into_iter()
        .map(|violation| violation.field)
        .collect()
}

#[test]
fn everything_wrong_with_a_batch_is_found_at_once() {
    let event = |event_id: &'static str, seconds| proto::NewEvent {
        event_id: Bytes::from(event_id),
        occurred_at: Some(WireTime { seconds, nanos: 0 }),
        ..Default::default()
    };
    let no_match = proto::NoMatchGuard {
        query: Some(proto::EventQuery {
            items: vec![proto::EventQueryItem::default()],
        }),
        after: 0,
    };
    let request = proto::AppendRequest {
        events: vec![
            event("", 0),
            event("{01890a5d-ac96-774b-bcce-b302099a8057}", 0),
            event("01890a5d-ac96-774b-bcce-b302099a8057", i64::MAX),
        ],
        guards: vec![
            proto::Guard { guard: None },
            proto::Guard {
                guard: Some(proto::guard::Guard::NoMatch(no_match)),
            },
        ],
        cursors: vec![],
        log_id: "log".to_owned(),
    };
    assert_eq!(
        fields(batch(request).unwrap_err()),
        [
            "events[1].event_id",
            "events[2].occurred_at",
            "guards[0]",
            "guards[1].no_match.query.items[0]",
            "log_id"
        ]
    );
}

#[test]
fn times_are_kept_to_the_microsecond_in_the_years_that_calendars_share() {
    let micros = |seconds, nanos| timestamp(WireTime { seconds, nanos }).map(Timestamp::as_micros);
    assert_eq!(micros(1, 999_999_999), Some(1_999_999));
    assert_eq!(micros(-1, 1_999), Some(-999_999));
    assert_eq!(micros(0, -1), None);
    assert_eq!(micros(0, 1_000_000_000), None);
    assert_eq!(micros(i64::MAX, 0), None);
    assert_eq!(
        micros(253_402_300_799, 999_999_999),
        Some(Timestamp::MAX.as_micros())
    );
    assert_eq!(micros(253_402_300_800, 0), None);
    assert_eq!(micros(-62_135_596_800, 0), Some(Timestamp::MIN.as_micros()));
    assert_eq!(micros(-62_135_596_801, 0), None);
    for time in [Timestamp::MIN, Timestamp::MAX, Timestamp::default()] {
        assert_eq!(timestamp(wire_time(time)), Some(time));
    }
}

#[test]
fn a_query_that_is_given_says_something() {
    let request = proto::ReadEventsRequest {
        filter: Some(proto::EventFilter {
            query: Some(proto::EventQuery::default()),
            occurred: Some(proto::TimeRange {
                since: None,
                until: Some(WireTime {
                    seconds: 0,
                    nanos: -1,
                }),
            }),
            ..Default::default()
        }),
        direction: 9,
        as_of: Some(proto::AsOf { point: None }),
        ..Default::default()
    };
    assert_eq!(
        fields(read_request(request).unwrap_err()),
        [
            "direction",
            "filter.query",
            "filter.occurred.until",
            "as_of"
        ]
    );
}
