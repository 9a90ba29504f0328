//! Every bound of the system, in one place, with its reason.

use std::time::Duration;

/// Longest entity id, event type, tag or cursor name, in bytes: an index block holds several of them.
pub const NAME_BYTES_MAX: usize = 512;
/// Most tags of one event: each costs an index entry.
pub const TAGS_MAX: usize = 256;
/// Deepest JSON: readers recurse.
pub const JSON_DEPTH_MAX: usize = 128;
/// Most guards of a batch, entities or items of a query, and names of an item: they are judged one after the other.
pub const GUARDS_MAX: usize = 1_000;
/// Most cursor records of a batch.
pub const CURSORS_MAX: usize = 1_000;
/// Largest page of a listing.
pub const PAGE_MAX: usize = 1_000;
/// Events of the largest index run: merging holds about a byte of memory for each.
pub const RUN_EVENTS_MAX: u64 = 1 << 26;
/// A batch that repeats one of the last so many events is told as such, unless an embedder wants it otherwise.
pub const REPEAT_WINDOW_EVENTS: u64 = 1_000_000;
/// Bytes of events in one batch of a read, and so in a response message: generated clients stop at 4 MiB.
pub const READ_BATCH_BYTES: usize = 1 << 20;
/// Events in one batch of a read.
pub const READ_BATCH_EVENTS: usize = 8_192;
/// Segments that are being read from end to end and kept open between batches, all tenants together: each takes a few MiB,
/// and one whose reader stalls makes room for others.
pub const SCANS_MAX: usize = 32;
/// Rows in one batch of a scan.
pub const SCAN_BATCH_ROWS: usize = 64 << 10;
/// Bytes that a read skips over rather than issue another one.
pub const READ_GAP_BYTES: u64 = 16 << 10;
/// Bytes of batches that are written and synced as one group; a larger group only delays its first answer.
pub const GROUP_BYTES_MAX: usize = 16 << 20;
/// How long after a sync without a successor the log states that everything before was durable.
pub const QUIET_TIME: Duration = Duration::from_millis(10);
/// How long a committer waits for more work before its thread ends.
pub const COMMITTER_LINGER: Duration = Duration::from_secs(2);
/// How far the clock may stand behind the last event before appends are refused.
pub const CLOCK_BEHIND_MAX: Duration = Duration::from_mins(5);
/// How often a subscription states how far it got while the log grows.
pub const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);
/// Largest log file: memory keeps offsets in it in 32 bits.
pub const LOG_FILE_BYTES_MAX: u64 = u32::MAX as u64;
/// Segments that become one at once: what describes each is in memory.
pub const COMPACT_SEGMENTS_MAX: usize = 64;
/// Most events of a segment: its index run numbers them in 32 bits.
pub const SEGMENT_EVENTS_MAX: u64 = u32::MAX as u64;

/// Bytes of rows in one message of Flight, unless a single row has more: generated clients stop at 4 MiB.
pub const FLIGHT_ROWS_BYTES: usize = 2 << 20;
/// Longest scan in JSON, as a ticket or a command: an answer repeats it for every endpoint.
pub const TICKET_BYTES_MAX: usize = 256 << 10;
/// How long a ticket can be used, and how long what was cancelled is remembered: then no ticket of it is left.
pub const TICKET_LIFE: Duration = Duration::from_hours(1);
/// Queries whose cancellation is remembered; beyond, the oldest is forgotten.
pub const CANCELLED_QUERIES_MAX: usize = 64 << 10;
/// Endpoints that a table is divided into: more streams than most machines have cores help nobody.
pub const ENDPOINTS_MAX: u64 = 8;
/// Positions of an endpoint at least: a smaller one is read before another stream is open.
pub const ENDPOINT_EVENTS_MIN: u64 = 1 << 18;
/// Positions that a partition of a scan of SQL has at least: what divides less costs more than it gains.
#[cfg(feature = "sql")]
pub const SQL_PARTITION_EVENTS_MIN: u64 = 1 << 16;
/// Record batches of a result that wait for a client, at most: while it takes one, the next is made.
#[cfg(feature = "sql")]
pub const SQL_BATCHES_AHEAD: usize = 2;
/// Rows that a scan from high positions to low ones reads at once, at most: they are turned around in memory.
#[cfg(feature = "sql")]
pub const SQL_BLOCK_ROWS: usize = 8_192;
/// Bytes of such rows, about; where they have more, fewer are read at once.
#[cfg(feature = "sql")]
pub const SQL_BLOCK_BYTES: usize = 8 << 20;
/// Longest statement of SQL: planning takes many times its bytes.
#[cfg(feature = "sql")]
pub const SQL_STATEMENT_BYTES_MAX: usize = 128 << 10;
/// Words and operators of a statement of SQL, at most: each may be a level of a plan, which is walked by recursion.
#[cfg(feature = "sql")]
pub const SQL_WORDS_MAX: usize = 8_192;
/// Tables and queries of a statement of SQL, at most, those of WITH counted wherever they are used: a plan has them all.
#[cfg(feature = "sql")]
pub const SQL_TABLES_MAX: usize = 1_024;
/// Stack of a thread that plans and runs SQL: enough for plans of so many levels.
#[cfg(feature = "sql")]
pub const SQL_STACK_BYTES: usize = 128 << 20;

/// The bounds that an operator sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Events in one batch.
    pub batch_events_max: usize,
    /// Bytes of one batch: its texts, ids and fixed fields as the log stores them.
    pub batch_bytes_max: usize,
    /// Bytes of one event, as the log stores it.
    pub event_bytes_max: usize,
    /// Bytes of batches that wait for the disk, all tenants together. More are refused with a retry hint.
    pub queue_bytes_max: usize,
    /// Bytes of the newest part of all logs that are kept in memory for readers.
    pub recent_bytes_max: usize,
    /// Bytes of a full log file; the first ones of a tenant are smaller.
    pub log_file_bytes: u64,
    /// Events that are sealed at once, about: they become one segment. A batch is never divided; a larger one is a segment
    /// of its own, of these events as of these bytes.
    pub seal_events: u64,
    /// Bytes of log that are sealed at once, about.
    pub seal_bytes: u64,
    /// Parts of the log that may wait to be sealed; beyond, appends wait.
    pub seal_backlog_max: usize,
    /// Events of all tenants that may be not sealed, about: half of it in parts that grow, of which the largest are sealed
    /// before they are full; beyond, appends wait.
    pub unsealed_events_max: u64,
    /// Most events of a row group of a segment.
    pub row_group_events: usize,
    /// Index runs of about one size that become one.
    pub run_fan_in: usize,
    /// Bytes of a segment that neighbours are compacted into, about: none becomes larger that way, and one of half of
    /// that stays as it is.
    pub compact_target_bytes: u64,
    /// Segments of about one size that become one.
    pub compact_fan_in: usize,
    /// Bytes that are read a second to compact segments, the new ones included; 0: no bound.
    pub compact_bytes_per_second: u64,
    /// A batch that repeats one of the last so many events is told as such.
    pub repeat_window_events: u64,
    /// Bytes of log files, all tenants together, that are kept once their events are sealed.
    pub keep_bytes: u64,
    /// Bytes of index blocks kept in memory.
    pub index_cache_bytes: usize,
    /// Bytes of descriptions of segments kept in memory.
    pub segment_cache_bytes: usize,
    /// Bytes of events that are not sealed and that are kept in memory as columns.
    pub tail_cache_bytes: usize,
    /// Bytes that must stay free on the disk; below, appends are refused.
    pub disk_reserve_bytes: u64,
    /// Tenants that are open at once.
    pub tenants_open_max: usize,
    /// Bytes of memory that one statement of SQL may hold: what it sorts, groups and joins.
    pub sql_query_memory_bytes: usize,
    /// Bytes of memory that all statements of SQL may hold together.
    pub sql_memory_bytes: usize,
    /// How long a statement of SQL may take, until its last row was taken; zero: no bound.
    pub sql_query_time: Duration,
    /// Rows that a statement of SQL may give; 0: no bound.
    pub sql_result_rows_max: u64,
    /// Statements of SQL that run at once, all tenants together; more are refused with a retry hint.
    pub sql_queries_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            batch_events_max: 10_000,
            batch_bytes_max: 8 << 20,
            event_bytes_max: 1 << 20,
            queue_bytes_max: 64 << 20,
            recent_bytes_max: 64 << 20,
            log_file_bytes: 64 << 20,
            seal_events: 1 << 18,
            seal_bytes: 64 << 20,
            seal_backlog_max: 4,
            unsealed_events_max: 1 << 21,
            row_group_events: 128 << 10,
            run_fan_in: 8,
            compact_target_bytes: 1 << 30,
            compact_fan_in: 8,
            compact_bytes_per_second: 128 << 20,
            repeat_window_events: REPEAT_WINDOW_EVENTS,
            keep_bytes: 8 << 30,
            index_cache_bytes: 64 << 20,
            segment_cache_bytes: 32 << 20,
            tail_cache_bytes: 32 << 20,
            disk_reserve_bytes: 192 << 20,
            tenants_open_max: 10_000,
            sql_query_memory_bytes: 512 << 20,
            sql_memory_bytes: 1 << 30,
            sql_query_time: Duration::from_mins(5),
            sql_result_rows_max: 0,
            sql_queries_max: 64,
        }
    }
}
