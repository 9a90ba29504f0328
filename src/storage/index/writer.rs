//! Writes a run, front to back: all rows, then all ids, then all names.
//!
//! What is held in memory: a megabyte of blocks, the ids that are handed over, and eight bytes a name for its filter.
//! Called by one thread. A file that was not finished is no run; the caller removes it.

use std::{io, mem, ops::Range, path::Path};

use super::{
    RowPlace, RunSummary,
    block::BlockWriter,
    filter::{Filter, FilterWriter},
    ids::{Ids, IdsWriter},
    layout::{Footer, Header},
    names::{Tree, TreeWriter, filter_key, place_of},
    postings,
    rows::RowsWriter,
};
use crate::{
    storage::{disk::Disk, log::writer::random_salt},
    types::{
        hash::KeyHasher,
        id::{LogId, Position},
        limits::NAME_BYTES_MAX,
        read::NameKind,
    },
};

/// See the module. What it is given out of order is a mistake of the caller, and panics.
pub(crate) struct RunWriter {
    blocks: BlockWriter,
    header: Header,
    rows: RowsWriter,
    /// Once they are written.
    ids: Option<(Ids, Filter)>,
    names: NamesWriter,
}

struct NamesWriter {
    /// Of the kinds that are done.
    trees: [Tree; 3],
    /// The kind that is being written.
    kind: NameKind,
    tree: TreeWriter,
    last_name: Vec<u8>,
    filter_keys: Vec<u64>,
    buffer: Vec<u8>,
}

impl NamesWriter {
    /// Ends the kind that is being written.
    fn finish_kind(&mut self, blocks: &mut BlockWriter) -> io::Result<()> {
        self.last_name.clear();
        self.trees[place_of(self.kind)] = mem::take(&mut self.tree).finish(blocks)?;
        Ok(())
    }
}

impl RunWriter {
    /// Makes the file, or empties the one that is there.
    pub(crate) fn create(
        disk: &dyn Disk,
        path: &Path,
        log_id: LogId,
        hasher: KeyHasher,
        first: Position,
    ) -> io::Result<Self> {
        let header = Header {
            log_id,
            salt: random_salt(),
            first,
            hasher,
        };
        Self::with_header(disk, path, header)
    }

    pub(super) fn with_header(disk: &dyn Disk, path: &Path, header: Header) -> io::Result<Self> {
        let mut blocks = BlockWriter::new(disk.create(path)?, header.identity());
        blocks.append(&header.encode())?;
        Ok(Self {
            blocks,
            header,
            rows: RowsWriter::default(),
            ids: None,
            names: NamesWriter {
                trees: [Tree::default(); 3],
                kind: NameKind::Entity,
                tree: TreeWriter::default(),
                last_name: Vec::new(),
                filter_keys: Vec::new(),
                buffer: Vec::new(),
            },
        })
    }

    /// Adds the next position; at least one, at most 2^32.
    pub(crate) fn row(&mut self, place: RowPlace) -> io::Result<()> {
        assert!(self.ids.is_none(), "rows come first");
        self.rows.push(&mut self.blocks, place)
    }

    /// Adds the hashes of event ids and where they stand, in any order; called once, after the last row.
    pub(crate) fn ids(&mut self, mut ids: Vec<(u64, Position)>) -> io::Result<()> {
        ids.sort_unstable();
        self.sorted_ids(ids.len() as u64, ids.into_iter().map(Ok::<_, io::Error>))
    }

    /// As [`RunWriter::ids`], so many of them, sorted by hash, then by position.
    pub(super) fn sorted_ids<E: From<io::Error>>(
        &mut self,
        count: u64,
        ids: impl Iterator<Item = Result<(u64, Position), E>>,
    ) -> Result<(), E> {
        assert!(self.ids.is_none(), "ids come once");
        assert!(self.rows.rows <= 1 << 32, "rows are counted in 32 bits");
        self.rows.finish(&mut self.blocks)?;
        let positions = self.positions();
        let mut section = IdsWriter::new(self.header.first, &self.blocks);
        let mut filter = FilterWriter::new(count);
        for id in ids {
            let (hash, position) = id?;
            assert!(positions.contains(&position), "ids are those of rows");
            section.push((hash, position), &mut self.blocks)?;
            filter.add(hash);
        }
        let section = section.finish(&mut self.blocks)?;
        self.ids = Some((section, filter.finish(&mut self.blocks)?));
        Ok(())
    }

    fn positions(&self) -> Range<Position> {
        self.header.first..self.header.first + self.rows.rows
    }

    /// Adds a name and the positions that carry it, ascending and at least one; `before` says how many events before
    /// the run do. Names of entities come first, then types, then tags, each in the order of their bytes.
    pub(crate) fn name(
        &mut self,
        kind: NameKind,
        name: &[u8],
        before: u64,
        rows: impl Iterator<Item = Position>,
    ) -> io::Result<()> {
        assert!(self.ids.is_some(), "names come after ids");
        assert!(name.len() <= NAME_BYTES_MAX, "names have a limit");
        let positions = self.positions();
        let (names, blocks) = (&mut self.names, &mut self.blocks);
        if kind != names.kind {
            assert!(place_of(kind) > place_of(names.kind), "kinds have an order");
            names.finish_kind(blocks)?;
            names.kind = kind;
        } else if names.tree.names > 0 {
            assert!(*name > *names.last_name, "names ascend");
        }
        let rows = rows.map(|position| {
            assert!(positions.contains(&position), "names are those of rows");
            (position - positions.start) as u32
        });
        let written = postings::write(rows, &mut names.buffer, blocks)?;
        names.tree.push(name, before, &written, blocks)?;
        let hash = self.header.hasher.hash(name);
        names.filter_keys.push(filter_key(kind, hash));
        names.last_name.clear();
        names.last_name.extend_from_slice(name);
        Ok(())
    }

    /// Writes the rest and syncs the file; neither its name nor its folder.
    pub(crate) fn finish(mut self) -> io::Result<RunSummary> {
        let (ids, id_filter) = self.ids.expect("ids were written");
        assert!(self.rows.rows > 0, "a run has a row");
        self.names.finish_kind(&mut self.blocks)?;
        let mut name_filter = FilterWriter::new(self.names.filter_keys.len() as u64);
        for key in &self.names.filter_keys {
            name_filter.add(*key);
        }
        let footer = Footer {
            last: self.positions().end - 1,
            first_recorded_at: self.rows.first_recorded_at,
            last_recorded_at: self.rows.last_recorded_at,
            ids,
            id_filter,
            name_filter: name_filter.finish(&mut self.blocks)?,
            trees: self.names.trees,
        };
        self.blocks.append(&footer.encode())?;
        let (bytes, sha256) = self.blocks.finish()?;
        Ok(RunSummary {
            first: self.header.first,
            last: footer.last,
            bytes,
            sha256,
        })
    }
}
