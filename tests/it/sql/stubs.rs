//! Statements and what comes of them, and a log for them to ask.

use annals::{NewEvent, Position, Tenant, Text};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use serde_json::json;
use tonic::{Code, Status};

use crate::{
    flight::stubs::{Part, Reading, Stub, fill, get, refusal, sealing, stub, tenant, until},
    wire::TestServer,
};

/// Events of the log of [`server`].
pub(crate) const EVENTS: Position = 200;
/// So many of them at least are sealed.
const SEALED: Position = 120;

/// The event at a position: entities of 7, types of 3, a tag on every fifth and another on every tenth.
pub(crate) fn noted(position: Position) -> NewEvent {
    let event_type = ["order.paid", "order.shipped", "case.noted"][(position % 3) as usize];
    let payload =
        format!(r#"{{"n":{position},"text":"it's \"{position}\"","deep":{{"a":[1,2]}}}}"#);
    let mut event = NewEvent::new(format!("entity-{}", position % 7), event_type, payload);
    let tag = |of: u64, tag: &str| position.is_multiple_of(of).then(|| Text::from(tag));
    event.tags = [tag(5, "five"), tag(10, "ten")]
        .into_iter()
        .flatten()
        .collect();
    if position.is_multiple_of(4) {
        event.occurred_at = Some(day(position));
    }
    event
}

/// That many days after the beginning of the year 2020.
pub(crate) fn day(n: Position) -> annals::Timestamp {
    let micros = 1_577_836_800_000_000 + n.cast_signed() * 86_400_000_000;
    annals::Timestamp::from_micros(micros).unwrap()
}

/// A server with [`EVENTS`] events, the first of which are sealed.
pub(crate) async fn server() -> (TestServer, Tenant, Stub) {
    let server = TestServer::start_with(|config| sealing(config, 40)).await;
    let tenant = tenant(&server.server).await;
    fill(&tenant, EVENTS, 9, noted).await;
    until("the first parts are sealed", || {
        tenant.stats().sealed >= SEALED
    })
    .await;
    let stub = stub(&server).await;
    (server, tenant, stub)
}

/// The rows of a statement.
pub(crate) async fn ask(stub: &Stub, statement: &str) -> Result<Vec<Part>, Status> {
    get(stub, json!({"sql": statement}).to_string()).await
}

/// The rows of a statement as texts; nothing is `null`.
pub(crate) async fn rows(stub: &Stub, statement: &str) -> Vec<Vec<String>> {
    match ask(stub, statement).await {
        Ok(parts) => texts(&parts),
        Err(status) => panic!("{statement}: {status:?}"),
    }
}

/// The values of a statement with one column.
pub(crate) async fn column(stub: &Stub, statement: &str) -> Vec<String> {
    let rows = rows(stub, statement).await.into_iter();
    rows.map(|row| {
        let [value] = row.try_into().expect("there is one column");
        value
    })
    .collect()
}

/// The only value of a statement.
pub(crate) async fn value(stub: &Stub, statement: &str) -> String {
    let [value] = column(stub, statement)
        .await
        .try_into()
        .expect("there is one row");
    value
}

/// How a statement was run, with what was counted.
pub(crate) async fn analyzed(stub: &Stub, statement: &str) -> String {
    let rows = rows(stub, &format!("explain analyze {statement}")).await;
    rows.concat().join("\n")
}

/// What was counted under a name, of all scans.
pub(crate) fn counted(plan: &str, name: &str) -> u64 {
    let name = format!("{name}=");
    let after = plan.split(&name).skip(1);
    let numbers = after.map(|rest| {
        let end = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        rest[..end]
            .parse::<u64>()
            .unwrap_or_else(|_| panic!("{plan}"))
    });
    numbers.sum()
}

/// The rows of messages as texts.
pub(crate) fn texts(parts: &[Part]) -> Vec<Vec<String>> {
    let options = FormatOptions::default().with_null("null");
    let mut texts = Vec::new();
    for part in parts {
        let columns = part.rows.columns().iter();
        let columns: Vec<_> = columns
            .map(|column| ArrayFormatter::try_new(column, &options).unwrap())
            .collect();
        for row in 0..part.rows.num_rows() {
            let values = columns.iter().map(|column| column.value(row).to_string());
            texts.push(values.collect());
        }
    }
    texts
}

/// How a ticket ends, which does not end well.
pub(crate) async fn failure(stub: &Stub, ticket: &serde_json::Value) -> Status {
    let ended = match Reading::begin(stub, ticket.to_string()).await {
        Ok(reading) => reading.rest().await,
        Err(status) => Err(status),
    };
    ended.expect_err(&ticket.to_string())
}

/// Why a statement is refused: code, reason and message.
pub(crate) async fn refused(stub: &Stub, statement: &str) -> (Code, String, String) {
    let status = failure(stub, &json!({"sql": statement})).await;
    let (code, reason) = refusal(&status);
    (code, reason, status.message().to_owned())
}
