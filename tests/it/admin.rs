//! `AdminService` as a generated client, the Rust client and the command line see it.

use std::time::{Duration, Instant};

use annals::{
    Batch, Client, NewEvent, ReadRequest,
    proto::{self, admin_service_client::AdminServiceClient},
};
use tonic::{Code, Request};
use tonic_types::StatusExt;

use crate::{
    program::{PERMITS, Served},
    wire::TestServer,
};

/// Far more than it takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// Nothing is compacted unless it is asked for.
async fn small_segments() -> TestServer {
    TestServer::start_with(|config| {
        config.limits.seal_events = 10;
        config.limits.compact_fan_in = 1_000;
    })
    .await
}

async fn fill(client: &Client, segments: u64) {
    for number in 0..10 * segments + 5 {
        let event = NewEvent::new(format!("order-{}", number % 7), "placed", "{}");
        client.append(&Batch::new([event])).await.unwrap();
    }
    let began = Instant::now();
    while client.stats().await.unwrap().tenants[0].segments < segments {
        assert!(began.elapsed() < PATIENCE, "it is never sealed");
    }
}

async fn positions(client: &Client) -> Vec<u64> {
    let mut positions = Vec::new();
    let mut events = client.read(&ReadRequest::default()).await.unwrap();
    while let Some(batch) = events.next().await.unwrap() {
        positions.extend(batch.iter().map(|event| event.unwrap().position));
    }
    positions
}

#[tokio::test(flavor = "multi_thread")]
async fn compaction_is_started_and_told_of() {
    let server = small_segments().await;
    let client = Client::connect(format!("http://{}", server.server.local_addr()))
        .await
        .unwrap();
    fill(&client, 6).await;
    let mut admin = AdminServiceClient::new(server.channel().await);
    let request = proto::GetCompactionStatsRequest {};
    let before = admin.get_compaction_stats(request).await.unwrap();
    let before = before.into_inner().stats.unwrap();
    assert_eq!((before.segments, before.small_segments), (6, 6));
    assert_eq!((before.running, before.compactions), (false, 0));
    assert_eq!(before.target_bytes, 1 << 30);

    let request = proto::TriggerCompactionRequest {};
    let asked = admin.trigger_compaction(request).await.unwrap();
    let asked = asked.into_inner().stats.unwrap();
    assert!(asked.running || asked.compactions == 1, "{asked:?}");
    let began = Instant::now();
    let stats = loop {
        let stats = client.compaction_stats().await.unwrap();
        if !stats.running {
            break stats;
        }
        assert!(began.elapsed() < PATIENCE, "{stats:?}");
    };
    assert_eq!((stats.segments, stats.compactions), (1, 1), "{stats:?}");
    assert_eq!(
        (stats.compacted_segments, stats.failures),
        (6, 0),
        "{stats:?}"
    );
    assert_eq!(stats.written_bytes, stats.segment_bytes, "{stats:?}");
    assert!(
        stats.last_took.is_some() && stats.last_error.is_none(),
        "{stats:?}"
    );
    assert_eq!(client.stats().await.unwrap().tenants[0].segments, 1);
    assert_eq!(positions(&client).await, (1..=65).collect::<Vec<_>>());
    // There is nothing left, so nothing is at work.
    let again = client.compact().await.unwrap();
    assert_eq!(again, stats);
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_does_not_exist_is_told_and_not_made() {
    let server = TestServer::start_with(|config| config.tenants_auto_create = true).await;
    let mut admin = AdminServiceClient::new(server.channel().await);
    let named = |name: &str| name.parse().unwrap();
    let mut request = Request::new(proto::TriggerCompactionRequest {});
    request
        .metadata_mut()
        .insert("annals-tenant", named("acme"));
    let status = admin.trigger_compaction(request).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    let reason = status.get_details_error_info().unwrap().reason;
    assert_eq!(reason, "NO_SUCH_TENANT");
    let mut request = Request::new(proto::GetCompactionStatsRequest {});
    request
        .metadata_mut()
        .insert("annals-tenant", named("no name"));
    let status = admin.get_compaction_stats(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    server.server.shutdown().await;
}

fn wait_for_segments(served: &Served, segments: u64) {
    let began = Instant::now();
    loop {
        let stats = served.run(&["stats", "--json"]).json();
        if stats["tenants"][0]["segments"] == segments {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{stats}");
    }
}

#[test]
fn compact_starts_compaction_and_waits_until_it_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let settings = ["limits.seal_events=1000", "compact.fan_in=64"];
    let served = Served::start_with(&dir.path().join("data"), "127.0.0.1:0", &settings);
    let nothing = served.run(&["compact"]).well();
    assert_eq!(
        nothing.stdout,
        "0 segments of 0 B; nothing was left to compact\n"
    );

    let append = ["append", "--file", PERMITS, "--batch", "1000"];
    served.run(&append).well();
    wait_for_segments(&served, 8);
    let done = served.run(&["compact"]).well().stdout;
    assert!(done.starts_with("1 segment of "), "{done}");
    assert!(done.contains("; 8 became 1, "), "{done}");
    let stats = served.run(&["compact", "--json"]).json();
    assert_eq!(stats["segments"], 1);
    assert_eq!(stats["compacted_segments"], 8);
    assert_eq!(stats["running"], false);
    assert_eq!(stats["last_error"], serde_json::Value::Null);
    served.run(&["compact", "--no-wait"]).well();
    let stats = served.run(&["stats"]).well().stdout;
    assert!(stats.contains("in 1 segment, "), "{stats}");
    assert_eq!(served.run(&["read"]).well().lines().len(), 8577);
}

#[test]
fn compact_tells_which_segment_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let settings = ["limits.seal_events=1000", "compact.fan_in=64"];
    let served = Served::start_with(&data, "127.0.0.1:0", &settings);
    let append = ["append", "--file", PERMITS, "--batch", "1000"];
    served.run(&append).well();
    wait_for_segments(&served, 8);
    let name = format!("{:020}-{:020}.parquet", 3001, 4000);
    let path = data.join("tenants/default/segments").join(&name);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100] ^= 4;
    std::fs::write(&path, bytes).unwrap();
    let told = served.run(&["compact"]);
    assert_eq!(told.code, Some(1), "{}", told.stderr);
    assert!(told.stderr.contains(&name), "{}", told.stderr);
    assert!(told.stdout.starts_with("3 segments of "), "{}", told.stdout);
}
