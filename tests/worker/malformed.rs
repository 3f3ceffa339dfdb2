//! What cannot be understood harms nothing else and is not lost.

use std::collections::{HashMap, HashSet};

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};

use crate::support::events::{android, android_token, ios, ios_token, ring};
use crate::support::stage::Stage;

/// A body that breaks a rule, and the error that names the rule.
struct Bad {
    body: Vec<u8>,
    error: String,
}

fn bad_events() -> Vec<Bad> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/events-bad");
    let files = std::fs::read_dir(folder).expect("the fixtures");
    let all = files.map(|file| {
        let text = std::fs::read(file.expect("a file").path()).expect("readable");
        let fixture: Value = serde_json::from_slice(&text).expect("JSON");
        Bad {
            body: body(&fixture),
            error: format!(
                "{}: {}",
                fixture["error"]["path"].as_str().expect("a path"),
                fixture["error"]["problem"].as_str().expect("a problem")
            ),
        }
    });
    all.collect()
}

fn body(fixture: &Value) -> Vec<u8> {
    if let Some(raw) = fixture["raw"].as_str() {
        return raw.as_bytes().to_vec();
    }
    let mut event = fixture["event"].clone();
    if let Some(count) = fixture["repeat_device"].as_u64() {
        let device = event["devices"][0].clone();
        let copies = (0..count).map(|n| {
            let mut copy = device.clone();
            copy["id"] = json!(format!("phone-{n}"));
            copy
        });
        event["devices"] = copies.collect();
    }
    let mut body = event.to_string().into_bytes();
    if let Some(length) = fixture["pad_to"].as_u64() {
        body.resize(usize::try_from(length).expect("small"), b' ');
    }
    body
}

fn numbered(n: usize) -> BasicProperties {
    let mut headers = FieldTable::default();
    let number = AMQPValue::LongString(n.to_string().into());
    headers.insert("x-number".into(), number);
    BasicProperties::default()
        .with_headers(headers)
        .with_message_id(format!("m{n}").into())
        .with_app_id("signaling".into())
}

/// 200 malformed messages among 200 good ones: 200 rings, 200 dead letters with
/// the reason, where they came from, and everything that they were.
#[tokio::test]
async fn bad_messages_go_to_the_dead_queue_and_good_ones_ring() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let keys = ["ring", "ring.ios", "ring.android"];
    let queues = ["calls", "ios", "android"];
    let bad: Vec<Bad> = bad_events();
    assert!(bad.len() >= 30);
    let mut tokens = HashSet::new();
    for n in 0..200 {
        let token = if n % 2 == 0 {
            ios_token()
        } else {
            android_token()
        };
        let device = match n % 2 {
            0 => ios("d", &token),
            _ => android("d", &token),
        };
        tokens.insert(token);
        let good = ring(&[device]).to_string().into_bytes();
        let both = [
            (bad[n % bad.len()].body.clone(), numbered(n)),
            (good, BasicProperties::default()),
        ];
        stage.client.publish_all(keys[n % 3], both).await;
    }
    let mut letters = HashMap::new();
    for _ in 0..200 {
        let letter = stage.client.take("dead").await;
        let n: usize = letter.header("x-number").unwrap().parse().unwrap();
        assert!(letters.insert(n, letter).is_none(), "{n} came twice");
    }
    for (n, letter) in &letters {
        let expected = &bad[n % bad.len()];
        assert!(letter.body() == expected.body, "the body of {n} is changed");
        assert_eq!(letter.header("x-error").as_deref(), Some(&*expected.error));
        let origin = stage.client.name(queues[n % 3]);
        assert_eq!(letter.header("x-origin"), Some(origin));
        let properties = &letter.0.properties;
        let text = |value: &Option<lapin::types::ShortString>| {
            value.as_ref().map(|text| text.as_str().to_owned())
        };
        assert_eq!(text(properties.message_id()), Some(format!("m{n}")));
        assert_eq!(text(properties.app_id()).as_deref(), Some("signaling"));
    }
    let pushes = stage.pushes(200).await;
    assert_eq!(pushes.len(), 200, "nothing bad is pushed");
    let pushed: HashSet<_> = pushes.iter().filter_map(|r| r.token.clone()).collect();
    assert_eq!(pushed, tokens);
    stage.client.holds("dead", 0).await;
    stage.end(worker).await;
}

/// A compressed body is told by the property that says so, whichever way it is
/// compressed; a body that is fine is taken whatever the property says.
#[tokio::test]
async fn a_compressed_body_is_named_in_the_dead_letter() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let encoded =
        |encoding: &str| BasicProperties::default().with_content_encoding(encoding.into());
    let good = ring(&[ios("i", &ios_token())]).to_string().into_bytes();
    let all = [
        (b"x\x9c\xab\x56".to_vec(), encoded("deflate")),
        (b"nothing".to_vec(), encoded("utf-8")),
        (good, encoded("gzip")),
    ];
    stage.client.publish_all("ring.ios", all).await;
    let mut errors = Vec::new();
    for _ in 0..2 {
        errors.push(stage.client.take("dead").await.header("x-error").unwrap());
    }
    errors.sort();
    let deflate =
        "body: is not UTF-8 (byte 2); its content_encoding is \"deflate\": publish plain JSON";
    assert_eq!(errors, ["body: is not JSON (line 1, column 2)", deflate]);
    assert_eq!(stage.pushes(1).await.len(), 1);
    stage.end(worker).await;
}

/// A mistyped key is somebody's lost call; it is kept instead.
#[tokio::test]
async fn a_mistyped_key_ends_in_the_dead_queue() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let event = ring(&[ios("i", &ios_token())]);
    stage.client.publish("ring.iso", &event).await;
    let letter = stage.client.take("dead").await;
    assert_eq!(letter.json(), event);
    assert_eq!(letter.key(), "ring.iso");
    assert!(stage.pushes(0).await.is_empty());
    stage.end(worker).await;
}

/// Every worker reads a cancel from the stream, but one dead letter is enough.
#[tokio::test]
async fn a_malformed_cancel_is_one_dead_letter() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let second = stage.worker().await;
    let cancel =
        json!({"v": 1, "event": "cancel", "call_id": "c", "sent_at": "2026-09-21T14:13:20Z"});
    stage.client.publish("cancel", &cancel).await;
    let letter = stage.client.take("dead").await;
    assert_eq!(
        letter.header("x-error").as_deref(),
        Some("event_id: required")
    );
    assert_eq!(letter.header("x-origin"), Some(stage.client.name("calls")));
    let mut second = second;
    assert_eq!(second.stop().await, 0);
    stage.client.holds("dead", 0).await;
    stage.end(worker).await;
}
