//! From bytes to an [`Event`].
//!
//! Walked by hand rather than derived: an error has to name the field's path
//! and one bad device must not take the others with it. Texts of errors never
//! quote values, for they end up in logs and headers.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{
    Action, BadDevice, Callee, Caller, CancelReason, Conversation, ConversationType, Data, Device,
    DeviceEntry, Environment, EnvironmentChoice, Event, EventKind, HandleType, Media, Platform,
    RawJson, Sealed,
};
use crate::call::ids;
use crate::call::secret::Secret;
use crate::call::time::Timestamp;

/// The longest body, in bytes.
pub const MAX_BODY: usize = 512 * 1024;

/// The most devices in one event.
pub const MAX_DEVICES: usize = 1000;

/// The longest token taken, in characters. Neither provider promises a length;
/// this only keeps a request line sane.
const MAX_TOKEN: usize = 4096;

/// Every field of an event but `devices`.
const EVENT_FIELDS: [&str; 14] = [
    "v",
    "event",
    "event_id",
    "call_id",
    "call_uuid",
    "sent_at",
    "expires_at",
    "media",
    "caller",
    "callee",
    "conversation",
    "reason",
    "profile",
    "data",
];

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

/// Half a surrogate pair, a number beyond every range, too many brackets: the
/// grammar allows them, no value can hold them.
const UNREADABLE: &str = "is nested too deep, or has a number or character that does not exist";

/// What was wrong with an event, and where. Holds no value of the event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct EventError {
    /// The field, as `devices[2].token`; `body` for the whole.
    pub path: String,
    /// What was wrong with it.
    pub problem: Cow<'static, str>,
}

impl EventError {
    pub(super) fn new(path: impl Into<String>, problem: impl Into<Cow<'static, str>>) -> Self {
        Self {
            path: path.into(),
            problem: problem.into(),
        }
    }
}

/// How long a ring may live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From `sent_at`, if the event does not say.
    pub ttl: Duration,
    /// At most, whatever the event says.
    pub max_ttl: Duration,
}

impl Event {
    /// Decodes a message body.
    ///
    /// # Errors
    /// The first rule that the event as a whole breaks. A rule that a single
    /// device breaks is in that device's entry instead.
    pub fn decode(body: &[u8], limits: Limits) -> Result<Self, EventError> {
        if body.len() > MAX_BODY {
            return Err(EventError::new("body", "longer than 512 KiB"));
        }
        // `devices` stays text until each entry is read, so that a part of a
        // split event can carry its devices as they came.
        let raw: RawFields<'_> = serde_json::from_slice(body).map_err(|e| invalid_json(&e))?;
        let (map, unreadable) = known_fields(&raw, &EVENT_FIELDS);
        if let Some(name) = unreadable {
            return Err(EventError::new(name, UNREADABLE));
        }
        let mut event = decode_event(
            &Fields {
                map: &map,
                at: String::new(),
            },
            limits,
        )?;
        event.devices = decode_devices(raw.get("devices").copied(), &event)?;
        Ok(event)
    }
}

type RawFields<'a> = BTreeMap<String, &'a RawValue>;

/// Reads the fields that mean something and leaves the others alone: an
/// unknown one is ignored whatever is in it. The second is the first field
/// that is JSON by its grammar but cannot be held.
fn known_fields(
    raw: &RawFields<'_>,
    names: &[&'static str],
) -> (Map<String, Value>, Option<&'static str>) {
    let mut map = Map::new();
    let mut unreadable = None;
    for &name in names {
        let Some(text) = raw.get(name) else {
            continue;
        };
        match serde_json::from_str(text.get()) {
            Ok(value) => {
                map.insert(name.to_owned(), value);
            }
            Err(_) => unreadable = unreadable.or(Some(name)),
        }
    }
    (map, unreadable)
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

fn decode_event(fields: &Fields<'_>, limits: Limits) -> Result<Event, EventError> {
    match fields.map.get("v") {
        Some(Value::Number(v)) if v.as_u64() == Some(1) => {}
        Some(_) => return Err(fields.error("v", "must be 1")),
        None => return Err(fields.error("v", "required")),
    }
    let kind = fields
        .choice(
            "event",
            &[("ring", EventKind::Ring), ("cancel", EventKind::Cancel)],
        )?
        .ok_or_else(|| fields.error("event", "required"))?;
    let event_id = fields
        .uuid("event_id")?
        .ok_or_else(|| fields.error("event_id", "required"))?;
    let call_id = fields.required_text("call_id")?;
    if call_id.len() > 128 {
        return Err(fields.error("call_id", "longer than 128 bytes"));
    }
    let call_uuid = fields
        .uuid("call_uuid")?
        .unwrap_or_else(|| ids::call_uuid(call_id));
    let sent_at = fields
        .time("sent_at")?
        .ok_or_else(|| fields.error("sent_at", "required"))?;
    let expires_at = fields
        .time("expires_at")?
        .unwrap_or_else(|| sent_at.plus(limits.ttl));
    let data = fields.map_field("data")?.cloned().unwrap_or_default();
    Ok(Event {
        event_id,
        call_id: call_id.into(),
        call_uuid,
        sent_at,
        expires_at: expires_at.min(sent_at.plus(limits.max_ttl)),
        media: fields
            .choice("media", &[("audio", Media::Audio), ("video", Media::Video)])?
            .unwrap_or(Media::Audio),
        action: decode_action(fields, kind)?,
        callee: decode_callee(fields)?,
        conversation: decode_conversation(fields)?,
        profile: fields.text("profile")?.map(Arc::from),
        data: Data(Arc::new(data)),
        devices: Vec::new(),
    })
}

fn decode_action(fields: &Fields<'_>, kind: EventKind) -> Result<Action, EventError> {
    let caller = decode_caller(fields)?;
    let reason = fields.choice(
        "reason",
        &[
            ("caller_hangup", CancelReason::CallerHangup),
            ("answered_elsewhere", CancelReason::AnsweredElsewhere),
            ("declined_elsewhere", CancelReason::DeclinedElsewhere),
            ("timeout", CancelReason::Timeout),
            ("busy", CancelReason::Busy),
        ],
    )?;
    match kind {
        EventKind::Ring if reason.is_some() => Err(fields.error("reason", "only a cancel has one")),
        EventKind::Ring => {
            let caller = caller.ok_or_else(|| fields.error("caller", "required for a ring"))?;
            Ok(Action::Ring { caller })
        }
        EventKind::Cancel => Ok(Action::Cancel { caller, reason }),
    }
}

fn decode_caller(fields: &Fields<'_>) -> Result<Option<Caller>, EventError> {
    let Some(caller) = fields.object("caller")? else {
        return Ok(None);
    };
    Ok(Some(Caller {
        id: caller.required_text("id")?.to_owned(),
        name: caller.text("name")?.map(str::to_owned),
        handle: caller.text("handle")?.map(str::to_owned),
        handle_type: caller.choice(
            "handle_type",
            &[
                ("generic", HandleType::Generic),
                ("phone", HandleType::Phone),
                ("email", HandleType::Email),
            ],
        )?,
        avatar_url: caller.text("avatar_url")?.map(str::to_owned),
    }))
}

fn decode_callee(fields: &Fields<'_>) -> Result<Option<Callee>, EventError> {
    let Some(callee) = fields.object("callee")? else {
        return Ok(None);
    };
    Ok(Some(Callee {
        id: callee.required_text("id")?.to_owned(),
        name: callee.text("name")?.map(str::to_owned),
    }))
}

fn decode_conversation(fields: &Fields<'_>) -> Result<Option<Conversation>, EventError> {
    let Some(conversation) = fields.object("conversation")? else {
        return Ok(None);
    };
    let kind = conversation
        .choice(
            "type",
            &[
                ("user", ConversationType::User),
                ("group", ConversationType::Group),
            ],
        )?
        .ok_or_else(|| conversation.error("type", "required"))?;
    Ok(Some(Conversation {
        kind,
        id: conversation.required_text("id")?.to_owned(),
        name: conversation.text("name")?.map(str::to_owned),
    }))
}

fn decode_devices(raw: Option<&RawValue>, event: &Event) -> Result<Vec<DeviceEntry>, EventError> {
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

/// An object's fields and the path to it, with the readers that every level
/// shares. `null` counts as absent: many producers write it for "none".
struct Fields<'a> {
    map: &'a Map<String, Value>,
    at: String,
}

impl<'a> Fields<'a> {
    fn error(&self, name: &str, problem: impl Into<Cow<'static, str>>) -> EventError {
        EventError::new(format!("{}{name}", self.at), problem)
    }

    fn get(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    fn text(&self, name: &str) -> Result<Option<&'a str>, EventError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.error(name, "must be a string")),
        }
    }

    fn required_text(&self, name: &str) -> Result<&'a str, EventError> {
        match self.text(name)? {
            None => Err(self.error(name, "required")),
            Some("") => Err(self.error(name, "must not be empty")),
            Some(text) => Ok(text),
        }
    }

    fn map_field(&self, name: &str) -> Result<Option<&'a Map<String, Value>>, EventError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(map)),
            Some(_) => Err(self.error(name, "must be an object")),
        }
    }

    fn object(&self, name: &str) -> Result<Option<Fields<'a>>, EventError> {
        let at = format!("{}{name}.", self.at);
        Ok(self.map_field(name)?.map(|map| Fields { map, at }))
    }

    fn uuid(&self, name: &str) -> Result<Option<Uuid>, EventError> {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        ids::parse_uuid(text)
            .map(Some)
            .ok_or_else(|| self.error(name, "must be a UUID with hyphens"))
    }

    fn time(&self, name: &str) -> Result<Option<Timestamp>, EventError> {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        Timestamp::parse(text)
            .map(Some)
            .ok_or_else(|| self.error(name, "must be an RFC 3339 date and time with an offset"))
    }

    fn choice<T: Copy>(&self, name: &str, known: &[(&str, T)]) -> Result<Option<T>, EventError> {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        let found = known.iter().find(|(word, _)| *word == text);
        found.map(|(_, value)| Some(*value)).ok_or_else(|| {
            let words: Vec<&str> = known.iter().map(|(word, _)| *word).collect();
            self.error(name, format!("must be one of: {}", words.join(", ")))
        })
    }
}
