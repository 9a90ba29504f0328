//! Verifies a tenant that is open, while it is appended to, sealed, merged and compacted.
//!
//! What is read is as of one moment: the manifest, the log files, and how far the log was durable; not beyond. Files
//! that are replaced meanwhile are not there any more, and no fault: the manifest tells.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{
    sync::mpsc,
    task::{JoinHandle, spawn_blocking},
};

use super::{
    Report, Told, Verified,
    stored::{OpenLog, Stored},
};
use crate::{
    engine::{log::Log, tenant::Tenant},
    storage::{
        log::{
            inspect::{self, LogFault, OpenFiles},
            writer::LogFile,
        },
        manifest::Manifest,
    },
};

/// What was found and not yet taken.
const TOLD_MAX: usize = 64;
/// Files are dropped only as fast as events come; so often it is begun anew.
const ATTEMPTS_MAX: usize = 100;

/// A tenant being verified. Given up when it is dropped.
pub struct Verification {
    told: mpsc::Receiver<Told>,
    work: Option<JoinHandle<io::Result<Verified>>>,
    stop: Arc<AtomicBool>,
}

impl Tenant {
    /// Reads every file of the tenant, checks every checksum, and compares what its forms say of the same events. What
    /// is appended from now on is not read. Appends and reads go on.
    pub fn verify(&self) -> Verification {
        let (sender, told) = mpsc::channel(TOLD_MAX);
        let stop = Arc::new(AtomicBool::new(false));
        let (log, stopped) = (Arc::clone(&self.log), Arc::clone(&stop));
        let work = spawn_blocking(move || {
            // Whoever does not listen any more has dropped the receiver.
            let mut tell = |told| drop(sender.blocking_send(told));
            let stop = || stopped.load(Ordering::Relaxed);
            let mut report = Report::new(&mut tell, &stop);
            let stored = snapshot(&log)?;
            let bytes = stored.bytes()?;
            report.tell(Told::Bytes(bytes));
            stored.verify(&mut report)?;
            Ok(report.verified)
        });
        Verification {
            told,
            work: Some(work),
            stop,
        }
    }
}

impl Verification {
    /// What comes next; `None` once everything was told.
    pub async fn next(&mut self) -> Option<Told> {
        self.told.recv().await
    }

    /// What was verified, once everything was told.
    ///
    /// # Errors
    /// A file could not be read although nothing is wrong with it.
    pub async fn finish(mut self) -> io::Result<Verified> {
        while self.next().await.is_some() {}
        let Some(work) = self.work.take() else {
            return Err(io::Error::other("it was finished before"));
        };
        work.await.map_err(io::Error::other)?
    }
}

impl Drop for Verification {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// What there is to read as of now.
fn snapshot(log: &Log) -> io::Result<Stored> {
    // From before the files are opened until they were read.
    let hold = log.hold_files();
    for _ in 0..ATTEMPTS_MAX {
        // In this order: what is sealed is durable, and what is durable is in the files.
        let manifest = log.open_manifest().get().clone();
        let end = log.durable_end();
        if let Some((files, faults)) = log_files(log, &manifest, end)? {
            let open = OpenLog {
                files,
                faults,
                end,
                manifest: Arc::clone(log.open_manifest()),
                _hold: hold,
            };
            return Ok(Stored {
                place: log.place().clone(),
                manifest,
                hasher: log.hasher(),
                open: Some(open),
            });
        }
    }
    Err(io::Error::other(
        "log files are dropped faster than they can be opened",
    ))
}

/// Those that are open, and what is wrong with others.
type LogFiles = (OpenFiles, Vec<LogFault>);

/// The log files up to a log offset, open, and what is wrong with those that cannot be; `None` if some went meanwhile
/// that are needed.
fn log_files(log: &Log, manifest: &Manifest, end: u64) -> io::Result<Option<LogFiles>> {
    let mut faults = Vec::new();
    let opened = inspect::open_through(log.place(), manifest, end, &mut |f| faults.push(f));
    let files = match opened {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        files => files?,
    };
    // Sealed and dropped after the manifest was looked at.
    let is_late = |first: &Arc<LogFile>| inspect::begins_late(first, manifest);
    let sealed_more = log.open_manifest().get().sealed.through() > manifest.sealed.through();
    if sealed_more && files.files.first().is_none_or(is_late) {
        return Ok(None);
    }
    Ok(Some((files, faults)))
}
