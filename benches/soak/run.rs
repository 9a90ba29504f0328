//! What all parts of a run share: settings, whether the server is up, how calls went.

use std::{
    collections::BTreeMap,
    env,
    fmt::Display,
    future::Future,
    path::PathBuf,
    str::FromStr,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use annals::{Client, ClientError, ClientOptions, Kind, TenantId};
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::ledger::Fault;

/// Whatever takes longer hangs.
const PATIENCE: Duration = Duration::from_mins(3);
/// After a start, connections made to the server before may still be found broken.
const GRACE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(50);
/// Rates are kept up to so many events by default; a longer run is slower.
const EVENTS_DEFAULT_MAX: u64 = 300_000_000;

/// From the environment, `SOAK_…`.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) time: Duration,
    /// Events a second, all tenants together.
    pub(crate) rate: u64,
    pub(crate) restart_every: Duration,
    pub(crate) seed: u64,
    pub(crate) data: Option<PathBuf>,
    pub(crate) report: PathBuf,
    /// Bytes of sealed log files that are kept.
    pub(crate) keep_bytes: u64,
    /// Events that become a segment; 0: the server's default.
    pub(crate) seal_events: u64,
    pub(crate) resident_mb_max: f64,
    pub(crate) slope_mb_per_hour_max: f64,
}

fn given<T: FromStr>(name: &str) -> Result<Option<T>, Fault>
where
    T::Err: Display,
{
    let Some(text) = env::var(name).ok().filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let value = text
        .parse()
        .map_err(|e| Fault(format!("{name}={text}: {e}")))?;
    Ok(Some(value))
}

impl Settings {
    /// `None` if no time is given.
    pub(crate) fn from_environment() -> Result<Option<Self>, Fault> {
        let hours: f64 = given("SOAK_HOURS")?.unwrap_or(0.0);
        let minutes: f64 = given("SOAK_MINUTES")?.unwrap_or(0.0);
        let seconds = hours * 3600.0 + minutes * 60.0;
        if seconds <= 0.0 {
            return Ok(None);
        }
        let time =
            Duration::try_from_secs_f64(seconds).map_err(|e| Fault(format!("the time: {e}")))?;
        if time > Duration::from_hours(7 * 24) {
            return Err(Fault("a soak takes at most 7 days".to_owned()));
        }
        let rate = (EVENTS_DEFAULT_MAX / time.as_secs().max(1)).min(20_000);
        let every = (time / 12).clamp(Duration::from_secs(20), Duration::from_mins(15));
        Ok(Some(Self {
            time,
            rate: given("SOAK_RATE")?.unwrap_or(rate).max(1),
            restart_every: given("SOAK_RESTART_SECONDS")?.map_or(every, Duration::from_secs),
            seed: given("SOAK_SEED")?.unwrap_or(1),
            data: given("SOAK_DATA")?,
            report: given("SOAK_REPORT")?.unwrap_or_else(|| PathBuf::from("soak-report.md")),
            keep_bytes: given("SOAK_KEEP_BYTES")?.unwrap_or(256 << 20),
            seal_events: given("SOAK_SEAL_EVENTS")?.unwrap_or(0),
            resident_mb_max: given("SOAK_RESIDENT_MB_MAX")?.unwrap_or(700.0),
            slope_mb_per_hour_max: given("SOAK_SLOPE_MB_PER_HOUR_MAX")?.unwrap_or(60.0),
        }))
    }

    /// Too short to say anything about growth: restarts go on to the end.
    pub(crate) fn is_short(&self) -> bool {
        self.time < Duration::from_mins(25)
    }

    /// What the server is told.
    pub(crate) fn of_server(&self) -> Vec<String> {
        let mut settings = vec![
            "tenants.auto_create=true".to_owned(),
            format!("limits.keep_bytes={}", self.keep_bytes),
        ];
        if self.seal_events > 0 {
            settings.push(format!("limits.seal_events={}", self.seal_events));
        }
        settings
    }

    /// Events of the whole run.
    pub(crate) fn events(&self) -> u64 {
        self.rate * self.time.as_secs()
    }
}

/// Calls of one kind.
#[derive(Debug, Clone)]
pub(crate) struct Calls {
    /// Microseconds.
    pub(crate) latency: Histogram<u64>,
    pub(crate) events: u64,
}

/// Whether the server can be called.
#[derive(Debug, Clone, Copy)]
struct Up {
    serves: bool,
    starts: u64,
    since: Instant,
}

/// Shared by all tasks.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) settings: Settings,
    pub(crate) begun: Instant,
    up: watch::Sender<Up>,
    stop: AtomicBool,
    calls: Mutex<BTreeMap<&'static str, Calls>>,
    /// Calls that were lost with the server.
    pub(crate) lost: AtomicU64,
    /// Calls that were refused for a time, as being ahead of the disk or of sealing.
    pub(crate) delayed: AtomicU64,
}

impl Run {
    pub(crate) fn new(settings: Settings) -> Self {
        let now = Instant::now();
        Self {
            settings,
            begun: now,
            up: watch::Sender::new(Up {
                serves: false,
                starts: 0,
                since: now,
            }),
            stop: AtomicBool::new(false),
            calls: Mutex::default(),
            lost: AtomicU64::new(0),
            delayed: AtomicU64::new(0),
        }
    }

    pub(crate) fn goes_up(&self) {
        self.up.send_modify(|up| {
            up.serves = true;
            up.starts += 1;
            up.since = Instant::now();
        });
    }

    pub(crate) fn goes_down(&self) {
        self.up.send_modify(|up| up.serves = false);
    }

    pub(crate) fn is_up(&self) -> bool {
        self.up.borrow().serves
    }

    async fn until_up(&self) -> Up {
        let mut up = self.up.subscribe();
        let up = up.wait_for(|up| up.serves).await;
        *up.expect("the sender lives as long")
    }

    /// No new load.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    pub(crate) async fn client(&self, url: &str, tenant: &TenantId) -> Result<Client, Fault> {
        self.until_up().await;
        let options = ClientOptions {
            tenant: Some(tenant.clone()),
            // What is lost is sent again by those who know what that means.
            retries: 0,
            ..ClientOptions::default()
        };
        let client = Client::connect_with(url, options).await;
        client.map_err(|e| Fault(format!("connecting: {}", chain(&e))))
    }

    /// Calls until there is an answer or a refusal that stays. Whoever appends must expect that an earlier try of it
    /// counted: `true` beside the answer says that there was one.
    pub(crate) async fn call<T, F>(
        &self,
        name: &'static str,
        call: impl Fn() -> F,
    ) -> Result<(Result<T, ClientError>, bool), Fault>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let begun = Instant::now();
        let mut is_again = false;
        loop {
            let up = self.until_up().await;
            let started = Instant::now();
            let answer = tokio::time::timeout(PATIENCE, call()).await;
            let answer = answer
                .map_err(|_| Fault(format!("{name} was not answered within {PATIENCE:?}")))?;
            match answer {
                Ok(answer) => {
                    self.record(name, started.elapsed(), 0);
                    return Ok((Ok(answer), is_again));
                }
                Err(e) if is_transient(&e) => self.transient(name, &e, up)?,
                Err(e) => return Ok((Err(e), is_again)),
            }
            if begun.elapsed() > PATIENCE {
                return Err(Fault(format!("{name} did not succeed within {PATIENCE:?}")));
            }
            is_again = true;
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Like [`call`](Self::call), of what must succeed.
    pub(crate) async fn ask<T, F>(
        &self,
        name: &'static str,
        call: impl Fn() -> F,
    ) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let (answer, _) = self.call(name, call).await?;
        answer.map_err(|e| Fault(format!("{name}: {}", chain(&e))))
    }

    /// A call failed for a time: with the server, or since it is full.
    fn transient(&self, name: &str, error: &ClientError, up: Up) -> Result<(), Fault> {
        if error.kind() == Kind::Exhausted {
            self.delayed.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        self.lost.fetch_add(1, Ordering::Relaxed);
        let now = *self.up.borrow();
        let is_explained = !now.serves || now.starts != up.starts || now.since.elapsed() < GRACE;
        if is_explained {
            return Ok(());
        }
        Err(Fault(format!(
            "{name} was lost while the server ran: {}",
            chain(error)
        )))
    }

    pub(crate) fn record(&self, name: &'static str, took: Duration, events: u64) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let mut calls = self.calls.lock();
        let calls = calls.entry(name).or_insert_with(|| Calls {
            latency: Histogram::new_with_bounds(1, 600_000_000, 3).expect("the bounds are valid"),
            events: 0,
        });
        calls.latency.saturating_record(micros);
        calls.events += events;
    }

    pub(crate) fn record_events(&self, name: &'static str, events: u64) {
        if let Some(calls) = self.calls.lock().get_mut(name) {
            calls.events += events;
        }
    }

    pub(crate) fn calls(&self) -> BTreeMap<&'static str, Calls> {
        self.calls.lock().clone()
    }
}

/// Whether a call may succeed soon.
pub(crate) fn is_transient(error: &ClientError) -> bool {
    match error.kind() {
        Kind::Unavailable | Kind::Unknown => true,
        Kind::Exhausted => ["QUEUE_FULL", "SEAL_BEHIND"].contains(&error.reason()),
        _ => false,
    }
}

/// An error with its causes.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
