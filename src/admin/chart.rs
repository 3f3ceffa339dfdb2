//! Pictures of the status page, as numbers for the template's SVG.

use std::time::Duration;

use serde::Serialize;

use super::trace::PushTrace;
use crate::call::event::Platform;
use crate::engine::history::Counts;
use crate::engine::history::Latency;

/// Width of every picture in its own units; the page stretches it.
const WIDTH: f64 = 1000.0;
/// Height of the pictures with bars.
const HEIGHT: f64 = 100.0;

/// A rectangle of a picture.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Bar {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
    /// Its colour, by the name of a style.
    pub(super) kind: &'static str,
    /// What the pointer shows.
    pub(super) title: String,
}

/// Pushes per second over the last minutes.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Rates {
    pub(super) bars: Vec<Bar>,
    /// What the top of the picture stands for, per second.
    pub(super) top: String,
    /// Per second over the last minute.
    pub(super) accepted: String,
    pub(super) failed: String,
    pub(super) any_failed: bool,
}

/// The last five minutes in steps of so many seconds.
pub(super) const STEP: u64 = 5;

#[allow(clippy::cast_precision_loss)] // counts of seconds
pub(super) fn rates(steps: &[Counts]) -> Rates {
    let parts: Vec<_> = steps
        .iter()
        .map(|step| [step.accepted, step.cancelled, step.failed])
        .collect();
    let most = parts.iter().map(|part| part.iter().sum()).max();
    let most = most.unwrap_or(0).max(1);
    let title = |n: usize, kind: &str, count| {
        let ago = (steps.len() - n) as u64 * STEP;
        let what = match kind {
            "good" => "accepted",
            "idle" => "cancelled",
            _ => "not delivered",
        };
        format!("{ago} s ago: {count} {what}")
    };
    let bars = stacked(&parts, ["good", "idle", "bad"], 1.0, title);
    let minute = || steps.iter().rev().zip(0..60 / STEP);
    let sum = |of: fn(&Counts) -> u64| minute().map(|(step, _)| of(step)).sum::<u64>();
    let failed = sum(|step| step.failed);
    Rates {
        bars,
        top: per_second(most, STEP),
        accepted: per_second(sum(|step| step.accepted), 60),
        failed: per_second(failed, 60),
        any_failed: failed > 0,
    }
}

/// A column for each entry, its parts one above the other, with so much room
/// on both sides.
#[allow(clippy::cast_precision_loss)] // counts, and columns of a picture
fn stacked<const N: usize>(
    columns: &[[u64; N]],
    kinds: [&'static str; N],
    margin: f64,
    title: impl Fn(usize, &str, u64) -> String,
) -> Vec<Bar> {
    let most = columns.iter().map(|parts| parts.iter().sum::<u64>()).max();
    let most = most.unwrap_or(0).max(1) as f64;
    let width = WIDTH / columns.len().max(1) as f64;
    let mut bars = Vec::new();
    for (n, parts) in columns.iter().enumerate() {
        let mut base = HEIGHT;
        for (kind, count) in kinds.into_iter().zip(*parts) {
            if count == 0 {
                continue;
            }
            let height = round(count as f64 / most * HEIGHT).max(1.5);
            base -= height;
            bars.push(Bar {
                x: round(n as f64 * width + margin),
                y: round(base.max(0.0)),
                width: round(width - 2.0 * margin),
                height,
                kind,
                title: title(n, kind, count),
            });
        }
    }
    bars
}

#[allow(clippy::cast_precision_loss)]
fn per_second(count: u64, seconds: u64) -> String {
    let rate = count as f64 / seconds as f64;
    match rate {
        _ if count == 0 => "0".to_owned(),
        rate if rate < 0.1 => format!("{rate:.2}"),
        rate if rate < 10.0 => format!("{rate:.1}"),
        rate => format!("{rate:.0}"),
    }
}

/// How long accepted rings took.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Latencies {
    pub(super) bars: Vec<Bar>,
    /// The buckets' upper bounds, with their place on the picture in percent.
    pub(super) labels: Vec<Label>,
    pub(super) rows: Vec<Percentiles>,
    pub(super) count: usize,
}

/// A mark below a picture.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Label {
    pub(super) x: f64,
    pub(super) text: String,
}

/// One platform's numbers.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Percentiles {
    pub(super) platform: &'static str,
    pub(super) kind: &'static str,
    pub(super) count: usize,
    pub(super) half: String,
    pub(super) most: String,
    pub(super) nearly_all: String,
    pub(super) worst: String,
}

/// Upper bounds in milliseconds: two a doubling, for the eye.
#[rustfmt::skip] // two rows are easier to compare than eighteen lines
const BOUNDS: [u32; 18] = [
    1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 300, 500,
    1_000, 2_000, 5_000, 10_000, 30_000, u32::MAX,
];

#[allow(clippy::cast_precision_loss)] // at most as many as pushes are kept
pub(super) fn latencies(all: &[Latency]) -> Latencies {
    let platforms = [(Platform::Ios, "ios"), (Platform::Android, "android")];
    let mut buckets = [[0; 2]; BOUNDS.len()];
    let mut rows = Vec::new();
    for (row, (platform, kind)) in platforms.into_iter().enumerate() {
        let mine = all.iter().filter(|one| one.platform == platform);
        let mut times: Vec<u32> = mine.map(|one| one.push_ms).collect();
        times.sort_unstable();
        for time in &times {
            buckets[BOUNDS.partition_point(|bound| bound < time)][row] += 1;
        }
        rows.extend(percentiles(&times, platform.name(), kind));
    }
    let title = |n, kind: &str, count| format!("{}: {count} {kind}", range(n));
    let bars = stacked(&buckets, platforms.map(|(_, kind)| kind), 2.0, title);
    let labels = BOUNDS.iter().enumerate().filter(|(n, bound)| {
        // Few: they must not touch on a phone.
        [2, 10, 100, 1_000, 10_000].contains(*bound) && *n > 0
    });
    Latencies {
        bars,
        labels: labels
            .map(|(n, bound)| Label {
                x: round((n + 1) as f64 / BOUNDS.len() as f64 * WIDTH),
                text: span(u64::from(*bound)),
            })
            .collect(),
        rows,
        count: all.len(),
    }
}

fn range(bucket: usize) -> String {
    let above = bucket.checked_sub(1).map_or(0, |n| BOUNDS[n]);
    match BOUNDS[bucket] {
        u32::MAX => format!("above {}", span(u64::from(above))),
        bound => format!("up to {}", span(u64::from(bound))),
    }
}

fn percentiles(sorted: &[u32], platform: &'static str, kind: &'static str) -> Option<Percentiles> {
    let worst = sorted.last()?;
    // The nearest rank: a time that really was.
    let at = |percent: usize| {
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        span(u64::from(sorted[rank - 1]))
    };
    Some(Percentiles {
        platform,
        kind,
        count: sorted.len(),
        half: at(50),
        most: at(95),
        nearly_all: at(99),
        worst: span(u64::from(*worst)),
    })
}

/// A push's course from taking it to its end: attempts, and the waits between.
pub(super) fn timeline(push: &PushTrace, now_ms: u64) -> Vec<Bar> {
    let last = push.attempts.last().map_or(0, |a| a.after_ms + a.ms);
    let end = push.outcome.as_ref().map_or(now_ms, |o| o.push_ms);
    let whole = end.max(last).max(1);
    #[allow(clippy::cast_precision_loss)] // a ring lasts minutes at most
    let place = |ms: u64| round(ms as f64 / whole as f64 * WIDTH);
    let attempts = push.attempts.iter().enumerate();
    attempts
        .map(|(n, attempt)| {
            let width = place(attempt.ms).max(8.0);
            Bar {
                x: place(attempt.after_ms).min(WIDTH - width),
                y: 0.0,
                width,
                height: 10.0,
                kind: colour(&attempt.class),
                title: format!("attempt {}: {}", n + 1, attempt.class),
            }
        })
        .collect()
}

/// The colour of an attempt's end.
pub(super) fn colour(class: &str) -> &'static str {
    match class {
        "accepted" => "good",
        "not_processed" | "unclear" | "unavailable" | "throttled" | "stale_credential"
        | "signing_throttled" | "no_credential" => "warn",
        _ => "bad",
    }
}

/// Milliseconds for people.
pub(super) fn span(ms: u64) -> String {
    #[allow(clippy::cast_precision_loss)] // rounded anyway
    let seconds = ms as f64 / 1000.0;
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..10_000 if ms.is_multiple_of(1_000) => format!("{seconds:.0} s"),
        1_000..10_000 => format!("{seconds:.1} s"),
        10_000..120_000 => format!("{seconds:.0} s"),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        7_200_000..172_800_000 => format!("{} h", ms / 3_600_000),
        _ => format!("{} days", ms / 86_400_000),
    }
}

/// How long something has lasted, for people: no fractions.
pub(super) fn age(span: Duration) -> String {
    let whole = Duration::from_secs(span.as_secs());
    self::span(
        u64::try_from(whole.as_millis())
            .unwrap_or(u64::MAX)
            .max(1_000),
    )
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_short() {
        for (ms, text) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1_000, "1 s"),
            (1_250, "1.2 s"),
            (59_400, "59 s"),
            (300_000, "5 min"),
            (7_200_000, "2 h"),
            (864_000_000, "10 days"),
        ] {
            assert_eq!(span(ms), text);
        }
    }

    #[test]
    fn percentiles_are_times_that_really_were() {
        let times: Vec<u32> = (1..=200).collect();
        let row = percentiles(&times, "ios", "ios").unwrap();
        assert_eq!(
            [row.half, row.most, row.nearly_all, row.worst],
            ["100 ms", "190 ms", "198 ms", "200 ms"]
        );
        assert!(percentiles(&[], "ios", "ios").is_none());
        let one = percentiles(&[7], "ios", "ios").unwrap();
        assert_eq!(one.half, "7 ms");
    }

    #[test]
    fn every_latency_is_in_one_bar_and_no_bar_leaves_the_picture() {
        let all: Vec<Latency> = [0, 1, 2, 9, 250, 31_000, u32::MAX]
            .into_iter()
            .flat_map(|push_ms| {
                [Platform::Ios, Platform::Android].map(|platform| Latency { platform, push_ms })
            })
            .collect();
        let picture = latencies(&all);
        assert_eq!(picture.count, 14);
        assert_eq!(picture.rows.len(), 2);
        for bar in &picture.bars {
            assert!(bar.x >= 0.0 && bar.x + bar.width <= WIDTH, "{bar:?}");
            assert!(
                bar.y >= 0.0 && bar.y + bar.height <= HEIGHT + 0.2,
                "{bar:?}"
            );
        }
    }

    #[test]
    fn rates_are_of_the_last_minute() {
        let mut steps = vec![Counts::default(); 60];
        steps[0].accepted = 1_000;
        steps[59].accepted = 60;
        steps[59].failed = 3;
        let picture = rates(&steps);
        assert_eq!((&*picture.accepted, &*picture.failed), ("1.0", "0.05"));
        assert_eq!(picture.top, "200");
        assert_eq!(rates(&[]).accepted, "0");
    }
}
