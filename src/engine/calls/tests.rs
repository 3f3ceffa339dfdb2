use serde_json::json;

use super::*;
use crate::call::event::{Action, Limits};
use crate::call::time::Timestamp;

const WINDOW: Duration = Duration::from_secs(150);
const RUNG: &str = "2026-09-21T14:13:20Z";

fn cancel_of(call_id: &str, sent_at: &str, devices: &[&str]) -> Arc<Event> {
    let devices: Vec<_> = devices
        .iter()
        .map(|id| json!({"id": id, "platform": "android", "app": "a", "token": "t"}))
        .collect();
    let event = json!({
        "v": 1, "event": "cancel", "event_id": Uuid::new_v4(), "call_id": call_id,
        "sent_at": sent_at, "devices": devices,
    });
    let limits = Limits {
        ttl: Duration::from_secs(45),
        max_ttl: Duration::from_secs(120),
    };
    Arc::new(Event::decode(event.to_string().as_bytes(), limits).unwrap())
}

fn cancel(sent_at: &str, devices: &[&str]) -> Arc<Event> {
    cancel_of("c", sent_at, devices)
}

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

/// Whether a ring to this device would be stopped.
fn stopped(calls: &Calls, call_id: &str, device: &str, sent_at: Timestamp) -> bool {
    let call = calls.get(call_id, 0);
    let ring = call.begin_ring(calls.device(device), sent_at, None);
    let stopped = ring.is_cancelled();
    let _ = ring.end(RingState::NotSent);
    stopped
}

#[tokio::test]
async fn a_cancel_without_devices_stops_all_rings_sent_before_it_and_none_after() {
    let calls = Calls::new(WINDOW);
    calls.cancel(&cancel("2026-09-21T14:13:20Z", &[]));
    assert!(stopped(&calls, "c", "d", at("2026-09-21T14:13:20Z")));
    assert!(!stopped(&calls, "c", "d", at("2026-09-21T14:13:20.001Z")));
    assert!(!stopped(&calls, "other", "d", at("2026-09-21T14:13:20Z")));
}

#[tokio::test]
async fn a_cancel_with_devices_stops_only_those() {
    let calls = Calls::new(WINDOW);
    calls.cancel(&cancel("2026-09-21T14:13:20Z", &["d1"]));
    assert!(stopped(&calls, "c", "d1", at("2026-09-21T14:13:20Z")));
    assert!(!stopped(&calls, "c", "d2", at("2026-09-21T14:13:20Z")));
}

/// A cancel of the whole call but these devices.
fn cancel_others(sent_at: &str, except: &[&str]) -> Arc<Event> {
    let mut event = Event::clone(&cancel(sent_at, &[]));
    event.action = Action::Cancel {
        caller: None,
        reason: None,
        except: except.iter().map(|id| Arc::from(*id)).collect(),
    };
    Arc::new(event)
}

#[tokio::test]
async fn a_cancel_with_exceptions_stops_all_rings_but_those() {
    let stopped_by = |cancels: &[(&str, &[&str])], device: &str| {
        let calls = Calls::new(WINDOW);
        for (sent_at, except) in cancels {
            calls.cancel(&cancel_others(sent_at, except));
        }
        stopped(&calls, "c", device, at(RUNG))
    };
    let (before, after) = ("2026-09-21T14:13:19Z", "2026-09-21T14:13:21Z");
    for at in [RUNG, after] {
        assert!(!stopped_by(&[(at, &["d1", "d2"])], "d1"));
        assert!(stopped_by(&[(at, &["d1", "d2"])], "d3"));
    }
    assert!(!stopped_by(&[(before, &["d1"])], "d3"), "it rang later");
    // Two of them spare what both spare, in whichever order they come.
    for cancels in [[(RUNG, &["d1", "d2"][..]), (after, &["d2", "d3"])]; 2] {
        let turned = [cancels[1], cancels[0]];
        for (device, stops) in [("d1", true), ("d2", false), ("d3", true), ("d4", true)] {
            assert_eq!(stopped_by(&cancels, device), stops, "{device}");
            assert_eq!(stopped_by(&turned, device), stops, "{device}");
        }
    }
    // A later one that spares a device takes no earlier cancel of it back.
    let calls = Calls::new(WINDOW);
    calls.cancel(&cancel(RUNG, &["d1"]));
    calls.cancel(&cancel_others(after, &["d1"]));
    assert!(stopped(&calls, "c", "d1", at(RUNG)));
}

#[tokio::test]
async fn exceptions_are_kept_once_and_in_bounded_memory() {
    let calls = Calls::new(WINDOW);
    for _ in 0..10_000 {
        calls.cancel(&cancel_others(RUNG, &["d1", "d2"]));
    }
    assert!(
        calls.get("c", 0).size() < 512,
        "{}",
        calls.get("c", 0).size()
    );
    let calls = Calls::new(WINDOW);
    for n in 0..10_000 {
        let at = format!("2026-09-21T14:13:{:02}.{:03}Z", n / 1000, n % 1000);
        calls.cancel(&cancel_others(&at, &[&format!("x{n}"), "d"]));
    }
    assert!(calls.get("c", 0).size() < 128 * 1024);
    assert!(!stopped(&calls, "c", "d", at("2026-09-21T14:13:09.999Z")));
    assert!(stopped(&calls, "c", "e", at("2026-09-21T14:13:09.999Z")));
}

#[tokio::test]
async fn an_older_cancel_takes_nothing_back_and_parts_add_up() {
    let calls = Calls::new(WINDOW);
    calls.cancel(&cancel("2026-09-21T14:13:20Z", &["d2"]));
    calls.cancel(&cancel("2026-09-21T14:13:20Z", &["d1", "d2"]));
    calls.cancel(&cancel("2026-09-21T14:13:10Z", &["d1"]));
    for device in ["d1", "d2"] {
        assert!(stopped(&calls, "c", device, at("2026-09-21T14:13:20Z")));
    }
}

#[tokio::test]
async fn a_uuid_is_the_same_call_in_any_letter_case() {
    let calls = Calls::new(WINDOW);
    let id = "7d0f4a58-6f0b-4f2e-9a55-2c1b8f1e0a11";
    calls.cancel(&cancel_of(&id.to_uppercase(), RUNG, &[]));
    assert!(stopped(&calls, id, "d", at(RUNG)));
    let calls = Calls::new(WINDOW);
    calls.cancel(&cancel_of(id, RUNG, &[]));
    assert!(stopped(&calls, &id.to_uppercase(), "d", at(RUNG)));
    for other in [format!("{{{id}}}"), format!("urn:uuid:{id}")] {
        assert!(!stopped(&calls, &other, "d", at(RUNG)));
    }
}

#[tokio::test]
async fn the_whole_call_is_cancelled_however_many_devices_were_before() {
    let calls = Calls::new(WINDOW);
    for n in 0..5_000 {
        calls.cancel(&cancel("2026-09-21T14:13:20Z", &[&format!("x{n}")]));
    }
    calls.cancel(&cancel("2026-09-21T14:13:21Z", &[]));
    assert!(stopped(&calls, "c", "d", at("2026-09-21T14:13:21Z")));
    assert!(calls.get("c", 0).size() < 128 * 1024);
}

#[tokio::test(start_paused = true)]
async fn a_cancel_wakes_the_ring_that_waits() {
    let calls = Calls::new(WINDOW);
    let ring = calls
        .get("c", 0)
        .begin_ring(calls.device("d"), at(RUNG), None);
    let waiting = tokio::spawn(async move { ring.cancelled().await });
    tokio::task::yield_now().await;
    calls.cancel(&cancel("2026-09-21T14:13:21Z", &[]));
    waiting.await.unwrap();
}

#[tokio::test]
async fn a_cancel_that_came_meanwhile_is_pushed_to_the_device_it_names_and_to_no_other() {
    let calls = Calls::new(WINDOW);
    let begin = |device: &str| {
        let call = calls.get("c", 0);
        call.begin_ring(calls.device(device), at(RUNG), None)
    };
    let (named, other, unsent) = (begin("d1"), begin("d2"), begin("d3"));
    let stop = cancel(RUNG, &["d1", "d3"]);
    calls.cancel(&stop);
    calls.cancel(&cancel(RUNG, &[]));
    let to_push = named.end(RingState::Unclear).unwrap();
    assert_eq!(to_push.event_id, stop.event_id);
    assert!(other.end(RingState::Accepted).is_none());
    assert!(unsent.end(RingState::NotSent).is_none());
    // A later ring is not the cancel's to stop.
    let later = calls
        .get("c", 0)
        .begin_ring(calls.device("d1"), at("2026-09-21T14:13:21Z"), None);
    assert!(later.end(RingState::Accepted).is_none());
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_a_ring_under_way_hears_how_it_ended() {
    let calls = Calls::new(WINDOW);
    let (call, device) = (calls.get("c", 0), calls.device("d"));
    assert_eq!(call.ring_end(device, at(RUNG)).await, None);
    for (state, heard) in [
        (Some(RingState::Accepted), RingState::Accepted),
        (None, RingState::Unclear),
    ] {
        let calls = Calls::new(WINDOW);
        let (call, device) = (calls.get("c", 0), calls.device("d"));
        let ring = call.begin_ring(device, at(RUNG), None);
        let asking = tokio::spawn(async move { call.ring_end(device, at(RUNG)).await });
        tokio::task::yield_now().await;
        match state {
            Some(state) => assert!(ring.end(state).is_none()),
            None => drop(ring),
        }
        assert_eq!(asking.await.unwrap(), Some(heard));
    }
}

/// Rings and ends.
fn rang(calls: &Calls, sent_at: Timestamp, state: RingState) {
    let call = calls.get("c", 0);
    let ring = call.begin_ring(calls.device("d"), sent_at, None);
    let _ = ring.end(state);
}

#[tokio::test(start_paused = true)]
async fn a_second_ring_that_was_not_sent_does_not_silence_the_first() {
    let calls = Calls::new(WINDOW);
    for state in [RingState::Accepted, RingState::NotSent] {
        rang(&calls, at(RUNG), state);
    }
    let end = calls
        .get("c", 0)
        .ring_end(calls.device("d"), at(RUNG))
        .await;
    assert_eq!(end, Some(RingState::Accepted));
}

#[tokio::test(start_paused = true)]
async fn a_ring_is_not_there_for_a_cancel_that_is_older() {
    let calls = Calls::new(WINDOW);
    let (call, device) = (calls.get("c", 0), calls.device("d"));
    let ring = call.begin_ring(device, at(RUNG), None);
    let before = at("2026-09-21T14:13:19Z");
    // It does not wait for a ring that is none of its business.
    assert_eq!(
        call.ring_end(device, before).await,
        Some(RingState::NotSent)
    );
    let _ = ring.end(RingState::Accepted);
    assert_eq!(
        call.ring_end(device, before).await,
        Some(RingState::NotSent)
    );
    let end = call.ring_end(device, at(RUNG)).await;
    assert_eq!(end, Some(RingState::Accepted));
}

#[tokio::test(start_paused = true)]
async fn each_cancel_sees_the_rings_sent_before_it_only() {
    let calls = Calls::new(WINDOW);
    let (call, device) = (calls.get("c", 0), calls.device("d"));
    let later = at("2026-09-21T14:13:28Z");
    rang(&calls, at(RUNG), RingState::NotSent);
    rang(&calls, later, RingState::Accepted);
    let between = at("2026-09-21T14:13:24Z");
    let ends = async || {
        let between = call.ring_end(device, between).await.unwrap();
        (between, call.ring_end(device, later).await.unwrap())
    };
    assert_eq!(ends().await, (RingState::NotSent, RingState::Accepted));
    // The rings need not come in the order in which they were sent.
    rang(&calls, at("2026-09-21T14:13:10Z"), RingState::Unclear);
    assert_eq!(ends().await, (RingState::Unclear, RingState::Accepted));
}

#[tokio::test(start_paused = true)]
async fn a_call_is_remembered_from_when_it_was_last_heard_of() {
    let calls = Calls::new(WINDOW);
    calls.cancel(&cancel("2026-09-21T14:13:20Z", &[]));
    calls.cancel(&cancel_of("once", "2026-09-21T14:13:20Z", &[]));
    for _ in 0..8 {
        tokio::time::advance(WINDOW).await;
        assert!(stopped(&calls, "c", "d", at("2026-09-21T14:13:20Z")));
    }
    assert!(!stopped(&calls, "once", "d", at("2026-09-21T14:13:20Z")));
    tokio::time::advance(WINDOW * 4).await;
    assert!(!stopped(&calls, "c", "d", at("2026-09-21T14:13:20Z")));
}

#[tokio::test]
async fn memory_is_bounded_in_bytes_and_rings_under_way_are_kept() {
    let calls = Calls::within(WINDOW, 1024 * 1024);
    let ringing = calls
        .get("ringing", 0)
        .begin_ring(calls.device("d"), at(RUNG), None);
    let devices: Vec<String> = (0..10).map(|n| format!("device-{n}")).collect();
    let devices: Vec<&str> = devices.iter().map(String::as_str).collect();
    for n in 0..20_000 {
        calls.cancel(&cancel_of(&format!("call-{n}"), RUNG, &devices));
    }
    let held = {
        let halves = calls.halves.lock().unwrap();
        halves.younger.len() + halves.older.len()
    };
    assert!((1_200..3_200).contains(&held), "{held}");
    assert!(stopped(&calls, "call-19999", "device-3", at(RUNG)));
    calls.cancel(&cancel_of("ringing", RUNG, &["d"]));
    assert!(ringing.is_cancelled());
}
