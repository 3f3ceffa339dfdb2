//! Pushes per second over the last minutes, for people who look at a worker
//! without a dashboard at hand.

use tokio::time::Instant;

/// How far back it counts, in seconds.
pub const WINDOW: u64 = 300;

/// How many pushes ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// The provider took them.
    pub accepted: u64,
    /// The caller gave up first.
    pub cancelled: u64,
    /// Everything else: nobody's phone rang.
    pub failed: u64,
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.cancelled += other.cancelled;
        self.failed += other.failed;
    }
}

/// Counts by second; a fixed number of them, however long it runs.
#[derive(Debug)]
pub struct Meter {
    began: Instant,
    buckets: Vec<Bucket>,
    total: Counts,
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    second: u64,
    counts: Counts,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            buckets: vec![Bucket::default(); place(WINDOW - 1) + 1],
            total: Counts::default(),
        }
    }
}

impl Meter {
    /// Counts what has ended just now.
    pub fn count(&mut self, counts: Counts) {
        let second = self.began.elapsed().as_secs();
        let bucket = &mut self.buckets[place(second)];
        if bucket.second != second {
            *bucket = Bucket {
                second,
                counts: Counts::default(),
            };
        }
        bucket.counts.add(counts);
        self.total.add(counts);
    }

    /// Everything since the start.
    #[must_use]
    pub const fn total(&self) -> Counts {
        self.total
    }

    /// The last [`WINDOW`] seconds in steps of so many, the oldest first. The
    /// second that is under way is left out, so that it never looks like a dip.
    #[must_use]
    pub fn steps(&self, seconds: u64) -> Vec<Counts> {
        let seconds = seconds.clamp(1, WINDOW);
        let steps = WINDOW / seconds;
        let now = self.began.elapsed().as_secs();
        (0..steps)
            .map(|step| {
                let newest = (steps - step - 1) * seconds + 1;
                let mut sum = Counts::default();
                for ago in newest..newest + seconds {
                    sum.add(self.at(now, ago));
                }
                sum
            })
            .collect()
    }

    fn at(&self, now: u64, ago: u64) -> Counts {
        let Some(second) = now.checked_sub(ago) else {
            return Counts::default();
        };
        let bucket = self.buckets[place(second)];
        if bucket.second == second && ago < WINDOW {
            bucket.counts
        } else {
            Counts::default()
        }
    }
}

fn place(second: u64) -> usize {
    // Smaller than the window, which fits.
    usize::try_from(second % WINDOW).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;

    const ONE: Counts = Counts {
        accepted: 1,
        cancelled: 0,
        failed: 0,
    };

    #[tokio::test(start_paused = true)]
    async fn what_happened_a_while_ago_stands_where_it_belongs_and_then_leaves() {
        let mut meter = Meter::default();
        meter.count(ONE);
        advance(Duration::from_secs(1)).await;
        assert_eq!(meter.steps(5).len(), 60);
        assert_eq!(meter.steps(5)[59], ONE, "in the newest five seconds");
        advance(Duration::from_secs(10)).await;
        assert_eq!(meter.steps(5)[57], ONE);
        advance(Duration::from_secs(WINDOW)).await;
        assert!(meter.steps(5).iter().all(|step| *step == Counts::default()));
        assert_eq!(meter.total(), ONE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_is_not_mixed_with_the_one_a_window_later() {
        let mut meter = Meter::default();
        meter.count(ONE);
        advance(Duration::from_secs(WINDOW)).await;
        meter.count(ONE);
        advance(Duration::from_secs(1)).await;
        let sum: u64 = meter.steps(1).iter().map(|step| step.accepted).sum();
        assert_eq!(sum, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_second_under_way_is_not_shown() {
        let mut meter = Meter::default();
        advance(Duration::from_secs(7)).await;
        meter.count(ONE);
        assert_eq!(meter.steps(1)[299], Counts::default());
        advance(Duration::from_secs(1)).await;
        assert_eq!(meter.steps(1)[299], ONE);
    }
}
