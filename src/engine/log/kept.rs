//! Log files of which everything is sealed, kept because one event is read faster from them than from a segment. One
//! budget for the process; each log gives up its oldest ones first: as the next log file, if it is of the size of one and
//! nobody reads from it, else for good.

use std::{
    collections::VecDeque,
    io,
    ops::RangeInclusive,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::RwLock;
use tracing::warn;

use super::Log;
use crate::{
    storage::{
        disk::Disk,
        log::{
            spare::{Recycled, recycled_path},
            writer::{LogFile, LogPlace},
        },
    },
    types::{id::Position, read::ReadError},
};

/// The budget that all logs share.
pub(crate) struct KeepBudget {
    bytes_max: u64,
    bytes: AtomicU64,
}

impl KeepBudget {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self {
            bytes_max,
            bytes: AtomicU64::new(0),
        }
    }
}

/// A log file, and the log offset behind its last frame.
#[derive(Clone)]
pub(crate) struct EndedFile {
    pub(crate) file: Arc<LogFile>,
    pub(crate) end: u64,
}

/// The kept files of one log, in order.
pub(crate) struct KeptFiles {
    budget: Arc<KeepBudget>,
    files: RwLock<VecDeque<EndedFile>>,
}

impl KeptFiles {
    pub(crate) fn new(budget: Arc<KeepBudget>) -> Self {
        Self {
            budget,
            files: RwLock::default(),
        }
    }

    /// Adds the next ones.
    pub(crate) fn add(&self, files: Vec<EndedFile>) {
        let bytes = files.iter().map(|kept| kept.file.header.file_bytes).sum();
        self.budget.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.files.write().extend(files);
    }

    /// The oldest file, if files must go, and the first position behind its events if another one is kept.
    fn surplus(&self) -> Option<(EndedFile, Option<Position>)> {
        let over = self.budget.bytes.load(Ordering::Relaxed) > self.budget.bytes_max;
        let files = self.files.read();
        let oldest = over.then(|| files.front())??;
        let next = files.get(1).map(|next| next.file.header.first_position);
        Some((oldest.clone(), next))
    }

    /// Takes the oldest file out. Whoever reads from it goes on.
    fn take_oldest(&self) -> Option<EndedFile> {
        let kept = self.files.write().pop_front()?;
        let bytes = kept.file.header.file_bytes;
        self.budget.bytes.fetch_sub(bytes, Ordering::Relaxed);
        Some(kept)
    }

    /// Takes back what could not be given up.
    fn put_back(&self, kept: EndedFile) {
        let bytes = kept.file.header.file_bytes;
        self.budget.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.files.write().push_front(kept);
    }

    /// The file that a log offset is in, if it is here.
    pub(crate) fn at(&self, log_offset: u64) -> Option<EndedFile> {
        let files = self.files.read();
        let after = files.partition_point(|kept| kept.file.header.base_offset <= log_offset);
        let found = files.get(after.checked_sub(1)?)?;
        (log_offset < found.end).then(|| found.clone())
    }

    /// Number of files.
    pub(crate) fn count(&self) -> u64 {
        self.files.read().len() as u64
    }
}

impl Log {
    /// Gives up kept files beyond the budget, oldest first, once their events were found whole in segments. What is left
    /// on a disk that refuses is tried again with the next seal. One thread at a time.
    pub(super) fn drop_surplus_files(&self) {
        while let Some((oldest, next)) = self.kept.surplus() {
            let next = next.unwrap_or_else(|| self.pieces().sealed_through() + 1);
            let events = oldest.file.header.first_position..=next - 1;
            if let Err(e) = self.check_segments(&events) {
                warn!(
                    tenant = %self.tenant, error = %e, path = %oldest.file.path.display(),
                    "a sealed log file is kept: it may be all that is left of its events. Stop the server, and run annals verify with --repair"
                );
                return;
            }
            drop(oldest);
            let Some(EndedFile { file, end }) = self.kept.take_oldest() else {
                return;
            };
            let file = match recycle(&self.place, &self.recycled, file) {
                Ok(()) => continue,
                Err(file) => file,
            };
            // In this order on disk as well: a younger one is never missing while an older one is there.
            if let Err(e) = remove(&self.place, &file) {
                warn!(tenant = %self.tenant, path = %file.path.display(), error = %e, "removing a sealed log file");
                self.kept.put_back(EndedFile { file, end });
                return;
            }
        }
    }
}

impl Log {
    /// Reads what the segments hold of some events, past what is cached, and verifies its checksums.
    fn check_segments(&self, events: &RangeInclusive<Position>) -> Result<(), ReadError> {
        loop {
            let pieces = self.pieces();
            let outcome = pieces
                .segments()
                .iter()
                .filter(|segment| segment.first <= *events.end() && segment.last >= *events.start())
                .try_for_each(|segment| self.open_segment_anew(segment)?.check(events));
            // What is compacted meanwhile is in another segment.
            if outcome.is_ok() || self.pieces().segments() == pieces.segments() {
                return outcome;
            }
        }
    }
}

/// Makes a file that was taken out the next one, if it can be; returns it if it has to be removed.
fn recycle(place: &LogPlace, recycled: &Recycled, file: Arc<LogFile>) -> Result<(), Arc<LogFile>> {
    if file.header.file_bytes != place.file_bytes || !recycled.has_room() {
        return Err(file);
    }
    // Readers would find other events' bytes in it. Nobody can come to it any more.
    let old = Arc::try_unwrap(file)?;
    recycled
        .give(&*place.disk, &place.log_dir, old)
        .map_err(Arc::new)
}

/// Removes a file, under whichever name an attempt to recycle it left it.
fn remove(place: &LogPlace, file: &LogFile) -> io::Result<()> {
    remove_if_there(&*place.disk, &file.path)?;
    remove_if_there(&*place.disk, &recycled_path(&place.log_dir, file))?;
    place.disk.sync_dir(&place.log_dir)
}

fn remove_if_there(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.remove(path) {
        // An attempt that was said to fail removed it.
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

impl Drop for KeptFiles {
    fn drop(&mut self) {
        let files = self.files.get_mut().iter();
        let bytes = files.map(|kept| kept.file.header.file_bytes).sum();
        self.budget.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}
