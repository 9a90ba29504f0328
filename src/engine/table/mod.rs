//! A tenant's history as tables: scans give Arrow record batches in the order of positions, or of names.
//!
//! - `schema`: the columns of each table, for all who tell or send them.
//! - `events`: a scan of events up to a head; `follow`: one that goes on with what is appended.
//! - `entities`: a scan of entities.
//! - `rows`: what is known of the rows of a scan without reading them, and how many it read.
//!
//! What is sealed goes from segments to record batches as it stands there: only the columns and pages asked for are read.
//! What is not sealed is converted from rows (`engine/log/tail`). Which rows a filter lets through is settled by the index,
//! as in every read.
//!
//! Invariant: a scan sees the log as of one head, and what it gives is what a read of events with the same filter gives.

mod entities;
mod events;
mod follow;
pub(crate) mod rows;
pub(crate) mod schema;

use std::slice;

use arrow::{array::RecordBatch, datatypes::SchemaRef};

use self::{entities::Entities, events::Events, follow::Follow, rows::RowsRead};
use super::{
    log::set::{Count, Set},
    tenant::{Tenant, blocking, check_names},
};
use crate::types::{
    append::Violations,
    id::Position,
    read::{Filter, ReadError},
    scan::{ScanRequest, Table},
};

/// A scan on its way. Once a future of [`Scan::next`] was dropped before it was ready, the scan is of no use.
pub struct Scan {
    schema: SchemaRef,
    head: Position,
    source: Source,
}

enum Source {
    /// `None` after a future was dropped.
    Events(Option<Box<Events>>),
    Entities(Option<Box<Entities>>),
    Follow(Box<Follow>),
}

/// Rows of a scan, as they come.
#[derive(Debug, Clone, PartialEq)]
pub struct ScanBatch {
    /// About 1 MiB, or one row that is larger. May be empty: nothing matched up to the position.
    pub rows: RecordBatch,
    /// All events wanted up to here were given; where to resume. `None` in a scan of entities.
    pub position: Option<Position>,
    /// The head that the rows were read at.
    pub head: Position,
}

impl Tenant {
    /// Begins a scan of a table. Where a time or a version has to be found among sealed events, it looks into the index on
    /// disk.
    ///
    /// # Errors
    /// As [`Tenant::read`], and `Invalid` for columns that the table does not have or what it cannot be filtered by.
    pub fn scan(&self, request: &ScanRequest) -> Result<Scan, ReadError> {
        let schema = schema::of(&request.table, &request.columns)?;
        self.check_log(request.log_id)?;
        self.check_filter(&request.filter)?;
        if let Table::Type(event_type) = &request.table {
            check_names(slice::from_ref(event_type), "table")?;
        }
        check_combination(request)?;
        let now = self.log.head();
        let through = self.as_of(request.as_of, &request.filter.entity_ids, now)?;
        if request.after > now {
            return Err(ReadError::BeyondHead {
                field: "after",
                position: request.after,
                head: now,
            });
        }
        let head = through.min(request.through.unwrap_or(Position::MAX));
        let limit = request.limit.unwrap_or(u64::MAX);
        let source = match &request.table {
            Table::Entities => {
                let entities = Entities::new(self, request, head, limit, schema.clone());
                Source::Entities(Some(Box::new(entities)))
            }
            Table::Events | Table::Type(_) if request.follow => {
                let follow = Follow::new(self, request, limit, schema.clone());
                Source::Follow(Box::new(follow))
            }
            Table::Events | Table::Type(_) => {
                let range = (request.after, head);
                let events = Events::new(self, request, range, limit, schema.clone())?;
                Source::Events(Some(Box::new(events)))
            }
        };
        Ok(Scan {
            schema,
            head,
            source,
        })
    }

    /// How many rows a scan of events up to a head has, as far as the index tells.
    pub(crate) fn scan_count(
        &self,
        request: &ScanRequest,
        head: Position,
    ) -> Result<Count, ReadError> {
        let filter = &request.filter;
        let recorded = self.log.recorded_in(filter.recorded, request.after, head)?;
        let (after, through) = (
            recorded.start.saturating_sub(1),
            recorded.end.saturating_sub(1),
        );
        let set = self.scan_set(request);
        let mut count = set.count(&self.log.pieces(), after, through)?;
        count.exact &= filter.partitions.is_empty() && filter.occurred.is_all();
        count.at_most = count.at_most.min(request.limit.unwrap_or(u64::MAX));
        Ok(count)
    }

    /// The events of a scan: what its filter lets through, but for partitions and times, and are in its table.
    fn scan_set(&self, request: &ScanRequest) -> Set {
        let filtered = self.log.filter_set(&request.filter);
        match &request.table {
            Table::Type(event_type) => {
                let event_type = Filter {
                    event_types: vec![event_type.clone()],
                    ..Filter::default()
                };
                match filtered {
                    Set::All => self.log.filter_set(&event_type),
                    filtered => Set::Every(vec![self.log.filter_set(&event_type), filtered]),
                }
            }
            Table::Events | Table::Entities => filtered,
        }
    }
}

impl Scan {
    /// Of all batches.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The position that the scan sees the table at; where it began, if it follows.
    pub fn head(&self) -> Position {
        self.head
    }

    /// How many rows it read so far, of a scan of events that does not follow.
    #[cfg_attr(not(feature = "sql"), expect(dead_code, reason = "only SQL tells it"))]
    pub(crate) fn rows_read(&self) -> RowsRead {
        match &self.source {
            Source::Events(Some(events)) => events.rows_read,
            _ => RowsRead::default(),
        }
    }

    /// The next rows; `None` after the last. One that follows gives an empty batch when nothing came for a second, and
    /// ends only with its limit.
    pub async fn next(&mut self) -> Result<Option<ScanBatch>, ReadError> {
        match &mut self.source {
            Source::Events(events) => {
                let next = in_background(events, Events::next).await?;
                Ok(next.map(|(rows, position)| ScanBatch {
                    rows,
                    position: Some(position),
                    head: self.head,
                }))
            }
            Source::Entities(entities) => {
                let next = in_background(entities, Entities::next).await?;
                Ok(next.map(|rows| ScanBatch {
                    rows,
                    position: None,
                    head: self.head,
                }))
            }
            Source::Follow(follow) => follow.next().await,
        }
    }
}

/// Works on a thread that may wait for the disk.
async fn in_background<S: Send + 'static, T: Send + 'static>(
    state: &mut Option<Box<S>>,
    work: impl FnOnce(&mut S) -> T + Send + 'static,
) -> T {
    let mut taken = state
        .take()
        .expect("no scan goes on after its future was dropped");
    let (taken, done) = blocking(move || {
        let done = work(&mut taken);
        (taken, done)
    })
    .await;
    *state = Some(taken);
    done
}

/// What a scan asks that does not go together.
fn check_combination(request: &ScanRequest) -> Result<(), ReadError> {
    let invalid = |field: &str, what: &str| Err(ReadError::Invalid(Violations::one(field, what)));
    if request.follow && (request.as_of.is_some() || request.through.is_some()) {
        return invalid(
            "follow",
            "goes on with what is appended: leave out `as_of` and `through`",
        );
    }
    if request.table != Table::Entities {
        return Ok(());
    }
    if request.follow {
        return invalid("follow", "entities cannot be followed: follow `events`");
    }
    if request.after > 0 || request.through.is_some() {
        return invalid(
            "after",
            "entities are not at a position: choose a point of the past with `as_of`",
        );
    }
    let by_name = Filter {
        entity_ids: request.filter.entity_ids.clone(),
        partitions: request.filter.partitions.clone(),
        ..Filter::default()
    };
    if request.filter != by_name {
        return invalid(
            "table",
            "entities are chosen by `entities` and `partitions`; the other filters are about `events`",
        );
    }
    Ok(())
}
