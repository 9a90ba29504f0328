//! A page of a tree of names: keys in order, each with a value, found by halving.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 2 | level: 0 for a leaf, one more than the pages below for others |
//! | 2 | 2 | number of entries, n |
//! | 4 | 2 × n | where each entry starts, counted from the end of this field |
//! | … | | entries: bytes of the key (2), key, value |
//!
//! The values tell their own length.

use std::ops::Range;

use super::block::{Block, CONTENT_BYTES};
use crate::storage::bytes::get_u16;

const STARTS_AT: usize = 4;

/// Collects the entries of a page.
pub(super) struct PageWriter {
    level: u16,
    starts: Vec<u8>,
    entries: Vec<u8>,
}

impl PageWriter {
    pub(super) fn new(level: u16) -> Self {
        Self {
            level,
            starts: Vec::new(),
            entries: Vec::new(),
        }
    }

    /// Whether there is room for another entry. An empty page has room for the largest.
    pub(super) fn fits(&self, key: &[u8], value: &[u8]) -> bool {
        let entry_bytes = 2 + 2 + key.len() + value.len();
        STARTS_AT + self.starts.len() + self.entries.len() + entry_bytes <= CONTENT_BYTES
    }

    pub(super) fn push(&mut self, key: &[u8], value: &[u8]) {
        let start = self.entries.len() as u16;
        self.starts.extend(start.to_le_bytes());
        self.entries.extend((key.len() as u16).to_le_bytes());
        self.entries.extend_from_slice(key);
        self.entries.extend_from_slice(value);
    }

    /// The content of the page and its first key. Begins a new page.
    pub(super) fn take(&mut self) -> (Vec<u8>, Vec<u8>) {
        let first = get_u16(&self.entries, 0) as usize;
        let first = self.entries[2..2 + first].to_vec();
        let mut content = Vec::with_capacity(CONTENT_BYTES);
        content.extend(self.level.to_le_bytes());
        content.extend(((self.starts.len() / 2) as u16).to_le_bytes());
        content.append(&mut self.starts);
        content.append(&mut self.entries);
        (content, first)
    }
}

/// A page that is read. What it says of itself is checked where it is used: `None` says that it cannot be.
#[derive(Clone, Copy)]
pub(super) struct Page<'a> {
    block: &'a Block,
    /// Entries; at least one.
    pub(super) len: usize,
}

impl<'a> Page<'a> {
    /// `None` also if the page is not of this level.
    pub(super) fn read(block: &'a Block, level: u16) -> Option<Self> {
        let len = get_u16(block, 2) as usize;
        let is_page = get_u16(block, 0) == level && len > 0 && STARTS_AT + 2 * len < CONTENT_BYTES;
        is_page.then_some(Self { block, len })
    }

    /// Where the key of an entry stands in the block; the value follows it.
    pub(super) fn key_at(self, index: usize) -> Option<Range<usize>> {
        let start = get_u16(self.block, STARTS_AT + 2 * index) as usize;
        let key = STARTS_AT + 2 * self.len + start + 2;
        let size = self.block[..CONTENT_BYTES].get(key - 2..key)?;
        let end = key + get_u16(size, 0) as usize;
        (end <= CONTENT_BYTES).then_some(key..end)
    }

    /// The content from the value of an entry on.
    pub(super) fn value(self, index: usize) -> Option<&'a [u8]> {
        Some(&self.block[self.key_at(index)?.end..CONTENT_BYTES])
    }

    /// How many keys come before all others, of which `is_before` is false.
    pub(super) fn partition(self, is_before: impl Fn(&[u8]) -> bool) -> Option<usize> {
        let (mut low, mut high) = (0, self.len);
        while low < high {
            let middle = low + (high - low) / 2;
            if is_before(&self.block[self.key_at(middle)?]) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Some(low)
    }
}
