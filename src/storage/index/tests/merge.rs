//! A merged run is, byte for byte, the one that would have been written at once.

use std::fs;

use proptest::{collection::vec, prelude::*, sample::select};

use super::{
    super::{
        layout::Header,
        merge::{MergeError, merge},
        reader::Run,
        writer::RunWriter,
    },
    model::runs,
    plain::{Open, Plain, log_id},
};
use crate::{
    storage::disk::RealDisk,
    types::{hash::KeyHasher, id::Position},
};

const SALT: u64 = 77;

/// The part of a run between two positions.
fn part(whole: &Plain, first: Position, last: Position) -> Plain {
    let mut part = Plain::of_rows(first, last - first + 1);
    let row = (first - whole.first) as usize;
    part.places = whole.places[row..row + part.places.len()].to_vec();
    let inside = |position: &Position| (first..=last).contains(position);
    part.ids = whole.ids.clone();
    part.ids.retain(|(_, position)| inside(position));
    for (names, of_whole) in part.names.iter_mut().zip(&whole.names) {
        for (name, (before, rows)) in of_whole {
            let earlier = rows.partition_point(|position| *position < first) as u64;
            let rows: Vec<_> = rows.iter().copied().filter(inside).collect();
            if !rows.is_empty() {
                names.insert(name.clone(), (before + earlier, rows));
            }
        }
    }
    part
}

/// Cuts a run at some of its rows.
fn parts(whole: &Plain, cuts: &[u64]) -> Vec<Plain> {
    let rows = whole.places.len() as u64;
    let mut firsts: Vec<_> = cuts.iter().map(|cut| whole.first + cut % rows).collect();
    firsts.push(whole.first);
    firsts.sort_unstable();
    firsts.dedup();
    let lasts = firsts.iter().skip(1).map(|first| first - 1);
    let lasts = lasts.chain([whole.last()]);
    let ranges = firsts.iter().zip(lasts);
    ranges
        .map(|(first, last)| part(whole, *first, last))
        .collect()
}

fn merged(
    open: &[Open],
    first: Position,
    hasher: KeyHasher,
    stop: &dyn Fn() -> bool,
) -> Result<Vec<u8>, MergeError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("merged.idx");
    let header = Header {
        log_id: log_id(),
        salt: SALT,
        first,
        hasher,
    };
    let writer = RunWriter::with_header(&RealDisk, &path, header).unwrap();
    let runs: Vec<&Run> = open.iter().map(|open| &open.run).collect();
    let summary = merge(&runs, writer, stop)?;
    let bytes = fs::read(path).unwrap();
    assert_eq!(summary.bytes, bytes.len() as u64);
    Ok(bytes)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_merged_run_is_the_one_written_at_once(
        whole in runs(1500), cuts in vec(any::<u64>(), 0..6),
        bits in select([64, 8, 1].as_slice()), cache_bytes in select([0usize, 1 << 20].as_slice()),
    ) {
        let (mut whole, hasher) = (whole, KeyHasher::with_bits(bits));
        whole.add_ids(hasher);
        let open: Vec<_> = parts(&whole, &cuts)
            .iter()
            .map(|part| part.open(hasher, cache_bytes))
            .collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("whole.idx");
        whole.write(&path, hasher, Some(SALT));
        let merged = merged(&open, whole.first, hasher, &|| false).unwrap();
        prop_assert!(merged == fs::read(path).unwrap());
    }
}

#[test]
fn merging_stops_when_told() {
    let hasher = KeyHasher::default();
    let mut whole = Plain::of_rows(1, 100);
    whole.add_ids(hasher);
    let open = [part(&whole, 1, 50), part(&whole, 51, 100)].map(|part| part.open(hasher, 0));
    let stopped = merged(&open, 1, hasher, &|| true);
    assert!(matches!(stopped, Err(MergeError::Stopped)));
}
