//! The slow way to an event: a broken one is told which field is wrong and
//! how, what need not be there is left out where it is wrong, and one bad
//! device does not take the others with it. Texts of errors never quote
//! values, for they end up in logs and headers.

use std::collections::HashSet;
use std::str::Utf8Error;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::error::EventError;
use super::fields::{RawFields, read};
use super::rules::{ALERT_TOKEN, alert_token, device_fields, event_fields, one_target};
use super::targets::repeated;
use super::types::{BadDevice, Device, DeviceEntry, Event, Limits};
use super::wire::{DeviceFields, EventFields, MAX_DEVICES, Object};
use super::words::{EventKind, Platform};

/// Decodes a body step by step.
///
/// # Errors
/// The first rule that the event as a whole breaks.
pub(super) fn diagnose(body: &[u8], limits: Limits) -> Result<Event, EventError> {
    let text = std::str::from_utf8(body).map_err(|e| invalid_text(body, e))?;
    let raw: RawFields<'_> = serde_json::from_str(text).map_err(|e| invalid_json(&e))?;
    let kind = text_of(&raw, "event").and_then(|kind| EventKind::named(&kind));
    let fields = event_fields(kind.unwrap_or(EventKind::Ring));
    let mut ignored = Vec::new();
    let map = Value::Object(read(&raw, &fields, "", &mut ignored)?);
    let event = EventFields::deserialize(&map).ok();
    let event = event.and_then(|fields| fields.event(limits));
    let mut event = event.ok_or_else(|| unnamed("body"))?;
    event.ignored = sentence(None, &ignored);
    event.devices = diagnose_devices(raw.get("devices").copied(), &event)?;
    Ok(event)
}

/// For what the rules let through and the types do not: there is no such thing.
fn unnamed(path: &str) -> EventError {
    EventError::new(path, "breaks a rule")
}

fn invalid_text(body: &[u8], error: Utf8Error) -> EventError {
    if body.starts_with(&[0x1f, 0x8b]) {
        return EventError::new("body", "is compressed with gzip; publish plain JSON");
    }
    let at = error.valid_up_to() + 1;
    EventError::new("body", format!("is not UTF-8 (byte {at})"))
}

fn invalid_json(error: &serde_json::Error) -> EventError {
    // serde_json's own text may quote the input.
    let what = match error.classify() {
        serde_json::error::Category::Eof => "ends in the middle",
        serde_json::error::Category::Data => "is not a JSON object",
        serde_json::error::Category::Syntax | serde_json::error::Category::Io => "is not JSON",
    };
    EventError::new(
        "body",
        format!("{what} (line {}, column {})", error.line(), error.column()),
    )
}

/// A field's text, if there is some.
fn text_of(raw: &RawFields<'_>, name: &str) -> Option<String> {
    let text: Option<String> = serde_json::from_str(raw.get(name)?.get()).ok();
    text.filter(|text| !text.is_empty())
}

/// What was ignored, for outcomes; behind what was ignored before.
fn sentence(before: Option<&Arc<str>>, ignored: &[EventError]) -> Option<Arc<str>> {
    if ignored.is_empty() {
        return before.cloned();
    }
    let ignored: Vec<String> = ignored.iter().map(ToString::to_string).collect();
    let begin = before.map_or("ignored: ".to_owned(), |before| format!("{before}; "));
    Some((begin + &ignored.join("; ")).into())
}

fn diagnose_devices(raw: Option<&RawValue>, event: &Event) -> Result<Vec<DeviceEntry>, EventError> {
    let raw: Vec<&RawValue> = match raw.map(RawValue::get) {
        None | Some("null") => Vec::new(),
        Some(text) => serde_json::from_str(text)
            .map_err(|_| EventError::new("devices", "must be an array"))?,
    };
    if raw.is_empty() && event.kind() == EventKind::Ring {
        return Err(EventError::new(
            "devices",
            "a ring needs at least one device",
        ));
    }
    if raw.len() > MAX_DEVICES {
        return Err(EventError::new("devices", "more than 1000 devices"));
    }
    if !raw.is_empty() && !event.except().is_empty() {
        let problem = "stands beside devices: a cancel has one of the two";
        return Err(EventError::new("except", problem));
    }
    let mut seen = HashSet::with_capacity(raw.len());
    let mut app = Arc::from("");
    let mut entries: Vec<DeviceEntry> = raw
        .iter()
        .enumerate()
        .map(|(index, raw)| {
            // Most devices of an event with a bad one are good.
            let good = serde_json::from_str::<Object<DeviceFields<'_>>>(raw.get()).ok();
            let good = good.and_then(|Object(fields)| fields.device(event, &mut app));
            let device = match good {
                Some(device) if seen.insert(Arc::clone(&device.id)) => Ok(Arc::new(device)),
                Some(_) | None => diagnose_device(raw, index, event, &mut seen),
            };
            DeviceEntry { device }
        })
        .collect();
    for (index, device) in repeated(&entries) {
        let path = format!("devices[{index}].{}", device.target.name());
        entries[index].device = Err(Box::new(BadDevice {
            id: Some(Arc::clone(&device.id)),
            platform: device.platform,
            app: Some(Arc::clone(&device.app)),
            reason: "duplicate_token",
            error: EventError::new(path, "stands in this event already"),
        }));
    }
    Ok(entries)
}

fn diagnose_device(
    raw: &RawValue,
    index: usize,
    event: &Event,
    seen: &mut HashSet<Arc<str>>,
) -> Result<Arc<Device>, Box<BadDevice>> {
    let at = format!("devices[{index}]");
    let Ok(raw) = serde_json::from_str::<RawFields<'_>>(raw.get()) else {
        return Err(Box::new(BadDevice {
            id: None,
            platform: Platform::Unknown,
            app: None,
            reason: "invalid_device",
            error: EventError::new(at, "must be an object"),
        }));
    };
    // What can be known of a bad device is known before the first rule is
    // applied, so that its report says as much as possible.
    let id: Option<Arc<str>> = text_of(&raw, "id").map(Arc::from);
    let platform = text_of(&raw, "platform").and_then(|name| Platform::named(&name));
    let platform = platform.unwrap_or(Platform::Unknown);
    let bad = |reason, error| {
        Box::new(BadDevice {
            id: id.clone(),
            platform,
            app: text_of(&raw, "app").map(Arc::from),
            reason,
            error,
        })
    };
    if let Some(id) = &id
        && !seen.insert(Arc::clone(id))
    {
        let error = EventError::new(format!("{at}.id"), "stands in this event already");
        return Err(bad("duplicate_device", error));
    }
    good_device(&raw, &at, platform, event).map_err(|error| {
        let reason = match error.path.rsplit_once('.') {
            Some((_, "platform")) => "unknown_platform",
            Some((_, "token" | "fid")) => "invalid_token",
            _ => "invalid_device",
        };
        bad(reason, error)
    })
}

/// A device that keeps all rules, except perhaps those for what it can do
/// without.
fn good_device(
    raw: &RawFields<'_>,
    at: &str,
    platform: Platform,
    event: &Event,
) -> Result<Arc<Device>, EventError> {
    let (dot, mut ignored) = (format!("{at}."), Vec::new());
    let mut map = read(raw, &device_fields(platform), &dot, &mut ignored)?;
    if platform == Platform::Android {
        one_target(&map, at)?;
    }
    let alert_token = alert_token(platform).read(raw, &dot, &mut ignored);
    if let Ok(Some(token)) = &alert_token {
        map.insert(ALERT_TOKEN.to_owned(), token.clone());
    }
    let map = Value::Object(map);
    let fields = DeviceFields::deserialize(&map).ok();
    let device = fields.and_then(|fields| fields.device(event, &mut Arc::from("")));
    let mut device = device.ok_or_else(|| unnamed(at))?;
    if let Err(error) = alert_token {
        device.alert_token = Some(Err(error));
    }
    device.ignored = sentence(event.ignored.as_ref(), &ignored);
    Ok(Arc::new(device))
}
