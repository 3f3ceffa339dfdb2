//! The report's pictures: lines over time. By hand, for what plotting crates draw
//! has colours of its own (`plotters`) or needs scripts (`charming`), and these
//! follow the page's light and dark.

use serde_json::{Value, json};

use super::record::Tally;
use super::show::{count_of, digits};

/// Where the marks of an axis are.
const MARKS: [f64; 5] = [0.0, 0.25, 0.5, 0.75, 1.0];

/// Style and name of a line, and its value in each step.
type Line = (&'static str, &'static str, Vec<f64>);

/// Pushes a second, against what was due, and the slowest in each step.
#[allow(clippy::cast_precision_loss)] // counts and microseconds
pub(super) fn pictures(tally: &Tally, due: Option<f64>) -> [Value; 2] {
    let count = tally.steps.len();
    let width = tally.width.as_secs_f64();
    let before = count.saturating_sub(1) as f64 * width;
    // The last step may not be over; not less than half of it.
    let last = (tally.last.as_secs_f64() - before).clamp(width / 2.0, width);
    // How long each step is, and its middle.
    let long = |n: usize| if n + 1 == count { last } else { width };
    let middles: Vec<f64> = (0..count)
        .map(|n| n as f64 * width + long(n) / 2.0)
        .collect();
    let rate = |kind: usize| -> Vec<f64> {
        let steps = tally.steps.iter().enumerate();
        steps.map(|(n, step)| step[kind] as f64 / long(n)).collect()
    };
    let mut rates = vec![
        ("good", "accepted", rate(0)),
        ("bad", "not accepted", rate(1)),
    ];
    rates.retain(|(_, _, rates)| rates.iter().any(|rate| *rate > 0.0));
    rates.extend(due.map(|due| ("due", "due", vec![due; count])));
    let slowest = tally.steps.iter().map(|step| step[2] as f64 / 1_000.0);
    let slowest = [("slowest", "slowest", slowest.collect())];
    let end = before + last;
    [
        picture("Pushes a second", &middles, end, &rates),
        picture("Slowest, milliseconds", &middles, end, &slowest),
    ]
}

/// In percent of its width and height; the page stretches it.
fn picture(title: &str, seconds: &[f64], end: f64, lines: &[Line]) -> Value {
    let values = lines.iter().flat_map(|(_, _, values)| values);
    let top = rounded_up(values.copied().fold(1e-3, f64::max));
    let lines = lines.iter().map(|(kind, name, values)| {
        let points = seconds.iter().zip(values).map(|(second, value)| {
            let (x, y) = (second / end * 100.0, 100.0 - value / top * 100.0);
            format!("{x:.2},{y:.2}")
        });
        json!({"kind": kind, "name": name, "points": points.collect::<Vec<_>>().join(" ")})
    });
    let of_top = |part: f64| match part * top {
        value if top < 40.0 => digits(value),
        value => count_of(value),
    };
    json!({
        "title": title,
        "rows": MARKS.map(|part| (part * 100.0, of_top(part))),
        "columns": MARKS.map(|part| (part * 100.0, format!("{:.1} s", part * end))),
        "lines": lines.collect::<Vec<_>>(),
    })
}

/// Not below it, and easy to divide by four.
fn rounded_up(value: f64) -> f64 {
    let decade = 10_f64.powf(value.log10().floor());
    let nice = [1.0, 1.2, 1.6, 2.0, 2.4, 3.2, 4.0, 6.0, 8.0, 10.0];
    let nice = nice.map(|nice| nice * decade).into_iter();
    nice.filter(|nice| *nice >= value)
        .fold(decade * 10.0, f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_ends_above_all_values() {
        for (value, top) in [
            (1.0, 1.0),
            (498.0, 600.0),
            (0.0012, 0.0012),
            (9_999.0, 10_000.0),
        ] {
            assert!((rounded_up(value) - top).abs() < 1e-9, "{value}");
        }
    }

    #[test]
    fn every_point_is_inside_and_a_rate_is_of_the_time_that_there_was() {
        let mut tally = Tally::new().unwrap();
        for picture in pictures(&tally, Some(5.0)) {
            let text = picture.to_string();
            assert!(!text.contains("NaN") && !text.contains("null"), "{text}");
        }
        tally.steps = vec![[1, 0, 9], [5, 0, 0], [4, 2, 70_000]];
        tally.last = tally.width * 5 / 2;
        let [rates, slowest] = pictures(&tally, None);
        // 4 in half a step of a quarter of a second, the highest of all.
        assert_eq!(rates["rows"][4][1], "32.0");
        assert_eq!(slowest["rows"][4][1], "80");
        let lines = [&rates["lines"], &slowest["lines"]].map(|lines| lines.as_array().unwrap());
        assert_eq!(lines.map(Vec::len), [2, 1]);
        assert_eq!(lines[0][0]["points"], "20.00,87.50 60.00,37.50 90.00,0.00");
        for line in lines.into_iter().flatten() {
            let points = line["points"].as_str().unwrap().split([',', ' ']);
            let mut places = points.map(|text| text.parse::<f64>().unwrap());
            assert!(places.all(|place| (0.0..=100.0).contains(&place)), "{line}");
        }
    }
}
