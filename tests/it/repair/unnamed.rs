//! Good segments that the manifest does not name take the place of lost ones, and tell that a manifest is older.

use std::path::{Path, PathBuf};

use super::{contents, repair};
use crate::{
    sealed_log::{PARTS, SealedLog, open_sealed, wait_until_sealed},
    sim_disk::SimDisk,
    verify::{verify, worked_client},
    workload::{default_tenant, runtime, sealing_options},
};

/// The same log, all its segments compacted into one.
fn compacted(log: &SealedLog) -> SimDisk {
    let disk = log.disk.restart();
    let mut options = log.options.clone();
    options.limits.compact_target_bytes = 1 << 20;
    let engine = open_sealed(&disk, &options).unwrap();
    let tenant = default_tenant(&runtime(), &engine);
    crate::compaction::compact(&tenant);
    engine.close();
    drop((tenant, engine));
    let disk = disk.restart();
    assert_eq!(segments(&disk).len(), 1);
    disk
}

fn segments(disk: &SimDisk) -> Vec<PathBuf> {
    let mut files = disk.files();
    files.retain(|path| {
        path.extension() == Some("parquet".as_ref()) && path.parent().unwrap().ends_with("segments")
    });
    files
}

fn put_back(files: &[PathBuf], from: &SimDisk, to: &SimDisk) {
    for path in files {
        to.set_content(path, from.content(path));
    }
}

fn assert_answers(log: &SealedLog, disk: &SimDisk, context: &str) {
    assert_eq!(verify(disk).1, [], "{context}");
    assert_eq!(log.ask_damaged(disk, Path::new(""), |_| true, context), 0);
}

/// It said that all of it was lost, with the pieces beside it, and to restore the folder.
#[test]
fn pieces_of_a_backup_stand_in_for_the_segment_that_they_became() {
    let log = SealedLog::new(0);
    let (whole, small) = (compacted(&log), log.files("parquet"));
    let large = segments(&whole).remove(0);
    for is_gone in [true, false] {
        let disk = whole.restart();
        if is_gone {
            disk.lose(&large);
        } else {
            disk.flip(&large, 4_000);
        }
        // Without one of them there is still something missing.
        put_back(&small[1..], &log.disk, &disk);
        let before = contents(&disk);
        let (repaired, heard) = repair(&disk, &log.options);
        assert_eq!((repaired.repairs, repaired.lost), (0, 1), "{heard:?}");
        assert_eq!(heard.lost[0].path, large);
        assert!(heard.lost[0].what.contains("copy of this one file"));
        assert_eq!(contents(&disk), before);

        put_back(&small, &log.disk, &disk);
        let (repaired, heard) = repair(&disk, &log.options);
        assert_eq!(repaired.repairs, PARTS as u64, "{heard:?}");
        assert_eq!((repaired.left.faults, repaired.lost), (0, 0), "{heard:?}");
        assert_eq!(segments(&disk), small);
        let kept = large.parent().unwrap().parent().unwrap().join("damaged");
        assert_eq!(disk.files().iter().any(|f| f.starts_with(&kept)), !is_gone);
        assert_answers(&log, &disk, &format!("gone: {is_gone}"));
    }
}

#[test]
fn a_large_segment_stands_in_for_small_ones_of_which_some_are_lost() {
    let log = SealedLog::new(0);
    let whole = compacted(&log);
    let disk = log.disk.restart();
    disk.lose(&log.files("parquet")[3]);
    put_back(&segments(&whole), &whole, &disk);
    let (repaired, heard) = repair(&disk, &log.options);
    assert_eq!((repaired.left.faults, repaired.lost), (0, 0), "{heard:?}");
    assert_eq!(segments(&disk), segments(&whole));
    assert_answers(&log, &disk, "");
}

/// The manifest of a backup was put into a folder that had gone on. Repair said that nobody had what came after it, beside
/// the segments that did.
#[test]
fn what_was_made_since_an_older_manifest_is_found() {
    let (mut small, mut large) = (sealing_options(), sealing_options());
    for options in [&mut small, &mut large] {
        options.limits.keep_bytes = 0;
    }
    small.limits.compact_target_bytes = 1;
    large.limits.compact_fan_in = 2;
    for options in [small, large] {
        let (disk, mut client) = worked_client(&options, 4);
        let disk = disk.restart();
        let mut files = disk.files();
        files.retain(|path| path.ends_with("manifest"));
        let (manifest, older) = (&files[0], disk.content(&files[0]));
        let engine = client.open(&disk).unwrap();
        let tenant = default_tenant(&runtime(), &engine);
        assert!(client.work(&runtime(), &tenant, 20));
        wait_until_sealed(&tenant, client.head() - 2 * options.limits.seal_events);
        engine.close();
        drop((tenant, engine));
        let disk = disk.restart();
        disk.set_content(manifest, older);
        let (repaired, heard) = repair(&disk, &options);
        assert_eq!((repaired.left.faults, repaired.lost), (0, 1), "{heard:?}");
        let events = format!("no events after {}", client.head());
        assert!(heard.lost[0].what.contains(&events), "{heard:?}");
        assert_eq!(verify(&disk).1, []);
        let engine = client.open(&disk).unwrap();
        let tenant = default_tenant(&runtime(), &engine);
        let events = crate::workload::read_all(&tenant).unwrap();
        assert_eq!(events.len() as u64, client.head());
        engine.close();
    }
}

/// A lost segment and a piece that was left by a crash: nothing is made of that, and what else is wrong is repaired.
#[test]
fn a_leftover_hides_nothing_and_helps_nothing() {
    let log = SealedLog::new(0);
    let disk = log.disk.restart();
    let (lost, runs) = (log.files("parquet").remove(2), log.files("idx"));
    disk.lose(&lost);
    disk.lose(&runs[0]);
    disk.lose(&runs[2]);
    disk.lose(&runs[5]);
    let name = "00000000000000000061-00000000000000000064.parquet";
    let leftover = lost.with_file_name(name);
    disk.set_content(&leftover, b"the rest of an attempt".to_vec());
    let (repaired, heard) = repair(&disk, &log.options);
    let told: Vec<_> = heard.lost.iter().map(|lost| lost.path.clone()).collect();
    assert_eq!(
        told,
        [lost.clone(), runs[2].clone(), runs[5].clone()],
        "{heard:?}"
    );
    assert!(
        heard.lost[2].what.contains("the run before it"),
        "{heard:?}"
    );
    let made: Vec<_> = heard
        .repaired
        .iter()
        .map(|made| made.path.clone())
        .collect();
    assert_eq!(made, [runs[0].clone()], "{heard:?}");
    assert_eq!(repaired.left.faults, 3, "{heard:?}");

    // What the message says is enough.
    put_back(&[lost], &log.disk, &disk);
    let (repaired, heard) = repair(&disk, &log.options);
    assert_eq!((repaired.left.faults, repaired.lost), (0, 0), "{heard:?}");
    assert_answers(&log, &disk, "put back");
}
