//! Reads in process of a log of 500,000 events: all of it, and entities of 100 events, from files and from memory.

mod conditions;
mod events;
mod sampling;
mod scratch;

use annals::{ReadRequest, Tenant};
use conditions::print_conditions;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use events::{Source, entity};
use sampling::criterion;
use scratch::Scratch;

const ENTITIES: usize = 5_000;
const ENTITY_EVENTS: usize = 100;
/// Events that fit into the memory of recent ones.
const RECENT_EVENTS: usize = 50_000;

fn filled(events: usize) -> Scratch {
    let scratch = Scratch::new();
    let mut source = Source::new(events / ENTITY_EVENTS, 0);
    for _ in 0..events / 1000 {
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
        "200-byte payloads, files in the page cache; events of an entity are 5,000 positions apart, in memory 500",
    );
    let mut group = c.benchmark_group("read");
    let all = ENTITIES * ENTITY_EVENTS;
    let scratch = filled(all);
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
    for (name, scratch) in [
        ("an entity of 100 from files", scratch),
        ("an entity of 100 from memory", filled(RECENT_EVENTS)),
    ] {
        let entities = scratch.tenant.head() as usize / ENTITY_EVENTS;
        let mut next = 0;
        group.bench_function(name, |b| {
            b.iter(|| {
                next = (next + 1) % entities;
                let mut request = ReadRequest::default();
                request.filter.entity_ids.push(entity(next));
                let events = scratch.runtime.block_on(count(&scratch.tenant, request));
                assert_eq!(events, ENTITY_EVENTS);
            });
        });
    }
    group.finish();
}

criterion_group!(name = benches; config = criterion(); targets = read);
criterion_main!(benches);
