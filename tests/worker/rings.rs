//! A ring reaches the right phone's service, exactly as it should.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{SecondsFormat, Utc};
use ringpush::simulator::{Options, Record, ServerKind};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::events::{APP, android, android_token, ios, ios_token, ring};
use crate::support::stage::Stage;

/// Namespace of push ids, as the documentation of events has it.
const PUSH_IDS: Uuid = Uuid::from_u128(0x96f7_f73d_472f_4b8c_9cd4_cc87_7cca_1c6c);

/// The moment of the fixtures.
const FIXTURES_AT: i64 = 1_790_000_000_000;

fn fixture(profile: &str, file: &str) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/profiles");
    std::fs::read_to_string(format!("{folder}/{profile}/{file}")).expect("a fixture")
}

/// An example event as if sent now, and what turns its fixtures' numbers into
/// those of today.
struct Example {
    event: Value,
    sent: i64,
    expires: i64,
    life: i64,
}

impl Example {
    fn of(profile: &str) -> Self {
        let mut event: Value =
            serde_json::from_str(&fixture(profile, "ring.event.json")).expect("JSON");
        let millis = |field: &Value| {
            chrono::DateTime::parse_from_rfc3339(field.as_str().expect("text"))
                .expect("a time")
                .timestamp_millis()
        };
        let life = millis(&event["expires_at"]) - FIXTURES_AT;
        let now = Utc::now();
        let text = |at: chrono::DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Millis, true);
        event["sent_at"] = text(now).into();
        event["expires_at"] = text(now + chrono::Duration::milliseconds(life)).into();
        event["event_id"] = Uuid::new_v4().to_string().into();
        let sent = now.timestamp_millis();
        Self {
            event,
            sent,
            expires: sent + life,
            life,
        }
    }

    fn device(&self, platform: &str) -> &Value {
        let devices = self.event["devices"].as_array().expect("devices");
        let found = devices.iter().find(|d| d["platform"] == platform);
        found.expect("one of each platform")
    }

    /// The same event with the devices of one platform only.
    fn only(&self, platform: &str) -> Value {
        let mut event = self.event.clone();
        event["devices"] = json!([self.device(platform)]);
        event
    }

    /// What the profile is known to make of it, at the times of today.
    /// `duration` is what is left when a payload is made: taken from what
    /// arrived, after a look whether it can be.
    fn expected(&self, file: &str, arrived: &str) -> String {
        let profile = self.event["profile"].as_str().expect("a profile");
        let old: Value =
            serde_json::from_str(&fixture(profile, "ring.event.json")).expect("the same event");
        let id = |event: &Value| event["event_id"].as_str().expect("an id").to_owned();
        let text = fixture(profile, file)
            .replace(&id(&old), &id(&self.event))
            .replace(
                &(FIXTURES_AT + self.life).to_string(),
                &self.expires.to_string(),
            )
            .replace(&FIXTURES_AT.to_string(), &self.sent.to_string());
        let Some((before, after)) = split_duration(&text) else {
            return text;
        };
        let left: i64 = split_duration(arrived)
            .map(|(before, after)| &arrived[before.len()..arrived.len() - after.len()])
            .and_then(|number| number.parse().ok())
            .expect("a duration");
        assert!(left <= self.life && left > self.life - 20_000, "{left}");
        format!("{before}{left}{after}")
    }
}

/// A payload before and after the number of its `duration`.
fn split_duration(text: &str) -> Option<(&str, &str)> {
    let key = "\"duration\":";
    let mut from = text.find(key)? + key.len();
    from += usize::from(text[from..].starts_with('"'));
    let digits = text[from..].bytes().take_while(u8::is_ascii_digit).count();
    Some((&text[..from], &text[from + digits..]))
}

fn headers(record: &Record) -> BTreeMap<String, String> {
    let pairs = record.headers.iter();
    pairs
        .map(|(name, value)| {
            (
                name.to_string(),
                value.to_str().expect("printable").to_owned(),
            )
        })
        .collect()
}

/// Exactly what "Sending notification requests to APNs" asks for, and nothing
/// more.
fn check_ios(example: &Example, record: &Record) {
    let device = example.device("ios");
    let token = device["token"].as_str().expect("a token");
    assert_eq!(record.server, ServerKind::ApnsProduction);
    assert_eq!(record.method, "POST");
    assert_eq!(record.path, format!("/3/device/{token}"));
    let id = push_id(&example.event, device);
    let body = String::from_utf8(record.body.to_vec()).expect("UTF-8");
    let expected = [
        ("apns-push-type", "voip".to_owned()),
        ("apns-topic", format!("{APP}.voip")),
        ("apns-priority", "10".to_owned()),
        ("apns-expiration", (example.expires / 1000).to_string()),
        ("apns-id", id),
        ("content-length", body.len().to_string()),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value));
    assert_eq!(headers(record), BTreeMap::from(expected));
    let claims = record.claims.as_ref().expect("a provider token");
    let options = Options::default();
    assert_eq!(claims.iss.as_deref(), Some(&*options.team_id));
    assert_eq!(claims.kid.as_deref(), Some(&*options.key_id));
    assert_eq!(body, example.expected("ring.ios.json", &body));
    assert!(record.violations.is_empty(), "{:?}", record.violations);
}

/// A data message of high priority and nothing that the system would draw.
fn check_android(example: &Example, record: &Record) {
    let device = example.device("android");
    assert_eq!(record.server, ServerKind::Fcm);
    assert_eq!(record.method, "POST");
    assert_eq!(record.path, "/v1/projects/ringpush-sim/messages:send");
    assert_eq!(record.header("content-type"), Some("application/json"));
    let body = String::from_utf8(record.body.to_vec()).expect("UTF-8");
    let ttl = record.json().expect("JSON")["message"]["android"]["ttl"].clone();
    let seconds = ttl.as_str().and_then(|ttl| ttl.strip_suffix('s'));
    let seconds: i64 = seconds.and_then(|s| s.parse().ok()).expect("seconds");
    let life = example.life / 1000;
    // Whole seconds that are left, rounded down: it was sent a moment ago.
    assert!(seconds < life && seconds > life - 20, "{seconds}");
    let data = example.expected("ring.android.json", &body);
    let token = &device["token"];
    let expected = format!(
        "{{\"message\":{{\"token\":{token},\"data\":{data},\
         \"android\":{{\"priority\":\"HIGH\",\"ttl\":\"{seconds}s\"}}}}}}"
    );
    assert_eq!(body, expected);
    assert!(record.violations.is_empty(), "{:?}", record.violations);
}

fn push_id(event: &Value, device: &Value) -> String {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let name = format!("{}/{}", text(&event["event_id"]), text(&device["id"]));
    Uuid::new_v5(&PUSH_IDS, name.as_bytes()).to_string()
}

fn to(records: &[Arc<Record>], apple: bool) -> &Arc<Record> {
    let mut found = records.iter();
    found
        .find(|record| (record.server != ServerKind::Fcm) == apple)
        .expect("a push to this service")
}

/// The key `ring.ios` rings iPhones, with exactly the headers and bytes that
/// Apple and the app expect. One profile a test, so that each is seen alone.
async fn rings_on_ios(profile: &str) {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let example = Example::of(profile);
    stage.client.publish("ring.ios", &example.only("ios")).await;
    check_ios(&example, &stage.pushes(1).await[0]);
    stage.end(worker).await;
}

/// The key `ring.android` rings Android phones, with exactly the JSON that
/// Google and the app expect.
async fn rings_on_android(profile: &str) {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let example = Example::of(profile);
    let event = example.only("android");
    stage.client.publish("ring.android", &event).await;
    check_android(&example, &stage.pushes(1).await[0]);
    stage.end(worker).await;
}

/// The key `ring` rings phones of both platforms.
async fn rings_on_both(profile: &str) {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let example = Example::of(profile);
    stage.client.publish("ring", &example.event).await;
    let records = stage.pushes(2).await;
    check_ios(&example, to(&records, true));
    check_android(&example, to(&records, false));
    stage.end(worker).await;
}

#[tokio::test]
async fn plain_rings_on_its_own_keys() {
    rings_on_ios("plain").await;
    rings_on_android("plain").await;
}

#[tokio::test]
async fn chime_rings_on_its_own_keys() {
    rings_on_ios("chime").await;
    rings_on_android("chime").await;
}

#[tokio::test]
async fn cometchat_rings_on_its_own_keys() {
    rings_on_ios("cometchat_skill").await;
    rings_on_android("cometchat_skill").await;
}

#[tokio::test]
async fn plain_rings_on_both_platforms_at_once() {
    rings_on_both("plain").await;
}

#[tokio::test]
async fn chime_and_cometchat_ring_on_both_platforms_at_once() {
    rings_on_both("chime").await;
    rings_on_both("cometchat_skill").await;
}

/// A producer that takes the wrong queue still makes the phone ring.
#[tokio::test]
async fn a_phone_on_the_other_platforms_queue_rings() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let mut outcomes = stage.client.outcomes().await;
    let (iphone, pixel) = (ios_token(), android_token());
    let (mine, other) = (ios("i", &iphone), android("a", &pixel));
    stage
        .client
        .publish("ring.ios", &ring(std::slice::from_ref(&other)))
        .await;
    stage
        .client
        .publish("ring.android", &ring(&[other.clone(), mine]))
        .await;
    for outcome in outcomes.pushes(3).await {
        assert_eq!(outcome["result"], "accepted", "{outcome}");
    }
    let records = stage.pushes(3).await;
    let tokens: Vec<_> = records.iter().filter_map(|r| r.token.clone()).collect();
    let count = |token: &String| tokens.iter().filter(|t| *t == token).count();
    assert_eq!((count(&iphone), count(&pixel)), (1, 2));
    stage.end(worker).await;
}

/// Every phone of a large group rings once, whichever queue it came on.
async fn rings_all(key: &str, devices: usize) {
    let stage = Stage::new().await;
    let mut worker = stage.worker().await;
    let all: Vec<Value> = (0..devices)
        .map(|n| match n % 2 {
            0 => ios(&format!("d{n}"), &ios_token()),
            _ => android(&format!("d{n}"), &android_token()),
        })
        .collect();
    let event = ring(&all);
    stage.client.publish(key, &event).await;
    let records = stage.pushes(devices).await;
    let pushed: std::collections::HashSet<_> =
        records.iter().filter_map(|r| r.token.as_deref()).collect();
    for device in &all {
        assert!(pushed.contains(device["token"].as_str().expect("text")));
    }
    assert_eq!(
        (records.len(), pushed.len()),
        (devices, devices),
        "once each"
    );
    assert!(
        worker
            .metric("ringpush_events_total", &["result=\"split\""])
            .await
            >= 1.0
    );
    stage.end(worker).await;
}

#[tokio::test]
async fn a_hundred_and_one_phones_ring() {
    rings_all("ring.ios", 101).await;
}

#[tokio::test]
async fn a_thousand_phones_ring() {
    rings_all("ring", 1000).await;
}
