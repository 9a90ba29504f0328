//! What became of the lines so far.

use std::time::Duration;

use indicatif::HumanCount;
use serde_json::json;

use super::{
    super::figures::{per_second, rounded},
    lines::Chunk,
};
use crate::types::{append::Appended, id::Position};

/// Counts events, and keeps which lines are in the log.
#[derive(Debug, Default)]
pub(super) struct Tally {
    appended: u64,
    already_there: u64,
    first_position: Option<Position>,
    last_position: Position,
    /// First and last line of what is in the log, ascending, joined where only blank lines are between them.
    stored: Vec<(u64, u64)>,
    /// The last line of the chunk before, stored or not.
    last_line: u64,
    /// A line that is not in the log stands before one that is.
    gap: bool,
    skipped: bool,
}

impl Tally {
    /// A chunk is in the log; chunks come in the order of the file.
    pub(super) fn add(&mut self, chunk: &Chunk, appended: &Appended) {
        let events = chunk.lines.len() as u64;
        if appended.duplicate {
            self.already_there += events;
        } else {
            self.appended += events;
            self.first_position.get_or_insert(appended.first_position);
            self.last_position = appended.last_position;
        }
        let (Some(&first), Some(&last)) = (chunk.lines.first(), chunk.lines.last()) else {
            return;
        };
        match self.stored.last_mut() {
            Some(range) if range.1 == self.last_line => range.1 = last,
            _ => self.stored.push((first, last)),
        }
        self.last_line = last;
        self.gap |= self.skipped;
    }

    /// A chunk is not in the log.
    pub(super) fn skip(&mut self, chunk: &Chunk) {
        self.last_line = chunk.lines.last().copied().unwrap_or(self.last_line);
        self.skipped = true;
    }

    /// Grows with each chunk that is in the log.
    pub(super) fn stored_events(&self) -> u64 {
        self.appended + self.already_there
    }

    /// For a progress bar.
    pub(super) fn progress(&self) -> String {
        let appended = HumanCount(self.appended);
        if self.already_there == 0 {
            return format!("{appended} events");
        }
        format!(
            "{appended} events, {} already there",
            HumanCount(self.already_there)
        )
    }

    /// For the message about what stopped the work: what is in the log.
    pub(super) fn what_is_there(&self) -> String {
        let ranges = self
            .stored
            .iter()
            .map(|(first, last)| format!("{first}-{last}"));
        match &ranges.collect::<Vec<_>>()[..] {
            [] => "nothing was appended".to_owned(),
            [one] if !self.gap => format!("lines {one} are in the log"),
            many => format!(
                "lines {} are in the log, the others are not",
                many.join(", ")
            ),
        }
    }

    /// For the same message: how to append the rest without the ids of `--resume`.
    pub(super) fn how_to_go_on(&self) -> String {
        match self.stored[..] {
            [] => "append it again".to_owned(),
            [(_, last)] if !self.gap => {
                format!("append from line {0} on (`tail -n +{0}`)", last + 1)
            }
            _ => "append the lines that are missing".to_owned(),
        }
    }

    /// What was done.
    pub(super) fn summary(&self, took: Duration, json: bool) -> String {
        let seconds = took.as_secs_f64();
        let rate = per_second(self.stored_events(), took);
        if json {
            let object = json!({
                "appended": self.appended,
                "already_there": self.already_there,
                "first_position": self.first_position,
                "last_position": self.first_position.map(|_| self.last_position),
                "seconds": seconds,
                "events_per_second": rate,
            });
            return format!("{object}\n");
        }
        let appended = HumanCount(self.appended);
        let there = HumanCount(self.already_there);
        let rate = rounded(rate);
        match (self.first_position, self.already_there) {
            (None, 0) => "nothing to append: the input has no events\n".to_owned(),
            (None, _) => format!("nothing to append: all {there} events are already there\n"),
            (Some(first), 0) => format!(
                "appended {appended} events, positions {first} to {}, in {seconds:.2} s ({rate} events/s)\n",
                self.last_position
            ),
            (Some(first), _) => format!(
                "appended {appended} events, positions {first} to {}; {there} were already there; in {seconds:.2} s \
                 ({rate} events/s)\n",
                self.last_position
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{append::Batch, id::LogId, time::Timestamp};

    fn chunk(lines: std::ops::RangeInclusive<u64>) -> Chunk {
        Chunk {
            batch: Batch::default(),
            lines: lines.collect(),
        }
    }

    fn appended(first_position: Position) -> Appended {
        Appended {
            first_position,
            last_position: first_position + 9,
            recorded_at: Timestamp::default(),
            duplicate: false,
            versions: Vec::new(),
            event_ids: Vec::new(),
            log_id: LogId::from_bytes([0; 16]),
        }
    }

    #[test]
    fn neighbouring_chunks_are_one_range_of_lines() {
        let mut tally = Tally::default();
        assert_eq!(tally.what_is_there(), "nothing was appended");
        tally.add(&chunk(1..=10), &appended(1));
        tally.add(&chunk(12..=20), &appended(11));
        assert_eq!(tally.what_is_there(), "lines 1-20 are in the log");
        assert_eq!(
            tally.how_to_go_on(),
            "append from line 21 on (`tail -n +21`)"
        );
        tally.skip(&chunk(21..=30));
        assert_eq!(
            tally.how_to_go_on(),
            "append from line 21 on (`tail -n +21`)"
        );
        tally.add(&chunk(31..=40), &appended(21));
        assert_eq!(
            tally.what_is_there(),
            "lines 1-20, 31-40 are in the log, the others are not"
        );
        assert_eq!(tally.how_to_go_on(), "append the lines that are missing");
    }

    #[test]
    fn a_missing_first_chunk_is_a_gap() {
        let mut tally = Tally::default();
        tally.skip(&chunk(1..=10));
        tally.add(&chunk(11..=20), &appended(1));
        assert_eq!(
            tally.what_is_there(),
            "lines 11-20 are in the log, the others are not"
        );
    }
}
