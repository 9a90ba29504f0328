//! `Engine::verify`: a store is well after whatever happened to it, and anything that is not is told.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use annals::{
    Engine, EngineOptions,
    engine::upkeep::verify::{Told, Verified},
    storage::disk::Disk,
    types::read::Damage,
};

use crate::{
    repair::{contents, repair},
    rng::seeds,
    sim_disk::SimDisk,
    workload::{Client, FOLDER, default_tenant, options, runtime, sealing_options},
};

/// Asserts that there is nothing wrong with what can be opened, and nothing to repair.
pub(crate) fn assert_well(disk: &SimDisk, context: &str) {
    let mut data = disk.files();
    data.retain(|path| path.starts_with(Path::new(FOLDER).join("tenants")));
    if data.is_empty() {
        return;
    }
    let (_, faults) = verify(disk);
    assert_eq!(faults, [], "{context}");
    let before = contents(disk);
    let (repaired, heard) = repair(disk, &options());
    assert_eq!(
        (repaired.repairs, repaired.lost),
        (0, 0),
        "{context}: {heard:?}"
    );
    assert!(contents(disk) == before, "{context}");
}

pub(crate) fn verify(disk: &SimDisk) -> (Verified, Vec<Damage>) {
    let mut faults = Vec::new();
    let mut tell = |told| {
        if let Told::Fault(damage) = told {
            faults.push(damage);
        }
    };
    let on: Arc<dyn Disk> = Arc::new(disk.clone());
    let hasher = options().hasher;
    let verified = Engine::verify_on(&on, Path::new(FOLDER), None, hasher, &mut tell).unwrap();
    assert_eq!(verified.faults, faults.len() as u64);
    (verified, faults)
}

/// Segments read one after the other, with their log files and without.
fn all_options() -> [EngineOptions; 3] {
    let mut kept = sealing_options();
    kept.limits.keep_bytes = u64::MAX;
    [options(), sealing_options(), kept]
}

/// Some work on a store, closed once all that can be sealed is; and its head.
fn worked(options: &EngineOptions, seed: u64) -> (SimDisk, u64) {
    let (disk, client) = worked_client(options, seed);
    let head = client.head();
    (disk, head)
}

/// As [`worked`], and who worked.
pub(crate) fn worked_client(options: &EngineOptions, seed: u64) -> (SimDisk, Client) {
    let (disk, runtime) = (SimDisk::new(seed), runtime());
    let mut client = Client::of(options.clone(), seed);
    let engine = client.open(&disk).unwrap();
    let tenant = default_tenant(&runtime, &engine);
    assert!(client.work(&runtime, &tenant, 20));
    let head = tenant.head();
    let started = Instant::now();
    while head.saturating_sub(tenant.stats().sealed) > 2 * options.limits.seal_events {
        assert!(started.elapsed() < Duration::from_mins(1));
        std::thread::yield_now();
    }
    engine.close();
    (disk, client)
}

#[test]
fn a_store_is_well_after_work_and_after_a_crash() {
    for seed in seeds(4) {
        for options in all_options() {
            let (disk, head) = worked(&options, seed);
            let (verified, faults) = verify(&disk.restart());
            assert_eq!(faults, [], "seed {seed}");
            assert_eq!(verified.events, head, "seed {seed}");

            let again = disk.restart();
            let mut client = Client::of(options.clone(), seed + 1);
            let engine = client.open(&again).unwrap();
            let runtime = runtime();
            let tenant = default_tenant(&runtime, &engine);
            assert!(client.work(&runtime, &tenant, 3));
            for _ in 0..4 {
                assert_eq!(verify(&again.crash()).1, [], "seed {seed}, crashed");
            }
        }
    }
}

/// The files that a flipped bit must be told of wherever it is, and those that have zeros behind what counts.
fn files(disk: &SimDisk) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let mut files = disk.files();
    // Not those that say nothing: the lock, and what was being made.
    files.retain(|path| {
        let made = path.extension() != Some("new".as_ref());
        made && path.file_name() != Some("annals.lock".as_ref())
    });
    files
        .into_iter()
        .partition(|path| path.extension() != Some("log".as_ref()))
}

#[test]
fn a_flipped_bit_is_told_wherever_it_is() {
    for options in all_options() {
        let (disk, head) = worked(&options, 7);
        let (guarded, logs) = files(&disk);
        for path in &guarded {
            let bytes = disk.content(path).len();
            for byte in (0..bytes).step_by(bytes.div_ceil(120)) {
                let flipped = disk.restart();
                flipped.flip(path, byte * 8 + byte % 8);
                let (_, faults) = verify(&flipped);
                assert!(
                    faults.iter().any(|fault| fault.path == *path),
                    "{} byte {byte}: {faults:?}",
                    path.display()
                );
            }
        }
        for path in &logs {
            for byte in (0..disk.content(path).len()).step_by(397) {
                let flipped = disk.restart();
                flipped.flip(path, byte * 8 + byte % 8);
                let (verified, faults) = verify(&flipped);
                let named = faults.iter().any(|fault| fault.path == *path);
                assert_eq!(
                    named,
                    !faults.is_empty(),
                    "{} byte {byte}: {faults:?}",
                    path.display()
                );
                assert!(
                    named || verified.events == head,
                    "{} byte {byte}",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn a_missing_file_is_told() {
    for options in all_options() {
        let (disk, _) = worked(&options, 7);
        let (guarded, logs) = files(&disk);
        // A log file of which everything is sealed may go.
        let newest = logs.last().into_iter();
        for path in guarded.iter().chain(newest) {
            let missing = disk.restart();
            missing.lose(path);
            assert_ne!(verify(&missing).1, [], "{}", path.display());
        }
    }
}

/// The intact file before was blamed, and one harmed file counted as two faults.
#[test]
fn the_log_file_that_is_missing_or_cut_is_blamed_and_no_other() {
    let mut options = sealing_options();
    options.limits.keep_bytes = u64::MAX;
    for (options, seed) in [(options, 7), (crate::workload::options(), 8)] {
        let (disk, _) = worked(&options, seed);
        let (_, logs) = files(&disk);
        assert!(logs.len() > 3);
        for path in &logs[1..logs.len() - 1] {
            let bytes = disk.content(path);
            for harm in 0..4 {
                let harmed = disk.restart();
                match harm {
                    0 => harmed.lose(path),
                    1 => harmed.set_content(path, Vec::new()),
                    2 => harmed.set_content(path, bytes[..bytes.len() / 2].to_vec()),
                    _ => harmed.flip(path, 333),
                }
                let (_, faults) = verify(&harmed);
                let told: Vec<_> = faults.iter().map(|fault| fault.path.clone()).collect();
                assert_eq!(told, std::slice::from_ref(path), "{harm}: {faults:?}");
            }
        }
    }
}

/// A file that is not there was counted, and the events that only it held.
#[test]
fn what_is_lost_is_not_counted() {
    let mut options = sealing_options();
    options.limits.keep_bytes = 0;
    let (disk, head) = worked(&options, 7);
    let (whole, _) = verify(&disk.restart());
    assert_eq!(whole.events, head);
    let (guarded, _) = files(&disk);
    let is_segment = |path: &&PathBuf| path.extension() == Some("parquet".as_ref());
    let first = guarded.iter().find(is_segment).unwrap();
    let name = first.file_name().unwrap().to_string_lossy().into_owned();
    let last: u64 = name[21..41].parse().unwrap();
    let harmed = disk.restart();
    harmed.lose(first);
    let (found, _) = verify(&harmed);
    assert_eq!((found.files, found.events), (whole.files - 1, head - last));
}
