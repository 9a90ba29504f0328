//! In the place of `sql`, of a build without it: there is no command ([`any`](super::any)), and actions say why they are not
//! answered.

#![expect(
    clippy::needless_pass_by_value,
    clippy::option_option,
    reason = "the functions are those that there are with SQL"
)]

use std::future::{Ready, ready};

use arrow_flight::{FlightData, FlightDescriptor, FlightInfo, PutResult};
use bytes::Bytes;
use futures_util::stream::BoxStream;
use tonic::{Status, Streaming};

use super::{super::status::Refusal, any::Command, call::Call, encode::Message};

pub(super) const ACTIONS: [(&str, &str); 0] = [];
/// What Flight SQL has.
const KNOWN: [&str; 8] = [
    "BeginSavepoint",
    "BeginTransaction",
    "CancelQuery",
    "ClosePreparedStatement",
    "CreatePreparedStatement",
    "CreatePreparedSubstraitPlan",
    "EndSavepoint",
    "EndTransaction",
];

type Answer<T> = Ready<Result<T, Refusal>>;
type Rows = BoxStream<'static, Result<Message, Status>>;

pub(super) fn info(_: &Call, command: Command, _: FlightDescriptor) -> Answer<FlightInfo> {
    match command {}
}

pub(super) fn schema(_: &Call, command: Command) -> Answer<Bytes> {
    match command {}
}

pub(super) fn get_command(_: &Call, command: Command) -> Answer<Rows> {
    match command {}
}

pub(super) fn get(
    _: &Call,
    _: super::sql_ticket::SqlTicket,
    _: Option<super::ticket::QueryId>,
) -> Answer<Rows> {
    ready(Err(Refusal::without_sql()))
}

pub(super) fn put(
    _: &Call,
    command: Command,
    _: FlightData,
    _: Streaming<FlightData>,
) -> Answer<PutResult> {
    match command {}
}

pub(super) fn act(_: &Call, action: &str, _: &[u8]) -> Answer<Option<Option<Bytes>>> {
    ready(if KNOWN.contains(&action) {
        Err(Refusal::without_sql())
    } else {
        Ok(None)
    })
}
