//! `Engine::repair`: what is lost or damaged is made anew from what is not, every answer is what it was, and what cannot
//! be repaired is told and left as it is.

mod interrupted;
mod kinds;
mod manifests;
mod unnamed;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use annals::{
    Engine, EngineOptions,
    engine::upkeep::{
        repair::Repaired,
        verify::{Outcome, Told},
    },
    storage::disk::Disk,
    types::read::Damage,
};

use crate::{
    rng::Rng,
    sim_disk::SimDisk,
    workload::{FOLDER, sealing_options},
};

/// What was told.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    faults: Vec<Damage>,
    repaired: Vec<Outcome>,
    lost: Vec<Outcome>,
}

/// As [`sealing_options`], and log files stay.
fn keeping_options() -> EngineOptions {
    let mut options = sealing_options();
    options.limits.keep_bytes = u64::MAX;
    options
}

fn try_repair(
    disk: &SimDisk,
    options: &EngineOptions,
) -> Result<(Repaired, Heard), annals::OpenError> {
    let mut all = Heard::default();
    let mut tell = |told| match told {
        Told::Bytes(_) | Told::Read(_) => {}
        Told::Fault(damage) => all.faults.push(damage),
        Told::Repaired(outcome) => all.repaired.push(outcome),
        Told::Lost(outcome) => all.lost.push(outcome),
    };
    let on: Arc<dyn Disk> = Arc::new(disk.clone());
    let repaired = Engine::repair_on(&on, Path::new(FOLDER), None, options, &mut tell)?;
    assert_eq!(repaired.repairs, all.repaired.len() as u64);
    assert_eq!(repaired.lost, all.lost.len() as u64);
    Ok((repaired, all))
}

pub(crate) fn repair(disk: &SimDisk, options: &EngineOptions) -> (Repaired, Heard) {
    let done = try_repair(disk, options).unwrap();
    disk.check("repair");
    done
}

/// What every file holds, but for the lock.
pub(crate) fn contents(disk: &SimDisk) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = disk.files();
    files.retain(|path| !path.ends_with("annals.lock"));
    let content = |path: PathBuf| (path.clone(), disk.content(&path));
    files.into_iter().map(content).collect()
}

/// What can happen to a file.
#[derive(Debug, Clone, Copy)]
enum Harm {
    Lost,
    Flipped,
    Cut,
}

const HARMS: [Harm; 3] = [Harm::Lost, Harm::Flipped, Harm::Cut];

/// The flipped bit stands in the first part of a log file, where something is written.
fn harm(disk: &SimDisk, path: &Path, harm: Harm, rng: &mut Rng) {
    let bytes = disk.content(path);
    let is_log = path.extension() == Some("log".as_ref());
    match harm {
        Harm::Lost => disk.lose(path),
        Harm::Flipped => {
            let below = if is_log {
                (4096 + 64).min(bytes.len())
            } else {
                bytes.len()
            };
            disk.flip(path, rng.below(below) * 8 + rng.below(8));
        }
        Harm::Cut => disk.set_content(path, bytes[..rng.below(bytes.len())].to_vec()),
    }
}
