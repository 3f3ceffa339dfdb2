//! `docs/logging.md` against lines that were really written.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::rig::{Worker, android, ios, ring};

/// The names in the first column of a document's tables, below a heading if
/// one is given.
fn documented(heading: Option<&str>) -> BTreeSet<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/logging.md");
    let text = std::fs::read_to_string(path).unwrap();
    let text = match heading {
        None => &text[..],
        Some(heading) => {
            let (_, rest) = text.split_once(heading).expect("the heading is there");
            rest.split("\n## ").next().unwrap()
        }
    };
    text.lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|row| row.split(" | ").next())
        .flat_map(|column| column.split(", "))
        .map(|name| name.trim_matches(['`', ' ']).to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_field_of_a_json_line_is_documented() {
    let script = "[[rule]]\nserver = \"apns\"\ntoken_prefix = \"dead\"\nthen = { status = 410, reason = \"Unregistered\" }\n\
                  [[rule]]\nserver = \"fcm\"\nsteps = [{ status = 503, reason = \"UNAVAILABLE\" }]";
    let mut worker = Worker::start(script, "trace").await;
    let mut dead = ios("dead");
    dead["token"] = json!("deadbeef".repeat(8));
    let mut invalid = ios("invalid");
    invalid["token"] = json!("not hex");
    worker.send(
        &ring("room", &[ios("fine"), dead, invalid, android("pixel")]),
        4,
    );
    let mut late = ring("late", &[ios("late")]);
    late["sent_at"] = json!("2020-01-01T00:00:00Z");
    worker.send(&late, 1);
    worker.end();
    let log = worker.log.lock().unwrap().clone();

    let all = documented(None);
    let keys =
        |line: &Value| -> Vec<String> { line.as_object().unwrap().keys().cloned().collect() };
    for line in &log {
        for key in keys(line) {
            assert!(
                all.contains(&key),
                "`{key}` is not in docs/logging.md: {line}"
            );
        }
        for field in documented(Some("## Every line\n")) {
            assert!(line[&field].is_string(), "no `{field}`: {line}");
        }
    }
    let pushes: Vec<&Value> = log
        .iter()
        .filter(|line| line["message"] == "push")
        .collect();
    assert_eq!(pushes.len(), 5);
    let common = documented(Some("## Every line\n"));
    let written: BTreeSet<String> = pushes
        .iter()
        .flat_map(|line| keys(line))
        .filter(|key| !common.contains(key))
        .chain(["trace_id".to_owned()]) // there are no headers on standard input
        .collect();
    assert_eq!(written, documented(Some("## A push: message `push`\n")));
    let attempts = log.iter().filter(|line| line["message"] == "attempt");
    assert_eq!(attempts.count(), 4, "one each, and a second on Android");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_has_one_line_and_an_accepted_one_none_at_info() {
    let script = "[[rule]]\nserver = \"apns\"\ntoken_prefix = \"dead\"\n\
                  then = { status = 413, reason = \"PayloadTooLarge\" }";
    let mut worker = Worker::start(script, "info").await;
    let mut invalid = ios("invalid");
    invalid["token"] = json!("not hex");
    let mut refused = ios("refused");
    refused["token"] = json!("deadbeef".repeat(8));
    worker.send(&ring("room", &[ios("fine"), invalid, refused]), 3);
    worker.end();
    let log = worker.log.lock().unwrap().clone();
    let pushes: Vec<&Value> = log
        .iter()
        .filter(|line| line["message"] == "push")
        .collect();
    let levels: BTreeSet<(&str, &str)> = pushes
        .iter()
        .filter_map(|line| Some((line["device_id"].as_str()?, line["level"].as_str()?)))
        .collect();
    assert_eq!(pushes.len(), 2, "{log:?}");
    // What has to be mended here is the loudest.
    let expected = [("invalid", "WARN"), ("refused", "ERROR")];
    assert_eq!(levels, expected.into(), "{log:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_level_changes_on_sighup_while_it_runs() {
    let mut worker = Worker::start("", "info").await;
    worker.send(&ring("quiet", &[ios("phone")]), 1);
    worker.set_level("debug");
    worker.send(&ring("loud", &[ios("phone")]), 1);
    worker.end();
    let log = worker.log.lock().unwrap().clone();
    let pushes = log.iter().filter(|line| line["message"] == "push");
    let calls: Vec<&Value> = pushes.map(|line| &line["call_id"]).collect();
    assert_eq!(calls, ["loud"]);
}
