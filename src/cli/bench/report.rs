//! The report: one page with everything in it, for a browser without a network.

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde::Serialize;

use super::chart::Plot;
use super::plots;
use super::record::Tally;
use super::show::{count_of, digits, mebibytes};
use super::summary::{Summary, Times};
use crate::admin;
use crate::call::event::Platform;
use crate::engine::deadline::wall_clock;

/// Templates and styles are part of the program.
const PAGE: &str = include_str!("assets/report.html");
const STYLE: &str = include_str!("assets/report.css");
const SCRIPT: &str = include_str!("assets/report.js");

/// What the page shows.
#[derive(Serialize)]
struct View<'a> {
    style: String,
    script: &'static str,
    summary: &'a Summary,
    at: String,
    command: String,
    tiles: Vec<Tile>,
    attention: Vec<String>,
    groups: Vec<Group>,
    times: Vec<Row>,
    ends: Vec<EndRow>,
    facts: Vec<(&'static str, String)>,
}

/// A number that is looked at first.
#[derive(Serialize)]
struct Tile {
    name: &'static str,
    tone: &'static str,
    big: String,
    unit: &'static str,
    more: String,
}

/// Pictures that belong together.
#[derive(Serialize)]
struct Group {
    plots: Vec<Plot>,
    /// Below each other, and not beside.
    one: bool,
}

/// Percentiles of something.
#[derive(Serialize)]
struct Row {
    kind: &'static str,
    name: &'static str,
    count: String,
    cells: Vec<String>,
}

/// How many pushes ended so.
#[derive(Serialize)]
struct EndRow {
    platform: &'static str,
    tone: &'static str,
    result: String,
    reason: String,
    count: String,
    /// Of all pushes, in percent.
    share: f64,
    percent: String,
}

/// The page.
///
/// # Errors
/// The template is broken; a test finds that first.
pub(super) fn page(summary: &Summary, tally: &Tally) -> Result<String, minijinja::Error> {
    let mut templates = Environment::new();
    templates.set_auto_escape_callback(|_| AutoEscape::Html);
    templates.set_undefined_behavior(UndefinedBehavior::Strict);
    templates.add_template("report.html", PAGE)?;
    let view = View {
        style: format!("{}{STYLE}", admin::STYLE),
        script: SCRIPT,
        summary,
        at: wall_clock().to_string(),
        command: command(std::env::args()),
        tiles: tiles(summary),
        attention: attention(summary),
        groups: groups(summary, tally),
        times: rows(summary),
        ends: ends(summary),
        facts: facts(summary),
    };
    templates.get_template("report.html")?.render(Serde(view))
}

/// The command as it was given. Of paths only the name: folders tell of people.
fn command(arguments: impl Iterator<Item = String>) -> String {
    let words = arguments.map(|word| {
        let is_path = word.contains('/') && !word.contains("://");
        let name = word.rsplit('/').next().unwrap_or(&word);
        let word = if is_path { name } else { &word };
        if word.contains(char::is_whitespace) {
            format!("'{word}'")
        } else {
            word.to_owned()
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

fn tiles(summary: &Summary) -> Vec<Tile> {
    let settings = &summary.settings;
    let pace = match settings.rate {
        Some(rate) => format!(
            "{}/s were due",
            count_of(rate * f64::from(settings.devices))
        ),
        None => format!("{} rings under way at a time", settings.in_flight),
    };
    let all = summary.latency.all;
    let cost = &summary.cost;
    let memory = cost.peak_memory_bytes.map(mebibytes);
    vec![
        Tile {
            name: "Accepted a second",
            tone: if summary.behind > 0 { "warn" } else { "good" },
            big: count_of(summary.rate),
            unit: "/s",
            more: format!("{pace}; {:.1} s", summary.seconds),
        },
        Tile {
            name: "Half were accepted within",
            tone: "",
            big: all.map_or("–".to_owned(), |times| digits(times.p50)),
            unit: " ms",
            more: all.map_or("none was accepted".to_owned(), |times| {
                let (most, max) = (digits(times.p99), digits(times.max));
                format!("99 % within {most} ms, the slowest {max} ms")
            }),
        },
        Tile {
            name: "Not accepted",
            tone: if summary.failed > 0 { "bad" } else { "good" },
            big: count_of_whole(summary.failed),
            unit: "",
            more: format!(
                "of {} pushes; {} took more than one attempt",
                count_of_whole(summary.sent),
                count_of_whole(summary.repeated)
            ),
        },
        Tile {
            name: "CPU for 10 000 pushes",
            tone: "",
            big: cost
                .cpu_seconds_per_10000
                .map_or("–".to_owned(), |each| format!("{each:.2}")),
            unit: " s",
            more: format!(
                "{} of memory at most",
                memory.unwrap_or_else(|| "an unknown amount".to_owned())
            ),
        },
    ]
}

#[allow(clippy::cast_precision_loss)] // exact to 2^53
fn count_of_whole(count: u64) -> String {
    count_of(count as f64)
}

/// What the reader has to know before believing the numbers.
fn attention(summary: &Summary) -> Vec<String> {
    let mut lines = summary.hindrances.clone();
    if summary.behind > 0 {
        lines.push(format!(
            "{} rings that were due were not sent: the most that may be under way ({}) were. \
             The worker or the gateway does not keep up with this rate.",
            count_of_whole(summary.behind),
            summary.settings.in_flight
        ));
    }
    if summary.stopped {
        lines.push("It was ended early by a signal.".to_owned());
    }
    let late = summary.late.filter(|late| late.p99 > 10.0);
    if let Some(late) = late.filter(|_| summary.behind == 0) {
        lines.push(format!(
            "Rings were given to the worker late ({} ms at the 99th percentile): this machine \
             is too busy for the schedule, and that time is in the latencies.",
            digits(late.p99)
        ));
    }
    lines
}

fn groups(summary: &Summary, tally: &Tally) -> Vec<Group> {
    let settings = &summary.settings;
    let due = settings.rate.map(|rate| rate * f64::from(settings.devices));
    let scale = plots::times(tally, false);
    let heats = [Platform::Ios, Platform::Android]
        .into_iter()
        .filter_map(|platform| plots::heat(tally, platform, scale));
    let heats: Vec<Plot> = heats.collect();
    let over_time = vec![plots::throughput(tally, due), plots::under_way(tally)];
    let mut groups = vec![Group {
        plots: over_time,
        one: true,
    }];
    if !heats.is_empty() {
        groups.push(Group {
            one: heats.len() == 1,
            plots: heats,
        });
        let both = plots::times(tally, true);
        let plots = vec![
            plots::percentiles(tally, both),
            plots::histogram(tally, scale),
        ];
        groups.push(Group { plots, one: false });
    }
    groups
}

fn rows(summary: &Summary) -> Vec<Row> {
    let rows: [(&str, &str, Option<Times>); 5] = [
        ("ios", "iOS, due to accepted", summary.latency.ios),
        (
            "android",
            "Android, due to accepted",
            summary.latency.android,
        ),
        ("ios", "iOS, one attempt", summary.attempt.ios),
        ("android", "Android, one attempt", summary.attempt.android),
        ("idle", "due to given to the worker", summary.late),
    ];
    let there = rows.into_iter().filter_map(|(kind, name, times)| {
        let t = times?;
        let cells = [t.min, t.mean, t.p50, t.p90, t.p95, t.p99, t.p99_9, t.max];
        Some(Row {
            kind,
            name,
            count: count_of_whole(t.count),
            cells: cells.iter().map(|time| digits(*time)).collect(),
        })
    });
    there.collect()
}

#[allow(clippy::cast_precision_loss)] // a share
fn ends(summary: &Summary) -> Vec<EndRow> {
    let of_all = |count: u64| count as f64 / summary.sent.max(1) as f64 * 100.0;
    let rows = summary.results.iter().map(|end| EndRow {
        platform: match end.platform {
            "ios" => "iOS",
            "android" => "Android",
            _ => "–",
        },
        tone: if end.result == "accepted" {
            "good"
        } else {
            "bad"
        },
        result: end.result.replace('_', " "),
        reason: end.reason.clone().unwrap_or_default(),
        count: count_of_whole(end.count),
        share: of_all(end.count),
        percent: format!("{:.2} %", of_all(end.count)),
    });
    rows.collect()
}

fn facts(summary: &Summary) -> Vec<(&'static str, String)> {
    let settings = &summary.settings;
    let mut facts = vec![("Target", summary.target.what.to_owned())];
    let urls = [
        ("iOS to", &summary.target.ios),
        ("Android to", &summary.target.android),
    ];
    facts.extend(
        urls.into_iter()
            .filter_map(|(name, url)| Some((name, url.clone()?))),
    );
    facts.push(("Load", load(summary)));
    facts.push(("Rings", rings(summary)));
    if settings.latency.is_some() || settings.script {
        let latency = settings
            .latency
            .map(|ms| format!("answers after {} ms", digits(ms)));
        let script = settings
            .script
            .then(|| "plays a script of faults".to_owned());
        let both = latency.into_iter().chain(script).collect::<Vec<_>>();
        facts.push(("Simulator", both.join(", ")));
    }
    facts.push((
        "Lanes",
        format!(
            "iOS {} connections, {} in flight; Android {} connections, {} in flight",
            settings.apns_connections,
            settings.apns_in_flight,
            settings.fcm_connections,
            settings.fcm_in_flight
        ),
    ));
    facts.push(("Machine", machine(summary)));
    facts
}

fn load(summary: &Summary) -> String {
    let settings = &summary.settings;
    let pace = match settings.rate {
        Some(rate) => format!(
            "{rate} rings a second on a schedule, at most {} under way",
            settings.in_flight
        ),
        None => format!("{} rings at a time, each after another", settings.in_flight),
    };
    let span = settings.duration_seconds.map(|s| format!(", for {s} s"));
    let count = settings.count.map(|count| format!(", {count} rings"));
    let warm_up = format!(", after {} s of warming up", settings.warm_up_seconds);
    [Some(pace), span, count, Some(warm_up)]
        .into_iter()
        .flatten()
        .collect()
}

fn rings(summary: &Summary) -> String {
    let settings = &summary.settings;
    format!(
        "{} with {} each, profile {}, given up after {} s",
        count_of_whole(summary.rings),
        match settings.devices {
            1 => "one phone".to_owned(),
            many => format!("{many} phones"),
        },
        settings.profile,
        settings.timeout_seconds
    )
}

fn machine(summary: &Summary) -> String {
    let (cost, cores) = (&summary.cost, summary.settings.cores);
    let share = cost
        .cpu_share
        .map(|share| format!("; this process used {:.0} % of them", share * 100.0));
    let simulator = cost
        .simulator_cpu_seconds
        .zip(cost.cpu_seconds)
        .map(|(simulator, own)| format!(" ({own:.1} s, the simulator {simulator:.1} s)"));
    format!(
        "{cores} cores{}{}",
        share.unwrap_or_default(),
        simulator.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_shown_without_folders() {
        let words = [
            "/usr/bin/ringpush",
            "bench",
            "--config",
            "/home/alice/a b.toml",
        ];
        let words = words
            .into_iter()
            .chain(["--gateway", "https://127.0.0.1:1"]);
        assert_eq!(
            command(words.map(str::to_owned)),
            "ringpush bench --config 'a b.toml' --gateway https://127.0.0.1:1"
        );
    }
}
