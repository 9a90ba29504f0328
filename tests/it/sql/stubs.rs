//! Statements and what comes of them.

use arrow::util::display::{ArrayFormatter, FormatOptions};
use serde_json::json;
use tonic::Status;

use crate::flight::stubs::{Part, Reading, Stub, get, refusal};

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

/// The single column of a statement, which is a single one.
pub(crate) async fn column(stub: &Stub, statement: &str) -> Vec<String> {
    let rows = rows(stub, statement).await.into_iter();
    rows.map(|row| {
        let [value] = row.try_into().expect("there is one column");
        value
    })
    .collect()
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

/// Why a statement is refused: code, reason and message.
pub(crate) async fn refused(stub: &Stub, statement: &str) -> (tonic::Code, String, String) {
    let ended = match Reading::begin(stub, json!({"sql": statement}).to_string()).await {
        Ok(reading) => reading.rest().await,
        Err(status) => Err(status),
    };
    let status = ended.expect_err(statement);
    let (code, reason) = refusal(&status);
    (code, reason, status.message().to_owned())
}
