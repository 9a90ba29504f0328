//! An event before it is appended.

use uuid::Uuid;

use super::{text::Text, time::Timestamp};

/// A fact about an entity, as a client hands it over. Checked when it is appended.
///
/// ```
/// use annals::NewEvent;
///
/// let event = NewEvent::new("order-42", "order.paid", r#"{"amount": 12.5}"#)
///     .with_metadata(r#"{"correlation_id": "c-1"}"#)
///     .with_tags(["customer:7"]);
/// assert_eq!(event.entity_id.as_bytes(), b"order-42");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewEvent {
    /// The idempotency key; without one a UUIDv7 is made, and a retry is then a new event.
    pub event_id: Option<Uuid>,
    /// 1 to 512 bytes of UTF-8 without control characters, not starting with `$`.
    pub entity_id: Text,
    /// Named like an entity.
    pub event_type: Text,
    /// JSON text, nested at most 128 deep.
    pub payload: Text,
    /// The text of a JSON object, without keys that start with `annals.`.
    pub metadata: Option<Text>,
    /// Named like entities.
    pub tags: Vec<Text>,
    /// The client's own time.
    pub occurred_at: Option<Timestamp>,
}

impl NewEvent {
    /// An event without the optional parts.
    pub fn new(
        entity_id: impl Into<Text>,
        event_type: impl Into<Text>,
        payload: impl Into<Text>,
    ) -> Self {
        Self {
            entity_id: entity_id.into(),
            event_type: event_type.into(),
            payload: payload.into(),
            ..Self::default()
        }
    }

    /// With this id.
    #[must_use]
    pub fn with_id(mut self, event_id: Uuid) -> Self {
        self.event_id = Some(event_id);
        self
    }

    /// With this metadata.
    #[must_use]
    pub fn with_metadata(mut self, metadata: impl Into<Text>) -> Self {
        self.metadata = Some(metadata.into());
        self
    }

    /// With these tags.
    #[must_use]
    pub fn with_tags<T: Into<Text>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.tags = tags.into_iter().map(Into::into).collect();
        self
    }

    /// With the client's own time.
    #[must_use]
    pub fn with_occurred_at(mut self, occurred_at: Timestamp) -> Self {
        self.occurred_at = Some(occurred_at);
        self
    }
}
