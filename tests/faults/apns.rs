//! What Apple's side does to connections and requests.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::ledger::Ring;
use crate::scene::Scene;
use crate::support::stage::shared;

/// Requests above a GOAWAY's last stream were not processed: each is sent again
/// on another connection, at once, and no phone gets two.
#[tokio::test]
async fn goaway_in_mid_flight_loses_nothing_and_repeats_nothing() {
    let mut scene = Scene::playing("goaway").await;
    scene.ledger.ring("ios", 60, 20).await;
    let books = scene.books().await;
    books.balance(false);
    assert_eq!(books.all_accepted(&scene.stage.simulator), 0);
    let ios = r#"platform="ios""#;
    let goaways = scene.worker.metric("ringpush_goaways_total", &[ios]).await;
    assert!(goaways > 0.5, "{goaways}");
    let up = ["ringpush_connects_total", r#"result="up""#];
    let up = scene.worker.metric(up[0], &[ios, up[1]]).await;
    assert!(
        up > goaways,
        "each was followed by another connection: {up}"
    );
    scene.end().await;
}

#[tokio::test]
async fn a_refused_stream_is_repeated_at_once_and_once() {
    let mut scene = Scene::playing("refused-stream").await;
    scene.ledger.ring("ios", 40, 20).await;
    let books = scene.books().await;
    books.balance(false);
    assert_eq!(books.all_accepted(&scene.stage.simulator), 0);
    assert_eq!(books.attempts(), 45, "five were refused");
    scene.end().await;
}

/// What was under way on a connection that was reset may have been processed:
/// it is sent again with the same id, by which phones know it.
#[tokio::test]
async fn a_tcp_reset_loses_nothing() {
    let mut scene = Scene::playing("tcp-reset").await;
    scene.ledger.ring("ios", 40, 20).await;
    scene.ledger.ring("android", 40, 20).await;
    let books = scene.books().await;
    books.balance(false);
    let twice = books.all_accepted(&scene.stage.simulator);
    let again = books.attempts() - 80;
    assert!((1..=80).contains(&again), "{again} requests were repeated");
    assert!(twice <= again, "{twice} phones got it twice");
    scene.end().await;
}

/// Attempts on the dead connection end by their timeout (3 s), and what comes
/// meanwhile goes over the other one.
#[tokio::test]
async fn a_black_hole_is_left_within_eight_seconds_and_nothing_expires() {
    let mut scene = Scene::playing("black-hole").await;
    for _ in 0..40 {
        scene.ledger.ring("ios", 2, 15).await;
        sleep(Duration::from_millis(100)).await;
    }
    let books = scene.books().await;
    books.balance(false);
    books.all_accepted(&scene.stage.simulator);
    let longest = books.latencies("ios")[0];
    assert!((2_000..8_000).contains(&longest), "{longest} ms");
    let hit = books
        .latencies("ios")
        .iter()
        .filter(|ms| **ms > 1_500)
        .count();
    assert!(hit < 80, "{hit} of 80 rings waited: nothing went around it");
    scene.end().await;
}

#[tokio::test]
async fn a_peer_that_takes_connections_and_says_nothing_is_outlived() {
    let mut scene = Scene::playing("stalled-peer").await;
    scene.ledger.ring("ios", 20, 20).await;
    let books = scene.books().await;
    books.balance(false);
    books.all_accepted(&scene.stage.simulator);
    scene.end().await;
}

/// `expired` is reported within a second of the deadline also when nothing
/// answers any more.
#[tokio::test]
async fn a_ring_that_no_connection_takes_expires_on_time() {
    let mut scene = Scene::playing("stalled-for-ever").await;
    scene.ledger.ring("ios", 10, 4).await;
    expire_on_time(&mut scene).await;
    scene.end().await;
}

#[tokio::test]
async fn a_ring_that_is_never_answered_expires_on_time() {
    let mut scene = Scene::playing("hangs").await;
    scene.ledger.ring("ios", 10, 5).await;
    expire_on_time(&mut scene).await;
    scene.end().await;
}

async fn expire_on_time(scene: &mut Scene) {
    let deadline = scene.ledger.rings[0].expires;
    let books = scene.books().await;
    books.balance(false);
    let expected = [("expired".to_owned(), 10)].into();
    assert_eq!(books.results(), expected, "{:#?}", books.trouble());
    for push in books.of("push") {
        let at = push["at"].as_str().expect("a time");
        let at = chrono::DateTime::parse_from_rfc3339(at).expect("RFC 3339");
        let late = (at.to_utc() - deadline).num_milliseconds();
        assert!((-50..1_000).contains(&late), "{late} ms after the deadline");
    }
    assert_eq!(books.of("call").count(), 10, "each caller hears of it");
}

#[tokio::test]
async fn one_stream_at_a_time_slows_rings_and_loses_none() {
    let mut scene = Scene::playing("one-stream").await;
    scene.ledger.ring("ios", 60, 20).await;
    let books = scene.books().await;
    books.balance(false);
    assert_eq!(books.all_accepted(&scene.stage.simulator), 0);
    scene.end().await;
}

/// Rings that wait for the worker meet connections on which nothing was sent
/// yet: one stream until the first valid request, and that one slow.
#[tokio::test]
async fn a_cold_first_request_delays_the_first_rings_only() {
    let mut scene = Scene::starting(shared().await, "", Some("cold")).await;
    scene.worker.ready().await;
    scene.ledger.ring("ios", 50, 20).await;
    let books = scene.books().await;
    books.balance(false);
    assert_eq!(books.all_accepted(&scene.stage.simulator), 0);
    let longest = books.latencies("ios")[0];
    assert!(longest < 3_000, "{longest} ms");
    scene.ledger.rings.clear();
    let begun = Instant::now();
    scene.ledger.ring("ios", 50, 20).await;
    scene.books().await.balance(false);
    assert!(begun.elapsed() < Duration::from_secs(2), "warm now");
    scene.end().await;
}

/// Headers and body are one attempt: a body that is late is waited for, one
/// that never comes ends the attempt.
#[tokio::test]
async fn a_slow_body_is_waited_for_and_a_missing_one_is_not() {
    let mut scene = Scene::playing("slow-body").await;
    scene.ledger.ring("ios", 10, 20).await;
    scene.ledger.ring("android", 10, 20).await;
    let books = scene.books().await;
    books.balance(false);
    books.all_accepted(&scene.stage.simulator);
    for platform in ["ios", "android"] {
        let longest = books.latencies(platform)[0];
        assert!((900..9_000).contains(&longest), "{platform}: {longest} ms");
    }
    scene.end().await;
}

/// Back-off, not a flood: a storm of five seconds is outlived by every ring
/// with some requests each.
#[tokio::test]
async fn a_storm_of_503_for_five_seconds_loses_nothing() {
    let mut scene = Scene::playing("storm").await;
    let rings = |platform| (0..30).map(move |_| Ring::new(platform, Duration::from_secs(20), ""));
    let all = rings("ios").chain(rings("android")).collect();
    scene.ledger.publish(all).await;
    let books = scene.books().await;
    books.balance(false);
    assert_eq!(books.all_accepted(&scene.stage.simulator), 0);
    let longest = books.latencies("ios")[0].max(books.latencies("android")[0]);
    assert!((4_500..9_000).contains(&longest), "{longest} ms");
    let each = books.attempts() / 60;
    assert!((3..=16).contains(&each), "{each} requests a ring");
    scene.end().await;
}
