//! `annals stats`: what is in the log, and how the server is.

use std::{fmt::Write, time::Duration};

use clap::Args;
use indicatif::{HumanBytes, HumanCount, HumanDuration};
use serde::Serialize;

use super::{
    connect::ConnectArgs, error::CliError, figures::counted, output::print, plot::heights,
};
use crate::{
    client::{Stats, TenantStats},
    types::time::{Clock, SystemClock},
};

/// Print figures about the log and the server
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  annals stats
  annals stats --all-tenants
  annals stats --json | jq '.tenants[0].head'")]
pub(super) struct StatsArgs {
    /// One JSON object
    #[arg(long)]
    json: bool,

    /// Every tenant, not only the one of --tenant
    #[arg(long)]
    all_tenants: bool,

    #[command(flatten)]
    connect: ConnectArgs,
}

pub(super) async fn run(args: StatsArgs) -> Result<(), CliError> {
    let client = args.connect.client().await?;
    let stats = if args.all_tenants {
        client.stats_of_all_tenants().await?
    } else {
        client.stats().await?
    };
    let text = if args.json {
        let object = serde_json::to_string(&StatsObject::of(&stats));
        object.map_err(|e| CliError::Failed(e.to_string()))? + "\n"
    } else {
        report(&stats)
    };
    print(&text)
}

#[derive(Serialize)]
struct StatsObject<'a> {
    tenants: Vec<TenantObject<'a>>,
    process: ProcessObject<'a>,
}

#[derive(Serialize)]
struct TenantObject<'a> {
    tenant: &'a str,
    log_id: String,
    head: u64,
    floor: u64,
    entities: u64,
    event_types: u64,
    events_per_partition: &'a [u64],
    log_bytes: u64,
    log_files: u64,
    sealed: u64,
    segments: u64,
    subscribers: u64,
    recorded_at: Option<String>,
    poisoned: Option<&'a str>,
}

#[derive(Serialize)]
struct ProcessObject<'a> {
    version: &'a str,
    started_at: Option<String>,
    uptime_seconds: Option<f64>,
    resident_bytes: u64,
}

impl<'a> StatsObject<'a> {
    fn of(stats: &'a Stats) -> Self {
        Self {
            tenants: stats.tenants.iter().map(TenantObject::of).collect(),
            process: ProcessObject {
                version: &stats.version,
                started_at: stats.started_at.map(|time| time.to_string()),
                uptime_seconds: uptime(stats).map(|time| time.as_secs_f64()),
                resident_bytes: stats.resident_bytes,
            },
        }
    }
}

impl<'a> TenantObject<'a> {
    fn of(tenant: &'a TenantStats) -> Self {
        Self {
            tenant: &tenant.tenant,
            log_id: tenant.log_id.to_string(),
            head: tenant.head,
            floor: tenant.floor,
            entities: tenant.entities,
            event_types: tenant.event_types,
            events_per_partition: &tenant.events_per_partition,
            log_bytes: tenant.log_bytes,
            log_files: tenant.log_files,
            sealed: tenant.sealed,
            segments: tenant.segments,
            subscribers: tenant.subscribers,
            recorded_at: tenant.recorded_at.map(|time| time.to_string()),
            poisoned: tenant.poisoned.as_deref(),
        }
    }
}

fn report(stats: &Stats) -> String {
    let mut out = String::new();
    for tenant in &stats.tenants {
        // Writing to a string does not fail.
        tenant_report(tenant, &mut out).ok();
        out.push('\n');
    }
    process_report(stats, &mut out).ok();
    out
}

fn tenant_report(tenant: &TenantStats, out: &mut String) -> std::fmt::Result {
    writeln!(out, "tenant {}", tenant.tenant)?;
    writeln!(out, "  head           {}", HumanCount(tenant.head))?;
    writeln!(out, "  floor          {}", HumanCount(tenant.floor))?;
    writeln!(out, "  entities       {}", HumanCount(tenant.entities))?;
    writeln!(out, "  event types    {}", HumanCount(tenant.event_types))?;
    let bytes = HumanBytes(tenant.log_bytes);
    let files = counted(tenant.log_files, "file");
    writeln!(out, "  log            {bytes} in {files}")?;
    let sealed = HumanCount(tenant.sealed);
    let segments = counted(tenant.segments, "segment");
    let unsealed = HumanCount(tenant.head.saturating_sub(tenant.sealed));
    writeln!(
        out,
        "  sealed         {sealed} in {segments}, {unsealed} not sealed"
    )?;
    writeln!(out, "  subscribers    {}", HumanCount(tenant.subscribers))?;
    let recorded_at = tenant
        .recorded_at
        .map_or("-".into(), |time| time.to_string());
    writeln!(out, "  last recorded  {recorded_at}")?;
    if let Some(reason) = &tenant.poisoned {
        writeln!(out, "  POISONED       {reason}")?;
    }
    let counts = &tenant.events_per_partition;
    let (least, most) = (counts.iter().min(), counts.iter().max());
    if let (Some(least), Some(most)) = (least, most) {
        writeln!(
            out,
            "  partitions     {} of {} to {} events  {}",
            counts.len(),
            HumanCount(*least),
            HumanCount(*most),
            heights(counts, *most, counts.len())
        )?;
    }
    writeln!(out, "  log id         {}", tenant.log_id)
}

fn process_report(stats: &Stats, out: &mut String) -> std::fmt::Result {
    let up = uptime(stats).map_or_else(String::new, |time| format!(", up {}", HumanDuration(time)));
    let memory = HumanBytes(stats.resident_bytes);
    writeln!(out, "server {}{up}, {memory} resident", stats.version)
}

fn uptime(stats: &Stats) -> Option<Duration> {
    let micros = SystemClock.now().as_micros() - stats.started_at?.as_micros();
    Some(Duration::from_micros(
        u64::try_from(micros).unwrap_or_default(),
    ))
}
