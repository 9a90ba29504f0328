//! A scan of entities: a merge of the names that each piece of the index has, as of one head.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, StringArray},
    datatypes::SchemaRef,
    error::ArrowError,
};

use super::schema::{EVENTS, FIRST_POSITION, LAST_POSITION};
use crate::{
    engine::{
        log::{
            Log,
            index::{Piece, Pieces},
            names::NameRows,
        },
        tenant::Tenant,
    },
    storage::segment::schema::ENTITY_ID,
    types::{
        id::Position,
        read::{Damage, NameKind, ReadError},
        scan::ScanRequest,
        slot::{Partitions, slot},
        text::Text,
    },
};

/// Names that a piece is asked for at once.
const PAGE_NAMES: usize = 8_192;
/// Names that are looked at for one batch: then the caller is heard.
const LOOK_NAMES: usize = 1 << 18;

/// See the module.
pub(super) struct Entities {
    log: Arc<Log>,
    pieces: Arc<Pieces>,
    schema: SchemaRef,
    head: Position,
    limit: u64,
    partitions: Vec<u32>,
    division: Partitions,
    names: Names,
    /// Something was given: a scan without rows gives one empty batch.
    told: bool,
}

enum Names {
    /// What is left of those asked for, in order.
    Given(VecDeque<Text>),
    /// All of them: for each piece what it gave, and whether it has more.
    All(Vec<Page>),
}

struct Page {
    names: VecDeque<NameRows>,
    /// The last name that the piece gave; `None` before the first.
    last: Option<Box<[u8]>>,
    more: bool,
}

impl Entities {
    pub(super) fn new(
        tenant: &Tenant,
        request: &ScanRequest,
        head: Position,
        limit: u64,
        schema: SchemaRef,
    ) -> Self {
        let pieces = tenant.log.pieces();
        let given: BTreeSet<_> = request.filter.entity_ids.iter().cloned().collect();
        let names = if given.is_empty() {
            let page = |_| Page {
                names: VecDeque::new(),
                last: None,
                more: true,
            };
            Names::All(pieces.up_to(head).iter().map(page).collect())
        } else {
            Names::Given(given.into_iter().collect())
        };
        Self {
            log: Arc::clone(&tenant.log),
            pieces,
            schema,
            head,
            limit,
            partitions: request.filter.partitions.clone(),
            division: tenant.partitions,
            names,
            told: false,
        }
    }

    /// The next rows; none where few of very many are wanted. A scan without rows gives one empty batch.
    pub(super) fn next(&mut self) -> Result<Option<RecordBatch>, ReadError> {
        let mut found = Vec::new();
        let (mut looked, mut more) = (0, true);
        while found.len() < PAGE_NAMES && (found.len() as u64) < self.limit && looked < LOOK_NAMES {
            let Some(next) = self.next_name()? else {
                more = false;
                break;
            };
            looked += 1;
            let partition = self.division.of_slot(slot(&next.name));
            if self.partitions.is_empty() || self.partitions.contains(&partition) {
                found.push(next);
            }
        }
        self.limit -= found.len() as u64;
        let ended = self.limit == 0 || !more;
        if found.is_empty() && self.told && ended {
            return Ok(None);
        }
        self.told = true;
        let batch = self.batch(&found).map_err(|e| self.undecodable(&e))?;
        Ok(Some(batch))
    }

    fn next_name(&mut self) -> Result<Option<NameRows>, ReadError> {
        match &mut self.names {
            Names::Given(names) => {
                while let Some(name) = names.pop_front() {
                    if let Some(found) = find(&self.log, &self.pieces, &name, self.head)? {
                        return Ok(Some(found));
                    }
                }
                Ok(None)
            }
            Names::All(pages) => {
                if pages.iter().any(Page::is_spent) {
                    let pieces = self.pieces.up_to(self.head);
                    for (page, (piece, _)) in pages.iter_mut().zip(pieces) {
                        page.fill(piece, self.head)?;
                    }
                }
                let heads = pages.iter().filter_map(|page| page.names.front());
                let Some(least) = heads.map(|next| &next.name).min().cloned() else {
                    return Ok(None);
                };
                let mut all: Option<NameRows> = None;
                for page in pages {
                    if page.names.front().is_some_and(|next| next.name == least)
                        && let Some(next) = page.names.pop_front()
                    {
                        all = Some(match all {
                            None => next,
                            Some(before) => NameRows {
                                rows: before.rows + next.rows,
                                last: next.last,
                                ..before
                            },
                        });
                    }
                }
                Ok(all)
            }
        }
    }

    fn batch(&self, found: &[NameRows]) -> Result<RecordBatch, ArrowError> {
        let number = |of: fn(&NameRows) -> u64| -> ArrayRef {
            let numbers = found.iter().map(|next| of(next).cast_signed());
            Arc::new(Int64Array::from_iter_values(numbers))
        };
        let columns = self.schema.fields().iter().map(|field| {
            Ok(match field.name().as_str() {
                EVENTS => number(|next| next.rows),
                FIRST_POSITION => number(|next| next.first),
                LAST_POSITION => number(|next| next.last),
                _ => {
                    debug_assert_eq!(field.name(), ENTITY_ID);
                    let names = found.iter().map(|next| std::str::from_utf8(&next.name));
                    let names = names.collect::<Result<Vec<_>, _>>();
                    let names = names.map_err(|e| ArrowError::from_external_error(Box::new(e)))?;
                    Arc::new(StringArray::from_iter_values(names))
                }
            })
        });
        let columns = columns.collect::<Result<_, ArrowError>>()?;
        RecordBatch::try_new(Arc::clone(&self.schema), columns)
    }

    fn undecodable(&self, error: &ArrowError) -> ReadError {
        ReadError::Damaged(Damage {
            path: self.log.segments_dir(),
            offset: 0,
            what: format!("names of its entities do not fit: {error}"),
        })
    }
}

impl Page {
    fn is_spent(&self) -> bool {
        self.names.is_empty() && self.more
    }

    /// Gets the next names, if none are here.
    fn fill(&mut self, piece: Piece<'_>, head: Position) -> Result<(), ReadError> {
        if !self.is_spent() {
            return Ok(());
        }
        let names = piece.list(
            NameKind::Entity,
            b"",
            self.last.as_deref(),
            PAGE_NAMES,
            head,
        )?;
        self.more = names.len() == PAGE_NAMES;
        self.last = names.last().map(|last| last.name.clone());
        self.names = names.into();
        Ok(())
    }
}

/// What there is of an entity up to the head, if there is anything.
fn find(
    log: &Log,
    pieces: &Pieces,
    name: &Text,
    head: Position,
) -> Result<Option<NameRows>, ReadError> {
    let key = log.key(name);
    let rows = pieces.count_through(NameKind::Entity, key, head)?;
    let at = |n| pieces.nth(NameKind::Entity, key, n);
    if rows == 0 {
        return Ok(None);
    }
    Ok(at(1)?.zip(at(rows)?).map(|(first, last)| NameRows {
        name: name.as_bytes().into(),
        rows,
        first,
        last,
    }))
}
