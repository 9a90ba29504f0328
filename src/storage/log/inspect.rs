//! Reads a log without opening it: every file that is there is checked, and nothing is changed.

use std::{io, path::Path, sync::Arc};

use super::{
    file::{self, FileHeader, HEADER_BYTES},
    recovery::{
        Chain, RecoverError, SeenFrame, check_last, damage, missing, open_file, read_file,
        see_frames,
    },
    scan,
    torn::torn_bytes,
    writer::{LogFile, LogPlace},
};
use crate::{
    storage::manifest::Manifest,
    types::{
        id::{LogId, Position},
        read::Damage,
    },
};

/// How far a log is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Nobody writes to it: to its last frame.
    Closed,
    /// It is open, and durable up to this log offset: not beyond.
    Open(u64),
}

/// What is wrong with a log.
#[derive(Debug, Clone)]
pub(crate) enum LogFault {
    Damaged(Damage),
    /// A newer version wrote it.
    TooNew(Damage),
}

impl LogFault {
    /// Where, and what.
    pub(crate) fn damage(&self) -> &Damage {
        let (Self::Damaged(damage) | Self::TooNew(damage)) = self;
        damage
    }
}

/// What a file name says of a log file, whatever the file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedFile {
    pub(crate) name: String,
    pub(crate) first_position: Position,
    pub(crate) base_offset: u64,
}

/// The log files that are there, in order.
pub(crate) fn named_files(place: &LogPlace) -> io::Result<Vec<NamedFile>> {
    let names = match place.disk.list(&place.log_dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
        names => names.map_err(|error| with_path(&place.log_dir, &error))?,
    };
    let found = names.into_iter().filter_map(|name| {
        let base_offset = file::base_offset_of(&name)?;
        let first_position = name.split('-').next()?.parse().ok()?;
        Some(NamedFile {
            name,
            first_position,
            base_offset,
        })
    });
    let mut files: Vec<_> = found.collect();
    files.sort_unstable_by_key(|file| file.base_offset);
    Ok(files)
}

/// The log that the newest file belongs to whose header can be read.
pub(crate) fn log_id(place: &LogPlace, named: &[NamedFile]) -> io::Result<Option<LogId>> {
    for file in named.iter().rev() {
        let path = place.log_dir.join(&file.name);
        let failed = |error| with_path(&path, &error);
        let opened = place.disk.open(&path).map_err(failed)?;
        let mut block = vec![0; HEADER_BYTES];
        match opened.read_exact_at(&mut block, 0) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => continue,
            read => read.map_err(failed)?,
        }
        if let Ok(header) = FileHeader::decode(&block) {
            return Ok(Some(header.log_id));
        }
    }
    Ok(None)
}

/// Log files that are open, of some that are there.
#[derive(Default)]
pub(crate) struct OpenFiles {
    pub(crate) files: Vec<Arc<LogFile>>,
    /// Where each one begins that is there, open or not: where the one before ends.
    begins: Vec<u64>,
}

impl OpenFiles {
    /// Where the file ends that begins at a log offset; `None` if there is none behind it.
    fn end_of(&self, base_offset: u64) -> Option<u64> {
        let behind = self.begins.partition_point(|begin| *begin <= base_offset);
        self.begins.get(behind).copied()
    }
}

fn newest_is_missing(place: &LogPlace) -> RecoverError {
    missing(
        place,
        "the newest log file that the manifest names is not there",
    )
}

/// The files of a log that is open, up to a log offset; those that cannot be opened are told.
pub(crate) fn open_through(
    place: &LogPlace,
    manifest: &Manifest,
    end: u64,
    tell: &mut dyn FnMut(LogFault),
) -> io::Result<OpenFiles> {
    let mut named = named_files(place)?;
    named.retain(|file| file.base_offset <= end);
    let is_newest = |file: &NamedFile| file.base_offset == manifest.newest_file;
    // One that begins behind the end was made for what is not durable yet.
    if manifest.newest_file <= end && !named.iter().any(is_newest) {
        tell_error(newest_is_missing(place), tell)?;
    }
    open_named(place, manifest, &named, tell)
}

/// Opens those of some files that can be, and tells what is wrong with the others.
pub(crate) fn open_named(
    place: &LogPlace,
    manifest: &Manifest,
    named: &[NamedFile],
    tell: &mut dyn FnMut(LogFault),
) -> io::Result<OpenFiles> {
    let mut files = Vec::with_capacity(named.len());
    for NamedFile {
        name, base_offset, ..
    } in named
    {
        match open_file(place, manifest, *base_offset, place.log_dir.join(name)) {
            Ok(file) => files.push(Arc::new(file)),
            Err(error) => tell_error(error, tell)?,
        }
    }
    let begins = named.iter().map(|file| file.base_offset).collect();
    Ok(OpenFiles { files, begins })
}

/// Reads every log file that is there, sealed or not, and changes nothing. Says how many bytes each one has once it was
/// read, and tells every fault; behind one it goes on with the next file.
pub(crate) fn inspect(
    place: &LogPlace,
    manifest: &Manifest,
    see: &mut dyn FnMut(&SeenFrame<'_>) -> Result<(), RecoverError>,
    read: &mut dyn FnMut(u64),
    tell: &mut dyn FnMut(LogFault),
) -> io::Result<()> {
    let named = named_files(place)?;
    // A crash may have come between making a newer one and naming it.
    let is_newest = |file: &NamedFile| file.base_offset == manifest.newest_file;
    if !named.iter().any(is_newest) {
        tell_error(newest_is_missing(place), tell)?;
    }
    let files = open_named(place, manifest, &named, tell)?;
    inspect_files(&files, manifest, Extent::Closed, see, read, tell)
}

/// [`inspect`] for files that are open.
pub(crate) fn inspect_files(
    open: &OpenFiles,
    manifest: &Manifest,
    extent: Extent,
    see: &mut dyn FnMut(&SeenFrame<'_>) -> Result<(), RecoverError>,
    read: &mut dyn FnMut(u64),
    tell: &mut dyn FnMut(LogFault),
) -> io::Result<()> {
    let files = &open.files;
    let sealed_through = manifest.sealed.through();
    if let Some(first) = files.first().filter(|file| begins_late(file, manifest)) {
        let what = format!(
            "the log begins here with event {}, and the segments end with {sealed_through}: the log files between are \
             missing",
            first.header.first_position
        );
        tell_error(damage(first, 0, &what).into(), tell)?;
    }
    let mut chain = files.first().map(|file| Chain::at(&file.header));
    for (index, file) in files.iter().enumerate() {
        let mut here = chain.take().unwrap_or_else(|| Chain::at(&file.header));
        let next = open.end_of(file.header.base_offset);
        let done = match (next, extent) {
            (Some(end), _) | (None, Extent::Open(end)) => {
                scan::whole_frames(file, end, &mut here, see)
                    .map_err(|error| blame(file, &here, error))
            }
            (None, Extent::Closed) => inspect_last(file, manifest, &mut here, see),
        };
        // What follows a file that could not be opened cannot be known to continue it.
        let follows = |after: &Arc<LogFile>| Some(after.header.base_offset) == next;
        match done {
            Ok(()) => chain = files.get(index + 1).is_some_and(follows).then_some(here),
            Err(error) => tell_error(error, tell)?,
        }
        read(file.file.bytes()?);
    }
    Ok(())
}

/// If the frames of a file end as they do where another file follows, but none begins there: that one is missing.
fn blame(file: &LogFile, chain: &Chain, error: RecoverError) -> RecoverError {
    let (RecoverError::Damaged(_), Ok(bytes)) = (&error, file.file.read_all()) else {
        return error;
    };
    let (offset, first_position) = chain.next();
    let end = file.in_file(offset) as usize;
    let is_whole = (HEADER_BYTES..=bytes.len()).contains(&end)
        && end > HEADER_BYTES
        && torn_bytes(&bytes, end, &file.header, first_position) == 0;
    let Some(dir) = file.path.parent().filter(|_| is_whole) else {
        return error;
    };
    let next = FileHeader {
        base_offset: offset,
        first_position,
        ..file.header
    };
    RecoverError::Damaged(Damage {
        path: file::path(dir, &next),
        offset: 0,
        what: format!(
            "it is missing: the file before ends with event {}, and the one behind begins later",
            first_position - 1
        ),
    })
}

/// Whether events are missing between the segments and a log that begins with this file.
pub(crate) fn begins_late(first: &LogFile, manifest: &Manifest) -> bool {
    first.header.first_position > manifest.sealed.through().max(1)
}

fn tell_error(error: RecoverError, tell: &mut dyn FnMut(LogFault)) -> io::Result<()> {
    match error {
        RecoverError::Damaged(damage) => tell(LogFault::Damaged(damage)),
        RecoverError::TooNew { path, what } => tell(LogFault::TooNew(Damage {
            path,
            offset: 0,
            what: format!("a newer version wrote it: {what}"),
        })),
        RecoverError::Io { path, error, .. } => {
            return Err(with_path(&path, &error));
        }
    }
    Ok(())
}

fn with_path(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// The whole file is in memory meanwhile: what stands behind its frames tells whether they end where they should.
fn inspect_last(
    file: &Arc<LogFile>,
    manifest: &Manifest,
    chain: &mut Chain,
    see: &mut dyn FnMut(&SeenFrame<'_>) -> Result<(), RecoverError>,
) -> Result<(), RecoverError> {
    chain.check_header(file)?;
    let bytes = read_file(file)?;
    let end = check_last(file, &bytes, manifest.durable_offset, chain)?;
    see_frames(file, &bytes[..end], see)
}
