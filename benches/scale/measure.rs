//! Lookups among many events, one after the other, in process and over gRPC.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use annals::{
    Client, ClientError, Engine, ListRequest, NameSummary, ReadRequest, Tenant, TenantId, Text,
    client::PageRequest,
};
use hdrhistogram::Histogram;

use crate::{
    Failure, Table,
    fill::{
        ENTITY_EVENTS, Plan, RARE_TAG, RARE_TYPE, SCATTERED, SPECIAL, clustered, mixed, nobody,
        options, scattered,
    },
};

const TIMES: u64 = 500;
/// Reads of everything end after so long.
const READ_ALL: Duration = Duration::from_secs(30);
const WARM_UP: u64 = 20;

/// How long one kind of lookup took.
#[derive(Debug)]
pub(crate) struct Times(Histogram<u64>);

impl Times {
    pub(crate) fn new() -> Self {
        Self(Histogram::new_with_bounds(1, 600_000_000_000, 3).expect("the bounds are valid"))
    }

    pub(crate) fn add(&mut self, begun: Instant) {
        let nanos = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.0.saturating_record(nanos);
    }

    pub(crate) fn text(&self) -> String {
        let us = |quantile| self.0.value_at_quantile(quantile) as f64 / 1e3;
        format!("p50 {:.1} µs, p99 {:.1} µs", us(0.5), us(0.99))
    }
}

/// Measures `$what`, `$times` times after a warm-up, `$n` being the number of the time.
macro_rules! lookups {
    ($table:expr, $what:expr, $times:expr, $n:ident => $lookup:expr) => {{
        let mut times = Times::new();
        for $n in 0..WARM_UP + $times {
            let begun = Instant::now();
            $lookup;
            if $n >= WARM_UP {
                times.add(begun);
            }
        }
        $table.row($what, times.text());
    }};
}

/// What an entity, a type or a tag has.
fn of_entity(entity: impl Into<Text>) -> ReadRequest {
    let mut request = ReadRequest::default();
    request.filter.entity_ids.push(entity.into());
    request
}

fn of_type(name: &str) -> ReadRequest {
    let mut request = ReadRequest::default();
    request.filter.event_types.push(Text::from(name));
    request
}

fn of_tag(tag: &str) -> ReadRequest {
    let mut request = ReadRequest::default();
    request.filter.tags.push(Text::from(tag));
    request
}

fn expect(found: u64, expected: u64, what: &str) -> Result<(), Failure> {
    if found == expected {
        return Ok(());
    }
    Err(format!("{what}: {found} events instead of {expected}").into())
}

pub(crate) async fn in_process(
    data: &Path,
    plan: &Plan,
    keep_bytes: u64,
    table: &mut Table,
) -> Result<(), Failure> {
    let begun = Instant::now();
    let engine = Engine::open(data, options(keep_bytes))?;
    let tenant = engine.tenant(&TenantId::default()).await?;
    table.row(
        "opened in process",
        format!("{:.2} s", begun.elapsed().as_secs_f64()),
    );
    lookups!(table, "in process: never-seen entity", TIMES, n => {
        expect(read(&tenant, of_entity(nobody(mixed(n) % plan.entities)))?, 0, "nobody")?;
    });
    lookups!(table, "in process: entity of 100 events, clustered", TIMES, n => {
        expect(read(&tenant, of_entity(clustered(n % SPECIAL)))?, ENTITY_EVENTS, "clustered")?;
    });
    lookups!(table, "in process: entity of 100 events, scattered", TIMES, n => {
        expect(read(&tenant, of_entity(scattered(n % SCATTERED)))?, SPECIAL, "scattered")?;
    });
    lookups!(table, "in process: 100 events of a rare type", TIMES, _n => {
        expect(read(&tenant, of_type(RARE_TYPE))?, SPECIAL, RARE_TYPE)?;
    });
    lookups!(table, "in process: 100 events of a rare tag", TIMES, _n => {
        expect(read(&tenant, of_tag(RARE_TAG))?, SPECIAL, RARE_TAG)?;
    });
    lookups!(table, "in process: event by id", TIMES, n => {
        let id = plan.some_id(mixed(n));
        expect(u64::from(tenant.event_by_id(id).await?.event_id() == id), 1, "the id")?;
    });
    lookups!(table, "in process: first 100 entities", 100, _n => {
        list(&tenant, "", 100)?;
    });
    lookups!(table, "in process: 100 entities by a prefix", 100, n => {
        list(&tenant, &format!("order-{:04}", mixed(n) % (plan.entities / 10_000).max(1)), 1)?;
    });
    let begun = Instant::now();
    let mut reader = tenant.read(ReadRequest::default())?;
    let mut events = 0;
    while begun.elapsed() < READ_ALL
        && let Some(batch) = reader.next().await?
    {
        events += batch.len();
    }
    let rate = events as f64 / begun.elapsed().as_secs_f64();
    table.row("in process: read all", format!("{rate:.0} events/s"));
    engine.close();
    Ok(())
}

/// How many events a read gives. It waits for the disk on this thread: handing over to another would be part of the
/// figure.
fn read(tenant: &Tenant, request: ReadRequest) -> Result<u64, Failure> {
    let mut reader = tenant.read(request)?;
    let mut events = 0;
    while let Some(batch) = reader.next_blocking()? {
        events += batch.len() as u64;
    }
    Ok(events)
}

fn list(tenant: &Tenant, prefix: &str, least: usize) -> Result<Vec<NameSummary>, Failure> {
    let request = ListRequest {
        prefix: Text::from(prefix),
        limit: 100,
        ..ListRequest::default()
    };
    let names = tenant.list_entities(&request)?.names;
    if names.len() < least {
        return Err(format!(
            "`{prefix}` has {} entities, at least {least} are there",
            names.len()
        )
        .into());
    }
    Ok(names)
}

pub(crate) async fn over_grpc(
    client: &Client,
    plan: &Plan,
    table: &mut Table,
) -> Result<(), Failure> {
    lookups!(table, "gRPC: an empty call, for comparison", TIMES, _n => {
        client.is_serving().await?;
    });
    lookups!(table, "gRPC: never-seen entity", TIMES, n => {
        expect(called(client, &of_entity(nobody(mixed(n) % plan.entities))).await?, 0, "nobody")?;
    });
    lookups!(table, "gRPC: entity of 100 events, clustered", TIMES, n => {
        expect(called(client, &of_entity(clustered(n % SPECIAL))).await?, ENTITY_EVENTS, "clustered")?;
    });
    lookups!(table, "gRPC: entity of 100 events, scattered", TIMES, n => {
        expect(called(client, &of_entity(scattered(n % SCATTERED))).await?, SPECIAL, "scattered")?;
    });
    lookups!(table, "gRPC: 100 events of a rare type", TIMES, _n => {
        expect(called(client, &of_type(RARE_TYPE)).await?, SPECIAL, RARE_TYPE)?;
    });
    lookups!(table, "gRPC: 100 events of a rare tag", TIMES, _n => {
        expect(called(client, &of_tag(RARE_TAG)).await?, SPECIAL, RARE_TAG)?;
    });
    lookups!(table, "gRPC: event by id", TIMES, n => {
        let id = plan.some_id(mixed(n));
        expect(u64::from(client.event_by_id(id).await?.event_id == id.to_string()), 1, "the id")?;
    });
    let mut page = PageRequest {
        page_size: Some(100),
        ..PageRequest::default()
    };
    lookups!(table, "gRPC: first 100 entities", 100, _n => {
        expect(client.entities(&page).await?.names.len() as u64, 100, "the first page")?;
    });
    lookups!(table, "gRPC: 100 entities by a prefix", 100, n => {
        page.prefix = format!("order-{:04}", mixed(n) % (plan.entities / 10_000).max(1));
        client.entities(&page).await?;
    });
    let begun = Instant::now();
    let mut events = client.read(&ReadRequest::default()).await?;
    let mut count = 0;
    while begun.elapsed() < READ_ALL
        && let Some(batch) = events.next().await?
    {
        for event in &batch {
            count += u64::from(event.map_err(ClientError::from)?.position > 0);
        }
    }
    let rate = count as f64 / begun.elapsed().as_secs_f64();
    table.row("gRPC: read all", format!("{rate:.0} events/s"));
    Ok(())
}

async fn called(client: &Client, request: &ReadRequest) -> Result<u64, Failure> {
    let mut events = client.read(request).await?;
    let mut count = 0;
    while let Some(batch) = events.next().await? {
        count += batch.iter().count() as u64;
    }
    Ok(count)
}

/// Looks for entities that are not there.
pub(crate) fn nobodies(tenant: &Tenant, what: &str, table: &mut Table) -> Result<(), Failure> {
    lookups!(table, what, 20 * TIMES, n => {
        expect(read(tenant, of_entity(nobody(n)))?, 0, "nobody")?;
    });
    Ok(())
}
