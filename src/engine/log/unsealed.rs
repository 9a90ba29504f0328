//! The events of all logs that are not sealed: these, and not those that are, take memory. One bound for the process,
//! however many logs there are: once half of it is in parts that grow, the largest of these are complete before they are
//! full; beyond all of it, appends wait for sealing.

use std::{
    cmp::Reverse,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;

use super::{Log, part::Part, seal, sequencer::State};

/// See the module. The counts order nothing.
pub(crate) struct Unsealed {
    events_max: u64,
    events: AtomicU64,
    /// Those of them in parts that grow.
    growing: AtomicU64,
    logs: Mutex<Vec<Weak<Log>>>,
    /// Whoever completes parts holds it.
    relieving: Mutex<()>,
    /// A part was sealed, or cannot be, or a log takes no appends any more.
    pub(super) changed: tokio::sync::Notify,
}

/// What one log counts for.
pub(crate) struct UnsealedOfLog {
    all: Arc<Unsealed>,
    events: AtomicU64,
    growing: AtomicU64,
}

impl Unsealed {
    pub(crate) fn new(events_max: u64) -> Self {
        Self {
            events_max,
            events: AtomicU64::new(0),
            growing: AtomicU64::new(0),
            logs: Mutex::default(),
            relieving: Mutex::default(),
            changed: tokio::sync::Notify::new(),
        }
    }

    /// Counts a log in.
    pub(super) fn enter(&self, log: &Arc<Log>) {
        let mut logs = self.logs.lock();
        logs.retain(|log| log.strong_count() > 0);
        logs.push(Arc::downgrade(log));
    }

    fn logs(&self) -> Vec<Arc<Log>> {
        self.logs.lock().iter().filter_map(Weak::upgrade).collect()
    }

    /// Whether appends have to wait.
    pub(super) fn is_full(&self) -> bool {
        self.events.load(Ordering::Relaxed) > self.events_max
    }

    /// Whether some log does not get on with sealing.
    pub(super) fn is_any_failing(&self) -> bool {
        let logs = self.logs();
        logs.iter().any(|log| log.sealing.lock().failing)
    }

    /// Completes the largest parts that grow, if these are too many events, until they are half as many.
    pub(super) fn relieve(&self) {
        let many = self.events_max / 2;
        if self.growing.load(Ordering::Relaxed) <= many {
            return;
        }
        let Some(_one_at_a_time) = self.relieving.try_lock() else {
            return;
        };
        let mut logs = self.logs();
        logs.sort_by_cached_key(|log| Reverse(log.unsealed.growing.load(Ordering::Relaxed)));
        for log in logs {
            if self.growing.load(Ordering::Relaxed) <= many / 2 {
                return;
            }
            log.complete_part();
        }
    }
}

impl UnsealedOfLog {
    pub(super) fn new(all: &Arc<Unsealed>) -> Self {
        Self {
            all: Arc::clone(all),
            events: AtomicU64::new(0),
            growing: AtomicU64::new(0),
        }
    }

    /// Counts events that were entered into a part that grows.
    pub(super) fn add(&self, events: u64) {
        for count in [
            &self.events,
            &self.growing,
            &self.all.events,
            &self.all.growing,
        ] {
            count.fetch_add(events, Ordering::Relaxed);
        }
    }

    /// The part that grew grows no more.
    pub(super) fn complete(&self) {
        let events = self.growing.swap(0, Ordering::Relaxed);
        self.all.growing.fetch_sub(events, Ordering::Relaxed);
    }

    pub(super) fn sealed(&self, events: u64) {
        self.events.fetch_sub(events, Ordering::Relaxed);
        self.all.events.fetch_sub(events, Ordering::Relaxed);
    }
}

impl Drop for UnsealedOfLog {
    fn drop(&mut self) {
        self.complete();
        self.sealed(self.events.load(Ordering::Relaxed));
    }
}

impl Log {
    /// Counts events that were entered into a part; `grew` is the part that grew before.
    pub(super) fn count_unsealed(&self, grew: &Part, newest: &Part, events: u64) {
        if newest.first != grew.first {
            self.unsealed.complete();
        }
        self.unsealed.add(events);
    }

    /// Has the part that grows sealed as it is.
    fn complete_part(self: &Arc<Self>) {
        let sequencer = self.sequencer.lock();
        // One of a log that failed may never be durable.
        if sequencer.state == State::Open && self.index.complete(sequencer.next) {
            self.unsealed.complete();
        }
        drop(sequencer);
        seal::wake(self);
    }
}
