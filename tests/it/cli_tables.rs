//! `annals read --format`: the same events in every format, and never half a file.

use std::{
    fs::{self, File},
    io::{BufReader, Cursor},
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
    thread,
};

use arrow::{
    array::RecordBatch,
    datatypes::FieldRef,
    ipc::reader::{FileReader, StreamReader},
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::{
    cutting_proxy::CuttingProxy,
    flight::stubs::cells,
    program::{Done, PERMITS, Served, annals},
    rng::seeds,
};

const EVENTS: usize = 8577;
const COLUMNS: [&str; 11] = [
    "position",
    "entity_id",
    "version",
    "event_type",
    "event_id",
    "recorded_at",
    "occurred_at",
    "schema_id",
    "payload",
    "metadata",
    "tags",
];

fn arrow_file(path: &Path) -> Vec<RecordBatch> {
    let file = BufReader::new(File::open(path).unwrap());
    FileReader::try_new(file, None)
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap()
}

fn arrow_stream(bytes: Vec<u8>) -> Vec<RecordBatch> {
    let stream = StreamReader::try_new(Cursor::new(bytes), None).unwrap();
    stream.collect::<Result<_, _>>().unwrap()
}

fn parquet_file(path: &Path) -> Vec<RecordBatch> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    reader.build().unwrap().collect::<Result<_, _>>().unwrap()
}

/// Payloads as what they say.
fn rows(batches: &[RecordBatch]) -> Vec<Vec<Value>> {
    let said = |(field, cell): (&FieldRef, Value)| match field.name().as_str() {
        "payload" => serde_json::from_str(cell.as_str().unwrap()).unwrap(),
        _ => cell,
    };
    let of_batch = |batch: &RecordBatch| -> Vec<Vec<Value>> {
        let schema = batch.schema();
        let row = |row: Vec<Value>| schema.fields().iter().zip(row).map(said).collect();
        cells(batch).into_iter().map(row).collect()
    };
    batches.iter().flat_map(of_batch).collect()
}

/// A JSON line as the cells of a row.
fn row(line: &Value) -> Vec<Value> {
    let micros = |key: &str| {
        let time = line.get(key)?.as_str()?;
        let time: annals::Timestamp = time.parse().unwrap();
        Some(time.as_micros())
    };
    let cell = |column: &str| match column {
        "recorded_at" | "occurred_at" => json!(micros(column)),
        "metadata" => json!(line.get("metadata").map(Value::to_string)),
        "tags" => line.get("tags").cloned().unwrap_or(json!([])),
        other => line.get(other).cloned().unwrap_or(Value::Null),
    };
    COLUMNS.map(cell).to_vec()
}

/// Fields of each record, `None` where nothing stands.
fn csv(text: &str) -> Vec<Vec<Option<String>>> {
    let (mut records, mut record) = (Vec::new(), Vec::new());
    let mut rest = text;
    while !rest.is_empty() {
        let field = if let Some(quoted) = rest.strip_prefix('"') {
            let (mut field, mut from) = (String::new(), quoted);
            loop {
                let (part, behind) = from.split_once('"').unwrap();
                field += part;
                from = behind;
                match from.strip_prefix('"') {
                    Some(behind) => {
                        field.push('"');
                        from = behind;
                    }
                    None => break,
                }
            }
            rest = from;
            Some(field)
        } else {
            let end = rest.find([',', '\n']).unwrap();
            let field = Some(rest[..end].to_owned()).filter(|field| !field.is_empty());
            rest = &rest[end..];
            field
        };
        record.push(field);
        let is_end = rest.starts_with('\n');
        rest = &rest[1..];
        if is_end {
            records.push(std::mem::take(&mut record));
        }
    }
    assert!(record.is_empty(), "the last line ends");
    records
}

/// As a CSV has it.
fn field(column: &str, cell: &Value) -> Option<String> {
    match cell {
        Value::Null => None,
        Value::Number(micros) if column.ends_with("_at") => {
            let time = annals::Timestamp::from_micros(micros.as_i64().unwrap());
            Some(time.unwrap().to_string())
        }
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

fn names(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn every_format_holds_the_same_events() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start_with(
        &dir.path().join("data"),
        "127.0.0.1:0",
        &["limits.seal_events=3000"],
    );
    served.run(&["append", "--file", PERMITS]).code.unwrap();
    let extra = concat!(
        r#"{"entity_id":"x","event_type":"a, \"b\"","payload":{"n": 1},"metadata":{"k":"v"},"tags":["t","u \"v\""]}"#,
        "\n"
    );
    served
        .run_with_input(&["append"], extra.as_bytes())
        .code
        .unwrap();
    let lines = served.run(&["read"]).well().lines();
    assert_eq!(lines.len(), EVENTS + 1);
    let expected: Vec<_> = lines.iter().map(row).collect();

    let out = dir.path().join("out");
    fs::create_dir(&out).unwrap();
    let file = |name: &str| out.join(name).to_str().unwrap().to_owned();
    for format in ["arrow", "parquet", "csv", "jsonl"] {
        let path = file(format);
        let done = served.run(&["read", "--format", format, "--output", &path]);
        assert_eq!(done.well().stdout, "");
    }
    assert_eq!(names(&out), ["arrow", "csv", "jsonl", "parquet"]);
    assert_eq!(rows(&arrow_file(&out.join("arrow"))), expected);
    assert_eq!(rows(&parquet_file(&out.join("parquet"))), expected);
    let text = fs::read_to_string(out.join("csv")).unwrap();
    let records = csv(&text);
    assert_eq!(records[0], COLUMNS.map(|name| Some(name.to_owned())));
    assert_eq!(records.len(), EVENTS + 2);
    for (record, cells) in records[1..].iter().zip(&expected) {
        let payload: Value = serde_json::from_str(record[8].as_ref().unwrap()).unwrap();
        assert_eq!(payload, cells[8]);
        let fields = COLUMNS
            .iter()
            .zip(cells)
            .map(|(column, cell)| field(column, cell));
        for (at, field) in fields.enumerate().filter(|(at, _)| *at != 8) {
            assert_eq!(record[at], field);
        }
    }
    // As it was written, with its space.
    assert_eq!(records[EVENTS + 1][8].as_deref(), Some(r#"{"n": 1}"#));
    let read = served.run(&["read"]).well().stdout;
    assert_eq!(fs::read_to_string(out.join("jsonl")).unwrap(), read);

    // To standard output, some columns of some events.
    let some = [
        "read",
        "--type",
        "Confirmation of receipt",
        "--after",
        "100",
        "--limit",
        "50",
        "--columns",
        "payload,position",
    ];
    let wanted: Vec<_> = expected
        .iter()
        .filter(|row| row[3] == "Confirmation of receipt" && row[0].as_u64() > Some(100))
        .take(50)
        .map(|row| vec![row[8].clone(), row[0].clone()])
        .collect();
    assert_eq!(wanted.len(), 50);
    for format in ["arrow", "parquet", "csv"] {
        let output = served
            .command(&[&some[..], &["--format", format]].concat())
            .output()
            .unwrap();
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{output:?}"
        );
        let found = match format {
            "arrow" => rows(&arrow_stream(output.stdout)),
            "parquet" => {
                fs::write(out.join("piped"), output.stdout).unwrap();
                rows(&parquet_file(&out.join("piped")))
            }
            _ => {
                let records = csv(std::str::from_utf8(&output.stdout).unwrap());
                let number = |text: &Option<String>| text.as_ref().unwrap().parse::<u64>().unwrap();
                let payload = |text: &Option<String>| -> Value {
                    serde_json::from_str(text.as_ref().unwrap()).unwrap()
                };
                let row = |r: &Vec<_>| vec![payload(&r[0]), json!(number(&r[1]))];
                records[1..].iter().map(row).collect()
            }
        };
        assert_eq!(found, wanted, "{format}");
    }
}

#[test]
fn what_does_not_go_together_is_wrong_usage() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(&dir.path().join("data"));
    for format in ["arrow", "parquet", "csv"] {
        let done = served.run(&["read", "--format", format, "--backward"]);
        assert!(done.failure(2).contains("--backward"), "{}", done.stderr);
    }
    let done = served.run(&["read", "--columns", "position"]);
    assert!(done.failure(2).contains("--format"), "{}", done.stderr);

    // The master of a terminal is one as well.
    for format in ["arrow", "parquet"] {
        let terminal = File::options()
            .read(true)
            .write(true)
            .open("/dev/ptmx")
            .unwrap();
        let mut command = served.command(&["read", "--format", format]);
        let output = command
            .stdout(terminal)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = output.wait_with_output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains("--output"), "{told}");
    }
}

#[test]
fn a_file_appears_under_its_name_once_it_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let settings = ["limits.seal_events=3000", "limits.keep_bytes=0"];
    let served = Served::start_with(&data, "127.0.0.1:0", &settings);
    served.run(&["append", "--file", PERMITS]).code.unwrap();
    let out = dir.path().join("out");
    fs::create_dir(&out).unwrap();
    let path = out.join("events");
    let name = path.to_str().unwrap();
    fs::write(&path, "what was there").unwrap();

    let done = served.run(&[
        "read",
        "--format",
        "csv",
        "--output",
        name,
        "--columns",
        "nothing",
    ]);
    assert!(done.failure(1).contains("entity_id"), "{}", done.stderr);
    let missing = out.join("missing/events");
    let done = served.run(&[
        "read",
        "--format",
        "csv",
        "--output",
        missing.to_str().unwrap(),
    ]);
    assert!(done.failure(1).contains("cannot write"), "{}", done.stderr);
    let done = served.run(&["read", "--format", "parquet", "--output", "/dev/full"]);
    assert!(done.failure(1).contains("/dev/full"), "{}", done.stderr);
    assert!(Path::new("/dev/full").exists());

    // The second segment is damaged while nobody looks: what comes before it is written.
    let segments = data.join("tenants/default/segments");
    let sealed = || served.run(&["stats", "--json"]).json()["tenants"][0]["sealed"].as_u64();
    while sealed() < Some(6_000) {}
    drop(served);
    let damaged = segments.join(&names(&segments)[1]);
    let mut bytes = fs::read(&damaged).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 64].fill(0xa5);
    fs::write(&damaged, bytes).unwrap();
    let served = Served::start_with(&data, "127.0.0.1:0", &settings);
    for format in ["arrow", "parquet", "csv"] {
        let done = served.run(&["read", "--format", format, "--output", name]);
        assert!(done.failure(1).contains("damaged"), "{}", done.stderr);
        assert_eq!(names(&out), ["events"], "{format}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "what was there");
    }
    let whole = served.run(&[
        "read",
        "--format",
        "csv",
        "--output",
        name,
        "--through",
        "2000",
    ]);
    whole.well();
    assert_eq!(csv(&fs::read_to_string(&path).unwrap()).len(), 2001);
}

/// The program, while the runtime goes on.
async fn done(mut command: Command) -> Done {
    let output = tokio::task::spawn_blocking(move || command.output());
    output.await.unwrap().unwrap().into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_cut_costs_no_row() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let served = Served::start_with(&data, "127.0.0.1:0", &["limits.seal_events=3000"]);
    served.run(&["append", "--file", PERMITS]).code.unwrap();
    let out = dir.path().join("out");
    fs::create_dir(&out).unwrap();
    let read = |format: &str, name: &str, url: &str| {
        let mut command = annals();
        let args = ["read", "--format", format, "--url", url, "--output"];
        command.args(args).arg(out.join(name));
        command
    };
    let mut cuts = 0;
    for seed in seeds(1) {
        for format in ["arrow", "parquet", "csv"] {
            done(read(format, "whole", &served.url)).await.well();
            let address = served.address().parse().unwrap();
            let proxy = CuttingProxy::start(address, seed, 100_000..3_000_000).await;
            let told = done(read(format, "cut", &proxy.url)).await;
            assert_eq!(told.code, Some(0), "{}", told.stderr);
            cuts += proxy.cuts();
            assert_eq!(names(&out), ["cut", "whole"]);
            let [whole, cut] = ["whole", "cut"].map(|name| match format {
                "arrow" => rows(&arrow_file(&out.join(name))),
                "parquet" => rows(&parquet_file(&out.join(name))),
                _ => vec![vec![json!(fs::read_to_string(out.join(name)).unwrap())]],
            });
            assert!(cut == whole, "{format}: {} rows", cut.len());
        }
    }
    assert!(cuts > 0);
}

#[test]
fn a_file_that_is_given_up_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    // It takes connections and never says anything.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let path = dir.path().join("events");
    for (format, signal, name) in [
        ("parquet", Signal::INT, "SIGINT"),
        ("csv", Signal::TERM, "SIGTERM"),
    ] {
        let mut command = annals();
        command.args(["read", "--format", format, "--url", &url, "--output"]);
        command
            .arg(&path)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let reading = command.spawn().unwrap();
        while names(dir.path()).is_empty() {
            thread::yield_now();
        }
        kill_process(Pid::from_child(&reading), signal).unwrap();
        let done = Done::from(reading.wait_with_output().unwrap());
        assert!(done.failure(1).contains(name), "{}", done.stderr);
        assert!(names(dir.path()).is_empty());
    }
}
