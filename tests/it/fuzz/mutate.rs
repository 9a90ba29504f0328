//! Changes inputs: bits, bytes, lengths, ends, parts of others. Then makes checksums valid, more often than not.

use super::{
    super::concurrency::Numbers,
    checks::{frame_crc, header_crc, row_crc, u32_at},
    input::{Input, Kind},
};

/// Where numbers stand that lengths depend on, and how many bytes they have.
const FRAME_NUMBERS: &[(usize, usize)] = &[
    (4, 4),
    (16, 1),
    (17, 1),
    (18, 2),
    (20, 4),
    (48, 4),
    (52, 4),
    (56, 4),
    (60, 4),
];
const ROW_NUMBERS: &[(usize, usize)] = &[
    (0, 4),
    (32, 8),
    (40, 4),
    (44, 4),
    (48, 2),
    (50, 2),
    (52, 2),
    (54, 2),
];
const HEADER_NUMBERS: &[(usize, usize)] = &[
    (8, 4),
    (12, 4),
    (16, 4),
    (40, 8),
    (48, 8),
    (56, 8),
    (64, 8),
    (72, 4),
];

/// See the module.
pub(super) struct Mutator<'a> {
    seeds: &'a [Input],
    numbers: Numbers,
}

impl<'a> Mutator<'a> {
    pub(super) fn new(seeds: &'a [Input], seed: u64) -> Self {
        Self {
            seeds,
            numbers: Numbers(seed | 1),
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.numbers.below(bound.max(1) as u64)).unwrap()
    }

    pub(super) fn next(&mut self) -> Input {
        let seed = self.below(self.seeds.len());
        let mut input = self.seeds[seed].clone();
        for _ in 0..=self.below(3) {
            self.change(&mut input);
        }
        if self.below(3) > 0 {
            self.make_valid(&mut input);
        }
        input
    }

    fn change(&mut self, input: &mut Input) {
        let len = input.bytes.len();
        let at = self.below(len);
        match self.below(8) {
            _ if len == 0 => input.bytes.push(7),
            0 => input.bytes[at] ^= 1 << self.below(8),
            1 => input.bytes[at] = [0, 1, 0x7f, 0x80, 0xff][self.below(5)],
            2 => input.bytes.truncate(at),
            3 => {
                let more = self.below(40);
                input.bytes.extend((0..more).map(|n| n.to_le_bytes()[0]));
            }
            4 => {
                let other = self.below(self.seeds.len());
                let other = &self.seeds[other].bytes;
                let from = self.below(other.len());
                let count = self.below(other.len() - from).min(64);
                let end = len.min(at + count);
                input
                    .bytes
                    .splice(at..end, other[from..from + count].iter().copied());
            }
            _ => self.change_number(input),
        }
    }

    /// Sets a number to one that is near what it was, near the end, or extreme.
    fn change_number(&mut self, input: &mut Input) {
        let numbers = match input.kind {
            Kind::Frame => FRAME_NUMBERS,
            Kind::Row => ROW_NUMBERS,
            Kind::Header => HEADER_NUMBERS,
        };
        let (at, width) = numbers[self.below(numbers.len())];
        let Some(place) = input.bytes.get(at..at + width) else {
            return;
        };
        let mut old = [0; 8];
        old[..width].copy_from_slice(place);
        let old = u64::from_le_bytes(old);
        let new = match self.below(6) {
            0 => old.wrapping_add(1),
            1 => old.wrapping_sub(1),
            2 => old ^ (1 << self.below(8 * width)),
            3 => u64::MAX,
            4 => input.bytes.len() as u64,
            _ => self.numbers.below(input.bytes.len() as u64 + 2),
        };
        input.bytes[at..at + width].copy_from_slice(&new.to_le_bytes()[..width]);
    }

    fn make_valid(&mut self, input: &mut Input) {
        let bytes = &mut input.bytes;
        match input.kind {
            Kind::Frame if bytes.len() >= 64 => {
                if self.numbers.below(2) == 0 {
                    bytes.resize(bytes.len().next_multiple_of(8), 0);
                    let length = u32::try_from(bytes.len()).unwrap();
                    bytes[4..8].copy_from_slice(&length.to_le_bytes());
                }
                let length = u32_at(bytes, 4) as usize;
                if (64..=bytes.len()).contains(&length) {
                    let crc = frame_crc(&bytes[..length], input.salt);
                    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
                }
            }
            Kind::Row if bytes.len() >= 56 => {
                if self.numbers.below(2) == 0 {
                    let length = u32::try_from(bytes.len()).unwrap();
                    bytes[..4].copy_from_slice(&length.to_le_bytes());
                }
                let length = u32_at(bytes, 0) as usize;
                if (56..=bytes.len()).contains(&length) {
                    let crc = row_crc(&bytes[..length], input.salt);
                    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
                }
            }
            Kind::Header if bytes.len() >= 24 => {
                let crc = header_crc(bytes);
                bytes[20..24].copy_from_slice(&crc.to_le_bytes());
            }
            Kind::Frame | Kind::Row | Kind::Header => {}
        }
    }
}
