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
//! | 64 | 8 | entities of the sealed events |
//! | 72 | 8 | event types of the sealed events |
//! | 80 | 4 | number of slots: 1,024, or 0 if nothing is sealed |
//! | 84 | 4 | number of segments |
//! | 88 | 4 | number of index runs |
//! | 92 | 4 | number of cursors |
//! | 96 | | sealed events of each slot (8); segments: first and last position, bytes, start of the tail (8 each), CRC-32C of the tail (4), SHA-256 (32); index runs: first and last position, bytes (8 each), SHA-256 (32); cursors as of the last sealed event or later: position (8), bytes of the name (2), name |
//!
//! All little-endian. Replaced atomically: written beside, synced, renamed, folder synced. The newest log file is named
//! before its first frame is written, so that a file that went missing is noticed whichever it was. Segments and index
//! runs are named once they are durable: a file that is not named is the rest of an attempt, and removed.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};

use super::{
    bytes::{get_u16, get_u32, get_u64, put_u32, put_u64},
    disk::Disk,
    index::RunSummary,
    segment::SegmentSummary,
};
use crate::types::{
    id::{LogId, Position},
    read::Damage,
    slot::SLOTS,
    text::Text,
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
const ENTITIES_AT: usize = DURABLE_OFFSET_AT + 8;
const TYPES_AT: usize = ENTITIES_AT + 8;
const SLOTS_AT: usize = TYPES_AT + 8;
const SEGMENTS_AT: usize = SLOTS_AT + 4;
const RUNS_AT: usize = SEGMENTS_AT + 4;
const CURSORS_AT: usize = RUNS_AT + 4;
const HEADER_BYTES: usize = CURSORS_AT + 4;
const SEGMENT_BYTES: usize = 4 * 8 + 4 + 32;
const RUN_BYTES: usize = 3 * 8 + 32;
const NAME: &str = "manifest";

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) log_id: LogId,
    pub(crate) floor: Position,
    /// Log offset of the newest log file.
    pub(crate) newest_file: u64,
    /// The log is at least so long: a shorter one lost something. Stated at each roll-over and clean close.
    pub(crate) durable_offset: u64,
    pub(crate) sealed: Sealed,
}

/// What is known of the events that stand in segments: all up to a position.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sealed {
    /// In order and without gaps, from the first position behind the floor.
    pub(crate) segments: Vec<SegmentSummary>,
    /// The same positions, cut elsewhere.
    pub(crate) runs: Vec<RunSummary>,
    pub(crate) entities: u64,
    pub(crate) event_types: u64,
    /// One number for each slot; none if nothing is sealed.
    pub(crate) events_per_slot: Vec<u64>,
    /// Where cursors stood once all of it was sealed, or later.
    pub(crate) cursors: Vec<(Text, Position)>,
}

impl Sealed {
    /// The last position that stands in a segment; 0 if none does.
    pub(crate) fn through(&self) -> Position {
        self.segments.last().map_or(0, |segment| segment.last)
    }
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
        if bytes.len() < HEADER_BYTES {
            return Err(damaged(bytes.len(), "it ends here"));
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
        let manifest = Self::decode(&bytes)
            .filter(Self::is_gapless)
            .ok_or_else(|| damaged(HEADER_BYTES, "its parts do not add up"))?;
        Ok(Some(manifest))
    }

    /// Of bytes whose checksum matches.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut log_id = [0; 16];
        log_id.copy_from_slice(&bytes[LOG_ID_AT..FLOOR_AT]);
        let mut rest = &bytes[HEADER_BYTES..];
        let mut take = |len: usize| {
            let (taken, behind) = rest.split_at_checked(len)?;
            rest = behind;
            Some(taken)
        };
        let mut sealed = Sealed {
            entities: get_u64(bytes, ENTITIES_AT),
            event_types: get_u64(bytes, TYPES_AT),
            ..Sealed::default()
        };
        for _ in 0..get_u32(bytes, SLOTS_AT) {
            sealed.events_per_slot.push(get_u64(take(8)?, 0));
        }
        for _ in 0..get_u32(bytes, SEGMENTS_AT) {
            let entry = take(SEGMENT_BYTES)?;
            sealed.segments.push(SegmentSummary {
                first: get_u64(entry, 0),
                last: get_u64(entry, 8),
                bytes: get_u64(entry, 16),
                tail_at: get_u64(entry, 24),
                tail_crc: get_u32(entry, 32),
                sha256: sha256(&entry[36..]),
            });
        }
        for _ in 0..get_u32(bytes, RUNS_AT) {
            let entry = take(RUN_BYTES)?;
            sealed.runs.push(RunSummary {
                first: get_u64(entry, 0),
                last: get_u64(entry, 8),
                bytes: get_u64(entry, 16),
                sha256: sha256(&entry[24..]),
            });
        }
        for _ in 0..get_u32(bytes, CURSORS_AT) {
            let fixed = take(10)?;
            let name = take(get_u16(fixed, 8).into())?;
            let name = Text::from(Bytes::copy_from_slice(name));
            sealed.cursors.push((name, get_u64(fixed, 0)));
        }
        rest.is_empty().then(|| Self {
            log_id: LogId::from_bytes(log_id),
            floor: get_u64(bytes, FLOOR_AT),
            newest_file: get_u64(bytes, NEWEST_FILE_AT),
            durable_offset: get_u64(bytes, DURABLE_OFFSET_AT),
            sealed,
        })
    }

    /// Whether segments and runs cover the same positions, each without gaps.
    fn is_gapless(&self) -> bool {
        let sealed = &self.sealed;
        let follow = |before: Position, (first, last): (Position, Position)| {
            (first == before + 1 && last >= first).then_some(last)
        };
        let mut segments = sealed.segments.iter().map(|s| (s.first, s.last));
        let mut runs = sealed.runs.iter().map(|r| (r.first, r.last));
        let segments = segments.try_fold(self.floor, follow);
        let runs = runs.try_fold(self.floor, follow);
        segments.is_some() && segments == runs && [0, SLOTS].contains(&sealed.events_per_slot.len())
    }

    fn encode(&self) -> Vec<u8> {
        let sealed = &self.sealed;
        let mut bytes = vec![0; HEADER_BYTES];
        bytes[..MAGIC.len()].copy_from_slice(MAGIC);
        put_u32(&mut bytes, VERSION_AT, VERSION);
        bytes[LOG_ID_AT..FLOOR_AT].copy_from_slice(self.log_id.as_bytes());
        put_u64(&mut bytes, FLOOR_AT, self.floor);
        put_u64(&mut bytes, NEWEST_FILE_AT, self.newest_file);
        put_u64(&mut bytes, DURABLE_OFFSET_AT, self.durable_offset);
        put_u64(&mut bytes, ENTITIES_AT, sealed.entities);
        put_u64(&mut bytes, TYPES_AT, sealed.event_types);
        put_u32(&mut bytes, SLOTS_AT, sealed.events_per_slot.len() as u32);
        put_u32(&mut bytes, SEGMENTS_AT, sealed.segments.len() as u32);
        put_u32(&mut bytes, RUNS_AT, sealed.runs.len() as u32);
        put_u32(&mut bytes, CURSORS_AT, sealed.cursors.len() as u32);
        for events in &sealed.events_per_slot {
            bytes.extend(events.to_le_bytes());
        }
        for segment in &sealed.segments {
            for number in [segment.first, segment.last, segment.bytes, segment.tail_at] {
                bytes.extend(number.to_le_bytes());
            }
            bytes.extend(segment.tail_crc.to_le_bytes());
            bytes.extend(segment.sha256);
        }
        for run in &sealed.runs {
            for number in [run.first, run.last, run.bytes] {
                bytes.extend(number.to_le_bytes());
            }
            bytes.extend(run.sha256);
        }
        for (name, position) in &sealed.cursors {
            bytes.extend(position.to_le_bytes());
            bytes.extend((name.as_bytes().len() as u16).to_le_bytes());
            bytes.extend(name.as_bytes());
        }
        let sum = crc(&bytes);
        put_u32(&mut bytes, CRC_AT, sum);
        bytes
    }

    /// Replaces the manifest of a folder.
    pub(crate) fn write(&self, disk: &dyn Disk, dir: &Path) -> io::Result<()> {
        let new = dir.join("manifest.new");
        let file = disk.create(&new)?;
        file.write_all_at(&self.encode(), 0)?;
        file.sync_data()?;
        disk.rename(&new, &dir.join(NAME))?;
        disk.sync_dir(dir)
    }
}

/// The manifest of a log that is open: both who writes the log and who seals it change it, one after the other.
pub(crate) struct OpenManifest {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    manifest: Mutex<Manifest>,
}

impl OpenManifest {
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: PathBuf, manifest: Manifest) -> Self {
        Self {
            disk,
            dir,
            manifest: Mutex::new(manifest),
        }
    }

    pub(crate) fn get(&self) -> MutexGuard<'_, Manifest> {
        self.manifest.lock()
    }

    /// Changes the manifest on disk, then here. After an error either form may stand on disk; both are right as long as
    /// the files that either names are kept.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Manifest)) -> io::Result<()> {
        let mut manifest = self.manifest.lock();
        let mut changed = manifest.clone();
        change(&mut changed);
        changed.write(&*self.disk, &self.dir)?;
        *manifest = changed;
        Ok(())
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut sum = [0; 32];
    sum.copy_from_slice(bytes);
    sum
}

fn crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..CRC_AT]), &bytes[CRC_AT + 4..])
}
