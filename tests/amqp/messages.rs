//! What becomes of messages and reports while nothing fails.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lapin::BasicProperties;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use ringpush::amqp::producer::Producer;
use ringpush::amqp::reader::{OutcomeReader, Wanted};
use ringpush::call::outcome::TraceContext;
use tokio::time::{sleep, timeout};
use tracing::subscriber::DefaultGuard;

use crate::rig::{Eye, PATIENCE, Rig, cancel, header, push_report, ring, settings, token_report};
use crate::support::broker::Broker;

/// A worker on the shared broker, and a client to look at it with.
async fn shared() -> (Rig, Eye) {
    let url = &Broker::shared().url;
    (Rig::connected(url).await, Eye::open(url).await)
}

/// The other half of the proof is that the counts stay zero when the worker has
/// gone: what it had not acknowledged would be back.
#[tokio::test]
async fn what_is_settled_is_acknowledged_on_every_queue() {
    let (rig, eye) = shared().await;
    let exchange = rig.name("calls");
    for (key, body) in [
        ("ring.ios", ring("ios")),
        ("ring.android", ring("android")),
        ("cancel", cancel()),
    ] {
        for _ in 0..300 {
            eye.send(&exchange, key, &body).await;
        }
    }
    let (settings, worker) = (rig.settings.clone(), rig.worker);
    // All are delivered when none is ready; then they only have to be settled.
    for suffix in ["calls", "ios", "android"] {
        eye.holds(&format!("{}.{suffix}", settings.prefix), 0).await;
    }
    worker.stop_taking();
    timeout(PATIENCE, worker.drained()).await.expect("drains");
    worker.close().await;
    for suffix in ["calls", "ios", "android", "dead"] {
        eye.holds(&format!("{}.{suffix}", settings.prefix), 0).await;
    }
    eye.clean(&settings.prefix).await;
}

#[tokio::test]
async fn what_cannot_be_understood_is_dead_lettered_whole() {
    let (rig, eye) = shared().await;
    let mut headers = FieldTable::default();
    headers.insert("traceparent".into(), AMQPValue::LongString("00-aa".into()));
    let properties = BasicProperties::default()
        .with_message_id("m1".into())
        .with_correlation_id("c1".into())
        .with_type("ring".into())
        .with_expiration("60000".into())
        // Only guest may say so: passed on as it is, it would end the channel
        // of a worker that logs in as somebody else.
        .with_user_id("guest".into())
        .with_headers(headers);
    eye.publish(&rig.name("calls"), "ring.android", b"{\"v\":9}", properties)
        .await;
    let letter = eye.take(&rig.name("dead")).await;
    assert_eq!(letter.data, b"{\"v\":9}");
    assert!(
        header(&letter, "x-error").is_some_and(|error| error.contains('v')),
        "the error names the field"
    );
    assert_eq!(header(&letter, "x-origin"), Some(rig.name("android")));
    assert_eq!(header(&letter, "traceparent").as_deref(), Some("00-aa"));
    assert_eq!(letter.properties.message_id(), &Some("m1".into()));
    assert_eq!(letter.properties.correlation_id(), &Some("c1".into()));
    assert_eq!(letter.properties.kind(), &Some("ring".into()));
    eye.holds(&rig.name("android"), 0).await;
    rig.end().await;
}

/// The worker's frames are of 16 KiB at most, so these come and go in up to 33
/// each, at and beside the edges of a frame and of many.
#[tokio::test]
async fn bodies_of_many_frames_are_passed_on_byte_for_byte() {
    const FRAME: usize = 16 * 1024 - 8;
    let (rig, eye) = shared().await;
    let sizes = [
        512 * 1024,
        FRAME - 1,
        FRAME,
        FRAME + 1,
        32 * FRAME,
        32 * FRAME + 1,
    ];
    // 251 does not divide a frame, so no two frames of a body are the same.
    let bodies = sizes.map(|size| (0..251).cycle().take(size).collect::<Vec<u8>>());
    for body in &bodies {
        eye.send(&rig.name("calls"), "ring.ios", body).await;
    }
    let mut left: Vec<_> = bodies.to_vec();
    while !left.is_empty() {
        let letter = eye.take(&rig.name("dead")).await;
        let place = left.iter().position(|body| *body == letter.data);
        let size = letter.data.len();
        left.swap_remove(place.unwrap_or_else(|| panic!("{size} bytes that nobody sent")));
    }
    eye.holds(&rig.name("ios"), 0).await;
    rig.end().await;
}

#[tokio::test]
async fn two_hundred_bad_ones_among_good_ones_stop_nobody() {
    let (rig, eye) = shared().await;
    for n in 0..400 {
        let body = if n % 2 == 0 {
            ring("ios")
        } else {
            b"{}".to_vec()
        };
        eye.send(&rig.name("calls"), "ring.ios", &body).await;
    }
    eye.holds(&rig.name("dead"), 200).await;
    eye.holds(&rig.name("ios"), 0).await;
    rig.end().await;
}

#[tokio::test]
async fn a_mistyped_key_ends_in_the_dead_queue() {
    let (rig, eye) = shared().await;
    eye.send(&rig.name("calls"), "rign.ios", &ring("ios")).await;
    let letter = eye.take(&rig.name("dead")).await;
    assert_eq!(letter.routing_key.as_str(), "rign.ios");
    rig.end().await;
}

#[tokio::test]
async fn reports_carry_what_receivers_need() {
    let (rig, eye) = shared().await;
    let seen = rig.name("seen");
    eye.collect(&seen, &rig.name("outcomes")).await;
    let said = [push_report("call-7"), token_report("call-7")];
    assert!(rig.until_safe(said).await);
    let push = eye.take(&seen).await;
    assert_eq!(push.routing_key.as_str(), "push.ios.accepted");
    let body: serde_json::Value = serde_json::from_slice(&push.data).expect("JSON");
    assert_eq!(body["type"], "push");
    assert_eq!(body["v"], 1);
    let properties = &push.properties;
    assert_eq!(properties.content_type(), &Some("application/json".into()));
    assert_eq!(properties.delivery_mode(), &Some(2));
    assert_eq!(properties.correlation_id(), &Some("call-7".into()));
    assert!(properties.timestamp().is_some_and(|t| t > 1_600_000_000));
    let id = properties.message_id().as_ref().expect("a message id");
    assert!(uuid::Uuid::try_parse(id.as_str()).is_ok());
    assert_eq!(header(&push, "traceparent").as_deref(), Some("00-aa-bb-01"));
    let token = eye.take(&rig.name("tokens")).await;
    assert_eq!(token.routing_key.as_str(), "token.ios.dead");
    rig.end().await;
}

/// Thousands at once, more than the window of outstanding confirms.
#[tokio::test]
async fn many_reports_are_confirmed_each() {
    let rig = Rig::connected(&Broker::shared().url).await;
    let safe = rig.until_safe((0..3000).map(|n| {
        let call = format!("c{n}");
        if n % 3 == 0 {
            token_report(&call)
        } else {
            push_report(&call)
        }
    }));
    assert!(timeout(PATIENCE, safe).await.expect("in time"));
    let eye = Eye::open(&Broker::shared().url).await;
    eye.holds(&rig.name("tokens"), 1000).await;
    assert_eq!(rig.metrics.reports_lost.get(), 0);
    rig.end().await;
}

/// Lines of the log, for what cannot be seen otherwise.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("not poisoned").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Of this thread, as long as the guard lives.
    fn begin() -> (Self, DefaultGuard) {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("not poisoned")).into_owned()
    }
}

/// Another worker of the same kind, and what it logged until it took messages.
async fn late_starter(first: &Rig) -> (Rig, String) {
    let (log, guard) = Log::begin();
    let late = Rig::start(first.settings.clone());
    late.becomes(true).await;
    drop(guard);
    (late, log.text())
}

/// The broker delivers what was published at once in chunks that are larger
/// than any prefetch.
#[tokio::test]
async fn a_late_starter_is_not_stuck_in_a_large_chunk_of_cancels() {
    let (first, eye) = shared().await;
    let stream = first.name("cancels");
    let mut confirms = Vec::new();
    for _ in 0..8000 {
        let options = BasicPublishOptions::default();
        let properties = BasicProperties::default();
        let publish = eye.channel.basic_publish(
            "".into(),
            stream.as_str().into(),
            options,
            b"junk",
            properties,
        );
        confirms.push(publish.await.expect("published"));
    }
    for confirm in confirms {
        confirm.await.expect("confirmed");
    }
    let (late, text) = late_starter(&first).await;
    // On a slow machine it may give up after its two seconds, which is said in
    // other words.
    assert!(!text.contains("cancels cannot be read in time"), "{text}");
    late.worker.close().await;
    first.end().await;
}

#[tokio::test]
async fn a_late_starter_reads_the_cancels_it_missed_before_its_first_ring() {
    let (first, eye) = shared().await;
    for n in 0..250 {
        // What is no cancel at all is skipped.
        let body = if n == 100 { b"junk".to_vec() } else { cancel() };
        eye.send(&first.name("calls"), "cancel", &body).await;
    }
    let (late, text) = late_starter(&first).await;
    // 250 cancels and the first worker's marker.
    assert!(text.contains("caught up with read=251"), "{text}");
    late.worker.close().await;
    first.end().await;
}

/// What the log says of how many cancels were read until the end of the stream.
fn caught_up(text: &str) -> Vec<&str> {
    let lines = text.lines().filter(|line| line.contains("caught up with"));
    lines
        .filter_map(|line| line.split("read=").nth(1))
        .collect()
}

#[tokio::test]
async fn cancels_are_read_on_after_a_reconnect_and_back_in_a_stream_made_anew() {
    let (log, _guard) = Log::begin();
    let (rig, eye) = shared().await;
    let send = async |count| {
        for _ in 0..count {
            eye.send(&rig.name("calls"), "cancel", &cancel()).await;
        }
        sleep(Duration::from_secs(1)).await;
    };
    // Without a queue that it consumes the session begins anew.
    let reconnect = async |deleted: &[&str]| {
        let mut state = rig.worker.state();
        state.mark_unchanged();
        for queue in deleted {
            let queue = rig.name(queue).as_str().into();
            let delete = eye
                .channel
                .queue_delete(queue, QueueDeleteOptions::default());
            delete.await.expect("deleted");
        }
        state.changed().await.expect("noticed");
        rig.becomes(true).await;
    };
    send(20).await;
    reconnect(&["ios"]).await;
    send(5).await;
    reconnect(&["ios"]).await;
    assert_eq!(caught_up(&log.text()), ["0", "0", "0"]);
    assert!(!log.text().contains("is another one"));
    reconnect(&["cancels", "ios"]).await;
    assert!(log.text().contains("is another one"), "{}", log.text());
    assert_eq!(caught_up(&log.text()).len(), 4);
    rig.end().await;
}

#[tokio::test]
async fn a_producer_publishes_and_reads_what_becomes_of_it() {
    let rig = Rig::connected(&Broker::shared().url).await;
    let mut reader = OutcomeReader::open(&rig.settings).await.expect("reader");
    let mut producer = Producer::connect(&rig.settings).await.expect("producer");
    // The worker must not take it before it has been looked at.
    rig.worker.stop_taking();
    rig.worker.drained().await;
    let eye = Eye::open(&Broker::shared().url).await;
    let trace = TraceContext {
        traceparent: Some("00-aa-bb-01".to_owned()),
        tracestate: None,
    };
    let summary = producer
        .publish(ring("ios"), &trace)
        .await
        .expect("published");
    assert_eq!(summary.key, "ring.ios");
    let message = eye.take(&rig.name("ios")).await;
    let properties = &message.properties;
    assert_eq!(
        properties.message_id().as_ref().map(ToString::to_string),
        summary.event_id
    );
    assert_eq!(properties.kind(), &Some("ring".into()));
    assert_eq!(properties.correlation_id(), &Some("c1".into()));
    assert_eq!(properties.delivery_mode(), &Some(2));
    assert_eq!(properties.expiration(), &None);
    assert_eq!(
        header(&message, "traceparent").as_deref(),
        Some("00-aa-bb-01")
    );

    let mut wanted = Wanted::default();
    wanted.add(&summary);
    let said = [token_report("another call"), token_report("c1")];
    assert!(rig.until_safe(said).await);
    let outcome = timeout(PATIENCE, reader.next(&wanted))
        .await
        .expect("in time")
        .expect("a report");
    assert_eq!(outcome.key, "token.ios.dead");
    assert!(!format!("{outcome:?}").contains("abcdef"), "no token");
    producer.close().await;
    reader.close().await;
    rig.end().await;
}

/// Messages that a worker has not taken when it is told to stop stay for others.
#[tokio::test]
async fn a_worker_that_stops_takes_no_more() {
    let rig = Rig::start(settings(&Broker::shared().url));
    rig.becomes(true).await;
    rig.worker.stop_taking();
    timeout(PATIENCE, rig.worker.drained())
        .await
        .expect("drains");
    let eye = Eye::open(&Broker::shared().url).await;
    // The consumer is cancelled when another one gets everything.
    let mut consumer = eye
        .channel
        .basic_consume(
            rig.name("ios").as_str().into(),
            "".into(),
            BasicConsumeOptions {
                no_ack: true,
                ..BasicConsumeOptions::default()
            },
            FieldTable::default(),
        )
        .await
        .expect("a consumer");
    for _ in 0..20 {
        eye.send(&rig.name("calls"), "ring.ios", &ring("ios")).await;
    }
    for _ in 0..20 {
        let next = futures_util::StreamExt::next(&mut consumer);
        timeout(PATIENCE, next)
            .await
            .expect("all come here")
            .expect("open")
            .expect("a message");
    }
    rig.end().await;
}
