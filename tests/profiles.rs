//! What each built-in profile makes of an event, byte for byte, and that the
//! keys its apps read are there with the type that they read.

#![allow(clippy::unwrap_used, reason = "tests panic to fail")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ringpush::call::event::{Device, Event, EventKind, Limits, Platform};
use ringpush::call::payload::{CancelMode, Payload, PayloadError, Profile, Profiles};
use ringpush::call::time::Timestamp;
use serde_json::{Value, json};

const LIMITS: Limits = Limits {
    ttl: Duration::from_secs(45),
    max_ttl: Duration::from_secs(120),
};

/// The moment to which all fixtures refer: 2026-09-21T14:13:20Z.
const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);

const NAMES: [&str; 11] = [
    "callkeep",
    "chime",
    "cometchat",
    "cometchat_react_native",
    "cometchat_skill",
    "connectycube",
    "flutter_callkit_incoming",
    "passthrough",
    "plain",
    "stream",
    "telnyx",
];

fn folder(profile: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/profiles")
        .join(profile)
}

fn event(profile: &str, kind: &str) -> Value {
    let path = folder(profile).join(format!("{kind}.event.json"));
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn decode(event: &Value) -> Event {
    Event::decode(event.to_string().as_bytes(), LIMITS).unwrap()
}

fn device(event: &Event, platform: Platform) -> &Device {
    let devices = event.devices().iter().map(|e| e.device.as_ref().unwrap());
    devices
        .into_iter()
        .find(|d| d.platform == platform)
        .unwrap()
}

fn render(profile: &Profile, event: &Value, platform: Platform) -> Result<Payload, PayloadError> {
    let event = decode(event);
    profile.render(&event, device(&event, platform), NOW)
}

/// A payload as text: the body of an iOS push, Android's `data` as an object.
fn text(payload: &Payload) -> String {
    match payload {
        Payload::Ios(body) => String::from_utf8(body.to_vec()).unwrap(),
        Payload::Android(data) => {
            let map: serde_json::Map<String, Value> = serde_json::from_str(data.as_json()).unwrap();
            assert!(map.values().all(Value::is_string), "{map:?}");
            let once = serde_json::to_string(&map).unwrap();
            assert_eq!(once, data.as_json(), "a key stands twice");
            once
        }
    }
}

fn rendered(profile: &str, kind: &str, platform: Platform) -> Value {
    let profiles = Profiles::built_in().unwrap();
    let payload = render(
        profiles.get(profile).unwrap(),
        &event(profile, kind),
        platform,
    );
    serde_json::from_str(&text(&payload.unwrap())).unwrap()
}

#[test]
fn there_are_fixtures_of_every_built_in_profile_and_all_pass_their_own_check() {
    let profiles = Profiles::built_in().unwrap();
    assert_eq!(profiles.names().collect::<Vec<_>>(), NAMES);
    for name in NAMES {
        profiles.get(name).unwrap().check().unwrap();
    }
    let folders = fs::read_dir(folder("")).unwrap();
    let folders: BTreeSet<String> = folders
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(folders.iter().collect::<Vec<_>>(), NAMES);
}

/// With `RINGPUSH_BLESS=1` the files are written instead of compared; read
/// the difference before committing it.
#[test]
fn fixtures_come_out_byte_for_byte() {
    let bless = std::env::var_os("RINGPUSH_BLESS").is_some();
    let profiles = Profiles::built_in().unwrap();
    for name in NAMES {
        for kind in ["ring", "cancel"] {
            for platform in [Platform::Ios, Platform::Android] {
                let file = format!("{kind}.{}.json", platform.name());
                let path = folder(name).join(&file);
                let payload = render(profiles.get(name).unwrap(), &event(name, kind), platform);
                if payload == Err(PayloadError::NoCancel) {
                    assert!(
                        !path.exists(),
                        "{name}: {file} for a cancel that is not pushed"
                    );
                    continue;
                }
                let text = text(&payload.unwrap());
                if bless {
                    fs::write(&path, &text).unwrap();
                }
                assert_eq!(fs::read_to_string(&path).unwrap(), text, "{name}: {file}");
            }
        }
    }
}

/// flutter-webrtc's callkeep makes a `CXHandle` of `caller_id`, by its type.
#[test]
fn callkeeps_caller_id_is_the_handle_with_its_type() {
    let profiles = Profiles::built_in().unwrap();
    let callkeep = profiles.get("callkeep").unwrap();
    for (handle, kind, shown, of_type) in [
        (
            json!("+33123456789"),
            json!("phone"),
            "+33123456789",
            "number",
        ),
        (
            json!("a@example.com"),
            json!("email"),
            "a@example.com",
            "email",
        ),
        (json!("ali"), json!("generic"), "ali", "generic"),
        (json!("ali"), Value::Null, "ali", "generic"),
        // An id is no telephone number, whatever the event calls it.
        (Value::Null, json!("phone"), "user-1", "generic"),
        (json!(""), json!("email"), "user-1", "generic"),
    ] {
        let mut ring = event("callkeep", "ring");
        ring["caller"]["handle"] = handle;
        ring["caller"]["handle_type"] = kind;
        for platform in [Platform::Ios, Platform::Android] {
            let payload = render(callkeep, &ring, platform).unwrap();
            let payload: Value = serde_json::from_str(&text(&payload)).unwrap();
            let both = (&payload["caller_id"], &payload["caller_id_type"]);
            assert_eq!(both, (&json!(shown), &json!(of_type)));
        }
    }
}

#[test]
fn all_data_of_a_chime_call_goes_into_extra_and_a_meeting_is_needed() {
    let profiles = Profiles::built_in().unwrap();
    let chime = profiles.get("chime").unwrap();
    let mut ring = event("chime", "ring");
    ring["data"] = json!({"meeting_id": "m-1", "room": {"floor": 3}, "call_id": "another"});
    let payload = render(chime, &ring, Platform::Ios).unwrap();
    let payload: Value = serde_json::from_str(&text(&payload)).unwrap();
    let extra = &payload["extra"];
    assert_eq!(
        (&extra["meeting_id"], &extra["room"]["floor"]),
        (&json!("m-1"), &json!(3))
    );
    assert_eq!(extra["call_id"], ring["call_id"], "data changes nothing");
    ring["data"] = json!({"room": 3});
    let error = render(chime, &ring, Platform::Ios).unwrap_err();
    assert!(error.to_string().contains("extra.meeting_id"), "{error}");
}

/// What an app reads a value as.
#[derive(Clone, Copy, Debug)]
enum Reads {
    Text,
    Uuid,
    Bool,
    Int,
    Object,
}

/// The keys that apps read, by hand from what each SDK documents: profile,
/// path on iOS, path on Android, what it is read as.
const CLIENT_KEYS: &[(&str, &str, &str, Reads)] = &[
    ("flutter_callkit_incoming", "id", "id", Reads::Uuid),
    (
        "flutter_callkit_incoming",
        "nameCaller",
        "nameCaller",
        Reads::Text,
    ),
    ("flutter_callkit_incoming", "handle", "handle", Reads::Text),
    (
        "flutter_callkit_incoming",
        "isVideo",
        "isVideo",
        Reads::Bool,
    ),
    ("flutter_callkit_incoming", "type", "type", Reads::Int),
    (
        "flutter_callkit_incoming",
        "duration",
        "duration",
        Reads::Int,
    ),
    ("flutter_callkit_incoming", "extra", "extra", Reads::Object),
    (
        "flutter_callkit_incoming",
        "extra.expires_at",
        "expires_at",
        Reads::Int,
    ),
    ("chime", "id", "id", Reads::Uuid),
    ("chime", "nameCaller", "nameCaller", Reads::Text),
    ("chime", "handle", "handle", Reads::Text),
    ("chime", "isVideo", "isVideo", Reads::Bool),
    ("chime", "extra.meeting_id", "extra.meeting_id", Reads::Text),
    (
        "chime",
        "extra.media_region",
        "extra.media_region",
        Reads::Text,
    ),
    ("chime", "extra.expires_at", "extra.expires_at", Reads::Int),
    ("cometchat_skill", "type", "type", Reads::Text),
    ("cometchat_skill", "sessionId", "sessionId", Reads::Text),
    ("cometchat_skill", "callerName", "callerName", Reads::Text),
    ("cometchat_skill", "callerUid", "callerUid", Reads::Text),
    ("cometchat_skill", "callType", "callType", Reads::Text),
    ("cometchat_skill", "timestamp", "timestamp", Reads::Int),
    ("cometchat_skill", "expires_at", "expires_at", Reads::Int),
    ("cometchat_skill", "call_uuid", "call_uuid", Reads::Uuid),
    ("cometchat", "type", "type", Reads::Text),
    ("cometchat", "callAction", "callAction", Reads::Text),
    ("cometchat", "senderName", "senderName", Reads::Text),
    ("cometchat", "senderUid", "senderUid", Reads::Text),
    ("cometchat", "sessionId", "sessionId", Reads::Text),
    ("cometchat", "callType", "callType", Reads::Text),
    ("cometchat", "sentAt", "sentAt", Reads::Int),
    ("cometchat", "receiver", "receiver", Reads::Text),
    ("cometchat", "receiverType", "receiverType", Reads::Text),
    ("cometchat", "conversationId", "conversationId", Reads::Text),
    ("cometchat", "expires_at", "expires_at", Reads::Int),
    ("cometchat", "call_uuid", "call_uuid", Reads::Uuid),
    ("cometchat_react_native", "data.type", "type", Reads::Text),
    (
        "cometchat_react_native",
        "data.callAction",
        "callAction",
        Reads::Text,
    ),
    (
        "cometchat_react_native",
        "data.senderName",
        "senderName",
        Reads::Text,
    ),
    (
        "cometchat_react_native",
        "data.senderUid",
        "senderUid",
        Reads::Text,
    ),
    (
        "cometchat_react_native",
        "data.sessionId",
        "sessionId",
        Reads::Text,
    ),
    (
        "cometchat_react_native",
        "data.callType",
        "callType",
        Reads::Text,
    ),
    (
        "cometchat_react_native",
        "data.sentAt",
        "sentAt",
        Reads::Int,
    ),
    (
        "cometchat_react_native",
        "data.receiver",
        "receiver",
        Reads::Text,
    ),
    (
        "cometchat_react_native",
        "data.receiverType",
        "receiverType",
        Reads::Text,
    ),
    (
        "cometchat_react_native",
        "data.conversationId",
        "conversationId",
        Reads::Text,
    ),
    (
        "cometchat_react_native",
        "data.expires_at",
        "expires_at",
        Reads::Int,
    ),
    (
        "cometchat_react_native",
        "data.call_uuid",
        "call_uuid",
        Reads::Uuid,
    ),
    ("stream", "stream.sender", "sender", Reads::Text),
    ("stream", "stream.type", "type", Reads::Text),
    ("stream", "stream.call_cid", "call_cid", Reads::Text),
    (
        "stream",
        "stream.call_display_name",
        "call_display_name",
        Reads::Text,
    ),
    (
        "stream",
        "stream.created_by_id",
        "created_by_id",
        Reads::Text,
    ),
    (
        "stream",
        "stream.created_by_display_name",
        "created_by_display_name",
        Reads::Text,
    ),
    ("stream", "stream.receiver_id", "receiver_id", Reads::Text),
    ("stream", "stream.video", "video", Reads::Text),
    ("stream", "expires_at", "expires_at", Reads::Int),
    ("stream", "call_uuid", "call_uuid", Reads::Uuid),
    ("callkeep", "uuid", "uuid", Reads::Uuid),
    ("callkeep", "callerName", "callerName", Reads::Text),
    ("callkeep", "handle", "handle", Reads::Text),
    ("callkeep", "hasVideo", "hasVideo", Reads::Bool),
    ("callkeep", "caller_id", "caller_id", Reads::Text),
    ("callkeep", "caller_name", "caller_name", Reads::Text),
    ("callkeep", "caller_id_type", "caller_id_type", Reads::Text),
    ("callkeep", "has_video", "has_video", Reads::Bool),
    ("callkeep", "expires_at", "expires_at", Reads::Int),
    (
        "telnyx",
        "metadata.call_id",
        "metadata.call_id",
        Reads::Uuid,
    ),
    (
        "telnyx",
        "metadata.caller_name",
        "metadata.caller_name",
        Reads::Text,
    ),
    (
        "telnyx",
        "metadata.caller_number",
        "metadata.caller_number",
        Reads::Text,
    ),
    ("telnyx", "video", "video", Reads::Bool),
    ("telnyx", "expires_at", "expires_at", Reads::Int),
    ("telnyx", "call_uuid", "call_uuid", Reads::Uuid),
    ("connectycube", "session_id", "session_id", Reads::Uuid),
    ("connectycube", "signal_type", "signal_type", Reads::Text),
    ("connectycube", "call_type", "call_type", Reads::Int),
    ("connectycube", "caller_id", "caller_id", Reads::Int),
    ("connectycube", "caller_name", "caller_name", Reads::Text),
    (
        "connectycube",
        "call_opponents",
        "call_opponents",
        Reads::Text,
    ),
    ("connectycube", "expires_at", "expires_at", Reads::Int),
    ("plain", "v", "v", Reads::Int),
    ("plain", "event", "event", Reads::Text),
    ("plain", "event_id", "event_id", Reads::Uuid),
    ("plain", "call_id", "call_id", Reads::Text),
    ("plain", "call_uuid", "call_uuid", Reads::Uuid),
    ("plain", "media", "media", Reads::Text),
    ("plain", "caller_id", "caller_id", Reads::Text),
    ("plain", "caller_name", "caller_name", Reads::Text),
    ("plain", "caller_handle", "caller_handle", Reads::Text),
    (
        "plain",
        "caller_avatar_url",
        "caller_avatar_url",
        Reads::Text,
    ),
    ("plain", "callee_id", "callee_id", Reads::Text),
    ("plain", "sent_at", "sent_at", Reads::Int),
    ("plain", "expires_at", "expires_at", Reads::Int),
    ("plain", "data", "data", Reads::Object),
];

#[test]
fn every_documented_key_of_every_client_has_the_type_that_the_client_reads() {
    for &(profile, ios, android, reads) in CLIENT_KEYS {
        let payload = rendered(profile, "ring", Platform::Ios);
        let value = ios.split('.').fold(&payload, |at, step| &at[step]);
        assert!(
            ios_has(value, reads),
            "{profile}.{ios} on iOS: {value}, not {reads:?}"
        );

        let payload = rendered(profile, "ring", Platform::Android);
        let (top, nested) = android.split_once('.').unwrap_or((android, ""));
        let text = payload[top].as_str();
        let text = text.unwrap_or_else(|| panic!("{profile}.{top} on Android: no string"));
        if nested.is_empty() {
            assert!(
                android_has(text, reads),
                "{profile}.{android}: {text}, not {reads:?}"
            );
        } else {
            let object: Value = serde_json::from_str(text).unwrap();
            assert!(
                ios_has(&object[nested], reads),
                "{profile}.{android}: {text}"
            );
        }
    }
}

fn ios_has(value: &Value, reads: Reads) -> bool {
    let text = value.as_str().unwrap_or_default();
    match reads {
        Reads::Text => value.is_string(),
        Reads::Uuid => text.len() == 36 && uuid::Uuid::try_parse(text).is_ok(),
        Reads::Bool => value.is_boolean(),
        Reads::Int => value.is_i64(),
        Reads::Object => value.is_object(),
    }
}

fn android_has(text: &str, reads: Reads) -> bool {
    match reads {
        Reads::Text => true,
        Reads::Uuid => ios_has(&json!(text), reads),
        Reads::Bool => matches!(text, "true" | "false"),
        Reads::Int => text.parse::<i64>().is_ok(),
        Reads::Object => serde_json::from_str::<Value>(text).is_ok_and(|v| v.is_object()),
    }
}

#[test]
fn apps_of_callkeep_and_passthrough_get_no_aps_of_ours_and_android_never_has_one() {
    for name in NAMES {
        let ios = rendered(name, "ring", Platform::Ios);
        let own = event(name, "ring")["data"]["ios"].get("aps").is_some();
        assert_eq!(
            ios.get("aps").is_some(),
            name != "callkeep" || own,
            "{name}"
        );
        assert!(
            rendered(name, "ring", Platform::Android)
                .get("aps")
                .is_none(),
            "{name}"
        );
    }
}

#[test]
fn a_voip_cancel_has_every_key_of_its_ring_and_the_same_uuid() {
    let profiles = Profiles::built_in().unwrap();
    let mut found = 0;
    for name in NAMES {
        if profiles.get(name).unwrap().ios_cancel() != CancelMode::Voip {
            continue;
        }
        found += 1;
        let [ring, cancel] = ["ring", "cancel"].map(|kind| {
            let payload = rendered(name, kind, Platform::Ios);
            match name {
                "cometchat_react_native" => payload["data"].clone(),
                _ => payload,
            }
        });
        for key in ring.as_object().unwrap().keys() {
            assert!(cancel.get(key).is_some(), "{name}: {key}");
        }
        assert_eq!(ring["call_uuid"], cancel["call_uuid"], "{name}");
    }
    assert_eq!(
        found, 4,
        "both of cometchat, connectycube and telnyx have such cancels"
    );
}

#[test]
fn a_cancel_without_what_the_clients_need_is_refused_by_the_keys_name() {
    let profiles = Profiles::built_in().unwrap();
    for (name, missing) in [
        ("cometchat", "senderName"),
        ("telnyx", "metadata.caller_name"),
        ("connectycube", "caller_id"),
    ] {
        let mut event = event(name, "cancel");
        event.as_object_mut().unwrap().remove("caller");
        for platform in [Platform::Ios, Platform::Android] {
            let error = render(profiles.get(name).unwrap(), &event, platform).unwrap_err();
            let key = missing.to_owned();
            assert_eq!(error, PayloadError::Missing { key }, "{name}");
        }
    }
}

#[test]
fn the_example_events_render_on_every_device() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/events");
    let profiles = Profiles::built_in().unwrap();
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let event = Event::decode(&fs::read(entry.unwrap().path()).unwrap(), LIMITS).unwrap();
        let name = event.profile.as_deref().unwrap_or("plain");
        for entry in event.devices() {
            let device = entry.device.as_ref().unwrap();
            profiles
                .get(name)
                .unwrap()
                .render(&event, device, NOW)
                .unwrap();
        }
        count += usize::from(event.kind() == EventKind::Ring);
    }
    assert_eq!(count, 7);
}

const DOCS: &str = "docs/profiles.md";

fn docs() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(DOCS)).unwrap()
}

/// The marked JSON blocks of the docs: marker and content, without indent.
fn blocks(docs: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut lines = docs.lines().map(str::trim_start);
    while let Some(line) = lines.next() {
        let marker = line
            .strip_prefix("<!-- ")
            .and_then(|m| m.strip_suffix(" -->"));
        let Some(marker) = marker else { continue };
        assert_eq!(lines.next(), Some("```json"), "after the marker {marker}");
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        blocks.push((marker.to_owned(), block.join("\n")));
    }
    blocks
}

/// With `RINGPUSH_BLESS=1` the payloads in the docs are written instead.
#[test]
fn the_payloads_in_the_docs_are_the_fixtures() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut shown = BTreeSet::new();
    let mut text = docs();
    for (marker, block) in blocks(&text.clone()) {
        if marker == "profile" {
            continue;
        }
        let fixture = fs::read_to_string(root.join(&marker)).unwrap();
        if std::env::var_os("RINGPUSH_BLESS").is_some() {
            let old = format!("<!-- {marker} -->\n```json\n{block}\n");
            text = text.replace(&old, &format!("<!-- {marker} -->\n```json\n{fixture}\n"));
            fs::write(root.join(DOCS), &text).unwrap();
        } else {
            assert_eq!(block, fixture, "{marker}");
        }
        shown.insert(marker.split('/').nth(2).unwrap().to_owned());
    }
    assert_eq!(
        shown.iter().collect::<Vec<_>>(),
        NAMES,
        "profiles in the docs"
    );
}

#[test]
fn the_profiles_in_the_docs_load_and_pass_their_check() {
    let mut profiles = Profiles::built_in().unwrap();
    let mut count = 0;
    for (marker, block) in blocks(&docs()) {
        if marker == "profile" {
            profiles.add("docs", &block).unwrap();
            profiles.get("docs").unwrap().check().unwrap();
            count += 1;
        }
    }
    assert_eq!(count, 2);
}

#[test]
fn the_sealed_budget_in_the_docs_is_exact() {
    let profiles = Profiles::built_in().unwrap();
    let plain = profiles.get("plain").unwrap();
    for (platform, index, budget) in [(Platform::Ios, 0, 5004), (Platform::Android, 1, 4004)] {
        assert!(docs().contains(&format!("| {} {:03} bytes |", budget / 1000, budget % 1000)));
        for (over, fits) in [(0, true), (1, false)] {
            let mut event = event("plain", "ring");
            let ct = "A".repeat(budget - "2026-09".len() + over);
            event["devices"][index]["sealed"] = json!({"kid": "2026-09", "ct": ct});
            assert_eq!(
                render(plain, &event, platform).is_ok(),
                fits,
                "{platform:?}"
            );
        }
    }
}

#[test]
fn the_docs_name_every_reason_and_every_profile() {
    let docs = docs();
    let key = || "k".to_owned();
    for error in [
        PayloadError::TooLarge {
            size: 2,
            limit: 1,
            largest_key: key(),
            largest_size: 2,
        },
        PayloadError::Missing { key: key() },
        PayloadError::NotUuid { key: key() },
        PayloadError::ReservedKey { key: key() },
        PayloadError::NotObject { key: key() },
        PayloadError::Expression {
            key: key(),
            problem: "x".into(),
        },
        PayloadError::Empty,
        PayloadError::NoCancel,
    ] {
        assert!(
            docs.contains(&format!("| `{}` |", error.reason())),
            "{error}"
        );
    }
    for name in NAMES {
        assert!(docs.contains(&format!("### `{name}`")), "{name}");
    }
}
