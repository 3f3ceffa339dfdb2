//! Dashboard and alerts against the metrics of a running worker: a query for a
//! name, label or value that no worker has would stay empty, or quiet, for ever.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod query;
mod sources;
mod worker;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::Command;

use query::Query;
use worker::Exposition;

#[tokio::test]
async fn every_query_asks_for_what_a_worker_exposes() {
    let exposed = worker::after_every_path().await;
    let mut wrong = Vec::new();
    for (place, text) in sources::queries() {
        for problem in problems(&Query::parse(&text), &exposed) {
            wrong.push(format!("{place}: {problem}\n    {text}"));
        }
    }
    for (place, query, labels) in sources::legends() {
        let query = Query::parse(&query);
        for label in labels {
            if !query.result_labels(&exposed).contains(&label) {
                wrong.push(format!("{place}: the result has no label {label}"));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    nothing_is_left_out(&exposed);
}

/// Every family of the worker is somewhere on the dashboard.
fn nothing_is_left_out(exposed: &Exposition) {
    let shown: BTreeSet<String> = sources::dashboard_queries()
        .iter()
        .flat_map(|(_, text)| Query::parse(text).selectors)
        .map(|selector| family(&selector.metric).to_owned())
        .collect();
    let missing: Vec<&str> = exposed
        .names()
        .map(family)
        .filter(|name| name.starts_with("ringpush_") && !shown.contains(*name))
        .collect();
    assert!(missing.is_empty(), "not on the dashboard: {missing:?}");
    assert!(shown.len() > 12, "only {shown:?}");
}

fn family(name: &str) -> &str {
    ["_bucket", "_sum", "_count"]
        .iter()
        .find_map(|suffix| name.strip_suffix(suffix))
        .unwrap_or(name)
}

fn problems(query: &Query, exposed: &Exposition) -> Vec<String> {
    let mut problems = Vec::new();
    for selector in &query.selectors {
        let Some(labels) = exposed.labels(&selector.metric) else {
            problems.push(format!("no worker has {}", selector.metric));
            continue;
        };
        for matcher in &selector.matchers {
            if !labels.contains(&matcher.label) {
                problems.push(format!("{} has no {}", selector.metric, matcher.label));
            }
            for value in matcher.literal_values() {
                if !exposed.has_value(&selector.metric, &matcher.label, value) {
                    let (metric, label) = (&selector.metric, &matcher.label);
                    problems.push(format!("{metric} never has {label}={value:?}"));
                }
            }
        }
        for label in &query.grouped_by {
            if !labels.contains(label) {
                problems.push(format!("{} has no {label} to group by", selector.metric));
            }
        }
    }
    if query.selectors.is_empty() {
        problems.push("asks for nothing".to_owned());
    }
    problems
}

#[test]
fn every_alert_has_a_runbook_and_both_tests() {
    let operations = sources::read("docs/operations.md");
    let tests = sources::read("deploy/prometheus/alerts.test.yaml");
    let alerts = sources::alerts();
    for alert in &alerts {
        let name = &alert.name;
        let runbook = format!("docs/operations.md#{}", name.to_lowercase());
        assert_eq!(alert.runbook, runbook, "{name} links to another runbook");
        let heading = format!("### {name}");
        let headings = operations.lines().filter(|line| *line == heading).count();
        assert_eq!(headings, 1, "docs/operations.md has no \"{heading}\"");
        for verb in ["fires", "is quiet"] {
            let case = format!("- name: '{name} {verb}: ");
            assert!(tests.contains(&case), "no test in which {name} {verb}");
        }
    }
    let runbooks = operations
        .lines()
        .filter(|line| line.starts_with("### Ringpush"))
        .count();
    assert_eq!(runbooks, alerts.len(), "a runbook belongs to no alert");
}

/// The dashboard's queries, read by Prometheus' own parser as rules.
#[test]
#[ignore = "needs promtool; scripts/test runs it where there is one"]
fn promtool_accepts_the_dashboards_queries() {
    let mut rules = String::from("groups:\n- name: dashboard\n  rules:\n");
    for (n, (_, text)) in sources::dashboard_queries().iter().enumerate() {
        let text = text.replace("$__rate_interval", "1m").replace('$', "");
        let text = serde_json::Value::String(text);
        writeln!(rules, "  - record: dashboard:query:{n}\n    expr: {text}").unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rules.yaml");
    std::fs::write(&file, rules).unwrap();
    let output = Command::new("promtool")
        .args(["check", "rules"])
        .arg(&file)
        .output()
        .expect("promtool runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}
