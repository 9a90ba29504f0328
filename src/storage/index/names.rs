//! The names of one kind, in order of their bytes: a tree of pages, written from the leaves up.
//!
//! A leaf's keys are names in full; the value of one is a row of varints:
//!
//! | field |
//! |---|
//! | events that carry the name before the run |
//! | events of the run that do, at least 1 |
//! | the first of them, less the first position of the run |
//! | the last of them, less the first of them |
//! | 2 × bytes of gaps, which follow; or 2 × blocks of postings + 1, and the first block's number |
//!
//! The keys of other pages are the first keys of the pages below, the values their block numbers as varints. Leaves
//! stand in the order of their names, with postings between them.

use std::{io, mem, ops::Range, sync::Arc};

use super::{
    block::{Block, BlockWriter, CONTENT_BYTES},
    page::{Page, PageWriter},
    postings::{Written, WrittenPlace},
    reader::Run,
    varint,
};
use crate::types::{
    id::Position,
    read::{NameKind, ReadError},
};

/// Where the names of a kind stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tree {
    pub(super) root: u64,
    /// Of the root; a leaf has 0.
    pub(super) level: u16,
    /// How many; without any there is no root.
    pub(super) names: u64,
}

/// The place of a kind among the three.
pub(super) fn place_of(kind: NameKind) -> usize {
    match kind {
        NameKind::Entity => 0,
        NameKind::Type => 1,
        NameKind::Tag => 2,
    }
}

/// What a name is filtered by: names of different kinds are different keys.
pub(super) fn filter_key(kind: NameKind, hash: u64) -> u64 {
    hash ^ (place_of(kind) as u64) << 62
}

/// Writes a tree.
#[derive(Default)]
pub(super) struct TreeWriter {
    /// The page of each level that is not full.
    pages: Vec<PageWriter>,
    pub(super) names: u64,
    value: Vec<u8>,
}

impl TreeWriter {
    /// Adds a name, greater than those before.
    pub(super) fn push(
        &mut self,
        name: &[u8],
        before: u64,
        written: &Written<'_>,
        blocks: &mut BlockWriter,
    ) -> io::Result<()> {
        let mut value = mem::take(&mut self.value);
        value.clear();
        varint::put(&mut value, before);
        varint::put(&mut value, written.rows);
        varint::put(&mut value, written.first.into());
        varint::put(&mut value, (written.last - written.first).into());
        match written.place {
            WrittenPlace::Inline(gaps) => {
                varint::put(&mut value, (gaps.len() as u64) << 1);
                value.extend_from_slice(gaps);
            }
            WrittenPlace::Blocks {
                first_block,
                blocks,
            } => {
                varint::put(&mut value, blocks << 1 | 1);
                varint::put(&mut value, first_block);
            }
        }
        self.insert(0, name, &value, blocks)?;
        self.value = value;
        self.names += 1;
        Ok(())
    }

    fn insert(
        &mut self,
        level: usize,
        key: &[u8],
        value: &[u8],
        blocks: &mut BlockWriter,
    ) -> io::Result<()> {
        if level == self.pages.len() {
            self.pages.push(PageWriter::new(level as u16));
        }
        if !self.pages[level].fits(key, value) {
            self.write_page(level, blocks)?;
        }
        self.pages[level].push(key, value);
        Ok(())
    }

    /// Writes the page of a level and enters it in the one above.
    fn write_page(&mut self, level: usize, blocks: &mut BlockWriter) -> io::Result<()> {
        let (content, first) = self.pages[level].take();
        let mut number = Vec::with_capacity(varint::BYTES_MAX);
        varint::put(&mut number, blocks.append(&content)?);
        self.insert(level + 1, &first, &number, blocks)
    }

    /// Writes what is not full, up to the root.
    pub(super) fn finish(mut self, blocks: &mut BlockWriter) -> io::Result<Tree> {
        let mut level = 0;
        while level + 1 < self.pages.len() {
            self.write_page(level, blocks)?;
            level += 1;
        }
        let Some(root) = self.pages.last_mut() else {
            return Ok(Tree::default());
        };
        Ok(Tree {
            root: blocks.append(&root.take().0)?,
            level: level as u16,
            names: self.names,
        })
    }
}

/// A name of a run. It keeps the block that it stands in.
pub(crate) struct RunName {
    /// Events that carry the name before the run.
    pub(crate) before: u64,
    /// Events of the run that carry it, at least one.
    pub(crate) count: u64,
    /// The position of the first of them.
    pub(crate) first: Position,
    /// The position of the last of them.
    pub(crate) last: Position,
    pub(super) leaf: Arc<Block>,
    name: Range<usize>,
    pub(super) postings: Postings,
}

/// Where the rows of a name are.
pub(super) enum Postings {
    /// In the leaf, whose number this is.
    Inline { number: u64, gaps_at: usize },
    /// In these blocks.
    Blocks(Range<u64>),
}

impl RunName {
    pub(crate) fn name(&self) -> &[u8] {
        &self.leaf[self.name.clone()]
    }

    /// Reads an entry of a leaf; `None` if it is malformed.
    fn read(run: &Run, step: &Step, index: usize) -> Option<Self> {
        let page = Page::read(&step.block, 0)?;
        let name = page.key_at(index)?;
        let mut value = page.value(index)?;
        let before = varint::take(&mut value)?;
        let count = varint::take(&mut value)?;
        let first = varint::take(&mut value)?;
        let last = first.checked_add(varint::take(&mut value)?)?;
        let place = varint::take(&mut value)?;
        if count == 0 || last >= run.rows() {
            return None;
        }
        let postings = if place & 1 == 0 {
            Postings::Inline {
                number: step.number,
                gaps_at: CONTENT_BYTES - value.len(),
            }
        } else {
            let start = varint::take(&mut value)?;
            let end = start.checked_add(place >> 1)?;
            (start < end).then_some(Postings::Blocks(start..end))?
        };
        Some(Self {
            before,
            count,
            first: run.first() + first,
            last: run.first() + last,
            leaf: Arc::clone(&step.block),
            name,
            postings,
        })
    }
}

/// A page on the way through a tree.
struct Step {
    number: u64,
    block: Arc<Block>,
    level: u16,
    /// The entry to look at next.
    index: usize,
    len: usize,
}

impl Step {
    /// Reads a page and finds where to go on: in a leaf at the first name that is not `before`, else below the page
    /// that may hold it.
    fn read(
        run: &Run,
        number: u64,
        level: u16,
        before: impl Fn(&[u8]) -> bool,
    ) -> Result<Self, ReadError> {
        let block = run.block(number)?;
        let found = Page::read(&block, level).and_then(|page| {
            let keys = page.partition(before)?;
            Some((
                if level == 0 {
                    keys
                } else {
                    keys.saturating_sub(1)
                },
                page.len,
            ))
        });
        let (index, len) = found.ok_or_else(|| malformed(run, number))?;
        Ok(Self {
            number,
            block,
            level,
            index,
            len,
        })
    }

    /// The number of the page below, at the entry to look at next.
    fn below(&self, run: &Run) -> Result<u64, ReadError> {
        let page = Page::read(&self.block, self.level);
        page.and_then(|page| varint::take(&mut page.value(self.index)?))
            .ok_or_else(|| malformed(run, self.number))
    }

    fn name(&self, run: &Run) -> Result<RunName, ReadError> {
        RunName::read(run, self, self.index).ok_or_else(|| malformed(run, self.number))
    }
}

fn malformed(run: &Run, number: u64) -> ReadError {
    run.damaged(number, "a page of names is malformed")
}

impl Run {
    fn tree(&self, kind: NameKind) -> Tree {
        self.footer().trees[place_of(kind)]
    }

    /// Number of names of a kind.
    #[cfg(test)]
    pub(crate) fn names(&self, kind: NameKind) -> u64 {
        self.tree(kind).names
    }

    /// A name, by its hash and in full; `None` if no event of the run carries it, which mostly costs one block.
    pub(crate) fn name(
        &self,
        kind: NameKind,
        hash: u64,
        name: &[u8],
    ) -> Result<Option<RunName>, ReadError> {
        let tree = self.tree(kind);
        let filter = self.footer().name_filter;
        if tree.names == 0 || !filter.may_hold(self, filter_key(kind, hash))? {
            return Ok(None);
        }
        let mut number = tree.root;
        for level in (1..=tree.level).rev() {
            number = Step::read(self, number, level, |key| key <= name)?.below(self)?;
        }
        let leaf = Step::read(self, number, 0, |key| key < name)?;
        if leaf.index == leaf.len {
            return Ok(None);
        }
        let found = leaf.name(self)?;
        Ok((found.name() == name).then_some(found))
    }

    /// Names that start with `prefix` and come behind `after`, in order. Ends after an error.
    pub(crate) fn list<'a>(
        &'a self,
        kind: NameKind,
        prefix: &'a [u8],
        after: Option<&'a [u8]>,
    ) -> impl Iterator<Item = Result<RunName, ReadError>> + 'a {
        let tree = self.tree(kind);
        let root = (tree.names > 0).then_some((tree.root, tree.level));
        Names {
            run: self,
            prefix,
            after,
            below: root,
            path: Vec::new(),
            last_leaf: 0,
        }
    }
}

/// A walk through the leaves of a tree.
struct Names<'a> {
    run: &'a Run,
    prefix: &'a [u8],
    after: Option<&'a [u8]>,
    /// The page to read next, and its level.
    below: Option<(u64, u16)>,
    /// The pages above, from the root down, each at its next entry.
    path: Vec<Step>,
    last_leaf: u64,
}

impl Names<'_> {
    fn is_before(&self, name: &[u8]) -> bool {
        name < self.prefix || self.after.is_some_and(|after| name <= after)
    }

    fn advance(&mut self) -> Result<Option<RunName>, ReadError> {
        loop {
            if let Some((number, level)) = self.below.take() {
                // Leaves stand in order; so this ends, whatever the pages say.
                if level == 0 && number <= self.last_leaf {
                    return Err(malformed(self.run, number));
                }
                let before = |key: &[u8]| self.is_before(key);
                self.path.push(Step::read(self.run, number, level, before)?);
            }
            let Some(step) = self.path.last_mut() else {
                return Ok(None);
            };
            if step.index == step.len {
                self.path.pop();
                continue;
            }
            if step.level == 0 {
                self.last_leaf = step.number;
                let name = step.name(self.run)?;
                step.index += 1;
                return Ok(name.name().starts_with(self.prefix).then_some(name));
            }
            self.below = Some((step.below(self.run)?, step.level - 1));
            step.index += 1;
        }
    }
}

impl Iterator for Names<'_> {
    type Item = Result<RunName, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.advance().transpose();
        if !matches!(next, Some(Ok(_))) {
            self.path.clear();
            self.below = None;
        }
        next
    }
}
