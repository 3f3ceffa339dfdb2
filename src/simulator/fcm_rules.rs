//! Google's rules for one message, by the reference of `projects.messages`,
//! and one of the simulator's own: a call is a data message, so a notification
//! block is refused although Google would draw it.

use serde_json::{Map, Value};

use super::fcm_errors::Refusal;

type Object = Map<String, Value>;

const ROOT: [&str; 2] = ["message", "validate_only"];
const MESSAGE: [&str; 11] = [
    "name",
    "data",
    "notification",
    "android",
    "webpush",
    "apns",
    "fcm_options",
    "token",
    "topic",
    "condition",
    "fid",
];
const ANDROID: [&str; 10] = [
    "collapse_key",
    "priority",
    "ttl",
    "restricted_package_name",
    "data",
    "notification",
    "fcm_options",
    "direct_boot_ok",
    "bandwidth_constrained_ok",
    "restricted_satellite_ok",
];
const OPTIONS: [&str; 1] = ["analytics_label"];
const RESERVED: [&str; 4] = ["from", "gcm", "message_type", "collapse_key"];
const RESERVED_PREFIXES: [&str; 2] = ["google", "gcm."];
const MAX_DATA: usize = 4_096;
/// Four weeks, in seconds.
const MAX_TTL: u64 = 2_419_200;
const MAX_TOKEN: usize = 4_096;

/// A message of the right shape.
#[derive(Debug)]
pub(super) struct Message {
    /// The device token or installation id; `None` for a topic or a condition.
    pub(super) token: Option<String>,
    /// Google's answer if that is none.
    pub(super) invalid: Refusal,
    /// `data.event_id`, if there is one.
    pub(super) event_id: Option<String>,
    pub(super) validate_only: bool,
    /// What Google takes but no call should be sent with.
    pub(super) remarks: Vec<String>,
}

/// Reads and judges a body.
pub(super) fn message(body: &[u8]) -> Result<Message, Refusal> {
    let root: Value = serde_json::from_slice(body)
        .map_err(|error| Refusal::field("", format!("Invalid JSON payload received. {error}")))?;
    let root = root.as_object().ok_or_else(|| {
        Refusal::field(
            "",
            "Invalid JSON payload received. Root element must be a message.",
        )
    })?;
    known(root, "", &ROOT)?;
    let validate_only = flag(root, "", "validate_only")?;
    let message = object(root, "", "message")?
        .ok_or_else(|| recipient("Recipient of the message is not set."))?;
    known(message, "message", &MESSAGE)?;
    let mut remarks = Vec::new();
    no_notification(message, "message")?;
    if let Some(android) = object(message, "message", "android")? {
        self::android(android, &mut remarks)?;
    } else {
        remarks.push("no android block: the message has normal priority".to_owned());
    }
    if let Some(options) = object(message, "message", "fcm_options")? {
        known(options, "message.fcm_options", &OPTIONS)?;
    }
    let event_id = match object(message, "message", "data")? {
        Some(fields) => {
            data(fields, "message.data")?;
            fields
                .get("event_id")
                .and_then(Value::as_str)
                .map(str::to_owned)
        }
        None => None,
    };
    let (token, invalid) = target(message)?;
    Ok(Message {
        token,
        invalid,
        event_id,
        validate_only,
        remarks,
    })
}

/// Exactly one of token, installation id, topic and condition.
fn target(message: &Object) -> Result<(Option<String>, Refusal), Refusal> {
    let mut found = Vec::new();
    for name in ["token", "topic", "condition", "fid"] {
        if let Some(text) = string(message, "message", name)? {
            found.push((name, text));
        }
    }
    match found.as_slice() {
        [] => Err(recipient("Recipient of the message is not set.")),
        [(name @ ("token" | "fid"), token)] => {
            let plain = token.bytes().all(|b| b.is_ascii_graphic());
            if token.is_empty() || token.len() > MAX_TOKEN || !plain {
                return Err(invalid(name));
            }
            Ok((Some((*token).to_owned()), invalid(name)))
        }
        [(name, _)] => Ok((None, invalid(name))),
        [_, _, ..] => Err(recipient("Message must have exactly one recipient.")),
    }
}

fn recipient(text: &str) -> Refusal {
    Refusal::field("message", text).code("INVALID_ARGUMENT")
}

/// Google's answer to a token or an installation id that is none.
fn invalid(name: &str) -> Refusal {
    let refusal = if name == "fid" {
        Refusal::field("message.fid", "The installation id is not a valid one")
    } else {
        Refusal::new(
            400,
            "The registration token is not a valid FCM registration token",
        )
    };
    refusal.code("INVALID_ARGUMENT")
}

fn no_notification(parent: &Object, path: &str) -> Result<(), Refusal> {
    if get(parent, "notification").is_none() {
        return Ok(());
    }
    let text = "The simulator takes data messages only: the system would draw a notification \
                and the app would not ring.";
    Err(Refusal::field(&format!("{path}.notification"), text))
}

fn android(android: &Object, remarks: &mut Vec<String>) -> Result<(), Refusal> {
    const PATH: &str = "message.android";
    known(android, PATH, &ANDROID)?;
    no_notification(android, PATH)?;
    for name in [
        "direct_boot_ok",
        "bandwidth_constrained_ok",
        "restricted_satellite_ok",
    ] {
        flag(android, PATH, name)?;
    }
    string(android, PATH, "restricted_package_name")?;
    if string(android, PATH, "collapse_key")?.is_some() {
        remarks.push("collapse_key: collapsible messages are throttled".to_owned());
    }
    match string(android, PATH, "priority")?
        .map(str::to_ascii_uppercase)
        .as_deref()
    {
        Some("HIGH") => {}
        Some("NORMAL") | None => remarks.push("android.priority is not HIGH".to_owned()),
        Some(_) => {
            let kind = "type.googleapis.com/google.firebase.fcm.v1.AndroidMessagePriority";
            return Err(value(android, PATH, "priority", kind));
        }
    }
    if let Some(text) = string(android, PATH, "ttl")? {
        ttl(android, PATH, text)?;
    }
    if let Some(options) = object(android, PATH, "fcm_options")? {
        known(options, "message.android.fcm_options", &OPTIONS)?;
    }
    if let Some(fields) = object(android, PATH, "data")? {
        data(fields, "message.android.data")?;
    }
    Ok(())
}

/// `google.protobuf.Duration` as JSON: seconds, at most nine decimals, an `s`.
fn ttl(android: &Object, path: &str, text: &str) -> Result<(), Refusal> {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let seconds = text.strip_suffix('s').and_then(|number| {
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let right = digits(whole) && digits(fraction) && fraction.len() <= 9;
        whole.parse::<u64>().ok().filter(|_| right)
    });
    match seconds {
        None => {
            let kind = "type.googleapis.com/google.protobuf.Duration";
            Err(value(android, path, "ttl", kind))
        }
        Some(seconds) if seconds > MAX_TTL => {
            let text = "Invalid time to live: it is more than four weeks.";
            Err(Refusal::field("message.android.ttl", text).code("INVALID_ARGUMENT"))
        }
        Some(_) => Ok(()),
    }
}

fn data(fields: &Object, path: &str) -> Result<(), Refusal> {
    let mut size = 0;
    for (index, (key, content)) in fields.iter().enumerate() {
        let Some(text) = content.as_str() else {
            let field = format!("{path}[{index}].value");
            let shown = shown(content);
            return Err(Refusal::field(
                &field,
                format!("Invalid value at '{field}' (TYPE_STRING), {shown}"),
            ));
        };
        if RESERVED.contains(&key.as_str()) || RESERVED_PREFIXES.iter().any(|p| key.starts_with(p))
        {
            let text = format!("Invalid data payload key: {key}");
            return Err(Refusal::field(path, text).code("INVALID_ARGUMENT"));
        }
        size += key.len() + text.len();
    }
    if size > MAX_DATA {
        return Err(Refusal::field(path, "Android message is too big").code("INVALID_ARGUMENT"));
    }
    Ok(())
}

/// A field under its `snake_case` or its `camelCase` name: JSON of protocol
/// buffers knows both.
fn get<'a>(parent: &'a Object, name: &str) -> Option<&'a Value> {
    parent
        .get(name)
        .or_else(|| parent.get(&camel(name)))
        .filter(|value| !value.is_null())
}

fn camel(name: &str) -> String {
    let mut parts = name.split('_');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let mut letters = part.chars();
        text.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        text.push_str(letters.as_str());
    }
    text
}

fn known(object: &Object, path: &str, names: &[&str]) -> Result<(), Refusal> {
    let unknown = |key: &&String| {
        !names
            .iter()
            .any(|name| *name == key.as_str() || camel(name) == **key)
    };
    let Some(key) = object.keys().find(unknown) else {
        return Ok(());
    };
    let at = Some(path).filter(|path| !path.is_empty());
    let at = at.map_or_else(String::new, |path| format!(" at '{path}'"));
    let text =
        format!("Invalid JSON payload received. Unknown name \"{key}\"{at}: Cannot find field.");
    Err(Refusal::field(path, text))
}

fn value(parent: &Object, path: &str, name: &str, kind: &str) -> Refusal {
    let field = if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    };
    let shown = get(parent, name).map(shown).unwrap_or_default();
    Refusal::field(
        &field,
        format!("Invalid value at '{field}' ({kind}), {shown}"),
    )
}

/// A scalar as it stands; structures may be long, and private.
fn shown(value: &Value) -> String {
    if value.is_object() || value.is_array() {
        "a structure".to_owned()
    } else {
        value.to_string()
    }
}

/// A field of a certain kind, if it is there.
fn typed<'a, T>(
    parent: &'a Object,
    path: &str,
    name: &str,
    kind: &str,
    read: fn(&'a Value) -> Option<T>,
) -> Result<Option<T>, Refusal> {
    let read = |found| read(found).ok_or_else(|| value(parent, path, name, kind));
    get(parent, name).map(read).transpose()
}

fn string<'a>(parent: &'a Object, path: &str, name: &str) -> Result<Option<&'a str>, Refusal> {
    typed(parent, path, name, "TYPE_STRING", Value::as_str)
}

fn flag(parent: &Object, path: &str, name: &str) -> Result<bool, Refusal> {
    let found = typed(parent, path, name, "TYPE_BOOL", Value::as_bool)?;
    Ok(found.unwrap_or(false))
}

fn object<'a>(parent: &'a Object, path: &str, name: &str) -> Result<Option<&'a Object>, Refusal> {
    typed(parent, path, name, "message", Value::as_object)
}
