//! The integration tests: one binary, so that everything is linked once. A module for each thing that is shown.
#![cfg(test)]

mod regressions;
