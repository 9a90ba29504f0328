//! Positions and versions at the end of their range are refused or mean "all", and overflow nowhere.

use annals::{
    AppendError, AsOf, Batch, CursorRecord, Expect, Filter, NewEvent, Query, QueryItem, ReadError,
    ReadRequest, Start, SubscribeRequest, Tenant,
};

use crate::{
    sim_disk::SimDisk,
    workload::{default_tenant, open, runtime},
};

fn event() -> NewEvent {
    NewEvent::new("a", "t", "{}").with_tags(["x"])
}

/// A guard's position was added to before it was compared with the head.
#[test]
fn a_guard_at_the_last_position_of_all_is_beyond_the_head() {
    let (disk, runtime) = (SimDisk::new(1), runtime());
    let engine = open(&disk).unwrap();
    let tenant = default_tenant(&runtime, &engine);
    runtime
        .block_on(tenant.append(Batch::new([event()])))
        .unwrap();
    let item = QueryItem {
        event_types: Vec::new(),
        tags: vec!["x".into()],
    };
    let query = Query { items: vec![item] };
    for after in [2, 1 << 32, 1 << 63, u64::MAX - 1, u64::MAX] {
        let batch = Batch::new([event()]).unless(query.clone(), after);
        let refused = runtime.block_on(tenant.append(batch)).unwrap_err();
        assert!(
            matches!(refused, AppendError::BeyondHead { .. }),
            "{refused}"
        );
    }
    let cursor = CursorRecord {
        name: "c".into(),
        position: u64::MAX,
        expected: None,
    };
    let batch = Batch::new([event()]).with_cursor(cursor);
    let refused = runtime.block_on(tenant.append(batch)).unwrap_err();
    assert!(
        matches!(refused, AppendError::BeyondHead { .. }),
        "{refused}"
    );
    let batch = Batch::new([event()]).expecting("a", Expect::Version(u64::MAX));
    let refused = runtime.block_on(tenant.append(batch)).unwrap_err();
    assert!(matches!(refused, AppendError::Guard(_)), "{refused}");
    assert_eq!(tenant.head(), 1);
}

#[test]
fn reads_at_the_last_position_of_all_are_refused_or_bounded_by_the_head() {
    let (disk, runtime) = (SimDisk::new(1), runtime());
    let engine = open(&disk).unwrap();
    let tenant: Tenant = default_tenant(&runtime, &engine);
    runtime
        .block_on(tenant.append(Batch::new([event()])))
        .unwrap();
    let of_a = Filter {
        entity_ids: vec!["a".into()],
        ..Filter::default()
    };
    let all = ReadRequest {
        filter: of_a.clone(),
        through: Some(u64::MAX),
        limit: Some(u64::MAX),
        ..ReadRequest::default()
    };
    let events = tenant.read(all.clone()).unwrap().next_blocking().unwrap();
    assert_eq!(events.unwrap().len(), 1);
    let refused = |request| tenant.read(request).map(|_| ()).unwrap_err();
    let after = ReadRequest {
        after: u64::MAX,
        ..all.clone()
    };
    assert!(matches!(refused(after), ReadError::BeyondHead { .. }));
    let as_of = |as_of| ReadRequest {
        as_of: Some(as_of),
        ..all.clone()
    };
    let position = as_of(AsOf::Position(u64::MAX));
    assert!(matches!(refused(position), ReadError::BeyondHead { .. }));
    let version = as_of(AsOf::Version(u64::MAX));
    assert!(matches!(refused(version), ReadError::BeyondVersion { .. }));
    let event = runtime.block_on(tenant.event(u64::MAX)).unwrap_err();
    assert!(matches!(event, ReadError::BeyondHead { .. }), "{event}");
    let request = SubscribeRequest {
        start: Start::After(u64::MAX),
        ..SubscribeRequest::default()
    };
    let subscribed = tenant.subscribe(request).map(|_| ()).unwrap_err();
    assert!(
        matches!(subscribed, ReadError::BeyondHead { .. }),
        "{subscribed}"
    );
}
