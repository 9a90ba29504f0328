//! The floor under every append: a write and `fdatasync` in a file that was written before, as the log does it.

mod conditions;
mod sampling;

use std::{fs::File, os::unix::fs::FileExt};

use conditions::{folder, print_conditions};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sampling::criterion;

const FILE_BYTES: usize = 16 << 20;

fn sync(c: &mut Criterion) {
    print_conditions("write and fdatasync, one after the other");
    let dir = folder();
    let file = File::create(dir.path().join("written")).expect("a file can be made");
    file.write_all_at(&vec![0; FILE_BYTES], 0)
        .expect("it can be written");
    file.sync_all().expect("it can be synced");
    let mut group = c.benchmark_group("sync");
    // A single event, and about a thousand.
    for bytes in [4 << 10, 256 << 10] {
        let block = vec![0x5a; bytes];
        let mut at = 0;
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(BenchmarkId::new("bytes", bytes), |b| {
            b.iter(|| {
                file.write_all_at(&block, at).expect("it can be written");
                file.sync_data().expect("it can be synced");
                at = (at + bytes as u64) % FILE_BYTES as u64;
            });
        });
    }
    group.finish();
}

criterion_group!(name = benches; config = criterion(); targets = sync);
criterion_main!(benches);
