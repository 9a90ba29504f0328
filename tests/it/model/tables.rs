//! Scans of tables give what the model says of reads: the same events, as columns.

use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::{Int64Type, TimestampMicrosecondType},
};

use annals::{
    AsOf, Direction, ListRequest, NameSummary, NewEvent, Position, ReadError, ReadRequest, Scan,
    ScanRequest, Table, Text, Timestamp,
};

use super::{
    names::TYPES,
    plain::PlainEvent,
    run::{Run, bare_read},
};

/// The events of a batch with all columns.
fn events(rows: &RecordBatch) -> Vec<PlainEvent> {
    let column = |name: &str| rows.column_by_name(name).unwrap();
    let text = |name, row| Text::from(column(name).as_string::<i32>().value(row));
    let number = |name, row| column(name).as_primitive::<Int64Type>().value(row);
    let time = |name, row| {
        let times = column(name).as_primitive::<TimestampMicrosecondType>();
        let time = times.is_valid(row).then(|| times.value(row));
        time.map(|micros| Timestamp::from_micros(micros).unwrap())
    };
    let event = |row| {
        let id = column("event_id").as_string::<i32>().value(row);
        let id = id.parse().unwrap();
        let tags = column("tags").as_list::<i32>().value(row);
        let metadata = column("metadata");
        assert!(column("schema_id").is_null(row));
        PlainEvent {
            position: number("position", row).cast_unsigned(),
            version: number("version", row).cast_unsigned(),
            recorded_at: time("recorded_at", row).unwrap(),
            id,
            new: NewEvent {
                event_id: Some(id),
                entity_id: text("entity_id", row),
                event_type: text("event_type", row),
                payload: text("payload", row),
                metadata: metadata.is_valid(row).then(|| text("metadata", row)),
                tags: tags
                    .as_string::<i32>()
                    .iter()
                    .flatten()
                    .map(Text::from)
                    .collect(),
                occurred_at: time("occurred_at", row),
            },
        }
    };
    (0..rows.num_rows()).map(event).collect()
}

/// All that a scan gives, and the position that it ends at.
async fn all(mut scan: Scan) -> (Vec<PlainEvent>, Option<Position>) {
    let (mut found, mut end) = (Vec::new(), None);
    while let Some(batch) = scan.next().await.unwrap() {
        assert_eq!(batch.rows.schema(), *scan.schema());
        assert!(end.is_none_or(|end| batch.position > end), "it moves on");
        end = Some(batch.position);
        found.extend(events(&batch.rows));
        let last = found.last().map(|event| event.position);
        assert!(last <= batch.position, "all is behind what was given");
    }
    (found, end.flatten())
}

impl Run {
    /// As a read of the same, if it is one that a scan can be.
    pub(super) async fn scan(&self, request: &ReadRequest) {
        if request.direction == Direction::Backward {
            return;
        }
        let mut scanned = ScanRequest {
            filter: request.filter.clone(),
            after: request.after,
            through: request.through,
            as_of: request.as_of,
            limit: request.limit,
            log_id: request.log_id,
            ..ScanRequest::default()
        };
        // A table of one type is a filter of its own.
        let is_type = |name: &Text| {
            TYPES
                .iter()
                .any(|known| known.as_bytes() == name.as_bytes())
        };
        if let [only] = &*request.filter.event_types
            && is_type(only)
        {
            scanned.table = Table::Type(only.clone());
            scanned.filter.event_types.clear();
        }
        let expected = self.plain.read(request);
        let scan = match self.tenant.scan(&scanned) {
            Ok(scan) => scan,
            Err(error) => return assert_eq!(Err(as_read(error)), expected, "{scanned:?}"),
        };
        let head = scan.head();
        let (found, end) = all(scan).await;
        assert_eq!(Ok(&found), expected.as_ref(), "{scanned:?}");
        match request.limit {
            Some(limit) if found.len() as u64 == limit => {
                assert!(end >= found.last().map(|event| event.position));
            }
            _ => assert_eq!(end, Some(head.max(request.after)), "{scanned:?}"),
        }
    }

    /// The entities as of a position.
    pub(super) async fn scan_entities(&self, head: Position) {
        let request = ListRequest {
            head: Some(head),
            limit: 1,
            ..ListRequest::default()
        };
        let expected = self.plain.list(&request, |event| &event.new.entity_id);
        let (expected, _) = expected.unwrap();
        let request = ScanRequest {
            table: Table::Entities,
            as_of: Some(AsOf::Position(head)),
            ..ScanRequest::default()
        };
        let mut scan = self.tenant.scan(&request).unwrap();
        let mut found = Vec::new();
        while let Some(batch) = scan.next().await.unwrap() {
            found.extend(summaries(&batch.rows));
        }
        assert_eq!(found, expected, "as of {head}");
        // The same, asked for by name, and no other.
        let mut names: Vec<_> = expected.iter().map(|one| one.name.clone()).collect();
        names.push("nobody".into());
        let mut request = request;
        request.filter.entity_ids = names;
        let mut scan = self.tenant.scan(&request).unwrap();
        let mut found = Vec::new();
        while let Some(batch) = scan.next().await.unwrap() {
            found.extend(summaries(&batch.rows));
        }
        assert_eq!(found, expected, "by name as of {head}");
    }
}

fn summaries(rows: &RecordBatch) -> Vec<NameSummary> {
    let number = |name, row: usize| {
        let numbers = rows.column_by_name(name).unwrap();
        numbers
            .as_primitive::<Int64Type>()
            .value(row)
            .cast_unsigned()
    };
    let names = rows.column_by_name("entity_id").unwrap().as_string::<i32>();
    let summary = |row| NameSummary {
        name: names.value(row).into(),
        events: number("events", row),
        first_position: number("first_position", row),
        last_position: number("last_position", row),
    };
    (0..rows.num_rows()).map(summary).collect()
}

/// As the read of the same would be refused.
fn as_read(error: ReadError) -> ReadError {
    match bare_read(error) {
        ReadError::BeyondHead {
            field: "after",
            position,
            head,
        } => ReadError::BeyondHead {
            field: "filter.after",
            position,
            head,
        },
        other => other,
    }
}
