//! The power goes at every change of a repair: what is left is no worse, and the next one gets to the end.

use std::fmt::Write;

use annals::engine::upkeep::verify::Outcome;

use super::{HARMS, contents, harm, keeping_options, repair, try_repair};
use crate::{
    rng::Rng,
    sealed_log::SealedLog,
    sim_disk::SimDisk,
    verify::{verify, worked_client},
    workload::{default_tenant, runtime},
};

fn interrupt_at_every_change(log: &SealedLog, harmed: &SimDisk, context: &str) {
    for change in 0.. {
        let attempt = harmed.restart();
        attempt.crash_at(change);
        let done = try_repair(&attempt, &log.options).is_ok() && !attempt.is_dead();
        let disk = attempt.crash();
        let context = format!("{context}, crash at {change}");
        let (repaired, heard) = repair(&disk, &log.options);
        assert_eq!(repaired.left.faults, 0, "{context}: {heard:?}");
        let of_manifest = |lost: &Outcome| lost.path.ends_with("manifest");
        assert!(heard.lost.iter().all(of_manifest), "{context}: {heard:?}");
        assert_eq!(verify(&disk).1, [], "{context}");
        let chosen = |number: usize| number == 1 || number % 40 == change as usize % 40;
        let told = log.ask_damaged(&disk, &log.manifest(), chosen, &context);
        assert_eq!(told, 0, "{context}");
        if done {
            println!("{change} places to crash at, {context}");
            return;
        }
    }
}

#[test]
fn a_repair_that_was_interrupted_is_done_again() {
    let log = SealedLog::new(u64::MAX);
    let mut rng = Rng::new(11);
    let segments = log.files("parquet");
    let runs = log.files("idx");
    let kept = log.kept_files();
    let several = [
        vec![segments[1].clone(), segments[2].clone(), runs[2].clone()],
        vec![kept[1].clone(), runs[0].clone()],
        vec![log.manifest(), segments[1].clone(), runs[3].clone()],
        vec![log.manifest(), kept[0].clone()],
    ];
    for files in several {
        let harmed = log.disk.restart();
        let mut kinds = String::new();
        for path in &files {
            let kind = *rng.pick(&HARMS);
            harm(&harmed, path, kind, &mut rng);
            write!(kinds, "{kind:?} {} ", path.file_name().unwrap().display()).unwrap();
        }
        assert_ne!(contents(&harmed), contents(&log.disk));
        interrupt_at_every_change(&log, &harmed, &kinds);
    }
}

/// A repair of the manifest gave up damaged log files before the manifest said what they had said of cursors: had it been
/// interrupted in between, the next one would not have known.
#[test]
fn an_interrupted_repair_of_the_manifest_forgets_no_cursor() {
    let options = keeping_options();
    let (disk, client) = worked_client(&options, 5);
    let harmed = disk.restart();
    let mut files = harmed.files();
    files.retain(|path| path.extension() == Some("log".as_ref()));
    // The end of the second file: what stands before it is read.
    let bytes = harmed.content(&files[1]);
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    harmed.flip(&files[1], end * 8);
    let mut files = harmed.files();
    files.retain(|path| path.ends_with("manifest"));
    harmed.lose(&files[0]);
    let cursors = |disk: &SimDisk| {
        let engine = client.open(disk).unwrap();
        let tenant = default_tenant(&runtime(), &engine);
        let cursors = ["reader", "worker"].map(|name| tenant.cursor(&name.into()));
        engine.close();
        cursors
    };
    let before = cursors(&disk.restart());
    for change in 0.. {
        let attempt = harmed.restart();
        attempt.crash_at(change);
        let done = try_repair(&attempt, &options).is_ok() && !attempt.is_dead();
        let disk = attempt.crash();
        let (repaired, heard) = repair(&disk, &options);
        assert_eq!(repaired.left.faults, 0, "crash at {change}: {heard:?}");
        assert_eq!(cursors(&disk), before, "crash at {change}: {heard:?}");
        if done {
            break;
        }
    }
}
