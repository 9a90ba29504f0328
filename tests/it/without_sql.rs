//! A server that was built without SQL says so.

use arrow_flight::{Action, FlightData, FlightDescriptor};
use prost::Message;
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

#[tokio::test(flavor = "multi_thread")]
async fn commands_of_flight_sql_are_unimplemented_and_why() {
    let server = TestServer::start().await;
    let stub = stub(&server).await;
    let any = prost_types::Any {
        type_url: "type.googleapis.com/arrow.flight.protocol.sql.CommandGetCatalogs".to_owned(),
        value: Vec::new(),
    };
    let descriptor = FlightDescriptor::new_cmd(any.encode_to_vec());
    let upload = FlightData::new().with_descriptor(descriptor.clone());
    let uploaded = stub.clone().do_put(tokio_stream::once(upload)).await;
    let uploaded = uploaded.unwrap().into_inner().message().await;
    for status in [
        stub.clone().get_flight_info(descriptor.clone()).await.err(),
        stub.clone().get_schema(descriptor).await.err(),
        Reading::begin(&stub, any.encode_to_vec()).await.err(),
        uploaded.err(),
    ] {
        let status = status.unwrap();
        assert_eq!(refusal(&status), (Code::Unimplemented, "NO_SQL".to_owned()));
    }
    let act = async |name: &str| stub.clone().do_action(Action::new(name, "")).await.err();
    let status = act("CreatePreparedStatement").await.unwrap();
    assert_eq!(refusal(&status), (Code::Unimplemented, "NO_SQL".to_owned()));
    assert!(act("CloseSession").await.is_none());
    server.server.shutdown().await;
}
