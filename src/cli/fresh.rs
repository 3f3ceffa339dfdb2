//! Example events brought up to date.

use anyhow::Context as _;
use serde_json::Value;

use crate::call::event::without_mark;
use crate::call::time::Timestamp;
use crate::engine::deadline::wall_clock;

/// Moves events, whose times belong together, so far that the latest was sent
/// just now, and gives each a new `event_id`.
///
/// # Errors
/// An event is not JSON or has no valid `sent_at`.
pub fn freshen(bodies: &[Vec<u8>]) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut events = Vec::with_capacity(bodies.len());
    for body in bodies {
        let event: Value =
            serde_json::from_slice(without_mark(body)).context("an event is not JSON")?;
        events.push(event);
    }
    let sent: Vec<Timestamp> = events
        .iter()
        .filter_map(|event| time(event, "sent_at"))
        .collect();
    anyhow::ensure!(
        sent.len() == events.len(),
        "an event has no valid sent_at to be moved"
    );
    let Some(latest) = sent.iter().max() else {
        return Ok(Vec::new());
    };
    let shift = wall_clock().millis() - latest.millis();
    Ok(events
        .into_iter()
        .map(|event| moved(event, shift).to_string().into_bytes())
        .collect())
}

/// One event moved by so many milliseconds and with a new `event_id`.
#[must_use]
pub fn moved(mut event: Value, shift_ms: i64) -> Value {
    for field in ["sent_at", "expires_at"] {
        if let Some(old) = time(&event, field) {
            let new = Timestamp::from_millis(old.millis().saturating_add(shift_ms));
            event[field] = Value::String(new.to_string());
        }
    }
    event["event_id"] = Value::String(uuid::Uuid::new_v4().to_string());
    event
}

fn time(event: &Value, field: &str) -> Option<Timestamp> {
    event.get(field)?.as_str().and_then(Timestamp::parse)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_keep_their_distance_and_the_latest_was_sent_just_now() {
        let event = |sent: &str| json!({"sent_at": sent, "expires_at": "2026-09-21T14:14:05Z", "event_id": "x"});
        let bodies = [event("2026-09-21T14:13:20Z"), event("2026-09-21T14:13:21Z")];
        let marked = |event: &Value| format!("\u{feff}{event}").into_bytes();
        let fresh = freshen(&bodies.each_ref().map(marked)).unwrap();
        let fresh: Vec<Value> = fresh
            .iter()
            .map(|b| serde_json::from_slice(b).unwrap())
            .collect();
        let [first, last] = [&fresh[0], &fresh[1]].map(|event| time(event, "sent_at").unwrap());
        assert_eq!(last.millis() - first.millis(), 1_000);
        assert!(wall_clock().since(last).as_secs() < 60);
        assert_eq!(
            time(&fresh[1], "expires_at").unwrap().since(last).as_secs(),
            44
        );
        assert_ne!(fresh[0]["event_id"], fresh[1]["event_id"]);
    }

    #[test]
    fn what_has_no_time_cannot_be_moved() {
        assert!(freshen(&[b"{}".to_vec()]).is_err());
        assert!(freshen(&[b"no json".to_vec()]).is_err());
    }
}
