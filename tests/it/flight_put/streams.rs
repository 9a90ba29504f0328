//! Streams: in order while they are sent, up to the first failure; large ones, and those that are given up.

use std::time::{Duration, Instant};

use arrow::ipc::CompressionType;
use arrow_flight::{FlightData, PutResult, flight_service_client::FlightServiceClient};
use prost::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::{Handle, Runtime},
    sync::mpsc,
    task::yield_now,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Request, Streaming,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt;

use super::upload::{
    command, compressed, flight, messages, metadata, path, read, rows, send, take, text, with,
};
use crate::wire::{TestServer, call_raw, framed};

/// Far more than it takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread")]
async fn batches_are_stored_and_answered_in_their_order() {
    let server = TestServer::start().await;
    let mut client = flight(&server).await;
    let entities: Vec<_> = (0..1_000).map(|n| format!("case-{n}")).collect();
    let batches: Vec<_> = entities.iter().map(|name| rows([name.as_str()])).collect();
    let outcome = send(&mut client, messages(path(), &batches)).await;
    outcome.is_ok();
    let firsts = outcome
        .stored()
        .into_iter()
        .map(|(first, ..)| first.unwrap());
    assert!(firsts.eq(1..=1_000));
    let stored = read(&server).await.into_iter().map(|event| event.entity_id);
    assert!(stored.eq(entities));
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_behind_a_batch_that_fails_is_stored() {
    let server = TestServer::start().await;
    let mut client = flight(&server).await;
    let good = rows(["good"]);
    // Each is found wrong at another place: when it is read, when it is prepared, when it is judged.
    let null = super::upload::texts(&[None]);
    let reused = |id| with(&good, "event_id", super::upload::ids([id]));
    send(&mut client, messages(path(), &[reused(1)]))
        .await
        .is_ok();
    let with_id = |id, payload: &str| with(&reused(id), "payload", text([payload]));
    for (wrong, code) in [
        (with(&reused(2), "payload", null), Code::InvalidArgument),
        (with_id(3, "{"), Code::InvalidArgument),
        (with_id(1, "7"), Code::AlreadyExists),
    ] {
        let before = read(&server).await.len();
        let id = 100 + before as u128 * 100;
        let mut batches: Vec<_> = (id..id + 20).map(reused).collect();
        batches.push(wrong);
        batches.extend((id + 50..id + 70).map(reused));
        let outcome = send(&mut client, messages(path(), &batches)).await;
        assert_eq!(outcome.status.code(), code, "{:?}", outcome.status);
        assert_eq!(outcome.results.len(), 20);
        assert!(
            outcome.message().starts_with("batch 21: "),
            "{}",
            outcome.message()
        );
        assert_eq!(read(&server).await.len(), before + 20);
    }
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_is_larger_than_a_batch_may_be() {
    let server = TestServer::start().await;
    let mut client = flight(&server).await;
    let payload = format!("\"{}\"", "x".repeat(2_000));
    let table = with(
        &rows((0..2_500).map(|_| "case-1")),
        "payload",
        text((0..2_500).map(|_| payload.as_str())),
    );
    let batches = vec![table; 4];
    let upload = messages(path(), &batches);
    let bytes: usize = upload.iter().map(FlightData::encoded_len).sum();
    assert!(bytes > 20_000_000, "{bytes}");
    let outcome = send(&mut client, upload).await;
    outcome.is_ok();
    assert_eq!(outcome.results[3]["last"], 10_000);
    let whole = arrow::compute::concat_batches(&batches[0].schema(), &batches).unwrap();
    let outcome = send(&mut client, messages(path(), &[whole])).await;
    outcome.is_refused(Code::InvalidArgument, "TOO_LARGE");
    assert_eq!(read(&server).await.len(), 10_000);
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_20_mb_is_stored_where_limits_allow_it() {
    let server = TestServer::start_with(|config| {
        config.message_bytes_max = 32 << 20;
        config.limits.batch_bytes_max = 32 << 20;
    })
    .await;
    let mut client = flight(&server).await;
    let payload = format!("\"{}\"", "x".repeat(500_000));
    let table = with(
        &rows((0..40).map(|_| "case-1")),
        "payload",
        text((0..40).map(|_| payload.as_str())),
    );
    for codec in [
        None,
        Some(CompressionType::LZ4_FRAME),
        Some(CompressionType::ZSTD),
    ] {
        let upload = compressed(path(), std::slice::from_ref(&table), codec);
        assert_eq!(upload[1].data_body.len() > 20_000_000, codec.is_none());
        let outcome = send(&mut client, upload).await;
        outcome.is_ok();
    }
    let events = read(&server).await;
    assert_eq!(events.len(), 120);
    assert!(events.iter().all(|event| event.payload == payload));
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_may_be_four_times_as_large_as_a_request() {
    let server = TestServer::start_with(|config| {
        config.message_bytes_max = 64 << 10;
        config.limits.batch_bytes_max = 64 << 10;
    })
    .await;
    let mut client = flight(&server).await;
    let of_bytes = |bytes: usize| {
        let payload = format!("\"{}\"", "x".repeat(bytes));
        messages(
            path(),
            &[with(&rows(["a"]), "payload", text([payload.as_str()]))],
        )
    };
    send(&mut client, of_bytes(50 << 10)).await.is_ok();
    let outcome = send(&mut client, of_bytes(200 << 10)).await;
    outcome.is_refused(Code::InvalidArgument, "TOO_LARGE");
    let outcome = send(&mut client, of_bytes(260 << 10)).await;
    outcome.is_refused(Code::InvalidArgument, "MESSAGE_TOO_LARGE");
    server.server.shutdown().await;
}

/// A stream of a client that could go on sending, with a result that was taken.
async fn open(
    client: &mut FlightServiceClient<Channel>,
) -> (mpsc::Sender<FlightData>, Streaming<PutResult>) {
    let (sender, queued) = mpsc::channel(10);
    for message in messages(path(), &[rows(["a"])]) {
        sender.send(message).await.unwrap();
    }
    let request = Request::new(ReceiverStream::new(queued));
    let mut answers = client.do_put(request).await.unwrap().into_inner();
    let result = answers.message().await.unwrap().unwrap();
    assert!(metadata(&result)["first"].is_u64());
    (sender, answers)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_leaves_no_task_behind() {
    let server = TestServer::start().await;
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    // On a runtime of its own, so that the tasks here are the server's, and so that it can go away without a word.
    let away = Runtime::new().unwrap();
    let url = format!("http://{}", server.server.local_addr());
    let opened = away.spawn(async move {
        let channel = Endpoint::from_shared(url).unwrap().connect().await;
        let mut client = FlightServiceClient::new(channel.unwrap());
        let mut streams = Vec::new();
        for _ in 0..20 {
            streams.push(open(&mut client).await);
        }
        streams
    });
    let streams = opened.await.unwrap();
    assert!(tasks() >= before + 20, "{} {before}", tasks());
    away.shutdown_background();
    let gone = async {
        while tasks() > before {
            yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, gone)
        .await
        .expect("all tasks end");
    assert_eq!(read(&server).await.len(), 20);
    drop(streams);
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_back_is_not_stored_where_the_stream_breaks_off() {
    let server = TestServer::start().await;
    let descriptor = command(r#"{"guards":[{"entity":"a","expect":"absent"}]}"#);
    let whole: Vec<u8> = messages(descriptor, &[rows(["a"])])
        .iter()
        .flat_map(|message| framed(&message.encode_to_vec()))
        .collect();
    let mut channel = server.channel().await;
    let put = "/arrow.flight.protocol.FlightService/DoPut";
    for more in [
        vec![0, 0],
        framed(&[0xff]),
        framed(&[1; 100])[..50].to_vec(),
    ] {
        let body = [whole.clone(), more].concat();
        let status = call_raw(&mut channel, put, &[], body).await;
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        let reason = status.get_details_error_info().unwrap().reason;
        assert_eq!(reason, "MALFORMED_MESSAGE");
        assert!(read(&server).await.is_empty());
    }
    let status = call_raw(&mut channel, put, &[], whole).await;
    assert_eq!(status.code(), Code::Ok, "{status:?}");
    assert_eq!(read(&server).await.len(), 1);
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ends_tells_uploads_so() {
    let server = TestServer::start().await;
    let mut client = flight(&server).await;
    let (sender, answers) = open(&mut client).await;
    let began = Instant::now();
    let ended = tokio::spawn(server.server.shutdown());
    let outcome = take(answers).await;
    outcome.is_refused(Code::Unavailable, "SHUTTING_DOWN");
    assert!(outcome.status.get_details_retry_info().is_some());
    assert!(ended.await.unwrap(), "all calls end in time");
    assert!(began.elapsed() < PATIENCE);
    drop(sender);
}

/// The messages of an upload whose end does not come.
async fn unended(
    queued: Vec<FlightData>,
) -> (mpsc::Sender<FlightData>, ReceiverStream<FlightData>) {
    let (sender, receiver) = mpsc::channel(queued.len());
    for message in queued {
        sender.send(message).await.unwrap();
    }
    (sender, ReceiverStream::new(receiver))
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_count_as_calls_and_end_at_their_deadline() {
    let server = TestServer::start_with(|config| {
        config.calls_max = 1;
        config.metrics = Some("127.0.0.1:0".parse().unwrap());
    })
    .await;
    let mut client = flight(&server).await;
    let (sender, queued) = unended(messages(path(), &[rows(["a"])])).await;
    let mut request = Request::new(queued);
    // Only the header: the client's own timer must not be what ends it.
    let deadline = "500m".parse().unwrap();
    request.metadata_mut().insert("grpc-timeout", deadline);
    let answers = client.do_put(request).await.unwrap().into_inner();
    let outcome = send(&mut client, messages(path(), &[rows(["b"])])).await;
    outcome.is_refused(Code::ResourceExhausted, "TOO_MANY_CALLS");
    let outcome = take(answers).await;
    outcome.failed(Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    drop(sender);

    let address = server.server.metrics_addr().unwrap();
    let mut page = TcpStream::connect(address).await.unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n";
    page.write_all(request).await.unwrap();
    let mut text = String::new();
    page.read_to_string(&mut text).await.unwrap();
    for code in ["DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"] {
        let counted = format!(r#"annals_calls_total{{method="DoPut",code="{code}"}}"#);
        assert!(text.contains(&counted), "{code}: {text}");
    }
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_may_be_written_before_the_first_result_is_taken() {
    const BATCHES: usize = 5_000;
    let server = TestServer::start().await;
    let url = format!("http://{}", server.server.local_addr());
    // Room for a few hundred results on the way, as clients have it.
    let endpoint = Endpoint::from_shared(url).unwrap();
    let endpoint = endpoint.initial_stream_window_size(65_535);
    let mut client = FlightServiceClient::new(endpoint.connect().await.unwrap());
    let (sender, queued) = mpsc::channel(1);
    // Far more than fits into the server's windows, so that it has to be read.
    let payload = format!("\"{}\"", "x".repeat(4_000));
    let table = with(&rows(["a"]), "payload", text([payload.as_str()]));
    let upload = messages(path(), &vec![table; BATCHES]);
    let writing = tokio::spawn(async move {
        for message in upload {
            sender.send(message).await.unwrap();
        }
    });
    let queued = ReceiverStream::new(queued);
    let answers = client.do_put(Request::new(queued)).await.unwrap();
    tokio::time::timeout(PATIENCE, writing)
        .await
        .expect("all is written")
        .unwrap();
    let outcome = take(answers.into_inner()).await;
    outcome.is_ok();
    assert_eq!(outcome.results.len(), BATCHES);
    assert_eq!(outcome.results[BATCHES - 1]["last"], BATCHES);
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_without_rows_are_passed_over() {
    let server = TestServer::start().await;
    let mut client = flight(&server).await;
    let all = rows(["a", "b", "c"]);
    let parts = [(0, 0), (0, 1), (1, 0), (1, 2)].map(|(from, count)| all.slice(from, count));
    let outcome = send(&mut client, messages(path(), &parts)).await;
    outcome.is_ok();
    let stored = [(Some(1), Some(1), false), (Some(2), Some(3), false)];
    assert_eq!(outcome.stored(), stored);
    server.server.shutdown().await;
}
