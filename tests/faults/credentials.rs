//! Keys that are refused, renewed, broken, or judged by another clock.

use std::time::Duration;

use ringpush::simulator::ServerKind;
use tokio::time::sleep;

use crate::ledger::Ring;
use crate::scene::Scene;

const TEAM: &str = "ABCDE12345";

/// To Apple, tokens signed by a clock that is two hours slow have expired. One
/// renewal is tried; tokens of phones are never touched; when the clock is
/// right again the lane recovers by itself.
#[tokio::test]
async fn a_clock_that_is_wrong_costs_no_token_and_recovers() {
    for ahead in [7_200, -7_200] {
        let mut scene = Scene::ready("").await;
        scene.stage.simulator.set_apns_clock_ahead(ahead);
        for _ in 0..12 {
            scene.ledger.ring("ios", 1, 10).await;
            sleep(Duration::from_millis(30)).await;
        }
        scene.ledger.ring("android", 5, 10).await;
        let books = scene.books().await;
        books.balance(false);
        let expected = [
            ("accepted".to_owned(), 5),
            ("credential_fault".to_owned(), 12),
        ];
        assert_eq!(books.results(), expected.into(), "{:#?}", books.trouble());
        assert_eq!(books.of("token").count(), 0, "no token is to blame");
        let signed: std::collections::BTreeSet<_> = scene
            .stage
            .simulator
            .record()
            .of(ServerKind::ApnsProduction)
            .iter()
            .filter_map(|record| record.claims.clone()?.iat)
            .collect();
        assert!(signed.len() <= 2, "signed at {signed:?}");
        scene.stage.simulator.set_apns_clock_ahead(0);
        recovers(&mut scene).await;
        scene.end().await;
    }
}

/// Rings until one is accepted, as probes let through.
async fn recovers(scene: &mut Scene) {
    for _ in 0..60 {
        scene.ledger.rings.clear();
        scene.ledger.ring("ios", 1, 10).await;
        let books = scene.books().await;
        if books.results().contains_key("accepted") {
            return;
        }
    }
    panic!("the lane did not recover");
}

/// One app's refused key ends its own rings at once, costs the other lane
/// nothing, and needs no restart.
#[tokio::test]
async fn refused_credentials_pause_their_lane_and_it_recovers() {
    let mut scene = Scene::playing("credentials-refused").await;
    for _ in 0..10 {
        scene.ledger.ring("ios", 1, 10).await;
        scene.ledger.ring("android", 1, 10).await;
        sleep(Duration::from_millis(30)).await;
    }
    let paused = [r#"platform="ios""#, r#"environment="production""#];
    let books = scene.books().await;
    books.balance(false);
    let expected = [
        ("accepted".to_owned(), 10),
        ("credential_fault".to_owned(), 10),
    ];
    assert_eq!(books.results(), expected.into(), "{:#?}", books.trouble());
    let at_once = books
        .of("push")
        .filter(|push| push["reason"] == "lane_paused");
    assert!(at_once.count() >= 3);
    assert_eq!(books.of("token").count(), 0);
    let gauge = scene.worker.metric("ringpush_lane_paused", &paused).await;
    assert!((gauge - 1.0).abs() < 0.1, "{gauge}");
    assert!(scene.worker.log.text().contains("lane paused"));
    recovers(&mut scene).await;
    scene.worker.logs("lane resumed").await;
    scene.end().await;
}

/// A changed key takes effect under load: no ring is lost, none pushed twice,
/// and the old key may be revoked right after.
#[tokio::test]
async fn a_key_is_rotated_under_load() {
    let mut scene = Scene::ready("").await;
    scene.ledger.load(40, Duration::from_secs(1), 20).await;
    let key = scene
        .stage
        .simulator
        .add_auth_key(TEAM, "NEWKEY0001", None)
        .expect("a key");
    std::fs::write(scene.stage.file("new.p8"), key).expect("written");
    scene.stage.configure(
        "[apps.\"com.example.calls\".ios]\nkey_id = \"NEWKEY0001\"\nkey_file = \"new.p8\"\n",
    );
    scene.worker.signal("HUP");
    scene
        .ledger
        .load(40, Duration::from_millis(1_500), 20)
        .await;
    scene.worker.logs("were read again").await;
    scene.stage.simulator.remove_auth_key("FGHIJ67890");
    scene.ledger.load(40, Duration::from_secs(1), 20).await;
    let books = scene.books().await;
    books.balance(false);
    assert_eq!(books.all_accepted(&scene.stage.simulator), 0);
    let pushes = scene
        .stage
        .simulator
        .record()
        .of(ServerKind::ApnsProduction);
    let last = pushes
        .last()
        .and_then(|push| push.claims.clone())
        .expect("claims");
    assert_eq!(last.kid.as_deref(), Some("NEWKEY0001"));
    scene.end().await;
}

#[tokio::test]
async fn a_broken_new_key_keeps_the_old_one_and_says_so() {
    let mut scene = Scene::ready("").await;
    std::fs::write(scene.stage.file("AuthKey_FGHIJ67890.p8"), "no key").expect("written");
    scene.worker.signal("HUP");
    scene.worker.logs("the old one stays").await;
    assert!(
        scene.worker.log.text().contains("AuthKey_FGHIJ67890.p8"),
        "names the file"
    );
    std::fs::write(scene.stage.file("service-account.json"), "{}").expect("written");
    std::fs::write(&scene.stage.config, "[nonsense").expect("written");
    scene.worker.signal("HUP");
    let rings = |platform| (0..10).map(move |_| Ring::new(platform, Duration::from_secs(10), ""));
    scene
        .ledger
        .publish(rings("ios").chain(rings("android")).collect())
        .await;
    let books = scene.books().await;
    books.balance(false);
    assert_eq!(books.all_accepted(&scene.stage.simulator), 0);
    scene.end().await;
}
