//! An event's way through the engine, with providers that play a script and
//! with paused time.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, advance, sleep};

use super::delivery::{Source, Verdict};
use super::history::{Stage, Wanted};
use super::settings::TokenSettings;
use super::testing::*;
use crate::call::event::Platform::{Android, Ios};
use crate::call::outcome::TraceContext;
use crate::call::payload::CancelMode;
use crate::call::push::{Answer, Class, PushKind};

fn pair(result: &str, reason: &str) -> (String, String) {
    (result.to_owned(), reason.to_owned())
}

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
async fn trouble_is_retried_with_the_same_id_until_it_is_accepted() {
    let bench = Bench::new();
    let trouble = || step(Class::Unavailable, "ServiceUnavailable");
    bench.ios.script("aa", [trouble(), trouble(), trouble()]);
    bench.handle(Ios, &ring(30_000, &[ios("aa")])).await;
    assert_eq!(bench.of("push")[0]["attempts"], 4);
    let seen = bench.ios.seen.lock().unwrap().clone();
    assert!(seen.iter().all(|attempt| attempt.id == seen[0].id));
    assert!(
        seen.windows(2).all(|w| w[1].time_left < w[0].time_left),
        "recomputed per attempt"
    );
    assert!(seen[1].at - seen[0].at >= Duration::from_millis(200));
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
async fn what_was_provably_not_processed_is_repeated_at_once_and_then_with_a_pause() {
    let bench = Bench::new();
    let refused = || step(Class::NotProcessed, "connection");
    bench.ios.script("aa", [refused(), refused()]);
    bench.handle(Ios, &ring(30_000, &[ios("aa")])).await;
    let times = bench.ios.times();
    assert!(
        times[1] - times[0] < Duration::from_millis(10),
        "{:?}",
        times[1] - times[0]
    );
    assert!(times[2] - times[1] >= Duration::from_millis(200));
}

#[tokio::test(start_paused = true)]
async fn a_wait_asked_for_is_never_cut_short() {
    let bench = Bench::new();
    let mut busy = step(Class::Throttled, "TooManyRequests");
    busy.answer.retry_after = Some(Duration::from_secs(7));
    bench.ios.script("aa", [busy]);
    bench.handle(Ios, &ring(30_000, &[ios("aa")])).await;
    let times = bench.ios.times();
    assert!(times[1] - times[0] >= Duration::from_secs(7));
    assert_eq!(bench.results(), [pair("accepted", "-")]);
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_ends_after_the_deadline_expires_the_ring_at_once() {
    let bench = Bench::new();
    let mut busy = step(Class::Throttled, "QUOTA_EXCEEDED");
    busy.answer.retry_after = Some(Duration::from_secs(60));
    bench.android.script("t", [busy]);
    let start = Instant::now();
    bench.handle(Android, &ring(30_000, &[android("t")])).await;
    assert!(start.elapsed() < Duration::from_secs(1));
    assert_eq!(bench.results(), [pair("expired", "QUOTA_EXCEEDED")]);
}

#[tokio::test(start_paused = true)]
async fn a_renewed_credential_is_tried_once_and_then_it_is_a_fault() {
    let bench = Bench::new();
    let stale = || step(Class::StaleCredential, "ExpiredProviderToken");
    bench.ios.script("aa", [stale()]);
    bench.ios.script("bb", [stale(), stale()]);
    bench.handle(Ios, &ring(30_000, &[ios("aa")])).await;
    bench.handle(Ios, &ring(30_000, &[ios("bb")])).await;
    assert_eq!(
        bench.results(),
        [
            pair("accepted", "-"),
            pair("credential_fault", "ExpiredProviderToken")
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn too_many_signatures_back_off_from_a_second_and_end_as_a_credential_fault() {
    let bench = Bench::new();
    let throttled = || step(Class::SigningThrottled, "TooManyProviderTokenUpdates");
    bench.ios.script("aa", (0..50).map(|_| throttled()));
    bench.handle(Ios, &ring(5_000, &[ios("aa")])).await;
    let times = bench.ios.times();
    assert!(
        times[1] - times[0] >= Duration::from_secs(1)
            && times
                .windows(2)
                .skip(1)
                .all(|w| w[1] - w[0] >= Duration::from_secs(2)),
        "{times:?}"
    );
    assert_eq!(
        bench.results(),
        [pair("credential_fault", "TooManyProviderTokenUpdates")]
    );
}

#[tokio::test(start_paused = true)]
async fn the_probe_of_a_paused_lane_may_use_what_was_renewed_for_it() {
    let bench = Bench::new();
    for n in 0..5 {
        let token = format!("{n:02x}");
        let fault = step(Class::CredentialFault, "InvalidProviderToken");
        bench.ios.script(&token, [fault]);
        bench.handle(Ios, &ring(30_000, &[ios(&token)])).await;
    }
    advance(Duration::from_millis(1_001)).await;
    bench
        .ios
        .script("aa", [step(Class::StaleCredential, "ExpiredProviderToken")]);
    bench.handle(Ios, &ring(30_000, &[ios("aa")])).await;
    bench.handle(Ios, &ring(30_000, &[ios("bb")])).await;
    assert_eq!(
        bench.results()[5..],
        [pair("accepted", "-"), pair("accepted", "-")]
    );
}

#[tokio::test(start_paused = true)]
async fn it_is_a_credential_fault_too_if_the_deadline_comes_while_a_permit_is_waited_for() {
    let bench = Bench::with(TokenSettings::default(), 1);
    bench.ios.script(
        "aa",
        [step(Class::SigningThrottled, "TooManyProviderTokenUpdates")],
    );
    let hang = Step {
        delay: Duration::from_secs(3600),
        ..accepted()
    };
    bench.ios.script("bb", [hang]);
    let (first, second) = (ring(3_000, &[ios("aa")]), ring(20_000, &[ios("bb")]));
    tokio::join!(bench.handle(Ios, &first), async {
        sleep(Duration::from_millis(500)).await;
        bench.handle(Ios, &second).await
    });
    assert_eq!(
        bench.results()[0],
        pair("credential_fault", "TooManyProviderTokenUpdates")
    );
}

/// A client whose access token never comes.
struct NoToken;
impl crate::call::push::PushClient for NoToken {
    fn send<'a>(
        &'a self,
        _: crate::call::push::Attempt<'a>,
    ) -> futures_util::future::BoxFuture<'a, Answer> {
        Box::pin(async {
            sleep(Duration::from_secs(1)).await;
            Answer::new(Class::NoCredential)
                .because("oauth_unavailable")
                .unstarted()
        })
    }
    fn hindrance(&self) -> Option<String> {
        Some("no access token".into())
    }
}
#[tokio::test(start_paused = true)]
async fn without_an_access_token_a_ring_waits_for_one_to_its_deadline_and_counts_no_attempt() {
    let bench = Bench::new();
    let routes = bench.dispatcher.routes();
    let old = routes.apps["app"].android.as_ref().unwrap();
    let lane = super::lane::Lane::new(
        old.lane.labels().clone(),
        std::sync::Arc::new(NoToken),
        std::sync::Arc::new(tokio::sync::Semaphore::new(1)),
        super::settings::RetrySettings::default(),
        bench.metrics.clone(),
    );
    let route = super::routes::Route::new(lane, old.brake.clone(), bench.metrics.clone());
    let app = super::routes::App {
        profile: "plain".into(),
        ios: None,
        android: Some(std::sync::Arc::new(route)),
    };
    bench.dispatcher.set_routes(super::routes::Routes {
        apps: [("app".into(), app)].into(),
        profiles: crate::call::payload::Profiles::built_in().unwrap(),
    });
    bench.handle(Android, &ring(6_000, &[android("t")])).await;
    assert_eq!(bench.results(), [pair("expired", "oauth_unavailable")]);
    assert_eq!(bench.of("push")[0]["attempts"], 0);
}

#[tokio::test(start_paused = true)]
async fn five_credential_faults_pause_the_lane_and_cost_the_other_lanes_nothing() {
    let bench = Bench::new();
    for n in 0..6 {
        let token = format!("{n:02x}");
        bench.ios.script(
            &token,
            [step(Class::CredentialFault, "InvalidProviderToken")],
        );
        bench.handle(Ios, &ring(30_000, &[ios(&token)])).await;
    }
    assert_eq!(bench.ios.count(), 5);
    assert_eq!(bench.results()[5], pair("credential_fault", "lane_paused"));
    bench.handle(Android, &ring(30_000, &[android("t")])).await;
    assert_eq!(bench.results()[6], pair("accepted", "-"));
    advance(Duration::from_millis(1_001)).await;
    bench.handle(Ios, &ring(30_000, &[ios("aa")])).await;
    bench.handle(Ios, &ring(30_000, &[ios("bb")])).await;
    assert_eq!(
        bench.results()[7..],
        [pair("accepted", "-"), pair("accepted", "-")]
    );
}

#[tokio::test(start_paused = true)]
async fn no_permit_is_held_while_a_retry_sleeps() {
    let bench = Bench::with(TokenSettings::default(), 1);
    let mut busy = step(Class::Throttled, "TooManyRequests");
    busy.answer.retry_after = Some(Duration::from_secs(10));
    bench.ios.script("aa", [busy]);
    let (first, second) = (ring(30_000, &[ios("aa")]), ring(2_000, &[ios("bb")]));
    tokio::join!(bench.handle(Ios, &first), bench.handle(Ios, &second));
    assert_eq!(
        bench.results(),
        [pair("accepted", "-"), pair("accepted", "-")]
    );
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_in_flight_joins_and_a_later_one_is_not_pushed_again() {
    let bench = Bench::new();
    let event = ring(30_000, &[ios("aa")]);
    let mut other = event.clone();
    other["data"] = json!({"differs": true});
    let all = tokio::join!(
        bench.handle(Ios, &event),
        bench.handle(Ios, &event),
        bench.handle(Ios, &other)
    );
    assert!(matches!(
        all,
        (Verdict::Settled, Verdict::Settled, Verdict::Settled)
    ));
    assert!(matches!(bench.handle(Ios, &event).await, Verdict::Settled));
    assert_eq!((bench.ios.count(), bench.of("push").len()), (1, 1));
}

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
async fn a_dead_token_is_dead_unless_the_app_registered_since() {
    let bench = Bench::new();
    let dead = |at: &str| {
        let mut dead = step(Class::DeadToken, "Unregistered");
        dead.answer.provider_timestamp = crate::call::time::Timestamp::parse(at);
        dead
    };
    bench.ios.script("aa", [dead("2026-01-02T00:00:00Z")]);
    bench.ios.script("bb", [dead("2026-01-01T00:00:00Z")]);
    let with = |token: &str| {
        let mut device = ios(token);
        device["registered_at"] = json!("2026-01-01T00:00:00Z");
        device
    };
    bench.handle(Ios, &ring(30_000, &[with("aa")])).await;
    bench.handle(Ios, &ring(30_000, &[with("bb")])).await;
    assert_eq!(
        bench.results(),
        [
            pair("dead_token", "Unregistered"),
            pair("rejected", "Unregistered")
        ]
    );
    let tokens = bench.of("token");
    assert_eq!(tokens.len(), 1);
    assert_eq!(
        (tokens[0]["verdict"].as_str(), tokens[0]["token"].as_str()),
        (Some("dead"), Some("aa"))
    );
    assert_eq!(tokens[0]["provider_timestamp"], "2026-01-02T00:00:00.000Z");
}

#[tokio::test(start_paused = true)]
async fn an_unknown_token_is_dead_only_while_others_get_through() {
    let bench = Bench::new();
    for token in ["aa", "cc"] {
        bench
            .ios
            .script(token, [step(Class::BadToken, "BadDeviceToken")]);
    }
    for token in ["aa", "bb", "cc"] {
        bench.handle(Ios, &ring(30_000, &[ios(token)])).await;
    }
    assert_eq!(
        bench.results(),
        [
            pair("suspect_token", "BadDeviceToken"),
            pair("accepted", "-"),
            pair("dead_token", "BadDeviceToken")
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn the_brake_turns_every_verdict_into_suspect() {
    let bench = Bench::with(
        TokenSettings {
            brake_min_samples: 5,
            ..TokenSettings::default()
        },
        9,
    );
    for n in 0..8 {
        let token = format!("{n:02x}");
        bench
            .ios
            .script(&token, [step(Class::DeadToken, "Unregistered")]);
        bench.handle(Ios, &ring(30_000, &[ios(&token)])).await;
    }
    let verdicts: Vec<_> = bench
        .of("token")
        .iter()
        .map(|t| t["verdict"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(verdicts[..4], ["dead", "dead", "dead", "dead"]);
    assert_eq!(verdicts[4..], ["suspect", "suspect", "suspect", "suspect"]);
    assert!(
        bench.metrics.render().contains(
            r#"ringpush_token_brake{app="app",platform="ios",environment="production"} 1"#
        )
    );
}

#[tokio::test(start_paused = true)]
async fn auto_tries_the_other_environment_and_remembers_which_one_worked() {
    let bench = Bench::new();
    let mut device = ios("aa");
    device["environment"] = json!("auto");
    bench
        .ios
        .script("aa", [step(Class::BadToken, "BadDeviceToken")]);
    bench.handle(Ios, &ring(30_000, &[device.clone()])).await;
    bench.handle(Ios, &ring(30_000, &[device])).await;
    let pushes = bench.of("push");
    assert_eq!(
        (&pushes[0]["environment"], &pushes[0]["attempts"]),
        (&json!("sandbox"), &json!(2))
    );
    assert_eq!(
        (&pushes[1]["environment"], &pushes[1]["attempts"]),
        (&json!("sandbox"), &json!(1))
    );
    assert_eq!((bench.ios.count(), bench.sandbox.count()), (1, 2));
    assert!(bench.of("token").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_credential_fault_of_the_second_environment_blames_nobody() {
    let bench = Bench::new();
    for n in 0..7 {
        let token = format!("{n:02x}");
        bench
            .ios
            .script(&token, [step(Class::BadToken, "BadDeviceToken")]);
        bench.sandbox.script(
            &token,
            [step(Class::CredentialFault, "BadEnvironmentKeyInToken")],
        );
        let mut device = ios(&token);
        device["environment"] = json!("auto");
        bench.handle(Ios, &ring(30_000, &[device])).await;
    }
    assert_eq!(bench.sandbox.count(), 7, "the lane was paused");
    let suspect = pair("suspect_token", "BadEnvironmentKeyInToken");
    assert_eq!(bench.results(), vec![suspect; 7]);
}

#[tokio::test(start_paused = true)]
async fn events_for_any_platform_are_split_and_their_bad_devices_reported() {
    let bench = Bench::new();
    let event = ring(30_000, &[ios("aa"), android("t"), ios("no hex")]);
    let verdict = bench
        .dispatcher
        .handle(delivery(Source::Calls, &event))
        .await;
    let Verdict::Split(parts) = verdict else {
        panic!("{verdict:?}")
    };
    assert_eq!(parts.len(), 2);
    assert_eq!(bench.results(), [pair("rejected", "invalid_token")]);
    // On the wrong queue it is split again, so that it gets to the right one.
    let verdict = bench.handle(Ios, &ring(30_000, &[android("t")])).await;
    assert!(matches!(verdict, Verdict::Split(parts) if parts[0].platform == Android));
    assert_eq!((bench.ios.count(), bench.android.count()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_understood_is_dead() {
    let bench = Bench::new();
    let verdict = bench.handle(Ios, &json!({"v": 2})).await;
    assert!(matches!(verdict, Verdict::Dead(error) if error.to_string() == "v: must be 1"));
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
        let mut routes = super::routes::Routes {
            apps: std::collections::HashMap::new(),
            profiles: crate::call::payload::Profiles::built_in().unwrap(),
        };
        let ring = json!({"both": {"id": "{{ call_id }}"}});
        let own = json!({"ring": ring}).to_string();
        routes.profiles.add("no_cancel", &own).unwrap();
        let old = bench.dispatcher.routes();
        routes.apps.insert(
            "app".into(),
            super::routes::App {
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

#[tokio::test(start_paused = true)]
async fn a_refused_background_push_does_not_pause_the_rings() {
    let bench = Bench::cancelling(CancelMode::Background);
    for n in 0..6 {
        let (token, alert) = (format!("a{n}"), format!("b{n}"));
        bench
            .ios
            .script(&alert, [step(Class::CredentialFault, "TopicDisallowed")]);
        let mut device = ios(&token);
        device["alert_token"] = json!(alert);
        let mut stop = cancel(&[device.clone()]);
        stop["call_id"] = json!(format!("call-{n}"));
        bench.handle(Ios, &stop).await;
    }
    bench.handle(Ios, &ring(30_000, &[ios("aa")])).await;
    assert_eq!(bench.results()[6], pair("accepted", "-"));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_comes_again_after_it_was_settled_repeats_no_report() {
    let bench = Bench::new();
    let event = ring(30_000, &[ios("aa"), ios("not hex"), android("t")]);
    for _ in 0..2 {
        let verdict = bench
            .dispatcher
            .handle(delivery(Source::Calls, &event))
            .await;
        assert!(matches!(verdict, Verdict::Split(parts) if parts.len() == 2));
    }
    let bad = ring(30_000, &[ios("not hex")]);
    for _ in 0..2 {
        assert!(matches!(bench.handle(Ios, &bad).await, Verdict::Settled));
    }
    assert_eq!(bench.of("push").len(), 2, "one for each bad device");
    assert_eq!(bench.of("call").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn waits_grow_to_the_longest_and_not_beyond() {
    let bench = Bench::new();
    let trouble = || step(Class::Unavailable, "ServiceUnavailable");
    bench.ios.script("aa", (0..40).map(|_| trouble()));
    bench.handle(Ios, &ring(40_000, &[ios("aa")])).await;
    let times = bench.ios.times();
    let waits: Vec<_> = times.windows(2).map(|w| w[1] - w[0]).collect();
    let longest = Duration::from_millis(2_010);
    assert!(waits.iter().all(|wait| *wait <= longest), "{waits:?}");
    assert!(
        waits[8..]
            .iter()
            .all(|wait| *wait >= Duration::from_millis(995))
    );
}

/// The trace of an event's header reaches the history and each line of the log.
#[tokio::test(start_paused = true)]
async fn the_trace_id_is_in_the_history_and_in_the_log() {
    let lines = Lines::default();
    let sink = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_max_level(tracing::Level::DEBUG)
        .with_writer(move || sink.clone())
        .finish();
    // With only one subscriber about, tracing asks the current thread whether a
    // line is wanted when it is first met, and remembers a "no" of another test.
    let _second = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::new());
    let _guard = tracing::subscriber::set_default(subscriber);
    let bench = Bench::new();
    bench
        .ios
        .script("aa", [step(Class::BadToken, "BadDeviceToken")]);
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let mut delivery = delivery(Source::Platform(Ios), &ring(30_000, &[ios("aa")]));
    delivery.trace = std::sync::Arc::new(TraceContext {
        traceparent: Some(format!("00-{trace}-00f067aa0ba902b7-01")),
        tracestate: None,
    });
    bench.dispatcher.handle(delivery).await;
    let seen = bench.dispatcher.history().last(2, Wanted::Call("call-1"));
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].subject.trace_id.as_deref(), Some(trace));
    assert_eq!(
        seen[0].attempts[0].reason.as_deref(),
        Some("BadDeviceToken")
    );
    let line = lines.of("push");
    assert_eq!(line["trace_id"], trace);
    assert_eq!(line["result"], "suspect_token");
}

/// Both halves of an `auto` environment are on the timeline, each attempt with
/// its environment; a push is in the history once, however often it comes.
#[tokio::test(start_paused = true)]
async fn the_history_holds_a_push_once_with_the_attempts_of_both_environments() {
    let bench = Bench::new();
    bench
        .ios
        .script("aa", [step(Class::BadToken, "BadDeviceToken")]);
    let mut device = ios("aa");
    device["environment"] = json!("auto");
    let event = ring(30_000, &[device]);
    bench.handle(Ios, &event).await;
    bench.handle(Ios, &event).await;
    let seen = bench.dispatcher.history().last(9, Wanted::All);
    assert_eq!(seen.len(), 1);
    let attempts: Vec<(&str, &str)> = seen[0]
        .attempts
        .iter()
        .map(|attempt| (attempt.environment, attempt.class))
        .collect();
    assert_eq!(
        attempts,
        [("production", "bad_token"), ("sandbox", "accepted")]
    );
    let Stage::Final(end) = &seen[0].stage else {
        panic!("{:?}", seen[0].stage)
    };
    assert_eq!((end.result.name(), end.attempts), ("accepted", 2));
}

/// A lane says for how long it is paused and which answer did it.
#[tokio::test(start_paused = true)]
async fn a_paused_lane_names_the_answer_that_paused_it() {
    let bench = Bench::new();
    let refusals = vec![step(Class::CredentialFault, "InvalidProviderToken"); 5];
    bench.ios.script("aa", refusals);
    for _ in 0..5 {
        bench.handle(Ios, &ring(30_000, &[ios("aa")])).await;
    }
    advance(Duration::from_secs(7)).await;
    let routes = bench.dispatcher.routes();
    let lane = |environment| {
        let mut all = routes.all();
        let route = all.find(|route| route.lane.labels().environment == environment);
        route.unwrap().lane.status()
    };
    let (since, reason) = lane("production").paused.unwrap();
    assert_eq!(since.as_secs(), 7);
    assert_eq!(reason.as_deref(), Some("InvalidProviderToken"));
    assert_eq!(lane("sandbox").paused, None);
}

/// Work in hand is told from requests on their way, and both end at zero.
#[tokio::test(start_paused = true)]
async fn a_lane_counts_what_is_on_its_way_and_what_waits() {
    let bench = Bench::with(TokenSettings::default(), 1);
    let event = ring(30_000, &[ios("aa"), ios("bb"), ios("cc")]);
    let routes = bench.dispatcher.routes();
    let status = || {
        let all: Vec<_> = routes.all().collect();
        let lane = all
            .iter()
            .find(|r| r.lane.labels().environment == "production");
        let status = lane.unwrap().lane.status();
        (status.in_flight, status.waiting)
    };
    let watch = async {
        sleep(Duration::from_millis(2)).await;
        status()
    };
    let (_, during) = tokio::join!(bench.handle(Ios, &event), watch);
    assert_eq!(during, (1, 2));
    assert_eq!(status(), (0, 0));
}

/// A log to be looked at.
#[derive(Clone, Default)]
struct Lines(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl Lines {
    /// The only line with this message.
    fn of(&self, message: &str) -> Value {
        let bytes = self.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        let mut lines = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .filter(|line| line["message"] == message);
        let line = lines
            .next()
            .unwrap_or_else(|| panic!("no {message}: {text}"));
        assert!(lines.next().is_none(), "{text}");
        line
    }
}

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
