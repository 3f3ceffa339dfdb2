//! `docs/asyncapi.yaml` is valid, its examples are the project's own, and what
//! the worker publishes is what it describes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may end where it stumbles"
)]

mod support;
#[allow(dead_code, reason = "there is no Python here")]
#[path = "producers/tools.rs"]
mod tools;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use ringpush::call::outcome::PushResult;
use serde_json::{Value, json};

use support::events::{android, android_token, ios, ios_token, ring};
use support::stage::Stage;

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn text(path: &str) -> String {
    fs::read_to_string(file(path)).unwrap()
}

fn schema(name: &str) -> jsonschema::Validator {
    let schema = serde_json::from_str(&text(&format!("docs/schema/{name}"))).unwrap();
    jsonschema::draft202012::new(&schema).unwrap()
}

fn problems(schema: &jsonschema::Validator, value: &Value) -> Vec<String> {
    schema.iter_errors(value).map(|e| e.to_string()).collect()
}

#[test]
fn asyncapis_own_parser_finds_the_document_valid() {
    let Some(project) = tools::node("scripts/asyncapi") else {
        return;
    };
    let check = |path: &Path| {
        let mut command = project.command("node", &[]);
        command.arg("check.mjs").arg(path).output().unwrap()
    };
    let output = check(&file("docs/asyncapi.yaml"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");

    // It does look: a reference into nothing is found.
    let broken = tempfile::tempdir().unwrap();
    fs::create_dir(broken.path().join("schema")).unwrap();
    for name in ["event-v1.schema.json", "report-v1.schema.json"] {
        let name = format!("schema/{name}");
        fs::copy(file("docs").join(&name), broken.path().join(name)).unwrap();
    }
    let yaml = text("docs/asyncapi.yaml").replace("messages/cancel\"}", "messages/cancle\"}");
    fs::write(broken.path().join("asyncapi.yaml"), yaml).unwrap();
    let output = check(&broken.path().join("asyncapi.yaml"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("cancle"), "{error}");
    assert!(!output.status.success());
}

/// Each example stands under a comment that names where it is from: a fixture,
/// or the report of a type in docs/events.md.
#[test]
fn examples_are_the_fixtures_and_pass_the_schemas() {
    let (events, reports) = (
        schema("event-v1.schema.json"),
        schema("report-v1.schema.json"),
    );
    let document = text("docs/asyncapi.yaml");
    let mut source = "";
    let mut count = 0;
    for line in document.lines().map(str::trim) {
        if let Some(comment) = line.strip_prefix("# ") {
            source = comment;
        }
        let Some(example) = line.strip_prefix("payload: {\"") else {
            continue;
        };
        let example: Value = serde_json::from_str(&format!("{{\"{example}")).unwrap();
        let schema = if source.starts_with("fixtures/") {
            let fixture: Value = serde_json::from_str(&text(source)).unwrap();
            assert_eq!(example, fixture, "{source}");
            &events
        } else {
            assert_eq!(example, report(source), "{source}");
            &reports
        };
        assert_eq!(problems(schema, &example), Vec::<String>::new(), "{source}");
        count += 1;
    }
    assert_eq!(count, 6);
}

/// `docs/events.md push`: the first report of this type in that document.
fn report(source: &str) -> Value {
    let (path, kind) = source.split_once(' ').unwrap();
    let document = text(path);
    let blocks = document.split("```json\n").skip(1);
    blocks
        .filter_map(|rest| rest.split("```").next())
        .map(|block| serde_json::from_str::<Value>(block).unwrap())
        .find(|value| value["type"] == kind)
        .unwrap()
}

#[test]
fn every_exchange_queue_key_and_result_is_described() {
    let yaml = text("docs/asyncapi.yaml");
    let topology = text("docs/topology.md");
    let mut names = BTreeSet::new();
    for row in topology.lines().filter(|line| line.starts_with("| ")) {
        let kind = row.split('`').next().unwrap_or_default();
        if matches!(kind, "| queue " | "| exchange ") {
            names.insert((kind, row.split('`').nth(1).unwrap()));
        }
    }
    assert_eq!(names.len(), 9, "{names:?}");
    for (kind, name) in names {
        let wanted = if kind == "| queue " {
            format!("queue: {{name: {name},")
        } else {
            format!("name: {name},")
        };
        assert!(yaml.contains(&wanted), "{wanted}");
    }
    for key in [
        "ring",
        "ring.ios",
        "ring.android",
        "cancel",
        "call.unreachable",
    ] {
        assert!(yaml.contains(&format!("address: {key}\n")), "{key}");
    }
    let results = [
        PushResult::Accepted,
        PushResult::DeadToken,
        PushResult::SuspectToken,
        PushResult::Rejected,
        PushResult::CredentialFault,
        PushResult::Expired,
        PushResult::Cancelled,
    ];
    let results = results.map(PushResult::name);
    assert!(yaml.contains(&format!("enum: [{}]", results.join(", "))));
    let schema: Value = serde_json::from_str(&text("docs/schema/report-v1.schema.json")).unwrap();
    assert_eq!(schema["$defs"]["result"]["enum"], json!(results));
}

/// Reports of all three types, as they come from a running worker.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_worker_publishes_is_what_the_schema_says() {
    let schema = schema("report-v1.schema.json");
    let stage = Stage::new().await;
    let mut outcomes = stage.client.outcomes().await;
    let worker = stage.worker().await;
    let (gone, lost) = (ios_token(), android_token());
    for token in [&gone, &lost] {
        stage.simulator.unregister(token, chrono::Utc::now());
    }
    let mut devices = [ios("a", &gone), android("b", &lost)];
    devices[0]["registered_at"] = json!("2026-01-01T00:00:00Z");
    let mut event = ring(&devices);
    event["callee"] = json!({"id": "user-2", "name": "Bob"});
    stage.client.publish("ring", &event).await;
    let more = [
        ios("c", &ios_token()),
        android("d", &android_token()),
        json!({"id": "e", "platform": "fax", "app": "none", "token": "0"}),
        json!({"platform": "ios"}),
    ];
    stage.client.publish("ring", &ring(&more)).await;

    let mut seen = BTreeSet::new();
    let wanted = [
        "call.unreachable",
        "push.android.accepted",
        "push.ios.accepted",
        "push.ios.rejected",
        "push.unknown.rejected",
        "token.android",
        "token.ios",
    ];
    while !wanted.iter().all(|key| seen.contains(*key)) {
        let report = outcomes.next().await;
        let (key, value) = (report.key().to_owned(), report.json());
        assert_eq!(
            problems(&schema, &value),
            Vec::<String>::new(),
            "{key}: {value}"
        );
        // Dead or suspect is the brake's business.
        let key = if key.starts_with("token.") {
            key.rsplit_once('.').unwrap().0.to_owned()
        } else {
            key
        };
        seen.insert(key);
    }
    stage.end(worker).await;
}
