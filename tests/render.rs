//! `ringpush profiles`: what it shows is what the worker sends.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may end where it stumbles"
)]

mod support;

use ringpush::simulator::Options;
use serde_json::{Value, json};

use support::events::{android, android_token, at, ios, ios_token, ring};
use support::stage::Stage;
use support::worker::{Worker, ringpush};

/// Exit status and the JSON of `profiles render --json` with more arguments.
async fn render(arguments: &[&str]) -> (i32, Value) {
    let mut all = vec!["profiles", "render", "--json"];
    all.extend(arguments);
    let (code, output, error) = ringpush(&all).await;
    let output = serde_json::from_str(&output);
    (code, output.unwrap_or_else(|_| panic!("no JSON: {error}")))
}

fn event_file(stage: &Stage, event: &Value) -> String {
    let path = stage.file("event.json");
    std::fs::write(&path, event.to_string()).unwrap();
    path.to_str().unwrap().to_owned()
}

fn fixture(name: &str) -> String {
    format!("{}/fixtures/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Headers and body, byte for byte; only the signature is not shown, and of
/// FCM's `ttl` whatever passed until the worker took the event.
#[tokio::test(flavor = "multi_thread")]
async fn the_rendered_request_is_the_one_that_the_worker_sends() {
    let stage = with_own_profile().await;
    let config = stage.config.to_str().unwrap().to_owned();
    let mut outcomes = stage.client.outcomes().await;
    let worker = stage.worker().await;

    let mut phone = ios("a", &ios_token());
    phone["environment"] = json!("sandbox");
    let mut fid = android("c", "");
    fid["token"].take();
    fid["fid"] = json!("cJx9yVq3Qk2mB7wT0aRzLe");
    let devices = [phone, android("b", &android_token()), fid];
    let mut event = ring(&devices);
    event["caller"]["name"] = json!("Zoë \"Z\" 🎉 \u{1}");
    let mut cancel = ring(&devices);
    for (field, value) in [
        ("event", json!("cancel")),
        ("call_id", event["call_id"].clone()),
    ] {
        cancel[field] = value;
    }
    cancel["sent_at"] = json!(at(1));
    for event in [&event, &cancel] {
        let file = event_file(&stage, event);
        let (code, shown) = render(&["--config", &config, "--event", &file]).await;
        assert_eq!(code, 0, "{shown}");
        let key = if event["event"] == "ring" {
            "ring"
        } else {
            "cancel"
        };
        stage.client.publish(key, event).await;
        for report in outcomes.pushes(3).await {
            assert_eq!(report["result"], "accepted", "{report}");
        }
        for (device, shown) in devices.iter().zip(shown["devices"].as_array().unwrap()) {
            same(&stage, device, shown);
        }
    }
    stage.end(worker).await;
}

/// What was shown for a device is what the simulator got for it last.
fn same(stage: &Stage, device: &Value, shown: &Value) {
    let mut sent = stage.simulator.record().pushes();
    let target = device["token"].as_str().or(device["fid"].as_str());
    sent.retain(|push| push.token.as_deref() == target);
    let sent = sent.pop().unwrap();
    assert!(
        shown["url"].as_str().unwrap().ends_with(&sent.path),
        "{shown}"
    );
    assert_eq!(shown["profile"], "mine");
    let body = String::from_utf8(sent.body.to_vec()).unwrap();
    assert_eq!(
        without_ttl(&body),
        without_ttl(shown["body"].as_str().unwrap())
    );
    let headers = shown["headers"].as_object().unwrap();
    for (name, value) in &sent.headers {
        let shown = headers.get(name.as_str());
        let shown = shown.unwrap_or_else(|| panic!("{name}: {value:?} is not shown"));
        assert_eq!(shown, value.to_str().unwrap(), "{name}");
    }
    assert_eq!(headers.len(), sent.headers.len(), "{:?}", sent.headers);
}

/// A stage whose app has a profile of its own.
async fn with_own_profile() -> Stage {
    let stage = Stage::with(
        "[apps.\"com.example.calls\"]\nprofile = \"mine\"\n\
         [apps.\"com.example.calls\".android]\ndirect_boot_ok = true\n[profiles]\ndir = \"own\"",
        Options::default(),
    )
    .await;
    std::fs::create_dir(stage.file("own")).unwrap();
    let tree = json!({
        "kind": "{{ event }}", "who": "{{ caller_name | default('') }}",
        "video": "{{ video }}", "at": "{{ sent_at }}",
    });
    let own = json!({
        "about": "Ours.", "ios_cancel": "voip", "ring": {"both": tree}, "cancel": {"both": tree},
    });
    std::fs::write(stage.file("own/mine.json"), own.to_string()).unwrap();
    stage
}

fn without_ttl(body: &str) -> String {
    match body.split_once("\"ttl\":\"") {
        Some((before, after)) => {
            let (_, after) = after.split_once('"').unwrap();
            format!("{before}{after}")
        }
        None => body.to_owned(),
    }
}

/// The outcome of an over-long payload says by how much and because of what,
/// the other device rings, and no request is made. The command says the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_payload_that_is_too_long_is_rejected_with_its_size_and_largest_key() {
    let stage = Stage::new().await;
    let mut outcomes = stage.client.outcomes().await;
    let worker = stage.worker().await;
    let (apple, google) = (ios_token(), android_token());
    let mut event = ring(&[ios("a", &apple), android("b", &google)]);
    event["data"] = json!({"blob": "x".repeat(4000)});
    let config = stage.config.to_str().unwrap().to_owned();
    let file = event_file(&stage, &event);
    let (code, shown) = render(&["--config", &config, "--event", &file]).await;
    assert_eq!(code, 1);
    assert!(shown["devices"][0]["size"].as_u64().unwrap() > 4096);

    stage.client.publish("ring", &event).await;
    let reports = outcomes.pushes(2).await;
    assert_eq!(reports[0]["result"], "accepted");
    assert_eq!(reports[1]["result"], "rejected");
    assert_eq!(reports[1]["reason"], "payload_too_large");
    assert_eq!(reports[1]["attempts"], 0);
    let detail = reports[1]["detail"].as_str().unwrap();
    for part in ["limit of 4096", "largest key is `data`", " more than "] {
        assert!(detail.contains(part), "{detail}");
    }
    assert_eq!(
        shown["devices"][1]["rejected"]["reason"],
        "payload_too_large"
    );
    assert_eq!(shown["devices"][1]["rejected"]["detail"], detail);
    let pushes = stage.simulator.record().pushes();
    assert!(
        pushes
            .iter()
            .all(|push| push.token.as_deref() != Some(&google))
    );
    stage.end(worker).await;
}

#[tokio::test]
async fn both_platforms_stand_side_by_side_within_the_terminal() {
    for (width, expected) in [("80", 80), ("20", 80), ("120", 120)] {
        let event = fixture("events/01-chime-video.json");
        let arguments = ["profiles", "render", "--event", &event];
        let mut command = Worker::command_with(&arguments, &[("COLUMNS", width)]);
        assert_eq!(command.exit_code().await, 0);
        let text = command.output.text();
        let table = text.split("\n== ").next().unwrap();
        assert!(
            table.lines().all(|line| line.chars().count() <= expected),
            "{table}"
        );
        let row = table
            .lines()
            .find(|line| line.starts_with("isVideo"))
            .unwrap();
        assert_eq!(
            row.split_whitespace().collect::<Vec<_>>(),
            ["isVideo", "true", "true"]
        );
        assert!(table.contains("369 of 5120 bytes (7 %)"), "{table}");
        // The fixture, as it goes out.
        let body = std::fs::read_to_string(fixture("profiles/chime/ring.ios.json")).unwrap();
        assert!(text.contains(&format!("\n{body}\n")), "{text}");
        assert!(
            text.contains("apns-topic: com.example.calls.voip"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn what_is_ignored_of_an_event_is_shown() {
    let odd: Value =
        serde_json::from_str(&std::fs::read_to_string(fixture("odd/media-unknown.json")).unwrap())
            .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let event = folder.path().join("event.json");
    std::fs::write(&event, odd["event"].to_string()).unwrap();
    let (code, shown) = render(&["--event", event.to_str().unwrap()]).await;
    assert_eq!(
        (code, &shown["devices"][0]["ignored"]),
        (0, &odd["ignored"])
    );
}

#[tokio::test]
async fn what_is_asked_for_is_chosen_and_what_is_not_there_is_named() {
    let event = fixture("events/03-every-device-of-one-person.json");
    let (code, shown) = render(&["--event", &event, "--platform", "android"]).await;
    let devices = shown["devices"].as_array().unwrap();
    assert_eq!((code, devices.len()), (0, 2));
    let id = devices[1]["device"].as_str().unwrap();
    let (_, one) = render(&["--event", &event, "--device", id, "--profile", "callkeep"]).await;
    assert_eq!(one["devices"].as_array().unwrap().len(), 1);
    assert!(one["devices"][0]["payload"]["callerName"].is_string());

    let missing = fixture("events/none.json");
    for (arguments, code, message) in [
        (
            ["--event", &event, "--device", "nobody"],
            2,
            "no such device",
        ),
        (
            ["--event", &event, "--profile", "nope"],
            2,
            "there are callkeep, chime",
        ),
        (
            ["--event", &missing, "--profile", "plain"],
            1,
            "name an existing event file",
        ),
        (
            ["--event", &event, "--config", "/nowhere.toml"],
            2,
            "/nowhere.toml",
        ),
        (
            ["--event", &event, "--platform", "symbian"],
            2,
            "ios, android",
        ),
    ] {
        let mut all = vec!["profiles", "render"];
        all.extend(arguments);
        let (ended, _, error) = ringpush(&all).await;
        assert_eq!(ended, code, "{arguments:?}: {error}");
        assert!(error.contains(message), "{arguments:?}: {error}");
    }
    // What is no event is refused by the field's name.
    let bad = fixture("events-bad/call_id-missing.json");
    let (ended, _, error) = ringpush(&["profiles", "render", "--event", &bad]).await;
    assert_eq!(ended, 1);
    assert!(error.contains("not an event"), "{error}");
}

#[tokio::test]
async fn the_list_names_built_in_and_own_profiles() {
    let (code, output, _) = ringpush(&["profiles", "list"]).await;
    assert_eq!(code, 0);
    for name in ["plain", "chime", "flutter_callkit_incoming", "passthrough"] {
        assert!(output.contains(&format!("\n{name} ")), "{output}");
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("own")).unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("own/mine.json", r#"{"extends": "chime", "about": "Ours."}"#);
    write(
        "own/plain.json",
        r#"{"extends": "plain", "redact": ["caller.avatar_url"]}"#,
    );
    write(
        "ringpush.toml",
        "[profiles]\ndir = \"own\"\n[apps.\"a.b\"]\nprofile = \"mine\"\n\
         [apps.\"a.b\".android]\nservice_account_file = \"sa.json\"",
    );
    let config = folder.path().join("ringpush.toml");
    let config = config.to_str().unwrap();
    let (code, output, error) = ringpush(&["profiles", "list", "--json", "--config", config]).await;
    assert_eq!(code, 0, "{error}");
    let rows: Vec<Value> = output
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(rows.len(), 12);
    let row = |name: &str| rows.iter().find(|row| row["name"] == name).unwrap();
    assert_eq!(row("mine")["origin"], "own file");
    assert_eq!(row("mine")["apps"], json!(["a.b"]));
    assert_eq!(row("plain")["origin"], "own file");
    assert_eq!(row("chime")["origin"], "built in");

    write(
        "own/broken.json",
        r#"{"ring": {"both": {"from": "{{ caller.id }}"}}}"#,
    );
    // The worker does not start with it either.
    for command in [&["profiles", "list"][..], &["run"]] {
        let (code, _, error) = ringpush(&[command, &["--config", config]].concat()).await;
        assert_eq!(code, 2, "{error}");
        for part in [
            "broken.json",
            "profile broken",
            "ring.android.from",
            "choose another name",
        ] {
            assert!(error.contains(part), "{error}");
        }
    }
}
