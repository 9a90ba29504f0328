//! What an answer costs, in blocks that are looked at, and the bytes of the format.

use std::{fmt::Write as _, thread};

use super::plain::{KINDS, Line, Plain, scatter};
use crate::types::{hash::KeyHasher, read::NameKind};

fn many_names() -> Plain {
    let mut plain = Plain::of_rows(1, 6000);
    plain.add_ids(KeyHasher::default());
    for i in 0..6000 {
        let name = format!("customer-{i}");
        plain.names[0].insert(name.into_bytes(), (i, vec![1 + scatter(4, i) % 6000]));
    }
    plain
}

#[test]
fn what_is_not_there_costs_about_one_block() {
    let plain = many_names();
    let open = plain.open(KeyHasher::default(), 1 << 20);
    let blocks = || open.cache.hits() + open.cache.misses();
    for i in 0..1000u64 {
        let name = format!("nobody-{i}");
        assert!(open.name(NameKind::Entity, name.as_bytes()).is_none());
    }
    assert!(blocks() < 1050, "{}", blocks());
    for i in 0..1000u64 {
        assert_eq!(open.run.ids(scatter(5, i)), Ok(Vec::new()));
    }
    assert!(blocks() < 2100, "{}", blocks());
    assert!(open.cache.misses() < 40, "{}", open.cache.misses());
    // Without any name of its kind, nothing is looked at.
    let before = blocks();
    assert!(open.name(NameKind::Tag, b"customer-1").is_none());
    assert_eq!(blocks(), before);
}

#[test]
fn what_is_there_costs_a_few_blocks() {
    let plain = many_names();
    let open = plain.open(KeyHasher::default(), 0);
    for (hash, position) in plain.ids.iter().step_by(7) {
        let before = open.cache.misses();
        assert_eq!(open.run.ids(*hash), Ok(vec![*position]));
        assert!(open.cache.misses() - before <= 5);
    }
    for name in plain.names[0].keys() {
        let before = open.cache.misses();
        assert!(open.name(NameKind::Entity, name).is_some());
        assert!(open.cache.misses() - before <= 4);
    }
}

#[test]
fn a_dense_list_costs_about_a_byte_a_row() {
    let mut plain = Plain::of_rows(1, 100_000);
    let without = plain.open(KeyHasher::default(), 0).run.bytes();
    plain.add_name(NameKind::Type, b"order.paid", 1, 900);
    let with = plain.open(KeyHasher::default(), 0).run.bytes();
    assert!(
        (90_000..105_000).contains(&(with - without)),
        "{}",
        with - without
    );
}

#[test]
fn many_threads_share_a_small_cache() {
    let plain = many_names();
    let open = plain.open(KeyHasher::default(), 100_000);
    thread::scope(|scope| {
        for thread in 0..4 {
            let (plain, open) = (&plain, &open);
            scope.spawn(move || {
                for i in 0..500 {
                    let name = format!("customer-{}", scatter(thread, i) % 7000);
                    let found = open.name(NameKind::Entity, name.as_bytes());
                    let found = found.map(|found| Line::of(&found));
                    assert_eq!(found, plain.name(NameKind::Entity, name.as_bytes()));
                }
            });
        }
    });
}

/// Another sum: another format. It then needs another version, and the old one must still be read.
#[test]
fn the_format_is_what_it_was() {
    let mut plain = Plain::of_rows(40, 6000);
    plain.add_ids(KeyHasher::default());
    for i in 0..500 {
        let name = format!("name-{i}");
        plain.add_name(KINDS[i as usize % 3], name.as_bytes(), i, 1000 / (i + 1));
    }
    let folder = tempfile::tempdir().unwrap();
    let summary = plain.write(&folder.path().join("run"), KeyHasher::default(), Some(7));
    let mut sum = String::new();
    for byte in &summary.sha256[..8] {
        write!(sum, "{byte:02x}").unwrap();
    }
    assert_eq!((sum.as_str(), summary.bytes), ("3f43805b9fefddb9", 307_200));
}
