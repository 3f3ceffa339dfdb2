//! The commands beside `run`, and the other way to prove oneself to Apple.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::client::Client;
use crate::support::events::{APP, android, android_token, ios, ios_token, ring};
use crate::support::stage::{Stage, edit, shared};
use crate::support::worker::{Worker, ringpush};

/// A newcomer publishes a ring and sees what became of it. Tokens are not
/// shown in full.
#[tokio::test]
async fn enqueue_shows_the_outcomes_of_what_it_published() {
    let stage = Stage::new().await;
    let mut worker = stage.worker().await;
    let dead = ios_token();
    stage.simulator.unregister(&dead, chrono::Utc::now());
    let event = ring(&[ios("i", &dead), android("a", &android_token())]);
    let file = stage.file("ring.json");
    std::fs::write(&file, event.to_string()).unwrap();
    let arguments = [
        "enqueue",
        "--config",
        stage.config.to_str().unwrap(),
        file.to_str().unwrap(),
    ];
    let (code, output, error) = ringpush(&[&arguments[..], &["--wait"]].concat()).await;
    assert_eq!(code, 0, "{error}");
    assert!(error.contains("published ring"), "{error}");
    let mut keys = Vec::new();
    for line in output.lines() {
        let (key, body) = line.split_once(' ').expect("key and body");
        let body: Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(body["v"], 1);
        keys.push(key.to_owned());
    }
    keys.sort();
    let expected = [
        "call.unreachable",
        "push.android.accepted",
        "push.ios.dead_token",
        "token.ios.dead",
    ];
    assert_eq!(keys, expected, "{output}");
    assert!(!output.contains(&dead[..20]), "{output}");
    // Nobody takes it: said, and a failure.
    assert_eq!(worker.stop().await, 0);
    let more = ["--fresh", "--wait", "--timeout", "300ms"];
    let (code, _, error) = ringpush(&[&arguments[..], &more].concat()).await;
    assert_eq!(code, 1, "{error}");
    assert!(error.contains("2 push(es) without an outcome"), "{error}");
    stage.client.holds("calls", 1).await;
    stage.client.clean().await;
}

/// Whoever mistyped learns of it, and no phone rings for half of the files;
/// the dead queue can be tried all the same.
#[tokio::test]
async fn enqueue_publishes_what_is_no_event_only_when_told_to() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let [good, typo, none] = ["good.json", "typo.json", "none.jsonl"].map(|name| stage.file(name));
    std::fs::write(&good, ring(&[ios("i", &ios_token())]).to_string()).unwrap();
    std::fs::write(&typo, "{\"v\": 1, \"event\": \"rign\"}").unwrap();
    std::fs::write(&none, "\n\n").unwrap();
    let files = [&good, &typo, &none].map(|file| file.to_str().unwrap());
    let command = ["enqueue", "--config", stage.config.to_str().unwrap()];
    for (file, words) in [
        (files[1], "typo.json: not an event (event: "),
        (files[2], "none.jsonl: holds no event"),
    ] {
        let (code, _, error) = ringpush(&[&command[..], &[files[0], file]].concat()).await;
        assert_eq!(code, 1, "{error}");
        assert!(error.contains(words), "{error}");
        assert!(!error.contains("published "), "{error}");
    }
    assert!(stage.pushes(0).await.is_empty());
    let (code, _, error) = ringpush(&[&command[..], &[files[1], "--raw"]].concat()).await;
    assert_eq!(code, 0, "{error}");
    assert!(error.contains("not an event (event: "), "{error}");
    let letter = stage.client.take("dead").await;
    assert_eq!(letter.body(), std::fs::read(&typo).unwrap());
    stage.end(worker).await;
}

/// What is odd but rings is published and said.
#[tokio::test]
async fn enqueue_says_what_a_worker_will_ignore_or_reject() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let mut event = ring(&[ios("i", &ios_token()), android("a", "")]);
    event["media"] = "hologram".into();
    let file = stage.file("odd.json");
    std::fs::write(&file, format!("\u{feff}{event}")).unwrap();
    let command = ["enqueue", "--config", stage.config.to_str().unwrap()];
    let more = ["--fresh", "--wait", file.to_str().unwrap()];
    let (code, output, error) = ringpush(&[&command[..], &more].concat()).await;
    assert_eq!(code, 0, "{error}");
    assert!(
        error.contains("odd.json: ignored: media: must be"),
        "{error}"
    );
    assert!(
        error.contains("odd.json: rejected, invalid_token: devices[1].token"),
        "{error}"
    );
    assert!(output.contains("push.ios.accepted"), "{output}");
    stage.end(worker).await;
}

/// A file that is not there is named.
#[tokio::test]
async fn enqueue_names_a_file_that_is_not_there() {
    let stage = Stage::new().await;
    let config = stage.config.to_str().unwrap();
    let (code, _, error) = ringpush(&["enqueue", "--config", config, "/no/such.json"]).await;
    assert_eq!(code, 1, "{error}");
    assert!(error.contains("/no/such.json"), "{error}");
}

/// What a newcomer sees first: soon over, readable in a terminal, all of it.
#[tokio::test]
async fn the_demo_is_soon_over_and_fits_a_terminal() {
    let began = Instant::now();
    let (code, output, error) = ringpush(&["demo"]).await;
    assert_eq!(code, 0, "{error}");
    assert!(began.elapsed() < Duration::from_secs(15));
    for line in output.lines() {
        assert!(line.chars().count() <= 80, "{line}");
        assert!(!line.contains('\x1b'), "colors only for terminals: {line}");
    }
    for word in [
        "RINGS",
        "dead token",
        "503",
        "cancelled",
        "too late",
        "200",
        " ms",
    ] {
        assert!(output.contains(word), "{word:?} is not in:\n{output}");
    }
}

/// What the environment says to workers does not concern the demo, whose pushes
/// go to its own simulators and nowhere else.
#[tokio::test]
async fn the_demo_minds_no_workers_environment() {
    let variables = [
        ("RINGPUSH__APNS__PRODUCTION_URL", "https://127.0.0.1:1"),
        ("RINGPUSH__FCM__URL", "https://127.0.0.1:1"),
        ("RINGPUSH__RING__TTL", "nonsense"),
    ];
    let mut worker = Worker::command_with(&["demo"], &variables);
    drop(worker.input.take());
    assert_eq!(worker.exit_code().await, 0);
    let output = worker.output.text();
    assert_eq!(output.matches("RINGS").count(), 12, "{output}");
}

/// Each phone of the demo as one object, for machines.
#[tokio::test]
async fn the_demo_speaks_json() {
    let (code, output, error) = ringpush(&["demo", "--json"]).await;
    assert_eq!(code, 0, "{error}");
    let phones: Vec<Value> = output
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let count = |result: &str| {
        phones
            .iter()
            .filter(|phone| phone["result"] == result)
            .count()
    };
    for result in ["accepted", "dead_token", "cancelled", "expired"] {
        assert!(count(result) > 0, "no {result} in:\n{output}");
    }
    let stumbled = phones.iter().filter(|phone| phone["attempts"] == 2).count();
    assert!(stumbled > 0, "{output}");
}

/// The simulator as a program: its configuration fits a worker, whose broker
/// comes from the environment.
#[tokio::test]
async fn a_worker_rings_through_the_program_simulate() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let mut simulator = Worker::command(&["simulate", "--dir", path, "--json"]);
    while !simulator.output.text().contains('\n') {
        assert!(simulator.is_running());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let text = simulator.output.text();
    let hello: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(hello["type"], "listening");
    let config = hello["config"].as_str().unwrap();
    let url = shared().await;
    let prefix = format!("t{}", uuid::Uuid::new_v4().simple());
    let variables = [
        ("RINGPUSH__AMQP__URL", url),
        ("RINGPUSH__AMQP__PREFIX", &prefix),
        ("RINGPUSH__ADMIN__LISTEN", "127.0.0.1:0"),
    ];
    let mut worker = Worker::command_with(&["run", "--config", config], &variables);
    worker.ready().await;
    let client = Client::open(url, &prefix).await;
    let mut outcomes = client.outcomes().await;
    let (iphone, pixel) = (ios_token(), android_token());
    client
        .publish("ring", &ring(&[ios("i", &iphone), android("a", &pixel)]))
        .await;
    for outcome in outcomes.pushes(2).await {
        assert_eq!(outcome["result"], "accepted", "{outcome}");
    }
    assert_eq!(worker.stop().await, 0);
    assert_eq!(simulator.stop().await, 0);
    let text = simulator.output.text();
    let delivered = text
        .lines()
        .filter(|line| line.contains("\"delivered\":true"));
    assert_eq!(delivered.count(), 2, "{text}");
    assert!(!text.contains(&iphone) && !text.contains(&pixel), "{text}");
    client.clean().await;
}

/// The program is told which token and installation id are one phone.
#[tokio::test]
async fn the_program_simulate_knows_phones_that_moved_to_installation_ids() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let token = android_token();
    let phone = format!("cJx9yVq3Qk2mB7wT0aRzLe={token}");
    let arguments = ["simulate", "--dir", path, "--phone", &phone];
    let mut simulator = Worker::command(&arguments);
    let config = folder.path().join("ringpush.toml");
    while !simulator.output.text().contains("OAuth") {
        assert!(simulator.is_running());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let send = async |target: [&str; 2]| {
        let config = config.to_str().unwrap();
        let to = ["--app", APP, "--platform", "android"];
        let arguments = [&["send", "--config", config], &to[..], &target].concat();
        ringpush(&arguments).await.0
    };
    let by_token = ["--token", &token];
    assert_eq!(send(by_token).await, 0);
    assert_eq!(send(["--fid", "cJx9yVq3Qk2mB7wT0aRzLe"]).await, 0);
    assert_eq!(send(by_token).await, 3);
    assert_eq!(simulator.stop().await, 0);
    let (code, _, error) = ringpush(&["simulate", "--dir", path, "--phone", "cJx9"]).await;
    assert_eq!(code, 2);
    assert!(error.contains("FID=TOKEN"), "{error}");
}

/// A `VoIP` Services certificate in place of a key, as PEM or as the .p12 of a
/// Keychain.
async fn rings_with_a_certificate(file: &str, password: Option<&str>) {
    let stage = Stage::new().await;
    edit(&stage.config, |all| {
        let ios = all["apps"]["com.example.calls"]["ios"]
            .as_table_mut()
            .unwrap();
        for key in ["team_id", "key_id", "key_file"] {
            ios.remove(key);
        }
        ios.insert("certificate_file".to_owned(), file.into());
        if let Some(password) = password {
            ios.insert("certificate_password_file".to_owned(), password.into());
        }
    });
    let worker = stage.worker().await;
    stage
        .client
        .publish("ring.ios", &ring(&[ios("i", &ios_token())]))
        .await;
    let pushes = stage.pushes(1).await;
    assert_eq!(pushes[0].answer.status, Some(200), "{:?}", pushes[0]);
    assert!(pushes[0].claims.is_none(), "no provider token is sent");
    assert_eq!(
        pushes[0].header("apns-topic"),
        Some("com.example.calls.voip")
    );
    stage.end(worker).await;
}

#[tokio::test]
async fn a_pem_certificate_rings() {
    rings_with_a_certificate("client.pem", None).await;
}

#[tokio::test]
async fn a_p12_certificate_rings() {
    rings_with_a_certificate("client.p12", Some("client.p12.password")).await;
}
