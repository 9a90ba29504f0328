//! Hashes of names and event ids: where the in-memory index looks first. A hit is always confirmed by the full key.

use xxhash_rust::xxh3::xxh3_64;

/// How keys are hashed. Fewer bits than 64 make collisions frequent, to show that no answer depends on them.
#[derive(Debug, Clone, Copy)]
pub struct KeyHasher {
    mask: u64,
}

impl KeyHasher {
    /// Keeps only so many low bits of each hash, 1 to 64.
    pub fn with_bits(bits: u32) -> Self {
        assert!((1..=64).contains(&bits), "a hash has 1 to 64 bits");
        Self {
            mask: u64::MAX >> (64 - bits),
        }
    }

    /// The hash of a key.
    pub fn hash(self, key: &[u8]) -> u64 {
        xxh3_64(key) & self.mask
    }
}

impl Default for KeyHasher {
    fn default() -> Self {
        Self::with_bits(64)
    }
}
