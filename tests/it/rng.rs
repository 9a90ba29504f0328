//! Random numbers that a seed determines, and how many rounds of them a test runs.
//!
//! `ANNALS_TEST_SEED` repeats a run whose seed a failure printed, `ANNALS_TEST_ROUNDS` multiplies the rounds for a soak.

use std::{env, time};

/// SplitMix64 (<https://prng.di.unimi.it/splitmix64.c>).
#[derive(Debug, Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// Seeds for so many rounds, or as many times more as asked for; each is printed, and so told with a failure.
pub(crate) fn seeds(rounds: u64) -> impl Iterator<Item = u64> {
    let number = |name| env::var(name).ok()?.parse::<u64>().ok();
    let given = number("ANNALS_TEST_SEED");
    let first = given.unwrap_or_else(|| {
        let now = time::SystemTime::now().duration_since(time::UNIX_EPOCH);
        Rng::new(now.unwrap().as_nanos() as u64).next() >> 16
    });
    let rounds = match given {
        Some(_) => 1,
        None => rounds * number("ANNALS_TEST_ROUNDS").unwrap_or(1),
    };
    (first..first + rounds).inspect(|seed| println!("ANNALS_TEST_SEED={seed}"))
}
