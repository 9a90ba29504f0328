//! Where the bytes of a new segment go: into its file, summed up on the way.

use std::{
    io::{self, Write},
    sync::Arc,
};

use sha2::{Digest, Sha256};

use super::{BLOCK_BYTES, SegmentSummary};
use crate::{storage::disk::DiskFile, types::id::Position};

/// Whole blocks, so that each is summed up at once, and few writes.
const BUFFER_BYTES: usize = 64 * BLOCK_BYTES;

/// See the module.
pub(super) struct Sink {
    file: Arc<dyn DiskFile>,
    /// Bytes of the file so far, without those in the buffer.
    written: u64,
    buffer: Vec<u8>,
    sha256: Sha256,
    block_crcs: Vec<u32>,
    tail: Option<Tail>,
}

struct Tail {
    at: u64,
    crc: u32,
}

/// The sums of a whole file.
pub(super) struct Sums {
    bytes: u64,
    sha256: [u8; 32],
    tail_at: u64,
    tail_crc: u32,
}

impl Sums {
    /// What is known of a file with the rows from `first` to `last`.
    pub(super) fn of_rows(self, first: Position, last: Position) -> SegmentSummary {
        SegmentSummary {
            first,
            last,
            bytes: self.bytes,
            sha256: self.sha256,
            tail_at: self.tail_at,
            tail_crc: self.tail_crc,
        }
    }
}

impl Sink {
    pub(super) fn new(file: Arc<dyn DiskFile>) -> Self {
        Self {
            file,
            written: 0,
            buffer: Vec::with_capacity(BUFFER_BYTES),
            sha256: Sha256::new(),
            block_crcs: Vec::new(),
            tail: None,
        }
    }

    /// Ends the data and returns the sums of its blocks, the last one short. What comes now is the tail.
    pub(super) fn end_data(&mut self) -> io::Result<Vec<u32>> {
        self.drain()?;
        self.tail = Some(Tail {
            at: self.written,
            crc: 0,
        });
        Ok(std::mem::take(&mut self.block_crcs))
    }

    /// Writes what is left and syncs the file. The data was ended before.
    pub(super) fn finish(&mut self) -> io::Result<Sums> {
        self.drain()?;
        self.file.sync_data()?;
        let tail = self.tail.as_ref().expect("the data was ended");
        Ok(Sums {
            bytes: self.written,
            sha256: self.sha256.finalize_reset().into(),
            tail_at: tail.at,
            tail_crc: tail.crc,
        })
    }

    fn drain(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.buffer, self.written)?;
        self.sha256.update(&self.buffer);
        if let Some(tail) = &mut self.tail {
            tail.crc = crc32c::crc32c_append(tail.crc, &self.buffer);
        } else {
            let blocks = self.buffer.chunks(BLOCK_BYTES);
            self.block_crcs.extend(blocks.map(crc32c::crc32c));
        }
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() == BUFFER_BYTES {
            self.drain()?;
        }
        let taken = bytes.len().min(BUFFER_BYTES - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    /// Does nothing: only whole blocks go out before the data ends.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
