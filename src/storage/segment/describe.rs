//! What a file says of itself: its summary, for when nobody kept it. A tail that was damaged is noticed only where it
//! does not fit the data.

use std::{path::Path, sync::Arc};

use parquet::{
    errors::ParquetError,
    file::metadata::{ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData},
};
use sha2::{Digest, Sha256};

use super::{SegmentSummary, blocks::SegmentFile, schema::FooterFacts};
use crate::{
    storage::disk::DiskFile,
    types::{id::LogId, read::ReadError},
};

/// Behind the footer: its length, and what the file ends with.
const END_BYTES: u64 = 8;
const END_MAGIC: &[u8] = b"PAR1";
const READ_BYTES: usize = 1 << 20;

/// Reads a whole file; neither its data nor what its name says is checked.
pub(crate) fn describe(
    file: &Arc<dyn DiskFile>,
    path: &Path,
) -> Result<(LogId, SegmentSummary), ReadError> {
    let file = SegmentFile {
        file: Arc::clone(file),
        path: path.to_owned(),
    };
    let failed = |e: std::io::Error| file.failed(0, 0, &e);
    let bytes = file.file.bytes().map_err(failed)?;
    let (footer_at, metadata) = footer(&file, bytes)?;
    let entries = metadata.file_metadata().key_value_metadata();
    let facts = FooterFacts::decode(entries.map_or(&[], Vec::as_slice))
        .map_err(|what| file.damaged(footer_at, what))?;
    let tail_at = indexes_at(&metadata)
        .filter(|at| *at <= footer_at)
        .ok_or_else(|| file.damaged(footer_at, "its footer has no page index"))?;

    let (mut sha256, mut tail_crc) = (Sha256::new(), 0);
    let mut buffer = vec![0; READ_BYTES];
    let mut at = 0;
    while at < bytes {
        let wanted = (bytes - at).min(READ_BYTES as u64) as usize;
        let part = &mut buffer[..wanted];
        file.file.read_exact_at(part, at).map_err(failed)?;
        sha256.update(&*part);
        let in_tail = tail_at.saturating_sub(at).min(wanted as u64) as usize;
        tail_crc = crc32c::crc32c_append(tail_crc, &part[in_tail..]);
        at += wanted as u64;
    }
    let summary = SegmentSummary {
        first: facts.first,
        last: facts.last,
        bytes,
        sha256: sha256.finalize().into(),
        tail_at,
        tail_crc,
    };
    Ok((facts.log_id, summary))
}

/// Where the footer starts, and what it says.
fn footer(file: &SegmentFile, bytes: u64) -> Result<(u64, ParquetMetaData), ReadError> {
    let no_end = || file.damaged(bytes, "it does not end like a segment");
    let failed = |e: std::io::Error| file.failed(0, 0, &e);
    let end_at = bytes.checked_sub(END_BYTES).ok_or_else(no_end)?;
    let mut end = [0; END_BYTES as usize];
    file.file.read_exact_at(&mut end, end_at).map_err(failed)?;
    let (length, magic) = end.split_at(4);
    if magic != END_MAGIC {
        return Err(no_end());
    }
    let length = crate::storage::bytes::get_u32(length, 0);
    let footer_at = end_at.checked_sub(length.into()).ok_or_else(no_end)?;
    let mut footer = vec![0; length as usize];
    file.file
        .read_exact_at(&mut footer, footer_at)
        .map_err(failed)?;
    let undecodable = |e: ParquetError| {
        let what = format!("its footer cannot be decoded: {e}");
        file.damaged(footer_at, what)
    };
    let metadata = ParquetMetaDataReader::decode_metadata(&footer).map_err(undecodable)?;
    Ok((footer_at, metadata))
}

/// Where the page index starts, and with it the tail.
fn indexes_at(metadata: &ParquetMetaData) -> Option<u64> {
    let groups = metadata.row_groups().iter();
    let columns = groups.flat_map(RowGroupMetaData::columns);
    let indexes = columns.flat_map(|column| {
        let (columns, offsets) = (column.column_index_offset(), column.offset_index_offset());
        [columns, offsets]
    });
    indexes
        .flatten()
        .min()
        .and_then(|at| u64::try_from(at).ok())
}
