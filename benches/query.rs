//! Reads in process of a log of 500,000 events: all of it, and entities of 100 events.

mod conditions;
mod scratch;

use annals::{ReadRequest, Tenant};
use conditions::{criterion, print_conditions};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use scratch::{Scratch, Source, entity};

const ENTITIES: usize = 5_000;
const ENTITY_EVENTS: usize = 100;

fn filled() -> Scratch {
    let scratch = Scratch::new();
    let mut source = Source::new(ENTITIES, 0);
    for _ in 0..ENTITIES * ENTITY_EVENTS / 1000 {
        let appended = scratch
            .runtime
            .block_on(scratch.tenant.append(source.batch(1000)));
        appended.expect("it is appended");
    }
    scratch
}

async fn count(tenant: &Tenant, request: ReadRequest) -> usize {
    let mut reader = tenant.read(request).expect("the request is valid");
    let (mut events, mut bytes) = (0, 0);
    while let Some(batch) = reader.next().await.expect("it reads") {
        events += batch.len();
        bytes += batch
            .iter()
            .map(|event| event.payload().len())
            .sum::<usize>();
    }
    assert!(bytes > events);
    events
}

fn read(c: &mut Criterion) {
    print_conditions(
        "200-byte payloads, read: from the log's files in the page cache; events of an entity are 5,000 positions apart",
    );
    let scratch = filled();
    let mut group = c.benchmark_group("read");
    let all = ENTITIES * ENTITY_EVENTS;
    group.throughput(Throughput::Elements(all as u64));
    group.bench_function("all", |b| {
        b.iter(|| {
            let events = scratch
                .runtime
                .block_on(count(&scratch.tenant, ReadRequest::default()));
            assert_eq!(events, all);
        });
    });
    group.throughput(Throughput::Elements(ENTITY_EVENTS as u64));
    let mut next = 0;
    group.bench_function("an entity of 100", |b| {
        b.iter(|| {
            next = (next + 1) % ENTITIES;
            let mut request = ReadRequest::default();
            request.filter.entity_ids.push(entity(next));
            let events = scratch.runtime.block_on(count(&scratch.tenant, request));
            assert_eq!(events, ENTITY_EVENTS);
        });
    });
    group.finish();
}

criterion_group!(name = benches; config = criterion(); targets = read);
criterion_main!(benches);
