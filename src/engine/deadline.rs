//! When a ring is over: on the wall clock for the phone and the provider, on
//! the monotonic clock for ourselves.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::call::time::Timestamp;

/// The current time on the wall clock.
#[must_use]
pub fn wall_clock() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

/// The end of a ring.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    at: Timestamp,
    instant: Instant,
}

impl Deadline {
    /// The deadline that falls on `at` when the wall clock now shows `now`.
    #[must_use]
    pub fn new(at: Timestamp, now: Timestamp) -> Self {
        Self {
            at,
            instant: Instant::now() + at.since(now),
        }
    }

    /// On the wall clock.
    #[must_use]
    pub const fn at(&self) -> Timestamp {
        self.at
    }

    /// On our own clock.
    #[must_use]
    pub const fn instant(&self) -> Instant {
        self.instant
    }

    /// What is left; zero when it is over.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.instant.saturating_duration_since(Instant::now())
    }

    /// The wall clock as it stands by this deadline. Payloads are rendered
    /// for this, so that a clock that is set back cannot lengthen a ring.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let left = i64::try_from(self.left().as_millis()).unwrap_or(i64::MAX);
        Timestamp::from_millis(self.at.millis().saturating_sub(left))
    }

    /// Whether it is over.
    #[must_use]
    pub fn passed(&self) -> bool {
        Instant::now() >= self.instant
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_passes_when_its_time_has_come() {
        let now = Timestamp::from_millis(1_000);
        let deadline = Deadline::new(Timestamp::from_millis(1_500), now);
        assert!(!deadline.passed());
        tokio::time::advance(Duration::from_millis(200)).await;
        assert_eq!(deadline.left(), Duration::from_millis(300));
        assert_eq!(deadline.now(), Timestamp::from_millis(1_200));
        tokio::time::advance(Duration::from_millis(300)).await;
        assert!(deadline.passed());
        assert_eq!(deadline.left(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn one_in_the_past_has_passed() {
        let deadline = Deadline::new(Timestamp::from_millis(1), Timestamp::from_millis(2));
        assert!(deadline.passed());
    }
}
