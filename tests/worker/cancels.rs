//! A call that is over does not ring, and a ring that rings is stopped where
//! that is possible.

use std::time::Duration;

use ringpush::simulator::{Effect, Options, Rule, Script, ServerKind, Step, Target};
use serde_json::{Value, json};

use crate::support::client::Outcomes;
use crate::support::events::{android, android_token, at, cancel, ios, ios_token, ring};
use crate::support::stage::Stage;
use crate::support::worker::Worker;

/// Long enough for something that should not come.
const A_WHILE: Duration = Duration::from_millis(300);

async fn settled(worker: &mut Worker, kind: &str, count: f64) {
    let labels = [&*format!("event=\"{kind}\""), "result=\"settled\""].map(str::to_owned);
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    let wait = async {
        while worker.metric("ringpush_events_total", &labels).await < count {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait)
        .await
        .expect("it is settled");
}

async fn nothing_more(outcomes: &mut Outcomes) {
    if let Some(report) = outcomes.within(A_WHILE).await {
        panic!("unexpected: {}", report.json());
    }
}

/// Somebody answered on one phone: the others do not ring any more.
#[tokio::test]
async fn a_cancel_of_the_others_lets_the_devices_that_it_names_ring() {
    let stage = Stage::new().await;
    let mut worker = stage.worker().await;
    let mut outcomes = stage.client.outcomes().await;
    let event = ring(&[ios("i", &ios_token()), android("a", &android_token())]);
    let mut others = cancel(&event);
    others["except"] = json!(["a"]);
    stage.client.publish("cancel", &others).await;
    settled(&mut worker, "cancel", 1.0).await;
    stage.client.publish("ring", &event).await;
    for outcome in outcomes.pushes(2).await {
        let rings = outcome["device_id"] == "a";
        let expected = if rings { "accepted" } else { "cancelled" };
        assert_eq!(outcome["result"], expected, "{outcome}");
    }
    assert_eq!(stage.pushes(1).await.len(), 1);
    stage.end(worker).await;
}

/// The caller hung up before the ring was taken: no phone rings for nothing.
/// The same call may ring again later.
#[tokio::test]
async fn a_cancel_before_the_ring_stops_it_and_not_the_next_one() {
    let stage = Stage::new().await;
    let mut worker = stage.worker().await;
    let mut outcomes = stage.client.outcomes().await;
    let (iphone, pixel) = (ios_token(), android_token());
    let first = ring(&[ios("i", &iphone), android("a", &pixel)]);
    stage.client.publish("cancel", &cancel(&first)).await;
    settled(&mut worker, "cancel", 1.0).await;
    stage.client.publish("ring", &first).await;
    for outcome in outcomes.pushes(2).await {
        assert_eq!(outcome["result"], "cancelled", "{outcome}");
        assert_eq!(outcome["reason"], "caller_cancelled");
        assert_eq!(outcome["attempts"], 0);
        assert_eq!(outcome["event"], "ring");
    }
    assert!(stage.pushes(0).await.is_empty());
    let mut again = ring(&[ios("i", &iphone)]);
    again["call_id"] = first["call_id"].clone();
    again["sent_at"] = at(1).into();
    stage.client.publish("ring.ios", &again).await;
    assert_eq!(outcomes.push().await["result"], "accepted");
    stage.end(worker).await;
}

/// A worker that starts later reads the cancels of before.
#[tokio::test]
async fn a_worker_that_starts_later_knows_of_the_cancel() {
    let stage = Stage::new().await;
    let mut before = stage.worker().await;
    let event = ring(&[ios("i", &ios_token())]);
    stage.client.publish("cancel", &cancel(&event)).await;
    settled(&mut before, "cancel", 1.0).await;
    assert_eq!(before.stop().await, 0);
    stage.client.publish("ring.ios", &event).await;
    let mut outcomes = stage.client.outcomes().await;
    let worker = stage.worker().await;
    assert_eq!(outcomes.push().await["result"], "cancelled");
    assert!(stage.pushes(0).await.is_empty());
    stage.end(worker).await;
}

/// A ring for one iPhone whose first attempt has failed and whose next one is
/// far away.
async fn ring_that_waits_for_a_retry() -> (Stage, Worker, Outcomes, Value) {
    let stage = Stage::with(
        "[retry]\ninitial = \"30s\"\nmax = \"30s\"",
        Options::default(),
    )
    .await;
    let worker = stage.worker().await;
    let outcomes = stage.client.outcomes().await;
    let token = ios_token();
    let unavailable = Step::new(Effect::Answer {
        status: 503,
        reason: Some("ServiceUnavailable".to_owned()),
        timestamp: None,
        retry_after: None,
        body: None,
    });
    let rule = Rule::token(Target::Apns, &token, Vec::new()).then(unavailable);
    stage
        .simulator
        .script(Script { rules: vec![rule] })
        .unwrap();
    let event = ring(&[ios("i", &token)]);
    stage.client.publish("ring.ios", &event).await;
    stage.pushes(1).await;
    (stage, worker, outcomes, event)
}

/// A ring that waits for its next attempt ends with the call.
#[tokio::test]
async fn a_cancel_wakes_a_ring_that_waits_for_a_retry() {
    let (stage, worker, mut outcomes, event) = ring_that_waits_for_a_retry().await;
    stage.client.publish("cancel", &cancel(&event)).await;
    let outcome = outcomes.push().await;
    let attempts = stage.pushes(1).await.len();
    assert_eq!(outcome["result"], "cancelled", "{outcome}");
    assert_eq!(outcome["attempts"], attempts);
    assert!(outcome["push_ms"].as_u64().unwrap() < 20_000, "{outcome}");
    stage.end(worker).await;
}

/// Rings both phones, then sends a cancel that lists them. Gives the outcomes
/// of the cancel.
async fn ring_then_cancel(
    stage: &Stage,
    outcomes: &mut Outcomes,
    more: &Value,
    sent: usize,
) -> Vec<Value> {
    let mut iphone = ios("i", &ios_token());
    for (key, value) in more.as_object().unwrap() {
        iphone[key] = value.clone();
    }
    let event = ring(&[iphone, android("a", &android_token())]);
    stage.client.publish("ring", &event).await;
    for outcome in outcomes.pushes(2).await {
        assert_eq!(outcome["result"], "accepted", "{outcome}");
    }
    let mut over = cancel(&event);
    over["devices"] = event["devices"].clone();
    stage.client.publish("cancel", &over).await;
    let all = outcomes.pushes(sent).await;
    for outcome in &all {
        assert_eq!(outcome["event"], "cancel", "{outcome}");
        assert_eq!(outcome["event_id"], over["event_id"]);
    }
    nothing_more(outcomes).await;
    all
}

/// The Android phone is told by a data message; an iPhone is not, for every
/// `VoIP` push is a ring.
#[tokio::test]
async fn a_cancel_is_pushed_to_android_and_by_default_not_to_ios() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let mut outcomes = stage.client.outcomes().await;
    let all = ring_then_cancel(&stage, &mut outcomes, &json!({}), 1).await;
    assert_eq!(all[0]["device_id"], "a");
    assert_eq!(all[0]["result"], "accepted");
    let pushes = stage.pushes(3).await;
    assert_eq!(pushes.len(), 3);
    let body = pushes[2].json().unwrap();
    let message = &body["message"];
    assert_eq!(pushes[2].server, ServerKind::Fcm);
    assert_eq!(message["data"]["event"], "cancel");
    assert_eq!(message["data"]["reason"], "caller_hangup");
    assert_eq!(message["android"]["priority"], "HIGH");
    let keys: Vec<&String> = message.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["token", "data", "android"], "nothing else");
    stage.end(worker).await;
}

/// `cancel = "background"`: a background push to the app's ordinary token.
#[tokio::test]
async fn an_ios_cancel_can_be_a_background_push() {
    let configuration = "[apps.\"com.example.calls\".ios]\ncancel = \"background\"";
    let stage = Stage::with(configuration, Options::default()).await;
    let worker = stage.worker().await;
    let mut outcomes = stage.client.outcomes().await;
    let alert = ios_token();
    let more = json!({"alert_token": alert});
    let all = ring_then_cancel(&stage, &mut outcomes, &more, 2).await;
    assert!(
        all.iter().all(|outcome| outcome["result"] == "accepted"),
        "{all:?}"
    );
    let pushes = stage.pushes(4).await;
    let push = pushes
        .iter()
        .find(|push| push.token.as_ref() == Some(&alert));
    let push = push.expect("a push to the ordinary token");
    assert_eq!(push.header("apns-push-type"), Some("background"));
    assert_eq!(push.header("apns-topic"), Some("com.example.calls"));
    assert_eq!(push.header("apns-priority"), Some("5"));
    assert_eq!(push.json().unwrap()["event"], "cancel");
    assert_eq!(push.violations, Vec::<String>::new());
    // Without that token there is no way, which is said.
    let all = ring_then_cancel(&stage, &mut outcomes, &json!({}), 2).await;
    assert_eq!(all[1]["result"], "rejected", "{all:?}");
    assert_eq!(all[1]["reason"], "missing_alert_token");
    stage.end(worker).await;
}

/// `cancel = "voip"`: another `VoIP` push, only where this worker's own ring was
/// accepted.
#[tokio::test]
async fn an_ios_cancel_can_be_a_voip_push_after_a_ring() {
    // A profile whose apps know a call's end by a second push.
    let configuration = "[apps.\"com.example.calls\"]\nprofile = \"telnyx\"";
    let stage = Stage::with(configuration, Options::default()).await;
    let mut worker = stage.worker().await;
    let mut outcomes = stage.client.outcomes().await;
    let all = ring_then_cancel(&stage, &mut outcomes, &json!({}), 2).await;
    // On Android it says only what the cancel itself says, and that lacks the
    // caller, whom these apps need.
    let android = all.iter().find(|outcome| outcome["device_id"] == "a");
    let android = android.expect("an outcome");
    assert_eq!(android["result"], "rejected", "{android}");
    assert_eq!(android["reason"], "payload_key_missing", "{android}");
    let pushes = stage.pushes(3).await;
    let mut voip = pushes
        .iter()
        .filter(|p| p.server == ServerKind::ApnsProduction);
    let (first, last) = (voip.next().unwrap(), voip.next().unwrap());
    assert_eq!(last.header("apns-push-type"), Some("voip"));
    let (ring_body, cancel_body) = (first.json().unwrap(), last.json().unwrap());
    assert_eq!(cancel_body["aps"]["alert"], "Missed call!");
    for key in ["call_uuid", "call_id", "metadata"] {
        assert!(!ring_body[key].is_null(), "{key}");
        assert_eq!(cancel_body[key], ring_body[key], "{key}");
    }
    assert_eq!(last.token, first.token);
    // A phone that never rang would ring now.
    let mut unheard = cancel(&ring(&[]));
    unheard["devices"] = json!([ios("i", &ios_token())]);
    stage.client.publish("cancel", &unheard).await;
    settled(&mut worker, "cancel", 2.0).await;
    nothing_more(&mut outcomes).await;
    assert_eq!(stage.pushes(3).await.len(), 3);
    stage.end(worker).await;
}

/// Answered elsewhere: the other devices go on.
#[tokio::test]
async fn a_cancel_of_listed_devices_leaves_the_others() {
    let stage = Stage::new().await;
    let mut worker = stage.worker().await;
    let mut outcomes = stage.client.outcomes().await;
    let event = ring(&[ios("i", &ios_token()), ios("j", &ios_token())]);
    let mut over = cancel(&event);
    over["devices"] = json!([event["devices"][0]]);
    stage.client.publish("cancel", &over).await;
    settled(&mut worker, "cancel", 1.0).await;
    stage.client.publish("ring.ios", &event).await;
    let all = outcomes.pushes(2).await;
    assert_eq!(all[0]["result"], "cancelled", "{all:?}");
    assert_eq!(all[1]["result"], "accepted", "{all:?}");
    stage.end(worker).await;
}

/// What is no cancel in the stream is skipped: the cancels behind it are read.
/// They are in the stream only, so that nothing else tells this worker of them.
#[tokio::test]
async fn what_cannot_be_read_in_the_stream_hides_no_cancel_behind_it() {
    let (stage, worker, mut outcomes, event) = ring_that_waits_for_a_retry().await;
    let mut from_the_future = cancel(&event);
    from_the_future["v"] = json!(2);
    let bodies = [
        Vec::new(),
        b"junk".to_vec(),
        b"\xff\xfe{}".to_vec(),
        vec![b'['; 300 * 1024],
        from_the_future.to_string().into_bytes(),
        ring(&[]).to_string().into_bytes(),
        cancel(&event).to_string().into_bytes(),
    ];
    let stream = stage.client.name("cancels");
    let messages = bodies.map(|body| (body, lapin::BasicProperties::default()));
    stage.client.send_all("", &stream, messages).await;
    let outcome = outcomes.push().await;
    assert_eq!(outcome["result"], "cancelled", "{outcome}");
    assert!(outcome["push_ms"].as_u64().unwrap() < 20_000, "{outcome}");
    stage.end(worker).await;
}
