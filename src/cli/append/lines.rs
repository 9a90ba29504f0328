//! Lines → events. Reads a file or standard input, unpacked if it is gzip, and cuts it into batches.

use std::{
    borrow::Cow,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;
use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::resume::IdChain;
use crate::{
    client::new_event_id,
    types::{
        append::Batch,
        event::NewEvent,
        limits::{JSON_DEPTH_MAX, NAME_BYTES_MAX, TAGS_MAX},
        text::Text,
    },
};

/// No request is larger, so that no event can be.
const LINE_BYTES_MAX: u64 = 16 << 20;
/// Text of one batch: half of what a server takes by default, so that the rest of an event finds room.
const BATCH_BYTES_MAX: usize = 4 << 20;
const READ_BYTES: usize = 256 << 10;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Something is wrong with the input.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}:{line}: {what}")]
pub(super) struct InputError {
    pub(super) name: Arc<str>,
    /// Counted from 1.
    pub(super) line: u64,
    pub(super) what: String,
}

/// Events and the lines that they stand on.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    pub(super) batch: Batch,
    /// For each event, in order.
    pub(super) lines: Vec<u64>,
}

/// Where event ids come from that the lines do not give.
#[derive(Debug)]
pub(super) enum Ids {
    /// New ones.
    New,
    /// The content of the file so far.
    Content(IdChain),
}

/// The lines of an input.
pub(super) struct Lines {
    reader: Box<dyn BufRead + Send>,
    name: Arc<str>,
    line: u64,
    ids: Ids,
    batch_events: usize,
    /// An error, told after the events before it.
    failed: Option<InputError>,
}

impl Lines {
    /// Reads `file`, or standard input if it is `-`. Bytes read from it are counted in `bytes_read`.
    pub(super) fn open(
        file: &Path,
        ids: Ids,
        batch_events: usize,
        bytes_read: Arc<AtomicU64>,
    ) -> io::Result<Self> {
        let is_stdin = file == Path::new("-");
        let name = if is_stdin {
            "stdin".into()
        } else {
            file.to_string_lossy().into()
        };
        let raw: Box<dyn Read + Send> = if is_stdin {
            Box::new(io::stdin())
        } else {
            Box::new(File::open(file)?)
        };
        Self::from_reader(Counting { raw, bytes_read }, name, ids, batch_events)
    }

    fn from_reader(
        raw: impl Read + Send + 'static,
        name: Arc<str>,
        ids: Ids,
        batch_events: usize,
    ) -> io::Result<Self> {
        let mut raw = BufReader::with_capacity(READ_BYTES, raw);
        let reader: Box<dyn BufRead + Send> = if starts_as_gzip(&mut raw)? {
            Box::new(BufReader::with_capacity(
                READ_BYTES,
                MultiGzDecoder::new(raw),
            ))
        } else {
            Box::new(raw)
        };
        Ok(Self {
            reader,
            name,
            line: 0,
            ids,
            batch_events,
            failed: None,
        })
    }

    /// The name for messages.
    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The next batch; `None` at the end. Events before a bad line come first, then the error.
    pub(super) fn next_chunk(&mut self) -> Result<Option<Chunk>, InputError> {
        if let Some(failed) = self.failed.take() {
            return Err(failed);
        }
        let mut chunk = Chunk::default();
        let mut bytes = 0;
        while chunk.lines.len() < self.batch_events && bytes < BATCH_BYTES_MAX {
            match self.next_event() {
                Ok(Some((event, len))) => {
                    chunk.batch.events.push(event);
                    chunk.lines.push(self.line);
                    bytes += len;
                }
                Ok(None) => break,
                Err(what) => {
                    let error = InputError {
                        name: self.name.clone(),
                        line: self.line,
                        what,
                    };
                    if chunk.lines.is_empty() {
                        return Err(error);
                    }
                    self.failed = Some(error);
                    break;
                }
            }
        }
        Ok((!chunk.lines.is_empty()).then_some(chunk))
    }

    fn next_event(&mut self) -> Result<Option<(NewEvent, usize)>, String> {
        loop {
            let mut line = Vec::new();
            self.line += 1;
            let read = self
                .reader
                .by_ref()
                .take(LINE_BYTES_MAX)
                .read_until(b'\n', &mut line);
            if read.map_err(|e| format!("cannot be read: {e}"))? == 0 {
                return Ok(None);
            }
            if line.len() as u64 == LINE_BYTES_MAX && line.last() != Some(&b'\n') {
                return Err(format!("is longer than {} MiB", LINE_BYTES_MAX >> 20));
            }
            let end = line.trim_ascii_end().len();
            line.truncate(end);
            if self.line == 1 && line.starts_with("\u{feff}".as_bytes()) {
                // Some editors begin a file with a byte order mark.
                line.drain(..3);
            }
            if line.is_empty() {
                continue;
            }
            let line = Bytes::from(line);
            let mut event = parse(&line)?;
            let derived = match &mut self.ids {
                Ids::New => None,
                Ids::Content(chain) => Some(chain.next(&line)),
            };
            event.event_id = event.event_id.or(derived).or_else(|| Some(new_event_id()));
            return Ok(Some((event, line.len())));
        }
    }
}

fn starts_as_gzip(reader: &mut impl BufRead) -> io::Result<bool> {
    // A pipe may hand over a single byte first; that is enough, since no JSON starts with 0x1f.
    let start = reader.fill_buf()?;
    Ok(!start.is_empty() && start.iter().zip(&GZIP_MAGIC).all(|(a, b)| a == b))
}

struct Counting<R> {
    raw: R,
    bytes_read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.raw.read(buffer)?;
        // Only shown, never waited for.
        self.bytes_read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    #[serde(borrow)]
    entity_id: Cow<'a, str>,
    #[serde(borrow)]
    event_type: Cow<'a, str>,
    #[serde(borrow)]
    payload: &'a RawValue,
    #[serde(default, borrow)]
    event_id: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    metadata: Option<&'a RawValue>,
    #[serde(default, borrow)]
    tags: Option<Vec<Name<'a>>>,
    #[serde(default, borrow)]
    occurred_at: Option<Cow<'a, str>>,
}

/// Borrowed where it can be; a `Vec<Cow<str>>` would copy every element.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// The event on a line; texts share the line's memory.
fn parse(line: &Bytes) -> Result<NewEvent, String> {
    if line.trim_ascii_start().first() != Some(&b'{') {
        // A list would otherwise be taken for the fields in their order.
        return Err("is no JSON object".into());
    }
    let fields: Line<'_> = serde_json::from_slice(line).map_err(|e| json_error(&e))?;
    let name = |field: &str, text: Cow<'_, str>| -> Result<Text, String> {
        check_name(field, &text)?;
        Ok(shared(line, text))
    };
    let tags = fields.tags.unwrap_or_default();
    if tags.len() > TAGS_MAX {
        return Err(format!(
            "tags: {} of them, the limit is {TAGS_MAX}",
            tags.len()
        ));
    }
    check_depth("payload", fields.payload)?;
    if let Some(metadata) = fields.metadata {
        check_depth("metadata", metadata)?;
        if !metadata.get().starts_with('{') {
            return Err("metadata: must be a JSON object".into());
        }
    }
    Ok(NewEvent {
        event_id: fields.event_id.map(|id| parse_id(&id)).transpose()?,
        entity_id: name("entity_id", fields.entity_id)?,
        event_type: name("event_type", fields.event_type)?,
        payload: line.slice_ref(fields.payload.get().as_bytes()).into(),
        metadata: fields
            .metadata
            .map(|m| line.slice_ref(m.get().as_bytes()).into()),
        tags: tags
            .into_iter()
            .map(|tag| name("tags", tag.0))
            .collect::<Result<_, _>>()?,
        occurred_at: fields
            .occurred_at
            .map(|time| {
                time.parse()
                    .map_err(|e| format!("occurred_at: `{time}`: {e}"))
            })
            .transpose()?,
    })
}

fn shared(line: &Bytes, text: Cow<'_, str>) -> Text {
    match text {
        Cow::Borrowed(text) => line.slice_ref(text.as_bytes()).into(),
        Cow::Owned(text) => text.into(),
    }
}

fn parse_id(text: &str) -> Result<Uuid, String> {
    Uuid::try_parse(text).map_err(|_| format!("event_id: `{text}` is no UUID"))
}

/// What the server would refuse, found before anything is sent.
fn check_name(field: &str, name: &str) -> Result<(), String> {
    let wrong = if name.is_empty() {
        "must not be empty".into()
    } else if name.len() > NAME_BYTES_MAX {
        format!("has {} bytes, the limit is {NAME_BYTES_MAX}", name.len())
    } else if name.starts_with('$') {
        "must not start with `$`, which is reserved".into()
    } else if name.chars().any(char::is_control) {
        "must not have control characters".into()
    } else {
        return Ok(());
    };
    Err(format!("{field}: {wrong}"))
}

fn check_depth(field: &str, json: &RawValue) -> Result<(), String> {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in json.get().bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    if deepest > JSON_DEPTH_MAX {
        return Err(format!(
            "{field}: is nested {deepest} deep, the limit is {JSON_DEPTH_MAX}"
        ));
    }
    Ok(())
}

/// Without "at line 1 column 17", since the line is another one here.
fn json_error(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    match text.strip_suffix(&position) {
        Some(text) if error.is_data() => text.to_owned(),
        Some(text) => format!("is no JSON object: {text} at column {}", error.column()),
        None => text,
    }
}

#[cfg(test)]
mod tests;
