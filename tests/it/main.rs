//! The integration tests: one binary, so that everything is linked once. A module for each thing that is shown.
#![cfg(test)]

mod model;
mod regressions;
mod slots;
mod unsynced_disk;
