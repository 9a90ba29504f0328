//! Files that nothing names: only what stands elsewhere as well is removed when a log is opened.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use annals::{
    Batch, Engine, EngineOptions, Event, NewEvent, OpenError, Tenant, storage::disk::Disk,
};

use crate::{
    sealed_log::{open_sealed, wait_until_sealed},
    sim_disk::SimDisk,
    small_log::log_files,
    workload::{FOLDER, default_tenant, read_all, runtime, sealing_options},
};

const PART: u64 = 10;

type Harm = fn(&SimDisk, &Path);

fn folder() -> PathBuf {
    Path::new(FOLDER).join("tenants/default")
}

fn options(keep_bytes: u64) -> EngineOptions {
    let mut options = sealing_options();
    options.limits.seal_events = PART;
    options.limits.keep_bytes = keep_bytes;
    options.limits.compact_target_bytes = 1;
    options.limits.run_fan_in = usize::MAX;
    options
}

fn append_parts(tenant: &Tenant, parts: u64) {
    let runtime = runtime();
    for n in 0..parts * PART {
        let event = NewEvent::new("entity", "counted", format!(r#"{{"n":{n}}}"#));
        runtime
            .block_on(tenant.append(Batch::new([event])))
            .unwrap();
    }
    // The newest part grows.
    wait_until_sealed(tenant, tenant.head() - PART);
}

/// A log of so many parts, closed.
fn filled(disk: &SimDisk, options: &EngineOptions, parts: u64) -> Vec<Event> {
    let engine = open_sealed(disk, options).unwrap();
    let tenant = default_tenant(&runtime(), &engine);
    append_parts(&tenant, parts);
    read_all(&tenant).unwrap()
}

/// Segments and runs.
fn lasting_files(disk: &SimDisk) -> Vec<(PathBuf, Vec<u8>)> {
    let is_lasting = |path: &PathBuf| {
        let dir = path.parent().unwrap();
        dir.ends_with("segments") || dir.ends_with("index")
    };
    let paths = disk.files().into_iter().filter(is_lasting);
    let with_content = paths.map(|path| (path.clone(), disk.content(&path)));
    with_content.collect()
}

fn refusal(disk: &SimDisk, options: &EngineOptions) -> String {
    match open_sealed(disk, options) {
        Err(OpenError::Damaged(damage)) => damage.to_string(),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was opened"),
    }
}

/// Without manifest and log it looked like a tenant that was never made. It was made, empty, and the next start removed
/// the segments.
#[test]
fn a_folder_with_segments_is_never_taken_for_a_new_tenant() {
    let log = SimDisk::new(1);
    let options = options(0);
    filled(&log, &options, 4);
    let harms: [Harm; 3] = [
        |disk, path| disk.lose(path),
        |disk, path| disk.set_content(path, Vec::new()),
        |disk, path| disk.set_content(path, disk.content(path)[..3_000].to_vec()),
    ];
    for harm in harms {
        for folders in [&["segments", "index"][..], &["index"], &["segments"], &[]] {
            let disk = log.restart();
            disk.lose(&folder().join("manifest"));
            for path in log_files(&disk) {
                harm(&disk, &path);
            }
            for (path, _) in lasting_files(&disk) {
                let dir = path.parent().unwrap();
                if !folders.iter().any(|folder| dir.ends_with(folder)) {
                    disk.lose(&path);
                }
            }
            let left = lasting_files(&disk);
            if left.is_empty() && log_files(&disk).is_empty() {
                continue;
            }
            for _ in 0..2 {
                let told = refusal(&disk, &options);
                assert!(told.contains("manifest"), "{told}");
                assert_eq!(lasting_files(&disk), left);
            }
        }
    }
}

/// It named fewer segments than there were: the others were removed, and then the log was found not to reach back to
/// those that it named.
#[test]
fn an_open_with_an_older_manifest_is_refused_and_removes_nothing() {
    let disk = SimDisk::new(1);
    let options = options(0);
    filled(&disk, &options, 4);
    let manifest = folder().join("manifest");
    let older = disk.content(&manifest);
    filled(&disk, &options, 6);
    let newest = disk.content(&manifest);
    disk.set_content(&manifest, older);
    let left = lasting_files(&disk);
    refusal(&disk, &options);
    assert_eq!(lasting_files(&disk), left);

    disk.set_content(&manifest, newest);
    let engine = open_sealed(&disk, &options).unwrap();
    let events = read_all(&default_tenant(&runtime(), &engine)).unwrap();
    assert_eq!(events.len() as u64, 10 * PART);
}

#[test]
fn what_stands_elsewhere_is_removed_and_what_does_not_is_not() {
    let disk = SimDisk::new(1);
    let options = options(0);
    let events = filled(&disk, &options, 4);
    let name = |first: u64, last: u64| format!("{first:020}-{last:020}.parquet");
    let put = |name: &str| {
        let path = folder().join("segments").join(name);
        disk.set_content(&path, b"something".to_vec());
        path
    };
    let leftovers = [put(&name(1, 20)), put("half-written.parquet.new")];
    let foreign = [put("export.parquet"), put("1-20.parquet"), put("notes")];
    let engine = open_sealed(&disk, &options).unwrap();
    let tenant = default_tenant(&runtime(), &engine);
    assert_eq!(read_all(&tenant).unwrap(), events);
    drop((engine, tenant));
    let files = disk.files();
    assert!(!leftovers.iter().any(|path| files.contains(path)));
    assert!(foreign.iter().all(|path| files.contains(path)));

    let beyond = put(&name(41, 60));
    let told = refusal(&disk, &options);
    assert!(told.contains("position 60"), "{told}");
    assert!(disk.files().contains(&beyond));
}

/// It was removed once the budget said so, although a segment that was damaged meanwhile held its events no more.
#[test]
fn a_log_file_stays_while_no_segment_holds_its_events() {
    let disk = SimDisk::new(1);
    let (keeping, dropping) = (options(u64::MAX), options(0));
    filled(&disk, &keeping, 40);
    let before = log_files(&disk);
    assert!(before.len() > 3, "{before:?}");
    let first = folder()
        .join("segments")
        .join(format!("{:020}-{:020}.parquet", 1, PART));
    let bits = disk.content(&first).len() * 8;
    for bit in [100 * 8, bits - 100 * 8] {
        let harmed = disk.restart();
        harmed.flip(&first, bit);
        let engine = open_sealed(&harmed, &dropping).unwrap();
        let tenant = default_tenant(&runtime(), &engine);
        append_parts(&tenant, 4);
        drop((engine, tenant));
        let files = log_files(&harmed);
        assert!(files.starts_with(&before[..before.len() - 1]), "{files:?}");

        let disk = Arc::new(harmed.clone()) as Arc<dyn Disk>;
        let repaired = Engine::repair_on(&disk, Path::new(FOLDER), None, &dropping, &mut |_| {});
        assert_eq!(repaired.unwrap().lost, 0);
        let engine = open_sealed(&harmed, &dropping).unwrap();
        let tenant = default_tenant(&runtime(), &engine);
        assert_eq!(read_all(&tenant).unwrap().len() as u64, 44 * PART);
        append_parts(&tenant, 2);
        assert!(log_files(&harmed).len() < before.len());
    }
}
