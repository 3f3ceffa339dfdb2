//! The events that are measured.

use std::time::Duration;

use ringpush::call::event::Limits;
use serde_json::{Value, json};

/// What the configuration allows by default.
pub const LIMITS: Limits = Limits {
    ttl: Duration::from_secs(45),
    max_ttl: Duration::from_secs(120),
};

/// A ring as services send it, for this many devices, of which every second
/// one is an Android phone.
pub fn ring(devices: usize) -> Value {
    let devices: Vec<Value> = (0..devices).map(device).collect();
    json!({
        "v": 1, "event": "ring",
        "event_id": "0d5c1f7e-3c55-4f0e-9a10-6a3f0a7be001",
        "call_id": "room-42", "call_uuid": "7d0f4a58-6f0b-4f2e-9a55-2c1b8f1e0a11",
        "sent_at": "2026-09-21T14:13:20.000Z", "expires_at": "2026-09-21T14:14:05.000Z",
        "media": "video",
        "caller": {"id": "user-1", "name": "Alice Martin", "handle": "alice@example.com", "handle_type": "email"},
        "callee": {"id": "user-2", "name": "Bob"},
        "conversation": {"type": "user", "id": "conversation-7"},
        "data": {"meeting_id": "m-1", "media_region": "us-east-1"},
        "devices": devices
    })
}

fn device(n: usize) -> Value {
    let id = format!("device-{n:04}");
    if n.is_multiple_of(2) {
        json!({
            "id": id, "platform": "ios", "app": "com.example.calls", "environment": "production",
            "token": format!("{n:064x}"), "registered_at": "2026-09-01T08:00:00Z"
        })
    } else {
        json!({
            "id": id, "platform": "android", "app": "com.example.calls",
            "token": format!("{n:022}:APA91b{n:0134}"), "registered_at": "2026-09-01T08:00:00Z"
        })
    }
}
