//! Logs: where they go, how they look, how loud they are.

use std::io::IsTerminal;

use serde::Deserialize;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

/// `[log]`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogSettings {
    /// For people or for machines.
    pub format: LogFormat,
    /// How much.
    pub level: LogLevel,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One readable line.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The least important lines to be shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Rings were lost or will be.
    Error,
    /// Somebody should look at it.
    Warn,
    /// What happens, without every accepted push.
    #[default]
    Info,
    /// Every push and attempt.
    Debug,
    /// Everything of ours; of libraries only what carries no payload.
    Trace,
}

/// Changes the level of a running program.
#[derive(Clone, Debug)]
pub struct Telemetry {
    filter: reload::Handle<Targets, Registry>,
}

impl Telemetry {
    /// Sends logs to standard error from now on.
    ///
    /// # Errors
    /// Something in this process has set up logs already.
    pub fn start(settings: LogSettings) -> anyhow::Result<Self> {
        let (filter, handle) = reload::Layer::new(targets(settings.level));
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal());
        let layer = match settings.format {
            LogFormat::Text => layer.boxed(),
            LogFormat::Json => layer.json().flatten_event(true).boxed(),
        };
        tracing_subscriber::registry()
            .with(layer.with_filter(filter))
            .try_init()?;
        Ok(Self { filter: handle })
    }

    /// Shows more or less from now on.
    pub fn set_level(&self, level: LogLevel) {
        if let Err(error) = self.filter.reload(targets(level)) {
            tracing::error!(%error, "the log level could not be changed");
        }
    }
}

/// Our own lines at the level asked for, and of libraries warnings at most:
/// at `debug` and below HTTP and AMQP libraries print headers, credentials and
/// whole frames.
fn targets(level: LogLevel) -> Targets {
    let own = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    Targets::new()
        .with_default(own.min(LevelFilter::WARN))
        .with_target("ringpush", own)
        // It quotes the token server's answer at every failed try; what went
        // wrong is said once, by us, without the quote.
        .with_target("gcp_auth", LevelFilter::OFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_never_get_below_warnings() {
        let targets = targets(LogLevel::Trace);
        assert!(targets.would_enable("ringpush::engine", &tracing::Level::TRACE));
        assert!(!targets.would_enable("h2::codec", &tracing::Level::INFO));
        assert!(targets.would_enable("lapin", &tracing::Level::WARN));
        assert!(!targets.would_enable("gcp_auth::types", &tracing::Level::ERROR));
        assert!(!super::targets(LogLevel::Error).would_enable("lapin", &tracing::Level::WARN));
    }
}
