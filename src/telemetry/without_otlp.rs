//! What stands where the exporter was not built in: it says so.

use tracing_subscriber::layer::Identity;

use super::TelemetryError;
use super::collector::Collector;

/// There is none.
#[derive(Debug)]
pub(super) enum Export {}

impl Export {
    #[allow(clippy::unnecessary_wraps, reason = "the real one can fail")]
    pub(super) const fn start(_: &Collector) -> Result<Option<Self>, TelemetryError> {
        Ok(None)
    }

    pub(super) const fn layer(&self) -> Identity {
        match *self {}
    }

    #[allow(clippy::unused_async, reason = "the real one waits")]
    pub(super) async fn close(self) {
        match self {}
    }
}

/// Says that spans go nowhere.
pub(super) fn announce(endpoint: &str) {
    tracing::warn!(
        endpoint,
        "a collector of traces is asked for, but this binary cannot send to one; \
         build it with `cargo build --release --features otlp`"
    );
}
