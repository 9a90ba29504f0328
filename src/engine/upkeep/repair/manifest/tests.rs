//! Which files are taken where there are several for the same events, and what is missing.

use super::*;

fn run(first: Position, last: Position) -> Summary {
    Summary::Run(RunSummary {
        first,
        last,
        bytes: 4096,
        sha256: [1; 32],
    })
}

/// What is taken, and what is missing.
fn covered(
    good: &[(Position, Position)],
    broken: &[(Position, Position)],
    through: Position,
) -> Vec<(Position, Position, bool)> {
    let described = Described {
        good: good
            .iter()
            .map(|(first, last)| run(*first, *last))
            .collect(),
        broken: broken.iter().copied().collect(),
    };
    let pieces = cover(&described, through, 100);
    let piece = |piece: &Piece<'_>| {
        let (first, last) = piece.range();
        (first, last, matches!(piece, Piece::Found(_)))
    };
    pieces.iter().map(piece).collect()
}

#[test]
fn of_files_for_the_same_events_the_largest_is_taken() {
    let small = [(1, 10), (11, 20), (21, 30)];
    let all = [&small[..], &[(1, 20)]].concat();
    assert_eq!(covered(&all, &[], 0), [(1, 20, true), (21, 30, true)]);
    // Compacted, and the power went before the manifest named it.
    let all = [&small[..], &[(1, 30)]].concat();
    assert_eq!(covered(&all, &[], 0), [(1, 30, true)]);
}

/// The large file would lead nowhere.
#[test]
fn files_that_get_further_are_taken_before_larger_ones() {
    let files = [(1, 15), (1, 10), (11, 20), (21, 40)];
    let taken = [(1, 10, true), (11, 20, true), (21, 40, true)];
    assert_eq!(covered(&files, &[], 0), taken);
}

#[test]
fn what_is_missing_is_cut_as_broken_files_are() {
    let files = [(1, 10), (41, 50)];
    let missing = [(1, 10, true), (11, 40, false), (41, 50, true)];
    assert_eq!(covered(&files, &[], 0), missing);
    let cut = [
        (1, 10, true),
        (11, 20, false),
        (21, 30, false),
        (31, 40, false),
        (41, 50, true),
    ];
    assert_eq!(covered(&files, &[(11, 20), (31, 40)], 0), cut);
    // Of a broken file that reaches over a good one, nothing is taken.
    assert_eq!(covered(&files, &[(11, 45)], 0), missing);
    assert_eq!(covered(&[], &[], 0), []);
}

#[test]
fn what_is_missing_at_the_end_is_needed_for_runs_alone() {
    let end = [(1, 10, true), (11, 25, false)];
    assert_eq!(covered(&[(1, 10), (21, 30)], &[], 25), end);
    let large = [(1, 100, false), (101, 150, false)];
    assert_eq!(covered(&[], &[], 150), large);
}

#[test]
fn only_names_of_segments_and_runs_say_ranges() {
    let name = "00000000000000000011-00000000000000000020.idx";
    assert_eq!(range_of(name, "idx"), Some((11, 20)));
    for other in [
        "spare.new",
        "00000000000000000011-00000000000000000020.idx.new",
        "00000000000000000000-00000000000000000020.idx",
        "00000000000000000021-00000000000000000020.idx",
    ] {
        assert_eq!(range_of(other, "idx"), None, "{other}");
    }
}
