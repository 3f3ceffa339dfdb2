//! The `APNs` server's judgement of one push.

use bytes::Bytes;
use http::request::Parts;
use serde_json::json;
use uuid::Uuid;

use super::apns_auth::Auth;
use super::apns_rules::{self, APNS_ID, Rejection};
use super::exchange::{Judged, Reply};
use super::kind::Environment;
use super::world::World;

/// Judges by Apple's rules: path and method, headers and payload, sender,
/// topic, device.
pub(super) fn judge(
    world: &World,
    environment: Environment,
    auth: &Auth,
    head: &Parts,
    body: &Bytes,
) -> Judged {
    let token = apns_rules::device_token(head);
    let (claims, sender) = auth.judge(&head.headers, &world.accounts);
    let authenticated = sender.is_ok();
    let mut sound = false;
    let verdict = token.and_then(|token| {
        let push_type = apns_rules::request(&head.headers, body)?;
        let sender = sender.map_err(|(status, reason)| Rejection::new(status, reason))?;
        let topic = apns_rules::topic(&head.headers, push_type, &sender, &world.accounts)?;
        sound = true;
        apns_rules::device(token, &world.accounts.device(token), topic, environment)
    });
    let id = apns_rules::text(&head.headers, APNS_ID)
        .filter(|id| !id.is_empty())
        .map_or_else(|| Uuid::new_v4().to_string().to_uppercase(), str::to_owned);
    let mut judged = match verdict {
        Ok(()) => Judged::new(Reply::new(200, Bytes::new()), None),
        Err(Rejection {
            status,
            reason,
            timestamp,
        }) => Judged::new(error(status, Some(reason), timestamp), Some(reason)),
    };
    if sound {
        // A dead device is no fault of the request.
        judged.violations.clear();
    }
    judged.reply = with_ids(judged.reply, &id, environment);
    judged.answer.delivered = verdict.is_ok();
    judged.answer.id = Some(id.clone());
    judged.claims = claims;
    judged.token = token.ok().map(str::to_owned);
    judged.push_id = Some(id);
    judged.sound = sound;
    judged.authenticated = authenticated;
    judged
}

/// A refusal in Apple's form: the word, and with 410 a time in milliseconds.
pub(super) fn error(
    status: u16,
    reason: Option<&str>,
    timestamp: Option<impl serde::Serialize>,
) -> Reply {
    let body = match (reason, timestamp) {
        (Some(reason), Some(at)) => json!({ "reason": reason, "timestamp": at }).to_string(),
        (Some(reason), None) => json!({ "reason": reason }).to_string(),
        (None, _) => String::new(),
    };
    Reply::new(status, body)
}

/// Every answer names the push; the sandbox adds an id for Apple's console.
pub(super) fn with_ids(reply: Reply, id: &str, environment: Environment) -> Reply {
    let reply = reply.header(APNS_ID, id);
    match environment {
        Environment::Production => reply,
        Environment::Sandbox => reply.header("apns-unique-id", &Uuid::new_v4().to_string()),
    }
}
