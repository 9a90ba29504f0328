//! A part that is sealed while a batch is judged: its versions go on all the same.

use std::{
    iter,
    path::{Path, PathBuf},
    slice,
    sync::Arc,
    thread::{self, JoinHandle},
};

use annals::{
    Appended, Batch, Engine, EngineOptions, NewEvent, Tenant,
    types::{hash::KeyHasher, time::SystemClock},
};

use crate::{
    rng::Rng,
    sealed_log::wait_until_sealed,
    sim_disk::SimDisk,
    workload::{FOLDER, default_tenant, new_id, open_with, runtime, sealing_options},
};

fn options() -> EngineOptions {
    let mut options = sealing_options();
    options.limits.seal_events = 2;
    options.limits.run_fan_in = 8;
    // Every look into a run reads from the disk.
    options.limits.index_cache_bytes = 0;
    options
}

fn open(disk: &SimDisk, options: EngineOptions) -> (Engine, Tenant) {
    let engine = open_with(disk, Arc::new(SystemClock), options).unwrap();
    let tenant = default_tenant(&runtime(), &engine);
    (engine, tenant)
}

fn file(folder: &str, name: &str) -> PathBuf {
    Path::new(FOLDER)
        .join("tenants/default")
        .join(folder)
        .join(name)
}

fn batch(entities: [&str; 2]) -> Batch {
    Batch::new(entities.map(|entity| NewEvent::new(entity, "changed", "{}")))
}

/// Appends a batch whose ids have a hash.
fn append_ids(
    tenant: &Tenant,
    rng: &mut Rng,
    (hasher, hash): (KeyHasher, u64),
    entities: [&str; 2],
) -> JoinHandle<Appended> {
    let mut batch = batch(entities);
    for event in &mut batch.events {
        let id = iter::repeat_with(|| new_id(rng)).find(|id| hasher.hash(id.as_bytes()) == hash);
        event.event_id = id;
    }
    append(tenant, batch)
}

fn append(tenant: &Tenant, batch: Batch) -> JoinHandle<Appended> {
    let tenant = tenant.clone();
    thread::spawn(move || runtime().block_on(tenant.append(batch)).unwrap())
}

/// Between the look at what is sealed and the batch's turn.
#[test]
fn versions_go_on_if_their_part_is_sealed_before_the_batch_has_its_turn() {
    let disk = SimDisk::new(1);
    let (_engine, tenant) = open(&disk, options());
    let append = |entities| append(&tenant, batch(entities));
    append(["old", "other"]).join().unwrap();
    append(["entity", "filler"]).join().unwrap();
    wait_until_sealed(&tenant, 2);

    // The batch asks the parts for one entity, and waits for what the run says of the other.
    let run = file("index", &format!("{:020}-{:020}.idx", 1, 2));
    disk.hold_reads(slice::from_ref(&run));
    let batch = append(["entity", "old"]);
    disk.wait_for_callers(1, |path| path == run);
    // What completes the second part is about an entity that no run has to be asked for.
    append(["filler", "filler"]).join().unwrap();
    wait_until_sealed(&tenant, 4);
    disk.hold_reads(&[]);

    assert_eq!(batch.join().unwrap().versions, [2, 2]);
}

/// In the batch's turn, while it is looked for among those that stand already.
#[test]
fn versions_go_on_if_their_part_is_sealed_in_the_turn_of_the_batch() {
    let (disk, mut rng) = (SimDisk::new(1), Rng::new(1));
    // Every second id may be any other.
    let hasher = KeyHasher::with_bits(1);
    let mut options = options();
    options.hasher = hasher;
    options.limits.recent_bytes_max = 0;
    let (_engine, tenant) = open(&disk, options);
    // No sealed event may have the id of the batch that is looked for.
    let mut append = |hash, entities| append_ids(&tenant, &mut rng, (hasher, hash), entities);
    append(0, ["old", "other"]).join().unwrap();
    append(1, ["entity", "filler"]).join().unwrap();
    wait_until_sealed(&tenant, 2);

    // The sealer waits before it reads back what it wrote of a part.
    let new_run = |first, last| file("index", &format!("{first:020}-{last:020}.idx.new"));
    disk.hold_reads(&[new_run(3, 4)]);
    append(1, ["filler", "filler"]).join().unwrap();
    append(1, ["filler", "filler"]).join().unwrap();
    disk.wait_for_callers(1, |path| path == new_run(3, 4));
    // The batch waits for an event that may have the id of its own.
    let is_log = |path: &Path| path.extension() == Some("log".as_ref());
    let logs: Vec<_> = disk
        .files()
        .into_iter()
        .filter(|path| is_log(path))
        .collect();
    disk.hold_reads(&[&[new_run(3, 4)], &logs[..]].concat());
    let batch = append(1, ["entity", "entity"]);
    disk.wait_for_callers(1, is_log);
    // The second part is sealed once the sealer reads the third one in the log.
    disk.hold_reads(&logs);
    disk.wait_for_callers(2, is_log);
    disk.hold_reads(&[]);

    assert_eq!(batch.join().unwrap().versions, [2, 3]);
}
