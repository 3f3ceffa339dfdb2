//! What is declared, and what is said when it cannot be.

use std::time::Duration;

use lapin::ExchangeKind;
use lapin::options::{
    ExchangeDeclareOptions, ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use ringpush::amqp::{AmqpError, CancelSource, Settings, count};
use tokio::time::{sleep, timeout};

use crate::rig::{Eye, PATIENCE, Rig, fatal, header, push_report, ring, settings, token_report};
use crate::support::broker::Broker;

fn arguments(entries: &[(&str, Value)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (key, value) in entries {
        let value = match value {
            Value::Text(text) => AMQPValue::LongString(text.as_str().into()),
            Value::Number(number) => AMQPValue::LongLongInt(*number),
        };
        table.insert((*key).into(), value);
    }
    table
}

enum Value {
    Text(String),
    Number(i64),
}

fn text(value: &str) -> Value {
    Value::Text(value.to_owned())
}

/// A broker accepts a second declaration only if it equals the first, so
/// declaring the documented arguments proves that they are the ones in force.
#[tokio::test]
async fn everything_is_declared_as_documented() {
    let rig = Rig::connected(&Broker::shared().url).await;
    let eye = Eye::open(&Broker::shared().url).await;
    let intake = || {
        arguments(&[
            ("x-queue-type", text("quorum")),
            ("x-delivery-limit", Value::Number(10)),
            ("x-dead-letter-exchange", Value::Text(rig.name("dead"))),
            ("x-dead-letter-strategy", text("at-least-once")),
            ("x-overflow", text("reject-publish")),
        ])
    };
    let bounded = |length| {
        arguments(&[
            ("x-queue-type", text("quorum")),
            ("x-max-length", Value::Number(length)),
            ("x-overflow", text("drop-head")),
        ])
    };
    let stream = arguments(&[
        ("x-queue-type", text("stream")),
        ("x-max-age", text("1h")),
        ("x-stream-max-segment-size-bytes", Value::Number(10_000_000)),
    ]);
    for (suffix, arguments) in [
        ("calls", intake()),
        ("ios", intake()),
        ("android", intake()),
        ("cancels", stream),
        ("tokens", bounded(1_000_000)),
        ("dead", bounded(100_000)),
    ] {
        let options = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        eye.channel
            .queue_declare(rig.name(suffix).as_str().into(), options, arguments)
            .await
            .unwrap_or_else(|error| panic!("queue {suffix}: {error}"));
    }
    let alternate = arguments(&[("alternate-exchange", Value::Text(rig.name("dead")))]);
    for (suffix, kind, arguments) in [
        ("calls", ExchangeKind::Topic, alternate),
        ("outcomes", ExchangeKind::Topic, FieldTable::default()),
        ("dead", ExchangeKind::Fanout, FieldTable::default()),
    ] {
        let options = ExchangeDeclareOptions {
            durable: true,
            ..ExchangeDeclareOptions::default()
        };
        eye.channel
            .exchange_declare(rig.name(suffix).as_str().into(), kind, options, arguments)
            .await
            .unwrap_or_else(|error| panic!("exchange {suffix}: {error}"));
    }
    let counts = count(&rig.settings).await.expect("all are there");
    let names: Vec<&str> = counts.iter().map(|count| count.name.as_str()).collect();
    assert_eq!(names.len(), 6, "{names:?}");
    // A stream keeps what was read.
    assert!(counts[..5].iter().all(|count| count.messages == 0));
    rig.end().await;
}

#[tokio::test]
async fn another_argument_is_named_with_its_queue_and_ends_the_worker() {
    let settings = settings(&Broker::shared().url);
    let eye = Eye::open(&Broker::shared().url).await;
    let queue = format!("{}.android", settings.prefix);
    let options = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    eye.channel
        .queue_declare(queue.as_str().into(), options, FieldTable::default())
        .await
        .expect("a classic queue");
    let error = fatal(settings.clone()).await;
    let text = error.to_string();
    assert!(matches!(error, AmqpError::Mismatch { .. }), "{text}");
    assert!(text.contains(&format!("queue {queue} exists")), "{text}");
    assert!(text.contains("inequivalent arg 'x-"), "{text}");
    assert!(text.contains("amqp.declare = false"), "{text}");
    eye.clean(&settings.prefix).await;
}

#[tokio::test]
async fn with_declare_off_what_is_missing_is_named_and_nothing_is_created() {
    let settings = Settings {
        declare: false,
        ..settings(&Broker::shared().url)
    };
    let error = fatal(settings.clone()).await;
    let text = error.to_string();
    assert!(matches!(error, AmqpError::Missing { .. }), "{text}");
    assert!(
        text.starts_with(&format!("exchange {}.dead does not exist", settings.prefix)),
        "{text}"
    );
    let eye = Eye::open(&Broker::shared().url).await;
    assert_eq!(eye.count(&format!("{}.ios", settings.prefix)).await, None);
}

#[tokio::test]
async fn with_declare_off_what_another_declared_is_used() {
    let declarer = Rig::connected(&Broker::shared().url).await;
    let user = Rig::start(Settings {
        declare: false,
        ..declarer.settings.clone()
    });
    user.becomes(true).await;
    user.worker.close().await;
    declarer.end().await;
}

#[tokio::test]
async fn a_wrong_password_ends_the_worker_without_showing_it() {
    let url = Broker::shared().url.clone();
    let (_, rest) = url.split_once('@').expect("a URL with a user");
    let error = fatal(settings(&format!("amqp://guest:hunter2@{rest}"))).await;
    let text = error.to_string();
    assert!(matches!(error, AmqpError::Login { .. }), "{text}");
    assert!(text.contains("check user and password"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[tokio::test]
async fn a_missing_virtual_host_ends_the_worker() {
    let url = Broker::shared().url.clone();
    let (rest, _) = url.rsplit_once('/').expect("a URL with a path");
    let error = fatal(settings(&format!("{rest}/nowhere"))).await;
    let text = error.to_string();
    assert!(matches!(error, AmqpError::VirtualHost { .. }), "{text}");
    assert!(text.contains("nowhere"), "{text}");
}

#[tokio::test]
async fn without_streams_each_worker_has_a_queue_of_its_own_for_cancels() {
    let settings = Settings {
        cancels: CancelSource::Queue,
        ..settings(&Broker::shared().url)
    };
    let rig = Rig::start(settings);
    rig.becomes(true).await;
    let eye = Eye::open(&Broker::shared().url).await;
    assert_eq!(eye.count(&rig.name("cancels")).await, None, "no stream");
    rig.end().await;
}

/// Deletes them, those that are exchanges as well as those that are queues.
async fn delete(eye: &Eye, queues: &[String], exchanges: &[String]) {
    for queue in queues {
        eye.channel
            .queue_delete(queue.as_str().into(), QueueDeleteOptions::default())
            .await
            .expect("deleted");
    }
    for exchange in exchanges {
        eye.channel
            .exchange_delete(exchange.as_str().into(), ExchangeDeleteOptions::default())
            .await
            .expect("deleted");
    }
}

#[tokio::test]
async fn a_dead_queue_that_is_deleted_is_declared_again_for_the_next_dead_letter() {
    let rig = Rig::connected(&Broker::shared().url).await;
    let eye = Eye::open(&Broker::shared().url).await;
    let mut state = rig.worker.state();
    state.mark_unchanged();
    delete(&eye, &[rig.name("dead")], &[]).await;
    for _ in 0..40 {
        // Without an id of its own one is like the other.
        let key = "ring.ios";
        eye.send(&rig.name("calls"), key, b"{}").await;
    }
    eye.holds(&rig.name("dead"), 40).await;
    let letter = eye.take(&rig.name("dead")).await;
    assert_eq!(header(&letter, "x-origin"), Some(rig.name("ios")));
    eye.holds(&rig.name("ios"), 0).await;
    assert!(!state.has_changed().expect("alive"), "the session goes on");
    rig.end().await;
}

#[tokio::test]
async fn exchanges_that_are_deleted_are_declared_again_and_nothing_is_lost() {
    let rig = Rig::connected(&Broker::shared().url).await;
    let eye = Eye::open(&Broker::shared().url).await;
    let exchanges = [rig.name("dead"), rig.name("outcomes")];
    delete(&eye, &[rig.name("dead"), rig.name("tokens")], &exchanges).await;
    let key = "ring.ios";
    eye.send(&rig.name("calls"), key, b"{}").await;
    eye.holds(&rig.name("dead"), 1).await;
    delete(&eye, &[], &exchanges).await;
    let safe = rig.until_safe([token_report("c1")]);
    assert!(timeout(PATIENCE, safe).await.expect("in time"));
    eye.holds(&rig.name("tokens"), 1).await;
    rig.end().await;
}

/// A worker that may not declare waits for somebody who does, and goes on.
#[tokio::test]
async fn with_declare_off_a_queue_that_is_deleted_ends_no_session() {
    let declarer = Rig::connected(&Broker::shared().url).await;
    let user = Rig::start(Settings {
        declare: false,
        ..declarer.settings.clone()
    });
    user.becomes(true).await;
    let declarer_settings = declarer.settings.clone();
    declarer.worker.close().await;
    let eye = Eye::open(&Broker::shared().url).await;
    let mut state = user.worker.state();
    state.mark_unchanged();
    delete(&eye, &[user.name("tokens")], &[]).await;
    let safe = user.until_safe([token_report("c1"), push_report("c1")]);
    assert!(
        timeout(PATIENCE, safe).await.expect("in time"),
        "no message waits for a token event that no queue takes"
    );
    sleep(Duration::from_secs(2)).await;
    assert!(!state.has_changed().expect("alive"), "the session goes on");
    let declarer = Rig::start(declarer_settings);
    eye.holds(&user.name("tokens"), 1).await;
    user.worker.close().await;
    declarer.becomes(true).await;
    declarer.end().await;
}

/// A queue that an operator has limited takes nothing; what an event says to
/// the other platform must not be said again for it, nor may its phones wait.
#[tokio::test]
async fn a_part_that_its_queue_refuses_is_rung_by_whoever_has_split_it() {
    let declarer = Rig::connected(&Broker::shared().url).await;
    let settings = declarer.settings.clone();
    declarer.worker.close().await;
    let eye = Eye::open(&Broker::shared().url).await;
    let android = format!("{}.android", settings.prefix);
    delete(&eye, std::slice::from_ref(&android), &[]).await;
    let mut full = FieldTable::default();
    full.insert("x-max-length".into(), AMQPValue::LongInt(0));
    full.insert(
        "x-overflow".into(),
        AMQPValue::LongString("reject-publish".into()),
    );
    let durable = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    let declared = eye
        .channel
        .queue_declare(android.as_str().into(), durable, full);
    declared.await.expect("declared");
    let user = Rig::start(Settings {
        declare: false,
        ..settings
    });
    user.becomes(true).await;
    eye.collect(&user.name("seen"), &user.name("outcomes"))
        .await;
    eye.send(&user.name("calls"), "ring", &ring("both")).await;
    let mut seen = Vec::new();
    for _ in 0..2 {
        seen.push(eye.take(&user.name("seen")).await.routing_key.to_string());
    }
    seen.sort();
    assert_eq!(seen, ["push.android.rejected", "push.ios.rejected"]);
    eye.holds(&user.name("calls"), 0).await;
    user.worker.stop_taking();
    timeout(PATIENCE, user.worker.drained())
        .await
        .expect("drains");
    for suffix in ["calls", "dead", "seen"] {
        assert_eq!(eye.count(&user.name(suffix)).await, Some(0), "{suffix}");
    }
    user.end().await;
}

#[tokio::test]
async fn a_queue_that_is_deleted_is_declared_again() {
    let rig = Rig::connected(&Broker::shared().url).await;
    let eye = Eye::open(&Broker::shared().url).await;
    let queue = rig.name("ios");
    let mut state = rig.worker.state();
    state.mark_unchanged();
    eye.channel
        .queue_delete(queue.as_str().into(), QueueDeleteOptions::default())
        .await
        .expect("deleted");
    state.changed().await.expect("noticed");
    rig.becomes(true).await;
    assert_eq!(eye.count(&queue).await, Some(0));
    rig.end().await;
}
