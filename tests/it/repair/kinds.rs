//! Each kind of file, one at a time and several at once.

use std::{
    fmt::Write,
    path::{Path, PathBuf},
};

use annals::{EngineOptions, engine::upkeep::verify::Outcome};

use super::{HARMS, Harm, Heard, contents, harm, keeping_options, repair};
use crate::{
    rng::{Rng, seeds},
    sealed_log::SealedLog,
    sim_disk::SimDisk,
    verify::{verify, worked_client},
    workload::{Client, default_tenant, options, runtime, sealing_options},
};

fn is_of(path: &Path, extension: &str) -> bool {
    path.extension() == Some(extension.as_ref())
}

/// Asserts that a repaired store is well and answers as before: what everything is read for, and some more.
fn check(log: &SealedLog, disk: &SimDisk, turn: usize, context: &str) {
    assert_eq!(verify(disk).1, [], "{context}");
    let chosen = |number: usize| number < 2 || number % 17 == turn % 17;
    let told = log.ask_damaged(disk, Path::new(""), chosen, context);
    assert_eq!(told, 0, "{context}");
}

#[test]
fn a_store_that_is_well_is_left_as_it_is() {
    for options in [options(), sealing_options(), keeping_options()] {
        for seed in seeds(2) {
            let (disk, ..) = worked_client(&options, seed);
            for disk in [disk.restart(), disk.crash()] {
                let before = contents(&disk);
                let (repaired, heard) = repair(&disk, &options);
                assert_eq!(repaired.found.faults, 0, "{heard:?}");
                assert_eq!((repaired.repairs, repaired.lost), (0, 0), "{heard:?}");
                assert_eq!(repaired.found, repaired.left);
                assert_eq!(contents(&disk), before, "seed {seed}");
            }
        }
    }
}

/// Files that were being made, and what else nobody names.
#[test]
fn leftovers_are_no_faults_and_stay() {
    let log = SealedLog::new(u64::MAX);
    let disk = log.disk.restart();
    let dir = log.manifest().parent().unwrap().to_owned();
    for name in [
        "manifest.new",
        "log/spare.new",
        "log/recovered.new",
        "segments/00000000000000000041-00000000000000000060.parquet",
        "index/00000000000000000001-00000000000000000020.idx.new",
    ] {
        disk.set_content(&dir.join(name), b"the rest of an attempt".to_vec());
    }
    let before = contents(&disk);
    let (repaired, heard) = repair(&disk, &log.options);
    assert_eq!(repaired.found.faults, 0, "{heard:?}");
    assert_eq!(contents(&disk), before);
    check(&log, &disk, 0, "leftovers");
}

/// Whether a file can be made anew while all others are good.
fn is_repairable(log: &SealedLog, path: &Path) -> bool {
    if is_of(path, "parquet") {
        return log.kept_files().len() > 2 || !log.needed("parquet").contains(&path.to_owned());
    }
    !is_of(path, "log") || log.kept_files().contains(&path.to_owned())
}

#[test]
fn whatever_happens_to_one_file_is_repaired_or_told() {
    for keep_bytes in [0, u64::MAX] {
        let log = SealedLog::new(keep_bytes);
        let mut rng = Rng::new(keep_bytes ^ 5);
        let mut files = log.disk.files();
        files.retain(|path| {
            ["parquet", "idx", "log"].iter().any(|e| is_of(path, e)) || path.ends_with("manifest")
        });
        for path in &files {
            for kind in HARMS.into_iter().chain([Harm::Flipped]) {
                let disk = log.disk.restart();
                harm(&disk, path, kind, &mut rng);
                let context = format!("{kind:?} {} {keep_bytes}", path.display());
                let harmed = contents(&disk);
                let (_, faults) = verify(&disk);
                let (repaired, heard) = repair(&disk, &log.options);
                assert_eq!(repaired.found.faults, faults.len() as u64, "{context}");
                if faults.is_empty() {
                    // A kept log file may go; what of it was cut or flipped held nothing.
                    assert_eq!(contents(&disk), harmed, "{context}");
                    continue;
                }
                let is_lost = repaired.left.faults > 0;
                assert_eq!(is_lost, !is_repairable(&log, path), "{context}: {heard:?}");
                if is_lost {
                    assert_eq!(contents(&disk), harmed, "{context}: {heard:?}");
                    assert!(!heard.lost.is_empty(), "{context}");
                } else {
                    check(&log, &disk, rng.below(17), &context);
                    assert_kept(&disk, path, harmed.get(path), &heard, &context);
                }
            }
        }
    }
}

/// Asserts that a damaged file was put aside.
fn assert_kept(
    disk: &SimDisk,
    path: &Path,
    harmed: Option<&Vec<u8>>,
    heard: &Heard,
    context: &str,
) {
    let dir = path.ancestors().find(|dir| dir.ends_with("default"));
    let aside = dir.unwrap().join("damaged").join(path.file_name().unwrap());
    match harmed {
        Some(harmed) => assert_eq!(disk.content(&aside), *harmed, "{context}: {heard:?}"),
        None => assert!(!disk.files().contains(&aside), "{context}: {heard:?}"),
    }
}

/// A run, without what is random in it: its salt, which is part of every checksum.
fn unsalted(mut run: Vec<u8>) -> Vec<u8> {
    run[40..48].fill(0);
    for block in run.chunks_mut(4096) {
        block[4092..].fill(0);
    }
    run
}

#[test]
fn what_is_made_anew_from_kept_log_files_is_what_was_there_byte_for_byte() {
    for seed in seeds(2) {
        let mut options = keeping_options();
        // Compacted segments hold the same events in other row groups.
        options.limits.compact_target_bytes = 1;
        let (disk, ..) = worked_client(&options, seed);
        // Runs of many parts are put together from smaller ones.
        options.limits.seal_events = 4;
        for path in disk.files() {
            let harmed = disk.restart();
            if !is_of(&path, "parquet") && !is_of(&path, "idx") {
                continue;
            }
            harmed.lose(&path);
            let (repaired, heard) = repair(&harmed, &options);
            assert_eq!(repaired.left.faults, 0, "{heard:?}");
            let (was, is) = (disk.content(&path), harmed.content(&path));
            if is_of(&path, "idx") {
                assert_eq!(unsalted(is), unsalted(was), "{}", path.display());
            } else {
                assert_eq!(is, was, "{}", path.display());
            }
        }
    }
}

/// All that the client was told is so, and it goes on.
fn go_on(client: &Client, disk: &SimDisk, context: &str) {
    let mut client = client.clone();
    let runtime = runtime();
    let engine = client
        .open(disk)
        .unwrap_or_else(|e| panic!("{context}: {e}"));
    let tenant = default_tenant(&runtime, &engine);
    client.check(&tenant, context);
    assert!(client.work(&runtime, &tenant, 4), "{context}");
    client.check(&tenant, context);
    engine.close();
    drop((tenant, engine));
    assert_eq!(verify(&disk.restart()).1, [], "{context}, gone on");
}

/// Files of each kind, sealed ones of the log.
fn repairable(disk: &SimDisk, options: &EngineOptions) -> Vec<PathBuf> {
    let mut files = disk.files();
    let logs: Vec<_> = files
        .iter()
        .filter(|path| is_of(path, "log"))
        .cloned()
        .collect();
    let through = files.iter().filter(|path| is_of(path, "parquet"));
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    let through: u64 = through
        .map(|path| name(path)[21..41].parse().unwrap())
        .max()
        .unwrap_or(0);
    let first = |path: &PathBuf| name(path)[..20].parse::<u64>().unwrap();
    let sealed = logs.windows(2).filter(|pair| first(&pair[1]) <= through);
    let sealed: Vec<_> = sealed.map(|pair| pair[0].clone()).collect();
    files.retain(|path| {
        is_of(path, "idx")
            || sealed.contains(path)
            || (is_of(path, "parquet") && options.limits.keep_bytes > 0)
            || (path.ends_with("manifest") && options.limits.keep_bytes > 0)
    });
    files
}

/// A log file cannot stand for a segment while it is harmed itself.
#[test]
fn what_happens_to_several_files_is_repaired() {
    for options in [sealing_options(), keeping_options()] {
        for seed in seeds(12) {
            let (disk, client) = worked_client(&options, seed);
            let mut rng = Rng::new(seed);
            let with_logs = rng.chance(50);
            let mut files = repairable(&disk, &options);
            // Nor for what the manifest says of cursors.
            let not_both = |path: &PathBuf| {
                if with_logs {
                    !is_of(path, "parquet") && !path.ends_with("manifest")
                } else {
                    !is_of(path, "log")
                }
            };
            files.retain(not_both);
            let disk = disk.restart();
            let mut context = format!("seed {seed}");
            for _ in 0..=rng.below(6) {
                if files.is_empty() {
                    break;
                }
                let path = files.swap_remove(rng.below(files.len()));
                let kind = *rng.pick(&HARMS);
                harm(&disk, &path, kind, &mut rng);
                write!(
                    context,
                    ", {kind:?} {}",
                    path.file_name().unwrap().display()
                )
                .unwrap();
            }
            let held: Vec<_> = disk
                .files()
                .iter()
                .map(|f| f.file_name().unwrap().to_string_lossy().into_owned())
                .collect();
            let (repaired, heard) = super::try_repair(&disk, &options)
                .unwrap_or_else(|e| panic!("{context}: {e:?} {held:#?}"));
            let of_manifest = |outcome: &Outcome| outcome.path.ends_with("manifest");
            assert!(heard.lost.iter().all(of_manifest), "{context}: {heard:?}");
            assert_eq!(repaired.left.faults, 0, "{context}: {heard:?}");
            assert_eq!(verify(&disk).1, [], "{context}");
            go_on(&client, &disk, &context);
        }
    }
}
