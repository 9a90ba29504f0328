//! The first and the last block of a run: whose it is, and where its sections stand.
//!
//! | offset | bytes | field of the first block |
//! |---|---|---|
//! | 0 | 8 | magic `ANNALSIX` |
//! | 8 | 4 | format version, 1 |
//! | 12 | 4 | compatible features: unknown bits are ignored |
//! | 16 | 4 | incompatible features: unknown bits refuse to open |
//! | 20 | 4 | zeros |
//! | 24 | 16 | log id |
//! | 40 | 8 | salt, random: what was in the file before can never be taken for a block of it |
//! | 48 | 8 | first position |
//! | 56 | 8 | hash of the magic: keys are looked up by the hashes that they were written with |
//!
//! | offset | bytes | field of the last block |
//! |---|---|---|
//! | 0 | 8 | last position |
//! | 8 | 8 | time of the first event, µs |
//! | 16 | 8 | time of the last event, µs |
//! | 24 | 8 + 8 | ids: first block, number of entries |
//! | 40 | 8 + 8 | filter of the ids: first block, number of blocks |
//! | 56 | 8 + 8 | filter of the names: first block, number of blocks |
//! | 72 | 3 × (8 + 8 + 8) | names of entities, types and tags: root block, its level, number of names |
//!
//! Rows begin in the second block. Everything is little-endian.

use super::{
    block::{BLOCK_BYTES, Block, CONTENT_BYTES, Identity},
    filter::Filter,
    ids::Ids,
    names::Tree,
    rows,
};
use crate::{
    storage::bytes::{get_u32, get_u64, put_u32, put_u64},
    types::{
        hash::KeyHasher,
        id::{LogId, Position},
    },
};

const MAGIC: &[u8; 8] = b"ANNALSIX";
const VERSION: u32 = 1;
const VERSION_AT: usize = 8;
const INCOMPATIBLE_AT: usize = 16;
const LOG_ID_AT: usize = 24;
const SALT_AT: usize = LOG_ID_AT + 16;
const FIRST_AT: usize = SALT_AT + 8;
const HASH_AT: usize = FIRST_AT + 8;
const HEADER_BYTES: usize = HASH_AT + 8;

const LAST_AT: usize = 0;
const FIRST_RECORDED_AT_AT: usize = LAST_AT + 8;
const LAST_RECORDED_AT_AT: usize = FIRST_RECORDED_AT_AT + 8;
const IDS_AT: usize = LAST_RECORDED_AT_AT + 8;
const ID_FILTER_AT: usize = IDS_AT + 16;
const NAME_FILTER_AT: usize = ID_FILTER_AT + 16;
const TREES_AT: usize = NAME_FILTER_AT + 16;
const TREE_BYTES: usize = 24;
const FOOTER_BYTES: usize = TREES_AT + 3 * TREE_BYTES;

/// The first block; see the module.
#[derive(Clone, Copy)]
pub(super) struct Header {
    pub(super) log_id: LogId,
    pub(super) salt: u64,
    pub(super) first: Position,
    pub(super) hasher: KeyHasher,
}

impl Header {
    pub(super) fn identity(&self) -> Identity {
        Identity::new(self.log_id, self.salt)
    }

    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut content = [0; HEADER_BYTES];
        content[..MAGIC.len()].copy_from_slice(MAGIC);
        put_u32(&mut content, VERSION_AT, VERSION);
        content[LOG_ID_AT..SALT_AT].copy_from_slice(self.log_id.as_bytes());
        put_u64(&mut content, SALT_AT, self.salt);
        put_u64(&mut content, FIRST_AT, self.first);
        put_u64(&mut content, HASH_AT, self.hasher.hash(MAGIC));
        content
    }

    /// Reads a block, or says what is wrong with it.
    pub(super) fn decode(block: &Block, hasher: KeyHasher) -> Result<Self, String> {
        if !block.starts_with(MAGIC) {
            return Err("it does not start like an index run".to_owned());
        }
        let mut log_id = [0; 16];
        log_id.copy_from_slice(&block[LOG_ID_AT..SALT_AT]);
        let header = Self {
            log_id: LogId::from_bytes(log_id),
            salt: get_u64(block, SALT_AT),
            first: get_u64(block, FIRST_AT),
            hasher,
        };
        if !header.identity().owns(0, block) {
            return Err("the checksum of its header does not match".to_owned());
        }
        let (version, incompatible) = (get_u32(block, VERSION_AT), get_u32(block, INCOMPATIBLE_AT));
        if version != VERSION || incompatible != 0 {
            return Err(format!(
                "it has format version {version}, features {incompatible:#x}: this version knows neither"
            ));
        }
        if get_u64(block, HASH_AT) != hasher.hash(MAGIC) {
            return Err("its keys were hashed with another function".to_owned());
        }
        Ok(header)
    }
}

/// The last block; see the module.
#[derive(Clone, Copy)]
pub(super) struct Footer {
    pub(super) last: Position,
    pub(super) first_recorded_at: i64,
    pub(super) last_recorded_at: i64,
    pub(super) ids: Ids,
    pub(super) id_filter: Filter,
    pub(super) name_filter: Filter,
    /// Of entities, types and tags.
    pub(super) trees: [Tree; 3],
}

impl Footer {
    pub(super) fn encode(&self) -> [u8; FOOTER_BYTES] {
        let mut content = [0; FOOTER_BYTES];
        put_u64(&mut content, LAST_AT, self.last);
        let times = (self.first_recorded_at, self.last_recorded_at);
        put_u64(&mut content, FIRST_RECORDED_AT_AT, times.0.cast_unsigned());
        put_u64(&mut content, LAST_RECORDED_AT_AT, times.1.cast_unsigned());
        put_u64(&mut content, IDS_AT, self.ids.first_block);
        put_u64(&mut content, IDS_AT + 8, self.ids.entries);
        for (at, filter) in self.filters() {
            put_u64(&mut content, at, filter.first_block);
            put_u64(&mut content, at + 8, filter.blocks);
        }
        for (at, tree) in (TREES_AT..).step_by(TREE_BYTES).zip(&self.trees) {
            put_u64(&mut content, at, tree.root);
            put_u64(&mut content, at + 8, tree.level.into());
            put_u64(&mut content, at + 16, tree.names);
        }
        content
    }

    fn filters(&self) -> [(usize, Filter); 2] {
        [
            (ID_FILTER_AT, self.id_filter),
            (NAME_FILTER_AT, self.name_filter),
        ]
    }

    /// Reads the last one of so many blocks, whose checksum matched, or says what is wrong with it.
    pub(super) fn decode(block: &Block, first: Position, blocks: u64) -> Result<Self, String> {
        let filter = |at| Filter {
            first_block: get_u64(block, at),
            blocks: get_u64(block, at + 8),
        };
        let tree = |i| {
            let at = TREES_AT + i * TREE_BYTES;
            let level = u16::try_from(get_u64(block, at + 8)).ok()?;
            Some(Tree {
                root: get_u64(block, at),
                level,
                names: get_u64(block, at + 16),
            })
        };
        let trees = (tree(0), tree(1), tree(2));
        let (Some(entities), Some(types), Some(tags)) = trees else {
            return Err("a tree of names is too high".to_owned());
        };
        let footer = Self {
            last: get_u64(block, LAST_AT),
            first_recorded_at: get_u64(block, FIRST_RECORDED_AT_AT).cast_signed(),
            last_recorded_at: get_u64(block, LAST_RECORDED_AT_AT).cast_signed(),
            ids: Ids {
                first_block: get_u64(block, IDS_AT),
                entries: get_u64(block, IDS_AT + 8),
            },
            id_filter: filter(ID_FILTER_AT),
            name_filter: filter(NAME_FILTER_AT),
            trees: [entities, types, tags],
        };
        let rows = footer
            .last
            .checked_sub(first)
            .and_then(|n| n.checked_add(1));
        let Some(rows) = rows.filter(|rows| u32::try_from(rows - 1).is_ok()) else {
            return Err("its last position cannot be".to_owned());
        };
        let sections = [
            (rows::FIRST_BLOCK, rows::blocks(rows)),
            (footer.ids.first_block, footer.ids.blocks()),
            (footer.id_filter.first_block, footer.id_filter.blocks),
            (footer.name_filter.first_block, footer.name_filter.blocks),
        ];
        let inside = |(at, len): (u64, u64)| at.checked_add(len).is_some_and(|end| end < blocks);
        if !sections.into_iter().all(inside) {
            return Err("a section is not inside of it".to_owned());
        }
        Ok(footer)
    }
}

const _: () = assert!(HEADER_BYTES <= CONTENT_BYTES && FOOTER_BYTES <= CONTENT_BYTES);
const _: () = assert!(BLOCK_BYTES == crate::storage::disk::PAGE_BYTES);
