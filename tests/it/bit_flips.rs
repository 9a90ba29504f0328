//! Every single bit of a small log: damage to something acknowledged is told, and nothing wrong is ever served.

use std::{
    ops::Range,
    path::{Path, PathBuf},
    thread,
};

use annals::{
    AppendError, Event, OpenError, Position, ReadError, storage::log::file::HEADER_BYTES,
};

use crate::{
    small_log::{Frames, SmallLog, Stop, last_log_file, log_files},
    workload::{default_tenant, open, read_all, runtime},
};

/// Flips are tried on so many threads.
const THREADS: usize = 2;

/// What opening a log with a flipped bit shows: nothing, or its events.
fn open_flipped(log: &SmallLog, path: &Path, bit: usize) -> Option<Vec<Event>> {
    let disk = log.disk.restart();
    disk.flip(path, bit);
    match open(&disk) {
        Ok(engine) => {
            let runtime = runtime();
            Some(read_all(&default_tenant(&runtime, &engine)).unwrap())
        }
        Err(OpenError::Damaged(damage)) => {
            assert_eq!(damage.path, path, "bit {bit}");
            // A header and a manifest are named by their start or their checksum.
            assert!(
                damage.offset as usize <= (bit / 8).max(20),
                "bit {bit}: {damage}"
            );
            None
        }
        Err(other) => panic!("{} bit {bit}: {other}", path.display()),
    }
}

fn on_all_threads(bits: Range<usize>, act: impl Fn(usize) + Sync) {
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (bits, act) = (bits.clone(), &act);
            scope.spawn(move || bits.skip(thread).step_by(THREADS).for_each(act));
        }
    });
}

fn all_bits_are_guarded(log: &SmallLog, path: &Path, told: Range<usize>) {
    let len = log.disk.content(path).len();
    on_all_threads(0..len * 8, |bit| {
        // Zeros behind the frames are all alike, and opening takes longest with them.
        if bit / 8 > told.end + 128 && bit % 29 != 0 {
            return;
        }
        match open_flipped(log, path, bit) {
            None => {}
            Some(events) => {
                assert!(!told.contains(&(bit / 8)), "{} bit {bit}", path.display());
                assert!(events == log.events, "{} bit {bit}", path.display());
            }
        }
    });
}

#[test]
fn every_flipped_bit_of_the_manifest_is_told() {
    let log = SmallLog::new(Stop::Clean);
    let is_manifest = |path: &&PathBuf| path.ends_with("manifest");
    let path = log.disk.files().iter().find(is_manifest).unwrap().clone();
    let len = log.disk.content(&path).len();
    all_bits_are_guarded(&log, &path, 0..len);
}

#[test]
fn every_flipped_bit_of_a_full_file_is_told() {
    let log = SmallLog::new(Stop::Clean);
    let path = &log_files(&log.disk)[0];
    let end = Frames::of(&log.disk, path).end;
    all_bits_are_guarded(&log, path, 0..end);
}

#[test]
fn every_flipped_bit_of_the_last_file_is_told_after_a_clean_close() {
    let log = SmallLog::new(Stop::Clean);
    let path = last_log_file(&log.disk);
    let frames = Frames::of(&log.disk, &path);
    assert!(
        frames.last_events.end < frames.end,
        "closing states what is durable"
    );
    all_bits_are_guarded(&log, &path, 0..frames.last_events.end);
}

#[test]
fn a_flipped_bit_after_an_unclean_stop_cuts_the_last_group_at_most() {
    let log = SmallLog::new(Stop::Unclean);
    let path = last_log_file(&log.disk);
    let frames = Frames::of(&log.disk, &path);
    let before = log.events.len() - log.batches.last().unwrap().events.len();
    on_all_threads(HEADER_BYTES * 8..frames.end * 8, |bit| {
        let events = open_flipped(&log, &path, bit);
        if frames.last_events.contains(&(bit / 8)) {
            assert!(
                events.is_none_or(|events| events == log.events[..before]),
                "bit {bit}"
            );
        } else {
            assert_eq!(events, None, "bit {bit}");
        }
    });
}

#[test]
fn a_bit_that_flips_while_the_log_is_open_is_told_by_every_read() {
    let log = SmallLog::new(Stop::Clean);
    let runtime = runtime();
    let disk = log.disk.restart();
    let engine = open(&disk).unwrap();
    let tenant = default_tenant(&runtime, &engine);
    assert_eq!(read_all(&tenant).unwrap(), log.events);
    let mut noticed = vec![0; log.events.len()];
    for path in log_files(&disk) {
        let end = Frames::of(&disk, &path).end;
        for bit in HEADER_BYTES * 8..end * 8 {
            disk.flip(&path, bit);
            match read_all(&tenant) {
                Ok(events) => assert!(events == log.events, "bit {bit}"),
                Err(ReadError::Damaged(damage)) => {
                    assert_eq!(damage.path, path, "bit {bit}");
                    let damaged =
                        |position: Position| match runtime.block_on(tenant.event(position)) {
                            Ok(event) => {
                                assert!(event == log.events[position as usize - 1], "bit {bit}");
                                false
                            }
                            Err(ReadError::Damaged(_)) => true,
                            Err(other) => panic!("bit {bit}: {other}"),
                        };
                    if bit % 31 == 0 {
                        let positions = 1..=log.events.len() as Position;
                        let of: Vec<_> = positions.filter(|p| damaged(*p)).collect();
                        assert_eq!(of.len(), 1, "bit {bit}");
                        noticed[of[0] as usize - 1] += 1;
                    }
                }
                Err(other) => panic!("bit {bit}: {other}"),
            }
            disk.flip(&path, bit);
        }
    }
    assert!(noticed.iter().all(|times| *times > 0), "{noticed:?}");
}

#[test]
fn a_repeat_of_a_damaged_event_is_neither_a_success_nor_appended() {
    let log = SmallLog::new(Stop::Clean);
    let runtime = runtime();
    let disk = log.disk.restart();
    let engine = open(&disk).unwrap();
    let tenant = default_tenant(&runtime, &engine);
    let path = &log_files(&disk)[0];
    let mut told = 0;
    for bit in (HEADER_BYTES * 8..(HEADER_BYTES + 400) * 8).step_by(7) {
        disk.flip(path, bit);
        match runtime.block_on(tenant.append(log.batches[0].clone())) {
            Ok(appended) => assert!(appended.duplicate && appended.first_position == 1),
            Err(AppendError::Damaged(_)) => told += 1,
            Err(other) => panic!("bit {bit}: {other}"),
        }
        disk.flip(path, bit);
    }
    assert!(told > 50, "{told}");
    assert_eq!(tenant.head(), log.events.len() as Position);
}
