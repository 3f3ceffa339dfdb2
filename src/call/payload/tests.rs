use std::sync::{Arc, LazyLock};
use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::call::event::{Device, Event, EventKind, Limits, Platform};
use crate::call::time::Timestamp;

mod hostile;
mod language;

const LIMITS: Limits = Limits {
    ttl: Duration::from_secs(45),
    max_ttl: Duration::from_secs(120),
};

const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);

const PLATFORMS: [Platform; 2] = [Platform::Ios, Platform::Android];

fn ring() -> Value {
    json!({
        "v": 1, "event": "ring",
        "event_id": "0d5c1f7e-3c55-4f0e-9a10-6a3f0a7be001",
        "call_id": "room-42", "sent_at": "2026-09-21T14:13:20Z",
        "caller": {"id": "1001", "name": "Alice Martin", "handle": "alice@example.com"},
        "callee": {"id": "1002", "name": "Bob"},
        "data": {"meeting_id": "m-1", "media_region": "us-east-1"},
        "devices": [
            {"id": "i", "platform": "ios", "app": "com.example.calls", "token": "70ce"},
            {"id": "a", "platform": "android", "app": "com.example.calls", "token": "t0ken"}
        ]
    })
}

fn cancel() -> Value {
    let mut event = ring();
    event["event"] = json!("cancel");
    event["reason"] = json!("timeout");
    event
}

fn decode(event: &Value) -> Event {
    Event::decode(event.to_string().as_bytes(), LIMITS).unwrap()
}

fn device(event: &Event, platform: Platform) -> &Device {
    let mut devices = event.devices().iter().map(|e| e.device.as_ref().unwrap());
    devices.find(|d| d.platform == platform).unwrap()
}

/// Built once: it takes longer than to render with them all.
static BUILT_IN: LazyLock<Profiles> = LazyLock::new(|| Profiles::built_in().unwrap());

fn built_in(name: &str) -> Arc<Profile> {
    Arc::clone(BUILT_IN.get(name).unwrap())
}

fn own(profile: &Value) -> Result<Arc<Profile>, ProfileError> {
    let mut profiles = Profiles::built_in().unwrap();
    profiles.add("own", &profile.to_string())?;
    Ok(Arc::clone(profiles.get("own").unwrap()))
}

fn render(profile: &Profile, event: &Value, platform: Platform) -> Result<Payload, PayloadError> {
    let event = decode(event);
    profile.render(&event, device(&event, platform), NOW)
}

/// The iOS body, or Android's data, as JSON.
fn json_of(payload: &Payload) -> Value {
    match payload {
        Payload::Ios(body) => serde_json::from_slice(body).unwrap(),
        Payload::Android(data) => serde_json::from_str(data.as_json()).unwrap(),
    }
}

fn rendered(profile: &Profile, event: &Value, platform: Platform) -> Value {
    json_of(&render(profile, event, platform).unwrap())
}

/// A profile of one ring key.
fn one_key(value: &Value) -> Arc<Profile> {
    own(&json!({"aps": null, "ring": {"both": {"k": value, "event": "ring"}}})).unwrap()
}
