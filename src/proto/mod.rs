//! The generated types and stubs of package `annals.v1`, and the two parts of them that are written by hand because
//! they are on the hot path: [`EventBatch`] and the [`Codec`].
//!
//! Used by `service`, `server` and `client`; nothing below knows it.

mod batch;
mod codec;

pub(crate) use batch::EventFields;
pub use batch::{EventBatch, EventView, EventViews, MalformedEvent, Tags};
pub use codec::{Codec, ProstDecoder};

/// What reflection serves: the descriptors of `proto/`, comments included.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/annals.bin"));

#[expect(
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    missing_docs,
    reason = "generated code"
)]
mod generated {
    tonic::include_proto!("annals.v1");
}
pub use generated::*;
