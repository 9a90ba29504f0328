//! Files that are whole and say something else than the others.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use super::*;
use crate::{
    engine::{Engine, EngineOptions},
    storage::{
        disk::RealDisk,
        index::{cache::BlockCache, merge::merge, reader::Run, writer::RunWriter},
        segment::{reader::Segment, schema::SegmentOptions, writer::SegmentWriter},
    },
    types::{append::Batch, event::NewEvent, id::TenantId, limits::Limits},
};

const EVENTS: u64 = 10;

/// A store with a segment of as many events, closed; its tenant's folder.
fn store(dir: &Path, entity: &str) -> PathBuf {
    let options = EngineOptions {
        limits: Limits {
            seal_events: EVENTS,
            disk_reserve_bytes: 0,
            ..Limits::default()
        },
        ..EngineOptions::default()
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let engine = Engine::open(dir, options).unwrap();
    let tenant = runtime
        .block_on(engine.tenant(&TenantId::default()))
        .unwrap();
    // What is sealed in one batch: its place in the log does not depend on how long anything takes.
    for events in [EVENTS, 1] {
        let event = |_| NewEvent::new(entity, "t", "{}");
        let batch = Batch::new((0..events).map(event));
        runtime.block_on(tenant.append(batch)).unwrap();
    }
    let started = Instant::now();
    while tenant.stats().sealed < EVENTS {
        assert!(started.elapsed() < Duration::from_mins(1));
        std::thread::yield_now();
    }
    engine.close();
    dir.join("tenants").join(TenantId::default().as_str())
}

fn manifest(dir: &Path) -> Manifest {
    Manifest::read(&RealDisk, dir).unwrap().unwrap()
}

fn tenant(dir: &Path) -> Stored {
    let place = LogPlace::new(Arc::new(RealDisk), dir, 0);
    Stored::closed(place, manifest(dir), KeyHasher::default())
}

fn faults(dir: &Path) -> Vec<Damage> {
    let mut faults = Vec::new();
    let mut tell = |told| {
        if let Told::Fault(damage) = told {
            faults.push(damage);
        }
    };
    let verified = Engine::verify(dir, None, &mut tell).unwrap();
    assert_eq!(verified.faults, faults.len() as u64);
    assert_eq!((verified.tenants, verified.events), (1, EVENTS + 1));
    faults
}

#[test]
fn a_run_that_says_other_things_than_the_segments_is_told() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (one_dir, other_dir) = (store(one.path(), "order-1"), store(other.path(), "order-2"));
    assert_eq!(faults(one.path()), []);

    let (one_tenant, other_tenant) = (tenant(&one_dir), tenant(&other_dir));
    let summary = &other_tenant.manifest.sealed.runs[0];
    let path = other_tenant.run_path(summary);
    let file = RealDisk.open(&path).unwrap();
    let cache = Arc::new(BlockCache::new(0));
    let (log_id, hasher) = (other_tenant.manifest.log_id, other_tenant.hasher);
    let run = Run::open(file, path, log_id, hasher, summary, cache).unwrap();
    let mut changed = one_tenant.manifest.clone();
    let path = one_tenant.run_path(&changed.sealed.runs[0]);
    let writer = RunWriter::create(&RealDisk, &path, changed.log_id, hasher, 1).unwrap();
    changed.sealed.runs[0] = merge(&[&run], writer, &|| false).unwrap();
    changed.write(&RealDisk, &one_dir).unwrap();

    let told = faults(one.path());
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].path, path);
    assert!(told[0].what.contains("other things"), "{told:?}");
}

#[test]
fn a_segment_that_holds_other_events_than_the_log_is_told() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (one_dir, other_dir) = (store(one.path(), "order-1"), store(other.path(), "order-2"));
    let (one_tenant, other_tenant) = (tenant(&one_dir), tenant(&other_dir));
    let summary = &other_tenant.manifest.sealed.segments[0];
    let path = other_tenant.segment_path(summary);
    let file = RealDisk.open(&path).unwrap();
    let log_id = other_tenant.manifest.log_id;
    let segment = Segment::open(file, path, log_id, summary).unwrap();
    let mut changed = one_tenant.manifest.clone();
    let path = one_tenant.segment_path(&changed.sealed.segments[0]);
    let options = SegmentOptions::default();
    let mut writer = SegmentWriter::create(&RealDisk, &path, changed.log_id, options).unwrap();
    for stored in segment.scan(1).flat_map(Result::unwrap) {
        let row = &stored.row;
        writer
            .push(stored.position, stored.recorded_at, row)
            .unwrap();
    }
    changed.sealed.segments[0] = writer.finish().unwrap();
    changed.write(&RealDisk, &one_dir).unwrap();

    let told = faults(one.path());
    assert_eq!(told[0].path, path);
    assert!(told[0].what.contains("other events"), "{told:?}");
}
