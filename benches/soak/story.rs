//! What each writer appends, as a function of a seed: batch `b` of writer `w` is the same whenever it is asked for.
//!
//! So whoever reads an event knows from its id what it must be, and nothing that was appended has to be remembered.

use std::fmt::Write;

use annals::{NewEvent, Text, Timestamp};
use serde_json::{Map, Value};
use uuid::Uuid;

/// Entities that all writers append to.
pub(crate) const SHARED: usize = 4;
/// Types, the first the most frequent; and one that is rare.
const GROUPS: [&str; 4] = ["order", "payment", "shipment", "account"];
const STEPS: [&str; 5] = ["opened", "changed", "checked", "accepted", "closed"];
pub(crate) const RARE_TYPE: &str = "audit.flagged";
const WORDS: [&str; 16] = [
    "the",
    "parcel",
    "waits",
    "for",
    "a",
    "signature",
    "at",
    "door",
    "customer",
    "asked",
    "again",
    "about",
    "late",
    "invoice",
    "of",
    "march",
];
/// Ids hold the place in a batch in so many bits.
const PLACE_BITS: u32 = 10;
/// Largest payload: an event may have 1 MiB, names and ids included.
const LARGE_BYTES: usize = 1_000_000;

/// What a batch is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    /// Guarded by the version of its first event's entity.
    Guarded,
    /// Guarded by "no event has this tag", which all its events have.
    Once,
    /// Carries the writer's cursor.
    Cursor,
    /// One event of an entity that others append to, guarded by its version.
    Shared,
    /// One event with a large payload.
    Large,
}

/// Which event: by its writer, the number of its batch, and its place in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) writer: usize,
    pub(crate) batch: u64,
    pub(crate) at: usize,
}

/// A tenant's.
#[derive(Debug, Clone)]
pub(crate) struct Story {
    seed: u64,
    writers: usize,
    /// Of each writer.
    entities: usize,
    /// Events of the largest batch.
    batch_max: usize,
}

impl Story {
    pub(crate) fn new(seed: u64, writers: usize, entities: usize, batch_max: usize) -> Self {
        assert!(batch_max < 1 << PLACE_BITS);
        Self {
            seed,
            writers,
            entities,
            batch_max,
        }
    }

    pub(crate) fn writers(&self) -> usize {
        self.writers
    }

    pub(crate) fn entities_per_writer(&self) -> usize {
        self.entities
    }

    /// Those of all writers, then the shared ones.
    pub(crate) fn entities(&self) -> usize {
        self.writers * self.entities + SHARED
    }

    pub(crate) fn kind(&self, writer: usize, batch: u64) -> Kind {
        match self.draw(writer, batch, 0, 1) % 1000 {
            0..2 => Kind::Large,
            2..12 => Kind::Once,
            12..32 => Kind::Shared,
            32..82 => Kind::Cursor,
            82..282 => Kind::Guarded,
            _ => Kind::Plain,
        }
    }

    /// How many events a batch has.
    pub(crate) fn size(&self, writer: usize, batch: u64) -> usize {
        let draw = self.draw(writer, batch, 0, 2);
        let (share, rest) = (draw % 100, (draw / 100) as usize);
        let size = match self.kind(writer, batch) {
            Kind::Shared | Kind::Large => 1,
            Kind::Once => 1 + rest % 20,
            _ => match share {
                0..40 => 1,
                40..70 => 2 + rest % 19,
                70..90 => 21 + rest % 180,
                _ => 201 + rest % 800,
            },
        };
        size.min(self.batch_max)
    }

    pub(crate) fn events(&self, writer: usize, batch: u64) -> Vec<NewEvent> {
        let place = |at| Place { writer, batch, at };
        (0..self.size(writer, batch))
            .map(|at| self.event(place(at)))
            .collect()
    }

    pub(crate) fn event(&self, place: Place) -> NewEvent {
        let draw = |salt| self.draw(place.writer, place.batch, place.at, salt);
        let kind = self.kind(place.writer, place.batch);
        let mut event = NewEvent::new(
            self.entity(self.entity_of(place)),
            self.event_type(place),
            self.payload(place, kind),
        )
        .with_id(Self::id(place));
        let mut tags = vec![format!("region:{}", draw(3) % 10)];
        if draw(4).is_multiple_of(100) {
            tags.push("priority".to_owned());
        }
        if draw(4).is_multiple_of(5_000) {
            tags.push("disputed".to_owned());
        }
        if kind == Kind::Once {
            tags.push(Self::once_tag(place.writer, place.batch));
        }
        event.tags = tags.into_iter().map(Text::from).collect();
        if draw(5).is_multiple_of(3) {
            let correlation = format!(
                r#"{{"correlation_id":"c-{}-{}"}}"#,
                place.writer, place.batch
            );
            event = event.with_metadata(correlation);
        }
        if draw(6).is_multiple_of(2) {
            event.occurred_at = Timestamp::from_micros((draw(7) >> 14).cast_signed());
        }
        event
    }

    /// The tag of a batch of kind [`Kind::Once`].
    pub(crate) fn once_tag(writer: usize, batch: u64) -> String {
        format!("once-{writer}-{batch}")
    }

    /// The number of an event's entity.
    pub(crate) fn entity_of(&self, place: Place) -> usize {
        let draw = self.draw(place.writer, place.batch, place.at, 8);
        if self.kind(place.writer, place.batch) == Kind::Shared {
            return self.writers * self.entities + draw as usize % SHARED;
        }
        place.writer * self.entities + skewed(draw, self.entities)
    }

    /// The name of an entity.
    pub(crate) fn entity(&self, number: usize) -> String {
        let own = self.writers * self.entities;
        if number >= own {
            return format!("shared-{}", number - own);
        }
        let writer = number / self.entities;
        format!("{}{:06}", Self::prefix(writer), number % self.entities)
    }

    /// What the names of a writer's entities start with.
    pub(crate) fn prefix(writer: usize) -> String {
        format!("case-{writer:03}-")
    }

    pub(crate) fn event_type(&self, place: Place) -> String {
        let draw = self.draw(place.writer, place.batch, place.at, 9);
        if (draw >> 32).is_multiple_of(100_000) {
            return RARE_TYPE.to_owned();
        }
        type_name(skewed(draw << 32, GROUPS.len() * STEPS.len()))
    }

    fn payload(&self, place: Place, kind: Kind) -> String {
        let draw = self.draw(place.writer, place.batch, place.at, 10);
        let number = number(place);
        let mut text = format!(
            r#"{{"number":{number},"amount":{}.{:02},"currency":"EUR","customer":"customer-{:05}","step{}":{},"items":[{{"sku":"sku-{:04}","count":{}}}],"note":""#,
            draw % 5000,
            (draw >> 13) % 100,
            (draw >> 20) % 50_000,
            draw % 7,
            draw % 1000,
            (draw >> 36) % 3000,
            1 + (draw >> 48) % 9,
        );
        let length = match kind {
            Kind::Large => 20_000 + draw as usize % (LARGE_BYTES - 20_000),
            _ => text.len() + 20 + (draw >> 52) as usize % 60,
        };
        let mut random = draw;
        while text.len() < length {
            random = mixed(random);
            for shift in (0..64).step_by(16) {
                text += WORDS[(random >> shift) as usize % WORDS.len()];
                text.push(' ');
            }
            // Large texts of few words would become next to nothing in a segment.
            write!(text, "{:x} ", random >> 40).expect("memory can be written");
        }
        text + "\"}"
    }

    /// An event's id says which it is.
    pub(crate) fn id(place: Place) -> Uuid {
        Uuid::from_u64_pair(place.writer as u64, number(place))
    }

    /// The event with an id; `None` if no writer ever gives such an id.
    pub(crate) fn place(&self, id: &str) -> Option<Place> {
        let (writer, number) = Uuid::try_parse(id).ok()?.as_u64_pair();
        let place = Place {
            writer: usize::try_from(writer).ok()?,
            batch: number >> PLACE_BITS,
            at: (number & ((1 << PLACE_BITS) - 1)) as usize,
        };
        let is_known =
            place.writer < self.writers && place.at < self.size(place.writer, place.batch);
        is_known.then_some(place)
    }

    fn draw(&self, writer: usize, batch: u64, at: usize, salt: u64) -> u64 {
        let who = (writer as u64) << 40 | (at as u64) << 8 | salt;
        mixed(mixed(self.seed ^ who).wrapping_add(batch))
    }
}

/// The types by frequency.
pub(crate) fn type_name(number: usize) -> String {
    format!(
        "{}.{}",
        GROUPS[number % GROUPS.len()],
        STEPS[number / GROUPS.len()]
    )
}

/// Types that [`type_name`] names.
pub(crate) const TYPES: usize = GROUPS.len() * STEPS.len();

/// What types start with.
pub(crate) fn type_prefix(number: usize) -> String {
    format!("{}.", GROUPS[number % GROUPS.len()])
}

/// The RFC 7396 merge of payloads as they are here: objects, without `null`, with no object in them.
pub(crate) fn merged<'a>(payloads: impl Iterator<Item = &'a str>) -> Option<Value> {
    let mut state = Map::new();
    for payload in payloads {
        state.extend(serde_json::from_str::<Map<String, Value>>(payload).ok()?);
    }
    Some(Value::Object(state))
}

fn number(place: Place) -> u64 {
    place.batch << PLACE_BITS | place.at as u64
}

/// The n-th of `count` about 1/n as often as the first.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "53 bits of a draw are enough"
)]
fn skewed(draw: u64, count: usize) -> usize {
    let unit = (draw >> 11) as f64 / (1_u64 << 53) as f64;
    let drawn = (count as f64 + 1.0).powf(unit) as usize;
    drawn.clamp(1, count) - 1
}

/// SplitMix64 (<https://prng.di.unimi.it/splitmix64.c>).
pub(crate) fn mixed(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
