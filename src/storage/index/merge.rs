//! Makes one run of several that follow each other. Nothing is held in memory but what the writer holds, and a page of
//! each run.

use std::{cell::RefCell, cmp::Reverse, collections::BinaryHeap, io, iter};

use super::{RunSummary, names::RunName, reader::Run, writer::RunWriter};
use crate::types::{
    id::Position,
    read::{Direction, NameKind, ReadError},
};

/// Positions that are read at once.
const PAGE_ROWS: usize = 8_192;

/// Why runs were not merged.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MergeError {
    /// One of them cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The new one cannot be written.
    #[error(transparent)]
    Write(#[from] io::Error),
    /// It was given up.
    #[error("it was given up")]
    Stopped,
}

/// Writes what the runs hold, in order, into one that was just begun at the first one's first position. `stop` is asked
/// now and then.
pub(crate) fn merge(
    runs: &[&Run],
    mut writer: RunWriter,
    stop: &dyn Fn() -> bool,
) -> Result<RunSummary, MergeError> {
    for run in runs {
        let mut positions = run.first()..=run.last();
        loop {
            go_on(stop)?;
            let page: Vec<_> = positions.by_ref().take(PAGE_ROWS).collect();
            if page.is_empty() {
                break;
            }
            for place in run.places(&page)? {
                writer.row(place)?;
            }
        }
    }
    let count = runs.iter().map(|run| run.id_count()).sum();
    writer.sorted_ids(count, sorted_ids(runs, stop))?;
    for kind in [NameKind::Entity, NameKind::Type, NameKind::Tag] {
        merge_names(runs, kind, &mut writer, stop)?;
    }
    Ok(writer.finish()?)
}

fn go_on(stop: &dyn Fn() -> bool) -> Result<(), MergeError> {
    if stop() {
        Err(MergeError::Stopped)
    } else {
        Ok(())
    }
}

/// The ids of all, merged.
fn sorted_ids<'a>(
    runs: &[&'a Run],
    stop: &'a dyn Fn() -> bool,
) -> impl Iterator<Item = Result<(u64, Position), MergeError>> + 'a {
    let mut sources: Vec<_> = runs.iter().map(|run| run.all_ids()).collect();
    let mut heap = BinaryHeap::new();
    // Sources of which the heap has no id.
    let mut behind: Vec<usize> = (0..sources.len()).collect();
    let mut given = 0_usize;
    iter::from_fn(move || {
        given += 1;
        if given.is_multiple_of(PAGE_ROWS) && stop() {
            return Some(Err(MergeError::Stopped));
        }
        for source in behind.drain(..) {
            match sources[source].next() {
                Some(Ok(id)) => heap.push(Reverse((id, source))),
                Some(Err(e)) => return Some(Err(e.into())),
                None => {}
            }
        }
        let Reverse((id, source)) = heap.pop()?;
        behind.push(source);
        Some(Ok(id))
    })
}

fn merge_names(
    runs: &[&Run],
    kind: NameKind,
    writer: &mut RunWriter,
    stop: &dyn Fn() -> bool,
) -> Result<(), MergeError> {
    let mut lists: Vec<_> = runs
        .iter()
        .map(|run| run.list(kind, b"", None).peekable())
        .collect();
    loop {
        go_on(stop)?;
        let mut least: Option<Vec<u8>> = None;
        for list in &mut lists {
            match list.peek() {
                Some(Ok(found)) if least.as_deref().is_none_or(|name| found.name() < name) => {
                    least = Some(found.name().to_vec());
                }
                Some(Err(e)) => return Err(e.clone().into()),
                Some(Ok(_)) | None => {}
            }
        }
        let Some(name) = least else {
            return Ok(());
        };
        let mut found = Vec::new();
        for (run, list) in runs.iter().zip(&mut lists) {
            let is_it = |next: &Result<RunName, _>| next.as_ref().is_ok_and(|n| n.name() == name);
            if let Some(next) = list.next_if(is_it) {
                found.push((*run, next?));
            }
        }
        let (run, first) = &found[0];
        let before = first.before;
        // So that there is at least one position to write.
        first.nth(run, 0)?;
        let failed = RefCell::new(None);
        let rows = found.iter().flat_map(|(run, found)| Rows {
            run,
            found,
            page: Vec::new().into_iter(),
            next: run.first(),
            failed: &failed,
        });
        writer.name(kind, &name, before, rows)?;
        if let Some(e) = failed.into_inner() {
            return Err(e.into());
        }
    }
}

/// The positions of one name in one run, a page at a time. Ends early if they cannot be read, and says so.
struct Rows<'a> {
    run: &'a Run,
    found: &'a RunName,
    page: std::vec::IntoIter<Position>,
    next: Position,
    failed: &'a RefCell<Option<ReadError>>,
}

impl Iterator for Rows<'_> {
    type Item = Position;

    fn next(&mut self) -> Option<Position> {
        if let Some(position) = self.page.next() {
            return Some(position);
        }
        if self.failed.borrow().is_some() || self.next > self.found.last {
            return None;
        }
        let range = self.next..=self.found.last;
        match self
            .found
            .page(self.run, range, Direction::Forward, PAGE_ROWS)
        {
            Ok(page) => {
                self.next = page.last()? + 1;
                self.page = page.into_iter();
                self.page.next()
            }
            Err(e) => {
                *self.failed.borrow_mut() = Some(e);
                None
            }
        }
    }
}
