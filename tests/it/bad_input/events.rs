//! Batches whose events are not as the contract says.

use annals::proto;
use tonic::Code;

use super::*;

pub(super) fn event_cases(cases: &mut Cases) {
    let long = "x".repeat(513);
    cases.batch("empty batch", &proto::AppendRequest::default());
    cases.batch(
        "guards without events",
        &proto::AppendRequest {
            events: vec![],
            ..guarded(entity("a", entity_guard::Expect::Any(())))
        },
    );
    cases.event("entity id missing", |e| e.entity_id = "".into());
    cases.event("entity id too long", |e| e.entity_id = long.clone().into());
    cases.event("entity id reserved", |e| e.entity_id = "$system".into());
    cases.event("entity id with a control character", |e| {
        e.entity_id = "case\u{0}9".into();
    });
    cases.event("entity id with a newline", |e| {
        e.entity_id = "case\n9".into();
    });
    cases.event("entity id with a C1 control character", |e| {
        e.entity_id = "case\u{85}9".into();
    });
    cases.event("entity id that is no UTF-8", |e| {
        e.entity_id = (&b"case\xff"[..]).into();
    });
    cases.event("event type missing", |e| e.event_type = "".into());
    cases.event("event type too long", |e| {
        e.event_type = long.clone().into();
    });
    cases.event("event type reserved", |e| e.event_type = "$deleted".into());
    cases.event("event type with a tab", |e| e.event_type = "a\tb".into());
    cases.event("event type that is no UTF-8", |e| {
        e.event_type = (&b"\xc0\x80"[..]).into();
    });
    cases.event("tag missing", |e| e.tags = vec!["".into()]);
    cases.event("tag too long", |e| e.tags = vec![long.clone().into()]);
    cases.event("tag reserved", |e| e.tags = vec!["$tag".into()]);
    cases.event("tag with DEL", |e| e.tags = vec!["a\u{7f}".into()]);
    cases.event("too many tags", |e| {
        e.tags = (0..257).map(|i| format!("t{i}").into()).collect();
    });
    for (name, payload) in [
        ("missing", ""),
        ("of white space", " \n"),
        ("cut", r#"{"a":"#),
        ("with a trailing comma", r#"{"a":1,}"#),
        ("with a word", "undefined"),
        ("with NaN", r#"{"a":NaN}"#),
        ("with something behind it", "{} {}"),
        ("with single quotes", "{'a':1}"),
        ("with a leading zero", "01"),
        ("with a lone surrogate", r#""\ud800""#),
        ("with a raw control character", "\"\u{1}\""),
    ] {
        cases.event(&format!("payload {name}"), |e| {
            e.payload = payload.to_owned().into();
        });
    }
    cases.event("payload that is no UTF-8", |e| {
        e.payload = (&b"\"\xff\""[..]).into();
    });
    cases.event("payload one too deep", |e| e.payload = nested(129).into());
    cases.event("payload a depth bomb", |e| {
        e.payload = nested(400_000).into();
    });
    cases.event("payload a depth bomb of objects", |e| {
        e.payload = r#"{"a":"#.repeat(100_000).into();
    });
    cases.event("metadata an array", |e| e.metadata = Some("[]".into()));
    cases.event("metadata a string", |e| e.metadata = Some(r#""a""#.into()));
    cases.event("metadata empty text", |e| e.metadata = Some("".into()));
    cases.event("metadata cut", |e| e.metadata = Some("{".into()));
    cases.event("metadata with a reserved key", |e| {
        e.metadata = Some(r#"{"annals.origin":"x"}"#.into());
    });
    cases.event("metadata with a reserved key, escaped", |e| {
        e.metadata = Some(r#"{"\u0061nnals.origin":"x"}"#.into());
    });
    cases.event("metadata a depth bomb", |e| {
        e.metadata = Some(format!(r#"{{"a":{}}}"#, nested(200)).into());
    });
    for id in [
        "x",
        "01890a5dac96774bbcceb302099a8057",
        "{01890a5d-ac96-774b-bcce-b302099a8057}",
        "01890a5d-ac96-774b-bcce-b302099a805g",
    ] {
        cases.event(&format!("event id {id}"), |e| {
            e.event_id = id.to_owned().into();
        });
    }
    for (seconds, nanos) in [
        (0, -1),
        (0, 1_000_000_000),
        (i64::MAX, 0),
        (i64::MIN, 0),
        (253_402_300_800, 0),
        (-62_135_596_801, 0),
    ] {
        cases.event(&format!("occurred at {seconds} s {nanos} ns"), |e| {
            e.occurred_at = Some(time(seconds, nanos));
        });
    }
    let twice = |e: &mut proto::NewEvent| e.event_id = ID.into();
    let (mut first, mut second) = (good(), good());
    twice(&mut first);
    twice(&mut second);
    cases.message(
        "an id twice",
        APPEND,
        &events([first, second]),
        Code::InvalidArgument,
        "EVENT_ID_TWICE",
    );
    let too_large = (Code::InvalidArgument, "TOO_LARGE");
    cases.message(
        "too many events",
        APPEND,
        &events(vec![good(); 10_001]),
        too_large.0,
        too_large.1,
    );
    let mut large = good();
    large.payload = format!("\"{}\"", "x".repeat(1 << 20)).into();
    cases.message(
        "event above 1 MiB",
        APPEND,
        &events([large]),
        too_large.0,
        too_large.1,
    );
    let mut large = good();
    large.payload = format!("\"{}\"", "x".repeat(900 << 10)).into();
    cases.message(
        "batch above 8 MiB",
        APPEND,
        &events(vec![large; 10]),
        too_large.0,
        too_large.1,
    );
}

fn nested(depth: usize) -> String {
    format!("{}1{}", "[".repeat(depth), "]".repeat(depth))
}
