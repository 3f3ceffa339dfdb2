//! The table: the median of all runs, for each client.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::measure::{CASES, IN_FLIGHT, LATENCIES, PER_SECOND, PUSHES, RING};
use crate::senders::NAMES;

/// What was measured: by client and case, a value for each run.
pub type Results = BTreeMap<(&'static str, &'static str), Vec<Value>>;

const ROWS: [(&str, &str, &str); 9] = [
    ("Pushes a second", "throughput", "per_second"),
    ("CPU seconds for 10 000 pushes", "throughput", "cpu_seconds"),
    ("One push, p50, ms", "latency", "p50_ms"),
    ("One push, p99, ms", "latency", "p99_ms"),
    ("First push after FIN, ms", "after-fin", "ms"),
    ("First push after RST, ms", "after-rst", "ms"),
    ("First push after GOAWAY, ms", "after-goaway", "ms"),
    ("Silent path, in use, ms", "after-silence", "ms"),
    ("Silent path, idle for 10 s, ms", "idle-silence", "ms"),
];

pub fn markdown(results: &Results) -> String {
    let mut text = String::from("| ");
    for name in NAMES {
        let _ = write!(text, "| {name} ");
    }
    let _ = writeln!(text, "|\n|---{}|", "|--:".repeat(NAMES.len()));
    for (title, case, field) in ROWS {
        text += "| ";
        text += title;
        for name in NAMES {
            let runs = results.get(&(name, case)).map(Vec::as_slice);
            let _ = write!(text, " | {}", cell(runs.unwrap_or_default(), field));
        }
        text += " |\n";
    }
    text
}

/// The median, and how many errors the caller saw at most.
fn cell(runs: &[Value], field: &str) -> String {
    let number = match median(runs, field) {
        None => return "-".to_owned(),
        Some(value) if value.is_infinite() => {
            format!("not within {} s", RING.as_secs())
        }
        Some(value) if value >= 100.0 => format!("{value:.0}"),
        Some(value) => format!("{value:.2}"),
    };
    let errors = |run: &Value| run["errors"].as_array().map(Vec::len);
    match runs.iter().filter_map(errors).max() {
        None | Some(0) => number,
        Some(1) => format!("{number} (1 error)"),
        Some(errors) => format!("{number} ({errors} errors)"),
    }
}

/// A push that was not accepted took for ever.
fn median(runs: &[Value], field: &str) -> Option<f64> {
    let of = |run: &Value| run[field].as_f64().unwrap_or(f64::INFINITY);
    let mut values: Vec<f64> = runs.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

pub fn json(results: &Results, load_average: &[String; 2]) -> Value {
    let of = |name: &'static str| -> Value {
        let case = |case: &'static str| (case.to_owned(), json!(results.get(&(name, case))));
        CASES.map(case).into_iter().collect()
    };
    let runs: Value = NAMES
        .map(|name| (name.to_owned(), of(name)))
        .into_iter()
        .collect();
    json!({
        "in_flight": IN_FLIGHT,
        "pushes": PUSHES,
        "latency_pushes": LATENCIES,
        "latency_per_second": PER_SECOND,
        "ring_seconds": RING.as_secs(),
        "load_average": load_average,
        "runs": runs,
    })
}
