//! Who waits for new events. A waiter registers names of which each event that it wants has one; only events with one
//! of them wake it. Names are compared by hash: a wrong wake-up costs a look, a missed one cannot happen.
//!
//! Invariant: once [`Waiters::woken_through`] is at a position, everybody who was registered before the events up to it
//! were shown, and may want one of them, was woken.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering, fence},
};

use dashmap::DashMap;
use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{names::BuildIdentity, prepared::PreparedEvent, set::Set};
use crate::types::{id::Position, read::NameKind};

/// Counters that tell most events apart from names that somebody waits for, in the cache of a core.
const COUNTERS: usize = 1 << 16;

/// Spreads the hashes of the three kinds of names over one map.
fn key(kind: NameKind, hash: u64) -> u64 {
    let kind = match kind {
        NameKind::Entity => 0,
        NameKind::Type => 0x6a09_e667_f3bc_c908,
        NameKind::Tag => 0xbb67_ae85_84ca_a73b,
    };
    hash ^ kind
}

/// Waiters with the number of each.
type List = Vec<(u64, Arc<Notify>)>;

/// See the module.
pub(crate) struct Waiters {
    by_name: DashMap<u64, List, BuildIdentity>,
    /// How many of the registered names fall on each counter; made with the first.
    counters: OnceLock<Box<[AtomicU32]>>,
    /// Those that every event wakes.
    by_any: Mutex<List>,
    all: AtomicUsize,
    next: AtomicU64,
    woken_through: AtomicU64,
}

/// A registered waiter; gone when dropped.
pub(crate) struct Waiter {
    number: u64,
    /// Empty: every event wakes it.
    keys: Vec<u64>,
    notify: Arc<Notify>,
}

impl Waiter {
    /// Returns once an event came that may be wanted, since it was registered or since the last return.
    pub(crate) async fn woken(&self) {
        self.notify.notified().await;
    }

    /// Whether [`Waiter::woken`] would return at once; then it does not any more.
    pub(crate) fn was_woken(&self) -> bool {
        self.notify.notified().now_or_never().is_some()
    }
}

impl Waiters {
    pub(crate) fn new() -> Self {
        Self {
            by_name: DashMap::default(),
            counters: OnceLock::new(),
            by_any: Mutex::default(),
            all: AtomicUsize::new(0),
            next: AtomicU64::new(0),
            woken_through: AtomicU64::new(0),
        }
    }

    /// Up to here nothing came that a waiter wants who was not woken.
    pub(crate) fn woken_through(&self) -> Position {
        self.woken_through.load(Ordering::Acquire)
    }

    pub(crate) fn count(&self) -> usize {
        self.all.load(Ordering::Relaxed)
    }

    /// Registers a waiter for the members of a set.
    pub(crate) fn register(&self, set: &Set) -> Waiter {
        let mut keys = Vec::new();
        if !cover(set, &mut keys) {
            keys.clear();
        }
        keys.sort_unstable();
        keys.dedup();
        let waiter = Waiter {
            number: self.next.fetch_add(1, Ordering::Relaxed),
            keys,
            notify: Arc::new(Notify::new()),
        };
        let entry = || (waiter.number, Arc::clone(&waiter.notify));
        self.all.fetch_add(1, Ordering::Relaxed);
        if waiter.keys.is_empty() {
            self.by_any.lock().push(entry());
        } else {
            let counters = self
                .counters
                .get_or_init(|| (0..COUNTERS).map(|_| AtomicU32::new(0)).collect());
            for key in &waiter.keys {
                self.by_name.entry(*key).or_default().push(entry());
                counters[counter(*key)].fetch_add(1, Ordering::Relaxed);
            }
        }
        // Whoever reads the head after this and finds events missing in it is woken for them.
        fence(Ordering::SeqCst);
        waiter
    }

    pub(crate) fn remove(&self, waiter: &Waiter) {
        let others = |(number, _): &(u64, Arc<Notify>)| *number != waiter.number;
        self.all.fetch_sub(1, Ordering::Relaxed);
        if waiter.keys.is_empty() {
            self.by_any.lock().retain(others);
            return;
        }
        for key in &waiter.keys {
            if let Some(counters) = self.counters.get() {
                counters[counter(*key)].fetch_sub(1, Ordering::Relaxed);
            }
            self.by_name.remove_if_mut(key, |_, list| {
                list.retain(others);
                list.is_empty()
            });
        }
    }

    /// Wakes those who may want one of the events, which readers see already and which end at `head`.
    pub(super) fn wake<'a>(&self, events: impl Iterator<Item = &'a PreparedEvent>, head: Position) {
        // Pairs with the one of `register`: the head was moved before.
        fence(Ordering::SeqCst);
        for (_, notify) in &*self.by_any.lock() {
            notify.notify_one();
        }
        if let Some(counters) = self.counters.get() {
            for event in events {
                self.wake_named(counters, key(NameKind::Entity, event.entity.0));
                self.wake_named(counters, key(NameKind::Type, event.event_type.0));
                for (hash, _) in &event.tags {
                    self.wake_named(counters, key(NameKind::Tag, *hash));
                }
            }
        }
        self.woken_through.store(head, Ordering::Release);
    }

    fn wake_named(&self, counters: &[AtomicU32], key: u64) {
        if counters[counter(key)].load(Ordering::Relaxed) == 0 {
            return;
        }
        if let Some(list) = self.by_name.get(&key) {
            for (_, notify) in &*list {
                notify.notify_one();
            }
        }
    }
}

fn counter(key: u64) -> usize {
    key as usize % COUNTERS
}

/// Collects names of which each member of the set has one; false if there are none such.
fn cover(set: &Set, keys: &mut Vec<u64>) -> bool {
    match set {
        Set::All | Set::TypePrefix(..) => false,
        Set::Name { kind, hash, .. } => {
            keys.push(key(*kind, *hash));
            true
        }
        Set::Any(members) => members.iter().all(|member| cover(member, keys)),
        Set::Every(members) => members.iter().any(|member| {
            let before = keys.len();
            let covered = cover(member, keys);
            if !covered {
                keys.truncate(before);
            }
            covered
        }),
    }
}
