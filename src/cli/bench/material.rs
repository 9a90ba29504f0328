//! What the load is made of, made before the clock starts: payloads, entity names, and the order of entities.
//!
//! All of it lives as long as the program, so that events share it without counting references.

use bytes::Bytes;

use crate::types::{append::Batch, event::NewEvent, text::Text};

/// Payloads repeat only after so many bytes, more than the window of any compressor in use.
const POOL_BYTES: usize = 8 << 20;
const ENTITY_DRAWS: usize = 1 << 18;
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// `{"v":""}`
pub(super) const PAYLOAD_BYTES_MIN: usize = 8;

/// How often each entity is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spread {
    /// The n-th entity 1/n as often as the first.
    Zipf,
    /// All alike.
    Uniform,
}

/// Everything that the load is made of.
#[derive(Debug)]
pub(super) struct Material {
    payloads: Vec<Text>,
    entities: Vec<Text>,
    draws: Vec<u32>,
    event_type: Text,
}

impl Material {
    /// Names are `prefix` and a number.
    pub(super) fn new(
        prefix: &str,
        entities: u32,
        spread: Spread,
        payload_bytes: usize,
    ) -> &'static Self {
        let mut random = Random(0x5eed);
        Box::leak(Box::new(Self {
            payloads: payloads(payload_bytes, &mut random),
            entities: (0..entities)
                .map(|n| eternal(format!("{prefix}{n:07}").into_bytes()))
                .collect(),
            draws: draws(entities, spread, &mut random),
            event_type: Text::from(Bytes::from_static(b"bench.happened")),
        }))
    }

    /// The entities, most frequent first.
    pub(super) fn entities(&self) -> &[Text] {
        &self.entities
    }

    /// Where writer number `writer` of `writers` takes its events from.
    pub(super) fn feed(&'static self, writer: usize, writers: usize) -> Feed {
        let share = |len: usize| len / writers.max(1) * writer % len;
        Feed {
            material: self,
            draw: share(self.draws.len()),
            payload: share(self.payloads.len()),
        }
    }
}

/// One writer's events, without end.
#[derive(Debug)]
pub(super) struct Feed {
    material: &'static Material,
    draw: usize,
    payload: usize,
}

impl Feed {
    /// The next entity by the spread.
    pub(super) fn entity(&mut self) -> &'static Text {
        let draws = &self.material.draws;
        self.draw = (self.draw + 1) % draws.len();
        &self.material.entities[draws[self.draw] as usize]
    }

    fn payload(&mut self) -> Text {
        let payloads = &self.material.payloads;
        self.payload = (self.payload + 1) % payloads.len();
        payloads[self.payload].clone()
    }

    /// The next event.
    pub(super) fn event(&mut self) -> NewEvent {
        let entity = self.entity().clone();
        self.event_of(entity)
    }

    /// The next event, of this entity.
    pub(super) fn event_of(&mut self, entity_id: Text) -> NewEvent {
        NewEvent {
            entity_id,
            event_type: self.material.event_type.clone(),
            payload: self.payload(),
            ..NewEvent::default()
        }
    }

    /// Puts the next events into a batch, in place of those that are in it.
    pub(super) fn fill(&mut self, batch: &mut Batch, events: usize) {
        batch.events.clear();
        batch.events.extend((0..events).map(|_| self.event()));
    }
}

fn eternal(bytes: Vec<u8>) -> Text {
    Text::from(Bytes::from_static(bytes.leak()))
}

/// Valid JSON that does not compress below 6 bits a character.
fn payloads(bytes: usize, random: &mut Random) -> Vec<Text> {
    let bytes = bytes.max(PAYLOAD_BYTES_MIN);
    let count = (POOL_BYTES / bytes).clamp(16, 1 << 16);
    let mut pool = Vec::with_capacity(count * bytes);
    for _ in 0..count {
        pool.extend_from_slice(br#"{"v":""#);
        pool.extend((0..bytes - PAYLOAD_BYTES_MIN).map(|_| BASE62[random.below(62) as usize]));
        pool.extend_from_slice(br#""}"#);
    }
    let pool: &'static [u8] = pool.leak();
    pool.chunks_exact(bytes)
        .map(|payload| Bytes::from_static(payload).into())
        .collect()
}

fn draws(entities: u32, spread: Spread, random: &mut Random) -> Vec<u32> {
    let entities = entities.max(1);
    match spread {
        Spread::Uniform => (0..ENTITY_DRAWS).map(|_| random.below(entities)).collect(),
        Spread::Zipf => {
            let mut sum = 0.0;
            let cumulative: Vec<f64> = (1..=entities)
                .map(|n| {
                    sum += 1.0 / f64::from(n);
                    sum
                })
                .collect();
            let draw = |random: &mut Random| {
                let at = random.fraction() * sum;
                let entity = cumulative.partition_point(|&until| until <= at);
                u32::try_from(entity).unwrap_or(u32::MAX).min(entities - 1)
            };
            (0..ENTITY_DRAWS).map(|_| draw(random)).collect()
        }
    }
}

/// SplitMix64 (<https://prng.di.unimi.it/splitmix64.c>): fast, and the same load every time.
#[derive(Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn high(&mut self) -> u32 {
        u32::try_from(self.next() >> 32).expect("32 bits")
    }

    fn below(&mut self, bound: u32) -> u32 {
        let scaled = u64::from(self.high()) * u64::from(bound);
        u32::try_from(scaled >> 32).expect("below `bound`")
    }

    /// In 0..1.
    fn fraction(&mut self) -> f64 {
        f64::from(self.high()) / f64::from(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_json_of_the_size_asked_for() {
        for bytes in [8, 9, 200, 4096] {
            let material = Material::new("e-", 10, Spread::Zipf, bytes);
            for payload in material.payloads.iter().take(100) {
                assert_eq!(payload.as_bytes().len(), bytes);
                serde_json::from_slice::<serde_json::Value>(payload.as_bytes()).unwrap();
            }
        }
    }

    fn times_drawn(draws: &[u32], entity: u32) -> f64 {
        let times = draws.iter().filter(|&&draw| draw == entity).count();
        u32::try_from(times).unwrap().into()
    }

    #[test]
    fn zipf_draws_the_first_entity_twice_as_often_as_the_second() {
        let draws = draws(1000, Spread::Zipf, &mut Random(1));
        assert!(draws.iter().all(|&draw| draw < 1000));
        for (n, entity) in [(2.0, 1), (3.0, 2), (10.0, 9)] {
            let ratio = times_drawn(&draws, 0) / times_drawn(&draws, entity);
            assert!((ratio / n - 1.0).abs() < 0.1, "entity {entity}: {ratio}");
        }
    }

    #[test]
    fn uniform_draws_all_alike() {
        let draws = draws(8, Spread::Uniform, &mut Random(1));
        let expected = f64::from(1 << 15);
        for entity in 0..8 {
            let ratio = times_drawn(&draws, entity) / expected;
            assert!((ratio - 1.0).abs() < 0.05, "entity {entity}: {ratio}");
        }
    }

    #[test]
    fn writers_start_at_different_places() {
        let material = Material::new("e-", 1000, Spread::Uniform, 50);
        let (mut a, mut b) = (material.feed(0, 2), material.feed(1, 2));
        assert_ne!(a.event().payload, b.event().payload);
    }
}
