//! Numbers over time: a bounded number of steps, however long it runs.

use std::time::Duration;

use hdrhistogram::{CreationError, Histogram};

/// More steps than this are never kept; a screen has no use for them.
const MOST: usize = 300;

/// Widths of a step in milliseconds, each a multiple of the one before.
const WIDTHS: [u64; 9] = [
    100, 200, 1_000, 2_000, 10_000, 20_000, 60_000, 120_000, 600_000,
];

/// What happened in one step, by the time at which pushes ended.
#[derive(Clone, Debug)]
pub(super) struct Step {
    /// Accepted, by platform, with how long they took, in microseconds.
    pub(super) took: [Histogram<u32>; 2],
    /// Ended otherwise.
    pub(super) failed: u64,
    /// The most pushes under way.
    pub(super) in_flight: u64,
}

impl Step {
    /// Two significant digits: it is for pictures.
    fn new() -> Result<Self, CreationError> {
        Ok(Self {
            took: [Histogram::new(2)?, Histogram::new(2)?],
            failed: 0,
            in_flight: 0,
        })
    }

    fn add(&mut self, other: &Self) {
        for (own, others) in self.took.iter_mut().zip(&other.took) {
            // It grows by itself to whatever the other holds.
            let _ = own.add(others);
        }
        self.failed += other.failed;
        self.in_flight = self.in_flight.max(other.in_flight);
    }

    /// Accepted on any platform.
    pub(super) fn accepted(&self) -> u64 {
        self.took.iter().map(Histogram::len).sum()
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Series {
    steps: Vec<Step>,
    width: usize,
    empty: Step,
}

impl Series {
    /// # Errors
    /// Never: two digits are among those that the library takes.
    pub(super) fn new() -> Result<Self, CreationError> {
        Ok(Self {
            steps: Vec::new(),
            width: 0,
            empty: Step::new()?,
        })
    }

    /// How long a step is.
    pub(super) fn width(&self) -> Duration {
        Duration::from_millis(WIDTHS[self.width])
    }

    /// All steps from the beginning, the last one perhaps not over.
    pub(super) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The step of a moment. What comes after the longest time that can be kept
    /// falls into the last step.
    pub(super) fn at(&mut self, moment: Duration) -> &mut Step {
        while self.place(moment) >= MOST && self.width + 1 < WIDTHS.len() {
            self.widen();
        }
        let place = self.place(moment).min(MOST - 1);
        while self.steps.len() <= place {
            self.steps.push(self.empty.clone());
        }
        &mut self.steps[place]
    }

    fn place(&self, moment: Duration) -> usize {
        let place = moment.as_millis() / u128::from(WIDTHS[self.width]);
        usize::try_from(place).unwrap_or(usize::MAX)
    }

    fn widen(&mut self) {
        let many = WIDTHS[self.width + 1] / WIDTHS[self.width];
        self.steps = self.merged(usize::try_from(many).unwrap_or(1));
        self.width += 1;
    }

    /// The steps, so many put together to one.
    pub(super) fn merged(&self, many: usize) -> Vec<Step> {
        let groups = self.steps.chunks(many.max(1));
        let sum = |steps: &[Step]| {
            let mut sum = self.empty.clone();
            for step in steps {
                sum.add(step);
            }
            sum
        };
        groups.map(sum).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_become_wider_and_nothing_is_lost() {
        let mut series = Series::new().unwrap();
        let mut sent = 0;
        for second in 0..4_000 {
            let step = series.at(Duration::from_secs(second));
            step.took[0].record(1_000 + second).unwrap();
            step.failed += 1;
            step.in_flight = step.in_flight.max(second);
            sent += 1;
            assert!(series.steps().len() <= MOST);
        }
        assert_eq!(series.width(), Duration::from_secs(20));
        let sum = |of: fn(&Step) -> u64| series.steps().iter().map(of).sum::<u64>();
        assert_eq!((sum(Step::accepted), sum(|step| step.failed)), (sent, sent));
        let last = series.steps().last().unwrap();
        assert_eq!((last.accepted(), last.in_flight), (20, 3_999));
        assert_eq!(series.steps()[0].took[0].min() / 100, 10);
    }

    #[test]
    fn widths_are_multiples_and_hold_more_than_a_day() {
        for pair in WIDTHS.windows(2) {
            assert_eq!(pair[1] % pair[0], 0);
        }
        let longest = WIDTHS[WIDTHS.len() - 1] * MOST as u64;
        assert!(longest > 25 * 3_600_000);
        let mut series = Series::new().unwrap();
        series.at(Duration::from_secs(10 * 24 * 3_600)).failed = 1;
        assert_eq!(series.steps().len(), MOST);
    }

    #[test]
    fn moments_without_anything_are_empty_steps() {
        let mut series = Series::new().unwrap();
        series.at(Duration::from_millis(950)).failed = 1;
        assert_eq!(series.steps().len(), 10);
        assert!(series.steps()[..9].iter().all(|step| step.failed == 0));
    }
}
