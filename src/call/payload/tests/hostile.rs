//! Whatever an event says, a payload keeps its structure, its types and its
//! limits, or there is an error that names the key.

use proptest::prelude::*;
use serde_json::Map;

use super::*;

const HOSTILE: [&str; 9] = [
    r#"","admin":true,"x":""#,
    "\\",
    "\\\"",
    "\u{0}\u{1}\u{1f}\u{7f}\n\r\t\u{8}\u{c}",
    "{{ device.id }}{% if x %}{# #}",
    "{{ 7 * 7 }}",
    "\u{1F4DE}\u{10FFFF}\u{2028}\u{202E}",
    "</script><!--",
    "${jndi:ldap://x}%s%n",
];

#[test]
fn hostile_values_arrive_as_they_are_and_change_nothing_around_them() {
    for name in BUILT_IN.names() {
        if name == "passthrough" {
            continue;
        }
        let profile = built_in(name);
        for platform in PLATFORMS {
            let keys = |payload: &Value| -> Vec<String> {
                payload.as_object().unwrap().keys().cloned().collect()
            };
            let expected = keys(&rendered(&profile, &ring(), platform));
            for hostile in HOSTILE {
                let mut event = ring();
                event["caller"]["name"] = json!(hostile);
                event["caller"]["handle"] = json!(hostile);
                event["call_id"] = json!(hostile);
                event["data"]["meeting_id"] = json!(hostile);
                let payload = rendered(&profile, &event, platform);
                assert_eq!(keys(&payload), expected, "{name}: {hostile:?}");
                assert_eq!(count(&payload, hostile), count_strings(&payload, hostile));
                assert!(count(&payload, hostile) > 0, "{name}: {hostile:?} got lost");
            }
        }
    }
}

/// How many strings are exactly this one, inside JSON strings too.
fn count(payload: &Value, text: &str) -> usize {
    match payload {
        Value::String(s) if s == text => 1,
        Value::String(s) if s.starts_with('{') => {
            serde_json::from_str(s).map_or(0, |inner| count(&inner, text))
        }
        Value::Array(items) => items.iter().map(|item| count(item, text)).sum(),
        Value::Object(map) => map.values().map(|item| count(item, text)).sum(),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

/// The same, where every string that contains it must be it.
fn count_strings(payload: &Value, text: &str) -> usize {
    match payload {
        Value::String(s) if s == text || s.starts_with('{') => count(payload, text),
        Value::String(s) => {
            let derived = s == &format!("default:{text}");
            assert!(derived || !s.contains(text), "{s:?} contains {text:?}");
            0
        }
        Value::Array(items) => items.iter().map(|item| count_strings(item, text)).sum(),
        Value::Object(map) => map.values().map(|item| count_strings(item, text)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

#[test]
fn a_name_of_ten_kilobytes_is_refused_with_size_limit_and_key_and_never_quoted() {
    let name = "\u{1F4DE}".repeat(2500);
    let mut event = ring();
    event["caller"]["name"] = json!(name);
    let profile = built_in("plain");
    for (platform, limit) in [(Platform::Ios, 5120), (Platform::Android, 4096)] {
        let error = render(&profile, &event, platform).unwrap_err();
        let PayloadError::TooLarge {
            size,
            limit: stated,
            largest_key,
            largest_size,
        } = &error
        else {
            panic!("{error}");
        };
        assert_eq!((*stated, largest_key.as_str()), (limit, "caller_name"));
        assert!(
            (10_011..10_040).contains(largest_size) && size > largest_size,
            "{error}"
        );
        assert_eq!(error.reason(), "payload_too_large");
        let words = format!(
            "the payload has {size} bytes, {} more than the limit of {limit}; \
            the largest key is `caller_name` with {largest_size} bytes",
            size - limit
        );
        assert_eq!(error.to_string(), words);
    }
}

#[test]
fn the_limits_are_exact_to_the_byte() {
    let profile = built_in("passthrough");
    for (platform, limit, overhead) in [
        (Platform::Ios, IOS_LIMIT, 8),
        (Platform::Android, ANDROID_LIMIT, 1),
    ] {
        for (over, fits) in [(0, true), (1, false)] {
            let mut event = ring();
            event["data"] = json!({"k": "x".repeat(limit - overhead + over)});
            let result = render(&profile, &event, platform);
            assert_eq!(result.is_ok(), fits, "{platform:?} {over}");
            assert!(result.is_err() || result.unwrap().size() == limit);
        }
    }
}

#[test]
fn an_error_shortens_a_key_that_is_the_events() {
    let key = format!("google{}\u{7}", "k".repeat(5000));
    let mut event = ring();
    event["data"] = json!({key: "secret value"});
    let error = render(&built_in("passthrough"), &event, Platform::Android).unwrap_err();
    let text = error.to_string();
    assert!(text.len() < 200 && !text.contains("secret"), "{text}");
}

#[test]
fn debug_shows_neither_payload_nor_event() {
    let payload = |platform| render(&built_in("plain"), &ring(), platform).unwrap();
    for text in [
        format!("{:?}", payload(Platform::Ios)),
        format!("{:?}", payload(Platform::Android)),
        format!("{:?}", built_in("plain")),
    ] {
        for secret in ["Alice", "alice@", "70ce", "m-1"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        // Eighths, which JSON parsers of any precision read alike.
        any::<i32>().prop_map(|n| Value::from(f64::from(n) / 8.0)),
        any_text().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 48, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            any_object(inner),
        ]
    })
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => prop::collection::vec(any::<char>(), 0..40).prop_map(String::from_iter),
        2 => prop::sample::select(HOSTILE.to_vec()).prop_map(str::to_owned),
        1 => prop::collection::vec(any::<char>(), 0..3000).prop_map(String::from_iter),
    ]
}

fn any_object(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    let key = prop_oneof![
        6 => any_text(),
        2 => prop::sample::select(vec!["ios", "android", "aps", "from", "google.x", "id",
            "meeting_id", "call_cid", "call_opponents", "voice_sdk_id", "call_id", "..."])
            .prop_map(str::to_owned),
    ];
    prop::collection::vec((key, value), 0..6)
        .prop_map(|entries| Value::Object(entries.into_iter().collect::<Map<_, _>>()))
}

fn nested(depth: usize, innermost: Value) -> Value {
    (0..depth).fold(innermost, |inner, n| {
        if n % 2 == 0 {
            json!({"d": inner})
        } else {
            json!([inner])
        }
    })
}

prop_compose! {
    fn any_event()(
        cancel in any::<bool>(),
        call_id in "\\PC{1,30}",
        name in prop::option::of(any_text()),
        handle in prop::option::of(any_text()),
        id in prop_oneof!["[0-9]{1,25}", "\\PC{1,20}"],
        callee in prop::option::of("\\PC{1,20}"),
        conversation in prop::option::of(("(user|group)", "\\PC{1,20}", prop::option::of(any_text()))),
        video in any::<bool>(),
        data in any_object(any_json()),
        device_data in any_object(any_json()),
        depth in 0_usize..110,
        sealed in prop::option::weighted(0.1, any_text()),
    ) -> Value {
        let mut event = if cancel { super::cancel() } else { super::ring() };
        event["call_id"] = json!(call_id);
        event["media"] = json!(if video { "video" } else { "audio" });
        event["caller"] = json!({"id": id, "name": name, "handle": handle});
        event["callee"] = callee.map_or(Value::Null, |id| json!({"id": id}));
        event["conversation"] = conversation
            .map_or(Value::Null, |(kind, id, name)| json!({"type": kind, "id": id, "name": name}));
        event["data"] = data;
        if depth > 60 {
            event["data"]["deep"] = nested(depth, json!("end"));
        }
        for index in [0, 1] {
            event["devices"][index]["data"] = device_data.clone();
            if let Some(ct) = sealed.as_ref().filter(|ct| !ct.is_empty()) {
                event["devices"][index]["sealed"] = json!({"kid": "k", "ct": ct});
            }
        }
        event
    }
}

fn holds(name: &str, event: &Event, platform: Platform) -> Result<(), TestCaseError> {
    let profile = built_in(name);
    let device = device(event, platform);
    let payload = match profile.render(event, device, NOW) {
        Ok(payload) => payload,
        Err(error) => {
            prop_assert!(!error.to_string().is_empty());
            prop_assert!(
                !matches!(
                    error,
                    PayloadError::Expression { .. } | PayloadError::NotUuid { .. }
                ),
                "{name} blames the event for what is the profile's: {error}"
            );
            return Ok(());
        }
    };
    prop_assert!(payload.size() <= profile.limit(platform, event.kind()));
    match &payload {
        Payload::Ios(body) => {
            let parsed: Value = serde_json::from_slice(body).unwrap();
            prop_assert!(parsed.is_object());
            let again = parsed.to_string();
            prop_assert_eq!(again.as_bytes(), &body[..], "a key stands twice");
        }
        Payload::Android(data) => {
            let parsed: Map<String, Value> = serde_json::from_str(data.as_json()).unwrap();
            for (key, value) in &parsed {
                prop_assert!(!reserved::is_reserved(key) && value.is_string());
            }
            let again = Value::Object(parsed).to_string();
            prop_assert_eq!(&*again, data.as_json(), "a key stands twice");
        }
    }
    let parsed = json_of(&payload);
    for (key, fits) in [
        ("call_uuid", 36),
        ("id", 36),
        ("uuid", 36),
        ("session_id", 36),
    ] {
        if let Some(value) = parsed.get(key).filter(|_| name != "passthrough") {
            prop_assert_eq!(value.as_str().map(str::len), Some(fits), "{}.{}", name, key);
        }
    }
    Ok(())
}

/// Every name and field, the keys that `any_event` has in `data`, and one that
/// it has not: alone in a profile, and in an expression of the same meaning.
type Reference = (String, Arc<Profile>, Arc<Profile>);

static REFERENCES: LazyLock<Vec<Reference>> = LazyLock::new(|| {
    let mut paths: Vec<String> = Vec::new();
    for (name, kind) in scope::NAMES {
        match kind {
            scope::Name::Value(_) => paths.push((*name).to_owned()),
            scope::Name::Fields(_, fields) => {
                paths.extend(fields.iter().map(|(field, _)| format!("{name}.{field}")));
            }
            scope::Name::Data => {}
        }
    }
    let data = [
        "",
        ".meeting_id",
        ".meeting_id.x",
        ".ios",
        ".ios.x",
        ".call_opponents",
        ".none.x",
    ];
    paths.extend(data.map(|path| format!("data{path}")));
    let profiles = paths.into_iter().map(|path| {
        let computed = one_key(&json!(format!("{{{{ {path} if true }}}}")));
        (
            path.clone(),
            one_key(&json!(format!("{{{{ {path} }}}}"))),
            computed,
        )
    });
    profiles.collect()
});

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_event_through_every_profile_is_a_sound_payload_or_a_clear_error(event in any_event()) {
        let Ok(event) = Event::decode(event.to_string().as_bytes(), LIMITS) else {
            return Ok(());
        };
        for name in BUILT_IN.names() {
            for platform in PLATFORMS {
                holds(name, &event, platform)?;
            }
        }
    }

    /// A reference is read without the engine of expressions; in brackets with
    /// something that changes nothing it goes through it.
    #[test]
    fn a_reference_alone_says_what_the_engine_says(event in any_event()) {
        let Ok(event) = Event::decode(event.to_string().as_bytes(), LIMITS) else {
            return Ok(());
        };
        for (path, alone, computed) in &*REFERENCES {
            for platform in PLATFORMS {
                let device = device(&event, platform);
                let render = |profile: &Profile| profile.render(&event, device, NOW);
                prop_assert_eq!(
                    render(alone).map(|payload| json_of(&payload)),
                    render(computed).map(|payload| json_of(&payload)),
                    "{}", path
                );
            }
        }
    }

    #[test]
    fn strings_are_written_as_serde_json_writes_them(text in any_text()) {
        let mut out = String::new();
        json::write_string(&mut out, &text);
        prop_assert_eq!(out, serde_json::to_string(&text).unwrap());
    }
}
