use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::*;

mod agree;
mod odd;

const LIMITS: Limits = Limits {
    ttl: Duration::from_secs(45),
    max_ttl: Duration::from_secs(120),
};

fn ring() -> Value {
    json!({
        "v": 1, "event": "ring",
        "event_id": "0d5c1f7e-3c55-4f0e-9a10-6a3f0a7be001",
        "call_id": "room-42", "sent_at": "2026-09-21T14:13:20Z",
        "caller": {"id": "user-1", "name": "Alice Martin"},
        "data": {"a": 1, "b": 2},
        "devices": [ios("phone-1"), android("phone-2")]
    })
}

fn ios(id: &str) -> Value {
    json!({"id": id, "platform": "ios", "app": "com.example.calls", "token": "00ffAA"})
}

fn android(id: &str) -> Value {
    json!({"id": id, "platform": "android", "app": "com.example.calls", "token": "x:y_z"})
}

fn decode(event: &Value) -> Result<Event, EventError> {
    Event::decode(event.to_string().as_bytes(), LIMITS)
}

fn with(change: impl FnOnce(&mut Value)) -> Result<Event, EventError> {
    let mut event = ring();
    change(&mut event);
    decode(&event)
}

fn bad_device(device: &Value) -> BadDevice {
    let event = with(|e| e["devices"] = json!([device, android("fine")])).unwrap();
    assert!(
        event.devices()[1].device.is_ok(),
        "one bad device took another with it"
    );
    *event.devices()[0].device.clone().unwrap_err()
}

#[test]
fn defaults_are_filled_in() {
    let event = with(|_| ()).unwrap();
    assert_eq!(event.media, Media::Audio);
    assert_eq!(
        event.expires_at,
        event.sent_at.plus(Duration::from_secs(45))
    );
    assert_eq!(event.call_uuid, crate::call::ids::call_uuid("room-42"));
}

#[test]
fn the_deadline_is_clamped_to_the_longest_allowed() {
    let event = with(|e| e["expires_at"] = json!("2026-09-21T15:00:00Z")).unwrap();
    assert_eq!(
        event.expires_at,
        event.sent_at.plus(Duration::from_secs(120))
    );
}

#[test]
fn device_data_is_merged_over_the_events() {
    let event = with(|e| e["devices"][0]["data"] = json!({"b": 3, "c": 4})).unwrap();
    let data = &event.devices()[0].device.as_ref().unwrap().data;
    assert_eq!(
        Value::Object((*data.0).clone()),
        json!({"a": 1, "b": 3, "c": 4})
    );
}

#[test]
fn null_means_absent_for_what_is_optional_and_missing_for_what_is_not() {
    assert!(with(|e| e["expires_at"] = Value::Null).is_ok());
    let error = with(|e| e["call_id"] = Value::Null).unwrap_err();
    assert_eq!(error.to_string(), "call_id: required");
}

#[test]
fn bad_devices_say_which_and_why_and_leave_the_others_alone() {
    let bad = bad_device(&json!({"id": "d", "platform": "ios", "app": "a", "token": "xyz"}));
    assert_eq!(
        (bad.reason, bad.error.path.as_str()),
        ("invalid_token", "devices[0].token")
    );
    let bad = bad_device(&json!({"id": "d", "platform": "ios", "app": "a"}));
    assert_eq!(
        (bad.reason, bad.error.path.as_str()),
        ("invalid_token", "devices[0].token")
    );
    let bad = bad_device(&json!({"id": "d", "platform": "fridge", "app": "a", "token": "aa"}));
    assert_eq!(
        (bad.reason, bad.platform),
        ("unknown_platform", Platform::Unknown)
    );
    assert_eq!(bad.app.as_deref(), Some("a"));
    let bad = bad_device(&json!({"platform": "ios", "app": "a", "token": "aa"}));
    assert_eq!((bad.reason, bad.id.as_deref()), ("invalid_device", None));
    let bad = bad_device(&json!("no object"));
    assert_eq!(bad.error.to_string(), "devices[0]: must be an object");
}

#[test]
fn an_unknown_field_is_ignored_whatever_is_in_it() {
    let deep = "[".repeat(1000) + &"]".repeat(1000);
    let text = ring().to_string();
    let inner = &text[1..text.len() - 1];
    for odd in [deep.as_str(), "1e999", r#""\ud800""#] {
        let body = format!(r#"{{"x":{odd},{inner}}}"#);
        Event::decode(body.as_bytes(), LIMITS).unwrap();
    }
}

#[test]
fn what_no_value_can_hold_is_named_by_its_field() {
    let body = ring().to_string().replace(r#""a":1"#, r#""a":1e999"#);
    let event = Event::decode(body.as_bytes(), LIMITS).unwrap();
    let ignored = event.ignored.as_deref().unwrap();
    assert!(ignored.starts_with("ignored: data: is nested"), "{ignored}");
    let body = ring().to_string().replacen(
        r#""id":"phone-1""#,
        r#""id":"phone-1","sealed":{"kid":1e999}"#,
        1,
    );
    let event = Event::decode(body.as_bytes(), LIMITS).unwrap();
    let bad = event.devices()[0].device.as_ref().unwrap_err();
    assert_eq!(
        (bad.id.as_deref(), bad.error.path.as_str(), bad.reason),
        (Some("phone-1"), "devices[0].sealed.kid", "invalid_device")
    );
    assert!(event.devices()[1].device.is_ok());
}

#[test]
fn an_alert_token_that_no_value_can_hold_leaves_the_device_alone() {
    let body = ring().to_string().replacen(
        r#""id":"phone-1""#,
        r#""id":"phone-1","alert_token":1e999"#,
        1,
    );
    let event = Event::decode(body.as_bytes(), LIMITS).unwrap();
    let device = event.devices()[0].device.as_ref().unwrap();
    let (reason, detail) = device.background_token().unwrap_err();
    assert_eq!(reason, "invalid_alert_token");
    assert!(
        detail.starts_with("devices[0].alert_token: is nested"),
        "{detail}"
    );
    // Beside another field that is unreadable it does not hide that one.
    let body = body.replacen(
        r#""alert_token":1e999"#,
        r#""alert_token":1e999,"sealed":1e999"#,
        1,
    );
    let event = Event::decode(body.as_bytes(), LIMITS).unwrap();
    let bad = event.devices()[0].device.as_ref().unwrap_err();
    assert_eq!(bad.error.path, "devices[0].sealed");
}

#[test]
fn the_second_of_two_devices_with_one_id_is_the_bad_one() {
    let event = with(|e| e["devices"] = json!([ios("d"), android("d")])).unwrap();
    assert!(event.devices()[0].device.is_ok());
    assert_eq!(
        event.devices()[1].device.as_ref().unwrap_err().reason,
        "duplicate_device"
    );
}

#[test]
fn errors_never_quote_values() {
    let body = br#"{"v":1,"event":"ring","call_id":"s3cret" oops"#;
    let error = Event::decode(body, LIMITS).unwrap_err().to_string();
    assert!(error.starts_with("body: is not JSON (line 1"), "{error}");
    assert!(!error.contains("s3cret"), "{error}");
    let event = with(|e| e["media"] = json!("s3cret")).unwrap();
    let ignored = "ignored: media: must be one of: audio, video";
    assert_eq!(event.ignored.as_deref(), Some(ignored));
}

#[test]
fn debug_shows_no_token_and_no_name() {
    let event = with(|e| e["devices"][1]["token"] = json!("tok3n")).unwrap();
    let debug = format!("{event:?}");
    for secret in ["tok3n", "00ffAA", "Alice", "user-1"] {
        assert!(!debug.contains(secret), "{secret} in {debug}");
    }
}

#[test]
fn a_byte_order_mark_before_a_body_is_ignored() {
    let body = format!("\u{feff}{}", ring());
    let event = Event::decode(body.as_bytes(), LIMITS).unwrap();
    assert_eq!(event, decode(&ring()).unwrap());
    let parts = split(body.as_bytes(), &event).unwrap();
    assert_eq!(parts.len(), 2);
    // Columns are those that an editor shows.
    let error = |body: &str| Event::decode(body.as_bytes(), LIMITS).unwrap_err();
    assert_eq!(error("\u{feff}{\"v\": x"), error("{\"v\": x"));
    // One mark, and only in front.
    assert!(Event::decode(format!("\u{feff}{body}").as_bytes(), LIMITS).is_err());
}

#[test]
fn splitting_keeps_every_byte_of_every_field() {
    let body = br#"{"v":1, "event":"ring","event_id":"0d5c1f7e-3c55-4f0e-9a10-6a3f0a7be001","call_id":"c",
      "sent_at":"2026-09-21T14:13:20Z","caller":{"id":"u"},"data":{"n":12345678901234567890123, "f": 1.50},
      "devices":[{"id":"1","platform":"ios","app":"a","token":"aa","x":1.50},{"id":"2","platform":"android","app":"a","token":"t"},
      {"id":"3","platform":"fridge"}]}"#;
    let event = Event::decode(body, LIMITS).unwrap();
    let parts = split(body, &event).unwrap();
    let texts: Vec<_> = parts
        .iter()
        .map(|p| std::str::from_utf8(&p.body).unwrap().to_owned())
        .collect();
    assert_eq!(
        parts
            .iter()
            .map(|p| p.number.to_string())
            .collect::<Vec<_>>(),
        ["1/2", "2/2"]
    );
    assert!(
        texts[0].contains(r#"{"n":12345678901234567890123, "f": 1.50}"#),
        "{}",
        texts[0]
    );
    assert!(
        texts[0].contains(r#""x":1.50"#) && !texts[0].contains("android"),
        "{}",
        texts[0]
    );
    assert!(
        texts[1].contains("android") && !texts[1].contains("fridge"),
        "{}",
        texts[1]
    );
}

#[test]
fn parts_hold_at_most_a_hundred_devices_of_one_platform() {
    let devices: Vec<Value> = (0..250)
        .map(|n| {
            let id = n.to_string();
            let mut device = if n % 5 == 0 { ios(&id) } else { android(&id) };
            device["token"] = json!(format!("{n:04}"));
            device
        })
        .collect();
    let event = with(|e| e["devices"] = json!(devices)).unwrap();
    let mut whole = ring();
    whole["devices"] = json!(devices);
    let parts = split(whole.to_string().as_bytes(), &event).unwrap();
    let sizes: Vec<_> = parts
        .iter()
        .map(|p| {
            (
                p.platform,
                Event::decode(&p.body, LIMITS).unwrap().devices().len(),
            )
        })
        .collect();
    assert_eq!(
        sizes,
        [
            (Platform::Ios, 50),
            (Platform::Android, 100),
            (Platform::Android, 100)
        ]
    );
    assert_eq!(parts[2].number, PartNumber { part: 3, parts: 3 });
}

#[test]
fn part_numbers_read_as_they_are_written() {
    assert_eq!("2/3".parse(), Ok(PartNumber { part: 2, parts: 3 }));
    for bad in ["", "1", "0/1", "2/1", "a/b", "1/2/3"] {
        assert!(bad.parse::<PartNumber>().is_err(), "{bad}");
    }
}
