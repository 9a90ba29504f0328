//! A group that fails while the next one is being judged leaves no answer that turns out false.

use annals::{
    AppendError, Appended, Batch, CursorRecord, Expect, Kind, NewEvent, Query, QueryItem, Tenant,
};
use tokio::runtime::Runtime;

use crate::{
    rng::Rng,
    sim_disk::{Fault, SimDisk},
    workload::{Client, default_tenant, new_id, open, read_all, runtime},
};

type Outcome = Result<Appended, AppendError>;

/// Appends two events, holds up the sync of a third, has `waiting` judged against it, lets the sync fail or not, and
/// returns all answers.
fn judged_against(
    disk: &SimDisk,
    runtime: &Runtime,
    tenant: &Tenant,
    pending: Batch,
    waiting: Vec<Batch>,
    fault: Option<Fault>,
) -> Vec<Outcome> {
    runtime.block_on(async {
        let (mut appender, mut answers) = tenant.append_stream();
        disk.close_gate();
        appender.append(0, pending).await;
        disk.wait_for_callers(1, |_| true);
        let count = waiting.len() as u64;
        for (id, batch) in (1..).zip(waiting) {
            appender.append(id, batch).await;
        }
        disk.open_gate(fault);
        let mut outcomes = Vec::new();
        for expected in 0..=count {
            let (id, outcome) = answers.recv().await.unwrap();
            assert_eq!(id, expected, "answers come in order");
            outcomes.push(outcome);
        }
        outcomes
    })
}

fn event(rng: &mut Rng, entity: &str) -> NewEvent {
    NewEvent::new(entity, "paid", "{}")
        .with_id(new_id(rng))
        .with_tags(["x"])
}

/// A batch that is pending, and others that can be answered only by looking at it.
fn batches(rng: &mut Rng) -> (Batch, Vec<Batch>) {
    let cursor = |expected| CursorRecord {
        name: "reader".into(),
        position: 1,
        expected,
    };
    let pending = Batch::new([event(rng, "a"), event(rng, "b")]).with_cursor(cursor(None));
    let reader_at_0 = Batch::new([event(rng, "c")]).with_cursor(cursor(Some(0)));
    let mut other_content = pending.clone();
    other_content.events[0].payload = "1".into();
    let item = QueryItem {
        event_types: Vec::new(),
        tags: vec!["x".into()],
    };
    let unless_x = Query { items: vec![item] };
    let waiting = vec![
        pending.clone(),
        other_content,
        Batch::new([event(rng, "a")]).expecting("a", Expect::Absent),
        Batch::new([event(rng, "a")]).expecting("a", Expect::Version(7)),
        Batch::new([event(rng, "c")]).unless(unless_x, 1),
        reader_at_0,
        Batch::new([event(rng, "a")]).expecting("a", Expect::Version(1)),
        Batch::new([NewEvent::new("", "", "")]),
    ];
    (pending, waiting)
}

#[test]
fn answers_judged_against_a_group_that_fails_fail_with_it() {
    let (disk, runtime, mut rng) = (SimDisk::new(5), runtime(), Rng::new(5));
    let engine = open(&disk).unwrap();
    let tenant = default_tenant(&runtime, &engine);
    let first = Batch::new([NewEvent::new("z", "t", "{}").with_id(new_id(&mut rng))]);
    runtime.block_on(tenant.append(first.clone())).unwrap();

    let (pending, waiting) = batches(&mut rng);
    let fault = Some(Fault::Io);
    let outcomes = judged_against(&disk, &runtime, &tenant, pending.clone(), waiting, fault);
    let kinds: Vec<_> = outcomes
        .iter()
        .map(|outcome| match outcome {
            Err(error @ AppendError::OutcomeUnknown { .. }) => ("unknown", error.kind()),
            Err(error @ AppendError::NotStored { .. }) => ("not stored", error.kind()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(kinds[0], ("unknown", Kind::Unavailable));
    assert_eq!(kinds[1..], [("not stored", Kind::Unavailable); 8]);

    // Reads go on and show nothing of it, appends say why they are refused.
    assert_eq!(tenant.head(), 1);
    assert_eq!(read_all(&tenant).unwrap().len(), 1);
    let refused = runtime.block_on(tenant.append(pending)).unwrap_err();
    let reason = refused.to_string();
    assert!(
        reason.contains("syncing") && reason.contains(".log"),
        "{reason}"
    );
    let repeat = runtime.block_on(tenant.append(first));
    assert!(
        matches!(repeat, Err(AppendError::NotStored { .. })),
        "{repeat:?}"
    );
    assert!(tenant.stats().poisoned.is_some());
    engine.close();
    disk.check("closing after a failed sync");
}

#[test]
fn answers_judged_against_a_group_that_holds_say_what_they_found() {
    let (disk, runtime, mut rng) = (SimDisk::new(6), runtime(), Rng::new(6));
    let engine = open(&disk).unwrap();
    let tenant = default_tenant(&runtime, &engine);
    let first = Batch::new([NewEvent::new("z", "t", "{}")]);
    runtime.block_on(tenant.append(first)).unwrap();

    let (pending, waiting) = batches(&mut rng);
    let outcomes = judged_against(&disk, &runtime, &tenant, pending, waiting, None);
    let told: Vec<_> = outcomes
        .iter()
        .map(|outcome| match outcome {
            Ok(appended) if appended.duplicate => "DUPLICATE",
            Ok(_) => "STORED",
            Err(error) => error.reason(),
        })
        .collect();
    assert_eq!(
        told,
        [
            "STORED",
            "DUPLICATE",
            "EVENT_ID_REUSED",
            "VERSION_CONFLICT",
            "VERSION_CONFLICT",
            "QUERY_MATCHED",
            "CURSOR_CONFLICT",
            "STORED",
            "INVALID_BATCH"
        ]
    );
    let [original, duplicate] = &outcomes[..2] else {
        panic!("{outcomes:?}")
    };
    let (original, duplicate) = (original.as_ref().unwrap(), duplicate.as_ref().unwrap());
    assert_eq!(duplicate.recorded_at, original.recorded_at);
    assert_eq!(duplicate.versions, original.versions);
}

#[test]
fn an_unknown_outcome_without_ids_is_not_to_be_retried_blindly() {
    let (disk, runtime) = (SimDisk::new(7), runtime());
    let engine = open(&disk).unwrap();
    let tenant = default_tenant(&runtime, &engine);
    let mut rng = Rng::new(7);
    let with_one_id = [event(&mut rng, "a"), NewEvent::new("a", "t", "{}")];
    let pending = Batch::new(with_one_id);
    let fault = Some(Fault::Io);
    let outcomes = judged_against(&disk, &runtime, &tenant, pending, Vec::new(), fault);
    assert_eq!(outcomes[0].as_ref().unwrap_err().kind(), Kind::Unknown);
}

/// Under random work that meets a failing sync, at random places.
#[test]
fn every_answer_around_a_failed_group_is_true_afterwards() {
    for seed in crate::rng::seeds(60) {
        let (disk, runtime) = (SimDisk::new(seed), runtime());
        let mut client = Client::new(seed);
        let engine = open(&disk).unwrap();
        let tenant = default_tenant(&runtime, &engine);
        let at = disk.changes() + 5 + seed % 60;
        disk.fail_change(at, Fault::Io, crate::sim_disk::Lasting::Once);
        client.work(&runtime, &tenant, 12);
        let context = format!("seed {seed}");
        engine.close();
        drop((tenant, engine));
        for disk in [disk.restart(), disk.crash()] {
            let engine = open(&disk).unwrap();
            let tenant = default_tenant(&runtime, &engine);
            let mut client = client.clone();
            client.check(&tenant, &context);
            client.retry(&runtime, &tenant, &context);
            client.check(&tenant, &context);
            disk.check(&context);
        }
    }
}
