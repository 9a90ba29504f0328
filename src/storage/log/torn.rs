//! What stands behind the last frame of a log file: nothing, what the file held before it was recycled, or a write that
//! was torn.
//!
//! Only frames decide anything: a valid one here has the salt of the file, so it was written behind the end, and what it
//! states to be durable must be there. Whether a write was torn is only told to people: nobody was told of it.

use super::{
    file::FileHeader,
    frame::{Claim, FRAME_ALIGN, FRAME_HEADER_BYTES, Frame},
};
use crate::{storage::bytes::get_u32, types::id::Position};

/// What a disk writes as a whole or not at all, at the least.
const SECTOR_BYTES: usize = 512;

/// The highest durable offset above `least` that valid frames state in bytes where the log seems to end; `least` if none
/// does.
pub(super) fn stated_behind(behind: &[u8], salt: u64, least: u64) -> u64 {
    let mut stated = least;
    // What a recycled file held states less, so its checksums need not be computed.
    each_frame(
        behind,
        salt,
        |claim| claim.durable_offset > least,
        |_, frame| {
            stated = stated.max(frame.durable_offset());
        },
    );
    stated
}

/// Bytes of a torn write behind the frames, which end at `end`; 0 if none can be seen. `next`: the position of the next
/// event.
pub(super) fn torn_bytes(bytes: &[u8], end: usize, header: &FileHeader, next: Position) -> u64 {
    let behind = &bytes[end..];
    let written = |bytes: &[u8]| bytes.iter().rposition(|&byte| byte != 0);
    if !header.recycled {
        return written(behind).map_or(0, |last| last as u64 + 1);
    }
    // The rest of a sector is written with the frame that ends in it, as zeros, or else by a later write.
    let sector = behind.len().min(end.next_multiple_of(SECTOR_BYTES) - end);
    let mut torn = written(&behind[..sector]).map_or(0, |last| last + 1);
    // What a recycled file held is all of lower positions.
    if let Some(claim) = Claim::read(behind).filter(|claim| claim.first_position == next) {
        torn = torn.max(claim.frame_bytes);
    }
    each_frame(
        behind,
        header.salt,
        |claim| claim.first_position >= next,
        |at, frame| {
            torn = torn.max(at + frame.as_bytes().len());
        },
    );
    torn as u64
}

/// Shows the valid frames, and where they start, whose claims are of interest.
fn each_frame(
    bytes: &[u8],
    salt: u64,
    is_wanted: impl Fn(&Claim) -> bool,
    mut see: impl FnMut(usize, &Frame<'_>),
) {
    let mut at = 0;
    while at + FRAME_HEADER_BYTES <= bytes.len() {
        if get_u32(bytes, at) != 0
            && Claim::read(&bytes[at..]).is_some_and(|claim| is_wanted(&claim))
            && let Ok(frame) = Frame::check(&bytes[at..], salt)
        {
            see(at, &frame);
        }
        at += FRAME_ALIGN;
    }
}

#[cfg(test)]
mod tests;
