//! Whole segments: written, read, damaged.

mod damage;
mod material;
mod round_trip;
