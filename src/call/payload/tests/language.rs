//! The language of profiles: types, absence, splices, mistakes and their words.

use super::*;

/// Expression, its result on iOS as JSON, on Android as text.
const RESULTS: &[(&str, &str, &str)] = &[
    ("{{ video }}", "false", "false"),
    ("{{ sent_at }}", "1790000000000", "1790000000000"),
    ("{{ ms_left / 1000 }}", "45.0", "45.0"),
    ("{{ caller_name }}", r#""Alice Martin""#, "Alice Martin"),
    (
        "{{ [call_id, 1, true] }}",
        r#"["room-42",1,true]"#,
        r#"["room-42",1,true]"#,
    ),
    (
        "{{ {'a': data.meeting_id, 'b': data.none} }}",
        r#"{"a":"m-1"}"#,
        r#"{"a":"m-1"}"#,
    ),
    ("{{ data }}", DATA, DATA),
    ("plain text", r#""plain text""#, "plain text"),
    (
        "{{ ' | shout \" ' | trim | lower }}",
        r#""| shout \"""#,
        "| shout \"",
    ),
    ("{{ caller.id | int }}", "1001", "1001"),
    ("{{ seconds_left | string }}", r#""45""#, "45"),
    (
        "{{ data.media_region | json }}",
        r#""\"us-east-1\"""#,
        r#""us-east-1""#,
    ),
    (
        "{{ 'From ' ~ caller_name | upper | truncate(5) }}",
        r#""From ALICE""#,
        "From ALICE",
    ),
    (
        "{{ device.id if device.app == 'x' else data.none | default('-') }}",
        r#""-""#,
        "-",
    ),
    (
        "{{ expires_at_rfc3339 }}",
        r#""2026-09-21T14:14:05.000Z""#,
        "2026-09-21T14:14:05.000Z",
    ),
];

const DATA: &str = r#"{"meeting_id":"m-1","media_region":"us-east-1"}"#;

#[test]
fn results_keep_their_types_on_ios_and_become_strings_on_android() {
    for (expression, ios, android) in RESULTS {
        let profile = one_key(&json!(expression));
        let value = &rendered(&profile, &ring(), Platform::Ios)["k"];
        assert_eq!(value.to_string(), *ios, "{expression}");
        let value = &rendered(&profile, &ring(), Platform::Android)["k"];
        assert_eq!(value, android, "{expression}");
    }
    for literal in [json!(7), json!(true), json!(1.5)] {
        let profile = one_key(&literal);
        assert_eq!(rendered(&profile, &ring(), Platform::Ios)["k"], literal);
        let text = json!(literal.to_string());
        assert_eq!(rendered(&profile, &ring(), Platform::Android)["k"], text);
    }
}

#[test]
fn a_key_with_nothing_to_say_is_left_out() {
    for absent in [
        json!("{{ data.none }}"),
        json!("{{ data.none.deeper.still }}"),
        json!("{{ conversation.name }}"),
        json!("{{ none }}"),
        json!("{{ caller.name | int }}"),
        json!("{{ data if not data }}"),
        Value::Null,
    ] {
        let profile = one_key(&absent);
        for platform in PLATFORMS {
            let payload = rendered(&profile, &ring(), platform);
            assert_eq!(payload, json!({"event": "ring"}), "{absent}");
        }
    }
    let profile = one_key(&json!(["{{ data.none }}", 1, "{{ data.none }}", {"x": "{{ none }}"}]));
    assert_eq!(
        rendered(&profile, &ring(), Platform::Ios)["k"],
        json!([1, {}])
    );
}

#[test]
fn names_and_handles_fall_back_and_blank_ones_count_as_none() {
    let profile = built_in("plain");
    for (caller, name, handle) in [
        (json!({"id": "u", "name": "N", "handle": "H"}), "N", "H"),
        (json!({"id": "u", "handle": "H"}), "H", "H"),
        (json!({"id": "u"}), "Unknown", "u"),
        (
            json!({"id": "u", "name": " ", "handle": ""}),
            "Unknown",
            "u",
        ),
    ] {
        let mut event = ring();
        event["caller"] = caller;
        let payload = rendered(&profile, &event, Platform::Ios);
        assert_eq!(payload["caller_name"], name);
        assert_eq!(payload["caller_handle"], handle);
    }
}

#[test]
fn what_is_redacted_is_as_if_it_were_not_there() {
    let profile = own(&json!({"extends": "plain", "redact":
        ["caller.name", "caller.handle", "callee", "data.meeting_id"]}))
    .unwrap();
    let payload = rendered(&profile, &ring(), Platform::Ios);
    assert_eq!(payload["caller_name"], "Unknown");
    assert_eq!(payload["caller_handle"], "1001");
    assert_eq!(payload.get("callee_id"), None);
    assert_eq!(payload["data"], json!({"media_region": "us-east-1"}));
    let profile = own(&json!({"extends": "plain", "redact":
        ["caller.id", "caller.name", "caller.handle", "caller.avatar_url"]}))
    .unwrap();
    let text = rendered(&profile, &ring(), Platform::Android).to_string();
    assert!(
        !text.contains("Alice") && !text.contains("alice") && !text.contains("1001"),
        "{text}"
    );
    let error = own(&json!({"extends": "plain", "redact": ["caller.phone"]})).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("profile own: redact: nothing called `caller.phone`")
    );
}

#[test]
fn spliced_keys_add_to_a_payload_and_never_replace_or_reorder_it() {
    let profile = own(&json!({"aps": {}, "ring": {"both":
        {"id": "{{ call_uuid }}", "...": "{{ data }}", "last": 1}}}))
    .unwrap();
    let mut event = ring();
    event["data"] = json!({"z": null, "id": "other", "last": 2, "aps": {"alert": "x"}, "a": [1]});
    let Payload::Ios(body) = render(&profile, &event, Platform::Ios).unwrap() else {
        panic!("not an iOS payload");
    };
    let uuid = "f6376dea-1e76-514e-b020-5eeaad7e8deb";
    let expected = format!(r#"{{"aps":{{}},"id":"{uuid}","z":null,"a":[1],"last":1}}"#);
    assert_eq!(body, expected.as_bytes());
    event["data"].as_object_mut().unwrap().remove("aps");
    let payload = rendered(&profile, &event, Platform::Android);
    assert_eq!(payload, json!({"id": uuid, "a": "[1]", "last": "1"}));
}

#[test]
fn a_reserved_key_is_refused_at_load_if_it_is_the_profiles_and_at_run_time_if_it_is_the_events() {
    for key in [
        "from",
        "gcm",
        "message_type",
        "collapse_key",
        "google.x",
        "googleplex",
        "gcm.n",
    ] {
        let error = own(&json!({"ring": {"both": {key: 1}}})).unwrap_err();
        assert_eq!(error.key, format!("ring.android.{key}"));
        let mut event = ring();
        event["data"] = json!({key: 1});
        let error = render(&built_in("passthrough"), &event, Platform::Android).unwrap_err();
        assert_eq!(
            error,
            PayloadError::ReservedKey {
                key: key.to_owned()
            }
        );
        assert_eq!(error.reason(), "payload_reserved_key");
        assert!(render(&built_in("passthrough"), &event, Platform::Ios).is_ok());
    }
    let fine = own(&json!({"ring": {"both": {"fromage": 1, "gcmx": 1, "notification": 1}}}));
    assert!(fine.is_ok(), "{fine:?}");
}

/// What a ring's tree has, and words of the error.
const TREE_MISTAKES: &[(&str, &str)] = &[
    (
        r#"{"a": {"b": "{{ caler_name }}"}}"#,
        "ring.ios.a.b: unknown name `caler_name`; there are event,",
    ),
    (
        r#"{"a": "{{ caller.nmae }}"}"#,
        "ring.ios.a: `caller` has no field `nmae`; it has id,",
    ),
    (
        r#"{"a": "{{ device.token }}"}"#,
        "ring.ios.a: `device` has no field `token`",
    ),
    (
        r#"{"a": "{{ media.x }}"}"#,
        "ring.ios.a: `media` has no fields",
    ),
    (
        r#"{"a": "{{ call_id"}"#,
        "ring.ios.a: an expression takes the whole string",
    ),
    (
        r#"{"a": "From {{ caller_name }}"}"#,
        "ring.ios.a: an expression takes the whole string",
    ),
    (
        r#"{"a": "{{ call_id }} {{ media }}"}"#,
        "ring.ios.a: not an expression",
    ),
    (r#"{"a": "{{ }}"}"#, "ring.ios.a: not an expression"),
    (
        r#"{"a": ["{{ 1 + }}"]}"#,
        "ring.ios.a[0]: not an expression",
    ),
    (r#"{"...": 1}"#, "`...` takes an expression"),
    ("[]", "ring.ios.payload: must be an object or an expression"),
    (r#"{"aps": {}}"#, "ring.ios.aps: only Apple knows it"),
];

/// A profile, and words of the error.
const SHAPE_MISTAKES: &[(&str, &str)] = &[
    (
        r#"{"ring": {"ios": {"a": 1}}}"#,
        "ring: needs `both`, or `ios` and `android`",
    ),
    (
        r#"{"ring": {"both": {"a": 1}, "ios": {"a": 1}}}"#,
        "ring: has `both` beside",
    ),
    (
        r#"{"ring": {"both": {"a": 1}}, "required": ["b"]}"#,
        "b: no tree of this profile writes this key",
    ),
    (
        r#"{"ring": {"both": {"a": "x"}}, "uuids": ["a"]}"#,
        "ring.ios.a: must be a UUID",
    ),
    (
        r#"{"ring": {"both": {"a": 1}}, "ios_cancel": "voip"}"#,
        "cancel.ios: `ios_cancel` pushes a cancel",
    ),
    (
        r#"{"ring": {"both": {"a": 1, "b": 1}}, "cancel": {"both": {"a": 1}}, "ios_cancel": "voip"}"#,
        "cancel.ios.b: a VoIP cancel must have every key of the ring",
    ),
    (
        r#"{"ring": {"both": {"a": 1}}, "cancel": {"ios": {"aps": {}}}, "ios_cancel": "background"}"#,
        "cancel.ios.aps: the worker writes",
    ),
    (
        r#"{"ring": {"both": {"a": 1}}, "aps": 3}"#,
        "aps: must be an object, or null",
    ),
    (
        r#"{"ring": {"both": {"a": 1}}, "sound": 3}"#,
        "unknown field `sound`",
    ),
    (
        r#"{"ring": {"both": {"a": 1}}, "ios_cancel": "email"}"#,
        "ios_cancel: unknown variant `email`",
    ),
    (r#"{"aps": {}}"#, "missing field `ring`"),
    (
        r#"{"extends": "plane"}"#,
        "extends: must name a profile that is read before; there are callkeep,",
    ),
    ("[]", "file: not a JSON object"),
];

#[test]
fn mistakes_in_a_profile_are_named_with_their_place() {
    let trees = TREE_MISTAKES
        .iter()
        .map(|(tree, words)| (format!(r#"{{"ring": {{"both": {tree}}}}}"#), *words));
    let shapes = SHAPE_MISTAKES
        .iter()
        .map(|(profile, words)| ((*profile).to_owned(), *words));
    for (profile, words) in trees.chain(shapes) {
        let profile: Value = serde_json::from_str(&profile).unwrap();
        let error = own(&profile).unwrap_err().to_string();
        assert!(
            error.starts_with("profile own: ") && error.contains(words),
            "{error}\n{words}"
        );
    }
}

#[test]
fn the_check_at_start_finds_what_only_rendering_shows() {
    let long = "x".repeat(5200);
    for (profile, words) in [
        (
            json!({"ring": {"both": {"a": "{{ call_id }}"}}, "uuids": ["a"]}),
            "ring.ios: for an example event `a` must be a UUID with hyphens: use call_uuid",
        ),
        (
            json!({"ring": {"both": {"a": long}}}),
            "ring.ios: for an example event the payload has 5217 bytes",
        ),
        (
            json!({"ring": {"both": {"a": "{{ call_id is loud }}"}}}),
            "the expression of `a` failed: unknown test: it has to hold for every event",
        ),
        (
            json!({"ring": {"both": {"a": "{{ 1 / 0 }}"}}}),
            "the expression of `a` failed",
        ),
        (
            json!({"ring": {"both": {"a": "{{ data.room }}"}}, "required": ["a"], "example_data": {"rooms": 1}}),
            "the apps need `a`, and the event has nothing to fill it with: take it off `required`",
        ),
        (
            json!({"ring": {"both": "{{ data.payload }}"}, "example_data": {"payload": 1}}),
            "`payload` must be an object",
        ),
        (
            json!({"ring": {"both": {"...": "{{ data }}"}}, "example_data": {"from": 1}}),
            "ring.android: for an example event `from` is a key that FCM reserves",
        ),
    ] {
        let error = own(&profile).unwrap().check().unwrap_err().to_string();
        assert!(error.contains(words), "{error}\n{words}");
    }
    let profile = json!({"ring": {"both": {"a": "{{ data.room }}"}}, "required": ["a"]});
    own(&profile).unwrap().check().unwrap();
}

#[test]
fn profiles_can_be_shared_between_workers() {
    fn shared<T: Send + Sync + 'static>(_: &T) {}
    shared(&Profiles::built_in().unwrap());
}

#[test]
fn an_own_profile_takes_the_place_of_a_built_in_one_and_may_extend_it() {
    let mut profiles = Profiles::built_in().unwrap();
    profiles
        .add("chime", r#"{"extends":"chime","ios_cancel":"background"}"#)
        .unwrap();
    let profile = profiles.get("chime").unwrap();
    assert_eq!(profile.ios_cancel(), CancelMode::Background);
    assert!(profile.pushes_cancel(Platform::Ios));
    let payload = rendered(profile, &ring(), Platform::Ios);
    assert_eq!(payload["extra"]["meeting_id"], "m-1");
    let error = profiles.add("../x", "{}").unwrap_err();
    assert_eq!(error.key, "file");
    assert!(profiles.add("chime", "{").is_err());
    assert!(profiles.get("chime").unwrap().pushes_cancel(Platform::Ios));
}

#[test]
fn a_background_cancel_wakes_the_app_and_has_the_smaller_limit() {
    let profile = own(&json!({"extends": "plain", "ios_cancel": "background"})).unwrap();
    let payload = rendered(&profile, &cancel(), Platform::Ios);
    assert_eq!(payload["aps"], json!({"content-available": 1}));
    assert_eq!(payload["reason"], "timeout");
    assert_eq!(profile.limit(Platform::Ios, EventKind::Cancel), 4096);
    assert_eq!(profile.limit(Platform::Ios, EventKind::Ring), 5120);
    assert_eq!(rendered(&profile, &ring(), Platform::Ios)["aps"], json!({}));
}

#[test]
fn sealed_payloads_say_the_call_uuid_and_the_deadline_and_nothing_else() {
    let mut event = ring();
    for index in [0, 1] {
        event["devices"][index]["sealed"] = json!({"kid": "k1", "ct": "Y2lwaGVydGV4dA=="});
    }
    let uuid = "f6376dea-1e76-514e-b020-5eeaad7e8deb";
    let clear = json!({"sealed": {"kid": "k1", "ct": "Y2lwaGVydGV4dA=="},
        "call_uuid": uuid, "expires_at": 1_790_000_045_000_u64});
    for name in ["plain", "stream", "cometchat_skill", "callkeep"] {
        let mut payload = rendered(&built_in(name), &event, Platform::Ios);
        let aps = payload.as_object_mut().unwrap().remove("aps");
        assert_eq!(aps.is_some(), name != "callkeep", "{name}");
        assert_eq!(payload, clear, "{name}");
        let payload = rendered(&built_in(name), &event, Platform::Android);
        let sealed = r#"{"kid":"k1","ct":"Y2lwaGVydGV4dA=="}"#;
        let expected = json!({"sealed": sealed, "call_uuid": uuid, "expires_at": "1790000045000"});
        assert_eq!(payload, expected, "{name}");
    }
    event["devices"][1]["sealed"]["ct"] = json!("A".repeat(4096));
    let error = render(&built_in("plain"), &event, Platform::Android).unwrap_err();
    assert_eq!(error.reason(), "payload_too_large");
}

#[test]
fn the_time_left_counts_from_now_and_never_below_zero() {
    let profile = built_in("flutter_callkit_incoming");
    let event = decode(&ring());
    for (late, left) in [(0, 45_000), (12_345, 32_655), (60_000, 0)] {
        let now = NOW.plus(Duration::from_millis(late));
        let payload = profile
            .render(&event, device(&event, Platform::Ios), now)
            .unwrap();
        assert_eq!(json_of(&payload)["duration"], left);
    }
}

#[test]
fn an_empty_passthrough_is_refused_and_a_profile_without_cancel_says_so() {
    let mut event = ring();
    event.as_object_mut().unwrap().remove("data");
    for platform in PLATFORMS {
        let error = render(&built_in("passthrough"), &event, platform).unwrap_err();
        assert_eq!(error.reason(), "payload_empty");
    }
    event["data"] = json!({"ios": "text", "android": [1]});
    for platform in PLATFORMS {
        let error = render(&built_in("passthrough"), &event, platform).unwrap_err();
        assert_eq!(error.to_string(), "`payload` must be an object");
    }
    let error = render(&built_in("stream"), &cancel(), Platform::Ios).unwrap_err();
    assert_eq!(error, PayloadError::NoCancel);
    assert!(!built_in("stream").pushes_cancel(Platform::Ios));
}

#[test]
fn an_expression_that_makes_much_out_of_little_ends_in_an_error_not_in_a_hang() {
    let deep = format!("{{{{ {}1{} }}}}", "(".repeat(400), ")".repeat(400));
    assert!(own(&json!({"ring": {"both": {"k": deep}}})).is_err());
    let long = format!("{{{{ {}1 }}}}", "1 + ".repeat(2000));
    assert!(own(&json!({"ring": {"both": {"k": long}}})).is_err());
    let profile = one_key(&json!("{{ 'x' * 1000000000000 }}"));
    let error = render(&profile, &ring(), Platform::Ios).unwrap_err();
    assert_eq!(error.reason(), "payload_expression");
}
