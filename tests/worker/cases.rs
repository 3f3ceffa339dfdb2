//! What is not a plain success: each ends as the documentation says, and is
//! said.

use ringpush::simulator::{Device, Effect, Environment, Rule, Script, ServerKind, Step, Target};
use serde_json::{Value, json};

use crate::support::client::Outcomes;
use crate::support::events::{APP, android, android_token, at, ios, ios_token, ring};
use crate::support::stage::Stage;
use crate::support::worker::Worker;

/// A stage, its worker and what it reports.
async fn begin() -> (Stage, Worker, Outcomes) {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let outcomes = stage.client.outcomes().await;
    (stage, worker, outcomes)
}

async fn send(stage: &Stage, outcomes: &mut Outcomes, event: &Value) -> Vec<Value> {
    stage.client.publish("ring", event).await;
    let devices = event["devices"].as_array().unwrap().len();
    outcomes.pushes(devices).await
}

fn result(outcome: &Value) -> (&str, &str, u64) {
    let text = |key: &str| outcome[key].as_str().unwrap_or_default();
    (
        text("result"),
        text("reason"),
        outcome["attempts"].as_u64().unwrap(),
    )
}

/// The broker delivers at least once; the phone rings once.
#[tokio::test]
async fn a_message_that_comes_again_rings_nobody_twice() {
    let (stage, mut worker, mut outcomes) = begin().await;
    let event = ring(&[ios("i", &ios_token()), android("a", &android_token())]);
    for _ in 0..3 {
        stage.client.publish("ring", &event).await;
    }
    outcomes.pushes(2).await;
    for key in ["ring", "ring.ios", "ring.android"] {
        stage.client.publish(key, &event).await;
    }
    // A message of its own shows that those before it are through.
    let last = ring(&[ios("z", &ios_token())]);
    stage.client.publish("ring", &last).await;
    let outcome = outcomes.push().await;
    assert_eq!(outcome["device_id"], "z", "no second outcome: {outcome}");
    assert_eq!(worker.stop().await, 0);
    assert_eq!(stage.pushes(3).await.len(), 3);
    let worker = stage.worker().await;
    stage.end(worker).await;
}

/// Nobody is rung for a call that is long over.
#[tokio::test]
async fn a_ring_that_comes_too_late_is_not_pushed() {
    let (stage, mut worker, mut outcomes) = begin().await;
    let mut event = ring(&[ios("i", &ios_token()), android("a", &android_token())]);
    event["sent_at"] = at(-60).into();
    for outcome in send(&stage, &mut outcomes, &event).await {
        assert_eq!(result(&outcome), ("expired", "deadline", 0));
        assert!(outcome["queue_ms"].as_u64().unwrap() >= 60_000, "{outcome}");
    }
    assert!(stage.pushes(0).await.is_empty());
    worker.logs("the producer's clock is slow").await;
    stage.end(worker).await;
}

/// The deadline is the event's, but never beyond the longest life of a ring.
#[tokio::test]
async fn a_ring_from_the_future_lives_no_longer_than_any_other() {
    let (stage, mut worker, mut outcomes) = begin().await;
    let mut event = ring(&[ios("i", &ios_token())]);
    event["sent_at"] = at(3600).into();
    event["expires_at"] = at(7200).into();
    let all = send(&stage, &mut outcomes, &event).await;
    assert_eq!(result(&all[0]), ("accepted", "", 1));
    assert_eq!(all[0]["queue_ms"], 0);
    let pushes = stage.pushes(1).await;
    let expiration: i64 = pushes[0]
        .header("apns-expiration")
        .unwrap()
        .parse()
        .unwrap();
    let left = expiration - chrono::Utc::now().timestamp();
    assert!((100..=120).contains(&left), "{left}");
    worker.logs("the producer's clock is fast").await;
    stage.end(worker).await;
}

/// A development build's token is found in the sandbox, and asked for there
/// from then on.
#[tokio::test]
async fn an_auto_environment_is_found_and_remembered() {
    let (stage, worker, mut outcomes) = begin().await;
    let token = ios_token();
    let sandbox = Device {
        environment: Some(Environment::Sandbox),
        ..Device::default()
    };
    stage.simulator.register(&token, sandbox);
    let mut device = ios("i", &token);
    device["environment"] = "auto".into();
    for attempts in [2, 1] {
        let all = send(&stage, &mut outcomes, &ring(std::slice::from_ref(&device))).await;
        assert_eq!(result(&all[0]), ("accepted", "", attempts));
        assert_eq!(all[0]["environment"], "sandbox");
    }
    let servers: Vec<_> = stage
        .pushes(3)
        .await
        .iter()
        .map(|push| push.server)
        .collect();
    let expected = [
        ServerKind::ApnsProduction,
        ServerKind::ApnsSandbox,
        ServerKind::ApnsSandbox,
    ];
    assert_eq!(servers, expected);
    stage.end(worker).await;
}

/// One device that cannot be rung does not keep the others from ringing, and
/// no request is made for it.
#[tokio::test]
async fn a_device_that_cannot_be_rung_is_rejected_by_name() {
    let (stage, worker, mut outcomes) = begin().await;
    let token = ios_token();
    let good = ios("good", &token);
    let bad = [
        (
            "unknown_app",
            json!({"id": "b1", "platform": "ios", "app": "org.other", "token": "ab12"}),
        ),
        (
            "unknown_platform",
            json!({"id": "b2", "platform": "toaster", "app": APP, "token": "x"}),
        ),
        (
            "invalid_token",
            json!({"id": "b3", "platform": "ios", "app": APP, "token": "not hex"}),
        ),
        (
            "duplicate_device",
            json!({"id": "good", "platform": "ios", "app": APP, "token": "ab12"}),
        ),
        ("duplicate_token", ios("b4", &token.to_uppercase())),
    ];
    let devices: Vec<Value> = [good]
        .into_iter()
        .chain(bad.iter().map(|(_, d)| d.clone()))
        .collect();
    stage.client.publish("ring", &ring(&devices)).await;
    let mut reasons: Vec<String> = Vec::new();
    let mut rang = 0;
    for outcome in outcomes.pushes(6).await {
        if outcome["result"] == "accepted" {
            rang += 1;
            continue;
        }
        assert_eq!(outcome["result"], "rejected", "{outcome}");
        assert_eq!(outcome["attempts"], 0, "{outcome}");
        reasons.push(outcome["reason"].as_str().unwrap().to_owned());
    }
    reasons.sort();
    let mut expected = bad.map(|(reason, _)| reason.to_owned());
    expected.sort();
    assert_eq!((rang, reasons.as_slice()), (1, &expected[..]));
    assert_eq!(stage.pushes(1).await.len(), 1);
    let mut event = ring(&[ios("i", &ios_token())]);
    event["profile"] = "no-such".into();
    let all = send(&stage, &mut outcomes, &event).await;
    assert_eq!(result(&all[0]), ("rejected", "unknown_profile", 0));
    stage.end(worker).await;
}

/// Too much for the provider: said by how much, and never sent.
#[tokio::test]
async fn a_payload_that_is_too_large_makes_no_request() {
    let (stage, worker, mut outcomes) = begin().await;
    let mut event = ring(&[ios("i", &ios_token()), android("a", &android_token())]);
    event["data"] = json!({"blob": "x".repeat(6_000)});
    for outcome in send(&stage, &mut outcomes, &event).await {
        assert_eq!(result(&outcome), ("rejected", "payload_too_large", 0));
        let detail = outcome["detail"].as_str().unwrap_or_default();
        assert!(
            detail.contains("data"),
            "it names the largest key: {detail}"
        );
        assert!(!detail.contains("xxxx"), "{detail}");
    }
    assert!(stage.pushes(0).await.is_empty());
    stage.end(worker).await;
}

/// An app that has registered since is not cleared.
#[tokio::test]
async fn an_unregistered_answer_older_than_the_registration_is_no_verdict() {
    let (stage, worker, mut outcomes) = begin().await;
    let token = ios_token();
    let since = chrono::Utc::now() - chrono::Duration::hours(2);
    stage.simulator.unregister(&token, since);
    let mut device = ios("i", &token);
    device["registered_at"] = at(-3600).into();
    let all = send(&stage, &mut outcomes, &ring(&[device])).await;
    assert_eq!(result(&all[0]), ("rejected", "Unregistered", 1));
    stage.client.holds("tokens", 0).await;
    stage.end(worker).await;
}

/// A token that the provider does not know is only suspected until the app is
/// seen to work, for it may be the environment that is wrong.
#[tokio::test]
async fn an_unknown_token_is_suspect_until_others_are_accepted() {
    let (stage, worker, mut outcomes) = begin().await;
    let [first, second] = [ios_token(), ios_token()];
    for token in [&first, &second] {
        let invalid = Device {
            invalid: true,
            ..Device::default()
        };
        stage.simulator.register(token, invalid);
    }
    let all = send(&stage, &mut outcomes, &ring(&[ios("i", &first)])).await;
    assert_eq!(result(&all[0]), ("suspect_token", "BadDeviceToken", 1));
    assert_eq!(stage.client.take("tokens").await.key(), "token.ios.suspect");
    let all = send(&stage, &mut outcomes, &ring(&[ios("i", &ios_token())])).await;
    assert_eq!(result(&all[0]), ("accepted", "", 1));
    let all = send(&stage, &mut outcomes, &ring(&[ios("i", &second)])).await;
    assert_eq!(result(&all[0]), ("dead_token", "BadDeviceToken", 1));
    assert_eq!(stage.client.take("tokens").await.key(), "token.ios.dead");
    stage.end(worker).await;
}

/// Tokens of another topic or project are suspected, never dead.
#[tokio::test]
async fn a_token_of_somebody_else_is_suspect() {
    let (stage, worker, mut outcomes) = begin().await;
    let (iphone, pixel) = (ios_token(), android_token());
    let other_topic = Device {
        topic: Some("com.other.voip".to_owned()),
        ..Device::default()
    };
    let other_project = Device {
        project: Some("another".to_owned()),
        ..Device::default()
    };
    stage.simulator.register(&iphone, other_topic);
    stage.simulator.register(&pixel, other_project);
    let event = ring(&[android("a", &pixel), ios("i", &iphone)]);
    let all = send(&stage, &mut outcomes, &event).await;
    assert_eq!(result(&all[0]), ("suspect_token", "SENDER_ID_MISMATCH", 1));
    assert_eq!(
        result(&all[1]),
        ("suspect_token", "DeviceTokenNotForTopic", 1)
    );
    let mut keys = Vec::new();
    for _ in 0..2 {
        keys.push(stage.client.take("tokens").await.key().to_owned());
    }
    keys.sort();
    assert_eq!(keys, ["token.android.suspect", "token.ios.suspect"]);
    stage.end(worker).await;
}

/// A provider that stumbles once costs a moment, not the call; every attempt
/// is the same push.
#[tokio::test]
async fn a_provider_that_stumbles_is_asked_again_with_the_same_id() {
    let (stage, worker, mut outcomes) = begin().await;
    let unavailable = |reason: &str| {
        Step::new(Effect::Answer {
            status: 503,
            reason: Some(reason.to_owned()),
            timestamp: None,
            retry_after: None,
            body: None,
        })
    };
    let rules = vec![
        Rule::every(Target::Apns, vec![unavailable("ServiceUnavailable")]),
        Rule::every(Target::Fcm, vec![unavailable("UNAVAILABLE")]),
    ];
    stage.simulator.script(Script { rules }).unwrap();
    let event = ring(&[android("a", &android_token()), ios("i", &ios_token())]);
    let all = send(&stage, &mut outcomes, &event).await;
    for outcome in &all {
        assert_eq!(result(outcome), ("accepted", "", 2));
    }
    let pushes = stage.pushes(4).await;
    let apple: Vec<_> = pushes
        .iter()
        .filter(|p| p.server == ServerKind::ApnsProduction)
        .collect();
    assert_eq!(apple.len(), 2);
    assert!(apple[0].header("apns-id").is_some());
    assert_eq!(apple[0].header("apns-id"), apple[1].header("apns-id"));
    stage.end(worker).await;
}
