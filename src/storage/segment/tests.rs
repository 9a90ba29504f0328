//! Whole segments: written, read, damaged.

mod compact;
mod damage;
mod material;
mod round_trip;
