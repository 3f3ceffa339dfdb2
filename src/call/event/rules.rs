//! The rules for an event's fields and a device's, in the order in which a
//! broken one is named. What they let through, `wire` decodes.
//!
//! Which call, which phone and when must be right. All else is decoration: a
//! phone rings without it.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::error::EventError;
use super::fields::{Field, Need, Rule};
use super::wire::{MAX_CALL_ID, MAX_DEVICES, token_problem};
use super::words::{
    CancelReason, ConversationType, EnvironmentChoice, EventKind, HandleType, Media, Platform,
};
use crate::call::ids;
use crate::call::time::Timestamp;

type Checked = Result<(), Cow<'static, str>>;

/// Every field of an event but `devices`.
pub(super) fn event_fields(kind: EventKind) -> [Field; 15] {
    let of_caller = match kind {
        EventKind::Ring => required,
        EventKind::Cancel => optional,
    };
    let reason = match kind {
        EventKind::Ring => |_: &Value| Err("only a cancel has one".into()),
        EventKind::Cancel => |value: &Value| one_of(value, CancelReason::NAMES),
    };
    // Without it a cancel would stop the very phone that answered.
    let except = match kind {
        EventKind::Ring => optional(
            "except",
            Rule::Value(|_| Err("only a cancel has one".into())),
        ),
        EventKind::Cancel => Field {
            name: "except",
            need: Need::Right,
            rule: Rule::Value(device_ids),
        },
    };
    [
        required("v", Rule::Value(version)),
        required("event", Rule::Value(|v| one_of(v, EventKind::NAMES))),
        required("event_id", Rule::Value(uuid)),
        required("call_id", Rule::Value(call_id)),
        optional("call_uuid", Rule::Value(uuid)),
        required("sent_at", Rule::Value(time)),
        optional("expires_at", Rule::Value(time)),
        optional("media", Rule::Value(|v| one_of(v, Media::NAMES))),
        of_caller("caller", Rule::Object(CALLER)),
        optional("callee", Rule::Object(CALLEE)),
        optional("conversation", Rule::Object(CONVERSATION)),
        optional("reason", Rule::Value(reason)),
        except,
        optional("profile", Rule::Value(filled)),
        optional("data", Rule::Value(data)),
    ]
}

const CALLER: &[Field] = &[
    required("id", Rule::Value(filled)),
    optional("name", Rule::Value(text)),
    optional("handle", Rule::Value(text)),
    optional("handle_type", Rule::Value(|v| one_of(v, HandleType::NAMES))),
    optional("avatar_url", Rule::Value(text)),
];

const CALLEE: &[Field] = &[
    required("id", Rule::Value(filled)),
    optional("name", Rule::Value(text)),
];

const CONVERSATION: &[Field] = &[
    required("type", Rule::Value(|v| one_of(v, ConversationType::NAMES))),
    required("id", Rule::Value(filled)),
    optional("name", Rule::Value(text)),
];

/// Every field of a device but [`ALERT_TOKEN`].
pub(super) fn device_fields(platform: Platform) -> [Field; 9] {
    let mut token = required("token", Rule::Value(token_of(platform)));
    let mut fid = optional("fid", Rule::Value(|_| Err("only Android has one".into())));
    if platform == Platform::Android {
        (token.need, fid.need) = (Need::Right, Need::Right);
        fid.rule = token.rule;
    }
    [
        required("id", Rule::Value(filled)),
        required("platform", Rule::Value(known_platform)),
        required("app", Rule::Value(filled)),
        token,
        fid,
        optional(
            "environment",
            Rule::Value(|v| one_of(v, EnvironmentChoice::NAMES)),
        ),
        optional("registered_at", Rule::Value(time)),
        optional("data", Rule::Value(data)),
        // Whoever seals means nobody else to read it, so that a payload in
        // clear cannot take its place.
        Field {
            name: "sealed",
            need: Need::Right,
            rule: Rule::Object(SEALED),
        },
    ]
}

/// An Android device is addressed by one of two fields.
///
/// # Errors
/// It has both, or neither.
pub(super) fn one_target(device: &Map<String, Value>, at: &str) -> Result<(), EventError> {
    let problem = match (device.contains_key("token"), device.contains_key("fid")) {
        (true, true) => "stands beside fid: give one of the two",
        (false, false) => "required, or fid in its place",
        (true, false) | (false, true) => return Ok(()),
    };
    Err(EventError::new(format!("{at}.token"), problem))
}

const SEALED: &[Field] = &[
    required("kid", Rule::Value(filled)),
    required("ct", Rule::Value(filled)),
];

/// The field with a device's ordinary (non-VoIP) token.
pub(super) const ALERT_TOKEN: &str = "alert_token";

/// A ring never goes to it, so a bad one is found out only by what would.
pub(super) fn alert_token(platform: Platform) -> Field {
    Field {
        name: ALERT_TOKEN,
        need: Need::Right,
        rule: Rule::Value(token_of(platform)),
    }
}

const fn required(name: &'static str, rule: Rule) -> Field {
    Field {
        name,
        need: Need::Required,
        rule,
    }
}

const fn optional(name: &'static str, rule: Rule) -> Field {
    Field {
        name,
        need: Need::Optional,
        rule,
    }
}

fn version(value: &Value) -> Checked {
    match value.as_u64() {
        Some(1) => Ok(()),
        _ => Err("must be 1".into()),
    }
}

fn string(value: &Value) -> Result<&str, Cow<'static, str>> {
    value.as_str().ok_or("must be a string".into())
}

fn text(value: &Value) -> Checked {
    string(value).map(|_| ())
}

fn filled(value: &Value) -> Checked {
    match string(value)? {
        "" => Err("must not be empty".into()),
        _ => Ok(()),
    }
}

fn device_ids(value: &Value) -> Checked {
    let ids = value.as_array().ok_or("must be an array")?;
    if ids.len() > MAX_DEVICES {
        return Err("more than 1000 devices".into());
    }
    let bad = ids.iter().any(|id| filled(id).is_err());
    if bad {
        Err("must be ids of devices".into())
    } else {
        Ok(())
    }
}

fn call_id(value: &Value) -> Checked {
    filled(value)?;
    match string(value)?.len() {
        0..=MAX_CALL_ID => Ok(()),
        _ => Err("longer than 128 bytes".into()),
    }
}

fn uuid(value: &Value) -> Checked {
    match ids::parse_uuid(string(value)?) {
        Some(_) => Ok(()),
        None => Err("must be a UUID with hyphens".into()),
    }
}

fn time(value: &Value) -> Checked {
    let text = string(value)?;
    let with_seconds = |at| Some(format!("{}:00{}", text.get(..at)?, text.get(at..)?));
    if Timestamp::parse(text).is_some() {
        Ok(())
    } else if with_seconds("2026-09-21T14:13".len()).is_some_and(|t| Timestamp::parse(&t).is_some())
    {
        Err("has no seconds, which RFC 3339 wants: 14:13:00, not 14:13".into())
    } else {
        Err("must be an RFC 3339 date and time with an offset".into())
    }
}

fn one_of(value: &Value, words: &[&str]) -> Checked {
    if words.contains(&string(value)?) {
        return Ok(());
    }
    Err(format!("must be one of: {}", words.join(", ")).into())
}

fn known_platform(value: &Value) -> Checked {
    match Platform::named(string(value)?) {
        Some(Platform::Ios | Platform::Android) => Ok(()),
        Some(Platform::Unknown) | None => Err("must be ios or android".into()),
    }
}

fn token_of(platform: Platform) -> fn(&Value) -> Checked {
    fn token(value: &Value, platform: Platform) -> Checked {
        token_problem(string(value)?, platform).map_or(Ok(()), |problem| Err(problem.into()))
    }
    match platform {
        Platform::Ios => |value| token(value, Platform::Ios),
        Platform::Android | Platform::Unknown => |value| token(value, Platform::Android),
    }
}

/// An object, or PHP's empty one: `json_encode([])` is `[]`.
fn data(value: &Value) -> Checked {
    if value.is_object() || value.as_array().is_some_and(Vec::is_empty) {
        Ok(())
    } else {
        Err("must be an object".into())
    }
}
