//! Generates the gRPC types and stubs from `proto/`, without `protoc`.

use std::{env, error::Error, fs, path::PathBuf};

use prost_types::{FileDescriptorSet, field_descriptor_proto::Type};
use protox::prost::Message;

const FILES: [&str; 5] = [
    "annals/v1/admin.proto",
    "annals/v1/analytics.proto",
    "annals/v1/common.proto",
    "annals/v1/ingest.proto",
    "annals/v1/query.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // Reflection serves what was compiled, comments and all.
    fs::write(out.join("annals.bin"), descriptors.encode_to_vec())?;
    generate(descriptors)
}

fn generate(mut descriptors: FileDescriptorSet) -> Result<(), Box<dyn Error>> {
    // The texts of a new event arrive as slices of the request, and are checked to be UTF-8 where they are checked for
    // everything else. On the wire `string` and `bytes` are the same.
    for file in &mut descriptors.file {
        for message in file
            .message_type
            .iter_mut()
            .filter(|m| m.name() == "NewEvent")
        {
            for field in message
                .field
                .iter_mut()
                .filter(|f| f.r#type() == Type::String)
            {
                field.set_type(Type::Bytes);
            }
        }
    }
    tonic_prost_build::configure()
        .bytes(".annals.v1.NewEvent")
        .codec_path("crate::proto::Codec")
        // Batches of events are the hot path in both directions: written and read without a struct per event.
        .extern_path(".annals.v1.EventBatch", "crate::proto::EventBatch")
        .extern_path(".google.rpc", "::tonic_types::pb")
        .compile_fds(descriptors)?;
    Ok(())
}
