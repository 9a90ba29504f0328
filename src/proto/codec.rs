//! The gRPC codec of our services: prost, with one difference to tonic's own. A message that does not decode is the
//! caller's mistake and so `INVALID_ARGUMENT`, where tonic answers `INTERNAL`.

use std::marker::PhantomData;

use prost::Message;
use tonic::{
    Code, Status,
    codec::{BufferSettings, DecodeBuf, Decoder, EncodeBuf, Encoder},
};
use tonic_types::{ErrorDetails, StatusExt};

/// Bytes that an encoder gathers before they are handed to HTTP/2, so that small streamed messages share frames.
const ENCODE_YIELD_BYTES: usize = 64 * 1024;
const ENCODE_BUFFER_BYTES: usize = 16 * 1024;

/// Encodes `T`, decodes `U`.
#[derive(Debug, Clone)]
pub struct Codec<T, U> {
    messages: PhantomData<fn(T) -> U>,
}

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self {
            messages: PhantomData,
        }
    }
}

impl<T, U> tonic::codec::Codec for Codec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::default()
    }
}

/// See [`Codec`].
#[derive(Debug)]
pub struct ProstEncoder<T>(PhantomData<fn(T)>);

impl<T: Message> Encoder for ProstEncoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        // Large ones would else be copied each time the buffer grows.
        buf.reserve(item.encoded_len());
        item.encode(buf)
            .map_err(|e| Status::internal(format!("encoding a message: {e}")))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(ENCODE_BUFFER_BYTES, ENCODE_YIELD_BYTES)
    }
}

/// See [`Codec`].
#[derive(Debug)]
pub struct ProstDecoder<U>(PhantomData<fn() -> U>);

impl<U> Default for ProstDecoder<U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<U: Message + Default> Decoder for ProstDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        U::decode(buf).map(Some).map_err(|e| {
            Status::with_error_details(
                Code::InvalidArgument,
                format!("the message is not the protobuf that annals.v1 describes: {e}"),
                ErrorDetails::with_error_info("MALFORMED_MESSAGE", "annals", []),
            )
        })
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(ENCODE_BUFFER_BYTES, ENCODE_YIELD_BYTES)
    }
}
