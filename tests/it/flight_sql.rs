//! Flight SQL, as a generated client speaks it to a real server: statements and their handles, what there is, what is not
//! answered, and bytes that are no commands.
//!
//! What drivers make of it is tested with ADBC in `clients/python/tests`; what a statement gives, in `sql`.

mod commands;
mod handles;
mod hostile;
mod metadata;
mod statements;
mod stubs;
