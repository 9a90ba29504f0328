//! The integration tests: one binary, so that everything is linked once. A module for each thing that is shown.
#![cfg(test)]

mod bit_flips;
mod clock;
mod crash;
mod extremes;
mod failed_group;
mod faults;
mod hashes;
mod missing_files;
mod rng;
mod sim_disk;
mod small_log;
mod workload;
