//! Settings of the server: flags > environment (`ANNALS_*`) > file > defaults. The only reader of both.
//!
//! One table, `KEYS`, names every setting once: with it a file is read (unknown keys are refused), the environment is
//! read (`limits.batch_events_max` is `ANNALS_LIMITS_BATCH_EVENTS_MAX`), flags are applied and the effective
//! configuration is printed, as a file that can be used again.
//!
//! Not here: components (disk, clock), which are arguments of constructors.

use std::{
    fmt::{Display, Write as _},
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use crate::types::{
    limits::{LOG_FILE_BYTES_MAX, Limits, SEGMENT_EVENTS_MAX},
    slot::Partitions,
};

/// The form of log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    /// The name used in settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Human => "human",
            Self::Json => "json",
        }
    }
}

/// The effective configuration of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Listen beyond loopback although nobody is asked for credentials.
    pub insecure: bool,
    /// The data directory.
    pub data: PathBuf,
    /// Where Prometheus metrics are served, if at all.
    pub metrics: Option<SocketAddr>,
    /// The form of log lines.
    pub log_format: LogFormat,
    /// How many partitions readers share a log by.
    pub partitions: Partitions,
    /// How long a shutdown waits for calls that are open.
    pub drain: Duration,
    /// Whether an append makes a tenant that does not exist.
    pub tenants_auto_create: bool,
    /// The engine's bounds.
    pub limits: Limits,
    /// Largest request message.
    pub message_bytes_max: usize,
    /// Calls that are open at once, subscriptions included.
    pub calls_max: usize,
    /// Calls that are open at once on one connection.
    pub calls_per_connection_max: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 4747)),
            insecure: false,
            data: PathBuf::from("annals-data"),
            metrics: None,
            log_format: LogFormat::Human,
            partitions: Partitions::default(),
            drain: Duration::from_secs(10),
            tenants_auto_create: false,
            limits: Limits::default(),
            message_bytes_max: 16 << 20,
            calls_max: 50_000,
            calls_per_connection_max: 20_000,
        }
    }
}

/// What is wrong with a configuration, and where it was said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the variants are")]
pub enum ConfigError {
    #[error("reading the configuration file {}: {reason}", path.display())]
    Unreadable { path: PathBuf, reason: String },
    #[error(
        "{origin}: there is no setting `{key}`; the known ones are {}",
        known()
    )]
    Unknown { origin: String, key: String },
    #[error("{origin}: `{key}` {reason}")]
    Invalid {
        origin: String,
        key: String,
        reason: String,
    },
    #[error("`{key}` {reason}")]
    Contradiction { key: &'static str, reason: String },
}

struct Key {
    name: &'static str,
    doc: &'static str,
    set: fn(&mut Config, &str) -> Result<(), String>,
    /// As a TOML value.
    show: fn(&Config) -> String,
}

macro_rules! key {
    ($name:literal, $doc:literal, $($field:ident).+, $read:expr, $show:expr) => {
        Key {
            name: $name,
            doc: $doc,
            set: |config, text| {
                config.$($field).+ = $read(text)?;
                Ok(())
            },
            show: $show,
        }
    };
}

#[rustfmt::skip]
const KEYS: &[Key] = &[
    key!("listen", "Where to listen. Port 0 takes a free one.",
        listen, address, |c| quoted(c.listen)),
    key!("insecure", "Listen beyond loopback although nobody is asked for credentials.",
        insecure, truth, |c| c.insecure.to_string()),
    key!("data", "The data directory. One server at a time.",
        data, path, |c| quoted(c.data.display())),
    key!("metrics", "Where Prometheus metrics are served; empty: nowhere.",
        metrics, maybe_address, |c| c.metrics.map_or_else(|| quoted(""), quoted)),
    key!("log_format", "Form of the log lines on stderr: human or json. RUST_LOG says which lines.",
        log_format, log_format, |c| quoted(c.log_format.as_str())),
    key!("partitions", "Into how many partitions readers divide a log: a power of two up to 1024.",
        partitions, partitions, |c| c.partitions.count().to_string()),
    key!("drain_seconds", "How long a shutdown waits for calls that are open.",
        drain, seconds, |c| c.drain.as_secs().to_string()),
    key!("tenants.auto_create", "Whether an append makes a tenant that does not exist.",
        tenants_auto_create, truth, |c| c.tenants_auto_create.to_string()),
    key!("limits.message_bytes_max", "Largest request message.",
        message_bytes_max, size, |c| shown_size(c.message_bytes_max as u64)),
    key!("limits.calls_max", "Calls open at once, subscriptions included.",
        calls_max, count, |c| c.calls_max.to_string()),
    key!("limits.calls_per_connection_max", "Calls open at once on one connection.",
        calls_per_connection_max, count, |c| c.calls_per_connection_max.to_string()),
    key!("limits.batch_events_max", "Events in one batch.",
        limits.batch_events_max, count, |c| c.limits.batch_events_max.to_string()),
    key!("limits.batch_bytes_max", "Bytes of one batch, as the log stores it.",
        limits.batch_bytes_max, size, |c| shown_size(c.limits.batch_bytes_max as u64)),
    key!("limits.event_bytes_max", "Bytes of one event, as the log stores it.",
        limits.event_bytes_max, size, |c| shown_size(c.limits.event_bytes_max as u64)),
    key!("limits.queue_bytes_max", "Bytes of batches that wait for the disk, all tenants together.",
        limits.queue_bytes_max, size, |c| shown_size(c.limits.queue_bytes_max as u64)),
    key!("limits.recent_bytes_max", "Bytes of the newest part of all logs kept in memory for readers.",
        limits.recent_bytes_max, size, |c| shown_size(c.limits.recent_bytes_max as u64)),
    key!("limits.log_file_bytes", "Bytes of a full log file; the first ones of a tenant are smaller.",
        limits.log_file_bytes, size, |c| shown_size(c.limits.log_file_bytes)),
    key!("limits.seal_events", "Events that become one segment, about.",
        limits.seal_events, count, |c| c.limits.seal_events.to_string()),
    key!("limits.seal_bytes", "Bytes of log that become one segment, about.",
        limits.seal_bytes, size, |c| shown_size(c.limits.seal_bytes)),
    key!("limits.seal_backlog_max", "Parts of a log that may wait to become segments; beyond, appends wait.",
        limits.seal_backlog_max, count, |c| c.limits.seal_backlog_max.to_string()),
    key!("limits.unsealed_events_max", "Events of all tenants not in segments yet, about: memory holds their index. Beyond, appends wait.",
        limits.unsealed_events_max, count, |c| c.limits.unsealed_events_max.to_string()),
    key!("limits.row_group_events", "Events of a row group of a segment, at most.",
        limits.row_group_events, count, |c| c.limits.row_group_events.to_string()),
    key!("limits.run_fan_in", "Index runs of about one size that become one, at least 2.",
        limits.run_fan_in, count, |c| c.limits.run_fan_in.to_string()),
    key!("limits.keep_bytes", "Bytes of log files kept once their events are in segments, all tenants together; 0: none.",
        limits.keep_bytes, size_or_zero, |c| shown_size(c.limits.keep_bytes)),
    key!("limits.index_cache_bytes", "Bytes of index blocks kept in memory.",
        limits.index_cache_bytes, size, |c| shown_size(c.limits.index_cache_bytes as u64)),
    key!("limits.segment_cache_bytes", "Bytes of descriptions of segments kept in memory.",
        limits.segment_cache_bytes, size, |c| shown_size(c.limits.segment_cache_bytes as u64)),
    key!("limits.tail_cache_bytes", "Bytes of events not sealed that are kept in memory as columns.",
        limits.tail_cache_bytes, size, |c| shown_size(c.limits.tail_cache_bytes as u64)),
    key!("limits.disk_reserve_bytes", "Bytes that must stay free on the disk; below, appends are refused.",
        limits.disk_reserve_bytes, size, |c| shown_size(c.limits.disk_reserve_bytes)),
    key!("limits.tenants_open_max", "Tenants open at once.",
        limits.tenants_open_max, count, |c| c.limits.tenants_open_max.to_string()),
    key!("limits.sql_query_memory_bytes", "Bytes of memory that one statement of SQL may hold, at most: for sorting, grouping and joining.",
        limits.sql_query_memory_bytes, size, |c| shown_size(c.limits.sql_query_memory_bytes as u64)),
    key!("limits.sql_memory_bytes", "Bytes of memory that all statements of SQL may hold together.",
        limits.sql_memory_bytes, size, |c| shown_size(c.limits.sql_memory_bytes as u64)),
    key!("limits.sql_query_seconds", "How long a statement of SQL may take until its last row was taken; 0: no bound.",
        limits.sql_query_time, seconds, |c| c.limits.sql_query_time.as_secs().to_string()),
    key!("limits.sql_result_rows_max", "Rows that a statement of SQL may give; 0: no bound.",
        limits.sql_result_rows_max, number, |c| c.limits.sql_result_rows_max.to_string()),
    key!("limits.sql_queries_max", "Statements of SQL that run at once, all tenants together; more are refused.",
        limits.sql_queries_max, count, |c| c.limits.sql_queries_max.to_string()),
    key!("compact.target_bytes", "Bytes of a segment that smaller ones are compacted into, about.",
        limits.compact_target_bytes, size, |c| shown_size(c.limits.compact_target_bytes)),
    key!("compact.fan_in", "Segments of about one size that become one, at least 2.",
        limits.compact_fan_in, count, |c| c.limits.compact_fan_in.to_string()),
    key!("compact.bytes_per_second", "Bytes that compaction reads a second, all tenants together; 0: no bound.",
        limits.compact_bytes_per_second, size_or_zero, |c| shown_size(c.limits.compact_bytes_per_second)),
];

/// Variables of these sections are all settings, so that a misspelt one is told. Others that begin with `ANNALS_` may be
/// anybody's: the client commands', or what Kubernetes sets for a service of the name.
const OWN_SECTIONS: [&str; 3] = ["ANNALS_COMPACT_", "ANNALS_LIMITS_", "ANNALS_TENANTS_"];

impl Config {
    /// Puts the layers together; `flags` are pairs of key and value.
    ///
    /// # Errors
    /// The file cannot be read, a key is unknown, a value does not fit its key, or two of them contradict each other.
    pub fn load(file: Option<&Path>, flags: &[(&str, String)]) -> Result<Self, ConfigError> {
        // A variable that is not Unicode is none of ours.
        let environment =
            std::env::vars_os().filter_map(|(k, v)| k.into_string().ok().zip(v.into_string().ok()));
        Self::layered(file, environment, flags)
    }

    fn layered(
        file: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
        flags: &[(&str, String)],
    ) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        if let Some(path) = file {
            config.apply_file(path)?;
        }
        for (variable, text) in environment {
            match KEYS.iter().find(|key| variable_of(key.name) == variable) {
                Some(key) => config.apply(&variable, key.name, &text)?,
                None if OWN_SECTIONS
                    .iter()
                    .any(|section| variable.starts_with(section)) =>
                {
                    return Err(ConfigError::Unknown {
                        origin: "environment".to_owned(),
                        key: variable,
                    });
                }
                None => {}
            }
        }
        for (name, text) in flags {
            config.apply("command line", name, text)?;
        }
        config.validated()
    }

    fn apply_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let unreadable = |reason: String| ConfigError::Unreadable {
            path: path.to_owned(),
            reason,
        };
        let text = fs::read_to_string(path).map_err(|e| unreadable(e.to_string()))?;
        let table: toml::Table = text
            .parse()
            .map_err(|e: toml::de::Error| unreadable(e.to_string()))?;
        self.apply_table(&path.display().to_string(), "", &table)
    }

    fn apply_table(
        &mut self,
        origin: &str,
        section: &str,
        table: &toml::Table,
    ) -> Result<(), ConfigError> {
        for (name, value) in table {
            let name = if section.is_empty() {
                name.clone()
            } else {
                format!("{section}.{name}")
            };
            match value {
                toml::Value::Table(table) => self.apply_table(origin, &name, table)?,
                toml::Value::String(text) => self.apply(origin, &name, text)?,
                toml::Value::Integer(_) | toml::Value::Boolean(_) => {
                    self.apply(origin, &name, &value.to_string())?;
                }
                _ => {
                    let reason =
                        "is neither text, nor a whole number, nor true or false".to_owned();
                    return Err(ConfigError::Invalid {
                        origin: origin.to_owned(),
                        key: name,
                        reason,
                    });
                }
            }
        }
        Ok(())
    }

    fn apply(&mut self, origin: &str, name: &str, text: &str) -> Result<(), ConfigError> {
        let Some(key) = KEYS.iter().find(|key| key.name == name) else {
            return Err(ConfigError::Unknown {
                origin: origin.to_owned(),
                key: name.to_owned(),
            });
        };
        (key.set)(self, text).map_err(|reason| ConfigError::Invalid {
            origin: origin.to_owned(),
            key: name.to_owned(),
            reason,
        })
    }

    fn validated(self) -> Result<Self, ConfigError> {
        let limits = &self.limits;
        let contradiction = |key, reason: &str| {
            Err(ConfigError::Contradiction {
                key,
                reason: reason.to_owned(),
            })
        };
        if limits.event_bytes_max > limits.batch_bytes_max {
            return contradiction(
                "limits.event_bytes_max",
                "is above `limits.batch_bytes_max`: no batch could hold such an event",
            );
        }
        if limits.run_fan_in < 2 {
            return contradiction(
                "limits.run_fan_in",
                "is below 2: merging one run makes none less",
            );
        }
        if limits.compact_fan_in < 2 {
            return contradiction(
                "compact.fan_in",
                "is below 2: compacting one segment makes none less",
            );
        }
        if limits.batch_bytes_max > self.message_bytes_max {
            return contradiction(
                "limits.batch_bytes_max",
                "is above `limits.message_bytes_max`: no request could hold such a batch",
            );
        }
        if limits.batch_bytes_max > limits.queue_bytes_max {
            return contradiction(
                "limits.batch_bytes_max",
                "is above `limits.queue_bytes_max`: such a batch would never be taken",
            );
        }
        if limits.batch_bytes_max as u64 > limits.log_file_bytes / 2 {
            return contradiction(
                "limits.batch_bytes_max",
                "is above half of `limits.log_file_bytes`: a log file holds several batches",
            );
        }
        if limits.log_file_bytes > LOG_FILE_BYTES_MAX {
            return contradiction(
                "limits.log_file_bytes",
                &format!("is above {LOG_FILE_BYTES_MAX}: no log file can be larger"),
            );
        }
        if limits.seal_events > SEGMENT_EVENTS_MAX {
            return contradiction(
                "limits.seal_events",
                &format!("is above {SEGMENT_EVENTS_MAX}: no segment can hold more"),
            );
        }
        Ok(self)
    }

    /// The configuration as a file that can be used again, each setting with what it means.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        let mut section = "";
        for key in KEYS {
            let (of, name) = key.name.split_once('.').unwrap_or(("", key.name));
            if of != section {
                writeln!(text, "\n[{of}]").expect(TEXT_TAKES_ALL);
                section = of;
            }
            writeln!(text, "# {}\n{name} = {}", key.doc, (key.show)(self)).expect(TEXT_TAKES_ALL);
        }
        text
    }
}

fn known() -> String {
    KEYS.iter()
        .map(|key| key.name)
        .collect::<Vec<_>>()
        .join(", ")
}

fn variable_of(name: &str) -> String {
    format!("ANNALS_{}", name.replace('.', "_").to_uppercase())
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!("is {text:?}, and an address is written like 127.0.0.1:4747 or [::1]:4747")
    })
}

fn maybe_address(text: &str) -> Result<Option<SocketAddr>, String> {
    if text.is_empty() {
        Ok(None)
    } else {
        address(text).map(Some)
    }
}

fn truth(text: &str) -> Result<bool, String> {
    text.parse()
        .map_err(|_| format!("is {text:?}: write true or false"))
}

fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        Err("is empty: name a directory".to_owned())
    } else {
        Ok(text.into())
    }
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    [LogFormat::Human, LogFormat::Json]
        .into_iter()
        .find(|format| format.as_str() == text)
        .ok_or_else(|| format!("is {text:?}: write human or json"))
}

fn partitions(text: &str) -> Result<Partitions, String> {
    let count = text.parse().ok().and_then(Partitions::new);
    count.ok_or_else(|| format!("is {text:?}: write a power of two from 1 to 1024"))
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: u32 = text
        .parse()
        .map_err(|_| format!("is {text:?}: write whole seconds"))?;
    Ok(Duration::from_secs(seconds.into()))
}

fn number(text: &str) -> Result<u64, String> {
    text.parse()
        .map_err(|_| format!("is {text:?}: write a whole number"))
}

fn count<T: TryFrom<u64>>(text: &str) -> Result<T, String> {
    let count = text
        .parse()
        .ok()
        .filter(|count| *count > 0)
        .and_then(|count: u64| T::try_from(count).ok());
    count.ok_or_else(|| format!("is {text:?}: write a whole number above 0"))
}

/// Bytes, plain or with a unit.
fn size<T: TryFrom<u64>>(text: &str) -> Result<T, String> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = match unit.trim() {
        "" | "B" => Some(0),
        "KiB" => Some(10),
        "MiB" => Some(20),
        "GiB" => Some(30),
        "TiB" => Some(40),
        _ => None,
    };
    let bytes = unit.and_then(|shift| u64::from_str(number).ok()?.checked_mul(1 << shift));
    let bytes = bytes
        .filter(|bytes| *bytes > 0)
        .and_then(|bytes| T::try_from(bytes).ok());
    bytes.ok_or_else(|| {
        format!("is {text:?}: write bytes above 0, like 8388608 or \"8 MiB\" (KiB, MiB, GiB, TiB)")
    })
}

fn size_or_zero(text: &str) -> Result<u64, String> {
    if text == "0" { Ok(0) } else { size(text) }
}

const TEXT_TAKES_ALL: &str = "writing to a string does not fail";

fn quoted(value: impl Display) -> String {
    toml::Value::String(value.to_string()).to_string()
}

fn shown_size(bytes: u64) -> String {
    for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if bytes >= 1 << shift && bytes.trailing_zeros() >= shift {
            return quoted(format_args!("{} {unit}", bytes >> shift));
        }
    }
    bytes.to_string()
}

#[cfg(test)]
mod tests;
