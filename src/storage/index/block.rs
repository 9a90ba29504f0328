//! The block, the one unit in which a run is written, checked and cached.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4,092 | content, as its section defines it; zeros behind |
//! | 4,092 | 4 | CRC-32C of the run's log id and salt, the block's number (8) and the content |
//!
//! A block that stands in the wrong place or comes from another file has a wrong checksum, whatever it holds.

use std::{io, sync::Arc};

use sha2::{Digest, Sha256};

use crate::{
    storage::{
        bytes::{get_u32, put_u32},
        disk::DiskFile,
    },
    types::id::LogId,
};

/// Bytes of a block.
pub(super) const BLOCK_BYTES: usize = 4096;
/// Bytes of a block that its section fills.
pub(super) const CONTENT_BYTES: usize = BLOCK_BYTES - 4;
/// Blocks that are written with one call.
const BLOCKS_AT_ONCE: usize = 256;

pub(super) type Block = [u8; BLOCK_BYTES];

/// What the checksum of every block of one run begins with.
#[derive(Clone, Copy)]
pub(super) struct Identity(u32);

impl Identity {
    pub(super) fn new(log_id: LogId, salt: u64) -> Self {
        let log = crc32c::crc32c(log_id.as_bytes());
        Self(crc32c::crc32c_append(log, &salt.to_le_bytes()))
    }

    fn crc(self, number: u64, block: &Block) -> u32 {
        let place = crc32c::crc32c_append(self.0, &number.to_le_bytes());
        crc32c::crc32c_append(place, &block[..CONTENT_BYTES])
    }

    /// Puts the checksum behind the content.
    pub(super) fn seal(self, number: u64, block: &mut Block) {
        let crc = self.crc(number, block);
        put_u32(block, CONTENT_BYTES, crc);
    }

    /// Whether the block is the run's, has this number, and is what was written.
    pub(super) fn owns(self, number: u64, block: &Block) -> bool {
        self.crc(number, block) == get_u32(block, CONTENT_BYTES)
    }
}

/// Appends blocks to a new file.
pub(super) struct BlockWriter {
    file: Arc<dyn DiskFile>,
    identity: Identity,
    /// Blocks that are not written yet.
    buffer: Vec<u8>,
    written_bytes: u64,
    next: u64,
    sha256: Sha256,
}

impl BlockWriter {
    pub(super) fn new(file: Arc<dyn DiskFile>, identity: Identity) -> Self {
        Self {
            file,
            identity,
            buffer: Vec::with_capacity(BLOCKS_AT_ONCE * BLOCK_BYTES),
            written_bytes: 0,
            next: 0,
            sha256: Sha256::new(),
        }
    }

    /// Appends a block of so much content; returns its number.
    pub(super) fn append(&mut self, content: &[u8]) -> io::Result<u64> {
        assert!(content.len() <= CONTENT_BYTES, "it fits into a block");
        let mut block = [0; BLOCK_BYTES];
        block[..content.len()].copy_from_slice(content);
        self.identity.seal(self.next, &mut block);
        self.buffer.extend_from_slice(&block);
        if self.buffer.len() == BLOCKS_AT_ONCE * BLOCK_BYTES {
            self.write()?;
        }
        self.next += 1;
        Ok(self.next - 1)
    }

    /// The number that the next block gets.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    fn write(&mut self) -> io::Result<()> {
        self.sha256.update(&self.buffer);
        self.file.write_all_at(&self.buffer, self.written_bytes)?;
        self.written_bytes += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Writes what is left and syncs; returns bytes and SHA-256 of the file.
    pub(super) fn finish(mut self) -> io::Result<(u64, [u8; 32])> {
        self.write()?;
        self.file.sync_data()?;
        Ok((self.written_bytes, self.sha256.finalize().into()))
    }
}
