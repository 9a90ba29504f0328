//! A batch between its checks, off the commit path, and its place in the log.

use uuid::Uuid;

use crate::types::{
    append::{CursorRecord, Guard},
    text::Text,
};

/// A batch that is fit to be appended if its guards hold.
pub(crate) struct Prepared {
    pub(crate) events: Vec<PreparedEvent>,
    pub(crate) guards: Vec<Guard>,
    pub(crate) cursors: Vec<CursorRecord>,
    /// A frame's buffer with the rows in it, not sealed.
    pub(crate) rows: Vec<u8>,
    /// The ids, if any of them was made here; else empty.
    pub(crate) made_ids: Vec<Uuid>,
    /// The client gave every id.
    pub(crate) ids_given: bool,
}

/// What the commit path needs to know of an event besides its row.
pub(crate) struct PreparedEvent {
    /// Offset of the row behind the frame's header.
    pub(crate) row_start: u32,
    pub(crate) slot: u16,
    pub(crate) id: Uuid,
    /// The client gave the id, so it may be a repeat.
    pub(crate) id_given: bool,
    pub(crate) id_hash: u64,
    pub(crate) entity: (u64, Text),
    pub(crate) event_type: (u64, Text),
    pub(crate) tags: Vec<(u64, Text)>,
}
