//! The command line on real events: what it prints, how it ends, and that `--resume` never doubles anything.

use std::{
    io::{BufRead, BufReader, Read, Write},
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use flate2::read::MultiGzDecoder;
use serde_json::{Value, json};

use crate::program::{PERMITS, Served, annals};

const EVENTS: u64 = 8577;

fn permits() -> String {
    let mut text = String::new();
    let file = std::fs::File::open(PERMITS).unwrap();
    MultiGzDecoder::new(file).read_to_string(&mut text).unwrap();
    text
}

fn line(n: u64) -> String {
    format!("{{\"entity_id\":\"e-{n}\",\"event_type\":\"t\",\"payload\":{{\"n\":{n}}}}}\n")
}

fn write(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn the_permit_log_is_appended_read_and_summed_up() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(&dir.path().join("data"));
    let summary = served.run(&["append", "--file", PERMITS, "--json"]).json();
    assert_eq!(summary["appended"], EVENTS);
    assert_eq!(summary["last_position"], EVENTS);

    let read = served.run(&["read"]).well().lines();
    let input: Vec<Value> = permits()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(read.len(), input.len());
    for (position, (event, input)) in (1..).zip(read.iter().zip(&input)) {
        assert_eq!(event["position"], position);
        for key in ["entity_id", "event_type", "occurred_at", "payload"] {
            assert_eq!(event[key], input[key], "{key} at position {position}");
        }
    }

    let of_case: Vec<_> = read
        .iter()
        .filter(|event| event["entity_id"] == "case-891")
        .collect();
    let case = served.run(&["read", "--entity", "case-891"]).well().lines();
    assert_eq!(case.iter().collect::<Vec<_>>(), of_case);
    let versions: Vec<_> = case
        .iter()
        .map(|event| event["version"].as_u64().unwrap())
        .collect();
    assert_eq!(versions, (1..=case.len() as u64).collect::<Vec<_>>());

    let of_type = served.run(&[
        "read",
        "--type",
        "Confirmation of receipt",
        "--backward",
        "--limit",
        "3",
    ]);
    let expected: Vec<_> = read
        .iter()
        .rev()
        .filter(|e| e["event_type"] == "Confirmation of receipt")
        .take(3)
        .collect();
    assert_eq!(of_type.well().lines().iter().collect::<Vec<_>>(), expected);

    let as_of = served
        .run(&["read", "--as-of", "1200", "--after", "1190"])
        .well()
        .lines();
    assert_eq!(as_of.len(), 10);
    let in_time = served.run(&[
        "read",
        "--occurred-since",
        "2011-01-01T00:00:00Z",
        "--occurred-until",
        "2011-02-01T00:00:00Z",
    ]);
    let january = input
        .iter()
        .filter(|e| e["occurred_at"].as_str().unwrap().starts_with("2011-01-"));
    assert_eq!(in_time.well().lines().len(), january.count());

    let first = &of_case[0]["payload"];
    let state = served.run(&["state", "case-891", "--as-of", "v1"]).json();
    assert_eq!(&state, first);
    let state = served.run(&["state", "case-891", "--json"]).json();
    assert_eq!(state["version"], case.len());
    assert_eq!(
        state["state"]["task"],
        case.last().unwrap()["payload"]["task"]
    );

    let report = served.run(&["stats", "--json"]).json();
    let tenant = &report["tenants"][0];
    assert_eq!(
        (&tenant["head"], &tenant["entities"]),
        (&json!(EVENTS), &json!(1434))
    );
    let per_partition = tenant["events_per_partition"].as_array().unwrap();
    assert_eq!(
        per_partition
            .iter()
            .map(|n| n.as_u64().unwrap())
            .sum::<u64>(),
        EVENTS
    );
    assert!(served.run(&["stats"]).well().stdout.contains("8,577"));
}

#[test]
fn stats_tell_how_far_events_are_sealed() {
    let dir = tempfile::tempdir().unwrap();
    let settings = ["limits.seal_events=1000", "compact.fan_in=64"];
    let served = Served::start_with(&dir.path().join("data"), "127.0.0.1:0", &settings);
    let sealed = || {
        let stats = served.run(&["stats", "--json"]).json();
        let tenant = &stats["tenants"][0];
        [&tenant["sealed"], &tenant["segments"]].map(|n| n.as_u64().unwrap())
    };
    served
        .run_with_input(&["append"], line(1).as_bytes())
        .well();
    assert_eq!(sealed(), [0, 0]);
    let stats = served.run(&["stats"]).well().stdout;
    assert!(
        stats.contains("  sealed         0 in 0 segments, 1 not sealed\n"),
        "{stats}"
    );

    // With the one before, a batch of 999 is a whole segment.
    let append = ["append", "--file", PERMITS, "--batch", "999"];
    served.run(&append).well();
    let began = Instant::now();
    while sealed() != [7993, 8] {
        let waited = began.elapsed();
        assert!(waited < Duration::from_mins(1), "{:?}", sealed());
    }
    let stats = served.run(&["stats"]).well().stdout;
    assert!(
        stats.contains("  sealed         7,993 in 8 segments, 585 not sealed\n"),
        "{stats}"
    );
}

#[test]
fn resume_adds_nothing_that_is_there_whatever_the_batch_size() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(&dir.path().join("data"));
    let text = permits();
    // As after a run that was stopped in the middle of a batch of the next one.
    let cut: String = text.split_inclusive('\n').take(3333).collect();
    let part = write(dir.path(), "part.jsonl", &cut);
    let run = |file: &str, batch: &str| {
        served
            .run(&[
                "append", "--file", file, "--resume", "--batch", batch, "--json",
            ])
            .json()
    };
    assert_eq!(run(&part, "250")["appended"], 3333);
    let rest = run(PERMITS, "1000");
    assert_eq!(
        (&rest["appended"], &rest["already_there"]),
        (&json!(EVENTS - 3333), &json!(3333))
    );
    for batch in ["1000", "77", "5000"] {
        let again = run(PERMITS, batch);
        assert_eq!(
            (&again["appended"], &again["already_there"]),
            (&json!(0), &json!(EVENTS)),
            "{batch}"
        );
    }
    let read = served.run(&["read"]).well();
    let ids: Vec<_> = read
        .lines()
        .iter()
        .map(|event| event["payload"].clone())
        .collect();
    let input: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["payload"].clone())
        .collect();
    assert_eq!(ids, input);
}

#[test]
fn resume_splits_batches_that_others_came_between() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(&dir.path().join("data"));
    let text: String = (0..100).map(line).collect();
    for lines in [10, 25, 60] {
        let part: String = text.split_inclusive('\n').take(lines).collect();
        served
            .run_with_input(&["append", "--resume"], part.as_bytes())
            .well();
        served
            .run_with_input(&["append"], line(1000).as_bytes())
            .well();
    }
    let done = served
        .run_with_input(&["append", "--resume", "--json"], text.as_bytes())
        .json();
    assert_eq!(
        (&done["appended"], &done["already_there"]),
        (&json!(40), &json!(60))
    );
    let read = served.run(&["read", "--type", "t"]).well().lines();
    let of_file: Vec<_> = read
        .iter()
        .map(|e| e["payload"]["n"].as_u64().unwrap())
        .filter(|&n| n < 1000)
        .collect();
    assert_eq!(of_file, (0..100).collect::<Vec<_>>());
}

#[test]
fn a_bad_line_is_named_and_what_stands_before_it_is_appended() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(&dir.path().join("data"));
    let text = format!(
        "{}{}{{\"entity_id\":\"e\",\"event_type\":\"t\",\"data\":1}}\n{}",
        line(1),
        line(2),
        line(3)
    );
    let file = write(dir.path(), "events.jsonl", &text);
    let done = served.run(&["append", "--file", &file]);
    let why = done.failure(1);
    assert!(
        why.contains("events.jsonl:3: unknown field `data`, expected one of `entity_id`"),
        "{why}"
    );
    assert!(
        why.contains("lines 1-2 are in the log") && why.contains("tail -n +3"),
        "{why}"
    );
    assert_eq!(served.head(), 2);

    // Mended and run again with --resume, in a log of its own.
    let resume = ["append", "--resume", "--tenant", "default", "--file", &file];
    let why = served.run(&resume);
    assert!(
        why.failure(1)
            .ends_with("mend the line, then run the same command again")
    );
    let mended = write(dir.path(), "events.jsonl", &text.replace("data", "payload"));
    let summary = served
        .run(&["append", "--resume", "--json", "--file", &mended])
        .json();
    assert_eq!(
        (&summary["appended"], &summary["already_there"]),
        (&json!(2), &json!(2))
    );
}

#[test]
fn what_only_the_server_refuses_is_told_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(&dir.path().join("data"));
    let bad = r#"{"entity_id":"e","event_type":"t","payload":1,"metadata":{"annals.x":1}}"#;
    let text = format!("{}\n{}{bad}\n{}", line(1), line(2), line(3));
    let done = served.run_with_input(&["append"], text.as_bytes());
    let why = done.failure(1);
    assert!(
        why.starts_with("annals: stdin:4: ") && why.contains("annals."),
        "{why}"
    );
    assert!(why.contains("nothing was appended"), "{why}");
    assert_eq!(served.head(), 0);
}

#[test]
fn an_append_goes_on_after_its_server_was_killed_and_started_again() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let served = Served::start(&data);
    let address = served.address().to_owned();
    let mut appending = served
        .command(&["append", "--batch", "10", "--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = appending.stdin.take().unwrap();
    // The reader of the other side hands on whole batches only as they fill, so a multiple of one.
    let mut send = |lines: std::ops::Range<u64>| {
        for n in lines {
            stdin.write_all(line(n).as_bytes()).unwrap();
        }
        stdin.flush().unwrap();
    };
    send(0..1000);
    wait_until(|| served.head() >= 500);
    served.kill();
    send(1000..2000);
    let served = Served::start_at(&data, &address);
    send(2000..3000);
    drop(stdin);
    let output = appending.wait_with_output().unwrap();
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    let stored = summary["appended"].as_u64().unwrap() + summary["already_there"].as_u64().unwrap();
    assert_eq!((stored, served.head()), (3000, 3000));
    let read = served.run(&["read"]).well().lines();
    let numbers: Vec<_> = read
        .iter()
        .map(|event| event["payload"]["n"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, (0..3000).collect::<Vec<_>>());
}

#[test]
fn follow_prints_what_comes_and_goes_on_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let served = Served::start(&data);
    let address = served.address().to_owned();
    served
        .run_with_input(&["append"], line(1).as_bytes())
        .well();
    let mut following = served
        .command(&["follow"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
    let mut next = || {
        let event: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        event["payload"]["n"].as_u64().unwrap()
    };
    assert_eq!(next(), 1);
    served
        .run_with_input(&["append"], line(2).as_bytes())
        .well();
    assert_eq!(next(), 2);
    served.kill();
    let served = Served::start_at(&data, &address);
    served
        .run_with_input(&["append"], line(3).as_bytes())
        .well();
    assert_eq!(next(), 3);
    following.kill().unwrap();
    following.wait().unwrap();
}

pub(crate) fn wait_until(holds: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < until, "it never came to hold");
    }
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(&dir.path().join("data"));
    served.run(&["append", "--file", PERMITS]).well();
    let mut reading = served
        .command(&["read"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(reading.stdout.take().unwrap()).lines();
    assert!(
        lines
            .next()
            .unwrap()
            .unwrap()
            .starts_with("{\"position\":1,")
    );
    drop(lines);
    let output = reading.wait_with_output().unwrap();
    assert_eq!(
        (output.status.code(), output.stderr.as_slice()),
        (Some(0), b"".as_slice())
    );
}

#[test]
fn plain_and_packed_input_are_told_apart_by_their_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(&dir.path().join("data"));
    let plain = write(dir.path(), "plain.gz", &line(1));
    served.run(&["append", "--file", &plain]).well();
    let packed = std::fs::read(PERMITS).unwrap();
    served
        .run_with_input(&["append", "--file", "-"], &packed)
        .well();
    assert_eq!(served.head(), 1 + EVENTS);
    let cut = served.run_with_input(&["append"], &packed[..packed.len() / 2]);
    assert!(cut.stderr.contains("cannot be read"), "{}", cut.stderr);
    assert_eq!(cut.code, Some(1));
}

#[test]
fn failures_end_with_1_and_wrong_usage_with_2() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(&dir.path().join("data"));
    for (args, expected) in [
        (&["state", "nobody"][..], "entity `nobody` has no event"),
        (&["read", "--as-of", "7"], "beyond the head"),
        (&["read", "--tenant", "elsewhere"], "elsewhere"),
        (
            &["append", "--file", "no such file"],
            "cannot read no such file",
        ),
        (
            &["read", "--url", "http://127.0.0.1:1"],
            "no server at http://127.0.0.1:1: start one with `annals serve --data DIR`",
        ),
        (
            &["read", "--url", "localhost:4747"],
            "it is written like http://127.0.0.1:4747",
        ),
    ] {
        let done = served.run(args);
        let why = done.failure(1);
        assert!(why.contains(expected), "{args:?}: {why}");
    }
    for args in [
        &["read", "--bogus"][..],
        &["read", "--as-of", "yesterday"],
        &["read", "--since", "2026"],
        &["read", "--limit", "0"],
        &["read", "--tenant", "A b"],
        &["follow", "--from-head", "--after", "1"],
        &["state"],
        &["nonsense"],
        &[],
    ] {
        let done = served.run(args);
        assert_eq!(
            (done.code, done.stdout.as_str()),
            (Some(2), ""),
            "{args:?}: {}",
            done.stderr
        );
    }
}

#[test]
fn help_and_completions_are_there_without_a_server() {
    for args in [
        &["--help"][..],
        &["--version"],
        &["append", "--help"],
        &["bench", "--help"],
        &["compact", "--help"],
        &["completions", "bash"],
        &["completions", "zsh"],
        &["completions", "fish"],
    ] {
        let output = annals().args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(!output.stdout.is_empty(), "{args:?}");
    }
}

fn rate<'a>(report: &'a Value, path: &str) -> &'a Value {
    report
        .pointer(path)
        .unwrap_or_else(|| panic!("no {path} in {report}"))
}

/// Runs a small benchmark until all rates are above 0: on a machine that is busy with other tests, nothing may end within
/// a second.
fn assert_measures(served: &Served, args: &str, rates: &[&str]) {
    const SMALL: &str = "bench --json --warm-up-seconds 0 --batch 10 --writers 2 --entities 20 --prepare 2000 --rate 500";
    for seconds in ["1", "4", "16"] {
        let args: Vec<_> = SMALL
            .split(' ')
            .chain(args.split(' '))
            .chain(["--seconds", seconds])
            .collect();
        let report = served.run(&args).json();
        if rates
            .iter()
            .all(|path| rate(&report, path).as_f64().unwrap_or_default() > 0.0)
        {
            return;
        }
    }
    panic!("{args} measured nothing");
}

#[test]
fn every_work_of_the_benchmark_measures_something() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(&dir.path().join("data"));
    for work in ["append", "stream-append", "read-all", "read-entity"] {
        assert_measures(
            &served,
            &format!("--no-floors --work {work}"),
            &["/events_per_second"],
        );
    }
    assert_measures(
        &served,
        "--no-floors --work subscribe",
        &["/events_per_second", "/live/events_per_second"],
    );
    assert_measures(
        &served,
        "--no-floors --work no-match",
        &[
            "/events_per_second",
            "/unguarded/events_per_second",
            "/guarded_to_unguarded_p50",
        ],
    );
    assert_measures(
        &served,
        &format!(
            "--idle-subscribers 150 --floor-dir {}",
            dir.path().display()
        ),
        &[
            "/floors/fdatasync/syncs_per_second",
            "/floors/empty_call/calls_per_second",
            "/idle_subscribers/with_them/events_per_second",
        ],
    );
}
