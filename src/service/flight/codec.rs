//! `DoGet` as a service of its own, in front of the generated one, for the sake of how its messages get onto the wire:
//! the columns of a batch are copied once, to where HTTP/2 sends them from, with room for all of them made before. The
//! generated service takes a message whose body is in one piece, and copies it again into a buffer that grows.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use arrow::buffer::Buffer;
use arrow_flight::{FlightData, Ticket};
use bytes::{BufMut, Bytes};
use futures_util::future::BoxFuture;
use http_body::Body;
use prost::{
    Message as _,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len},
};
use tonic::{
    Request, Response, Status,
    codec::{Codec, EncodeBuf, Encoder},
    server::{Grpc, ServerStreamingService},
};
use tower::Service;

use super::{Answers, Flight, encode::Message};
use crate::proto::ProstDecoder;

/// The field of `FlightData` that holds the columns.
const BODY: u32 = 1000;

/// See the module.
#[derive(Clone)]
pub(crate) struct DoGet(Flight);

impl DoGet {
    /// Where it is asked.
    pub(crate) const PATH: &str = "/arrow.flight.protocol.FlightService/DoGet";

    pub(crate) fn new(flight: Flight) -> Self {
        Self(flight)
    }
}

impl<B> Service<http::Request<B>> for DoGet
where
    B: Body + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            let mut grpc = Grpc::new(GetCodec);
            Ok(grpc.server_streaming(service, request).await)
        })
    }
}

impl ServerStreamingService<Ticket> for DoGet {
    type Response = Message;
    type ResponseStream = Answers<Message>;
    type Future = BoxFuture<'static, Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Ticket>) -> Self::Future {
        let Self(flight) = self.clone();
        Box::pin(async move { flight.get(request).await.map(Response::new) })
    }
}

#[derive(Clone)]
struct GetCodec;

impl Codec for GetCodec {
    type Encode = Message;
    type Decode = Ticket;
    type Encoder = MessageEncoder;
    type Decoder = ProstDecoder<Ticket>;

    fn encoder(&mut self) -> MessageEncoder {
        MessageEncoder
    }

    fn decoder(&mut self) -> ProstDecoder<Ticket> {
        ProstDecoder::default()
    }
}

struct MessageEncoder;

impl Encoder for MessageEncoder {
    type Item = Message;
    type Error = Status;

    fn encode(&mut self, message: Message, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buf.reserve(message.encoded_len());
        message.encode(buf);
        Ok(())
    }
}

impl Message {
    fn body_bytes(&self) -> usize {
        self.body.iter().map(Buffer::len).sum()
    }

    fn head(&self) -> FlightData {
        FlightData {
            data_header: Bytes::clone(&self.header),
            app_metadata: Bytes::clone(&self.told),
            ..FlightData::default()
        }
    }

    /// Bytes on the wire.
    pub(super) fn encoded_len(&self) -> usize {
        let body = self.body_bytes();
        self.head().encoded_len() + key_len(BODY) + encoded_len_varint(body as u64) + body
    }

    fn encode(&self, buf: &mut impl BufMut) {
        self.head().encode_raw(buf);
        encode_key(BODY, WireType::LengthDelimited, buf);
        encode_varint(self.body_bytes() as u64, buf);
        for part in &self.body {
            buf.put_slice(part);
        }
    }
}
