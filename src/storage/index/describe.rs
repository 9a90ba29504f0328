//! What a run says of itself: its summary, for when nobody kept it.

use std::{io, path::Path};

use sha2::{Digest, Sha256};

use super::{
    RunSummary,
    block::BLOCK_BYTES,
    layout::{Footer, Header},
    reader::{CHECKSUM, read},
};
use crate::{
    storage::disk::DiskFile,
    types::{
        hash::KeyHasher,
        id::LogId,
        read::{Damage, ReadError},
    },
};

/// Reads a whole file and checks every block of it; not what its name says.
pub(crate) fn describe(
    file: &dyn DiskFile,
    path: &Path,
    hasher: KeyHasher,
) -> Result<(LogId, RunSummary), ReadError> {
    let damaged = |offset, what: String| {
        ReadError::Damaged(Damage {
            path: path.to_owned(),
            offset,
            what,
        })
    };
    let failed = |e: io::Error| ReadError::Io {
        path: path.to_owned(),
        range: 0..0,
        reason: e.to_string(),
    };
    let bytes = file.bytes().map_err(failed)?;
    let blocks = bytes / BLOCK_BYTES as u64;
    if !bytes.is_multiple_of(BLOCK_BYTES as u64) || blocks < 2 {
        return Err(damaged(bytes, format!("no run has {bytes} bytes")));
    }
    let block = read(file, path, 0)?;
    let header = Header::decode(&block, hasher).map_err(|what| damaged(0, what))?;
    let mut sha256 = Sha256::new();
    let mut last = block;
    for number in 0..blocks {
        last = read(file, path, number)?;
        if !header.identity().owns(number, &last) {
            return Err(damaged(number * BLOCK_BYTES as u64, CHECKSUM.to_owned()));
        }
        sha256.update(last);
    }
    let footer_at = (blocks - 1) * BLOCK_BYTES as u64;
    let footer = Footer::decode(&last, header.first, blocks);
    let footer = footer.map_err(|what| damaged(footer_at, what))?;
    let summary = RunSummary {
        first: header.first,
        last: footer.last,
        bytes,
        sha256: sha256.finalize().into(),
    };
    Ok((header.log_id, summary))
}
