//! The data of a segment, checked: bytes come out of whole blocks whose checksum was verified, or not at all.

use std::{
    collections::VecDeque,
    fmt,
    io::{self, Read},
    ops::Range,
    path::PathBuf,
    sync::Arc,
};

use bytes::Bytes;
use parking_lot::Mutex;
use parquet::{
    errors::{ParquetError, Result as ParquetResult},
    file::reader::{ChunkReader, Length},
};

use super::BLOCK_BYTES;
use crate::{
    storage::disk::DiskFile,
    types::read::{Damage, ReadError},
};

/// A reader goes through all columns side by side: a page of each, and some to spare.
const RECENT_BLOCKS: usize = 64;

/// The file of a segment up to its tail. Shared by all reads.
pub(super) struct Blocks {
    pub(super) file: SegmentFile,
    /// Where the data ends.
    pub(super) bytes: u64,
    /// One for each block.
    pub(super) crcs: Vec<u32>,
}

/// A file, and how to tell what is wrong with it.
pub(super) struct SegmentFile {
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) path: PathBuf,
}

impl SegmentFile {
    pub(super) fn damaged(&self, offset: u64, what: impl Into<String>) -> ReadError {
        ReadError::Damaged(Damage {
            path: self.path.clone(),
            offset,
            what: what.into(),
        })
    }

    /// Reads a part and verifies its checksum.
    pub(super) fn read(&self, offset: u64, bytes: usize, crc: u32) -> Result<Bytes, ReadError> {
        let mut part = vec![0; bytes];
        match self.file.read_exact_at(&mut part, offset) {
            Ok(()) if crc32c::crc32c(&part) == crc => Ok(part.into()),
            Ok(()) => Err(self.damaged(offset, "the checksum of what follows does not match")),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                Err(self.damaged(offset, "the file ends in what follows"))
            }
            Err(e) => Err(self.failed(offset, bytes, &e)),
        }
    }

    pub(super) fn failed(&self, offset: u64, bytes: usize, error: &io::Error) -> ReadError {
        ReadError::Io {
            path: self.path.clone(),
            range: offset..offset + bytes as u64,
            reason: error.to_string(),
        }
    }
}

impl Blocks {
    /// Reads bytes from the disk and verifies the checksums of the blocks that they are in.
    pub(super) fn check(&self, bytes: Range<u64>) -> Result<(), ReadError> {
        let block = BLOCK_BYTES as u64;
        for number in bytes.start / block..bytes.end.div_ceil(block) {
            self.read(number as usize)?;
        }
        Ok(())
    }

    fn read(&self, number: usize) -> Result<Bytes, ReadError> {
        let start = number as u64 * BLOCK_BYTES as u64;
        match self.crcs.get(number) {
            Some(&crc) if start < self.bytes => {
                let bytes = (self.bytes - start).min(BLOCK_BYTES as u64);
                self.file.read(start, bytes as usize, crc)
            }
            _ => Err(self.file.damaged(self.bytes, "there is no data any more")),
        }
    }
}

/// The data as one read, in one thread, sees it. Keeps the blocks that it touched last, since pages share them.
#[derive(Clone)]
pub(super) struct Chunks(Arc<Inner>);

struct Inner {
    blocks: Arc<Blocks>,
    /// Newest last.
    recent: Mutex<VecDeque<(usize, Bytes)>>,
    /// Why the read failed: the decoder keeps only the text of an error.
    failure: Mutex<Option<ReadError>>,
}

impl Chunks {
    pub(super) fn new(blocks: Arc<Blocks>) -> Self {
        Self(Arc::new(Inner {
            blocks,
            recent: Mutex::default(),
            failure: Mutex::default(),
        }))
    }

    /// Why decoding failed: what was wrong with the bytes, if anything was, or else what the decoder says of checked
    /// bytes from `offset` on.
    pub(super) fn failure(&self, offset: u64, decoder: &dyn fmt::Display) -> ReadError {
        self.take_failure().unwrap_or_else(|| {
            let what = format!("it cannot be decoded: {decoder}");
            self.0.blocks.file.damaged(offset, what)
        })
    }

    /// What was wrong with the bytes, if anything was.
    pub(super) fn take_failure(&self) -> Option<ReadError> {
        self.0.failure.lock().take()
    }

    /// What is left of the block that holds the byte at `offset`.
    fn rest_of_block(&self, offset: u64) -> Result<Bytes, ReadError> {
        let number = (offset / BLOCK_BYTES as u64) as usize;
        let mut recent = self.0.recent.lock();
        let known = recent.iter().position(|(known, _)| *known == number);
        let block = match known.and_then(|at| recent.remove(at)) {
            Some((_, block)) => block,
            None => self.0.blocks.read(number)?,
        };
        if recent.len() == RECENT_BLOCKS {
            recent.pop_front();
        }
        recent.push_back((number, block.clone()));
        let within = (offset % BLOCK_BYTES as u64) as usize;
        Ok(block.slice(within.min(block.len())..))
    }

    fn read(&self, offset: u64, bytes: usize) -> Result<Bytes, ReadError> {
        let blocks = &self.0.blocks;
        if offset > blocks.bytes || bytes as u64 > blocks.bytes - offset {
            let what = format!("a page of {bytes} bytes reaches beyond the data");
            return Err(blocks.file.damaged(offset, what));
        }
        if bytes == 0 {
            return Ok(Bytes::new());
        }
        let first = self.rest_of_block(offset)?;
        if bytes <= first.len() {
            return Ok(first.slice(..bytes));
        }
        let mut joined = Vec::with_capacity(bytes);
        joined.extend_from_slice(&first);
        while joined.len() < bytes {
            let next = self.rest_of_block(offset + joined.len() as u64)?;
            let taken = next.len().min(bytes - joined.len());
            joined.extend_from_slice(&next[..taken]);
        }
        Ok(joined.into())
    }
}

impl Length for Chunks {
    fn len(&self) -> u64 {
        self.0.blocks.bytes
    }
}

impl ChunkReader for Chunks {
    type T = ChunkRead;

    fn get_read(&self, start: u64) -> ParquetResult<ChunkRead> {
        Ok(ChunkRead {
            chunks: self.clone(),
            at: start,
        })
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        self.read(start, length).map_err(|e| {
            *self.0.failure.lock() = Some(e.clone());
            ParquetError::External(Box::new(e))
        })
    }
}

/// Reads on from a place.
pub(super) struct ChunkRead {
    chunks: Chunks,
    at: u64,
}

impl Read for ChunkRead {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let left = self.chunks.len().saturating_sub(self.at);
        let bytes = (out.len() as u64).min(left) as usize;
        let read = self.chunks.get_bytes(self.at, bytes)?;
        out[..bytes].copy_from_slice(&read);
        self.at += bytes as u64;
        Ok(bytes)
    }
}
