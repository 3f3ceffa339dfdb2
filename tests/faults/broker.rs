//! What the broker does: it stops, dies, blocks, loses a queue. Whoever harms
//! a broker has one of its own.

use std::sync::Arc;
use std::time::Duration;

use lapin::options::QueueDeleteOptions;
use ringpush::simulator::{Record, ServerKind};
use tokio::time::{Instant, sleep};

use crate::ledger::Ring;
use crate::scene::{PATIENCE, Scene, blocking, private_broker};

/// How soon after the broker is there again a worker is to be back. The promise
/// is a second; the rest is this machine under load.
const BACK_WITHIN: Duration = Duration::from_secs(3);

/// The worker lives on, so it knows what it has pushed: no phone gets two.
async fn outlives(kill: bool) {
    let broker = private_broker().await;
    let mut scene = Scene::on(&broker.url, "").await;
    scene.play("slow");
    scene.ledger.load(50, Duration::from_secs(1), 45).await;
    blocking(move || if kill { broker.kill() } else { broker.stop() }).await;
    scene.worker.readiness(503).await;
    let away = Instant::now();
    blocking(|| broker.start()).await;
    let up = Instant::now();
    scene.worker.ready().await;
    assert!(up.elapsed() < BACK_WITHIN, "back after {:?}", up.elapsed());
    scene.ledger.load(50, Duration::from_secs(1), 45).await;
    let books = scene.books().await;
    books.balance(false);
    let twice = books.all_accepted(&scene.stage.simulator);
    assert_eq!(twice, 0, "pushed again after {:?}", away.elapsed());
    scene.end_on(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_stops_in_mid_load_loses_nothing() {
    outlives(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_killed_in_mid_load_loses_nothing() {
    outlives(true).await;
}

/// Requests that Apple got.
fn apple(records: &[Arc<Record>]) -> usize {
    let apple = |record: &&Arc<Record>| record.server == ServerKind::ApnsProduction;
    records.iter().filter(apple).count()
}

/// The verdict on a token comes while there is no broker, and is there when the
/// broker is.
#[tokio::test(flavor = "multi_thread")]
async fn token_events_wait_for_the_broker() {
    let broker = private_broker().await;
    let mut scene = Scene::on(&broker.url, "").await;
    scene.play("dead-slowly");
    let ring = |_| Ring::new("ios", Duration::from_secs(60), "dead");
    scene.ledger.publish((0..10).map(ring).collect()).await;
    let all = |records: &[_]| apple(records) == 10;
    let record = scene.stage.simulator.record();
    assert!(record.wait_until(PATIENCE, all).await);
    blocking(|| broker.stop()).await;
    sleep(Duration::from_millis(2_500)).await;
    blocking(|| broker.start()).await;
    let books = scene.books().await;
    books.balance(false);
    assert_eq!(books.results(), [("dead_token".to_owned(), 10)].into());
    let events = books.of("token").count();
    assert_eq!(events, 10);
    let record = scene.stage.simulator.record();
    let requests = apple(&record.all()) as u64;
    assert_eq!(requests, books.attempts(), "nothing was asked again");
    scene.end_on(broker).await;
}

/// A memory alarm blocks whoever publishes: rings go on, reports wait.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_blocks_delays_reports_and_no_ring() {
    let broker = private_broker().await;
    let mut scene = Scene::on(&broker.url, "").await;
    // Nobody can publish any more once it blocks, so the rings wait for it.
    assert_eq!(scene.worker.stop().await, 0);
    let ring = |n: u32| {
        let platform = if n.is_multiple_of(2) {
            "ios"
        } else {
            "android"
        };
        let prefix = if n < 4 && platform == "ios" {
            "dead"
        } else {
            ""
        };
        Ring::new(platform, Duration::from_secs(60), prefix)
    };
    scene.ledger.publish((0..60).map(ring).collect()).await;
    let alarm = |level: &'static str| {
        blocking(move || {
            broker.ctl(&["set_vm_memory_high_watermark", level]);
        })
    };
    alarm("0.00001").await;
    scene.play("dead-some");
    scene.worker = scene.stage.starting();
    let record = scene.stage.simulator.record();
    assert!(record.wait_for(60, PATIENCE).await, "every phone rings");
    scene.worker.logs("takes no publishes").await;
    scene.worker.ready().await;
    let (_, body) = scene.worker.page("/readyz").await;
    assert!(body.contains("blocks publishing"), "{body}");
    alarm("0.6").await;
    let books = scene.books().await;
    books.balance(false);
    let expected = [("accepted".to_owned(), 58), ("dead_token".to_owned(), 2)];
    assert_eq!(books.results(), expected.into(), "{:#?}", books.trouble());
    assert_eq!(books.arrived(&scene.stage.simulator), 0);
    assert_eq!(books.of("token").count(), 2);
    scene.end_on(broker).await;
}

/// A queue that somebody deletes is declared again, and said so.
#[tokio::test]
async fn a_deleted_queue_comes_back() {
    let mut scene = Scene::ready("").await;
    scene.ledger.ring("ios", 10, 20).await;
    scene.books().await.balance(false);
    scene.ledger.rings.clear();
    let queue = scene.stage.client.name("ios");
    let delete = scene
        .stage
        .client
        .channel
        .queue_delete(queue.as_str().into(), QueueDeleteOptions::default());
    delete.await.expect("deleted");
    scene.worker.logs("lost the broker").await;
    assert!(scene.worker.log.text().contains(&queue), "names the queue");
    while scene.stage.client.count("ios").await.is_none() {
        sleep(Duration::from_millis(20)).await;
    }
    scene.worker.ready().await;
    scene.ledger.load(40, Duration::from_secs(1), 20).await;
    let books = scene.books().await;
    books.balance(false);
    let twice = books.all_accepted(&scene.stage.simulator);
    assert_eq!(twice, 0);
    scene.end().await;
}
