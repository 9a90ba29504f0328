//! `annals.v1.EventBatch`, kept in its encoded form: the server writes it straight from rows of the log, the client
//! reads it in place. Wire-compatible with the message that `proto/annals/v1/common.proto` describes.

use prost::{
    DecodeError, Message,
    bytes::{Buf, BufMut},
    encoding::{
        DecodeContext, WireType, check_wire_type, decode_varint, encode_key, encode_varint,
        encoded_len_varint, skip_field,
    },
};

use super::Event;

const EVENTS: u32 = 1;

mod field {
    pub(super) const POSITION: u32 = 1;
    pub(super) const ENTITY_ID: u32 = 2;
    pub(super) const VERSION: u32 = 3;
    pub(super) const EVENT_TYPE: u32 = 4;
    pub(super) const EVENT_ID: u32 = 5;
    pub(super) const RECORDED_AT: u32 = 6;
    pub(super) const OCCURRED_AT: u32 = 7;
    pub(super) const PAYLOAD: u32 = 8;
    pub(super) const METADATA: u32 = 9;
    pub(super) const TAGS: u32 = 10;
}

/// Events in their encoded form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventBatch {
    encoded: Vec<u8>,
}

/// The other side sent an event that does not decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event of the batch is not what annals.v1 describes")]
pub struct MalformedEvent;

/// What an event is encoded from; times in microseconds since 1970, UTC.
pub(crate) struct EventFields<'a, T> {
    pub(crate) position: u64,
    pub(crate) version: u64,
    pub(crate) recorded_at: i64,
    pub(crate) occurred_at: Option<i64>,
    pub(crate) event_id: uuid::Uuid,
    pub(crate) entity_id: &'a [u8],
    pub(crate) event_type: &'a [u8],
    pub(crate) payload: &'a [u8],
    pub(crate) metadata: Option<&'a [u8]>,
    pub(crate) tags: T,
}

impl EventBatch {
    /// Room for so many encoded bytes.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self {
            encoded: Vec::with_capacity(bytes),
        }
    }

    /// Bytes of the encoded events.
    pub fn encoded_bytes(&self) -> usize {
        self.encoded.len()
    }

    /// True if no event is in it.
    pub fn is_empty(&self) -> bool {
        self.encoded.is_empty()
    }

    /// The events, decoded one by one and in place.
    pub fn iter(&self) -> EventViews<'_> {
        EventViews {
            rest: &self.encoded,
        }
    }

    /// The last event, without decoding those before it.
    pub fn last(&self) -> Result<Option<EventView<'_>>, MalformedEvent> {
        let mut rest = self.encoded.as_slice();
        let mut last = None;
        while !rest.is_empty() {
            match take_field(&mut rest)? {
                (EVENTS, Value::Bytes(event)) => last = Some(event),
                _ => return Err(MalformedEvent),
            }
        }
        last.map(EventView::decode).transpose()
    }

    /// Appends an event.
    pub(crate) fn push<'a, T>(&mut self, event: &EventFields<'a, T>)
    where
        T: Iterator<Item = &'a [u8]> + Clone,
    {
        let recorded_at = EncodedTime::new(event.recorded_at);
        let occurred_at = event.occurred_at.map(EncodedTime::new);
        let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
        let event_id = event.event_id.hyphenated().encode_lower(&mut text);

        let mut len = 1
            + encoded_len_varint(event.position)
            + 1
            + encoded_len_varint(event.version)
            + len_bytes(event.entity_id)
            + len_bytes(event.event_type)
            + len_bytes(event_id.as_bytes())
            + len_bytes(recorded_at.bytes())
            + len_bytes(event.payload);
        len += occurred_at.as_ref().map_or(0, |t| len_bytes(t.bytes()));
        len += event.metadata.map_or(0, len_bytes);
        len += event.tags.clone().map(len_bytes).sum::<usize>();

        let buf = &mut self.encoded;
        buf.reserve(len + 8);
        encode_key(EVENTS, WireType::LengthDelimited, buf);
        encode_varint(len as u64, buf);
        encode_key(field::POSITION, WireType::Varint, buf);
        encode_varint(event.position, buf);
        put_bytes(field::ENTITY_ID, event.entity_id, buf);
        encode_key(field::VERSION, WireType::Varint, buf);
        encode_varint(event.version, buf);
        put_bytes(field::EVENT_TYPE, event.event_type, buf);
        put_bytes(field::EVENT_ID, event_id.as_bytes(), buf);
        put_bytes(field::RECORDED_AT, recorded_at.bytes(), buf);
        if let Some(occurred_at) = occurred_at {
            put_bytes(field::OCCURRED_AT, occurred_at.bytes(), buf);
        }
        put_bytes(field::PAYLOAD, event.payload, buf);
        if let Some(metadata) = event.metadata {
            put_bytes(field::METADATA, metadata, buf);
        }
        for tag in event.tags.clone() {
            put_bytes(field::TAGS, tag, buf);
        }
    }
}

impl<'a> IntoIterator for &'a EventBatch {
    type Item = Result<EventView<'a>, MalformedEvent>;
    type IntoIter = EventViews<'a>;

    fn into_iter(self) -> EventViews<'a> {
        self.iter()
    }
}

impl Message for EventBatch {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put_slice(&self.encoded);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        if tag != EVENTS {
            return skip_field(wire_type, tag, buf, ctx);
        }
        check_wire_type(WireType::LengthDelimited, wire_type)?;
        let len = decode_varint(buf)?;
        if len > buf.remaining() as u64 {
            // The error of an empty varint, since a `DecodeError` cannot be made outside of prost.
            return decode_varint(&mut [].as_slice()).map(drop);
        }
        if self.encoded.is_empty() {
            self.encoded.reserve(buf.remaining() + 16);
        }
        encode_key(EVENTS, WireType::LengthDelimited, &mut self.encoded);
        encode_varint(len, &mut self.encoded);
        self.encoded.put(buf.take(len as usize));
        Ok(())
    }

    fn encoded_len(&self) -> usize {
        self.encoded.len()
    }

    fn clear(&mut self) {
        self.encoded.clear();
    }
}

/// One event of a batch, borrowed from it. Times are in microseconds since 1970, UTC.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventView<'a> {
    /// Place in the tenant's log.
    pub position: u64,
    /// Place in the entity's stream.
    pub version: u64,
    /// When the server made it durable.
    pub recorded_at: i64,
    /// The client's own time.
    pub occurred_at: Option<i64>,
    /// Canonical UUID text.
    pub event_id: &'a str,
    /// Whom the event is about.
    pub entity_id: &'a str,
    /// What happened.
    pub event_type: &'a str,
    /// JSON text.
    pub payload: &'a str,
    /// JSON object text.
    pub metadata: Option<&'a str>,
    /// The tags, in order.
    pub tags: Tags<'a>,
}

impl<'a> EventView<'a> {
    fn decode(mut rest: &'a [u8]) -> Result<Self, MalformedEvent> {
        let whole = rest;
        let mut event = Self::default();
        while !rest.is_empty() {
            let at = whole.len() - rest.len();
            let (tag, value) = take_field(&mut rest)?;
            match (tag, value) {
                (field::POSITION, Value::Varint(v)) => event.position = v,
                (field::VERSION, Value::Varint(v)) => event.version = v,
                (field::ENTITY_ID, Value::Bytes(b)) => event.entity_id = text(b)?,
                (field::EVENT_TYPE, Value::Bytes(b)) => event.event_type = text(b)?,
                (field::EVENT_ID, Value::Bytes(b)) => event.event_id = text(b)?,
                (field::PAYLOAD, Value::Bytes(b)) => event.payload = text(b)?,
                (field::METADATA, Value::Bytes(b)) => event.metadata = Some(text(b)?),
                (field::RECORDED_AT, Value::Bytes(b)) => event.recorded_at = decode_time(b)?,
                (field::OCCURRED_AT, Value::Bytes(b)) => event.occurred_at = Some(decode_time(b)?),
                (field::TAGS, Value::Bytes(b)) => {
                    text(b)?;
                    if event.tags.fields.is_empty() {
                        event.tags.fields = &whole[at..];
                    }
                }
                _ => {}
            }
        }
        Ok(event)
    }

    /// An owned message.
    pub fn to_event(&self) -> Event {
        Event {
            position: self.position,
            entity_id: self.entity_id.to_owned(),
            version: self.version,
            event_type: self.event_type.to_owned(),
            event_id: self.event_id.to_owned(),
            recorded_at: Some(timestamp(self.recorded_at)),
            occurred_at: self.occurred_at.map(timestamp),
            payload: self.payload.to_owned(),
            metadata: self.metadata.map(str::to_owned),
            tags: self.tags.clone().map(str::to_owned).collect(),
        }
    }
}

/// The tags of an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tags<'a> {
    /// The event's fields from its first tag on, checked when the event was decoded.
    fields: &'a [u8],
}

impl<'a> Iterator for Tags<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        while !self.fields.is_empty() {
            if let (field::TAGS, Value::Bytes(b)) = take_field(&mut self.fields).ok()? {
                return text(b).ok();
            }
        }
        None
    }
}

/// Iterator over the events of a batch.
#[derive(Clone, Debug)]
pub struct EventViews<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for EventViews<'a> {
    type Item = Result<EventView<'a>, MalformedEvent>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let event = match take_field(&mut self.rest) {
            Ok((EVENTS, Value::Bytes(event))) => EventView::decode(event),
            Ok(_) => Err(MalformedEvent),
            Err(e) => Err(e),
        };
        if event.is_err() {
            self.rest = &[];
        }
        Some(event)
    }
}

enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    Other,
}

fn take_field<'a>(rest: &mut &'a [u8]) -> Result<(u32, Value<'a>), MalformedEvent> {
    let key = varint(rest)?;
    let tag = (key >> 3) as u32;
    let value = match key & 7 {
        0 => Value::Varint(varint(rest)?),
        1 => take(rest, 8).map(|_| Value::Other)?,
        2 => {
            let len = varint(rest)?;
            Value::Bytes(take(rest, len)?)
        }
        5 => take(rest, 4).map(|_| Value::Other)?,
        _ => return Err(MalformedEvent),
    };
    Ok((tag, value))
}

fn varint(rest: &mut &[u8]) -> Result<u64, MalformedEvent> {
    decode_varint(rest).map_err(|_| MalformedEvent)
}

fn take<'a>(rest: &mut &'a [u8], len: u64) -> Result<&'a [u8], MalformedEvent> {
    let at = usize::try_from(len).map_err(|_| MalformedEvent)?;
    let (taken, after) = rest.split_at_checked(at).ok_or(MalformedEvent)?;
    *rest = after;
    Ok(taken)
}

fn text(bytes: &[u8]) -> Result<&str, MalformedEvent> {
    std::str::from_utf8(bytes).map_err(|_| MalformedEvent)
}

/// A `google.protobuf.Timestamp`, encoded: at most 11 + 6 bytes.
struct EncodedTime {
    bytes: [u8; 18],
    len: usize,
}

impl EncodedTime {
    fn new(micros: i64) -> Self {
        let mut bytes = [0; 18];
        let mut buf = bytes.as_mut_slice();
        let seconds = micros.div_euclid(1_000_000);
        let nanos = micros.rem_euclid(1_000_000) * 1_000;
        if seconds != 0 {
            encode_key(1, WireType::Varint, &mut buf);
            encode_varint(seconds.cast_unsigned(), &mut buf);
        }
        if nanos != 0 {
            encode_key(2, WireType::Varint, &mut buf);
            encode_varint(nanos.cast_unsigned(), &mut buf);
        }
        let len = 18 - buf.len();
        Self { bytes, len }
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

fn decode_time(mut rest: &[u8]) -> Result<i64, MalformedEvent> {
    let (mut seconds, mut nanos) = (0, 0);
    while !rest.is_empty() {
        match take_field(&mut rest)? {
            (1, Value::Varint(v)) => seconds = v.cast_signed(),
            (2, Value::Varint(v)) => nanos = v.cast_signed(),
            _ => {}
        }
    }
    Ok(seconds
        .saturating_mul(1_000_000)
        .saturating_add(nanos / 1_000))
}

fn timestamp(micros: i64) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: micros.div_euclid(1_000_000),
        nanos: i32::try_from(micros.rem_euclid(1_000_000) * 1_000).expect("below a second"),
    }
}

fn len_bytes(bytes: &[u8]) -> usize {
    1 + encoded_len_varint(bytes.len() as u64) + bytes.len()
}

fn put_bytes(tag: u32, bytes: &[u8], buf: &mut Vec<u8>) {
    encode_key(tag, WireType::LengthDelimited, buf);
    encode_varint(bytes.len() as u64, buf);
    buf.extend_from_slice(bytes);
}
