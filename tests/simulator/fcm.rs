//! Google's rules for a message, each with the error body Google gives.

use std::time::Duration;

use chrono::Utc;
use ringpush::simulator::{Device, Options, Rule, Script, Simulator, Step, Target};
use serde_json::{Value, json};

use super::client::{Answer, Client, Push, rs256, simulator};
use super::oauth::{ask, bearer, claims, key};

const FCM_ERROR: &str = "type.googleapis.com/google.firebase.fcm.v1.FcmError";
const BAD_REQUEST: &str = "type.googleapis.com/google.rpc.BadRequest";
const ERROR_INFO: &str = "type.googleapis.com/google.rpc.ErrorInfo";

fn good() -> Value {
    json!({ "message": { "token": "device:one", "data": { "event_id": "e1", "v": "1" },
        "android": { "priority": "HIGH", "ttl": "25s", "direct_boot_ok": true } } })
}

/// Status, canonical status, and one field of the detail of a type.
fn detail(answer: &Answer, kind: &str, field: &str) -> Value {
    let error = &answer.json()["error"];
    assert_eq!(error["code"], answer.status, "{error}");
    let details = error["details"].as_array().cloned().unwrap_or_default();
    let found = details.iter().find(|detail| detail["@type"] == kind);
    found.map_or(Value::Null, |detail| detail[field].clone())
}

async fn ready() -> (Simulator, Client, String) {
    let simulator = simulator().await;
    let client = Client::connect(&simulator.fcm_url(), &simulator).await;
    let bearer = bearer(&simulator).await;
    (simulator, client, bearer)
}

/// What a good message gets; a dry run delivers nothing.
#[tokio::test]
async fn a_good_message_is_accepted() {
    let (simulator, client, bearer) = ready().await;
    let answer = client.send(Push::message(&bearer, &good())).await.unwrap();
    assert_eq!(answer.status, 200);
    let name = answer.json()["name"].as_str().unwrap().to_owned();
    assert!(
        name.starts_with("projects/ringpush-sim/messages/"),
        "{name}"
    );
    let mut dry = good();
    dry["validate_only"] = json!(true);
    let answer = client.send(Push::message(&bearer, &dry)).await.unwrap();
    assert_eq!(
        answer.json()["name"],
        "projects/ringpush-sim/messages/fake_message_id"
    );
    let records = simulator.record().pushes();
    let delivered: Vec<_> = records
        .iter()
        .map(|record| record.answer.delivered)
        .collect();
    assert_eq!(delivered, [true, false]);
    assert!(
        records[0].violations.is_empty(),
        "{:?}",
        records[0].violations
    );
    assert_eq!(simulator.record().deliveries("e1/device:one"), 1);
    assert_eq!(records[0].header("authorization"), None);
}

/// Shape, types and limits: 400 `INVALID_ARGUMENT` with the field named, and an
/// `FcmError` beside it where Google's own checks speak.
#[tokio::test]
async fn each_broken_rule_names_its_field() {
    let (_simulator, client, bearer) = ready().await;
    let at = |pointer: &str, value: Value| {
        let mut message = good();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        message.pointer_mut(parent).unwrap()[name] = value;
        message
    };
    let big = at("/message/data/x", json!("x".repeat(4_090)));
    let cases = [
        (
            at("/message/colour", json!(1)),
            "message",
            "Unknown name \"colour\" at 'message'",
            false,
        ),
        (
            at("/messages", json!(1)),
            "",
            "Unknown name \"messages\"",
            false,
        ),
        (
            at("/message/android/sound", json!("x")),
            "message.android",
            "sound",
            false,
        ),
        (
            at("/message/notification", json!({})),
            "message.notification",
            "data messages only",
            false,
        ),
        (
            at("/message/android/notification", json!({ "title": "x" })),
            "message.android.notification",
            "data messages only",
            false,
        ),
        (
            at("/message/data/v", json!(1)),
            "message.data[1].value",
            "(TYPE_STRING), 1",
            false,
        ),
        (
            at("/message/data/v", json!({})),
            "message.data[1].value",
            "(TYPE_STRING)",
            false,
        ),
        (
            at("/message/data/from", json!("x")),
            "message.data",
            "Invalid data payload key: from",
            true,
        ),
        (
            at("/message/data/gcm", json!("x")),
            "message.data",
            "key: gcm",
            true,
        ),
        (
            at("/message/data/message_type", json!("x")),
            "message.data",
            "message_type",
            true,
        ),
        (
            at("/message/data/collapse_key", json!("x")),
            "message.data",
            "collapse_key",
            true,
        ),
        (
            at("/message/data/google.c.a", json!("x")),
            "message.data",
            "google.c.a",
            true,
        ),
        (
            at("/message/data/googlex", json!("x")),
            "message.data",
            "googlex",
            true,
        ),
        (
            at("/message/data/gcm.n", json!("x")),
            "message.data",
            "gcm.n",
            true,
        ),
        (big, "message.data", "too big", true),
        (
            at("/message/android/ttl", json!("25")),
            "message.android.ttl",
            "Duration",
            false,
        ),
        (
            at("/message/android/ttl", json!("1.0123456789s")),
            "message.android.ttl",
            "Duration",
            false,
        ),
        (
            at("/message/android/ttl", json!("-1s")),
            "message.android.ttl",
            "Duration",
            false,
        ),
        (
            at("/message/android/ttl", json!(25)),
            "message.android.ttl",
            "TYPE_STRING",
            false,
        ),
        (
            at("/message/android/ttl", json!("2419201s")),
            "message.android.ttl",
            "four weeks",
            true,
        ),
        (
            at("/message/android/priority", json!("URGENT")),
            "message.android.priority",
            "URGENT",
            false,
        ),
        (
            at("/message/android/direct_boot_ok", json!("yes")),
            "message.android.direct_boot_ok",
            "TYPE_BOOL",
            false,
        ),
        (
            at("/message/android/bandwidth_constrained_ok", json!(1)),
            "message.android.bandwidth_constrained_ok",
            "TYPE_BOOL",
            false,
        ),
        (
            at("/message/android/restricted_satellite_ok", json!("true")),
            "message.android.restricted_satellite_ok",
            "TYPE_BOOL",
            false,
        ),
        (
            at("/message/android/restricted_package_name", json!(true)),
            "message.android.restricted_package_name",
            "TYPE_STRING",
            false,
        ),
        (
            at("/message/token", json!(null)),
            "message",
            "Recipient",
            true,
        ),
        (
            at("/message/topic", json!("news")),
            "message",
            "one recipient",
            true,
        ),
        (json!({}), "message", "Recipient", true),
    ];
    for (number, (message, field, word, fcm)) in cases.into_iter().enumerate() {
        let answer = client.send(Push::message(&bearer, &message)).await.unwrap();
        let error = answer.json();
        assert_eq!(
            (answer.status, &error["error"]["status"]),
            (400, &json!("INVALID_ARGUMENT")),
            "{number}"
        );
        let violation = detail(&answer, BAD_REQUEST, "fieldViolations")[0].clone();
        assert_eq!(violation["field"], field, "case {number}: {error}");
        assert!(
            violation["description"].as_str().unwrap().contains(word),
            "case {number}: {error}"
        );
        let code = detail(&answer, FCM_ERROR, "errorCode");
        assert_eq!(code == "INVALID_ARGUMENT", fcm, "case {number}: {error}");
    }
    let broken = Push::message(&bearer, &good()).body("{\"message\":");
    let answer = client.send(broken).await.unwrap();
    assert!(
        answer.json()["error"]["message"]
            .as_str()
            .unwrap()
            .starts_with("Invalid JSON payload")
    );
}

/// What Google takes: fractions, camelCase, 4 096 bytes to the last.
#[tokio::test]
async fn the_edges_are_accepted() {
    let (simulator, client, bearer) = ready().await;
    let fit = 4_096 - "event_id".len() - "e1".len() - "v".len() - "1".len() - "x".len();
    let mut full = good();
    full["message"]["data"]["x"] = json!("x".repeat(fit));
    let mut camel = good();
    camel["validateOnly"] = json!(false);
    camel["message"]["android"] = json!({ "priority": "high", "ttl": "0.5s", "directBootOk": true,
        "fcmOptions": { "analyticsLabel": "ring" }, "restrictedPackageName": "com.example" });
    for message in [full, camel] {
        let answer = client.send(Push::message(&bearer, &message)).await.unwrap();
        assert_eq!(answer.status, 200, "{:?}", answer.json());
    }
    let mut normal = good();
    normal["message"]["android"]["priority"] = json!("NORMAL");
    assert_eq!(
        client
            .send(Push::message(&bearer, &normal))
            .await
            .unwrap()
            .status,
        200
    );
    let last = simulator.record().pushes().pop().unwrap();
    assert_eq!(
        last.violations,
        ["android.priority is not HIGH"],
        "on record, though accepted"
    );
}

/// Who may send: bearer, scope, project, each with Google's `ErrorInfo`.
#[tokio::test]
async fn each_missing_right_has_its_error() {
    let options = Options {
        access_token_life: Duration::from_millis(200),
        ..Options::default()
    };
    let simulator = Simulator::start(options).await.unwrap();
    let client = Client::connect(&simulator.fcm_url(), &simulator).await;
    let send = |push: Push| {
        let client = client.clone();
        async move { client.send(push).await.unwrap() }
    };
    let nobody = send(Push::message("", &good()).with("authorization", "")).await;
    let stranger = send(Push::message("ya29.made-up", &good())).await;
    let token = bearer(&simulator).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let late = send(Push::message(&token, &good())).await;
    for (answer, reason) in [
        (nobody, "CREDENTIALS_MISSING"),
        (stranger, "ACCESS_TOKEN_TYPE_UNSUPPORTED"),
        (late, "ACCESS_TOKEN_EXPIRED"),
    ] {
        assert_eq!(
            (answer.status, &answer.json()["error"]["status"]),
            (401, &json!("UNAUTHENTICATED"))
        );
        assert_eq!(detail(&answer, ERROR_INFO, "reason"), reason);
        assert_eq!(detail(&answer, ERROR_INFO, "domain"), "googleapis.com");
    }
}

/// Projects: unknown ones are 404 without an `FcmError`, foreign ones 403.
#[tokio::test]
async fn projects_are_told_apart() {
    let (simulator, client, bearer) = ready().await;
    simulator.add_project("foreign");
    let to = |project: &str| {
        Push::message(&bearer, &good()).path(&format!("/v1/projects/{project}/messages:send"))
    };
    let unknown = client.send(to("nowhere")).await.unwrap();
    assert_eq!(
        (unknown.status, unknown.json()["error"]["status"].clone()),
        (404, json!("NOT_FOUND"))
    );
    assert_eq!(
        detail(&unknown, FCM_ERROR, "errorCode"),
        Value::Null,
        "the token is not at fault"
    );
    // Google takes a project's number as well.
    let own = client.send(to("100000000001")).await.unwrap();
    assert_eq!(own.status, 200);
    let name = own.json()["name"].as_str().unwrap().to_owned();
    assert!(name.starts_with("projects/ringpush-sim/"), "{name}");
    assert_eq!(client.send(to("100000000002")).await.unwrap().status, 403);
    assert_eq!(client.send(to("100000000003")).await.unwrap().status, 404);
    let foreign = client.send(to("foreign")).await.unwrap();
    assert_eq!(foreign.status, 403);
    assert_eq!(
        detail(&foreign, ERROR_INFO, "reason"),
        "IAM_PERMISSION_DENIED"
    );
    let page = client
        .send(to("ringpush-sim").path("/fcm/send"))
        .await
        .unwrap();
    assert_eq!(
        (page.status, page.json()),
        (404, Value::Null),
        "a page, not JSON"
    );
    let mut narrow = claims(&simulator);
    narrow["scope"] = json!("https://www.googleapis.com/auth/devstorage.read_only");
    let assertion = rs256(&key(simulator.service_account_json()), &narrow);
    let (_, body) = ask(&simulator, &assertion).await.unwrap();
    let narrow = Push::message(body["access_token"].as_str().unwrap(), &good());
    let answer = client.send(narrow).await.unwrap();
    assert_eq!(
        detail(&answer, ERROR_INFO, "reason"),
        "ACCESS_TOKEN_SCOPE_INSUFFICIENT"
    );
    simulator.revoke_access_tokens();
    assert_eq!(client.send(to("ringpush-sim")).await.unwrap().status, 401);
}

/// Device tokens: gone, of another sender, no token at all.
#[tokio::test]
async fn devices_have_googles_errors() {
    let (simulator, client, bearer) = ready().await;
    simulator.unregister("gone", Utc::now());
    let other = Device {
        project: Some("elsewhere".to_owned()),
        ..Device::default()
    };
    simulator.register("other", other);
    simulator.register(
        "bad",
        Device {
            invalid: true,
            ..Device::default()
        },
    );
    for (token, status, code) in [
        ("gone", 404, "UNREGISTERED"),
        ("other", 403, "SENDER_ID_MISMATCH"),
        ("bad", 400, "INVALID_ARGUMENT"),
        ("with space", 400, "INVALID_ARGUMENT"),
    ] {
        let mut message = good();
        message["message"]["token"] = json!(token);
        let answer = client.send(Push::message(&bearer, &message)).await.unwrap();
        assert_eq!(answer.status, status, "{token}");
        assert_eq!(detail(&answer, FCM_ERROR, "errorCode"), code, "{token}");
        assert_eq!(detail(&answer, BAD_REQUEST, "fieldViolations"), Value::Null);
    }
    assert_eq!(simulator.record().tally().delivered, 0);
}

/// Scripted errors have Google's form: FCM's codes in an `FcmError`, other
/// words in an `ErrorInfo`.
#[tokio::test]
async fn scripted_errors_have_googles_form() {
    let (simulator, client, bearer) = ready().await;
    let steps = vec![
        Step::answer(404, "UNREGISTERED"),
        Step::answer(429, "QUOTA_EXCEEDED"),
        Step::answer(429, "RATE_LIMIT_EXCEEDED"),
        Step::answer(503, "UNAVAILABLE"),
    ];
    simulator
        .script(Script {
            rules: vec![Rule::token(Target::Fcm, "device:one", steps)],
        })
        .unwrap();
    let send = || async { client.send(Push::message(&bearer, &good())).await.unwrap() };
    for (code, status) in [
        ("UNREGISTERED", "NOT_FOUND"),
        ("QUOTA_EXCEEDED", "RESOURCE_EXHAUSTED"),
    ] {
        let answer = send().await;
        assert_eq!(detail(&answer, FCM_ERROR, "errorCode"), code);
        assert_eq!(answer.json()["error"]["status"], status);
    }
    let limited = send().await;
    assert_eq!(
        detail(&limited, ERROR_INFO, "reason"),
        "RATE_LIMIT_EXCEEDED"
    );
    assert_eq!(detail(&limited, FCM_ERROR, "errorCode"), Value::Null);
    assert_eq!(send().await.json()["error"]["status"], "UNAVAILABLE");
    assert_eq!(send().await.status, 200);
}

/// An app that has moved to its installation id: both work until the first
/// message under the id, which ends the token. One that is only checked does not.
#[tokio::test]
async fn the_first_message_to_an_installation_id_ends_the_phones_token() {
    let (simulator, client, bearer) = ready().await;
    simulator.register("cJx9", Device::replacing("device:one"));
    let to_fid = |value: Value| {
        let mut message = good();
        message["message"]["token"].take();
        message["message"]["fid"] = value;
        message
    };
    let mut checked = to_fid(json!("cJx9"));
    checked["validate_only"] = json!(true);
    let mut statuses = Vec::new();
    for message in [&good(), &checked, &good(), &to_fid(json!("cJx9")), &good()] {
        let answer = client.send(Push::message(&bearer, message)).await.unwrap();
        statuses.push(answer.status);
        if answer.status == 404 {
            let code = detail(&answer, FCM_ERROR, "errorCode");
            assert_eq!(code, "UNREGISTERED");
        }
    }
    assert_eq!(statuses, [200, 200, 200, 200, 404]);
    // One that the app has not registered for messaging.
    simulator.unregister("cK", Utc::now());
    let answer = client
        .send(Push::message(&bearer, &to_fid(json!("cK"))))
        .await
        .unwrap();
    assert_eq!(answer.status, 404);
    assert_eq!(detail(&answer, FCM_ERROR, "errorCode"), "UNREGISTERED");
    // One that is none, and a message to both.
    let mut both = good();
    both["message"]["fid"] = json!("cJx9");
    for (message, field) in [(to_fid(json!("")), "message.fid"), (both, "message")] {
        let answer = client.send(Push::message(&bearer, &message)).await.unwrap();
        assert_eq!(answer.status, 400);
        let found = detail(&answer, BAD_REQUEST, "fieldViolations");
        assert_eq!(found[0]["field"], field);
    }
}
