//! Events to append.

use std::fmt::Write;

use annals::{Batch, NewEvent, Text};
use bytes::Bytes;
use uuid::Uuid;

const PAYLOAD_BYTES: usize = 200;
const PAYLOADS: usize = 4096;

/// Events of 200-byte payloads that do not compress, with ids, as clients send them.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    entities: Vec<Text>,
    payloads: Vec<Text>,
    event_type: Text,
    next: usize,
    /// Of the ids, so that sources of different writers never make the same.
    writer: u64,
}

impl Source {
    pub(crate) fn new(entities: usize, writer: u64) -> Self {
        Self {
            entities: (0..entities).map(entity).collect(),
            payloads: (0..PAYLOADS).map(payload).collect(),
            event_type: shared("bench.happened".to_owned()),
            next: 0,
            writer,
        }
    }

    /// The next events, of one entity after the other.
    pub(crate) fn batch(&mut self, events: usize) -> Batch {
        Batch::new((0..events).map(|_| self.event()))
    }

    fn event(&mut self) -> NewEvent {
        let n = self.next;
        self.next += 1;
        let entity_id = self.entities[n % self.entities.len()].clone();
        let payload = self.payloads[n % PAYLOADS].clone();
        NewEvent::new(entity_id, self.event_type.clone(), payload)
            .with_id(Uuid::from_u64_pair(self.writer, n as u64))
    }
}

pub(crate) fn entity(n: usize) -> Text {
    shared(format!("entity-{n:07}"))
}

/// An object whose keys differ, so that states have something to merge.
fn payload(n: usize) -> Text {
    let mut state = n as u64;
    let mut text = format!("{{\"k{}\":\"", n % 10);
    while text.len() < PAYLOAD_BYTES - 2 {
        // SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        write!(text, "{:016x}", z ^ (z >> 31)).expect("memory can be written");
    }
    text.truncate(PAYLOAD_BYTES - 2);
    shared(text + "\"}")
}

/// Text that lives as long as the program, so that copies of it cost nothing.
fn shared(text: String) -> Text {
    Bytes::from_static(text.leak().as_bytes()).into()
}
