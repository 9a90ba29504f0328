//! A run that is open: its footer in memory, everything else a block at a time through the cache.
//!
//! Used by many threads at once; nothing here is locked. The questions that a run answers stand beside the sections
//! that hold the answers: `rows`, `ids`, `names`, `postings`.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use sha2::{Digest, Sha256};

use super::{
    RunSummary,
    block::{BLOCK_BYTES, Block, Identity},
    cache::BlockCache,
    layout::{Footer, Header},
};
use crate::{
    storage::disk::DiskFile,
    types::{
        hash::KeyHasher,
        id::{LogId, Position},
        read::{Damage, ReadError},
    },
};

/// A position less the first of the run.
pub(super) type Row = u32;

/// See the module.
pub(crate) struct Run {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    identity: Identity,
    summary: RunSummary,
    footer: Footer,
    /// What its blocks are cached under.
    number: u64,
    cache: Arc<BlockCache>,
}

impl Run {
    /// Opens the run that the manifest describes, and reads its first and its last block. A file that is not it, or
    /// not all of it, is damaged.
    pub(crate) fn open(
        file: Arc<dyn DiskFile>,
        path: PathBuf,
        log_id: LogId,
        hasher: KeyHasher,
        summary: &RunSummary,
        cache: Arc<BlockCache>,
    ) -> Result<Self, ReadError> {
        let damaged = |offset, what: String| {
            ReadError::Damaged(Damage {
                path: path.clone(),
                offset,
                what,
            })
        };
        let bytes = file.bytes().map_err(|e| ReadError::Io {
            path: path.clone(),
            range: 0..summary.bytes,
            reason: e.to_string(),
        })?;
        let blocks = summary.bytes / BLOCK_BYTES as u64;
        if bytes != summary.bytes || !bytes.is_multiple_of(BLOCK_BYTES as u64) || blocks < 2 {
            let what = format!("it should have {} bytes, it has {bytes}", summary.bytes);
            return Err(damaged(bytes.min(summary.bytes), what));
        }

        let block = read(&*file, &path, 0)?;
        let header = Header::decode(&block, hasher).map_err(|what| damaged(0, what))?;
        if header.log_id != log_id {
            let what = format!("it belongs to log {}, not {log_id}", header.log_id);
            return Err(damaged(0, what));
        }
        let last = blocks - 1;
        let footer_at = last * BLOCK_BYTES as u64;
        let block = read(&*file, &path, last)?;
        if !header.identity().owns(last, &block) {
            return Err(damaged(footer_at, CHECKSUM.to_owned()));
        }
        let footer = Footer::decode(&block, header.first, blocks);
        let footer = footer.map_err(|what| damaged(footer_at, what))?;
        if (header.first, footer.last) != (summary.first, summary.last) {
            let what = format!(
                "it should hold positions {} to {}, it holds {} to {}",
                summary.first, summary.last, header.first, footer.last
            );
            return Err(damaged(footer_at, what));
        }
        Ok(Self {
            file,
            path,
            identity: header.identity(),
            summary: *summary,
            footer,
            number: cache.next_run(),
            cache,
        })
    }

    /// The first position.
    pub(crate) fn first(&self) -> Position {
        self.summary.first
    }

    /// The last position.
    pub(crate) fn last(&self) -> Position {
        self.summary.last
    }

    /// What the manifest keeps of it.
    pub(crate) fn summary(&self) -> &RunSummary {
        &self.summary
    }

    /// Length of the file.
    pub(crate) fn bytes(&self) -> u64 {
        self.summary.bytes
    }

    /// Number of positions.
    pub(super) fn rows(&self) -> u64 {
        self.last() - self.first() + 1
    }

    pub(super) fn row(&self, position: Position) -> Option<Row> {
        let inside = (self.first()..=self.last()).contains(&position);
        inside.then(|| (position - self.first()) as Row)
    }

    pub(super) fn footer(&self) -> &Footer {
        &self.footer
    }

    /// A block, checked.
    pub(super) fn block(&self, number: u64) -> Result<Arc<Block>, ReadError> {
        if number >= self.bytes() / BLOCK_BYTES as u64 {
            return Err(self.damaged(number, "a reference leads behind its end"));
        }
        self.cache.get(self.number, number, || {
            let block = read(&*self.file, &self.path, number)?;
            if self.identity.owns(number, &block) {
                Ok(block)
            } else {
                Err(self.damaged(number, CHECKSUM))
            }
        })
    }

    pub(super) fn damaged(&self, number: u64, what: &str) -> ReadError {
        ReadError::Damaged(Damage {
            path: self.path.clone(),
            offset: number.saturating_mul(BLOCK_BYTES as u64),
            what: what.to_owned(),
        })
    }

    /// Reads the whole file past the cache, and checks every block and the checksum of all of it.
    pub(crate) fn verify(&self) -> Result<(), ReadError> {
        let mut sha256 = Sha256::new();
        for number in 0..self.bytes() / BLOCK_BYTES as u64 {
            let block = read(&*self.file, &self.path, number)?;
            if !self.identity.owns(number, &block) {
                return Err(self.damaged(number, CHECKSUM));
            }
            sha256.update(block);
        }
        if sha256.finalize() != self.summary.sha256 {
            return Err(self.damaged(0, "it is another run than the one that was made"));
        }
        Ok(())
    }
}

pub(super) const CHECKSUM: &str = "the checksum of a block does not match";

pub(super) fn read(file: &dyn DiskFile, path: &Path, number: u64) -> Result<Block, ReadError> {
    let offset = number * BLOCK_BYTES as u64;
    let mut block = [0; BLOCK_BYTES];
    match file.read_exact_at(&mut block, offset) {
        Ok(()) => Ok(block),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Err(ReadError::Damaged(Damage {
            path: path.to_owned(),
            offset,
            what: "it ends too early".to_owned(),
        })),
        Err(e) => Err(ReadError::Io {
            path: path.to_owned(),
            range: offset..offset + BLOCK_BYTES as u64,
            reason: e.to_string(),
        }),
    }
}
