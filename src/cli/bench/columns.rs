//! Time along the bottom of a picture.

use std::time::Duration;

use super::chart::{Linear, Mark, SIDE, round, tips};
use super::series::{Series, Step};

/// Columns of a picture over time: not more, and not fewer for want of pushes.
const COLUMNS: (usize, usize) = (120, 20);
/// Pushes in a column on average; of fewer a percentile says nothing.
const IN_COLUMN: u64 = 120;

/// The columns of the pictures over time.
pub(super) struct Columns {
    pub(super) steps: Vec<Step>,
    /// Seconds of a step.
    width: f64,
    /// Seconds of the last one, which may not be over; not less than half.
    last: f64,
}

#[allow(clippy::cast_precision_loss)] // at most some hundred
impl Columns {
    pub(super) fn of(series: &Series, end: Duration) -> Self {
        let many = together(series.steps());
        let steps = series.merged(many);
        let width = series.width().as_secs_f64() * many as f64;
        let before = steps.len().saturating_sub(1) as f64 * width;
        let last = (end.as_secs_f64() - before).clamp(width / 2.0, width);
        Self { steps, width, last }
    }

    pub(super) fn each(&self) -> f64 {
        SIDE / self.steps.len().max(1) as f64
    }

    pub(super) fn x(&self, n: usize) -> f64 {
        n as f64 * self.each()
    }

    /// Of a count in a step, per second.
    pub(super) fn rate(&self, n: usize, count: u64) -> f64 {
        let last = n + 1 == self.steps.len();
        count as f64 / if last { self.last } else { self.width }
    }

    fn second(&self, n: usize) -> f64 {
        n as f64 * self.width
    }

    /// Seconds below a picture.
    pub(super) fn marks(&self) -> Vec<Mark> {
        let whole = self.second(self.steps.len());
        let scale = Linear::to(whole, 6.0);
        let marks = scale.marks(|seconds| format!("{} s", (seconds * 10.0).round() / 10.0));
        // The scale goes on to a round number, the picture does not.
        let stretch = 1.0 / scale.share(whole).max(1e-9);
        let inside = marks.into_iter().map(|mark| Mark {
            at: round(mark.at * stretch),
            text: mark.text,
        });
        inside.filter(|mark| mark.at <= 100.5).collect()
    }

    pub(super) fn tips(&self, text: impl Fn(usize, &Step) -> String) -> String {
        let marks = self.steps.iter().enumerate().map(|(n, step)| {
            let at = round((self.x(n) + self.each() / 2.0) / SIDE * 100.0);
            let text = format!("{:.1} s: {}", self.second(n), text(n, step));
            Mark { at, text }
        });
        tips(&marks.collect::<Vec<_>>())
    }
}

/// How many steps make a column.
fn together(steps: &[Step]) -> usize {
    let pushes: u64 = steps.iter().map(|step| step.accepted() + step.failed).sum();
    let enough = usize::try_from(pushes / IN_COLUMN).unwrap_or(usize::MAX);
    let columns = enough.clamp(COLUMNS.1, COLUMNS.0);
    // Ones that divide seconds.
    let least = steps.len().div_ceil(columns);
    let nice = [1, 2, 5, 10, 20, 50, 100];
    nice.into_iter()
        .find(|many| *many >= least)
        .unwrap_or(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(steps: u64, in_each: u64) -> Series {
        let mut series = Series::new().unwrap();
        for n in 0..steps {
            series.at(Duration::from_millis(n * 100)).failed = in_each;
        }
        series
    }

    #[test]
    fn columns_are_as_wide_as_they_need_pushes_and_not_too_many() {
        let end = Duration::from_secs(20);
        for (in_each, columns) in [(0, 20), (50, 40), (1_000, 100), (1_000_000, 100)] {
            let series = series(200, in_each);
            assert_eq!(Columns::of(&series, end).steps.len(), columns, "{in_each}");
        }
        let few = Columns::of(&series(7, 1), Duration::from_millis(700));
        assert_eq!(few.steps.len(), 7);
    }

    #[test]
    fn a_rate_is_of_the_time_that_there_was() {
        let columns = Columns::of(&series(10, 200), Duration::from_millis(960));
        let rate = |n| columns.rate(n, columns.steps[n].failed);
        assert!((rate(0) - 2_000.0).abs() < 1e-6, "{}", rate(0));
        assert!((rate(9) - 200.0 / 0.06).abs() < 1e-6, "{}", rate(9));
        let marks = columns.marks();
        assert_eq!((marks[0].at, &*marks[0].text), (0.0, "0 s"));
        assert!(marks.len() >= 4 && marks.iter().all(|mark| mark.at <= 100.5));
    }
}
