//! What need not be there and is wrong silences no phone.

use proptest::prelude::*;
use proptest::sample::select;

use super::agree::any_text;
use super::*;

/// Every field that need not be there, as a JSON pointer; `sealed` aside, which
/// nothing in clear may take the place of.
const OPTIONAL: &[&str] = &[
    "/call_uuid",
    "/expires_at",
    "/media",
    "/caller/name",
    "/caller/handle",
    "/caller/handle_type",
    "/caller/avatar_url",
    "/callee",
    "/callee/id",
    "/callee/name",
    "/conversation",
    "/conversation/type",
    "/conversation/id",
    "/conversation/name",
    "/reason",
    "/profile",
    "/data",
    "/devices/0/environment",
    "/devices/0/registered_at",
    "/devices/0/alert_token",
    "/devices/0/data",
];

/// A ring or a cancel with this JSON in that place.
fn event_with(cancel: bool, pointer: &str, json: &str) -> String {
    let mut event = agree::full(cancel);
    let (object, field) = pointer.rsplit_once('/').unwrap();
    let object = event.pointer_mut(object).unwrap().as_object_mut().unwrap();
    object.insert(field.to_owned(), json!("PLACE"));
    event.to_string().replace(r#""PLACE""#, json)
}

fn any_json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..4)
                .prop_map(|map| map.into_iter().collect()),
        ]
    });
    prop_oneof![value.prop_map(|value| value.to_string()), any_text()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..Default::default() })]

    #[test]
    fn an_event_with_one_odd_field_that_need_not_be_there_counts_all_the_same(
        cancel in any::<bool>(),
        pointer in select(OPTIONAL),
        json in any_json(),
    ) {
        let body = event_with(cancel, pointer, &json);
        let event = Event::decode(body.as_bytes(), LIMITS);
        prop_assert!(event.is_ok(), "{pointer} = {json}: {event:?}");
        let event = event.unwrap();
        for entry in event.devices() {
            prop_assert!(entry.device.is_ok(), "{pointer} = {json}: {entry:?}");
        }
        let latest = event.sent_at.plus(LIMITS.max_ttl);
        prop_assert!(event.expires_at <= latest);
    }
}

#[test]
fn what_was_ignored_is_named_for_each_device_that_it_concerns() {
    let event = with(|e| {
        e["expires_at"] = json!("soon");
        e["caller"]["name"] = json!(7);
        e["devices"][0]["environment"] = json!("staging");
        e["devices"][0]["registered_at"] = json!(1_790_000_000);
    })
    .unwrap();
    assert_eq!(event.expires_at, event.sent_at.plus(LIMITS.ttl));
    assert_eq!(event.caller().unwrap().name, None);
    let of_event = "ignored: expires_at: must be an RFC 3339 date and time with an offset; \
                    caller.name: must be a string";
    assert_eq!(event.ignored.as_deref(), Some(of_event));
    let [first, second] = [0, 1].map(|n| event.devices()[n].device.clone().unwrap());
    assert_eq!((first.environment, first.registered_at), (None, None));
    let of_first = format!(
        "{of_event}; devices[0].environment: must be one of: production, sandbox, auto; \
         devices[0].registered_at: must be a string"
    );
    assert_eq!(first.ignored.as_deref(), Some(&*of_first));
    assert_eq!(second.ignored.as_deref(), Some(of_event));
}

#[test]
fn an_object_without_what_makes_it_one_is_ignored_whole() {
    let event = with(|e| e["callee"] = json!({"name": "Bob"})).unwrap();
    assert_eq!(event.callee, None);
    assert_eq!(
        event.ignored.as_deref(),
        Some("ignored: callee.id: required")
    );
}

#[test]
fn phps_empty_array_is_an_empty_object() {
    let event = with(|e| {
        e["data"] = json!([]);
        e["devices"][0]["data"] = json!([]);
    });
    let event = event.unwrap();
    assert_eq!(event.ignored, None);
    assert!(event.data.0.is_empty());
    assert!(with(|e| e["data"] = json!([1])).unwrap().ignored.is_some());
}

#[test]
fn whom_a_cancel_is_for_must_be_readable() {
    let mut event = agree::full(true);
    event["reason"] = json!("shift_ended");
    event["caller"] = json!("nobody");
    let cancel = decode(&event).unwrap();
    assert_eq!((cancel.reason(), cancel.caller()), (None, None));
    for devices in [json!("phone-1"), json!({"id": "phone-1"})] {
        event["devices"] = devices;
        assert_eq!(decode(&event).unwrap_err().path, "devices");
    }
    event["devices"] = json!(["phone-1"]);
    assert!(!decode(&event).unwrap().devices().is_empty());
}

#[test]
fn a_payload_in_clear_never_takes_the_place_of_a_sealed_one() {
    for sealed in [json!({"kid": "k"}), json!("x"), json!([])] {
        let event = with(|e| e["devices"][0]["sealed"] = sealed).unwrap();
        assert!(event.devices()[0].device.is_err() && event.devices()[1].device.is_ok());
    }
}

#[test]
fn half_a_character_is_replaced_where_text_is_for_people() {
    let body = |name: &str| ring().to_string().replace("Alice Martin", name);
    for (name, read) in [
        (r"Ada \ud83d", "Ada \u{fffd}"),
        (r"\ude00\ud83d\ude00\ud83d\u0041", "\u{fffd}😀\u{fffd}A"),
        (r"\\ud83d\ud83d\\", "\\ud83d\u{fffd}\\"),
    ] {
        let event = Event::decode(body(name).as_bytes(), LIMITS).unwrap();
        assert_eq!(event.caller().unwrap().name.as_deref(), Some(read));
        assert_eq!(event.ignored, None);
    }
    let data = ring()
        .to_string()
        .replace(r#""a":1"#, r#""a":"x\ud83d","b\ud83d":1"#);
    let event = Event::decode(data.as_bytes(), LIMITS).unwrap();
    assert_eq!(event.data.0["a"], "x\u{fffd}");
    // Another id is another call.
    let id = ring().to_string().replace("room-42", r"room\ud83d");
    assert_eq!(
        Event::decode(id.as_bytes(), LIMITS).unwrap_err().path,
        "call_id"
    );
    let token = ring().to_string().replace("x:y_z", r"x:\ud83d");
    let event = Event::decode(token.as_bytes(), LIMITS).unwrap();
    let bad = event.devices()[1].device.as_ref().unwrap_err();
    assert_eq!(bad.reason, "invalid_token");
}

#[test]
fn what_a_body_is_instead_of_json_is_named() {
    let error = |body: &[u8]| Event::decode(body, LIMITS).unwrap_err().to_string();
    let gzip = "body: is compressed with gzip; publish plain JSON";
    assert_eq!(error(b"\x1f\x8b\x08\0\0\0\0\0"), gzip);
    assert_eq!(error(b"{\"v\":\"\xe9\"}"), "body: is not UTF-8 (byte 7)");
    assert_eq!(error(b"\xff\xfe{\0"), "body: is not UTF-8 (byte 1)");
}

#[test]
fn a_time_without_seconds_is_named_as_such() {
    for time in ["2026-11-28T02:41Z", "2026-11-28T02:41+01:00"] {
        let error = with(|e| e["sent_at"] = json!(time))
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("sent_at: has no seconds"), "{error}");
    }
    for time in [
        "2026-11-28T25:41Z",
        "2026-11-28T02:41",
        "2026-11-28",
        "é26-11-28T02:4é",
    ] {
        let error = with(|e| e["sent_at"] = json!(time))
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("sent_at: must be an RFC 3339"), "{error}");
    }
}

#[test]
fn a_token_rings_once_per_event() {
    let reasons = |devices: Value| {
        let event = with(|e| e["devices"] = devices).unwrap();
        let reason = |entry: &DeviceEntry| entry.device.as_ref().err().map(|bad| bad.reason);
        event.devices().iter().map(reason).collect::<Vec<_>>()
    };
    let with_token = |mut device: Value, token: &str| {
        device["token"] = json!(token);
        device
    };
    let same = Some("duplicate_token");
    assert_eq!(
        reasons(json!([ios("1"), ios("2"), ios("3")])),
        [None, same, same]
    );
    // In APNs' hexadecimal letters' case means nothing, in FCM's tokens all.
    let case = json!([
        ios("1"),
        with_token(ios("2"), "00FFaa"),
        with_token(android("3"), "t"),
        with_token(android("4"), "T"),
    ]);
    assert_eq!(reasons(case), [None, same, None, None]);
    let mut other_app = ios("2");
    other_app["app"] = json!("com.example.other");
    let others = json!([ios("1"), other_app, with_token(android("3"), "00ffAA")]);
    assert_eq!(reasons(others), [None, None, None]);
    // An installation id is no token, though they look the same.
    let fid = |id| json!({"id": id, "platform": "android", "app": "a", "fid": "t"});
    let targets = json!([with_token(android("1"), "t"), fid("2"), fid("3")]);
    assert_eq!(reasons(targets), [None, None, same]);
    // A bad entry takes no good one's place.
    let mut bad = ios("1");
    bad["app"] = json!("");
    assert_eq!(
        reasons(json!([bad, ios("2")])),
        [Some("invalid_device"), None]
    );
    let event = with(|e| e["devices"] = json!([ios("1"), ios("2")])).unwrap();
    let second = event.devices()[1].device.clone().unwrap_err();
    assert_eq!(second.id.as_deref(), Some("2"));
    assert_eq!(second.error.path, "devices[1].token");
}
