//! Logs: where they go, how they look, how loud they are. Traces: whether they
//! go to a collector.

mod collector;
mod error;
#[cfg(feature = "otlp")]
mod otlp;
#[cfg(not(feature = "otlp"))]
#[path = "without_otlp.rs"]
mod otlp;
mod variables;

use std::io::IsTerminal;

use serde::Deserialize;
use tracing_subscriber::filter::{FilterExt as _, LevelFilter, Targets, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

use crate::spans;
use collector::Collector;
pub use error::TelemetryError;

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

/// The logs and traces of a running program.
#[derive(Debug)]
pub struct Telemetry {
    filter: reload::Handle<Targets, Registry>,
    export: Option<otlp::Export>,
}

impl Telemetry {
    /// Sends logs to standard error from now on, and spans to the collector
    /// that the environment names, if it names one. Must be called on the
    /// runtime.
    ///
    /// # Errors
    /// See [`TelemetryError`].
    pub fn start(settings: LogSettings) -> Result<Self, TelemetryError> {
        let variable = |name: &str| std::env::var(name).ok();
        let wanted = Collector::wanted(variable)?;
        let export = match &wanted {
            Some(collector) => {
                variables::check(variable)?;
                otlp::Export::start(collector)?
            }
            None => None,
        };
        let (filter, handle) = reload::Layer::new(targets(settings.level));
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(in_color(&std::io::stderr()));
        let layer = match settings.format {
            LogFormat::Text => layer.boxed(),
            LogFormat::Json => layer.json().flatten_event(true).boxed(),
        };
        let registry = tracing_subscriber::registry();
        match &export {
            // A second layer, or a filter that decides by more than level and
            // target, costs on every ring.
            None => registry.with(layer.with_filter(filter)).try_init()?,
            Some(export) => registry
                .with(layer.with_filter(filter.and(filter_fn(is_news))))
                .with(export.layer())
                .try_init()?,
        }
        if let Some(collector) = wanted {
            otlp::announce(&collector.shown());
        }
        Ok(Self {
            filter: handle,
            export,
        })
    }

    /// Sends the spans that are left.
    pub async fn close(self) {
        if let Some(export) = self.export {
            export.close().await;
        }
    }

    /// Shows more or less from now on.
    pub fn set_level(&self, level: LogLevel) {
        if let Err(error) = self.filter.reload(targets(level)) {
            tracing::error!(%error, "the log level could not be changed");
        }
    }
}

/// Not what the exporter repeats at every try: `otlp` says it once, with its
/// cause, and not as an error, for no ring is lost.
fn is_news(metadata: &tracing::Metadata<'_>) -> bool {
    !matches!(
        metadata.name(),
        "BatchSpanProcessor.ExportError"
            | "BatchSpanProcessor.Shutdown.Timeout"
            | "BatchSpanProcessor.Shutdown.Error"
    )
}

/// Whether what is written there is coloured: on a terminal, and unless
/// `NO_COLOR` is set (<https://no-color.org>).
pub fn in_color(output: &impl IsTerminal) -> bool {
    output.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
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
        // It repeats in words of its own what our lines say once.
        .with_target("lapin", LevelFilter::OFF)
        .with_target("ringpush", own)
        .with_target(spans::TARGET, LevelFilter::OFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_never_get_below_warnings() {
        let targets = targets(LogLevel::Trace);
        assert!(targets.would_enable("ringpush::engine", &tracing::Level::TRACE));
        assert!(!targets.would_enable(spans::TARGET, &tracing::Level::ERROR));
        assert!(!targets.would_enable("h2::codec", &tracing::Level::INFO));
        assert!(targets.would_enable("hyper", &tracing::Level::WARN));
        assert!(!super::targets(LogLevel::Error).would_enable("hyper", &tracing::Level::WARN));
        assert!(!targets.would_enable("lapin::io", &tracing::Level::ERROR));
    }
}
