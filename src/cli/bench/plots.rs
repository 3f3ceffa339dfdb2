//! The report's pictures.

use hdrhistogram::Histogram;

use super::chart::{Key, Linear, Logarithmic, Mark, Path, Pen, Plot, SIDE, round, tips};
use super::columns::Columns;
use super::record::{Side, Tally, place};
use super::series::Step;
use super::show::{count_of, digits};
use crate::call::event::Platform;

const PLATFORMS: [(Platform, &str, &str); 2] = [
    (Platform::Ios, "ios", "iOS"),
    (Platform::Android, "android", "Android"),
];
/// Rows of a heat map.
const ROWS: usize = 36;
/// Shades of a heat map.
const SHADES: usize = 6;
/// Bars of a histogram.
const BARS: usize = 56;
/// Points of a line of percentiles.
const POINTS: u32 = 160;

/// Pushes a second over time, against what was due.
pub(super) fn throughput(tally: &Tally, due: Option<f64>) -> Plot {
    let columns = Columns::of(&tally.series, tally.last);
    let all = |(n, step): (usize, &Step)| columns.rate(n, step.accepted() + step.failed);
    let most = columns.steps.iter().enumerate().map(all);
    let most = most.chain(due).fold(0.0, f64::max);
    let scale = Linear::to(most, 4.0);
    let mut pens: [(Pen, &str); 3] = ["ios", "android", "bad"].map(|kind| (Pen::default(), kind));
    for (n, step) in columns.steps.iter().enumerate() {
        let counts = [step.took[0].len(), step.took[1].len(), step.failed];
        let mut sum = 0.0;
        for ((pen, _), count) in pens.iter_mut().zip(counts) {
            let from = sum;
            sum += columns.rate(n, count);
            let (top, bottom) = (scale.y(sum), scale.y(from));
            // Wider than its place by a hair, or the screen shows gaps.
            pen.bar(columns.x(n), top, columns.each() + 0.4, bottom - top);
        }
    }
    let mut paths: Vec<Path> = pens
        .into_iter()
        .filter_map(|(pen, kind)| pen.path(format!("fill {kind}")))
        .collect();
    let mut legend = keys(tally);
    if let Some(due) = due {
        let mut pen = Pen::default();
        pen.dash(0.0, scale.y(due), SIDE);
        paths.extend(pen.path("due"));
        legend.push(key("due", "due"));
    }
    if columns.steps.iter().any(|step| step.failed > 0) {
        legend.push(key("bad", "not accepted"));
    }
    Plot {
        title: "Pushes a second",
        note: String::new(),
        shape: "wide",
        rows: scale.marks(count_of),
        columns: columns.marks(),
        paths,
        legend,
        tips: columns.tips(|n, step| {
            let rate = |count| count_of(columns.rate(n, count));
            format!(
                "{}/s accepted, {}/s not, {} under way",
                rate(step.accepted()),
                rate(step.failed),
                step.in_flight
            )
        }),
    }
}

/// Pushes under way over time.
#[allow(clippy::cast_precision_loss)]
pub(super) fn under_way(tally: &Tally) -> Plot {
    let columns = Columns::of(&tally.series, tally.last);
    let most = columns.steps.iter().map(|step| step.in_flight).max();
    let scale = Linear::to(most.unwrap_or(0).max(1) as f64, 2.0);
    let mut pen = Pen::default();
    for (n, step) in columns.steps.iter().enumerate() {
        let top = scale.y(step.in_flight as f64);
        pen.bar(columns.x(n), top, columns.each() + 0.4, SIDE - top);
    }
    Plot {
        title: "Pushes under way",
        note: "the most at a time".to_owned(),
        shape: "low",
        rows: scale.marks(count_of),
        columns: columns.marks(),
        paths: pen.path("fill idle").into_iter().collect(),
        legend: Vec::new(),
        tips: columns.tips(|_, step| format!("{} under way", step.in_flight)),
    }
}

/// How long pushes took over time: how many, and the percentiles of each step.
pub(super) fn heat(tally: &Tally, platform: Platform, scale: Logarithmic) -> Option<Plot> {
    let (_, kind, _) = PLATFORMS[place(platform)];
    if tally.sides[place(platform)].took.is_empty() {
        return None;
    }
    let columns = Columns::of(&tally.series, tally.last);
    let mut paths = cells(&columns, platform, scale, kind);
    let took = |step: &Step| -> Option<Histogram<u32>> {
        let took = &step.took[place(platform)];
        (!took.is_empty()).then(|| took.clone())
    };
    for (quantile, kind) in [(0.5, "line half"), (0.99, "line most")] {
        let points = columns.steps.iter().enumerate().map(|(n, step)| {
            let x = columns.x(n) + columns.each() / 2.0;
            took(step).map(|took| (x, scale.y(took.value_at_quantile(quantile))))
        });
        let mut pen = Pen::default();
        pen.line(points);
        paths.extend(pen.path(kind));
    }
    Some(Plot {
        title: match platform {
            Platform::Android => "Android: due to accepted",
            Platform::Ios | Platform::Unknown => "iOS: due to accepted",
        },
        note: "colour: how many".to_owned(),
        shape: "tall",
        rows: scale.marks(),
        columns: columns.marks(),
        paths,
        legend: vec![key("half", "p50"), key("most", "p99")],
        tips: columns.tips(|_, step| match took(step) {
            None => "none".to_owned(),
            Some(took) => format!(
                "p50 {}, p99 {}, longest {} ms",
                milli(took.value_at_quantile(0.5)),
                milli(took.value_at_quantile(0.99)),
                milli(took.max())
            ),
        }),
    })
}

/// The cells of a heat map: a path for each shade.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
#[allow(clippy::cast_sign_loss)] // rows and shades
fn cells(columns: &Columns, platform: Platform, scale: Logarithmic, kind: &str) -> Vec<Path> {
    let mut counts = vec![[0_u64; ROWS]; columns.steps.len()];
    for (column, step) in counts.iter_mut().zip(&columns.steps) {
        for value in step.took[place(platform)].iter_recorded() {
            let row = (scale.share(value.value_iterated_to()) * ROWS as f64) as usize;
            column[row.min(ROWS - 1)] += value.count_since_last_iteration();
        }
    }
    let most = counts.iter().flatten().max().copied().unwrap_or(0).max(1);
    let mut shades: [Pen; SHADES] = Default::default();
    let height = SIDE / ROWS as f64;
    for (n, column) in counts.iter().enumerate() {
        for (row, count) in column.iter().enumerate().filter(|(_, count)| **count > 0) {
            // By its logarithm: a single slow push is to be seen.
            let depth = ((1 + count) as f64).ln() / ((1 + most) as f64).ln();
            let shade = (depth * SHADES as f64).ceil() as usize;
            let pen = &mut shades[shade.clamp(1, SHADES) - 1];
            let y = SIDE - (row + 1) as f64 * height;
            pen.bar(columns.x(n), y, columns.each() + 0.4, height + 0.4);
        }
    }
    let paths = shades.into_iter().enumerate();
    paths
        .filter_map(|(shade, pen)| pen.path(format!("fill {kind} shade{}", shade + 1)))
        .collect()
}

/// How long which part of the pushes took at most, the slow end drawn out.
pub(super) fn percentiles(tally: &Tally, scale: Logarithmic) -> Plot {
    let longest = tally.sides.iter().map(|side| side.took.len()).max();
    let nines = nines_of(longest.unwrap_or(0));
    let mut paths = Vec::new();
    let mut legend = keys(tally);
    for (platform, kind, _) in PLATFORMS {
        let Side { took, attempt, .. } = &tally.sides[place(platform)];
        for (took, style) in [(attempt, "attempt"), (took, "")] {
            if took.is_empty() {
                continue;
            }
            let points = (0..=POINTS).map(|n| {
                let share = f64::from(n) / f64::from(POINTS);
                // Not further than there are pushes to tell of.
                let known = share * nines <= nines_of(took.len()) + 1e-9;
                known.then(|| (share * SIDE, scale.y(at_nines(took, share * nines))))
            });
            let mut pen = Pen::default();
            pen.line(points);
            paths.extend(pen.path(format!("line {kind} {style}")));
        }
    }
    if tally.sides.iter().any(|side| !side.attempt.is_empty()) {
        legend.push(key("attempt", "one attempt at the provider"));
    }
    let shares: [(f64, &str); 4] = [
        (0.5, "50 %"),
        (0.9, "90 %"),
        (0.99, "99 %"),
        (0.999, "99.9 %"),
    ];
    let shares = shares
        .into_iter()
        .chain([(0.9999, "99.99 %"), (0.99999, "99.999 %")]);
    let marks = shares.map(|(share, text)| Mark {
        at: round(-(1.0 - share).log10() / nines * 100.0),
        text: text.to_owned(),
    });
    let tip = |n: u32| {
        let share = f64::from(n) / 80.0;
        let sides = PLATFORMS.iter().filter_map(|(platform, _, name)| {
            let took = &tally.sides[place(*platform)].took;
            let within = milli(at_nines(took, share * nines));
            (!took.is_empty()).then(|| format!("{name} {within} ms"))
        });
        let of = 100.0 - 100.0 * 10_f64.powf(-share * nines);
        Mark {
            at: round(share * 100.0),
            text: format!("{of:.3} % within {}", sides.collect::<Vec<_>>().join(", ")),
        }
    };
    Plot {
        title: "Percentiles",
        note: "so many were accepted within".to_owned(),
        shape: "tall",
        rows: scale.marks(),
        columns: marks.filter(|mark| mark.at <= 100.5).collect(),
        paths,
        legend,
        tips: tips(&(0..=80).map(tip).collect::<Vec<_>>()),
    }
}

/// How far percentiles can be told of so many pushes: 2 is 99 %, 3 is 99.9 %.
#[allow(clippy::cast_precision_loss)]
fn nines_of(count: u64) -> f64 {
    (count.max(10) as f64).log10().min(5.0)
}

fn at_nines(took: &Histogram<u64>, nines: f64) -> u64 {
    took.value_at_quantile(1.0 - 10_f64.powf(-nines))
}

/// How many took how long.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
#[allow(clippy::cast_sign_loss)] // bars
pub(super) fn histogram(tally: &Tally, scale: Logarithmic) -> Plot {
    let mut counts = [[0_u64; 2]; BARS];
    for (row, side) in tally.sides.iter().enumerate() {
        for value in side.took.iter_recorded() {
            let bar = (scale.share(value.value_iterated_to()) * BARS as f64) as usize;
            counts[bar.min(BARS - 1)][row] += value.count_since_last_iteration();
        }
    }
    let most = counts.iter().map(|[a, b]| a + b).max().unwrap_or(0).max(1);
    let all: u64 = counts.iter().flatten().sum::<u64>().max(1);
    let percent = |count: u64| count as f64 / all as f64 * 100.0;
    let heights = Linear::to(percent(most), 4.0);
    let mut pens = [Pen::default(), Pen::default()];
    let width = SIDE / BARS as f64;
    let mut shown = Vec::new();
    for (n, bar) in counts.iter().enumerate() {
        let mut sum = 0;
        for (pen, count) in pens.iter_mut().zip(bar) {
            let bottom = heights.y(percent(sum));
            sum += count;
            let top = heights.y(percent(sum));
            pen.bar(n as f64 * width + 1.0, top, width - 2.0, bottom - top);
        }
        if sum > 0 {
            let at = round((n as f64 + 0.5) / BARS as f64 * 100.0);
            let text = format!("{sum} pushes, {:.2} %", percent(sum));
            shown.push(Mark { at, text });
        }
    }
    let paths = pens.into_iter().zip(PLATFORMS);
    Plot {
        title: "Distribution",
        note: "due to accepted".to_owned(),
        shape: "tall",
        rows: heights.marks(|percent| format!("{} %", round(percent))),
        columns: scale.marks(),
        paths: paths
            .filter_map(|(pen, (_, kind, _))| pen.path(format!("fill {kind}")))
            .collect(),
        legend: keys(tally),
        tips: tips(&shown),
    }
}

/// A scale on which every accepted push and every attempt has its place.
pub(super) fn times(tally: &Tally, attempts: bool) -> Logarithmic {
    let sides = tally.sides.iter();
    let all = sides.flat_map(|side| [Some(&side.took), attempts.then_some(&side.attempt)]);
    let all: Vec<_> = all.flatten().filter(|took| !took.is_empty()).collect();
    let shortest = all.iter().map(|took| took.min()).min();
    let longest = all.iter().map(|took| took.max()).max();
    Logarithmic::over(shortest.unwrap_or(100), longest.unwrap_or(10_000))
}

fn keys(tally: &Tally) -> Vec<Key> {
    let there = PLATFORMS
        .iter()
        .filter(|(platform, _, _)| !tally.sides[place(*platform)].took.is_empty());
    there.map(|(_, kind, name)| key(kind, name)).collect()
}

const fn key(kind: &'static str, text: &'static str) -> Key {
    Key { kind, text }
}

#[allow(clippy::cast_precision_loss)]
fn milli(micros: u64) -> String {
    digits(micros as f64 / 1_000.0)
}
