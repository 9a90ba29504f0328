//! Compaction of segments.

use std::time::Duration;

use super::{Client, ClientError, retry::Retry};
use crate::proto;

/// What is known of a tenant's segments and their compaction. Counts are since the server opened the tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompactionStats {
    /// Parquet files on disk.
    pub segments: u64,
    /// On disk.
    pub segment_bytes: u64,
    /// Those of less than half the target: they may still be compacted.
    pub small_segments: u64,
    /// Of a segment that smaller ones are compacted into.
    pub target_bytes: u64,
    /// Compaction is at work, or waits for that of another tenant.
    pub running: bool,
    /// What the present compaction read, of `progress_bytes_total` about.
    pub progress_bytes: u64,
    /// See `progress_bytes`.
    pub progress_bytes_total: u64,
    /// Compactions done; each makes one segment of several.
    pub compactions: u64,
    /// Segments that they made fewer ones of.
    pub compacted_segments: u64,
    /// Of the segments that they made.
    pub written_bytes: u64,
    /// Compactions that failed. They changed nothing, and are tried again.
    pub failures: u64,
    /// Why the last one of these did.
    pub last_error: Option<String>,
    /// How long the last compaction that was done took.
    pub last_took: Option<Duration>,
}

impl Client {
    /// Starts to compact the segments of this client's tenant until no two neighbours would fit into one, and returns at
    /// once. Reads and appends go on.
    pub async fn compact(&self) -> Result<CompactionStats, ClientError> {
        let request = proto::TriggerCompactionRequest {};
        let mut retry = Retry::of(&self.options);
        loop {
            match self.admin.clone().trigger_compaction(request).await {
                Ok(answer) => return Ok(stats(answer.into_inner().stats)),
                Err(status) => retry.after(status.into()).await?,
            }
        }
    }

    /// Figures about the segments of this client's tenant and their compaction.
    pub async fn compaction_stats(&self) -> Result<CompactionStats, ClientError> {
        let request = proto::GetCompactionStatsRequest {};
        let mut retry = Retry::of(&self.options);
        loop {
            match self.admin.clone().get_compaction_stats(request).await {
                Ok(answer) => return Ok(stats(answer.into_inner().stats)),
                Err(status) => retry.after(status.into()).await?,
            }
        }
    }
}

fn stats(stats: Option<proto::CompactionStats>) -> CompactionStats {
    let stats = stats.unwrap_or_default();
    CompactionStats {
        segments: stats.segments,
        segment_bytes: stats.segment_bytes,
        small_segments: stats.small_segments,
        target_bytes: stats.target_bytes,
        running: stats.running,
        progress_bytes: stats.progress_bytes,
        progress_bytes_total: stats.progress_bytes_total,
        compactions: stats.compactions,
        compacted_segments: stats.compacted_segments,
        written_bytes: stats.written_bytes,
        failures: stats.failures,
        last_error: Some(stats.last_error).filter(|error| !error.is_empty()),
        last_took: stats.last_took.and_then(|took| took.try_into().ok()),
    }
}
