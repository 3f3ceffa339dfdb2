//! Events as a signaling service makes them.

use chrono::{Duration, SecondsFormat, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

/// The app of the simulator's configuration.
pub(crate) const APP: &str = "com.example.calls";

/// A moment so many seconds from now, RFC 3339.
pub(crate) fn at(seconds: i64) -> String {
    (Utc::now() + Duration::seconds(seconds)).to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// A ring that was sent just now.
pub(crate) fn ring(devices: &[Value]) -> Value {
    json!({
        "v": 1, "event": "ring", "event_id": Uuid::new_v4(),
        "call_id": format!("call-{}", Uuid::new_v4().simple()), "sent_at": at(0),
        "caller": {"id": "u-caller", "name": "Ada Example", "handle": "+15550100", "handle_type": "phone"},
        "devices": devices,
    })
}

/// The cancel of a ring, sent just now, of the whole call.
pub(crate) fn cancel(ring: &Value) -> Value {
    json!({
        "v": 1, "event": "cancel", "event_id": Uuid::new_v4(), "call_id": ring["call_id"],
        "call_uuid": ring["call_uuid"], "sent_at": at(0), "reason": "caller_hangup",
    })
    .as_object()
    .map(|fields| fields.clone().into_iter().filter(|(_, v)| !v.is_null()))
    .map(|fields| Value::Object(fields.collect()))
    .unwrap_or_default()
}

/// An iPhone with this token.
pub(crate) fn ios(id: &str, token: &str) -> Value {
    json!({"id": id, "platform": "ios", "app": APP, "token": token})
}

/// An Android phone with this token.
pub(crate) fn android(id: &str, token: &str) -> Value {
    json!({"id": id, "platform": "android", "app": APP, "token": token})
}

/// A device token of Apple's form that nobody else has.
pub(crate) fn ios_token() -> String {
    format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple())
}

/// A registration token of Google's form that nobody else has.
pub(crate) fn android_token() -> String {
    format!("{}:APA91b{}", Uuid::new_v4().simple(), ios_token())
}
