//! Batches that are sent again when their ids are known no more: one that passed a guard for a version is found where it
//! passed it, however long ago; any other one is new.

use std::sync::Arc;

use annals::{
    AppendError, Appended, Batch, Engine, EngineOptions, Expect, GuardFailure, NewEvent, Tenant,
    types::time::SystemClock,
};
use tokio::runtime::Runtime;

use crate::{
    rng::Rng,
    sealed_log::wait_until_sealed,
    sim_disk::SimDisk,
    workload::{default_tenant, new_id, open_with, options, runtime, sealing_options},
};

const WINDOW: u64 = 20;

fn with_window(mut options: EngineOptions) -> EngineOptions {
    options.limits.repeat_window_events = WINDOW;
    options
}

struct Client {
    runtime: Runtime,
    rng: Rng,
    engine: Engine,
    tenant: Tenant,
}

impl Client {
    fn open(disk: &SimDisk, options: &EngineOptions, seed: u64) -> Self {
        let runtime = runtime();
        let engine = open_with(disk, Arc::new(SystemClock), options.clone()).unwrap();
        let tenant = default_tenant(&runtime, &engine);
        Self {
            runtime,
            rng: Rng::new(seed),
            engine,
            tenant,
        }
    }

    fn event(&mut self, entity_id: &str) -> NewEvent {
        let payload = format!(r#"{{"n":{}}}"#, self.rng.next());
        NewEvent::new(entity_id, "t", payload)
            .with_id(new_id(&mut self.rng))
            .with_tags(["x"])
    }

    fn batch(&mut self, entities: &[&str]) -> Batch {
        let events = entities.iter().map(|id| self.event(id));
        Batch::new(events.collect::<Vec<_>>())
    }

    fn append(&self, batch: &Batch) -> Result<Appended, AppendError> {
        self.runtime.block_on(self.tenant.append(batch.clone()))
    }

    /// As many events as ids are known of.
    fn let_pass(&mut self, entity_id: &str) {
        self.let_some_pass(entity_id, WINDOW);
    }

    fn let_some_pass(&mut self, entity_id: &str, events: u64) {
        for _ in 0..events {
            let batch = self.batch(&[entity_id]);
            self.append(&batch).unwrap();
        }
    }
}

/// Batches that passed a guard for a version, with what was said to them.
fn append_guarded(client: &mut Client) -> Vec<(Batch, Appended)> {
    let batches = vec![
        client.batch(&["a", "a"]).expecting("a", Expect::Absent),
        // The first event of the entity is not that of the batch.
        client
            .batch(&["b", "a", "b", "a"])
            .expecting("a", Expect::Version(2)),
        // The guard that fails first is not the first one.
        client
            .batch(&["c", "b"])
            .expecting("a", Expect::Exists)
            .expecting("b", Expect::Version(2)),
        client
            .batch(&["c", "a", "d"])
            .expecting("d", Expect::Version(0))
            .expecting("a", Expect::Version(4)),
    ];
    let answered = batches.into_iter().map(|batch| {
        let appended = client.append(&batch).unwrap();
        assert!(!appended.duplicate);
        (batch, appended)
    });
    answered.collect()
}

/// Batches that share ids with one that stands, but are no repeats of it.
fn changed(batch: &Batch, client: &mut Client) -> Vec<Batch> {
    let mut all = vec![batch.clone(); 5];
    all[0].events.last_mut().unwrap().payload = "1".into();
    all[1].events[0].event_id = Some(new_id(&mut client.rng));
    all[2].events.push(client.event("a"));
    all[3].events.insert(0, client.event("other"));
    all[4].events[0].tags.clear();
    all
}

fn assert_refused(client: &Client, batch: &Batch, context: &str) {
    let head = client.tenant.head();
    match client.append(batch) {
        Err(
            refused @ AppendError::Guard(GuardFailure::Entity {
                expected, found, ..
            }),
        ) => {
            assert!(!expected.holds(found), "{context}");
            assert_eq!(refused.reason(), "VERSION_CONFLICT", "{context}");
        }
        other => panic!("{context}: {other:?} for {batch:?}"),
    }
    assert_eq!(client.tenant.head(), head, "{context}");
}

fn assert_is_told(client: &mut Client, guarded: &[(Batch, Appended)], context: &str) {
    for (batch, told) in guarded {
        let again = client.append(batch);
        let duplicate = Appended {
            duplicate: true,
            ..told.clone()
        };
        assert_eq!(again, Ok(duplicate), "{context}: {batch:?}");
    }
}

fn check(options: &EngineOptions) {
    let disk = SimDisk::new(1);
    let mut client = Client::open(&disk, options, 1);
    let guarded = append_guarded(&mut client);
    let unguarded = client.batch(&["e", "f"]);
    client.append(&unguarded).unwrap();
    assert_is_told(&mut client, &guarded, "at once");
    for (batch, _) in &guarded {
        for batch in changed(batch, &mut client) {
            let refused = client.append(&batch).unwrap_err();
            let is_reuse = matches!(refused, AppendError::IdReused { .. });
            // One whose first id is new: the others are told.
            assert!(is_reuse, "{refused}");
        }
    }
    client.let_pass("z");
    assert_is_told(&mut client, &guarded, "later");
    // The entities go on.
    for entity_id in ["a", "b", "d"] {
        client.let_pass(entity_id);
    }
    let is_sealed = options.limits.seal_events < WINDOW;
    for session in 0..3 {
        let context = format!("session {session}, sealed: {is_sealed}");
        if is_sealed {
            let seal_events = options.limits.seal_events;
            wait_until_sealed(&client.tenant, client.tenant.head() - seal_events);
        }
        assert_is_told(&mut client, &guarded, &context);
        for (batch, _) in &guarded {
            for batch in changed(batch, &mut client) {
                assert_refused(&client, &batch, &context);
            }
            let mut nameless = batch.clone();
            nameless.events[0].event_id = None;
            assert_refused(&client, &nameless, &context);
        }
        let head = client.tenant.head();
        let anew = client.append(&unguarded).unwrap();
        assert!(!anew.duplicate, "{context}");
        assert_eq!(anew.first_position, head + 1, "{context}");
        let again = client.append(&unguarded).unwrap();
        assert!(again.duplicate, "{context}");
        assert_eq!(again.first_position, head + 1, "{context}");
        // Its last id is the last one that is known.
        client.let_some_pass("y", WINDOW - 2);
        if is_sealed {
            let seal_events = options.limits.seal_events;
            wait_until_sealed(&client.tenant, client.tenant.head() - seal_events);
        }
        assert!(client.append(&unguarded).unwrap().duplicate, "{context}");
        client.let_some_pass("y", 2);
        client.engine.close();
        drop(client);
        client = Client::open(&disk, options, 2 + session);
    }
}

#[test]
fn a_repeat_for_a_version_is_told_however_old() {
    check(&with_window(options()));
}

#[test]
fn a_repeat_for_a_version_is_told_however_old_once_it_is_sealed() {
    check(&with_window(sealing_options()));
    let mut options = sealing_options();
    options.limits.keep_bytes = u64::MAX;
    options.limits.seal_events = 3;
    check(&with_window(options));
}
