//! A ring's way as spans, between a broker and the simulator.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use ringpush::simulator::{Options, Script};
use serde_json::Value;

use super::collector::{Collector, Seen, only};
use super::support::events::{APP, android, android_token, cancel, ios, ios_token, ring};
use super::support::stage::Stage;
use super::support::worker::Worker;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SENDER: &str = "00f067aa0ba902b7";

async fn stage(script: &str) -> Stage {
    let options = Options {
        script: Script::from_toml(script).unwrap(),
        ..Options::default()
    };
    Stage::with("", options).await
}

async fn worker(stage: &Stage, variables: &[(&str, &str)]) -> Worker {
    let config = stage.config.to_str().unwrap();
    let arguments = ["run", "--config", config, "--grace", "10s"];
    let mut worker = Worker::command_with(&arguments, variables);
    worker.ready().await;
    worker
}

/// A message as a producer sends it that traces its own work.
fn traced(event: &Value, flags: &str) -> (Vec<u8>, BasicProperties) {
    let mut headers = FieldTable::default();
    let mut set = |name: &str, text: String| {
        headers.insert(name.into(), AMQPValue::LongString(text.into()));
    };
    set("traceparent", format!("00-{TRACE}-{SENDER}-{flags}"));
    set("tracestate", "vendor=1".to_owned());
    let properties = BasicProperties::default().with_headers(headers);
    (event.to_string().into_bytes(), properties)
}

/// Below the push there are two attempts, the second of which went through.
fn failed_and_then_went_through(spans: &[Seen], push: &Seen) {
    let mut attempts: Vec<&Seen> = spans.iter().filter(|s| s.0.name == "attempt ios").collect();
    attempts.sort_by_key(|span| span.0.start_time_unix_nano);
    let statuses: Vec<_> = attempts
        .iter()
        .map(|span| {
            (
                span.get("http.response.status_code").unwrap(),
                span.failed(),
            )
        })
        .collect();
    assert_eq!(
        statuses,
        [("503".to_owned(), true), ("200".to_owned(), false)]
    );
    for span in attempts {
        assert_eq!(span.parent(), push.id());
        assert_eq!(span.0.kind, 3, "a client");
        assert_eq!(
            span.get("ringpush.environment").as_deref(),
            Some("production")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ring_continues_its_senders_trace_down_to_each_attempt_and_on_in_its_outcome() {
    let script =
        "[[rule]]\nserver = \"apns\"\nsteps = [{ status = 503, reason = \"ServiceUnavailable\" }]";
    let stage = stage(script).await;
    let collector = Collector::start().await;
    let mut outcomes = stage.client.outcomes().await;
    let worker = worker(&stage, &collector.variables()).await;
    let token = ios_token();
    let event = ring(&[ios("bob-iphone", &token)]);
    stage
        .client
        .publish_all("ring.ios", [traced(&event, "01")])
        .await;
    let outcome = outcomes.next().await;
    let spans = collector.at_least(5).await;

    assert!(spans.iter().all(|span| span.trace() == TRACE), "{spans:#?}");
    let process = only(&spans, &format!("process {}.ios", stage.client.prefix));
    assert_eq!(process.parent(), SENDER);
    assert_eq!(process.0.kind, 5, "a consumer");
    let of_ring = only(&spans, "ring");
    assert_eq!(of_ring.parent(), process.id());
    let call = event["call_id"].as_str().map(str::to_owned);
    assert_eq!(of_ring.get("messaging.message.conversation_id"), call);
    let push = only(&spans, "push");
    assert_eq!(push.parent(), of_ring.id());
    assert_eq!(push.get("ringpush.app").as_deref(), Some(APP));
    assert_eq!(
        push.get("ringpush.device_id").as_deref(),
        Some("bob-iphone")
    );
    assert_eq!(push.get("ringpush.result").as_deref(), Some("accepted"));
    assert_eq!(push.get("ringpush.attempts").as_deref(), Some("2"));
    assert!(!push.failed());
    failed_and_then_went_through(&spans, push);

    let told = outcome.header("traceparent").unwrap();
    assert_eq!(told, format!("00-{TRACE}-{}-01", process.id()));
    assert_eq!(outcome.header("tracestate").as_deref(), Some("vendor=1"));
    assert_eq!(
        collector.resource("service.name").as_deref(),
        Some("ringpush")
    );
    let sent = collector.bytes();
    let sent = String::from_utf8_lossy(&sent);
    for secret in [&*token, "Ada Example", "+15550100", "bearer"] {
        assert!(!sent.contains(secret), "{secret} is in a span");
    }
    stage.end(worker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_and_a_message_that_cannot_be_read_are_traced_as_well() {
    let stage = stage("").await;
    let collector = Collector::start().await;
    let mut outcomes = stage.client.outcomes().await;
    let worker = worker(&stage, &collector.variables()).await;
    let token = android_token();
    let devices = [android("pixel", &token)];
    let event = ring(&devices);
    stage.client.publish("ring.android", &event).await;
    outcomes.push().await;
    let mut end = cancel(&event);
    end["devices"] = devices.to_vec().into();
    stage
        .client
        .publish_all("cancel", [traced(&end, "01")])
        .await;
    outcomes.push().await;
    let broken = (b"no JSON".to_vec(), BasicProperties::default());
    stage.client.publish_all("ring.ios", [broken]).await;
    stage.client.take("dead").await;
    // Four of the ring; five of the cancel, which is cut up first; one.
    let spans = collector.at_least(4 + 6 + 1).await;

    let events: Vec<&str> = spans.iter().map(|span| &*span.0.name).collect();
    assert_eq!(
        events.iter().filter(|name| **name == "cancel").count(),
        2,
        "{events:?}"
    );
    let of_sender: Vec<&Seen> = spans.iter().filter(|span| span.trace() == TRACE).collect();
    assert_eq!(of_sender.len(), 6, "{spans:#?}");
    // Nobody sent a trace with the ring: it began one here.
    let ring = only(&spans, "ring");
    assert_ne!(ring.trace(), TRACE);
    let process = spans
        .iter()
        .find(|span| span.id() == ring.parent())
        .unwrap();
    assert_eq!(process.parent(), "");
    stage.end(worker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_sender_does_not_record_is_not_sent_but_goes_on() {
    let stage = stage("").await;
    let collector = Collector::start().await;
    let mut outcomes = stage.client.outcomes().await;
    let worker = worker(&stage, &collector.variables()).await;
    let event = ring(&[ios("silent", &ios_token())]);
    stage
        .client
        .publish_all("ring.ios", [traced(&event, "00")])
        .await;
    let outcome = outcomes.next().await;
    let told = outcome.header("traceparent").unwrap();
    assert!(
        told.starts_with(&format!("00-{TRACE}-")) && told.ends_with("-00"),
        "{told}"
    );
    let event = ring(&[ios("loud", &ios_token())]);
    stage
        .client
        .publish_all("ring.ios", [traced(&event, "01")])
        .await;
    for span in collector.at_least(4).await {
        let device = span.get("ringpush.device_id");
        assert_ne!(device.as_deref(), Some("silent"), "{:?}", span.attributes());
    }
    stage.end(worker).await;
}
