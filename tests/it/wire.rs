//! A server of one test, and calls that no generated client would make.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use annals::{
    config::Config,
    server::{RunningServer, Server},
};
use bytes::{BufMut, Bytes};
use http_body::{Body as HttpBody, Frame};
use tempfile::TempDir;
use tonic::{
    Status,
    body::Body,
    codegen::{Service, http},
    transport::{Channel, Endpoint},
};

pub(crate) struct TestServer {
    pub(crate) server: RunningServer,
    pub(crate) dir: TempDir,
}

impl TestServer {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config {
            data: dir.path().join("data"),
            ..Config::default()
        };
        config.listen.set_port(0);
        change(&mut config);
        let server = Server::start(&config).await.unwrap();
        Self { server, dir }
    }

    pub(crate) async fn channel(&self) -> Channel {
        let url = format!("http://{}", self.server.local_addr());
        Endpoint::from_shared(url).unwrap().connect().await.unwrap()
    }
}

/// A body of exactly these bytes.
pub(crate) struct RawBody(Option<Bytes>);

impl HttpBody for RawBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// A message in its gRPC frame.
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(message.len() + 5);
    body.put_u8(0);
    body.put_u32(u32::try_from(message.len()).unwrap());
    body.extend_from_slice(message);
    body
}

/// What the call answers, as a status: `OK` too.
pub(crate) async fn call_raw(
    channel: &mut Channel,
    path: &str,
    headers: &[(&str, &[u8])],
    body: Vec<u8>,
) -> Status {
    let mut request = http::Request::builder()
        .method("POST")
        .uri(path)
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::new(RawBody(Some(body.into())))).unwrap();
    std::future::poll_fn(|cx| channel.poll_ready(cx))
        .await
        .unwrap();
    let call = async {
        let response = channel.call(request).await.unwrap();
        if let Some(status) = Status::from_header_map(response.headers()) {
            return status;
        }
        let mut body = Box::pin(response.into_body());
        loop {
            let frame = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await;
            let frame = frame.expect("trailers come last").unwrap();
            if let Some(trailers) = frame.trailers_ref() {
                return Status::from_header_map(trailers).unwrap();
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), call)
        .await
        .expect("every call is answered")
}
