//! Slots and partitions: how readers share a log. Derived from the entity's name, never stored.

use xxhash_rust::xxh3::xxh3_64;

/// Slots of a log, fixed for ever.
pub const SLOTS: usize = 1024;

/// The slot of an entity: the top 10 bits of `xxh3_64(entity_id)` with seed 0.
pub fn slot(entity_id: &[u8]) -> usize {
    (xxh3_64(entity_id) >> 54) as usize
}

/// How many partitions the slots are divided into: a power of two up to [`SLOTS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partitions(u32);

impl Partitions {
    /// `None` unless `count` is a power of two from 1 to 1,024.
    pub fn new(count: u32) -> Option<Self> {
        (count.is_power_of_two() && count as usize <= SLOTS).then_some(Self(count))
    }

    /// The number of partitions.
    pub fn count(self) -> u32 {
        self.0
    }

    /// The partition that a slot belongs to: equal ranges of slots, in order.
    pub fn of_slot(self, slot: usize) -> u32 {
        debug_assert!(slot < SLOTS);
        (slot * self.0 as usize / SLOTS) as u32
    }
}

impl Default for Partitions {
    fn default() -> Self {
        Self(32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_equal_ranges_of_slots() {
        for count in (0..=10).map(|p| 1 << p) {
            let partitions = Partitions::new(count).unwrap();
            let mut sizes = vec![0; count as usize];
            for slot in 0..SLOTS {
                sizes[partitions.of_slot(slot) as usize] += 1;
            }
            assert!(sizes.iter().all(|&s| s == SLOTS / count as usize));
        }
        assert_eq!(Partitions::new(0), None);
        assert_eq!(Partitions::new(3), None);
        assert_eq!(Partitions::new(2048), None);
    }
}
