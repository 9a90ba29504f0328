//! SQL over the log, asked over a socket as a client does, and in process.

mod limits;
mod parameters;
mod past;
mod pushdown;
mod refusals;
mod results;
mod stubs;
