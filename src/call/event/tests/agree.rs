//! The fast way and the slow way of decoding, held against each other: what
//! the fast one takes, the slow one takes with the same result.

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::super::diagnose::diagnose;
use super::super::rules::{ALERT_TOKEN, device_fields, event_fields};
use super::super::wire;
use super::*;

/// JSON texts, among them all that some field must not be.
const TEXTS: &[&str] = &[
    "null",
    "true",
    "1",
    "1.0",
    "-0",
    "1e999",
    "12345678901234567890123",
    r#""""#,
    r#""x""#,
    r#""ios""#,
    r#""unknown""#,
    r#""ring""#,
    r#""cancel""#,
    r#""auto""#,
    r#""video""#,
    r#""phone""#,
    r#""user""#,
    r#""busy""#,
    r#""00fF""#,
    r#""\ud800""#,
    r#""\u0061\n""#,
    r#""2026-09-21T14:13:20Z""#,
    r#""2026-09-21 14:13:20Z""#,
    r#""0d5c1f7e-3c55-4f0e-9a10-6a3f0a7be001""#,
    r#""0d5c1f7e3c554f0e9a106a3f0a7be001""#,
    "[]",
    "{}",
    "[1]",
    r#"["x"]"#,
    r#"{"ring":null}"#,
    r#"{"id":"x","type":"group","kid":"k","ct":"c"}"#,
    r#"{"id":"x","more":{"a":[1.5,{"b":null}]}}"#,
    r#"{"z":1,"a":{"c":1.50,"b":[]},"z":2}"#,
    r#"{"n":1e999}"#,
    "[{}]",
];

/// Fields that stand neither in an event nor in a device itself.
const DEEPER: &[&str] = &[
    "devices",
    "name",
    "handle",
    "handle_type",
    "avatar_url",
    "type",
    "kid",
    "ct",
    "other",
];

/// Every optional field is there.
pub(super) fn full(cancel: bool) -> Value {
    let mut event = ring();
    event["call_uuid"] = json!("7D0F4A58-6F0B-4F2E-9A55-2C1B8F1E0A11");
    event["expires_at"] = json!("2026-09-21T16:14:00+02:00");
    event["media"] = json!("video");
    event["caller"]["handle"] = json!("+4930123456");
    event["caller"]["handle_type"] = json!("phone");
    event["caller"]["avatar_url"] = json!("https://example.com/a.png");
    event["callee"] = json!({"id": "user-2", "name": "Zoë \"Z\" 🎉"});
    event["conversation"] = json!({"type": "group", "id": "c", "name": "Team"});
    event["profile"] = json!("plain");
    event["devices"][0]["environment"] = json!("auto");
    event["devices"][0]["registered_at"] = json!("2026-09-01T00:00:00.5Z");
    event["devices"][0]["alert_token"] = json!("aa");
    event["devices"][0]["data"] = json!({"b": [1, {"c": null}], "z": 1.5});
    event["devices"][1]["sealed"] = json!({"kid": "k", "ct": "c"});
    let fid = json!({"id": "3", "platform": "android", "app": "a", "fid": "t"});
    event["devices"].as_array_mut().unwrap().push(fid);
    if cancel {
        event["event"] = json!("cancel");
        event["reason"] = json!("answered_elsewhere");
        event["except"] = json!([]);
    }
    event
}

/// What may be done to one object of an event.
#[derive(Clone, Debug)]
enum Mutation {
    Remove(Index),
    /// Another value for a field that is there.
    Replace(Index, String),
    /// A field more, which may be there already.
    Add(Index, &'static str, String),
}

pub(super) fn any_text() -> impl Strategy<Value = String> {
    let deep = |depth| "[".repeat(depth) + &"]".repeat(depth);
    prop_oneof![
        20 => select(TEXTS).prop_map(str::to_owned),
        1 => (100_usize..200).prop_map(deep),
    ]
}

fn any_field() -> impl Strategy<Value = &'static str> {
    let event = event_fields(EventKind::Ring).map(|field| field.name);
    let device = device_fields(Platform::Ios).map(|field| field.name);
    select([&event[..], &device, &[ALERT_TOKEN], DEEPER].concat())
}

fn any_mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        any::<Index>().prop_map(Mutation::Remove),
        (any::<Index>(), any_text()).prop_map(|(at, text)| Mutation::Replace(at, text)),
        (any::<Index>(), any_field(), any_text())
            .prop_map(|(at, field, text)| Mutation::Add(at, field, text)),
    ]
}

/// An object as text with a mutation to it, or to an object inside it.
fn mutated(value: &Value, path: &[Index], mutation: &Mutation) -> String {
    if let Some(items) = value.as_array().filter(|items| !items.is_empty()) {
        let at = path.first().map_or(0, |index| index.index(items.len()));
        let items = items.iter().enumerate().map(|(n, item)| {
            if n == at {
                mutated(item, path, mutation)
            } else {
                item.to_string()
            }
        });
        return format!("[{}]", items.collect::<Vec<_>>().join(","));
    }
    let Some(map) = value.as_object() else {
        return value.to_string();
    };
    let inner: Vec<&String> = map
        .iter()
        .filter(|(_, value)| value.is_object() || value.is_array())
        .map(|(key, _)| key)
        .collect();
    let inside = path.split_first().filter(|_| !inner.is_empty());
    let inside = inside.map(|(index, deeper)| (inner[index.index(inner.len())], deeper));
    let mut fields: Vec<(&str, String)> = map
        .iter()
        .map(|(key, value)| match inside {
            Some((name, deeper)) if name == key => (&**key, mutated(value, deeper, mutation)),
            _ => (&**key, value.to_string()),
        })
        .collect();
    match mutation {
        _ if inside.is_some() || fields.is_empty() => {}
        Mutation::Remove(at) => drop(fields.remove(at.index(fields.len()))),
        Mutation::Replace(at, text) => {
            let at = at.index(fields.len());
            fields[at].1.clone_from(text);
        }
        Mutation::Add(at, field, text) => {
            fields.insert(at.index(fields.len() + 1), (field, text.clone()));
        }
    }
    let fields = fields.iter().map(|(key, value)| format!("{key:?}:{value}"));
    format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
}

fn agree(body: &[u8]) -> Result<(), TestCaseError> {
    let slow = diagnose(body, LIMITS);
    if let Some(fast) = wire::read(body, LIMITS) {
        prop_assert_eq!(slow, Ok(fast));
        return Ok(());
    }
    let no_reason = "breaks a rule";
    match slow {
        Ok(event) => {
            let mut bad = event
                .devices()
                .iter()
                .filter_map(|entry| entry.device.as_ref().err());
            prop_assert!(bad.all(|bad| bad.error.problem != no_reason), "{event:?}");
        }
        Err(error) => prop_assert_ne!(error.problem, no_reason),
    }
    Ok(())
}

#[test]
fn a_valid_event_takes_the_fast_way() {
    for event in [ring(), full(false), full(true)] {
        let body = event.to_string();
        let fast = wire::read(body.as_bytes(), LIMITS).unwrap();
        assert_eq!(diagnose(body.as_bytes(), LIMITS), Ok(fast));
    }
    // Fields that mean nothing do not make it slow.
    let mut event = full(false);
    for object in ["caller", "callee", "conversation"] {
        event[object]["other"] = json!({"a": [1, null]});
    }
    event["other"] = json!([{}]);
    event["devices"][0]["other"] = json!(1.5);
    event["devices"][1]["sealed"]["other"] = json!("x");
    event["devices"][1]["data"] = json!([]);
    assert!(wire::read(event.to_string().as_bytes(), LIMITS).is_some());
}

#[test]
fn devices_of_one_app_share_its_name() {
    let event = with(|_| ()).unwrap();
    let [first, second] = [0, 1].map(|n| event.devices()[n].device.as_ref().unwrap());
    assert!(Arc::ptr_eq(&first.app, &second.app));
    assert!(Arc::ptr_eq(&first.data.0, &event.data.0));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..Default::default() })]

    #[test]
    fn both_ways_agree_on_events_with_one_change(
        cancel in any::<bool>(),
        path in prop::collection::vec(any::<Index>(), 0..4),
        mutation in any_mutation(),
    ) {
        agree(mutated(&full(cancel), &path, &mutation).as_bytes())?;
    }

    #[test]
    fn both_ways_agree_on_events_with_a_wrong_byte(at in any::<Index>(), byte in any::<u8>()) {
        let mut body = full(false).to_string().into_bytes();
        let at = at.index(body.len());
        body[at] = byte;
        agree(&body)?;
    }
}
