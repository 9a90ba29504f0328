//! Guards and cursor records that mean nothing or do not hold.

use annals::proto;
use tonic::Code;

use super::*;

pub(super) fn guard_cases(cases: &mut Cases) {
    cases.batch(
        "guard without a choice",
        &proto::AppendRequest {
            guards: vec![proto::Guard { guard: None }],
            ..events([good()])
        },
    );
    cases.batch(
        "guard on no entity",
        &guarded(entity("", entity_guard::Expect::Any(()))),
    );
    cases.batch(
        "guard on a reserved entity",
        &guarded(entity("$a", entity_guard::Expect::Any(()))),
    );
    cases.batch(
        "no_match without a query",
        &guarded(guard::Guard::NoMatch(proto::NoMatchGuard::default())),
    );
    cases.batch("no_match without items", &guarded(no_match(vec![], 0)));
    cases.batch(
        "no_match with an empty item",
        &guarded(no_match(vec![proto::EventQueryItem::default()], 0)),
    );
    cases.batch(
        "no_match with an empty item among others",
        &guarded(no_match(
            vec![tag("a"), proto::EventQueryItem::default()],
            0,
        )),
    );
    cases.batch(
        "no_match with an empty tag",
        &guarded(no_match(vec![tag("")], 0)),
    );
    cases.batch(
        "no_match with a reserved tag",
        &guarded(no_match(vec![tag("$a")], 0)),
    );
    let many = vec![
        proto::Guard {
            guard: Some(entity("a", entity_guard::Expect::Any(())))
        };
        1_001
    ];
    cases.batch(
        "too many guards",
        &proto::AppendRequest {
            guards: many,
            ..events([good()])
        },
    );
    let beyond = (Code::OutOfRange, "BEYOND_HEAD");
    cases.message(
        "no_match after the head",
        APPEND,
        &guarded(no_match(vec![tag("a")], 4)),
        beyond.0,
        beyond.1,
    );
    cases.message(
        "no_match after everything",
        APPEND,
        &guarded(no_match(vec![tag("a")], u64::MAX)),
        beyond.0,
        beyond.1,
    );
    cases.message(
        "cursor beyond the head",
        APPEND,
        &cursor("worker", 5, None),
        beyond.0,
        beyond.1,
    );
    cases.message(
        "cursor beyond everything",
        APPEND,
        &cursor("worker", u64::MAX, None),
        beyond.0,
        beyond.1,
    );
    cases.message(
        "cursor elsewhere",
        APPEND,
        &cursor("worker", 2, Some(1)),
        Code::Aborted,
        "CURSOR_CONFLICT",
    );
    cases.batch("cursor without a name", &cursor("", 1, None));
    cases.batch("cursor with a reserved name", &cursor("$worker", 1, None));
    let conflict = (Code::Aborted, "VERSION_CONFLICT");
    cases.message(
        "version that is not",
        APPEND,
        &guarded(entity("case-1", entity_guard::Expect::Version(9))),
        conflict.0,
        conflict.1,
    );
    cases.message(
        "absent that is there",
        APPEND,
        &guarded(entity("case-1", entity_guard::Expect::Absent(()))),
        conflict.0,
        conflict.1,
    );
    cases.message(
        "exists that is not",
        APPEND,
        &guarded(entity("case-8", entity_guard::Expect::Exists(()))),
        conflict.0,
        conflict.1,
    );
    cases.batch(
        "log id that is none",
        &proto::AppendRequest {
            log_id: "log-1".to_owned(),
            ..events([good()])
        },
    );
    let other = proto::AppendRequest {
        log_id: OTHER_LOG.to_owned(),
        ..events([good()])
    };
    cases.message(
        "log id of another log",
        APPEND,
        &other,
        Code::FailedPrecondition,
        "OTHER_LOG",
    );
}

fn no_match(items: Vec<proto::EventQueryItem>, after: u64) -> guard::Guard {
    let query = Some(proto::EventQuery { items });
    guard::Guard::NoMatch(proto::NoMatchGuard { query, after })
}

fn tag(tag: &str) -> proto::EventQueryItem {
    proto::EventQueryItem {
        tags: vec![tag.to_owned()],
        ..Default::default()
    }
}

fn cursor(name: &str, position: u64, expected: Option<u64>) -> proto::AppendRequest {
    let cursor = proto::CursorRecord {
        name: name.to_owned(),
        position,
        expected,
    };
    proto::AppendRequest {
        cursors: vec![cursor],
        ..Default::default()
    }
}
