//! How far a scan got and what it asks for next, without I/O.
//!
//! Invariant: what is counted was given to the caller, so that a stream which is opened anew for what is left gives each
//! row once. The first answer pins the cut, and all later ones are of it. Rows of entities have no position to go on
//! after: the same cut is asked for again, and what was given is skipped.

use arrow::array::RecordBatch;
use serde::Deserialize;

use super::{ClientError, Scanned, wire};
use crate::types::{
    id::Position,
    read::AsOf,
    scan::{ScanRequest, Table},
};

/// See the module.
#[derive(Debug)]
pub(super) struct Progress {
    /// What is left; of entities, all of it.
    left: ScanRequest,
    /// The server has told which cut it reads.
    is_pinned: bool,
    /// Entities that were given.
    given: u64,
    /// How many of these the stream still repeats.
    repeated: u64,
}

/// What a message tells of its rows.
#[derive(Deserialize)]
struct Told {
    position: Option<Position>,
    head: Position,
    log_id: String,
}

impl Progress {
    pub(super) fn new(request: ScanRequest) -> Self {
        Self {
            left: request,
            is_pinned: false,
            given: 0,
            repeated: 0,
        }
    }

    /// What to ask for now, over a new stream.
    pub(super) fn ask(&mut self) -> String {
        self.repeated = self.given;
        self.left.to_json()
    }

    /// Everything wanted up to here was given.
    pub(super) fn position(&self) -> Position {
        self.left.after
    }

    /// Nothing is left to ask for.
    pub(super) fn is_done(&self) -> bool {
        // A limit of entities is asked for anew with what was given.
        let is_at_limit = self.left.limit.is_some_and(|limit| limit <= self.given);
        let is_at_end =
            || self.is_pinned && self.left.through.is_some_and(|end| end <= self.left.after);
        is_at_limit || (!self.is_of_entities() && !self.left.follow && is_at_end())
    }

    /// A stream that ends here has told everything. Only of events is it known where they end.
    pub(super) fn may_end(&self) -> bool {
        self.is_done() || (self.is_of_entities() && self.is_pinned)
    }

    /// Takes a batch as the next to be given; `None` if all of it was given before.
    pub(super) fn take(
        &mut self,
        rows: RecordBatch,
        told: &[u8],
    ) -> Result<Option<Scanned>, ClientError> {
        let told: Told = serde_json::from_slice(told)
            .map_err(|_| ClientError::Answer("a record batch does not say how far it goes"))?;
        let log_id = wire::log_id(&told.log_id)?;
        self.left.log_id = Some(log_id);
        let rows = if self.is_of_entities() {
            self.left.as_of = Some(AsOf::Position(told.head));
            let count = rows.num_rows() as u64;
            let skipped = self.repeated.min(count);
            self.repeated -= skipped;
            self.given += count - skipped;
            if skipped > 0 && skipped == count {
                return Ok(None);
            }
            rows.slice(skipped as usize, (count - skipped) as usize)
        } else {
            let position = told.position.ok_or(ClientError::Answer(
                "a record batch does not say how far it goes",
            ))?;
            if !self.left.follow {
                // It is the last position of the range, and what a point of the past stood for.
                self.left.through = Some(told.head);
                self.left.as_of = None;
            }
            self.left.after = self.left.after.max(position);
            let count = rows.num_rows() as u64;
            self.left.limit = self.left.limit.map(|limit| limit.saturating_sub(count));
            rows
        };
        self.is_pinned = true;
        Ok(Some(Scanned {
            rows,
            position: told.position.map(|_| self.left.after),
            head: told.head,
            log_id,
        }))
    }

    fn is_of_entities(&self) -> bool {
        self.left.table == Table::Entities
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::{
        array::{AsArray, Int64Array},
        datatypes::Int64Type,
    };

    use super::*;

    const LOG: &str = "6b8e7d5c-1111-4222-8333-944455556666";

    fn rows(numbers: impl IntoIterator<Item = i64>) -> RecordBatch {
        let numbers: Int64Array = numbers.into_iter().collect();
        RecordBatch::try_from_iter([("n", Arc::new(numbers) as _)]).unwrap()
    }

    /// The numbers that are given of a batch.
    fn take(
        progress: &mut Progress,
        numbers: impl IntoIterator<Item = i64>,
        position: Option<Position>,
        head: Position,
    ) -> Option<Vec<i64>> {
        let position = position.map_or(String::new(), |at| format!(r#""position":{at},"#));
        let told = format!(r#"{{{position}"head":{head},"log_id":"{LOG}"}}"#);
        let given = progress.take(rows(numbers), told.as_bytes()).unwrap()?;
        let numbers = given.rows.column(0).as_primitive::<Int64Type>();
        Some(numbers.values().to_vec())
    }

    fn scan(json: &str) -> Progress {
        Progress::new(ScanRequest::from_json(json.as_bytes()).unwrap())
    }

    #[test]
    fn what_is_left_of_events_is_of_the_cut_that_was_told() {
        let mut progress = scan(r#"{"after":10,"as_of":"2026-01-31T12:00:00.000000Z","limit":5}"#);
        let asked = progress.ask();
        assert!(asked.contains("as_of") && !progress.may_end(), "{asked}");
        take(&mut progress, [11, 15], Some(15), 40);
        assert_eq!(
            progress.ask(),
            format!(r#"{{"after":15,"through":40,"limit":3,"log_id":"{LOG}"}}"#)
        );
        assert!(!progress.may_end());
        take(&mut progress, [], Some(40), 40);
        assert!(progress.is_done());
    }

    #[test]
    fn what_follows_ends_with_its_limit_alone() {
        let mut progress = scan(r#"{"follow":true,"limit":3}"#);
        take(&mut progress, [1, 2], Some(2), 2);
        assert!(!progress.may_end());
        assert_eq!(
            progress.ask(),
            format!(r#"{{"after":2,"limit":1,"follow":true,"log_id":"{LOG}"}}"#)
        );
        take(&mut progress, [3], Some(3), 3);
        assert!(progress.is_done());
        // No message comes of a scan of nothing.
        assert!(scan(r#"{"limit":0}"#).may_end());
    }

    #[test]
    fn entities_that_were_given_are_skipped() {
        let mut progress = scan(r#"{"table":"entities","limit":6}"#);
        assert!(!progress.may_end());
        assert_eq!(take(&mut progress, 0..3, None, 9), Some(vec![0, 1, 2]));
        let asked = format!(r#"{{"table":"entities","as_of":9,"limit":6,"log_id":"{LOG}"}}"#);
        assert_eq!(progress.ask(), asked);
        // Messages may be divided in other places.
        assert_eq!(take(&mut progress, 0..2, None, 9), None);
        assert_eq!(take(&mut progress, 2..5, None, 9), Some(vec![3, 4]));
        assert!(progress.may_end() && !progress.is_done());
        assert_eq!(progress.ask(), asked);
        assert_eq!(take(&mut progress, 0..5, None, 9), None);
        assert_eq!(take(&mut progress, 5..6, None, 9), Some(vec![5]));
        assert!(progress.is_done());
    }

    #[test]
    fn a_scan_without_rows_is_told_so_once() {
        let mut progress = scan(r#"{"table":"entities"}"#);
        assert_eq!(take(&mut progress, [], None, 0), Some(vec![]));
        assert!(progress.may_end());
        let mut progress = scan("{}");
        assert_eq!(take(&mut progress, [], Some(0), 0), Some(vec![]));
        assert!(progress.is_done());
    }

    #[test]
    fn a_message_has_to_say_how_far_it_goes() {
        let told = format!(r#"{{"head":9,"log_id":"{LOG}"}}"#);
        for told in ["", "{}", told.as_str()] {
            let refused = scan("{}").take(rows([1]), told.as_bytes()).unwrap_err();
            assert_eq!(refused.reason(), "UNEXPECTED_ANSWER");
        }
    }
}
