//! SQL over the log, asked over a socket as a client does.

mod scratch;
mod stubs;
