//! Reads a log when it is opened, and decides what a bad frame means.
//!
//! Every frame states an offset that was known durable when it was written. A bad frame above every stated offset is a
//! torn write that nobody was told of, or none at all, as a recycled file still holds what was in it: the log ends there.
//! A bad frame below one, or in any file but the last, is
//! damage to something acknowledged: the log is not opened, the place is named, nothing is changed.
//!
//! The valid part of the last file is copied into a fresh one, with another salt: the page cache may lie after a failed
//! sync, so nothing is repaired in place.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    file::{self, FileHeader, HEADER_BYTES, InvalidHeader},
    frame::{self, Frame, FrameDraft, FramePlace, InvalidFrame},
    spare::SpareFile,
    torn::{stated_behind, torn_bytes},
    writer::{LogFile, LogPlace, LogWriter, WriterState, publish, random_salt},
};
use crate::{
    storage::{
        bytes::get_u32,
        disk::Disk,
        manifest::{Manifest, OpenManifest},
    },
    types::{
        id::Position,
        read::{Damage, ReadError},
    },
};

/// The files of a folder that the manifest does not name, once those that it does are found to be there. The folder need
/// not be there for none.
pub(crate) fn unnamed_files(
    disk: &dyn Disk,
    dir: &Path,
    named: &[String],
) -> Result<Vec<String>, RecoverError> {
    let mut present = match disk.list(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
        listed => listed.map_err(|e| io_error(dir, "listing", e))?,
    };
    if let Some(name) = named.iter().find(|name| !present.contains(name)) {
        return Err(RecoverError::Damaged(Damage {
            path: dir.join(name),
            offset: 0,
            what: "the file is missing, and the manifest names it".to_owned(),
        }));
    }
    present.retain(|name| !named.contains(name));
    Ok(present)
}

/// Why a log could not be opened. Nothing was changed.
#[derive(Debug)]
pub(crate) enum RecoverError {
    Damaged(Damage),
    /// Written by a newer version of the store.
    TooNew {
        path: PathBuf,
        what: String,
    },
    Io {
        path: PathBuf,
        doing: &'static str,
        error: io::Error,
    },
}

impl From<ReadError> for RecoverError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Damaged(damage) => Self::Damaged(damage),
            ReadError::Io { path, reason, .. } => Self::Io {
                path,
                doing: "reading",
                error: io::Error::other(reason),
            },
            other => Self::Io {
                path: PathBuf::new(),
                doing: "opening",
                error: io::Error::other(other.to_string()),
            },
        }
    }
}

impl From<Damage> for RecoverError {
    fn from(damage: Damage) -> Self {
        Self::Damaged(damage)
    }
}

/// What recovery found.
pub(crate) struct Recovered {
    pub(crate) writer: LogWriter,
    /// Bytes that were torn and cut, as far as they can be told from what a recycled file held before.
    pub(crate) cut_bytes: u64,
    /// Where they began.
    pub(crate) cut_at: u64,
    /// Files before those that were read, in order, and the log offset behind each: all their events are sealed.
    pub(crate) kept: Vec<(Arc<LogFile>, u64)>,
}

/// A frame of the log, seen during recovery.
pub(crate) struct SeenFrame<'a> {
    pub(crate) file: &'a Arc<LogFile>,
    /// Offset of the frame in the file.
    pub(crate) start: u64,
    pub(crate) frame: Frame<'a>,
}

/// Reads the log from what is not sealed to its last frame and shows every one to `see`, in order. The first ones may
/// hold events that are sealed.
pub(crate) fn recover(
    place: LogPlace,
    manifest: &Arc<OpenManifest>,
    see: &mut dyn FnMut(&SeenFrame<'_>) -> Result<(), RecoverError>,
) -> Result<Recovered, RecoverError> {
    let (mut files, sealed_through) = {
        let manifest = manifest.get();
        let files = open_files(&place, &manifest)?;
        (files, manifest.sealed.through())
    };
    let kept = files.windows(2);
    let kept = kept.take_while(|pair| is_sealed(&pair[1].header, sealed_through));
    let unread = files.split_off(kept.count());
    let Some((last, full)) = unread.split_last() else {
        return Err(missing(&place, "there is no log file"));
    };
    let mut chain = Chain::default();
    if sealed_through > 0 {
        let first = &unread[0];
        if first.header.first_position > sealed_through {
            let what = format!(
                "the segments end at position {sealed_through}, and the log begins here: a file in between is missing"
            );
            return Err(damage(first, 0, &what).into());
        }
        chain = Chain::at(&first.header);
    }
    for (file, next) in full.iter().zip(&unread[1..]) {
        recover_full(file, &next.header, &mut chain, see)?;
    }
    let mut recovered = recover_last(place, manifest, last, chain, see)?;
    let ends = files.iter().skip(1).chain(&unread);
    let ends = ends.map(|next| next.header.base_offset);
    recovered.kept = files.iter().cloned().zip(ends).collect();
    Ok(recovered)
}

/// Whether all that stands in a log file is sealed, given the header of the next one. A file that ends with the last
/// sealed event is not: cursor records may stand behind it.
pub(crate) fn is_sealed(next: &FileHeader, sealed_through: Position) -> bool {
    next.first_position <= sealed_through
}

/// What every next frame continues.
pub(super) struct Chain {
    offset: u64,
    position: Position,
    crc: u32,
    /// The highest offset that any frame states to be durable.
    stated: u64,
}

impl Default for Chain {
    fn default() -> Self {
        Self {
            offset: 0,
            position: 1,
            crc: 0,
            stated: 0,
        }
    }
}

impl Chain {
    /// Where a file begins whose predecessors are not read.
    pub(super) fn at(header: &FileHeader) -> Self {
        Self {
            offset: header.base_offset,
            position: header.first_position,
            crc: header.previous_crc,
            stated: 0,
        }
    }

    /// The log offset and the position of what comes next.
    pub(super) fn next(&self) -> (u64, Position) {
        (self.offset, self.position)
    }

    /// Whether a file continues here.
    pub(super) fn check_header(&self, file: &LogFile) -> Result<(), Damage> {
        let header = &file.header;
        let continues = header.base_offset == self.offset
            && header.first_position == self.position
            && header.previous_crc == self.crc;
        if continues {
            return Ok(());
        }
        Err(damage(
            file,
            0,
            "it does not continue the file before: one in between is missing",
        ))
    }

    /// Moves behind a frame, if it continues the one before.
    pub(super) fn follow(&mut self, frame: &Frame<'_>) -> bool {
        let continues = frame.previous_crc() == self.crc
            && frame.first_position() == self.position
            && frame.durable_offset() <= self.offset;
        if continues {
            self.offset += frame.as_bytes().len() as u64;
            self.position += u64::from(frame.events());
            self.crc = frame.crc();
            self.stated = self.stated.max(frame.durable_offset());
        }
        continues
    }
}

fn open_files(place: &LogPlace, manifest: &Manifest) -> Result<Vec<Arc<LogFile>>, RecoverError> {
    let disk = &place.disk;
    let list_failed = |error| io_error(&place.log_dir, "listing", error);
    let mut files = Vec::new();
    let names = match disk.list(&place.log_dir) {
        // As if it were empty: what should be there is told.
        Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
        names => names.map_err(list_failed)?,
    };
    for name in names {
        let path = place.log_dir.join(&name);
        let Some(base_offset) = file::base_offset_of(&name) else {
            // A file that was being made.
            if name.ends_with(".new") {
                disk.remove(&path)
                    .map_err(|e| io_error(&path, "removing", e))?;
            }
            continue;
        };
        files.push((base_offset, path));
    }
    files.sort_unstable();
    if !files
        .iter()
        .any(|(offset, _)| *offset == manifest.newest_file)
    {
        return Err(missing(
            place,
            "the newest log file that the manifest names is not there",
        ));
    }
    files
        .into_iter()
        .map(|(base_offset, path)| open_file(place, manifest, base_offset, path).map(Arc::new))
        .collect()
}

pub(super) fn open_file(
    place: &LogPlace,
    manifest: &Manifest,
    base_offset: u64,
    path: PathBuf,
) -> Result<LogFile, RecoverError> {
    let opened = place
        .disk
        .open(&path)
        .map_err(|e| io_error(&path, "opening", e))?;
    let mut block = vec![0; HEADER_BYTES];
    let damaged = |offset, what: String| Damage {
        path: path.clone(),
        offset,
        what,
    };
    match opened.read_exact_at(&mut block, 0) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(damaged(0, "it is shorter than its header".to_owned()).into());
        }
        read => read.map_err(|e| io_error(&path, "reading", e))?,
    }
    let header = match FileHeader::decode(&block) {
        Ok(header) => header,
        Err(e @ InvalidHeader::TooNew { .. }) => {
            return Err(RecoverError::TooNew {
                path,
                what: e.to_string(),
            });
        }
        Err(e) => return Err(damaged(0, e.to_string()).into()),
    };
    if header.log_id != manifest.log_id {
        let what = format!(
            "it belongs to log {}, this is {}",
            header.log_id, manifest.log_id
        );
        return Err(damaged(0, what).into());
    }
    if header.base_offset != base_offset {
        return Err(damaged(0, "its name is not the one it was given".to_owned()).into());
    }
    let file_bytes = opened.bytes().map_err(|e| io_error(&path, "opening", e))?;
    if file_bytes < header.file_bytes {
        let what = format!("it ends here, it was made with {} bytes", header.file_bytes);
        return Err(damaged(file_bytes, what).into());
    }
    Ok(LogFile {
        file: opened,
        path,
        header,
    })
}

/// Reads a file that another follows: everything up to where that one begins must be right.
fn recover_full(
    file: &Arc<LogFile>,
    next: &FileHeader,
    chain: &mut Chain,
    see: &mut dyn FnMut(&SeenFrame<'_>) -> Result<(), RecoverError>,
) -> Result<(), RecoverError> {
    chain.check_header(file)?;
    let frames_bytes = next
        .base_offset
        .checked_sub(file.header.base_offset)
        .and_then(|bytes| usize::try_from(bytes).ok())
        .ok_or_else(|| damage(file, 0, "the next file begins before it"))?;
    let bytes = read_file(file)?;
    let Some(frames) = bytes.get(HEADER_BYTES..HEADER_BYTES + frames_bytes) else {
        return Err(damage(file, bytes.len(), "its end is missing").into());
    };
    let mut at = 0;
    while at < frames.len() {
        let frame = match Frame::check(&frames[at..], file.header.salt) {
            Ok(frame) => frame,
            Err(InvalidFrame::TooNew) => return Err(too_new(file)),
            Err(e) => return Err(damage(file, HEADER_BYTES + at, &e.to_string()).into()),
        };
        if !chain.follow(&frame) {
            let what = "a frame does not continue the one before";
            return Err(damage(file, HEADER_BYTES + at, what).into());
        }
        see(&SeenFrame {
            file,
            start: (HEADER_BYTES + at) as u64,
            frame,
        })?;
        at += frame.as_bytes().len();
    }
    Ok(())
}

fn recover_last(
    place: LogPlace,
    manifest: &Arc<OpenManifest>,
    file: &Arc<LogFile>,
    mut chain: Chain,
    see: &mut dyn FnMut(&SeenFrame<'_>) -> Result<(), RecoverError>,
) -> Result<Recovered, RecoverError> {
    chain.check_header(file)?;
    let mut bytes = read_file(file)?;
    let durable_offset = manifest.get().durable_offset;
    let end = check_last(file, &bytes, durable_offset, &mut chain)?;
    let cut_bytes = torn_bytes(&bytes, end, &file.header, chain.position);
    bytes.truncate(end);
    let (fresh, state) = copy(&place, file, &mut bytes, &chain)
        .map_err(|error| io_error(&file.path, "copying", error))?;
    // A crash may have come before the manifest named it.
    if manifest.get().newest_file != fresh.header.base_offset {
        manifest
            .change(|manifest| manifest.newest_file = fresh.header.base_offset)
            .map_err(|error| io_error(&place.dir, "writing the manifest in", error))?;
    }
    // Frames are seen as they stand in the copy, the one that will be read.
    see_frames(&fresh, &bytes[..end], see)?;
    Ok(Recovered {
        writer: LogWriter::new(place, Arc::clone(manifest), state),
        cut_bytes,
        cut_at: end as u64,
        kept: Vec::new(),
    })
}

/// Offset in the last file behind its frames. What follows them must be nothing that was acknowledged.
pub(super) fn check_last(
    file: &LogFile,
    bytes: &[u8],
    durable_offset: u64,
    chain: &mut Chain,
) -> Result<usize, RecoverError> {
    let end = valid_end(file, bytes, chain)?;
    let stated = chain.stated.max(durable_offset).max(chain.offset);
    let stated = stated_behind(&bytes[end..], file.header.salt, stated);
    if stated > chain.offset {
        let what = format!(
            "no valid frame starts here, but everything up to {} bytes further was acknowledged",
            stated - chain.offset
        );
        return Err(damage(file, end, &what).into());
    }
    Ok(end)
}

/// Shows the frames of a file, which were checked.
pub(super) fn see_frames(
    file: &Arc<LogFile>,
    bytes: &[u8],
    see: &mut dyn FnMut(&SeenFrame<'_>) -> Result<(), RecoverError>,
) -> Result<(), RecoverError> {
    let mut at = HEADER_BYTES;
    while at < bytes.len() {
        let frame = Frame::check(&bytes[at..], file.header.salt)
            .map_err(|e| damage(file, at, &e.to_string()))?;
        see(&SeenFrame {
            file,
            start: at as u64,
            frame,
        })?;
        at += frame.as_bytes().len();
    }
    Ok(())
}

/// Offset in the file behind the last frame that is valid and continues the one before.
fn valid_end(file: &LogFile, bytes: &[u8], chain: &mut Chain) -> Result<usize, RecoverError> {
    let mut at = HEADER_BYTES;
    while at < bytes.len() {
        match Frame::check(&bytes[at..], file.header.salt) {
            Ok(frame) if chain.follow(&frame) => at += frame.as_bytes().len(),
            Err(InvalidFrame::TooNew) => return Err(too_new(file)),
            // The checksum holds, so this is no torn write.
            Err(e @ InvalidFrame::Body) => return Err(damage(file, at, &e.to_string()).into()),
            Ok(_) | Err(_) => break,
        }
    }
    Ok(at.min(bytes.len()))
}

/// Copies the header block and the valid frames in `bytes` into a fresh file that takes the old one's name. `bytes` then
/// hold what the fresh file does, up to the mark that is behind the frames.
fn copy(
    place: &LogPlace,
    old: &LogFile,
    bytes: &mut Vec<u8>,
    chain: &Chain,
) -> io::Result<(Arc<LogFile>, WriterState)> {
    let mut header = FileHeader {
        salt: random_salt(),
        recycled: false,
        ..old.header
    };
    let mut previous_crc = header.previous_crc;
    let mut at = HEADER_BYTES;
    while at < bytes.len() {
        let frame_bytes = get_u32(bytes, at + 4) as usize;
        let frame = &mut bytes[at..at + frame_bytes];
        previous_crc = frame::resalt(frame, header.salt, previous_crc);
        at += frame_bytes;
    }
    let mark = FramePlace {
        salt: header.salt,
        previous_crc,
        durable_offset: chain.offset,
        first_position: chain.position,
        recorded_at: 0,
    };
    let previous_crc = FrameDraft::mark().write(&mark, bytes);

    let frames_bytes = bytes.len() - HEADER_BYTES;
    let capacity = place.capacity(None, frames_bytes).max(old.file.bytes()?);
    header.file_bytes = capacity;
    let path = place.log_dir.join("recovered.new");
    let file = place.disk.create(&path)?;
    file.write_all_at(&bytes[HEADER_BYTES..], HEADER_BYTES as u64)?;
    file.write_zeros(bytes.len() as u64, capacity)?;
    let fresh = Arc::new(publish(
        place,
        SpareFile {
            file,
            path,
            capacity,
            recycled: false,
        },
        header,
    )?);
    let state = WriterState {
        current: Arc::clone(&fresh),
        capacity,
        end: bytes.len() as u64,
        previous_crc,
    };
    Ok((fresh, state))
}

pub(super) fn read_file(file: &LogFile) -> Result<Vec<u8>, RecoverError> {
    file.file
        .read_all()
        .map_err(|e| io_error(&file.path, "reading", e))
}

pub(super) fn damage(file: &LogFile, offset: usize, what: &str) -> Damage {
    Damage {
        path: file.path.clone(),
        offset: offset as u64,
        what: what.to_owned(),
    }
}

pub(super) fn missing(place: &LogPlace, what: &str) -> RecoverError {
    RecoverError::Damaged(Damage {
        path: place.log_dir.clone(),
        offset: 0,
        what: what.to_owned(),
    })
}

pub(super) fn too_new(file: &LogFile) -> RecoverError {
    RecoverError::TooNew {
        path: file.path.clone(),
        what: InvalidFrame::TooNew.to_string(),
    }
}

pub(super) fn io_error(
    path: &std::path::Path,
    doing: &'static str,
    error: io::Error,
) -> RecoverError {
    RecoverError::Io {
        path: path.to_owned(),
        doing,
        error,
    }
}
