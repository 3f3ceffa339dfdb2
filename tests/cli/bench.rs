//! `ringpush bench`: what it counts, what it writes, what it refuses.

use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::rig::{APP, Ran, Rig, run, run_with};
use crate::support::broker::Broker;

/// As few rings as say something, at once.
async fn bench(more: &[&str]) -> Ran {
    let mut arguments = vec!["bench", "--json", "--warm-up", "0s"];
    if !more.contains(&"--report") {
        arguments.push("--no-report");
    }
    arguments.extend(more);
    run(&arguments).await
}

/// Of the results that satisfy `wanted`.
fn sum(report: &Value, wanted: impl Fn(&Value) -> bool) -> u64 {
    let results = report["results"].as_array().unwrap();
    let hits = results.iter().filter(|end| wanted(end));
    hits.map(|end| end["count"].as_u64().unwrap()).sum()
}

#[tokio::test]
async fn rings_in_turn_are_counted_timed_and_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bench.html");
    let file = file.to_str().unwrap();
    let ran = bench(&["--count", "40", "--in-flight", "4", "--report", file]).await;
    assert_eq!(ran.code, 0, "{ran:#?}");
    let report = ran.json();
    assert_eq!(report["sent"], 40, "{report:#}");
    assert_eq!(report["rings"], 40);
    assert_eq!(sum(&report, |_| true), 40);
    assert_eq!(sum(&report, |end| end["platform"] == "ios"), 20);
    assert_eq!(report["report"], file);
    assert!(report["late"].is_null());
    for platform in ["ios", "android"] {
        let times = &report["latency"][platform];
        assert_eq!(times["count"], 20);
        let names = ["min", "p50", "p90", "p95", "p99", "p99_9", "max"];
        let times: Vec<f64> = names.iter().map(|n| times[n].as_f64().unwrap()).collect();
        assert!(times.is_sorted() && times[0] > 0.0, "{times:?}");
        assert!(report["attempt"][platform]["p50"].as_f64().unwrap() > 0.0);
    }
    let page = std::fs::read_to_string(file).unwrap();
    self_contained(&page);
    assert!(
        page.contains("<svg") && page.contains("one attempt"),
        "{page}"
    );
    assert!(page.contains("bench.html") && !page.contains(folder.path().to_str().unwrap()));
}

/// It is opened without a network, and shown around.
fn self_contained(page: &str) {
    for reference in [
        "src=",
        "href=\"http",
        "@import",
        "url(",
        "rel=\"stylesheet\"",
    ] {
        assert!(!page.contains(reference), "{reference} is in the report");
    }
    for secret in ["APA91b", "eyJ", "PRIVATE KEY"] {
        assert!(!page.contains(secret), "{secret} is in the report");
    }
    let words = page.split(|c: char| !c.is_ascii_hexdigit());
    assert!(
        words.map(str::len).max().unwrap_or(0) < 64,
        "a token is in it"
    );
}

#[tokio::test]
async fn rings_on_a_schedule_are_for_as_many_phones_as_wanted() {
    let arguments = [
        "--rate",
        "100",
        "--count",
        "30",
        "--platform",
        "ios",
        "--devices",
        "3",
    ];
    let report = bench(&arguments).await.json();
    assert_eq!(
        (&report["rings"], &report["sent"]),
        (&30.into(), &90.into())
    );
    assert_eq!(sum(&report, |end| end["platform"] == "ios"), 90);
    assert_eq!(report["late"]["count"], 30);
    assert!(report["latency"]["android"].is_null());
    // Counted from when they were due, not from when there was time for them.
    let late = report["late"]["max"].as_f64().unwrap();
    assert!(report["latency"]["ios"]["max"].as_f64().unwrap() >= late);
}

#[tokio::test]
async fn a_rate_that_cannot_be_kept_leaves_rings_behind_and_says_so() {
    let arguments = [
        "--rate",
        "200",
        "--in-flight",
        "1",
        "--latency",
        "50ms",
        "--duration",
        "500ms",
    ];
    let ran = bench(&arguments).await;
    assert_eq!(ran.code, 1, "{ran:#?}");
    let report = ran.json();
    let behind = report["behind"].as_u64().unwrap();
    assert_eq!(report["rings"].as_u64().unwrap() + behind, 100);
    assert!(behind > 50, "{report:#}");
    assert!(report["latency"]["all"]["min"].as_f64().unwrap() >= 50.0);
}

#[tokio::test]
async fn faults_of_a_script_are_counted_and_repetitions_too() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("faults.toml");
    let script = "[[rule]]\nserver = \"fcm\"\nthen = { status = 404, reason = \"UNREGISTERED\" }\n\
                  [[rule]]\nserver = \"apns\"\ntoken_prefix = \"\"\n\
                  steps = [{ status = 503, reason = \"ServiceUnavailable\" }]\n";
    std::fs::write(&file, script).unwrap();
    let ran = bench(&["--count", "20", "--script", file.to_str().unwrap()]).await;
    assert_eq!(ran.code, 0, "as it was told to: {ran:#?}");
    let report = ran.json();
    let numbers = ["sent", "accepted", "failed", "repeated", "attempts"];
    let numbers = numbers.map(|name| report[name].as_u64().unwrap());
    assert_eq!(numbers, [20, 10, 10, 10, 30], "{report:#}");
    let dead = |end: &Value| end["platform"] == "android" && end["reason"] == "UNREGISTERED";
    assert_eq!(sum(&report, dead), 10);
    let ran = bench(&["--script", "/no/such/script.toml"]).await;
    assert_eq!(ran.code, 2, "{ran:#?}");
    assert!(ran.err.contains("--script"), "{}", ran.err);
}

#[tokio::test]
async fn every_push_reaches_the_gateway_of_a_configuration_once() {
    let rig = Rig::start().await;
    let more = [
        "--json",
        "--warm-up",
        "0s",
        "--count",
        "30",
        "--no-report",
        "--app",
        APP,
    ];
    let ran = rig.run("bench", &more).await;
    assert_eq!(ran.code, 0, "{ran:#?}");
    let tally = rig.simulator.record().tally();
    assert_eq!((tally.distinct, tally.repeated), (30, 0));
    assert_eq!(
        ran.json()["target"]["ios"],
        rig.simulator.apns_production_url()
    );
    let ca = rig.path("ca.pem");
    let (url, ca) = (rig.simulator.fcm_url(), ca.to_str().unwrap());
    let more = [
        "--platform",
        "android",
        "--gateway",
        &url,
        "--gateway-ca",
        ca,
        "--count",
        "5",
    ];
    // Keys of another simulator: this one knows better.
    let ran = bench(&more).await;
    assert_eq!(ran.code, 1, "{ran:#?}");
    assert_eq!(
        sum(&ran.json(), |end| end["result"] == "credential_fault"),
        5
    );
}

/// `bench --broker` with as few rings as say something.
async fn through_broker(url: &str, more: &[&str]) -> Ran {
    let quick = [
        "bench",
        "--broker",
        "--json",
        "--no-report",
        "--warm-up",
        "0s",
    ];
    run_with(&[&quick, more].concat(), &[("AMQP_URL", url)]).await
}

#[tokio::test]
async fn behind_a_broker_every_push_has_one_outcome_and_no_queue_is_left() {
    let broker = Broker::private();
    let more = ["--count", "60", "--in-flight", "20", "--devices", "2"];
    let ran = through_broker(&broker.url, &more).await;
    assert_eq!(ran.code, 0, "{ran:#?}");
    let report = ran.json();
    let counts = |names: [&str; 6]| names.map(|name| report[name].as_u64());
    let all = [
        "rings",
        "sent",
        "accepted",
        "lost",
        "twice",
        "twice_at_gateway",
    ];
    let wanted = [60, 120, 120, 0, 0, 0].map(Some);
    assert_eq!(counts(all), wanted, "{report:#}");
    assert_eq!(sum(&report, |end| end["platform"] == "android"), 60);
    for platform in ["ios", "android"] {
        let [whole, part] = ["latency", "gateway"].map(|what| &report[what][platform]);
        assert_eq!((&whole["count"], &part["count"]), (&60.into(), &60.into()));
        // It was at the gateway before its outcome was here.
        assert!(part["min"].as_f64() > Some(0.0), "{report:#}");
        assert!(part["min"].as_f64() <= whole["min"].as_f64(), "{report:#}");
    }
    assert!(report["attempt"]["all"].is_null());
    let cost = &report["cost"];
    assert!(
        cost["cpu_seconds_per_10000"].as_f64() > Some(0.0),
        "{cost:#}"
    );
    assert!(
        cost["context_switches_per_push"].as_f64() > Some(0.0),
        "{cost:#}"
    );
    let [idle, peak] = ["idle", "peak"].map(|m| cost[format!("{m}_memory_bytes")].as_u64());
    assert!(Some(0) < idle && idle <= peak, "{cost:#}");
    assert!(
        cost["simulator_cpu_seconds"].is_null(),
        "it is in the bench's process"
    );
    let address = report["target"]["broker"].as_str().unwrap();
    assert!(
        address.contains("127.0.0.1") && !address.contains("guest"),
        "{address}"
    );
    nothing_is_left_at(&broker);
}

fn nothing_is_left_at(broker: &Broker) {
    for what in ["list_queues", "list_exchanges"] {
        let there = broker.ctl(&["-q", what, "name"]);
        assert!(!there.contains("bench"), "{there}");
    }
}

#[tokio::test]
async fn behind_a_broker_the_simulator_plays_a_script() {
    let broker = Broker::private();
    let script = tempfile::NamedTempFile::new().unwrap();
    let dead = "[[rule]]\nserver = \"fcm\"\nthen = { status = 404, reason = \"UNREGISTERED\" }\n";
    std::fs::write(script.path(), dead).unwrap();
    let more = [
        "--rate",
        "100",
        "--count",
        "30",
        "--script",
        script.path().to_str().unwrap(),
    ];
    let ran = through_broker(&broker.url, &more).await;
    assert_eq!(ran.code, 0, "{ran:#?}");
    let report = ran.json();
    let gone = |end: &Value| end["platform"] == "android" && end["reason"] == "UNREGISTERED";
    assert_eq!(
        (sum(&report, gone), report["accepted"].as_u64()),
        (15, Some(15))
    );
    assert_eq!(report["late"]["count"], 30);
    nothing_is_left_at(&broker);
}

#[tokio::test]
async fn a_broker_that_cannot_be_used_is_named_without_its_password() {
    let ran = through_broker("amqp://guest:hunter2@127.0.0.1:1/%2f", &[]).await;
    assert_eq!(ran.code, 1, "{ran:#?}");
    assert!(
        ran.err.contains("cannot reach RabbitMQ at 127.0.0.1:1"),
        "{}",
        ran.err
    );
    assert!(!ran.err.contains("hunter2"), "{}", ran.err);
    let ran = through_broker("https://127.0.0.1", &[]).await;
    assert_eq!(ran.code, 2, "{ran:#?}");
}

/// As a container's environment is, whose load would go to Apple.
#[tokio::test]
async fn the_environment_says_how_the_simulator_is_loaded_and_not_that_something_else_is() {
    let rig = Rig::start().await;
    let (apns, fcm) = (rig.simulator.apns_production_url(), rig.simulator.fcm_url());
    let ca = rig.path("ca.pem");
    let environment = [
        ("RINGPUSH__APNS__PRODUCTION_URL", &*apns),
        ("RINGPUSH__APNS__SANDBOX_URL", &apns),
        ("RINGPUSH__APNS__CA_FILE", ca.to_str().unwrap()),
        ("RINGPUSH__FCM__URL", &fcm),
        ("RINGPUSH__FCM__CA_FILE", ca.to_str().unwrap()),
        ("RINGPUSH__FCM__CONNECTIONS", "3"),
    ];
    let count = ["--json", "--warm-up", "0s", "--no-report", "--count", "4"];
    let ran = run_with(&[&["bench"], &count[..]].concat(), &environment).await;
    assert_eq!(ran.code, 0, "{ran:#?}");
    let report = ran.json();
    assert_eq!(report["accepted"], 4, "{report:#}");
    assert_ne!(report["target"]["ios"], apns);
    assert_ne!(report["target"]["android"], fcm);
    assert_eq!(report["settings"]["fcm_connections"], 3);
    assert!(rig.simulator.record().pushes().is_empty());
    // It is part of a configuration, and may not lead to the real ones.
    let config = rig.path("ringpush.toml");
    let arguments = ["bench", "--no-report", "--config", config.to_str().unwrap()];
    let real = [(
        "RINGPUSH__APNS__PRODUCTION_URL",
        "https://api.push.apple.com",
    )];
    let ran = run_with(&arguments, &real).await;
    assert_eq!(ran.code, 2, "{ran:#?}");
    assert!(ran.err.contains("Apple's own"), "{}", ran.err);
}

#[tokio::test]
async fn a_gateway_that_is_not_there_is_named() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let url = format!("https://{address}");
    let arguments = [
        "--gateway",
        &url,
        "--count",
        "2",
        "--timeout",
        "1s",
        "--platform",
        "ios",
    ];
    let rig = Rig::start().await;
    let ca = rig.path("ca.pem");
    let mut arguments = arguments.to_vec();
    arguments.extend(["--gateway-ca", ca.to_str().unwrap()]);
    let ran = bench(&arguments).await;
    assert_eq!(ran.code, 1, "{ran:#?}");
    let report = ran.json();
    assert_eq!(
        sum(&report, |end| end["result"] == "expired"),
        2,
        "{report:#}"
    );
    assert!(
        report["hindrances"].to_string().contains(&address),
        "{report:#}"
    );
}

#[tokio::test]
async fn what_cannot_be_used_is_refused_before_anything_is_sent() {
    let rig = Rig::start().await;
    let url = rig.simulator.apns_production_url();
    rig.edit(&url, "https://api.push.apple.com");
    let ran = rig.run("bench", &["--no-report"]).await;
    assert_eq!(ran.code, 2, "{ran:#?}");
    for word in ["api.push.apple.com", "throttled", "--gateway"] {
        assert!(ran.err.contains(word), "{word}: {}", ran.err);
    }
    for (arguments, word) in [
        (&["--gateway", "https://fcm.googleapis.com"][..], "Apple's"),
        (&["--gateway", "http://127.0.0.1:1"], "--platform android"),
        (&["--rate", "0"], "--rate"),
        (&["--latency", "10s"], "--timeout"),
        (&["--profile", "fancy"], "known are"),
        (&["--report", "/no/such/folder/a.html"], "--no-report"),
        (&["--config", "/no/such/file.toml"], "/no/such/file.toml"),
    ] {
        let ran = bench(arguments).await;
        assert_eq!(ran.code, 2, "{arguments:?}: {ran:#?}");
        assert!(
            ran.err.contains(word) || word == "Apple's",
            "{word}: {}",
            ran.err
        );
    }
    assert!(rig.simulator.record().pushes().is_empty());
}

#[tokio::test]
async fn a_signal_ends_it_early_with_what_was_measured() {
    let rig = Rig::start().await;
    let config = rig.path("ringpush.toml");
    let arguments = [
        "bench",
        "--duration",
        "10m",
        "--warm-up",
        "0s",
        "--json",
        "--no-report",
    ];
    let child = Command::new(env!("CARGO_BIN_EXE_ringpush"))
        .args(arguments)
        .arg("--config")
        .arg(config)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let limit = Duration::from_secs(60);
    assert!(rig.simulator.record().wait_for(20, limit).await);
    let id = child.id().unwrap().to_string();
    let killed = Command::new("kill").args(["-INT", &id]).status().await;
    assert!(killed.unwrap().success());
    let output = timeout(limit, child.wait_with_output()).await.unwrap();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(0));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["stopped"], true);
    assert!(report["accepted"].as_u64().unwrap() >= 20, "{report:#}");
    assert_eq!(
        report["accepted"], report["sent"],
        "all had their time to end"
    );
}

/// Sends Ctrl-C until it ends, and says with which status.
async fn interrupt(mut child: Child) -> Option<i32> {
    let id = child.id().unwrap().to_string();
    let ended = async {
        loop {
            let killed = Command::new("kill").args(["-INT", &id]).output().await;
            killed.unwrap();
            if let Ok(ended) = timeout(Duration::from_millis(100), child.wait()).await {
                return ended.unwrap().code();
            }
        }
    };
    timeout(Duration::from_secs(60), ended).await.unwrap()
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).unwrap().next().is_none()
}

#[tokio::test]
async fn the_second_signal_ends_it_at_once_and_leaves_nothing_behind() {
    let rig = Rig::start().await;
    rig.script("[[rule]]\nserver = \"apns\"\nthen = { hang = true }\n");
    let folder = tempfile::tempdir().unwrap();
    for pace in [["--in-flight", "4"], ["--rate", "100"]] {
        rig.simulator.record().clear();
        let child = Command::new(env!("CARGO_BIN_EXE_ringpush"))
            .args(["bench", "--json", "--platform", "ios", "--timeout", "1h"])
            .args(pace)
            .arg("--config")
            .arg(rig.path("ringpush.toml"))
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let limit = Duration::from_secs(60);
        assert!(rig.simulator.record().wait_for(2, limit).await);
        assert!(!is_empty(folder.path()), "the draft of the report");
        assert_eq!(interrupt(child).await, Some(1));
        assert!(is_empty(folder.path()));
    }
}

#[tokio::test]
async fn a_signal_leaves_no_keys_of_the_simulator_behind() {
    let (folder, temp) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let child = Command::new(env!("CARGO_BIN_EXE_ringpush"))
        .args(["bench", "--latency", "50m", "--timeout", "1h"])
        .current_dir(folder.path())
        .env("TMPDIR", temp.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let written = || {
        let mut dirs = std::fs::read_dir(temp.path()).unwrap();
        dirs.any(|dir| dir.unwrap().path().join("sim/ringpush.toml").exists())
    };
    let all = async {
        while !written() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(60), all).await.unwrap();
    assert_eq!(interrupt(child).await, Some(1));
    assert!(is_empty(folder.path()) && is_empty(temp.path()));
}

/// Or every bench that is killed would leave one behind.
#[tokio::test]
async fn a_simulator_ends_with_whoever_started_it() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    // Standard input is empty and ends at once.
    let ran = run(&["simulate", "--quiet", "--until-eof", "--dir", dir]).await;
    assert_eq!(ran.code, 0, "{ran:#?}");
    assert!(ran.out.contains("APNs production"), "{}", ran.out);
}
