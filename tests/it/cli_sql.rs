//! `annals sql` and `annals frequency`: the real program against a real server, its output as people and programs see it.

mod prompt;
mod terminal;

use std::{
    fs::{self, File},
    path::Path,
};

use arrow::{array::RecordBatch, ipc::reader::FileReader};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};

use crate::{
    flight::stubs::cells,
    program::{Done, Served},
};

const EVENTS: &str = concat!(
    r#"{"entity_id":"a","event_type":"order.placed","payload":{"n":1},"occurred_at":"2026-01-01T10:00:00Z","tags":["x"]}"#,
    "\n",
    r#"{"entity_id":"b","event_type":"order.placed","payload":{"n":-2.5},"occurred_at":"2026-01-01T10:30:00Z"}"#,
    "\n",
    r#"{"entity_id":"注文","event_type":"order.paid","payload":{"text":"one\ntwo \u001b[31m"},"occurred_at":"2026-01-01T13:10:00Z"}"#,
    "\n",
);

/// A server with the three events.
pub(crate) fn served(dir: &Path) -> Served {
    let served = Served::start(&dir.join("data"));
    let done = served.run_with_input(&["append"], EVENTS.as_bytes());
    done.well();
    served
}

fn refused(done: &Done, code: i32) -> &str {
    assert_eq!(done.code, Some(code), "{done:?}");
    done.stderr.trim_end()
}

#[test]
fn every_format_holds_the_same_rows() {
    let dir = tempfile::tempdir().unwrap();
    let served = served(dir.path());
    let statement =
        "select position, entity_id, tags, payload ->> 'n' as n, occurred_at, position > 1 as late
        from events order by position desc";
    let run = |format: &str| {
        let done = served.run(&["sql", statement, "--format", format]);
        done.well().stdout
    };
    assert_eq!(
        run("table"),
        "\
position  entity_id  tags   n     occurred_at                  late
────────  ─────────  ─────  ────  ───────────────────────────  ─────
       3  注文       []     NULL  2026-01-01T13:10:00.000000Z  true
       2  b          []     -2.5  2026-01-01T10:30:00.000000Z  true
       1  a          [\"x\"]  1     2026-01-01T10:00:00.000000Z  false
"
    );
    assert_eq!(
        run("csv"),
        "\
position,entity_id,tags,n,occurred_at,late
3,注文,[],,2026-01-01T13:10:00.000000Z,true
2,b,[],-2.5,2026-01-01T10:30:00.000000Z,true
1,a,\"[\"\"x\"\"]\",1,2026-01-01T10:00:00.000000Z,false
"
    );
    let lines: Vec<Value> = run("jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        lines[0],
        json!({"position": 3, "entity_id": "注文", "tags": [], "n": null,
            "occurred_at": "2026-01-01T13:10:00.000000Z", "late": true})
    );
    assert_eq!((lines.len(), &lines[2]["tags"]), (3, &json!(["x"])));

    let of_columns =
        "select position, entity_id, tags, payload ->> 'n' as n from events order by position";
    let file = |format: &str| {
        let path = dir.path().join(format);
        let output = path.to_str().unwrap();
        let args = ["sql", of_columns, "--format", format, "--output", output];
        assert_eq!(served.run(&args).well().stdout, "");
        path
    };
    let expected = [
        vec![json!(1), json!("a"), json!(["x"]), json!("1")],
        vec![json!(2), json!("b"), json!([]), json!("-2.5")],
        vec![json!(3), json!("注文"), json!([]), Value::Null],
    ];
    let rows = |batches: Vec<RecordBatch>| batches.iter().flat_map(cells).collect::<Vec<_>>();
    let arrow = FileReader::try_new(File::open(file("arrow")).unwrap(), None).unwrap();
    assert_eq!(rows(arrow.map(Result::unwrap).collect()), expected);
    let parquet = ParquetRecordBatchReaderBuilder::try_new(File::open(file("parquet")).unwrap());
    let parquet = parquet.unwrap().build().unwrap();
    assert_eq!(rows(parquet.map(Result::unwrap).collect()), expected);
}

#[test]
fn what_a_terminal_would_obey_is_shown_and_not_sent() {
    let dir = tempfile::tempdir().unwrap();
    let served = served(dir.path());
    let done = served.run(&[
        "sql",
        "select payload ->> 'text' as text from events where position = 3",
    ]);
    assert_eq!(
        done.well().stdout,
        "text\n───────────────────\none\\ntwo \\u{1b}[31m\n"
    );
}

#[test]
fn a_result_without_rows_has_its_columns() {
    let dir = tempfile::tempdir().unwrap();
    let served = served(dir.path());
    let none = "select position, payload from events where position > 3";
    let run = |format: &str| {
        served
            .run(&["sql", none, "--format", format])
            .well()
            .stdout
            .clone()
    };
    assert_eq!(run("table"), "position  payload\n────────  ───────\n");
    assert_eq!(run("csv"), "position,payload\n");
    assert_eq!(run("jsonl"), "");
}

#[test]
fn the_past_is_queried_by_position_and_by_time() {
    let dir = tempfile::tempdir().unwrap();
    let served = served(dir.path());
    let count = |as_of: &str| {
        let args = [
            "sql",
            "select count(*) as n from events",
            "--format",
            "csv",
            "--as-of",
            as_of,
        ];
        served.run(&args).well().stdout
    };
    assert_eq!(count("2"), "n\n2\n");
    assert_eq!(count("2020-01-01T00:00:00Z"), "n\n0\n");
    let done = served.run(&["sql", "select 1", "--as-of", "v3"]);
    assert!(refused(&done, 2).contains("versions are those of one entity"));
    let done = served.run(&["sql", "select 1 from events", "--as-of", "9"]);
    assert!(refused(&done, 1).contains("beyond the head 3"), "{done:?}");
}

#[test]
fn statements_on_standard_input_run_one_by_one_up_to_the_first_that_fails() {
    let dir = tempfile::tempdir().unwrap();
    let served = served(dir.path());
    let input = "-- a report; of two\nselect 1 as \"a;b\";\n\nselect 2 as two;";
    let done = served.run_with_input(&["sql"], input.as_bytes());
    assert_eq!(done.well().stdout, "a;b\n───\n  1\n\ntwo\n───\n  2\n");
    let input = b"select 1 as one; selec 2; select 3 as three;";
    let done = served.run_with_input(&["sql", "--format", "csv"], input);
    assert_eq!((done.code, done.stdout.as_str()), (Some(1), "one\n1\n"));

    let path = dir.path().join("out");
    let args = ["sql", "--output", path.to_str().unwrap()];
    let done = served.run_with_input(&args, b"select 1; select 2");
    assert!(refused(&done, 2).contains("2 statements, and one table"));
    let done = served.run_with_input(&["sql"], b" ; -- nothing");
    assert!(refused(&done, 2).contains("there is no statement"));
    assert!(!path.exists());
}

#[test]
fn a_mistake_is_one_line_that_says_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let served = served(dir.path());
    for (statement, says) in [
        ("select\n  nope from events", "line 2, column 3"),
        ("selec 1", "line 1, column 1"),
        (
            "select * from orders",
            "there is no table `orders`: there are events and entities",
        ),
        ("delete from events", "SQL only reads here"),
        ("select 1 / 0", "ivide by zero"),
    ] {
        let done = served.run(&["sql", statement]);
        let told = refused(&done, 1);
        assert!(told.contains(says), "{statement}: {told}");
        assert_eq!(
            (told.lines().count(), done.stdout.as_str()),
            (1, ""),
            "{told}"
        );
    }
}

#[test]
fn half_a_file_never_gets_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let served = served(dir.path());
    let out = dir.path().join("out");
    fs::create_dir(&out).unwrap();
    let path = out.join("rows.parquet");
    let statement = "select 1 / (position - 2) from events";
    let path = path.to_str().unwrap();
    let done = served.run(&["sql", statement, "--format", "parquet", "--output", path]);
    refused(&done, 1);
    assert_eq!(fs::read_dir(&out).unwrap().count(), 0);
}

#[test]
fn a_plot_is_of_names_and_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let served = served(dir.path());
    let statement =
        "select * from (values ('up', 2.0), ('注文', -1.0), (null, null)) as t(name, n)";
    let shown = served.run(&["sql", statement, "--plot"]).well().stdout;
    let lines: Vec<_> = shown.lines().collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(
        lines[0].starts_with("up     2.0  ") && lines[0].ends_with('█'),
        "{lines:?}"
    );
    assert!(lines[1].starts_with("注文  -1.0  ▐█"), "{lines:?}");
    assert_eq!(lines[2], "NULL  NULL");
    let done = served.run(&["sql", "select 'a', 'b'", "--plot"]);
    assert!(refused(&done, 2).contains("one column of numbers beside one of names"));
}

#[test]
fn frequencies_are_drawn_and_written() {
    let dir = tempfile::tempdir().unwrap();
    let served = served(dir.path());
    let run = |args: &[&str]| {
        let args = [&["frequency", "--occurred", "--bucket", "1h"], args].concat();
        served.run(&args).well().stdout
    };
    let bar = "█".repeat(59);
    assert_eq!(
        run(&[]),
        format!(
            "2026-01-01 10:00  2  {bar}\n2026-01-01 11:00  0\n2026-01-01 12:00  0\n2026-01-01 13:00  1  {}▌\n",
            "█".repeat(29)
        )
    );
    assert_eq!(
        run(&["--by", "type"]),
        "\
order.placed  2  █
order.paid    1     ▄
                 2026-01-01 10:00 to 2026-01-01 13:00, 4 buckets
"
    );
    assert_eq!(
        run(&["--by", "type", "--type", "order.paid", "--format", "csv"]),
        "bucket,event_type,events\n2026-01-01T13:00:00.000000Z,order.paid,1\n"
    );
    // Of three hours, 40 buckets at most: of five minutes.
    let done = served.run(&["frequency", "--occurred", "--format", "jsonl"]);
    let lines = done.well().lines();
    assert_eq!(
        lines[0],
        json!({"bucket": "2026-01-01T10:00:00.000000Z", "events": 1})
    );
    assert_eq!(lines.len(), 39);

    let done = served.run(&["frequency", "--type", "nothing"]);
    assert_eq!(
        (done.code, done.stdout.as_str(), done.stderr.as_str()),
        (Some(0), "", "no events\n")
    );
    let done = served.run(&["frequency", "--bucket", "1us", "--occurred"]);
    assert!(refused(&done, 1).contains("the most is 10000"), "{done:?}");
    let done = served.run(&["frequency", "--bucket", "1 hour"]);
    assert!(refused(&done, 2).contains("250ms, 30s, 15m"), "{done:?}");
}
