//! The integration tests: one binary, so that everything is linked once. A module for each thing that is shown.
#![cfg(test)]
#![expect(
    clippy::cast_possible_truncation,
    reason = "numbers in tests are small"
)]

mod admin;
mod bad_input;
mod bit_flips;
mod cli;
mod cli_tables;
mod cli_verify;
mod clock;
mod compaction;
mod concurrency;
mod crash;
mod cutting_proxy;
mod extremes;
mod failed_group;
mod faults;
mod fixtures;
mod flight;
mod flight_put;
mod fuzz;
mod hashes;
mod kill;
mod leftovers;
mod missing_files;
mod model;
mod old_repeats;
mod program;
mod recycling;
mod refusing_disk;
mod regressions;
mod repair;
mod rng;
mod seal_faults;
mod seal_race;
mod sealed_damage;
mod sealed_log;
mod sealed_readers;
mod service;
mod sim_disk;
mod slots;
mod small_log;
mod soak_checks;
#[cfg(feature = "sql")]
mod sql;
mod unsealed;
mod unsynced_disk;
mod verify;
mod verify_served;
mod wire;
#[cfg(not(feature = "sql"))]
mod without_sql;
mod workload;
