//! Logs: to standard error, as text or JSON, at a level that can be changed while the server runs.

mod json;
mod refusals;

use std::io::{self, IsTerminal as _};
use std::sync::OnceLock;

use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use self::json::Json;
pub(super) use self::refusals::Refusals;
use crate::config::settings::{Log, LogFormat, LogLevel};

/// The log's level, which can be changed.
#[derive(Clone, Debug)]
pub struct LogHandle(reload::Handle<EnvFilter, Registry>);

static LOG: OnceLock<LogHandle> = OnceLock::new();

/// Starts the log of this process.
///
/// A process has one log: later calls only change its level. If somebody else's log is there already, that
/// one stays, and the level cannot be changed.
pub fn init(settings: &Log) -> LogHandle {
    let log = LOG.get_or_init(|| {
        let (layer, handle) = layer(settings.format, io::stderr);
        let _taken = tracing_subscriber::registry().with(layer).try_init();
        handle
    });
    if let Err(problem) = log.set(directive(settings.level)) {
        tracing::warn!(problem, "log level stays");
    }
    log.clone()
}

const fn directive(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    }
}

impl LogHandle {
    /// Writes from now on what `directives` say: a level, or several `target=level` with commas.
    ///
    /// # Errors
    /// What is wrong with `directives`, or that this log is not the process' one.
    pub fn set(&self, directives: &str) -> Result<(), String> {
        let filter = parse(directives)?;
        self.0.reload(filter).map_err(|_| "the log of this process is not ours".to_owned())
    }

    /// What is written now, as directives.
    #[must_use]
    pub fn get(&self) -> String {
        self.0.with_current(ToString::to_string).unwrap_or_else(|_| "unknown".to_owned())
    }
}

fn layer<W>(format: LogFormat, writer: W) -> (Box<dyn Layer<Registry> + Send + Sync>, LogHandle)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(EnvFilter::new("info"));
    let lines = fmt::layer().with_ansi(io::stderr().is_terminal()).with_writer(writer);
    let layer = match format {
        LogFormat::Text => lines.with_filter(filter).boxed(),
        LogFormat::Json => lines.event_format(Json).with_filter(filter).boxed(),
    };
    (layer, LogHandle(handle))
}

/// Reads directives. A single word has to be a level: the filter itself would take any other for the name of
/// a target and write everything that comes from there.
fn parse(directives: &str) -> Result<EnvFilter, String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let is_level = |text: &str| LEVELS.iter().any(|level| level.eq_ignore_ascii_case(text));
    for directive in directives.split(',').map(str::trim) {
        let level = directive.rsplit_once('=').map_or(directive, |(_, level)| level);
        if !is_level(level) {
            return Err(format!("'{level}' is no level: {}", LEVELS.join(", ")));
        }
    }
    EnvFilter::builder().parse(directives).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
