//! `annals serve`: settings, log lines, signals, and what a person sees. The server itself is in `server`.

use std::{
    error::Error,
    io::{self, Write as _},
    net::SocketAddr,
    path::PathBuf,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::warn;

use crate::{
    config::{Config, ConfigError, LogFormat},
    server::{RunningServer, Server, StartError},
    telemetry,
    types::id::TenantId,
};

/// Serve a data directory over gRPC.
#[derive(Debug, clap::Args)]
pub struct ServeArgs {
    /// The data directory; made if it is not there [default: annals-data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where to listen; port 0 takes a free one [default: 127.0.0.1:4747]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Listen beyond loopback although nobody is asked for credentials
    #[arg(long)]
    insecure: bool,
    /// Serve Prometheus metrics here; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS")]
    metrics: Option<SocketAddr>,
    /// Form of the log lines on stderr; RUST_LOG says which [default: human]
    #[arg(long, value_enum, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
    /// Read settings from this TOML file; flags and ANNALS_* variables go before it
    #[arg(long, env = "ANNALS_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set any setting that --print-config shows, like limits.batch_events_max=1000
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
    /// Print the effective configuration, as a file that can be used, and end
    #[arg(long)]
    print_config: bool,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or("write KEY=VALUE, like drain_seconds=5")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Why `serve` ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The settings are wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The server did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The machine refused something.
    #[error("{what}")]
    Machine {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

impl ServeError {
    /// 1 refused or failed, 2 wrong usage.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) => 2,
            Self::Start(_) | Self::Machine { .. } => 1,
        }
    }

    /// One line with all causes.
    pub fn line(&self) -> String {
        let mut line = self.to_string();
        let mut source = self.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            // A transparent error has the text of its source already.
            if !line.ends_with(&text) {
                line = format!("{line}: {text}");
            }
            source = cause.source();
        }
        line
    }
}

/// Serves until SIGTERM or SIGINT, then drains; a second signal ends at once.
///
/// # Errors
/// See [`ServeError`].
pub fn run(args: ServeArgs) -> Result<(), ServeError> {
    let print_config = args.print_config;
    let config = load(args)?;
    if print_config {
        let printed = io::stdout().write_all(config.to_toml().as_bytes());
        return printed.map_err(|source| ServeError::Machine {
            what: "printing the configuration",
            source,
        });
    }
    match config.log_format {
        LogFormat::Human => telemetry::log_as_text(),
        LogFormat::Json => telemetry::log_as_json(),
    }
    raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|source| ServeError::Machine {
            what: "starting threads",
            source,
        })?;
    let ended = runtime.block_on(serve(&config));
    // Connections that outlived the drain are not waited for again.
    runtime.shutdown_background();
    ended
}

fn load(args: ServeArgs) -> Result<Config, ConfigError> {
    let mut flags: Vec<(&str, String)> = args
        .set
        .iter()
        .map(|(key, value)| (key.as_str(), value.clone()))
        .collect();
    let mut flag = |key, value: Option<String>| flags.extend(value.map(|value| (key, value)));
    flag("data", args.data.map(|path| path.display().to_string()));
    flag("listen", args.listen.map(|addr| addr.to_string()));
    flag("metrics", args.metrics.map(|addr| addr.to_string()));
    flag(
        "log_format",
        args.log_format.map(|format| format.as_str().to_owned()),
    );
    flag("insecure", args.insecure.then(|| "true".to_owned()));
    Config::load(args.config.as_deref(), &flags)
}

async fn serve(config: &Config) -> Result<(), ServeError> {
    let handle = |kind| {
        signal(kind).map_err(|source| ServeError::Machine {
            what: "handling signals",
            source,
        })
    };
    let mut signals = (
        handle(SignalKind::terminate())?,
        handle(SignalKind::interrupt())?,
    );
    // A signal while the server starts ends it: nothing was answered yet that a drain could finish.
    let server = tokio::select! {
        started = Server::start(config) => started?,
        _ = next(&mut signals) => return Ok(()),
    };
    greet(config, &server).await;
    let name = next(&mut signals).await;
    say(&format!(
        "{name}: draining for up to {} s; send it again to end at once\n",
        config.drain.as_secs()
    ));
    tokio::select! {
        _ = server.shutdown() => {}
        // The log is made for this: what was acknowledged is on disk.
        name = next(&mut signals) => say(&format!("{name}: ending at once\n")),
    }
    Ok(())
}

async fn next(signals: &mut (Signal, Signal)) -> &'static str {
    tokio::select! {
        _ = signals.0.recv() => "SIGTERM",
        _ = signals.1.recv() => "SIGINT",
    }
}

async fn greet(config: &Config, server: &RunningServer) {
    let url = format!("http://{}", server.local_addr());
    let mut text = format!("annals {}\n", env!("CARGO_PKG_VERSION"));
    let mut line = |name: &str, value: &str| text.extend(["  ", name, " ", value, "\n"]);
    line("url      ", &url);
    line("data     ", &config.data.display().to_string());
    if let Some(addr) = server.metrics_addr() {
        line("metrics  ", &format!("http://{addr}/metrics"));
    }
    let tenants = server.engine().tenants();
    if let Ok(tenant) = server.engine().tenant(&TenantId::default()).await {
        let others = match tenants.len().saturating_sub(1) {
            0 => String::new(),
            1 => " (1 other tenant)".to_owned(),
            others => format!(" ({others} other tenants)"),
        };
        line("head     ", &format!("{}{others}", tenant.head()));
        let recovery = tenant.recovery();
        if recovery.events > 0 || recovery.cut_bytes > 0 {
            let mut recovered = format!(
                "{} events read back in {} ms",
                recovery.events,
                recovery.took.as_millis()
            );
            if recovery.cut_bytes > 0 {
                recovered = format!(
                    "{recovered}, {} bytes of unacknowledged writes cut",
                    recovery.cut_bytes
                );
            }
            line("recovered", &recovered);
        }
    }
    let port = server.local_addr().port();
    let elsewhere = if port == Config::default().listen.port() {
        String::new()
    } else {
        format!(" --url {url}")
    };
    line(
        "try      ",
        &format!("annals append --file events.jsonl{elsewhere}"),
    );
    say(&text);
}

/// What a person sees goes to stderr, with the log lines; a closed stderr is no reason to end.
fn say(text: &str) {
    drop(io::stderr().lock().write_all(text.as_bytes()));
}

/// Each connection and each log file is an open file; the usual soft limit of 1,024 is soon met.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        warn!(%error, "the limit of open files stays as it is");
    }
}
