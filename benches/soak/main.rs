//! The soak: the real program under load for minutes or days, restarted again and again, while everything that it says
//! is compared with what was sent.
//!
//! - [`story`]: what is appended, as a function of a seed; [`ledger`]: answers, and checks of what is read.
//! - [`writers`], [`readers`], [`subscribers`]: the load. Each fault that they find ends the run.
//! - [`program`]: the program as it is used; [`samples`]: its memory and files; [`report`]: what came of it.
//! - [`run`]: settings, and what all of these share.
//!
//! `make soak HOURS=1` runs it; without a time it says what it is and ends, so that it may be among the benchmarks.

#![expect(clippy::cast_precision_loss, reason = "figures for people")]

mod ledger;
#[path = "../program/mod.rs"]
mod program;
mod readers;
mod report;
mod run;
mod samples;
mod story;
mod subscribers;
mod verdict;
mod writers;

use std::{
    fmt::Display,
    io::Write,
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use annals::{Batch, Client, CursorRecord, TenantId};
use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::task::JoinSet;

use self::{
    ledger::{Audit, Fault, Ledger},
    program::{Ending, Program, Served, free_bytes},
    readers::Reads,
    report::{Check, Report, Restart, thousands},
    run::{Run, Settings},
    samples::{Sample, with_rates},
    story::{Story, mixed},
    subscribers::{SharedAudit, Wants, Watched, audit, filtered},
    writers::Writer,
};

const HELP: &str = "\
The soak runs the real program under load, restarts it again and again, and compares all it says with what was sent:
make soak MINUTES=5, or HOURS=1, up to 168. Settings, in the environment:
  SOAK_RATE               events a second [20,000; less if it runs longer than 4 hours: about 300 million in all]
  SOAK_RESTART_SECONDS    between restarts, SIGTERM and kill -9 in turns [a twelfth of the time, 20 to 900]; the second
                          half of a run of 25 minutes or more is undisturbed, for its memory, and ends with kill -9
  SOAK_DATA               a folder for the data, not there yet [a temporary one, which is kept if a check fails]
  SOAK_REPORT             where the report goes, as Markdown, and JSON beside it [soak-report.md]
  SOAK_SEED               of what is appended [1]
  SOAK_KEEP_BYTES         limits.keep_bytes of the server [256 MiB, so that most of the log is read from segments]
  SOAK_SEAL_EVENTS        limits.seal_events of the server [its default]
  SOAK_RESIDENT_MB_MAX, SOAK_SLOPE_MB_PER_HOUR_MAX    bounds of its memory [700, 60]
It needs about 150 bytes of disk an event and 4 GB: 15 GB for an hour, 50 GB for longer runs.
";
const SAMPLE_EVERY: Duration = Duration::from_secs(5);
/// On disk, with index and what lasts until it is merged.
const EVENT_DISK_BYTES: u64 = 150;
const DISK_RESERVE_BYTES: u64 = 4 << 30;
/// Below, the run ends before the disk is full.
const DISK_LEAST_BYTES: u64 = 1 << 30;
/// What all is waited for at the end.
const PATIENCE: Duration = Duration::from_mins(3);

/// One tenant under load.
#[derive(Debug)]
struct Tenant {
    id: TenantId,
    ledger: Arc<Ledger>,
    audit: SharedAudit,
    client: Client,
    /// Part of the events of all.
    share: f64,
    /// Writers that wait for each answer; one more has many batches in flight.
    writers: usize,
    readers: usize,
    watched: Vec<Arc<Watched>>,
}

type Tasks = JoinSet<Result<(), Fault>>;

fn say(text: impl Display) {
    // A closed stderr is no reason to end.
    writeln!(std::io::stderr(), "{text}").ok();
}

fn main() -> ExitCode {
    let settings = match Settings::from_environment() {
        Ok(Some(settings)) => settings,
        Ok(None) => {
            say(HELP);
            return ExitCode::SUCCESS;
        }
        Err(fault) => {
            say(fault);
            return ExitCode::from(2);
        }
    };
    match soak(settings) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(fault) => {
            say(format_args!("the soak could not be run: {fault}"));
            ExitCode::FAILURE
        }
    }
}

/// Where the data is: a folder of its own, and whether it goes in the end.
fn data_dir(settings: &Settings) -> Result<(PathBuf, Option<TempDir>), Fault> {
    let failed = |e: std::io::Error| Fault(format!("making a folder for the data: {e}"));
    if let Some(dir) = &settings.data {
        if dir.exists() {
            return Err(Fault(format!(
                "{} is there already: the soak begins with an empty log",
                dir.display()
            )));
        }
        std::fs::create_dir_all(dir).map_err(failed)?;
        return Ok((dir.clone(), None));
    }
    // Below the build's folder, since the system's temporary one may be memory.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).map_err(failed)?;
    Ok((dir.path().join("data"), Some(dir)))
}

fn soak(settings: Settings) -> Result<bool, Fault> {
    let (data, temporary) = data_dir(&settings)?;
    let near = temporary.as_ref().map_or(data.as_path(), TempDir::path);
    let (free, needed) = (
        free_bytes(near),
        settings.events() * EVENT_DISK_BYTES + DISK_RESERVE_BYTES,
    );
    if free < needed {
        return Err(Fault(format!(
            "{} events need about {} MB of disk, and {} has {} MB: set SOAK_RATE lower, or SOAK_DATA elsewhere",
            thousands(settings.events()),
            needed / 1_000_000,
            near.display(),
            free / 1_000_000
        )));
    }
    let program = Program::new(&data, settings.of_server())?;
    say(format_args!(
        "soak: {:.1} minutes, {} events/s, a restart every {} s, data in {}",
        settings.time.as_secs_f64() / 60.0,
        thousands(settings.rate),
        settings.restart_every.as_secs(),
        data.display()
    ));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| Fault(format!("starting threads: {e}")))?;
    let mut report = runtime.block_on(whole(settings, &program))?;
    runtime.shutdown_background();
    with_rates(&mut report.samples);
    report.checks.extend(verdict::of_samples(&report));
    report.save()?;
    say(report.markdown());
    say(format_args!(
        "the report is in {}",
        report.settings.report.display()
    ));
    if !report.is_well() {
        say(format_args!(
            "the data stays in {}, the server's log in {}",
            data.display(),
            program.log().display()
        ));
        if let Some(dir) = temporary {
            drop(dir.keep());
        }
    }
    Ok(report.is_well())
}

/// The run, with what is checked while it goes on.
async fn whole(settings: Settings, program: &Program) -> Result<Report, Fault> {
    let run = Arc::new(Run::new(settings.clone()));
    let mut served = program.start()?;
    run.goes_up();
    let tenants = tenants(&run, program).await?;
    let mut report = Report {
        settings,
        build: if cfg!(debug_assertions) {
            "debug"
        } else {
            "release"
        },
        seconds: 0.0,
        batches: 0,
        events: 0,
        lost: 0,
        delayed: 0,
        samples: Vec::new(),
        restarts: Vec::new(),
        calls: std::collections::BTreeMap::new(),
        checks: Vec::new(),
    };
    let mut load = start_load(&run, &tenants);
    let mut subscribers = start_subscribers(&run, &tenants);
    let ended = drive(
        &run,
        program,
        &mut served,
        &tenants,
        &mut report,
        (&mut load, &mut subscribers),
    )
    .await;
    let what = "everything read is what was appended";
    if let Err(fault) = ended {
        report.checks.push(Check::failed(what, &fault));
    } else {
        let found = "at every place looked at";
        report.checks.push(Check::new(what, found, true));
        let settled = settle(&run, &tenants, &mut load, &mut subscribers, &mut report).await;
        if let Err(fault) = settled {
            report.checks.push(Check::failed("the end", &fault));
        }
    }
    load.shutdown().await;
    subscribers.shutdown().await;
    report.seconds = run.begun.elapsed().as_secs_f64();
    for tenant in &tenants {
        let (batches, events, _) = tenant.ledger.totals();
        report.batches += batches;
        report.events += events;
    }
    report.lost = run.lost.load(Ordering::Relaxed);
    report.delayed = run.delayed.load(Ordering::Relaxed);
    report.calls = run.calls();
    match served.ended() {
        Some(status) => report
            .checks
            .push(Check::new("the server goes on", status, false)),
        None => match served
            .end(Ending::Term)
            .and_then(|_| program.verify())
            .map_err(Fault)
        {
            Ok(said) => report.checks.push(Check::new("annals verify", said, true)),
            Err(fault) => report.checks.push(Check::failed("annals verify", &fault)),
        },
    }
    Ok(report)
}

/// A busy tenant and three small ones.
async fn tenants(run: &Arc<Run>, program: &Program) -> Result<Vec<Tenant>, Fault> {
    let seed = mixed(run.settings.seed);
    let mut tenants = Vec::new();
    let shapes = [
        ("default", 0.9, 6, 3, 20_000, 1_000),
        ("small-1", 0.05, 2, 1, 2_000, 100),
        ("small-2", 0.04, 1, 1, 200, 20),
        ("small-3", 0.01, 1, 1, 50, 5),
    ];
    for (n, (name, share, writers, readers, entities, batch_max)) in shapes.into_iter().enumerate()
    {
        let id = TenantId::try_from(name).map_err(|e| Fault(e.to_string()))?;
        let story = Story::new(
            seed.wrapping_add(n as u64),
            writers + 1,
            entities,
            batch_max,
        );
        let ledger = Arc::new(Ledger::new(story));
        let is_busy = n == 0;
        let wants = if is_busy {
            Wants::several()
        } else {
            Vec::new()
        };
        let client = run.client(&program.url(), &id).await?;
        // Makes the tenant, and leaves its log without events.
        let cursor = CursorRecord {
            name: "soak".into(),
            position: 0,
            expected: None,
        };
        let begin = Batch::default().with_cursor(cursor);
        run.ask("append a cursor", || client.append(&begin)).await?;
        tenants.push(Tenant {
            client,
            audit: Arc::new(Mutex::new(Audit::of_answers(ledger.clone()))),
            id,
            ledger,
            share,
            writers,
            readers,
            watched: wants
                .into_iter()
                .map(|wants| Arc::new(Watched::new(wants)))
                .collect(),
        });
    }
    Ok(tenants)
}

fn start_load(run: &Arc<Run>, tenants: &[Tenant]) -> Tasks {
    let mut load = Tasks::new();
    for tenant in tenants {
        let rate = run.settings.rate as f64 * tenant.share / (tenant.writers + 1) as f64;
        let writer = |n| Writer::new(run, &tenant.ledger, tenant.client.clone(), n, rate);
        for n in 0..tenant.writers {
            load.spawn(writer(n).append());
        }
        load.spawn(writer(tenant.writers).append_stream());
        for n in 0..tenant.readers {
            let seed = run.settings.seed ^ (n as u64) << 8;
            load.spawn(Reads::new(run, &tenant.ledger, tenant.client.clone(), seed).read());
        }
    }
    load
}

fn start_subscribers(run: &Arc<Run>, tenants: &[Tenant]) -> Tasks {
    let mut subscribers = Tasks::new();
    for tenant in tenants {
        let client = tenant.client.clone();
        subscribers.spawn(audit(
            run.clone(),
            client.clone(),
            tenant.audit.clone(),
            tenant.watched.clone(),
        ));
        for watched in &tenant.watched {
            subscribers.spawn(filtered(
                run.clone(),
                client.clone(),
                tenant.ledger.clone(),
                watched.clone(),
            ));
        }
    }
    subscribers
}

/// What a task ended with; it should not have.
fn fault_of(ended: Option<Result<Result<(), Fault>, tokio::task::JoinError>>) -> Fault {
    match ended {
        Some(Ok(Err(fault))) => fault,
        Some(Err(e)) => Fault(format!("a task of the soak failed: {e}")),
        Some(Ok(Ok(()))) | None => Fault("a task of the soak ended before its time".to_owned()),
    }
}

/// Until the time is over: looks and restarts.
async fn drive(
    run: &Arc<Run>,
    program: &Program,
    served: &mut Served,
    tenants: &[Tenant],
    report: &mut Report,
    (load, subscribers): (&mut Tasks, &mut Tasks),
) -> Result<(), Fault> {
    let until = run.begun + run.settings.time;
    let bar = ProgressBar::new(run.settings.time.as_secs());
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {elapsed} of {msg}") {
        bar.set_style(style);
    }
    let mut ticks = tokio::time::interval(SAMPLE_EVERY);
    let mut restart_at = Instant::now() + run.settings.restart_every;
    let mut told_at = Instant::now();
    loop {
        tokio::select! {
            ended = load.join_next() => return Err(fault_of(ended)),
            ended = subscribers.join_next() => return Err(fault_of(ended)),
            _ = ticks.tick() => {}
        }
        let now = Instant::now();
        if let Some(status) = served.ended() {
            return Err(Fault(format!("the server ended by itself: {status}")));
        }
        let is_over = now >= until;
        let is_disturbed = run.settings.is_short() || now < run.begun + run.settings.time / 2;
        if is_over || (is_disturbed && now >= restart_at) {
            let is_kill = is_over || report.restarts.len().is_multiple_of(2);
            let ending = if is_kill { Ending::Kill } else { Ending::Term };
            let restart = restart(run, program, served, tenants, ending).await?;
            bar.suspend(|| say(format_args!("restarted: {restart:?}")));
            report.restarts.push(restart);
            restart_at = Instant::now() + run.settings.restart_every;
        }
        if is_over {
            bar.finish_and_clear();
            return Ok(());
        }
        let sample = look(run, program, served, tenants).await?;
        if sample.free_bytes < DISK_LEAST_BYTES {
            return Err(Fault(format!(
                "{} MB of disk are left: the run ends here",
                sample.free_bytes / 1_000_000
            )));
        }
        bar.set_position(run.begun.elapsed().as_secs());
        bar.set_message(line(run, &sample, report.restarts.len()));
        if bar.is_hidden() && told_at.elapsed() >= Duration::from_mins(1) {
            told_at = Instant::now();
            say(line(run, &sample, report.restarts.len()));
        }
        report.samples.push(sample);
    }
}

fn line(run: &Run, sample: &Sample, restarts: usize) -> String {
    format!(
        "{:.1} of {:.1} min: {} events, {} MB resident, {} not sealed, {} segments, {} runs, {} log files, {restarts} restarts",
        sample.seconds / 60.0,
        run.settings.time.as_secs_f64() / 60.0,
        thousands(sample.events),
        sample.resident_bytes / 1_000_000,
        thousands(sample.not_sealed),
        sample.segments.files,
        sample.index.files,
        sample.log.files
    )
}

async fn look(
    run: &Run,
    program: &Program,
    served: &Served,
    tenants: &[Tenant],
) -> Result<Sample, Fault> {
    let client = &tenants[0].client;
    let stats = run
        .ask("stats of all tenants", || client.stats_of_all_tenants())
        .await?;
    for tenant in &stats.tenants {
        if let Some(reason) = &tenant.poisoned {
            return Err(Fault(format!(
                "the log of {} is poisoned: {reason}",
                tenant.tenant
            )));
        }
    }
    Ok(Sample::new(
        run.begun,
        served.started,
        served.pid(),
        &stats,
        &program.data,
    ))
}

/// Ends the server and starts the next; what was answered before is there after.
async fn restart(
    run: &Arc<Run>,
    program: &Program,
    served: &mut Served,
    tenants: &[Tenant],
    ending: Ending,
) -> Result<Restart, Fault> {
    let seconds = run.begun.elapsed().as_secs_f64();
    run.goes_down();
    // It blocks this thread; others go on with the load.
    let ending_seconds = tokio::task::block_in_place(|| {
        let took = served.end(ending)?;
        *served = program.start()?;
        Ok::<_, Fault>(took.as_secs_f64())
    })?;
    run.goes_up();
    for tenant in tenants {
        run.ask("first read", || tenant.client.stats()).await?;
    }
    let answer_seconds = served.started.elapsed().as_secs_f64();
    for tenant in tenants {
        Reads::new(run, &tenant.ledger, tenant.client.clone(), 0)
            .answered_before()
            .await?;
    }
    Ok(Restart {
        seconds,
        ending,
        ending_seconds,
        recovery_seconds: served.recovery.as_secs_f64(),
        answer_seconds,
    })
}

/// Lets all that was sent be answered and seen, then reads every log once more from its beginning.
async fn settle(
    run: &Arc<Run>,
    tenants: &[Tenant],
    load: &mut Tasks,
    subscribers: &mut Tasks,
    report: &mut Report,
) -> Result<(), Fault> {
    run.stop();
    say("the load ends; then every log is read once more");
    let finished = async {
        while let Some(ended) = load.join_next().await {
            ended.map_err(|e| Fault(format!("a task of the soak failed: {e}")))??;
        }
        Ok::<_, Fault>(())
    };
    let late = |_| Fault(format!("the load did not end within {PATIENCE:?}"));
    tokio::time::timeout(PATIENCE, finished)
        .await
        .map_err(late)??;
    for tenant in tenants {
        let begun = Instant::now();
        while tenant.audit.lock().position < tenant.ledger.head() {
            tokio::select! {
                ended = subscribers.join_next() => return Err(fault_of(ended)),
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
            }
            if begun.elapsed() > PATIENCE {
                return Err(Fault(format!(
                    "the subscription of {} did not catch up",
                    tenant.id
                )));
            }
        }
    }
    for tenant in tenants {
        report.checks.extend(verdict::of_tenant(run, tenant).await?);
    }
    Ok(())
}
