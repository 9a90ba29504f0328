//! `annals verify`: through a server, of a directory, and with repairs.

use std::path::{Path, PathBuf};

use crate::program::{PERMITS, Served, annals};

/// The first file of a folder of the tenant.
fn first_file(data: &Path, folder: &str) -> PathBuf {
    let dir = data.join("tenants/default").join(folder);
    let files = std::fs::read_dir(&dir).unwrap();
    files.map(|entry| entry.unwrap().path()).min().unwrap()
}

fn flip_middle(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

/// Exit code, stdout, stderr.
fn verify(args: &[&str], data: &Path) -> (Option<i32>, String, String) {
    let mut command = annals();
    command.arg("verify").args(args).arg("--data").arg(data);
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

fn assert_well(args: &[&str], data: &Path) {
    let (code, stdout, stderr) = verify(args, data);
    assert_eq!((code, stdout.as_str()), (Some(0), ""), "{stderr}");
    assert!(stderr.contains("all is well: 8,577 events"), "{stderr}");
}

#[test]
fn a_directory_is_verified_through_its_server_then_damaged_and_repaired() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let settings = ["limits.seal_events=1000"];
    let served = Served::start_with(&data, "127.0.0.1:0", &settings);
    served.run(&["append", "--file", PERMITS]).well();
    crate::cli::wait_until(|| {
        let stats = served.run(&["stats", "--json"]).json();
        stats["tenants"][0]["sealed"].as_u64().unwrap() >= 7000
    });
    let done = served.run(&["verify"]);
    assert_eq!((done.code, done.stdout.as_str()), (Some(0), ""));
    let stderr = &done.stderr;
    assert!(stderr.contains("all is well: 8,577 events"), "{stderr}");
    let (code, stdout, stderr) = verify(&[], &data);
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!(stderr.contains("annals verify --url URL"), "{stderr}");
    let (code, _, stderr) = verify(&["--repair"], &data);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("stop it first"), "{stderr}");
    let refused = served.run(&["verify", "--repair"]);
    let why = refused.failure(2);
    assert!(why.contains("annals verify --data DIR --repair"), "{why}");

    let segment = first_file(&data, "segments");
    let relative = segment.strip_prefix(&data).unwrap();
    flip_middle(&segment);
    let done = served.run(&["verify"]);
    let why = &done.stderr;
    assert_eq!((done.code, done.stdout.lines().count()), (Some(1), 1));
    assert!(why.contains("1 fault"), "{why}");
    assert!(why.contains("--repair"), "{why}");
    assert!(
        done.stdout.starts_with(relative.to_str().unwrap()),
        "{}",
        done.stdout
    );
    served.kill();

    let (code, stdout, _) = verify(&["--json"], &data);
    assert_eq!(code, Some(1));
    let fault: serde_json::Value = serde_json::from_str(stdout.trim()).unwrap();
    assert_eq!(fault["path"], segment.to_str().unwrap());
    std::fs::remove_file(first_file(&data, "index")).unwrap();
    let (code, stdout, stderr) = verify(&["--repair"], &data);
    assert_eq!(code, Some(0), "{stderr}");
    let repairs = stdout.lines().filter(|line| line.starts_with("repaired: "));
    assert_eq!((repairs.count(), stdout.lines().count()), (2, 4));
    assert!(stderr.contains("2 found, 2 repaired, 0 lost"), "{stderr}");
    assert_well(&[], &data);
    assert_well(&["--repair", "--json"], &data);
    assert!(first_file(&data, "damaged").exists());

    // The same without log files: nothing holds the events of the segment any more.
    let logs = std::fs::read_dir(data.join("tenants/default/log")).unwrap();
    let mut logs: Vec<_> = logs.map(|entry| entry.unwrap().path()).collect();
    logs.retain(|path| path.extension() == Some("log".as_ref()));
    logs.sort();
    let served = Served::start_with(&data, "127.0.0.1:0", &settings);
    let read = served.run(&["read", "--limit", "1"]).well().lines();
    assert_eq!(read[0]["position"], 1);
    served.kill();
    for path in &logs[..logs.len() - 1] {
        std::fs::remove_file(path).unwrap();
    }
    flip_middle(&segment);
    let (code, stdout, stderr) = verify(&["--repair"], &data);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stdout.contains("\nlost: "), "{stdout}");
    assert!(stdout.contains("backup"), "{stdout}");
}
