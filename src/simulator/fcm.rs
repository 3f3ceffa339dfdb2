//! The FCM server's judgement of one message.

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, Method};
use serde_json::json;
use tokio::time::Instant;

use super::accounts::Grant;
use super::exchange::{Judged, Reply};
use super::fcm_errors::Refusal;
use super::fcm_rules::{self, Message};
use super::world::World;

/// Judges by Google's rules: path, bearer, shape, project, device.
pub(super) fn judge(world: &World, head: &Parts, body: &Bytes) -> Judged {
    let Some(project) = project(head) else {
        let page = "<!DOCTYPE html><html lang=en><title>Error 404 (Not Found)!!1</title>";
        let reply = Reply::new(404, page).header("content-type", "text/html; charset=UTF-8");
        return Judged::new(reply, Some("NOT_FOUND"));
    };
    let grant = match bearer(world, &head.headers) {
        Ok(grant) => grant,
        Err(refusal) => return refused(&refusal),
    };
    // Under its number a project is the same.
    let by_number = world.accounts.read().projects.get(project).cloned();
    let project = by_number.as_deref().unwrap_or(project);
    let mut judged = match fcm_rules::message(body) {
        Err(refusal) => refused(&refusal),
        Ok(message) => match allowed(world, project, &grant) {
            Err(refusal) => named(refused(&refusal), message),
            Ok(()) => to_device(world, project, message),
        },
    };
    judged.authenticated = true;
    judged
}

fn to_device(world: &World, project: &str, message: Message) -> Judged {
    let verdict = device(world, project, &message);
    let validate_only = message.validate_only;
    let remarks = message.remarks.clone();
    let mut judged = match &verdict {
        Err(refusal) => refused(refusal),
        Ok(()) => accepted(project, validate_only),
    };
    judged.violations = remarks;
    judged.sound = true;
    judged.answer.delivered = verdict.is_ok() && !validate_only;
    named(judged, message)
}

fn accepted(project: &str, validate_only: bool) -> Judged {
    let id = if validate_only {
        "fake_message_id".to_owned()
    } else {
        format!("0:{}", uuid::Uuid::new_v4().simple())
    };
    let name = format!("projects/{project}/messages/{id}");
    let mut judged = Judged::new(Reply::json(200, &json!({ "name": name })), None);
    judged.answer.id = Some(name);
    judged
}

/// Adds whom the message was for.
fn named(mut judged: Judged, message: Message) -> Judged {
    judged.push_id = match (&message.event_id, &message.token) {
        (Some(event), Some(token)) => Some(format!("{event}/{token}")),
        (Some(_) | None, None) | (None, Some(_)) => None,
    };
    judged.token = message.token;
    judged
}

fn refused(refusal: &Refusal) -> Judged {
    let mut judged = Judged::new(refusal.reply(), Some(refusal.reason()));
    judged.violations = vec![refusal.message.clone()];
    judged
}

/// The project of `/v1/projects/<project>/messages:send`.
fn project(head: &Parts) -> Option<&str> {
    let rest = head.uri.path().strip_prefix("/v1/projects/")?;
    let project = rest.strip_suffix("/messages:send")?;
    let plain = !project.is_empty() && !project.contains('/');
    (plain && head.method == Method::POST).then_some(project)
}

fn bearer(world: &World, headers: &HeaderMap) -> Result<Grant, Refusal> {
    let hint = "Expected OAuth 2 access token, login cookie or other valid authentication \
                credential. See \
                https://developers.google.com/identity/sign-in/web/devconsole-project.";
    let Some(value) = headers.get(AUTHORIZATION) else {
        let text = format!("Request is missing required authentication credential. {hint}");
        return Err(Refusal::new(401, text).info("CREDENTIALS_MISSING"));
    };
    let text = format!("Request had invalid authentication credentials. {hint}");
    let token = value
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token);
    let grant = token.and_then(|token| world.accounts.read().grants.get(token).cloned());
    match grant {
        None => Err(Refusal::new(401, text).info("ACCESS_TOKEN_TYPE_UNSUPPORTED")),
        Some(grant) if grant.expires <= Instant::now() => {
            Err(Refusal::new(401, text).info("ACCESS_TOKEN_EXPIRED"))
        }
        Some(grant) => Ok(grant),
    }
}

/// Whether the account may send for the project.
fn allowed(world: &World, project: &str, grant: &Grant) -> Result<(), Refusal> {
    if !grant.messaging {
        let text = "Request had insufficient authentication scopes.";
        return Err(Refusal::new(403, text).info("ACCESS_TOKEN_SCOPE_INSUFFICIENT"));
    }
    let state = world.accounts.read();
    if !state.projects.contains_key(project) {
        return Err(Refusal::new(404, "Requested entity was not found."));
    }
    let account = state.service_accounts.get(&grant.account);
    if account.is_some_and(|account| account.projects.contains(project)) {
        return Ok(());
    }
    let text = format!(
        "Permission 'cloudmessaging.messages.create' denied on resource \
         '//cloudresourcemanager.googleapis.com/projects/{project}' (or it may not exist)."
    );
    Err(Refusal::new(403, text).info("IAM_PERMISSION_DENIED"))
}

fn device(world: &World, project: &str, message: &Message) -> Result<(), Refusal> {
    let Some(token) = &message.token else {
        return Ok(());
    };
    let device = world.accounts.device(token);
    if device.invalid {
        return Err(message.invalid.clone());
    }
    if device.project.is_some_and(|only| only != project) {
        return Err(Refusal::new(403, "SenderId mismatch").code("SENDER_ID_MISMATCH"));
    }
    if device.unregistered_since.is_some() {
        let text = "Requested entity was not found.";
        return Err(Refusal::new(404, text).code("UNREGISTERED"));
    }
    Ok(())
}
