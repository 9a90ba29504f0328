//! Damage to a log that is sealed: flipped bits, files that went missing or were cut. Every answer is right, or names
//! the file.

use std::{collections::BTreeMap, path::Path, thread};

use annals::OpenError;

use crate::{
    rng::{Rng, seeds},
    sealed_log::{PARTS, SealedLog, open_sealed},
};

/// Damage is tried on so many threads.
const THREADS: usize = 2;

/// One bit of every `step`th byte of a file; a few of the questions each time. Returns how many flips were told, of how
/// many.
fn flip_some(log: &SealedLog, path: &Path, step: usize, seed: u64) -> (usize, usize) {
    let len = log.disk.content(path).len();
    let first = Rng::new(seed).below(step.min(len));
    let bytes = (first..len).step_by(step);
    let flips = bytes.len();
    let flip = |thread: usize| {
        let mut rng = Rng::new(seed ^ thread as u64);
        let mut told = 0;
        for byte in bytes.clone().skip(thread).step_by(THREADS) {
            let bit = byte * 8 + rng.below(8);
            let disk = log.disk.restart();
            disk.flip(path, bit);
            let turn = rng.below(40);
            // The second question scans everything, the third one reads it.
            let chosen = |number: usize| number < 3 || number % 40 == turn;
            let context = format!("bit {bit}");
            told += usize::from(log.ask_damaged(&disk, path, chosen, &context) > 0);
        }
        told
    };
    let told = thread::scope(|scope| {
        let threads = [0, 1].map(|thread| scope.spawn(move || flip(thread)));
        let told = threads.into_iter().map(|told| told.join().unwrap());
        told.sum::<usize>()
    });
    println!("{told} of {flips} told, {}", path.display());
    (told, flips)
}

#[test]
fn a_flipped_bit_of_a_segment_is_told() {
    let log = SealedLog::new(0);
    for seed in seeds(1) {
        for path in log.needed("parquet") {
            let (told, flips) = flip_some(&log, &path, 37, seed);
            assert_eq!(told, flips, "everything is read");
        }
    }
}

/// One file instead of six, whose row groups were copied or written anew.
#[test]
fn a_flipped_bit_of_a_compacted_segment_is_told() {
    for row_group_events in [8, 1_000] {
        let log = SealedLog::compacted(row_group_events);
        for seed in seeds(1) {
            let files = log.needed("parquet");
            assert_eq!(files.len(), 1);
            let (told, flips) = flip_some(&log, &files[0], 97, seed);
            assert_eq!(told, flips, "everything is read");
        }
        assert!(lose(&log, &log.needed("parquet")[0]) > 0);
    }
}

#[test]
fn a_flipped_bit_of_an_index_run_is_told_or_changes_no_answer() {
    let log = SealedLog::new(0);
    for seed in seeds(1) {
        for path in log.files("idx") {
            let (told, flips) = flip_some(&log, &path, 401, seed);
            assert!(told > flips / 3, "{told} of {flips}");
        }
    }
}

#[test]
fn every_flipped_byte_of_a_manifest_that_names_segments_is_told() {
    let log = SealedLog::new(0);
    let (told, flips) = flip_some(&log, &log.manifest(), 1, 1);
    assert_eq!(told, flips);
}

#[test]
fn a_flipped_bit_is_told_or_changes_no_answer_while_log_files_are_kept() {
    let log = SealedLog::new(u64::MAX);
    let kept = log.kept_files();
    assert!(kept.len() > 2, "{kept:?}");
    for seed in seeds(1) {
        for path in &kept {
            let (told, _) = flip_some(&log, path, 11, seed);
            // Of its header.
            assert!(told > 0, "{}", path.display());
        }
        for (extension, step) in [("parquet", 67), ("idx", 401)] {
            for path in log.files(extension) {
                flip_some(&log, &path, step, seed);
            }
        }
    }
}

/// Everything is asked of a log without a file.
fn lose(log: &SealedLog, path: &Path) -> usize {
    let disk = log.disk.restart();
    disk.lose(path);
    log.ask_damaged(&disk, path, |_| true, "is missing")
}

#[test]
fn a_missing_segment_or_run_is_told_by_its_name() {
    for keep_bytes in [0, u64::MAX] {
        let log = SealedLog::new(keep_bytes);
        let mut lost = BTreeMap::new();
        for extension in ["parquet", "idx"] {
            for path in log.files(extension) {
                // Its absence is told when the store is opened, needed or not.
                assert!(lose(&log, &path) > 0, "{}", path.display());
                *lost.entry(extension).or_insert(0) += 1;
            }
        }
        assert_eq!(lost, [("idx", PARTS), ("parquet", PARTS)].into());
    }
}

/// A kept file behind which one was missing took the rows of that for its own: reading them failed.
#[test]
fn a_missing_log_file_of_which_everything_is_sealed_changes_no_answer() {
    let log = SealedLog::new(u64::MAX);
    let kept = log.kept_files();
    assert!(kept.len() > 2, "{kept:?}");
    for path in &kept {
        assert_eq!(lose(&log, path), 0, "{}", path.display());
    }
    // All but one of them.
    for stays in &kept {
        let disk = log.disk.restart();
        for path in kept.iter().filter(|path| *path != stays) {
            disk.lose(path);
        }
        let told = log.ask_damaged(&disk, stays, |_| true, "alone is there");
        assert_eq!(told, 0, "{}", stays.display());
    }
}

#[test]
fn a_missing_log_file_with_events_that_are_not_sealed_is_told() {
    for keep_bytes in [0, u64::MAX] {
        let log = SealedLog::new(keep_bytes);
        let kept = log.kept_files().len();
        for path in &log.files("log")[kept..] {
            let disk = log.disk.restart();
            disk.lose(path);
            let opened = open_sealed(&disk, &log.options);
            let told = opened.map(|_| ()).unwrap_err();
            assert!(
                matches!(told, OpenError::Damaged(_)),
                "{}: {told}",
                path.display()
            );
        }
    }
}

#[test]
fn a_missing_manifest_of_a_sealed_log_is_told() {
    let log = SealedLog::new(0);
    let disk = log.disk.restart();
    disk.lose(&log.manifest());
    for _ in 0..2 {
        let told = open_sealed(&disk, &log.options);
        let told = told.map(|_| ()).unwrap_err();
        assert!(matches!(told, OpenError::Damaged(_)), "{told}");
    }
}

#[test]
fn a_file_of_a_sealed_log_that_was_cut_is_told_wherever_it_was_cut() {
    for keep_bytes in [0, u64::MAX] {
        let log = SealedLog::new(keep_bytes);
        let needed = log.needed("parquet");
        let mut files = log.files("parquet");
        files.extend(log.files("idx"));
        files.push(log.manifest());
        let mut rng = Rng::new(3);
        for path in files {
            let bytes = log.disk.content(&path);
            for len in [
                0,
                1,
                bytes.len() / 2,
                bytes.len() - 1,
                rng.below(bytes.len()),
            ] {
                let disk = log.disk.restart();
                disk.set_content(&path, bytes[..len].to_vec());
                let context = format!("cut to {len}");
                let told = log.ask_damaged(&disk, &path, |number| number % 9 < 2, &context);
                let is_needed = keep_bytes == 0 && needed.contains(&path);
                assert!(told > 0 || !is_needed, "{} {context}", path.display());
            }
        }
    }
}

#[test]
fn a_log_file_of_a_sealed_log_that_was_cut_is_told_or_changes_no_answer() {
    let log = SealedLog::new(u64::MAX);
    for path in log.files("log") {
        let bytes = log.disk.content(&path);
        for len in (0..bytes.len()).step_by(487).chain([bytes.len() - 1]) {
            let disk = log.disk.restart();
            disk.set_content(&path, bytes[..len].to_vec());
            let context = format!("cut to {len}");
            log.ask_damaged(&disk, &path, |number| number % 9 < 2, &context);
        }
    }
}

#[test]
fn exchanged_segments_and_runs_are_told() {
    let log = SealedLog::new(0);
    for extension in ["parquet", "idx"] {
        let files = log.files(extension);
        for other in [0, 2, 3] {
            let disk = log.disk.restart();
            disk.set_content(&files[1], log.disk.content(&files[other]));
            let told = log.ask_damaged(&disk, &files[1], |_| true, "is another");
            assert!(told > 0, "{extension} {other}");
        }
        // Of another log: the same events, at the same places.
        let disk = log.disk.restart();
        let copy = SealedLog::new(0);
        disk.set_content(&files[1], copy.disk.content(&copy.files(extension)[1]));
        let told = log.ask_damaged(&disk, &files[1], |_| true, "is another log's");
        assert!(told > 0, "{extension}");
    }
}
