//! Files that went missing, were cut, exchanged, or left over: what was acknowledged is there, or its loss is told.

use std::path::Path;

use annals::{
    Batch, Event, NewEvent, OpenError, TenantError, TenantId,
    storage::log::file::{FileHeader, HEADER_BYTES},
};

use crate::{
    sim_disk::SimDisk,
    small_log::{Frames, SmallLog, Stop, last_log_file, log_files},
    workload::{Client, FOLDER, default_tenant, open, read_all, runtime},
};

/// The events of a log, or the damage that it was not opened for.
fn opened(disk: &SimDisk) -> Result<Vec<Event>, String> {
    match open(disk) {
        Ok(engine) => {
            let runtime = runtime();
            Ok(read_all(&default_tenant(&runtime, &engine)).unwrap())
        }
        Err(OpenError::Damaged(damage)) => Err(damage.to_string()),
        Err(other) => panic!("{other}"),
    }
}

fn manifest(tenant: &str) -> std::path::PathBuf {
    Path::new(FOLDER)
        .join("tenants")
        .join(tenant)
        .join("manifest")
}

#[test]
fn a_missing_file_is_told_whichever_it_is() {
    let log = SmallLog::new(Stop::Clean);
    let mut files = log_files(&log.disk);
    files.push(manifest("default"));
    for path in files {
        let disk = log.disk.restart();
        disk.lose(&path);
        let told = opened(&disk);
        assert!(told.is_err(), "{}: {told:?}", path.display());
        // Nothing was made in its place.
        assert!(opened(&disk).is_err(), "{}", path.display());
    }
}

/// A last file that ended before its last events looked like one whose last write was torn: the events were cut off
/// silently. Headers did not say how long their files are.
#[test]
fn a_file_that_was_cut_is_told_wherever_it_was_cut() {
    let log = SmallLog::new(Stop::Clean);
    let mut files = log_files(&log.disk);
    files.push(manifest("default"));
    for path in files {
        let bytes = log.disk.content(&path);
        for len in (0..bytes.len()).step_by(7).chain([bytes.len() - 1]) {
            let disk = log.disk.restart();
            disk.set_content(&path, bytes[..len].to_vec());
            let told = opened(&disk);
            assert!(told.is_err(), "{} cut to {len}: {told:?}", path.display());
        }
    }
}

/// A last file that lost its last group and the mark behind it looked like one whose last write was torn. The manifest did
/// not say how long a log is that was closed.
#[test]
fn the_end_of_a_closed_log_is_missed() {
    let log = SmallLog::new(Stop::Clean);
    let path = last_log_file(&log.disk);
    let mut bytes = log.disk.content(&path);
    let last = Frames::of(&log.disk, &path).last_events;
    bytes[last.start..].fill(0);
    let disk = log.disk.restart();
    disk.set_content(&path, bytes);
    let told = opened(&disk);
    assert!(told.is_err(), "{told:?}");
}

/// A crash between naming a new file and noting it in the manifest left a manifest that named the file before. Recovery
/// went on with the new file and did not note it either: had it gone missing later, with all that was acknowledged in it,
/// the log would have been opened without.
#[test]
fn the_newest_file_is_missed_even_if_a_crash_came_when_it_was_made() {
    let runtime = runtime();
    let mut lost = 0;
    for change in 0.. {
        let disk = SimDisk::new(change);
        disk.crash_at(change);
        if let Ok(engine) = open(&disk) {
            let tenant = default_tenant(&runtime, &engine);
            let mut client = Client::new(9);
            client.work(&runtime, &tenant, 16);
            engine.close();
        }
        for disk in [disk.restart(), disk.crash()] {
            let engine = open(&disk).unwrap();
            let tenant = default_tenant(&runtime, &engine);
            let event = NewEvent::new("a", "t", "{}");
            runtime
                .block_on(tenant.append(Batch::new([event])))
                .unwrap();
            drop(tenant);
            drop(engine);
            let disk = disk.restart();
            disk.lose(&last_log_file(&disk));
            let told = opened(&disk);
            assert!(told.is_err(), "made at {change}: {told:?}");
            lost += 1;
        }
        if !disk.is_dead() {
            break;
        }
    }
    assert!(lost > 50, "{lost}");
}

/// A tenant whose manifest is gone was said not to exist, although its log was there.
#[test]
fn a_tenant_whose_manifest_is_gone_is_damaged_and_not_unknown() {
    let (disk, runtime) = (SimDisk::new(2), runtime());
    let id = TenantId::try_from("other").unwrap();
    let engine = open(&disk).unwrap();
    let tenant = runtime.block_on(engine.create_tenant(&id)).unwrap();
    let event = NewEvent::new("a", "t", "{}");
    runtime
        .block_on(tenant.append(Batch::new([event])))
        .unwrap();
    drop(tenant);
    drop(engine);
    disk.lose(&manifest("other"));
    let engine = open(&disk).unwrap();
    for _ in 0..2 {
        let told = runtime.block_on(engine.tenant(&id)).map(|_| ());
        assert!(
            matches!(told, Err(TenantError::Open(OpenError::Damaged(_)))),
            "{told:?}"
        );
        let told = runtime.block_on(engine.create_tenant(&id)).map(|_| ());
        assert!(
            matches!(told, Err(TenantError::Open(OpenError::Damaged(_)))),
            "{told:?}"
        );
    }
    let nobody = TenantId::try_from("nobody").unwrap();
    let told = runtime.block_on(engine.tenant(&nobody)).map(|_| ());
    assert_eq!(told, Err(TenantError::NoSuchTenant(nobody)));
}

#[test]
fn an_older_copy_of_a_file_is_told_once_another_follows() {
    let runtime = runtime();
    let disk = SimDisk::new(3);
    let mut copies = Vec::new();
    while log_files(&disk).len() < 3 {
        let engine = open(&disk).unwrap();
        let tenant = default_tenant(&runtime, &engine);
        let event = NewEvent::new("a", "t", format!("\"{}\"", "x".repeat(700)));
        runtime
            .block_on(tenant.append(Batch::new([event])))
            .unwrap();
        engine.close();
        let last = last_log_file(&disk);
        copies.push((last.clone(), disk.content(&last)));
    }
    let last = last_log_file(&disk);
    let mut told = 0;
    for (path, bytes) in copies {
        if path != last && bytes != disk.content(&path) {
            let disk = disk.restart();
            disk.set_content(&path, bytes);
            assert!(opened(&disk).is_err(), "{}", path.display());
            told += 1;
        }
    }
    assert!(told > 2, "{told}");
}

#[test]
fn exchanged_files_are_told() {
    let log = SmallLog::new(Stop::Clean);
    let files = log_files(&log.disk);
    let disk = log.disk.restart();
    disk.set_content(&files[0], log.disk.content(&files[1]));
    disk.set_content(&files[1], log.disk.content(&files[0]));
    assert!(opened(&disk).is_err());
    // A file of another log, which has the same name.
    let other = SmallLog::new(Stop::Clean);
    let disk = log.disk.restart();
    disk.set_content(&files[0], other.disk.content(&log_files(&other.disk)[0]));
    let told = opened(&disk).unwrap_err();
    assert!(told.contains("belongs to log"), "{told}");
}

#[test]
fn what_was_being_made_when_the_power_went_is_no_obstacle() {
    let log = SmallLog::new(Stop::Clean);
    let last = last_log_file(&log.disk);
    let bytes = log.disk.content(&last);
    for content in [Vec::new(), vec![0xff; 5000], bytes[..4500].to_vec(), bytes] {
        let disk = log.disk.restart();
        for name in ["spare.new", "recovered.new"] {
            disk.set_content(&last.with_file_name(name), content.clone());
        }
        let new_manifest = manifest("default").with_extension("new");
        disk.set_content(&new_manifest, content.clone());
        assert_eq!(opened(&disk).unwrap(), log.events);
        let leftover = |path: &std::path::PathBuf| path.ends_with("recovered.new");
        assert!(!disk.files().iter().any(leftover));
    }
}

#[test]
fn frames_that_stood_elsewhere_or_earlier_are_not_served() {
    let older = SmallLog::new(Stop::Clean);
    // Opening it copies the last file, with another salt.
    let disk = older.disk.restart();
    assert_eq!(opened(&disk).unwrap(), older.events);
    let path = last_log_file(&disk);
    let now = disk.content(&path);
    let before = older.disk.content(&path);
    let end = Frames::of(&disk, &path).end;
    let salt = |bytes: &[u8]| FileHeader::decode(&bytes[..HEADER_BYTES]).unwrap().salt;
    assert_ne!(salt(&now), salt(&before));
    for (source, what) in [(&now, "replayed"), (&before, "stale")] {
        let frames = Frames::of(&older.disk, &path);
        for frame in [frames.last_events.clone(), HEADER_BYTES..frames.end] {
            let copy = disk.restart();
            let mut bytes = now.clone();
            bytes.resize(bytes.len().max(end + frame.len()), 0);
            bytes[end..end + frame.len()].copy_from_slice(&source[frame]);
            copy.set_content(&path, bytes);
            assert_eq!(opened(&copy).unwrap(), older.events, "{what}");
        }
    }
}
