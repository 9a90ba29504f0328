//! Scratch.
use super::stubs::*;
use crate::{flight::stubs::*, wire::TestServer};

#[tokio::test(flavor = "multi_thread")]
async fn scratch() {
    let server = TestServer::start_with(|config| sealing(config, 10)).await;
    fill(&tenant(&server.server).await, 35, 3, numbered).await;
    let stub = stub(&server).await;
    let text = std::fs::read_to_string("/tmp/scratch.sql").unwrap();
    for statement in text.split(";;").map(str::trim).filter(|s| !s.is_empty()) {
        println!("--- {statement}");
        let began = std::time::Instant::now();
        match ask(&stub, statement).await {
            Ok(parts) => {
                for row in texts(&parts) {
                    println!("{}", row.join(" | "));
                }
                println!(
                    "{:?}",
                    parts.first().map(|p| p
                        .rows
                        .schema()
                        .fields()
                        .iter()
                        .map(|f| format!("{}:{}:{}", f.name(), f.data_type(), f.is_nullable()))
                        .collect::<Vec<_>>())
                );
            }
            Err(status) => println!("{:?} {}", refusal(&status), status.message()),
        }
        println!("{:?}", began.elapsed());
    }
}
