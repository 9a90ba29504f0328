//! Random sequences of operations on a tenant, every answer compared with that of a plain in-memory model.
//!
//! - [`plan`]: what a sequence consists of, and how it is made up.
//! - [`names`]: the few names and texts that events are made of, so that they meet.
//! - [`plain`]: the model: a list of events, and scans of it.
//! - [`reads`]: what the model says to every kind of read.
//! - [`run`]: does a sequence to both and compares.
//! - [`tickets`]: what the model says of tickets of Arrow Flight, over the wire.
//! - [`pick`]: turns plans, which hold small numbers, into requests that fit what is there.
//!
//! A sequence that fails is made smaller and its seed kept in `tests/it/model.proptest-regressions`, which is run first
//! next time. `PROPTEST_CASES` sets how many sequences each test runs.

mod names;
mod pick;
mod plain;
mod plan;
mod reads;
mod run;
mod tables;
mod tickets;

use std::{env, sync::Arc};

use proptest::test_runner::{Config, FileFailurePersistence, TestRunner};
use tokio::runtime;

use annals::{storage::disk::RealDisk, types::hash::KeyHasher};

use self::run::Setup;

/// Runs random sequences against engines of a kind.
fn check(cases: u32, setup: &Setup) {
    let cases = env::var("PROPTEST_CASES").map_or(cases, |cases| {
        cases.parse().expect("PROPTEST_CASES is a number")
    });
    let config = Config {
        cases,
        max_shrink_iters: 4_000,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(
            "tests/it/model.proptest-regressions",
        ))),
        ..Config::default()
    };
    let runtime = runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let ran = TestRunner::new(config).run(&plan::sequences(), |sequence| {
        runtime.block_on(run::run(&sequence, setup));
        Ok(())
    });
    if let Err(failed) = ran {
        panic!("{failed}");
    }
}

#[test]
fn every_answer_is_the_models() {
    check(1_100, &Setup::default());
}

#[test]
fn every_answer_is_the_models_on_a_disk_that_syncs() {
    check(
        100,
        &Setup {
            disk: Arc::new(RealDisk),
            ..Setup::default()
        },
    );
}

#[test]
fn every_answer_is_the_models_though_hashes_have_8_bits() {
    check(
        600,
        &Setup {
            hasher: KeyHasher::with_bits(8),
            ..Setup::default()
        },
    );
}

#[test]
fn every_answer_is_the_models_though_all_is_read_from_disk() {
    check(
        600,
        &Setup {
            recent_bytes_max: 0,
            ..Setup::default()
        },
    );
}

#[test]
fn every_answer_is_the_models_though_events_are_sealed() {
    check(
        300,
        &Setup {
            seal_events: 7,
            ..Setup::default()
        },
    );
}

#[test]
fn every_answer_is_the_models_though_sealed_log_files_are_gone() {
    for (hasher, row_group_events) in [(KeyHasher::default(), 4), (KeyHasher::with_bits(8), 1_000)]
    {
        check(
            150,
            &Setup {
                hasher,
                row_group_events,
                recent_bytes_max: 0,
                seal_events: 5,
                keep_bytes: 0,
                ..Setup::default()
            },
        );
    }
}
