//! An event as it is read.

use std::fmt;

use uuid::Uuid;

use crate::{
    storage::log::row::{Row, RowTags, text},
    types::{
        id::{Position, Version},
        time::Timestamp,
    },
};

/// An event of the log. Shares the memory it was read into with those read together with it, so cloning is cheap.
#[derive(Clone, PartialEq, Eq)]
pub struct Event {
    pub(crate) position: Position,
    pub(crate) recorded_at: i64,
    pub(crate) row: Row,
}

impl Event {
    /// Place in the tenant's log.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Place in the entity's stream.
    pub fn version(&self) -> Version {
        self.row.version()
    }

    /// When its group was made durable.
    pub fn recorded_at(&self) -> Timestamp {
        Timestamp::from_micros(self.recorded_at).unwrap_or_default()
    }

    /// The client's own time.
    pub fn occurred_at(&self) -> Option<Timestamp> {
        self.row.occurred_at()
    }

    /// The idempotency key.
    pub fn event_id(&self) -> Uuid {
        self.row.event_id()
    }

    /// Whom it is about.
    pub fn entity_id(&self) -> &str {
        text(self.row.entity_id())
    }

    /// What happened.
    pub fn event_type(&self) -> &str {
        text(self.row.event_type())
    }

    /// JSON text.
    pub fn payload(&self) -> &str {
        text(self.row.payload())
    }

    /// JSON object text.
    pub fn metadata(&self) -> Option<&str> {
        self.row.metadata().map(text)
    }

    /// The tags, in order.
    pub fn tags(&self) -> impl Iterator<Item = &str> + Clone {
        self.row.tags().map(text)
    }

    /// `entity_id`, not checked to be UTF-8 once more.
    pub fn entity_id_bytes(&self) -> &[u8] {
        self.row.entity_id()
    }

    /// `event_type`, not checked to be UTF-8 once more.
    pub fn event_type_bytes(&self) -> &[u8] {
        self.row.event_type()
    }

    /// `payload`, not checked to be UTF-8 once more.
    pub fn payload_bytes(&self) -> &[u8] {
        self.row.payload()
    }

    /// `metadata`, not checked to be UTF-8 once more.
    pub fn metadata_bytes(&self) -> Option<&[u8]> {
        self.row.metadata()
    }

    /// `tags`, not checked to be UTF-8 once more.
    pub fn tags_bytes(&self) -> RowTags<'_> {
        self.row.tags()
    }

    /// Bytes that the log stores it in.
    pub fn encoded_bytes(&self) -> usize {
        self.row.as_bytes().len()
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("position", &self.position)
            .field("recorded_at", &self.recorded_at())
            .field("row", &self.row)
            .finish()
    }
}
