//! Where benchmarks run, and what their figures must be read with.

use std::{fs, thread};

use tempfile::TempDir;

/// Below the build's folder, since the system's temporary one may be memory.
pub(crate) fn folder() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the build's folder can be written")
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
