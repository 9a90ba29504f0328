//! What is no message of the kind, or no message at all.

use prost::Message;
use tonic::Code;

use super::*;

pub(super) fn wire_cases(cases: &mut Cases) {
    let malformed = (Code::InvalidArgument, "MALFORMED_MESSAGE");
    let mut raw =
        |name: &str, path, body: Vec<u8>| cases.raw(name, path, body, malformed.0, malformed.1);
    let whole = events([good()]).encode_to_vec();
    raw(
        "message cut in a field",
        APPEND,
        framed(&whole[..whole.len() - 1]),
    );
    raw("message cut in a length", APPEND, framed(&whole[..1]));
    raw("group that never ends", APPEND, framed(&[0x0b]));
    raw("field number 0", APPEND, framed(&[0x00, 0x01]));
    raw("varint of eleven bytes", APPEND, framed(&[0xff; 11]));
    raw(
        "length beyond the message",
        APPEND,
        framed(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]),
    );
    raw("events as a number", APPEND, framed(&[0x08, 0x01]));
    raw(
        "random bytes",
        APPEND,
        framed(b"\x93\x01\xffGET / HTTP/1.1"),
    );
    raw(
        "invalid UTF-8 in a guard",
        APPEND,
        framed(&field(2, &field(1, &field(1, b"\xff\xfe")))),
    );
    raw(
        "invalid UTF-8 in a cursor name",
        APPEND,
        framed(&field(3, &field(1, b"\xff"))),
    );
    raw(
        "invalid UTF-8 in a log id",
        APPEND,
        framed(&field(4, b"\xc3")),
    );
    raw(
        "invalid UTF-8 in a filter",
        READ,
        framed(&field(1, &field(1, b"\xed\xa0\x80"))),
    );
    raw(
        "invalid UTF-8 in a state request",
        STATE,
        framed(&field(1, b"\xff")),
    );
    raw("truncated subscribe", SUBSCRIBE, framed(&[0x0a]));
    raw("truncated stats request", STATS, framed(&[0x08]));
    raw("truncated list request", TYPES, framed(&[0x0a, 0x05, b'a']));
    raw(
        "frame shorter than it says",
        APPEND,
        framed(&whole)[..20].to_vec(),
    );
    raw("frame header cut", APPEND, vec![0, 0]);
    raw("no message at all", APPEND, vec![]);
    raw("no message at all, streamed answer", READ, vec![]);
    let mut compressed = framed(&whole);
    compressed[0] = 1;
    raw("compressed without saying how", APPEND, compressed.clone());
    compressed[0] = 7;
    raw("compression flag 7", APPEND, compressed);
    raw(
        "two messages where one belongs",
        APPEND,
        [framed(&whole), framed(&[0xff])].concat(),
    );
    let mut huge = framed(&[]);
    huge[1..].copy_from_slice(&(17u32 << 20).to_be_bytes());
    cases.raw(
        "message above 16 MiB",
        APPEND,
        huge,
        Code::InvalidArgument,
        "MESSAGE_TOO_LARGE",
    );
    let none = (Code::Unimplemented, "NO_SUCH_CALL");
    cases.raw(
        "no such method",
        "/annals.v1.IngestService/Prepend",
        framed(&[]),
        none.0,
        none.1,
    );
    cases.raw(
        "no such service",
        "/annals.v9.IngestService/Append",
        framed(&[]),
        none.0,
        none.1,
    );
}

/// A field of a message: number, wire type 2, these bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2, u8::try_from(bytes.len()).unwrap()];
    field.extend_from_slice(bytes);
    field
}
