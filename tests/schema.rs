//! The published JSON Schema and the decoder say the same of every fixture,
//! and the decoder names what is wrong as the fixture says it must.

#![allow(clippy::unwrap_used, reason = "a test may end where it stumbles")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use ringpush::call::event::{Event, Limits, MAX_DEVICES};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const LIMITS: Limits = Limits {
    ttl: Duration::from_secs(45),
    max_ttl: Duration::from_secs(120),
};

/// What the fixture is there to show, and the error that it must give.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BadEvent {
    why: String,
    error: Fault,
    /// Why the schema cannot see it, where it cannot.
    schema_blind: Option<String>,
    #[serde(default)]
    event: Value,
    /// The body itself, where it is not JSON.
    raw: Option<String>,
    /// The only device as often as this, with ids of their own.
    repeat_device: Option<usize>,
    /// White space behind the body, up to this length.
    pad_to: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BadDevice {
    why: String,
    /// The outcome's reason.
    reason: String,
    error: Fault,
    schema_blind: Option<String>,
    /// A device that stands before it.
    before: Option<Value>,
    device: Value,
}

/// An event that counts although a field that need not be there is wrong.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Odd {
    why: String,
    /// What the outcome says of it.
    ignored: String,
    event: Value,
}

/// A device that rings, with an `alert_token` that nothing can be pushed to.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BadAlertToken {
    why: String,
    /// What the outcome of a background push says.
    detail: String,
    device: Value,
}

#[derive(Deserialize, PartialEq, Debug)]
#[serde(deny_unknown_fields)]
struct Fault {
    path: String,
    problem: String,
}

#[test]
fn good_events_pass_both() {
    let schema = schema();
    let mut seen = 0;
    for (name, event) in read::<Value>("events-good")
        .into_iter()
        .chain(read("events"))
    {
        let problems: Vec<String> = schema.iter_errors(&event).map(|e| e.to_string()).collect();
        assert!(problems.is_empty(), "{name}: {problems:#?}");
        let event = Event::decode(event.to_string().as_bytes(), LIMITS)
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        for entry in event.devices() {
            if let Err(bad) = &entry.device {
                panic!("{name}: {}", bad.error);
            }
        }
        seen += 1;
    }
    assert!(seen >= 11, "only {seen} good events were found");
}

#[test]
fn the_schemas_own_examples_are_good() {
    let document = document();
    let examples = document["examples"].as_array().unwrap();
    assert!(!examples.is_empty());
    for example in examples {
        assert!(schema().is_valid(example), "{example}");
        Event::decode(example.to_string().as_bytes(), LIMITS).unwrap();
    }
}

#[test]
fn bad_events_give_exactly_their_error() {
    let fixtures = read::<BadEvent>("events-bad");
    assert!(fixtures.len() >= 50, "only {} were found", fixtures.len());
    for (name, bad) in fixtures {
        let error = Event::decode(&bad.body(), LIMITS)
            .err()
            .unwrap_or_else(|| panic!("{name} was taken; {}", bad.why));
        let error = Fault {
            path: error.path,
            problem: error.problem.into_owned(),
        };
        assert_eq!(error, bad.error, "{name}: {}", bad.why);
    }
}

#[test]
fn the_schema_refuses_every_bad_event_that_it_can_see() {
    let schema = schema();
    for (name, bad) in read::<BadEvent>("events-bad") {
        let valid =
            serde_json::from_slice::<Value>(&bad.body()).is_ok_and(|event| schema.is_valid(&event));
        match &bad.schema_blind {
            None => assert!(!valid, "{name} passes the schema; {}", bad.why),
            // What is not JSON never gets there; the rest must pass, or the
            // fixture is wrong in claiming that the schema is blind.
            Some(why) => assert!(
                valid || serde_json::from_slice::<Value>(&bad.body()).is_err(),
                "{name}: the schema does see it, though: {why}"
            ),
        }
    }
}

#[test]
fn bad_devices_are_reported_and_leave_the_others_alone() {
    let fixtures = read::<BadDevice>("devices-bad");
    assert!(fixtures.len() >= 20, "only {} were found", fixtures.len());
    for (name, bad) in fixtures {
        let event = Event::decode(bad.event().to_string().as_bytes(), LIMITS)
            .unwrap_or_else(|e| panic!("{name} took the whole event with it: {e}"));
        let (faults, good): (Vec<_>, Vec<_>) = event
            .devices()
            .iter()
            .partition(|entry| entry.device.is_err());
        assert_eq!(faults.len(), 1, "{name}: {}", bad.why);
        assert_eq!(good.len(), bad.others(), "{name}: {}", bad.why);
        let found = faults[0].device.as_ref().unwrap_err();
        assert_eq!(found.reason, bad.reason, "{name}");
        assert_eq!(found.error.path, bad.error.path, "{name}");
        assert_eq!(found.error.problem, bad.error.problem, "{name}");
    }
}

#[test]
fn the_schema_refuses_every_bad_device_that_it_can_see() {
    let schema = schema();
    for (name, bad) in read::<BadDevice>("devices-bad") {
        let valid = schema.is_valid(&bad.event());
        assert_eq!(valid, bad.schema_blind.is_some(), "{name}: {}", bad.why);
    }
}

#[test]
fn a_device_with_a_bad_alert_token_rings_although_the_schema_refuses_it() {
    let schema = schema();
    let fixtures = read::<BadAlertToken>("alert-tokens-bad");
    assert!(fixtures.len() >= 4, "only {} were found", fixtures.len());
    for (name, bad) in fixtures {
        let event = event_of(std::slice::from_ref(&bad.device));
        assert!(!schema.is_valid(&event), "{name}: {}", bad.why);
        let event = Event::decode(event.to_string().as_bytes(), LIMITS).unwrap();
        let device = event.devices()[0].device.as_ref();
        let device = device.unwrap_or_else(|bad| panic!("{name}: {}", bad.error));
        let found = device.background_token();
        assert_eq!(found, Err(("invalid_alert_token", bad.detail)), "{name}");
    }
}

#[test]
fn what_is_odd_is_ignored_by_name_although_the_schema_refuses_it() {
    let schema = schema();
    let fixtures = read::<Odd>("odd");
    assert!(fixtures.len() >= 24, "only {} were found", fixtures.len());
    for (name, odd) in fixtures {
        assert!(!schema.is_valid(&odd.event), "{name}: {}", odd.why);
        let event = Event::decode(odd.event.to_string().as_bytes(), LIMITS);
        let event = event.unwrap_or_else(|e| panic!("{name}: {e}; {}", odd.why));
        let devices = event.devices().iter().map(|entry| &entry.device);
        let mut ignored: Vec<_> = devices
            .map(|device| device.as_ref().unwrap().ignored.clone())
            .collect();
        ignored.push(event.ignored.clone());
        let expected = Some(odd.ignored.into());
        assert!(ignored.contains(&expected), "{name}: {ignored:?}");
    }
}

/// A field that the decoder reads and the schema leaves out, or the other way
/// round, is found by giving it something that no field takes.
#[test]
fn schema_and_decoder_know_the_same_fields() {
    let document = document();
    let ring: Value = serde_json::from_str(
        &fs::read_to_string(folder("events-good").join("ring-everything.json")).unwrap(),
    )
    .unwrap();
    let fields = document["properties"].as_object().unwrap();
    for name in fields.keys() {
        let mut event = ring.clone();
        event[name] = json!([[[]]]);
        let decoded = Event::decode(event.to_string().as_bytes(), LIMITS);
        let refused = decoded.map_or(true, |e| {
            e.ignored.is_some() || e.devices().iter().any(|d| d.device.is_err())
        });
        assert!(refused, "the decoder does not look at {name}");
    }
    for (name, at) in [("caller", "caller"), ("device", "device")] {
        for field in document["$defs"][name]["properties"]
            .as_object()
            .unwrap()
            .keys()
        {
            let mut event = ring.clone();
            let target = match at {
                "caller" => &mut event["caller"],
                _ => &mut event["devices"][0],
            };
            target[field] = json!([[[]]]);
            let decoded = Event::decode(event.to_string().as_bytes(), LIMITS);
            let refused = decoded.map_or(true, |e| match &e.devices()[0].device {
                Ok(device) => device.ignored.is_some() || device.background_token().is_err(),
                Err(_) => true,
            });
            assert!(refused, "the decoder does not look at {name}.{field}");
        }
    }
    for name in ring.as_object().unwrap().keys() {
        assert!(fields.contains_key(name), "the schema does not know {name}");
    }
}

#[test]
fn the_schemas_limits_are_the_decoders() {
    let document = document();
    assert_eq!(document["properties"]["devices"]["maxItems"], MAX_DEVICES);
    assert_eq!(document["properties"]["call_id"]["maxLength"], 128);
}

impl BadEvent {
    fn body(&self) -> Vec<u8> {
        if let Some(raw) = &self.raw {
            return raw.clone().into_bytes();
        }
        let mut event = self.event.clone();
        if let Some(count) = self.repeat_device {
            let device = event["devices"][0].clone();
            let copies = (0..count).map(|n| {
                let mut copy = device.clone();
                copy["id"] = json!(format!("phone-{n}"));
                copy
            });
            event["devices"] = copies.collect();
        }
        let mut body = event.to_string().into_bytes();
        if let Some(length) = self.pad_to {
            body.resize(length, b' ');
        }
        body
    }
}

impl BadDevice {
    /// How many devices of [`Self::event`] are fine.
    fn others(&self) -> usize {
        1 + usize::from(self.before.is_some())
    }

    fn event(&self) -> Value {
        let after = json!({"id": "fine", "platform": "android", "app": "a", "token": "t"});
        let devices: Vec<Value> = self
            .before
            .iter()
            .chain([&self.device, &after])
            .cloned()
            .collect();
        event_of(&devices)
    }
}

fn event_of(devices: &[Value]) -> Value {
    json!({
        "v": 1, "event": "ring", "event_id": "0d5c1f7e-3c55-4f0e-9a10-6a3f0a7be001",
        "call_id": "room-42", "sent_at": "2026-09-21T14:13:20Z",
        "caller": {"id": "user-1"}, "devices": devices,
    })
}

fn document() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schema/event-v1.schema.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn schema() -> jsonschema::Validator {
    jsonschema::draft202012::new(&document()).unwrap()
}

fn folder(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(name)
}

/// Every file of a folder of fixtures, by name. A file of another kind fails
/// the test: it would stand there and check nothing.
fn read<T: DeserializeOwned>(name: &str) -> BTreeMap<String, T> {
    let Ok(files) = fs::read_dir(folder(name)) else {
        return BTreeMap::new();
    };
    files
        .map(|file| {
            let path = file.unwrap().path();
            assert!(
                path.extension().is_some_and(|e| e == "json"),
                "{} is not picked up by any test",
                path.display()
            );
            let text = fs::read_to_string(&path).unwrap();
            let value =
                serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            let stem = path.file_stem().unwrap().to_str().unwrap();
            (format!("{name}/{stem}"), value)
        })
        .collect()
}
