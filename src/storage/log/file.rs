//! The header block of a log file, and its name.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic `ANNALSLG` |
//! | 8 | 4 | format version, 1 |
//! | 12 | 4 | compatible features: bit 0, the file was recycled; unknown bits are ignored |
//! | 16 | 4 | incompatible features: unknown bits refuse to open |
//! | 20 | 4 | CRC-32C of all other bytes of the block |
//! | 24 | 16 | log id |
//! | 40 | 8 | salt, random: what was in the file before can never be taken for its frames |
//! | 48 | 8 | first position |
//! | 56 | 8 | log offset of the first frame |
//! | 64 | 8 | bytes of the file when it was made: a shorter one was cut |
//! | 72 | 4 | CRC of the last frame of the file before; 0 in the first |
//! | 76 | | zeros up to 4,096 |
//!
//! The header has a block of its own, so that writing frames never rewrites it. A file is written with zeros and synced
//! before its header is, or was a log file before, whose name is durably gone; its header is synced before the file gets
//! its name.

use std::path::{Path, PathBuf};

use crate::{
    storage::bytes::{get_u32, get_u64, put_u32, put_u64},
    types::id::{LogId, Position},
};

/// Bytes of the header block; frames start here.
pub const HEADER_BYTES: usize = 4096;
const MAGIC: &[u8; 8] = b"ANNALSLG";
const VERSION: u32 = 1;
const VERSION_AT: usize = 8;
const COMPATIBLE_AT: usize = 12;
const INCOMPATIBLE_AT: usize = 16;
const CRC_AT: usize = 20;
const LOG_ID_AT: usize = 24;
const SALT_AT: usize = LOG_ID_AT + 16;
const FIRST_POSITION_AT: usize = SALT_AT + 8;
const BASE_OFFSET_AT: usize = FIRST_POSITION_AT + 8;
const FILE_BYTES_AT: usize = BASE_OFFSET_AT + 8;
const PREVIOUS_CRC_AT: usize = FILE_BYTES_AT + 8;
/// Compatible feature.
const RECYCLED: u32 = 1;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileHeader {
    /// Which log the file belongs to.
    pub log_id: LogId,
    /// Mixed into the checksum of every frame.
    pub salt: u64,
    /// The position of the first event that the file can hold.
    pub first_position: Position,
    /// The log offset of its first frame.
    pub base_offset: u64,
    /// The length that it was given when it was made.
    pub file_bytes: u64,
    /// The checksum of the frame before its first one.
    pub previous_crc: u32,
    /// Behind its frames may stand what it held before it was used again; else there were zeros.
    pub recycled: bool,
}

impl FileHeader {
    /// The block.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut block = [0; HEADER_BYTES];
        block[..MAGIC.len()].copy_from_slice(MAGIC);
        put_u32(&mut block, VERSION_AT, VERSION);
        let compatible = if self.recycled { RECYCLED } else { 0 };
        put_u32(&mut block, COMPATIBLE_AT, compatible);
        block[LOG_ID_AT..SALT_AT].copy_from_slice(self.log_id.as_bytes());
        put_u64(&mut block, SALT_AT, self.salt);
        put_u64(&mut block, FIRST_POSITION_AT, self.first_position);
        put_u64(&mut block, BASE_OFFSET_AT, self.base_offset);
        put_u64(&mut block, FILE_BYTES_AT, self.file_bytes);
        put_u32(&mut block, PREVIOUS_CRC_AT, self.previous_crc);
        let sum = crc(&block);
        put_u32(&mut block, CRC_AT, sum);
        block
    }

    /// Checks and reads a block.
    pub fn decode(block: &[u8]) -> Result<Self, InvalidHeader> {
        if block.len() != HEADER_BYTES || !block.starts_with(MAGIC) {
            return Err(InvalidHeader::Magic);
        }
        if crc(block) != get_u32(block, CRC_AT) {
            return Err(InvalidHeader::Checksum);
        }
        let (version, incompatible) = (get_u32(block, VERSION_AT), get_u32(block, INCOMPATIBLE_AT));
        if version != VERSION || incompatible != 0 {
            return Err(InvalidHeader::TooNew {
                version,
                incompatible,
            });
        }
        let mut log_id = [0; 16];
        log_id.copy_from_slice(&block[LOG_ID_AT..SALT_AT]);
        Ok(Self {
            log_id: LogId::from_bytes(log_id),
            salt: get_u64(block, SALT_AT),
            first_position: get_u64(block, FIRST_POSITION_AT),
            base_offset: get_u64(block, BASE_OFFSET_AT),
            file_bytes: get_u64(block, FILE_BYTES_AT),
            previous_crc: get_u32(block, PREVIOUS_CRC_AT),
            recycled: get_u32(block, COMPATIBLE_AT) & RECYCLED != 0,
        })
    }
}

fn crc(block: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&block[..CRC_AT]), &block[CRC_AT + 4..])
}

/// The block is no header of a log file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHeader {
    /// It is something else.
    #[error("it does not start like a log file")]
    Magic,
    /// It was one.
    #[error("the checksum of its header does not match")]
    Checksum,
    /// A newer version of the store wrote it.
    #[error(
        "it has format version {version}, features {incompatible:#x}: this version knows neither"
    )]
    TooNew {
        /// The format version it states.
        version: u32,
        /// The incompatible features it states.
        incompatible: u32,
    },
}

/// `<first position>-<log offset>.log`, in 20 digits each so that names sort like the log. The offset tells files apart
/// between which no event was written.
pub(crate) fn path(dir: &Path, header: &FileHeader) -> PathBuf {
    dir.join(format!(
        "{:020}-{:020}.log",
        header.first_position, header.base_offset
    ))
}

/// The log offset that a file name states; `None` for names of other things.
pub(crate) fn base_offset_of(name: &str) -> Option<u64> {
    let (position, offset) = name.strip_suffix(".log")?.split_once('-')?;
    let number = |digits: &str| (digits.len() == 20).then(|| digits.parse::<u64>().ok())?;
    number(position).and(number(offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> FileHeader {
        FileHeader {
            log_id: LogId::from_bytes([7; 16]),
            salt: 0x0123_4567_89ab_cdef,
            first_position: 42,
            base_offset: 4711,
            file_bytes: 1 << 20,
            previous_crc: 17,
            recycled: true,
        }
    }

    #[test]
    fn headers_round_trip_and_every_flipped_bit_is_noticed() {
        let block = sample().encode();
        for recycled in [false, true] {
            let header = FileHeader {
                recycled,
                ..sample()
            };
            assert_eq!(FileHeader::decode(&header.encode()), Ok(header));
        }
        for bit in 0..HEADER_BYTES * 8 {
            let mut flipped = block;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(FileHeader::decode(&flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn an_unknown_incompatible_feature_is_refused() {
        let mut block = sample().encode();
        put_u32(&mut block, INCOMPATIBLE_AT, 4);
        let sum = crc(&block);
        put_u32(&mut block, CRC_AT, sum);
        let refused = Err(InvalidHeader::TooNew {
            version: 1,
            incompatible: 4,
        });
        assert_eq!(FileHeader::decode(&block), refused);
    }

    #[test]
    fn file_names_sort_like_the_log() {
        let name = |first_position, base_offset| {
            let header = FileHeader {
                first_position,
                base_offset,
                ..sample()
            };
            path(Path::new(""), &header).to_string_lossy().into_owned()
        };
        assert!(name(9, 8) < name(10, 9) && name(10, 9) < name(10, u64::MAX));
        assert_eq!(base_offset_of(&name(10, 9)), Some(9));
        assert_eq!(base_offset_of("spare.new"), None);
        assert_eq!(base_offset_of("1-2.log"), None);
    }
}
