//! When a ring is over: on the wall clock or on the monotonic one, whichever
//! comes first. The wall clock may be set back, and the other one stands still
//! while the machine is suspended.

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
        let left = self.instant.saturating_duration_since(Instant::now());
        left.min(self.at.since(wall_clock()))
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
        self.left().is_zero()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_passes_when_its_time_has_come() {
        // On a wall clock that was set back.
        let at = wall_clock().plus(Duration::from_secs(3600));
        let since = |millis| Timestamp::from_millis(at.millis() - millis);
        let deadline = Deadline::new(at, since(500));
        assert!(!deadline.passed());
        tokio::time::advance(Duration::from_millis(200)).await;
        assert_eq!(deadline.left(), Duration::from_millis(300));
        assert_eq!(deadline.now(), since(300));
        tokio::time::advance(Duration::from_millis(300)).await;
        assert!(deadline.passed());
        assert_eq!(deadline.left(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn time_that_the_machine_was_suspended_counts() {
        let at = wall_clock();
        let taken = Timestamp::from_millis(at.millis() - 10_000);
        let deadline = Deadline::new(at, taken);
        assert!(deadline.passed(), "no time has passed on our own clock");
        assert_eq!(deadline.left(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn one_in_the_past_has_passed() {
        let deadline = Deadline::new(Timestamp::from_millis(1), Timestamp::from_millis(2));
        assert!(deadline.passed());
    }
}
