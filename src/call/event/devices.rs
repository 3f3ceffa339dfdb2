//! The devices of an event. A bad one is an entry of its own and leaves the
//! others alone.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::decode::EventError;
use super::fields::{Fields, RawFields, UNREADABLE, known_fields};
use super::{
    BadDevice, Data, Device, DeviceEntry, Environment, EnvironmentChoice, Event, EventKind,
    Platform, RawJson, Sealed,
};
use crate::call::secret::Secret;

/// The most devices in one event.
pub const MAX_DEVICES: usize = 1000;

/// The longest token taken, in characters. Neither provider promises a length;
/// this only keeps a request line sane.
const MAX_TOKEN: usize = 4096;

/// Every field of a device.
const DEVICE_FIELDS: [&str; 9] = [
    "id",
    "platform",
    "app",
    "token",
    "environment",
    "registered_at",
    "alert_token",
    "data",
    "sealed",
];

pub(super) fn decode_devices(
    raw: Option<&RawValue>,
    event: &Event,
) -> Result<Vec<DeviceEntry>, EventError> {
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
    Ok(raw
        .iter()
        .enumerate()
        .map(|(index, raw)| DeviceEntry {
            device: decode_device(raw, index, &event.data, &mut seen),
            raw: RawJson((*raw).to_owned()),
        })
        .collect())
}

fn decode_device(
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
    bad.platform = match map.get("platform").and_then(Value::as_str) {
        Some("ios") => Platform::Ios,
        Some("android") => Platform::Android,
        Some(_) | None => Platform::Unknown,
    };
    if let Some(id) = &bad.id
        && !seen.insert(Arc::clone(id))
    {
        bad.reason = "duplicate_device";
        bad.error = fields.error("id", "stands in this event already");
        return Err(Box::new(bad));
    }
    if let Some(name) = unreadable {
        bad.error = fields.error(name, UNREADABLE);
        return Err(Box::new(bad));
    }
    match read_device(&fields, bad.platform, event_data) {
        Ok(device) => Ok(Arc::new(device)),
        Err((reason, error)) => Err(Box::new(BadDevice {
            reason,
            error,
            ..bad
        })),
    }
}

fn read_device(
    fields: &Fields<'_>,
    platform: Platform,
    event_data: &Data,
) -> Result<Device, (&'static str, EventError)> {
    let invalid = |error| ("invalid_device", error);
    let id = fields.required_text("id").map_err(invalid)?;
    if platform == Platform::Unknown {
        return Err((
            "unknown_platform",
            fields.error("platform", "must be ios or android"),
        ));
    }
    let app = fields.required_text("app").map_err(invalid)?;
    let token = fields
        .required_text("token")
        .map_err(|e| ("invalid_token", e))?;
    check_token(fields, "token", token, platform)?;
    let alert_token = fields.text("alert_token").map_err(invalid)?;
    if let Some(token) = alert_token {
        check_token(fields, "alert_token", token, platform)?;
    }
    let environment = fields
        .choice(
            "environment",
            &[
                (
                    "production",
                    EnvironmentChoice::Only(Environment::Production),
                ),
                ("sandbox", EnvironmentChoice::Only(Environment::Sandbox)),
                ("auto", EnvironmentChoice::Auto),
            ],
        )
        .map_err(invalid)?;
    Ok(Device {
        id: id.into(),
        platform,
        app: app.into(),
        token: Secret::from(token),
        environment,
        registered_at: fields.time("registered_at").map_err(invalid)?,
        alert_token: alert_token.map(Secret::from),
        data: merged(event_data, fields.map_field("data").map_err(invalid)?),
        sealed: decode_sealed(fields).map_err(invalid)?,
    })
}

fn check_token(
    fields: &Fields<'_>,
    name: &str,
    token: &str,
    platform: Platform,
) -> Result<(), (&'static str, EventError)> {
    let problem = if token.is_empty() {
        "must not be empty"
    } else if token.len() > MAX_TOKEN {
        "longer than 4096 characters"
    } else if platform == Platform::Ios && !token.bytes().all(|b| b.is_ascii_hexdigit()) {
        "must be hexadecimal"
    } else {
        return Ok(());
    };
    Err(("invalid_token", fields.error(name, problem)))
}

fn decode_sealed(fields: &Fields<'_>) -> Result<Option<Sealed>, EventError> {
    let Some(sealed) = fields.object("sealed")? else {
        return Ok(None);
    };
    Ok(Some(Sealed {
        kid: sealed.required_text("kid")?.to_owned(),
        ct: sealed.required_text("ct")?.to_owned(),
    }))
}

fn merged(event: &Data, device: Option<&Map<String, Value>>) -> Data {
    let Some(device) = device.filter(|map| !map.is_empty()) else {
        return event.clone();
    };
    let mut data = (*event.0).clone();
    for (key, value) in device {
        data.insert(key.clone(), value.clone());
    }
    Data(Arc::new(data))
}
