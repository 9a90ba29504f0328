//! Figures about logs and the server.

use super::{Client, ClientError, retry::Retry, wire};
use crate::{
    proto,
    types::{
        id::{LogId, Position},
        time::Timestamp,
    },
};

/// Figures about the server.
#[derive(Debug, Clone, PartialEq)]
pub struct Stats {
    /// One for each tenant asked for.
    pub tenants: Vec<TenantStats>,
    /// The server's version.
    pub version: String,
    /// When the server was started.
    pub started_at: Option<Timestamp>,
    /// The server's resident memory.
    pub resident_bytes: u64,
}

/// Figures about one tenant's log.
#[derive(Debug, Clone, PartialEq)]
pub struct TenantStats {
    /// Whose log.
    pub tenant: String,
    /// Which log.
    pub log_id: LogId,
    /// The last position.
    pub head: Position,
    /// The last position removed by retention.
    pub floor: Position,
    /// How many entities have events.
    pub entities: u64,
    /// How many types events have.
    pub event_types: u64,
    /// One count for each partition, in order.
    pub events_per_partition: Vec<u64>,
    /// On disk.
    pub log_bytes: u64,
    /// On disk.
    pub log_files: u64,
    /// The last position that stands in a segment; 0 before the first.
    pub sealed: Position,
    /// Parquet files on disk that hold every event up to `sealed`.
    pub segments: u64,
    /// Open subscriptions.
    pub subscribers: u64,
    /// When the last event was recorded.
    pub recorded_at: Option<Timestamp>,
    /// Why appends are refused until the server is restarted.
    pub poisoned: Option<String>,
}

impl Client {
    /// Figures about this client's tenant and the server.
    pub async fn stats(&self) -> Result<Stats, ClientError> {
        self.get_stats(false).await
    }

    /// Figures about every tenant and the server.
    pub async fn stats_of_all_tenants(&self) -> Result<Stats, ClientError> {
        self.get_stats(true).await
    }

    async fn get_stats(&self, all_tenants: bool) -> Result<Stats, ClientError> {
        let request = proto::GetStatsRequest { all_tenants };
        let mut retry = Retry::of(&self.options);
        loop {
            match self.query.clone().get_stats(request).await {
                Ok(answer) => return stats(answer.into_inner()),
                Err(status) => retry.after(status.into()).await?,
            }
        }
    }
}

fn stats(answer: proto::GetStatsResponse) -> Result<Stats, ClientError> {
    let process = answer.process.unwrap_or_default();
    let tenants = answer.tenants.into_iter().map(tenant_stats);
    Ok(Stats {
        tenants: tenants.collect::<Result<_, _>>()?,
        version: process.version,
        started_at: process.started_at.map(wire::timestamp).transpose()?,
        resident_bytes: process.resident_bytes,
    })
}

fn tenant_stats(stats: proto::TenantStats) -> Result<TenantStats, ClientError> {
    Ok(TenantStats {
        tenant: stats.tenant,
        log_id: wire::log_id(&stats.log_id)?,
        head: stats.head,
        floor: stats.floor,
        entities: stats.entities,
        event_types: stats.event_types,
        events_per_partition: stats.events_per_partition,
        log_bytes: stats.log_bytes,
        log_files: stats.log_files,
        sealed: stats.sealed,
        segments: stats.segments,
        subscribers: stats.subscribers,
        recorded_at: stats.recorded_at.map(wire::timestamp).transpose()?,
        poisoned: Some(stats.poisoned).filter(|reason| !reason.is_empty()),
    })
}
