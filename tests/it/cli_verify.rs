//! `annals verify`: through a server, of a directory, and with repairs.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    fixtures::folder,
    program::{PERMITS, Served, annals},
};

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

/// The server said `listing …/log: No such file or directory`, and not what to do.
#[test]
fn a_log_folder_that_is_gone_is_told_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let data = golden(dir.path());
    let log = data.join("tenants/default/log");
    std::fs::remove_dir_all(&log).unwrap();
    let output = annals()
        .args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(&data)
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("annals verify --data DIR"), "{stderr}");
    let (code, stdout, _) = verify(&[], &data);
    assert_eq!(code, Some(1));
    let fault = format!("{}: the newest log file", log.display());
    assert!(stdout.starts_with(&fault), "{stdout}");
}

/// A copy of the golden folder: three tenants.
fn golden(dir: &Path) -> PathBuf {
    let data = dir.join("data");
    folder::copy(&folder::golden(), &data);
    data
}

#[test]
fn one_tenant_of_a_directory_is_verified_and_an_unknown_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let data = golden(dir.path());
    let (code, _, stderr) = verify(&[], &data);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.contains("3 tenants"), "{stderr}");
    std::fs::write(data.join("tenants/third_3/manifest"), "nonsense").unwrap();
    for (tenant, code, faults) in [
        ("default", 0, "all is well"),
        ("third_3", 1, "1 fault: "),
        ("nope", 1, "there is no tenant `nope`"),
    ] {
        for repair in [&["--tenant", tenant][..], &["--tenant", tenant, "--repair"]] {
            if tenant == "third_3" && repair.len() > 2 {
                continue;
            }
            let (ended, _, stderr) = verify(repair, &data);
            assert_eq!(ended, Some(code), "{tenant}: {stderr}");
            assert!(stderr.contains(faults), "{tenant}: {stderr}");
        }
    }
    let (_, _, stderr) = verify(&["--tenant", "third_3"], &data);
    let advice = format!("`annals verify --data {} --repair`", data.display());
    assert!(stderr.contains(&advice), "{stderr}");
    let (code, _, stderr) = verify(&["--repair"], &data);
    assert!(stderr.contains("3 tenants"), "{stderr}");
    // Nothing proves that there were no later events.
    assert_eq!(code, Some(1), "{stderr}");
    assert_eq!(verify(&[], &data).0, Some(0));
}

#[test]
fn what_is_no_tenant_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let data = golden(dir.path());
    std::fs::write(data.join("tenants/file"), "foreign").unwrap();
    std::fs::create_dir(data.join("tenants/lost+found")).unwrap();
    for args in [&[][..], &["--repair"]] {
        let (code, stdout, stderr) = verify(args, &data);
        assert_eq!((code, stdout.as_str()), (Some(0), ""), "{stderr}");
        assert!(stderr.contains("3 tenants"), "{stderr}");
    }
    let (code, _, stderr) = verify(&["--tenant", "file"], &data);
    assert_eq!(code, Some(1), "{stderr}");
}

fn set_mode(path: &Path, file: u32, folder: u32) {
    let is_folder = path.is_dir();
    if is_folder {
        for entry in std::fs::read_dir(path).unwrap() {
            set_mode(&entry.unwrap().path(), file, folder);
        }
    }
    let mode = if is_folder { folder } else { file };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// `annals verify` as somebody for whom permissions count.
fn verify_unprivileged(args: &[&str], data: &Path) -> (Option<i32>, String) {
    let mut command = if rustix::process::geteuid().is_root() {
        let mut command = Command::new("setpriv");
        let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups", "--"];
        command.args(nobody);
        // The program may stand in a folder where only root may look.
        let program = std::fs::File::open(env!("CARGO_BIN_EXE_annals")).unwrap();
        command.arg("/proc/self/fd/0").stdin(program);
        command
    } else {
        annals()
    };
    let command = command.arg("verify").args(args).arg("--data").arg(data);
    let output = command.output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), stderr)
}

/// Verifying a mounted snapshot or a backup asked for the right to write.
#[test]
fn a_directory_that_can_only_be_read_is_verified() {
    let dir = tempfile::tempdir().unwrap();
    let data = golden(dir.path());
    for with_lock in [false, true] {
        if with_lock {
            set_mode(dir.path(), 0o644, 0o755);
            std::fs::write(data.join("annals.lock"), "").unwrap();
        }
        set_mode(dir.path(), 0o444, 0o555);
        let (code, stderr) = verify_unprivileged(&[], &data);
        assert_eq!(code, Some(0), "{stderr}");
        assert!(stderr.contains("3 tenants"), "{stderr}");
        assert_eq!(data.join("annals.lock").exists(), with_lock);
        let (code, stderr) = verify_unprivileged(&["--repair"], &data);
        assert_eq!(code, Some(1), "{stderr}");
        assert!(stderr.contains("annals.lock"), "{stderr}");
    }
    // Whoever serves it has locked it, also for those who only read.
    set_mode(dir.path(), 0o644, 0o755);
    let held = std::fs::File::open(data.join("annals.lock")).unwrap();
    held.try_lock().unwrap();
    let (code, stderr) = verify_unprivileged(&[], &data);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("is in use"), "{stderr}");
    drop(held);

    let unreadable = data.join("tenants/second-tenant/manifest");
    std::fs::set_permissions(&unreadable, std::fs::Permissions::from_mode(0o0)).unwrap();
    let (code, stderr) = verify_unprivileged(&[], &data);
    assert_eq!(code, Some(1), "{stderr}");
    let named = format!("{}: Permission denied", unreadable.display());
    assert!(stderr.contains(&named), "{stderr}");
}
