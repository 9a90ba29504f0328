//! Reads, subscriptions, listings and tenants asked for wrongly.

use annals::proto::{self, as_of::Point, get_event_request::Key};
use tonic::Code;

use super::*;

pub(super) fn read_cases(cases: &mut Cases) {
    cases.read("unknown direction", |r| r.direction = 3);
    cases.read("negative direction", |r| r.direction = -1);
    cases.filter("filter with an empty entity id", |f| {
        f.entity_ids = vec![String::new()];
    });
    cases.filter("filter with a reserved type", |f| {
        f.event_types = vec!["$a".to_owned()];
    });
    cases.filter("filter with an over-long tag", |f| {
        f.tags = vec!["x".repeat(513)];
    });
    cases.filter("filter with a control character in the prefix", |f| {
        f.event_type_prefix = "a\u{0}".to_owned();
    });
    cases.filter("filter by a partition that is not there", |f| {
        f.partitions = vec![32];
    });
    cases.filter("filter with an empty query", |f| {
        f.query = Some(proto::EventQuery::default());
    });
    cases.filter("filter with an empty item", |f| {
        f.query = Some(proto::EventQuery {
            items: vec![proto::EventQueryItem::default()],
        });
    });
    cases.filter("recorded since the year 0", |f| {
        f.recorded = Some(proto::TimeRange {
            since: Some(time(-62_135_596_801, 0)),
            until: None,
        });
    });
    cases.filter("occurred until negative nanoseconds", |f| {
        f.occurred = Some(proto::TimeRange {
            since: None,
            until: Some(time(0, -5)),
        });
    });
    cases.read("as of nothing", |r| {
        r.as_of = Some(proto::AsOf { point: None });
    });
    cases.read("as of a version of no entity", |r| {
        r.as_of = Some(proto::AsOf {
            point: Some(Point::Version(1)),
        });
    });
    cases.read("as of a time that is none", |r| {
        r.as_of = Some(proto::AsOf {
            point: Some(Point::RecordedAt(time(i64::MAX, 0))),
        });
    });
    cases.read("log id that is none", |r| r.log_id = "0".to_owned());
    let beyond = (Code::OutOfRange, "BEYOND_HEAD");
    cases.read_as(
        "log id of another log",
        Code::FailedPrecondition,
        "OTHER_LOG",
        |r| r.log_id = OTHER_LOG.to_owned(),
    );
    cases.read_as("after the head", beyond.0, beyond.1, |r| {
        r.filter = Some(proto::EventFilter {
            after: 4,
            ..Default::default()
        });
    });
    cases.read_as(
        "as of a position beyond the head",
        beyond.0,
        beyond.1,
        |r| {
            r.as_of = Some(proto::AsOf {
                point: Some(Point::Position(4)),
            });
        },
    );
    cases.read_as(
        "as of a version beyond the last",
        Code::OutOfRange,
        "BEYOND_VERSION",
        |r| {
            r.filter = Some(proto::EventFilter {
                entity_ids: vec!["case-1".to_owned()],
                ..Default::default()
            });
            r.as_of = Some(proto::AsOf {
                point: Some(Point::Version(9)),
            });
        },
    );

    let invalid = (Code::InvalidArgument, "INVALID_REQUEST");
    let event = |key| proto::GetEventRequest { key: Some(key) };
    cases.message(
        "event without a key",
        EVENT,
        &proto::GetEventRequest::default(),
        invalid.0,
        invalid.1,
    );
    cases.message(
        "event by an id that is none",
        EVENT,
        &event(Key::EventId("x".to_owned())),
        invalid.0,
        invalid.1,
    );
    cases.message(
        "event by an unknown id",
        EVENT,
        &event(Key::EventId(ID.to_owned())),
        Code::NotFound,
        "NO_SUCH_EVENT",
    );
    cases.message(
        "event at position 0",
        EVENT,
        &event(Key::Position(0)),
        Code::NotFound,
        "NO_SUCH_EVENT",
    );
    cases.message(
        "event beyond the head",
        EVENT,
        &event(Key::Position(4)),
        beyond.0,
        beyond.1,
    );
    let state = |entity_id: &str, point| proto::GetEntityStateRequest {
        entity_id: entity_id.to_owned(),
        as_of: Some(proto::AsOf { point }),
    };
    cases.message(
        "state of no entity",
        STATE,
        &proto::GetEntityStateRequest::default(),
        invalid.0,
        invalid.1,
    );
    cases.message(
        "state as of nothing",
        STATE,
        &state("case-1", None),
        invalid.0,
        invalid.1,
    );
    cases.message(
        "state of an unknown entity",
        STATE,
        &state("case-7", Some(Point::Position(1))),
        Code::NotFound,
        "NO_SUCH_ENTITY",
    );
    cases.message(
        "state beyond the version",
        STATE,
        &state("case-1", Some(Point::Version(5))),
        Code::OutOfRange,
        "BEYOND_VERSION",
    );
    let get = |name: &str| proto::GetCursorRequest {
        name: name.to_owned(),
    };
    cases.message(
        "cursor without a name",
        CURSOR,
        &get(""),
        invalid.0,
        invalid.1,
    );

    cases.subscribe(
        "subscription with `after` in the filter",
        invalid.0,
        invalid.1,
        |r| {
            r.filter = Some(proto::EventFilter {
                after: 1,
                ..Default::default()
            });
        },
    );
    cases.subscribe(
        "subscription with `through` in the filter",
        invalid.0,
        invalid.1,
        |r| {
            r.filter = Some(proto::EventFilter {
                through: 1,
                ..Default::default()
            });
        },
    );
    cases.subscribe(
        "subscription with a bad filter",
        invalid.0,
        invalid.1,
        |r| {
            r.filter = Some(proto::EventFilter {
                tags: vec![String::new()],
                ..Default::default()
            });
        },
    );
    cases.subscribe("subscription beyond the head", beyond.0, beyond.1, |r| {
        r.start = Some(proto::subscribe_request::Start::After(4));
    });
    cases.subscribe(
        "subscription with a cursor of another log",
        Code::FailedPrecondition,
        "OTHER_LOG",
        |r| {
            r.start = Some(proto::subscribe_request::Start::After(1));
            r.log_id = OTHER_LOG.to_owned();
        },
    );
    cases.subscribe(
        "subscription with a log id that is none",
        invalid.0,
        invalid.1,
        |r| r.log_id = "?".to_owned(),
    );
}

pub(super) fn tenant_cases(cases: &mut Cases) {
    let invalid = (Code::InvalidArgument, "INVALID_REQUEST");
    cases.tenant("tenant in capitals", &[b"Acme"], invalid.0, invalid.1);
    cases.tenant("tenant as a path", &[b"../default"], invalid.0, invalid.1);
    cases.tenant("tenant empty", &[b""], invalid.0, invalid.1);
    cases.tenant("tenant too long", &[&[b'a'; 64]], invalid.0, invalid.1);
    cases.tenant(
        "tenant not ASCII",
        &["münchen".as_bytes()],
        invalid.0,
        invalid.1,
    );
    cases.tenant(
        "tenant twice",
        &[b"default", b"default"],
        invalid.0,
        invalid.1,
    );
    cases.tenant(
        "tenant never made",
        &[b"acme"],
        Code::NotFound,
        "NO_SUCH_TENANT",
    );
    cases.0.push(Case {
        name: "append to a tenant never made".to_owned(),
        path: APPEND,
        headers: vec![("annals-tenant", b"acme".to_vec())],
        body: framed(&events([good()]).encode_to_vec()),
        code: Code::NotFound,
        reason: "NO_SUCH_TENANT",
    });
}

pub(super) fn listing_cases(cases: &mut Cases, token: &str) {
    let page = |page_size, page_token: &str| proto::ListEntitiesRequest {
        prefix: String::new(),
        page_size,
        page_token: page_token.to_owned(),
    };
    let invalid = (Code::InvalidArgument, "INVALID_REQUEST");
    let mut entities =
        |name: &str, request| cases.message(name, ENTITIES, &request, invalid.0, invalid.1);
    entities("page too large", page(1_001, ""));
    entities("page token that is none", page(1, "!"));
    entities("page token cut", page(1, &token[..token.len() / 2]));
    entities("page token too long", page(1, &"A".repeat(100_000)));
    entities(
        "page token of another listing",
        proto::ListEntitiesRequest {
            prefix: "c".to_owned(),
            ..page(1, token)
        },
    );
    let types = proto::ListEventTypesRequest {
        prefix: String::new(),
        page_size: 1,
        page_token: token.to_owned(),
    };
    cases.message(
        "page token of another call",
        TYPES,
        &types,
        invalid.0,
        invalid.1,
    );
}
