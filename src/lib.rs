pub mod proto;
pub mod types;

pub use types::{
    append::{
        AppendError, Appended, Batch, CursorRecord, Expect, Guard, GuardFailure, Query, QueryItem,
        Violation, Violations,
    },
    event::NewEvent,
    id::{LogId, Position, TenantId, Version},
    kind::Kind,
    limits::Limits,
    read::{AsOf, Damage, Direction, Filter, ReadError, ReadRequest, TimeRange},
    text::Text,
    time::Timestamp,
};
