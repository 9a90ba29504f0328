//! The works that read.

use std::time::Instant;

use tokio::task::JoinSet;
use uuid::Builder;
use xxhash_rust::xxh3::xxh3_128;

use super::{
    super::error::CliError,
    Bench, Outcome, count_bar,
    meter::{Meter, Window, add_up},
};
use crate::{
    client::{Client, ClientError},
    proto::EventBatch,
    types::{
        append::Batch,
        id::{Position, Version},
        read::{Direction, ReadRequest},
        text::Text,
    },
};

/// Of the entities that are read.
pub(super) const ENTITY_PREFIX: &str = "bench-of-100-";
/// Of each of them.
const ENTITY_EVENTS: u32 = 100;

/// The whole log from its beginning, again and again.
pub(super) async fn read_all(bench: &Bench) -> Result<Outcome, CliError> {
    bench.prepare().await?;
    let window = bench.window();
    let mut tasks = JoinSet::new();
    for (_, client) in bench.clients() {
        tasks.spawn(async move {
            let mut meter = Meter::new(window);
            while !window.is_over(Instant::now()) {
                read_through(&client, &mut meter, window).await?;
            }
            Ok(meter)
        });
    }
    Ok(add_up(tasks, window).await?.figures().into())
}

async fn read_through(client: &Client, meter: &mut Meter, window: Window) -> Result<(), CliError> {
    let started = Instant::now();
    let mut events = client.read(&ReadRequest::default()).await?;
    let mut last = None;
    while let Some(batch) = events.next().await? {
        let count = check_positions(&batch, &mut last)?;
        let now = Instant::now();
        meter.record_events(now, count);
        if window.is_over(now) {
            return Ok(());
        }
    }
    if last != Some(events.head()) {
        return Err(CliError::Failed(format!(
            "the read ended at {last:?}, its head is {}: please report this",
            events.head()
        )));
    }
    meter.record(started, Instant::now(), 0);
    Ok(())
}

/// Decodes the events; each must stand right after the one before. Returns their number.
pub(super) fn check_positions(
    batch: &EventBatch,
    last: &mut Option<Position>,
) -> Result<u64, CliError> {
    let mut count = 0;
    for event in batch {
        let event = event.map_err(ClientError::from)?;
        if last.is_some_and(|last| event.position != last + 1) {
            return Err(CliError::Failed(format!(
                "position {} came after {last:?}: please report this",
                event.position
            )));
        }
        *last = Some(event.position);
        count += 1;
    }
    Ok(count)
}

/// Entities of 100 events, one read after the other.
pub(super) async fn read_entity(bench: &Bench) -> Result<Outcome, CliError> {
    prepare_entities(bench).await?;
    let window = bench.window();
    let mut tasks = JoinSet::new();
    for (reader, client) in bench.clients() {
        let mut feed = bench.material.feed(reader, bench.writers);
        tasks.spawn(async move {
            let mut meter = Meter::new(window);
            loop {
                let mut request = ReadRequest::default();
                request.filter.entity_ids.push(feed.entity().clone());
                let started = Instant::now();
                if window.is_over(started) {
                    return Ok(meter);
                }
                let events = read_one(&client, &request).await?;
                meter.record(started, Instant::now(), events);
            }
        });
    }
    Ok(add_up(tasks, window).await?.figures().into())
}

/// Reads an entity; its versions must be 1, 2, 3, … 100.
async fn read_one(client: &Client, request: &ReadRequest) -> Result<u64, CliError> {
    let mut events = client.read(request).await?;
    let mut version: Version = 0;
    while let Some(batch) = events.next().await? {
        for event in &batch {
            let event = event.map_err(ClientError::from)?;
            version += 1;
            let entity = request.filter.entity_ids.first().map(Text::as_bytes);
            if event.version != version || entity != Some(event.entity_id.as_bytes()) {
                return Err(CliError::Failed(format!(
                    "version {} of {} came where version {version} of {} was expected: please report this",
                    event.version, event.entity_id, request.filter.entity_ids[0]
                )));
            }
        }
    }
    if version != u64::from(ENTITY_EVENTS) {
        return Err(CliError::Failed(format!(
            "entity {} has {version} events instead of {ENTITY_EVENTS}: use another server or tenant",
            request.filter.entity_ids[0]
        )));
    }
    Ok(version)
}

/// Appends the entities' events if they are not all there: the first of each, then the second of each, and so on, so
/// that an entity's events are as far apart as there are entities. Their ids follow from entity and version, so that an
/// interrupted preparation is gone through again without harm.
async fn prepare_entities(bench: &Bench) -> Result<(), CliError> {
    const BATCH: usize = 1000;
    let client = &bench.clients[0];
    let entities = bench.material.entities();
    let Some(last) = entities.last() else {
        return Ok(());
    };
    if version_of(client, last).await? >= u64::from(ENTITY_EVENTS) {
        return Ok(());
    }
    let bar = count_bar(
        "preparing",
        u64::from(ENTITY_EVENTS) * entities.len() as u64,
    );
    for version in 1..=ENTITY_EVENTS {
        // Events of one version are the same in every run, and so are the batches.
        let mut feed = bench
            .material
            .feed(version as usize, ENTITY_EVENTS as usize + 1);
        for names in entities.chunks(BATCH) {
            let events = names.iter().map(|name| {
                let key = [name.as_bytes(), &u64::from(version).to_le_bytes()].concat();
                let id = Builder::from_custom_bytes(xxh3_128(&key).to_be_bytes()).into_uuid();
                feed.event_of(name.clone()).with_id(id)
            });
            client.append(&Batch::new(events)).await?;
            bar.inc(names.len() as u64);
        }
    }
    bar.finish_and_clear();
    Ok(())
}

async fn version_of(client: &Client, entity: &Text) -> Result<Version, CliError> {
    let mut request = ReadRequest {
        limit: Some(1),
        direction: Direction::Backward,
        ..ReadRequest::default()
    };
    request.filter.entity_ids.push(entity.clone());
    let batch = client
        .read(&request)
        .await?
        .next()
        .await?
        .unwrap_or_default();
    let last = batch.last().map_err(ClientError::from)?;
    Ok(last.map_or(0, |event| event.version))
}
