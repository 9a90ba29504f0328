//! stub
use crate::types::id::{Position, TenantId};
use std::time::Duration;
pub(crate) fn appended(_events: u64, _bytes: u64) {}
pub(crate) fn group_synced(_batches: usize, _bytes: usize, _sync: Duration) {}
pub(crate) fn head(_tenant: &TenantId, _head: Position) {}
pub(crate) fn subscribers_changed(_delta: i64) {}
