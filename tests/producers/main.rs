//! Every example in `examples/` does what it says: what it publishes goes
//! through a real RabbitMQ and a worker to the simulators' phones.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may end where it stumbles"
)]

#[path = "../support/mod.rs"]
mod support;

#[allow(dead_code, reason = "its main is for those who run it")]
#[path = "../../examples/producers/rust/main.rs"]
mod producer;

mod calls;
mod chime;
mod publishers;
mod sealed;
mod tools;

use std::path::PathBuf;
use std::sync::Arc;

use ringpush::simulator::Record;
use serde_json::{Value, json};

use support::stage::Stage;

/// The push that a token got last; there has to be one, and a good one.
fn pushed(stage: &Stage, token: &str) -> Arc<Record> {
    let mut pushes = stage.simulator.record().pushes();
    pushes.retain(|push| push.token.as_deref() == Some(token));
    let push = pushes.pop().unwrap_or_else(|| panic!("no push to {token}"));
    assert!(push.violations.is_empty(), "{:?}", push.violations);
    assert!(push.answer.delivered);
    push
}

/// What the app on that phone gets: the dictionary, or `data`.
fn payload(stage: &Stage, token: &str) -> Value {
    let body = pushed(stage, token).json().unwrap();
    let data = body["message"]["data"].clone();
    if data.is_null() { body } else { data }
}

/// Writes a JSON file beside the worker's configuration.
fn file(stage: &Stage, name: &str, content: &Value) -> PathBuf {
    let path = stage.file(name);
    std::fs::write(&path, content.to_string()).unwrap();
    path
}

/// An iPhone and an Android phone of one person, and their tokens.
fn phones() -> (Value, String, String) {
    use support::events::{android, android_token, ios, ios_token};
    let (apple, google) = (ios_token(), android_token());
    let devices = json!([ios("bob-iphone", &apple), android("bob-pixel", &google)]);
    (devices, apple, google)
}
