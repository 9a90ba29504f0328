//! Which segments are compacted, and how often events are written again on the way.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use proptest::{collection::vec, prelude::*};

use super::{is_full, next_of_one_size, next_that_fit};
use crate::{
    engine::{Engine, EngineOptions, tenant::Tenant},
    storage::segment::SegmentSummary,
    types::{
        append::Batch,
        event::NewEvent,
        id::{Position, TenantId},
        limits::Limits,
    },
};

const TARGET: u64 = 1_000;
const NONE: [u64; 0] = [];

fn limits(fan_in: usize) -> Limits {
    Limits {
        compact_target_bytes: TARGET,
        compact_fan_in: fan_in,
        ..Limits::default()
    }
}

fn segment(first: Position, bytes: u64) -> SegmentSummary {
    SegmentSummary {
        first,
        last: first,
        bytes,
        sha256: [0; 32],
        tail_at: bytes,
        tail_crc: 0,
    }
}

fn segments(bytes: &[u64]) -> Vec<SegmentSummary> {
    let bytes = bytes.iter().zip(1..);
    bytes.map(|(bytes, first)| segment(first, *bytes)).collect()
}

fn bytes_of(chosen: Option<Vec<SegmentSummary>>) -> Vec<u64> {
    chosen.unwrap_or_default().iter().map(|s| s.bytes).collect()
}

fn of_one_size(bytes: &[u64], fan_in: usize) -> Vec<u64> {
    bytes_of(next_of_one_size(
        &segments(bytes),
        &HashSet::new(),
        &limits(fan_in),
    ))
}

fn that_fit(bytes: &[u64]) -> Vec<u64> {
    bytes_of(next_that_fit(&segments(bytes), &HashSet::new(), &limits(4)))
}

fn replace(segments: &mut Vec<SegmentSummary>, chosen: &[SegmentSummary]) -> u64 {
    let at = segments.partition_point(|s| s.first < chosen[0].first);
    let mut made = segment(chosen[0].first, chosen.iter().map(|s| s.bytes).sum());
    made.last = chosen[chosen.len() - 1].last;
    let bytes = made.bytes;
    segments.splice(at..at + chosen.len(), [made]);
    bytes
}

#[test]
fn as_many_as_the_fan_in_become_one() {
    assert_eq!(of_one_size(&[10, 10, 10], 4), NONE);
    assert_eq!(of_one_size(&[10, 11, 12, 13], 4), [10, 11, 12, 13]);
    assert_eq!(of_one_size(&[40, 10, 11, 12], 4), NONE);
    // Smaller ones that were left over go with the larger ones behind them.
    assert_eq!(of_one_size(&[40, 1, 40, 40], 4), [40, 1, 40, 40]);
}

#[test]
fn what_would_become_larger_than_the_target_becomes_as_large_as_fits() {
    assert_eq!(of_one_size(&[300, 300, 300, 300], 4), [300, 300, 300]);
    assert_eq!(of_one_size(&[300, 300, 300], 4), NONE);
    assert_eq!(that_fit(&[300, 300, 300, 300]), [300, 300, 300]);
}

#[test]
fn full_and_damaged_segments_stay_and_are_no_obstacle() {
    assert_eq!(of_one_size(&[500, 900, 500, 501], 2), NONE);
    assert_eq!(that_fit(&[500, 10, 500, 10, 20]), [10, 20]);
    assert_eq!(of_one_size(&[10, 10, 600, 10], 2), [10, 10]);
    let all = segments(&[10, 10, 10, 10]);
    let damaged = HashSet::from([2]);
    let chosen = next_of_one_size(&all, &damaged, &limits(2)).unwrap();
    assert_eq!(chosen, all[2..]);
    assert_eq!(next_that_fit(&all[..3], &damaged, &limits(2)), None);
}

#[test]
fn what_is_asked_for_takes_neighbours_of_any_size() {
    assert_eq!(that_fit(&[400, 1, 90]), [400, 1, 90]);
    assert_eq!(that_fit(&[400]), NONE);
    assert_eq!(that_fit(&[]), NONE);
}

async fn wait_until(tenant: &Tenant, is_so: impl Fn(&Tenant) -> bool) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !is_so(tenant) {
        assert!(Instant::now() < deadline, "it never is so");
        tokio::task::yield_now().await;
    }
}

/// Whoever looked at the segments before they were compacted, and comes to open one after it was removed.
#[tokio::test]
async fn what_was_looked_up_before_is_found_after_files_are_gone() {
    let dir = tempfile::tempdir().unwrap();
    let options = EngineOptions {
        limits: Limits {
            seal_events: 10,
            keep_bytes: 0,
            recent_bytes_max: 0,
            log_file_bytes: 6 << 10,
            compact_fan_in: usize::MAX,
            ..Limits::default()
        },
        ..EngineOptions::default()
    };
    let engine = Engine::open(dir.path(), options).unwrap();
    let tenant = engine.tenant(&TenantId::default()).await.unwrap();
    for number in 0..300 {
        let event = NewEvent::new("a", "t", number.to_string());
        tenant.append(Batch::new([event])).await.unwrap();
    }
    wait_until(&tenant, |tenant| tenant.stats().sealed == 290).await;
    let log = &tenant.log;
    let before = log.pieces();
    assert_eq!(before.segments().len(), 29);
    tenant.compact();
    wait_until(&tenant, |tenant| !tenant.compaction_stats().running).await;
    assert_eq!(log.pieces().segments().len(), 1);
    for first in (1..=50).rev() {
        let rows: Vec<_> = (first..first + 10).collect();
        let read = log.fetch_sealed(&before, &rows, u64::MAX).unwrap();
        for (event, position) in read.iter().zip(first..) {
            assert_eq!(event.position(), position);
            assert_eq!(event.payload(), (position - 1).to_string());
        }
        assert!(!read.is_empty());
    }
    // It is missing indeed.
    let path = log.segment_path(&log.pieces().segments()[0]);
    for summary in log.pieces().segments() {
        log.forget_segment(summary);
    }
    std::fs::remove_file(&path).unwrap();
    for pieces in [&before, &log.pieces()] {
        let told = log.fetch_sealed(pieces, &[1], u64::MAX).unwrap_err();
        assert!(told.to_string().contains(path.to_str().unwrap()), "{told}");
    }
}

proptest! {
    /// Segments come in one after the other. None above the target is made, full ones stay, few small ones are left, and
    /// no byte is written more often than there are sizes.
    #[test]
    fn segments_grow_to_the_target_and_are_seldom_written(
        sizes in vec(1u64..30, 1..400),
        fan_in in 2usize..9,
    ) {
        let limits = limits(fan_in);
        let none = HashSet::new();
        let (mut now, mut written, mut total) = (Vec::new(), 0, 0);
        for (bytes, position) in sizes.iter().zip(1..) {
            now.push(segment(position, *bytes));
            total += bytes;
            while let Some(chosen) = next_of_one_size(&now, &none, &limits) {
                prop_assert!(chosen.len() > 1 && chosen.len() <= fan_in);
                prop_assert!(chosen.iter().all(|s| !is_full(s, TARGET)));
                let made = replace(&mut now, &chosen);
                prop_assert!(made <= TARGET);
                written += made;
            }
        }
        let sizes = u64::from(TARGET.ilog(fan_in as u64)) + 1;
        let small = now.iter().filter(|s| !is_full(s, TARGET)).count() as u64;
        prop_assert!(small <= fan_in as u64 * (sizes + 1), "{small} small ones");
        prop_assert!(written <= total * (sizes + 1), "{written} of {total}");
        while let Some(chosen) = next_that_fit(&now, &none, &limits) {
            prop_assert!(replace(&mut now, &chosen) <= TARGET);
        }
        for pair in now.windows(2) {
            let small = pair.iter().all(|s| !is_full(s, TARGET));
            prop_assert!(!small);
        }
        prop_assert_eq!(now.iter().map(|s| s.bytes).sum::<u64>(), total);
    }
}
