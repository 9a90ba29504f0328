//! Black-box tests of the whole thing: real servers on 127.0.0.1, real directories.
#![cfg(test)]

mod bad_input;
mod cli;
mod program;
mod service;
mod wire;
