//! A picture as numbers: scales, marks and paths for the report's SVG.

use std::fmt::Write as _;

use serde::Serialize;

/// Width and height of every picture in its own units; the page stretches it.
pub(super) const SIDE: f64 = 1000.0;

/// One picture.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Plot {
    pub(super) title: &'static str,
    /// What stands beside the title.
    pub(super) note: String,
    /// How tall it is: a style of the page.
    pub(super) shape: &'static str,
    /// Along the left side, from the bottom, in percent.
    pub(super) rows: Vec<Mark>,
    /// Along the bottom, from the left, in percent.
    pub(super) columns: Vec<Mark>,
    pub(super) paths: Vec<Path>,
    pub(super) legend: Vec<Key>,
    /// What the pointer shows, by its place from the left: JSON.
    pub(super) tips: String,
}

/// A text at an axis.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Mark {
    pub(super) at: f64,
    pub(super) text: String,
}

/// A shape, with styles of the page.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Path {
    pub(super) kind: String,
    pub(super) d: String,
}

/// A line of the legend.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Key {
    pub(super) kind: &'static str,
    pub(super) text: &'static str,
}

/// What is shown at a place.
pub(super) fn tips(tips: &[Mark]) -> String {
    let pairs: Vec<(f64, &str)> = tips.iter().map(|tip| (tip.at, &*tip.text)).collect();
    serde_json::to_string(&pairs).unwrap_or_default()
}

/// Draws a path.
#[derive(Clone, Debug, Default)]
pub(super) struct Pen(String);

impl Pen {
    /// A filled rectangle; nothing if it is empty.
    pub(super) fn bar(&mut self, x: f64, y: f64, width: f64, height: f64) {
        if height > 0.0 {
            let [x, y, width, height] = [x, y, width, height].map(round);
            // Writing to a string does not fail.
            let _ = write!(self.0, "M{x} {y}h{width}v{height}h-{width}z");
        }
    }

    /// A short horizontal line.
    pub(super) fn dash(&mut self, x: f64, y: f64, width: f64) {
        let [x, y, width] = [x, y, width].map(round);
        let _ = write!(self.0, "M{x} {y}h{width}");
    }

    /// A line through these points; it is broken where there is none.
    pub(super) fn line(&mut self, points: impl IntoIterator<Item = Option<(f64, f64)>>) {
        let mut command = 'M';
        for point in points {
            let Some((x, y)) = point else {
                command = 'M';
                continue;
            };
            let _ = write!(self.0, "{command}{} {}", round(x), round(y));
            command = 'L';
        }
    }

    /// The drawing, or nothing if nothing was drawn.
    pub(super) fn path(self, kind: impl Into<String>) -> Option<Path> {
        let kind = kind.into();
        (!self.0.is_empty()).then_some(Path { kind, d: self.0 })
    }
}

pub(super) fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// From zero to a round number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Linear {
    top: f64,
    step: f64,
}

impl Linear {
    /// One that reaches at least so far, with at most so many steps.
    pub(super) fn to(most: f64, steps: f64) -> Self {
        let least = (most.max(1e-9) / steps).max(1e-9);
        let decade = 10_f64.powf(least.log10().floor());
        let nice = [1.0, 2.0, 2.5, 5.0, 10.0];
        let step = nice.iter().map(|nice| nice * decade);
        let step = step.into_iter().find(|step| *step >= least * 0.999);
        let step = step.unwrap_or(decade * 10.0);
        let top = (most / step * 0.999).ceil().max(1.0) * step;
        Self { top, step }
    }

    /// From the bottom, of the whole.
    pub(super) fn share(self, value: f64) -> f64 {
        (value / self.top).clamp(0.0, 1.0)
    }

    /// Of a picture, from its top.
    pub(super) fn y(self, value: f64) -> f64 {
        SIDE * (1.0 - self.share(value))
    }

    pub(super) fn marks(self, text: impl Fn(f64) -> String) -> Vec<Mark> {
        let steps = (self.top / self.step).round();
        let mut marks = Vec::new();
        let mut step = 0.0;
        while step <= steps {
            let at = round(step / steps * 100.0);
            let text = text(step * self.step);
            marks.push(Mark { at, text });
            step += 1.0;
        }
        marks
    }
}

/// Times, each decade as long as the next; in microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Logarithmic {
    low: f64,
    high: f64,
}

impl Logarithmic {
    /// One that holds all from the shortest to the longest.
    #[allow(clippy::cast_precision_loss)] // microseconds of less than a day
    pub(super) fn over(shortest: u64, longest: u64) -> Self {
        let (short, long) = (shortest.max(1) as f64, longest.max(2) as f64);
        let low = ticks(0.0).filter(|tick| *tick <= short).last();
        let high = ticks(0.0).find(|tick| *tick >= long);
        let low = low.unwrap_or(1.0);
        let high = high.unwrap_or(1e12).max(low * 2.0);
        Self { low, high }
    }

    /// From the beginning, of the whole.
    #[allow(clippy::cast_precision_loss)]
    pub(super) fn share(self, micros: u64) -> f64 {
        let value = (micros.max(1) as f64).clamp(self.low, self.high);
        (value / self.low).log10() / (self.high / self.low).log10()
    }

    pub(super) fn y(self, micros: u64) -> f64 {
        SIDE * (1.0 - self.share(micros))
    }

    /// Not more than six.
    pub(super) fn marks(self) -> Vec<Mark> {
        let decades = (self.high / self.low).log10();
        let inside = ticks(decades).filter(|tick| *tick >= self.low * 0.999);
        inside
            .take_while(|tick| *tick <= self.high * 1.001)
            .map(|tick| Mark {
                at: round((tick / self.low).log10() / decades * 100.0),
                text: time(tick),
            })
            .collect()
    }
}

/// 1, 2, 5, 10 and so on, from a microsecond to days; fewer of them if they have to
/// mark many decades.
fn ticks(decades: f64) -> impl Iterator<Item = f64> {
    let within: &[f64] = match decades {
        few if few <= 1.7 => &[1.0, 2.0, 5.0],
        some if some <= 2.8 => &[1.0, 3.0],
        _ => &[1.0],
    };
    (0..13).flat_map(move |decade| within.iter().map(move |tick| tick * 10_f64.powi(decade)))
}

/// Microseconds for an axis.
pub(super) fn time(micros: f64) -> String {
    let (value, unit) = match micros {
        short if short < 100.0 => (micros, "µs"),
        medium if medium < 1e6 => (micros / 1e3, "ms"),
        _ => (micros / 1e6, "s"),
    };
    let value = (value * 100.0).round() / 100.0;
    format!("{value} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_ends_at_a_round_number_above_all_values() {
        for (most, top, marks) in [
            (0.0, 0.0, 2),
            (1.0, 1.0, 5),
            (498.0, 600.0, 4),
            (500.0, 600.0, 4),
            (501.0, 600.0, 4),
            (12_345.0, 15_000.0, 4),
        ] {
            let scale = Linear::to(most, 4.0);
            assert!(
                most == 0.0 || (scale.top - top).abs() < 1e-6,
                "{most}: {scale:?}"
            );
            assert!(scale.marks(|v| v.to_string()).len() <= 5, "{most}");
            assert!(
                most == 0.0 || scale.marks(|v| v.to_string()).len() == marks,
                "{most} {scale:?}"
            );
        }
        let scale = Linear::to(500.0, 4.0);
        assert!((scale.y(300.0) - 500.0).abs() < 1e-9 && scale.y(900.0).abs() < 1e-9);
    }

    #[test]
    fn a_scale_of_times_holds_them_all_and_its_marks_are_few() {
        for (shortest, longest) in [(0, 0), (180, 900), (700, 12_000), (300, 10_000_000)] {
            let scale = Logarithmic::over(shortest, longest);
            let marks = scale.marks();
            assert!((2..=6).contains(&marks.len()), "{marks:?}");
            assert!(marks.iter().all(|mark| (0.0..=100.0).contains(&mark.at)));
            assert!(scale.share(shortest) >= 0.0 && scale.share(longest) <= 1.0);
            assert!(scale.share(longest + 1) >= scale.share(shortest));
        }
        let scale = Logarithmic::over(1_000, 100_000);
        assert!((scale.share(10_000) - 0.5).abs() < 1e-9);
        assert_eq!(scale.marks()[0].text, "1 ms");
    }

    #[test]
    fn times_at_an_axis_are_short() {
        for (micros, text) in [
            (50.0, "50 µs"),
            (200.0, "0.2 ms"),
            (1_000.0, "1 ms"),
            (3e6, "3 s"),
        ] {
            assert_eq!(time(micros), text);
        }
    }

    #[test]
    fn a_line_is_broken_where_there_is_nothing() {
        let mut pen = Pen::default();
        pen.line([Some((0.0, 1.0)), Some((2.0, 3.04)), None, Some((4.0, 5.0))]);
        pen.bar(0.0, 0.0, 1.0, 0.0);
        assert_eq!(pen.path("x").unwrap().d, "M0 1L2 3M4 5");
        assert!(Pen::default().path("x").is_none());
    }
}
