//! Work on what is stored that no caller waits for.
//!
//! - [`verify`]: reads everything and tells what is wrong.
//! - [`repair`]: makes derived and doubled files anew from the other form of the same events.
//! - `closed`: both of a folder that nobody serves.

mod closed;
pub mod repair;
pub mod verify;
