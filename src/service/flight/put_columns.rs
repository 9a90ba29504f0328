//! Rows of a record batch → events. Texts stay where they are: each is a slice of the message that it arrived in.
//!
//! Found here, with row and column, is what only columns can get wrong: nulls, ids and times that are none. The rest is
//! left to the engine, as everywhere. The types of columns were judged with the schema (`put_schema`).

use std::ops::Range;

use arrow::{
    array::{
        Array, ArrayRef, AsArray, ByteView, FixedSizeBinaryArray, GenericListArray,
        GenericListViewArray, OffsetSizeTrait, RecordBatch, StringViewArray,
    },
    buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer},
    datatypes::{
        DataType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
        TimestampNanosecondType, TimestampSecondType,
    },
};
use bytes::Bytes;
use uuid::Uuid;

use super::super::convert::{NO_UUID, uuid};
use crate::types::{
    append::{Violation, Violations},
    event::NewEvent,
    limits::TAGS_MAX,
    text::Text,
    time::Timestamp,
};

const NO_TIME: &str = "is not in the years 1 to 9999";
/// Violations after which rows are not looked at further.
const VIOLATIONS_MAX: usize = 20;
/// A longer text of a view stands in a buffer, a shorter one in the view itself.
const VIEW_INLINE_BYTES: u32 = 12;

/// The events of a batch, in the order of its rows.
pub(super) fn events(batch: &RecordBatch) -> Result<Vec<NewEvent>, Violations> {
    let columns = Columns::of(batch)?;
    let mut wrong = Vec::new();
    let mut events = Vec::with_capacity(batch.num_rows());
    for row in 0..batch.num_rows() {
        events.push(columns.event(row, &mut wrong));
        if wrong.len() >= VIOLATIONS_MAX {
            break;
        }
    }
    if wrong.is_empty() {
        Ok(events)
    } else {
        Err(Violations(wrong))
    }
}

struct Columns {
    entity_id: TextColumn,
    event_type: TextColumn,
    payload: TextColumn,
    event_id: Option<IdColumn>,
    occurred_at: Option<TimeColumn>,
    metadata: Option<TextColumn>,
    tags: Option<TextsColumn>,
}

impl Columns {
    fn of(batch: &RecordBatch) -> Result<Self, Violations> {
        let mut wrong = Vec::new();
        let mut required = |name: &str| {
            let column = batch.column_by_name(name).map(TextColumn::of);
            column.unwrap_or_else(|| {
                let description = "is missing: every event needs one".to_owned();
                let field = name.to_owned();
                wrong.push(Violation { field, description });
                TextColumn::none()
            })
        };
        let columns = Self {
            entity_id: required("entity_id"),
            event_type: required("event_type"),
            payload: required("payload"),
            event_id: batch.column_by_name("event_id").map(IdColumn::of),
            occurred_at: batch.column_by_name("occurred_at").map(TimeColumn::of),
            metadata: batch.column_by_name("metadata").map(TextColumn::of),
            tags: batch.column_by_name("tags").map(TextsColumn::of),
        };
        if wrong.is_empty() {
            Ok(columns)
        } else {
            Err(Violations(wrong))
        }
    }

    fn event(&self, row: usize, wrong: &mut Vec<Violation>) -> NewEvent {
        // Paths are put together only where something is wrong.
        let mut add = |column: &str, description: &str| {
            wrong.push(Violation {
                field: format!("events[{row}].{column}"),
                description: description.to_owned(),
            });
        };
        let mut required = |column: &TextColumn, name: &str| {
            column.text(row).unwrap_or_else(|| {
                add(name, "is null: every event needs one");
                Text::default()
            })
        };
        let (entity_id, event_type, payload) = (
            required(&self.entity_id, "entity_id"),
            required(&self.event_type, "event_type"),
            required(&self.payload, "payload"),
        );
        let event_id = self.event_id.as_ref().map_or(Ok(None), |ids| ids.id(row));
        let occurred_at = self.occurred_at.as_ref();
        let occurred_at = occurred_at.map_or(Ok(None), |times| times.time(row));
        let tags = self.tags.as_ref().map(|tags| tags.texts(row));
        let mut tag = 0;
        let tags = tags.into_iter().flatten().map(|text| {
            tag += 1;
            text.unwrap_or_else(|| {
                add(&format!("tags[{}]", tag - 1), "is null");
                Text::default()
            })
        });
        let tags = tags.collect();
        let event_id = event_id.unwrap_or_else(|told| {
            add("event_id", told);
            None
        });
        let occurred_at = occurred_at.unwrap_or_else(|told| {
            add("occurred_at", told);
            None
        });
        NewEvent {
            event_id,
            entity_id,
            event_type,
            payload,
            metadata: self.metadata.as_ref().and_then(|column| column.text(row)),
            tags,
            occurred_at,
        }
    }
}

/// A column of text, whichever way it is laid out.
struct TextColumn {
    values: Values,
    nulls: Option<NullBuffer>,
}

enum Values {
    Small(OffsetBuffer<i32>, Bytes),
    Large(OffsetBuffer<i64>, Bytes),
    Views(StringViewArray, Vec<Bytes>),
    /// Of a dictionary: for each row the place of its value.
    Keys(Vec<usize>, Box<TextColumn>),
    /// Every row is null.
    None,
}

impl TextColumn {
    fn none() -> Self {
        Self {
            values: Values::None,
            nulls: None,
        }
    }

    fn of(array: &ArrayRef) -> Self {
        let values = match array.data_type() {
            DataType::Utf8 => {
                let array = array.as_string::<i32>();
                Values::Small(array.offsets().clone(), bytes(array.values()))
            }
            DataType::LargeUtf8 => {
                let array = array.as_string::<i64>();
                Values::Large(array.offsets().clone(), bytes(array.values()))
            }
            DataType::Utf8View => {
                let array = array.as_string_view();
                let buffers = array.data_buffers().iter().map(bytes).collect();
                Values::Views(array.clone(), buffers)
            }
            DataType::Dictionary(..) => {
                let dictionary = array.as_any_dictionary();
                if dictionary.values().is_empty() {
                    return Self::none();
                }
                let values = Self::of(dictionary.values());
                Values::Keys(dictionary.normalized_keys(), Box::new(values))
            }
            _ => Values::None,
        };
        Self {
            values,
            nulls: array.nulls().cloned(),
        }
    }

    fn text(&self, row: usize) -> Option<Text> {
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            return None;
        }
        match &self.values {
            Values::Small(offsets, bytes) => {
                let range = offsets[row].cast_unsigned()..offsets[row + 1].cast_unsigned();
                Some(bytes.slice(range.start as usize..range.end as usize).into())
            }
            Values::Large(offsets, bytes) => {
                let place = |offset: i64| usize::try_from(offset).unwrap_or(usize::MAX);
                let range = place(offsets[row])..place(offsets[row + 1]);
                Some(bytes.slice(range).into())
            }
            Values::Views(views, buffers) => {
                let view = ByteView::from(views.views()[row]);
                if view.length <= VIEW_INLINE_BYTES {
                    return Some(views.value(row).into());
                }
                let start = view.offset as usize;
                let buffer = &buffers[view.buffer_index as usize];
                Some(buffer.slice(start..start + view.length as usize).into())
            }
            Values::Keys(keys, values) => values.text(keys[row]),
            Values::None => None,
        }
    }
}

/// A buffer that slices of share, without a copy.
fn bytes(buffer: &Buffer) -> Bytes {
    struct Shared(Buffer);
    impl AsRef<[u8]> for Shared {
        fn as_ref(&self) -> &[u8] {
            self.0.as_slice()
        }
    }
    Bytes::from_owner(Shared(buffer.clone()))
}

enum IdColumn {
    Texts(TextColumn),
    Bytes(FixedSizeBinaryArray),
}

impl IdColumn {
    fn of(array: &ArrayRef) -> Self {
        match array.as_fixed_size_binary_opt() {
            Some(array) => Self::Bytes(array.clone()),
            None => Self::Texts(TextColumn::of(array)),
        }
    }

    /// `None` if there is nothing, an error if what is there is no id.
    fn id(&self, row: usize) -> Result<Option<Uuid>, &'static str> {
        let id = match self {
            Self::Texts(column) => column.text(row).map(|text| uuid(text.as_bytes())),
            Self::Bytes(array) if array.is_null(row) => None,
            Self::Bytes(array) => Some(Uuid::from_slice(array.value(row)).ok()),
        };
        id.map(|id| id.ok_or(NO_UUID)).transpose()
    }
}

struct TimeColumn {
    unit: TimeUnit,
    values: ScalarBuffer<i64>,
    nulls: Option<NullBuffer>,
}

impl TimeColumn {
    fn of(array: &ArrayRef) -> Self {
        let nulls = array.nulls().cloned();
        let (unit, values) = match array.data_type() {
            DataType::Timestamp(unit, _) => (*unit, times(array, *unit)),
            _ => (TimeUnit::Second, ScalarBuffer::from(Vec::new())),
        };
        Self {
            unit,
            values,
            nulls,
        }
    }

    /// `None` if there is nothing, an error if what is there is no time that events can have.
    fn time(&self, row: usize) -> Result<Option<Timestamp>, &'static str> {
        let null = self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
        let Some(value) = self.values.get(row).filter(|_| !null).copied() else {
            return Ok(None);
        };
        let micros = match self.unit {
            TimeUnit::Second => value.checked_mul(1_000_000),
            TimeUnit::Millisecond => value.checked_mul(1_000),
            TimeUnit::Microsecond => Some(value),
            TimeUnit::Nanosecond => Some(value.div_euclid(1_000)),
        };
        let time = micros.and_then(Timestamp::from_micros);
        time.map(Some).ok_or(NO_TIME)
    }
}

fn times(array: &ArrayRef, unit: TimeUnit) -> ScalarBuffer<i64> {
    match unit {
        TimeUnit::Second => array.as_primitive::<TimestampSecondType>().values(),
        TimeUnit::Millisecond => array.as_primitive::<TimestampMillisecondType>().values(),
        TimeUnit::Microsecond => array.as_primitive::<TimestampMicrosecondType>().values(),
        TimeUnit::Nanosecond => array.as_primitive::<TimestampNanosecondType>().values(),
    }
    .clone()
}

struct TextsColumn {
    /// Of each row, its places among the texts.
    ranges: Vec<Range<usize>>,
    texts: TextColumn,
    nulls: Option<NullBuffer>,
}

impl TextsColumn {
    fn of(array: &ArrayRef) -> Self {
        let (ranges, texts) = match array.data_type() {
            DataType::List(_) => list(array.as_list::<i32>()),
            DataType::LargeList(_) => list(array.as_list::<i64>()),
            DataType::ListView(_) => views(array.as_list_view::<i32>()),
            DataType::LargeListView(_) => views(array.as_list_view::<i64>()),
            _ => (Vec::new(), TextColumn::none()),
        };
        Self {
            ranges,
            texts,
            nulls: array.nulls().cloned(),
        }
    }

    /// One more than an event may have at most, so that it is told to have too many: rows may share what is a lot.
    fn texts(&self, row: usize) -> impl Iterator<Item = Option<Text>> + '_ {
        let null = self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
        let range = self.ranges.get(row).filter(|_| !null).cloned();
        let range = range.unwrap_or_default().take(TAGS_MAX + 1);
        range.map(|place| self.texts.text(place))
    }
}

fn list<O: OffsetSizeTrait>(array: &GenericListArray<O>) -> (Vec<Range<usize>>, TextColumn) {
    let ends = array.offsets().windows(2);
    let ranges = ends.map(|ends| ends[0].as_usize()..ends[1].as_usize());
    (ranges.collect(), TextColumn::of(array.values()))
}

fn views<O: OffsetSizeTrait>(array: &GenericListViewArray<O>) -> (Vec<Range<usize>>, TextColumn) {
    let places = array.offsets().iter().zip(array.sizes());
    let ranges = places.map(|(start, size)| start.as_usize()..start.as_usize() + size.as_usize());
    (ranges.collect(), TextColumn::of(array.values()))
}
