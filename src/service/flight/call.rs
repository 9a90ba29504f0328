//! A call: whose log it is about, and what it is answered with.

use tokio_util::sync::CancellationToken;

use super::{queries::Queries, ticket::Tickets};
use crate::engine::tenant::Tenant;
#[cfg(feature = "sql")]
use crate::types::read::AsOf;

/// See the module.
#[derive(Clone)]
pub(super) struct Call {
    pub(super) tenant: Tenant,
    pub(super) tickets: Tickets,
    pub(super) queries: Queries,
    /// Ends its stream when the server shuts down.
    pub(super) drain: CancellationToken,
    /// The point of the past that its metadata names, if it does.
    #[cfg(feature = "sql")]
    pub(super) as_of: Option<AsOf>,
}
