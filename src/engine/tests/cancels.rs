//! A cancel stops what has not rung yet, and is pushed where it may ring.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::pair;
use crate::call::event::Platform::{Android, Ios};
use crate::call::payload::CancelMode;
use crate::call::push::{Class, PushKind};
use crate::engine::testing::*;

#[tokio::test(start_paused = true)]
async fn a_cancel_that_came_first_stops_the_ring_before_it_is_sent() {
    let bench = Bench::new();
    let event = ring(30_000, &[ios("aa")]);
    bench.dispatcher.learn(cancel(&[]).to_string().as_bytes());
    bench.handle(Ios, &event).await;
    assert_eq!(bench.results(), [pair("cancelled", "caller_cancelled")]);
    assert_eq!(
        (bench.of("push")[0]["attempts"].as_u64(), bench.ios.count()),
        (Some(0), 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_cancel_of_the_others_stops_neither_an_earlier_nor_a_waiting_ring_of_those_it_names() {
    let bench = Bench::new();
    for token in ["aa", "bb"] {
        let mut busy = step(Class::Throttled, "TooManyRequests");
        busy.answer.retry_after = Some(Duration::from_secs(5));
        bench.ios.script(token, [busy]);
    }
    let mut others = cancel(&[]);
    others["except"] = json!(["i-aa", "i-cc"]);
    // The second ring is made later, by the clock on the wall.
    others["sent_at"] = json!(in_millis(10_000));
    let under_way = ring(30_000, &[ios("aa"), ios("bb")]);
    tokio::join!(bench.handle(Ios, &under_way), async {
        sleep(Duration::from_secs(1)).await;
        bench.dispatcher.learn(others.to_string().as_bytes());
    });
    let mut late = ring(30_000, &[ios("cc"), ios("dd")]);
    late["sent_at"] = json!(in_millis(-5_000));
    bench.handle(Ios, &late).await;
    let mut ended: Vec<_> = bench
        .of("push")
        .iter()
        .map(|push| format!("{} {}", push["device_id"], push["result"]).replace('"', ""))
        .collect();
    ended.sort();
    let expected = [
        "i-aa accepted",
        "i-bb cancelled",
        "i-cc accepted",
        "i-dd cancelled",
    ];
    assert_eq!(ended, expected);
}

#[tokio::test(start_paused = true)]
async fn a_cancel_wakes_a_sleeping_retry() {
    let bench = Bench::new();
    let mut busy = step(Class::Throttled, "TooManyRequests");
    busy.answer.retry_after = Some(Duration::from_secs(20));
    bench.ios.script("aa", [busy]);
    let start = Instant::now();
    let event = ring(30_000, &[ios("aa")]);
    tokio::join!(bench.handle(Ios, &event), async {
        sleep(Duration::from_secs(1)).await;
        bench.dispatcher.learn(cancel(&[]).to_string().as_bytes());
    });
    assert!(
        start.elapsed() < Duration::from_millis(1_100),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(bench.results(), [pair("cancelled", "caller_cancelled")]);
    assert_eq!(bench.of("push")[0]["attempts"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_push_that_waits_for_its_turn_is_taken_back_and_one_under_way_is_not_repeated() {
    let bench = Bench::new();
    let waiting = Step {
        wait: Duration::from_secs(3),
        ..accepted()
    };
    bench.ios.script("aa", [waiting]);
    let lost = Step {
        delay: Duration::from_secs(3),
        ..step(Class::Unclear, "connection")
    };
    bench.ios.script("bb", [lost]);
    let event = ring(30_000, &[ios("aa"), ios("bb")]);
    tokio::join!(bench.handle(Ios, &event), async {
        sleep(Duration::from_secs(1)).await;
        bench.dispatcher.learn(cancel(&[]).to_string().as_bytes());
    });
    let mut results = bench.results();
    results.sort();
    assert_eq!(
        results,
        [
            pair("cancelled", "caller_cancelled"),
            pair("cancelled", "connection")
        ]
    );
    assert_eq!(bench.ios.count(), 1, "only the one that was under way");
}

#[tokio::test(start_paused = true)]
async fn a_ring_accepted_after_its_cancel_is_cancelled_on_the_phone_once() {
    let bench = Bench::new();
    bench.android.script(
        "t",
        [Step {
            delay: Duration::from_secs(3),
            ..accepted()
        }],
    );
    let event = ring(30_000, &[android("t")]);
    let stop = cancel(&[android("t")]);
    let never_rang = cancel(&[android("u")]);
    tokio::join!(bench.handle(Android, &event), async {
        sleep(Duration::from_secs(1)).await;
        bench.dispatcher.learn(stop.to_string().as_bytes());
        // The same cancel as a job waits for the ring and is not pushed twice.
        bench.handle(Android, &stop).await;
    });
    assert_eq!(bench.android.count(), 2);
    let pushes: Vec<Value> = bench.of("push");
    let events: Vec<_> = pushes
        .iter()
        .map(|p| p["event"].as_str().unwrap())
        .collect();
    assert_eq!(events, ["ring", "cancel"]);
    bench.handle(Android, &never_rang).await;
    assert_eq!(bench.android.count(), 3, "another worker may have rung it");
}

#[tokio::test(start_paused = true)]
async fn a_cancel_is_not_pushed_to_a_phone_that_got_nothing_nor_to_ios_in_mode_none() {
    let bench = Bench::new();
    let event = ring(30_000, &[android("t")]);
    bench
        .dispatcher
        .learn(cancel(&[android("t")]).to_string().as_bytes());
    bench.handle(Android, &event).await;
    bench.handle(Android, &cancel(&[android("t")])).await;
    bench.handle(Ios, &cancel(&[ios("aa")])).await;
    assert_eq!((bench.android.count(), bench.ios.count()), (0, 0));
    assert_eq!(bench.results(), [pair("cancelled", "caller_cancelled")]);
}

#[tokio::test(start_paused = true)]
async fn a_cancel_that_comes_late_does_not_end_a_later_ring_of_its_call() {
    let bench = Bench::new();
    bench.handle(Android, &ring(30_000, &[android("t")])).await;
    let mut old = cancel(&[android("t")]);
    old["sent_at"] = json!(in_millis(-5_000));
    bench.handle(Android, &old).await;
    assert_eq!(bench.android.count(), 1);
    bench.handle(Android, &cancel(&[android("t")])).await;
    assert_eq!(bench.android.count(), 2);
    assert_eq!(
        bench.results(),
        [pair("accepted", "-"), pair("accepted", "-")]
    );
}

#[tokio::test(start_paused = true)]
async fn a_cancel_of_a_ring_that_was_stopped_is_not_pushed_to_a_phone_that_rings_for_a_later_one() {
    let bench = Bench::new();
    let cancel_at = |millis: i64| {
        let mut event = cancel(&[android("t")]);
        event["sent_at"] = json!(in_millis(millis));
        event
    };
    let mut stopped = ring(30_000, &[android("t")]);
    stopped["sent_at"] = json!(in_millis(-8_000));
    bench
        .dispatcher
        .learn(cancel_at(-5_000).to_string().as_bytes());
    bench.handle(Android, &stopped).await;
    bench.handle(Android, &ring(30_000, &[android("t")])).await;
    bench.handle(Android, &cancel_at(-4_000)).await;
    let results = bench.results();
    assert_eq!(
        results,
        [pair("cancelled", "caller_cancelled"), pair("accepted", "-")]
    );
    assert_eq!(bench.android.count(), 1, "only the later ring");
}

#[tokio::test(start_paused = true)]
async fn a_voip_cancel_repeats_the_ring_that_it_is_for_and_not_a_later_one() {
    let bench = Bench::new();
    let (mut first, _) = repeated_by_its_cancel();
    first["sent_at"] = json!(in_millis(-8_000));
    let (mut second, mut stop) = repeated_by_its_cancel();
    second["data"] = json!({"voice_sdk_id": "sdk-2"});
    stop["sent_at"] = json!(in_millis(-4_000));
    bench.handle(Ios, &first).await;
    bench.handle(Ios, &second).await;
    bench.handle(Ios, &stop).await;
    let seen = bench.ios.seen.lock().unwrap().clone();
    assert_eq!(seen.len(), 3);
    assert_eq!(seen[2].json()["metadata"]["voice_sdk_id"], "sdk-1");
}

/// A ring by a profile that cancels with a second `VoIP` push, and its cancel
/// that says nothing but the call.
fn repeated_by_its_cancel() -> (Value, Value) {
    let mut event = ring(30_000, &[ios("aa")]);
    event["profile"] = json!("telnyx");
    event["call_uuid"] = json!("0b5e0f0a-7c0c-4f9e-8b7a-0d1f9f0c1b2a");
    event["media"] = json!("video");
    event["data"] = json!({"voice_sdk_id": "sdk-1"});
    (event, cancel(&[ios("aa")]))
}

#[tokio::test(start_paused = true)]
async fn a_voip_cancel_says_again_all_that_its_ring_said() {
    let bench = Bench::new();
    let (event, stop) = repeated_by_its_cancel();
    bench.handle(Ios, &event).await;
    bench.handle(Ios, &stop).await;
    let seen = bench.ios.seen.lock().unwrap().clone();
    let (ring, cancel) = (seen[0].json(), seen[1].json());
    assert_eq!(seen[1].kind, PushKind::Call);
    for key in ["metadata", "call_uuid", "call_id", "video"] {
        assert!(!ring[key].is_null(), "{key}");
        assert_eq!(cancel[key], ring[key], "{key}");
    }
    assert_eq!(cancel["metadata"]["caller_name"], "Alice");
    assert_eq!(cancel["metadata"]["voice_sdk_id"], "sdk-1");
    assert_eq!(cancel["reason"], "caller_hangup");
    assert_eq!(bench.results(), vec![pair("accepted", "-"); 2]);
}

#[tokio::test(start_paused = true)]
async fn a_voip_cancel_comes_from_the_worker_whose_ring_was_accepted_only() {
    let bench = Bench::new();
    let (event, stop) = repeated_by_its_cancel();
    let mut elsewhere = stop.clone();
    elsewhere["call_id"] = json!("rung by another worker");
    elsewhere["profile"] = json!("telnyx");
    bench.handle(Ios, &elsewhere).await;
    assert_eq!(bench.ios.count(), 0);
    bench.handle(Ios, &event).await;
    bench.dispatcher.learn(stop.to_string().as_bytes());
    bench.dispatcher.drained().await;
    let kinds: Vec<_> = bench
        .of("push")
        .iter()
        .map(|push| push["event"].clone())
        .collect();
    assert_eq!(kinds, ["ring", "cancel"]);
}

#[tokio::test(start_paused = true)]
async fn a_sealed_ring_is_not_repeated_in_clear() {
    let bench = Bench::new();
    let (mut event, stop) = repeated_by_its_cancel();
    event["devices"][0]["sealed"] = json!({"kid": "k", "ct": "c2VhbGVk"});
    bench.handle(Ios, &event).await;
    bench.handle(Ios, &stop).await;
    let seen = bench.ios.seen.lock().unwrap().clone();
    for push in &seen {
        assert!(!push.json().to_string().contains("Alice"));
    }
}

#[tokio::test(start_paused = true)]
async fn an_apps_own_cancel_mode_makes_a_whole_background_push() {
    let bench = Bench::cancelling(CancelMode::Background);
    let mut device = ios("aa");
    device["alert_token"] = json!("bb");
    bench.handle(Ios, &ring(30_000, &[device.clone()])).await;
    bench.handle(Ios, &cancel(&[device])).await;
    let seen = bench.ios.seen.lock().unwrap().clone();
    assert_eq!(seen[1].kind, PushKind::Background);
    let payload = seen[1].json();
    assert_eq!(payload["aps"], json!({"content-available": 1}));
    assert_eq!(payload["event"], "cancel");
}

#[tokio::test(start_paused = true)]
async fn a_bad_alert_token_stops_the_cancel_that_needs_it_and_nothing_else() {
    let mut device = ios("aa");
    device["alert_token"] = json!("not hex");
    let bench = Bench::cancelling(CancelMode::Background);
    bench.handle(Ios, &ring(30_000, &[device.clone()])).await;
    bench.handle(Ios, &cancel(&[device])).await;
    assert_eq!(
        bench.results(),
        [
            pair("accepted", "-"),
            pair("rejected", "invalid_alert_token")
        ]
    );
    let detail = &bench.of("push")[1]["detail"];
    assert_eq!(detail, "devices[0].alert_token: must be hexadecimal");
    assert_eq!(bench.ios.count(), 1, "only the ring was sent");
}

#[tokio::test(start_paused = true)]
async fn a_cancel_that_the_profile_has_no_words_for_is_neither_sent_nor_reported() {
    // `passthrough` has a cancel for none, `stream` for Android only.
    let bench = Bench::cancelling(CancelMode::Background);
    for profile in ["stream", "no_cancel"] {
        let mut routes = crate::engine::routes::Routes {
            apps: std::collections::HashMap::new(),
            profiles: crate::call::payload::Profiles::built_in().unwrap(),
        };
        let ring = json!({"both": {"id": "{{ call_id }}"}});
        let own = json!({"ring": ring}).to_string();
        routes.profiles.add("no_cancel", &own).unwrap();
        let old = bench.dispatcher.routes();
        routes.apps.insert(
            "app".into(),
            crate::engine::routes::App {
                profile: profile.into(),
                ios: old.apps["app"].ios.clone(),
                android: old.apps["app"].android.clone(),
            },
        );
        bench.dispatcher.set_routes(routes);
        bench.handle(Ios, &cancel(&[ios("aa")])).await;
    }
    bench.handle(Android, &cancel(&[android("t")])).await;
    assert_eq!((bench.ios.count(), bench.android.count()), (0, 0));
    assert!(bench.reports().is_empty(), "{:?}", bench.reports());
}
