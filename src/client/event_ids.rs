//! Ids for events that come without one: made before the first try, so that every later one sends the same.
//!
//! UUIDv7 (RFC 9562): 48 bits of milliseconds, then 74 bits of a generator that the operating system seeds once a
//! thread. A system call for each id would cost more than the rest of sending an event.

use std::{
    cell::Cell,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::{Bytes, BytesMut};
use uuid::{Builder, Uuid, fmt::Hyphenated};

use crate::types::event::NewEvent;

// The multiplier of PCG's 128-bit congruential generator; any odd increment gives the full period.
const MULTIPLIER: u128 = 0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645;
const INCREMENT: u128 = 0x5851_f42d_4c95_7f2d_1405_7b7e_f767_814f;

thread_local! {
    static STATE: Cell<Option<u128>> = const { Cell::new(None) };
}

/// 128 pseudo-random bits, of which the high ones are the good ones. Unique, not secret.
pub(super) fn random() -> u128 {
    STATE.with(|state| {
        let now = state.get().unwrap_or_else(seed);
        let next = now.wrapping_mul(MULTIPLIER).wrapping_add(INCREMENT);
        state.set(Some(next));
        next
    })
}

fn seed() -> u128 {
    let mut bytes = [0; 16];
    if getrandom::fill(&mut bytes).is_err() {
        // Without entropy a v4 id would panic too; the clock and an address keep threads and processes apart.
        let address = std::ptr::from_ref(&bytes) as usize as u128;
        return u128::from(unix_millis()).wrapping_mul(MULTIPLIER) ^ address;
    }
    u128::from_le_bytes(bytes)
}

fn unix_millis() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| u64::try_from(since.as_millis()).ok())
        .unwrap_or_default()
}

/// A new id, as the client gives it to events that have none.
pub(crate) fn new_event_id() -> Uuid {
    new_id(unix_millis())
}

fn new_id(millis: u64) -> Uuid {
    let mut bits = [0; 10];
    bits.copy_from_slice(&random().to_be_bytes()[..10]);
    Builder::from_unix_timestamp_millis(millis, &bits).into_uuid()
}

/// The ids of a batch as the wire wants them: canonical texts in one piece of memory.
#[derive(Debug, Clone)]
pub(super) struct IdTexts {
    texts: Bytes,
    /// Some were made here.
    pub(super) made: bool,
}

impl IdTexts {
    /// The events' own ids, and new ones for those that have none.
    pub(super) fn of(events: &[NewEvent]) -> Self {
        let mut texts = BytesMut::zeroed(events.len() * Hyphenated::LENGTH);
        let mut made = false;
        let mut millis = None;
        for (event, text) in events
            .iter()
            .zip(texts.chunks_exact_mut(Hyphenated::LENGTH))
        {
            let id = event.event_id.unwrap_or_else(|| {
                made = true;
                let millis = *millis.get_or_insert_with(unix_millis);
                new_id(millis)
            });
            id.hyphenated().encode_lower(text);
        }
        Self {
            texts: texts.freeze(),
            made,
        }
    }

    /// One text for each event, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Bytes> + '_ {
        (0..self.texts.len())
            .step_by(Hyphenated::LENGTH)
            .map(|at| self.texts.slice(at..at + Hyphenated::LENGTH))
    }

    /// One id for each event, in order.
    pub(super) fn uuids(&self) -> Vec<Uuid> {
        self.texts
            .chunks_exact(Hyphenated::LENGTH)
            .filter_map(|text| Uuid::try_parse_ascii(text).ok())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn events_keep_their_ids_and_get_different_new_ones() {
        let given = Uuid::from_u128(7);
        let mut events = vec![NewEvent::new("a", "b", "{}"); 1000];
        events[3].event_id = Some(given);
        let ids = IdTexts::of(&events);
        assert!(ids.made);
        let uuids = ids.uuids();
        assert_eq!(uuids[3], given);
        assert_eq!(uuids.iter().collect::<HashSet<_>>().len(), 1000);
        assert_eq!(uuids[0].get_version_num(), 7);
        let texts: Vec<_> = ids.iter().collect();
        assert_eq!(texts[3], given.to_string());
        assert_eq!(texts[999], uuids[999].to_string());
    }

    #[test]
    fn threads_make_different_ids() {
        let make = || (0..1000).map(|_| new_id(1)).collect::<Vec<_>>();
        let other = std::thread::spawn(make).join().unwrap();
        let ids: HashSet<_> = make().into_iter().chain(other).collect();
        assert_eq!(ids.len(), 2000);
    }
}
