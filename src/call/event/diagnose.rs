//! The slow way to an event: a broken one is told which field is wrong and
//! how, and one bad device does not take the others with it. Texts of errors
//! never quote values, for they end up in logs and headers.

use std::collections::HashSet;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::data::Data;
use super::error::EventError;
use super::fields::{Fields, RawFields, UNREADABLE, known_fields};
use super::rules::{
    ALERT_TOKEN, DEVICE_FIELDS, EVENT_FIELDS, check_alert_token, check_device, check_event,
};
use super::types::{BadDevice, Device, DeviceEntry, Event, Limits};
use super::wire::{DeviceFields, EventFields, MAX_DEVICES, Object};
use super::words::{EventKind, Platform};

/// Decodes a body step by step.
///
/// # Errors
/// The first rule that the event as a whole breaks.
pub(super) fn diagnose(body: &[u8], limits: Limits) -> Result<Event, EventError> {
    let raw: RawFields<'_> = serde_json::from_slice(body).map_err(|e| invalid_json(&e))?;
    let (map, unreadable) = known_fields(&raw, &EVENT_FIELDS);
    if let Some(name) = unreadable {
        return Err(EventError::new(name, UNREADABLE));
    }
    check_event(&Fields {
        map: &map,
        at: String::new(),
    })?;
    let map = Value::Object(map);
    let event = EventFields::deserialize(&map).ok();
    let event = event.and_then(|fields| fields.event(limits));
    let mut event = event.ok_or_else(|| unnamed("body"))?;
    event.devices = diagnose_devices(raw.get("devices").copied(), &event)?;
    Ok(event)
}

/// For what the rules let through and the types do not: there is no such thing.
fn unnamed(path: &str) -> EventError {
    EventError::new(path, "breaks a rule")
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
    let mut seen = HashSet::with_capacity(raw.len());
    let mut app = Arc::from("");
    Ok(raw
        .iter()
        .enumerate()
        .map(|(index, raw)| {
            // Most devices of an event with a bad one are good.
            let good = serde_json::from_str::<Object<DeviceFields<'_>>>(raw.get()).ok();
            let good = good.and_then(|Object(fields)| fields.device(&event.data, &mut app));
            let device = match good {
                Some(device) if seen.insert(Arc::clone(&device.id)) => Ok(Arc::new(device)),
                Some(_) | None => diagnose_device(raw, index, &event.data, &mut seen),
            };
            DeviceEntry { device }
        })
        .collect())
}

fn diagnose_device(
    raw: &RawValue,
    index: usize,
    event_data: &Data,
    seen: &mut HashSet<Arc<str>>,
) -> Result<Arc<Device>, Box<BadDevice>> {
    let at = format!("devices[{index}]");
    let mut bad = BadDevice {
        id: None,
        platform: Platform::Unknown,
        app: None,
        reason: "invalid_device",
        error: EventError::new(at.clone(), "must be an object"),
    };
    let Ok(raw) = serde_json::from_str::<RawFields<'_>>(raw.get()) else {
        return Err(Box::new(bad));
    };
    let (map, unreadable) = known_fields(&raw, &DEVICE_FIELDS);
    let fields = Fields {
        map: &map,
        at: at + ".",
    };
    // What can be known of a bad device is known before the first rule is
    // applied, so that its report says as much as possible.
    bad.id = fields.required_text("id").ok().map(Arc::from);
    bad.app = fields.required_text("app").ok().map(Arc::from);
    let platform = map.get("platform").and_then(Value::as_str);
    bad.platform = platform
        .and_then(Platform::named)
        .unwrap_or(Platform::Unknown);
    if let Some(id) = &bad.id
        && !seen.insert(Arc::clone(id))
    {
        bad.reason = "duplicate_device";
        bad.error = fields.error("id", "stands in this event already");
        return Err(Box::new(bad));
    }
    if let Some(name) = unreadable.filter(|name| *name != ALERT_TOKEN) {
        bad.error = fields.error(name, UNREADABLE);
        return Err(Box::new(bad));
    }
    if let Err((reason, error)) = check_device(&fields, bad.platform) {
        (bad.reason, bad.error) = (reason, error);
        return Err(Box::new(bad));
    }
    let alert_token = match unreadable {
        Some(_) => Err(fields.error(ALERT_TOKEN, UNREADABLE)),
        None => check_alert_token(&fields, bad.platform),
    };
    bad.error = unnamed(fields.at.trim_end_matches('.'));
    good_device(map, alert_token, event_data).ok_or_else(|| Box::new(bad))
}

/// A device that keeps all rules, except perhaps that for its alert token.
fn good_device(
    mut map: Map<String, Value>,
    alert_token: Result<(), EventError>,
    event_data: &Data,
) -> Option<Arc<Device>> {
    if alert_token.is_err() {
        map.remove(ALERT_TOKEN);
    }
    let map = Value::Object(map);
    let fields = DeviceFields::deserialize(&map).ok()?;
    let mut device = fields.device(event_data, &mut Arc::from(""))?;
    if let Err(error) = alert_token {
        device.alert_token = Some(Err(error));
    }
    Some(Arc::new(device))
}
