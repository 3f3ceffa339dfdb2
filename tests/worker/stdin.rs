//! `run --stdin`: the worker without a broker.

use ringpush::simulator::{Device, ServerKind, Stop};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::support::events::{APP, android, android_token, ios, ios_token, ring};
use crate::support::stage::Offline;
use crate::support::worker::{PATIENCE, Worker};

fn lines(text: &str) -> Vec<Value> {
    let all = text.lines().map(serde_json::from_str);
    all.collect::<Result<_, _>>()
        .expect("one JSON object a line")
}

/// Outcomes come out as JSON lines, a bad line is told by its number, and the
/// end of the input ends the worker. Logs do not mix with outcomes.
#[tokio::test]
async fn events_in_lines_become_outcomes_in_lines() {
    let site = Offline::new().await;
    let mut worker = Worker::run(&site.config, &["--stdin"]);
    let dead = ios_token();
    site.simulator.unregister(&dead, chrono::Utc::now());
    let good = ring(&[ios("i", &ios_token()), android("a", &android_token())]);
    let gone = ring(&[ios("d", &dead)]);
    // .NET's writers put a byte-order mark in front.
    let text = format!("\u{feff}{good}\n{{\"v\": 2}}\nno json\r\n{gone}");
    let mut input = worker.input.take().expect("its standard input");
    input.write_all(text.as_bytes()).await.unwrap();
    drop(input);
    assert_eq!(worker.exit_code().await, 0);
    let mut all = lines(&worker.output.text());
    let mut of = |kind: &str| {
        let (mine, others) = all
            .drain(..)
            .partition::<Vec<_>, _>(|line| line["type"] == kind);
        all = others;
        mine
    };
    let mut bad = of("dead");
    bad.sort_by_key(|line| line["line"].as_u64());
    assert_eq!(bad.len(), 2);
    for (line, number, error) in [
        (&bad[0], 2, "v: must be 1"),
        (&bad[1], 3, "body: is not JSON"),
    ] {
        assert_eq!(line["v"], 1);
        assert_eq!(line["line"], number);
        assert!(line["error"].as_str().unwrap().starts_with(error), "{line}");
    }
    let mut pushes = of("push");
    pushes.sort_by_key(|line| line["device_id"].to_string());
    let results: Vec<_> = pushes
        .iter()
        .map(|p| p["result"].as_str().unwrap())
        .collect();
    assert_eq!(results, ["accepted", "dead_token", "accepted"]);
    let tokens = of("token");
    assert_eq!((tokens.len(), &tokens[0]["token"]), (1, &Value::from(dead)));
    assert_eq!(of("call").len(), 1, "nobody was reached by the second");
    assert!(all.is_empty(), "{all:?}");
}

/// An app moves from its registration token to an installation id: the first
/// push to the id ends the token, whose report is not about the id.
#[tokio::test]
async fn an_installation_id_rings_and_ends_the_phones_token() {
    let site = Offline::new().await;
    let (token, fid) = (android_token(), "cJx9yVq3Qk2mB7wT0aRzLe");
    site.simulator.register(fid, Device::replacing(&*token));
    let new = json!({"id": "new", "platform": "android", "app": APP, "fid": fid});
    let both = json!({"id": "both", "platform": "android", "app": APP, "fid": fid, "token": token});
    let rings = [
        ring(&[android("old", &token)]),
        ring(&[new.clone(), both]),
        ring(&[android("old", &token)]),
    ];
    let mut all = Vec::new();
    for ring in rings {
        let mut worker = Worker::run(&site.config, &["--stdin"]);
        let mut input = worker.input.take().expect("its standard input");
        input.write_all(ring.to_string().as_bytes()).await.unwrap();
        drop(input);
        assert_eq!(worker.exit_code().await, 0);
        let log = worker.log.text();
        assert!(!log.contains(fid), "{log}");
        all.extend(lines(&worker.output.text()));
    }
    let mut pushes: Vec<_> = all
        .iter()
        .filter(|line| line["type"] == "push")
        .map(|push| [&push["device_id"], &push["result"], &push["reason"]])
        .collect();
    pushes[1..3].sort_by_key(|push| push[0].to_string());
    let expected = json!([
        ["old", "accepted", null],
        ["both", "rejected", "invalid_token"],
        ["new", "accepted", null],
        ["old", "dead_token", "UNREGISTERED"],
    ]);
    assert_eq!(json!(pushes), expected);
    let about: Vec<_> = all.iter().filter(|line| line["type"] == "token").collect();
    assert_eq!(about.len(), 1);
    assert_eq!(about[0]["token"], token);
    assert!(about[0].get("target").is_none());
    // The id itself dies, and is told apart.
    site.simulator.unregister(fid, chrono::Utc::now());
    let mut worker = Worker::run(&site.config, &["--stdin"]);
    let mut input = worker.input.take().expect("its standard input");
    let text = ring(&[new]).to_string();
    input.write_all(text.as_bytes()).await.unwrap();
    drop(input);
    assert_eq!(worker.exit_code().await, 0);
    let all = lines(&worker.output.text());
    let about = all.iter().find(|line| line["type"] == "token").unwrap();
    assert_eq!(
        (&about["token"], &about["target"]),
        (&json!(fid), &json!("fid"))
    );
}

/// Nobody is left who reads the outcomes: no further phone rings, though there
/// are more events.
#[tokio::test]
async fn a_closed_output_ends_it() {
    let site = Offline::new().await;
    let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_ringpush"))
        .args(["run", "--stdin", "--config"])
        .arg(&site.config)
        .env_clear()
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut input = child.stdin.take().unwrap();
    for _ in 0..2 {
        let event = ring(&[ios("i", &ios_token())]).to_string() + "\n";
        // The second one may come too late already.
        let _ = input.write_all(event.as_bytes()).await;
    }
    let ended = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
    let ended = ended.expect("it ends, with its input open").unwrap();
    let error = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{error}");
    assert!(error.contains("standard output"), "{error}");
    drop(input);
}

/// Nor is it quiet about that if its input has ended as well.
#[tokio::test]
async fn a_closed_output_is_told_at_the_end_of_the_input_too() {
    let site = Offline::new().await;
    let file = site.folder.path().join("one.jsonl");
    for line in ["{}".to_owned(), ring(&[ios("i", &ios_token())]).to_string()] {
        std::fs::write(&file, line).unwrap();
        let (reader, output) = std::io::pipe().unwrap();
        drop(reader);
        let child = tokio::process::Command::new(env!("CARGO_BIN_EXE_ringpush"))
            .args(["run", "--stdin", "--config"])
            .arg(&site.config)
            .env_clear()
            .stdin(std::fs::File::open(&file).unwrap())
            .stdout(output)
            .stderr(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let ended = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
        let ended = ended.expect("it ends").unwrap();
        let error = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(1), "{error}");
        assert!(error.contains("standard output (Broken pipe"), "{error}");
    }
}

/// It is ready without a broker, and a signal ends it while its input is open.
#[tokio::test]
async fn it_is_ready_without_a_broker_and_ends_on_a_signal() {
    let site = Offline::new().await;
    let mut worker = Worker::run(&site.config, &["--stdin"]);
    worker.ready().await;
    let event = ring(&[ios("i", &ios_token())]).to_string() + "\n";
    let mut input = worker.input.take().expect("its standard input");
    input.write_all(event.as_bytes()).await.unwrap();
    input.flush().await.unwrap();
    while worker.output.text().is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(lines(&worker.output.text())[0]["result"], "accepted");
    assert_eq!(worker.stop().await, 0);
    drop(input);
}

/// Ready means that a ring would get through: not while no provider can be
/// reached, and again when one can, without any traffic.
#[tokio::test]
async fn it_is_not_ready_without_a_connection_to_any_provider() {
    let site = Offline::new().await;
    for server in [
        ServerKind::ApnsProduction,
        ServerKind::ApnsSandbox,
        ServerKind::Fcm,
    ] {
        site.simulator.server(server).stop(Stop::Abrupt).await;
    }
    let mut worker = Worker::run(&site.config, &["--stdin"]);
    let body = worker.readiness(503).await;
    for wanted in [
        "ios production: no connection to APNs: ",
        "android : no connection to FCM: ",
    ] {
        assert!(body.contains(wanted), "{wanted:?} is not in: {body}");
    }
    site.simulator
        .server(ServerKind::Fcm)
        .start()
        .await
        .unwrap();
    let body = worker.readiness(200).await;
    assert!(!body.contains("android"), "{body}");
    site.simulator
        .server(ServerKind::Fcm)
        .stop(Stop::Abrupt)
        .await;
    worker.readiness(503).await;
    site.simulator
        .server(ServerKind::Fcm)
        .start()
        .await
        .unwrap();
    worker.readiness(200).await;
    assert_eq!(worker.stop().await, 0);
}

/// A signal gives what is in flight its grace, with the input still open or
/// already at its end, and what is left then is no failure of the worker.
#[tokio::test]
async fn a_signal_gives_rings_their_grace_and_ends_with_zero() {
    for open in [true, false] {
        let site = Offline::new().await;
        let hang = "[[rule]]\nserver = \"apns\"\nthen = { hang = true }";
        let script = ringpush::simulator::Script::from_toml(hang).expect("a script");
        site.simulator.script(script).expect("it fits");
        let mut worker = Worker::run(&site.config, &["--stdin", "--grace", "1s"]);
        worker.ready().await;
        let event = ring(&[ios("i", &ios_token()), android("a", &android_token())]);
        let mut input = worker.input.take().expect("its standard input");
        input
            .write_all(format!("{event}\n").as_bytes())
            .await
            .unwrap();
        let kept = open.then_some(input);
        while worker.output.text().is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        let begun = std::time::Instant::now();
        assert_eq!(worker.stop().await, 0, "input open: {open}");
        let took = begun.elapsed();
        assert!(took.as_millis() >= 900, "no grace, input open: {open}");
        assert_eq!(lines(&worker.output.text())[0]["device_id"], "a");
        drop(kept);
    }
}
