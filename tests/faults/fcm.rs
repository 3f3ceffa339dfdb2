//! What Google's side does: FCM, and the token server before it.

use std::time::Duration;

use ringpush::simulator::{ServerKind, Stop};
use tokio::time::sleep;

use crate::ledger::Ring;
use crate::scene::Scene;
use crate::support::stage::shared;

/// Without an access token nothing goes out; a short ring ends with our word
/// for it, a long one rings when OAuth is back, and iOS notices nothing.
async fn outlives_oauth(script: &str) {
    let mut scene = Scene::starting(shared().await, "", Some(script)).await;
    scene.worker.ready().await;
    let ring = |platform, seconds| Ring::new(platform, Duration::from_secs(seconds), "");
    let mut all: Vec<_> = (0..5).map(|_| ring("android", 2)).collect();
    all.extend((0..5).map(|_| ring("android", 30)));
    all.extend((0..5).map(|_| ring("ios", 2)));
    scene.ledger.publish(all).await;
    let books = scene.books().await;
    books.balance(false);
    let expected = [("accepted".to_owned(), 10), ("expired".to_owned(), 5)];
    assert_eq!(books.results(), expected.into(), "{:#?}", books.trouble());
    assert_eq!(books.arrived(&scene.stage.simulator), 0);
    for push in books.of("push").filter(|push| push["result"] == "expired") {
        assert_eq!(push["reason"], "oauth_unavailable");
        assert_eq!(push["attempts"], 0);
    }
    assert_eq!(books.of("token").count(), 0);
    scene.end().await;
}

#[tokio::test]
async fn oauth_down_is_outlived() {
    outlives_oauth("oauth-down").await;
}

#[tokio::test]
async fn oauth_hanging_is_outlived() {
    outlives_oauth("oauth-hangs").await;
}

/// A token that is still valid goes on being used.
#[tokio::test]
async fn a_valid_token_outlives_its_server() {
    let mut scene = Scene::ready("").await;
    scene
        .stage
        .simulator
        .server(ServerKind::Oauth)
        .stop(Stop::Abrupt)
        .await;
    scene.ledger.ring("android", 20, 10).await;
    let books = scene.books().await;
    books.balance(false);
    assert_eq!(books.all_accepted(&scene.stage.simulator), 0);
    scene.end().await;
}

/// What Google's front end says in HTML while it is at fault is no word on the
/// project: the rings are tried again, and the lane is not paused.
#[tokio::test]
async fn a_fault_of_googles_front_end_loses_no_ring() {
    let mut scene = Scene::playing("fcm-front-end").await;
    for _ in 0..20 {
        scene.ledger.ring("android", 1, 10).await;
        sleep(Duration::from_millis(100)).await;
    }
    let books = scene.books().await;
    books.balance(false);
    books.all_accepted(&scene.stage.simulator);
    let attempts = books
        .of("push")
        .filter_map(|push| push["attempts"].as_u64());
    assert!(attempts.max() > Some(1), "the script was not played");
    assert!(!scene.worker.log.text().contains("lane paused"));
    scene.end().await;
}

/// Lanes: a provider that hangs delays its own platform only. (How little the
/// other one is delayed is measured by `scripts/bench-bulkhead`; here other
/// tests share the machine.)
#[tokio::test]
async fn fcm_hanging_costs_ios_nothing_and_loses_nothing() {
    let mut scene = Scene::playing("fcm-hangs-briefly").await;
    scene.ledger.load(40, Duration::from_secs(5), 30).await;
    let books = scene.books().await;
    books.balance(false);
    books.all_accepted(&scene.stage.simulator);
    let ios = books.latencies("ios");
    let p95 = ios[ios.len() / 20];
    assert!(p95 < 1_000, "iOS p95 is {p95} ms");
    let android = books.latencies("android")[0];
    assert!(android > 4_000, "FCM did not hang: {android} ms");
    sleep(Duration::from_millis(10)).await;
    scene.end().await;
}
