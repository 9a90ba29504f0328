//! Log files that are used again once their events are sealed and nobody reads them: no zeros are written then, nobody
//! reads what is written over, and what is left of their first life is neither shown nor told.

use std::{
    path::PathBuf,
    slice, thread,
    time::{Duration, Instant},
};

use annals::{Batch, Engine, EngineOptions, Event, NewEvent, Position, Tenant};
use tokio::runtime::Runtime;

use crate::{
    crash::go_on,
    rng::{Rng, seeds},
    sealed_log::{open_sealed, wait_until_sealed},
    sim_disk::{Fault, Lasting, SimDisk},
    small_log::{Frames, last_log_file, log_files},
    workload::{Client, default_tenant, new_id, read_all, runtime, sealing_options},
};

const PATIENCE: Duration = Duration::from_mins(1);
const PAGE_BYTES: usize = 4096;
/// Each run tries every so many-th change, starting with another one.
const THIRD: u64 = 3;
/// Of a client whose batches fill many files, and none larger than usual; disks differ from run to run.
const CLIENT_SEED: u64 = 154_071_361_787_856;

/// About five events in a log file, of which parts are sealed one after the other.
fn options() -> EngineOptions {
    let mut options = sealing_options();
    options.limits.log_file_bytes = 4 * PAGE_BYTES as u64;
    options.limits.seal_events = 2;
    options.limits.run_fan_in = 8;
    options
}

struct Log {
    disk: SimDisk,
    runtime: Runtime,
    engine: Engine,
    tenant: Tenant,
    options: EngineOptions,
    rng: Rng,
}

impl Log {
    fn new(options: EngineOptions) -> Self {
        let (disk, runtime) = (SimDisk::new(7), runtime());
        let engine = open_sealed(&disk, &options).unwrap();
        let tenant = default_tenant(&runtime, &engine);
        Self {
            disk,
            runtime,
            engine,
            tenant,
            options,
            rng: Rng::new(7),
        }
    }

    /// Appends an event, and waits until everything before is sealed and its log files are given up.
    fn append(&mut self) {
        let filler = "f".repeat(2_000 + self.rng.below(200));
        let event = NewEvent::new("a", "t", format!("\"{filler}\"")).with_id(new_id(&mut self.rng));
        let appended = self.tenant.append(Batch::new([event]));
        self.runtime.block_on(appended).unwrap();
        wait_until_sealed(&self.tenant, self.tenant.head().saturating_sub(2));
        let kept = self.options.limits.keep_bytes / self.options.limits.log_file_bytes;
        self.wait(|disk| log_files(disk).len() as u64 <= 3 + kept);
    }

    fn wait(&self, is_so: impl Fn(&SimDisk) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(&self.disk) {
            assert!(Instant::now() < deadline, "log files stay");
            thread::yield_now();
        }
    }

    /// Appends until a file that was used again holds some events, and what it held before stands behind them.
    fn fill_recycled_file(&mut self) {
        let is_wanted = |disk: &SimDisk| {
            let path = last_log_file(disk);
            let frames = Frames::of(disk, &path);
            let stale = &disk.content(&path)[frames.end..];
            let is_frame = |bytes: &[u8]| bytes.starts_with(b"FRM1");
            disk.reused() > 3
                && frames.last_events.start > PAGE_BYTES
                && stale.chunks(8).any(is_frame)
        };
        while !is_wanted(&self.disk) {
            self.append();
        }
    }

    fn events(&self) -> Vec<Event> {
        read_all(&self.tenant).unwrap()
    }
}

/// What opening a log shows: its events, and the bytes that were cut.
fn opened(disk: &SimDisk, options: &EngineOptions) -> (Vec<Event>, u64) {
    let runtime = runtime();
    let engine = open_sealed(disk, options).unwrap();
    let tenant = default_tenant(&runtime, &engine);
    (read_all(&tenant).unwrap(), tenant.recovery().cut_bytes)
}

#[test]
fn in_the_steady_state_old_files_are_used_again_and_no_zeros_are_written() {
    let mut log = Log::new(options());
    for _ in 0..20 {
        log.append();
    }
    let (zeros, reused) = (log.disk.zero_files(), log.disk.reused());
    for _ in 0..200 {
        log.append();
    }
    let (zeros, reused) = (log.disk.zero_files() - zeros, log.disk.reused() - reused);
    assert!(reused > 30, "{reused}");
    // A file is found to be gone a moment before it is the next one.
    assert!(
        zeros <= reused / 5,
        "{zeros} files of zeros, {reused} used again"
    );
    log.disk.check("worked");
    assert_eq!(log.events().len() as Position, log.tenant.head());
}

#[test]
fn a_file_that_somebody_reads_from_is_removed_and_not_written_over() {
    let mut options = options();
    options.limits.keep_bytes = 3 * options.limits.log_file_bytes;
    let mut log = Log::new(options);
    while log_files(&log.disk).len() < 4 {
        log.append();
    }
    let before = log.events();
    let oldest = log_files(&log.disk)[0].clone();
    log.disk.hold_reads(slice::from_ref(&oldest));
    let tenant = log.tenant.clone();
    let reading = thread::spawn(move || runtime().block_on(tenant.event(2)).unwrap());
    let is_oldest = |path: &std::path::Path| path == oldest;
    log.disk.wait_for_callers(1, is_oldest);
    while log.disk.reused() < 5 {
        log.append();
    }
    assert!(!log_files(&log.disk).contains(&oldest));
    assert!(!log.disk.recycled().contains(&oldest));
    log.disk.hold_reads(&[]);
    assert!(reading.join().unwrap() == before[1]);
    log.disk.check("worked");
}

#[test]
fn what_a_file_held_before_is_neither_shown_nor_told_nor_minded() {
    let mut log = Log::new(options());
    log.fill_recycled_file();
    let events = log.events();
    let (unclean, options) = (log.disk.restart(), log.options.clone());
    let path = last_log_file(&unclean);
    let (end, len) = (
        Frames::of(&unclean, &path).end,
        unclean.content(&path).len(),
    );
    assert!(opened(&unclean.restart(), &options) == (events.clone(), 0));
    for seed in 0..200 {
        let flipped = unclean.restart();
        let dead = end.next_multiple_of(PAGE_BYTES);
        flipped.flip(&path, (dead + Rng::new(seed).below(len - dead)) * 8 + 3);
        assert!(opened(&flipped, &options) == (events.clone(), 0), "{seed}");
    }
    log.engine.close();
    assert!(opened(&log.disk.restart(), &options) == (events, 0));
}

#[test]
fn a_torn_write_into_a_recycled_file_is_cut_and_told() {
    let mut log = Log::new(options());
    let (path, before, events, after) = loop {
        log.fill_recycled_file();
        let (before, events) = (log.disk.restart(), log.events());
        log.append();
        let path = last_log_file(&log.disk);
        if path == last_log_file(&before) {
            break (path, before, events, log.disk.restart());
        }
    };
    let from = Frames::of(&before, &path).end;
    let new = Frames::of(&after, &path).last_events;
    let (old, written) = (before.content(&path), after.content(&path));
    let torn = |sectors: &dyn Fn(usize) -> bool| -> SimDisk {
        let mut bytes = old.clone();
        let reached = (from..new.end - 100).filter(|at| sectors(at / 512));
        reached.for_each(|at| bytes[at] = written[at]);
        let disk = before.restart();
        disk.set_content(&path, bytes);
        disk
    };
    let (shown, cut) = opened(&torn(&|_| true), &log.options);
    assert!(shown == events);
    assert!(cut >= 2_000, "{cut}");
    // Whichever sectors of it reached the disk, it is not shown.
    let mut rng = Rng::new(3);
    for _ in 0..100 {
        let reached: Vec<_> = (0..len_in_sectors(&old)).map(|_| rng.chance(50)).collect();
        let (shown, _) = opened(&torn(&|sector| reached[sector]), &log.options);
        assert!(shown == events);
    }
}

fn len_in_sectors(bytes: &[u8]) -> usize {
    bytes.len().div_ceil(512)
}

/// A recycled file that waits when the process ends is removed by the next one.
#[test]
fn a_file_between_its_two_lives_is_nothing_to_the_next_process() {
    let mut log = Log::new(options());
    let is_waiting = |path: &PathBuf| path.to_string_lossy().contains("recycled-");
    while !log.disk.files().iter().any(is_waiting) {
        log.append();
    }
    let (disk, events) = (log.disk.restart(), log.events());
    assert!(opened(&disk, &log.options) == (events, 0));
}

/// Works in bursts of some files, and has all but the newest part of each sealed before it goes on, unless it is over.
fn work(disk: &SimDisk, client: &mut Client, is_over: impl Fn() -> bool) {
    let runtime = runtime();
    let Ok(engine) = client.open(disk) else {
        return;
    };
    let tenant = default_tenant(&runtime, &engine);
    for _ in 0..8 {
        if !client.work(&runtime, &tenant, 1) {
            return;
        }
        let deadline = Instant::now() + PATIENCE;
        while tenant.stats().sealed + 6 < tenant.head() && !is_over() {
            assert!(Instant::now() < deadline, "it is never sealed");
            thread::yield_now();
        }
    }
    engine.close();
}

/// As [`options`], with files that are full after each burst, and nothing done to segments and runs.
fn small_options() -> EngineOptions {
    let mut options = options();
    options.limits.log_file_bytes = 8 << 10;
    options.limits.run_fan_in = usize::MAX;
    options.limits.compact_fan_in = usize::MAX;
    options
}

#[test]
fn a_crash_at_any_change_while_files_are_used_again_loses_nothing() {
    let mut reused = 0;
    for seed in seeds(1) {
        for change in (seed % THIRD..).step_by(THIRD as usize) {
            let context = format!("seed {seed}, crash at {change}");
            let disk = SimDisk::new(seed ^ change);
            disk.crash_at(change);
            let mut client = Client::of(small_options(), CLIENT_SEED);
            work(&disk, &mut client, || disk.is_dead());
            disk.check(&context);
            reused += disk.reused();
            let image = disk.crash();
            go_on(&image, &client, &context);
            image.check(&context);
            go_on(&disk.restart(), &client, &format!("{context}, killed"));
            if !disk.is_dead() {
                println!("{change} places to crash at, {reused} files used again");
                break;
            }
        }
    }
    assert!(reused > 0);
}

#[test]
fn an_error_at_any_change_while_files_are_used_again_makes_no_answer_false() {
    let mut reused = 0;
    for seed in seeds(1) {
        for change in (seed % THIRD..).step_by(THIRD as usize) {
            let context = format!("seed {seed}, error at {change}");
            let disk = SimDisk::new(seed ^ change);
            disk.fail_change(change, Fault::Io, Lasting::Once);
            let mut client = Client::of(small_options(), CLIENT_SEED);
            work(&disk, &mut client, || disk.changes() > change);
            disk.check(&context);
            reused += disk.reused();
            go_on(&disk.restart(), &client, &format!("{context}, restarted"));
            go_on(&disk.crash(), &client, &format!("{context}, crashed"));
            if disk.changes() <= change {
                break;
            }
        }
    }
    assert!(reused > 0);
}
