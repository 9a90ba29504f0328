//! One file of the simulated disk: what is durable, what is only cached, and what a crash makes of it.

use std::{collections::BTreeMap, path::PathBuf};

use crate::rng::Rng;

/// The unit that is written as a whole or not at all.
pub(crate) const SECTOR_BYTES: usize = 512;

type Sector = Vec<u8>;

#[derive(Debug, Clone, Default)]
pub(crate) struct Inode {
    /// The name it was last given.
    pub(crate) path: PathBuf,
    pub(crate) durable: Vec<u8>,
    /// What readers see.
    pub(crate) cached: Vec<u8>,
    /// Everything that was written to a sector since the last sync: the disk may hold any of it.
    dirty: BTreeMap<usize, Vec<Sector>>,
    pub(crate) sync_failed: bool,
}

impl Inode {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            ..Self::default()
        }
    }

    pub(crate) fn with_content(path: PathBuf, bytes: Vec<u8>) -> Self {
        Self {
            path,
            durable: bytes.clone(),
            cached: bytes,
            ..Self::default()
        }
    }

    pub(crate) fn empty(&mut self) {
        let sectors = self.cached.len().div_ceil(SECTOR_BYTES);
        self.cached.clear();
        for sector in 0..sectors {
            self.note(sector);
        }
        self.sync_failed = false;
    }

    pub(crate) fn read(&self, buf: &mut [u8], offset: usize) -> usize {
        let rest = self.cached.get(offset..).unwrap_or_default();
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        len
    }

    pub(crate) fn write(&mut self, buf: &[u8], offset: usize) {
        if buf.is_empty() {
            return;
        }
        let end = offset + buf.len();
        if self.cached.len() < end {
            self.cached.resize(end, 0);
        }
        self.cached[offset..end].copy_from_slice(buf);
        for sector in offset / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES) {
            self.note(sector);
        }
    }

    /// Remembers what a sector holds now.
    fn note(&mut self, sector: usize) {
        let start = (sector * SECTOR_BYTES).min(self.cached.len());
        let end = (start + SECTOR_BYTES).min(self.cached.len());
        let mut now = self.cached[start..end].to_vec();
        now.resize(SECTOR_BYTES, 0);
        self.dirty.entry(sector).or_default().push(now);
    }

    pub(crate) fn sync(&mut self) {
        self.durable.clone_from(&self.cached);
        self.dirty.clear();
    }

    /// The pages that should have been written count as clean; some were written, and readers see the old or the new.
    pub(crate) fn fail_sync(&mut self, rng: &mut Rng) {
        self.durable = self.image(rng);
        if rng.chance(50) {
            self.cached.clone_from(&self.durable);
        }
        self.dirty.clear();
        self.sync_failed = true;
    }

    /// What may be found after a power loss: of each sector anything that was written since the last sync, in any order.
    pub(crate) fn image(&self, rng: &mut Rng) -> Vec<u8> {
        let style = rng.below(4);
        if style == 0 || self.dirty.is_empty() {
            return self.durable.clone();
        }
        if style == 1 {
            return self.cached.clone();
        }
        let (short, long) = {
            let (a, b) = (self.durable.len(), self.cached.len());
            (a.min(b), a.max(b))
        };
        let len = match rng.below(3) {
            0 => short,
            1 => long,
            _ => short + rng.below(long - short + 1),
        };
        let mut image = self.durable.clone();
        image.resize(len, 0);
        for (sector, written) in &self.dirty {
            let start = sector * SECTOR_BYTES;
            if start < len && rng.chance(50) {
                let end = len.min(start + SECTOR_BYTES);
                image[start..end].copy_from_slice(&rng.pick(written)[..end - start]);
            }
        }
        image
    }
}
