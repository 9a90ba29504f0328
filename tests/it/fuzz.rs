//! Mutated frames, rows and file headers against their decoders: no panic, nothing accepted whose checksum does not
//! match, nothing refused for its checksum whose checksum does.
//!
//! Half of the inputs get valid checksums after they were changed, so that what is behind the checksum is reached. Runs
//! for `ANNALS_FUZZ_SECONDS`, by default a minute where `CI` is set and two seconds elsewhere; `ANNALS_FUZZ_SEED` runs
//! the same inputs again. An input that fails is written to `tests/fuzz-corpus`, whose files are run first, and mutated
//! like the others.

mod checks;
mod input;
mod mutate;

use std::{
    env, fs, panic,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use self::{checks::check, input::Input, mutate::Mutator};
use super::fixtures::folder;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz-corpus")
}

fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is a number")),
    )
}

/// Real frames, rows and headers, and what is kept.
fn seeds() -> Vec<Input> {
    let mut seeds = Vec::new();
    for file in folder::files(&folder::golden(), "default") {
        seeds.extend(Input::all_of(&file));
    }
    let mut kept: Vec<_> = fs::read_dir(corpus())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    kept.sort_unstable();
    seeds.extend(kept.iter().map(|path| Input::read(path)));
    seeds
}

/// Checks an input; keeps it if that fails.
fn run(input: &Input, seed: u64) {
    let checked = panic::catch_unwind(|| check(input));
    if let Err(failed) = checked {
        let path = corpus().join(input.name());
        fs::write(&path, input.to_bytes()).unwrap();
        println!(
            "ANNALS_FUZZ_SEED={seed} fails with the input in {}",
            path.display()
        );
        panic::resume_unwind(failed);
    }
}

#[test]
fn decoders_take_any_bytes_and_accept_only_what_was_written() {
    let default = if env::var_os("CI").is_some() { 60 } else { 2 };
    let time = Duration::from_secs(number("ANNALS_FUZZ_SECONDS").unwrap_or(default));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = number("ANNALS_FUZZ_SEED").unwrap_or(now.as_secs() | 1);
    let seeds = seeds();
    for input in &seeds {
        run(input, seed);
    }
    let started = Instant::now();
    let mut mutator = Mutator::new(&seeds, seed);
    let (mut inputs, mut accepted) = (0u64, 0u64);
    while started.elapsed() < time {
        for _ in 0..100 {
            let input = mutator.next();
            run(&input, seed);
            accepted += u64::from(input.is_accepted());
            inputs += 1;
        }
    }
    println!("ANNALS_FUZZ_SEED={seed}: {inputs} inputs, {accepted} of them accepted");
    // Checksums are made valid, and some changes are harmless: otherwise it would not reach far.
    assert!(accepted > inputs / 100, "{accepted} of {inputs}");
}

#[test]
fn kept_inputs_are_small() {
    for entry in fs::read_dir(corpus()).unwrap() {
        let bytes = entry.unwrap().metadata().unwrap().len();
        assert!(bytes <= 16 << 10, "{bytes} bytes");
    }
}
