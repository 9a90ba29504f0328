//! Golden vectors: the slot of an entity is fixed for ever, since readers share work by it.
//!
//! Made with another implementation of the hash, Python's `xxhash` 4.1.0 (which wraps the reference one, 0.8.4):
//! `xxhash.xxh3_64_intdigest(entity_id.encode()) >> 54`.

use annals::types::slot::{Partitions, slot};

#[test]
fn slots_are_the_top_ten_bits_of_xxh3() {
    // The hash takes another path for each of: up to 3 bytes, 8, 16, 128, 240, and longer.
    let x = |count| "x".repeat(count);
    for (entity_id, expected) in [
        ("0".to_owned(), 102),
        ("a".to_owned(), 923),
        ("e\u{301}".to_owned(), 880),
        ("🦀".to_owned(), 224),
        ("order-1".to_owned(), 383),
        ("order-42".to_owned(), 487),
        ("注文-42".to_owned(), 431),
        ("customer 7".to_owned(), 381),
        ("case-2010-0001".to_owned(), 7),
        (x(16), 893),
        (x(17), 550),
        ("tenant/path:entity".to_owned(), 709),
        ("Ärger mit Umlauten".to_owned(), 341),
        (x(128), 306),
        (x(129), 915),
        (x(240), 248),
        (x(241), 83),
        (x(512), 74),
    ] {
        assert_eq!(slot(entity_id.as_bytes()), expected, "{entity_id}");
    }
}

#[test]
fn partitions_are_ranges_of_slots() {
    let partition = |count, slot| Partitions::new(count).unwrap().of_slot(slot);
    for (count, slot, expected) in [
        (1, 1_023, 0),
        (32, 31, 0),
        (32, 32, 1),
        (32, 923, 28),
        (32, 1_023, 31),
        (1_024, 487, 487),
    ] {
        assert_eq!(partition(count, slot), expected, "{slot} of {count}");
    }
}
