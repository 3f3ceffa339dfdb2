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

/// Every field of a device. The last one is the only one that may be wrong
/// while the device rings all the same.
const DEVICE_FIELDS: [&str; 9] = [
    "id",
    "platform",
    "app",
    "token",
    "environment",
    "registered_at",
    "data",
    "sealed",
    ALERT_TOKEN,
];

const ALERT_TOKEN: &str = "alert_token";

impl Device {
    /// Where a background push to this device goes.
    ///
    /// # Errors
    /// Why it cannot go anywhere: the word for the outcome and a sentence.
    pub fn background_token(&self) -> Result<&Secret, (&'static str, String)> {
        match &self.alert_token {
            Some(Ok(token)) => Ok(token),
            Some(Err(error)) => Err(("invalid_alert_token", error.to_string())),
            None => Err((
                "missing_alert_token",
                "cancels go out as background pushes, which need alert_token".to_owned(),
            )),
        }
    }
}

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
    if let Some(name) = unreadable.filter(|name| *name != ALERT_TOKEN) {
        bad.error = fields.error(name, UNREADABLE);
        return Err(Box::new(bad));
    }
    let alert_token = if unreadable.is_some() {
        Some(Err(fields.error(ALERT_TOKEN, UNREADABLE)))
    } else {
        read_alert_token(&fields, bad.platform)
    };
    match read_device(&fields, bad.platform, event_data, alert_token) {
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
    alert_token: Option<Result<Secret, EventError>>,
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
    let token = usable(fields, "token", token, platform).map_err(|e| ("invalid_token", e))?;
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
        token,
        environment,
        registered_at: fields.time("registered_at").map_err(invalid)?,
        alert_token,
        data: merged(event_data, fields.map_field("data").map_err(invalid)?),
        sealed: decode_sealed(fields).map_err(invalid)?,
    })
}

/// A ring never goes to this token, so a bad one must not stop it.
fn read_alert_token(fields: &Fields<'_>, platform: Platform) -> Option<Result<Secret, EventError>> {
    match fields.text(ALERT_TOKEN) {
        Ok(token) => token.map(|token| usable(fields, ALERT_TOKEN, token, platform)),
        Err(error) => Some(Err(error)),
    }
}

fn usable(
    fields: &Fields<'_>,
    name: &str,
    token: &str,
    platform: Platform,
) -> Result<Secret, EventError> {
    let problem = if token.is_empty() {
        "must not be empty"
    } else if token.len() > MAX_TOKEN {
        "longer than 4096 characters"
    } else if platform == Platform::Ios && !token.bytes().all(|b| b.is_ascii_hexdigit()) {
        "must be hexadecimal"
    } else {
        return Ok(Secret::from(token));
    };
    Err(fields.error(name, problem))
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
