//! Random runs and random questions: the answers are those of plain maps, however little the cache holds.

use proptest::{collection::vec, option, prelude::*, sample::select};

use super::{
    super::filter::FilterKeys,
    plain::{KINDS, Line, Open, Plain, page},
};
use crate::types::{
    hash::KeyHasher,
    id::Position,
    limits::NAME_BYTES_MAX,
    read::{Direction, NameKind},
};

fn names() -> impl Strategy<Value = Vec<u8>> {
    let text = prop_oneof![
        3 => "[a-c]{0,5}",
        3 => "order-[0-9]{1,5}",
        2 => "[äöü€😀]{1,9}",
        1 => "(long ){50,102}[ab]{0,2}",
        1 => ".{0,40}",
    ];
    text.prop_map(String::into_bytes)
}

fn kinds() -> impl Strategy<Value = NameKind> {
    select(KINDS.as_slice())
}

fn directions() -> impl Strategy<Value = Direction> {
    select([Direction::Forward, Direction::Backward].as_slice())
}

fn hashers() -> impl Strategy<Value = KeyHasher> {
    select([64, 8, 1].as_slice()).prop_map(KeyHasher::with_bits)
}

/// A few that carry nearly all events, many that carry few.
fn densities() -> impl Strategy<Value = u64> {
    prop_oneof![4 => Just(0u64), 4 => 0u64..20, 1 => 300u64..=1000]
}

prop_compose! {
    pub(super) fn runs(rows_max: u64)(
        first in prop_oneof![Just(1u64), 1u64..1 << 40],
        rows in 1..=rows_max,
        names in vec((kinds(), names(), any::<u64>(), densities()), 0..80),
    ) -> Plain {
        let mut plain = Plain::of_rows(first, rows);
        for (kind, name, seed, of_1000) in names {
            plain.add_name(kind, &name, seed, of_1000);
        }
        plain
    }
}

/// A part of the positions from a little before the run to a little behind it, in thousandths.
fn range_of(plain: &Plain, (from, to): (u64, u64)) -> std::ops::RangeInclusive<Position> {
    let span = plain.places.len() as u64 + 20;
    let at = |part: u64| (plain.first + span * part / 1000).saturating_sub(10);
    at(from)..=at(to)
}

#[derive(Debug, Clone)]
struct Questions {
    ranges: Vec<(u64, u64)>,
    direction: Direction,
    max: usize,
    every: u64,
}

prop_compose! {
    fn questions()(
        ranges in vec((0u64..=1000, 0u64..=1000), 1..4),
        direction in directions(),
        max in prop_oneof![0usize..5, 0usize..2000, Just(usize::MAX)],
        every in prop_oneof![1u64..4, 1u64..200],
    ) -> Questions {
        Questions { ranges, direction, max, every }
    }
}

/// Asks everything that can be asked of a name.
fn ask_name(plain: &Plain, open: &Open, kind: NameKind, name: &[u8], ask: &Questions) {
    let rows = &plain.names[super::super::names::place_of(kind)][name].1;
    let run = &open.run;
    let found = open.name(kind, name).expect("it is there");
    for parts in &ask.ranges {
        let range = range_of(plain, *parts);
        let expected = page(rows, range.clone(), ask.direction, ask.max);
        let paged = found.page(run, range.clone(), ask.direction, ask.max);
        assert_eq!(paged, Ok(expected));

        for position in [*range.start(), *range.end()] {
            let expected = rows.partition_point(|row| *row <= position) as u64;
            assert_eq!(found.count_through(run, position), Ok(expected));
        }
        let n = rows.len() as u64 * parts.0 / 1001;
        assert_eq!(found.nth(run, n), Ok(rows[n as usize]));

        let mut positions: Vec<_> = range.step_by(ask.every as usize).collect();
        if ask.direction == Direction::Backward {
            positions.reverse();
        }
        let mut expected = positions.clone();
        expected.retain(|position| rows.binary_search(position).is_ok());
        found.retain(run, &mut positions).unwrap();
        assert_eq!(positions, expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn names_are_those_of_plain_maps(
        plain in runs(1500), hasher in hashers(), cache_bytes in select([0usize, 20_000, 1 << 20].as_slice()),
        ask in questions(), absent in vec((kinds(), names()), 10),
    ) {
        let open = plain.open(hasher, cache_bytes);
        prop_assert_eq!((open.run.first(), open.run.last()), (plain.first, plain.last()));
        prop_assert_eq!(open.run.verify(), Ok(()));
        for (names, kind) in plain.names.iter().zip(KINDS) {
            prop_assert_eq!(open.run.names(kind), names.len() as u64);
            for name in names.keys() {
                let found = open.name(kind, name).map(|found| Line::of(&found));
                prop_assert_eq!(found, plain.name(kind, name));
                ask_name(&plain, &open, kind, name, &ask);
            }
        }
        for (kind, name) in &absent {
            let found = open.name(*kind, name).map(|found| Line::of(&found));
            prop_assert_eq!(found, plain.name(*kind, name));
        }
    }

    #[test]
    fn listings_are_those_of_plain_maps(
        plain in runs(50), cache_bytes in select([0usize, 1 << 20].as_slice()),
        asked in vec((kinds(), names(), 0usize..6, option::of(names())), 20),
    ) {
        let open = plain.open(KeyHasher::default(), cache_bytes);
        for (kind, prefix, prefix_bytes, after) in asked {
            let prefix = &prefix[..prefix.len().min(prefix_bytes)];
            let after = after.as_deref();
            prop_assert_eq!(open.list(kind, prefix, after), plain.list(kind, prefix, after));
        }
    }

    #[test]
    fn rows_and_times_are_those_of_plain_maps(
        first in 1u64..1 << 40, rows in 1u64..3000, times in vec(-600i64..5000, 20), every in 1usize..400,
    ) {
        let plain = Plain::of_rows(first, rows);
        let open = plain.open(KeyHasher::default(), 20_000);
        for time in times {
            prop_assert_eq!(open.run.position_at(time), Ok(plain.position_at(time)));
        }
        let mut positions: Vec<_> = (plain.first..=plain.last()).step_by(every).collect();
        let mut expected: Vec<_> = plain.places.iter().step_by(every).copied().collect();
        prop_assert_eq!(open.run.place(positions[0]), Ok(expected[0]));
        prop_assert_eq!(open.run.places(&positions), Ok(expected.clone()));
        positions.reverse();
        expected.reverse();
        prop_assert_eq!(open.run.places(&positions), Ok(expected));
    }

    #[test]
    fn ids_are_those_of_plain_maps(hasher in hashers(), rows in 1u64..5000, other in vec(any::<u64>(), 50)) {
        let mut plain = Plain::of_rows(1, rows);
        plain.add_ids(hasher);
        let open = plain.open(hasher, 20_000);
        let hashes = (0..300u64).map(|i| hasher.hash(&(1 + i * rows / 299).to_le_bytes()));
        let hashes: Vec<_> = hashes.chain(other).chain([0, 1, 2, 255, 256, u64::MAX]).collect();
        let keys = FilterKeys::new(hashes.iter().copied().enumerate());
        let may_hold = open.run.may_hold_ids(&keys).unwrap();
        for (index, hash) in hashes.iter().enumerate() {
            prop_assert_eq!(open.run.ids(*hash), Ok(plain.ids(*hash)), "{:x}", hash);
            let is_left_out = !may_hold.contains(&index);
            prop_assert!(!is_left_out || plain.ids(*hash).is_empty(), "{:x}", hash);
        }
        let absent = hashes.iter().filter(|hash| plain.ids(**hash).is_empty()).count();
        prop_assert!(may_hold.len() <= hashes.len() - absent + absent / 4 + 8);
        plain.ids.sort_unstable();
        prop_assert_eq!(open.run.all_ids().collect::<Result<Vec<_>, _>>(), Ok(plain.ids));
    }

    /// Interpolation guesses wrong all the time.
    #[test]
    fn hashes_that_are_spread_badly_are_found(
        clusters in vec((any::<u64>(), 0u32..64, 1u64..2000), 1..8), other in vec(any::<u64>(), 20),
    ) {
        let mut plain = Plain::of_rows(1, 20_000);
        let hashes = clusters.iter().flat_map(|(base, shift, len)| {
            (0..*len).map(move |i| base.wrapping_add(super::plain::scatter(*base, i) >> shift >> 1))
        });
        plain.ids = hashes.zip(1..).collect();
        let open = plain.open(KeyHasher::default(), 1 << 20);
        let some = plain.ids.iter().step_by(17).map(|(hash, _)| *hash);
        for hash in some.chain(other).chain([0, u64::MAX]) {
            prop_assert_eq!(open.run.ids(hash), Ok(plain.ids(hash)), "{:x}", hash);
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Lists of one block and less, of several, and of as many as they have rows by the thousand.
    #[test]
    fn long_lists_are_those_of_plain_maps(
        seed: u64, of_1000 in prop_oneof![Just(1000u64), 100u64..1000, 5u64..30], asks in vec(questions(), 4),
        cache_bytes in select([0usize, 20_000].as_slice()),
    ) {
        let mut plain = Plain::of_rows(1000, 40_000);
        plain.add_name(NameKind::Type, b"dense", seed, of_1000);
        // Dense at first, then with gaps of several bytes.
        let skewed = plain.first..=plain.last();
        let skewed = skewed.filter(|at| *at < 9_000 || at % 5 == 1 && *at < 15_000 || at % 3_000 == 0);
        let carriers = (17, skewed.collect());
        plain.names[1].insert(b"skewed".to_vec(), carriers);
        let open = plain.open(KeyHasher::default(), cache_bytes);
        for ask in &asks {
            ask_name(&plain, &open, NameKind::Type, b"dense", ask);
            ask_name(&plain, &open, NameKind::Type, b"skewed", ask);
        }
    }
}

#[test]
fn the_longest_names_make_the_highest_trees() {
    let mut plain = Plain::of_rows(1, 100);
    for i in 0..1500u64 {
        let name = format!("{:x>width$}{i:08}", "", width = NAME_BYTES_MAX - 8);
        plain.add_name(NameKind::Tag, name.as_bytes(), i, 0);
    }
    let open = plain.open(KeyHasher::with_bits(8), 1 << 20);
    assert!(open.run.footer().trees[2].level > 2, "else it is no test");
    assert_eq!(
        open.list(NameKind::Tag, b"", None),
        plain.list(NameKind::Tag, b"", None)
    );
    for (i, name) in plain.names[2].keys().enumerate().step_by(13) {
        let after = open.run.list(NameKind::Tag, b"xx", Some(name)).count();
        assert_eq!(after, plain.names[2].len() - i - 1);
        ask_name(
            &plain,
            &open,
            NameKind::Tag,
            name,
            &Questions {
                ranges: vec![(0, 1000)],
                direction: Direction::Forward,
                max: 9,
                every: 1,
            },
        );
    }
    assert_eq!(open.list(NameKind::Tag, b"y", None), []);
    assert_eq!(open.list(NameKind::Entity, b"", None), []);
}

/// Where one block of postings ends and the next begins, random questions seldom ask.
#[test]
fn every_row_beside_the_edge_of_a_block_is_counted() {
    // A byte each, and room left for a gap of five.
    const ROWS_PER_BLOCK: u64 = 4079;
    let mut plain = Plain::of_rows(1, 4 * ROWS_PER_BLOCK);
    plain.add_name(NameKind::Tag, b"all", 1, 1000);
    let open = plain.open(KeyHasher::default(), 1 << 20);
    let found = open.name(NameKind::Tag, b"all").unwrap();
    let all = plain.first..=plain.last();
    for position in all.filter(|position| (position + 2) % ROWS_PER_BLOCK < 6) {
        assert_eq!(found.nth(&open.run, position - 1), Ok(position));
        assert_eq!(found.count_through(&open.run, position), Ok(position));
        for direction in [Direction::Forward, Direction::Backward] {
            let page = found.page(&open.run, position..=position, direction, 2);
            assert_eq!(page, Ok(vec![position]));
        }
        let mut positions = vec![position - 1, position];
        found.retain(&open.run, &mut positions).unwrap();
        assert_eq!(positions.last(), Some(&position));
    }
}
