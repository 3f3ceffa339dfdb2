//! A ring is final for each of its devices, in its time.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::pair;
use crate::call::event::Platform::Ios;
use crate::call::push::Class;
use crate::engine::delivery::Verdict;
use crate::engine::testing::*;

#[tokio::test(start_paused = true)]
async fn every_device_of_an_event_rings_and_is_reported() {
    let bench = Bench::new();
    let verdict = bench
        .handle(Ios, &ring(30_000, &[ios("aa"), ios("bb")]))
        .await;
    assert!(matches!(verdict, Verdict::Settled));
    let pushes = bench.of("push");
    assert_eq!(pushes.len(), 2);
    for push in &pushes {
        assert_eq!(push["result"], "accepted");
        assert_eq!(
            (push["attempts"].as_u64(), push["environment"].as_str()),
            (Some(1), Some("production"))
        );
    }
    assert!(bench.of("call").is_empty());
}

#[tokio::test(start_paused = true)]
async fn one_bad_device_is_rejected_and_the_others_ring() {
    let bench = Bench::new();
    let devices = [
        ios("not hex"),
        ios("aa"),
        json!({"id": "x", "platform": "ios", "app": "none", "token": "aa"}),
    ];
    bench.handle(Ios, &ring(30_000, &devices)).await;
    let mut results = bench.results();
    results.sort();
    assert_eq!(
        results,
        [
            pair("accepted", "-"),
            pair("rejected", "invalid_token"),
            pair("rejected", "unknown_app")
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn what_was_ignored_of_an_event_is_in_the_outcome_beside_what_the_provider_said() {
    let bench = Bench::new();
    bench
        .ios
        .script("aa", [step(Class::DeadToken, "Unregistered")]);
    let mut event = ring(30_000, &[ios("aa"), ios("bb")]);
    event["media"] = json!("hologram");
    bench.handle(Ios, &event).await;
    let ignored = "ignored: media: must be one of: audio, video";
    for push in bench.of("push") {
        let detail = push["detail"].as_str().unwrap();
        assert!(detail.ends_with(ignored), "{push}");
    }
    assert!(bench.results().contains(&pair("accepted", "-")));
}

#[tokio::test(start_paused = true)]
async fn a_ring_that_reached_nobody_is_unreachable() {
    let bench = Bench::new();
    bench
        .ios
        .script("aa", [step(Class::DeadToken, "Unregistered")]);
    bench
        .handle(Ios, &ring(30_000, &[ios("aa"), ios("zz")]))
        .await;
    let call = &bench.of("call")[0];
    assert_eq!(call["results"], json!({"dead_token": 1, "rejected": 1}));
    assert_eq!(
        (call["devices"].as_u64(), call["platform"].as_str()),
        (Some(2), Some("ios"))
    );
    assert_eq!(call["callee"], json!({"id": "bob"}));
}

#[tokio::test(start_paused = true)]
async fn an_event_past_its_deadline_is_never_sent() {
    let bench = Bench::new();
    bench.handle(Ios, &ring(-1, &[ios("aa")])).await;
    assert_eq!(bench.results(), [pair("expired", "deadline")]);
    assert_eq!(bench.ios.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_hangs_is_reported_within_a_second_of_the_deadline() {
    let bench = Bench::new();
    let hang = Step {
        delay: Duration::from_secs(3600),
        ..accepted()
    };
    bench.ios.script("aa", [hang]);
    let start = Instant::now();
    bench.handle(Ios, &ring(5_000, &[ios("aa")])).await;
    assert!(
        start.elapsed() < Duration::from_secs(6),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(bench.results(), [pair("expired", "timeout")]);
}

#[tokio::test(start_paused = true)]
async fn a_ring_from_the_future_lives_no_longer_than_any_other() {
    let bench = Bench::new();
    let hang = Step {
        delay: Duration::from_secs(36_000),
        ..accepted()
    };
    bench.ios.script("aa", [hang]);
    let mut event = ring(0, &[ios("aa")]);
    event["sent_at"] = json!(in_millis(3_600_000));
    event["expires_at"] = json!(in_millis(3_640_000));
    let start = Instant::now();
    bench.handle(Ios, &event).await;
    assert!(
        start.elapsed() <= Duration::from_secs(121),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(bench.of("push")[0]["queue_ms"], 0);
}
