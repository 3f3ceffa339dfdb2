//! Nothing that the worker prints helps to ring somebody's phone, or tells who
//! calls whom.

use lapin::BasicProperties;
use ringpush::simulator::{Effect, Options, Rule, Script, Step, Target};
use serde_json::{Value, json};

use crate::support::events::{APP, android, android_token, at, cancel, ios, ios_token, ring};
use crate::support::stage::Stage;
use crate::support::worker::Worker;

const CALLER: &str = "Zebediah Quintessence";
const HANDLE: &str = "+49 30 901820";
const VALUE: &str = "opaque-payload-value";

/// Of a secret, a piece as long as this is too much.
const PIECE: usize = 20;

fn answer(status: u16, reason: &str) -> Step {
    Step::new(Effect::Answer {
        status,
        reason: Some(reason.to_owned()),
        timestamp: None,
        retry_after: None,
        body: None,
    })
}

/// Every kind of refusal, each for a phone of its own.
fn faults() -> (Vec<Value>, Script) {
    let apple = [
        (410, "Unregistered"),
        (400, "BadDeviceToken"),
        (400, "DeviceTokenNotForTopic"),
        (403, "InvalidProviderToken"),
        (403, "ExpiredProviderToken"),
        (429, "TooManyRequests"),
        (500, "InternalServerError"),
        (418, "SomethingNew"),
    ];
    let google = [
        (404, "UNREGISTERED"),
        (400, "INVALID_ARGUMENT"),
        (401, "UNAUTHENTICATED"),
        (403, "SENDER_ID_MISMATCH"),
        (403, "PERMISSION_DENIED"),
        (429, "QUOTA_EXCEEDED"),
        (500, "INTERNAL"),
        (418, "SOMETHING_NEW"),
    ];
    let (mut devices, mut rules) = (Vec::new(), Vec::new());
    for (n, (status, reason)) in apple.into_iter().enumerate() {
        let token = ios_token();
        rules.push(Rule::token(
            Target::Apns,
            &token,
            vec![answer(status, reason)],
        ));
        devices.push(ios(&format!("i{n}"), &token));
    }
    for (n, (status, reason)) in google.into_iter().enumerate() {
        let token = android_token();
        rules.push(Rule::token(
            Target::Fcm,
            &token,
            vec![answer(status, reason)],
        ));
        let mut device = android(&format!("a{n}"), &token);
        if n % 2 == 1 {
            device["fid"] = device["token"].take();
        }
        devices.push(device);
    }
    (devices, Script { rules })
}

/// Rings, refusals, nonsense and a cancel, at the loudest level.
async fn everything_that_goes_wrong(stage: &Stage, tokens: &mut Vec<String>) {
    let (mut devices, script) = faults();
    stage.simulator.script(script).expect("a script");
    let mut outcomes = stage.client.outcomes().await;
    for device in &mut devices {
        device["alert_token"] = ios_token().into();
        let token = |key: &str| device[key].as_str().map(str::to_owned);
        tokens.extend(
            ["token", "fid", "alert_token"]
                .into_iter()
                .filter_map(token),
        );
    }
    devices.push(
        json!({"id": "b1", "platform": "ios", "app": APP, "token": format!("not hex {VALUE}")}),
    );
    devices.push(json!({"id": "b2", "platform": VALUE, "app": APP, "token": VALUE}));
    let mut event = ring(&devices);
    event["caller"] = json!({"id": "u1", "name": CALLER, "handle": HANDLE,
        "avatar_url": format!("https://x/{VALUE}")});
    event["callee"] = json!({"id": "u2", "name": CALLER});
    event["conversation"] = json!({"type": "group", "id": "g", "name": CALLER});
    event["data"] = json!({"k": VALUE});
    stage.client.publish("ring", &event).await;
    outcomes.pushes(devices.len()).await;
    // Rendered and refused: too large, and a profile that lacks what it needs.
    for (profile, data) in [
        ("plain", VALUE.repeat(400)),
        ("connectycube", VALUE.to_owned()),
    ] {
        let mut event = event.clone();
        event["event_id"] = uuid::Uuid::new_v4().to_string().into();
        event["profile"] = profile.into();
        event["data"] = json!({"k": data, "session_id": VALUE});
        event["devices"] = json!([devices[0], devices[8]]);
        stage.client.publish("ring", &event).await;
        outcomes.pushes(2).await;
    }
    // Connections that end with a push on them.
    for effect in [Effect::Reset(2), Effect::TcpReset] {
        let rule = Rule::every(Target::Apns, vec![Step::new(effect)]);
        stage
            .simulator
            .script(Script { rules: vec![rule] })
            .expect("a script");
        let mut event = event.clone();
        event["event_id"] = uuid::Uuid::new_v4().to_string().into();
        event["sent_at"] = at(0).into();
        event["devices"] = json!([devices[2]]);
        stage.client.publish("ring.ios", &event).await;
        outcomes.pushes(1).await;
    }
    let mut over = cancel(&event);
    over["devices"] = event["devices"].clone();
    stage.client.publish("cancel", &over).await;
    nonsense(stage, &event).await;
}

/// Messages that cannot be understood, with secrets in them.
async fn nonsense(stage: &Stage, event: &Value) {
    let mut bad = event.clone();
    bad["caller"]["id"] = json!([CALLER]);
    let mut bodies = vec![bad.to_string()];
    bad["caller"] = CALLER.into();
    bodies.push(bad.to_string());
    bodies.push(event.to_string().replace("\"v\":1", "\"v\":"));
    bodies.push(format!("{{\"v\":1,\"event\":\"{VALUE}\"}}"));
    let count = u32::try_from(bodies.len()).expect("few");
    let bodies = bodies
        .into_iter()
        .map(|b| (b.into_bytes(), BasicProperties::default()));
    stage.client.publish_all("ring.ios", bodies).await;
    stage.client.holds("dead", count).await;
}

/// The credentials of the configuration, line by line.
fn credentials(stage: &Stage) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for text in [stage.simulator.auth_key_pem(), stage.simulator.client_pem()] {
        let body = text.lines().filter(|line| !line.starts_with("-----"));
        lines.extend(body.map(str::to_owned));
    }
    let account: Value =
        serde_json::from_str(stage.simulator.service_account_json()).expect("JSON");
    let key = account["private_key"].as_str().expect("a key");
    let body = key.lines().filter(|line| !line.starts_with("-----"));
    lines.extend(body.map(str::to_owned));
    lines.retain(|line| line.len() > PIECE);
    lines
}

async fn prints_no_secret(format: &str) {
    let configuration =
        format!("[log]\nlevel = \"trace\"\nformat = \"{format}\"\n[ring]\nttl = \"4s\"");
    let stage = Stage::with(&configuration, Options::default()).await;
    let file = stage.config.to_str().expect("a readable path");
    // Another program's switch must not make libraries talk.
    let loud = [("RUST_LOG", "trace")];
    let mut worker = Worker::command_with(&["run", "--config", file], &loud);
    worker.ready().await;
    let mut tokens = Vec::new();
    everything_that_goes_wrong(&stage, &mut tokens).await;
    let (_, metrics) = worker.page("/metrics").await;
    let (_, ready) = worker.page("/readyz").await;
    assert_eq!(worker.stop().await, 0);
    let log = worker.log.text();
    assert!(log.contains("DEBUG"), "it is loud");
    for reason in ["Unregistered", "InvalidProviderToken", "PERMISSION_DENIED"] {
        assert!(log.contains(reason), "{reason} was met");
    }
    let all = [log, worker.output.text(), metrics, ready].concat();
    let mut secrets = credentials(&stage);
    secrets.extend(tokens);
    secrets.extend(["eyJ", "ya29.", "guest:guest", CALLER, HANDLE, VALUE].map(str::to_owned));
    for secret in secrets {
        let piece: String = secret.chars().take(PIECE).collect();
        let line = all.lines().find(|line| line.contains(&piece));
        assert!(line.is_none(), "{piece} is in: {line:?}");
    }
    let line = all
        .lines()
        .find(|line| line.to_lowercase().contains("bearer"));
    assert!(line.is_none(), "{line:?}");
    let worker = stage.worker().await;
    stage.end(worker).await;
}

#[tokio::test]
async fn logs_for_people_hold_no_secret_at_the_loudest_level() {
    prints_no_secret("text").await;
}

#[tokio::test]
async fn logs_for_machines_hold_no_secret_at_the_loudest_level() {
    prints_no_secret("json").await;
}
