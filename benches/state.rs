//! The state of an entity in process: 100 events read and merged.

mod conditions;
mod events;
mod sampling;
mod scratch;

use conditions::print_conditions;
use criterion::{Criterion, criterion_group, criterion_main};
use events::{Source, entity};
use sampling::criterion;
use scratch::Scratch;

const ENTITIES: usize = 1_000;
const ENTITY_EVENTS: u64 = 100;

fn state(c: &mut Criterion) {
    print_conditions(
        "200-byte payloads, state: from the log's files in the page cache; events of an entity are 1,000 positions apart",
    );
    let scratch = Scratch::new();
    let mut source = Source::new(ENTITIES, 0);
    for _ in 0..ENTITY_EVENTS {
        let appended = scratch
            .runtime
            .block_on(scratch.tenant.append(source.batch(ENTITIES)));
        appended.expect("it is appended");
    }
    let names: Vec<_> = (0..ENTITIES).map(entity).collect();
    let mut next = 0;
    c.bench_function("state of 100 events", |b| {
        b.iter(|| {
            next = (next + 1) % ENTITIES;
            let state = scratch
                .runtime
                .block_on(scratch.tenant.state(&names[next], None));
            assert_eq!(state.expect("it has events").version, ENTITY_EVENTS);
        });
    });
}

criterion_group!(name = benches; config = criterion(); targets = state);
criterion_main!(benches);
