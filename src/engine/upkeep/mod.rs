//! Work on what is stored that no caller waits for.
//!
//! - [`verify`]: reads everything and tells what is wrong.

pub mod verify;
