//! What of a condition reaches the scan: it reads the rows that the condition holds for, and no others. Whatever is pushed
//! down, the rows are those for which the condition holds.

use annals::Position;

use super::stubs::{EVENTS, analyzed, column, counted, day, noted, server, value};
use crate::flight::stubs::{fill, stub, tenant};
use crate::wire::TestServer;

/// A condition, the positions that it holds for, and how many rows are read to find them.
struct Case {
    condition: String,
    holds: Box<dyn Fn(Position) -> bool>,
    reads: Reads,
}

enum Reads {
    /// Only those that it holds for.
    Found,
    /// Those that another one holds for.
    Of(Box<dyn Fn(Position) -> bool>),
    All,
}

fn case(
    condition: impl Into<String>,
    reads: Reads,
    holds: impl Fn(Position) -> bool + 'static,
) -> Case {
    Case {
        condition: condition.into(),
        holds: Box::new(holds),
        reads,
    }
}

fn cases() -> Vec<Case> {
    use Reads::{All, Found, Of};
    let is = |name: &'static str, position: Position| {
        noted(position).event_type.as_bytes() == name.as_bytes()
    };
    let entity = |n: u64, position: Position| position % 7 == n;
    vec![
        case("entity_id = 'entity-3'", Found, move |p| entity(3, p)),
        case("'entity-3' = entity_id", Found, move |p| entity(3, p)),
        case("entity_id in ('entity-3', 'entity-5')", Found, move |p| {
            entity(3, p) || entity(5, p)
        }),
        case(
            "entity_id in ('entity-1', 'entity-2', 'entity-3', 'entity-4', 'none', 'neither')",
            Found,
            move |p| (1..=4).any(|n| entity(n, p)),
        ),
        case(
            "entity_id = 'entity-1' or entity_id = 'entity-6'",
            Found,
            move |p| entity(1, p) || entity(6, p),
        ),
        case(
            "entity_id = 'entity-1' and entity_id = 'entity-6'",
            Found,
            |_| false,
        ),
        case(
            "entity_id = arrow_cast('entity-1', 'Utf8View')",
            Found,
            move |p| entity(1, p),
        ),
        case(
            "entity_id = arrow_cast('entity-1', 'LargeUtf8')",
            Found,
            move |p| entity(1, p),
        ),
        case("entity_id <> 'entity-3'", All, move |p| !entity(3, p)),
        case("entity_id not in ('entity-3', 'entity-5')", All, move |p| {
            !entity(3, p) && !entity(5, p)
        }),
        case("entity_id like 'entity-3'", Found, move |p| entity(3, p)),
        case(
            "entity_id like 'entity-%' and position > 190",
            Of(Box::new(|p| p > 190)),
            |p| p > 190,
        ),
        case("entity_id = ''", All, |_| false),
        case("event_type = 'order.paid'", Found, move |p| {
            is("order.paid", p)
        }),
        case("event_type = 'never'", Found, |_| false),
        case(
            "event_type in ('order.paid', 'case.noted')",
            Found,
            move |p| !is("order.shipped", p),
        ),
        case("event_type like 'order.%'", Found, move |p| {
            !is("case.noted", p)
        }),
        case("starts_with(event_type, 'case')", Found, move |p| {
            is("case.noted", p)
        }),
        case(
            "event_type like 'order.%' and event_type like 'order.p%'",
            Found,
            move |p| is("order.paid", p),
        ),
        case(
            "event_type like 'order.%' and event_type like 'case.%'",
            Found,
            |_| false,
        ),
        case(
            "event_type like 'order.%d'",
            Of(Box::new(move |p| !is("case.noted", p))),
            move |p| !is("case.noted", p),
        ),
        case("event_type like '%.paid'", All, move |p| {
            is("order.paid", p)
        }),
        case("event_type ilike 'ORDER.%'", All, move |p| {
            !is("case.noted", p)
        }),
        case("event_type not like 'order.%'", All, move |p| {
            is("case.noted", p)
        }),
        case(
            "event_type like 'order_paid'",
            Of(Box::new(move |p| !is("case.noted", p))),
            move |p| is("order.paid", p),
        ),
        case("array_has(tags, 'five')", Found, |p| p % 5 == 0),
        case("'five' = any(tags)", Found, |p| p % 5 == 0),
        case(
            "array_has(tags, 'five') and array_has(tags, 'ten')",
            Found,
            |p| p % 10 == 0,
        ),
        case("array_has_all(tags, ['five', 'ten'])", Found, |p| {
            p % 10 == 0
        }),
        case("array_has_any(tags, ['ten', 'none'])", Found, |p| {
            p % 10 == 0
        }),
        case(
            "array_has_any(tags, ['ten', 'none']) and array_has_any(tags, ['five'])",
            Found,
            |p| p % 10 == 0,
        ),
        case("not array_has(tags, 'five')", All, |p| p % 5 != 0),
        case(
            "array_has(tags, 'ten') or event_type = 'order.paid'",
            Found,
            move |p| p % 10 == 0 || is("order.paid", p),
        ),
        case(
            "(array_has(tags, 'five') and event_type = 'order.paid') or (array_has(tags, 'ten') and event_type in ('case.noted', 'order.paid'))",
            Found,
            move |p| {
                (p % 5 == 0 && is("order.paid", p)) || (p % 10 == 0 && !is("order.shipped", p))
            },
        ),
        case(
            "array_has(tags, 'ten') or entity_id = 'entity-1'",
            All,
            move |p| p % 10 == 0 || entity(1, p),
        ),
        case("position = 17", Found, |p| p == 17),
        case("position > 150", Found, |p| p > 150),
        case("150 < position", Found, |p| p > 150),
        case("position >= 150 and position < 155", Found, |p| {
            (150..155).contains(&p)
        }),
        case("position between 20 and 30", Found, |p| {
            (20..=30).contains(&p)
        }),
        case("position <= 3", Found, |p| p <= 3),
        case("position < 1", Found, |_| false),
        case("position > 9223372036854775807", Found, |_| false),
        case("position >= -5", Found, |_| true),
        case("position > 100 and position < 50", Found, |_| false),
        case("position > 150 + 3 * 10", Found, |p| p > 180),
        case("position > 150.5", All, |p| p > 150),
        case(
            "position % 2 = 0 and position > 190",
            Of(Box::new(|p| p > 190)),
            |p| p > 190 && p % 2 == 0,
        ),
        case(
            format!("occurred_at = '{}'", day(40)),
            Of(Box::new(|_| true)),
            |p| p == 40,
        ),
        case(format!("occurred_at > '{}'", day(160)), All, |p| {
            p > 160 && p % 4 == 0
        }),
        case(
            "occurred_at >= '2020-02-01' and occurred_at < '2020-03-01'",
            All,
            |p| (31..60).contains(&p) && p % 4 == 0,
        ),
        case("occurred_at >= '1700-01-01'", All, |p| p % 4 == 0),
        case("occurred_at < '2250-01-01'", All, |p| p % 4 == 0),
        case(
            "occurred_at is null and position < 10",
            Of(Box::new(|p| p < 10)),
            |p| p < 10 && p % 4 != 0,
        ),
        case("recorded_at > now() - interval '1 hour'", Found, |_| true),
        case("recorded_at > now()", Found, |_| false),
        case("recorded_at < '2020-01-01'", Found, |_| false),
        case(
            "recorded_at >= timestamp '2020-01-01 12:00:00'",
            Found,
            |_| true,
        ),
        case(
            "recorded_at >= to_timestamp_nanos(1577836800000000001)",
            Found,
            |_| true,
        ),
        case("version > 20", All, |p| p.div_ceil(7) > 20),
        case(
            "entity_id = 'entity-3' and event_type like 'order%' and array_has(tags, 'five') and position <= 150",
            Found,
            move |p| entity(3, p) && !is("case.noted", p) && p % 5 == 0 && p <= 150,
        ),
        case("payload ->> 'n' = '42'", All, |p| p == 42),
        case(
            "entity_id = 'entity-0' and payload ->> 'n' = '42'",
            Of(Box::new(move |p| entity(0, p))),
            |p| p == 42,
        ),
        case("1 = 2", Found, |_| false),
        case("entity_id = null", Found, |_| false),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_reads_the_rows_that_the_index_knows_a_condition_to_hold_for() {
    let (server, _, stub) = server().await;
    for Case {
        condition,
        holds,
        reads,
    } in cases()
    {
        let expected: Vec<_> = (1..=EVENTS).filter(|p| holds(*p)).collect();
        let ordered = format!("select position from events where {condition} order by position");
        let found = column(&stub, &ordered).await;
        let texts: Vec<_> = expected.iter().map(ToString::to_string).collect();
        assert_eq!(found, texts, "{condition}");
        let backward = column(&stub, &format!("{ordered} desc")).await;
        assert!(backward.iter().eq(texts.iter().rev()), "{condition}");
        let count = value(
            &stub,
            &format!("select count(*) from events where {condition}"),
        )
        .await;
        assert_eq!(count, expected.len().to_string(), "{condition}");

        let plan = analyzed(&stub, &ordered).await;
        let read = counted(&plan, "rows_read");
        let reads = match reads {
            Reads::Found => expected.len(),
            Reads::Of(holds) => (1..=EVENTS).filter(|p| holds(*p)).count(),
            Reads::All => EVENTS as usize,
        };
        assert_eq!(read, reads as u64, "{condition}: {plan}");
        let sources = counted(&plan, "rows_from_segments") + counted(&plan, "rows_from_log");
        assert_eq!(sources, read, "{plan}");
        if reads == EVENTS as usize {
            assert!(counted(&plan, "rows_from_segments") > 0, "{plan}");
            assert!(counted(&plan, "rows_from_log") > 0, "{plan}");
        }
    }
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_bounds_what_is_read_from_either_end() {
    let (server, _, stub) = server().await;
    let last = |count: u64| (EVENTS - count + 1..=EVENTS).rev();
    for (statement, expected, reads) in [
        (
            "select position from events limit 7",
            (1..=7).collect::<Vec<_>>(),
            7,
        ),
        (
            "select position from events limit 7 offset 3",
            (4..=10).collect(),
            10,
        ),
        (
            "select position from events order by position limit 7",
            (1..=7).collect(),
            7,
        ),
        (
            "select position from events order by position desc limit 7",
            last(7).collect(),
            7,
        ),
        (
            "select position from events order by recorded_at desc limit 7",
            last(7).collect(),
            7,
        ),
        (
            "select position from events order by recorded_at desc, position desc limit 7",
            last(7).collect(),
            7,
        ),
        (
            "select position from events order by position desc, entity_id limit 7",
            last(7).collect(),
            7,
        ),
        (
            "select position from events order by position desc limit 150",
            last(150).collect(),
            150,
        ),
        (
            "select position from events where entity_id = 'entity-3' order by position desc limit 2",
            vec![199, 192],
            2,
        ),
        (
            "select position from events where array_has(tags, 'ten') order by position desc limit 3",
            vec![200, 190, 180],
            3,
        ),
        (
            "select position from events where array_has(tags, 'ten') order by position limit 3",
            vec![10, 20, 30],
            3,
        ),
        (
            "select position from types.\"order.paid\" order by position desc limit 2",
            vec![198, 195],
            2,
        ),
        // What the index does not tell is looked for until it is found.
        (
            "select position from events where occurred_at > '2020-01-01' order by position desc limit 2",
            vec![200, 196],
            8,
        ),
    ] {
        let texts: Vec<_> = expected.iter().map(ToString::to_string).collect();
        assert_eq!(column(&stub, statement).await, texts, "{statement}");
        let plan = analyzed(&stub, statement).await;
        assert!(!plan.contains("SortExec"), "{plan}");
        assert!(counted(&plan, "rows_read") <= reads, "{statement}: {plan}");
    }
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_index_counts_is_not_read() {
    let (server, _, stub) = server().await;
    for (statement, expected) in [
        ("select count(*) from events", "200"),
        ("select count(1) from events", "200"),
        ("select count(entity_id) from events", "200"),
        ("select max(position) from events", "200"),
        ("select min(position) from events where position > 20", "21"),
        (
            "select count(*) from events where position between 11 and 20",
            "10",
        ),
        (
            "select count(*) from events where event_type = 'order.paid'",
            "66",
        ),
        (
            "select count(*) from events where event_type in ('order.paid', 'case.noted')",
            "133",
        ),
        (
            "select count(*) from events where entity_id = 'entity-3' and position > 100",
            "15",
        ),
        ("select count(*) from types.\"order.paid\"", "66"),
        (
            "select count(*) from events where recorded_at > '2020-01-01'",
            "200",
        ),
    ] {
        assert_eq!(value(&stub, statement).await, expected, "{statement}");
        let plan = analyzed(&stub, statement).await;
        assert!(!plan.contains("AnnalsScan"), "{plan}");
    }
    // What is seldom there is counted by reading it.
    for (statement, expected) in [
        ("select count(occurred_at) from events", "50"),
        (
            "select count(*) from events where occurred_at > '2020-01-01'",
            "50",
        ),
        (
            "select count(*) from events where array_has(tags, 'ten')",
            "20",
        ),
        (
            "select count(*) from events where array_has_any(tags, ['five', 'ten'])",
            "40",
        ),
        ("select count(distinct entity_id) from events", "7"),
        (
            "select max(position) from (select position from events order by position limit 5)",
            "5",
        ),
        (
            "select min(position) from (select position from events order by position desc limit 5)",
            "196",
        ),
        ("select count(*) from entities", "7"),
    ] {
        assert_eq!(value(&stub, statement).await, expected, "{statement}");
    }
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_events_are_read_side_by_side_and_in_order_where_that_is_asked() {
    const MANY: Position = 300_000;
    let server = TestServer::start_with(|config| {
        config.limits.seal_events = 50_000;
        config.limits.disk_reserve_bytes = 0;
    })
    .await;
    fill(&tenant(&server.server).await, MANY, 10_000, noted).await;
    let stub = stub(&server).await;

    let sum = "select sum(position), count(distinct entity_id) from events where version > 0";
    let plan = analyzed(&stub, sum).await;
    let cores = std::thread::available_parallelism().unwrap().get().min(4);
    assert!(plan.contains(&format!("partitions={cores},")), "{plan}");
    let rows = super::stubs::rows(&stub, sum).await;
    let expected = (MANY * (MANY + 1) / 2).to_string();
    assert_eq!(rows, [[expected, "7".to_owned()]]);

    for (statement, expected) in [
        ("select position from events", None),
        ("select position from events order by position", None),
        (
            "select position from events order by position desc",
            Some("backward"),
        ),
        (
            "select position, payload from events where event_type = 'order.paid'",
            None,
        ),
    ] {
        let plan = analyzed(&stub, statement).await;
        assert!(plan.contains("partitions=1,"), "{plan}");
        assert!(
            !plan.contains("Sort") && !plan.contains("Coalesce"),
            "{plan}"
        );
        assert!(
            expected.is_none_or(|expected| plan.contains(expected)),
            "{plan}"
        );
        let parts = super::stubs::ask(&stub, statement).await.unwrap();
        let positions = crate::flight::stubs::numbers(&parts, "position");
        let is_ascending = positions.is_sorted();
        let is_descending = positions.iter().rev().is_sorted();
        assert!(if expected.is_some() {
            is_descending
        } else {
            is_ascending
        });
        let paid = statement.contains("order.paid");
        let count = if paid { MANY / 3 } else { MANY };
        assert_eq!(positions.len() as u64, count);
    }
    // Larger numbers are rounded.
    let last = "select * from events order by position desc limit 900";
    let plan = analyzed(&stub, last).await;
    assert_eq!(counted(&plan, "rows_read"), 900, "{plan}");
    assert!(!plan.contains("BufferExec"), "{plan}");
    // Grouped side by side, then merged in order.
    let grouped =
        "select entity_id, count(*) from events where position % 2 = 0 group by 1 order by 1";
    let counts = super::stubs::rows(&stub, grouped).await;
    let total: u64 = counts
        .iter()
        .map(|row| row[1].parse::<u64>().unwrap())
        .sum();
    assert_eq!((counts.len(), total), (7, MANY / 2));
    server.server.shutdown().await;
}
