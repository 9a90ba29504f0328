//! What the same machine takes for the least that an append needs: an empty call, and a sync.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde::Serialize;
use tokio::task::JoinSet;

use super::{
    super::{error::CliError, figures::per_second},
    meter::{Latency, Meter, Window, add_up},
};
use crate::client::Client;

const TIME: Duration = Duration::from_secs(2);
const WARM_UP: Duration = Duration::from_millis(300);
const BLOCK_BYTES: usize = 4096;
const FILE_BYTES: u64 = 16 << 20;

/// The floors under the figures of a run.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Floors {
    /// `grpc.health.v1.Health/Check`, by as many callers as the work has.
    pub(super) empty_call: EmptyCall,
    /// Of 4 KiB in a file that was written before.
    pub(super) fdatasync: Sync,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct EmptyCall {
    pub(super) calls_per_second: f64,
    pub(super) latency_us: Latency,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Sync {
    pub(super) syncs_per_second: f64,
    pub(super) latency_us: Latency,
}

/// Measures both, one after the other.
pub(super) async fn measure(
    clients: &[Client],
    callers: usize,
    dir: &Path,
) -> Result<Floors, CliError> {
    let empty_call = empty_call(clients, callers).await?;
    let dir = dir.to_owned();
    let place = dir.display().to_string();
    let fdatasync = tokio::task::spawn_blocking(move || sync(&dir))
        .await
        .map_err(|e| CliError::Failed(format!("a task of the benchmark failed: {e}")))?
        .map_err(|e| {
            CliError::Failed(format!(
                "cannot measure fdatasync in {place}: {e}; name another --floor-dir"
            ))
        })?;
    Ok(Floors {
        empty_call,
        fdatasync,
    })
}

async fn empty_call(clients: &[Client], callers: usize) -> Result<EmptyCall, CliError> {
    let window = Window::new(WARM_UP, TIME);
    let mut tasks = JoinSet::new();
    for client in clients.iter().cycle().take(callers) {
        let client = client.clone();
        tasks.spawn(async move {
            let mut meter = Meter::new(window);
            let mut started = Instant::now();
            while !window.is_over(started) {
                client.is_serving().await?;
                let ended = Instant::now();
                meter.record(started, ended, 0);
                started = ended;
            }
            Ok(meter)
        });
    }
    let meter = add_up(tasks, window).await?;
    Ok(EmptyCall {
        calls_per_second: meter.calls_per_second(),
        latency_us: meter.latency(),
    })
}

/// Removes the file when dropped.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_file(&self.0).ok();
    }
}

fn sync(dir: &Path) -> io::Result<Sync> {
    let path = dir.join(format!("annals-bench-{}.tmp", std::process::id()));
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)?;
    let scratch = Scratch(path);
    // Written, not only allocated: a sync in a growing file also has to write the file system's metadata.
    fill(&file)?;
    let window = Window::new(Duration::ZERO, TIME);
    let mut meter = Meter::new(window);
    let mut syncs = 0;
    let begun = Instant::now();
    let mut started = begun;
    let block = [0x5a; BLOCK_BYTES];
    let mut at = 0;
    while !window.is_over(started) {
        file.write_all_at(&block, at)?;
        file.sync_data()?;
        let ended = Instant::now();
        meter.record_latency(ended - started, 1);
        syncs += 1;
        at = (at + BLOCK_BYTES as u64) % FILE_BYTES;
        started = ended;
    }
    drop(scratch);
    Ok(Sync {
        syncs_per_second: per_second(syncs, begun.elapsed()),
        latency_us: meter.latency(),
    })
}

fn fill(file: &File) -> io::Result<()> {
    let zeros = vec![0; 1 << 20];
    let mut at = 0;
    while at < FILE_BYTES {
        file.write_all_at(&zeros, at)?;
        at += zeros.len() as u64;
    }
    file.sync_all()
}
