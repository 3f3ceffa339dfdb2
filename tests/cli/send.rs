//! `ringpush send`: what it shows, what it makes of an answer, how it ends.

use ringpush::simulator::{ServerKind, Stop};
use serde_json::json;

use crate::rig::{ANDROID_TOKEN, APP, IOS_TOKEN, Ran, Rig};

/// The status, and these words in what it means and what to do.
fn ends(ran: &Ran, code: i32, reason: &str, words: &[&str]) {
    assert_eq!(ran.code, code, "{ran:#?}");
    let report = ran.json();
    assert_eq!(report["reason"], reason, "{report:#}");
    assert_eq!(report["exit"], code);
    let text = format!("{} {} {}", report["detail"], report["means"], report["do"]);
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {text}");
    }
    silent(ran);
}

/// Neither token nor credential is shown.
fn silent(ran: &Ran) {
    for secret in [IOS_TOKEN, ANDROID_TOKEN, "eyJ", "ya29", "PRIVATE KEY"] {
        let shown = ran.out.contains(secret) || ran.err.contains(secret);
        assert!(!shown, "{secret} is shown: {ran:#?}");
    }
}

/// An answer that a server gives to everything.
fn answer(server: &str, status: u16, reason: &str) -> String {
    format!(
        "[[rule]]\nserver = \"{server}\"\nthen = {{ status = {status}, reason = \"{reason}\" }}\n"
    )
}

#[tokio::test]
async fn a_push_that_is_taken_is_shown_in_full() {
    let rig = Rig::start().await;
    let ran = rig
        .send("ios", &["--video", "--caller-name", "Alice"])
        .await;
    assert_eq!(ran.code, 0, "{ran:#?}");
    silent(&ran);
    let report = ran.json();
    let attempt = &report["attempts"][0];
    assert_eq!(attempt["request"]["body"]["caller_name"], "Alice");
    assert_eq!(attempt["request"]["body"]["media"], "video");
    assert_eq!(attempt["status"], 200);
    for phase in ["name", "tcp", "tls", "http2", "first_byte"] {
        assert!(
            attempt["times_ms"][phase].is_number(),
            "{phase}: {attempt:#}"
        );
    }
    // What is shown is what was sent.
    let pushes = rig.simulator.record().pushes();
    assert_eq!(pushes.len(), 1);
    assert_eq!(pushes[0].json().unwrap(), attempt["request"]["body"]);
    let headers = attempt["request"]["headers"].as_array().unwrap();
    for header in headers.iter().filter(|header| header[0] != "authorization") {
        let name = header[0].as_str().unwrap();
        assert_eq!(pushes[0].header(name), header[1].as_str(), "{name}");
    }
    let ran = rig.send("android", &[]).await;
    assert_eq!(ran.code, 0, "{ran:#?}");
    silent(&ran);
    assert!(ran.json()["attempts"][0]["times_ms"]["access_token"].is_number());
    let arguments = ["--app", APP, "--platform", "ios", "--token", IOS_TOKEN];
    let ran = rig.run("send", &arguments).await;
    assert!(
        ran.out.contains("apns-topic: com.example.calls.voip"),
        "{}",
        ran.out
    );
    silent(&ran);
}

#[tokio::test]
async fn wrong_usage_sends_nothing() {
    let rig = Rig::start().await;
    for (platform, more, words) in [
        (
            "ios",
            &["--token", "not hex"][..],
            ["invalid_token", "hexadecimal"],
        ),
        ("ios", &["--profile", "fancy"], ["no such profile", "plain"]),
        (
            "ios",
            &["--event", "/no/such/event.json"],
            ["--event", "No such file"],
        ),
        (
            "android",
            &["--environment", "sandbox"],
            ["--environment", "Android"],
        ),
    ] {
        let ran = rig.send(platform, more).await;
        assert_eq!(ran.code, 2, "{more:?}: {ran:#?}");
        assert!(
            words.iter().all(|word| ran.err.contains(word)),
            "{words:?}: {ran:#?}"
        );
    }
    let arguments = [
        "--app",
        "com.other",
        "--platform",
        "ios",
        "--token",
        IOS_TOKEN,
    ];
    let ran = rig.run("send", &arguments).await;
    assert_eq!(ran.code, 2);
    assert!(
        ran.err.contains("com.other") && ran.err.contains(APP),
        "{}",
        ran.err
    );
    rig.remove("AuthKey_FGHIJ67890.p8");
    let ran = rig.send("ios", &[]).await;
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("check the path"), "{}", ran.err);
    // Another platform's key does not matter.
    assert_eq!(rig.send("android", &["--dry-run"]).await.code, 0);
    assert!(rig.simulator.record().pushes().is_empty());
}

/// Of FCM's tokens one in 64 begins with a hyphen, and call ids may be anything.
#[tokio::test]
async fn values_from_outside_may_begin_with_a_hyphen() {
    let rig = Rig::start().await;
    let token = format!("-{}", &ANDROID_TOKEN[1..]);
    let names = ["--caller-name", "-", "--caller-id", "-id", "--handle", "-1"];
    let ran = rig
        .send("android", &[&["--token", &token][..], &names].concat())
        .await;
    assert_eq!(ran.code, 0, "{ran:#?}");
    let event = rig.path("event.json");
    let device = json!({"id": "-d", "platform": "android", "app": "-app", "token": token});
    let event_body = json!({
        "v": 1, "event": "ring", "event_id": "0d5c1f7e-3c55-4f0e-9a10-6a3f0a7be001",
        "call_id": "c", "sent_at": "2026-09-21T14:13:20Z", "caller": {"id": "u"}, "devices": [device],
    });
    std::fs::write(&event, event_body.to_string()).unwrap();
    let file = event.to_str().unwrap();
    let render = [
        "profiles", "render", "--event", file, "--device", "-d", "--json",
    ];
    let ran = crate::rig::run(&render).await;
    assert_eq!(ran.code, 0, "{ran:#?}");
    // No worker answers, but the id was taken for one.
    for call in [&["-x9"][..], &["--json-call", "--json"], &["--", "-c"]] {
        let ran = rig.run("trace", call).await;
        assert_eq!(ran.code, 1, "{call:?}: {ran:#?}");
    }
}

#[tokio::test]
async fn tokens_that_apple_does_not_know() {
    let rig = Rig::start().await;
    rig.script(&answer("apns-production", 400, "BadDeviceToken"));
    let ran = rig.send("ios", &[]).await;
    ends(
        &ran,
        3,
        "BadDeviceToken",
        &["other environment", "--environment auto"],
    );
    let ran = rig.send("ios", &["--environment", "auto"]).await;
    assert_eq!(ran.code, 0, "{ran:#?}");
    let report = ran.json();
    assert_eq!(report["environment"], "sandbox");
    assert_eq!(report["attempts"].as_array().unwrap().len(), 2);
    assert!(report["do"].as_str().unwrap().contains("sandbox"));
    rig.script(&answer("apns", 400, "BadDeviceToken"));
    let ran = rig.send("ios", &["--environment", "auto"]).await;
    ends(&ran, 3, "BadDeviceToken", &["Both environments refuse it"]);
    rig.script(&answer("apns", 400, "DeviceTokenNotForTopic"));
    let ran = rig.send("ios", &[]).await;
    ends(
        &ran,
        3,
        "DeviceTokenNotForTopic",
        &["for alerts", "PKPushRegistry"],
    );
    rig.script(&answer("apns", 410, "Unregistered"));
    ends(
        &rig.send("ios", &[]).await,
        3,
        "Unregistered",
        &["Delete the token"],
    );
}

#[tokio::test]
async fn credentials_that_apple_does_not_take() {
    let rig = Rig::start().await;
    rig.edit("team_id = \"ABCDE12345\"", "team_id = \"ZZZZZ99999\"");
    let ran = rig.send("ios", &[]).await;
    ends(
        &ran,
        4,
        "InvalidProviderToken",
        &["team_id", "Membership details"],
    );
    rig.edit("team_id = \"ZZZZZ99999\"", "team_id = \"ABCDE12345\"");
    rig.simulator.set_clock(chrono::TimeDelta::hours(2));
    ends(
        &rig.send("ios", &[]).await,
        4,
        "ExpiredProviderToken",
        &["clock"],
    );
    rig.simulator.set_clock(chrono::TimeDelta::zero());
    rig.script(&answer("apns", 400, "TopicDisallowed"));
    ends(
        &rig.send("ios", &[]).await,
        4,
        "TopicDisallowed",
        &["bundle_id"],
    );
}

#[tokio::test]
async fn payloads_that_are_refused() {
    let rig = Rig::start().await;
    rig.script(&answer("apns", 413, "PayloadTooLarge"));
    ends(
        &rig.send("ios", &[]).await,
        5,
        "PayloadTooLarge",
        &["5 120"],
    );
    let long = "x".repeat(6_000);
    let event = format!(
        r#"{{"v":1,"event":"ring","caller":{{"id":"a"}},"data":{{"long":"{long}"}},"devices":[]}}"#
    );
    rig.write("ring.json", event);
    let file = rig.path("ring.json");
    let file = file.to_str().unwrap();
    let rung = || {
        let pushes = rig.simulator.record().pushes();
        pushes.iter().filter(|push| push.token.is_some()).count()
    };
    let before = rung();
    for more in [&[][..], &["--dry-run"], &["--validate-only"]] {
        let ran = rig.send("ios", &[&["--event", file], more].concat()).await;
        ends(&ran, 5, "payload_too_large", &["`data`", "less in data"]);
    }
    let ran = rig
        .send("android", &["--event", file, "--profile", "passthrough"])
        .await;
    assert_eq!(ran.code, 5, "{ran:#?}");
    assert_eq!(rung(), before);
}

#[tokio::test]
async fn pushes_that_do_not_get_through_in_time() {
    let rig = Rig::start().await;
    let short = ["--timeout", "1s"];
    rig.script(&answer("apns", 503, "ServiceUnavailable"));
    let ran = rig.send("ios", &short).await;
    ends(&ran, 6, "ServiceUnavailable", &["system-status"]);
    assert!(ran.json()["attempts"].as_array().unwrap().len() > 1);
    rig.script("[[rule]]\nserver = \"apns\"\nthen = { hang = true }\n");
    ends(
        &rig.send("ios", &short).await,
        6,
        "timeout",
        &["ringpush check"],
    );
    rig.simulator
        .server(ServerKind::ApnsProduction)
        .stop(Stop::Abrupt)
        .await;
    let ran = rig.send("ios", &short).await;
    ends(&ran, 6, "connection", &["firewall"]);
    assert!(ran.out.contains("Connection refused"), "{}", ran.out);
    // What never came is not shown with a time.
    let mut arguments = vec!["--app", APP, "--platform", "ios", "--token", IOS_TOKEN];
    arguments.extend(short);
    let ran = rig.run("send", &arguments).await;
    assert!(ran.out.contains("given up after"), "{}", ran.out);
    assert!(!ran.out.contains("first byte"), "{}", ran.out);
    let ran = rig
        .send("ios", &["--validate-only", "--timeout", "1s"])
        .await;
    assert_eq!(ran.code, 1, "{ran:#?}");
    rig.script(&answer("fcm", 429, "QUOTA_EXCEEDED"));
    ends(
        &rig.send("android", &short).await,
        6,
        "QUOTA_EXCEEDED",
        &["quota"],
    );
    rig.simulator
        .server(ServerKind::Oauth)
        .stop(Stop::Abrupt)
        .await;
    ends(
        &rig.send("android", &short).await,
        6,
        "oauth_unavailable",
        &["token_uri"],
    );
}

#[tokio::test]
async fn what_google_refuses() {
    let rig = Rig::start().await;
    for (status, reason, code, word) in [
        (404, "UNREGISTERED", 3, "Delete the token"),
        (403, "SENDER_ID_MISMATCH", 3, "google-services.json"),
        (400, "INVALID_ARGUMENT", 3, "--dry-run"),
        (401, "THIRD_PARTY_AUTH_ERROR", 5, "platform"),
    ] {
        rig.script(&answer("fcm", status, reason));
        ends(&rig.send("android", &[]).await, code, reason, &[word]);
    }
    rig.script("");
    rig.edit(
        "service_account_file = \"service-account.json\"",
        "service_account_file = \"service-account.json\"\nproject_id = \"not-ours\"",
    );
    rig.simulator.add_project("not-ours");
    ends(
        &rig.send("android", &[]).await,
        4,
        "PERMISSION_DENIED",
        &["role"],
    );
    rig.simulator
        .remove_service_account("sender@ringpush-sim.iam.gserviceaccount.com");
    ends(
        &rig.send("android", &[]).await,
        4,
        "invalid_grant",
        &["new key"],
    );
}

#[tokio::test]
async fn an_installation_id_goes_out_in_the_tokens_place() {
    const FID: &str = "cJx9yVq3Qk2mB7wT0aRzLe";
    let rig = Rig::start().await;
    let to = |platform| ["--app", APP, "--platform", platform, "--fid", FID, "--json"];
    let ran = rig.run("send", &to("android")).await;
    assert_eq!(ran.code, 0, "{ran:#?}");
    assert!(!ran.out.contains(FID) && !ran.err.contains(FID), "{ran:#?}");
    let report = ran.json();
    assert_eq!(report["fid"], "…RzLe");
    let shown = &report["attempts"][0]["request"]["body"]["message"];
    assert_eq!((&shown["fid"], shown.get("token")), (&json!("…RzLe"), None));
    let sent = rig.simulator.record().pushes()[0].json().unwrap();
    assert_eq!(sent["message"]["fid"], FID);
    let dry = [&to("android")[..], &["--dry-run"]].concat();
    let ran = rig.run("send", &dry).await;
    assert_eq!((ran.code, &ran.json()["fid"]), (0, &json!("…RzLe")));
    assert!(!ran.out.contains(FID), "{ran:#?}");
    let ran = rig.run("send", &to("ios")).await;
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("--fid: iOS has none"), "{}", ran.err);
    let ran = rig.send("android", &["--fid", FID]).await;
    assert_eq!(ran.code, 2, "a token as well: {ran:#?}");
}

#[tokio::test]
async fn what_an_app_asks_of_android_stands_in_its_messages() {
    let rig = Rig::start().await;
    let file = "service_account_file = \"service-account.json\"";
    let options = "direct_boot_ok = true\nbandwidth_constrained_ok = true\n\
                   restricted_satellite_ok = true\nrestricted_package_name = \"com.example.calls\"";
    let android = |message: &serde_json::Value| {
        let mut android = message["message"]["android"].clone();
        let ttl = android.as_object_mut().unwrap().remove("ttl");
        assert!(ttl.is_some());
        android
    };
    rig.edit(file, &format!("{file}\n{options}"));
    let wanted = json!({
        "priority": "HIGH", "direct_boot_ok": true, "bandwidth_constrained_ok": true,
        "restricted_satellite_ok": true, "restricted_package_name": "com.example.calls",
    });
    let dry = rig.send("android", &["--dry-run"]).await;
    assert_eq!(android(&dry.json()["request"]["body"]), wanted);
    let sent = rig.send("android", &[]).await;
    assert_eq!(sent.code, 0, "{sent:#?}");
    let shown = &sent.json()["attempts"][0]["request"]["body"];
    assert_eq!(android(shown), wanted);
    let arrived = rig.simulator.record().pushes()[0].json().unwrap();
    assert_eq!(android(&arrived), wanted);
    rig.edit(
        "restricted_package_name = \"com.example.calls\"",
        "restricted_package_name = \"calls!\"",
    );
    let ran = rig.send("android", &[]).await;
    assert_eq!(ran.code, 2);
    let key = "apps.\"com.example.calls\".android.restricted_package_name";
    assert!(
        ran.err.contains(key) && ran.err.contains("applicationId"),
        "{}",
        ran.err
    );
}

#[tokio::test]
async fn nothing_is_delivered_when_it_is_not_to_be() {
    let rig = Rig::start().await;
    let ran = rig.send("ios", &["--dry-run"]).await;
    assert_eq!((ran.code, rig.simulator.record().pushes().len()), (0, 0));
    silent(&ran);
    let ran = rig.send("ios", &["--validate-only"]).await;
    assert_eq!((ran.code, rig.simulator.record().pushes().len()), (0, 0));
    assert_eq!(ran.json()["sent"], false);
    silent(&ran);
    let ran = rig.send("android", &["--validate-only"]).await;
    assert_eq!(ran.code, 0, "{ran:#?}");
    assert!(ran.out.contains("Nothing was delivered"), "{}", ran.out);
    let mut pushes = rig.simulator.record().pushes();
    pushes.retain(|push| push.token.is_some());
    assert_eq!((pushes.len(), pushes[0].answer.delivered), (1, false));
}
