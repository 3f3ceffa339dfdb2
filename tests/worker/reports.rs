//! What the worker tells the others: outcomes, token events, unreachable calls.

use std::collections::BTreeSet;

use chrono::DateTime;
use futures_util::StreamExt;
use lapin::BasicProperties;
use lapin::options::{BasicAckOptions, BasicConsumeOptions};
use lapin::types::{AMQPValue, FieldTable};
use ringpush::simulator::{Device, Options};
use serde_json::{Value, json};

use crate::support::broker::Broker;
use crate::support::client::Message;
use crate::support::events::{APP, android, android_token, at, ios, ios_token, ring};
use crate::support::stage::Stage;
use crate::support::worker::PATIENCE;

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// A producer's own headers and properties.
fn traced() -> BasicProperties {
    let mut headers = FieldTable::default();
    for (name, value) in [
        ("traceparent", TRACEPARENT),
        ("tracestate", "vendor=1"),
        ("x-mine", "kept"),
    ] {
        headers.insert(name.into(), AMQPValue::LongString(value.into()));
    }
    BasicProperties::default()
        .with_headers(headers)
        .with_message_id("message-7".into())
        .with_content_type("application/json".into())
}

fn keys(value: &Value) -> BTreeSet<&str> {
    let fields = value.as_object().expect("an object");
    fields.keys().map(String::as_str).collect()
}

fn set<const N: usize>(names: [&'static str; N]) -> BTreeSet<&'static str> {
    BTreeSet::from(names)
}

fn is_time(value: &Value) -> bool {
    let text = value.as_str().unwrap_or_default();
    DateTime::parse_from_rfc3339(text).is_ok()
}

fn is_small(value: &Value) -> bool {
    value.as_u64().is_some_and(|ms| ms < 60_000)
}

/// Whoever listens gets every field, under the right key, with the trace and
/// the call that it belongs to.
#[tokio::test]
async fn an_outcome_has_every_field_and_the_trace_of_its_event() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let mut outcomes = stage.client.outcomes().await;
    let event = ring(&[
        ios("i", &ios_token()),
        android("a", &android_token()),
        json!({"id": "t", "platform": "toaster", "app": APP, "token": "x"}),
    ]);
    let body = event.to_string().into_bytes();
    stage.client.publish_all("ring", [(body, traced())]).await;
    let mut seen = BTreeSet::new();
    for _ in 0..3 {
        let report = outcomes.next().await;
        seen.insert(report.key().to_owned());
        check_outcome(&report, &event);
    }
    let expected = [
        "push.android.accepted",
        "push.ios.accepted",
        "push.unknown.rejected",
    ];
    assert_eq!(seen, expected.map(str::to_owned).into());
    stage.end(worker).await;
}

fn check_outcome(report: &Message, event: &Value) {
    let outcome = report.json();
    let mut names = keys(&outcome);
    names.remove("detail");
    let all = [
        "v",
        "type",
        "at",
        "event",
        "event_id",
        "call_id",
        "device_id",
        "app",
        "platform",
        "environment",
        "result",
        "reason",
        "provider_id",
        "attempts",
        "queue_ms",
        "push_ms",
    ];
    assert_eq!(names, set(all), "{outcome}");
    assert_eq!(outcome["v"], 1);
    assert_eq!(outcome["type"], "push");
    assert!(is_time(&outcome["at"]), "{outcome}");
    assert_eq!(outcome["event"], "ring");
    assert_eq!(outcome["event_id"], event["event_id"]);
    assert_eq!(outcome["call_id"], event["call_id"]);
    assert_eq!(outcome["app"], APP);
    assert!(
        is_small(&outcome["queue_ms"]) && is_small(&outcome["push_ms"]),
        "{outcome}"
    );
    let (id, environment, result, attempts) = match outcome["platform"].as_str() {
        Some("ios") => ("i", json!("production"), "accepted", 1),
        Some("android") => ("a", Value::Null, "accepted", 1),
        _ => ("t", Value::Null, "rejected", 0),
    };
    assert_eq!(outcome["device_id"], id);
    assert_eq!(outcome["environment"], environment);
    assert_eq!(outcome["result"], result);
    assert_eq!(outcome["attempts"], attempts);
    if result == "accepted" {
        assert_eq!(outcome["reason"], Value::Null);
        assert!(
            outcome["provider_id"]
                .as_str()
                .is_some_and(|id| !id.is_empty())
        );
    } else {
        assert_eq!(outcome["reason"], "unknown_platform");
        assert_eq!(outcome["provider_id"], Value::Null);
    }
    check_properties(report, event);
}

fn check_properties(report: &Message, event: &Value) {
    assert_eq!(report.header("traceparent").as_deref(), Some(TRACEPARENT));
    assert_eq!(report.header("tracestate").as_deref(), Some("vendor=1"));
    assert_eq!(report.correlation_id(), event["call_id"].as_str());
    let properties = &report.0.properties;
    assert_eq!(
        *properties.delivery_mode(),
        Some(2),
        "it survives a restart"
    );
    let kind = properties
        .content_type()
        .as_ref()
        .map(|t| t.as_str().to_owned());
    assert_eq!(kind.as_deref(), Some("application/json"));
}

/// Dead tokens wait in a queue for whoever clears them, with all that is
/// needed to compare first.
#[tokio::test]
async fn a_dead_token_waits_in_the_queue_of_tokens() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let mut outcomes = stage.client.outcomes().await;
    let (iphone, pixel) = (ios_token(), android_token());
    let since = chrono::Utc::now() - chrono::Duration::hours(1);
    stage.simulator.unregister(&iphone, since);
    stage.simulator.unregister(&pixel, since);
    let mut apple = ios("i", &iphone);
    apple["registered_at"] = at(-7200).into();
    let event = ring(&[apple.clone(), android("a", &pixel)]);
    stage.client.publish("ring", &event).await;
    for outcome in outcomes.pushes(2).await {
        assert_eq!(outcome["result"], "dead_token", "{outcome}");
    }
    stage.client.holds("tokens", 2).await;
    let mut found = [
        stage.client.take("tokens").await,
        stage.client.take("tokens").await,
    ];
    found.sort_by_key(|message| message.key().to_owned());
    let [google, apples] = &found;
    assert_eq!(apples.key(), "token.ios.dead");
    let token = apples.json();
    let all = [
        "v",
        "type",
        "at",
        "verdict",
        "reason",
        "app",
        "platform",
        "environment",
        "device_id",
        "token",
        "registered_at",
        "provider_timestamp",
    ];
    assert_eq!(keys(&token), set(all), "{token}");
    assert!(is_time(&token["at"]));
    assert!(is_time(&token["provider_timestamp"]), "{token}");
    assert_eq!(apples.correlation_id(), event["call_id"].as_str());
    let expected = json!({
        "v": 1, "type": "token", "at": token["at"], "verdict": "dead", "reason": "Unregistered",
        "app": APP, "platform": "ios", "environment": "production", "device_id": "i",
        "token": iphone, "registered_at": apple["registered_at"],
        "provider_timestamp": token["provider_timestamp"],
    });
    assert_eq!(token, expected);
    assert_eq!(google.key(), "token.android.dead");
    let token = google.json();
    assert_eq!(token["token"], *pixel);
    assert_eq!(token["reason"], "UNREGISTERED");
    assert_eq!(token["environment"], Value::Null);
    assert_eq!(token["registered_at"], Value::Null);
    stage.end(worker).await;
}

/// A backend can react when nobody was reached, and only then. A ring that was
/// split says so part by part.
#[tokio::test]
async fn a_call_that_reaches_nobody_is_reported_part_by_part() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let mut outcomes = stage.client.outcomes().await;
    let (iphone, pixel) = (ios_token(), android_token());
    let gone = Device {
        unregistered_since: Some(chrono::Utc::now()),
        ..Device::default()
    };
    stage.simulator.register(&iphone, gone.clone());
    stage.simulator.register(&pixel, gone);
    let mut event = ring(&[ios("i", &iphone), android("a", &pixel)]);
    event["callee"] = json!({"id": "u-callee", "name": "Bob"});
    stage.client.publish("ring", &event).await;
    let mut calls = Vec::new();
    while calls.len() < 2 {
        let report = outcomes.next().await;
        if report.key() == "call.unreachable" {
            calls.push(report.json());
        }
    }
    calls.sort_by_key(|call| call["platform"].to_string());
    for (call, platform, part) in [(&calls[0], "android", 2), (&calls[1], "ios", 1)] {
        let expected = json!({
            "v": 1, "type": "call", "event_id": event["event_id"], "call_id": event["call_id"],
            "callee": {"id": "u-callee", "name": "Bob"}, "devices": 1,
            "results": {"dead_token": 1}, "platform": platform, "part": part, "parts": 2,
        });
        assert_eq!(*call, expected);
    }
    // One phone that rings is enough.
    let event = ring(&[ios("i", &iphone), ios("j", &ios_token())]);
    stage.client.publish("ring.ios", &event).await;
    outcomes.pushes(2).await;
    let more = outcomes.within(std::time::Duration::from_millis(300)).await;
    let more = more.map(|report| report.key().to_owned());
    assert!(
        more.as_deref().is_none_or(|key| key.starts_with("token.")),
        "{more:?}"
    );
    stage.end(worker).await;
}

/// The parts of a split ring keep what the producer put beside the body.
#[tokio::test]
async fn parts_keep_properties_and_headers_and_get_their_number() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let mut readers = Vec::new();
    for suffix in ["ios", "android"] {
        let channel = stage.client.connection.create_channel().await.unwrap();
        // Before the worker, which takes what this one leaves.
        let mut first = FieldTable::default();
        first.insert("x-priority".into(), AMQPValue::LongInt(10));
        let queue = stage.client.name(suffix);
        let options = BasicConsumeOptions::default();
        let consumer = channel.basic_consume(queue.as_str().into(), "".into(), options, first);
        readers.push((consumer.await.unwrap(), channel));
    }
    let phones: Vec<Value> = (0..150)
        .map(|n| ios(&format!("i{n}"), &ios_token()))
        .chain([android("a", &android_token())])
        .collect();
    let body = ring(&phones).to_string().into_bytes();
    stage.client.publish_all("ring", [(body, traced())]).await;
    let mut parts = BTreeSet::new();
    let (mut devices, mut platforms) = (0, Vec::new());
    for (reader, count) in readers.iter_mut().zip([2, 1]) {
        for _ in 0..count {
            let next = tokio::time::timeout(PATIENCE, reader.0.next()).await;
            let delivery = next.unwrap().unwrap().unwrap();
            delivery.ack(BasicAckOptions::default()).await.unwrap();
            let part = Message(delivery);
            parts.insert(part.header("x-part").expect("x-part"));
            assert_eq!(part.header("x-mine").as_deref(), Some("kept"));
            assert_eq!(part.header("traceparent").as_deref(), Some(TRACEPARENT));
            let id = part.0.properties.message_id().as_ref();
            assert_eq!(
                id.map(|id| id.as_str().to_owned()).as_deref(),
                Some("message-7")
            );
            let event = part.json();
            let own = event["devices"].as_array().unwrap();
            assert!(own.len() <= 100);
            devices += own.len();
            platforms.push(own[0]["platform"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(parts, ["1/3", "2/3", "3/3"].map(str::to_owned).into());
    assert_eq!((devices, platforms.len()), (151, 3));
    for (_, channel) in readers {
        channel.close(200, "OK".into()).await.unwrap();
    }
    stage.end(worker).await;
}

/// Acknowledged while the worker runs, not only when it ends: counted by the
/// broker's own tool.
#[tokio::test]
async fn nothing_stays_unacknowledged_while_the_worker_runs() {
    let broker = tokio::task::spawn_blocking(Broker::private).await.unwrap();
    let stage = Stage::on(&broker.url, "", Options::default()).await;
    let worker = stage.worker().await;
    let mut outcomes = stage.client.outcomes().await;
    for n in 0..50 {
        let phones = [ios("i", &ios_token()), android("a", &android_token())];
        let key = ["ring", "ring.ios", "ring.android"][n % 3];
        stage.client.publish(key, &ring(&phones)).await;
    }
    for outcome in outcomes.pushes(100).await {
        assert_eq!(outcome["result"], "accepted", "{outcome}");
    }
    let broker = tokio::task::spawn_blocking(move || {
        let count = || {
            let columns = ["name", "messages_ready", "messages_unacknowledged"];
            let mut arguments = vec!["-q", "list_queues", "--no-table-headers"];
            arguments.extend(columns);
            broker.ctl(&arguments)
        };
        // The count of a quorum queue is refreshed every few seconds.
        let mut last = String::new();
        for _ in 0..20 {
            last = count();
            let intake = |line: &&str| {
                [".calls\t", ".ios\t", ".android\t"]
                    .iter()
                    .any(|name| line.contains(name))
            };
            let lines: Vec<&str> = last.lines().filter(intake).collect();
            assert_eq!(lines.len(), 3, "{last}");
            if lines.iter().all(|line| line.ends_with("\t0\t0")) {
                return broker;
            }
            std::thread::sleep(std::time::Duration::from_millis(500));
        }
        panic!("not empty:\n{last}");
    })
    .await
    .unwrap();
    stage.end(worker).await;
    tokio::task::spawn_blocking(move || drop(broker))
        .await
        .unwrap();
}
