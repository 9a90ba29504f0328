//! The real program under load, killed again and again. Clients write down every answer; whatever was answered before a
//! kill is true after it, and what was not answered stands whole or not at all.
//!
//! - [`load`]: the clients, who race each other.
//! - [`ledger`]: what they were answered, and whether a log bears it out.
//!
//! A process that is killed leaves to the kernel what it wrote, so this shows the order in which things are written and
//! answered, and that what stands can be opened. What a lost power does is in `crash`.

mod ledger;
mod load;

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use annals::{Client, ClientOptions, storage::log::file::HEADER_BYTES};
use tokio::{runtime::Builder, time::timeout};

use self::{
    ledger::{Answer, Ledger, Log},
    load::{Load, Shared},
};
use crate::{
    program::Served,
    rng::{Rng, seeds},
};

const KILLS_MIN: usize = 30;
/// A kill may come too late for what it is aimed at.
const TRIES_MAX: usize = 100;
/// Whatever takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// How servers are killed.
struct Aim {
    settings: &'static [&'static str],
    moments: &'static [Moment],
    /// Whether a kill came during what it was aimed at.
    is_hit: fn(&Path) -> bool,
    hits_min: usize,
}

/// Small files, so that one is full every few batches.
const ROLL_OVERS: Aim = Aim {
    settings: &[
        "limits.log_file_bytes=65536",
        "limits.batch_bytes_max=32768",
        "limits.event_bytes_max=16384",
    ],
    moments: &[
        Moment::Now,
        Moment::FileAhead,
        Moment::FileNamed,
        Moment::ManifestWritten,
    ],
    is_hit: is_rolling_over,
    hits_min: 10,
};

/// Parts of a few batches, and few log files beside them.
const SEALS: Aim = Aim {
    settings: &[
        "limits.log_file_bytes=65536",
        "limits.batch_bytes_max=32768",
        "limits.event_bytes_max=16384",
        "limits.seal_events=150",
        "limits.keep_bytes=131072",
        "limits.run_fan_in=2",
        "limits.row_group_events=100",
        "compact.fan_in=2",
        "compact.target_bytes=1048576",
    ],
    moments: &[
        Moment::SegmentWritten,
        Moment::SegmentsCompacted,
        Moment::RunWritten,
        Moment::RunsMerged,
        Moment::ManifestWritten,
        Moment::LogFileRemoved,
        Moment::LogFileRecycled,
        Moment::RecycledFileNamed,
    ],
    is_hit: is_sealing,
    hits_min: 30,
};

/// When the server is killed, once it gave some answers.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Moment {
    Now,
    /// The next log file is being written ahead of need.
    FileAhead,
    /// The next log file has got its name.
    FileNamed,
    /// A manifest is being written.
    ManifestWritten,
    /// A segment is being written.
    SegmentWritten,
    /// An index run is being written.
    RunWritten,
    /// A segment is being made of others.
    SegmentsCompacted,
    /// An index run is being made of others.
    RunsMerged,
    /// A sealed log file was removed, or lost its name.
    LogFileRemoved,
    /// A sealed log file waits to be the next one.
    LogFileRecycled,
    /// Such a file has got its new name.
    RecycledFileNamed,
}

impl Moment {
    /// Waits for it, without a pause between looks: the moment is short.
    fn wait(self, data: &Path) {
        let spare = log_dir(data).join("spare.new");
        let manifest = tenant_dir(data).join("manifest.new");
        let look = |is_now: &dyn Fn() -> bool| {
            let deadline = Instant::now() + PATIENCE;
            while !is_now() {
                assert!(Instant::now() < deadline, "{self:?} never came");
                thread::yield_now();
            }
        };
        let until = |there: bool, path: &Path| look(&|| path.exists() == there);
        match self {
            Self::Now => {}
            Self::FileAhead => {
                until(false, &spare);
                until(true, &spare);
            }
            Self::FileNamed => {
                until(true, &spare);
                until(false, &spare);
            }
            Self::ManifestWritten => until(true, &manifest),
            Self::SegmentWritten => look(&|| has_new_file(&segments_dir(data))),
            Self::RunWritten => look(&|| has_new_file(&index_dir(data))),
            Self::SegmentsCompacted => look(&|| has_overlap(&segments_dir(data))),
            Self::RunsMerged => look(&|| has_overlap(&index_dir(data))),
            Self::LogFileRemoved => {
                let oldest = names(&log_dir(data)).into_iter().min();
                look(&|| names(&log_dir(data)).into_iter().min() != oldest);
            }
            Self::LogFileRecycled => look(&|| has_recycled_file(data)),
            Self::RecycledFileNamed => {
                look(&|| has_recycled_file(data));
                look(&|| !has_recycled_file(data));
            }
        }
    }
}

#[test]
fn every_answer_given_before_a_kill_is_true_after_it() {
    kill_again_and_again(&ROLL_OVERS);
}

#[test]
fn every_answer_given_before_a_kill_while_the_log_is_sealed_is_true_after_it() {
    kill_again_and_again(&SEALS);
}

fn kill_again_and_again(aim: &Aim) {
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    for seed in seeds(1) {
        let dir = tempfile::tempdir().unwrap();
        let mut rng = Rng::new(seed);
        let (mut ledger, shared) = (Ledger::new(), Shared::new());
        // Of all tries, the kills with appends in flight, and those of them that hit.
        let (mut tries, mut kills, mut hits) = (0, 0, 0);
        while kills < KILLS_MIN || hits < aim.hits_min {
            assert!(
                tries < TRIES_MAX,
                "{tries} tries, {kills} with appends in flight, {hits} of them hits"
            );
            let moment = aim.moments[tries % aim.moments.len()];
            let context = format!("kill {tries}, {moment:?}");
            let server = Served::start_with(dir.path(), "127.0.0.1:0", aim.settings);
            let load = runtime.block_on(async {
                let client = connect(&server).await;
                if tries > 0 {
                    settle(&mut ledger, &client, &context).await;
                }
                Load::start(&server, &shared, &ledger, &mut rng).await
            });
            let answers = 5 + rng.below(60) as u64;
            runtime.block_on(async {
                let answered = timeout(PATIENCE, shared.answered(answers)).await;
                answered.unwrap_or_else(|_| panic!("{context}: no answers"));
            });
            moment.wait(dir.path());
            shared.kill_comes();
            server.kill();
            let unanswered = runtime.block_on(async {
                let ended = timeout(PATIENCE, load.end(&mut ledger)).await;
                ended.unwrap_or_else(|_| panic!("{context}: a call never ended"))
            });
            tries += 1;
            // On a busy machine all may be answered between the look and the kill.
            if unanswered > 0 {
                kills += 1;
                hits += usize::from((aim.is_hit)(dir.path()));
            }
        }
        let server = Served::start_with(dir.path(), "127.0.0.1:0", aim.settings);
        runtime.block_on(async {
            let client = connect(&server).await;
            settle(&mut ledger, &client, "at the end").await;
            // Once more, since it checks before it sends again.
            settle(&mut ledger, &client, "in the end").await;
        });
        println!("{kills} kills with appends in flight, {hits} hits in {tries} tries; {ledger}");
        ledger.assert_all_was_seen();
    }
}

async fn connect(server: &Served) -> Client {
    // The test sends again what was not answered, and nobody else.
    let options = ClientOptions {
        retries: 0,
        ..ClientOptions::default()
    };
    Client::connect_with(&server.url, options).await.unwrap()
}

/// Checks every answer, then sends again what was not answered, with the same ids.
async fn settle(ledger: &mut Ledger, client: &Client, context: &str) {
    let log = Log::read(client).await;
    let stands = ledger.check(&log, context);
    ledger.check_cursors(client, &log, context).await;
    for number in ledger.unknown() {
        let stood = stands.contains(&number);
        let batch = ledger.batch(number);
        let answer = Answer::of(client.append(batch).await);
        match &answer {
            Answer::Appended(appended) if !batch.events.is_empty() => {
                assert_eq!(appended.duplicate, stood, "{context}: {batch:?}");
            }
            Answer::Appended(_) => {}
            Answer::Refused(failure) => {
                assert!(
                    !stood && ledger::races(batch),
                    "{context}: {failure} for {batch:?}"
                );
            }
            Answer::Unknown => panic!("{context}: a retry was not answered: {batch:?}"),
        }
        ledger.settled(number, answer, stood);
    }
}

fn tenant_dir(data: &Path) -> PathBuf {
    data.join("tenants").join("default")
}

fn log_dir(data: &Path) -> PathBuf {
    tenant_dir(data).join("log")
}

fn segments_dir(data: &Path) -> PathBuf {
    tenant_dir(data).join("segments")
}

fn index_dir(data: &Path) -> PathBuf {
    tenant_dir(data).join("index")
}

/// Of what is in a folder now; none if it is not there.
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.collect()
}

fn has_new_file(dir: &Path) -> bool {
    names(dir).iter().any(|name| name.ends_with(".new"))
}

fn has_recycled_file(data: &Path) -> bool {
    let names = names(&log_dir(data));
    names.iter().any(|name| name.starts_with("recycled-"))
}

/// Something is made of several others: their first event is in two files.
fn has_overlap(dir: &Path) -> bool {
    let mut firsts: Vec<_> = names(dir)
        .iter()
        .map(|name| name[..20].to_owned())
        .collect();
    firsts.sort_unstable();
    firsts.windows(2).any(|pair| pair[0] == pair[1])
}

/// Something is being written, or the manifest does not name it yet, or what it was made of is being removed, or log
/// files are.
fn is_sealing(data: &Path) -> bool {
    let manifest = tenant_dir(data).join("manifest.new");
    let (segments, index) = (segments_dir(data), index_dir(data));
    // The name of a file ends with its last position.
    let last = |dir: &Path| {
        names(dir)
            .into_iter()
            .map(|name| name[21..41].to_owned())
            .max()
    };
    manifest.exists()
        || has_new_file(&segments)
        || has_new_file(&index)
        || has_overlap(&segments)
        || has_overlap(&index)
        || last(&segments) != last(&index)
}

/// The newest log file has its name, and no frame yet. Answers were given since the start, which wrote frames into the
/// newest file of then: this is another one.
fn is_rolling_over(data: &Path) -> bool {
    let paths = fs::read_dir(log_dir(data)).unwrap();
    let newest = paths
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .max()
        .unwrap();
    let bytes = fs::read(newest).unwrap();
    bytes[HEADER_BYTES..].iter().all(|&byte| byte == 0)
}
