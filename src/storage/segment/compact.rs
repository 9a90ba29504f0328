//! Makes one segment of several that follow each other: the same rows, in order.
//!
//! Where the row groups are large enough, their bytes are copied as they are: pages, dictionaries and Bloom filters move,
//! and what the footer says of places moves with them; statistics, page indexes and sizes stay. Nothing is decoded.
//! Small row groups would stay small for ever that way, so that reads get slower and files larger: where they have less
//! than a quarter of a full one, on average, all rows are written anew. That costs as much as sealing them did, but
//! each time makes row groups several times larger, so that a row is seldom written so more than once.
//!
//! Every block of the sources is checked as it is read. The new file is synced, read back in whole, and compared with
//! what the sources hold. Bounded memory: what describes one source and the new file, and a row group where rows are
//! written anew.

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use parking_lot::Mutex;
use parquet::{
    bloom_filter::Sbbf,
    column::writer::ColumnCloseResult,
    errors::{ParquetError, Result as ParquetResult},
    file::{
        metadata::{ColumnChunkMetaData, ParquetMetaData},
        page_index::{
            column_index::ColumnIndexMetaData,
            offset_index::{OffsetIndexMetaData, PageLocation},
        },
        reader::{ChunkReader, Length},
        writer::{SerializedFileWriter, SerializedRowGroupWriter},
    },
};
use xxhash_rust::xxh3::Xxh3;

use super::{
    SegmentSummary,
    blocks::{ChunkRead, Chunks},
    reader::Segment,
    schema::{self, FooterFacts, SegmentOptions},
    sink::Sink,
    writer::{SegmentWriter, io_error},
};
use crate::{
    storage::disk::{Disk, DiskFile},
    types::{id::LogId, read::ReadError},
};

/// A segment to be compacted: its file and what is known of it.
pub(crate) struct Source {
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) path: PathBuf,
    pub(crate) summary: SegmentSummary,
}

/// What is made.
pub(crate) struct Target<'a> {
    /// Where; what is there is overwritten.
    pub(crate) path: &'a Path,
    pub(crate) log_id: LogId,
    pub(crate) options: SegmentOptions,
}

/// Why segments were not compacted. They are as they were; the new file, if there is one, is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompactError {
    /// One of them, or the new file, cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("{}: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("{}: what was written is not what the segments hold", .0.display())]
    Differs(PathBuf),
    #[error("it was told to stop")]
    Stopped,
}

/// Told of each so many bytes that were read; false: stop.
pub(crate) type See<'a> = &'a (dyn Fn(u64) -> bool + Sync);

/// How many bytes a caller of [`compact`] will be told of, about.
pub(crate) fn bytes_to_read(sources: &[SegmentSummary]) -> u64 {
    2 * sources.iter().map(|source| source.tail_at).sum::<u64>()
}

/// Writes, syncs and reads back the segment that holds what `sources` do, at least one, each the next one's neighbour.
/// Its name is not durable before the caller syncs the folder.
pub(crate) fn compact(
    disk: &dyn Disk,
    sources: &[Source],
    target: &Target<'_>,
    see: See<'_>,
) -> Result<SegmentSummary, CompactError> {
    let opened = sources.iter().map(|source| {
        let file = Arc::clone(&source.file);
        Segment::open(file, source.path.clone(), target.log_id, &source.summary)
    });
    let opened: Vec<_> = opened.collect::<Result<_, _>>()?;
    let file = disk.create(target.path).map_err(failed(target))?;
    if can_be_copied(&opened, target.options) {
        copy(file, sources, &opened, target, see)
    } else {
        write_anew(file, &opened, target, see)
    }
}

fn failed(target: &Target<'_>) -> impl Fn(io::Error) -> CompactError {
    let path = target.path.to_owned();
    move |error| CompactError::Io {
        path: path.clone(),
        error,
    }
}

/// Whether the row groups of the segments are large enough to stay, on average, and have the same columns.
fn can_be_copied(segments: &[Segment], options: SegmentOptions) -> bool {
    let groups = || {
        let metadata = segments.iter().map(|segment| segment.metadata.metadata());
        metadata.flat_map(|metadata| metadata.row_groups())
    };
    let count = groups().count() as u64;
    let rows: u64 = groups().map(|group| group.num_rows().cast_unsigned()).sum();
    let bytes: u64 = groups()
        .map(|group| group.compressed_size().cast_unsigned())
        .sum();
    let are_large = |sum: u64, full: usize| sum * 4 >= count * full as u64;
    let columns = |segment: &Segment| {
        let metadata = segment.metadata.metadata();
        metadata.file_metadata().schema_descr_ptr()
    };
    let same_columns = segments.windows(2).all(|pair| {
        let (one, other) = (columns(&pair[0]), columns(&pair[1]));
        one.root_schema() == other.root_schema()
    });
    same_columns
        && (are_large(rows, options.group_rows_max) || are_large(bytes, options.group_bytes))
}

/// What was read so far: its sum, and whether to go on.
struct Watch<'a> {
    see: See<'a>,
    content: Mutex<Xxh3>,
    stopped: AtomicBool,
}

impl<'a> Watch<'a> {
    fn new(see: See<'a>) -> Self {
        Self {
            see,
            content: Mutex::new(Xxh3::new()),
            stopped: AtomicBool::new(false),
        }
    }

    fn saw(&self, bytes: &[u8]) -> io::Result<()> {
        self.content.lock().update(bytes);
        if (self.see)(bytes.len() as u64) {
            return Ok(());
        }
        self.stopped.store(true, Ordering::Relaxed);
        Err(io::Error::other(CompactError::Stopped))
    }

    fn digest(&self) -> u128 {
        self.content.lock().digest128()
    }
}

/// The data of a segment, watched as it is read.
struct Watched<'a> {
    chunks: Chunks,
    watch: &'a Watch<'a>,
}

struct WatchedRead<'a> {
    read: ChunkRead,
    watch: &'a Watch<'a>,
}

impl Length for Watched<'_> {
    fn len(&self) -> u64 {
        self.chunks.len()
    }
}

impl<'a> ChunkReader for Watched<'a> {
    type T = WatchedRead<'a>;

    fn get_read(&self, start: u64) -> ParquetResult<WatchedRead<'a>> {
        Ok(WatchedRead {
            read: self.chunks.get_read(start)?,
            watch: self.watch,
        })
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        let bytes = self.chunks.get_bytes(start, length)?;
        self.watch.saw(&bytes)?;
        Ok(bytes)
    }
}

impl Read for WatchedRead<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.read.read(out)?;
        self.watch.saw(&out[..read])?;
        Ok(read)
    }
}

impl Watched<'_> {
    /// Why something failed: reading, being stopped, or else writing to `target`.
    fn why(&self, target: &Target<'_>, error: ParquetError) -> CompactError {
        if let Some(failure) = self.chunks.take_failure() {
            CompactError::Read(failure)
        } else if self.watch.stopped.load(Ordering::Relaxed) {
            CompactError::Stopped
        } else {
            failed(target)(io_error(error))
        }
    }

    /// Reads the bytes of a column and of its Bloom filter.
    fn read_column(&self, column: &ColumnChunkMetaData) -> ParquetResult<()> {
        let (start, bytes) = column.byte_range();
        io::copy(&mut self.get_read(start)?.take(bytes), &mut io::sink())?;
        self.read_bloom_filter(column)
    }

    fn read_bloom_filter(&self, column: &ColumnChunkMetaData) -> ParquetResult<()> {
        if let (Some(start), Some(bytes)) =
            (column.bloom_filter_offset(), column.bloom_filter_length())
        {
            self.get_bytes(start.cast_unsigned(), bytes.cast_unsigned() as usize)?;
        }
        Ok(())
    }
}

/// A column of a row group, and what the page index says of it.
struct Column<'a> {
    chunk: &'a ColumnChunkMetaData,
    rows: u64,
    bounds: Option<&'a ColumnIndexMetaData>,
    places: Option<&'a OffsetIndexMetaData>,
}

/// The columns of each row group.
fn columns(metadata: &ParquetMetaData) -> impl Iterator<Item = Vec<Column<'_>>> {
    let groups = metadata.row_groups().iter().enumerate();
    groups.map(|(number, group)| {
        let columns = group.columns().iter().enumerate();
        let columns = columns.map(|(at, chunk)| Column {
            chunk,
            rows: group.num_rows().cast_unsigned(),
            bounds: metadata
                .column_index()
                .and_then(|index| index.get(number)?.get(at))
                .filter(|index| !matches!(index, ColumnIndexMetaData::NONE)),
            places: metadata
                .offset_index()
                .and_then(|index| index.get(number)?.get(at)),
        });
        columns.collect()
    })
}

impl Column<'_> {
    /// Whether the other one says the same, but for where things are in the file.
    fn is_like(&self, other: &Self) -> ParquetResult<bool> {
        Ok(self.rows == other.rows
            && self.bounds == other.bounds
            && self.relative_places() == other.relative_places()
            && self.chunk_without_places()? == other.chunk_without_places()?)
    }

    fn start(&self) -> i64 {
        self.chunk.byte_range().0.cast_signed()
    }

    fn chunk_without_places(&self) -> ParquetResult<ColumnChunkMetaData> {
        let (chunk, start) = (self.chunk, self.start());
        chunk
            .clone()
            .into_builder()
            .set_data_page_offset(chunk.data_page_offset() - start)
            .set_dictionary_page_offset(chunk.dictionary_page_offset().map(|at| at - start))
            .set_bloom_filter_offset(None)
            .set_column_index_offset(None)
            .set_column_index_length(None)
            .set_offset_index_offset(None)
            .set_offset_index_length(None)
            .build()
    }

    fn relative_places(&self) -> Option<OffsetIndexMetaData> {
        let mut index = self.places?.clone();
        let start = self.start();
        let relative = |page: &PageLocation| PageLocation {
            offset: page.offset - start,
            ..page.clone()
        };
        index.page_locations = index.page_locations.iter().map(relative).collect();
        Some(index)
    }

    /// Appends the column, read from `source`, to a row group.
    fn append(
        &self,
        source: &Watched<'_>,
        group: &mut SerializedRowGroupWriter<'_, Sink>,
    ) -> ParquetResult<()> {
        let closed = ColumnCloseResult {
            bytes_written: self.chunk.compressed_size().cast_unsigned(),
            rows_written: self.rows,
            metadata: self.chunk.clone(),
            bloom_filter: Sbbf::read_from_column_chunk(self.chunk, &source.chunks)?,
            column_index: self.bounds.cloned(),
            offset_index: self.places.cloned(),
        };
        group.append_column(source, closed)?;
        source.read_bloom_filter(self.chunk)
    }
}

fn copy(
    file: Arc<dyn DiskFile>,
    sources: &[Source],
    opened: &[Segment],
    target: &Target<'_>,
    see: See<'_>,
) -> Result<SegmentSummary, CompactError> {
    let watch = Watch::new(see);
    let summary = write_copy(Arc::clone(&file), sources, opened, target, &watch)?;
    let segment = Segment::open(file, target.path, target.log_id, &summary)?;
    let written = Watched {
        chunks: Chunks::new(Arc::clone(&segment.blocks)),
        watch: &Watch::new(see),
    };
    let described = segment.describe(&summary)?;
    let why = |error| written.why(target, error);
    for group in columns(&described) {
        for column in group {
            written.read_column(column.chunk).map_err(why)?;
        }
    }
    let same_bytes = written.watch.digest() == watch.digest();
    let mut copies = columns(&described);
    let mut same_columns = true;
    for (source, segment) in sources.iter().zip(opened) {
        let described = segment.describe(&source.summary)?;
        for group in columns(&described) {
            let copy = copies.next().unwrap_or_default();
            same_columns &= copy.len() == group.len();
            for (column, copy) in group.iter().zip(&copy) {
                same_columns &= column.is_like(copy).map_err(why)?;
            }
        }
    }
    if same_bytes && same_columns && copies.next().is_none() {
        Ok(summary)
    } else {
        Err(CompactError::Differs(target.path.to_owned()))
    }
}

fn write_copy(
    file: Arc<dyn DiskFile>,
    sources: &[Source],
    opened: &[Segment],
    target: &Target<'_>,
    watch: &Watch<'_>,
) -> Result<SegmentSummary, CompactError> {
    let metadata = opened[0].metadata.metadata();
    let columns_of_all = metadata.file_metadata().schema_descr().root_schema_ptr();
    let properties = Arc::new(schema::properties(target.options));
    let writing = |error| failed(target)(io_error(error));
    let mut writer =
        SerializedFileWriter::new(Sink::new(file), columns_of_all, properties).map_err(writing)?;
    for (source, segment) in sources.iter().zip(opened) {
        let watched = Watched {
            chunks: Chunks::new(Arc::clone(&segment.blocks)),
            watch,
        };
        let described = segment.describe(&source.summary)?;
        let why = |error| watched.why(target, error);
        for group in columns(&described) {
            let mut copy = writer.next_row_group().map_err(writing)?;
            for column in &group {
                column.append(&watched, &mut copy).map_err(why)?;
            }
            copy.close().map_err(writing)?;
        }
    }
    let (first, last) = (opened[0].first, opened[opened.len() - 1].last);
    writer.flush().map_err(failed(target))?;
    let block_crcs = writer.inner_mut().end_data().map_err(failed(target))?;
    let facts = FooterFacts {
        log_id: target.log_id,
        first,
        last,
        block_crcs,
    };
    for entry in facts.encode() {
        writer.append_key_value_metadata(entry);
    }
    writer.finish().map_err(writing)?;
    let sums = writer.inner_mut().finish().map_err(failed(target))?;
    Ok(sums.of_rows(first, last))
}

fn write_anew(
    file: Arc<dyn DiskFile>,
    opened: &[Segment],
    target: &Target<'_>,
    see: See<'_>,
) -> Result<SegmentSummary, CompactError> {
    let writing = failed(target);
    let mut writer =
        SegmentWriter::new(Arc::clone(&file), target.log_id, target.options).map_err(&writing)?;
    let mut content = Xxh3::new();
    for segment in opened {
        scan(segment, see, &mut content, &mut |stored| {
            writer
                .push(stored.position, stored.recorded_at, &stored.row)
                .map_err(&writing)
        })?;
    }
    let summary = writer.finish().map_err(&writing)?;
    let segment = Segment::open(file, target.path, target.log_id, &summary)?;
    let mut written = Xxh3::new();
    scan(&segment, see, &mut written, &mut |_| Ok(()))?;
    if written.digest128() == content.digest128() {
        Ok(summary)
    } else {
        Err(CompactError::Differs(target.path.to_owned()))
    }
}

/// Goes through all rows of a segment and adds them to a sum.
fn scan(
    segment: &Segment,
    see: See<'_>,
    content: &mut Xxh3,
    row: &mut dyn FnMut(&super::StoredRow) -> Result<(), CompactError>,
) -> Result<(), CompactError> {
    let events = segment.last - segment.first + 1;
    let (mut done, mut seen) = (0_u64, 0);
    for rows in segment.scan(segment.first) {
        for stored in rows? {
            content.update(&stored.position.to_le_bytes());
            content.update(&stored.recorded_at.to_le_bytes());
            content.update(stored.row.as_bytes());
            row(&stored)?;
            done += 1;
        }
        // Bytes are read a column at a time; rows tell how far it is.
        let at = u128::from(segment.blocks.bytes) * u128::from(done) / u128::from(events);
        let more = at as u64 - seen;
        seen += more;
        if !see(more) {
            return Err(CompactError::Stopped);
        }
    }
    Ok(())
}
