//! Whether the broker stands still: reports are published, and it confirms
//! none.

use std::time::Duration;

use tokio::time::Instant;

/// How long no outcome may have been confirmed before the broker counts as
/// standing still. A busy one confirms late, but it confirms all the time.
pub(crate) const STILL: Duration = Duration::from_secs(1);
/// The same for a session in which nothing was confirmed yet: a quorum queue
/// that elects a leader takes seconds.
pub(crate) const STILL_AT_FIRST: Duration = Duration::from_secs(5);
/// How long the oldest message may wait while too many do, even if others go
/// on.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);

/// What the broker confirmed of outcomes lately.
#[derive(Debug)]
pub(crate) struct Standstill {
    /// Since when the broker is there.
    there_since: Instant,
    /// When it last confirmed an outcome, in this session.
    confirmed: Option<Instant>,
}

impl Standstill {
    pub(crate) fn new() -> Self {
        Self {
            there_since: Instant::now(),
            confirmed: None,
        }
    }

    /// A session begins.
    pub(crate) fn begin(&mut self) {
        *self = Self::new();
    }

    /// An outcome was confirmed just now.
    pub(crate) fn confirmed(&mut self) {
        self.confirmed = Some(Instant::now());
    }

    /// Whether a report made then is not to be waited for while too many wait.
    /// `blocked`: the broker says that it takes nothing.
    pub(crate) fn is_hopeless(&self, made: Instant, blocked: bool) -> bool {
        let still = if self.confirmed.is_some() || blocked {
            STILL
        } else {
            STILL_AT_FIRST
        };
        let since = made.max(self.there_since);
        let confirmed = self.confirmed.unwrap_or(self.there_since);
        confirmed.max(since).elapsed() >= still || since.elapsed() >= still.max(PATIENCE)
    }
}
