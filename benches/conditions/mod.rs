//! How benchmarks run, where, and what their figures must be read with.

use std::{fs, thread};

use criterion::Criterion;
use tempfile::TempDir;

/// Below the build's folder, since the system's temporary one may be memory.
pub(crate) fn folder() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the build's folder can be written")
}

/// Shorter than criterion's own: what is appended stays, and memory holds an index of it.
pub(crate) fn criterion() -> Criterion {
    let times = std::time::Duration::from_millis;
    Criterion::default()
        .sample_size(20)
        .warm_up_time(times(500))
        .measurement_time(times(2000))
        .configure_from_args()
}

/// What a figure means little without.
#[expect(clippy::print_stdout, reason = "criterion prints there too")]
pub(crate) fn print_conditions(what: &str) {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = info
        .lines()
        .find_map(|line| Some(line.strip_prefix("model name")?.split_once(':')?.1.trim()));
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let cpu = cpu.unwrap_or(std::env::consts::ARCH);

    println!(
        "{what}
{cpu}, {cores} cores; files in {}",
        env!("CARGO_TARGET_TMPDIR")
    );
}
