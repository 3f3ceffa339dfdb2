//! The metrics of a real worker after pushes of every kind.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::time::Duration;

use chrono::{SecondsFormat, Utc};
use ringpush::call::push::Class;
use ringpush::simulator::{Options, Rule, Script, Simulator, Step, Stop, Target};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

/// Longer than anything here takes, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// What Prometheus adds when it scrapes.
const TARGET_LABELS: [&str; 2] = ["job", "instance"];

const APP: &str = "com.example.calls";

/// Every sample that was read, without its value.
#[derive(Debug, Default)]
pub(crate) struct Exposition {
    samples: BTreeMap<String, Vec<BTreeMap<String, String>>>,
}

impl Exposition {
    fn read(text: &str) -> Self {
        let mut exposed = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (series, _) = line.rsplit_once(' ').expect("name and value");
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let labels = labels.trim_end_matches('}');
            // No label of ours has a comma or a quote in its value.
            let pairs = labels.split(',').filter_map(|pair| {
                let (label, value) = pair.split_once('=')?;
                Some((label.to_owned(), value.trim_matches('"').to_owned()))
            });
            exposed.add(name, pairs.collect());
        }
        exposed
    }

    fn add(&mut self, name: &str, labels: BTreeMap<String, String>) {
        self.samples
            .entry(name.to_owned())
            .or_default()
            .push(labels);
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.samples.keys().map(String::as_str)
    }

    /// The labels of a metric as Prometheus stores it.
    pub(crate) fn labels(&self, metric: &str) -> Option<BTreeSet<String>> {
        let samples = self.samples.get(metric)?;
        let own = samples.iter().flat_map(|labels| labels.keys().cloned());
        Some(own.chain(TARGET_LABELS.map(str::to_owned)).collect())
    }

    pub(crate) fn has_value(&self, metric: &str, label: &str, value: &str) -> bool {
        if label == "job" {
            return value == "ringpush";
        }
        // Some classes take an outage to see.
        let class = label == "class" && CLASSES.iter().any(|class| class.name() == value);
        class
            || self.samples.get(metric).is_some_and(|samples| {
                samples
                    .iter()
                    .any(|labels| labels.get(label).is_some_and(|have| have == value))
            })
    }
}

const CLASSES: [Class; 5] = [
    Class::NotProcessed,
    Class::Unclear,
    Class::Unavailable,
    Class::Throttled,
    Class::NoCredential,
];

/// Runs a worker through every kind of outcome, so that every family has
/// samples, and reads its metrics.
pub(crate) async fn after_every_path() -> Exposition {
    let simulator = Simulator::start(Options {
        script: script(),
        ..Options::default()
    })
    .await
    .unwrap();
    simulator.unregister(DEAD, Utc::now());
    let folder = tempfile::tempdir().unwrap();
    let files = simulator.write_files(folder.path()).unwrap();
    let mut config = std::fs::read_to_string(&files.config).unwrap();
    let by_certificate = format!(
        "\n[apps.\"by-certificate\".ios]\nbundle_id = \"{APP}\"\n\
         certificate_file = \"client.p12\"\ncertificate_password_file = \"client.p12.password\"\n\
         [canary]\nevery = \"10m\"\n"
    );
    config += &by_certificate;
    std::fs::write(&files.config, config).unwrap();

    let mut worker = Command::new(env!("CARGO_BIN_EXE_ringpush"))
        .args(["run", "--stdin", "--config"])
        .arg(&files.config)
        .env("RINGPUSH__ADMIN__LISTEN", "127.0.0.1:0")
        .env("RINGPUSH__LOG__FORMAT", "json")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let address = timeout(PATIENCE, admin_address(&mut worker)).await.unwrap();
    timeout(PATIENCE, ring_everybody(&mut worker))
        .await
        .unwrap();
    let exposed = timeout(PATIENCE, complete(&address)).await.unwrap();
    drop(worker.stdin.take());
    assert!(
        timeout(PATIENCE, worker.wait())
            .await
            .unwrap()
            .unwrap()
            .success()
    );
    simulator.stop(Stop::Graceful).await;
    exposed
}

const DEAD: &str = "dead0000";
const REFUSED: &str = "bad00000";
const BUSY: &str = "b0500000";

fn script() -> Script {
    let busy = || Step::answer(503, "ServiceUnavailable");
    let refused = Step::answer(400, "TopicDisallowed").times(5);
    let suspect = Step::answer(400, "DeviceTokenNotForTopic");
    Script {
        rules: vec![
            Rule::token(Target::Apns, BUSY, vec![busy()]).then(busy()),
            Rule::token(Target::Apns, REFUSED, vec![refused]),
            Rule::token(Target::Apns, "50500000", vec![suspect]),
        ],
    }
}

fn ring(call: &str, lives: i64, devices: &[(&str, &str, &str)]) -> Value {
    let now = Utc::now();
    let until = now + chrono::Duration::milliseconds(lives);
    let time = |t: chrono::DateTime<Utc>| t.to_rfc3339_opts(SecondsFormat::Millis, true);
    let devices: Vec<Value> = devices
        .iter()
        .enumerate()
        .map(|(n, (app, platform, token))| {
            json!({"id": format!("d{n}"), "app": app, "platform": platform, "token": token})
        })
        .collect();
    json!({
        "v": 1, "event": "ring", "event_id": uuid::Uuid::new_v4(), "call_id": call,
        "sent_at": time(now), "expires_at": time(until), "caller": {"id": "a"}, "devices": devices,
    })
}

/// Every result of the contract, of rings, and a pushed cancel.
async fn ring_everybody(worker: &mut Child) {
    let mut input = worker.stdin.take().unwrap();
    let output = BufReader::new(worker.stdout.take().unwrap());
    let mut results = BTreeSet::new();
    let mut lines = output.lines();
    let good = [
        (APP, "ios", "ace00000"),
        (APP, "android", "an-android-token"),
        ("by-certificate", "ios", "ace00001"),
        ("nobody's", "ios", "ace00002"),
        (APP, "ios", DEAD),
        (APP, "ios", "50500000"),
        (APP, "ios", REFUSED),
    ];
    for event in [
        ring("good", 30_000, &good),
        ring("over", 900, &[(APP, "ios", BUSY)]),
        ring("gone", 30_000, &[(APP, "ios", BUSY)]),
        json!("not an event"),
    ] {
        input
            .write_all(format!("{event}\n").as_bytes())
            .await
            .unwrap();
    }
    let mut hung_up = false;
    while !results.is_superset(&wanted()) {
        let line = lines.next_line().await.unwrap().expect("more reports");
        let report: Value = serde_json::from_str(&line).unwrap();
        let (kind, result) = (report["event"].as_str(), report["result"].as_str());
        if let (Some(kind), Some(result)) = (kind, result) {
            results.insert(format!("{kind} {result}"));
        }
        // A cancel is pushed to a phone that rings.
        let rings = report["call_id"] == "good" && report["device_id"] == "d1";
        if rings && !hung_up {
            hung_up = true;
            for (call, device) in [("good", good[1]), ("gone", (APP, "ios", BUSY))] {
                let mut cancel = ring(call, 30_000, &[device]);
                cancel["event"] = "cancel".into();
                input
                    .write_all(format!("{cancel}\n").as_bytes())
                    .await
                    .unwrap();
            }
        }
    }
    worker.stdin = Some(input);
    // Nothing may wait because nobody reads.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
}

fn wanted() -> BTreeSet<String> {
    [
        "ring accepted",
        "ring dead_token",
        "ring suspect_token",
        "ring rejected",
        "ring credential_fault",
        "ring expired",
        "ring cancelled",
        "cancel accepted",
    ]
    .map(str::to_owned)
    .into()
}

async fn admin_address(worker: &mut Child) -> String {
    let mut lines = BufReader::new(worker.stderr.take().unwrap()).lines();
    loop {
        let line = lines.next_line().await.unwrap().expect("the worker starts");
        let log: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
        if let Some(address) = log["address"].as_str() {
            let address = address.to_owned();
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return address;
        }
    }
}

/// Reads until what follows the clock is there: credentials of both platforms.
async fn complete(address: &str) -> Exposition {
    loop {
        let mut exposed = Exposition::read(&scrape(address).await);
        let expiry = "ringpush_credential_expiry_seconds";
        let both = ["ios", "android"].map(|p| exposed.has_value(expiry, "platform", p));
        let canary = exposed.labels("ringpush_credential_ok").is_some();
        if both == [true, true] && canary {
            exposed.add("up", BTreeMap::new());
            // `RabbitMQ`'s own, as its plugin rabbitmq_prometheus has them.
            let queue = [("vhost", "/"), ("queue", "ringpush.tokens")];
            let labels = queue.map(|(label, value)| (label.to_owned(), value.to_owned()));
            exposed.add("rabbitmq_detailed_queue_messages_ready", labels.into());
            return exposed;
        }
        sleep(Duration::from_millis(100)).await;
    }
}

async fn scrape(address: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET /metrics HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(!head.to_lowercase().contains("chunked"), "{head}");
    body.to_owned()
}
