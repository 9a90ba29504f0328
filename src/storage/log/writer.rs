//! Appends groups of frames to the newest file of a log and makes them durable; rolls over to the next file when one is
//! full.
//!
//! Invariants: one writer a log, on one thread at a time. The first frame of a file is written only after the last sync
//! of the file before, and after the manifest names the file. After an error the writer is not used again: the kernel
//! may have dropped what was not synced, so nothing is retried on the same file.
//!
//! Not here: what is in the frames, who waits for them, who reads them.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;

use super::{
    file::{self, FileHeader, HEADER_BYTES},
    frame::{FrameDraft, FramePlace},
    spare::{Recycled, Spare, SpareFile},
};
use crate::{
    storage::{
        disk::{Disk, DiskFile, PAGE_BYTES},
        manifest::{Manifest, OpenManifest, Sealed},
    },
    types::{
        id::{LogId, Position},
        time::Timestamp,
    },
};

/// The first file of a log; later ones double until the configured size, so that an idle tenant costs little.
const FIRST_FILE_BYTES: u64 = 1 << 20;

/// A file of the log, open.
pub(crate) struct LogFile {
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) path: PathBuf,
    pub(crate) header: FileHeader,
}

impl LogFile {
    /// The log offset of an offset in the file.
    pub(crate) fn log_offset(&self, in_file: u64) -> u64 {
        self.header.base_offset + in_file - HEADER_BYTES as u64
    }

    /// The offset in the file of a log offset.
    pub(crate) fn in_file(&self, log_offset: u64) -> u64 {
        log_offset - self.header.base_offset + HEADER_BYTES as u64
    }
}

/// Where a log lives.
#[derive(Clone)]
pub(crate) struct LogPlace {
    pub(crate) disk: Arc<dyn Disk>,
    /// The tenant's folder.
    pub(crate) dir: PathBuf,
    /// Its folder of log files.
    pub(crate) log_dir: PathBuf,
    /// Bytes of a full file.
    pub(crate) file_bytes: u64,
}

impl LogPlace {
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: &Path, file_bytes: u64) -> Self {
        Self {
            disk,
            dir: dir.to_owned(),
            log_dir: dir.join("log"),
            file_bytes,
        }
    }

    pub(crate) fn segments_dir(&self) -> PathBuf {
        self.dir.join("segments")
    }

    pub(crate) fn index_dir(&self) -> PathBuf {
        self.dir.join("index")
    }

    /// Bytes that can still be written.
    pub(crate) fn available_bytes(&self) -> io::Result<u64> {
        self.disk.available_bytes(&self.log_dir)
    }

    /// Bytes for the file after one of `previous` bytes, with room for `needed` bytes of frames.
    pub(crate) fn capacity(&self, previous: Option<u64>, needed: usize) -> u64 {
        let usual = previous.map_or(FIRST_FILE_BYTES, |bytes| bytes.saturating_mul(2));
        usual
            .min(self.file_bytes)
            .max((HEADER_BYTES + needed) as u64)
    }
}

/// A group that was made durable: what was written, where.
pub(crate) struct Chunk {
    pub(crate) file: Arc<LogFile>,
    /// Offset in the file.
    pub(crate) start: u64,
    pub(crate) bytes: Bytes,
}

/// The log cannot be written to any more.
#[derive(Debug)]
pub(crate) struct WriteFailed {
    pub(crate) path: PathBuf,
    pub(crate) doing: &'static str,
    pub(crate) error: io::Error,
    /// So many frames of the group may stand in the log; the others do not.
    pub(crate) attempted: usize,
}

/// See the module.
pub(crate) struct LogWriter {
    place: LogPlace,
    manifest: Arc<OpenManifest>,
    log_id: LogId,
    spare: Spare,
    current: Arc<LogFile>,
    capacity: u64,
    /// Offset in the current file that the next frame goes to.
    end: u64,
    previous_crc: u32,
    /// Log offset that everything before is durable at.
    durable_offset: u64,
}

/// Where to go on writing.
pub(crate) struct WriterState {
    pub(crate) current: Arc<LogFile>,
    pub(crate) capacity: u64,
    pub(crate) end: u64,
    pub(crate) previous_crc: u32,
}

impl LogWriter {
    /// Goes on behind frames that are all durable.
    pub(crate) fn new(place: LogPlace, manifest: Arc<OpenManifest>, state: WriterState) -> Self {
        let log_id = manifest.get().log_id;
        Self {
            spare: Spare::new(Arc::clone(&place.disk), &place.log_dir),
            place,
            log_id,
            manifest,
            durable_offset: state.current.log_offset(state.end),
            current: state.current,
            capacity: state.capacity,
            end: state.end,
            previous_crc: state.previous_crc,
        }
    }

    /// Writes frames one after the other and syncs them: one write and one sync, unless a file ends between them.
    pub(crate) fn append<'a>(
        &mut self,
        frames: impl Iterator<Item = &'a FrameDraft> + Clone,
        mut first_position: Position,
        recorded_at: Timestamp,
    ) -> Result<Vec<Chunk>, WriteFailed> {
        let mut chunks = Vec::with_capacity(1);
        let bytes: usize = frames.clone().map(|f| f.bytes().len()).sum();
        let mut buffer = Vec::with_capacity(bytes + PAGE_BYTES);
        for (attempted, frame) in frames.enumerate() {
            if self.end + (buffer.len() + frame.bytes().len()) as u64 > self.capacity {
                chunks.extend(self.flush(std::mem::take(&mut buffer), attempted)?);
                self.roll(first_position, frame.bytes().len(), attempted)?;
            }
            let place = FramePlace {
                salt: self.current.header.salt,
                previous_crc: self.previous_crc,
                durable_offset: self.durable_offset,
                first_position,
                recorded_at: recorded_at.as_micros(),
            };
            self.previous_crc = frame.write(&place, &mut buffer);
            first_position += u64::from(frame.events());
        }
        chunks.extend(self.flush(buffer, usize::MAX)?);
        if self.end > self.capacity / 2 {
            self.spare
                .prepare(self.place.capacity(Some(self.capacity), 0));
        }
        Ok(chunks)
    }

    /// States that everything written is durable. It records nothing, so it has no time: when a log is opened, the
    /// clock is compared with the times of its frames.
    pub(crate) fn mark(&mut self, next_position: Position) -> Result<Vec<Chunk>, WriteFailed> {
        let mark = FrameDraft::mark();
        self.append([mark].iter(), next_position, Timestamp::default())
    }

    /// The file that is written to.
    pub(crate) fn current(&self) -> &Arc<LogFile> {
        &self.current
    }

    /// Where files are handed over that the log does not need any more.
    pub(crate) fn recycled(&self) -> &Arc<Recycled> {
        self.spare.recycled()
    }

    /// What the folder holds.
    pub(crate) fn manifest(&self) -> &Arc<OpenManifest> {
        &self.manifest
    }

    /// The log offset behind the last frame.
    pub(crate) fn end(&self) -> u64 {
        self.current.log_offset(self.end)
    }

    /// Ends writing, and has the manifest state how long the log is.
    pub(crate) fn close(self) -> io::Result<()> {
        self.manifest
            .change(|manifest| manifest.durable_offset = self.durable_offset)
    }

    fn flush(
        &mut self,
        mut buffer: Vec<u8>,
        attempted: usize,
    ) -> Result<Option<Chunk>, WriteFailed> {
        if buffer.is_empty() {
            return Ok(None);
        }
        let file = &self.current;
        let failed = |doing, error| WriteFailed {
            path: file.path.clone(),
            doing,
            error,
            attempted,
        };
        // Zeros up to the end of the page: a page written whole is not read before. Behind them, and in parts of them if
        // this write is torn, stands whatever the file held before. That does no harm: the next frame must have this
        // file's salt, follow the checksum of the last frame and begin where that one ends, and of a frame every byte
        // counts, so that one of new and old bytes is none. Recovery takes no zeros for the end, only the lack of such a
        // frame.
        let frames = buffer.len();
        let end = self.end + frames as u64;
        let padded = end.next_multiple_of(PAGE_BYTES as u64).min(self.capacity);
        buffer.resize((padded - self.end) as usize, 0);
        file.file
            .write_all_at(&buffer, self.end)
            .map_err(|e| failed("writing", e))?;
        buffer.truncate(frames);
        file.file.sync_data().map_err(|e| failed("syncing", e))?;
        let chunk = Chunk {
            file: Arc::clone(file),
            start: self.end,
            bytes: buffer.into(),
        };
        self.end += chunk.bytes.len() as u64;
        self.durable_offset = self.current.log_offset(self.end);
        Ok(Some(chunk))
    }

    fn roll(
        &mut self,
        first_position: Position,
        needed: usize,
        attempted: usize,
    ) -> Result<(), WriteFailed> {
        let failed = |error| WriteFailed {
            path: self.place.log_dir.clone(),
            doing: "starting the next log file in",
            error,
            attempted,
        };
        let capacity = self.place.capacity(Some(self.capacity), needed);
        let spare = self.spare.take(capacity).map_err(failed)?;
        let header = FileHeader {
            log_id: self.log_id,
            salt: random_salt(),
            first_position,
            base_offset: self.durable_offset,
            file_bytes: spare.capacity,
            previous_crc: self.previous_crc,
            recycled: spare.recycled,
        };
        self.capacity = spare.capacity;
        let file = publish(&self.place, spare, header).map_err(failed)?;
        let stated = |manifest: &mut Manifest| {
            manifest.newest_file = header.base_offset;
            manifest.durable_offset = self.durable_offset;
        };
        self.manifest.change(stated).map_err(failed)?;
        self.current = Arc::new(file);
        self.end = HEADER_BYTES as u64;
        Ok(())
    }
}

/// A file in a tenant's folder that no attempt to make a tenant leaves: it holds events, or did. Without a manifest beside
/// it there should be none.
pub(crate) fn file_with_events(place: &LogPlace) -> io::Result<Option<PathBuf>> {
    let list = |dir: &Path| match place.disk.list(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        names => names,
    };
    for dir in [place.segments_dir(), place.index_dir()] {
        if let Some(name) = list(&dir)?.first() {
            return Ok(Some(dir.join(name)));
        }
    }
    let names = list(&place.log_dir)?.into_iter();
    for name in names.filter(|name| name.ends_with(".log")) {
        let path = place.log_dir.join(name);
        let bytes = place.disk.open(&path)?.read_all()?;
        // A file has its whole header before it has its name.
        let unused = bytes
            .split_at_checked(HEADER_BYTES)
            .filter(|(header, _)| FileHeader::decode(header).is_ok());
        if unused.is_none_or(|(_, frames)| frames.iter().any(|&byte| byte != 0)) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// Makes a new log in a tenant's folder; the tenant exists once this returns. What an attempt that did not finish left
/// in the folder is removed: the caller has made sure that none of it is a [`file_with_events`].
pub(crate) fn create(place: LogPlace, log_id: LogId) -> io::Result<LogWriter> {
    let disk = &place.disk;
    disk.create_dir(&place.log_dir)?;
    let names = disk.list(&place.log_dir)?;
    for name in names {
        disk.remove(&place.log_dir.join(name))?;
    }
    let capacity = place.capacity(None, 0);
    let spare = super::spare::make(&**disk, place.log_dir.join("spare.new"), capacity)?;
    let header = FileHeader {
        log_id,
        salt: random_salt(),
        first_position: 1,
        base_offset: 0,
        file_bytes: capacity,
        previous_crc: 0,
        recycled: false,
    };
    let file = publish(&place, spare, header)?;
    disk.sync_dir(&place.dir)?;
    if let Some(parent) = place.dir.parent() {
        disk.sync_dir(parent)?;
    }
    let manifest = Manifest {
        log_id,
        floor: 0,
        newest_file: 0,
        durable_offset: 0,
        sealed: Sealed::default(),
    };
    manifest.write(&**disk, &place.dir)?;
    let manifest = OpenManifest::new(Arc::clone(disk), place.dir.clone(), manifest);
    let state = WriterState {
        current: Arc::new(file),
        capacity,
        end: HEADER_BYTES as u64,
        previous_crc: 0,
    };
    Ok(LogWriter::new(place, Arc::new(manifest), state))
}

/// Gives a spare file its header and then its name, both durable.
pub(crate) fn publish(
    place: &LogPlace,
    spare: SpareFile,
    header: FileHeader,
) -> io::Result<LogFile> {
    spare.file.write_all_at(&header.encode(), 0)?;
    spare.file.sync_data()?;
    let path = file::path(&place.log_dir, &header);
    place.disk.rename(&spare.path, &path)?;
    place.disk.sync_dir(&place.log_dir)?;
    Ok(LogFile {
        file: spare.file,
        path,
        header,
    })
}

/// A salt that nobody who writes payloads can know.
pub(crate) fn random_salt() -> u64 {
    let mut salt = [0; 8];
    getrandom::fill(&mut salt).expect("the operating system gives random numbers");
    u64::from_le_bytes(salt)
}
