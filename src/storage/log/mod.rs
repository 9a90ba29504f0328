//! The row log: the write-ahead log and the hot store in one.
//!
//! ```text
//! tenants/<tenant>/log/<first position>.log          one file:  header block │ frame │ frame │ … │ zeros, or what an old file held
//!                                                    one frame: header │ rows │ cursor records │ extension │ padding
//! ```
//! - [`mod@file`]: the header block of a file.
//! - [`frame`]: a batch, or a statement of what is durable.
//! - [`row`]: one event.
//! - `writer`: appends groups of frames, rolls over to new files; `spare`: has those ready, recycled or new.
//! - `recovery`: reads a log at open, tells a torn tail from damage; `torn`: what stands behind the last frame; `inspect`: checks one without opening it;
//!   `scan`: frame by frame.
//!
//! Offsets are log-wide unless they are said to be in a file: a frame's log offset counts the bytes of all frames before
//! it. Everything is little-endian.

pub mod file;
pub mod frame;
pub(crate) mod inspect;
pub(crate) mod recovery;
pub mod row;
pub(crate) mod scan;
pub(crate) mod spare;
mod torn;
pub(crate) mod writer;
