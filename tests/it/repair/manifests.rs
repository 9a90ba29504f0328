//! A manifest that is gone, together with other files.

use super::{Heard, contents, keeping_options, repair};
use crate::{
    rng::seeds,
    sealed_log::{SealedLog, open_sealed},
    verify::{verify, worked_client},
    workload::{default_tenant, options, runtime, sealing_options},
};

/// Of a manifest, what can be known for sure: without the end of the log, the checksum, and the order of the two cursors.
fn known(mut manifest: Vec<u8>) -> Vec<u8> {
    manifest[56..64].fill(0);
    manifest[20..24].fill(0);
    if manifest.len() > 96 {
        manifest.truncate(manifest.len() - 2 * (10 + "reader".len()));
    }
    manifest
}

/// Asserts that all there is to say of a manifest that was made anew is told, in one line: the last event that is known,
/// and whether where cursors stood is not.
fn assert_told(heard: &Heard, last: u64, cursors: bool) {
    let [told] = &heard.lost[..] else {
        panic!("{heard:?}");
    };
    assert!(told.path.ends_with("manifest"), "{heard:?}");
    let events = format!("no events after {last}");
    assert!(told.what.contains(&events), "{last}: {heard:?}");
    assert_eq!(told.what.contains("cursors"), cursors, "{heard:?}");
}

/// Nothing but the cursors stood in the manifest alone, and those only if log files are gone.
#[test]
fn a_manifest_is_put_together_from_the_other_files() {
    let mut compacting = keeping_options();
    compacting.limits.compact_fan_in = 2;
    for options in [options(), keeping_options(), compacting] {
        for seed in seeds(3) {
            let (disk, client) = worked_client(&options, seed);
            let disk = disk.restart();
            let mut files = disk.files();
            files.retain(|path| path.ends_with("manifest"));
            let before = disk.content(&files[0]);
            disk.lose(&files[0]);
            let (repaired, heard) = repair(&disk, &options);
            assert_eq!(repaired.left.faults, 0, "{heard:?}");
            assert_told(&heard, client.head(), false);
            assert_eq!(known(disk.content(&files[0])), known(before));
            let runtime = runtime();
            let engine = client.open(&disk).unwrap();
            let tenant = default_tenant(&runtime, &engine);
            client.check(&tenant, &format!("seed {seed}"));
        }
    }
}

#[test]
fn all_indexes_and_the_manifest_are_made_anew() {
    let log = SealedLog::new(u64::MAX);
    let disk = log.disk.restart();
    for path in log.files("idx") {
        disk.lose(&path);
    }
    disk.lose(&log.manifest());
    let (repaired, heard) = repair(&disk, &log.options);
    assert_eq!(repaired.left.faults, 0, "{heard:?}");
    assert_told(&heard, 64, false);
    assert_eq!(log.ask_damaged(&disk, &log.manifest(), |_| true, ""), 0);
}

#[test]
fn everything_but_the_log_is_made_anew() {
    let log = SealedLog::new(u64::MAX);
    let disk = log.disk.restart();
    for path in [log.files("idx"), log.files("parquet")].concat() {
        disk.lose(&path);
    }
    disk.lose(&log.manifest());
    let (repaired, heard) = repair(&disk, &log.options);
    assert_eq!(repaired.left.faults, 0, "{heard:?}");
    assert_told(&heard, 64, false);
    assert_eq!(log.ask_damaged(&disk, &log.manifest(), |_| true, ""), 0);
}

#[test]
fn cursors_that_only_the_manifest_had_are_told_to_be_lost() {
    let options = sealing_options();
    let (disk, client) = worked_client(&options, 3);
    let disk = disk.restart();
    let mut files = disk.files();
    files.retain(|path| path.ends_with("manifest"));
    disk.lose(&files[0]);
    let (repaired, heard) = repair(&disk, &options);
    assert_eq!(repaired.left.faults, 0, "{heard:?}");
    assert_told(&heard, client.head(), true);
    assert_eq!(verify(&disk).1, []);
}

/// Repair said that nothing was lost, although it could not know: the newest log files went with the manifest.
#[test]
fn that_newer_log_files_may_be_gone_with_the_manifest_is_told() {
    let options = options();
    let (disk, client) = worked_client(&options, 3);
    let disk = disk.restart();
    let mut files = disk.files();
    files.retain(|path| path.extension() == Some("log".as_ref()));
    let (newest, manifest) = (files.pop().unwrap(), files[0].ancestors().nth(2).unwrap());
    disk.lose(&newest);
    disk.lose(&manifest.join("manifest"));
    let (repaired, heard) = repair(&disk, &options);
    assert_eq!(repaired.left.faults, 0, "{heard:?}");
    assert!(repaired.left.events < client.head());
    assert_told(&heard, repaired.left.events, false);
}

/// Small segments and the large one that took their place, as a crash may leave them.
#[test]
fn of_segments_that_overlap_the_larger_good_ones_are_taken() {
    let log = SealedLog::new(0);
    let small = log.files("parquet");
    let compacted = log.disk.restart();
    let mut compacting = log.options.clone();
    compacting.limits.compact_target_bytes = 1 << 20;
    let engine = open_sealed(&compacted, &compacting).unwrap();
    let tenant = default_tenant(&runtime(), &engine);
    crate::compaction::compact(&tenant);
    engine.close();
    drop((tenant, engine));
    let mut large = compacted.files();
    large.retain(|path| path.extension() == Some("parquet".as_ref()));
    assert_eq!(large.len(), 1);

    for is_good in [true, false] {
        let disk = log.disk.restart();
        disk.set_content(&large[0], compacted.content(&large[0]));
        if !is_good {
            disk.flip(&large[0], 4_000);
        }
        disk.lose(&log.manifest());
        let (repaired, heard) = repair(&disk, &log.options);
        assert_eq!(repaired.left.faults, 0, "{heard:?}");
        assert_eq!(log.ask_damaged(&disk, &large[0], |_| true, ""), 0);
        // What the manifest does not name went when the store was opened.
        let mut stay = disk.files();
        stay.retain(|path| {
            path.extension() == Some("parquet".as_ref())
                && path.parent().unwrap().ends_with("segments")
        });
        assert_eq!(
            stay,
            if is_good {
                large.clone()
            } else {
                small.clone()
            }
        );
        let aside = disk
            .files()
            .into_iter()
            .filter(|path| path.parent().unwrap().ends_with("damaged"));
        assert_eq!(aside.count(), usize::from(!is_good));
    }
}

/// A manifest was rebuilt once: of the same files, nothing is to be done.
#[test]
fn a_rebuilt_manifest_is_not_rebuilt_again() {
    let log = SealedLog::new(0);
    let disk = log.disk.restart();
    disk.lose(&log.manifest());
    let (repaired, heard) = repair(&disk, &log.options);
    assert_eq!(repaired.left.faults, 0, "{heard:?}");
    let before = contents(&disk);
    let (repaired, _) = repair(&disk, &log.options);
    assert_eq!((repaired.repairs, repaired.found.faults), (0, 0));
    assert_eq!(contents(&disk), before);
}

#[test]
fn a_manifest_of_a_newer_version_is_left_as_it_is() {
    let log = SealedLog::new(u64::MAX);
    let disk = log.disk.restart();
    let mut manifest = disk.content(&log.manifest());
    // The format version, and the checksum of all but itself.
    manifest[8] = 99;
    let crc = crc32c::crc32c_append(crc32c::crc32c(&manifest[..20]), &manifest[24..]);
    manifest[20..24].copy_from_slice(&crc.to_le_bytes());
    disk.set_content(&log.manifest(), manifest);
    let before = contents(&disk);
    let (repaired, heard) = repair(&disk, &log.options);
    assert_eq!((repaired.left.faults, repaired.lost), (1, 1), "{heard:?}");
    assert!(heard.lost[0].what.contains("newer version"), "{heard:?}");
    assert_eq!(contents(&disk), before);
}

#[test]
fn a_manifest_is_not_made_if_events_are_lost() {
    let log = SealedLog::new(0);
    for lost in [&log.files("parquet")[1], log.files("log").last().unwrap()] {
        let disk = log.disk.restart();
        disk.lose(&log.manifest());
        if lost.extension() == Some("log".as_ref()) {
            for path in log.files("log") {
                disk.lose(&path);
            }
        } else {
            disk.lose(lost);
        }
        let before = contents(&disk);
        let (repaired, heard) = repair(&disk, &log.options);
        assert!(repaired.left.faults > 0 && repaired.lost > 0, "{heard:?}");
        assert_eq!(contents(&disk), before, "{heard:?}");
    }
}
