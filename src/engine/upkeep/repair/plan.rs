//! What can be done about what was found. Nothing is changed here.

use std::{io, path::Path};

use super::{Work, rows::LogRows};
use crate::{
    engine::upkeep::verify::{
        Outcome,
        stored::{Fate, Findings},
    },
    storage::log::{
        file,
        inspect::{LogFault, NamedFile},
    },
    types::{id::Position, read::Damage},
};

/// What to do, in the order of its fields.
#[derive(Default)]
pub(super) struct Plan {
    /// Segments to seal again, by their place in the manifest.
    pub(super) segments: Vec<usize>,
    /// Log files to give up, oldest first, and of each whether it is one of the damaged ones.
    pub(super) given_up: Vec<NamedFile>,
    pub(super) is_damaged: Vec<bool>,
    /// Runs to rebuild, by their place in the manifest.
    pub(super) runs: Vec<usize>,
    /// What cannot be repaired.
    pub(super) lost: Vec<Outcome>,
    /// The tenant must stay as it is.
    pub(super) is_hopeless: bool,
}

impl Plan {
    pub(super) fn is_empty(&self) -> bool {
        self.segments.is_empty() && self.given_up.is_empty() && self.runs.is_empty()
    }

    fn hopeless(lost: Vec<Outcome>) -> Self {
        Self {
            lost,
            is_hopeless: true,
            ..Self::default()
        }
    }
}

pub(super) fn plan(
    work: &Work,
    findings: &Findings,
    named: &[NamedFile],
    log: &LogRows,
) -> io::Result<Plan> {
    let mut plan = Plan::default();
    let mut damaged = vec![false; named.len()];
    for fault in &findings.log {
        let Some(index) = sealed_file(work, fault, named) else {
            let lost = unsealed_is_damaged(work, fault, log)?;
            return Ok(Plan::hopeless(vec![lost]));
        };
        damaged[index] = true;
    }
    let sealed = &work.stored.manifest.sealed;
    let mut good = Vec::with_capacity(sealed.segments.len());
    for (segment, fate) in sealed.segments.iter().zip(&findings.segments) {
        let range = segment.first..=segment.last;
        let path = work.stored.segment_path(segment);
        let is_repairable = *fate == Fate::Broken && log.hold(&range)?;
        good.push(*fate == Fate::Good || is_repairable);
        if is_repairable {
            plan.segments.push(good.len() - 1);
        } else if *fate == Fate::Broken {
            let what = format!(
                "its events {} to {} are lost: no log file holds them any more. Put back a copy of this one file from a \
                 backup, or of files that hold these events, and repair again; to restore the whole folder would lose \
                 what came after the backup",
                segment.first, segment.last
            );
            plan.lost.push(Outcome { path, what });
        } else if *fate == Fate::Differs {
            let what = format!(
                "it and the log say different things of events {} to {}, and both are as they were written: nobody \
                 knows which is right; {RESTORE}",
                segment.first, segment.last
            );
            plan.lost.push(Outcome { path, what });
        }
    }
    let is_written = work.assembled.as_ref().is_none_or(|a| a.is_written);
    if !plan.lost.is_empty() && !is_written {
        return Ok(Plan::hopeless(plan.lost));
    }
    // As long as a segment is not good, a log file may hold some of its events; and where cursors stand, as long as the
    // manifest does not say it.
    if plan.lost.is_empty()
        && is_written
        && let Some(newest) = damaged.iter().rposition(|damaged| *damaged)
    {
        plan.given_up = named[..=newest].to_vec();
        plan.is_damaged = damaged[..=newest].to_vec();
    }
    plan_runs(work, findings, &good, &mut plan);
    Ok(plan)
}

fn plan_runs(work: &Work, findings: &Findings, good: &[bool], plan: &mut Plan) {
    let sealed = &work.stored.manifest.sealed;
    let mut before_is_good = true;
    for (index, (run, fate)) in sealed.runs.iter().zip(&findings.runs).enumerate() {
        if *fate == Fate::Good {
            continue;
        }
        let mut segments = sealed.segments.iter().zip(good);
        let events_are_there = segments
            .all(|(segment, good)| *good || segment.last < run.first || segment.first > run.last);
        if before_is_good && events_are_there {
            plan.runs.push(index);
            continue;
        }
        before_is_good = false;
        let what = if events_are_there {
            "nothing is lost with it: it is rebuilt once the run before it is, which says how often each type occurs \
             before it"
                .to_owned()
        } else {
            format!(
                "nothing is lost with it: it is rebuilt once the segments of events {} to {} are good",
                run.first, run.last
            )
        };
        let path = work.stored.run_path(run);
        plan.lost.push(Outcome { path, what });
    }
}

const RESTORE: &str =
    "restore the tenant's folder from a backup, which loses what came after the backup";

/// The file that a fault is in, or the one before if it is missing, if everything that stands in it is sealed.
fn sealed_file(work: &Work, fault: &LogFault, named: &[NamedFile]) -> Option<usize> {
    let LogFault::Damaged(Damage { path, .. }) = fault else {
        return None;
    };
    let base_offset = file::base_offset_of(path.file_name()?.to_str()?)?;
    let behind = named.partition_point(|file| file.base_offset <= base_offset);
    let through = work.stored.manifest.sealed.through();
    let next = named.get(behind)?;
    (next.first_position <= through).then_some(behind.checked_sub(1)?)
}

fn unsealed_is_damaged(work: &Work, fault: &LogFault, log: &LogRows) -> io::Result<Outcome> {
    let path: &Path = &fault.damage().path;
    let what = if let LogFault::TooNew(_) = fault {
        "a newer version wrote it: repair it with that version".to_owned()
    } else {
        let first = work.stored.manifest.sealed.through() + 1;
        let mut next: Position = first;
        log.rows(&(first..=Position::MAX), &mut |found| {
            if found.position == next {
                next += 1;
            }
            Ok(())
        })?;
        format!(
            "no segment holds its last events: what was acknowledged from position {next} on, or cursors that moved \
             since, are lost; {RESTORE}"
        )
    };
    Ok(Outcome {
        path: path.to_owned(),
        what,
    })
}
