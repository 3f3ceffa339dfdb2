//! Apple's rules for one push, by "Sending notification requests to `APNs`"
//! and "Handling notification responses from `APNs`".

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method};
use uuid::Uuid;

use super::accounts::{Accounts, Device};
use super::apns_auth::Sender;
use super::kind::Environment;

/// The header with the push's id.
pub(super) const APNS_ID: &str = "apns-id";
const TOPIC: &str = "apns-topic";
const PUSH_TYPE: &str = "apns-push-type";
const PRIORITY: &str = "apns-priority";
const EXPIRATION: &str = "apns-expiration";
const COLLAPSE_ID: &str = "apns-collapse-id";
/// A header that comes twice is an error of its own.
const SINGLE: [&str; 7] = [
    APNS_ID,
    TOPIC,
    PUSH_TYPE,
    PRIORITY,
    EXPIRATION,
    COLLAPSE_ID,
    "authorization",
];

/// Every push type there is, with the suffix that its topic must have.
const PUSH_TYPES: [(&str, &str); 12] = [
    ("alert", ""),
    ("background", ""),
    ("voip", ".voip"),
    ("location", ".location-query"),
    ("complication", ".complication"),
    ("fileprovider", ".pushkit.fileprovider"),
    ("mdm", ""),
    ("liveactivity", ".push-type.liveactivity"),
    ("pushtotalk", ".voip-ptt"),
    ("widgets", ".push-type.widgets"),
    ("controls", ".push-type.controls"),
    ("notificationdistribution", ""),
];

const MAX_VOIP: usize = 5_120;
const MAX_OTHER: usize = 4_096;
const MAX_COLLAPSE_ID: usize = 64;
const MAX_TOKEN: usize = 512;

/// A refusal: status, Apple's word, and with 410 the time in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rejection {
    pub(super) status: u16,
    pub(super) reason: &'static str,
    pub(super) timestamp: Option<i64>,
}

impl Rejection {
    pub(super) const fn new(status: u16, reason: &'static str) -> Self {
        Self {
            status,
            reason,
            timestamp: None,
        }
    }
}

const fn bad(reason: &'static str) -> Rejection {
    Rejection::new(400, reason)
}

/// The device token in the path, or what is wrong with path or method.
pub(super) fn device_token(head: &Parts) -> Result<&str, Rejection> {
    let rest = head
        .uri
        .path()
        .strip_prefix("/3/device")
        .ok_or(Rejection::new(404, "BadPath"))?;
    let token = match rest.strip_prefix('/') {
        Some(token) => token,
        None if rest.is_empty() => "",
        None => return Err(Rejection::new(404, "BadPath")),
    };
    if head.method != Method::POST {
        return Err(Rejection::new(405, "MethodNotAllowed"));
    }
    if head.uri.query().is_some() || token.contains('/') {
        return Err(Rejection::new(404, "BadPath"));
    }
    if token.is_empty() {
        return Err(bad("MissingDeviceToken"));
    }
    Ok(token)
}

/// The rules that need neither the sender nor the device: headers first, then
/// the payload. Gives the push type.
pub(super) fn request(headers: &HeaderMap, body: &Bytes) -> Result<&'static str, Rejection> {
    if SINGLE
        .iter()
        .any(|name| headers.get_all(*name).iter().count() > 1)
    {
        return Err(bad("DuplicateHeaders"));
    }
    if text(headers, APNS_ID).is_some_and(|id| !is_canonical_uuid(id)) {
        return Err(bad("BadMessageId"));
    }
    let push_type = text(headers, PUSH_TYPE).unwrap_or_default();
    let (push_type, _) = PUSH_TYPES
        .iter()
        .find(|(known, _)| *known == push_type)
        .ok_or(bad("InvalidPushType"))?;
    if text(headers, EXPIRATION).is_some_and(|at| !is_number(at)) {
        return Err(bad("BadExpirationDate"));
    }
    let priority = text(headers, PRIORITY).unwrap_or("10");
    let background = *push_type == "background";
    if !matches!(priority, "1" | "5" | "10") || (background && priority == "10") {
        return Err(bad("BadPriority"));
    }
    let collapse = headers.get(COLLAPSE_ID);
    if collapse.is_some_and(|id| id.is_empty() || id.len() > MAX_COLLAPSE_ID) {
        return Err(bad("BadCollapseId"));
    }
    payload(push_type, body)?;
    Ok(push_type)
}

fn payload(push_type: &str, body: &Bytes) -> Result<(), Rejection> {
    let most = if push_type == "voip" {
        MAX_VOIP
    } else {
        MAX_OTHER
    };
    if body.is_empty() {
        return Err(bad("PayloadEmpty"));
    }
    if body.len() > most {
        return Err(Rejection::new(413, "PayloadTooLarge"));
    }
    let object = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(body);
    // Apple documents no word for a payload that is no dictionary; PayloadEmpty
    // is what senders of such bodies report.
    object.map(|_| ()).map_err(|_| bad("PayloadEmpty"))
}

/// The topic against the push type and against what the sender may use.
pub(super) fn topic<'a>(
    headers: &'a HeaderMap,
    push_type: &str,
    sender: &Sender,
    accounts: &Accounts,
) -> Result<&'a str, Rejection> {
    let topic = match (text(headers, TOPIC), sender) {
        (Some(topic), _) if !topic.is_empty() => topic,
        _ => return Err(bad("MissingTopic")),
    };
    if !topic
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
    {
        return Err(bad("BadTopic"));
    }
    let allowed = match sender {
        Sender::Topics(topics) => topics.iter().any(|known| known == topic),
        Sender::Team(team, apps) => {
            let state = accounts.read();
            let bundles = state.teams.get(team);
            bundles.is_some_and(|bundles| {
                PUSH_TYPES
                    .iter()
                    .filter_map(|(_, suffix)| topic.strip_suffix(suffix))
                    .filter(|bundle| bundles.contains(*bundle))
                    .any(|bundle| {
                        apps.as_ref()
                            .is_none_or(|apps| apps.iter().any(|a| a == bundle))
                    })
            })
        }
    };
    if !allowed {
        return Err(bad("TopicDisallowed"));
    }
    let voip_topic = topic.strip_suffix(".voip").is_some();
    let suffix = PUSH_TYPES
        .iter()
        .find(|(known, _)| *known == push_type)
        .map_or("", |(_, s)| s);
    if voip_topic && push_type != "voip" {
        return Err(bad("InvalidPushType"));
    }
    if !suffix.is_empty() && !topic.ends_with(suffix) {
        return Err(bad("DeviceTokenNotForTopic"));
    }
    Ok(topic)
}

/// The device: whether there is such a token here and for this topic.
pub(super) fn device(
    token: &str,
    device: &Device,
    topic: &str,
    environment: Environment,
) -> Result<(), Rejection> {
    let hex = token.bytes().all(|b| b.is_ascii_hexdigit()) && token.len().is_multiple_of(2);
    let elsewhere = device.environment.is_some_and(|only| only != environment);
    if !hex || token.len() > MAX_TOKEN || elsewhere || device.invalid {
        return Err(bad("BadDeviceToken"));
    }
    if device.topic.as_ref().is_some_and(|only| only != topic) {
        return Err(bad("DeviceTokenNotForTopic"));
    }
    if let Some(since) = device.unregistered_since {
        let reason = if device.expired {
            "ExpiredToken"
        } else {
            "Unregistered"
        };
        return Err(Rejection {
            timestamp: Some(since.timestamp_millis()),
            ..Rejection::new(410, reason)
        });
    }
    Ok(())
}

/// A header's text; one that is not ASCII counts as empty.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get(name)
        .map(|value| value.to_str().unwrap_or_default())
}

/// 8-4-4-4-12 hexadecimal digits, in either case.
fn is_canonical_uuid(id: &str) -> bool {
    id.len() == 36 && Uuid::try_parse(id).is_ok()
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u64>().is_ok()
}
