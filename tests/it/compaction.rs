//! Segments are compacted: when it is asked for and by itself, on disks that refuse and with segments that are damaged.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use annals::{
    Batch, CompactionStats, Engine, EngineOptions, NewEvent, Position, Tenant,
    types::time::SystemClock,
};
use tokio::runtime::Runtime;

use crate::{
    crash::go_on,
    refusing_disk::{Refused, RefusingDisk},
    rng::seeds,
    sealed_log::wait_until_sealed,
    sim_disk::{Fault, Lasting, SimDisk},
    workload::{Client, FOLDER, default_tenant, open_with, read_all, runtime, sealing_options},
};

/// Far more than it takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// Compacts all that can be, and waits until it is done or cannot be.
pub(crate) fn compact(tenant: &Tenant) -> CompactionStats {
    tenant.compact();
    wait_until_idle(tenant)
}

fn wait_until_idle(tenant: &Tenant) -> CompactionStats {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let stats = tenant.compaction_stats();
        if !stats.running {
            return stats;
        }
        assert!(
            Instant::now() < deadline,
            "compaction never ends: {stats:?}"
        );
        thread::yield_now();
    }
}

/// Nothing is compacted unless it is asked for.
fn options() -> EngineOptions {
    let mut options = sealing_options();
    options.limits.compact_fan_in = usize::MAX;
    options.limits.compact_target_bytes = 1 << 20;
    options
}

fn append(runtime: &Runtime, tenant: &Tenant, events: u64) {
    for _ in 0..events {
        let number = tenant.head();
        let event = NewEvent::new(
            format!("e{}", number % 3),
            "t",
            format!("{{\"n\":{number}}}"),
        );
        runtime
            .block_on(tenant.append(Batch::new([event])))
            .unwrap();
    }
}

fn segments(disk: &SimDisk) -> Vec<PathBuf> {
    let mut files = disk.files();
    files.retain(|path| path.parent().is_some_and(|dir| dir.ends_with("segments")));
    files.sort_unstable();
    files
}

fn names(files: &[PathBuf]) -> Vec<String> {
    let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    files.iter().map(name).collect()
}

fn name(first: Position, last: Position) -> String {
    format!("{first:020}-{last:020}.parquet")
}

#[test]
fn what_is_asked_for_leaves_one_segment_and_the_same_events() {
    for row_group_events in [8, 100_000] {
        let (disk, runtime) = (SimDisk::new(1), runtime());
        let mut options = options();
        options.limits.row_group_events = row_group_events;
        let clock = || Arc::new(SystemClock);
        let engine = open_with(&disk, clock(), options.clone()).unwrap();
        let tenant = default_tenant(&runtime, &engine);
        assert_eq!(compact(&tenant).segments, 0);
        append(&runtime, &tenant, 75);
        wait_until_sealed(&tenant, 70);
        let events = read_all(&tenant).unwrap();
        let before = wait_until_idle(&tenant);
        assert_eq!((before.segments, before.compactions), (7, 0), "{before:?}");

        let stats = compact(&tenant);
        assert_eq!(
            (stats.segments, stats.compacted_segments),
            (1, 7),
            "{stats:?}"
        );
        assert_eq!((stats.compactions, stats.failures), (1, 0), "{stats:?}");
        assert_eq!(stats.segment_bytes, stats.written_bytes, "{stats:?}");
        assert!(stats.last_took.is_some(), "{stats:?}");
        assert_eq!(names(&segments(&disk)), [name(1, 70)]);
        assert_eq!(
            disk.content(&segments(&disk)[0]).len() as u64,
            stats.segment_bytes
        );
        assert_eq!(read_all(&tenant).unwrap(), events);
        assert_eq!(compact(&tenant).compactions, 1, "nothing is left to do");
        engine.close();
        drop((tenant, engine));

        let engine = open_with(&disk, clock(), options).unwrap();
        let tenant = default_tenant(&runtime, &engine);
        assert_eq!(read_all(&tenant).unwrap(), events);
        assert_eq!(tenant.stats().segments, 1);
    }
}

#[test]
fn segments_are_compacted_by_themselves_up_to_the_target() {
    let (disk, runtime) = (SimDisk::new(1), runtime());
    let options = sealing_options();
    let target = options.limits.compact_target_bytes;
    let engine = open_with(&disk, Arc::new(SystemClock), options).unwrap();
    let tenant = default_tenant(&runtime, &engine);
    append(&runtime, &tenant, 415);
    wait_until_sealed(&tenant, 410);
    let stats = wait_until_idle(&tenant);
    assert!(stats.segments < 20 && stats.compactions > 20, "{stats:?}");
    assert_eq!(stats.failures, 0, "{stats:?}");
    for path in segments(&disk) {
        assert!(disk.content(&path).len() as u64 <= target);
    }
    assert_eq!(read_all(&tenant).unwrap().len() as u64, tenant.head());
}

#[test]
fn a_damaged_segment_is_told_and_left_alone_and_the_others_are_compacted() {
    let (disk, runtime) = (SimDisk::new(1), runtime());
    let mut options = sealing_options();
    options.limits.compact_target_bytes = 1;
    let open =
        |options: &EngineOptions| open_with(&disk, Arc::new(SystemClock), options.clone()).unwrap();
    let engine = open(&options);
    let tenant = default_tenant(&runtime, &engine);
    append(&runtime, &tenant, 65);
    wait_until_sealed(&tenant, 60);
    engine.close();
    drop((tenant, engine));
    let damaged = segments(&disk)[2].clone();
    disk.flip(&damaged, 8 * 100);
    let content = disk.content(&damaged);

    options.limits.compact_target_bytes = 1 << 20;
    let engine = open(&options);
    let tenant = default_tenant(&runtime, &engine);
    let stats = wait_until_idle(&tenant);
    assert_eq!(stats.failures, 1, "{stats:?}");
    let told = stats.last_error.unwrap();
    assert!(told.contains(damaged.to_str().unwrap()), "{told}");
    let left = [name(1, 20), name(21, 30), name(31, 60)];
    compact_and_expect(&tenant, &disk, &left, 2);
    assert_eq!(disk.content(&damaged), content);

    // It is not looked at again for what comes.
    append(&runtime, &tenant, 40);
    wait_until_sealed(&tenant, 100);
    let stats = wait_until_idle(&tenant);
    assert_eq!(stats.failures, 2, "{stats:?}");
    assert_eq!(names(&segments(&disk))[..2], left[..2]);

    // Once it is whole again, it goes with the others.
    disk.flip(&damaged, 8 * 100);
    compact_and_expect(&tenant, &disk, &[name(1, 100)], 2);
    assert_eq!(read_all(&tenant).unwrap().len() as u64, tenant.head());
}

fn compact_and_expect(tenant: &Tenant, disk: &SimDisk, left: &[String], failures: u64) {
    let stats = compact(tenant);
    assert_eq!(names(&segments(disk)), left);
    assert_eq!(stats.failures, failures, "{stats:?}");
}

#[test]
fn a_missing_segment_is_told_and_the_others_are_compacted() {
    let (disk, runtime) = (SimDisk::new(1), runtime());
    let engine = open_with(&disk, Arc::new(SystemClock), options()).unwrap();
    let tenant = default_tenant(&runtime, &engine);
    append(&runtime, &tenant, 45);
    wait_until_sealed(&tenant, 40);
    let missing = segments(&disk)[1].clone();
    disk.lose(&missing);
    let stats = compact(&tenant);
    let told = stats.last_error.clone().unwrap();
    assert!(told.contains(missing.to_str().unwrap()), "{told}");
    assert_eq!(stats.failures, 1, "{stats:?}");
    assert_eq!(names(&segments(&disk)), [name(1, 10), name(21, 40)]);
}

fn open(disk: &RefusingDisk) -> Engine {
    let clock = Arc::new(SystemClock);
    Engine::open_with(Arc::new(disk.clone()), clock, FOLDER, options()).unwrap()
}

/// Seven segments, on a disk that then refuses something.
fn refused(refused: Refused, below: &'static str) -> (RefusingDisk, Runtime, Engine, Tenant) {
    let (disk, runtime) = (RefusingDisk::new(refused, below), runtime());
    disk.mend();
    let engine = open(&disk);
    let tenant = default_tenant(&runtime, &engine);
    append(&runtime, &tenant, 75);
    wait_until_sealed(&tenant, 70);
    disk.refuse(refused, below);
    (disk, runtime, engine, tenant)
}

#[test]
fn compaction_that_fails_leaves_nothing_behind_and_can_be_asked_for_again() {
    for what in [
        Refused::Create,
        Refused::Write,
        Refused::Sync,
        Refused::Rename,
        Refused::SyncDir,
        Refused::Open,
    ] {
        let (disk, runtime, engine, tenant) = refused(what, "segments");
        let (files, events) = (
            segments(&disk.disk),
            runtime.block_on(async { tenant.head() }),
        );
        let stats = compact(&tenant);
        assert_eq!(
            (stats.failures, stats.compactions),
            (1, 0),
            "{what:?}: {stats:?}"
        );
        assert!(
            stats.last_error.unwrap().contains("the disk refuses"),
            "{what:?}"
        );
        assert_eq!(segments(&disk.disk), files, "{what:?}");
        disk.mend();
        assert_eq!(read_all(&tenant).unwrap().len() as u64, events, "{what:?}");
        assert_eq!(compact(&tenant).segments, 1, "{what:?}");
        assert_eq!(names(&segments(&disk.disk)), [name(1, 70)], "{what:?}");
        assert_eq!(read_all(&tenant).unwrap().len() as u64, events, "{what:?}");
        engine.close();
        disk.disk.check(&format!("{what:?}"));
    }
}

/// Which form the manifest on disk names is not known then.
#[test]
fn files_of_both_forms_stay_after_a_manifest_that_could_not_be_written() {
    for what in [Refused::Create, Refused::Sync, Refused::Rename] {
        let (disk, runtime, engine, tenant) = refused(what, "manifest.new");
        let mut files = names(&segments(&disk.disk));
        let stats = compact(&tenant);
        assert_eq!(
            (stats.failures, stats.compactions),
            (1, 0),
            "{what:?}: {stats:?}"
        );
        files.push(name(1, 70));
        files.sort_unstable();
        assert_eq!(names(&segments(&disk.disk)), files, "{what:?}");
        disk.mend();
        assert_eq!(
            compact(&tenant).compactions,
            0,
            "{what:?}: not before it is opened again"
        );
        assert_eq!(names(&segments(&disk.disk)), files, "{what:?}");
        let events = read_all(&tenant).unwrap();
        engine.close();
        drop((tenant, engine));

        let engine = open(&disk);
        let tenant = default_tenant(&runtime, &engine);
        assert_eq!(read_all(&tenant).unwrap(), events, "{what:?}");
        assert_eq!(compact(&tenant).segments, 1, "{what:?}");
        assert_eq!(read_all(&tenant).unwrap(), events, "{what:?}");
    }
}

/// What is there after all is removed with the next start.
#[test]
fn old_segments_that_cannot_be_removed_are_no_obstacle() {
    let (disk, runtime, engine, tenant) = refused(Refused::Remove, "segments");
    let events = read_all(&tenant).unwrap();
    let stats = compact(&tenant);
    assert_eq!((stats.failures, stats.segments), (0, 1), "{stats:?}");
    assert_eq!(read_all(&tenant).unwrap(), events);
    disk.mend();
    engine.close();
    drop((tenant, engine));
    let engine = open(&disk);
    let tenant = default_tenant(&runtime, &engine);
    assert_eq!(names(&segments(&disk.disk)), [name(1, 70)]);
    assert_eq!(read_all(&tenant).unwrap(), events);
}

#[test]
fn nothing_is_compacted_on_a_disk_without_room_for_it() {
    let (disk, runtime) = (SimDisk::new(1), runtime());
    let engine = open_with(&disk, Arc::new(SystemClock), options()).unwrap();
    let tenant = default_tenant(&runtime, &engine);
    append(&runtime, &tenant, 45);
    wait_until_sealed(&tenant, 40);
    let files = segments(&disk);
    let bytes = |path: &Path| disk.content(path).len() as u64;
    let needed: u64 = files.iter().map(|path| bytes(path)).sum();
    let reserve = options().limits.disk_reserve_bytes;
    disk.set_available_bytes(reserve + needed - 1);
    let stats = compact(&tenant);
    assert_eq!((stats.failures, stats.segments), (1, 4), "{stats:?}");
    assert!(stats.last_error.unwrap().contains("make room"));
    assert_eq!(segments(&disk), files);
    disk.set_available_bytes(reserve + needed);
    assert_eq!(compact(&tenant).segments, 1);
}

/// What a client had stored, in four segments at least, and the client.
fn worked(seed: u64) -> (SimDisk, Client) {
    let (disk, runtime) = (SimDisk::new(seed), runtime());
    let mut client = Client::of(options(), seed);
    let engine = client.open(&disk).unwrap();
    let tenant = default_tenant(&runtime, &engine);
    while tenant.head() < 50 {
        assert!(client.work(&runtime, &tenant, 1));
    }
    wait_until_sealed(&tenant, tenant.head() - options().limits.seal_events);
    engine.close();
    drop((tenant, engine));
    (disk, client)
}

/// Compacts copies of a disk, to each of which something happens at another change.
fn at_every_change(
    seed: u64,
    happens: impl Fn(&SimDisk, u64),
    check: impl Fn(&SimDisk, &Tenant, &Client, u64),
) {
    let (disk, client) = worked(seed);
    let runtime = runtime();
    for change in 0.. {
        let disk = disk.restart();
        let engine = client.open(&disk).unwrap();
        let tenant = default_tenant(&runtime, &engine);
        let first = disk.changes();
        happens(&disk, first + change);
        let stats = compact(&tenant);
        let changes = disk.changes() - first;
        check(&disk, &tenant, &client, change);
        if changes <= change {
            assert_eq!((stats.compactions, stats.failures), (1, 0), "{stats:?}");
            // Of the new segment, of the manifest, and of the old segments.
            assert!(changes > 12, "{changes} changes");
            println!("{changes} changes");
            break;
        }
    }
}

#[test]
fn every_event_survives_a_crash_at_every_change_of_a_compaction() {
    for seed in seeds(2) {
        let crash = |disk: &SimDisk, change| disk.crash_at(change);
        at_every_change(seed, crash, |disk, _, client, change| {
            let context = format!("seed {seed}, crash at {change}");
            for image in 0..3 {
                go_on(&disk.crash(), client, &format!("{context}, image {image}"));
            }
            go_on(&disk.restart(), client, &format!("{context}, killed"));
        });
    }
}

#[test]
fn every_event_survives_a_fault_at_every_change_of_a_compaction() {
    for seed in seeds(1) {
        for fault in [Fault::Io, Fault::NoSpace] {
            for lasting in [Lasting::Once, Lasting::FromThenOn] {
                let fail = |disk: &SimDisk, change| disk.fail_change(change, fault, lasting);
                at_every_change(seed, fail, |disk, tenant, client, change| {
                    let context = format!("seed {seed}, {fault:?} {lasting:?} at {change}");
                    client.check(tenant, &context);
                    disk.check(&context);
                    go_on(&disk.restart(), client, &format!("{context}, restarted"));
                    go_on(&disk.crash(), client, &format!("{context}, crashed"));
                });
            }
        }
    }
}
