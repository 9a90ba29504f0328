//! Arrow's stream format out of Flight's messages: the schema, dictionaries, record batches.
//!
//! The bytes are anybody's. What arrow's decoder takes on trust is checked before it sees them: that ranges are within
//! the message, that lengths are lengths, what compressed buffers grow to. So memory is bounded by the largest message,
//! times two where it is compressed. What the decoder still panics on is caught here.
//!
//! Not here: which columns are taken (`put_schema`), and what is made of them (`put_columns`).

use std::{
    collections::HashMap,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use arrow::{
    array::{ArrayRef, RecordBatch},
    buffer::Buffer,
    datatypes::{Schema, SchemaRef},
    error::ArrowError,
    ipc::{
        self, BodyCompressionMethod, CompressionType, Message, MessageHeader,
        convert::fb_to_schema,
        reader::{read_dictionary, read_record_batch},
        root_as_message,
    },
};
use bytes::Bytes;

use super::super::status::Refusal;
use crate::types::kind::Kind;

/// Most rows that a message says it has; far above any limit of a batch, far below what overflows.
const ROWS_MAX: i64 = i32::MAX as i64;
/// A compressed buffer begins with the size of what is in it.
const SIZE_BYTES: usize = 8;
/// The size of a buffer that is not compressed although its neighbours are.
const NOT_COMPRESSED: i64 = -1;

/// Refuses a schema whose rows are not to be read.
pub(super) type CheckSchema = fn(ipc::Schema<'_>) -> Result<(), Refusal>;

/// Rows, and what they keep in memory.
pub(super) struct DecodedBatch {
    pub(super) rows: RecordBatch,
    /// Of the message, of what it decompresses to, and of the dictionaries it may point into.
    pub(super) bytes: usize,
}

/// What is known of a stream so far.
pub(super) struct Decoder {
    /// Most bytes of a message, of what it decompresses to, and of all dictionaries.
    bytes_max: usize,
    /// What judges the schema, before it is taken apart.
    check: CheckSchema,
    schema: Option<SchemaRef>,
    dictionaries: HashMap<i64, ArrayRef>,
    dictionary_bytes: HashMap<i64, usize>,
}

impl Decoder {
    pub(super) fn new(bytes_max: usize, check: CheckSchema) -> Self {
        Self {
            bytes_max,
            check,
            schema: None,
            dictionaries: HashMap::new(),
            dictionary_bytes: HashMap::new(),
        }
    }

    /// Takes the next message; `None` if it holds no rows.
    pub(super) fn decode(
        &mut self,
        header: &[u8],
        body: Bytes,
    ) -> Result<Option<DecodedBatch>, Refusal> {
        let message = root_as_message(header)
            .map_err(|e| Refusal::malformed(format!("the header of a message is none: {e}")))?;
        match message.header_type() {
            MessageHeader::Schema => self.take_schema(message).map(|()| None),
            MessageHeader::DictionaryBatch => self.take_dictionary(message, body).map(|()| None),
            MessageHeader::RecordBatch => self.rows(message, body).map(Some),
            MessageHeader::NONE => Ok(None),
            other => {
                let name = other.variant_name().unwrap_or("unknown");
                let told = format!("a message is a {name}; a table consists of record batches");
                Err(Refusal::malformed(told))
            }
        }
    }

    fn take_schema(&mut self, message: Message<'_>) -> Result<(), Refusal> {
        if self.schema.is_some() {
            return Err(Refusal::malformed(
                "the stream has a second schema: the columns of all batches are the same",
            ));
        }
        let schema = message
            .header_as_schema()
            .ok_or_else(|| Refusal::malformed("the schema is missing from its message"))?;
        (self.check)(schema)?;
        let schema: Schema = guarded(|| fb_to_schema(schema))?;
        self.schema = Some(Arc::new(schema));
        Ok(())
    }

    fn schema(&self) -> Result<&SchemaRef, Refusal> {
        let told = "the stream has rows before its schema";
        self.schema.as_ref().ok_or_else(|| Refusal::malformed(told))
    }

    fn take_dictionary(&mut self, message: Message<'_>, body: Bytes) -> Result<(), Refusal> {
        let schema = Arc::clone(self.schema()?);
        let incomplete = || Refusal::malformed("a dictionary is missing from its message");
        let dictionary = message
            .header_as_dictionary_batch()
            .ok_or_else(incomplete)?;
        let values = dictionary.data().ok_or_else(incomplete)?;
        let mut bytes = checked_bytes(values, &body, self.bytes_max)?;
        let id = dictionary.id();
        if dictionary.isDelta() {
            bytes += self.dictionary_bytes.get(&id).copied().unwrap_or(0);
        }
        let others = self.dictionary_bytes.iter();
        let others: usize = others.filter(|(i, _)| **i != id).map(|(_, n)| n).sum();
        if others + bytes > self.bytes_max {
            return Err(too_large(
                "the dictionaries",
                others + bytes,
                self.bytes_max,
            ));
        }
        let (body, version) = (Buffer::from(body), message.version());
        let dictionaries = &mut self.dictionaries;
        guarded(|| read_dictionary(&body, dictionary, &schema, dictionaries, &version))?
            .map_err(|e| undecodable("a dictionary", &e))?;
        self.dictionary_bytes.insert(id, bytes);
        Ok(())
    }

    fn rows(&self, message: Message<'_>, body: Bytes) -> Result<DecodedBatch, Refusal> {
        let schema = Arc::clone(self.schema()?);
        let batch = message
            .header_as_record_batch()
            .ok_or_else(|| Refusal::malformed("a record batch is missing from its message"))?;
        let bytes = checked_bytes(batch, &body, self.bytes_max)?;
        let (body, version) = (Buffer::from(body), message.version());
        let dictionaries = &self.dictionaries;
        let rows =
            guarded(|| read_record_batch(&body, batch, schema, dictionaries, None, &version))?
                .map_err(|e| undecodable("a record batch", &e))?;
        let dictionaries: usize = self.dictionary_bytes.values().sum();
        Ok(DecodedBatch {
            rows,
            bytes: bytes + dictionaries,
        })
    }
}

/// The bytes of a batch, decompressed ones included, once what it says of itself is found to be possible.
fn checked_bytes(
    batch: ipc::RecordBatch<'_>,
    body: &[u8],
    bytes_max: usize,
) -> Result<usize, Refusal> {
    let impossible = |what: &str| Refusal::malformed(format!("a batch is not well-formed: {what}"));
    let (Some(nodes), Some(buffers)) = (batch.nodes(), batch.buffers()) else {
        return Err(impossible("it does not say where its columns are"));
    };
    let is_length = |length: i64| (0..=ROWS_MAX).contains(&length);
    let is_node = |node: &ipc::FieldNode| {
        is_length(node.length()) && (0..=node.length()).contains(&node.null_count())
    };
    if !is_length(batch.length()) || !nodes.iter().all(is_node) {
        return Err(impossible("the length of a column is none"));
    }
    let mut views = batch.variadicBufferCounts().into_iter().flatten();
    if !views.all(|count| usize::try_from(count).is_ok_and(|count| count <= buffers.len())) {
        return Err(impossible("it says that it has more buffers than it has"));
    }
    let compression = batch.compression();
    let known = compression.is_none_or(|compression| {
        compression.method() == BodyCompressionMethod::BUFFER
            && [CompressionType::LZ4_FRAME, CompressionType::ZSTD].contains(&compression.codec())
    });
    if !known {
        return Err(impossible("its compression is none of lz4 and zstd"));
    }
    let codec = compression.map(|compression| compression.codec());
    let (mut taken, mut grown) = (0, 0);
    for buffer in buffers {
        let range = usize::try_from(buffer.offset())
            .ok()
            .zip(usize::try_from(buffer.length()).ok())
            .and_then(|(offset, length)| Some(offset..offset.checked_add(length)?));
        let Some(bytes) = range.and_then(|range| body.get(range)) else {
            return Err(impossible("a buffer is outside of the message"));
        };
        taken += bytes.len();
        // Buffers that overlap would be decompressed again and again.
        if taken > body.len() {
            return Err(impossible("its buffers overlap"));
        }
        if let Some(codec) = codec.filter(|_| !bytes.is_empty()) {
            let left = bytes_max - grown;
            grown += decompressed_bytes(bytes, codec, left)?
                .ok_or_else(|| too_large("a decompressed message", bytes_max + 1, bytes_max))?;
        }
    }
    Ok(body.len() + grown)
}

/// What a compressed buffer becomes; `None` if that is more than is left.
fn decompressed_bytes(
    buffer: &[u8],
    codec: CompressionType,
    left: usize,
) -> Result<Option<usize>, Refusal> {
    let wrong = || Refusal::malformed("a compressed buffer does not become what it says");
    let (size, compressed) = buffer.split_first_chunk::<SIZE_BYTES>().ok_or_else(wrong)?;
    let size = i64::from_le_bytes(*size);
    if size == NOT_COMPRESSED {
        return Ok(Some(0));
    }
    let size = usize::try_from(size).map_err(|_| wrong())?;
    if size > left {
        return Ok(None);
    }
    if codec == CompressionType::LZ4_FRAME && size > 0 {
        // Arrow's decoder takes all that the frame holds, whatever it says; zstd's stops.
        let frame = lz4_flex::frame::FrameDecoder::new(compressed);
        let mut most = io::Read::take(frame, size as u64 + 1);
        let found = io::copy(&mut most, &mut io::sink()).map_err(|_| wrong())?;
        if found != size as u64 {
            return Err(wrong());
        }
    }
    Ok(Some(size))
}

/// Runs code that panics on what it does not expect in bytes of others. What it worked on is not used any more then: the
/// stream ends.
pub(super) fn guarded<T>(decode: impl FnOnce() -> T) -> Result<T, Refusal> {
    catch_unwind(AssertUnwindSafe(decode))
        .map_err(|_| Refusal::malformed("a message is not what arrow's stream format describes"))
}

fn undecodable(what: &str, error: &ArrowError) -> Refusal {
    Refusal::malformed(format!("{what} does not decode: {error}"))
}

fn too_large(what: &str, size: usize, limit: usize) -> Refusal {
    let told = format!("{what} would take {size} bytes, the most is {limit}: send smaller batches");
    Refusal::new(Kind::Invalid, "MESSAGE_TOO_LARGE", told)
}
