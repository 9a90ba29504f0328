//! Tests of the module around.

use super::*;

fn load(
    file: &str,
    environment: &[(&str, &str)],
    flags: &[(&str, &str)],
) -> Result<Config, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("annals.toml");
    fs::write(&path, file).unwrap();
    let environment = environment
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    let flags: Vec<_> = flags.iter().map(|(k, v)| (*k, (*v).to_owned())).collect();
    Config::layered(Some(&path), environment, &flags)
}

#[test]
fn flags_go_before_environment_before_file_before_defaults() {
    let file = "partitions = 8\ndrain_seconds = 1\nlisten = \"127.0.0.1:1\"\n[limits]\nqueue_bytes_max = \"32 MiB\"\n";
    let environment = [
        ("ANNALS_DRAIN_SECONDS", "2"),
        ("ANNALS_LISTEN", "127.0.0.1:2"),
        ("ANNALS_URL", "http://x"),
    ];
    let config = load(file, &environment, &[("listen", "127.0.0.1:3")]).unwrap();
    assert_eq!(config.partitions.count(), 8);
    assert_eq!(config.limits.queue_bytes_max, 32 << 20);
    assert_eq!(config.drain, Duration::from_secs(2));
    assert_eq!(config.listen.port(), 3);
    assert_eq!(config.calls_max, Config::default().calls_max);
}

#[test]
fn what_is_printed_can_be_read_again() {
    let mut config = Config::default();
    assert_eq!(load(&config.to_toml(), &[], &[]).unwrap(), config);
    config.metrics = Some("127.0.0.1:9".parse().unwrap());
    config.data = "a \"quoted\" dir".into();
    config.limits.event_bytes_max = 1_000_001;
    config.log_format = LogFormat::Json;
    config.tenants_auto_create = true;
    assert_eq!(load(&config.to_toml(), &[], &[]).unwrap(), config);
}

#[test]
fn what_is_not_known_is_refused_with_what_is() {
    for (file, environment) in [
        ("lisen = \"127.0.0.1:1\"", &[][..]),
        ("[limits]\nbatch_max = 3", &[]),
        ("[tenants]\nauto = { create = true }", &[]),
        ("", &[("ANNALS_LIMITS_BATCH_MAX", "3")]),
    ] {
        let error = load(file, environment, &[]).unwrap_err();
        assert!(matches!(error, ConfigError::Unknown { .. }), "{error}");
        assert!(
            error.to_string().contains("limits.batch_events_max"),
            "{error}"
        );
    }
    assert!(load("", &[("ANNALS_PORT", "tcp://10.0.0.1:4747")], &[]).is_ok());
}

#[test]
fn values_that_do_not_fit_are_refused() {
    for file in [
        "listen = \"localhost\"",
        "partitions = 3",
        "drain_seconds = -1",
        "drain_seconds = 1.5",
        "insecure = \"yes\"",
        "log_format = \"xml\"",
        "data = \"\"",
        "[limits]\nbatch_events_max = 0",
        "[limits]\nbatch_bytes_max = \"8 MB\"",
        "[limits]\nbatch_bytes_max = \"99999999999 TiB\"",
        "[limits]\nseal_events = 0",
        "[limits]\nseal_bytes = 0",
        "[limits]\nseal_backlog_max = 0",
        "[limits]\nkeep_bytes = -1",
    ] {
        let error = load(file, &[], &[]).unwrap_err();
        assert!(
            matches!(error, ConfigError::Invalid { .. }),
            "{file}: {error}"
        );
    }
    assert!(matches!(
        load("a = ", &[], &[]),
        Err(ConfigError::Unreadable { .. })
    ));
}

#[test]
fn limits_that_contradict_each_other_are_refused() {
    for file in [
        "[limits]\nevent_bytes_max = \"9 MiB\"",
        "[limits]\nmessage_bytes_max = \"4 MiB\"",
        "[limits]\nqueue_bytes_max = \"4 MiB\"",
        "[limits]\nlog_file_bytes = \"8 MiB\"",
        "[limits]\nlog_file_bytes = \"4 GiB\"",
        "[limits]\nseal_events = 4294967296",
    ] {
        let error = load(file, &[], &[]).unwrap_err();
        assert!(
            matches!(error, ConfigError::Contradiction { .. }),
            "{file}: {error}"
        );
    }
}

#[test]
fn segments_may_be_smaller_than_batches_and_log_files_need_not_be_kept() {
    let file = "[limits]\nseal_events = 1\nseal_bytes = 1\nseal_backlog_max = 1\nkeep_bytes = 0\n";
    let config = load(file, &[], &[]).unwrap();
    let limits = &config.limits;
    assert!(limits.seal_events < limits.batch_events_max as u64);
    assert!(limits.seal_bytes < limits.batch_bytes_max as u64);
    assert_eq!(limits.keep_bytes, 0);
    assert_eq!(load(&config.to_toml(), &[], &[]).unwrap(), config);
}
