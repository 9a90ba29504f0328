//! Durable appends in process: one writer, and several at once.

mod conditions;
mod events;
mod sampling;
mod scratch;

use std::time::{Duration, Instant};

use conditions::print_conditions;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use events::Source;
use sampling::criterion;
use scratch::Scratch;
use tokio::task::JoinSet;

const ENTITIES: usize = 10_000;

fn one_writer(c: &mut Criterion) {
    print_conditions(
        "200-byte payloads, append: each batch is answered after fdatasync; the making of batches is not timed",
    );
    let mut group = c.benchmark_group("append, one writer");
    for events in [1, 100, 1000] {
        let scratch = Scratch::new();
        let mut source = Source::new(ENTITIES, 0);
        group.throughput(Throughput::Elements(events as u64));
        group.bench_function(BenchmarkId::new("batch of", events), |b| {
            b.iter_custom(|times| {
                let mut took = Duration::ZERO;
                for _ in 0..times {
                    let batch = source.batch(events);
                    let started = Instant::now();
                    let appended = scratch.runtime.block_on(scratch.tenant.append(batch));
                    took += started.elapsed();
                    assert_eq!(appended.expect("it is appended").versions.len(), events);
                }
                took
            });
        });
    }
    group.finish();
}

fn several_writers(c: &mut Criterion) {
    print_conditions(
        "200-byte payloads, append: writers wait for their own answers, syncs are shared; the making of batches is timed",
    );
    let mut group = c.benchmark_group("append, several writers");
    for (writers, events) in [(64, 1), (8, 1000)] {
        let scratch = Scratch::new();
        let mut sources: Vec<_> = (0..writers)
            .map(|writer| Source::new(ENTITIES, writer))
            .collect();
        // One element of criterion is a round: a batch by each writer.
        group.throughput(Throughput::Elements(writers * events as u64));
        group.bench_function(format!("{writers} writers, batches of {events}"), |b| {
            b.iter_custom(|rounds| {
                let started = Instant::now();
                sources = scratch.runtime.block_on(async {
                    let mut tasks = JoinSet::new();
                    for mut source in sources.drain(..) {
                        let tenant = scratch.tenant.clone();
                        tasks.spawn(async move {
                            for _ in 0..rounds {
                                let appended = tenant.append(source.batch(events)).await;
                                assert_eq!(
                                    appended.expect("it is appended").versions.len(),
                                    events
                                );
                            }
                            source
                        });
                    }
                    tasks.join_all().await
                });
                started.elapsed()
            });
        });
    }
    group.finish();
}

criterion_group!(name = benches; config = criterion(); targets = one_writer, several_writers);
criterion_main!(benches);
