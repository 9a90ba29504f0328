//! Reads the frames of a log file one after the other, with no more in memory than one of them needs.

use std::{io, sync::Arc};

use super::{
    file::HEADER_BYTES,
    frame::{FRAME_HEADER_BYTES, Frame, InvalidFrame},
    recovery::{Chain, RecoverError, SeenFrame, damage, io_error, too_new},
    writer::LogFile,
};
use crate::storage::bytes::get_u32;

const READ_BYTES: usize = 1 << 20;

/// See the module. Starts behind the header, and ends with the first frame that is not valid, or does not continue the
/// one before.
pub(crate) struct FrameScan<'a> {
    file: &'a Arc<LogFile>,
    /// What of the file was read, and where in it that starts.
    window: Vec<u8>,
    window_at: u64,
    /// In the file: the next frame, and where frames end.
    at: u64,
    end: u64,
}

impl<'a> FrameScan<'a> {
    /// `end`: the log offset behind the last frame; what stands there or behind is not read.
    pub(crate) fn new(file: &'a Arc<LogFile>, end: u64) -> Self {
        let start = HEADER_BYTES as u64;
        Self {
            file,
            window: Vec::new(),
            window_at: start,
            at: start,
            end: file.in_file(end.max(file.header.base_offset)),
        }
    }

    /// The next frame; `None` behind the last one.
    pub(super) fn next(
        &mut self,
        chain: &mut Chain,
    ) -> Result<Option<SeenFrame<'_>>, RecoverError> {
        if self.at >= self.end {
            return Ok(None);
        }
        let (file, at) = (self.file, self.at);
        let damaged = |what: &str| RecoverError::from(damage(file, at as usize, what));
        if !self.fill(FRAME_HEADER_BYTES)? {
            return Err(damaged(MISSING));
        }
        let frame_bytes = get_u32(self.window_from_here(), 4) as usize;
        // A length that cannot be is told by the check.
        if frame_bytes as u64 <= self.end - at && !self.fill(frame_bytes)? {
            return Err(damaged(MISSING));
        }
        self.at += frame_bytes as u64;
        let here = (at - self.window_at) as usize;
        let within = self.window.len().min(here + frame_bytes);
        let frame = match Frame::check(&self.window[here..within], file.header.salt) {
            Ok(frame) => frame,
            Err(InvalidFrame::TooNew) => return Err(too_new(file)),
            Err(e) => return Err(damaged(&e.to_string())),
        };
        if !chain.follow(&frame) {
            return Err(damaged("a frame does not continue the one before"));
        }
        Ok(Some(SeenFrame {
            file,
            start: at,
            frame,
        }))
    }

    fn window_from_here(&self) -> &[u8] {
        &self.window[(self.at - self.window_at) as usize..]
    }

    /// Reads on until so many bytes from the next frame on are there; false if the file, or what is to be read of it,
    /// ends before.
    fn fill(&mut self, bytes: usize) -> Result<bool, RecoverError> {
        let have = self.window_from_here().len();
        if have >= bytes {
            return Ok(true);
        }
        if bytes as u64 > self.end - self.at {
            return Ok(false);
        }
        self.window.drain(..self.window.len() - have);
        self.window_at = self.at;
        let wanted = bytes.max(READ_BYTES) as u64;
        let wanted = wanted.min(self.end - self.at) as usize;
        self.window.resize(wanted, 0);
        let mut filled = have;
        while filled < wanted {
            let offset = self.window_at + filled as u64;
            match self.file.file.read_at(&mut self.window[filled..], offset) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(io_error(&self.file.path, "reading", e)),
            }
        }
        self.window.truncate(filled);
        Ok(filled >= bytes)
    }
}

const MISSING: &str = "its end is missing";

/// Shows the frames of a file that are right and follow each other from its start on, up to a log offset. What ends them
/// is not told: the caller knows what should be there.
pub(crate) fn valid_frames(
    file: &Arc<LogFile>,
    end: u64,
    see: &mut dyn FnMut(&SeenFrame<'_>) -> io::Result<()>,
) -> io::Result<()> {
    let mut chain = Chain::at(&file.header);
    let mut scan = FrameScan::new(file, end);
    loop {
        match scan.next(&mut chain) {
            Ok(Some(seen)) => see(&seen)?,
            Ok(None) | Err(RecoverError::Damaged(_) | RecoverError::TooNew { .. }) => return Ok(()),
            Err(RecoverError::Io { path, error, .. }) => {
                return Err(io::Error::other(format!("{}: {error}", path.display())));
            }
        }
    }
}

/// Shows the frames of a file of which everything up to a log offset must be right.
pub(super) fn whole_frames(
    file: &Arc<LogFile>,
    end: u64,
    chain: &mut Chain,
    see: &mut dyn FnMut(&SeenFrame<'_>) -> Result<(), RecoverError>,
) -> Result<(), RecoverError> {
    chain.check_header(file)?;
    if end < file.header.base_offset {
        return Err(damage(file, 0, "the next file begins before it").into());
    }
    let mut scan = FrameScan::new(file, end);
    while let Some(seen) = scan.next(chain)? {
        see(&seen)?;
    }
    Ok(())
}
