//! Makes what is damaged or missing anew, as far as another form of the same events is good.
//!
//! | what | from |
//! |---|---|
//! | index run | the segments of its range, and log files for where rows stand in them |
//! | segment | log files, if they still hold all its events; or other segments of them that the manifest does not name |
//! | log file of which everything is sealed | nothing: it is given up, with those before it; the segments hold its events |
//! | manifest, also one that is older than the other files | all other files |
//!
//! Not repairable: a segment whose events no log file holds, a log file with events that are not sealed.
//!
//! Invariants: nothing is repaired in place. What is damaged is copied to `damaged/` before a file takes its place; a
//! file is given its name once it is durable and was read back, and then entered into the manifest. Where the log or the
//! manifest cannot be repaired, nothing of the tenant is changed. A repair that was interrupted is done again.
//!
//! - `plan`: what can be done about what was found.
//! - `unnamed`: good files that the manifest does not name.
//! - `segments`, `runs`, `manifest`: how each is made; `rows`: the log as their source; `aside`: `damaged/`.

mod aside;
mod manifest;
mod plan;
mod rows;
mod runs;
mod segments;
mod unnamed;

use std::{
    collections::HashSet,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use self::{manifest::Assembled, plan::Plan, rows::LogRows, unnamed::Unnamed};
use super::verify::{
    self, Found, Outcome, Report, Told, Verified,
    stored::{Findings, Stored},
};
use crate::{
    storage::{
        disk::Disk,
        index::merge::MergeError,
        log::{inspect, writer::LogPlace},
        segment::schema::SegmentOptions,
    },
    types::{
        hash::KeyHasher,
        limits::Limits,
        read::{Damage, ReadError},
    },
};

/// What is damaged again each time is not repaired for ever.
const ROUNDS_MAX: u32 = 5;

/// What was repaired.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Repaired {
    /// What was found before.
    pub found: Verified,
    /// Files that were made anew, or given up since nothing needs them.
    pub repairs: u64,
    /// Things that are lost.
    pub lost: u64,
    /// What was found after the last repair.
    pub left: Verified,
}

/// How to repair.
#[derive(Clone, Copy)]
pub(super) struct RepairOptions<'a> {
    pub(super) hasher: KeyHasher,
    pub(super) limits: &'a Limits,
}

/// Repairs the tenants of these folders.
pub(super) fn repair(
    disk: &Arc<dyn Disk>,
    dirs: &[PathBuf],
    options: RepairOptions<'_>,
    tell: &mut dyn FnMut(Told),
) -> io::Result<Repaired> {
    let mut all = Repaired::default();
    for dir in dirs {
        let mut log = Journal {
            tell,
            repaired: Repaired::default(),
            told: HashSet::new(),
            unread: 0,
        };
        repair_tenant(disk, dir, options, &mut log)?;
        let one = log.repaired;
        add(&mut all.found, one.found);
        add(&mut all.left, one.left);
        all.repairs += one.repairs;
        all.lost += one.lost;
    }
    Ok(all)
}

fn add(sum: &mut Verified, more: Verified) {
    sum.tenants += more.tenants;
    sum.files += more.files;
    sum.events += more.events;
    sum.faults += more.faults;
}

/// What happened to a tenant, and who hears of it: of each thing once.
struct Journal<'a> {
    tell: &'a mut dyn FnMut(Told),
    repaired: Repaired,
    told: HashSet<(PathBuf, String)>,
    /// Faults that verifying does not find.
    unread: u64,
}

impl Journal<'_> {
    fn repaired(&mut self, path: &Path, what: impl Into<String>) {
        self.repaired.repairs += 1;
        (self.tell)(Told::Repaired(Outcome {
            path: path.to_owned(),
            what: what.into(),
        }));
    }

    fn lost(&mut self, outcome: Outcome) {
        if self
            .told
            .insert((outcome.path.clone(), outcome.what.clone()))
        {
            self.repaired.lost += 1;
            (self.tell)(Told::Lost(outcome));
        }
    }

    /// Tells a fault that verifying does not find.
    fn fault(&mut self, damage: Damage) {
        self.unread += 1;
        (self.tell)(Told::Fault(damage));
    }

    /// Reads everything; tells faults that were not told before.
    fn verify(&mut self, stored: &Stored) -> io::Result<(Findings, Verified)> {
        (self.tell)(Told::Bytes(stored.bytes()?));
        let (told, tell) = (&mut self.told, &mut *self.tell);
        let mut once = |said: Told| match said {
            Told::Fault(damage) => {
                if told.insert((damage.path.clone(), damage.what.clone())) {
                    tell(Told::Fault(damage));
                }
            }
            said => tell(said),
        };
        let mut report = Report::new(&mut once, &|| false);
        let findings = stored.verify(&mut report)?;
        Ok((findings, report.verified))
    }
}

/// Why a file could not be made.
#[derive(Debug, thiserror::Error)]
enum ReplaceError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Merge(#[from] MergeError),
}

fn failed(path: &Path, what: &str) -> ReplaceError {
    io::Error::other(format!("{}: {what}", path.display())).into()
}

/// A tenant that is being repaired.
struct Work {
    stored: Stored,
    /// What the manifest was put together from, if it was.
    assembled: Option<Assembled>,
}

impl Work {
    /// Gives a new file its name, durably. What has the name is kept as damaged.
    fn replace(&self, new: &Path, path: &Path) -> io::Result<()> {
        let place = &self.stored.place;
        aside::keep(&*place.disk, &place.dir, path)?;
        place.disk.rename(new, path)?;
        place.disk.sync_dir(path.parent().unwrap_or(&place.dir))
    }

    /// Removes a file of which there is a copy, or nothing to keep.
    fn remove(&self, path: &Path) -> io::Result<()> {
        let disk = &self.stored.place.disk;
        match disk.remove(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            removed => removed?,
        }
        disk.sync_dir(path.parent().unwrap_or(&self.stored.place.dir))
    }

    /// Enters what was made. A manifest that is put together is written once everything in it is there.
    fn enter(&self) -> io::Result<()> {
        if self.assembled.is_some() {
            return Ok(());
        }
        let place = &self.stored.place;
        self.stored.manifest.write(&*place.disk, &place.dir)
    }
}

fn repair_tenant(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    options: RepairOptions<'_>,
    journal: &mut Journal<'_>,
) -> io::Result<()> {
    let place = LogPlace::new(Arc::clone(disk), dir, 0);
    let (manifest, assembled) = match verify::found(disk, dir)? {
        Found::Nothing => return Ok(()),
        Found::Manifest(manifest) => (manifest, None),
        Found::TooNew(damage) => {
            let path = damage.path.clone();
            journal.fault(damage);
            let what = "a newer version wrote it: repair it with that version".to_owned();
            hopeless(journal, Outcome { path, what });
            return Ok(());
        }
        Found::Unreadable(damage) => {
            let path = damage.path.clone();
            journal.fault(damage);
            match manifest::assemble(&place, options, None, &mut |damage| journal.fault(damage))? {
                Ok((manifest, assembled)) => (manifest, Some(assembled)),
                Err(what) => {
                    hopeless(journal, Outcome { path, what });
                    return Ok(());
                }
            }
        }
    };
    let mut work = Work {
        stored: Stored::closed(place, manifest, options.hasher),
        assembled,
    };
    let mut rounds = 0;
    loop {
        let (findings, verified) = journal.verify(&work.stored)?;
        if rounds == 0 {
            journal.repaired.found = verified;
        }
        let named = inspect::named_files(&work.stored.place)?;
        let log = LogRows::open(&work.stored.place, &work.stored.manifest, &named)?;
        let plan = plan::plan(&work, &findings, &named, &log)?;
        if rounds == 0 && !plan.lost.is_empty() && work.assembled.is_none() {
            match unnamed::find(&mut work, &findings, &log, &named, options, journal)? {
                Unnamed::Nothing => {}
                Unnamed::Entered => {
                    rounds += 1;
                    continue;
                }
                Unnamed::Older(newer) => {
                    work = *newer;
                    rounds += 1;
                    continue;
                }
            }
        }
        for outcome in plan.lost.clone() {
            journal.lost(outcome);
        }
        let is_written = work.assembled.as_ref().is_none_or(|a| a.is_written);
        let is_done = plan.is_empty() && (is_written || plan.is_hopeless);
        if is_done || rounds == ROUNDS_MAX {
            journal.repaired.found.faults += journal.unread;
            journal.repaired.left = verified;
            if !is_written {
                journal.repaired.left.faults += journal.unread;
            }
            return Ok(());
        }
        carry_out(&mut work, &plan, log, options, journal)?;
        rounds += 1;
    }
}

/// Nothing of the tenant was changed.
fn hopeless(journal: &mut Journal<'_>, outcome: Outcome) {
    let found = Verified {
        tenants: 1,
        faults: journal.unread,
        ..Verified::default()
    };
    (journal.repaired.found, journal.repaired.left) = (found, found);
    journal.lost(outcome);
}

fn carry_out(
    work: &mut Work,
    plan: &Plan,
    log: LogRows,
    options: RepairOptions<'_>,
    journal: &mut Journal<'_>,
) -> io::Result<()> {
    let segment_options = SegmentOptions {
        group_rows_max: options.limits.row_group_events,
        ..SegmentOptions::default()
    };
    for &index in &plan.segments {
        let segment = &work.stored.manifest.sealed.segments[index];
        let path = work.stored.segment_path(segment);
        let range = segment.first..=segment.last;
        let made = segments::seal(work, &log, &range, segment_options).map_err(io::Error::other)?;
        work.stored.manifest.sealed.segments[index] = made;
        work.enter()?;
        let what = "sealed again from the log: it held all its events";
        journal.repaired(&path, what);
    }
    for (number, file) in plan.given_up.iter().enumerate() {
        let path = work.stored.place.log_dir.join(&file.name);
        let place = &work.stored.place;
        if plan.is_damaged[number] {
            aside::keep(&*place.disk, &place.dir, &path)?;
        }
        work.remove(&path)?;
        journal.repaired(&path, "given up: segments hold all its events");
    }
    if !plan.runs.is_empty() {
        drop(log);
        let named = inspect::named_files(&work.stored.place)?;
        let log = LogRows::open(&work.stored.place, &work.stored.manifest, &named)?;
        for &index in &plan.runs {
            let run = work.stored.manifest.sealed.runs[index];
            let path = work.stored.run_path(&run);
            let range = run.first..=run.last;
            let chunk_events = options.limits.seal_events;
            let made = runs::rebuild(work, &log, &range, chunk_events).map_err(io::Error::other)?;
            work.stored.manifest.sealed.runs[index] = made;
            work.enter()?;
            journal.repaired(&path, "rebuilt from the segments");
        }
    }
    manifest::write_assembled(work, journal)
}
