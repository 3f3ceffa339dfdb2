//! What happens when the broker fails, each with a broker of its own.

use std::time::Duration;

use lapin::options::{QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use tokio::time::{Instant, sleep, timeout};

use crate::rig::{Eye, PATIENCE, Rig, push_report, ring, settings, token_report};
use crate::support::broker::Broker;

/// How soon after the broker is ready a worker is to be back. The promise is a
/// second; the rest is this machine under load.
const BACK_WITHIN: Duration = Duration::from_secs(3);

async fn blocking(work: impl FnOnce() + Send + 'static) {
    tokio::task::spawn_blocking(work).await.expect("done");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_comes_back_after_a_stop_and_a_kill_and_publishes_what_was_not_confirmed() {
    let broker: &'static Broker = Box::leak(Box::new(Broker::private()));
    let rig = Rig::connected(&broker.url).await;
    // A broker that is killed within moments of a stream's declaration may lose
    // the stream; see the test below.
    sleep(Duration::from_secs(2)).await;
    for kill in [true, false] {
        blocking(move || if kill { broker.kill() } else { broker.stop() }).await;
        rig.becomes(false).await;
        assert_eq!(rig.metrics.broker_connected.get(), 0);
        let mut safe = rig.until_safe((0..40).map(|n| token_report(&format!("c{n:02}"))));
        assert!(
            timeout(Duration::from_millis(200), &mut safe)
                .await
                .is_err(),
            "nothing can be safe while there is no broker"
        );
        blocking(|| broker.start()).await;
        let up = Instant::now();
        rig.becomes(true).await;
        assert!(up.elapsed() < BACK_WITHIN, "took {:?}", up.elapsed());
        assert!(timeout(PATIENCE, safe).await.expect("in time"));
        let eye = Eye::open(&broker.url).await;
        eye.holds(&rig.name("tokens"), 40).await;
        for n in 0..40 {
            let token = eye.take(&rig.name("tokens")).await;
            let call = token.properties.correlation_id().clone();
            assert_eq!(call, Some(format!("c{n:02}").as_str().into()), "in order");
        }
        // And events are taken again.
        let key = "ring.ios";
        eye.send(&rig.name("calls"), key, b"{}").await;
        eye.take(&rig.name("dead")).await;
    }
    rig.worker.close().await;
    blocking(|| broker.remove()).await;
}

/// `RabbitMQ` 3.10 that is killed right after it declared a stream can come back
/// with a stream that nobody can read, declare or delete.
#[tokio::test(flavor = "multi_thread")]
async fn rings_go_on_when_cancels_cannot_be_read() {
    let broker: &'static Broker = Box::leak(Box::new(Broker::private()));
    let rig = Rig::connected(&broker.url).await;
    blocking(|| broker.kill()).await;
    rig.becomes(false).await;
    blocking(|| broker.start()).await;
    rig.becomes(true).await;
    let eye = Eye::open(&broker.url).await;
    let key = "ring.ios";
    eye.send(&rig.name("calls"), key, b"{}").await;
    eye.take(&rig.name("dead")).await;
    rig.worker.close().await;
    blocking(|| broker.remove()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_not_there_yet_is_waited_for() {
    let broker: &'static Broker = Box::leak(Box::new(Broker::private()));
    blocking(|| broker.stop()).await;
    let mut rig = Rig::start(settings(&broker.url));
    let mut state = rig.worker.state();
    timeout(PATIENCE, state.wait_for(|s| s.error.is_some()))
        .await
        .expect("in time")
        .expect("alive");
    let error = state.borrow().error.clone().expect("an error");
    assert!(error.starts_with("cannot reach RabbitMQ at 127.0.0.1:"));
    assert!(!error.contains("guest"), "{error}");
    let gave_up = timeout(Duration::from_millis(500), rig.worker.fatal()).await;
    assert!(gave_up.is_err(), "a broker that is down ends nobody");
    blocking(|| broker.start()).await;
    rig.becomes(true).await;
    rig.worker.close().await;
    blocking(|| broker.remove()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_the_broker_closes_come_back() {
    let broker: &'static Broker = Box::leak(Box::new(Broker::private()));
    let rig = Rig::connected(&broker.url).await;
    let mut state = rig.worker.state();
    state.mark_unchanged();
    blocking(|| {
        broker.ctl(&["close_all_connections", "maintenance"]);
    })
    .await;
    timeout(PATIENCE, state.changed())
        .await
        .expect("noticed")
        .expect("alive");
    rig.becomes(true).await;
    let safe = rig.until_safe([push_report("c1")]);
    assert!(timeout(PATIENCE, safe).await.expect("in time"));
    rig.worker.close().await;
    blocking(|| broker.remove()).await;
}

/// Acknowledgements must not stand behind blocked publishes: hence two
/// connections.
#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_broker_stops_reports_but_not_rings() {
    let broker: &'static Broker = Box::leak(Box::new(Broker::private()));
    let settings = settings(&broker.url);
    let declarer = Rig::start(settings.clone());
    declarer.becomes(true).await;
    declarer.worker.close().await;
    let eye = Eye::open(&broker.url).await;
    let exchange = format!("{}.calls", settings.prefix);
    for _ in 0..100 {
        eye.send(&exchange, "ring.ios", &ring("ios")).await;
    }
    drop(eye);
    blocking(|| {
        broker.ctl(&["set_vm_memory_high_watermark", "0.0000001"]);
    })
    .await;
    let rig = Rig::start(settings);
    rig.becomes(true).await;
    let mut safe = rig.until_safe([push_report("c1")]);
    let mut state = rig.worker.state();
    timeout(PATIENCE, state.wait_for(|s| s.blocked.is_some()))
        .await
        .expect("it is noticed")
        .expect("alive");
    assert!(rig.worker.state().borrow().connected, "rings go on");
    let looker = Eye::open(&broker.url).await;
    looker.holds(&rig.name("ios"), 0).await;
    // Longer than the broker's patience with a connection that sends no
    // heartbeats, and than the bound on a confirm.
    let early = timeout(Duration::from_secs(13), &mut safe).await;
    assert!(early.is_err(), "nothing is confirmed while it blocks");
    assert!(
        rig.worker.state().borrow().connected,
        "the session outlives a blocked connection"
    );
    blocking(|| {
        broker.ctl(&["set_vm_memory_high_watermark", "0.6"]);
    })
    .await;
    assert!(timeout(PATIENCE, safe).await.expect("in time"));
    timeout(PATIENCE, state.wait_for(|s| s.blocked.is_none()))
        .await
        .expect("in time")
        .expect("alive");
    rig.worker.stop_taking();
    rig.worker.drained().await;
    rig.worker.close().await;
    looker
        .holds(&format!("{}.ios", exchange.trim_end_matches(".calls")), 0)
        .await;
    blocking(|| broker.remove()).await;
}

/// The grace is over while their reports wait for a broker that takes none:
/// they are not acknowledged, so the next worker has them and reports them.
#[tokio::test(flavor = "multi_thread")]
async fn messages_whose_reports_are_not_confirmed_at_the_end_go_back_to_the_broker() {
    let broker: &'static Broker = Box::leak(Box::new(Broker::private()));
    let settings = settings(&broker.url);
    let declarer = Rig::start(settings.clone());
    declarer.becomes(true).await;
    let seen = declarer.name("seen");
    let exchange = declarer.name("calls");
    let eye = Eye::open(&broker.url).await;
    eye.collect(&seen, &declarer.name("outcomes")).await;
    declarer.worker.close().await;
    for _ in 0..3 {
        eye.send(&exchange, "ring.ios", &ring("ios")).await;
    }
    blocking(|| {
        broker.ctl(&["set_vm_memory_high_watermark", "0.0000001"]);
    })
    .await;
    let rig = Rig::start(settings.clone());
    rig.becomes(true).await;
    let queue = rig.name("ios");
    let looker = Eye::open(&broker.url).await;
    looker.holds(&queue, 0).await;
    rig.worker.stop_taking();
    let drained = timeout(Duration::from_secs(1), rig.worker.drained()).await;
    assert!(drained.is_err(), "their reports are not safe");
    assert_eq!(rig.worker.under_way(), 3);
    timeout(PATIENCE, rig.worker.close()).await.expect("ends");
    looker.holds(&queue, 3).await;
    assert_eq!(looker.count(&seen).await, Some(0));
    assert_eq!(rig.metrics.reports_lost.get(), 0);
    blocking(|| {
        broker.ctl(&["set_vm_memory_high_watermark", "0.6"]);
    })
    .await;
    let next = Rig::start(settings);
    next.becomes(true).await;
    looker.holds(&queue, 0).await;
    for _ in 0..3 {
        let report = looker.take(&seen).await;
        assert_eq!(report.routing_key.as_str(), "push.ios.rejected");
    }
    next.worker.close().await;
    blocking(|| broker.remove()).await;
}

/// Nobody listens here, so nothing is ever confirmed: giving up what may still
/// be published would help nobody.
#[tokio::test]
async fn while_the_broker_is_away_no_report_is_given_up() {
    let rig = Rig::start(ringpush::amqp::Settings {
        prefetch: 4,
        ..settings("amqp://guest:guest@127.0.0.1:1/%2f")
    });
    let messages: Vec<_> = (0..6)
        .map(|_| tokio::spawn(rig.until_safe([push_report("c1"), token_report("c1")])))
        .collect();
    sleep(Duration::from_secs(7)).await;
    assert!(!messages.iter().any(tokio::task::JoinHandle::is_finished));
    assert_eq!(rig.metrics.reports_lost.get(), 0);
    rig.worker.close().await;
    for message in messages {
        assert!(!ended(message).await, "not to be acknowledged");
    }
}

/// Four messages with a prefetch of four, and the broker goes while they wait:
/// every report is there in the end.
#[tokio::test(flavor = "multi_thread")]
async fn a_small_prefetch_outlives_a_restart_of_the_broker() {
    let broker: &'static Broker = Box::leak(Box::new(Broker::private()));
    let rig = Rig::start(ringpush::amqp::Settings {
        prefetch: 4,
        ..settings(&broker.url)
    });
    rig.becomes(true).await;
    sleep(Duration::from_secs(2)).await;
    blocking(|| broker.stop()).await;
    rig.becomes(false).await;
    let messages: Vec<_> = (0..4)
        .map(|n| {
            let call = format!("c{n}");
            tokio::spawn(rig.until_safe([push_report(&call), token_report(&call)]))
        })
        .collect();
    sleep(Duration::from_secs(4)).await;
    blocking(|| broker.start()).await;
    rig.becomes(true).await;
    for message in messages {
        assert!(ended(message).await);
    }
    assert_eq!(rig.metrics.reports_lost.get(), 0);
    let eye = Eye::open(&broker.url).await;
    eye.holds(&rig.name("tokens"), 4).await;
    rig.worker.close().await;
    blocking(|| broker.remove()).await;
}

/// Whether a message may be acknowledged in the end.
async fn ended(message: tokio::task::JoinHandle<bool>) -> bool {
    let safe = timeout(PATIENCE, message).await.expect("in time");
    safe.expect("ran")
}

/// A broker that is there and takes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn when_half_a_prefetch_waits_for_a_blocked_broker_the_oldest_reports_are_given_up() {
    let broker: &'static Broker = Box::leak(Box::new(Broker::private()));
    let rig = Rig::start(ringpush::amqp::Settings {
        prefetch: 4,
        ..settings(&broker.url)
    });
    rig.becomes(true).await;
    blocking(|| {
        broker.ctl(&["set_vm_memory_high_watermark", "0.0000001"]);
    })
    .await;
    let lost = || rig.metrics.reports_lost.get();
    let first = tokio::spawn(rig.until_safe([push_report("c1"), token_report("c1")]));
    let second = tokio::spawn(rig.until_safe([push_report("c2"), push_report("c2")]));
    let mut state = rig.worker.state();
    timeout(PATIENCE, state.wait_for(|s| s.blocked.is_some()))
        .await
        .expect("it is noticed")
        .expect("alive");
    sleep(Duration::from_secs(4)).await;
    assert_eq!(lost(), 0, "two may wait");
    let third = tokio::spawn(rig.until_safe([push_report("c3")]));
    assert!(ended(first).await, "it goes without its reports");
    assert_eq!(lost(), 1);
    let fourth = tokio::spawn(rig.until_safe([push_report("c4")]));
    assert!(ended(second).await);
    assert_eq!(lost(), 3);
    assert!(!third.is_finished(), "only the oldest go");
    blocking(|| {
        broker.ctl(&["set_vm_memory_high_watermark", "0.6"]);
    })
    .await;
    assert!(ended(third).await && ended(fourth).await);
    let eye = Eye::open(&broker.url).await;
    eye.holds(&rig.name("tokens"), 1).await;
    assert_eq!(lost(), 3, "the token event was kept");
    rig.worker.close().await;
    blocking(|| broker.remove()).await;
}

/// A customer's own queue that is full refuses what it is bound to, while
/// another one takes it.
#[tokio::test]
async fn a_full_queue_on_token_events_stops_no_ring_and_floods_no_other_queue() {
    let rig = Rig::start(ringpush::amqp::Settings {
        prefetch: 4,
        ..settings(&Broker::shared().url)
    });
    rig.becomes(true).await;
    let eye = Eye::open(&Broker::shared().url).await;
    let full = rig.name("customer");
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(1));
    arguments.insert(
        "x-overflow".into(),
        AMQPValue::LongString("reject-publish".into()),
    );
    let options = QueueDeclareOptions {
        exclusive: true,
        ..QueueDeclareOptions::default()
    };
    let declare = eye
        .channel
        .queue_declare(full.as_str().into(), options, arguments);
    declare.await.expect("a queue");
    let bind = eye.channel.queue_bind(
        full.as_str().into(),
        rig.name("outcomes").as_str().into(),
        "token.#".into(),
        QueueBindOptions::default(),
        FieldTable::default(),
    );
    bind.await.expect("bound");
    assert!(rig.until_safe([token_report("first")]).await, "it fills it");
    let began = Instant::now();
    // Many more than a prefetch.
    for n in 0..20 {
        let said = [token_report(&format!("c{n}")), push_report("c")];
        let safe = timeout(Duration::from_secs(1), rig.until_safe(said)).await;
        assert!(safe.expect("rings go on"));
    }
    sleep(Duration::from_secs(10).saturating_sub(began.elapsed())).await;
    // Each again after 1, 2, 4 seconds; every second would be 200.
    let copies = eye.count(&rig.name("tokens")).await.expect("a queue");
    assert!((41..=1 + 20 * 5).contains(&copies), "{copies}");
    assert_eq!(rig.metrics.reports_lost.get(), 0);
    rig.end().await;
}

#[tokio::test]
async fn a_token_event_that_finds_no_queue_is_published_again() {
    let rig = Rig::connected(&Broker::shared().url).await;
    let eye = Eye::open(&Broker::shared().url).await;
    eye.channel
        .queue_delete(
            rig.name("tokens").as_str().into(),
            QueueDeleteOptions::default(),
        )
        .await
        .expect("deleted");
    let safe = rig.until_safe((0..300).map(|n| {
        if n % 2 == 0 {
            token_report("c1")
        } else {
            push_report("c1")
        }
    }));
    assert!(timeout(PATIENCE, safe).await.expect("in time"));
    eye.holds(&rig.name("tokens"), 150).await;
    rig.end().await;
}
