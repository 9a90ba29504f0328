//! A server that was built without SQL says so.

use serde_json::json;
use tonic::Code;

use crate::flight::stubs::{Reading, refusal, stub};
use crate::wire::TestServer;

#[tokio::test(flavor = "multi_thread")]
async fn statements_are_unimplemented_and_why() {
    let server = TestServer::start().await;
    let stub = stub(&server).await;
    let ticket = json!({"sql": "select 1"}).to_string();
    let status = Reading::begin(&stub, ticket).await.err().unwrap();
    assert_eq!(refusal(&status), (Code::Unimplemented, "NO_SQL".to_owned()));
    assert!(status.message().contains("without the feature `sql`"));
    server.server.shutdown().await;
}
