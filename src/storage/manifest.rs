//! `manifest`: what a tenant's folder must hold. A tenant exists if, and only if, its manifest does.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic `ANNALSMF` |
//! | 8 | 4 | format version, 1 |
//! | 12 | 4 | compatible features: unknown bits are ignored |
//! | 16 | 4 | incompatible features: unknown bits refuse to open |
//! | 20 | 4 | CRC-32C of all other bytes |
//! | 24 | 16 | log id |
//! | 40 | 8 | floor: the last position removed |
//! | 48 | 8 | log offset of the newest log file |
//! | 56 | 8 | log offset up to which the log was durable when this was written |
//!
//! All little-endian. Replaced atomically: written beside, synced, renamed, folder synced. The newest log file is named
//! before its first frame is written, so that a file that went missing is noticed whichever it was.

use std::{io, path::Path};

use super::{
    disk::Disk,
    log::bytes::{get_u32, get_u64, put_u32, put_u64},
};
use crate::types::{
    id::{LogId, Position},
    read::Damage,
};

const MAGIC: &[u8; 8] = b"ANNALSMF";
const VERSION: u32 = 1;
const VERSION_AT: usize = 8;
const INCOMPATIBLE_AT: usize = 16;
const CRC_AT: usize = 20;
const LOG_ID_AT: usize = 24;
const FLOOR_AT: usize = LOG_ID_AT + 16;
const NEWEST_FILE_AT: usize = FLOOR_AT + 8;
const DURABLE_OFFSET_AT: usize = NEWEST_FILE_AT + 8;
const BYTES: usize = DURABLE_OFFSET_AT + 8;
const NAME: &str = "manifest";

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) log_id: LogId,
    pub(crate) floor: Position,
    /// Log offset of the newest log file.
    pub(crate) newest_file: u64,
    /// The log is at least so long: a shorter one lost something. Stated at each roll-over and clean close.
    pub(crate) durable_offset: u64,
}

/// Why a manifest could not be read.
#[derive(Debug)]
pub(crate) enum ManifestError {
    Damaged(Damage),
    /// Written by a newer version.
    TooNew(String),
    Io(io::Error),
}

impl Manifest {
    /// `None` if the folder has none.
    pub(crate) fn read(disk: &dyn Disk, dir: &Path) -> Result<Option<Self>, ManifestError> {
        let path = dir.join(NAME);
        let bytes = match disk.open(&path).and_then(|file| file.read_all()) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(ManifestError::Io(e)),
        };
        let damaged = |offset: usize, what: &str| {
            ManifestError::Damaged(Damage {
                path: path.clone(),
                offset: offset as u64,
                what: what.to_owned(),
            })
        };
        if bytes.len() != BYTES {
            return Err(damaged(bytes.len().min(BYTES), "its length is wrong"));
        }
        if !bytes.starts_with(MAGIC) {
            return Err(damaged(0, "it does not start like a manifest"));
        }
        if crc(&bytes) != get_u32(&bytes, CRC_AT) {
            return Err(damaged(CRC_AT, "the checksum does not match"));
        }
        let (version, incompatible) = (
            get_u32(&bytes, VERSION_AT),
            get_u32(&bytes, INCOMPATIBLE_AT),
        );
        if version != VERSION || incompatible != 0 {
            return Err(ManifestError::TooNew(format!(
                "format version {version}, features {incompatible:#x}"
            )));
        }
        let mut log_id = [0; 16];
        log_id.copy_from_slice(&bytes[LOG_ID_AT..FLOOR_AT]);
        Ok(Some(Self {
            log_id: LogId::from_bytes(log_id),
            floor: get_u64(&bytes, FLOOR_AT),
            newest_file: get_u64(&bytes, NEWEST_FILE_AT),
            durable_offset: get_u64(&bytes, DURABLE_OFFSET_AT),
        }))
    }

    /// Replaces the manifest of a folder.
    pub(crate) fn write(&self, disk: &dyn Disk, dir: &Path) -> io::Result<()> {
        let mut bytes = [0; BYTES];
        bytes[..MAGIC.len()].copy_from_slice(MAGIC);
        put_u32(&mut bytes, VERSION_AT, VERSION);
        bytes[LOG_ID_AT..FLOOR_AT].copy_from_slice(self.log_id.as_bytes());
        put_u64(&mut bytes, FLOOR_AT, self.floor);
        put_u64(&mut bytes, NEWEST_FILE_AT, self.newest_file);
        put_u64(&mut bytes, DURABLE_OFFSET_AT, self.durable_offset);
        let sum = crc(&bytes);
        put_u32(&mut bytes, CRC_AT, sum);

        let new = dir.join("manifest.new");
        let file = disk.create(&new)?;
        file.write_all_at(&bytes, 0)?;
        file.sync_data()?;
        disk.rename(&new, &dir.join(NAME))?;
        disk.sync_dir(dir)
    }
}

fn crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..CRC_AT]), &bytes[CRC_AT + 4..])
}
