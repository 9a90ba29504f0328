//! Good segments that the manifest does not name: pieces of a backup, or what was made since an older manifest that was
//! put back. Events at a position never change, so a file of the same log that is whole holds the right ones.

use std::{collections::BTreeMap, io, path::PathBuf};

use super::{
    Journal, RepairOptions, Work, aside,
    manifest::{self, describe_segment, range_of},
    plan,
    rows::LogRows,
};
use crate::{
    engine::upkeep::verify::{
        Report,
        stored::{Fate, Findings, Stored},
    },
    storage::{
        log::inspect::{self, NamedFile},
        segment::SegmentSummary,
    },
    types::{
        id::Position,
        read::{Damage, ReadError},
    },
};

/// What a manifest that can be read does not know.
pub(super) enum Unnamed {
    /// Nothing that helps.
    Nothing,
    /// It names other segments now.
    Entered,
    /// It is older than the other files: all of it is put together from them.
    Older(Box<Work>),
}

/// Looks for what stands in for segments that are lost, or was made after the manifest was. `findings`: of `work`, whose
/// manifest was read.
pub(super) fn find(
    work: &mut Work,
    findings: &Findings,
    log: &LogRows,
    named: &[NamedFile],
    options: RepairOptions<'_>,
    journal: &mut Journal<'_>,
) -> io::Result<Unnamed> {
    let found = good_segments(work)?;
    let sealed = &work.stored.manifest.sealed;
    let (through, newest) = (sealed.through(), work.stored.manifest.newest_file);
    let newest_is_gone = !named.iter().any(|file| file.base_offset == newest)
        && named.last().is_some_and(|file| file.base_offset > newest);
    let begins_late = log
        .first()
        .is_some_and(|first| inspect::begins_late(first, &work.stored.manifest));
    let reaches_further = found.iter().any(|segment| segment.last > through);
    let mut are_lost = Vec::with_capacity(sealed.segments.len());
    for (segment, fate) in sealed.segments.iter().zip(&findings.segments) {
        let range = segment.first..=segment.last;
        are_lost.push(*fate == Fate::Broken && !log.hold(&range)?);
    }
    let chosen = choose(&sealed.segments, &are_lost, &found);
    let is_whole = !chosen.iter().any(|choice| choice.is_lost);
    let is_older = newest_is_gone || (begins_late && reaches_further);
    if (is_older || (!is_whole && reaches_further))
        && let Some(newer) = assemble(work, options, is_older, journal)?
    {
        return Ok(Unnamed::Older(newer));
    }
    if chosen.iter().all(|choice| choice.is_named) {
        return Ok(Unnamed::Nothing);
    }
    enter(work, chosen, journal)?;
    Ok(Unnamed::Entered)
}

/// Those that the manifest does not name and that are whole.
fn good_segments(work: &Work) -> io::Result<Vec<SegmentSummary>> {
    let place = &work.stored.place;
    let dir = place.segments_dir();
    let names = match place.disk.list(&dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
        names => names?,
    };
    let segments = &work.stored.manifest.sealed.segments;
    let mut good = Vec::new();
    for name in names {
        let Some(range) = range_of(&name, "parquet") else {
            continue;
        };
        if segments.iter().any(|s| (s.first, s.last) == range) {
            continue;
        }
        match describe_segment(place, work.stored.manifest.log_id, &dir.join(&name)) {
            Ok(found) if (found.first, found.last) == range => good.push(found),
            Err(ReadError::Io { path, reason, .. }) => {
                return Err(io::Error::other(format!("{}: {reason}", path.display())));
            }
            // The rest of an attempt.
            Ok(_) | Err(_) => {}
        }
    }
    Ok(good)
}

/// A segment of a manifest.
#[derive(Clone)]
struct Choice {
    segment: SegmentSummary,
    is_named: bool,
    is_lost: bool,
}

/// Segments that follow each other over all the positions of the named ones: with the fewest that are lost, and of those
/// with the fewest that were not named.
fn choose(named: &[SegmentSummary], are_lost: &[bool], unnamed: &[SegmentSummary]) -> Vec<Choice> {
    let of_named = named.iter().zip(are_lost).map(|(segment, lost)| Choice {
        segment: segment.clone(),
        is_named: true,
        is_lost: *lost,
    });
    let of_unnamed = unnamed.iter().map(|segment| Choice {
        segment: segment.clone(),
        is_named: false,
        is_lost: false,
    });
    let mut choices: Vec<_> = of_named.chain(of_unnamed).collect();
    choices.sort_by_key(|choice| choice.segment.first);
    // By last position: the cost up to there, and the choice that ends there.
    let mut best: BTreeMap<Position, ((u64, u64), usize)> = BTreeMap::new();
    let start = named.first().map_or(1, |segment| segment.first);
    for (index, choice) in choices.iter().enumerate() {
        let before = match choice.segment.first {
            first if first == start => Some((0, 0)),
            first => best.get(&(first - 1)).map(|(cost, _)| *cost),
        };
        let Some((lost, new)) = before else { continue };
        let cost = (
            lost + u64::from(choice.is_lost),
            new + u64::from(!choice.is_named),
        );
        let end = choice.segment.last;
        if best.get(&end).is_none_or(|(known, _)| cost < *known) {
            best.insert(end, (cost, index));
        }
    }
    let mut way = Vec::new();
    let mut at = named.last().map_or(0, |segment| segment.last);
    while let Some((_, index)) = best.get(&at) {
        way.push(*index);
        at = choices[*index].segment.first - 1;
    }
    way.reverse();
    way.into_iter()
        .map(|index| choices[index].clone())
        .collect()
}

/// Names what was chosen.
fn enter(work: &mut Work, chosen: Vec<Choice>, journal: &mut Journal<'_>) -> io::Result<()> {
    let place = &work.stored.place;
    let segments = &work.stored.manifest.sealed.segments;
    let stays = |segment: &SegmentSummary| chosen.iter().any(|choice| choice.segment == *segment);
    let replaced: Vec<PathBuf> = segments
        .iter()
        .filter(|segment| !stays(segment))
        .map(|segment| work.stored.segment_path(segment))
        .collect();
    for path in &replaced {
        aside::keep(&*place.disk, &place.dir, path)?;
    }
    let new = chosen.iter().filter(|choice| !choice.is_named);
    let new: Vec<_> = new
        .map(|choice| work.stored.segment_path(&choice.segment))
        .collect();
    let chosen = chosen.into_iter().map(|choice| choice.segment);
    work.stored.manifest.sealed.segments = chosen.collect();
    work.enter()?;
    for path in new {
        journal.repaired(
            &path,
            "named by the manifest now, in place of what was lost",
        );
    }
    // Nobody names them any more, and there are copies of them.
    for path in replaced {
        work.remove(&path)?;
    }
    Ok(())
}

/// The manifest put together from all files, if that helps, or if the one there is would not do anyway.
fn assemble(
    work: &Work,
    options: RepairOptions<'_>,
    is_older: bool,
    journal: &mut Journal<'_>,
) -> io::Result<Option<Box<Work>>> {
    let place = &work.stored.place;
    let older = &work.stored.manifest;
    let assembled = manifest::assemble(place, options, Some(older), &mut |_| {})?;
    let Ok((manifest, assembled)) = assembled else {
        return Ok(None);
    };
    let newer = Work {
        stored: Stored::closed(place.clone(), manifest, options.hasher),
        assembled: Some(assembled),
    };
    let mut silent = |_| {};
    let findings = newer
        .stored
        .verify(&mut Report::new(&mut silent, &|| false))?;
    let named = inspect::named_files(place)?;
    let log = LogRows::open(place, &newer.stored.manifest, &named)?;
    let helps = !plan::plan(&newer, &findings, &named, &log)?.is_hopeless;
    if !helps && !is_older {
        return Ok(None);
    }
    journal.fault(Damage {
        path: place.dir.join("manifest"),
        offset: 0,
        what: "it is older than the other files: it does not name what was made since".to_owned(),
    });
    Ok(Some(Box::new(newer)))
}
