//! A proxy that cuts each connection after as many bytes as a seed says, in the middle of whatever is on its way.

use std::{
    net::SocketAddr,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{self, AsyncReadExt},
    net::{TcpListener, TcpStream},
};

use crate::rng::Rng;

/// Goes on until the runtime ends.
pub(crate) struct CuttingProxy {
    pub(crate) url: String,
    cuts: Arc<AtomicUsize>,
}

impl CuttingProxy {
    /// Cuts when either side has sent so many bytes; twice as many over the second connection, and so on, so that those
    /// come to an end who begin anew each time.
    pub(crate) async fn start(server: SocketAddr, seed: u64, bytes: Range<usize>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let cuts = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&cuts);
        let mut rng = Rng::new(seed);
        tokio::spawn(async move {
            for connections in 1.. {
                let (client, _) = listener.accept().await.unwrap();
                let bytes = connections * (bytes.start + rng.below(bytes.len())) as u64;
                let counter = Arc::clone(&counter);
                tokio::spawn(async move {
                    if pass(client, server, bytes).await.is_ok_and(|cut| cut) {
                        counter.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        Self { url, cuts }
    }

    /// How often it has cut.
    pub(crate) fn cuts(&self) -> usize {
        self.cuts.load(Ordering::Relaxed)
    }
}

/// Passes on what both say; whether it came to the cut.
async fn pass(mut client: TcpStream, server: SocketAddr, bytes: u64) -> io::Result<bool> {
    let mut server = TcpStream::connect(server).await?;
    let (from_client, mut to_client) = client.split();
    let (from_server, mut to_server) = server.split();
    let (mut up, mut down) = (from_client.take(bytes), from_server.take(bytes));
    let passed = tokio::select! {
        passed = io::copy(&mut up, &mut to_server) => passed?,
        passed = io::copy(&mut down, &mut to_client) => passed?,
    };
    Ok(passed == bytes)
}
