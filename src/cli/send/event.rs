//! The ring that a test push belongs to.

use anyhow::Context as _;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::plan::{EnvironmentArg, Plan};
use crate::app::profiles;
use crate::call::event::{Event, EventKind, TargetKind};
use crate::call::time::Timestamp;
use crate::cli::Usage;
use crate::engine::deadline::wall_clock;

/// Makes the ring from a file or from the arguments, and proves that it is one.
///
/// # Errors
/// The file, the profile or the token cannot be used; says why.
pub(super) fn ring(plan: &Plan) -> anyhow::Result<Value> {
    let known = profiles(&plan.config)?;
    let Some(profile) = known.get(plan.profile()) else {
        let names: Vec<&str> = known.names().collect();
        let problem = format!("no such profile; known are {}", names.join(", "));
        return Err(Usage(format!("--profile {}: {problem}", plan.profile())).into());
    };
    let template = match &plan.args.event {
        Some(file) => {
            let text = crate::files::read(file)
                .map_err(|error| Usage(format!("--event {}: {error}", file.display())))?;
            let event: Map<String, Value> = serde_json::from_slice(&text).map_err(|error| {
                Usage(format!(
                    "--event {}: not one JSON object: {error}",
                    file.display()
                ))
            })?;
            from_file(plan, event)
        }
        None => from_arguments(plan, profile.example_data()),
    };
    let event = fresh(plan, template);
    let decoded = Event::decode(event.to_string().as_bytes(), plan.config.ring.limits())
        .map_err(|error| Usage(format!("the event: {error}")))?;
    if decoded.kind() != EventKind::Ring {
        return Err(Usage("--event: give a ring; a cancel has nothing to stop here".into()).into());
    }
    let entry = decoded.devices().first().context("no device")?;
    if let Err(bad) = &entry.device {
        return Err(Usage(format!("{}: {}", bad.reason, bad.error)).into());
    }
    Ok(event)
}

fn from_arguments(plan: &Plan, data: Option<&Map<String, Value>>) -> Map<String, Value> {
    let args = &plan.args;
    let mut caller = json!({"id": args.caller_id, "name": args.caller_name});
    if let Some(handle) = &args.handle {
        caller["handle"] = json!(handle);
    }
    let mut event = Map::new();
    event.insert("v".into(), json!(1));
    event.insert("event".into(), json!("ring"));
    event.insert(
        "media".into(),
        json!(if args.video { "video" } else { "audio" }),
    );
    event.insert("caller".into(), caller);
    if let Some(data) = data {
        event.insert("data".into(), json!(data));
    }
    event.insert("devices".into(), json!([device(plan, Map::new())]));
    event
}

fn from_file(plan: &Plan, mut event: Map<String, Value>) -> Map<String, Value> {
    let platform = plan.args.platform().name();
    let devices = event.get("devices").and_then(Value::as_array);
    let like = devices
        .into_iter()
        .flatten()
        .find(|device| device["platform"] == platform)
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default();
    event.insert("devices".into(), json!([device(plan, like)]));
    event
}

/// The device of the arguments, over one of the file's.
fn device(plan: &Plan, mut device: Map<String, Value>) -> Value {
    let args = &plan.args;
    device.entry("id").or_insert_with(|| json!("ringpush-send"));
    device.insert("platform".into(), json!(args.platform().name()));
    device.insert("app".into(), json!(args.app));
    let (kind, target) = args.target();
    for other in TargetKind::NAMES {
        device.remove(*other);
    }
    device.insert(kind.name().into(), json!(target));
    device.remove("registered_at");
    let environment = args.environment.map(|environment| match environment {
        EnvironmentArg::Production => "production",
        EnvironmentArg::Sandbox => "sandbox",
        EnvironmentArg::Auto => "auto",
    });
    match environment {
        Some(environment) => device.insert("environment".into(), json!(environment)),
        None => device.remove("environment"),
    };
    Value::Object(device)
}

/// The event as of now, with an id of its own.
fn fresh(plan: &Plan, mut event: Map<String, Value>) -> Value {
    let (now, id) = (wall_clock(), Uuid::new_v4());
    let end: Timestamp = now.plus(plan.args.timeout);
    event.insert("event_id".into(), json!(id.to_string()));
    event.insert("sent_at".into(), json!(now.to_string()));
    event.insert("expires_at".into(), json!(end.to_string()));
    event
        .entry("call_id")
        .or_insert_with(|| json!(id.to_string()));
    event.insert("profile".into(), json!(plan.profile()));
    Value::Object(event)
}
