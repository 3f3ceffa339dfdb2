//! What goes on being wrong is said now and then, not each time.

use std::time::Duration;

use tokio::time::Instant;

/// A line of the log that is written at most once in a while.
#[derive(Debug)]
pub(crate) struct Complaint {
    every: Duration,
    made: Option<Instant>,
}

impl Complaint {
    pub(crate) const fn every(every: Duration) -> Self {
        Self { every, made: None }
    }

    /// It was made just now, in other words.
    pub(crate) fn made(&mut self) {
        self.made = Some(Instant::now());
    }

    /// Whether to make it now.
    pub(crate) fn is_due(&mut self) -> bool {
        let due = self.made.is_none_or(|at| at.elapsed() >= self.every);
        if due {
            self.made();
        }
        due
    }
}
