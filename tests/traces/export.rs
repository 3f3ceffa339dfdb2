//! How the export is set up, and what happens if the collector is not there.

use super::collector::Collector;
use super::support::events::{ios, ios_token, ring};
use super::support::stage::Offline;
use super::support::worker::{PATIENCE, Worker};
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;

fn worker(offline: &Offline, variables: &[(&str, &str)]) -> Worker {
    let config = offline.config.to_str().unwrap();
    Worker::command_with(&["run", "--stdin", "--config", config], variables)
}

/// Gives the worker one ring, waits for its end, and gives its exit status.
async fn one_ring(worker: &mut Worker) -> i32 {
    let line = format!("{}\n", ring(&[ios("phone", &ios_token())]));
    let mut input = worker.input.take().unwrap();
    input.write_all(line.as_bytes()).await.unwrap();
    drop(input);
    worker.exit_code().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_spans_are_sent_before_it_ends() {
    let offline = Offline::new().await;
    let collector = Collector::start().await;
    // By itself it would send them after a minute.
    let mut variables = vec![
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector.endpoint),
        ("OTEL_BSP_SCHEDULE_DELAY", "60000"),
        ("OTEL_SERVICE_NAME", "calls-eu"),
    ];
    variables.push(("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=one"));
    let mut worker = worker(&offline, &variables);
    assert_eq!(one_ring(&mut worker).await, 0);
    let names: Vec<String> = collector.spans().into_iter().map(|s| s.0.name).collect();
    for name in ["ring", "push", "attempt ios"] {
        assert!(
            names.iter().any(|n| n == name),
            "{name} is not in {names:?}"
        );
    }
    assert_eq!(
        collector.resource("service.name").as_deref(),
        Some("calls-eu")
    );
    assert_eq!(collector.header("x-tenant").as_deref(), Some("one"));
}

/// A collector takes the last spans and says nothing: the first signal waits
/// for it a moment, the second does not, as the exit status tells.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_waits_for_no_collector() {
    let offline = Offline::new().await;
    let mute = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", mute.local_addr().unwrap());
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        // Nothing is sent before the end.
        ("OTEL_BSP_SCHEDULE_DELAY", "60000"),
    ];
    let mut worker = worker(&offline, &variables);
    let mut input = worker.input.take().unwrap();
    let line = format!("{}\n", ring(&[ios("phone", &ios_token())]));
    input.write_all(line.as_bytes()).await.unwrap();
    while worker.output.text().is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    worker.signal("TERM");
    let taken = tokio::time::timeout(PATIENCE, mute.accept()).await;
    let _held = taken.expect("the last spans are sent").unwrap();
    assert_eq!(worker.stop().await, 1);
    drop(input);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_costs_no_ring_and_is_named_once() {
    let offline = Offline::new().await;
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"),
        ("OTEL_BSP_SCHEDULE_DELAY", "10"),
    ];
    let mut worker = worker(&offline, &variables);
    assert_eq!(one_ring(&mut worker).await, 0);
    let output = worker.output.text();
    let outcome: Value = serde_json::from_str(output.lines().next().unwrap()).unwrap();
    assert_eq!(outcome["result"], "accepted");
    let log = worker.log.text();
    let told = log.lines().filter(|line| line.contains("spans are lost"));
    assert_eq!(told.count(), 1, "{log}");
    assert!(log.contains("http://127.0.0.1:1/v1/traces"), "{log}");
    assert!(log.contains("Connection refused"), "{log}");
    assert!(!log.contains("ERROR"), "no ring was lost: {log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_log_line_shows_the_spans_it_was_written_in() {
    let offline = Offline::new().await;
    let collector = Collector::start().await;
    let mut variables = collector.variables();
    variables.extend([
        ("RINGPUSH__LOG__FORMAT", "json"),
        ("RINGPUSH__LOG__LEVEL", "trace"),
    ]);
    let mut worker = worker(&offline, &variables);
    assert_eq!(one_ring(&mut worker).await, 0);
    let log = worker.log.text();
    let lines: Vec<Value> = log
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert!(lines.iter().any(|line| line["message"] == "push"), "{log}");
    for line in lines {
        assert!(
            line.get("span").is_none() && line.get("spans").is_none(),
            "{line}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_variable_that_cannot_be_used_is_named_with_its_cure() {
    let offline = Offline::new().await;
    let empty = offline.folder.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let good = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318");
    for (variables, wanted) in [
        (
            vec![("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318")],
            "OTEL_EXPORTER_OTLP_ENDPOINT is not an address such as",
        ),
        (
            vec![("OTEL_EXPORTER_OTLP_ENDPOINT", "http://u:hunter2@c:4318")],
            "OTEL_EXPORTER_OTLP_HEADERS",
        ),
        (
            vec![good, ("OTEL_TRACES_SAMPLER", "sometimes")],
            "OTEL_TRACES_SAMPLER is \"sometimes\"",
        ),
        (
            vec![good, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")],
            "OTEL_EXPORTER_OTLP_PROTOCOL is \"grpc\"",
        ),
        (
            vec![good, ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere.pem")],
            "OTEL_EXPORTER_OTLP_CERTIFICATE /nowhere.pem cannot be read",
        ),
        (
            vec![
                good,
                ("OTEL_EXPORTER_OTLP_CERTIFICATE", empty.to_str().unwrap()),
            ],
            "holds no certificate",
        ),
    ] {
        let mut worker = worker(&offline, &variables);
        assert_eq!(worker.exit_code().await, 2, "{variables:?}");
        let log = worker.log.text();
        assert!(log.contains(wanted), "{wanted} is not in: {log}");
        assert!(!log.contains("hunter2"), "{log}");
    }
}
