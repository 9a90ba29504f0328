//! Runs against plain maps, and runs that are damaged.

mod damage;
mod merge;
mod model;
mod plain;
mod sizes;
